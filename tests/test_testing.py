"""Permutation tests by brute force, Holm, power, and what simulated runs say of intervals and tests."""

import itertools
import math
import statistics

import pytest

from benchmarks import simulations
from benchmarks.simulations import Design
from toolkit.metrics import testing
from toolkit.metrics.testing import permutation_test, power_of_difference, smallest_difference

A = [6.8, 6.1, 7.4, 5.9, 6.6]
B = [5.1, 6.0, 4.4, 6.3, 5.2]


def p_by_hand(a, b, paired=False):
    """Twice the smaller share of all arrangements, in whole numbers of tenths, where nothing is rounded."""
    a, b = ([round(10 * value) for value in group] for group in (a, b))
    if paired:
        pairs = [y - x for x, y in zip(a, b, strict=True)]
        arranged = [sum(s * d for s, d in zip(signs, pairs, strict=True)) for signs in arrangements(pairs)]
        observed = sum(pairs)
    else:
        everyone = a + b
        chosen = itertools.combinations(range(len(everyone)), len(b))
        arranged = [len(everyone) * sum(everyone[i] for i in places) for places in chosen]
        observed = len(everyone) * sum(b)
    less = sum(value <= observed for value in arranged)
    more = sum(value >= observed for value in arranged)
    return min(1, 2 * min(less, more) / len(arranged))


def arrangements(pairs):
    return itertools.product((-1, 1), repeat=len(pairs))


@pytest.mark.parametrize(
    ("runs", "paired", "one_of", "printed"),
    [(3, False, 20, 0.10), (4, False, 70, 0.0286), (5, False, 252, 0.0079), (8, False, 12_870, 0.00016),
     (5, True, 32, 0.0625), (6, True, 64, 0.03125), (8, True, 256, 0.0078), (1, False, 2, 1), (1, True, 2, 1)],
)  # fmt: skip
def test_worked_smallest_p_of_some_runs(runs, paired, one_of, printed):
    assert testing.smallest_p(runs, runs, paired) == pytest.approx(2 / one_of, rel=1e-12)
    assert 2 / one_of == pytest.approx(printed, abs=5e-6 if printed < 0.001 else 5e-5)


@pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 4), (5, 5), (2, 5), (1, 4)])
def test_smallest_p_is_what_groups_far_apart_get(a, b):
    apart = permutation_test([0.1 * run for run in range(a)], [10 + 0.1 * run for run in range(b)])
    assert apart.p == pytest.approx(testing.smallest_p(a, b))


@pytest.mark.parametrize("runs", [3, 5, 7])
def test_smallest_p_is_what_pairs_far_apart_get(runs):
    apart = permutation_test([0.1 * run for run in range(runs)], [10 + 0.3 * run for run in range(runs)], paired=True)
    assert apart.p == pytest.approx(testing.smallest_p(runs, runs, paired=True))


def test_reachable_level_is_the_last_p_below_five_percent():
    assert testing.reachable_level(3, 3) == 0
    assert testing.reachable_level(3, 3, alpha=0.1) == pytest.approx(0.1)
    assert testing.reachable_level(5, 5) == pytest.approx(12 / 252)
    assert testing.reachable_level(6, 6, paired=True) == pytest.approx(2 / 64)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("a", "b"), [(A, B), (B, A), (A[:3], B[:3]), ([1, 1, 2, 2], [2, 2, 1, 3]), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])]
)
def test_permutations_are_those_counted_by_hand(a, b, paired):
    test = permutation_test(a, b, paired)
    assert test.exact
    assert test.p == pytest.approx(p_by_hand(a, b, paired))
    assert test.difference == pytest.approx(statistics.mean(b) - statistics.mean(a))


@pytest.mark.parametrize(("a", "b"), [(A, B[:3]), (A[:2], B), (A[:1], B), (A, B[:1]), (A[:1], B[:1]), ([5], [5, 5, 6])])
def test_groups_of_different_sizes_are_permuted_too(a, b):
    assert permutation_test(a, b).p == pytest.approx(p_by_hand(a, b))


@pytest.mark.parametrize("paired", [False, True])
def test_p_is_the_same_whichever_group_comes_first(paired):
    assert permutation_test(A, B, paired).p == permutation_test(B, A, paired).p


@pytest.mark.parametrize("offset", [0, 1e6, 1e9])
@pytest.mark.parametrize("paired", [False, True])
def test_arrangements_that_tie_but_for_rounding_count_as_ties(offset, paired):
    # 4.1 + 4.2 and 4.0 + 4.3 are one sum, and seldom the same in floating point, the less so far from 0.
    a, b = [4.0, 4.3, 4.4, 4.6], [4.1, 4.2, 4.5, 4.9]
    shifted = permutation_test([offset + value for value in a], [offset + value for value in b], paired)
    assert shifted.p == pytest.approx(p_by_hand(a, b, paired))


@pytest.mark.parametrize("paired", [False, True])
def test_runs_that_all_agree_differ_by_nothing(paired):
    assert permutation_test([0.9] * 4, [0.9] * 4, paired) == (0, 0, 0, 1, True)


def test_runs_that_agree_within_groups_differ_without_width():
    assert permutation_test([1, 1, 1, 1], [3, 3, 3, 3])[:3] == (2, 2, 2)


@pytest.mark.parametrize("paired", [False, True])
def test_one_run_a_group_has_no_interval(paired):
    test = permutation_test([1], [3], paired)
    assert (test.difference, test.p) == (2, 1)
    assert math.isnan(test.low)
    assert math.isnan(test.high)


def test_interval_of_unpaired_groups_is_welchs():
    # A group without spread adds no degrees of freedom: the other's four, t quantile 2.7764; pooled it would be eight.
    test = permutation_test([2, 2, 2, 2, 2], [3, 6, 7, 9, 10])
    half = 2.7764 * math.sqrt(7.5 / 5)
    assert test[:3] == pytest.approx((5, 5 - half, 5 + half), abs=1e-3)


@pytest.mark.parametrize(("a", "b"), [(A, B), (A[:2], B), (A, B[2:])])
def test_interval_of_unpaired_groups_is_that_of_scipy(a, b):
    from scipy.stats import ttest_ind

    interval = ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert permutation_test(a, b)[1:3] == pytest.approx((interval.low, interval.high))


def test_interval_of_pairs_is_that_of_their_differences():
    test = permutation_test([1, 2, 3, 4], [2, 4, 6, 8], paired=True)  # differences 1 … 4, t quantile 3.1824
    assert test.high - 2.5 == pytest.approx(3.1824 * math.sqrt(5 / 3 / 4), abs=1e-4)


def test_pairs_see_what_unpaired_runs_hide():
    ease = [1, 5, 9, 13, 17, 21]
    b = [value + 1 + 0.1 * (value % 3) for value in ease]
    assert permutation_test(ease, b, paired=True).p == pytest.approx(2 / 64)
    assert permutation_test(ease, b).p > 0.5


def test_too_many_permutations_are_sampled_and_said_to_be():
    a = [0.3 * run for run in range(18)]
    b = [value + (-1) ** run * 0.4 + 0.2 for run, value in enumerate(a)]
    test = permutation_test(a, b, paired=True, seed=1)
    assert not test.exact
    # Differences are 0.6 and -0.2, nine each: only the number of changed signs in each nine matters.
    half = [(math.comb(9, k), 9 - 2 * k) for k in range(10)]
    more = sum(m * n for (m, x), (n, y) in itertools.product(half, half) if 6 * x - 2 * y >= 36)
    assert test.p == pytest.approx(2 * more / 2**18, abs=0.003)
    assert test == permutation_test(a, b, paired=True, seed=1)
    assert test.p != permutation_test(a, b, paired=True, seed=2).p


def test_sampled_p_is_never_nothing():
    apart = permutation_test(list(range(20)), list(range(100, 120)))
    assert (apart.exact, apart.p) == (False, 2 / 100_000)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_without_a_value_is_an_error_and_not_left_out(value):
    with pytest.raises(ValueError, match="without a value"):
        permutation_test(A, [*B[:4], value])


@pytest.mark.parametrize(("a", "b", "paired"), [([], B, False), (A, [], False), (A, B[:4], True)])
def test_groups_that_cannot_be_compared_are_an_error(a, b, paired):
    with pytest.raises(ValueError, match="at least one run"):
        permutation_test(a, b, paired)
    with pytest.raises(ValueError, match="at least one run"):
        testing.smallest_p(len(a), len(b), paired)


def holm_by_definition(p_values):
    """The adjusted p of a hypothesis: the least level at which the step-down procedure rejects it."""

    def rejected(level):
        order = sorted(range(len(p_values)), key=p_values.__getitem__)
        steps = itertools.takewhile(lambda k: p_values[order[k]] * (len(order) - k) <= level, range(len(order)))
        return {order[k] for k in steps}

    levels = sorted({p * k for p in p_values for k in range(1, len(p_values) + 1)})
    return [min((min(level, 1) for level in levels if i in rejected(level)), default=1) for i in range(len(p_values))]


def test_worked_holm():
    assert testing.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize(
    "p_values", [[0.2], [0.5, 0.5], [0.9, 0.001, 0.02, 0.02], [1, 1, 1], [0.04, 0.03, 0.02, 0.01, 0], [0.3, 0.4, 0.01]]
)
def test_holm_is_the_least_level_at_which_each_is_rejected(p_values):
    assert testing.holm(p_values) == pytest.approx(holm_by_definition(p_values))


def test_contrasts_not_tested_stay_so_and_do_not_count():
    corrected = testing.holm([None, 0.01, None, 0.04, 0.03])
    assert (corrected[0], corrected[2]) == (None, None)
    assert [p for p in corrected if p is not None] == pytest.approx([0.03, 0.06, 0.06])
    assert testing.holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_a_p_beyond_one_is_an_error(wrong):
    with pytest.raises(ValueError, match="between 0 and 1"):
        testing.holm([0.5, wrong])


@pytest.mark.parametrize(
    ("effect", "n", "paired", "power"),
    [(0.5, 64, False, 0.801), (0.8, 26, False, 0.807), (0.2, 394, False, 0.801), (0.5, 34, True, 0.808)],
)
def test_power_is_that_of_published_tables(effect, n, paired, power):
    assert power_of_difference(effect, 1, n, paired) == pytest.approx(power, abs=1e-3)
    assert power_of_difference(-10 * effect, 10, n, paired) == pytest.approx(power, abs=1e-3)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_smallest_difference_has_the_power_that_was_asked_for(n, paired):
    difference = smallest_difference(0.3, n, paired)
    assert difference is not None
    assert power_of_difference(difference, 0.3, n, paired) == pytest.approx(0.8)


def test_no_difference_is_found_as_often_as_the_level_says():
    assert power_of_difference(0, 1, 5) == pytest.approx(0.05)


@pytest.mark.parametrize("effect", [30, 1000, 1e6])
def test_power_of_a_huge_difference_is_one_without_complaint(effect, recwarn):
    assert power_of_difference(effect, 1, 5) == pytest.approx(1)
    assert not recwarn.list


def test_one_run_finds_nothing_however_large():
    assert smallest_difference(1, 1) is None
    assert power_of_difference(1000, 1, 1) == 0


def test_three_runs_find_nothing_at_the_level_of_the_permutation_test():
    assert smallest_difference(1, 3, alpha=testing.reachable_level(3, 3)) is None
    assert smallest_difference(1, 3) == pytest.approx(3.07, abs=0.01)  # what a t test alone would promise


def test_runs_without_spread_find_any_difference_but_none():
    assert smallest_difference(0, 5) == 0
    assert (power_of_difference(0.001, 0, 5), power_of_difference(0, 0, 5)) == (1, 0)


@pytest.mark.parametrize(("sd", "power", "alpha"), [(-1, 0.8, 0.05), (math.nan, 0.8, 0.05), (1, 80, 0.05), (1, 0.8, 5)])
def test_a_power_that_cannot_be_is_an_error(sd, power, alpha):
    with pytest.raises(ValueError, match="between"):
        smallest_difference(sd, 5, power=power, alpha=alpha)


@pytest.mark.parametrize(("contrasts", "unpaired", "paired"), [(1, 4, 6), (2, 5, 7), (3, 5, 7), (6, 5, 8)])
def test_worked_seeds_that_a_test_needs(contrasts, unpaired, paired):
    assert testing.seeds_needed(contrasts) == unpaired
    assert testing.seeds_needed(contrasts, paired=True) == paired


def test_three_seeds_are_enough_only_at_ten_percent():
    assert testing.seeds_needed(1, alpha=0.1) == 3


@pytest.mark.parametrize(("contrasts", "alpha"), [(0, 0.05), (1, 0), (1, 1)])
def test_seeds_for_no_contrast_are_an_error(contrasts, alpha):
    with pytest.raises(ValueError, match="at least one contrast"):
        testing.seeds_needed(contrasts, alpha=alpha)


@pytest.mark.parametrize(("p1", "p2", "items"), [(0.9, 0.7, 60), (0.7, 0.5, 93), (0.6, 0.5, 388), (0.5, 0.6, 388)])
def test_worked_items_that_tell_two_shares_apart(p1, p2, items):
    assert testing.items_needed(p1, p2) == items


@pytest.mark.parametrize(("p1", "p2", "power"), [(0.5, 0.5, 0.8), (1.2, 0.5, 0.8), (0.9, 0.5, 1), (0.9, 0.5, 80)])
def test_shares_that_no_number_tells_apart_are_an_error(p1, p2, power):
    with pytest.raises(ValueError, match="between 0 and 1|between alpha"):
        testing.items_needed(p1, p2, power)


def test_worked_design_effect():
    assert testing.design_effect(100, 0.05) == pytest.approx(5.95)
    assert testing.design_effect(1, 0.5) == testing.design_effect(100, 0) == 1
    for m, icc in ((0, 0.1), (10, -0.1), (10, 5)):
        with pytest.raises(ValueError, match="at least 1"):
            testing.design_effect(m, icc)


def test_simulated_run_has_the_variance_of_the_design_effect():
    import numpy as np

    recalled, _ = simulations.shares_recalled(4000, 1, 0.8, np.random.default_rng(1))
    of_independent_items = simulations.ITEMS * 0.8 * 0.2
    effect = testing.design_effect(simulations.ITEMS, simulations.ICC)
    assert recalled.var() / of_independent_items == pytest.approx(effect, rel=0.1)


def test_interval_of_a_run_covers_that_run_and_not_the_others():
    own, mean = simulations.coverage_of_wilson(2000, 0.8, seed=1)
    assert 0.93 <= own <= 0.97
    assert mean < 0.7


def test_interval_over_runs_covers_their_mean():
    assert 0.92 <= simulations.coverage_across_runs(1000, 5, 0.8, seed=1) <= 0.98


@pytest.mark.parametrize("design", [Design(5, False), Design(7, True)], ids=str)
def test_true_null_is_rejected_at_most_as_often_as_the_level_says(design):
    null = simulations.found(400, design, 0, seed=1)
    assert null.by_permutation <= 0.05 + simulations.slack(0.05, 400)


@pytest.mark.parametrize("design", [Design(5, False), Design(7, True)], ids=str)
def test_planted_difference_is_found_at_the_computed_power(design):
    planted = smallest_difference(1, *design)
    assert planted is not None
    power = simulations.found(400, design, planted, seed=2)
    assert power.by_t == pytest.approx(0.8, abs=simulations.slack(0.8, 400))
    assert power.by_permutation == pytest.approx(0.8, abs=simulations.slack(0.8, 400) + 0.02)


def test_log_rank_over_pooled_facts_finds_differences_that_are_none():
    pooled = simulations.rejected_when_pooled(60, 5, seed=1)
    assert pooled.by_log_rank > 0.2
    assert pooled.by_runs <= 0.05 + simulations.slack(0.05, 60)
