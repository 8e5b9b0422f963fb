"""What one trained model forgot, question by question: McNemar's test where answers are right or wrong."""

import functools
import math
from typing import Any

import numpy as np

from toolkit.metrics.classification import Paired, mcnemar
from toolkit.metrics.forgetting import graded_change
from toolkit.metrics.statistics import t_interval, wilson
from toolkit.reporting.forgotten import Asked

Interval = tuple[float | None, float | None]
"""Low and high; nothing where one question says nothing of others."""


def of_run(asked: Asked) -> dict[str, Any]:
    """One measure of a task in one run: values before and after, their change, and its test, without Holm.

    Counts of answers that became wrong or right are None where values are more than right or wrong.
    """
    before, after = asked.before, asked.after
    if asked.graded:
        tested = graded_change(before.tolist(), after.tolist())
        ways = {"only_before": None, "only_after": None}
    else:
        tested = counted(*four_counts(before, after))
        ways = {"only_before": tested.only_first, "only_after": tested.only_second}
    return {
        "questions": len(before),
        "before": float(before.mean()),
        "before_interval": alone(before, asked.graded),
        "after": float(after.mean()),
        "after_interval": alone(after, asked.graded),
        "change": tested.difference,
        "change_interval": finite(tested.low, tested.high),
        **ways,
        "answers_changed": asked.answers_changed,
        "values_changed": int((before != after).sum()),
        "again_changed": None if asked.again is None else int((asked.again != before).sum()),
        "p": tested.p,
    }


def alone(values: np.ndarray, graded: bool) -> Interval:
    """The 95 % interval of a mean over questions: Wilson's of a share, else by t."""
    if graded:
        return finite(*t_interval(values.tolist())[1:3])
    return wilson(int(values.sum()), len(values))


def finite(low: float, high: float) -> Interval:
    """JSON has no nan."""
    return (low, high) if math.isfinite(low) else (None, None)


def interval_of(before: np.ndarray, after: np.ndarray) -> Interval:
    """The 95 % interval of the change over questions: Newcombe's of right and wrong answers, else by t."""
    if np.isin([before, after], (0, 1)).all():
        found = counted(*four_counts(before, after))
        return found.low, found.high
    return finite(*t_interval((after - before).tolist())[1:3])


def four_counts(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Questions that were right both times, only before, only after, and never."""
    first, second = before == 1, after == 1
    both, only_first, only_second = (
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
    )
    return both, only_first, only_second, len(before) - both - only_first - only_second


@functools.cache
def counted(both: int, only_first: int, only_second: int, neither: int) -> Paired:
    """McNemar's test from its counts, of which the subjects of many runs have many alike."""
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return mcnemar(first, second)


def exact_p(fell: np.ndarray, rose: np.ndarray) -> np.ndarray:
    """McNemar's exact two-sided p of many subjects at once, from the questions that changed either way."""
    from scipy.stats import binom

    return np.minimum(1.0, 2 * binom.cdf(np.minimum(fell, rose), fell + rose, 0.5))
