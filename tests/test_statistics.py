"""Intervals of proportions within a run and of means across runs."""

import math
import subprocess
import sys

import pytest

from toolkit.metrics import statistics


@pytest.mark.parametrize(
    ("successes", "wilson", "exact"),
    [
        (87, (0.7902, 0.9224), (0.7880, 0.9289)),
        (0, (0, 0.0370), (0, 0.0362)),
        (100, (0.9630, 1), (0.9638, 1)),
    ],
)
def test_worked_intervals_of_a_proportion_of_a_hundred(successes, wilson, exact):
    assert statistics.wilson(successes, 100) == pytest.approx(wilson, abs=5e-5)
    assert statistics.exact_interval(successes, 100) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("interval", [statistics.wilson, statistics.exact_interval])
@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 3), (-1, 3)])
def test_a_proportion_of_nothing_or_beyond_one_is_an_error(interval, successes, n):
    with pytest.raises(ValueError, match="must"):
        interval(successes, n)


def test_three_runs_have_the_worked_t_interval():
    mean = statistics.t_interval([0.94, 0.95, 0.93])
    assert mean.mean == pytest.approx(0.94)
    assert mean.high - mean.mean == pytest.approx(0.0248, abs=5e-5)
    assert mean.mean - mean.low == pytest.approx(0.0248, abs=5e-5)
    assert mean.n == 3


def test_two_runs_half_apart_have_the_interval_of_the_cauchy_quantile():
    # With one degree of freedom t is Cauchy, whose quantile is a tangent: no table is asked.
    mean = statistics.t_interval([0, 1], confidence=0.9)
    assert mean.high == pytest.approx(0.5 + 0.5 * math.tan(math.pi * 0.45))


def test_one_run_says_nothing_about_others():
    mean = statistics.t_interval([0.94])
    assert (mean.mean, mean.n) == (0.94, 1)
    assert math.isnan(mean.low)
    assert math.isnan(mean.high)


def test_no_run_has_not_even_a_mean():
    mean = statistics.t_interval([])
    assert all(math.isnan(value) for value in mean[:3])
    assert mean.n == 0


def test_runs_that_all_agree_have_an_interval_of_no_width():
    assert statistics.t_interval([1, 1, 1]) == (1, 1, 1, 3)


def test_a_run_without_a_value_is_not_passed_over():
    mean = statistics.t_interval([0.94, math.nan, 0.93])
    assert all(math.isnan(value) for value in mean[:3])


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_a_share_and_not_a_percentage(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.t_interval([1, 2], confidence)


def test_importing_the_measures_imports_no_heavy_library():
    code = (
        "import sys, toolkit.metrics.digits, toolkit.metrics.information, toolkit.metrics.statistics\n"
        "print([name for name in ('scipy', 'numpy', 'rapidfuzz', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
