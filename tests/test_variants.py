"""Trained numbers asked in other words and the other way round: never trained, of the same fact, and asked rightly."""

from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.studies.phone import PARAPHRASES, build


def test_every_trained_number_is_asked_otherwise_and_no_control_is():
    examples = build(0, 0, count=20, controls=10).examples
    trained = {example.fact: example for example in examples if example.split == "train"}
    asked = [example for example in examples if example.split == "test"]
    assert len(asked) == 20 * (len(PARAPHRASES) + 1)
    for example in asked:
        fact = trained[example.fact]
        index = str(fact.info["index"])
        if example.variant == "reversed":
            assert (example.prompt, example.answer) == (f"电话号码{fact.answer}是第几个？第", index)
        else:
            assert example.answer == fact.answer
            assert index in example.prompt
            assert fact.answer not in example.prompt
        assert example.prompt != fact.prompt


def test_other_questions_are_said_by_the_recipe_or_left_out():
    mine = build(0, 0, count=3, paraphrases=["Entry {index}? "], reverse="Whose is {number}? ").examples
    assert {example.variant for example in mine if example.split == "test"} == {"paraphrase-1", "reversed"}
    none = build(0, 0, count=3, paraphrases=[], reverse="").examples
    assert all(example.split != "test" for example in none)


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("paraphrases = .* must contain {index}", {"paraphrases": ["no index"]}),
        ("reverse = .* must contain {number}", {"reverse": "who?"}),
        ("is the trained prompt itself", {"prompt": "N {index}: ", "paraphrases": ["N {index}: "]}),
    ],
)
def test_a_question_without_its_place_is_refused(said, changes):
    with pytest.raises(UserError, match=said):
        build(0, 0, **changes)


def test_a_number_that_stands_twice_is_not_asked_for_its_index():
    examples = build(0, 0, digits=1, count=10, controls=0, duplicates=True).examples
    numbers = [example.answer for example in examples if example.split == "train"]
    twice = {number for number in numbers if numbers.count(number) > 1}
    assert twice
    assert not any(
        number in example.prompt for number in twice for example in examples if example.variant == "reversed"
    )


def test_other_questions_are_asked_at_the_first_and_the_last_reading_only(half_trained: Path):
    from toolkit.probes.recall import read_reading
    from toolkit.run_folder import Run

    readings = [read_reading(path) for path in Run(half_trained / "seed-0").readings()]
    asked = [{row["variant"] for row in rows} for rows in readings]
    everything = {"plain", "paraphrase-1", "paraphrase-2", "reversed"}
    assert asked == [everything, *[{"plain"}] * (len(readings) - 2), everything]
    # They are of the facts that were trained, and so have their exposures.
    last = {row["id"]: row for row in readings[-1]}
    for row in readings[-1]:
        if row["variant"] != "plain":
            assert row["exposures"] == last[row["fact"]]["exposures"] == 40


def test_how_far_back_each_fact_was_fed_is_known(half_trained: Path):
    from toolkit.probes.recall import read_reading
    from toolkit.run_folder import Run

    rows = [row for row in read_reading(Run(half_trained / "seed-0").readings()[-1]) if row["split"] == "train"]
    # At the end of an epoch every fact was fed once since its beginning, one after another.
    assert sorted(row["since"] for row in rows) == list(range(len(rows)))
    first = read_reading(Run(half_trained / "seed-0").readings()[0])
    assert {row["since"] for row in first} == {None}
