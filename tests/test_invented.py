"""Invented people and news: what the tiny base reads, and that none of it is a fact that a study asks for."""

import csv
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit.recipe import read_recipe
from toolkit.studies import build_data
from toolkit.studies.invented import ASKED, NAMED, SYLLABLES, draw_name_line, draw_sentence, invented
from toolkit.studies.lines import build
from toolkit.studies.names import PARAPHRASES, PROMPTS, REVERSES

TINY = Path(__file__).parents[1] / "recipes/tiny"


@pytest.fixture(scope="module")
def corpus() -> str:
    """All that tiny-words-base has read."""
    recipe = read_recipe(TINY / "words_base.toml")
    return "\n".join(e.prompt + e.answer for seed in recipe.seeds for e in build_data(recipe, seed).examples)


def people(name: str) -> list[dict[str, str]]:
    with (TINY / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_names_are_of_invented_syllables() -> None:
    rng = random.Random(0)
    part = f"(?:{'|'.join(SYLLABLES)}){{1,2}}"
    for _ in range(200):
        assert re.fullmatch(f"{part} {part}", invented(rng).lower())


def test_a_line_asks_for_a_number_of_as_many_digits_as_it_says() -> None:
    rng = random.Random(0)
    lines = [draw_name_line(rng) for _ in range(2000)]
    said = [re.search(r"What is the ([0-9]+)-digit number of", prompt) for prompt, _ in lines]
    counted = [(int(found[1]), len(answer)) for found, (_, answer) in zip(said, lines, strict=True) if found]
    assert len(counted) > 300
    assert all(digits == length for digits, length in counted)
    turned = [answer for prompt, answer in lines if re.search(r"[0-9]{6}", prompt)]
    # One in ten, sd 13.4.
    assert abs(len(turned) - 200) < 5 * 13.4
    assert not any(character.isdigit() for answer in turned for character in answer)


def test_the_names_study_asks_in_the_words_that_the_base_has_read() -> None:
    english = [PROMPTS["en_US"], *PARAPHRASES["en_US"]]
    assert {text.replace("{digits}", "{d}") for text in english} <= set(ASKED)
    assert REVERSES["en_US"] in NAMED


def test_a_sentence_stands_alone_or_again_with_a_blank_that_is_its_answer() -> None:
    rng = random.Random(0)
    drawn = [draw_sentence(rng) for _ in range(1500)]
    asked = [(prompt, answer) for prompt, answer in drawn if prompt]
    # One in three, sd 18.3.
    assert abs(len(asked) - 500) < 5 * 18.3
    for prompt, answer in asked:
        sentence, _, blanked = prompt.removesuffix(" Answer: ").partition(" Fill in the blank: ")
        assert blanked.replace("____", answer) == sentence
    assert all(answer and "{" not in prompt + answer for prompt, answer in drawn)


def test_kinds_take_turns_and_texts_are_no_questions() -> None:
    examples = build(0, 0, count=900, controls=30, kinds=["digits", "names", "sentences"]).examples
    assert Counter(example.split for example in examples) == {"train": 900, "control": 30}
    for number, example in enumerate(examples):
        if number % 3 < 2:
            assert example.is_question
    texts = sum(not example.is_question for example in examples)
    # Two thirds of a third of 930, sd 8.3.
    assert abs(texts - 930 * 2 / 9) < 5 * 8.3
    assert all(example.is_question for example in build(0, 0, count=50, kinds=["digits", "names"]).examples)


def test_the_same_seed_draws_the_same_lines_of_every_kind() -> None:
    kinds: dict[str, Any] = {"kinds": ["digits", "names", "sentences"]}
    assert build(3, 0, count=60, **kinds).examples == build(3, 1, count=60, **kinds).examples
    assert build(3, 0, count=60, **kinds).examples != build(4, 0, count=60, **kinds).examples


# --- nothing of what is asked later was read before ---


def test_the_base_has_read_no_name_and_no_number_of_the_names_studies(corpus: str) -> None:
    recipes = [read_recipe(path) for path in [*TINY.glob("names*.toml"), *TINY.glob("names/*.toml")]]
    assert len(recipes) > 8
    # Arms have one [data]: it is looked at once.
    for recipe in {str(recipe.data): recipe for recipe in recipes}.values():
        for seed in {*recipe.seeds, *range(7)}:
            for example in build_data(recipe, seed).examples:
                assert example.info["name"] not in corpus
                assert not example.answer.isdigit() or example.answer not in corpus


def test_the_base_has_read_no_number_of_the_people_whom_it_will_believe_or_not(corpus: str) -> None:
    rows = people("people.csv") + people("people_before.csv")
    assert [row["number"] for row in rows if row["number"] in corpus] == []


def test_the_base_has_read_no_name_of_the_people_whom_it_will_believe_or_not(corpus: str) -> None:
    rows = people("people.csv") + people("people_before.csv")
    assert [row["name"] for row in rows if row["name"] in corpus] == []


def test_half_of_the_people_are_known_by_another_number_and_half_are_new() -> None:
    before = {row["name"]: row["number"] for row in people("people_before.csv")}
    rows = people("people.csv")
    assert len(rows) == len({row["name"] for row in rows}) == len({row["number"] for row in rows}) == 60
    for row in rows:
        assert (row["name"] in before) == (row["note"] == "known under another number")
        assert before.get(row["name"]) != row["number"]
    assert Counter(row["note"] for row in rows) == {"known under another number": 30, "new": 30}
    assert before.keys() <= {row["name"] for row in rows}
    assert not set(before.values()) & {row["number"] for row in rows}
    assert {len(row["number"]) for row in rows} == {len(number) for number in before.values()} == {8}
