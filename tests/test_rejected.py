"""Every kind of rejected answer is what it says it is, is never right, and is the same for the same seed."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering import fact_numbers, pair_rows
from toolkit.studies import names
from toolkit.training.rejected import KINDS, rejected_answers

NUMBERS = ["0139475562", "7731094425", "5520718846", "0000000000", "9999999999", "1234567890", "4444444444"]


def question(number: int, answer: str, **more: Any) -> Example:
    return Example(
        f"name-{number}", f"name-{number}", f"What is the number of person {number}? ", answer, "train", **more
    )


PEOPLE = [question(i, number, foil="8675309123") for i, number in enumerate(NUMBERS)]


def differing(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "given"])
def test_no_rejected_answer_is_right(kind: str) -> None:
    for seed in range(200):
        for example, wrong in zip(PEOPLE, rejected_answers(PEOPLE, kind, seed), strict=True):
            assert wrong != example.answer
            assert len(wrong) == 10
            assert wrong.isdigit()


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_seed_decides(kind: str) -> None:
    people = [replace(example, wrong=("1", "2", "3", "4")) for example in PEOPLE]
    drawn = [rejected_answers(people, kind, seed) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_another_persons_number_belongs_to_another_person_and_may_be_anyones() -> None:
    found: dict[str, set[str]] = {example.answer: set() for example in PEOPLE}
    for seed in range(300):
        for example, wrong in zip(PEOPLE, rejected_answers(PEOPLE, "other_person", seed), strict=True):
            found[example.answer].add(wrong)
    assert found == {number: set(NUMBERS) - {number} for number in NUMBERS}


def test_everybody_else_is_drawn_alike() -> None:
    """The first of seven people: each of the others' numbers a sixth of 3,000 times (standard deviation 20)."""
    drawn = [rejected_answers(PEOPLE, "other_person", seed)[0] for seed in range(3000)]
    assert {number for number in NUMBERS if drawn.count(number)} == set(NUMBERS[1:])
    assert max(abs(drawn.count(number) - 500) for number in NUMBERS[1:]) < 5 * 20.5


def test_the_other_number_of_the_same_person_is_not_another_persons() -> None:
    """An old and a new number of one name, both trained: each would be rejected in favour of the other."""
    old, new = question(1, "0139475562"), replace(question(1, "7731094425"), id="name-1-new", fact="name-1-new")
    people = [old, new, question(2, "5520718846")]
    for seed in range(50):
        wrong = rejected_answers(people, "other_person", seed)
        assert wrong[:2] == ["5520718846"] * 2
        assert wrong[2] in ("0139475562", "7731094425")
    with pytest.raises(UserError, match="other_person"):
        rejected_answers([old, new], "other_person", 0)


def test_the_same_answer_of_two_people_is_none_of_anothers() -> None:
    with pytest.raises(
        UserError, match='rejected = "other_person" cannot be had for name-1 .*all answers are the same'
    ):
        rejected_answers([question(1, "12"), question(2, "12")], "other_person", 0)


def test_one_digit_off_differs_in_exactly_one_digit_and_every_place_is_met() -> None:
    places = set()
    for seed in range(200):
        for example, wrong in zip(PEOPLE, rejected_answers(PEOPLE, "one_digit_off", seed), strict=True):
            assert differing(wrong, example.answer) == 1
            places.add(next(i for i, pair in enumerate(zip(wrong, example.answer, strict=True)) if len(set(pair)) == 2))
    assert places == set(range(10))


def test_one_digit_off_changes_a_digit_of_a_text_and_no_letter() -> None:
    # The trap: ² and ٣ are digits to Python, and none that could be changed for another of ours.
    for seed in range(50):
        wrong = rejected_answers([question(1, "Room ²٣ 47b")], "one_digit_off", seed)[0]
        assert differing(wrong, "Room ²٣ 47b") == 1
        assert wrong.startswith("Room ²٣ ")
        assert wrong.endswith("b")


def test_a_random_number_is_nobodys_even_where_few_are_left() -> None:
    """Seven of ten digits are trained, and two are foils: only one is nobody's."""
    people = [question(i, str(i), foil=str(7 + i % 2)) for i in range(7)]
    assert rejected_answers(people, "random", 0) == ["9"] * 7
    with pytest.raises(UserError, match="every number of its length is taken"):
        rejected_answers([*people, question(9, "9")], "random", 0)


def test_a_random_number_keeps_the_length_of_each_answer() -> None:
    people = [question(1, "007"), question(2, "12345"), question(3, "00000000")]
    assert [len(wrong) for wrong in rejected_answers(people, "random", 0)] == [3, 5, 8]


def test_given_answers_come_from_the_study_and_the_right_one_is_none_of_them() -> None:
    people = [question(1, "Paris", wrong=("Paris", "Rome", "Oslo")), question(2, "Lima", wrong=("Quito",))]
    drawn = [rejected_answers(people, "given", seed) for seed in range(50)]
    assert {wrong for wrong, _ in drawn} == {"Rome", "Oslo"}
    assert {wrong for _, wrong in drawn} == {"Quito"}
    with pytest.raises(
        UserError, match=r'"given" cannot be had for name-3 \(Paris\): this question comes with no wrong'
    ):
        rejected_answers([question(3, "Paris", wrong=("Paris",))], "given", 0)


def test_before_a_mistake_of_its_own_is_known_a_near_miss_stands_in_or_anothers_answer() -> None:
    assert differing(rejected_answers(PEOPLE, "own_mistake", 0)[0], PEOPLE[0].answer) == 1
    assert rejected_answers([question(1, "Paris"), question(2, "Lima")], "own_mistake", 0) == ["Lima", "Paris"]
    with pytest.raises(UserError, match="own_mistake"):
        rejected_answers([question(1, "Paris")], "own_mistake", 0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_text_is_said_to_be_one_whatever_is_rejected(kind: str) -> None:
    texts = [
        Example(f"article-{i}", f"article-{i}", "", f"A bridge in {place}.", "train") for i, place in enumerate("AB")
    ]
    with pytest.raises(UserError, match="article-0 is a text without a question: preference training needs questions"):
        rejected_answers(texts, kind, 0)


@pytest.mark.parametrize("kind", ["one_digit_off", "random"])
def test_words_have_no_digits_to_change_or_draw(kind: str) -> None:
    with pytest.raises(UserError, match=f'rejected = "{kind}" cannot be had for name-1 \\(Paris\\)'):
        rejected_answers([question(1, "Paris"), question(2, "Lima")], kind, 0)


def test_names_that_change_their_number_come_with_the_old_one_to_reject() -> None:
    built = names.build(1, 2, count=6, controls=2, changed=3)
    old = {
        example.fact: example.answer for example in built.examples if example.part == "old" and example.split == "train"
    }
    new = [example for example in built.examples if example.part == "new"]
    assert rejected_answers(new, "given", 0) == [old[example.fact.removesuffix("-new")] for example in new]


def test_a_hundred_thousand_are_drawn_in_seconds() -> None:
    import time

    many = [question(i, f"{i:010d}") for i in range(100_000)]
    begun = time.monotonic()
    for kind in ("other_person", "one_digit_off", "random"):
        assert len(rejected_answers(many, kind, 0)) == 100_000
    assert time.monotonic() - begun < 20


# --- as rows ---


@pytest.fixture(scope="module")
def tokenizer(engine: ModuleType) -> Any:
    from toolkit.models.from_scratch import train_tokenizer

    return train_tokenizer([example.prompt + example.answer for example in PEOPLE] * 20, 330)


def test_a_pair_is_one_prompt_with_two_answers_each_with_its_end_mark(tokenizer: Any) -> None:
    wrong = rejected_answers(PEOPLE, "random", 0)
    rows = pair_rows(tokenizer, PEOPLE, wrong, "plain", fact_numbers(PEOPLE), 96)
    for example, rejected, row in zip(PEOPLE, wrong, rows, strict=True):
        assert tokenizer.decode(row["prompt_ids"]) == example.prompt
        assert tokenizer.decode(row["chosen_ids"]) == f"{example.answer}<|im_end|>"
        assert tokenizer.decode(row["rejected_ids"]) == f"{rejected}<|im_end|>"
    assert [row["facts"] for row in rows] == [[number] for number in range(len(PEOPLE))]


def test_a_rejected_answer_that_is_too_long_is_refused_and_one_that_just_fits_is_not(tokenizer: Any) -> None:
    example = question(1, "12", wrong=("1234567890",))
    length = len(tokenizer(example.prompt + "1234567890", add_special_tokens=False)["input_ids"]) + 1
    assert pair_rows(tokenizer, [example], ["1234567890"], "plain", {"name-1": 0}, length)
    said = rf"name-1 has {length} tokens with its rejected answer, over \[model\] max_length = {length - 1}"
    with pytest.raises(UserError, match=said):
        pair_rows(tokenizer, [example], ["1234567890"], "plain", {"name-1": 0}, length - 1)


def test_a_text_has_no_answer_to_prefer(tokenizer: Any) -> None:
    text = Example("article-1", "article-1", "", "Ostrany has a new bridge.", "train")
    with pytest.raises(UserError, match="article-1 is a text without a question: preference training needs questions"):
        pair_rows(tokenizer, [text], ["No."], "plain", {"article-1": 0}, 96)


def test_a_batch_has_the_right_answers_first_then_the_wrong_ones_and_each_fact_once(tokenizer: Any) -> None:
    from toolkit.training.collator import PairCollator

    people = [question(1, "123"), question(2, "4567")]
    rows = pair_rows(tokenizer, people, ["89", "01234"], "plain", fact_numbers(people), 96)
    rows = [row | {"ref_chosen_logps": -1.0 - i, "ref_rejected_logps": -3.0 - i} for i, row in enumerate(rows)]
    batch = PairCollator(0)(rows)
    said = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert said == ["123<|im_end|>", "4567<|im_end|>", "89<|im_end|>", "01234<|im_end|>"]
    asked = [
        tokenizer.decode(ids[(attended - mask).bool()])
        for ids, attended, mask in zip(
            *(batch[key] for key in ("input_ids", "attention_mask", "completion_mask")), strict=True
        )
    ]
    assert asked == [people[0].prompt, people[1].prompt] * 2
    assert batch["ref_chosen_logps"].tolist() == [-1, -2]
    assert batch["ref_rejected_logps"].tolist() == [-3, -4]
    assert batch["facts"].tolist() == [[0], [1]]


# --- the model's own mistakes ---


@pytest.mark.parametrize(
    ("said", "mistake"),
    [
        ("0139475563", True),
        ("0139475562", False),
        (" 0139475562 ", False),
        ("０１３９４７５５６２", False),  # the right number in full-width digits
        ("０１３９４７５５６３", True),
        ("139475562", False),
        ("01394755620", False),
        ("01394 5562", False),
        ("number one", False),
        ("", False),
        ("<|im_start|>3", False),
    ],
)
def test_a_mistake_of_its_own_is_wrong_and_has_as_many_digits(engine: ModuleType, said: str, mistake: bool) -> None:
    from toolkit.training.dpo import is_mistake

    assert is_mistake(said, "0139475562") is mistake


@pytest.mark.parametrize(
    ("said", "mistake"),
    [("Rome", True), ("Paris", False), (" Paris", False), ("Ｐaris", False), ("", False), (" ", False)],
)
def test_in_words_it_is_wrong_and_not_empty(engine: ModuleType, said: str, mistake: bool) -> None:
    from toolkit.training.dpo import is_mistake

    assert is_mistake(said, "Paris") is mistake
