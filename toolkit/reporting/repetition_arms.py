"""Which group repeats itself less, tested by runs: at the end, through training, and where the loss is the same.

Arms of a study end where little is repeated any more: what they differ in shows on the way. An arm that learns more
slowly repeats more at the same epoch for that alone, so that they are compared at the same loss too.
"""

from typing import Any, NamedTuple

from toolkit.metrics.testing import contrasts_among, holm
from toolkit.reporting.groups import Group, setting
from toolkit.reporting.repetition_groups import LOSS, axis_of, end_of, is_number
from toolkit.reporting.repetition_prompts import MAIN
from toolkit.reporting.repetition_read import GREEDY
from toolkit.reporting.summary import spread
from toolkit.reporting.verdict import ALPHA, AT_EQUAL_LOSS, EVERY_OUTCOME, OF_REPETITION, THROUGH, contrast

Summary = dict[str, Any]
Row = dict[str, Any]
Values = dict[str, list[float | None]]
"""Of each group one number a run."""
LENGTH = "repetition.max_new_tokens"
REPEATED = f"repetition/{GREEDY}/{MAIN}"
FEWEST = 2
"""Readings that all runs share, and readings of one run between which its loss falls."""


class Found(NamedTuple):
    values: Values
    why_not: str | None = None
    """Why there are none, where readings that do not compare are the reason."""
    about: Summary = {}
    """What summary.json says of them beside their contrasts."""


def outcomes(groups: list[Group], through: list[Group]) -> Summary:
    """Every outcome with its contrasts, exploratory, with Holm over those of an outcome.

    groups: as they are; through: the same with their readings of repetition.
    """
    found = {}
    for name in OF_REPETITION:
        values, why_not, about = values_of(name, groups, through)
        known = [
            group for group, read in zip(groups, through, strict=True)
            if any(value is not None for value in values[group.name]) or (why_not and any(read.readings))
        ]  # fmt: skip
        results = [compared(a, b, name, values, why_not) for a, b in contrasts_among(known)]
        for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
            result["holm"], result["shown"] = corrected, corrected is not None and corrected <= ALPHA
        if results:
            spreads = {group.name: spread(values[group.name], all_or_none=True) for group in groups}
            found[name] = {"said": EVERY_OUTCOME[name].said, "groups": spreads, "contrasts": results} | about
    return found


def values_of(name: str, groups: list[Group], through: list[Group]) -> Found:
    if name in (THROUGH, AT_EQUAL_LOSS):
        return (means if name == THROUGH else at_equal_loss)(through)
    ends = {
        group.name: [end_of(rows, group.after).get(name) for rows in readings.readings]
        for group, readings in zip(groups, through, strict=True)
    }
    return Found(ends)


def means(through: list[Group]) -> Found:
    """The mean over the readings after training began that all runs share."""
    place = "step" if axis_of(through) == "updates" else "epoch"
    by_run = {
        group.name: [
            {round(row[place], 6): row[REPEATED] for row in of_run} for of_run in map(after_start, group.readings)
        ]
        for group in through
    }
    every = [set(run) for runs in by_run.values() for run in runs if run]
    shared = sorted(set.intersection(*every)) if every else []
    shared = shared if len(shared) >= FEWEST else []
    values: Values = {
        name: [sum(run[at] for at in shared) / len(shared) if run and shared else None for run in runs]
        for name, runs in by_run.items()
    }
    return Found(values, "their texts were written at different readings" if every and not shared else None)


def at_equal_loss(through: list[Group]) -> Found:
    """The mean over all losses of the reference answers that every run passes on its way down, each counted alike.

    A run's repetition at a loss is that between its two readings around it, on a straight line: where it bends, that
    is above or below the truth, in arms that are read at like losses by as much. The losses are chosen by all runs of
    all groups alike, so that exchanging runs between groups would change nothing: the test stays exact.
    """
    import numpy as np

    by_run = {group.name: [falling(of_run) for of_run in group.readings] for group in through}
    every = [run for runs in by_run.values() for run in runs if len(run) >= FEWEST]
    lowest, highest = max((run[-1][0] for run in every), default=0.0), min((run[0][0] for run in every), default=0.0)

    def mean_of(run: list[tuple[float, float]]) -> float | None:
        if len(run) < FEWEST or lowest >= highest:
            return None
        losses, repeated = np.array(run[::-1]).T
        inside = losses[(losses > lowest) & (losses < highest)]
        at = np.concatenate([[lowest], inside, [highest]])
        return float(np.trapezoid(np.interp(at, losses, repeated), at) / (highest - lowest))

    values: Values = {name: [mean_of(run) for run in runs] for name, runs in by_run.items()}
    if every and lowest >= highest:
        return Found(values, "there is no loss of the reference answers that all runs pass")
    return Found(values, about={"losses": [lowest, highest]} if every else {})


def falling(rows: list[Row]) -> list[tuple[float, float]]:
    """Loss and repetition of a run's readings, of those whose loss is lower than all before."""
    found: list[tuple[float, float]] = []
    for row in after_start(rows):
        if is_number(row.get(LOSS)) and (not found or row[LOSS] < found[-1][0]):
            found.append((row[LOSS], row[REPEATED]))
    return found


def after_start(rows: list[Row]) -> list[Row]:
    """The readings after training began at which texts were long enough to repeat something."""
    return [row for row in rows if row["step"] > 0 and is_number(row.get(REPEATED))]


def compared(a: Group, b: Group, name: str, values: Values, why_not: str | None) -> Summary:
    result = contrast(a, b, name, None, values[a.name], values[b.name])
    lengths = [setting(group, LENGTH) for group in (a, b)]
    if lengths[0] != lengths[1]:
        # A longer text repeats more, whatever wrote it.
        why_not = f"their texts were cut after {lengths[0]} and {lengths[1]} tokens"
    if why_not is None:
        return result
    return result | dict.fromkeys(("difference", "low", "high", "p", "exact")) | {"why_not": why_not}
