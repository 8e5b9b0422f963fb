"""A real run in a forked process, killed just before a chosen change to its folder, and what it leaves there."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import run
from toolkit.errors import status_of
from toolkit.run_folder import Run
from toolkit.tracking import restart_service

WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
"""What Python's audit hook calls changes of the file system, besides `open` for writing."""


def forked(action: Callable[[], None], log: Path) -> int:
    """Do something in a forked process; its exit status, negative where a signal ended it. `log` gets what it says."""
    if "wandb" in sys.modules:
        # Its helper process would be shared with the child, which must have one of its own.
        restart_service()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            action()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def changes_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an audited event is about to change; None where it changes nothing."""
    if event == "open":
        path, mode, flags = arguments
        writes = any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool(flags & 3)
        return str(path) if writes and isinstance(path, (str, Path)) else None
    return str(arguments[0]) if event in WRITING else None


def watch(folder: Path, act: Callable[[str], None]) -> None:
    """From here on, call `act(what)` before each change below `folder`, in this process."""
    inside = f"{folder}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = changes_of(event, arguments)
        if path is not None and os.path.abspath(path).startswith(inside):  # noqa: PTH100  (resolves nothing)
            act(f"{event} {os.path.abspath(path).removeprefix(inside)}")  # noqa: PTH100

    sys.addaudithook(hook)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


CHANGES = (
    "stage.learn.epochs=2",
    "stage.learn.batch_size=8",
    "stage.learn.save=2 steps",
    'stage.learn.keep="epochs"',
    "data.count=20",
    "data.controls=4",
    "lora.dropout=0.1",
    "recall.every=epoch",
)
"""Six updates, with a save after every second one and at the ends of epochs, where readings are."""


def trained(
    name: str, before: Callable[[], None] = lambda: None, recipe: str = "recipes/tiny/groupA.toml", **environment: str
) -> int:
    """Run a recipe in a forked process, after `before` was called there; its exit status."""

    def child() -> None:
        os.environ.update(environment)
        before()
        sys.exit(status_of(lambda: run(recipe, f"name={name}", *CHANGES)))

    return forked(child, Path(f"{name}.log"))


def contents(run: Run) -> dict[str, Any]:
    """What a finished run left, after a look that it left nothing else behind."""
    left = left_by(run)
    assert left["files left behind"] == [], "a kill left something behind"
    assert not run.state_folder.exists()
    return left


def left_by(run: Run) -> dict[str, Any]:
    """All that two equal runs have in common: everything but clocks and names."""
    from toolkit.stored import read_parquet

    kept = sorted(run.path.glob("stages/*/*/*.safetensors"))
    return {
        "state": (run.info["state"], run.state_folder.exists()),
        "weights": [(path.name, path.read_bytes()) for path in sorted(run.weights.glob("*.safetensors"))],
        "kept weights": [(path.parent.name, path.read_bytes()) for path in kept],
        "rows of metrics.jsonl": [without_clock(row) for row in run.rows()],
        "readings": {path.name: [row | {"run": ""} for row in read_parquet(path)[1]] for path in run.readings()},
        # What is half written or half removed is hidden.
        "files left behind": sorted(path.name for path in run.path.rglob(".*")),
    }


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in row if key not in ("time", "seconds/reading")}
