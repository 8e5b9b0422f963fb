"""Massed presentations: the same ones as spaced, at other times, also for a run that goes on."""

import os
from pathlib import Path

import pytest

from tests.conftest import run
from tests.killing import CHANGES, contents, die, trained, watch
from toolkit.run_folder import run_for


def test_every_row_is_fed_as_often_as_there_are_epochs_and_block_by_block() -> None:
    from toolkit.training.order import Massed

    done = [0.0]
    order = Massed(20, 8, 3, seed=1, epochs_done=lambda: done[0])
    fed = []
    for epoch in range(3):
        done[0] = float(epoch)
        part = list(order)
        assert len(part) == len(order) == 20
        fed += part
    assert sorted(fed) == sorted(list(range(20)) * 3)
    blocks = [fed[:24], fed[24:48], fed[48:]]
    assert [len(set(block)) for block in blocks] == [8, 8, 4]
    # Within a block every pass is whole before the next begins.
    assert all(len(set(fed[start : start + 8])) == 8 for start in (0, 8, 16, 24, 32, 40))
    assert list(Massed(20, 8, 3, seed=2, epochs_done=lambda: 0.0)) != fed[:20]


@pytest.fixture
def recipe(in_project: Path) -> str:
    text = 'extends = "recipes/tiny/groupA.toml"\nname = "massed"\n[stage.learn]\norder = "massed"\n'
    Path("massed.toml").write_text(text, encoding="utf-8")
    return "massed.toml"


def test_in_a_run_counts_are_equal_at_the_end_and_not_before(recipe: str) -> None:
    from toolkit.probes.recall import read_reading

    run(recipe, "name=massed", *CHANGES)
    readings = [read_reading(path) for path in run_for("massed", 0).readings()]
    counts = [{row["exposures"] for row in rows if row["split"] == "train"} for rows in readings]
    assert counts == [{0}, {0, 1, 2}, {2}] or counts == [{0}, {0, 2}, {2}]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are killed in a forked process")
def test_a_killed_massed_run_goes_on_in_the_same_order(recipe: str) -> None:
    run(recipe, "name=massed-whole", *CHANGES)

    def before() -> None:
        folder = Path.cwd() / "checkpoints/massed-killed"
        watch(folder, lambda what: die() if "checkpoint-4/" in what else None)

    assert trained("massed-killed", before, recipe=recipe) == -9
    assert trained("massed-killed", recipe=recipe) == 0
    assert contents(run_for("massed-killed", 0)) == contents(run_for("massed-whole", 0))
