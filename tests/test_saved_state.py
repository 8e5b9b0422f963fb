"""What a run goes on from, damaged or hostile: one message, no code is run, and the folder stays as it was."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hostile, run
from tests.killing import CHANGES, contents, die, trained, watch
from toolkit.errors import UserError
from toolkit.run_folder import run_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are killed in a forked process")


@pytest.fixture(scope="module")
def killed(project: Path) -> Path:
    """A run that was killed after its checkpoint-2 was whole."""

    def before() -> None:
        watch(Path.cwd() / "checkpoints/saved-state", lambda what: die() if "checkpoint-4" in what else None)

    here = Path.cwd()
    os.chdir(project)
    try:
        assert trained("saved-state", before) == -9
    finally:
        os.chdir(here)
    return (project / "checkpoints/saved-state/seed-0").rename(project / "saved-state")


@pytest.fixture(scope="module")
def between(project: Path) -> Path:
    """A run of two stages that was killed after the first."""

    def before() -> None:
        folder = Path.cwd() / "checkpoints/between-stages"
        watch(folder, lambda what: die() if "state/more/" in what and "mkdir" in what else None)

    here = Path.cwd()
    os.chdir(project)
    try:
        Path("two-stages.toml").write_text(
            'extends = "recipes/tiny/groupA.toml"\n[stage.more]\nmethod = "sft"\nepochs = 1\noptimizer = "adamw"\n'
        )
        assert trained("between-stages", before, recipe="two-stages.toml") == -9
    finally:
        os.chdir(here)
    return (project / "checkpoints/between-stages/seed-0").rename(project / "between-stages")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def other(path: Path) -> None:
    path.write_bytes(b"[1, -2, null" if path.suffix == ".json" else b"\x80\x04N.")


def hostile(path: Path) -> None:
    import torch

    torch.save({"state": Hostile()}, path)


def hostile_pickle(path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(Hostile()))


PICKLED = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
PLAIN = ("adapter_model.safetensors", "exposures.json", "trainer_state.json")
DAMAGES = [(name, damage) for name in PICKLED for damage in (cut, empty, gone, other, hostile, hostile_pickle)]
DAMAGES += [(name, damage) for name in PLAIN for damage in (cut, empty, gone, other)]


def assert_refused(original: Path, where: str, damage: Callable[[Path], None], again: Callable[[], None]):
    copy = run_for(original.name, 0).path
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy)
    damage(copy / where)
    before = files(copy)
    with pytest.raises(UserError) as said:
        again()
    assert (copy / where).parent.as_posix() in str(said.value)
    assert "--fresh" in str(said.value)
    assert str(said.value).count("\n") == 0
    assert not Path("code-was-run").exists()
    assert files(copy) == before


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_or_hostile_checkpoint_is_refused(in_project: Path, killed: Path, name: str, damage) -> None:
    where = f"state/learn/checkpoints/checkpoint-2/{name}"
    assert (killed / where).is_file()

    def again() -> None:
        run("recipes/tiny/groupA.toml", "name=saved-state", *CHANGES)

    assert_refused(killed, where, damage, again)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "exposures.json"])
@pytest.mark.parametrize("damage", [cut, empty, gone, other])
def test_so_is_what_a_finished_stage_left_for_the_next(in_project: Path, between: Path, name: str, damage) -> None:
    def again() -> None:
        run("two-stages.toml", "name=between-stages", *CHANGES)

    assert_refused(between, f"state/learn/after/{name}", damage, again)


def test_what_is_not_damaged_goes_on(in_project: Path, killed: Path) -> None:
    finished = run_for("saved-state", 0)
    shutil.rmtree(finished.path, ignore_errors=True)
    shutil.copytree(killed, finished.path)
    run("recipes/tiny/groupA.toml", "name=saved-state", *CHANGES)
    assert "goes on at step 2" in (finished.path / "run.log").read_text(encoding="utf-8")
    contents(finished)
