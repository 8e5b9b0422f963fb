"""Exposures to recall, the Kaplan-Meier curve, and what is read off it, against worked examples and a second hand."""

import math
import random
from fractions import Fraction

import pytest

from toolkit.metrics import survival
from toolkit.metrics.survival import Duration, exposures_to_recall, kaplan_meier


def durations(*texts):
    """ "3" is a fact recalled after three exposures, "10+" one that was not after ten."""
    return [Duration(float(text.rstrip("+")), not text.endswith("+")) for text in texts]


A = durations("3", "5", "5", "8", "10+", "10+")
C = durations("1", "2", "2", "3", "4", "10+")


def random_durations(seed, facts=30, latest=8):
    draw = random.Random(seed)
    return [Duration(draw.randint(0, latest), draw.random() < 0.7) for _ in range(facts)]


def by_hand(facts):
    """(time, survival, at risk) of each time, as exact fractions, from the definition."""
    left, steps = Fraction(1), []
    for time in sorted({fact.time for fact in facts}):
        at_risk = sum(fact.time >= time for fact in facts)
        recalled = sum(fact.time == time and fact.observed for fact in facts)
        left *= 1 - Fraction(recalled, at_risk)
        steps.append((time, left, at_risk))
    return steps


@pytest.mark.parametrize(
    ("recalled", "confirmed", "once"),
    [
        ([0, 0, 1, 1, 1], (2, True), (2, True)),
        ([0, 1, 0, 1, 1], (3, True), (1, True)),  # the lucky guess is not the time
        ([0, 1, 0, 1, 0], (4, False), (1, True)),
        ([0, 0, 0, 0, 1], (4, False), (4, True)),  # nothing comes after to confirm it
        ([0, 0, 0, 1, 1], (3, True), (3, True)),
        ([1, 1, 0, 0, 0], (0, True), (0, True)),  # known before training, forgotten later
        ([1, 0, 0, 1, 1], (3, True), (0, True)),
        ([0, 0, 0, 0, 0], (4, False), (4, False)),
    ],
)
def test_recall_counts_from_the_first_of_two_probes_that_agree(recalled, confirmed, once):
    assert exposures_to_recall(range(5), [bool(one) for one in recalled]) == confirmed
    assert exposures_to_recall(range(5), [bool(one) for one in recalled], confirmed=False) == once


def test_time_is_in_exposures_and_not_in_probes():
    assert exposures_to_recall([0, 5, 10, 15], [False, False, True, True]) == (10, True)
    assert exposures_to_recall([0, 5, 10, 15], [False, False, False, True]) == (15, False)


def test_one_probe_confirms_nothing():
    assert exposures_to_recall([0], [True]) == (0, False)
    assert exposures_to_recall([0], [True], confirmed=False) == (0, True)


@pytest.mark.parametrize(
    ("exposures", "recalled"),
    [([], []), ([0, 1], [True]), ([0, 2, 1], [True] * 3), ([-1, 0], [True] * 2), ([0, math.nan], [True] * 2)],
)
def test_probes_without_their_exposures_in_order_are_an_error(exposures, recalled):
    with pytest.raises(ValueError, match="exposures"):
        exposures_to_recall(exposures, recalled)


def test_worked_curve_of_six_facts():
    curve = kaplan_meier(A)
    assert curve.times == (3, 5, 8, 10)
    assert curve.survival == pytest.approx((0.8333, 0.5, 0.3333, 0.3333), abs=5e-5)
    assert curve.at_risk == (6, 5, 3, 2)


def test_worked_medians_are_where_half_are_left_and_not_fewer():
    # Software that asks for less than a half says 8 and 3.
    assert survival.median(kaplan_meier(A)).value == 5
    assert survival.median(kaplan_meier(C)).value == 2


def test_worked_restricted_means_up_to_ten():
    assert survival.restricted_mean(A, 10) == pytest.approx(6.8333, abs=5e-5)
    assert survival.restricted_mean(C, 10) == pytest.approx(3.6667, abs=5e-5)


def test_worked_log_rank_of_two_times_six_facts():
    chi2, p = survival.log_rank(A, C)
    assert chi2 == pytest.approx(2.4861, abs=5e-5)
    assert p == pytest.approx(0.1149, abs=5e-5)
    assert survival.log_rank(C, A) == pytest.approx((chi2, p))


@pytest.mark.parametrize("seed", range(20))
def test_curve_is_that_of_the_definition(seed):
    facts = random_durations(seed)
    curve = kaplan_meier(facts)
    times, left, at_risk = zip(*by_hand(facts), strict=True)
    assert curve.times == times
    assert curve.at_risk == at_risk
    assert curve.survival == pytest.approx([float(share) for share in left], abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_interval_is_the_exponential_greenwood_formula_where_that_is_defined(seed):
    facts = random_durations(seed)
    curve = kaplan_meier(facts, 0.9)
    variance = 0.0
    for (time, left, at_risk), low, high in zip(by_hand(facts), curve.low, curve.high, strict=True):
        recalled = sum(fact.time == time and fact.observed for fact in facts)
        if 0 < left < 1:
            variance += recalled / (at_risk * (at_risk - recalled))
            half = 1.6448536 * math.sqrt(variance) / math.log(left)
            assert (low, high) == pytest.approx((left ** math.exp(-half), left ** math.exp(half)), abs=1e-6)
        assert 0 <= low <= left <= high <= 1


@pytest.mark.parametrize("seed", range(20))
def test_band_and_curve_only_fall(seed):
    curve = kaplan_meier(random_durations(seed))
    for line in (curve.survival, curve.low, curve.high):
        assert list(line) == sorted(line, reverse=True)


def test_facts_never_recalled_leave_a_level_curve_with_a_bound():
    curve = kaplan_meier(durations("10+") * 100)
    assert (curve.times, curve.survival, curve.high) == ((10,), (1,), (1,))
    assert curve.low[0] == pytest.approx(1 - 0.0362, abs=5e-5)  # exact interval of 0 of 100
    assert survival.median(curve) == (None, None, None)
    assert survival.restricted_mean(durations("10+") * 100, 10) == 10


def test_facts_all_recalled_at_once_leave_a_bound_too():
    curve = kaplan_meier(durations("5") * 100)
    assert (curve.survival, curve.low) == ((0,), (0,))
    assert curve.high[0] == pytest.approx(0.0362, abs=5e-5)
    assert survival.median(curve) == (5, 5, 5)


def test_last_step_to_nothing_is_bounded_by_the_step_before():
    curve = kaplan_meier(durations("1", "2", "3", "4", "5", "6"))
    assert curve.survival[-1] == 0
    assert curve.high[-1] == curve.high[-2] < 0.7


def test_one_fact_has_a_median_and_hardly_an_interval():
    curve = kaplan_meier(durations("5"))
    assert (curve.times, curve.survival, curve.at_risk) == ((5,), (0,), (1,))
    assert survival.median(curve) == (5, None, None)
    assert survival.restricted_mean(durations("5"), 10) == 5


def test_facts_known_before_training_pull_the_curve_down_at_zero():
    facts = durations("0", "0", "4", "10+")
    assert kaplan_meier(facts).survival == (0.5, 0.25, 0.25)
    assert survival.median(kaplan_meier(facts)).value == 0
    assert survival.restricted_mean(facts, 10) == 0.5 * 4 + 0.25 * 6
    assert survival.share_by(facts, 0).share == 0.5


def test_a_fact_last_seen_when_another_is_recalled_is_at_risk_then():
    assert kaplan_meier(durations("5", "5+")).survival == (0.5,)


@pytest.mark.parametrize("survivors", [0.5, 0.5 + 1e-12])
def test_a_half_missed_by_rounding_is_a_half(survivors):
    curve = survival.Curve((1, 2), (survivors, 0.2), (0.3, 0.1), (0.7, 0.5), (10, 5), 0.95)
    assert survival.median(curve) == (1, 1, 2)


def test_six_facts_are_the_fewest_with_a_lower_limit_of_the_median():
    # All of n facts lie above the median with a chance of 1 / 2^n: 1/64 is under 2.5 %, 1/32 is not.
    assert survival.median(kaplan_meier(durations("1", "2", "3", "4", "5"))).low is None
    assert survival.median(kaplan_meier(durations("1", "2", "3", "4", "5", "6"))).low == 1


def test_interval_of_a_median_covers_it_in_about_its_share_of_samples():
    draw = random.Random(1)
    samples = [[Duration(draw.expovariate(1), True) for _ in range(40)] for _ in range(300)]
    facts = [[Duration(min(time, 2), time <= 2) for time, _ in sample] for sample in samples]
    medians = [survival.median(kaplan_meier(sample)) for sample in facts]
    covered = sum((low or 0) <= math.log(2) <= (high or math.inf) for _, low, high in medians) / 300
    assert 0.91 <= covered <= 0.99


@pytest.mark.parametrize("until", [0, 2.5, 5, 8])
def test_restricted_mean_without_censoring_is_a_mean_of_times_cut_off(until):
    times = [1, 2, 2, 4, 7, 8]
    facts = [Duration(time, True) for time in times]
    assert survival.restricted_mean(facts, until) == pytest.approx(sum(min(time, until) for time in times) / 6)


def test_share_by_seven_is_what_the_curve_has_lost():
    share = survival.share_by(A, 7)
    curve = kaplan_meier(A)
    assert share == pytest.approx((0.5, 1 - curve.high[1], 1 - curve.low[1]))
    assert survival.share_by(A, 8).share == pytest.approx(2 / 3)
    assert survival.share_by(A, 2) == pytest.approx((0, 0, 0.4593), abs=5e-5)


@pytest.mark.parametrize("read", [survival.restricted_mean, survival.share_by])
def test_nothing_is_said_of_times_after_the_last_probe(read):
    with pytest.raises(ValueError, match="last look was at 10"):
        read(A, 11)
    read(durations("3", "5"), 11)  # all are recalled: nothing more can come


@pytest.mark.parametrize("time", [-1, math.nan, math.inf])
def test_a_time_that_is_none_is_an_error(time):
    for call in (
        lambda: kaplan_meier([Duration(time, True)]),
        lambda: survival.restricted_mean(A, time),
        lambda: survival.share_by(A, time),
        lambda: survival.log_rank(A, [Duration(time, False)]),
    ):
        with pytest.raises(ValueError, match="a time is finite"):
            call()


def test_no_facts_have_no_curve():
    for call in (
        lambda: kaplan_meier([]),
        lambda: survival.restricted_mean([], 10),
        lambda: survival.share_by([], 7),
        lambda: survival.log_rank(A, []),
    ):
        with pytest.raises(ValueError, match="without durations"):
            call()


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_a_share_and_not_a_percentage(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        kaplan_meier(A, confidence)


@pytest.mark.parametrize(
    ("interval", "equal"),
    [
        ((6.5, 7.5), True),
        ((6, 8), True),
        ((5.9, 7.1), False),
        ((6.9, 8.1), False),
        ((1, 2), False),
        ((6.5, None), False),
        ((None, 7.5), False),
        ((math.nan, math.nan), False),
    ],
)
def test_seven_times_holds_only_where_the_whole_interval_is_near_seven(interval, equal):
    assert survival.equal_to(interval) is equal


def test_log_rank_is_the_sum_over_times_of_the_definition():
    a, b = random_durations(1), random_durations(2, latest=5)
    difference = variance = 0.0
    for time in {fact.time for fact in a + b if fact.observed}:
        n_a, n = (sum(fact.time >= time for fact in facts) for facts in (a, a + b))
        d_a, d = (sum(fact.time == time and fact.observed for fact in facts) for facts in (a, a + b))
        difference += d_a - d * n_a / n
        if n > 1:
            variance += d * n_a / n * (1 - n_a / n) * (n - d) / (n - 1)
    assert survival.log_rank(a, b).chi2 == pytest.approx(difference**2 / variance)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["10+"] * 6, ["10+"] * 3),  # none recalled
        (["5"] * 6, ["5"] * 3),  # all at the same time
        (["5"] * 49, ["3+"] * 4),  # no time with both: 49 * (1 / 49) is not 1 in floating point
    ],
)
def test_facts_that_no_time_tells_apart_are_no_different(a, b):
    assert survival.log_rank(durations(*a), durations(*b)) == (0, 1)


def test_log_rank_refuses_what_scipy_would_silently_get_wrong():
    a, b = durations("1", "2") * 27_000, durations("1", "1", "2") * 18_000
    small = survival.log_rank(durations("1", "2") * 270, durations("1", "1", "2") * 180).chi2
    assert survival.log_rank(a, b).chi2 == pytest.approx(100 * small, rel=0.01)
    with pytest.raises(ValueError, match="at most 110,000 facts"):
        survival.log_rank(a + a, b)


def test_worked_retention_and_savings():
    assert survival.retention(before=-30, best=-5, later=-12) == pytest.approx(0.72)
    assert survival.retention(-30, -5, -5) == 1
    assert survival.retention(-30, -5, -30) == 0
    assert survival.savings(8, 3) == pytest.approx(0.625)
    with pytest.raises(ValueError, match="0 exposures"):
        survival.savings(0, 0)


@pytest.mark.parametrize("best", [-30, -31])
def test_retention_is_not_defined_where_a_presentation_had_no_effect(best):
    assert survival.retention(-30, best, -12) is None


def test_software_that_asks_for_less_than_a_half_says_eight_and_three():
    for facts, half, less in ((A, 5, 8), (C, 2, 3)):
        curve = kaplan_meier(facts)
        assert survival.median(curve).value == half
        assert next(t for t, s in zip(curve.times, curve.survival, strict=True) if s < 0.5 - 1e-9) == less
