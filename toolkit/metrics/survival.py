"""Times until recall within one run: exposures to recall, and the Kaplan-Meier curve with what is read off it."""

import bisect
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

TIE = 1e-9
"""A curve that is within this of a half has reached it: products of fractions miss it by rounding."""
MOST_FACTS = 110_000
"""Of a log-rank: with more, scipy's product of four counts can pass 2^63, and its statistic is silently wrong."""


class Duration(NamedTuple):
    """How long one fact took."""

    time: float
    "In exposures."
    observed: bool
    "Whether it was recalled at that time; False: not yet when it was last looked at (right-censored)."


class Curve(NamedTuple):
    """A Kaplan-Meier curve: a step at each time, level until the next, 1 before the first."""

    times: tuple[float, ...]
    "Every time at which a fact was recalled or last seen, ascending; in the unit of the durations."
    survival: tuple[float, ...]
    "Share of facts not yet recalled after each time."
    low: tuple[float, ...]
    "Pointwise interval of the survival."
    high: tuple[float, ...]
    at_risk: tuple[int, ...]
    "Facts not yet recalled, and still looked at, just before each time; the first is all of them."
    confidence: float


class Median(NamedTuple):
    """A median time with its interval; None where the curve, or its band, does not say."""

    value: float | None
    low: float | None
    high: float | None


class Share(NamedTuple):
    """A share of facts, 0 to 1, with its interval."""

    share: float
    low: float
    high: float


class LogRank(NamedTuple):
    """Chi-squared with one degree of freedom, and its p value."""

    chi2: float
    p: float


def exposures_to_recall(exposures: Sequence[float], recalled: Sequence[bool], confirmed: bool = True) -> Duration:
    """The first exposure count at which a fact is recalled, from its probes in order (one exposure count each).

    confirmed: the next probe must recall it too, so that a lucky guess does not count. Without it, once is enough,
    at the last probe as well.

    Right-censored at the last probe where there is no such count, also where the last probe is the first to recall
    it, as none confirms it. Recalled already before training: the exposures of the first probe, which are 0.

    Raises ValueError without probes, with lists of two lengths, and where exposures fall, are negative or nan.
    """
    if len(exposures) != len(recalled) or not exposures:
        raise ValueError(f"each probe has its exposures: {len(exposures)} and {len(recalled)} were given")
    if not (exposures[0] >= 0 and all(a <= b for a, b in zip(exposures, exposures[1:], strict=False))):
        raise ValueError(f"exposures start at 0 or above and never fall: {list(exposures)}")
    following = [*recalled[1:], False] if confirmed else recalled
    for time, now, then in zip(exposures, recalled, following, strict=True):
        if now and then:
            return Duration(time, True)
    return Duration(exposures[-1], False)


def kaplan_meier(durations: Sequence[Duration], confidence: float = 0.95) -> Curve:
    """The share of facts not yet recalled, by time, with a pointwise interval; it describes one run only.

    The interval is scipy's "log-log" (exponential Greenwood), which stays within 0 and 1. It has no value where the
    curve is 1 or 0; there an exact binomial bound stands in (`_band`).

    Raises ValueError without durations, for a time that is negative or not finite, and for a confidence that is not
    between 0 and 1.

    Source: Kaplan and Meier 1958, "Nonparametric Estimation from Incomplete Observations"; interval: Sawyer, "The
    Greenwood and Exponential Greenwood Confidence Intervals in Survival Analysis", as cited by scipy.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, and is {confidence}")
    from scipy.stats import ecdf

    estimate = ecdf(_censored(durations)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where the curve is 1 or 0: see _band
        band = estimate.confidence_interval(confidence, method="log-log")
    times, survival = estimate.quantiles.tolist(), estimate.probabilities.tolist()
    known = sorted(duration.time for duration in durations)
    at_risk = [len(known) - bisect.bisect_left(known, time) for time in times]
    low, high = _band(survival, band.low.probabilities.tolist(), band.high.probabilities.tolist(), at_risk, confidence)
    return Curve(tuple(times), tuple(survival), tuple(low), tuple(high), tuple(at_risk), confidence)


def _band(
    survival: list[float], low: list[float], high: list[float], at_risk: list[int], confidence: float
) -> tuple[list[float], list[float]]:
    """The interval at every step, exact where the curve is 1 or 0.

    At 1, none of those at risk was recalled; at 0, all of the last at risk were, whose bound holds for the curve too,
    as does the one of the step before: a curve only falls. Nothing is taken from facts censored earlier, so these
    bounds are rather wide than narrow.
    """
    for step, (share, n) in enumerate(zip(survival, at_risk, strict=True)):
        if share == 1:
            low[step], high[step] = _none_of(n, confidence), 1.0
        elif share == 0:
            before = high[step - 1] if step else 1.0
            low[step], high[step] = 0.0, min(before, 1 - _none_of(n, confidence))
    return low, high


def _none_of(n: int, confidence: float) -> float:
    """Exact (Clopper-Pearson) lower limit of the share that stays, where all n did."""
    return ((1 - confidence) / 2) ** (1 / n)


def median(curve: Curve) -> Median:
    """The first time at which at most half are left, None where that is never; with an interval by the curve's band.

    The interval holds the times at which the band includes a half: from the first time at which its lower side is
    down to a half, to the first at which its upper side is. high is None where that is never; low is None where
    there are too few facts (five or fewer at 95 %) for any time to be ruled out.

    Source: Brookmeyer and Crowley 1982, "A Confidence Interval for the Median Survival Time".
    """
    few = _none_of(curve.at_risk[0], curve.confidence) <= 0.5
    low = None if few else _first_half(curve.times, curve.low)
    return Median(_first_half(curve.times, curve.survival), low, _first_half(curve.times, curve.high))


def _first_half(times: Sequence[float], shares: Sequence[float]) -> float | None:
    return next((time for time, share in zip(times, shares, strict=True) if share <= 0.5 + TIE), None)


def restricted_mean(durations: Sequence[Duration], until: float) -> float:
    """Mean time up to `until`, in the durations' unit: the area under the Kaplan-Meier curve from 0.

    One number a run, defined where a median is not; runs are compared by it (`testing.permutation_test`), all with
    the same `until`.

    Raises ValueError without durations, where a time or `until` is negative or not finite, and where the curve ends
    above 0 before `until`, as no one knows how it goes on.

    Source: Irwin 1949, "The Standard Error of an Estimate of Expectation of Life".
    """
    from scipy.stats import ecdf

    estimate = ecdf(_censored(durations)).sf
    times, survival = estimate.quantiles.tolist(), estimate.probabilities.tolist()
    _check_known(times, survival, until)
    edges = [0.0, *(min(time, until) for time in times), until]
    return math.fsum(
        height * (right - left) for height, left, right in zip([1.0, *survival], edges, edges[1:], strict=False)
    )


def share_by(durations: Sequence[Duration], time: float, confidence: float = 0.95) -> Share:
    """F(time) = 1 - S(time): the share of facts recalled by `time`, with its interval; it describes one run only.

    Raises ValueError as `kaplan_meier` does, and where the curve ends above 0 before `time`.
    """
    curve = kaplan_meier(durations, confidence)
    _check_known(curve.times, curve.survival, time)
    step = bisect.bisect_right(curve.times, time) - 1
    if step < 0:
        return Share(0.0, 0.0, 1 - _none_of(curve.at_risk[0], confidence))
    return Share(1 - curve.survival[step], 1 - curve.high[step], 1 - curve.low[step])


def equal_to(interval90: tuple[float | None, float | None], low: float = 6, high: float = 8) -> bool:
    """Whether a 90 % interval lies in low … high, ends included: only then is a time "equal" to their middle (seven).

    An interval that only touches, or has an open end (None, nan), shows no equality; nor does a difference that is
    not significant. Two one-sided tests at 5 % each.

    Source: Schuirmann 1987, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing
    the Equivalence of Average Bioavailability".
    """
    least, most = interval90
    return least is not None and most is not None and low <= least <= most <= high


def log_rank(a: Sequence[Duration], b: Sequence[Duration]) -> LogRank:
    """Log-rank test of two sets of facts within one run; chi2 0 and p 1 where no time tells them apart.

    Facts within a run are not independent: they share its seed. It describes that run, and is no test between
    groups; over facts pooled from several runs it rejects a true null many times too often
    (`benchmarks/simulations.py`). Compare groups by their runs' restricted means.

    Raises ValueError where one has no durations or both together over MOST_FACTS, or a time is negative or not finite.

    Source: Mantel 1966, "Evaluation of Survival Data and Two New Rank Order Statistics Arising in Its Consideration".
    """
    if len(a) + len(b) > MOST_FACTS:
        raise ValueError(f"a log-rank takes at most {MOST_FACTS:,} facts, and there are {len(a) + len(b):,}")
    import numpy as np
    from scipy.stats import logrank

    with np.errstate(divide="ignore", invalid="ignore"):
        result = logrank(_censored(a), _censored(b))
    # Without variance the statistic is rounding over nothing.
    if not math.isfinite(result.statistic):
        return LogRank(0.0, 1.0)
    return LogRank(float(result.statistic) ** 2, float(result.pvalue))


def retention(before: float, best: float, later: float) -> float | None:
    """R(τ): the share of a presentation's effect that is left later; None where it had no effect.

    Log-probabilities of the answer: before the presentation, the best reached in the window after it (local
    acquisition maximum), and some time after that. Above 1 where later presentations helped, below 0 where less is
    left than there was.

    Source: Chang et al. 2024, "How Do Large Language Models Acquire Factual Knowledge During Pretraining?".
    """
    effect = best - before
    return (later - before) / effect if effect > 0 else None


def savings(first: float, again: float) -> float:
    """The share of exposures that learning anew saves: (first - again) / first.

    Raises ValueError where the first learning took no exposures.

    Source: Ebbinghaus 1885, "Über das Gedächtnis".
    """
    if not first > 0:
        raise ValueError(f"what took {first} exposures at first saves none")
    return (first - again) / first


def _censored(durations: Sequence[Duration]) -> Any:
    """The durations as scipy takes them; raises ValueError where they are none, or a time is no time."""
    from scipy.stats import CensoredData

    if not durations:
        raise ValueError("there is no curve without durations")
    wrong = [duration.time for duration in durations if not 0 <= duration.time < math.inf]
    if wrong:
        raise ValueError(f"a time is finite and not negative, and is {wrong[0]}")
    return CensoredData(
        uncensored=[float(duration.time) for duration in durations if duration.observed],
        right=[float(duration.time) for duration in durations if not duration.observed],
    )


def _check_known(times: Sequence[float], survival: Sequence[float], time: float) -> None:
    if not 0 <= time < math.inf:
        raise ValueError(f"a time is finite and not negative, and is {time}")
    if time > times[-1] and survival[-1] > 0:
        raise ValueError(f"nothing is known of time {time}: the last look was at {times[-1]}")
