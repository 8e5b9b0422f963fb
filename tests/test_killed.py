"""Killed before every kind of change to its folder, and in the middle of writing, a run ends as if nothing had been."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.killing import contents, die, trained, watch
from toolkit.run_folder import Run, run_for

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot"
)


@pytest.fixture(scope="module")
def undisturbed(project: Path, engine: ModuleType) -> tuple[dict[str, Any], list[str]]:
    """What an undisturbed run leaves, and every kind of change that it makes to its folder, in their order."""
    import toolkit.training.one_run  # noqa: F401  (imported here, so that no child has to)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        listed = project / "changes.txt"

        def listing() -> None:
            # Opened before it is watched for, and never closed: this process just ends.
            file = listed.open("w", encoding="utf-8")
            watch(project / "checkpoints/unkilled", lambda what: print(kind_of(what), file=file, flush=True))

        assert trained("unkilled", listing) == 0, (project / "unkilled.log").read_text()
        kinds = list(dict.fromkeys(listed.read_text(encoding="utf-8").splitlines()))
        return contents(run_for("unkilled", 0)), kinds


def kind_of(what: str) -> str:
    """A change without the numbers in it, so that the saves of all steps are of one kind."""
    return re.sub(r"\d+", "#", what)


def dies_before(name: str, kind: str) -> Callable[[], None]:
    """Makes a process die just before the first change of a kind."""
    folder = Path.cwd() / "checkpoints" / name
    return lambda: watch(folder, lambda what: die() if kind_of(what) == kind else None)


def test_killed_before_every_kind_of_change_it_ends_as_if_nothing_had_been(
    in_project: Path, undisturbed: tuple[dict[str, Any], list[str]]
) -> None:
    expected, kinds = undisturbed
    # A run that is killed before the change of one kind goes on and is killed before that of the next.
    for kind in kinds:
        status = trained("killed", dies_before("killed", kind))
        if status == 0:
            # It was past all changes of this kind: they are met from the start.
            assert contents(run_for("killed", 0)) == expected, kind
            shutil.rmtree("checkpoints/killed")
            status = trained("killed", dies_before("killed", kind))
        assert status == -9, (kind, Path("killed.log").read_text())
    assert len(kinds) > 35
    assert trained("killed") == 0, Path("killed.log").read_text()
    assert contents(run_for("killed", 0)) == expected


def half_a_file(module: str, function: str, path_argument: int) -> Callable[[], None]:
    """Makes a process die when a library has written half of its second file."""

    def patch() -> None:
        import importlib

        owner, calls = importlib.import_module(module), 0
        write = getattr(owner, function)

        def dying(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            done = write(*arguments, **keywords)
            if calls == 2:
                path = Path(arguments[path_argument])
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
                die()
            return done

        setattr(owner, function, dying)

    return patch


def half_a_row() -> None:
    """Makes a process die when it has written half of its fifth row."""
    append, calls = Run.append_row, 0

    def dying(self: Run, row: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"kind": "tra')
            die()
        append(self, row)

    Run.append_row = dying  # type: ignore[method-assign]


def second_reading() -> None:
    """Makes a process die in the middle of its second reading, between two forward passes."""
    from toolkit.probes import recall

    score, calls = recall.score, 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        # Each reading scores the answers, and then the foils.
        return die() if calls == 4 else score(*arguments)

    recall.score = dying


MIDDLES = {
    "an optimizer's state": half_a_file("torch", "save", 1),
    "the weights of a save": half_a_file("peft.peft_model", "safe_save_file", 1),
    "a row of metrics": half_a_row,
    "a reading": second_reading,
}


@pytest.mark.parametrize("middle", list(MIDDLES))
def test_killed_in_the_middle_of(in_project: Path, undisturbed: tuple[dict[str, Any], list[str]], middle: str) -> None:
    name = f"half-{middle.replace(' ', '-')}".replace("'", "")
    assert trained(name, MIDDLES[middle]) == -9, Path(f"{name}.log").read_text()
    assert trained(name) == 0, Path(f"{name}.log").read_text()
    assert contents(run_for(name, 0)) == undisturbed[0]


def test_killed_twice_its_one_offline_folder_at_wandb_has_every_row_once(
    in_project: Path, undisturbed: tuple[dict[str, Any], list[str]]
) -> None:
    from tests.wandb_server import expected, history

    for kind in ("open seed-#/stages/learn/.epoch-#.part/adapter_config.json", "os.rename seed-#/.adapter.part"):
        assert kind in undisturbed[1]
        assert trained("tracked-kills", dies_before("tracked-kills", kind), WANDB_MODE="offline") == -9
    assert trained("tracked-kills", WANDB_MODE="offline") == 0
    killed = run_for("tracked-kills", 0)
    assert contents(killed) == undisturbed[0]
    described = killed.info["wandb"]
    assert [path.name for path in Path("wandb").glob(f"offline-run-*{described['id']}*")] == [
        Path(described["folder"]).name
    ]
    assert history(described["folder"]) == expected(killed.rows())
