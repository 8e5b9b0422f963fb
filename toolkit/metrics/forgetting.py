"""Says how far a measure moved between two readings of the same items, and how small a drop they could have shown.

Of 1,000 questions 30 went from wrong to right: a drop is shown (exact McNemar, 5 %) once 49 went the other way, 1.9
points; after Holm over four tasks, once 54 did, 2.4 points.

Whether right answers became fewer is asked by `toolkit.metrics.classification.mcnemar(before, after)`. Everything here
and there is about one trained model and these items, and nothing about other runs, which are compared by
`toolkit.metrics.testing.permutation_test`.
"""

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from toolkit.metrics.statistics import t_interval
from toolkit.metrics.testing import RESAMPLES, ROUNDING

if TYPE_CHECKING:
    import numpy as np

COUNTED_UP_TO = 20
"""Items that changed: the half million sums that their signs can give take some milliseconds."""
BLOCK = 16
"""Items whose signs are drawn at once; more make the table of their sums too large for a fast cache."""


class GradedChange(NamedTuple):
    """Change of the mean of n items' values, in their unit."""

    n: int
    difference: float
    """Mean after less mean before."""
    low: float
    """95 % t interval over the items; nan where there is one."""
    high: float
    p: float
    """Two-sided, by the signs of the items' changes; 1 where no item changed. Not corrected for other tests."""


class RatioChange(NamedTuple):
    """Change of bits a byte between two readings of the same n windows of text."""

    n: int
    difference: float
    """Bits a byte after less before: positive where the text is predicted worse."""
    low: float
    """95 % interval over the windows; nan where there is one."""
    high: float


def chance_corrected(accuracy: float, chance: float) -> float:
    """(accuracy - chance) / (1 - chance): 0 for guessing, 1 for all right, negative for worse than guessing.

    Raises ValueError when accuracy is not in 0 … 1, or chance is not in 0 … 1 with 1 left out.
    """
    if not 0 <= accuracy <= 1 or not 0 <= chance < 1:
        raise ValueError(f"accuracy lies in 0 … 1 and chance below 1, and they are {accuracy} and {chance}")
    return (accuracy - chance) / (1 - chance)


def percent_change(before: float, after: float) -> float | None:
    """Change in percent of the value before: from 50 to 48 % right it is -4, where it is -2 points.

    None where the value before is 0, or negative, as an accuracy corrected for chance may be: it has no share.
    """
    return 100 * (after - before) / before if before > 0 else None


def graded_change(before: Sequence[float], after: Sequence[float], seed: int = 0) -> GradedChange:
    """Change of the mean of values that are more than right or wrong (bits, F1); item i is the same in both.

    p asks how often the mean would move as far if each item's change had fallen either way: for values of 0 and 1 it
    is McNemar's exact p, so that tasks are judged alike whatever their measure. A paired t test is none too careful
    where most items stay as they are: four of 200 that fall alike get .045 from it, and .125 here. Up to
    COUNTED_UP_TO items that changed all signs are counted, beyond that RESAMPLES are drawn by `seed`. The interval
    comes from another model than p, so that the two may disagree near 5 %.

    Raises ValueError when the two differ in length or are empty, and for values that are not finite.

    Source: Fisher 1935, "The Design of Experiments".
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"two readings are compared on the same items, not on {len(before)} and {len(after)}")
    _check_finite([*before, *after], "an item")
    differences = [float(second) - float(first) for first, second in zip(before, after, strict=True)]
    # Sums of the same changes in another order differ by less, and the changes have the rounding of their values.
    slack = ROUNDING * math.fsum(max(abs(first), abs(second)) for first, second in zip(before, after, strict=True))
    mean = t_interval(differences)
    p = _p_by_signs([difference for difference in differences if difference], slack, seed)
    return GradedChange(mean.n, mean.mean, mean.low, mean.high, p)


def _p_by_signs(changes: Sequence[float], slack: float, seed: int) -> float:
    """How often the sum of `changes`, each with either sign, is as far from 0 as it is."""
    if not changes:
        return 1.0
    import numpy as np

    observed = abs(math.fsum(changes)) - slack
    if len(changes) <= COUNTED_UP_TO:
        # The other half, in which the first has the other sign, is the same turned around.
        sums = _sums(changes[1:]) + changes[0]
        return float(np.mean(abs(sums) >= observed))
    draw, sums = np.random.default_rng(seed), np.zeros(RESAMPLES)
    for start in range(0, len(changes), BLOCK):
        table = _sums(changes[start : start + BLOCK])
        sums += table[draw.integers(len(table), size=RESAMPLES)]
    # The observed signs are one draw of all, so that p is never 0 (Phipson and Smyth 2010).
    return (int(np.count_nonzero(abs(sums) >= observed)) + 1) / (RESAMPLES + 1)


def _sums(changes: Sequence[float]) -> "np.ndarray":
    """(2 ** len(changes),) sums, one for every choice of signs."""
    import numpy as np

    sums = np.zeros(1)
    for change in changes:
        sums = np.concatenate([sums + change, sums - change])
    return sums


def smallest_drop(n: int, gained: int, tests: int = 1, alpha: float = 0.05) -> float | None:
    """The least drop of accuracy, a positive share of n questions, that McNemar's exact test could have shown.

    `gained` of the questions went from wrong to right, and so stay; the drop is what they and the fewest lost
    questions leave with p * tests <= alpha, Holm's first step. None where losing all the others would not do. It says
    what an observed drop must reach, and `detectable_drop` what a true one must be to be found four times in five. A
    drop that reaches it is shown whatever the other tests gave; a smaller one may be, at a later step of Holm's.

    Raises ValueError when n or tests is less than 1, gained is not in 0 … n, or alpha is not between 0 and 1.

    Source: McNemar 1947, "Note on the Sampling Error of the Difference between Correlated Proportions or
    Percentages".
    """
    level = _level(n, tests, alpha)
    if not 0 <= gained <= n:
        raise ValueError(f"{gained} of {n} questions cannot have gone from wrong to right")
    from scipy.stats import binom

    # p falls with every question lost, so the first that shows a drop is found by halving.
    lost = range(gained, n - gained + 1)
    found = bisect.bisect_left(lost, True, key=lambda count: bool(binom.cdf(gained, gained + count, 0.5) <= level))
    return found / n if found < len(lost) else None


def detectable_drop(n: int, changed: float, power: float = 0.8, tests: int = 1, alpha: float = 0.05) -> float | None:
    """The true drop of accuracy, a positive share, that McNemar's exact test finds with `power` on n questions.

    A share `changed` of all questions would change, either way: `changed` = lost + gained, the drop = lost - gained.
    A drop needs as many changes as it is large, so that where `changed` is smaller (0, say) all changes are losses.
    Exact: the power is summed over every number of questions that may change. None where even losing every question
    would not be shown. The level is alpha / tests, Holm's first step.

    Raises ValueError when n or tests is less than 1, changed is not in 0 … 1, alpha is not between 0 and 1, or power
    is not between alpha and 1.

    Source: Duffy 1984, "Asymptotic and Exact Power for the McNemar Test and Its Analogue with R Controls per Case".
    """
    level = _level(n, tests, alpha)
    if not 0 <= changed <= 1:
        raise ValueError(f"the share of questions that change lies in 0 … 1, and is {changed}")
    if not alpha < power < 1:
        raise ValueError(f"power lies between alpha ({alpha}) and 1, and is {power}")
    import numpy as np
    from scipy.optimize import root_scalar
    from scipy.stats import binom

    numbers = np.arange(n + 1)
    # The most gains, of so many changes, at which a drop is shown; -1 where none are few enough.
    gains = binom.ppf(level, numbers, 0.5) - 1

    def lacking(drop: float) -> float:
        changes = max(changed, drop)
        share_gained = (1 - drop / changes) / 2 if changes else 0.5
        found = binom.pmf(numbers, n, changes) * binom.cdf(gains, numbers, share_gained)
        return float(np.sum(found)) - power

    return float(root_scalar(lacking, bracket=(0, 1), xtol=1e-9).root) if lacking(1) >= 0 else None


def _level(n: int, tests: int, alpha: float) -> float:
    """What one tail of the exact test may hold, for the two-sided p to be significant at Holm's first step."""
    if n < 1 or tests < 1:
        raise ValueError(f"a drop is shown by at least one question and one test, not by {n} and {tests}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, and is {alpha}")
    # A p that equals alpha / tests must not miss it by rounding.
    return alpha / tests / 2 * (1 + 1e-9)


def ratio_change(before_bits: Sequence[float], after_bits: Sequence[float], bytes_: Sequence[int]) -> RatioChange:
    """Change of bits a byte, all windows together, with its interval; window i is the same text in all three.

    A long window counts for more: this is total bits over total bytes, not the mean of the windows' ratios. The
    variance is linearised, of each window's change less what its bytes should change, t with n - 1 degrees of freedom.
    It holds windows for a sample of such text: neighbours in one file are alike, and a few windows of one long
    document say little of others. With right answers and questions of each subject in place of bits and bytes, it is
    the change of accuracy with an interval over subjects.

    Raises ValueError when the three differ in length or are empty, a value is not finite, bytes are negative, or none.

    Source: Cochran 1977, "Sampling Techniques", chapter 6.
    """
    n = len(bytes_)
    if not n or len(before_bits) != n or len(after_bits) != n:
        raise ValueError(
            f"two readings are compared on the same windows, not on {len(before_bits)} and {len(after_bits)} of {n}"
        )
    _check_finite([*before_bits, *after_bits, *bytes_], "a window")
    total = math.fsum(bytes_)
    if min(bytes_) < 0 or not total:
        raise ValueError("windows have no negative number of bytes, and together at least one")
    changes = [float(after) - float(before) for before, after in zip(before_bits, after_bits, strict=True)]
    ratio = math.fsum(changes) / total
    # Their mean is the ratio, and the error of their mean the linearised one of the ratio.
    linearised = [ratio + (c - ratio * size) * n / total for c, size in zip(changes, bytes_, strict=True)]
    _, low, high, _ = t_interval(linearised)
    return RatioChange(n, ratio, low, high)


def _check_finite(values: Sequence[float], what: str) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{what} without a finite value in both readings cannot be compared")


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """What learning later tasks did to earlier ones: negative is forgetting, in the unit of the matrix.

    Row i: after task i was learned; column j: the accuracy on task j. It is the mean, over all tasks but the last, of
    the last row less the diagonal; the other cells are not looked at.

    Raises ValueError when the matrix is not square or has fewer than two tasks.

    Source: Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning".
    """
    tasks = len(matrix)
    if tasks < 2 or any(len(row) != tasks for row in matrix):
        raise ValueError(f"transfer needs a row and a column for each of at least two tasks: {list(matrix)}")
    last = matrix[-1]
    return math.fsum(last[task] - matrix[task][task] for task in range(tasks - 1)) / (tasks - 1)
