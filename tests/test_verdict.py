"""What a comparison says of planted runs: differences that are there and that are not, and what cannot be said."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.planted import plant
from toolkit.compare import compare


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*groups: str) -> dict[str, Any]:
    folder = compare([f"checkpoints/{group}" for group in groups], "report", Console(quiet=True))
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def times(mean: int, shift: int = 0) -> list[int]:
    """Six facts, recalled around a number of exposures."""
    return [mean + shift + spread for spread in (-1, 0, 0, 0, 0, 1)]


def test_a_planted_difference_is_shown_with_the_numbers_that_were_planted() -> None:
    for seed, shift in enumerate((-1, 0, 0, 0, 1)):
        plant("fast", seed, times(3, shift))
        plant("slow", seed, times(7, shift))
    summary = compared("fast", "slow")
    outcome = summary["outcomes"]["exposures_to_recall"]
    assert outcome["groups"]["fast"]["per_run"] == [2, 3, 3, 3, 4]
    assert outcome["groups"]["slow"]["mean"] == 7
    (contrast,) = outcome["contrasts"]
    assert contrast["difference"] == 4
    # Welch, by hand: sd .7071 in both, five runs each: 4 ± 2.306 × .4472.
    assert (contrast["low"], contrast["high"]) == pytest.approx(
        (4 - 2.30600 * 0.447214, 4 + 2.30600 * 0.447214), abs=1e-4
    )
    assert contrast["p"] == contrast["holm"] == pytest.approx(2 / 252)
    assert contrast["shown"]
    assert "Difference shown: fast learned faster" in summary["verdict"][0]
    assert "fast 3.00 [2.12, 3.88], slow 7.00 [6.12, 7.88]" in summary["verdict"][0]
    assert summary["limits"] == []


def test_equal_groups_are_said_to_show_no_difference() -> None:
    for seed, shift in enumerate((-1, 0, 1, 0, 0)):
        plant("one", seed, times(5, shift))
        plant("other", seed, times(5, -shift))
    (line,) = compared("one", "other")["verdict"]
    assert "No difference shown (difference 0.00 [" in line
    assert "p = 1, with Holm 1" in line


def test_three_seeds_can_show_nothing_and_the_report_says_so() -> None:
    for seed in range(3):
        plant("fast", seed, times(2, seed % 2))
        plant("slow", seed, times(8, seed % 2))
    summary = compared("fast", "slow")
    assert summary["outcomes"]["exposures_to_recall"]["contrasts"][0]["p"] == pytest.approx(0.1)
    assert "No difference shown" in summary["verdict"][0]
    assert summary["limits"] == [
        "3 runs a group: the smallest p that they can give is 0.1, and with Holm over 1 contrast no difference can be"
        " shown at 5 %; 4 seeds can"
    ]


def test_three_groups_are_corrected_by_holm() -> None:
    for name, mean in (("a", 3), ("b", 5), ("c", 8)):
        for seed, shift in enumerate((-1, 0, 0, 1, 0)):
            plant(name, seed, times(mean, shift))
    contrasts = compared("a", "b", "c")["outcomes"]["exposures_to_recall"]["contrasts"]
    p = [contrast["p"] for contrast in contrasts]
    # Of a and b, one run of each ties: every permutation that is as extreme counts.
    assert p[1] == pytest.approx(2 / 252)
    ordered = sorted(range(3), key=lambda i: p[i])
    expected, least = {}, 0.0
    for rank, i in enumerate(ordered):
        least = expected[i] = max(least, min(1, (3 - rank) * p[i]))
    assert [contrast["holm"] for contrast in contrasts] == pytest.approx([expected[i] for i in range(3)])


def test_runs_on_the_very_same_facts_are_pairs() -> None:
    for seed in range(5):
        plant("low-rate", seed, times(6), digest=f"facts-{seed}", model={"lr": 1})
        plant("high-rate", seed, times(4), digest=f"facts-{seed}", model={"lr": 2})
    summary = compared("low-rate", "high-rate")
    (contrast,) = summary["outcomes"]["exposures_to_recall"]["contrasts"]
    assert contrast["paired"]
    assert contrast["p"] == pytest.approx(2 / 32)
    assert "5 paired runs a group: the smallest p" in summary["limits"][0]
    assert "6 seeds can" in summary["limits"][0]


def test_restricted_means_go_as_far_as_every_group_was_followed() -> None:
    plant("long", 0, times(9), readings=13)
    plant("short", 0, times(4), readings=7)
    summary = compared("long", "short")
    assert summary["until_exposures"] == 6
    groups = summary["outcomes"]["exposures_to_recall"]["groups"]
    assert (groups["long"]["mean"], groups["short"]["mean"]) == (6, 4)
    assert any("different numbers of exposures" in note for note in summary["notes"])


def test_the_primary_outcome_is_the_one_that_was_declared() -> None:
    for name in ("a", "b"):
        for seed in range(2):
            plant(name, seed, times(4), primary="recall/exact")
    summary = compared("a", "b")
    assert summary["primary"] == "recall/exact"
    assert summary["verdict"][0].startswith("Exact recall at the end: a 100.0 % in each run, b 100.0 %")


def test_where_the_recipes_declare_different_outcomes_none_is_primary() -> None:
    from toolkit.reporting.page import tests as table

    for seed in range(5):
        plant("a", seed, times(4), primary="recall/exact")
        plant("c", seed, times(6))
    summary = compared("a", "c")
    assert summary["verdict"][0].startswith(
        "The recipes declare different primary outcomes (a recall/exact, c exposures"
    )
    assert not any("(primary)" in row[0] for row in table(summary))
    page = Path("reports/report/index.html").read_text(encoding="utf-8")
    assert "No primary outcome is declared by all" in page
    assert "declared before training" not in page


def test_settings_that_differ_and_unequal_designs_are_named() -> None:
    plant("a", 0, times(4), lora={"rank": 8, "alpha": 16})
    plant("b", 0, times(4)[:4], lora={"rank": 32, "alpha": 16})
    summary = compared("a", "b")
    differ = summary["settings_that_differ"]
    assert differ["lora.rank"] == {"a": 8, "b": 32}
    assert differ["data.pattern"] == {"a": "a", "b": "b"}
    assert "lora.alpha" not in differ
    assert "unequal designs, trained facts: a 6, b 4" in summary["notes"]


def test_knowledge_is_what_was_planted() -> None:
    plant("half", 0, [2, 2, 2, 99, 99, 99], entropy=16.0)
    summary = compared("half")
    assert {"positions.png", "recency.png"} <= {Path(name).name for name in summary["figures"]}
    knowledge = summary["groups"][0]["knowledge"]
    values = {name: spread["mean"] for name, spread in knowledge.items()}
    # Three of six answers cost 4 × .25 bits, the others 12: 6.5 on average, of 16 that there are.
    assert values["bits_per_exposure"] == pytest.approx((16 - 6.5) / 2)
    assert values["bits_per_parameter"] == pytest.approx((16 - 6.5) * 6 / 1000)
    assert values["memory_by_controls"] == pytest.approx(12 - 6.5)
    assert values["structure_by_controls"] == pytest.approx(0)
    assert values["explained_by_rule"] == pytest.approx(12 - 16)
    assert values["beyond_rule"] == pytest.approx(16 - 6.5)
    assert values["median_exposures"] == 2
    assert values["recalled_by_7"] == pytest.approx(0.5)
    assert values["low_confidence_tokens"] == pytest.approx(0.5)
    # Half of the answers have 2^-1 and half 2^-12: the median of 1 and 2839 draws.
    assert values["draws_to_discover"] == pytest.approx((1 + 2839) / 2)
    assert values["brier"] == pytest.approx((0.1**2 + 0.2**2) / 2)
    assert values["expected_calibration_error"] == pytest.approx((0.1 + 0.2) / 2)
    # The known ones were fed last.
    assert values["recency"] > 0.5
    # Six facts in fifths: the last two together.
    assert summary["groups"][0]["by_recency"] == [1, 1, 1, 12, 12]


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "gone", "other columns"])
def test_a_damaged_or_foreign_reading_is_named_and_the_rest_is_reported(damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for seed in range(2):
        plant("a", seed, times(4))
        plant("b", seed, times(6))
    path = Path("checkpoints/a/seed-0/probes/recall-learn-000006.parquet")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "foreign":
        (path.parent / "notes.txt").write_text("mine", encoding="utf-8")
        (path.parent / "recall-learn.parquet").write_bytes(b"mine")
    if damage == "gone":
        path.unlink()
    if damage == "other columns":
        pq.write_table(pa.table({"id": ["a"]}), path)
    summary = compared("a", "b")
    named = [note for note in summary["notes"] if path.name in note]
    assert len(named) == (1 if damage in ("cut", "empty", "other columns") else 0)
    assert summary["outcomes"]["exposures_to_recall"]["groups"]["b"]["mean"] == 6
    assert summary["outcomes"]["exposures_to_recall"]["groups"]["a"]["n"] == 2


def test_a_run_whose_last_reading_is_damaged_has_no_value_and_does_not_shorten_the_others() -> None:
    for seed in range(2):
        plant("a", seed, times(4))
        plant("b", seed, times(6))
    Path("checkpoints/a/seed-0/probes/recall-learn-000020.parquet").write_bytes(b"x")
    summary = compared("a", "b")
    assert any("recall-learn-000020" in note for note in summary["notes"])
    assert summary["until_exposures"] == 10
    outcome = summary["outcomes"]["exposures_to_recall"]
    assert outcome["groups"]["a"]["per_run"] == [None, 4]
    assert outcome["groups"]["a"]["mean"] is None
    assert outcome["contrasts"][0]["why_not"] == "without a value: a/seed-0"
    assert summary["outcomes"]["recall/exact"]["contrasts"][0]["p"] is not None


def test_readings_from_before_a_column_was_added_are_compared_without_it() -> None:
    import pyarrow.parquet as pq

    plant("a", 0, times(4))
    for path in Path("checkpoints/a/seed-0/probes").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["since", "confidence"]), path)
    summary = compared("a")
    assert summary["notes"] == []
    values = {name: spread["mean"] for name, spread in summary["groups"][0]["knowledge"].items()}
    assert (values["recency"], values["brier"]) == (None, None)
    assert values["median_exposures"] == 4


def test_a_loss_that_is_no_number_in_a_reading_leaves_out_what_needs_it() -> None:
    import pyarrow.parquet as pq

    plant("a", 0, times(4))
    path = Path("checkpoints/a/seed-0/probes/recall-learn-000020.parquet")
    rows = pq.read_table(path).to_pylist()
    rows[0] |= {"bits": [float("nan")] * 4, "bits_total": float("nan"), "confidence": float("nan")}
    from toolkit.probes.recall import write_reading

    write_reading(path, rows)
    group = compared("a")["groups"][0]
    assert (group["by_recency"], group["by_position"], group["knowledge"]["brier"]["mean"]) == ([], [], None)
    assert group["knowledge"]["median_exposures"]["mean"] == 4


# --- what exposures to recall cannot say ---


def rewritten(run: Path, keep: Any = lambda epoch: True, exposures: Any = lambda fact, epoch: epoch) -> None:
    """A planted run read less often, or fed in another order."""
    import pyarrow.parquet as pq

    from toolkit.probes.recall import write_reading

    for path in (run / "probes").glob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        epoch = int(rows[0]["epoch"])
        if not keep(epoch):
            path.unlink()
            continue
        for row in rows:
            if row["split"] == "train":
                row["exposures"] = exposures(int(row["id"].rpartition("-")[2]), epoch)
        write_reading(path, rows)


def test_facts_fed_all_their_times_between_two_readings_are_not_tested_for_exposures() -> None:
    for seed in range(6):
        plant("spaced", seed, times(6), digest=f"facts-{seed}")
        massed = plant("massed", seed, [1, 2, 3, 4, 5, 6], digest=f"facts-{seed}")
        rewritten(massed, exposures=lambda fact, epoch: 10 if epoch > fact else 0)
    (contrast,) = compared("spaced", "massed")["outcomes"]["exposures_to_recall"]["contrasts"]
    assert contrast["p"] is None
    assert contrast["why_not"].startswith("facts were fed many times between two readings")


def test_runs_read_at_other_times_or_only_at_the_end_are_not_tested_for_exposures() -> None:
    for seed in range(5):
        plant("often", seed, times(4, seed % 2))
        rewritten(plant("seldom", seed, times(4, seed % 2)), keep=lambda epoch: epoch % 5 == 0)
        rewritten(plant("ends", seed, times(4, seed % 2)), keep=lambda epoch: epoch in (0, 10))
    results = compared("often", "seldom", "ends")["outcomes"]["exposures_to_recall"]["contrasts"]
    assert [result["p"] for result in results] == [None] * 3
    assert results[0]["why_not"].startswith("facts were asked after other numbers of exposures")
    assert results[1]["why_not"].startswith("facts were asked too seldom")


def test_of_a_loss_what_a_rule_gives_is_not_called_memory() -> None:
    for seed, shift in enumerate((-1, 0, 0, 0, 1)):
        plant("random", seed, times(9, shift), entropy=36.5, primary="loss/digit_nats")
        plant("ruled", seed, times(3, shift), entropy=9.9, primary="loss/digit_nats")
        plant("equal", seed, times(3, shift), entropy=36.5, primary="loss/digit_nats")
    for seed in range(5):
        # Every fact of random's is recalled at the end in some runs only: the losses differ.
        rewritten(Path(f"checkpoints/random/seed-{seed}"), keep=lambda epoch: epoch != 10)
        path = Path(f"checkpoints/random/seed-{seed}/metrics.jsonl")
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(f"{line}\n" for line in lines[:9]), encoding="utf-8")
    summary = compared("random", "ruled", "equal")
    first, second, _ = summary["verdict"]
    assert "ruled has the lower loss, which is not memory: the rule alone gives random 6.325 and ruled 1.716" in first
    assert "Difference shown: equal has the lower loss (difference" in second


def test_what_cannot_be_shown_is_said_of_the_pairs_that_it_is_true_of() -> None:
    for seed, shift in enumerate((-1, 0, 0, 1, 0)):
        plant("a", seed, times(3, shift))
        plant("b", seed, times(8, shift))
        if seed < 3:
            plant("few", seed, times(5, shift))
    plant("one", 0, times(5))
    summary = compared("a", "b", "few")
    assert "Difference shown" in summary["verdict"][0]
    (limit,) = summary["limits"]
    assert "no difference between a and few, b and few can be shown" in limit
    assert compared("a", "b", "one")["limits"] == [
        "one has one run: nothing is known about its other seeds, and no difference from it can be shown"
    ]


def test_of_many_groups_only_those_tested_are_counted() -> None:
    for number in range(17):
        plant(f"g{number}", 0, times(4))
    (line,) = compared(*(f"g{number}" for number in range(17)))["verdict"]
    assert "of 0 tested groups 0 are shown to differ from g0" in line
    assert "16 could not be tested" in line


def test_groups_that_differ_in_more_than_their_numbers_are_not_taken_apart() -> None:
    def settings(pattern: str, rate: float) -> dict[str, Any]:
        return {"data": {"pattern": pattern, "count": 6}, "stage": {"learn": {"epochs": 10, "learning_rate": rate}}}

    for seed in range(2):
        plant("long", seed, times(8), digits=11, entropy=36.5, **settings("random", 1e-3))
        plant("short", seed, times(5), digits=6, entropy=19.9, **settings("random", 1e-2))
        plant("ruled", seed, times(3), digits=11, entropy=19.9, **settings("mirrored", 1e-3))
    assert compared("long", "short", "ruled")["information"] == []


def test_a_random_group_of_as_many_bits_tells_less_information_from_a_rule() -> None:
    def data(pattern: str) -> dict[str, Any]:
        return {"data": {"pattern": pattern, "count": 6}}

    for seed, shift in enumerate((-1, 0, 0, 0, 1)):
        plant("long", seed, times(9, shift), readings=13, digits=11, entropy=36.5, **data("random"))
        plant("short", seed, times(5, shift), readings=13, digits=6, entropy=19.9, **data("random"))
        plant("ruled", seed, times(2, shift), readings=13, digits=11, entropy=19.9, **data("mirrored"))
        plant("other", seed, times(2, -shift), readings=13, digits=11, entropy=19.9, **data("halves"))
    said = compared("long", "short", "ruled", "other")["information"]
    same = "carry the same 19.9 bits an answer, by another"
    assert said[:3] == [
        f"short and ruled {same} rule and length: the difference shown is not one of information.",
        f"short and other {same} rule and length: the difference shown is not one of information.",
        f"ruled and other {same} rule: no difference is shown.",
    ]
    # Welch, by hand, as above: 2.306 x .4472.
    assert said[3] == (
        "From long to ruled, mean exposures to recall change by -7.00 [-8.03, -5.97]: -4.00 [-5.03, -2.97] by the"
        " amount of information and length (long to short), and -3.00 [-4.03, -1.97] by the rule and length at"
        " equal information (short to ruled)."
    )
    assert said[4].startswith("From long to other")
    assert len(said) == 5


def test_groups_of_one_rule_or_of_other_bits_say_nothing_of_information() -> None:
    for seed in range(2):
        plant("a", seed, times(4), data={"pattern": "random", "count": 6})
        plant("b", seed, times(5), data={"pattern": "random", "count": 6})
        plant("c", seed, times(6), entropy=20.0, data={"pattern": "mirrored", "count": 6})
    assert compared("a", "b", "c")["information"] == []


def test_half_recalled_after_seven_exposures_is_said_only_where_the_interval_lies_around_seven() -> None:
    from toolkit.reporting.page import knowledge_rows

    for seed, shift in enumerate((0, 0, 1, 0, 0)):
        plant("near", seed, [7] * 29 + [7 + shift] * 31)
        plant("far", seed, [5] * 29 + [5 + shift] * 31)
        plant("agree", seed, [7] * 60)
        plant("never", seed, [2, 99, 99, 99])
    plant("alone", 0, [7] * 30)
    summary = compared("near", "far", "agree", "never", "alone")
    near, far, agree, never, alone = (group["median_90"] for group in summary["groups"])
    # Each run's own interval is one reading; t of four degrees of freedom at 90 % over 7 7 8 7 7, by hand: 7.2 ± .4264;
    # and a reading earlier.
    assert (near["low"], near["high"]) == pytest.approx((7.2 - 0.42637 - 1, 8), abs=1e-4)
    assert (near["equal_to_seven"], far["equal_to_seven"], never) == (False, False, None)
    assert agree == {"low": 6, "high": 7, "equal_to_seven": False}
    assert alone == {"low": 6, "high": 7, "equal_to_seven": True}
    (row,) = [row for row in knowledge_rows(summary) if "seven exposures (90 %" in row[0]]
    assert row[1:] == ["not shown [5.77, 8]", "not shown [3.77, 6]", "not shown [6, 7]", "–", "yes [6, 7]"]


def test_one_outcome_is_primary_and_every_other_is_called_exploratory() -> None:
    from toolkit.reporting.page import tests as table
    from toolkit.reporting.verdict import OUTCOMES

    for seed in range(4):
        plant("a", seed, times(3))
        plant("b", seed, times(5))
    rows = table(compared("a", "b"))
    assert [row[0].rpartition(" ")[2] for row in rows] == ["(primary)"] + ["(exploratory)"] * (len(OUTCOMES) - 1)
    assert rows[0][0] == "mean exposures to recall (primary)"
    page = Path("reports/report/index.html").read_text(encoding="utf-8")
    assert "exact recall at the end (exploratory)" in page
