"""Says how closely two measurements go together in rank, alone and with a third one held."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from toolkit.metrics.statistics import t_interval

if TYPE_CHECKING:
    import numpy as np

FEWEST = 4
"""Points: with three, the interval of Fisher's z has no finite width, and the least p is a third."""
EXACT_UP_TO = 8
"""Points: all 40,320 orders of eight are counted; of nine t is near enough (see `spearman`)."""
ROUNDING = 1e-9
"""Of a correlation: the same ranks in another order differ by less, other ranks by more."""
HELD_ALTOGETHER = 1e-9
"""Share of a ranking's variance that is left beside the ranks held, below which nothing is left."""
FEWEST_RUNS = 5
"""With four runs the least p is 1 / 24 one way and 1 / 12 both ways: too few to say anything at 5 %."""
DRAWN = 20_000
"""Orders of runs that are drawn where there are too many to count."""


class Association(NamedTuple):
    """A rank correlation of n points."""

    rho: float
    "-1 to 1."
    low: float | None
    "95 % interval by Fisher's z; None where rho is 1 or -1, of which z is infinite."
    high: float | None
    p: float
    "Two-sided, of no association."
    n: int
    exact: bool
    "Whether p counts all orders of the points; else it is by t."


class AcrossRuns(NamedTuple):
    """Whether runs that are higher than others in one measure are so in another, at the same readings."""

    rho: float
    "-1 to 1: of the ranks among runs at each reading, all readings together."
    p: float
    "Two-sided, of no association, by orders of whole runs."
    runs: int
    readings: int
    "Those at which the runs differ in both measures."
    exact: bool
    "Whether p counts all orders of the runs; else of those drawn."


class MeanAssociation(NamedTuple):
    """A mean of rank correlations, one a run, with the t interval of the runs."""

    rho: float
    low: float | None
    "None with one run, where a run's rho is 1 or -1 of an unknown number of points, and where all are 1, or all -1."
    high: float | None
    runs: int
    "Those with a correlation."


def spearman(x: Sequence[float], y: Sequence[float]) -> Association | None:
    """Spearman's rank correlation; ties have their mean rank. None with fewer than 4 points, or a constant x or y.

    p counts all orders of up to EXACT_UP_TO points, ties included; of more it is by t with n - 2 degrees of freedom. At
    5 % that one rejected a true null in 5.9 % of simulations of 9 points, 5.5 of 10, 5.2 of 12 and 5.0 of 50. The
    interval is Fisher's z with the standard error sqrt((1 + rho^2 / 2) / (n - 3)).

    The points must be independent: of several checkpoints of a run, or several prompts at one checkpoint, p and the
    interval describe that run or checkpoint (`mean_association` combines runs).

    Raises ValueError for sequences of different lengths, and values that are not finite.

    Source: Spearman 1904, "The Proof and Measurement of Association between Two Things"; interval: Bonett and Wright
    2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations".
    """
    _check(x, y)
    return _correlation(x, y, [])


def partial_spearman(x: Sequence[float], y: Sequence[float], z: Sequence[float]) -> Association | None:
    """Spearman's correlation of x and y with z held: of what is left of their ranks beside a straight line in z's.

    A constant z holds nothing: that is the plain correlation. None with fewer than 5 points, and where x or y is
    constant or its ranks are a function of z's ranks (a straight line), so that nothing of it is left.

    z takes a degree of freedom: p is by t with n - 3, the interval's n is one less. Of up to EXACT_UP_TO points p
    counts all orders of what is left of y's ranks, and is exact only where z is constant: what is left of different
    points is not exchangeable, but nearly so. With x and y both driven by z alone, p was at most .05 in 5.8 to 6.4 % of
    simulations of 5 to 100 points: ranks hold a little less than all of z.

    Raises ValueError as `spearman` does.

    Source: Kendall 1942, "Partial Rank Correlation" (the idea; there of tau); p of few points: Freedman and Lane 1983,
    "A Nonstochastic Interpretation of Reported Significance Levels".
    """
    _check(x, y, z)
    return _correlation(x, y, [z] if len(set(z)) > 1 else [])


def across_runs(losses: Sequence[Sequence[float]], repetition: Sequence[Sequence[float]]) -> AcrossRuns | None:
    """Whether runs with a higher loss than others at the same reading repeat more there: time itself is in neither.

    losses, repetition: a list a run, in it a value a reading, the same readings in the same order in every run, and
    the same examples measured in all runs (else it is examples that are compared). At each reading the runs are ranked,
    so that whatever is common to them, every curve that both measures follow in time, is gone; the correlation is of
    those ranks, each less the mean of its reading, over all runs and readings. Readings of a run are not independent:
    p is the share of all orders of the runs, each with all of its readings, that correlate as much either way. All are
    counted of up to EXACT_UP_TO runs; of more DRAWN are drawn, the same ones every time.

    None with fewer than five runs, and where at no reading both measures differ among runs.

    At 5 % it rejected a true null (both measures curves of time, and what runs add to them independent) in 4.5 % of
    simulations of 5 runs and 11 readings. It found what is added correlated at .71 in 99 %, and at .45 in 63 %; where
    half of that is a run's own at all readings, in 81 and 35 %.

    Raises ValueError where the numbers of runs or of readings differ, and for values that are not finite.

    Source: Fisher 1935, "The Design of Experiments" (permutation of whole units).
    """
    runs = len(losses)
    if len(repetition) != runs or len({len(run) for run in (*losses, *repetition)}) > 1:
        sizes = [[len(run) for run in of] for of in (losses, repetition)]
        raise ValueError(f"each run has both measures at the same readings: {sizes[0]} and {sizes[1]} values")
    if runs:
        _check(*losses, *repetition)
    if runs < FEWEST_RUNS or not losses[0]:
        return None
    import numpy as np
    from scipy.stats import rankdata

    first, second = (rankdata(np.asarray(of, float), axis=0) - (runs + 1) / 2 for of in (losses, repetition))
    differ = first.any(axis=0) & second.any(axis=0)
    if not differ.any():
        return None
    first, second = first[:, differ], second[:, differ]
    together = first @ second.T / (np.linalg.norm(first) * np.linalg.norm(second))
    exact = runs <= EXACT_UP_TO
    rhos = together[np.arange(runs), _orders(runs)].sum(axis=1)
    rho = float(np.trace(together))
    # The order that was seen is one of all; it is put among those drawn.
    as_large = int(np.sum(np.abs(rhos) >= abs(rho) - ROUNDING))
    p = as_large / len(rhos) if exact else (as_large + 1) / (len(rhos) + 1)
    return AcrossRuns(max(-1.0, min(1.0, rho)), p, runs, int(differ.sum()), exact)


def mean_association(
    rhos: Sequence[float | None], points: Sequence[int | None] | None = None
) -> MeanAssociation | None:
    """The mean of correlations that runs (the unit of an experiment) have each for itself, with a 95 % t interval.

    Through Fisher's z: the interval is that of the z values, taken back. Runs without a correlation (None) do not
    count; None where no run has one. Of one run there is its rho and no interval.

    points: of how many each correlation is. A rho of 1 or -1 has no finite z, and n points cannot tell it from one a
    little nearer to 0: with them, a rho beyond 1 - 1 / n² counts as that. Without them, and where all runs have 1 (or
    all -1), which says nothing of how runs scatter, the mean is that of the rhos themselves, without interval.

    Raises ValueError for a rho that is not in -1 … 1, and where the numbers of rhos and points differ.

    Source: Fisher 1921, "On the 'Probable Error' of a Coefficient of Correlation Deduced from a Small Sample".
    """
    counts = [None] * len(rhos) if points is None else list(points)
    if len(counts) != len(rhos):
        raise ValueError(f"each correlation is of a number of points: {len(rhos)} and {len(counts)}")
    known = [(rho, n) for rho, n in zip(rhos, counts, strict=True) if rho is not None]
    defined = [rho for rho, _ in known]
    if not all(-1 <= rho <= 1 for rho in defined):
        raise ValueError(f"a correlation lies between -1 and 1: {defined}")
    if not defined:
        return None
    runs = len(defined)
    limits = [1 - 1 / n**2 if n else 1.0 for _, n in known]
    finite = [max(-limit, min(limit, rho)) for rho, limit in zip(defined, limits, strict=True)]
    perfect = min(defined) > 1 - ROUNDING or max(defined) < ROUNDING - 1
    if runs == 1 or perfect or any(abs(rho) > 1 - ROUNDING for rho in finite):
        return MeanAssociation(math.fsum(defined) / runs, None, None, runs)
    mean = t_interval([math.atanh(rho) for rho in finite])
    return MeanAssociation(math.tanh(mean.mean), math.tanh(mean.low), math.tanh(mean.high), runs)


def _orders(runs: int) -> "np.ndarray":
    """All orders of few runs, or some of many, a row each."""
    import itertools

    import numpy as np

    if runs <= EXACT_UP_TO:
        return np.asarray(list(itertools.permutations(range(runs))))
    return np.random.default_rng(0).permuted(np.tile(np.arange(runs), (DRAWN, 1)), axis=1)


def _correlation(x: Sequence[float], y: Sequence[float], held: list[Sequence[float]]) -> Association | None:
    n = len(x)
    if n < FEWEST + len(held):
        return None
    import numpy as np
    from scipy.stats import rankdata

    beside, _ = np.linalg.qr(np.column_stack([np.ones(n), *(rankdata(values) for values in held)]))
    first, second = (_left(rankdata(values), beside) for values in (x, y))
    if first is None or second is None:
        return None
    rho = max(-1.0, min(1.0, float(first @ second)))
    few = n <= EXACT_UP_TO
    p = _p_of_all_orders(first, second, beside) if few else _p_by_t(rho, n - 2 - len(held))
    return Association(rho, *_interval(rho, n - len(held)), p, n, few and not held)


def _left(ranks: "np.ndarray", beside: "np.ndarray") -> "np.ndarray | None":
    """Of length 1: what is left of ranks beside those held (an orthonormal basis, the constant too), if anything is."""
    import numpy as np

    centred = ranks - ranks.mean()
    left = centred - beside @ (beside.T @ centred)
    size, whole = np.linalg.norm(left), np.linalg.norm(centred)
    return None if size**2 <= HELD_ALTOGETHER * whole**2 else left / size


def _p_of_all_orders(first: "np.ndarray", second: "np.ndarray", beside: "np.ndarray") -> float:
    """Share of all orders of `second` whose correlation with `first`, the rest held, is as large either way."""
    import itertools

    import numpy as np

    orders = second[np.asarray(list(itertools.permutations(range(len(second)))))]
    # An order of what was left is no longer free of the ranks held.
    orders = orders - orders @ beside @ beside.T
    sizes = np.linalg.norm(orders, axis=1)
    # One that the ranks held explain altogether has no correlation, and counts as none.
    rhos = np.divide(orders @ first, sizes, out=np.zeros(len(orders)), where=sizes > ROUNDING)
    return float(np.mean(np.abs(rhos) >= abs(first @ second) - ROUNDING))


def _p_by_t(rho: float, degrees: int) -> float:
    from scipy.stats import t

    if abs(rho) > 1 - ROUNDING:
        # Not 0, which t says: of all orders of the points, this one and its reverse.
        return 2 / math.factorial(degrees + 2)
    return float(2 * t.sf(abs(rho) * math.sqrt(degrees / (1 - rho**2)), degrees))


def _interval(rho: float, n: int) -> tuple[float, float] | tuple[None, None]:
    if abs(rho) > 1 - ROUNDING:
        return None, None
    from scipy.stats import norm

    half = float(norm.ppf(0.975)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _check(*sequences: Sequence[float]) -> None:
    if len({len(values) for values in sequences}) != 1:
        raise ValueError(f"each point has a value of each: {[len(values) for values in sequences]} values")
    if not all(math.isfinite(value) for values in sequences for value in values):
        raise ValueError("a point without a value has no rank: nan or infinite values among the points")
