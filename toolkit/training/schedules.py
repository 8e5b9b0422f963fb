"""Which facts an exam asks and feeds in a round: pure functions of what was right before.

missed_only  every fact is asked, and those that were missed are fed
leitner      a fact in box b is asked again 2^(b - 1) rounds later; right: box b + 1; missed: box 1, and fed
yoked        nothing is asked; as many facts as in a round of another run are fed, drawn at random
"""

import random
from collections.abc import Mapping
from typing import NamedTuple


class Boxes(NamedTuple):
    """Where each fact stands between rounds, an entry a fact."""

    box: tuple[int, ...]
    """Leitner's box, from 1; one higher each time it is right."""
    due: tuple[int, ...]
    """The round, from 0, in which it is to be asked next."""

    @classmethod
    def of(cls, facts: int) -> "Boxes":
        return cls((1,) * facts, (0,) * facts)


def asked_in(review: str, boxes: Boxes, number: int) -> list[int]:
    """The facts that round `number` asks, in their order; none where the review is yoked."""
    if review == "yoked":
        return []
    return [fact for fact, due in enumerate(boxes.due) if review == "missed_only" or due <= number]


def after_exam(boxes: Boxes, number: int, right: Mapping[int, bool]) -> Boxes:
    """The boxes after round `number`, in which the facts of `right` were asked.

    Source: Leitner 1972, "So lernt man lernen"; the doubling of pauses is the common form of his boxes.
    """
    box, due = list(boxes.box), list(boxes.due)
    for fact, was_right in right.items():
        box[fact] = box[fact] + 1 if was_right else 1
        due[fact] = number + 2 ** (box[fact] - 1)
    return Boxes(tuple(box), tuple(due))


def in_order_of(facts: list[int], seed: int, number: int) -> list[int]:
    """The facts in the order in which round `number` feeds them."""
    return random.Random(f"{seed}/{number}").sample(facts, len(facts))


def drawn_at_random(facts: int, count: int, seed: int, number: int) -> list[int]:
    """`count` different facts of round `number`, in the order in which they are fed.

    Raises ValueError where there are not so many.
    """
    return random.Random(f"{seed}/{number}").sample(range(facts), count)


def rate_in(schedule: str, warmup: float, number: int, rounds: int) -> float:
    """What share of the peak learning rate round `number`, from 0, is trained at: a stage's schedule, by rounds.

    As in transformers' schedules: it rises over the first `warmup` of the rounds, and would be zero after the last.
    """
    import math

    rising = round(warmup * rounds)
    if number < rising:
        return (number + 1) / (rising + 1)
    passed = (number - rising) / (rounds - rising)
    if schedule == "constant":
        return 1.0
    return 1 - passed if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * passed))
