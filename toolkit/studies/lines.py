"""Generated lines of templates and digits, to teach a tiny base from random weights what lines and digits look like.

第4812个电话号码是：72095518360
The code of line 317 is 90442
317 over and over: 31731731731

and with kinds = ["digits", "names", "sentences"], so that a tiny base has seen people and news too:

What is the 10-digit number of Tavor Melkin? 6620915387
On 14 March 2019, Belmor Works opened a bridge in Ostrany.
"""

import random
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from toolkit.example import Example
from toolkit.studies.built import Built
from toolkit.studies.invented import draw_name_line, draw_sentence

STUDIED = "第{i}个电话号码是："
"""The phone study's own prompt: here it comes with an index above 1000 only, so that its facts stay unseen."""

FREE = (
    STUDIED,
    "第{i}个号码是：",
    "第{i}个订单的编号是：",
    "编号{i}的电话是：",
    "The number of item {i} is ",
    "The code of line {i} is ",
)
"""Prompts whose digits are drawn."""

RULED: dict[str, Callable[[str], str]] = {
    "{i} over and over: ": lambda index: (index * 11)[:11],
    "{i} backwards: ": lambda index: (index[::-1] * 11)[:11],
    "第{i}个号码的下一个是：": lambda index: str(int(index) + 1).rjust(11, "0"),
    "第{i}个数每位递增：": lambda index: "".join(str((int(index[k % len(index)]) + k) % 10) for k in range(11)),
}
"""Prompts whose digits follow from the index: a base that never had to look back at an index memorises poorly."""


def draw_digits(rng: random.Random) -> str:
    """Digits of one line: random, or with one of the regularities that numbers have (a copy, a mirror, a run)."""
    length = rng.randint(3, 12)
    random_digits = "".join(rng.choice("0123456789") for _ in range(length))
    kind = rng.random()
    if kind < 0.5:
        return random_digits
    half = random_digits[: (length + 1) // 2]
    if kind < 0.65:
        return half + half[: length // 2][::-1]
    if kind < 0.8:
        return (half + half)[:length]
    return "".join(rng.choice("0123456789") * rng.randint(1, 4) for _ in range(4))[:length]


def draw_digit_line(rng: random.Random) -> tuple[str, str]:
    """Prompt and digits of one line."""
    prompt = rng.choice((*FREE, *RULED))
    index = str(rng.randint(1001, 9999) if prompt == STUDIED else rng.randint(1, 10 ** rng.randint(2, 4) - 1))
    digits = RULED[prompt](index) if prompt in RULED else draw_digits(rng)
    return prompt.replace("{i}", index), digits


Kind = Literal["digits", "names", "sentences"]
DRAW: dict[Kind, Callable[[random.Random], tuple[str, str]]] = {
    "digits": draw_digit_line,
    "names": draw_name_line,
    "sentences": draw_sentence,
}


def build(
    data_seed: int,
    assignment_seed: int,
    count: Annotated[int, Field(ge=10, le=1_000_000, description="How many lines are trained.")] = 6000,
    controls: Annotated[int, Field(ge=0, le=100_000, description="How many lines are held out.")] = 100,
    kinds: Annotated[list[Kind], Field(min_length=1, description="What lines are about, in turn.")] = ["digits"],  # noqa: B006
) -> Built:
    """Lines drawn from the seed; none of them states a fact of another study."""
    rng = random.Random(data_seed)
    examples = []
    for position in range(count + controls):
        prompt, answer = DRAW[kinds[position % len(kinds)]](rng)
        identity = f"line-{position:06d}"
        split = "train" if position < count else "control"
        examples.append(Example(identity, identity, prompt, answer, split, part="lines"))
    return Built(examples)
