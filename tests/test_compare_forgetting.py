"""What a comparison says of planted runs that forgot something, and of those that did not."""

import io
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.conftest import BROWSER
from tests.planted import plant
from tests.planted_classifiers import classifier, right_for
from tests.planted_forgetting import answers, forgot, read_text, readings
from tests.test_page import browser, opened  # noqa: F401
from toolkit.compare import compare
from toolkit.reporting import classifiers, facts, forgetting
from toolkit.reporting.forgetting_frontier import with_readings
from toolkit.reporting.groups import collect

T_OF_2 = 4.302653
"""97.5 % point of t with 2 degrees of freedom, from a table."""
WORKED = (60, 15, 5, 20)
"""Right both times, only before, only after, never: the worked example, p .0414."""
P_WORKED = 2 * sum(math.comb(20, k) for k in range(6)) / 2**20


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*groups: str) -> tuple[dict[str, Any], str]:
    """The summary, and what is printed, in one line."""
    console = Console(width=160, record=True, file=io.StringIO())
    folder = compare([f"checkpoints/{group}" for group in groups], "report", console)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), " ".join(console.export_text().split())


def summarised(*groups: str) -> tuple[dict[str, Any], str]:
    """The same without the report's files: the summary, and what it says of forgetting and in notes."""
    found, unread = collect([f"checkpoints/{group}" for group in groups])
    kind = classifiers if found[0].classifies else facts
    summary = forgetting.added(kind.summarise(found, unread), found)
    return summary, " ".join([*summary.get("forgotten", []), *summary["notes"]])


def of(summary: dict[str, Any], group: str, task: str, measure: str = "acc") -> dict[str, Any]:
    return summary["forgetting"]["groups"][group]["tasks"][task]["measures"][measure]


def run(name: str, seed: int = 0, recalled: int = 3, **settings: Any) -> Path:
    """A run of ten epochs of two updates that learned something."""
    return plant(name, seed, [recalled, recalled, 5, 6], **settings)


def html() -> str:
    return Path("reports/report/index.html").read_text(encoding="utf-8")


# --- one trained model ---


def test_what_one_model_forgot_is_the_worked_example_with_both_counts_and_its_interval() -> None:
    forgot(run("lora"), "mmlu", *answers(*WORKED))
    summary, printed = compared("lora")
    found = of(summary, "lora", "mmlu")
    (own,) = found["per_run"]
    assert (own["only_before"], own["only_after"], found["questions"]) == (15, 5, 100)
    assert own["p"] == own["holm"] == pytest.approx(P_WORKED)
    assert own["p"] == pytest.approx(0.0414, abs=5e-5)
    assert (found["before"]["mean"], found["after"]["mean"]) == (0.75, 0.65)
    assert found["change"]["mean"] == pytest.approx(-0.10)
    assert found["change_percent"] == pytest.approx(100 * -0.10 / 0.75)
    assert (found["before_corrected"], found["after_corrected"]) == pytest.approx((0.5 / 0.75, 0.4 / 0.75))
    # Newcombe's method 10 by hand, from Wilson's intervals of 75 and 65 of 100: phi of [[60, 15], [5, 20]] is .484.
    low, high = newcombe(0.75, 0.65, phi=(60 * 20 - 15 * 5 - 50) / math.sqrt(75 * 25 * 65 * 35))
    assert (found["change"]["low"], found["change"]["high"]) == pytest.approx((low, high))
    (line,) = (line for line in summary["forgotten"] if line.startswith("mmlu"))
    assert line == (
        "mmlu: lora/seed-0 forgot: 75.0 % before training, 65.0 % after, change -10.0 points"
        f" [{100 * low:.1f}, {100 * high:.1f}] (right only before 15, only after 5; McNemar p = 0.0414, with Holm"
        " 0.0414; 100 questions could have shown a drop of 10.0 points)."
    )
    assert line in printed
    assert "Nothing is known about other runs of lora." in printed


def newcombe(one: float, two: float, phi: float, n: int = 100) -> tuple[float, float]:
    def wilson(share: float) -> tuple[float, float]:
        z = 1.959964
        middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)

    (low1, high1), (low2, high2) = wilson(one), wilson(two)
    down = math.sqrt((two - low2) ** 2 - 2 * phi * (two - low2) * (high1 - one) + (high1 - one) ** 2)
    up = math.sqrt((high2 - two) ** 2 - 2 * phi * (high2 - two) * (one - low1) + (one - low1) ** 2)
    return two - one - down, two - one + up


def test_holm_is_over_every_test_of_the_report_and_the_smallest_drop_answers_to_it() -> None:
    for name in ("a", "b"):
        folder = run(name)
        forgot(folder, "mmlu", *answers(*WORKED))
        forgot(folder, "cmmlu", *answers(40, 0, 30, 30))
    summary, printed = summarised("a", "b")
    assert summary["forgetting"]["tests"] == 4
    gained = 2 / 2**30
    assert of(summary, "b", "cmmlu")["per_run"][0]["holm"] == pytest.approx(4 * gained)
    lost = of(summary, "a", "mmlu")["per_run"][0]
    assert (lost["holm"], lost["shown"]) == (pytest.approx(2 * P_WORKED), False)
    assert "cmmlu: b/seed-0 gained: 40.0 % before training, 70.0 % after, change 30.0 points" in printed
    assert "mmlu: a/seed-0 is not shown to have changed" in printed
    # With 5 questions gained, the fewest lost whose exact p, four times, is at most 5 %: by trying every number.
    fewest = next(k for k in range(100) if 4 * two_sided(k, 5) <= 0.05 and k > 5)
    assert of(summary, "a", "mmlu")["smallest_drop"] == pytest.approx((fewest - 5) / 100)
    assert f"100 questions could have shown a drop of {fewest - 5:.1f} points" in printed


def two_sided(one: int, other: int) -> float:
    tail = sum(math.comb(one + other, k) for k in range(min(one, other) + 1)) / 2 ** (one + other)
    return min(1.0, 2 * tail)


def test_a_null_adapter_is_said_to_have_changed_no_answer_at_all() -> None:
    same = answers(30, 0, 0, 70)
    forgot(run("null"), "mmlu", *same, again=same[0])
    summary, printed = summarised("null")
    assert "mmlu: null: no answer changed at all (30.0 % right; 100 questions could have shown a drop of" in printed
    found = of(summary, "null", "mmlu")
    assert (found["change"]["mean"], found["per_run"][0]["p"], found["again_changed"]) == (0, 1, 0)
    # That nothing changed on these questions says little less than they can.
    assert found["change"]["low"] < 0 < found["change"]["high"]
    assert "measured twice, the base was right on the same questions: mmlu" in printed


def test_wrong_answers_that_became_other_wrong_ones_are_counted_and_change_no_score() -> None:
    path = forgot(run("lora"), "mmlu", *answers(30, 0, 0, 70))
    table = pq.read_table(path)
    said = [
        "C" if when == "after" and value == 0 and item < 40 else answer
        for when, value, item, answer in zip(
            *(table.column(name).to_pylist() for name in ("when", "value", "item", "answer")), strict=True
        )
    ]
    pq.write_table(table.set_column(table.column_names.index("answer"), "answer", [said]), path)
    _, printed = summarised("lora")
    assert "mmlu: lora: no answer became right or wrong, though 10 became other ones" in printed


def test_answers_that_rounding_changes_are_the_noise_floor() -> None:
    before, after = answers(*WORKED)
    again = [1 - before[0], 1 - before[1], *before[2:]]
    forgot(run("lora"), "mmlu", before, after, again=again, cut=7)
    summary, printed = compared("lora")
    assert of(summary, "lora", "mmlu")["again_changed"] == 2
    assert "measured twice, the base changed answers by rounding alone: mmlu 2 of 100 (2.0 %)" in printed
    assert "mmlu: 5 of 100 prompts were too long and lost their beginnings, at most 7 tokens" in printed
    assert "Shaded: as many answers changed with the base measured twice." in html()


def test_both_filters_of_a_generated_answer_are_rows_and_the_first_is_the_main_one() -> None:
    strict, flexible = answers(10, 10, 0, 80), answers(20, 5, 5, 70)
    forgot(
        run("lora"), "gsm8k", *strict, measure="exact_match,strict-match", chance=0.0,
        more={"exact_match,flexible-extract": flexible},
    )  # fmt: skip
    summary, _ = compared("lora")
    assert summary["forgetting"]["groups"]["lora"]["tasks"]["gsm8k"]["main"] == "exact_match,strict-match"
    assert of(summary, "lora", "gsm8k", "exact_match,flexible-extract")["change"]["mean"] == 0
    # The second judges the same answers again, and is no test of its own.
    assert summary["forgetting"]["tests"] == 1
    (flexibly,) = of(summary, "lora", "gsm8k", "exact_match,flexible-extract")["per_run"]
    assert (flexibly["holm"], flexibly["shown"]) == (None, False)
    assert summary["forgetting"]["groups"]["lora"]["mean_change"]["mean"] == pytest.approx(-0.10)
    for measure in ("strict-match", "flexible-extract"):
        assert f"gsm8k (exact_match,{measure})" in html()


def test_graded_values_are_tested_by_their_signs() -> None:
    before, after = [0.5] * 20, [0.3] * 7 + [0.5] * 13
    forgot(run("lora"), "squad", before, after, measure="f1", chance=0.0)
    summary, printed = summarised("lora")
    (own,) = of(summary, "lora", "squad", "f1")["per_run"]
    assert own["p"] == pytest.approx(2 / 2**7)
    assert (own["only_before"], of(summary, "lora", "squad", "f1")["smallest_drop"]) == (None, None)
    assert "squad: lora/seed-0 forgot: 50.0 % before training, 43.0 % after, change -7.0 points" in printed
    assert "(by the signs of the changes, p = 0.0156, with Holm 0.0156; 20 questions)" in printed


# --- over runs ---


def three_runs(name: str, falls: Sequence[int] = (10, 12, 14), task: str = "mmlu") -> None:
    """Of 100 questions 50 right before, and so many fewer after, in each of three runs."""
    for seed, fall in enumerate(falls):
        folder = Path(f"checkpoints/{name}/seed-{seed}")
        forgot(folder if folder.exists() else run(name, seed), task, *answers(50 - fall, fall, 0, 50))


def test_the_mean_over_runs_has_its_t_interval_and_each_model_its_own_test() -> None:
    three_runs("lora")
    summary, printed = summarised("lora")
    found = of(summary, "lora", "mmlu")
    half = T_OF_2 * 0.02 / math.sqrt(3)
    assert found["change"]["mean"] == pytest.approx(-0.12)
    assert (found["change"]["low"], found["change"]["high"]) == pytest.approx((-0.12 - half, -0.12 + half), abs=1e-6)
    assert found["change"]["over"] == "runs"
    p = [2 / 2**fall for fall in (10, 12, 14)]
    assert [own["p"] for own in found["per_run"]] == pytest.approx(p)
    assert [own["holm"] for own in found["per_run"]] == pytest.approx([p[0], 2 * p[1], 3 * p[2]])
    assert (
        "mmlu: lora: mean change -12.0 points [-17.0, -7.0] over 3 runs, which leaves 0 out (50.0 % before training,"
        " 38.0 % after); of its 3 models 3 are shown to have forgotten and none to have gained (right only before 10,"
        " 12, 14, only after 0, 0, 0;" in printed
    )
    assert "McNemar's test is about one trained model and these questions" in printed
    assert "Nothing is known about other runs" not in printed
    # One base: nothing of it varies but the questions, so that its interval is Wilson's of 50 of 100, from a table.
    assert (found["before"]["low"], found["before"]["high"]) == pytest.approx((0.4038, 0.5962), abs=5e-5)


def test_the_mean_over_tasks_of_one_run_adds_the_intervals_of_its_tasks() -> None:
    folder = run("lora")
    forgot(folder, "mmlu", *answers(*WORKED))
    forgot(folder, "cmmlu", *answers(50, 0, 0, 50))
    summary, printed = summarised("lora")
    own = summary["forgetting"]["groups"]["lora"]["mean_change"]
    changes = [of(summary, "lora", task)["change"] for task in ("mmlu", "cmmlu")]
    low = math.sqrt(sum((change["mean"] - change["low"]) ** 2 for change in changes)) / 2
    high = math.sqrt(sum((change["high"] - change["mean"]) ** 2 for change in changes)) / 2
    assert own["mean"] == pytest.approx(-0.05)
    assert (own["low"], own["high"]) == pytest.approx((-0.05 - low, -0.05 + high))
    assert f"lora -5.0 points [{100 * (-0.05 - low):.1f}, {100 * (-0.05 + high):.1f}] (one run)" in printed


def test_groups_are_set_against_each_other_by_runs_as_an_exploratory_outcome() -> None:
    for seed in range(4):
        for name, fall in (("low", 2 + seed), ("high", 12 + seed)):
            forgot(run(name, seed), "mmlu", *answers(50 - fall, fall, 0, 50))
    summary, printed = compared("low", "high")
    (contrast,) = summary["outcomes"]["forgetting/mean_change"]["contrasts"]
    assert contrast["difference"] == pytest.approx(-0.10)
    assert contrast["p"] == contrast["holm"] == pytest.approx(2 / 70)
    assert "Difference shown: low forgot less (difference -10.0 points [" in printed
    assert summary["primary"] == "exposures_to_recall"
    assert "mean change over tasks (exploratory)" in html()


def test_the_csv_has_means_over_runs_and_no_interval_of_questions_among_them() -> None:
    three_runs("many")
    forgot(run("one"), "mmlu", *answers(*WORKED))
    compared("many", "one")
    rows = [line.split(",") for line in Path("reports/report/summary.csv").read_text(encoding="utf-8").splitlines()]
    changes = {row[0]: row[2:] for row in rows if row[1] == "forgetting/mmlu/acc/change"}
    assert [float(value) for value in changes["many"][:1]] == pytest.approx([-0.12])
    assert changes["many"][1] != ""
    assert changes["one"][1:] == ["", "", "1"]
    classifier("classes", 0, right_for(0.9))
    forgot(Path("checkpoints/classes/seed-0"), "mmlu", *answers(*WORKED))
    compared("classes")
    assert "classes,forgetting/mmlu/acc/change,-0.1" in Path("reports/report/summary.csv").read_text(encoding="utf-8")


def test_of_many_groups_and_tasks_there_are_counts_and_the_table_has_each() -> None:
    for group in range(3):
        folder = run(f"g{group}")
        for task in range(3):
            forgot(folder, f"task{task}", *answers(20, 30 if group else 0, 0 if group else 30, 50))
    summary, _ = compared("g0", "g1", "g2")
    assert (
        "Of 9 tests of a trained model on a task, 6 show that it forgot and 3 that it gained (McNemar, with Holm over 9"
        " tests); the table has each, with the smallest drop it could have shown." in summary["forgotten"]
    )
    assert html().count("task2 (acc)") == 2 * 3


# --- subjects ---


def test_subjects_that_changed_most_are_a_family_of_their_own() -> None:
    subjects = [f"mmlu_{name}" for name in ("anatomy", "zoology", "logic") for _ in range(20)]
    before = [1.0] * 10 + [0.0] * 10 + [1.0] * 20 + [1.0] * 20
    after = [1.0] * 10 + [0.0] * 10 + [0.0] * 12 + [1.0] * 8 + [1.0] * 19 + [0.0]
    forgot(run("lora"), "mmlu", before, after, subjects=subjects)
    summary, _ = summarised("lora")
    found = summary["forgetting"]["groups"]["lora"]["tasks"]["mmlu"]["subjects"]
    assert found["mmlu_zoology"]["p"] == [pytest.approx(2 / 2**12)]
    assert found["mmlu_zoology"]["holm"] == [pytest.approx(3 * 2 / 2**12)]
    assert (found["mmlu_logic"]["only_before"], found["mmlu_logic"]["p"]) == ([1], [1])
    assert found["mmlu_zoology"]["change"]["mean"] == pytest.approx(-0.6)
    # Holm of the tasks knows nothing of them.
    assert summary["forgetting"]["tests"] == 1
    from toolkit.reporting.forgetting_tables import changed_most

    most = changed_most(summary["forgetting"]["groups"])
    assert most == [("mmlu", "mmlu_zoology"), ("mmlu", "mmlu_logic")]


def test_the_p_of_many_subjects_at_once_is_that_of_the_exact_test_of_each() -> None:
    import numpy as np

    from toolkit.reporting.forgetting_items import exact_p

    fell, rose = np.array([0, 1, 5, 15, 7, 40]), np.array([0, 0, 15, 5, 7, 3])
    expected = [two_sided(a, b) if a + b else 1 for a, b in zip(fell.tolist(), rose.tolist(), strict=True)]
    assert exact_p(fell, rose) == pytest.approx(expected)


# --- text ---


def test_held_out_text_is_bits_a_byte_and_kl_a_token_with_intervals_over_windows() -> None:
    before, after = [80.0, 90.0, 100.0, 110.0], [81.0, 93.0, 102.0, 114.0]
    read_text(run("lora"), "held_out.txt", before, after, kl=[5.0, 10.0, 15.0, 10.0])
    summary, printed = compared("lora")
    found = summary["forgetting"]["groups"]["lora"]["text"]["held_out.txt"]
    assert (found["before"]["mean"], found["after"]["mean"]) == pytest.approx((0.95, 0.975))
    # Windows of one size: the interval is that of a mean, t with 3 degrees of freedom.
    changes = [0.01, 0.03, 0.02, 0.04]
    half = 3.182446 * statistics.stdev(changes) / 2
    assert (found["change"]["low"], found["change"]["high"]) == pytest.approx((0.025 - half, 0.025 + half), abs=1e-6)
    assert (found["kl_from_base"]["mean"], found["kl_to_base"]["mean"]) == pytest.approx((0.4, 0.8))
    assert (
        f"held_out.txt: lora 0.950 bits a byte before, 0.975 after, change 0.025 [{0.025 - half:.3f},"
        f" {0.025 + half:.3f}] over its 4 windows; KL(base || model) 0.400 [" in printed
    )
    assert summary["forgetting"]["frontier"] is None


def test_one_base_has_one_text_before_training_however_many_runs() -> None:
    for seed in range(3):
        read_text(run("lora", seed), "held_out.txt", [80.0, 90.0], [81.0 + seed, 93.0], kl=[0.0, 1.0 * seed])
    summary, said = summarised("lora")
    found = summary["forgetting"]["groups"]["lora"]["text"]["held_out.txt"]
    assert (found["before"]["over"], found["change"]["over"]) == ("questions", "runs")
    assert found["before"]["low"] < 0.85 < found["before"]["high"]
    # Of 0, 1 and 2 bits in 50 tokens: no divergence is less than 0, though a t interval may be.
    assert found["kl_from_base"]["low"] < 0
    assert "KL(base || model) 0.020 [0.000, 0.070] bits a token" in said


# --- files ---


def test_damaged_and_foreign_files_are_named_and_the_rest_is_reported() -> None:
    folder = run("lora")
    forgot(folder, "mmlu", *answers(*WORKED))
    (folder / "forgetting/cmmlu.parquet").write_bytes(b"PAR1 cut")
    pq.write_table(
        pq.read_table(folder / "forgetting/mmlu.parquet").drop(["prompt_hash"]), folder / "forgetting/x.parquet"
    )
    summary, printed = summarised("lora")
    assert f"{folder}/forgetting/cmmlu.parquet is damaged or no Parquet file" in printed
    assert (
        f"{folder}/forgetting/x.parquet is no record of forgetting: it has no column prompt_hash; left out." in printed
    )
    assert list(summary["forgetting"]["groups"]["lora"]["tasks"]) == ["mmlu"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("fewer", "the questions before and after training are not the same (100 and 60)"),
        ("asked", "100 questions were not asked in the same words before and after training"),
        ("twice", "a question is there twice"),
        ("never", "nothing was measured after training"),
        ("nan", "it is no number of each question"),
    ],
)
def test_readings_that_are_no_pairs_are_left_out_with_the_reason(spoil: str, said: str) -> None:
    folder = run("lora")
    forgot(folder, "mmlu", *answers(*WORKED))
    path = forgot(folder, "cmmlu", *answers(*WORKED))
    rows = pq.read_table(path).to_pylist()
    after = [row for row in rows if row["when"] == "after"]
    for row in after:
        row["prompt_hash"] = "other" if spoil == "asked" else row["prompt_hash"]
        row["value"] = None if spoil == "nan" and row["item"] == 3 else row["value"]
    before = [row for row in rows if row["when"] == "before"]
    taken = {"fewer": after[:60], "never": [], "twice": [*after, after[0]]}.get(spoil, after)
    pq.write_table(pq.read_table(path).from_pylist([*before, *taken], pq.read_schema(path)), path)
    summary, printed = summarised("lora")
    assert f"{path}: cmmlu, acc is left out: {said}." in printed
    assert list(summary["forgetting"]["groups"]["lora"]["tasks"]) == ["mmlu"]


def test_questions_are_matched_by_their_numbers_and_not_by_their_places_in_the_file() -> None:
    path = forgot(run("lora"), "mmlu", *answers(*WORKED))
    table = pq.read_table(path)
    places = [*range(100), *reversed(range(100, table.num_rows))]
    pq.write_table(table.take(places), path)
    (own,) = of(summarised("lora")[0], "lora", "mmlu")["per_run"]
    assert (own["only_before"], own["only_after"]) == (15, 5)


def test_a_report_without_forgetting_says_nothing_of_it() -> None:
    run("plain")
    summary, printed = compared("plain")
    assert not {"forgetting", "forgotten"} & set(summary)
    assert "forgetting/mean_change" not in summary["outcomes"]
    assert "forg" not in printed.lower().replace(str(Path.cwd()).lower(), "")


# --- what does not compare ---


def test_groups_that_were_asked_otherwise_are_not_compared() -> None:
    for seed in range(4):
        forgot(run("zero", seed), "mmlu", *answers(40, 10 + seed, 0, 50 - seed))
        forgot(run("five", seed), "mmlu", *answers(48, 2, 0, 50), asked="five examples, ")
    summary, printed = summarised("zero", "five")
    (contrast,) = summary["outcomes"]["forgetting/mean_change"]["contrasts"]
    assert (contrast["p"], contrast["difference"], contrast["shown"]) == (None, None, False)
    assert contrast["why_not"] == "they were not asked the same questions in the same way"
    assert (
        "zero and five were not asked the same questions in the same way (mmlu): they are not compared by these"
        in printed
    )
    assert "forgot less" not in printed


def test_other_bases_and_tasks_that_not_both_have_are_noted() -> None:
    forgot(run("a"), "mmlu", *answers(*WORKED))
    forgot(run("b"), "mmlu", *answers(*WORKED[::-1]))
    forgot(Path("checkpoints/b/seed-0"), "cmmlu", *answers(*WORKED))
    _, printed = summarised("a", "b")
    assert "a and b do not have all tasks in common: cmmlu" in printed
    assert "before training a and b did not answer alike (mmlu): they had other bases, or other machines" in printed


def test_runs_that_were_not_measured_or_asked_something_else_are_in_no_mean() -> None:
    three_runs("lora")
    run("lora", 3)
    forgot(run("lora", 4), "mmlu", *answers(0, 50, 0, 50), asked="other ")
    summary, printed = summarised("lora")
    assert of(summary, "lora", "mmlu")["change"]["mean"] == pytest.approx(-0.12)
    assert "lora: forgetting was not measured in lora/seed-3" in printed
    assert "mmlu (acc) is without lora/seed-4, which was not asked the same questions in the same way as" in printed


# --- the frontier ---


def test_the_frontier_is_bits_memorised_against_points_lost_from_the_origin() -> None:
    for seed, fall in enumerate((10, 12, 14)):
        folder = run("lora", seed)
        forgot(folder, "mmlu", *answers(50 - fall, fall, 0, 50))
        readings(folder, [-fall / 100 * epoch / 10 for epoch in range(1, 11)])
    summary, _ = compared("lora")
    found = summary["forgetting"]["frontier"]
    assert (found["memory"], found["said"]) == ("recall/bits_memorised", "bits memorised an answer")
    own = found["groups"]["lora"]
    assert [point["lost"] for point in own["runs"]] == pytest.approx([10, 12, 14])
    # Four digits of 3 bits before, of .25 at the end, of 13 bits: 1 memorised, and 12.
    assert own["gained"]["per_run"] == pytest.approx([11, 11, 11])
    assert own["line"][0] == [0, 0, 0]
    assert own["line"][-1] == pytest.approx([10, 11, 12])
    # After three epochs two of four are recalled.
    assert own["line"][3] == pytest.approx([3, 5.5, 3.6])
    assert len(own["line"]) == 11
    assert Path("reports/report/frontier.png").is_file()
    assert Path("reports/report/forgetting.png").is_file()
    (through,) = with_readings(collect(["checkpoints/lora"])[0])
    curve = through.curve("forgetting/mean_change")
    assert [(point.epoch, point.value.mean) for point in curve[:2]] == [(0, 0), (1, pytest.approx(-0.012))]


def test_the_memory_of_the_frontier_is_that_of_the_weights_that_were_measured() -> None:
    folder = run("best")
    forgot(folder, "mmlu", *answers(40, 10, 0, 50), step=6)
    summary, _ = compared("best")
    (point,) = summary["forgetting"]["frontier"]["groups"]["best"]["runs"]
    assert point["gained"] == pytest.approx(5.5)
    assert not Path("reports/report/forgetting.png").exists()


def test_without_bits_the_frontier_takes_held_out_loss_and_then_exact_recall() -> None:
    folder = run("text")
    forgot(folder, "mmlu", *answers(40, 10, 0, 50))
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["recall/bits_memorised"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = summarised("text")[0]["forgetting"]["frontier"]
    assert (found["memory"], found["groups"]["text"]["gained"]["mean"]) == ("recall/exact", 100)
    for number, row in enumerate(rows):
        row["loss/answer_nats_validation"] = 2.0 - 0.05 * number
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = summarised("text")[0]["forgetting"]["frontier"]
    assert found["memory"] == "loss/answer_nats_validation"
    assert found["groups"]["text"]["gained"]["mean"] == pytest.approx(0.5)


def test_classifiers_have_their_frontier_by_accuracy_on_the_validation_texts() -> None:
    forgot(classifier("lora", 0, right_for(0.9), best=1), "mmlu", *answers(*WORKED), step=10)
    summary, printed = summarised("lora")
    found = summary["forgetting"]["frontier"]
    assert found["memory"] == "validation/accuracy"
    # From .5 before training to .8 of the weights that were kept, not .7 of the last.
    assert found["groups"]["lora"]["gained"]["mean"] == pytest.approx(30)
    assert "mmlu: lora/seed-0 forgot" in printed


# --- the page ---


def test_one_task_is_drawn_as_bars_and_three_as_a_radar_chart() -> None:
    folder = run("lora")
    forgot(folder, "mmlu", *answers(*WORKED))
    compared("lora")
    assert "right answers" in html()
    for task in ("cmmlu", "a_task_of_a_rather_long_name"):
        forgot(folder, task, *answers(*WORKED))
    compared("lora")
    assert "right answers" not in html()
    # Its rings, and names in lines.
    assert ">80 %</text>" in html()
    assert ">a_task_of_a_rather_<" in html()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: chromium-headless-shell)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (375, "light")])
def test_the_page_opens_without_an_error_and_hides_a_group(browser: Any, width: int, scheme: str) -> None:  # noqa: F811
    subjects = [f"mmlu_{number}" for number in range(10) for _ in range(10)]
    for name in ("rank-4", "rank-8"):
        three_runs(name)
        three_runs(name, task="cmmlu")
        for seed in range(3):
            folder = Path(f"checkpoints/{name}/seed-{seed}")
            forgot(folder, "gsm8k", *answers(*WORKED), chance=0.0, subjects=subjects)
            read_text(folder, "held_out.txt", [80.0, 90.0], [81.0, 93.0], kl=[5.0, 10.0])
            readings(folder, [-0.02, -0.04, -0.05])
    compared("rank-4", "rank-8")
    page, trouble = opened(
        browser, Path("reports/report").resolve(), viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    radar = page.locator("figure").nth(1)
    assert radar.locator(".group-1").count() > 2
    page.locator("#groups input").nth(1).uncheck()
    assert all(not part.is_visible() for part in radar.locator(".group-1").all())
    assert radar.locator(".group-0").first.is_visible()
    titles = page.locator("h2").all_inner_texts()
    assert {"What was forgotten", "Forgetting, model by model", "Subjects that changed most", "Held-out text"} <= set(
        titles
    )
    assert trouble == []
