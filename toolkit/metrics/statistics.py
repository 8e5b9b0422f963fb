"""Puts intervals on what was measured: on a proportion within one run, and on a mean across runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Mean(NamedTuple):
    """A mean over n runs, with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval (low, high), each 0 to 1, of a proportion of n items within one run.

    It says nothing about other runs: items of one run share its seed, so runs are compared by `t_interval`.

    Raises ValueError when n is less than 1 or successes is not in 0 … n.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def exact_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % exact interval (low, high), each 0 to 1, of a proportion of n items within one run.

    Covers 95 % or more at every true proportion, where `wilson` covers about that on average. It says nothing
    about other runs.

    Raises ValueError when n is less than 1 or successes is not in 0 … n.

    Source: Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial".
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean and t interval of `values`, one a run (the unit of an experiment), in the unit of the values.

    One run says nothing about others: low and high are nan when there are fewer than two values, and so is
    the mean when there are none. A nan among the values makes all three nan.

    Raises ValueError when confidence is not between 0 and 1.

    Source: Student 1908, "The Probable Error of a Mean".
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, and is {confidence}")
    n = len(values)
    mean = math.fsum(values) / n if n else math.nan
    if n < 2:
        return Mean(mean, math.nan, math.nan, n)
    from scipy.stats import sem, t

    # Not scipy's own t.interval: it answers nan, and not the mean, for runs that all agree.
    half = float(t.ppf((1 + confidence) / 2, n - 1) * sem(values))
    return Mean(mean, mean - half, mean + half, n)
