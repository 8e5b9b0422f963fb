"""Says which difference between groups of runs is real, and how many runs or items it takes to see one."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.metrics.statistics import t_interval

EXACT_UP_TO = 200_000
"""Permutations: all of ten against ten runs (184,756) take two seconds, each further run a group four times that."""
RESAMPLES = 99_999
"""Drawn where there are more: a p near .05 is then known to about .001."""
ROUNDING = 1e-12
"""Of the largest value: means of the same numbers in another order differ by less, real differences by more."""

MOST_ALL_PAIRS = 6
"""Groups of which every pair is compared."""


class Difference(NamedTuple):
    """The difference of two groups' means, b - a, in the unit of their values."""

    difference: float
    low: float
    "95 % interval by t; nan where a group (paired: the pairs) has one run only."
    high: float
    p: float
    "Two-sided, by permutation; not corrected for other contrasts (`holm`)."
    exact: bool
    "Whether every permutation was counted, not a sample of them."


def smallest_p(a: int, b: int, paired: bool = False) -> float:
    """The least two-sided p that a permutation test of `a` against `b` runs can give, whatever the difference.

    Three against three unpaired runs give .10: no result of theirs is ever significant at 5 %.

    Raises ValueError when a or b is less than 1, or paired groups differ in size.
    """
    _check_sizes(a, b, paired)
    # scipy doubles the smaller side, so one permutation of all counts twice.
    return min(1.0, 2 / _permutations(a, b, paired))


def reachable_level(a: int, b: int, paired: bool = False, alpha: float = 0.05) -> float:
    """The greatest p, at most `alpha`, that the permutation test can give without ties: its true error rate.

    0 where it can give none. At few runs it is well below alpha, so that a t test at alpha promises too much. As the
    `alpha` of `smallest_difference` it gives what the permutation test finds, nearly: where 80 % were asked, such a
    difference was found in 72 and 75 % at the fewest runs (six pairs, four against four) and in 77 to 80 % at more
    (`python -m benchmarks.simulations`).

    Raises ValueError as `smallest_p` does.
    """
    least = smallest_p(a, b, paired)
    return math.floor(alpha / least + 1e-9) * least


def permutation_test(a: Sequence[float], b: Sequence[float], paired: bool = False, seed: int = 0) -> Difference:
    """Test whether two groups of runs (one value a run) have the same mean; p 1 where all values are equal.

    paired: a[i] and b[i] share seed and items' assignment; their differences change sign. Unpaired, runs change
    groups. Up to EXACT_UP_TO permutations all are counted, beyond that RESAMPLES are drawn by `seed`. The interval is
    Welch's, or that of the pairs' differences: it comes from another model than p, so the two may disagree near 5 %.

    Raises ValueError for an empty group, paired groups of different sizes, and values that are not finite.

    Source: Fisher 1935, "The Design of Experiments" (pairs); Pitman 1937, "Significance Tests Which May Be Applied to
    Samples from Any Populations"; interval: Welch 1938, "The Significance of the Difference between Two Means When
    the Population Variances Are Unequal".
    """
    _check_sizes(len(a), len(b), paired)
    if not all(math.isfinite(value) for value in [*a, *b]):
        raise ValueError("a run without a value cannot be compared: nan or infinite values among the runs")
    p, exact = _permutation_p(a, b, paired, seed)
    return Difference(_mean(b) - _mean(a), *_interval(a, b, paired), p, exact)


def _permutation_p(a: Sequence[float], b: Sequence[float], paired: bool, seed: int) -> tuple[float, bool]:
    """p, and whether it is exact."""
    # scipy's own tolerance is relative to the difference, which rounding of large values exceeds.
    slack = ROUNDING * max(abs(value) for value in [*a, *b])
    if len(a) == 1 or len(b) == 1:
        return _p_of_one(a, b, paired, slack), True
    import numpy as np
    from scipy import stats

    first, second = np.asarray(a, float), np.asarray(b, float)
    number = _permutations(len(a), len(b), paired)
    exact = number <= EXACT_UP_TO

    def difference(*groups: np.ndarray, axis: int = -1) -> np.ndarray:
        return groups[-1].mean(axis=axis) - (0 if paired else groups[0].mean(axis=axis))

    test = stats.permutation_test(
        (second - first,) if paired else (first, second),
        difference,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=number if exact else RESAMPLES,
        batch=10_000,
        rng=np.random.default_rng(seed),
    )
    less = int(np.count_nonzero(test.null_distribution <= test.statistic + slack))
    more = int(np.count_nonzero(test.null_distribution >= test.statistic - slack))
    # Drawn permutations: the observed one is one of all, so that p is never 0 (Phipson and Smyth 2010).
    own = 0 if exact else 1
    return min(1.0, 2 * (min(less, more) + own) / (len(test.null_distribution) + own)), exact


def _p_of_one(a: Sequence[float], b: Sequence[float], paired: bool, slack: float) -> float:
    """p where a group has one run, which scipy refuses: any of all runs could have been the one."""
    if paired:
        return 1.0
    (one,) = a if len(a) == 1 else b
    less = sum(value <= one + slack for value in [*a, *b])
    more = sum(value >= one - slack for value in [*a, *b])
    return min(1.0, 2 * min(less, more) / (len(a) + len(b)))


def _interval(a: Sequence[float], b: Sequence[float], paired: bool) -> tuple[float, float]:
    if paired:
        differences = t_interval([second - first for first, second in zip(a, b, strict=True)])
        return differences.low, differences.high
    if min(len(a), len(b)) < 2:
        return math.nan, math.nan
    from statistics import variance

    from scipy.stats import t

    # Not scipy's ttest_ind: it warns of a group whose runs all agree, and answers nan for two such groups.
    first, second = (float(variance(group)) / len(group) for group in (a, b))
    difference, error = _mean(b) - _mean(a), first + second
    if error == 0:
        return difference, difference
    degrees = error**2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    half = float(t.ppf(0.975, degrees)) * math.sqrt(error)
    return difference - half, difference + half


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number by Holm, in the order given; None (not tested) stays and does not count.

    Raises ValueError for a p that is not in 0 … 1.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    if not all(0 <= p <= 1 for p, _ in tested):
        raise ValueError(f"a p value lies between 0 and 1: {list(p_values)}")
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        corrected[place] = least
    return corrected


def power_of_difference(difference: float, sd: float, n: int, paired: bool = False, alpha: float = 0.05) -> float:
    """The chance, 0 to 1, that a two-sided t test at `alpha` finds a true `difference` of means with n runs a group.

    sd is that of the runs within a group, alike in both; paired: that of the pairs' differences. With fewer than two
    runs, or alpha 0, nothing is found. A permutation test finds less at few runs (`reachable_level`).

    Raises ValueError when sd is negative or not finite, or alpha is not in 0 … 1.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences".
    """
    if not 0 <= sd < math.inf or not 0 <= alpha <= 1:
        raise ValueError(f"sd is not negative and alpha lies between 0 and 1: {sd} and {alpha}")
    if n < 2 or alpha == 0 or difference == sd == 0:
        return 0.0
    if sd == 0:
        return 1.0
    # Not scipy.stats, which takes a second to import: a dry run says what a design can show.
    from scipy.special import nctdtr, stdtrit

    degrees = n - 1 if paired else 2 * n - 2
    centre = difference / sd * math.sqrt(n if paired else n / 2)
    limit = -float(stdtrit(degrees, alpha / 2))
    # The other side by symmetry. scipy answers nan far out, where this one holds all of the probability, or none.
    below, above = (float(nctdtr(degrees, side, limit)) for side in (centre, -centre))
    return (1 if math.isnan(below) else 1 - below) + (0 if math.isnan(above) else 1 - above)


def smallest_difference(
    sd: float, n: int, paired: bool = False, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The true difference of group means that a two-sided t test finds with `power`, n runs a group; in sd's unit.

    None with fewer than two runs or alpha 0: no difference is large enough. sd as in `power_of_difference`. The
    permutation test of three runs finds nothing, whatever this says: give `alpha=reachable_level(n, n, paired)` for it.

    Raises ValueError as `power_of_difference` does, and when power is not between alpha and 1.
    """
    power_of_difference(0, sd, n, paired, alpha)  # refuses a wrong sd or alpha
    if not alpha < power < 1:
        raise ValueError(f"power lies between alpha ({alpha}) and 1, and is {power}")
    if n < 2 or alpha == 0:
        return None
    from scipy.optimize import root_scalar

    def lacking(effect: float) -> float:
        return power_of_difference(effect, 1, n, paired, alpha) - power

    most = 1.0
    while lacking(most) < 0:
        most *= 2
    return sd * float(root_scalar(lacking, bracket=(0, most), xtol=1e-9).root)


def seeds_needed(contrasts: int = 1, paired: bool = False, alpha: float = 0.05) -> int:
    """The fewest seeds a group with which a permutation test can be significant at all, after Holm over `contrasts`.

    Holm's first step asks p * contrasts <= alpha. How large a difference is then found is another question
    (`smallest_difference`).

    Raises ValueError when contrasts is less than 1, or alpha is not between 0 and 1.
    """
    if contrasts < 1 or not 0 < alpha < 1:
        raise ValueError(f"there is at least one contrast, and alpha lies between 0 and 1: {contrasts} and {alpha}")
    seeds = 1
    while smallest_p(seeds, seeds, paired) * contrasts > alpha * (1 + 1e-9):
        seeds += 1
    return seeds


def contrasts_among(groups: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Which groups a comparison sets against each other: every pair of up to six; of more, each with the first."""
    if len(groups) <= MOST_ALL_PAIRS:
        return list(itertools.combinations(groups, 2))
    return [(groups[0], other) for other in groups[1:]]


def items_needed(p1: float, p2: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Items an arm, rounded up, for two proportions to be told apart by a two-sided test, before variance of runs.

    By Cohen's h and the normal distribution; the chance to reject on the wrong side (1e-6 at these defaults) is left
    out. Items of one run are not independent: multiply by `design_effect`.

    Raises ValueError for equal proportions, and where one is not in 0 … 1 or power not between alpha and 1.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences".
    """
    if p1 == p2 or not (0 <= p1 <= 1 and 0 <= p2 <= 1):
        raise ValueError(f"proportions differ and lie between 0 and 1: {p1} and {p2}")
    if not 0 < alpha < power < 1:
        raise ValueError(f"power lies between alpha ({alpha}) and 1, and is {power}")
    from scipy.stats import norm

    h = 2 * math.asin(math.sqrt(p1)) - 2 * math.asin(math.sqrt(p2))
    return math.ceil(2 * ((float(norm.isf(alpha / 2)) + float(norm.ppf(power))) / h) ** 2)


def design_effect(m: int, icc: float) -> float:
    """How many times as many items are needed where m of them share a run: 1 + (m - 1) ICC.

    icc is the intraclass correlation: the share of the items' variance that lies between runs.

    Raises ValueError when m is less than 1, or icc is not in 0 … 1.

    Source: Kish 1965, "Survey Sampling".
    """
    if m < 1 or not 0 <= icc <= 1:
        raise ValueError(f"m is at least 1 and icc lies between 0 and 1: {m} and {icc}")
    return 1 + (m - 1) * icc


def _permutations(a: int, b: int, paired: bool) -> int:
    return 2**a if paired else math.comb(a + b, a)


def _check_sizes(a: int, b: int, paired: bool) -> None:
    if a < 1 or b < 1 or (paired and a != b):
        raise ValueError(f"groups have at least one run, and paired ones equally many: {a} and {b}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
