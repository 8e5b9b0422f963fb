"""Does being examined help? How many exposures? Answers in words, on planted runs, with numbers by hand."""

from pathlib import Path
from typing import Any

import pytest

from tests.planted import Taken, Told, plant, plant_stages
from toolkit.reporting.answers import exposures_needed
from toolkit.reporting.groups import Group, collect
from toolkit.reporting.learning import Learning, read_learning
from toolkit.reporting.summary import summarise
from toolkit.reporting.verdict import common_end
from toolkit.run_folder import Run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def groups_of(*names: str) -> list[Group]:
    return collect([f"checkpoints/{name}" for name in names])[0]


def summary_of(*names: str) -> dict[str, Any]:
    return summarise(groups_of(*names), [])


# --- does being examined help? ---

FACTS = 4
EXAM = {"drill": {"method": "exam", "review": "missed_only"}, "forget": {"method": "sft"}}
YOKED = {"drill": {"method": "exam", "review": "yoked", "yoked_to": "exam"}, "forget": {"method": "sft"}}
SEEDS = range(6)


def drilled(recalled: int, *, rounds: int = 3) -> list[Taken]:
    """Rounds that feed two of four facts each, in turn; then a delay, after which so many are recalled."""
    readings: list[Taken] = []
    for done in range(rounds + 1):
        fed = [(done + 1 - number % 2) // 2 for number in range(FACTS)]
        readings.append(("drill", {f"fact-{n}": Told(fed[n], done >= 2 and n < recalled) for n in range(FACTS)}))
    after = {name: told._replace(exact=int(name[-1]) < recalled) for name, told in readings[-1][1].items()}
    return [*readings, ("forget", after)]


def plant_pair(examined: list[int], passive: list[int], **changes: Any) -> None:
    """A group of exams and its control, with how many facts each run recalls at the delayed test."""
    compare = {"primary": changes.pop("primary", "recall/exact"), "after": "forget"}
    for name, stage, counts in (("exam", EXAM, examined), ("passive", YOKED, passive)):
        for seed, count in enumerate(counts):
            digest = changes.get(name, f"facts-{seed}")
            rounds = changes.get("rounds", 3) if name == "passive" else 3
            plant_stages(name, seed, drilled(count, rounds=rounds), digest=digest, stage=stage, compare=compare)


ASKED = (
    "Does being examined help (feeding what was missed, exam, against as many facts at random in as many updates,"
    " passive)? "
)


@pytest.mark.parametrize("order", [("exam", "passive"), ("passive", "exam")])
def test_an_exam_that_helps_is_said_to_by_hand(order: tuple[str, str]) -> None:
    plant_pair([3, 3, 3, 4, 4, 3], [1, 1, 1, 2, 2, 2])
    # Differences .5 × 5 and .25: mean .4583, sd .1021, t of five degrees of freedom 2.5706: ± .1071. All six are of
    # one sign: two of 64 permutations.
    assert summary_of(*order)["examined"] == [
        f"{ASKED}Yes: exact recall at the end, examined less yoked, 45.8 points [35.1 points, 56.5 points]"
        " (p = 0.0312, with Holm 0.0312)."
    ]


def test_an_exam_that_harms_is_said_to() -> None:
    plant_pair([1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 3])
    (said,) = summary_of("exam", "passive")["examined"]
    assert said.startswith(f"{ASKED}No, it does harm: exact recall at the end, examined less yoked, -45.8 points [")


def test_where_no_difference_is_shown_none_is_claimed() -> None:
    plant_pair([3, 2, 3, 2, 3, 3], [2, 3, 2, 3, 2, 3])
    assert summary_of("exam", "passive")["examined"] == [
        # Differences .25 -.25 .25 -.25 .25 0: mean .0417, sd .2458, / √6 × 2.5706 = .2579.
        f"{ASKED}No difference shown: exact recall at the end, examined less yoked, 4.2 points [-21.6 points,"
        " 30.0 points] (p = 1, with Holm 1)."
    ]


def test_five_pairs_can_show_nothing_and_it_is_said() -> None:
    plant_pair([4] * 5, [1] * 5)
    summary = summary_of("exam", "passive")
    assert "No difference shown" in summary["examined"][0]
    assert "6 seeds can" in summary["limits"][0]


def test_fewer_exposures_are_better() -> None:
    # In the control the facts are recalled a reading later.
    for seed in SEEDS:
        for name, stage, late in (("exam", EXAM, 0), ("passive", YOKED, 1 + (seed == 0))):
            readings = [
                ("drill", {f"fact-{n}": Told(done, done >= 1 + late) for n in range(FACTS)}) for done in range(7)
            ]
            plant_stages(name, seed, readings, digest=f"facts-{seed}", stage=stage)
    (said,) = summary_of("exam", "passive")["examined"]
    # Differences -1 × 5 and -2: mean -1.1667, sd .4082: ± .4284.
    assert (
        said
        == f"{ASKED}Yes: mean exposures to recall, examined less yoked, -1.17 [-1.60, -0.74] (p = 0.0312, with"
        + (" Holm 0.0312).")
    )


@pytest.mark.parametrize(
    ("runs", "changes", "why_not"),
    [
        (1, {}, "one run says nothing about others"),
        (6, {"exam": None}, "their runs have not the same seeds and facts"),
        (6, {"rounds": 4}, "their runs had not as many presentations"),
    ],
)
def test_what_is_no_pair_cannot_say_whether_exams_help(runs: int, changes: dict[str, Any], why_not: str) -> None:
    plant_pair([4] * runs, [1] * runs, **changes)
    assert summary_of("exam", "passive")["examined"] == [f"{ASKED}That cannot be said: {why_not}."]


def test_as_many_presentations_in_other_batches_are_no_control() -> None:
    plant_pair([4] * 6, [1] * 6)
    path = Path("checkpoints/passive/seed-3/metrics.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace('"step": 8', '"step": 9'), encoding="utf-8")
    assert summary_of("exam", "passive")["examined"] == [
        f"{ASKED}That cannot be said: their runs had not as many updates."
    ]


def test_groups_that_are_not_yoked_are_not_asked_about() -> None:
    plant_pair([3] * 6, [1] * 6)
    for seed in SEEDS:
        plant_stages("leitner", seed, drilled(3), digest=f"facts-{seed}", stage=EXAM)
    assert summary_of("exam", "leitner")["examined"] == []
    assert summary_of("passive", "leitner")["examined"] == []
    assert len(summary_of("exam", "leitner", "passive")["examined"]) == 1


# --- uneven exposures ---


def fed(*facts: tuple[list[int], list[bool]], name: str = "uneven") -> Learning:
    """A run whose facts were fed and recalled so, a list of readings each."""
    count = len(facts[0][0])
    readings = [
        ("drill", {f"fact-{n}": Told(counts[at], right[at]) for n, (counts, right) in enumerate(facts)})
        for at in range(count)
    ]
    found = read_learning(Run(plant_stages(name, 0, readings)))
    assert found is not None
    return found


LEFT_ALONE = ([0, 1, 1, 1], [False, True, True, True])
NEVER = ([0, 1, 2, 3], [False] * 4)
SECOND = ([0, 1, 2, 2], [False, False, True, True])
SELDOM = ([0, 0, 1, 1], [False] * 4)


def test_exposures_to_recall_are_each_facts_own() -> None:
    learning = fed(LEFT_ALONE, NEVER, SECOND)
    assert [tuple(duration) for duration in learning.durations] == [(1, True), (3, False), (2, True)]
    assert not learning.evenly
    assert learning.one_by_one
    # A fact that was recalled and left alone since ends nothing.
    assert learning.seen_until == 3
    assert learning.restricted_mean(3) == pytest.approx((1 + 3 + 2) / 3)


def test_one_seldom_fed_fact_that_is_not_recalled_ends_what_is_known_of_all() -> None:
    learning = fed(LEFT_ALONE, NEVER, SECOND, SELDOM)
    assert learning.seen_until == 1
    assert learning.restricted_mean(1) == 1
    # One that was never fed at all leaves nothing to compare.
    assert fed(NEVER, ([0] * 4, [False] * 4), name="unfed").seen_until == 0
    assert common_end(groups_of("unfed")) is None


def test_a_fact_fed_twice_between_readings_is_not_fed_one_by_one() -> None:
    learning = fed(([0, 2, 2], [False, True, True]), ([0, 1, 2], [False] * 3))
    assert not learning.one_by_one
    assert learning.evenly
    assert not fed(([0, 3, 3], [False, True, True]), ([0, 1, 2], [False] * 3), name="uneven-2").evenly


def test_what_was_recalled_before_training_took_no_exposure() -> None:
    learning = fed(([0, 0, 1], [True, True, True]), ([0, 1, 2], [False, True, True]))
    assert [tuple(duration) for duration in learning.durations] == [(0, True), (1, True)]


# --- how many exposures? ---


def needed(*names: str) -> str:
    (said,) = summary_of(*names)["exposures_needed"]
    return said


def test_one_run_whose_interval_lies_around_seven_is_said_to_be_one_run() -> None:
    plant("seven", 0, [7] * 30)
    assert needed("seven") == (
        "How many exposures? seven: half of the facts are recalled after 7 [90 %: 6, 7], which is seven (in one run);"
        " after seven, 100.0 % (one run)."
    )


def test_an_interval_that_is_too_wide_or_lies_elsewhere_is_not_said_to_be_seven() -> None:
    for seed, shift in enumerate((0, 0, 1, 0, 0)):
        plant("near", seed, [7] * 29 + [7 + shift] * 31)
        plant("far", seed, [3] * 60)
    # t of four degrees of freedom at 90 % over 7 7 8 7 7: 7.2 ± .4264, and a reading earlier.
    assert needed("near", "far") == (
        "How many exposures? near: half of the facts are recalled after 7.2 [90 %: 5.77, 8], not shown to be seven;"
        " after seven, 89.7 % [61.0, 100.0]. far: half of the facts are recalled after 3 [90 %: 2, 3], not shown to be"
        " seven; after seven, 100.0 % [100.0, 100.0]."
    )


def test_where_half_is_never_recalled_or_not_in_every_run_it_is_said() -> None:
    plant("never", 0, [2, 99, 99, 99])
    for seed, start in enumerate((3, 3, 99)):
        plant("mixed", seed, [start] * 8)
    assert needed("never", "mixed") == (
        "How many exposures? never: not half of the facts are recalled within 10; after seven, 25.0 % (one run). mixed:"
        " half of the facts are recalled within 10 in 2 of 3 runs; after seven, 66.7 % [0.0, 100.0]."
    )


def test_facts_fed_many_times_between_readings_are_not_said_to_be_unrecalled() -> None:
    readings = [("learn", {f"fact-{n}": Told(5 * (at > n), at > n) for n in range(6)}) for at in range(9)]
    plant_stages("massed", 0, readings)
    assert needed("massed") == (
        "How many exposures? massed: half of the facts are recalled after 5 or fewer, as readings were too far apart to"
        " tell."
    )


def test_of_runs_that_end_before_seven_exposures_nothing_is_said_of_seven() -> None:
    plant("short", 0, [3] * 30, readings=6)
    assert needed("short") == (
        "How many exposures? short: half of the facts are recalled after 3 [90 %: 2, 3], not shown to be seven (in one"
        " run)."
    )


def test_of_many_groups_no_sentence_each_is_said() -> None:
    for number in range(7):
        plant(f"many-{number}", 0, [3] * 4)
    summary = summary_of(*(f"many-{number}" for number in range(7)))
    assert summary["exposures_needed"] == summary["later_stages"] == []
    assert exposures_needed([]) == []
