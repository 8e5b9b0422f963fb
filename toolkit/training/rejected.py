"""Wrong answers that preference training rejects: another's, one digit off, random, given by the study, or its own.

Gold 0139475562 of one person: 7731094425 (another person's), 0139475862 (one digit off), 5520718846 (random).
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from toolkit.errors import UserError
from toolkit.example import Example

DIGITS = "0123456789"


class Answers(NamedTuple):
    """The answers of a stage's examples."""

    listed: list[str]
    """Each once."""
    known: frozenset[str]
    """With the foils, which no stage may touch."""
    of: dict[str, set[str]]
    """By prompt: one with two numbers, an old and a new one, has both."""


Draw = Callable[[Example, Answers, random.Random], str | None]


def other_person(example: Example, answers: Answers, rng: random.Random) -> str | None:
    """An answer that is trained for another prompt: a binding error."""
    listed, own = answers.listed, answers.of[example.prompt]
    if len(listed) <= len(own):
        return None
    while True:
        # They are distinct: the last one stands in for the right one, so that no list of the others is made.
        found = listed[rng.randrange(len(listed) - 1)]
        found = listed[-1] if found == example.answer else found
        if found not in own:
            return found


def one_digit_off(example: Example, answers: Answers, rng: random.Random) -> str | None:
    """The right answer with one of its digits changed: a near miss."""
    places = [place for place, sign in enumerate(example.answer) if sign in DIGITS]
    if not places:
        return None
    place = rng.choice(places)
    other = rng.choice([digit for digit in DIGITS if digit != example.answer[place]])
    return example.answer[:place] + other + example.answer[place + 1 :]


def drawn(example: Example, answers: Answers, rng: random.Random) -> str | None:
    """As many random digits as the right answer has, which are nobody's answer."""
    if not (example.answer.isascii() and example.answer.isdigit()):
        return None
    for _ in range(1000):
        number = "".join(rng.choice(DIGITS) for _ in example.answer)
        if number not in answers.known:
            return number
    return None


def given(example: Example, answers: Answers, rng: random.Random) -> str | None:
    """One of the wrong answers that the study made for this question."""
    wrong = [answer for answer in example.wrong if answer != example.answer]
    return rng.choice(wrong) if wrong else None


def before_own_mistake(example: Example, answers: Answers, rng: random.Random) -> str | None:
    """What stands in where the model makes no mistake of its own: a near miss, or without digits another's."""
    return one_digit_off(example, answers, rng) or other_person(example, answers, rng)


KINDS: dict[str, tuple[Draw, str]] = {
    "other_person": (other_person, "it takes another trained answer, and all answers are the same"),
    "one_digit_off": (one_digit_off, "it changes a digit, and this answer has none"),
    "random": (drawn, "it draws digits, and this answer is no number, or every number of its length is taken"),
    "given": (given, "this question comes with no wrong answers"),
    "own_mistake": (before_own_mistake, "it needs digits or another answer to fall back on"),
}
"""How a wrong answer is found, and why there may be none."""


def rejected_answers(examples: list[Example], kind: str, seed: int) -> list[str]:
    """A wrong answer for each example, drawn from the seed. Raises UserError where an example has none of this kind,
    and for a text, which has no answer to prefer."""
    draw, why_not = KINDS[kind]
    rng = random.Random(seed)
    listed = list(dict.fromkeys(example.answer for example in examples))
    of: dict[str, set[str]] = {}
    for example in examples:
        if not example.is_question:
            raise UserError(f"{example.id} is a text without a question: preference training needs questions.")
        of.setdefault(example.prompt, set()).add(example.answer)
    answers = Answers(listed, frozenset(listed) | {example.foil for example in examples if example.foil}, of)
    found = []
    for example in examples:
        wrong = draw(example, answers, rng)
        if wrong is None:
            raise UserError(f'rejected = "{kind}" cannot be had for {example.id} ({example.answer}): {why_not}.')
        found.append(wrong)
    return found
