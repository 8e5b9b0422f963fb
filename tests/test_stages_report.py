"""What later stages did to facts, on planted runs: a delay, learning anew, preferences, new numbers, beliefs."""

from pathlib import Path
from typing import Any

import pytest

from tests.planted import Taken, Told, plant_stages
from toolkit.reporting.answers import of_group
from toolkit.reporting.groups import Group, collect
from toolkit.reporting.learning import Learning, read_learning
from toolkit.reporting.stages import Span, spans
from toolkit.reporting.summary import summarise
from toolkit.run_folder import Run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def group_of(name: str) -> Group:
    (group,), _ = collect([f"checkpoints/{name}"])
    return group


def learned(run: Path) -> Learning:
    found = read_learning(Run(run))
    assert found is not None
    assert found.trouble == []
    return found


def knowledge(name: str) -> dict[str, Any]:
    (summary,) = summarise([group_of(name)], [])["groups"]
    return {key: spread["mean"] for key, spread in summary["knowledge"].items()}


def sentences(name: str) -> list[str]:
    (summary,) = summarise([group_of(name)], [])["groups"]
    return list(of_group(name, summary["knowledge"]))


def line(stage: str, *facts: Told) -> Taken:
    return stage, {f"fact-{number}": told for number, told in enumerate(facts)}


# --- learning, a delay, learning anew ---


def delayed() -> list[Taken]:
    """Fact 0 is recalled at its 8th exposure, forgotten in the delay, and again at the 3rd of learning anew.

    Fact 1 is recalled at the 2nd, and through all of the rest. Fact 2 never, and is likelier for it all the same.
    """
    readings = []
    for fed in range(11):
        # The best of fact 0 comes before the last reading of the stage.
        bits = 5.0 if fed == 9 else 6.0 if fed == 10 else 30.0 - 2 * fed
        easy = Told(fed, fed >= 2, 20.0 if fed < 2 else 1.0)
        readings.append(line("learn", Told(fed, fed >= 8, bits), easy, Told(fed, False, 40.0 - fed)))
    for _ in range(2):
        readings.append(line("forget", Told(10, False, 12.0), Told(10, True, 1.0), Told(10, False, 35.0)))
    for more in range(1, 6):
        readings.append(
            line("relearn", Told(10 + more, more >= 3, 8.0), Told(10 + more, True, 1.0), Told(10 + more, False, 30.0))
        )
    return readings


def test_stages_are_told_apart_by_what_they_fed() -> None:
    learning = learned(plant_stages("spans", 0, delayed()))
    assert spans(learning) == [
        # The reading before training belongs to the first stage, and each later one starts from the one before it.
        Span("learn", 0, 10, fed=True),
        Span("forget", 10, 12, fed=False),
        Span("relearn", 12, 17, fed=True),
    ]


def test_what_a_delay_left_and_learning_anew_saved_by_hand() -> None:
    plant_stages("delayed", 0, delayed())
    values = knowledge("delayed")
    assert values["recalled_before_delay"] == pytest.approx(2 / 3)
    assert values["recalled_after_delay"] == pytest.approx(1 / 3)
    assert values["still_recalled"] == pytest.approx(1 / 2)
    # Of −30, −5, −12 an effect of 25, of which 18 are left: .72; the others (20, 1, 1): 1 and (40, 30, 35): .5.
    assert values["retention"] == pytest.approx(0.72)
    # 8 → 3 saves .625, and what was never forgotten saves all.
    assert values["savings"] == pytest.approx((0.625 + 1) / 2)
    assert values["relearned"] == 1
    assert sentences("delayed") == [
        "delayed: recalled before a stage that fed none of these facts 66.7 % (one run), after it 33.3 % (one run);"
        " learning anew saves 81.2 % (one run) of the exposures of facts recalled again, which are 100.0 % (one run)."
    ]


def test_a_fact_that_is_not_recalled_again_has_no_savings_and_is_counted() -> None:
    readings = delayed()
    for number in range(13, 18):
        stage, facts = readings[number]
        # It is recalled at the last reading only, which none confirms.
        readings[number] = (stage, facts | {"fact-0": facts["fact-0"]._replace(exact=number == 17)})
    plant_stages("not-again", 0, readings)
    values = knowledge("not-again")
    assert (values["savings"], values["relearned"]) == (1, 0.5)


def test_learning_anew_may_cost_more_than_at_first() -> None:
    readings = [line("learn", Told(n, n >= 1)) for n in range(4)] + [line("forget", Told(3, False))]
    readings += [line("relearn", Told(3 + n, n >= 3)) for n in range(1, 5)]
    plant_stages("dearer", 0, readings)
    assert knowledge("dearer")["savings"] == pytest.approx(-2)
    assert "saves -200.0 % (one run)" in sentences("dearer")[0]


def test_without_a_delay_nothing_is_said_of_one() -> None:
    plant_stages("no-delay", 0, delayed()[:11])
    assert "recalled_before_delay" not in knowledge("no-delay")
    # A stage before learning is none either.
    readings = [line("warm", Told(0, False)), line("warm", Told(0, False))]
    readings += [line("learn", Told(n, n > 1)) for n in range(1, 4)]
    plant_stages("warmed-up", 0, readings)
    assert [span.fed for span in spans(learned(Path("checkpoints/warmed-up/seed-0")))] == [False, True]
    assert "retention" not in knowledge("warmed-up")
    assert sentences("warmed-up") == []


def test_a_fact_that_learning_did_nothing_for_has_no_retention() -> None:
    readings = [line("learn", Told(n, False, 10.0 + n)) for n in range(3)] + [line("forget", Told(2, False, 9.0))]
    plant_stages("no-effect", 0, readings)
    values = knowledge("no-effect")
    assert values["retention"] is None
    assert (values["recalled_before_delay"], values["still_recalled"]) == (0, None)


def test_exposures_to_recall_end_where_the_recipe_says() -> None:
    compare = {"primary": "recall/exact", "after": "forget"}
    learning = learned(plant_stages("after", 0, delayed(), compare=compare))
    assert (learning.end, learning.stages[learning.end]) == (12, "forget")
    assert [tuple(duration) for duration in learning.durations] == [(8, True), (2, True), (10, False)]
    assert len(learning.exposures) == 18
    summary = summarise([group_of("after")], [])
    assert summary["outcomes"]["recall/exact"]["groups"]["after"]["mean"] == pytest.approx(1 / 3)
    assert summary["groups"][0]["exposures"] == [10]
    # What came after it is still known of the stages.
    assert summary["groups"][0]["knowledge"]["savings"]["mean"] == pytest.approx(0.8125)


def test_outcomes_are_said_to_be_of_that_stage() -> None:
    for name in ("one", "two"):
        plant_stages(name, 0, delayed(), compare={"primary": "recall/exact", "after": "learn"})
    groups, _ = collect(["checkpoints/one", "checkpoints/two"])
    (said,) = summarise(groups, [])["verdict"]
    assert said.startswith("Exact recall at the end (of the stage learn): one 66.7 %, two 66.7 %.")


def test_where_the_reading_at_the_end_is_damaged_later_stages_do_not_stand_in_for_it() -> None:
    run = plant_stages("damaged", 0, delayed(), compare={"primary": "recall/exact", "after": "learn"})
    (run / "probes/recall-learn-000020.parquet").write_bytes(b"x")
    learning = read_learning(Run(run))
    assert learning is not None
    assert len(learning.trouble) == 1
    assert not learning.to_the_end
    assert (learning.stages[learning.end], learning.exposures[learning.end].tolist()) == ("learn", [9, 9, 9])


# --- preferences ---


def preferred(**more: Any) -> list[Taken]:
    readings = [line("learn", Told(n, n > 1, 8.0), Told(n, n > 1, 6.0)) for n in range(4)]
    # Fact 0 costs 3 bits more, and fact 1 a bit less.
    fed = more.get("fed", 1)
    return [*readings, line("prefer", Told(3 + fed, True, 11.0), Told(3 + fed, True, 5.0))]


DPO = {"learn": {"method": "sft"}, "prefer": {"method": "dpo"}}


def test_what_preferences_did_to_right_answers_by_hand() -> None:
    plant_stages("preferred", 0, preferred(), stage=DPO)
    values = knowledge("preferred")
    assert (values["dpo_bits_change"], values["dpo_displaced"]) == (1.0, 0.5)
    assert sentences("preferred") == [
        "preferred: preference training made the right answer itself less likely in 50.0 % (one run) of the facts; bits"
        " that it costs more than before, on average: 1.0 bits (one run)."
    ]


def test_more_reading_displaces_nothing_and_preferences_about_others_are_not_about_these_answers() -> None:
    plant_stages("read-more", 0, preferred(), stage={"learn": {"method": "sft"}, "prefer": {"method": "sft"}})
    plant_stages("practised", 0, preferred(fed=0), stage=DPO)
    for name in ("read-more", "practised"):
        assert "dpo_displaced" not in knowledge(name)


# --- a second number for some ---


def contradicted(*, taught: bool, before: int = 0) -> list[Taken]:
    """Four names stay, four change. `before`: readings of a stage between."""

    def facts(n: int, change: int) -> dict[str, Told]:
        stay = {f"stay-{i}": Told(n, n > 1 and not (change and i < 2 - before), 2.0) for i in range(4)}
        old = {f"name-{i}": Told(n, n > 1 and not (change and i < 3), 3.0 + 10 * (change > 0), "old") for i in range(4)}
        new = {
            f"name-{i}-new": Told(change * taught, taught and change > 0 and i < 2, 1.0 if i < 2 else 20.0, "new")
            for i in range(4)
        }
        return stay | old | new

    readings = [("learn", facts(n, 0)) for n in range(4)]
    readings += [("between", facts(3, 0)) for _ in range(before)]
    return [*readings, *[("change", facts(3, change)) for change in (1, 2)]]


CHANGE = {"learn": {"train_on": ["facts", "old"]}, "change": {"train_on": ["new"]}}


def test_what_new_numbers_did_by_hand() -> None:
    plant_stages("contradicted", 0, contradicted(taught=True), stage=CHANGE)
    values = knowledge("contradicted")
    # Two of four give the new one; one the old one; of the two with 20 bits the old one (13 bits) is likelier.
    assert (values["overwritten"], values["old_still_recalled"], values["old_likelier"]) == (0.5, 0.25, 0.5)
    # Two of four untouched names are lost.
    assert values["collateral"] == pytest.approx(0.5)
    assert sentences("contradicted")[-1] == (
        "contradicted: of the changed names 50.0 % (one run) give the new number, 25.0 % (one run) still the old one,"
        " and in 50.0 % (one run) the old one is likelier; recall that untouched names lost: 50.0 points (one run)."
    )


def test_a_control_without_second_numbers_overwrites_nothing_and_resists_nothing() -> None:
    stage = CHANGE | {"change": {"train_on": ["added"]}}
    plant_stages("added", 0, contradicted(taught=False), stage=stage)
    values = knowledge("added")
    assert "overwritten" not in values
    assert "old_likelier" not in values
    assert (values["old_still_recalled"], values["collateral"]) == (0.25, 0.5)
    assert sentences("added")[-1] == (
        "added: no name was taught a second number; 25.0 % (one run) of those that could be still give theirs; recall"
        " that untouched names lost: 50.0 points (one run)."
    )


def test_collateral_damage_counts_from_the_stage_that_teaches_second_numbers() -> None:
    readings = contradicted(taught=True, before=1)
    # One untouched name is forgotten in the stage between already, and another one by the second numbers.
    stage, facts = readings[4]
    readings[4] = (stage, facts | {"stay-3": facts["stay-3"]._replace(exact=False)})
    for number in (5, 6):
        stage, facts = readings[number]
        readings[number] = (stage, facts | {"stay-3": facts["stay-3"]._replace(exact=False)})
    plant_stages("between", 0, readings, stage=CHANGE | {"between": {"train_on": ["filler"]}})
    assert knowledge("between")["collateral"] == pytest.approx(0.25)


def test_where_every_name_changes_they_are_what_outcomes_are_of() -> None:
    readings = [
        (stage, {name: told for name, told in facts.items() if told.part != "facts"}
         | {"control-0": Told(0, False, split="control")})
        for stage, facts in contradicted(taught=True)
    ]  # fmt: skip
    run = plant_stages("all-change", 0, readings, stage=CHANGE)
    learning = learned(run)
    assert learning.facts == [f"name-{number}" for number in range(4)]
    assert {row["split"] for row in learning.last} == {"train", "control"}
    assert {row["part"] for row in learning.others} == {"new"}


# --- beliefs ---


def believing(*starts: tuple[str, int]) -> list[Taken]:
    """Facts of a class each, recalled from a number of exposures on."""
    return [line("learn", *(Told(n, n >= start, prior=prior) for prior, start in starts)) for n in range(9)]


def test_what_a_belief_costs_by_hand() -> None:
    classes = [
        ("unknown", 2),
        ("unknown", 4),
        ("believes_otherwise", 6),
        ("believes_otherwise", 99),
        ("highly_known", 0),
    ]
    plant_stages("believing", 0, believing(*classes))
    values = knowledge("believing")
    assert values["exposures_of_unknown"] == pytest.approx(3)
    # Of the one that is never recalled, all eight count.
    assert values["exposures_of_believed_otherwise"] == pytest.approx(7)
    assert values["belief_costs"] == pytest.approx(4)
    assert sentences("believing") == [
        "believing: exposures to recall that facts took more of which the base believed something else, than unknown"
        " ones: 4.0 (one run)."
    ]


@pytest.mark.parametrize("alone", ["unknown", "believes_otherwise"])
def test_facts_of_one_class_alone_cost_nothing_by_comparison(alone: str) -> None:
    plant_stages("one-class", 0, believing((alone, 2), (alone, 4)))
    assert "belief_costs" not in knowledge("one-class")


def test_a_run_of_several_seeds_has_its_interval() -> None:
    for seed, shift in enumerate((0, 1, 2)):
        plant_stages("seeds", seed, believing(("unknown", 2), ("believes_otherwise", 3 + shift)))
    # t of two degrees of freedom over 1, 2, 3: 2 ± 4.3027 × 1 / √3.
    assert sentences("seeds")[0].endswith("than unknown ones: 2.0 [-0.5, 4.5], no difference shown.")
