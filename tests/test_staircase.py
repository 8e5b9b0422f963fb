"""Steps at epoch boundaries and the onset of memorisation: planted values, other ways, and curves that only look so."""

import math

import numpy as np
import pytest
from scipy import stats

from toolkit.metrics.staircase import Staircase, onset, staircase

EACH = 20
"""Updates an epoch."""


def stairs(
    drops: list[float], noise: float = 0.0, seed: int = 0, slope: float = 0.0
) -> tuple[list[float], list[float]]:
    """Epochs and losses of updates that fall by a drop at each boundary, and by `slope` an epoch within epochs."""
    draw = np.random.default_rng(seed)
    places = np.arange(1, (len(drops) + 1) * EACH + 1)
    level = 3 - np.cumsum([0, *drops])
    within = (places - 1) // EACH
    losses = level[within] - slope * (places - 1) / EACH + noise * draw.normal(size=len(places))
    return (places / EACH).tolist(), losses.tolist()


def drops_of(found: Staircase) -> list[float]:
    assert all(step.drop is not None for step in found.steps)
    return [step.drop for step in found.steps if step.drop is not None]


def test_level_stairs_are_the_whole_fall():
    found = staircase(*stairs([0.5, 0.3]))
    assert drops_of(found) == pytest.approx([0.5, 0.3])
    assert [step.epoch for step in found.steps] == [1, 2]
    assert found.total == pytest.approx(0.8)
    assert found.fall == pytest.approx(0.8)
    assert found.share == pytest.approx(1)


def test_a_straight_fall_has_no_steps():
    found = staircase(*stairs([0, 0], slope=0.4))
    assert drops_of(found) == pytest.approx([0, 0], abs=1e-9)
    assert found.share == pytest.approx(0, abs=1e-9)


def test_a_step_in_a_falling_loss_is_told_from_the_fall():
    found = staircase(*stairs([0.5, 0.5], slope=0.2))
    assert drops_of(found) == pytest.approx([0.5, 0.5])
    # From the first epoch's mean to the last one's: two steps, and two epochs' slope.
    assert found.fall == pytest.approx(1.4)
    assert found.share == pytest.approx(1 / 1.4)


@pytest.mark.parametrize("epochs_to_e", [0.5, 1, 3])
def test_a_smooth_curve_that_bends_has_steps_near_zero(epochs_to_e: float):
    # The trap: the mean losses of its epochs fall by much, and those of the halves beside a boundary too.
    epochs = [n / EACH for n in range(1, 5 * EACH + 1)]
    losses = [1 + 2 * math.exp(-epoch / epochs_to_e) for epoch in epochs]
    found = staircase(epochs, losses)
    beside = np.mean(losses[EACH // 2 : EACH]) - np.mean(losses[EACH : EACH + EACH // 2])
    assert found.fall is not None
    assert found.share is not None
    assert found.fall > 0.5
    assert all(abs(drop) < 0.001 * beside for drop in drops_of(found))
    assert abs(found.share) < 0.001


def logistic(quickly: float, step: float = 0.0, noise: float = 0.0, seed: int = 0) -> tuple[list[float], list[float]]:
    """A smooth fall by 2 that is steepest at the first boundary, and stairs besides; 35 updates an epoch."""
    places = np.arange(3 * 35) / 35
    losses = 2 / (1 + np.exp((places - 1) / quickly)) - step * (np.arange(3 * 35) // 35)
    noisy = losses + noise * np.random.default_rng(seed).normal(size=len(places))
    return (places + 1 / 35).tolist(), noisy.tolist()


def by_two_lines(epochs: list[float], losses: list[float]) -> float:
    """The drop at the first boundary between a line on each side."""
    x, y = np.array(epochs) - 1 - 0.5 / 35, np.array(losses)
    sides = [(x < 0) & (x > -0.5), (x > 0) & (x < 0.5)]
    before, after = (np.polyfit(x[side], y[side], 1)[1] for side in sides)
    return float(before - after)


@pytest.mark.parametrize(("quickly", "at_most"), [(0.3, 0.005), (0.25, 0.01), (0.2, 0.025)])
def test_a_smooth_fall_that_is_steepest_at_a_boundary_is_no_step(quickly: float, at_most: float):
    # The trap: it bends to one side before and to the other after, and lines miss it by the opposite.
    epochs, losses = logistic(quickly)
    assert by_two_lines(epochs, losses) > 6 * at_most
    assert all(0 < drop < at_most for drop in drops_of(staircase(epochs, losses)))


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_the_interval_has_the_truth_of_a_smooth_fall_with_or_without_a_step(step: float):
    found = [staircase(*logistic(0.2, step, noise=0.12, seed=seed)).steps[0] for seed in range(400)]
    covered = [of.low <= step <= of.high for of in found if of.low is not None and of.high is not None]
    assert len(covered) == 400
    assert 0.91 <= np.mean(covered) <= 0.97
    # Two lines are off by more than their error is.
    off = [by_two_lines(*logistic(0.2, step, noise=0.12, seed=seed)) - step for seed in range(400)]
    assert np.mean(off) > 1.5 * np.std(off)


def test_a_step_and_its_interval_are_those_of_one_regression_by_other_means():
    epochs, losses = stairs([0.4], noise=0.2, seed=3, slope=0.3)
    step = staircase(epochs, losses).steps[0]
    x, y = np.array(epochs) - 1 - 0.5 / EACH, np.array(losses)
    used = (x > -0.5) & (x < 0.5)
    x, y, before = x[used], y[used], (x[used] < 0).astype(float)
    assert step.updates == (before.sum(), len(x) - before.sum()) == (10, 10)
    design = np.column_stack([np.ones_like(x), before, x, x**2, x**3])
    beta, squares, *_ = np.linalg.lstsq(design, y)
    degrees = len(x) - 5
    assert step.freedom == degrees
    error = math.sqrt(squares[0] / degrees * np.linalg.inv(design.T @ design)[1, 1])
    half = stats.t.ppf(0.975, degrees) * error
    assert (step.drop, step.error, step.low, step.high) == pytest.approx(
        (beta[1], error, beta[1] - half, beta[1] + half)
    )


def test_a_planted_step_lies_in_the_interval_in_about_95_percent_of_seeds():
    covered, totals = [], []
    for seed in range(400):
        found = staircase(*stairs([0.5, 0.2], noise=0.15, seed=seed, slope=0.1))
        for step, planted in zip(found.steps, (0.5, 0.2), strict=True):
            assert step.low is not None
            assert step.high is not None
            covered.append(step.low <= planted <= step.high)
        assert found.total is not None
        assert found.error is not None
        totals.append((found.total - 0.7) / found.error)
    assert 0.93 <= np.mean(covered) <= 0.97
    # The error of the sum is what the sums scatter by.
    assert 0.9 <= np.std(totals) <= 1.2


def test_the_last_update_of_an_epoch_belongs_to_it_for_all_rounding():
    epochs, losses = stairs([0.5])
    off = [epoch + (1e-9 if number % 2 else -1e-9) for number, epoch in enumerate(epochs)]
    off[EACH - 1] = 1.0000000002
    found = staircase(off, losses)
    assert drops_of(found) == pytest.approx([0.5])
    assert found.steps[0].updates == (10, 10)


def test_a_boundary_with_too_few_updates_has_no_step_rather_than_a_wrong_one():
    epochs = [n / 6 for n in range(1, 19)]
    found = staircase(epochs, [3.0] * 6 + [2.0] * 6 + [1.0] * 6)
    assert [(step.drop, step.low, step.updates) for step in found.steps] == [(None, None, (3, 3))] * 2
    assert (found.total, found.share) == (None, None)
    assert found.fall == pytest.approx(2)


def test_training_that_ends_soon_after_a_boundary_has_no_step_there():
    epochs, losses = stairs([0.5, 0.3])
    found = staircase(epochs[: 2 * EACH + 3], losses[: 2 * EACH + 3])
    assert found.steps[0].drop == pytest.approx(0.5)
    assert found.steps[1].drop is None
    assert found.steps[1].updates == (10, 3)
    assert found.total is None


def test_one_epoch_has_no_boundary():
    assert staircase([0.25, 0.5, 0.75, 1.0], [4, 3, 2, 1]) == Staircase([], None, None, None, None)
    assert staircase([], []) == Staircase([], None, None, None, None)


def test_a_loss_that_rises_has_steps_and_no_share():
    found = staircase(*stairs([-0.2]))
    assert drops_of(found) == pytest.approx([-0.2])
    assert found.share is None


@pytest.mark.parametrize(
    ("epochs", "losses", "window", "message"),
    [
        ([0.5, 1.0], [1.0], 0.5, "each update has a loss"),
        ([0.5, 1.0], [1.0, math.nan], 0.5, "nan or infinite"),
        ([1.0, 0.5], [1.0, 2.0], 0.5, "do not ascend"),
        ([0.5, 1.0], [1.0, 2.0], 0.6, "two boundaries"),
    ],
)
def test_updates_that_cannot_be_fitted_are_refused(epochs, losses, window, message):
    with pytest.raises(ValueError, match=message):
        staircase(epochs, losses, window)


def planted(gains: list[float], harder: float = 0.0, seed: int = 0, n: int = 40) -> tuple[list, list]:
    """Losses by reading of examples that all improve by .1 a reading, and trained ones by `gains` besides."""
    draw = np.random.default_rng(seed)
    own = draw.normal(3, 0.8, (2, n))
    trained, held_out = [], []
    for reading, gain in enumerate(gains):
        noise = draw.normal(0, 0.05, (2, n))
        trained.append((own[0] - 0.1 * reading - gain + noise[0]).tolist())
        held_out.append((own[1] + harder - 0.1 * reading + noise[1]).tolist())
    return trained, held_out


def test_memorisation_begins_where_it_was_planted():
    found = onset(*planted([0, 0, 0, 0.3, 0.6, 0.9]))
    assert found.begins == 3
    assert [gap.gap for gap in found.gaps] == pytest.approx([0, 0, 0, 0.3, 0.6, 0.9], abs=0.05)
    # Held-out examples go on improving meanwhile.
    assert found.lowest == 5


def test_a_gap_that_was_there_before_training_is_no_memorisation():
    # The trap: held-out examples are harder by one nat from the start.
    found = onset(*planted([0, 0, 0, 0], harder=1.0))
    assert found.gaps[1].held_out - found.gaps[1].trained > 0.5
    assert found.begins is None
    assert onset(*planted([0, 0, 0.3, 0.3], harder=1.0)).begins == 2
    assert onset(*planted([0, 0, 0.3, 0.3], harder=-1.0)).begins == 2


def test_examples_that_differ_much_hide_no_small_gain():
    # Their own losses scatter by .8: of those, .3 with 40 a side would not be told from none.
    trained, held_out = planted([0, 0.3], seed=1)
    assert np.asarray(stats.ttest_ind(held_out[1], trained[1], equal_var=False))[1] > 0.2
    assert onset(trained, held_out).begins == 1


def test_a_gap_that_goes_away_again_is_not_where_it_begins():
    assert onset(*planted([0, 0.3, 0, 0.3, 0.3])).begins == 3
    assert onset(*planted([0, 0.3, 0.3, 0])).begins is None


def test_the_lowest_held_out_loss_is_where_overfitting_begins():
    held_out = [[3.0, 3.2], [2.0, 2.2], [1.5, 1.7], [1.8, 2.0], [2.5, 2.9]]
    trained = [[3.0, 3.2], [2.0, 2.1], [1.2, 1.3], [0.5, 0.6], [0.1, 0.1]]
    found = onset(trained, held_out)
    assert found.lowest == 2
    assert (found.gaps[2].trained, found.gaps[2].held_out) == pytest.approx((1.25, 1.6))


def test_the_gap_and_its_interval_are_welchs_of_the_changes():
    trained, held_out = planted([0, 0.2], n=15)
    found = onset(trained, held_out[:]).gaps[1]
    changes = [np.subtract(rows[1], rows[0]) for rows in (held_out, trained)]
    other = stats.ttest_ind(*changes, equal_var=False)
    interval = other.confidence_interval(0.95)
    assert (found.gap, found.low, found.high) == pytest.approx(
        (changes[0].mean() - changes[1].mean(), interval.low, interval.high)
    )


def test_with_tokens_a_loss_is_that_of_all_tokens():
    trained, held_out = [[3.0, 1.0, 2.0], [2.0, 0.5, 1.0]], [[3.0, 1.0], [3.0, 1.0]]
    found = onset(trained, held_out, [10, 80, 10], [1, 3])
    assert found.gaps[1].trained == pytest.approx((20 + 40 + 10) / 100)
    assert found.gaps[1].held_out == pytest.approx(6 / 4)
    assert found.gaps[1].gap == pytest.approx((10 + 40 + 10) / 100)
    assert onset(trained, held_out, [5, 5, 5], [2, 2]) == onset(trained, held_out)


def test_the_interval_with_tokens_covers_the_truth_in_about_95_percent_of_seeds():
    covered = 0
    for seed in range(500):
        draw = np.random.default_rng(seed)
        trained, held_out = planted([0, 0.3], seed=seed, n=50)
        # Counts of tokens are of the examples drawn too, and tell nothing of their change.
        tokens = draw.integers(5, 60, (2, 50)).tolist()
        gap = onset(trained, held_out, *tokens).gaps[1]
        covered += gap.low <= 0.3 <= gap.high
    assert 0.92 <= covered / 500 <= 0.98


@pytest.mark.parametrize(
    ("trained", "held_out", "tokens", "message"),
    [
        ([], [], None, "0 and 0 readings"),
        ([[1.0, 2.0]], [[1.0, 2.0]] * 2, None, "1 and 2 readings"),
        ([[1.0, 2.0], [1.0]], [[1.0, 2.0]] * 2, None, "the same examples"),
        ([[1.0]], [[1.0, 2.0]], None, "two or more"),
        ([[1.0, 2.0]], [[1.0, 2.0]], [3], "1 token counts"),
        ([[1.0, 2.0]], [[1.0, 2.0]], [3, 0], "a token or more"),
        ([[1.0, math.inf]], [[1.0, 2.0]], None, "finite"),
    ],
)
def test_readings_that_cannot_be_compared_are_refused(trained, held_out, tokens, message):
    with pytest.raises(ValueError, match=message):
        onset(trained, held_out, tokens)
