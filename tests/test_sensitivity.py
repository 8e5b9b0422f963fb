"""A grid over one setting: the outcome by its values, an arm a line, and where each arm did best."""

from pathlib import Path
from typing import Any

import pytest

from tests.planted import plant
from tests.test_verdict import compared, times
from toolkit.reporting.sensitivity import arms

RATES = {1e-4: 8, 1e-3: 5, 1e-2: 6}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(pattern: str, rate: float) -> dict[str, Any]:
    return {
        "data": {"pattern": pattern, "count": 6},
        "stage": {"learn": {"epochs": 10, "learning_rate": rate}},
    }


def test_each_arms_best_value_is_said_and_drawn() -> None:
    for pattern, faster in (("random", 0), ("mirrored", 2)):
        for rate, mean in RATES.items():
            at = mean - faster - 2 * (pattern == "mirrored" and rate == 1e-2)
            plant(f"g-{pattern}-{rate:g}", 0, times(at), **settings(pattern, rate))
    summary = compared(*(f"g-{p}-{r:g}" for p in ("random", "mirrored") for r in RATES))
    assert summary["sensitivity"] == [
        "Best stage.learn.learning_rate of these by mean exposures to recall: random: 0.001 (5.00), mirrored: 0.01"
        " (2.00). Judge it on other seeds than it was chosen on."
    ]
    assert any(Path(name).name == "sensitivity.png" for name in summary["figures"])


def test_two_groups_or_two_settings_make_no_line() -> None:
    rate = {"a": 1e-4, "b": 1e-3}
    assert arms({"stage.learn.learning_rate": rate}) is None
    grid = {f"{rank}/{count}": (rank, count) for rank in (1, 2, 4) for count in (10, 20, 40)}
    ranks, counts = ({name: pair[i] for name, pair in grid.items()} for i in (0, 1))
    assert arms({"lora.rank": ranks, "data.count": counts}) is None


def test_rank_and_alpha_that_go_together_are_one_setting() -> None:
    ranks = {"a": 1, "b": 2, "c": 4}
    found = arms({"lora.rank": ranks, "lora.alpha": {name: 2 * rank for name, rank in ranks.items()}})
    assert found == ("lora.rank", {"": [(1, "a"), (2, "b"), (4, "c")]})


def test_an_arm_that_lacks_values_makes_no_figure() -> None:
    rates = {"a1": 1, "a2": 2, "a3": 3, "b1": 1}
    assert arms({"lora.rank": rates, "data.pattern": dict(zip(rates, "aaab", strict=True))}) is None


def test_values_that_are_alike_are_not_called_best() -> None:
    for rate in RATES:
        plant(f"g-{rate:g}", 0, [99] * 6, **settings("random", rate))
    (line,) = compared(*(f"g-{rate:g}" for rate in RATES))["sensitivity"]
    assert "all alike (10.00)" in line
