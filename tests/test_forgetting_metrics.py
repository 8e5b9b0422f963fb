"""What training took from a model: worked examples, brute force, coverage and power of simulated readings, traps."""

import itertools
import math
import random
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from toolkit.metrics import forgetting
from toolkit.metrics.classification import mcnemar
from toolkit.metrics.forgetting import detectable_drop, graded_change, ratio_change, smallest_drop
from toolkit.metrics.testing import holm, permutation_test

# --- right and wrong answers ---


def test_worked_change_of_a_hundred_questions():
    # [[60, 15], [5, 20]]: 15 forgotten, 5 learned.
    before = [True] * 75 + [False] * 25
    after = [True] * 60 + [False] * 15 + [True] * 5 + [False] * 20
    change = mcnemar(before, after)
    assert (change.n, change.only_first, change.only_second) == (100, 15, 5)
    assert change.difference == pytest.approx(-0.10)
    assert change.p == pytest.approx(0.0414, abs=5e-5)
    # Newcombe's method 10: Wilson's intervals [.6570, .8245] and [.5525, .7364], and phi (60·20 - 15·5 - 50)/2065.4.
    assert (change.low, change.high) == pytest.approx((-0.1866, -0.0120), abs=5e-5)
    assert smallest_drop(100, 5) == pytest.approx(0.10)
    # 18 against 5 get 2 · 44552 / 2^23 = .0106, 17 against 5 2 · 35443 / 2^22 = .0169; asked is .05 / 4.
    assert smallest_drop(100, 5, tests=4) == pytest.approx(0.13)


def test_worked_accuracy_corrected_for_chance():
    assert forgetting.chance_corrected(0.7, 0.25) == pytest.approx(0.6)
    assert forgetting.chance_corrected(0.25, 0.25) == 0
    assert forgetting.chance_corrected(0.1, 0.25) == pytest.approx(-0.2)
    assert forgetting.chance_corrected(0.31, 0) == 0.31
    assert forgetting.chance_corrected(1, 0.5) == 1


@pytest.mark.parametrize(("accuracy", "chance"), [(0.5, 1), (0.5, -0.1), (70, 0.25), (-0.1, 0), (math.nan, 0.25)])
def test_shares_in_percent_or_a_chance_of_one_are_not_corrected(accuracy, chance):
    with pytest.raises(ValueError, match="chance below 1"):
        forgetting.chance_corrected(accuracy, chance)


def test_percent_are_of_the_value_before():
    assert forgetting.percent_change(0.50, 0.48) == pytest.approx(-4)
    assert forgetting.percent_change(0.48, 0.50) == pytest.approx(100 / 24)
    assert forgetting.percent_change(0.3, 0) == -100
    assert forgetting.percent_change(0, 0.3) is None
    assert forgetting.percent_change(-0.2, 0.1) is None


def lost_at_least(n, gained, tests, alpha):
    """The definition, by whole numbers: losses are added one by one until the two-sided binomial p is small enough."""
    for lost in range(gained + 1, n - gained + 1):
        differ = gained + lost
        tail = sum(math.comb(differ, fewer) for fewer in range(gained + 1))
        if Fraction(2 * tail, 2**differ) * tests <= Fraction(str(alpha)):
            return lost
    return None


@pytest.mark.parametrize(("tests", "alpha"), [(1, 0.05), (4, 0.05), (57, 0.05), (1, 0.01), (1, 0.03125), (3, 0.09375)])
def test_smallest_drop_is_the_one_found_by_adding_losses(tests, alpha):
    for n, gained in itertools.product([1, 5, 6, 7, 12, 30, 90], [0, 1, 2, 5, 11]):
        if gained <= n:
            lost = lost_at_least(n, gained, tests, alpha)
            expected = None if lost is None else pytest.approx((lost - gained) / n)
            assert smallest_drop(n, gained, tests, alpha) == expected


def test_smallest_drop_is_significant_after_holm_and_one_question_less_is_not():
    draw = random.Random(0)
    for _ in range(40):
        n, tests = draw.randrange(20, 400), draw.randrange(1, 60)
        gained = draw.randrange(n // 8)
        drop = smallest_drop(n, gained, tests)
        if drop is None:
            continue
        lost = gained + round(drop * n)
        assert lost + gained <= n
        for count, shown in ((lost, True), (lost - 1, False)):
            before = [False] * gained + [True] * count + [True] * (n - count - gained)
            after = [True] * gained + [False] * count + [True] * (n - count - gained)
            corrected = holm([mcnemar(before, after).p, *[1.0] * (tests - 1)])[0]
            assert corrected is not None
            assert (corrected <= 0.05) is shown


def test_few_questions_cannot_show_any_drop():
    assert smallest_drop(5, 0) is None
    assert smallest_drop(6, 0) == 1
    # A task of 57 subjects, 10 questions of each: none of them can be shown alone.
    assert smallest_drop(10, 0, tests=57) is None
    assert smallest_drop(200, 0, tests=57) == pytest.approx(12 / 200)
    assert smallest_drop(10, 10) is None
    assert smallest_drop(10, 0, alpha=1e-9) is None


def test_p_of_exactly_the_level_shows_a_drop():
    assert smallest_drop(6, 0, alpha=2 / 64) == 1
    assert detectable_drop(6, 1.0, alpha=2 / 64) == detectable_drop(6, 1.0)
    # 26 against 4, of which scipy's p is greater than the fraction by rounding.
    assert smallest_drop(30, 4, alpha=2 * (1 + 30 + 435 + 4060 + 27405) / 2**30) == pytest.approx(22 / 30)


def test_smallest_drop_grows_with_what_was_gained_and_with_the_tests():
    drops = [smallest_drop(20_000, gained) for gained in range(0, 3000, 100)]
    assert drops == sorted(drops, key=lambda drop: drop or math.inf)
    assert (smallest_drop(1000, 30), smallest_drop(1000, 30, tests=4)) == (0.019, 0.024)
    # Far from the ends p is the normal one: (difference - 1)^2 = 1.96^2 (difference + 2 gained).
    assert round(20_000 * (smallest_drop(20_000, 2000) or 0)) == pytest.approx(127, abs=1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [((0, 0), "at least one question"), ((10, 0, 0), "one test"), ((10, 11), "11 of 10"), ((10, -1), "-1 of 10"),
     ((10, 0, 1, 0.0), "alpha lies"), ((10, 0, 1, 5), "alpha lies")],
)  # fmt: skip
def test_drops_of_impossible_designs_are_errors(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        smallest_drop(*arguments)


# --- the drop that would be found ---


def power_by_hand(n, changed, drop, level):
    """Over every number lost and gained: how likely it is, and whether the exact test shows a drop there."""
    changed = max(changed, drop)
    lose, gain = (changed + drop) / 2, (changed - drop) / 2
    power = 0.0
    for lost, gained in itertools.product(range(n + 1), repeat=2):
        if gained < lost <= n - gained:
            differ = lost + gained
            if 2 * sum(math.comb(differ, fewer) for fewer in range(gained + 1)) <= level * 2**differ:
                ways = math.comb(n, lost) * math.comb(n - lost, gained)
                power += ways * lose**lost * gain**gained * (1 - changed) ** (n - differ)
    return power


@pytest.mark.parametrize(("n", "changed"), [(40, 0.3), (40, 0.0), (40, 1.0), (25, 0.9), (60, 0.15)])
@pytest.mark.parametrize(("power", "tests"), [(0.8, 1), (0.5, 1), (0.9, 3)])
def test_detectable_drop_has_the_power_summed_over_every_outcome(n, changed, power, tests):
    drop = detectable_drop(n, changed, power, tests)
    assert drop is not None
    assert power_by_hand(n, changed, drop, 0.05 / tests) == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(("n", "changed", "tests"), [(228, 0.1, 1), (1319, 0.15, 4), (300, 0.01, 1)])
def test_detectable_drop_is_found_in_simulated_readings_as_often_as_asked(n, changed, tests):
    drop = detectable_drop(n, changed, tests=tests)
    assert drop is not None
    share = max(changed, drop)
    draw = np.random.default_rng(0)
    counts = draw.multinomial(n, [(share + drop) / 2, (share - drop) / 2, 1 - share], size=2000)
    seen = Counter((lost, gained) for lost, gained, _ in counts.tolist() if lost > gained)
    shown = {pair: stats.binomtest(pair[0], sum(pair)).pvalue * tests <= 0.05 for pair in seen}
    found = sum(seen[pair] for pair in seen if shown[pair]) / 2000
    # Four standard errors of 2,000 draws.
    assert found == pytest.approx(0.8, abs=0.036)


def test_drop_where_nothing_else_changes_takes_six_losses():
    # All that change are losses, and six of them are shown: the chance of six or more is the power.
    drop = detectable_drop(100, 0.0)
    assert drop is not None
    assert stats.binom.sf(5, 100, drop) == pytest.approx(0.8, abs=1e-6)
    assert detectable_drop(100, drop / 2) == pytest.approx(drop, abs=1e-8)
    assert detectable_drop(5, 0.0) is None
    assert detectable_drop(5, 1.0) is None
    assert detectable_drop(6, 1.0) == pytest.approx(2 * 0.8 ** (1 / 6) - 1, abs=1e-8)


def test_detectable_drop_shrinks_with_questions_and_grows_with_changes_and_tests():
    fewer = [(n, 0.1, 0.8, 1) for n in (20_000, 5000, 1000, 200, 50)]
    busier = [(500, share, 0.8, 1) for share in (0, 0.05, 0.1, 0.4, 1)]
    stricter = [(500, 0.1, power, tests) for power, tests in ((0.5, 1), (0.8, 1), (0.8, 4), (0.8, 57), (0.9, 57))]
    for designs in (fewer, busier, stricter):
        drops = [detectable_drop(*design) or math.inf for design in designs]
        assert drops == sorted(set(drops))
        assert 0 < drops[0] < drops[-1] < 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [((0, 0.1), "at least one question"), ((10, 1.1), "is 1.1"), ((10, -0.1), "lies in 0"), ((10, 0.1, 1), "power"),
     ((10, 0.1, 0.05), "power"), ((10, 0.1, 80), "power"), ((10, 0.1, 0.8, 0), "one test")],
)  # fmt: skip
def test_powers_of_impossible_designs_are_errors(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        detectable_drop(*arguments)


# --- graded values ---


def p_by_hand(changes):
    """The share of all ways to sign whole numbers whose sum is as far from 0."""
    ways = list(itertools.product((-1, 1), repeat=len(changes)))
    falls = [abs(sum(sign * change for sign, change in zip(way, changes, strict=True))) for way in ways]
    return sum(far >= abs(sum(changes)) for far in falls) / len(falls)


def test_p_of_graded_values_is_that_of_all_signs():
    draw = random.Random(0)
    for _ in range(60):
        n = draw.randrange(1, 11)
        before, after = ([draw.randrange(8) for _ in range(n)] for _ in range(2))
        expected = p_by_hand([b - a for a, b in zip(before, after, strict=True)])
        # In tenths, whose sums tie but for rounding, and far from 0, where rounding is coarse.
        tenths = graded_change([a / 10 for a in before], [b / 10 for b in after])
        far = graded_change([1e7 + a / 10 for a in before], [1e7 + b / 10 for b in after])
        assert graded_change(before, after).p == tenths.p == far.p == pytest.approx(expected)


def test_p_of_right_and_wrong_is_mcnemars():
    draw = random.Random(1)
    for _ in range(40):
        n = draw.randrange(1, 25)
        before, after = ([draw.random() < share for _ in range(n)] for share in (0.7, 0.4))
        graded, paired = graded_change(before, after), mcnemar(before, after)
        assert graded.n == paired.n
        assert (graded.difference, graded.p) == pytest.approx((paired.difference, paired.p))


@pytest.mark.parametrize(("lost", "gained"), [(11, 10), (30, 12), (45, 22), (60, 60), (400, 330)])
def test_drawn_signs_give_mcnemars_p_too(lost, gained):
    p = stats.binomtest(lost, lost + gained).pvalue
    drawn = graded_change([1] * lost + [0] * gained + [1] * 9, [0] * lost + [1] * gained + [1] * 9).p
    assert drawn == pytest.approx(p, abs=5 * math.sqrt(p / 100_000) + 2e-5)


def test_drawn_signs_agree_with_counted_ones_where_changes_differ_in_size(monkeypatch):
    draw = random.Random(2)
    before = [draw.random() for _ in range(17)]
    after = [value - draw.expovariate(10) + 0.06 for value in before]
    counted = graded_change(before, after)
    assert counted.p == pytest.approx(permutation_test(before, after, paired=True).p)
    monkeypatch.setattr(forgetting, "COUNTED_UP_TO", 3)
    drawn = graded_change(before, after)
    assert drawn.p != counted.p
    assert drawn.p == pytest.approx(counted.p, abs=5 * math.sqrt(counted.p / 100_000))
    assert graded_change(before, after) == drawn
    assert graded_change(before, after, seed=1) != drawn


def test_interval_of_graded_values_is_the_paired_t_interval():
    draw = np.random.default_rng(3)
    before = draw.normal(5, 2, 50)
    after = before + draw.normal(0.3, 1, 50)
    expected = stats.ttest_rel(after, before).confidence_interval()
    change = graded_change(list(before), list(after))
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))
    assert change.difference == pytest.approx(float(np.mean(after) - np.mean(before)))


def test_few_changes_among_many_items_are_not_shown_where_a_t_test_would():
    before, after = [1.0] * 200, [0.5] * 4 + [1.0] * 196
    assert stats.ttest_rel(after, before).pvalue == pytest.approx(0.0452, abs=5e-5)
    assert graded_change(before, after).p == 0.125


def test_values_that_do_not_change_differ_by_nothing():
    assert graded_change([0.3, 0.7, 9.1], [0.3, 0.7, 9.1]) == (3, 0, 0, 0, 1)


def test_values_that_all_fall_alike_have_the_least_p_of_their_number():
    assert graded_change([0.5] * 8, [0.25] * 8) == (8, -0.25, -0.25, -0.25, 2 / 2**8)
    assert graded_change([0.5] * 500, [0.25] * 500).p == 1 / 100_000


def test_one_graded_item_has_no_interval_and_shows_nothing():
    change = graded_change([0.2], [0.9])
    assert (change.n, change.difference, change.p) == (1, pytest.approx(0.7), 1)
    assert math.isnan(change.low)
    assert math.isnan(change.high)


def test_graded_values_are_turned_around_with_the_readings():
    draw = random.Random(4)
    before, after = ([draw.random() for _ in range(15)] for _ in range(2))
    one, other = graded_change(before, after), graded_change(after, before)
    assert one.p == other.p
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [([1.0], [1.0, 2.0], "not on 1 and 2"), ([], [], "not on 0 and 0"), ([1.0], [math.nan], "without a finite value"),
     ([math.inf], [1.0], "without a finite value")],
)  # fmt: skip
def test_graded_values_that_do_not_pair_are_errors(before, after, complaint):
    with pytest.raises(ValueError, match=complaint):
        graded_change(before, after)


# --- text ---


def test_worked_change_of_bits_a_byte():
    # 30 bits more over 60 bytes; the mean of the windows' own changes would be (1 + 0 + 20/30)/3 = .5556.
    change = ratio_change([10, 20, 30], [20, 20, 50], [10, 20, 30])
    assert (change.n, change.difference) == (3, 0.5)
    # Each window's change less half a bit a byte: 5, -10, 5; squares 150 over n - 1 = 2; 3 windows in 60 bytes.
    half = 4.302653 * math.sqrt(150 / 2 * 3) / 60
    assert (change.low, change.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_interval_of_windows_of_one_size_is_the_paired_t_interval():
    draw = np.random.default_rng(5)
    before = draw.normal(900, 90, 40)
    after = before + draw.normal(9, 30, 40)
    expected = stats.ttest_rel(after / 512, before / 512).confidence_interval()
    change = ratio_change(list(before), list(after), [512] * 40)
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))


def test_interval_covers_the_ratio_in_95_of_a_hundred_simulated_texts():
    draw = np.random.default_rng(6)
    covered = 0
    for _ in range(1500):
        sizes = draw.integers(100, 2000, 25)
        before = draw.normal(1.2, 0.3, 25) * sizes
        # Every window changes by .05 bits a byte, give or take its own .1.
        after = before + (0.05 + draw.normal(0, 0.1, 25)) * sizes
        change = ratio_change(list(before), list(after), sizes.tolist())
        covered += change.low <= 0.05 <= change.high
    assert 0.925 <= covered / 1500 <= 0.97


def test_text_read_twice_alike_has_not_changed():
    assert ratio_change([7, 9], [7, 9], [4, 5]) == (2, 0, 0, 0)


def test_one_window_has_no_interval():
    change = ratio_change([8], [10], [4])
    assert (change.n, change.difference) == (1, 0.5)
    assert math.isnan(change.low)
    assert math.isnan(change.high)


def test_bits_in_other_units_scale_the_change_and_its_interval():
    before, after, sizes = [10.0, 20, 35, 8], [12.0, 19, 50, 8], [10, 20, 30, 0]
    one, other = ratio_change(before, after, sizes), ratio_change(before, after, [8 * size for size in sizes])
    assert [8 * value for value in other[1:]] == pytest.approx(list(one[1:]))


def test_over_subjects_the_interval_is_wider_where_one_subject_lost_all():
    # 400 questions of 20 subjects, 40 of them lost: two in each subject, or all of two subjects.
    spread, alone = [18] * 20, [0, 0] + [20] * 18
    assert ratio_change([20] * 20, spread, [20] * 20) == (20, -0.1, -0.1, -0.1)
    change = ratio_change([20] * 20, alone, [20] * 20)
    assert change.difference == pytest.approx(-0.1)
    assert change.low < -0.2
    assert change.high > 0
    # By questions the two are the same, and shown.
    assert mcnemar([True] * 400, [False] * 40 + [True] * 360).high < -0.07


@pytest.mark.parametrize(
    ("before", "after", "sizes", "complaint"),
    [([1], [1, 2], [1, 2], "not on 1 and 2 of 2"), ([], [], [], "same windows"), ([1], [2], [0], "at least one"),
     ([1.0], [math.nan], [3], "a window without"), ([1, 1], [2, 2], [-1, 3], "no negative number")],
)  # fmt: skip
def test_windows_that_do_not_pair_are_errors(before, after, sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        ratio_change(before, after, sizes)


# --- a sequence of tasks ---


def test_worked_backward_transfer():
    assert forgetting.backward_transfer([[0.8, 0.2], [0.6, 0.9]]) == pytest.approx(-0.2)
    # (.5 - .9 + .9 - .7) / 2: the first was forgotten more than the second gained.
    three = [[0.9, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.9, 0.8]]
    assert forgetting.backward_transfer(three) == pytest.approx(-0.1)


def test_backward_transfer_looks_only_at_the_diagonal_and_the_last_row():
    unmeasured = [[0.8, math.nan, math.nan], [math.nan, 0.7, math.nan], [0.8, 0.7, 0.1]]
    assert forgetting.backward_transfer(unmeasured) == 0


@pytest.mark.parametrize("matrix", [[], [[0.5]], [[0.5, 0.5]], [[0.8, 0.2], [0.6]]])
def test_backward_transfer_of_fewer_than_two_tasks_or_of_no_square_is_an_error(matrix):
    with pytest.raises(ValueError, match="at least two tasks"):
        forgetting.backward_transfer(matrix)


def test_importing_the_measures_imports_no_heavy_library():
    code = (
        "import sys, toolkit.metrics.forgetting\n"
        "print([name for name in ('scipy', 'numpy', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
