"""The law over rank and number of facts: planted parameters are found, with intervals that hold them."""

import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from tests.planted import plant
from toolkit.reporting.law import fit, law

GRID = [(rank, count) for rank in (1, 2, 4, 8, 16, 32) for count in (25, 50, 100, 200, 400)]


def test_a_law_without_noise_is_found_exactly() -> None:
    ranks, counts = zip(*GRID, strict=True)
    found = fit(ranks, counts, [law(r, n, 3.0, 0.25, 0.5, 0.1) for r, n in GRID])
    assert found is not None
    values = [found.c.value, found.alpha.value, found.beta.value, found.b.value]
    assert values == pytest.approx([3.0, 0.25, 0.5, 0.1], rel=1e-4)
    assert found.r_squared == pytest.approx(1)


def test_intervals_hold_the_planted_parameters_at_about_their_rate() -> None:
    rng = random.Random(0)
    ranks, counts = zip(*GRID, strict=True)
    held = 0
    for _ in range(100):
        found = fit(ranks, counts, [law(r, n, 3.0, 0.25, 0.5, 0.1) + rng.gauss(0, 0.02) for r, n in GRID])
        assert found is not None
        held += found.alpha.low <= 0.25 <= found.alpha.high
    assert 88 <= held <= 100


@pytest.mark.parametrize(
    ("ranks", "counts"), [([1, 2, 4], [10, 10, 20]), ([4] * 10, list(range(10, 20))), (list(range(1, 11)), [10] * 10)]
)
def test_too_little_is_no_law(ranks: list[int], counts: list[int]) -> None:
    assert fit(ranks, counts, [0.1 * rank for rank in ranks]) is None


def test_runs_that_do_not_depend_on_rank_and_facts_determine_no_law() -> None:
    ranks, counts = zip(*GRID, strict=True)
    assert fit(ranks, counts, [0.5] * len(GRID)) is None


def test_a_grid_that_determines_no_law_is_reported_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.compare import compare

    monkeypatch.chdir(tmp_path)
    for rank in (1, 4, 16):
        for count in (4, 8, 16):
            plant(
                f"g-rank{rank}-count{count}", 0, [2] * 4, readings=3, data={"pattern": "x", "count": count},
                lora={"rank": rank, "alpha": 2 * rank},
            )  # fmt: skip
    folder = compare(["checkpoints/g-*"], "grid", Console(quiet=True))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["law"] is None
    assert any("not fitted" in note for note in summary["notes"])


def test_a_grid_over_rank_and_facts_gets_its_law_into_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.compare import compare

    monkeypatch.chdir(tmp_path)
    for rank in (1, 4, 16):
        for count in (4, 8, 16):
            plant(
                f"g-rank{rank}-count{count}", 0, [2 if i < 2 + rank // 4 else 99 for i in range(count)], readings=3,
                data={"pattern": "x", "count": count}, lora={"rank": rank, "alpha": 2 * rank},
            )  # fmt: skip
    folder = compare(["checkpoints/g-*"], "grid", Console(quiet=True))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["law"]["runs"] == 9
    assert set(summary["law"]["parameters"]) == {"C", "alpha", "beta", "b"}
    assert summary["verdict"][0].startswith("ΔL = C r^α ℓ^−β + b")
    assert (folder / "law.png").is_file()
    assert "the fitted law" in (folder / "index.html").read_text(encoding="utf-8")
