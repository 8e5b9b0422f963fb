"""Names and numbers: who is trained, held out, changed, added and filler, and that none of them shares anything."""

import math
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import Example, to_jsonl
from toolkit.recipe import read_recipe
from toolkit.studies import build_data, names
from toolkit.studies.names import PARAPHRASES, TITLE, build, draw_names, draw_numbers

RECIPES = Path(__file__).parents[1] / "recipes"
EVERYTHING: dict[str, Any] = {"count": 30, "controls": 20, "changed": 10, "added": 15, "fillers": 25}


def plain(examples: list[Example]) -> list[Example]:
    """Each name asked for its number as it is trained, or would be."""
    return [example for example in examples if example.variant == "plain"]


def names_of(examples: list[Example]) -> list[str]:
    return [example.info["name"] for example in examples]


def by_part(examples: list[Example]) -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for example in plain(examples):
        found.setdefault("control" if example.split == "control" else example.part, []).append(example)
    return found


# --- who is in which part ---


def test_every_part_has_as_many_names_as_were_asked_for() -> None:
    parts = by_part(build(0, 0, **EVERYTHING).examples)
    sizes = {part: len(examples) for part, examples in parts.items()}
    assert sizes == {"facts": 20, "old": 10, "new": 10, "control": 20, "added": 15, "filler": 25}


def test_no_name_and_no_number_occurs_twice_but_those_that_change() -> None:
    parts = by_part(build(0, 0, **EVERYTHING).examples)
    # The new numbers are those of the old names, and of nobody else.
    assert names_of(parts["new"]) == names_of(parts["old"])
    everybody = [name for part, examples in parts.items() if part != "new" for name in names_of(examples)]
    assert len(set(everybody)) == len(everybody) == 30 + 20 + 15 + 25
    numbers = [example.answer for examples in parts.values() for example in examples]
    assert len(set(numbers)) == len(numbers) == 30 + 20 + 15 + 25 + 10


def test_a_changed_name_is_asked_alike_and_its_new_number_is_a_fact_of_its_own() -> None:
    parts = by_part(build(0, 0, **EVERYTHING).examples)
    for old, new in zip(parts["old"], parts["new"], strict=True):
        assert (new.prompt, new.id, new.fact) == (old.prompt, f"{old.id}-new", f"{old.fact}-new")
        assert new.wrong == (old.answer,)
        assert new.answer != old.answer
        assert old.wrong == ()


def test_only_names_that_are_trained_first_are_asked_otherwise() -> None:
    examples = build(0, 0, **EVERYTHING).examples
    asked = [example for example in examples if example.split == "test"]
    assert Counter(example.variant for example in asked) == dict.fromkeys(
        ("paraphrase-1", "paraphrase-2", "reversed"), 30
    )
    own = {example.fact: example for example in plain(examples)}
    for example in asked:
        fact = own[example.fact]
        assert fact.part == example.part
        assert fact.part in ("facts", "old")
        if example.variant == "reversed":
            assert (example.prompt, example.answer) == (f"Whose number is {fact.answer}? ", fact.info["name"])
        else:
            assert example.answer == fact.answer
            assert fact.info["name"] in example.prompt
            assert fact.answer not in example.prompt
    assert not any(example.split == "test" for example in build(0, 0, otherwise=False, **EVERYTHING).examples)


def test_ids_are_unique_and_facts_are_named_by_them() -> None:
    examples = build(0, 0, **EVERYTHING).examples
    assert len({example.id for example in examples}) == len(examples)
    assert all(example.fact == example.id for example in plain(examples))


def test_a_foil_is_a_controls_number_and_only_what_is_trained_first_has_one() -> None:
    parts = by_part(build(0, 0, **EVERYTHING).examples)
    held_out = {example.answer for example in parts["control"]}
    for part, examples in parts.items():
        has = part in ("facts", "old", "new")
        assert all((example.foil in held_out) if has else example.foil is None for example in examples)
    assert all(example.foil is None for example in build(0, 0, count=5, controls=0).examples)


def test_only_trained_names_are_of_the_split_train() -> None:
    for part, examples in by_part(build(0, 0, **EVERYTHING).examples).items():
        assert {example.split for example in examples} == {"control" if part == "control" else "train"}


# --- names and numbers ---


def test_leading_zeros_are_kept_and_numbers_are_distinct() -> None:
    numbers = draw_numbers(1000, 3, random.Random(0))
    # All thousand numbers of three digits.
    assert sorted(numbers) == [f"{number:03d}" for number in range(1000)]
    with pytest.raises(UserError, match="there are 1000 numbers of 3 digits, and 1001 are wanted"):
        draw_numbers(1001, 3, random.Random(0))


@pytest.mark.parametrize("digits", [1, 10, 18, 19, 30])
def test_numbers_of_every_length_are_drawn_evenly(digits: int) -> None:
    # Of 19 digits and more there are too many for Python's own sampling.
    numbers = (
        draw_numbers(10, digits, random.Random(0)) if digits == 1 else draw_numbers(2000, digits, random.Random(0))
    )
    assert len(set(numbers)) == len(numbers)
    assert {len(number) for number in numbers} == {digits}
    if digits > 1:
        first, last = (Counter(number[place] for number in numbers) for place in (0, -1))
        for found in (first, last):
            # 200 of each, sd 13.4.
            assert all(abs(found[digit] - 200) < 5 * 13.4 for digit in "0123456789")


def test_titles_make_no_other_person() -> None:
    drawn = draw_names("en_US", 10_000, 1)
    assert any(TITLE.search(name) for name in drawn)
    bare = [TITLE.sub("", name) for name in drawn]
    assert len(set(bare)) == len(bare) == 10_000


def test_titles_are_those_that_faker_has() -> None:
    from faker.providers.person.en_US import Provider

    found = [*Provider.prefixes_female, *Provider.prefixes_male]
    assert all(TITLE.sub("", f"{title} Dana Whitfield") == "Dana Whitfield" for title in found)
    ends = [*Provider.suffixes_female, *Provider.suffixes_male]
    # A Roman number tells a son from his father: that is another person.
    stays = {end for end in ends if TITLE.sub("", f"Dana Whitfield {end}") != "Dana Whitfield"}
    assert stays <= {"I", "II", "III", "IV", "V"}


@pytest.mark.parametrize("locale", ["en_US", "zh_CN"])
def test_ten_thousand_names_take_seconds(locale: names.Locale) -> None:
    started = time.process_time()
    examples = build(0, 0, count=5000, controls=5000, locale=locale).examples
    # 1 s here; the limit only catches what is not linear.
    assert time.process_time() - started < 30
    assert len({example.info["name"] for example in examples}) == 10_000


def test_more_names_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import faker

    class Poor:
        def __init__(self, locale: str) -> None:
            self.drawn = 0

        def seed_instance(self, seed: int) -> None:
            pass

        def name(self) -> str:
            self.drawn += 1
            return f"Name {self.drawn % 3}"

    monkeypatch.setattr(faker, "Faker", Poor)
    assert sorted(draw_names("en_US", 3, 0)) == ["Name 0", "Name 1", "Name 2"]
    with pytest.raises(UserError, match="only 3 en_US names or a few more, and 4 are wanted"):
        draw_names("en_US", 4, 0)


def test_more_people_than_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="there are 10 numbers of 1 digits, and 11 are wanted"):
        build(0, 0, count=5, controls=5, changed=1, digits=1)
    assert len(plain(build(0, 0, count=5, controls=4, changed=1, digits=1).examples)) == 10


def test_chinese_names_are_asked_in_chinese() -> None:
    examples = build(0, 0, count=3, controls=1, locale="zh_CN", digits=6).examples
    first, name = examples[0], examples[0].info["name"]
    assert not name.isascii()
    assert " " not in name
    asked = [example.prompt for example in examples if example.fact == first.fact]
    assert asked == [
        f"{name}的6位号码是：", f"要找{name}，请拨打", f"属于{name}的号码是", f"{first.answer}是谁的号码？",
    ]  # fmt: skip


# --- seeds ---


def test_the_same_seeds_give_the_same_bytes() -> None:
    assert to_jsonl(build(1, 2, **EVERYTHING).examples) == to_jsonl(build(1, 2, **EVERYTHING).examples)


def test_the_first_people_are_the_same_on_every_machine() -> None:
    recipe = read_recipe(RECIPES / "names.toml")
    first = [build_data(recipe, seed).examples[0] for seed in range(5)]
    assert [(example.info["name"], example.answer) for example in first] == [
        ("Terri Mitchell", "3240695503"),
        ("Christopher Sanford", "4463478338"),
        ("Amanda Gonzales", "9656073594"),
        ("Beth Crawford", "7877052676"),
        ("Randy Hunt", "6667545129"),
    ]


def test_names_numbers_and_assignment_follow_their_seeds() -> None:
    base, other_data, other_assignment = (
        plain(build(*seeds, **EVERYTHING).examples) for seeds in ((1, 2), (9, 2), (1, 9))
    )
    assert not {example.answer for example in base} & {example.answer for example in other_data}
    assert set(names_of(base)) != set(names_of(other_data))
    # Another assignment: the same names and the same numbers, and who has which and is trained differs.
    assert set(names_of(base)) == set(names_of(other_assignment))
    assert [example.answer for example in base] == [example.answer for example in other_assignment]
    assert [example.prompt for example in base] != [example.prompt for example in other_assignment]
    trained = [{*names_of(by_part(examples)["facts"])} for examples in (base, other_assignment)]
    assert trained[0] != trained[1]


def test_runs_of_a_recipe_have_people_and_numbers_of_their_own() -> None:
    recipe = read_recipe(RECIPES / "names.toml")
    numbers = [{example.answer for example in plain(build_data(recipe, seed).examples)} for seed in recipe.seeds]
    assert len(set.union(*numbers)) == len(recipe.seeds) * 200


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("names", "names/sft_more"), ("names", "names/dpo_own_mistake"), ("names_contradiction", "names/addition"),
        ("names_exam", "names_passive"), ("names_exam", "names_leitner"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["", "tiny/"])
def test_arms_and_their_controls_have_the_very_same_facts(one: str, other: str, folder: str) -> None:
    recipes = [read_recipe(RECIPES / f"{folder}{name}.toml") for name in (one, other)]
    built = [build_data(recipe, 3) for recipe in recipes]
    assert built[0] == built[1]
    assert recipes[0].seeds == recipes[1].seeds
    assert recipes[0].compare == recipes[1].compare


# --- entropies ---


def test_ten_digits_carry_their_bits() -> None:
    built = build(0, 0)
    assert built.rule_only_bits == pytest.approx(33.2193, abs=5e-5)
    assert built.entropy_bits == pytest.approx(33.2193, abs=5e-5)
    assert (built.answer_digits, built.rule_only_digits, built.prompt_choices) == (10, 0.1, None)


def test_entropy_is_less_the_draws_before_by_hand() -> None:
    # Of ten numbers of one digit, three are drawn: log2 10, log2 9 and log2 8, on average.
    by_hand = (math.log2(10) + math.log2(9) + 3) / 3
    assert build(0, 0, count=3, controls=2, digits=1).entropy_bits == pytest.approx(by_hand)
    # Outcomes are of the names that stay: of five, two change, and three are left.
    assert build(0, 0, count=5, controls=0, changed=2, digits=1).entropy_bits == pytest.approx(by_hand)
    assert build(0, 0, count=3, controls=0, digits=1).rule_only_bits == pytest.approx(math.log2(10))


# --- what is refused ---


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ('prompt = "no name": it must contain {name}', {"prompt": "no name"}),
        ('prompt = "{name} {number}": it must contain', {"prompt": "{name} {number}"}),
        ('prompt = "{name}}": it must contain', {"prompt": "{name}}"}),
        ('prompt = "{ name }": it must contain', {"prompt": "{ name }"}),
        ('paraphrases = "Who\\?": it must contain {name}', {"paraphrases": ["Call {name}: ", "Who?"]}),
        ("is the trained prompt itself", {"prompt": "{name}: ", "paraphrases": ["{name}: "]}),
        ("is there twice", {"paraphrases": ["{name}! ", "{name}! "]}),
        ('reverse = "Who is {name}": it must contain {number}', {"reverse": "Who is {name}"}),
        ("changed = 6 of count = 5 names", {"count": 5, "changed": 6}),
    ],
)
def test_what_cannot_be_asked_is_refused(said: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=said):
        build(0, 0, **changes)


def test_other_words_are_asked_as_they_are_said() -> None:
    said: dict[str, Any] = {
        "prompt": "{name} ({digits}): ",
        "paraphrases": ["{name}, {name}! "],
        "reverse": "{number}, {digits}? ",
    }
    examples = build(0, 0, count=1, controls=0, digits=4, **said).examples
    name, number = examples[0].info["name"], examples[0].answer
    assert [(e.variant, e.prompt) for e in examples] == [
        ("plain", f"{name} (4): "), ("paraphrase-1", f"{name}, {name}! "), ("reversed", f"{number}, 4? "),
    ]  # fmt: skip
    assert len(PARAPHRASES["en_US"]) == len(PARAPHRASES["zh_CN"]) == 2
