"""Planted arms: one that only learns more slowly, one that repeats more at equal loss, and some that do not compare."""

import random
from typing import Any

import numpy as np
import pytest

from tests.planted_repetition import Told, repeated
from tests.test_compare_repetition import here, run, summarised  # noqa: F401

SEEDS = 6
THROUGH, AT_EQUAL_LOSS = "repetition/greedy/seq_rep_4/through", "repetition/greedy/seq_rep_4/at_equal_loss"


def arm(
    name: str, *, speed: float = 1.0, more: float = 0.0, losses: list[float] | None = None
) -> list[list[tuple[float, float]]]:
    """Six runs that repeat .2 a nat, and `more`: loss and repetition of each at every reading after training began."""
    found = []
    for seed in range(SEEDS):
        draw = random.Random(f"{name}{seed}")
        readings, path = [], []
        for epoch in range(9):
            loss = losses[epoch] if losses else 1 + 3 * float(np.exp(-speed * epoch / 3)) + draw.gauss(0, 0.02)
            level = 0.2 * (loss - 1) + more + draw.gauss(0, 0.004)
            # Prompts about the mean, which is what is compared.
            readings.append([Told(level + aside, None, loss + 5 * aside) for aside in (-0.01, 0.0, 0.01)])
            path.append((loss, level))
        repeated(run(name, seed), readings)
        found.append(path[1:])
    return found


def contrast(summary: dict[str, Any], outcome: str) -> dict[str, Any]:
    (result,) = summary["outcomes"][outcome]["contrasts"]
    return result


def test_an_arm_that_learns_more_slowly_repeats_more_on_the_way_and_not_at_the_same_loss() -> None:
    fast, slow = arm("fast", speed=1.2), arm("slow", speed=0.6)
    summary, said = summarised("fast", "slow")
    means = [[np.mean([repeats for _, repeats in run]) for run in of] for of in (fast, slow)]
    result = contrast(summary, THROUGH)
    assert result["difference"] == pytest.approx(np.mean(means[1]) - np.mean(means[0]))
    assert result["shown"]
    assert "mean of all readings after training began (exploratory): fast " in said
    assert "Difference shown: fast repeats itself less" in said
    equal = contrast(summary, AT_EQUAL_LOSS)
    assert abs(equal["difference"]) < 0.01 < result["difference"]
    assert not equal["shown"]


def test_an_arm_that_repeats_more_at_the_same_loss_is_shown_to_and_by_how_much() -> None:
    plain, packed = arm("plain"), arm("packed", speed=0.7, more=0.1)
    summary, said = summarised("plain", "packed")
    result = contrast(summary, AT_EQUAL_LOSS)
    assert result["difference"] == pytest.approx(0.1, abs=0.01)
    assert result["low"] < 0.1 < result["high"]
    # By a fine grid in place of the exact integral, over the losses that all twelve runs pass.
    runs = [path for of in (plain, packed) for path in of]
    kept = [
        [point for place, point in enumerate(path) if point[0] < min([p[0] for p in path[:place]], default=9)]
        for path in runs
    ]
    lowest, highest = max(path[-1][0] for path in kept), min(path[0][0] for path in kept)
    grid = np.linspace(lowest, highest, 200_001)
    values = [float(np.mean(np.interp(grid, *np.array(path[::-1]).T))) for path in kept]
    assert result["difference"] == pytest.approx(np.mean(values[SEEDS:]) - np.mean(values[:SEEDS]), abs=1e-5)
    assert summary["outcomes"][AT_EQUAL_LOSS]["losses"] == pytest.approx([lowest, highest])
    assert f"from {lowest:.2f} to {highest:.2f} nats (exploratory)" in said


def test_arms_without_a_loss_or_a_reading_in_common_are_not_compared_by_it() -> None:
    arm("high", losses=[5 - 0.05 * epoch for epoch in range(9)])
    arm("low", losses=[3 - 0.05 * epoch for epoch in range(9)])
    summary, said = summarised("high", "low")
    result = contrast(summary, AT_EQUAL_LOSS)
    assert (result["difference"], result["p"]) == (None, None)
    assert summary["outcomes"][AT_EQUAL_LOSS]["groups"]["high"]["mean"] is None
    assert "high –, low –. No test: there is no loss of the reference answers that all runs pass." in said
    assert contrast(summary, THROUGH)["p"] is not None


def test_arms_that_were_read_at_other_times_have_no_mean_through_training() -> None:
    for seed in range(2):
        for name, every in (("often", 2), ("seldom", 7)):
            readings = [[Told(0.3 + 0.01 * seed, None, 3.0 - 0.1 * epoch)] * 4 for epoch in range(3)]
            repeated(run(name, seed), readings, every=every, each=every / 2)
    summary, said = summarised("often", "seldom")
    assert contrast(summary, THROUGH)["why_not"] == "their texts were written at different readings"
    assert "No test: their texts were written at different readings." in said
    assert contrast(summary, "repetition/greedy/seq_rep_4")["difference"] is not None


def test_a_loss_that_rises_again_counts_only_on_its_way_down() -> None:
    down = [4.0, 3.0, 2.0, 1.5, 1.2, 1.5, 2.0, 2.5, 3.0]
    paths = arm("a", losses=down)
    arm("b", losses=down)
    summary, _ = summarised("a", "b")
    spread = summary["outcomes"][AT_EQUAL_LOSS]["groups"]["a"]
    # Readings at 3, 2, 1.5 and 1.2 nats, each between its neighbours.
    expected = [np.trapezoid([y for _, y in path[3::-1]], [x for x, _ in path[3::-1]]) / 1.8 for path in paths]
    assert spread["per_run"] == pytest.approx(expected)
