"""Comparing finished classifiers: planted runs, of which everything is known, and what is and is not said of them."""

import csv
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from tests.conftest import BROWSER
from tests.planted import plant
from tests.planted_classifiers import FIFTY_FIFTY, SENTIMENT, changed, classifier, right_for, wrong_at
from toolkit.compare import compare
from toolkit.errors import UserError

FIGURES = ("validation", "confusion", "classes", "calibration")
T_OF_2, T_OF_6 = 4.302653, 2.446912
"""97.5 % points of t with 2 and 6 degrees of freedom, from a table."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*groups: str, width: int = 160) -> tuple[dict[str, Any], str]:
    """The summary, and what is printed."""
    console = Console(width=width, record=True, file=io.StringIO())
    folder = compare([f"checkpoints/{group}" for group in groups], "report", console)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), console.export_text()


# --- over runs ---


def test_a_group_has_mean_and_standard_deviation_over_seeds_with_the_t_interval() -> None:
    for seed, accuracy in ((0, 0.94), (42, 0.95), (123, 0.93)):
        classifier("sst2-lora", seed, right_for(accuracy))
    summary, printed = compared("sst2-lora")
    (group,) = summary["groups"]
    found = group["final"]["test/accuracy"]
    half = T_OF_2 * 0.01 / math.sqrt(3)
    assert half == pytest.approx(0.0248, abs=5e-5)
    assert (found["mean"], found["sd"]) == pytest.approx((0.94, 0.01))
    assert (found["low"], found["high"]) == pytest.approx((0.94 - half, 0.94 + half), abs=1e-6)
    assert (group["seeds"], found["per_run"]) == ([0, 42, 123], [0.94, 0.95, 0.93])
    assert "94.0 ± 1.0 %" in printed
    assert "[91.5, 96.5]" in printed
    assert {"test/macro_f1", "test/macro_precision", "test/macro_recall", "test/loss", "test/brier",
            "test/expected_calibration_error"} <= set(group["final"])  # fmt: skip


def test_the_losses_are_those_of_the_planted_probabilities() -> None:
    for seed, accuracy in enumerate((0.94, 0.95, 0.93)):
        classifier("a", seed, right_for(accuracy))
    losses = [-(right * math.log(0.9) + (1 - right) * math.log(0.1)) for right in (0.94, 0.95, 0.93)]
    found = compared("a")[0]["groups"][0]["final"]["test/loss"]
    assert found["per_run"] == pytest.approx(losses)
    assert (found["mean"], found["sd"]) == pytest.approx((statistics.mean(losses), statistics.stdev(losses)))


def test_the_verdict_is_the_exact_permutation_test_over_runs() -> None:
    for seed, (a, b) in enumerate(zip((0.80, 0.81, 0.82, 0.83), (0.90, 0.91, 0.92, 0.93), strict=True)):
        classifier("lora", seed, right_for(a))
        classifier("full", seed, right_for(b))
    summary, printed = compared("lora", "full")
    (contrast,) = summary["outcomes"]["test/accuracy"]["contrasts"]
    assert (summary["primary"], contrast["paired"], contrast["exact"]) == ("test/accuracy", False, True)
    # Of the 70 ways to part eight runs in halves, two are as far apart.
    assert contrast["p"] == contrast["holm"] == pytest.approx(2 / 70)
    # Welch: four runs each, of one variance, so six degrees of freedom.
    half = T_OF_6 * math.sqrt(2 * statistics.variance([0.80, 0.81, 0.82, 0.83]) / 4)
    assert (contrast["difference"], contrast["low"], contrast["high"]) == pytest.approx(
        (0.10, 0.10 - half, 0.10 + half), abs=1e-6
    )
    assert summary["limits"] == []
    assert summary["verdict"][0].startswith("Accuracy on the test texts: lora 81.5 % [79.4 %, 83.6 %], full 91.5 %")
    assert "Difference shown: full is right more often (difference 10.0 points [7.8 points, 12.2 points]" in printed
    assert "p = 0.0286, with Holm 0.0286" in printed


def test_runs_of_the_same_texts_and_cut_are_pairs() -> None:
    for seed in range(6):
        classifier("lora", seed, right_for(0.80 + seed / 100), digest=f"texts-{seed}")
        classifier("full", seed, right_for(0.81 + seed / 100), digest=f"texts-{seed}")
    summary, _ = compared("lora", "full")
    (contrast,) = summary["outcomes"]["test/accuracy"]["contrasts"]
    assert contrast["paired"]
    # All six differences have one sign: two of 64 ways to turn signs.
    assert contrast["p"] == pytest.approx(2 / 64)
    assert contrast["shown"]


def test_three_seeds_never_show_a_difference_and_the_report_says_so() -> None:
    for seed in (0, 42, 123):
        classifier("lora", seed, right_for(0.60), digest=f"texts-{seed}")
        classifier("full", seed, right_for(0.95), digest=f"texts-{seed}")
    summary, _ = compared("lora", "full")
    assert "No difference shown (difference 35.0 points [35.0 points, 35.0 points]; p = 0.25" in summary["verdict"][0]
    assert "3 paired runs a group: the smallest p that they can give is 0.25" in summary["limits"][0]
    # McNemar's test may say something of these models all the same, and says that it is only that.
    assert "are shown to differ in 3 of 3 seeds (full right more often in 3; McNemar" in summary["mcnemar"][0]
    assert "says nothing of other seeds" in summary["mcnemar"][1]


@pytest.mark.parametrize(
    ("primary", "said"),
    [
        ("test/macro_f1", "Macro F1 on the test texts: a "),
        ("test/loss", "Loss in nats a test text: a "),
        # Of a recipe from before it could be said.
        (None, "Accuracy on the test texts: a "),
    ],
)
def test_the_primary_outcome_is_the_one_that_was_declared(primary: str | None, said: str) -> None:
    for seed in range(4):
        classifier("a", seed, right_for(0.80 + seed / 100), primary=primary)
        classifier("b", seed, right_for(0.90 + seed / 100), primary=primary)
    summary, _ = compared("a", "b")
    assert summary["primary"] == (primary or "test/accuracy")
    assert summary["verdict"][0].startswith(said)
    ahead = {"test/loss": "b has the lower loss", "test/macro_f1": "b has the higher macro F1"}
    assert ahead.get(primary or "", "b is right more often") in summary["verdict"][0]
    from toolkit.reporting.page import tests as table

    assert [row[0].rpartition(" ")[2] for row in table(summary)] == ["(primary)", "(exploratory)", "(exploratory)"]


def test_outcomes_of_facts_stand_in_no_report_on_classifiers_and_the_other_way_round() -> None:
    classifier("classes", 0, right_for(0.9))
    plant("facts", 0, [1, 2], readings=3)
    assert set(compared("classes")[0]["outcomes"]) == {"test/accuracy", "test/macro_f1", "test/loss"}
    facts, _ = compared("facts")
    assert not [name for name in facts["outcomes"] if name.startswith("test/")]
    assert not {"mcnemar", "mcnemar_tests"} & set(facts)


# --- model against model ---


def test_mcnemar_is_the_worked_example_with_holm_over_every_test_of_the_report() -> None:
    # Of 100 texts both get 60 right, the first alone 15, the second alone 5, neither 20; and in seed 1, 8 and 8.
    classifier("a", 0, wrong_at([*range(75, 80), *range(80, 100)]))
    classifier("b", 0, wrong_at([*range(60, 75), *range(80, 100)]))
    classifier("a", 1, wrong_at(range(8)))
    classifier("b", 1, wrong_at(range(8, 16)))
    summary, printed = compared("a", "b")
    one, other = summary["mcnemar_tests"]
    assert (one["a"], one["b"], one["seed"], one["n"]) == ("a", "b", 0, 100)
    assert (one["only_first"], one["only_second"]) == (15, 5)
    assert one["difference"] == pytest.approx(-0.10)
    p = 2 * sum(math.comb(20, k) for k in range(6)) / 2**20
    assert one["p"] == pytest.approx(p)
    assert one["p"] == pytest.approx(0.0414, abs=5e-5)
    assert (other["only_first"], other["only_second"], other["p"]) == (8, 8, 1)
    assert (one["holm"], other["holm"]) == (pytest.approx(2 * p), 1)
    assert not one["shown"]
    assert "shown to differ in none of 2 seeds (McNemar, with Holm over 2 tests)" in printed


def test_mcnemar_counts_are_those_of_drawn_texts_counted_by_hand() -> None:
    draw = np.random.default_rng(0)
    for seed in range(3):
        for name, share in (("a", 0.7), ("b", 0.8), ("c", 0.95)):
            classifier(name, seed, wrong_at(np.flatnonzero(draw.random(100) > share).tolist()))
    summary, _ = compared("a", "b", "c")
    results = summary["mcnemar_tests"]
    assert [(r["a"], r["b"], r["seed"]) for r in results] == [
        (a, b, seed) for a, b in (("a", "b"), ("a", "c"), ("b", "c")) for seed in range(3)
    ]
    from toolkit.probes.classification import read_rows

    def right(name: str, seed: int) -> dict[str, bool]:
        rows = read_rows(Path(f"checkpoints/{name}/seed-{seed}/probes/test-learn-000020.parquet"))
        return {row["id"]: row["predicted"] == row["gold"] for row in rows if row["split"] == "test"}

    for result in results:
        one, other = right(result["a"], result["seed"]), right(result["b"], result["seed"])
        assert result["only_first"] == sum(one[text] and not other[text] for text in one)
        assert result["only_second"] == sum(other[text] and not one[text] for text in one)
    ordered, least, holm = sorted(results, key=lambda r: r["p"]), 0.0, {}
    for rank, result in enumerate(ordered):
        least = max(least, min(1, (9 - rank) * result["p"]))
        holm[result["a"], result["b"], result["seed"]] = least
    assert [r["holm"] for r in results] == pytest.approx([holm[r["a"], r["b"], r["seed"]] for r in results])
    assert len(summary["mcnemar"]) == 4


def test_texts_are_matched_by_their_ids_and_not_by_their_places_in_the_file() -> None:
    from toolkit.probes.classification import read_rows, write_rows

    classifier("a", 0, wrong_at([0, 1, 2]))
    path = classifier("b", 0, wrong_at([0, 1, 2])) / "probes/test-learn-000020.parquet"
    write_rows(path, read_rows(path)[::-1])
    (result,) = compared("a", "b")[0]["mcnemar_tests"]
    assert (result["only_first"], result["only_second"], result["p"]) == (0, 0, 1)


def test_with_one_seed_the_runs_say_nothing_and_the_two_models_may_differ() -> None:
    classifier("sst2-lora", 0, wrong_at(range(1, 4)))
    classifier("sst2-full", 0, wrong_at(range(30)))
    summary, printed = compared("sst2-lora", "sst2-full")
    assert "No test: one run says nothing about others." in summary["verdict"][0]
    assert "sst2-lora has one run: nothing is known about its other seeds" in summary["limits"][0]
    p = 2 * 0.5**27
    assert summary["mcnemar"][0].startswith(
        "These two models differ on these texts: sst2-lora/seed-0 and sst2-full/seed-0: 27 texts only the first got"
        " right, 0 only the second (difference -27.0 points [-3"
    )
    assert summary["mcnemar"][0].endswith(f"McNemar p = {p:.3g}, with Holm {p:.3g}).")
    accuracy = summary["groups"][0]["final"]["test/accuracy"]
    assert (accuracy["sd"], accuracy["low"], accuracy["wilson"]["successes"]) == (None, None, 97)
    # Wilson's interval of 97 of 100, from a table.
    assert (accuracy["wilson"]["low"], accuracy["wilson"]["high"]) == pytest.approx((0.9155, 0.9897), abs=5e-5)
    assert "[91.5, 99.0]" in printed
    assert "within the run" in printed


def test_two_models_that_do_not_differ_are_said_to_show_no_difference() -> None:
    classifier("a", 0, wrong_at([0, 1]))
    classifier("b", 0, wrong_at([2, 3]))
    (line, _) = compared("a", "b")[0]["mcnemar"]
    assert line.startswith(
        "No difference shown between these two models on these texts: a/seed-0 and b/seed-0: 2 texts"
    )
    assert "McNemar p = 1, with Holm 1" in line


def test_only_seeds_that_both_have_are_set_against_each_other() -> None:
    for seed in (0, 1):
        classifier("a", seed, right_for(0.9))
    for seed in (1, 2):
        classifier("b", seed, right_for(0.8))
    classifier("c", 7, right_for(0.8))
    summary, _ = compared("a", "b", "c")
    assert [(r["a"], r["b"], r["seed"]) for r in summary["mcnemar_tests"]] == [("a", "b", 1)]
    assert "a and c: no McNemar test, as they have no seed in common" in summary["notes"]


def test_of_many_groups_the_models_are_counted_in_one_sentence() -> None:
    for number in range(17):
        classifier(f"g{number}", 0, right_for(0.99 if number else 0.5))
    summary, _ = compared(*(f"g{number}" for number in range(17)))
    assert summary["mcnemar"][0] == (
        "Of 16 pairs of models of one seed, 16 are shown to differ on these texts (McNemar, with Holm over all of"
        " them); the table has each."
    )


# --- what does not compare ---


@pytest.mark.parametrize("other", ["ids", "gold", "texts"])
def test_groups_with_other_test_texts_have_their_outcomes_and_no_test(other: str) -> None:
    gold = [*FIFTY_FIFTY[1:], "Positive"] if other == "gold" else FIFTY_FIFTY
    texts = [f"film {number}" for number in range(100)]
    for seed in range(4):
        classifier("a", seed, right_for(0.9), texts=texts)
        classifier(
            "b", seed, gold if other == "gold" else right_for(0.8), gold=gold, ids="dev" if other == "ids" else "test",
            texts=[*texts[:99], "another"] if other == "texts" else texts,
        )  # fmt: skip
    summary, _ = compared("a", "b")
    for outcome in summary["outcomes"].values():
        (contrast,) = outcome["contrasts"]
        assert (contrast["p"], contrast["difference"]) == (None, None)
        assert contrast["why_not"] == "they were tested on other texts"
    assert summary["outcomes"]["test/accuracy"]["groups"]["a"]["mean"] == pytest.approx(0.9)
    assert summary["verdict"][0].endswith("No test: they were tested on other texts.")
    assert (summary["mcnemar_tests"], summary["mcnemar"]) == ([], [])
    assert "a and b: no McNemar test, as they were tested on other texts" in summary["notes"]
    # What Holm would ask of a test that cannot be done is nobody's limit.
    assert summary["limits"] == []


def test_groups_that_kept_no_texts_are_compared_by_ids_and_classes() -> None:
    for seed in range(4):
        classifier("a", seed, right_for(0.9), texts=[f"film {number}" for number in range(100)])
        classifier("b", seed, right_for(0.8))
    Path("checkpoints/a/seed-1/examples.jsonl").write_text('{"id": "x", "split": "test"}\n', encoding="utf-8")
    assert compared("a", "b")[0]["outcomes"]["test/accuracy"]["contrasts"][0]["p"] == pytest.approx(2 / 70)


def test_groups_of_other_classes_have_no_test_and_the_classes_are_named() -> None:
    three = (*SENTIMENT, "Neutral")
    for seed in range(2):
        classifier("two", seed, right_for(0.9))
        classifier("three", seed, right_for(0.9), labels=three)
    summary, _ = compared("two", "three")
    assert summary["outcomes"]["test/accuracy"]["contrasts"][0]["why_not"] == "their classes differ"
    assert "unequal designs, classes: two 2, three 3" in summary["notes"]
    assert "classes that not all have: Neutral" in summary["notes"]
    assert "two and three: no McNemar test, as their classes differ" in summary["notes"]


def test_a_third_group_with_other_texts_leaves_the_other_two_their_test() -> None:
    for seed in range(4):
        classifier("a", seed, right_for(0.80 + seed / 100))
        classifier("b", seed, right_for(0.90 + seed / 100))
        classifier("c", seed, right_for(0.85), ids="other")
    summary, _ = compared("a", "b", "c")
    tested, *others = summary["outcomes"]["test/accuracy"]["contrasts"]
    assert tested["holm"] == pytest.approx(2 / 70)
    assert [other["p"] for other in others] == [None, None]
    assert summary["limits"] == []


def test_classifiers_beside_runs_of_facts_are_refused_by_name() -> None:
    classifier("sst2-lora", 0, right_for(0.9))
    plant("GroupA", 0, [1, 2], readings=3)
    plant("GroupB", 0, [1, 2], readings=3)
    with pytest.raises(UserError, match=r"classes of texts: sst2-lora; recall of facts: GroupA, GroupB\)"):
        compared("*")
    assert not Path("reports").exists()


def test_unfinished_runs_and_runs_without_a_test_are_left_out_and_named() -> None:
    classifier("a", 0, right_for(0.9))
    classifier("a", 1, right_for(0.5), state="running")
    untested = classifier("b", 0, right_for(0.9)) / "metrics.jsonl"
    untested.write_text("".join(untested.read_text("utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    summary, _ = compared("a", "b")
    (group,) = summary["groups"]
    assert group["seeds"] == [0]
    assert "seed-1 is not finished (step 20) and left out" in group["notes"]
    assert "one seed: nothing is known about other runs" in group["notes"]
    assert "b: no test of a classifier lies there; left out" in summary["notes"]
    with pytest.raises(UserError, match="b: no test of a classifier lies there, so there is nothing to compare"):
        compared("b")


@pytest.mark.parametrize("damage", ["gone", "cut", "stranger", "no test"])
def test_a_test_that_cannot_be_read_is_named_and_what_needs_its_texts_left_out(damage: str) -> None:
    from toolkit.probes.classification import read_rows, write_rows

    for seed in range(2):
        classifier("a", seed, right_for(0.90 + seed / 100))
        classifier("b", seed, right_for(0.80))
    path = Path("checkpoints/a/seed-0/probes/test-learn-000020.parquet")
    rows = read_rows(path)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "stranger":
        write_rows(path, [row | {"predicted": "Other"} for row in rows])
    else:
        write_rows(path, [row for row in rows if row["split"] == "validation"])
    summary, _ = compared("a", "b")
    assert len([note for note in summary["notes"] if path.name in note]) == 1
    first = summary["groups"][0]
    assert first["final"]["test/accuracy"]["mean"] == pytest.approx(0.905)
    assert first["final"]["test/majority"]["mean"] is None
    assert first["classes"]["Positive"]["f1"]["mean"] is None
    why_not = "what they were tested on cannot be read: a/seed-0"
    assert summary["outcomes"]["test/accuracy"]["contrasts"][0]["why_not"] == why_not
    assert [r["seed"] for r in summary["mcnemar_tests"]] == [1]
    assert "a and b: no McNemar test of seed 0, as a run's test cannot be read" in summary["notes"]


def test_runs_of_a_group_that_were_tested_on_other_texts_are_said_to_be() -> None:
    classifier("a", 0, right_for(0.9))
    classifier("a", 1, right_for(0.9), ids="other", batch=2)
    (group,) = compared("a")[0]["groups"]
    assert "its runs cannot be taken together: they were tested on other texts" in group["notes"]
    assert any(note.startswith("seed-1 was made by another recipe than seed-0: batch") for note in group["notes"])


def test_unequal_designs_and_runs_that_only_look_like_pairs_are_named() -> None:
    for seed in range(2):
        classifier("a", seed, right_for(0.9), lora={"rank": 8})
        classifier("b", seed, right_for(0.8), train=300)
        classifier("c", seed + 1, right_for(0.8), digest=f"a/{seed + 1}")
    summary, _ = compared("a", "b", "c")
    assert "unequal designs, train texts: a 400, b 300, c 400" in summary["notes"]
    assert any(note.startswith("a and b have the same seeds, but not the same texts") for note in summary["notes"])
    assert "a and c share texts but not all seeds: they are tested as if they were no pairs" in summary["notes"]
    assert summary["settings_that_differ"]["lora"] == {"a": {"rank": 8}, "b": None, "c": None}


def test_a_grid_says_which_value_did_best_where_all_had_the_same_test() -> None:
    for rank, accuracy in ((8, 0.8), (16, 0.9), (32, 0.85)):
        classifier(f"rank{rank}", 0, right_for(accuracy), lora={"rank": rank})
    groups = ("rank8", "rank16", "rank32")
    (line,) = compared(*groups)[0]["sensitivity"]
    assert line.startswith("Best lora.rank of these by accuracy on the test texts: 16 (90.0 %)")
    assert Path("reports/report/sensitivity.png").is_file()
    classifier("rank64", 0, right_for(0.99), lora={"rank": 64}, ids="other")
    summary, _ = compared(*groups, "rank64")
    assert summary["sensitivity"] == []
    assert not [name for name in summary["figures"] if "sensitivity" in name]


# --- classes, controls, calibration ---


def test_classes_have_precision_recall_and_f1_over_runs() -> None:
    labels = ("0", "1", "2")
    classifier("a", 0, list("001110"), gold=list("000112"), labels=labels)
    classifier("a", 1, list("000110"), gold=list("000112"), labels=labels)
    (group,) = compared("a")[0]["groups"]
    classes = group["classes"]
    # By hand: seed 0 has F1 2/3, 4/5, 0 and seed 1 6/7, 1, 0.
    assert group["final"]["test/macro_f1"]["per_run"] == pytest.approx([(2 / 3 + 4 / 5) / 3, (6 / 7 + 1) / 3])
    assert classes["0"]["f1"]["mean"] == pytest.approx((2 / 3 + 6 / 7) / 2)
    assert classes["0"]["f1"]["sd"] == pytest.approx((6 / 7 - 2 / 3) / math.sqrt(2))
    assert classes["0"]["precision"]["per_run"] == pytest.approx([2 / 3, 3 / 4])
    assert classes["1"]["recall"]["per_run"] == [1, 1]
    assert [classes[label]["texts"] for label in labels] == [3, 2, 1]
    assert (classes["2"]["f1"]["mean"], classes["2"]["f1"]["sd"]) == (0, 0)
    assert group["confusion"] == [[5, 1, 0, 0], [0, 4, 0, 0], [2, 0, 0, 0]]


def test_accuracy_stands_beside_the_most_frequent_class_and_the_validation_texts() -> None:
    gold = ["Negative"] * 70 + ["Positive"] * 30
    classifier("a", 0, wrong_at(range(3), gold), gold=gold, validation=(0.5, 0.99, 0.9))
    classifier("b", 0, gold, gold=gold)
    summary, printed = compared("a", "b")
    group = summary["groups"][0]
    assert (group["majority"], group["final"]["test/majority"]["mean"]) == ("Negative", 0.7)
    assert group["final"]["validation/accuracy"]["mean"] == 0.99
    assert summary["controls"] == [
        'Always answering "Negative", the most frequent class, is right for 70.0 % of the test texts.',
        "Accuracy of the same weights on the validation texts, by which the best are chosen: a 99.0 % (on the test"
        " texts 97.0 %), b 80.0 % (on the test texts 100.0 %).",
    ]
    assert "70.0 %" in printed
    assert not [note for note in group["notes"] if "not shown to be above" in note]


def test_what_is_no_better_than_always_one_answer_is_said_to_be() -> None:
    gold = ["Negative"] * 70 + ["Positive"] * 30
    classifier("a", 0, ["Negative"] * 100, gold=gold)
    (group,) = compared("a")[0]["groups"]
    said = 'its accuracy is not shown to be above that of always answering "Negative" (70.0 %)'
    assert any(note.startswith(said) for note in group["notes"])


def test_unreadable_replies_are_counted_beside_the_classes_that_were_likeliest() -> None:
    said: list[str | None] = [None] * 4 + ["Positive"] * 2 + FIFTY_FIFTY[6:]
    classifier("words", 0, right_for(0.97), said=said)
    classifier("head", 0, right_for(0.97))
    summary, printed = compared("words", "head")
    words, head = summary["groups"]
    assert words["final"]["test/unreadable"]["mean"] == 0.04
    assert words["final"]["test/said_accuracy"]["mean"] == 0.94
    assert words["final"]["test/accuracy"]["mean"] == 0.97
    assert words["replies_confusion"] == [[44, 2, 4], [0, 50, 0]]
    assert (head["replies_confusion"], "test/unreadable" in head["final"]) == (None, False)
    assert "unreadable" in printed
    page = Path("reports/report/index.html").read_text(encoding="utf-8")
    assert ">words, own replies</text>" in page
    assert ">head, own replies</text>" not in page
    # Of classifiers with a head alone there is nothing to say of replies.
    assert "unreadable" not in compared("head")[1]


def test_calibration_is_pooled_over_runs_in_ten_bins() -> None:
    gold = ["Negative"] * 4
    for seed, predicted in enumerate((["Negative"] * 4, ["Negative", "Positive", "Negative", "Positive"])):
        classifier("a", seed, predicted, gold=gold, sure=[0.9, 0.9, 0.6, 0.6])
    (group,) = compared("a")[0]["groups"]
    own = group["calibration"]
    # 3 of 4 right at .9, 3 of 4 at .6.
    assert [(part["confidence"], part["right"], part["answers"]) for part in own["bins"]] == [
        (pytest.approx(0.6), 0.75, 4), (pytest.approx(0.9), 0.75, 4),
    ]  # fmt: skip
    assert own["expected_error"] == pytest.approx((0.15 + 0.15) / 2)
    # Each run's own: (.1 + .4) / 2 and (.4 + .1) / 2; pooled texts are nearer to the line.
    assert group["final"]["test/expected_calibration_error"]["per_run"] == pytest.approx([0.25, 0.25])


def test_texts_that_were_cut_are_counted() -> None:
    classifier("a", 0, right_for(0.9))
    assert compared("a")[0]["groups"][0]["final"]["test/cut"]["mean"] == 0.05


# --- files ---


def test_a_loss_that_is_no_number_is_null_in_json_and_said() -> None:
    folder = classifier("a", 0, right_for(0.9))
    classifier("a", 1, right_for(0.8))
    changed(folder, test__loss=math.nan)
    summary, _ = compared("a")
    text = Path("reports/report/summary.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    loss = summary["groups"][0]["final"]["test/loss"]
    assert (loss["mean"], loss["sd"], loss["per_run"][0]) == (None, None, None)
    assert "a run's loss on the test texts is no number" in summary["groups"][0]["notes"]


def test_the_report_is_a_page_with_figures_and_numbers_for_machines() -> None:
    for seed in range(3):
        classifier("sst2-<b>lora", seed, right_for(0.90 + seed / 100), validation=(0.5, 0.7, 0.8 + seed / 100), best=2)
        classifier("sst2-full", seed, right_for(0.80 + seed / 100))
    compared("sst2-<b>lora", "sst2-full")
    folder = Path("reports/report")
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.fromstring((folder / f"{name}.svg").read_text(encoding="utf-8")).tag.endswith("svg")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<title>report: which classes were told apart</title>" in page
    assert "<b>lora" not in page
    for said in ("Accuracy on the test texts is the primary outcome", "Model against model", "says nothing of other"
                 " seeds", "Classes", "precision", "What came out", "95 % t interval over runs"):  # fmt: skip
        assert said in page
    assert page.count("<figure") == len(FIGURES)
    assert "exposures" not in page.partition("How it was made")[0]
    assert "What is known at the end" not in page
    rows = list(csv.DictReader((folder / "summary.csv").open(encoding="utf-8")))
    assert list(rows[0]) == ["group", "measure", "mean", "low", "high", "runs", "sd"]
    (accuracy,) = [row for row in rows if (row["group"], row["measure"]) == ("sst2-full", "test/accuracy")]
    assert (float(accuracy["mean"]), float(accuracy["sd"]), accuracy["runs"]) == (
        pytest.approx(0.81), pytest.approx(0.01), "3",
    )  # fmt: skip
    assert ("sst2-full", "class/Negative/f1") in {(row["group"], row["measure"]) for row in rows}


def test_validation_curves_are_means_with_a_mark_at_the_weights_that_were_tested() -> None:
    from toolkit.reporting.classifier_figures import validation_curves
    from toolkit.reporting.groups import collect

    classifier("a", 0, right_for(0.9), validation=(0.5, 0.8, 0.7), best=1)
    classifier("a", 1, right_for(0.9), validation=(0.5, 0.6, 0.9, 0.9), best=2)
    figure = validation_curves(collect(["checkpoints/a"])[0])
    assert figure is not None
    lines: list[Any] = [line for line in figure.axes[0].lines if line.get_gid()]
    mean, thin, star, other_thin, other_star = lines
    assert list(mean.get_xdata()) == [0, 1, 2]
    assert list(mean.get_ydata()) == pytest.approx([0.5, 0.7, 0.8])
    assert (list(thin.get_ydata()), len(other_thin.get_ydata())) == ([0.5, 0.8, 0.7], 4)
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in (star, other_star)] == [(1, 0.8), (2, 0.9)]


def test_the_axis_of_loss_is_not_ruled_by_the_time_before_training() -> None:
    from toolkit.reporting.classifier_figures import validation_curves
    from toolkit.reporting.groups import collect

    # The planted loss is 2 less the accuracy: 12, 1.2 and 1.3.
    classifier("words", 0, right_for(0.9), validation=(-10.0, 0.8, 0.7))
    classifier("head", 0, right_for(0.9), validation=(0.5, 0.8, 0.7))
    tops = []
    for groups in (["checkpoints/words"], ["checkpoints/head"]):
        figure = validation_curves(collect(groups)[0])
        assert figure is not None
        panel = figure.axes[2]
        tops.append((panel.get_ylim()[1], [text.get_text() for text in panel.texts if text.get_text().strip()]))
    assert tops[0] == (pytest.approx(1.1 * 1.3), ["some curves start above the axis"])
    assert 1.5 <= tops[1][0] < 1.6
    assert tops[1][1] == []


def test_a_confusion_matrix_is_drawn_of_one_run_with_shares_of_rows_and_counts() -> None:
    from toolkit.reporting.confusion import confusion_figure
    from toolkit.reporting.saving import png

    figure = confusion_figure([[8, 2, 0], [1, 3, 0]], SENTIMENT, "sst2-lora/seed-0")
    (panel,) = figure.axes
    drawn: Any = panel.images[0].get_array()
    assert drawn.tolist() == [[0.8, 0.2], [0.25, 0.75]]
    assert [text.get_text() for text in panel.texts] == ["8", "2", "1", "3"]
    assert panel.get_title(loc="left") == "sst2-lora/seed-0"
    assert [label.get_text() for label in panel.get_xticklabels()] == list(SENTIMENT)
    assert png(figure).startswith(b"\x89PNG")
    # A class that no text is of has a row of nothing.
    with_unread = confusion_figure([[8, 1, 1], [0, 0, 0]], SENTIMENT, "words").axes[0]
    assert [label.get_text() for label in with_unread.get_xticklabels()] == [*SENTIMENT, "unreadable"]


@pytest.mark.parametrize(("classes", "counted", "named"), [(12, True, True), (13, False, True), (60, False, False)])
def test_matrices_of_many_classes_are_colours_alone(classes: int, counted: bool, named: bool) -> None:
    from toolkit.reporting.confusion import confusion_figure
    from toolkit.reporting.saving import png

    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes + 1))
    matrix[:, -1] = 0
    figure = confusion_figure(matrix.tolist(), [f"class {number}" for number in range(classes)], "many")
    (panel,) = figure.axes
    assert (bool(panel.texts), bool(panel.get_xticklabels())) == (counted, named)
    assert max(figure.get_size_inches()) < 12
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: chromium-headless-shell)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_opens_without_error_or_request_and_draws_every_figure(scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    for seed in range(3):
        classifier("lora", seed, right_for(0.90 + seed / 100), said=[None] * 3 + FIFTY_FIFTY[3:])
        classifier("full", seed, right_for(0.80 + seed / 100))
    compared("lora", "full")
    trouble: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: trouble.append(request.url))
        page.goto((Path("reports/report").resolve() / "index.html").as_uri())
        assert [said for said in trouble if not said.endswith("/index.html")] == []
        boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
        assert len(boxes) == len(FIGURES)
        assert all(box and box["width"] > 200 and box["height"] > 100 for box in boxes)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        line = page.locator("figure").first.locator(".group-0").first
        assert line.is_visible()
        page.locator("#groups input").first.uncheck()
        assert not line.is_visible()
        browser.close()
