"""Rank correlation: the worked example, other libraries and brute force, and inputs of which it is not defined."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from toolkit.metrics.association import MeanAssociation, across_runs, mean_association, partial_spearman, spearman

LOSS, REPETITION = [3, 2.5, 2, 1.5, 1], [0.5, 0.6, 0.3, 0.2, 0.1]


def by_scipy(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """rho, and the asymptotic p."""
    rho, p = np.asarray(stats.spearmanr(x, y))
    return float(rho), float(p)


def test_the_worked_example_has_its_p_by_exact_permutation_and_not_the_asymptotic_one():
    found = spearman(LOSS, REPETITION)
    assert found is not None
    assert found.rho == pytest.approx(0.9)
    assert found.p == pytest.approx(10 / 120)
    assert found.exact
    assert found.n == 5
    assert by_scipy(LOSS, REPETITION)[1] == pytest.approx(0.037, abs=5e-4)


def test_the_interval_is_that_of_another_implementation():
    # The documented example of ci.spear in the R package statpsych (Bonett).
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = spearman(y, x)
    assert found is not None
    assert (found.rho, found.low, found.high) == pytest.approx((0.8699639, 0.5840951, 0.9638297), abs=5e-7)
    assert not found.exact


@pytest.mark.parametrize("n", [9, 12, 40])
def test_of_more_points_rho_and_p_are_those_of_scipy_ties_included(n: int):
    draw = np.random.default_rng(n)
    for _ in range(20):
        x, y = draw.integers(0, 5, n).tolist(), draw.integers(0, 5, n).tolist()
        found, other = spearman(x, y), by_scipy(x, y)
        assert found is not None
        assert (found.rho, found.p) == pytest.approx(other)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_of_few_points_p_counts_all_orders_ties_included(n: int):
    draw = np.random.default_rng(n)
    for _ in range(4):
        x, y = draw.integers(0, 4, n).tolist(), draw.random(n).tolist()
        if len(set(x)) == 1:
            continue
        found, rho = spearman(x, y), by_scipy(x, y)[0]
        assert found is not None
        orders = [abs(by_scipy(x, order)[0]) for order in itertools.permutations(y)]
        assert found.rho == pytest.approx(rho)
        assert found.p == pytest.approx(np.mean([other >= abs(rho) - 1e-9 for other in orders]))


def test_it_is_ranks_that_count_and_not_the_values():
    curved = spearman([1, 2, 3, 4, 5, 6], [math.exp(v) for v in (1, 2, 3, 4, 6, 5)])
    assert curved == spearman([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5])


def test_a_constant_or_too_few_points_have_no_correlation_rather_than_nan():
    assert spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]) is None
    assert spearman(list(range(20)), [0.5] * 20) is None
    assert spearman([1, 2, 3], [1, 2, 3]) is None
    assert spearman([], []) is None
    assert partial_spearman([1, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]) is None


def test_points_in_perfect_order_have_a_p_and_no_interval():
    few = spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert few is not None
    assert few.rho == pytest.approx(-1)
    assert (few.low, few.high) == (None, None)
    assert few.p == pytest.approx(2 / 120)
    many = spearman(list(range(10)), list(range(10)))
    assert many is not None
    # t would say that it cannot be.
    assert many.p == pytest.approx(2 / math.factorial(10))


def test_the_interval_covers_the_truth_in_about_95_percent_of_simulations():
    draw = np.random.default_rng(0)
    truth = 6 / math.pi * math.asin(0.25)
    covered = 0
    for _ in range(600):
        x = draw.normal(size=30)
        found = spearman(x.tolist(), (0.5 * x + math.sqrt(0.75) * draw.normal(size=30)).tolist())
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 600 <= 0.98


@pytest.mark.parametrize("n", [6, 10, 25])
def test_the_partial_correlation_is_that_of_the_formula_and_of_regression_residuals(n: int):
    draw = np.random.default_rng(n)
    for _ in range(20):
        x, y, z = (draw.integers(0, 12, n).tolist() for _ in range(3))
        found = partial_spearman(x, y, z)
        assert found is not None
        xy, xz, yz = (by_scipy(*pair)[0] for pair in ((x, y), (x, z), (y, z)))
        assert found.rho == pytest.approx((xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)))
        ranks = [stats.rankdata(values) for values in (x, y, z)]
        left = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
        assert found.rho == pytest.approx(np.corrcoef(*left)[0, 1])


def test_the_partial_p_is_that_of_the_coefficient_in_a_regression_on_both_ranks():
    draw = np.random.default_rng(0)
    n = 20
    x, y, z = (stats.rankdata(draw.normal(size=n)) for _ in range(3))
    design = np.column_stack([np.ones(n), x, z])
    beta, squares, *_ = np.linalg.lstsq(design, y)
    error = math.sqrt(squares[0] / (n - 3) * np.linalg.inv(design.T @ design)[1, 1])
    found = partial_spearman(x.tolist(), y.tolist(), z.tolist())
    assert found is not None
    assert found.p == pytest.approx(2 * stats.t.sf(abs(beta[1] / error), n - 3))
    # The interval has a point less, too.
    z_value = math.atanh(found.rho)
    half = 1.959964 * math.sqrt((1 + found.rho**2 / 2) / (n - 4))
    assert (found.low, found.high) == pytest.approx((math.tanh(z_value - half), math.tanh(z_value + half)))


def test_two_measures_that_only_follow_the_step_have_no_partial_correlation():
    draw = np.random.default_rng(1)
    step = list(range(40))
    loss, repetition = ((-v + draw.normal(scale=6, size=40)).tolist() for v in (np.array(step), np.array(step)))
    plain, held = spearman(loss, repetition), partial_spearman(loss, repetition, step)
    assert plain is not None
    assert held is not None
    assert plain.rho > 0.6
    assert plain.p < 1e-4
    assert held.p > 0.05


def test_a_measure_that_the_held_ranks_explain_altogether_has_no_partial_correlation():
    step = [1, 2, 3, 4, 5, 6, 7]
    falling = [math.exp(-s) for s in step]
    other = [2, 1, 4, 3, 7, 5, 6]
    assert partial_spearman(falling, other, step) is None
    assert partial_spearman(other, falling, step) is None
    assert partial_spearman(step, step, step) is None
    assert partial_spearman(list(range(300)), [*range(1, 300), 0], list(range(300))) is None


def test_a_constant_that_is_held_holds_nothing():
    assert partial_spearman(LOSS, REPETITION, [7] * 5) == spearman(LOSS, REPETITION)


def test_few_points_with_a_third_held_are_never_beyond_all_doubt():
    # With five points a perfect partial correlation is common, and t would give p = 0.
    found = partial_spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], [1, 3, 2, 5, 4])
    assert found is not None
    assert found.p >= 1 / 120
    assert not found.exact


@pytest.mark.parametrize("n", [6, 12])
def test_a_true_null_with_a_third_held_is_rejected_about_as_often_as_promised(n: int):
    draw = np.random.default_rng(n)
    rejected = 0
    for _ in range(600):
        z = draw.normal(size=n)
        found = partial_spearman((z + draw.normal(size=n)).tolist(), (z + draw.normal(size=n)).tolist(), z.tolist())
        rejected += found is not None and found.p <= 0.05
    # Without holding z, 600 such would reject three times as many and more.
    assert rejected / 600 < 0.09


def test_correlations_of_runs_are_combined_through_fishers_z_with_the_run_as_unit():
    rhos = [0.9, 0.5, 0.7]
    z = np.arctanh(rhos)
    half = stats.t.ppf(0.975, 2) * z.std(ddof=1) / math.sqrt(3)
    assert mean_association(rhos) == pytest.approx(
        (math.tanh(z.mean()), math.tanh(z.mean() - half), math.tanh(z.mean() + half), 3)
    )


def test_runs_without_a_correlation_do_not_count():
    assert mean_association([0.5, None, 0.7]) == mean_association([0.5, 0.7])
    assert mean_association([None, None]) is None
    assert mean_association([]) is None


def test_one_run_and_a_perfect_correlation_have_no_interval():
    assert mean_association([0.4]) == MeanAssociation(0.4, None, None, 1)
    assert mean_association([1.0, 0.5]) == MeanAssociation(0.75, None, None, 2)


def test_with_their_number_of_points_perfect_correlations_have_an_interval():
    z = np.arctanh([1 - 1 / 11**2, 0.5, 0.7])
    half = stats.t.ppf(0.975, 2) * z.std(ddof=1) / math.sqrt(3)
    assert mean_association([1.0, 0.5, None, 0.7], [11, 11, None, 11]) == pytest.approx(
        (math.tanh(z.mean()), math.tanh(z.mean() - half), math.tanh(z.mean() + half), 3)
    )
    # The trap: of runs that are all perfect the interval would have no width.
    assert mean_association([1.0, 1.0], [11, 12]) == MeanAssociation(1, None, None, 2)
    assert mean_association([-1.0, -1.0], [11, 12]) == MeanAssociation(-1, None, None, 2)
    assert mean_association([1.0, -1.0], [11, 11]) == pytest.approx((0, -1, 1, 2))


# --- runs against runs ---


def curves(seed: int, link: float, runs: int = 5, readings: int = 11) -> tuple[list[list[float]], list[list[float]]]:
    """Losses and repetition that both fall along bent curves, alike in all runs; what a run adds to them is linked."""
    draw = np.random.default_rng(seed)
    time = np.arange(readings) / (readings - 1)
    added = draw.normal(size=(runs, readings))
    other = link * added + draw.normal(size=(runs, readings))
    losses = 4 * np.exp(-3 * time) + 0.1 * added
    return losses.tolist(), (0.8 / (1 + np.exp(8 * (time - 0.4))) + 0.05 * other).tolist()


def test_curves_that_only_follow_time_are_not_linked_and_a_straight_line_leaves_their_bend():
    held, rejected = [], 0
    for seed in range(300):
        losses, repetition = curves(seed, 0)
        found = across_runs(losses, repetition)
        assert found is not None
        rejected += found.p <= 0.05
        for run, of in zip(losses, repetition, strict=True):
            partial = partial_spearman([round(v, 1) for v in run], of, list(range(11)))
            held.append(partial.rho if partial else 0)
    assert rejected / 300 < 0.08
    # The trap: with the step's ranks held something is left.
    assert np.mean(held) > 0.03


def test_a_link_between_runs_is_found_with_five_of_them():
    found = [across_runs(*curves(seed, 1)) for seed in range(100)]
    assert np.mean([of is not None and of.rho > 0 and of.p <= 0.05 for of in found]) > 0.9
    turned = across_runs(*(curves(0, -1)))
    assert turned is not None
    assert turned.rho < 0


def test_its_rho_and_p_are_those_of_ranks_reading_by_reading_and_all_orders_of_runs():
    losses, repetition = curves(3, 0.6)
    found = across_runs(losses, repetition)

    def rho(order: Sequence[int]) -> float:
        sides = []
        for of in (losses, [repetition[run] for run in order]):
            sides.append([rank for reading in zip(*of, strict=True) for rank in stats.rankdata(reading)])
        return float(np.corrcoef(*sides)[0, 1])

    rhos = [rho(order) for order in itertools.permutations(range(5))]
    assert found is not None
    assert found.rho == pytest.approx(rhos[0])
    assert found.p == pytest.approx(np.mean([abs(other) >= abs(rhos[0]) - 1e-9 for other in rhos]))
    assert found[2:] == (5, 11, True)


def test_of_many_runs_orders_are_drawn_and_always_the_same():
    losses, repetition = curves(0, 1, runs=12)
    found = across_runs(losses, repetition)
    assert found is not None
    assert not found.exact
    assert found.p == pytest.approx(1 / 20_001)
    assert across_runs(losses, repetition) == found
    none = across_runs(*curves(1, 0, runs=12))
    assert none is not None
    assert none.p > 0.05


def test_few_runs_and_runs_that_agree_have_no_comparison():
    losses, repetition = curves(0, 1, runs=4)
    assert across_runs(losses, repetition) is None
    assert across_runs([], []) is None
    assert across_runs([[]] * 5, [[]] * 5) is None
    losses, repetition = curves(0, 1)
    assert across_runs(losses, [[0.5] * 11] * 5) is None
    # A reading at which nobody repeats anything tells nothing, and is not counted.
    found = across_runs(losses, [[0.0, *run[1:]] for run in repetition])
    rest = across_runs([run[1:] for run in losses], [run[1:] for run in repetition])
    assert found == rest
    assert found is not None
    assert found.readings == 10


@pytest.mark.parametrize(
    ("losses", "repetition", "message"),
    [
        ([[1.0]] * 5, [[1.0]] * 4, "both measures at the same readings"),
        ([[1.0, 2.0]] * 5, [[1.0, 2.0]] * 4 + [[1.0]], "both measures at the same readings"),
        ([[math.nan]] * 5, [[1.0]] * 5, "nan or infinite"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(losses, repetition, message):
    with pytest.raises(ValueError, match=message):
        across_runs(losses, repetition)


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="has a value of each"):
        spearman([1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match="nan or infinite"):
        spearman([1, 2, 3, math.nan], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="has a value of each"):
        partial_spearman([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2])
    with pytest.raises(ValueError, match="between -1 and 1"):
        mean_association([0.5, 1.5])
    with pytest.raises(ValueError, match="number of points"):
        mean_association([0.5], [3, 4])
