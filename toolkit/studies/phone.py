"""Phone numbers: does a model learn patterned numbers faster than random ones?

{"id": "phone-007", "prompt": "第7个电话号码是：", "answer": "39504711826", "split": "train", "foil": "80215553901"}

A pattern is a function that draws one number digit by digit: `digit(i)` draws a free digit for position i, `choose(n)`
a number below n. Because it may draw in no other way, the same function called with a counter instead of a generator
gives the exact size of its support, and so its entropy. To add a group: one function, one line of PATTERNS, one recipe.
"""

import math
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.metrics.information import entropy_bits, entropy_of_distinct
from toolkit.studies.built import Built

Digit = Callable[[int], str]
Choose = Callable[[int], int]


def draw_random(digit: Digit, choose: Choose, digits: int) -> str:
    """39504711826: every digit free."""
    return "".join(digit(i) for i in range(digits))


def draw_mirrored(digit: Digit, choose: Choose, digits: int) -> str:
    """39504740593: a palindrome."""
    half = [digit(i) for i in range((digits + 1) // 2)]
    return "".join(half + half[: digits // 2][::-1])


def draw_antisymmetric(digit: Digit, choose: Choose, digits: int) -> str:
    """39504759406 (middle digit free): each digit and its mirror image add up to nine."""
    half = [digit(i) for i in range((digits + 1) // 2)]
    return "".join(half + [str(9 - int(d)) for d in half[: digits // 2][::-1]])


def draw_repeated(digit: Digit, choose: Choose, digits: int) -> str:
    """33399990000: one digit a third of the times, one for the next third, one for the rest (3, 4, 4 of 11)."""
    first, second = digits // 3, (digits - digits // 3) // 2
    third = digits - first - second
    return digit(0) * first + digit(first) * second + digit(first + second) * third


def draw_halves(digit: Digit, choose: Choose, digits: int) -> str:
    """39504739504 (middle digit free): the first half again after the middle."""
    first = "".join(digit(i) for i in range(digits // 2))
    middle = digit(digits // 2) if digits % 2 else ""
    return first + middle + first


def draw_ascending(digit: Digit, choose: Choose, digits: int) -> str:
    """00134445789: no digit is smaller than the one before it."""
    rank = choose(math.comb(digits + 9, 9))
    number = []
    value = 0
    for left in range(digits, 0, -1):
        # Numbers that go on with `value` come first; skip whole blocks of them until the rank lies in one.
        while rank >= (block := math.comb(left - 1 + 9 - value, 9 - value)):
            rank -= block
            value += 1
        number.append(str(value))
    return "".join(number)


PATTERNS: dict[str, Callable[[Digit, Choose, int], str]] = {
    "random": draw_random,
    "mirrored": draw_mirrored,
    "antisymmetric": draw_antisymmetric,
    "repeated": draw_repeated,
    "halves": draw_halves,
    "ascending": draw_ascending,
}
PatternName = Literal["random", "mirrored", "antisymmetric", "repeated", "halves", "ascending"]


PARAPHRASES = ["号码{index}是多少？答：", "The phone number of entry {index} is "]


class Pattern(NamedTuple):
    """What is exactly known of a pattern's numbers."""

    support: int
    """How many different numbers there are."""
    rule_only_digits: float
    """Expected share of digits right, teacher-forced, for who knows the rule and no number."""


def describe(pattern: str, digits: int, prefix: str = "") -> Pattern:
    """Support and rule-only digit accuracy of a pattern, by counting what its function draws.

    Raises UserError where the prefix says something of a digit that the pattern does not leave free.
    """
    classes = parse_prefix(prefix, digits)
    drawn: dict[int, int] = {}
    numbers: list[int] = []

    def count_digit(position: int) -> str:
        drawn[position] = len(classes[position])
        return classes[position][0]

    def count_choice(n: int) -> int:
        numbers.append(n)
        return 0

    PATTERNS[pattern](count_digit, count_choice, digits)
    for position, allowed in enumerate(classes):
        if len(allowed) < 10 and position not in drawn:
            raise UserError(
                f'[data] prefix = "{prefix}" says what digit {position + 1} is, which pattern = "{pattern}" does not'
                f" leave free{free_digits(drawn)}."
            )
    support = math.prod(drawn.values()) * math.prod(numbers)
    if pattern == "ascending":
        # Best is to guess the digit before again (0 at first). Numbers with such a repetition at a given place are
        # as many as numbers one digit shorter: C(digits + 8, 9) of C(digits + 9, 9).
        return Pattern(support, digits / (digits + 9))
    determined = digits - len(drawn)
    return Pattern(support, (sum(1 / n for n in drawn.values()) + determined) / digits)


def free_digits(drawn: Iterable[int]) -> str:
    places = ", ".join(str(position + 1) for position in sorted(drawn))
    return f": free are {places}" if places else " (none is)"


def parse_prefix(prefix: str, digits: int) -> list[str]:
    """Digits allowed at each position: "1[3-9]" allows "1", then "3456789", then every digit."""
    parts = re.findall(r"[0-9]|\[[0-9-]+\]", prefix)
    if "".join(parts) != prefix:
        raise UserError(f'[data] prefix = "{prefix}": digits and classes such as "1[3-9]" are understood.')
    classes = []
    for part in parts:
        try:
            allowed = [digit for digit in "0123456789" if re.fullmatch(part, digit)]
        except re.error:
            allowed = []
        if not allowed:
            raise UserError(f'[data] prefix = "{prefix}": {part} allows no digit.')
        classes.append("".join(allowed))
    if len(classes) > digits:
        raise UserError(f'[data] prefix = "{prefix}" is longer than {digits} digits.')
    return classes + ["0123456789"] * (digits - len(classes))


def allowed_next(pattern: str, digits: int, prefix: str, so_far: str) -> str:
    """The digits that may follow the first ones, `so_far`, of a number of a pattern.

    A pattern's function draws a free digit for its own place, and determines the others by digits before them.
    """
    if pattern == "ascending":
        return "0123456789"[int(so_far[-1:] or 0) :]
    classes = parse_prefix(prefix, digits)
    place = len(so_far)
    drawn: set[int] = set()

    def given(position: int) -> str:
        drawn.add(position)
        return so_far[position] if position < place else classes[position][0]

    number = PATTERNS[pattern](given, lambda n: 0, digits)
    return classes[place] if place in drawn else number[place]


def draw_numbers(
    pattern: str, digits: int, prefix: str, count: int, rng: random.Random, *, duplicates: bool, avoid: set[str]
) -> list[str]:
    """`count` numbers of a pattern, none of them in `avoid`, distinct unless `duplicates`."""
    classes = parse_prefix(prefix, digits)
    taken = set(avoid)
    numbers: list[str] = []
    while len(numbers) < count:
        number = PATTERNS[pattern](lambda i: rng.choice(classes[i]), rng.randrange, digits)
        if number in taken:
            continue
        numbers.append(number)
        if not duplicates:
            taken.add(number)
    return numbers


def refuse_question(name: str, question: str, place: str) -> None:
    if place not in question or re.search(r"[{}]", question.replace(place, "")):
        raise UserError(f'[data] {name} = "{question}": it must contain {place}, and no other braces.')


def refuse_too_many(support: int, count: int, controls: int) -> None:
    if count + controls > support:
        raise UserError(
            f"[data] {count} trained and {controls} control numbers do not fit into the {support} different numbers"
            " that pattern, digits and prefix allow: lower count or controls."
        )


def build(
    data_seed: int,
    assignment_seed: int,
    pattern: Annotated[PatternName, Field(description="What numbers look like.")] = "random",
    count: Annotated[int, Field(ge=1, le=100_000, description="How many numbers are trained.")] = 100,
    controls: Annotated[
        int, Field(ge=0, le=100_000, description="How many numbers of the same kind are never trained.")
    ] = 100,
    digits: Annotated[int, Field(ge=1, le=30, description="Digits a number.")] = 11,
    prefix: Annotated[str, Field(description='What a number starts with, such as "1[3-9]" for a Chinese mobile.')] = "",
    duplicates: Annotated[bool, Field(description="Whether trained numbers may repeat, as in the original.")] = False,
    shuffle_indices: Annotated[
        bool,
        Field(description="Draw trained and control indices from 1 … count + controls; else trained ones are first."),
    ] = True,
    prompt: Annotated[
        str, Field(description="The question; {index} is the number's index.")
    ] = "第{index}个电话号码是：",
    paraphrases: Annotated[
        list[str], Field(description="Other questions for the trained numbers, asked and never trained.")
    ] = PARAPHRASES,
    reverse: Annotated[
        str, Field(description='Asks for the index of {number}, which is never trained; "" for not at all.')
    ] = "电话号码{number}是第几个？第",
) -> Built:
    """Trained and control numbers with foils, other questions for the trained ones, and what is known of their entropy.

    Raises UserError where the pattern has fewer numbers than are asked for, or a question lacks {index} or {number}.
    """
    for name, question in (("prompt", prompt), *(("paraphrases", other) for other in paraphrases)):
        refuse_question(name, question, "{index}")
    if reverse:
        refuse_question("reverse", reverse, "{number}")
    if prompt in paraphrases:
        raise UserError(f'[data] paraphrases: "{prompt}" is the trained prompt itself.')
    known = describe(pattern, digits, prefix)
    # With the pattern's name in it, so that groups of one seed do not repeat one another's digits.
    rng = random.Random(f"{data_seed}/{pattern}")
    if not duplicates:
        refuse_too_many(known.support, count, controls)
    trained = draw_numbers(pattern, digits, prefix, count, rng, duplicates=duplicates, avoid=set())
    # Numbers that repeat leave more for controls, but perhaps still not enough.
    refuse_too_many(known.support, len(set(trained)), controls)
    held_out = draw_numbers(pattern, digits, prefix, controls, rng, duplicates=False, avoid=set(trained))
    indices = list(range(1, count + controls + 1))
    if shuffle_indices:
        random.Random(assignment_seed).shuffle(indices)
    support_bits = entropy_bits(known.support)
    examples = list(numbered(trained, held_out, indices, prompt))
    # A number that repeats has no one index.
    once = [trained.count(number) == 1 for number in trained] if duplicates else [True] * count
    asked = [
        variant
        for example, unique in zip(examples, once, strict=False)
        for variant in variants(example, paraphrases, reverse if unique else "")
    ]
    return Built(
        examples=examples + asked,
        entropy_bits=support_bits if duplicates else entropy_of_distinct(known.support, count),
        rule_only_bits=support_bits,
        rule_only_digits=known.rule_only_digits,
        answer_digits=digits,
        prompt_choices=count + controls if shuffle_indices else count,
    )


def numbered(trained: list[str], held_out: list[str], indices: list[int], prompt: str) -> Iterator[Example]:
    """An example a number, with its index; the foil of a trained prompt is a number that is never trained."""
    width = len(str(len(indices)))
    for position, (number, index) in enumerate(zip(trained + held_out, indices, strict=True)):
        is_trained = position < len(trained)
        identity = f"phone-{index:0{width}d}"
        yield Example(
            id=identity,
            fact=identity,
            prompt=prompt.replace("{index}", str(index)),
            answer=number,
            split="train" if is_trained else "control",
            foil=held_out[position % len(held_out)] if is_trained and held_out else None,
            info={"index": index},
        )


def variants(example: Example, paraphrases: list[str], reverse: str) -> Iterator[Example]:
    """A trained number asked for in other words, and its index asked for: what a model has learned beyond the line."""
    index = str(example.info["index"])
    questions = [(f"paraphrase-{i}", other.replace("{index}", index), example.answer)
                 for i, other in enumerate(paraphrases, start=1)]  # fmt: skip
    if reverse:
        questions.append(("reversed", reverse.replace("{number}", example.answer), index))
    for variant, question, answer in questions:
        yield Example(f"{example.id}-{variant}", example.fact, question, answer, "test", variant, info=example.info)
