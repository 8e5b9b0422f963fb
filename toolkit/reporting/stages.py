"""What later stages did to facts: kept over a delay, learned anew with savings, displaced by preferences, overwritten.

Stages are told apart by what they fed: one that feeds none of the main facts is a delay.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from toolkit.metrics.survival import restricted_mean, retention, savings
from toolkit.reporting.groups import Group
from toolkit.reporting.learning import Learning

NOISE = 0.1
"""Bits: an answer that costs less more than before is not called displaced."""


class Span(NamedTuple):
    """The readings of a stage."""

    stage: str
    first: int
    """The reading that it started from: the last one before it."""
    last: int
    fed: bool
    """Whether it fed any of the main facts."""


def spans(learning: Learning) -> list[Span]:
    """The stages of a run, in order, as far as they were read."""
    found: list[Span] = []
    for name in dict.fromkeys(learning.stages):
        last = max(at for at, stage in enumerate(learning.stages) if stage == name)
        first = found[-1].last if found else 0
        if last > first:
            found.append(Span(name, first, last, bool((learning.exposures[last] > learning.exposures[first]).any())))
    return found


def of_run(group: Group, number: int) -> dict[str, float | None]:
    """Values of a group's run by name; only those that its stages can say."""
    learning = group.learning[number]
    if learning is None:
        return {}
    stages = group.runs[number].recipe.get("stage", {})
    return {**kept(learning), **displaced(stages, learning), **changed(stages, learning), **beliefs(learning)}


def kept(learning: Learning) -> dict[str, float | None]:
    """Over the first delay after learning: what is still recalled, what is left of the effect, and savings after it."""
    found = spans(learning)
    delay = next((at for at, span in enumerate(found) if at and found[at - 1].fed and not span.fed), None)
    if delay is None:
        return {}
    before, after = found[delay].first, found[delay].last
    was, still = learning.exact[before], learning.exact[after]
    values: dict[str, float | None] = {
        "recalled_before_delay": float(was.mean()),
        "recalled_after_delay": float(still.mean()),
        "still_recalled": float(still[was].mean()) if was.any() else None,
        "retention": median_retention(learning, before, after),
    }
    again = found[delay + 1] if delay + 1 < len(found) and found[delay + 1].fed else None
    return values | (relearned(learning, before, again) if again else {"savings": None, "relearned": None})


def median_retention(learning: Learning, before: int, after: int) -> float | None:
    """R of Chang 2024, the median over facts on which learning had an effect (a small one would rule a mean).

    Of log-probabilities before training, the best until the delay, and after it. None where no fact has one.
    """
    bits = learning.bits
    if not np.isfinite(bits[: after + 1]).all():
        return None
    shares = [
        retention(-bits[0, fact], -bits[: before + 1, fact].min(), -bits[after, fact])
        for fact in range(len(learning.facts))
    ]
    known = [share for share in shares if share is not None]
    return float(np.median(known)) if known else None


def relearned(learning: Learning, before: int, again: Span) -> dict[str, float | None]:
    """Learning anew: the share of exposures that it saved (Ebbinghaus), over the facts that were recalled both times.

    Exposures to recall at first, and from the delayed test on. A fact that was not recalled again may have saved
    nothing and has no number: how many were is `relearned`. None where no fact was recalled both times.
    """
    first, second = learning.durations_in(0, before), learning.durations_in(again.first, again.last)
    learned = [(one, two) for one, two in zip(first, second, strict=True) if one.observed and one.time > 0]
    shares = [savings(one.time, two.time) for one, two in learned if two.observed]
    return {
        "savings": math.fsum(shares) / len(shares) if shares else None,
        "relearned": len(shares) / len(learned) if learned else None,
    }


def displaced(stages: dict[str, Any], learning: Learning) -> dict[str, float | None]:
    """What preference training did to the right answers themselves: their bits after it against before it.

    Not where it fed other questions than these, as practice questions are in news. stages: the recipe's.
    """
    for span in spans(learning):
        if span.fed and stages.get(span.stage, {}).get("method") == "dpo":
            more = learning.bits[span.last] - learning.bits[span.first]
            if np.isfinite(more).all():
                return {"dpo_bits_change": float(more.mean()), "dpo_displaced": float((more > NOISE).mean())}
    return {}


def changed(stages: dict[str, Any], learning: Learning) -> dict[str, float | None]:
    """Of names that were taught a second number (parts old and new, by the id before "-new"), at the end.

    Where no second number was taught, as in a control, there is none that could overwrite or resist.
    """
    old = {row["id"]: row for row in learning.others if row["part"] == "old"}
    new = {row["id"].removesuffix("-new"): row for row in learning.others if row["part"] == "new"}
    names = old.keys() & new.keys()
    if not names:
        return {}
    both = [(old[name], new[name]) for name in sorted(names)]
    values: dict[str, float | None] = {"old_still_recalled": share(one["exact"] for one, _ in both)}
    if any(two["exposures"] for _, two in both):
        values["overwritten"] = share(two["exact"] for _, two in both)
        values["old_likelier"] = share(one["bits_total"] < two["bits_total"] for one, two in both)
    found = spans(learning)
    if len(found) > 1:
        # Before the second numbers; where none are taught, after the first stage.
        before = next((span.first for span in found if "new" in trained_on(stages, span.stage)), found[0].last)
        values["collateral"] = float(learning.exact[before].mean() - learning.exact[learning.end].mean())
    return values


def trained_on(stages: dict[str, Any], name: str) -> list[str]:
    return stages.get(name, {}).get("train_on", [])


def beliefs(learning: Learning) -> dict[str, float | None]:
    """Mean exposures to recall, restricted to the end, of facts that were unknown and of those believed otherwise.

    Empty where a run has not both.
    """
    means = []
    for known_as in ("unknown", "believes_otherwise"):
        numbers = learning.facts_known_before(known_as)
        if not numbers:
            return {}
        means.append(restricted_mean([learning.durations[n] for n in numbers], learning.seen_until))
    unknown, believed = means
    return {
        "exposures_of_unknown": unknown,
        "exposures_of_believed_otherwise": believed,
        "belief_costs": believed - unknown,
    }


def share(flags: Iterable[bool]) -> float:
    listed = [bool(flag) for flag in flags]
    return sum(listed) / len(listed)
