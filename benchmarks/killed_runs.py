"""One attempt at a run, killed or not; what a run holds at its end; and where in its work a kill fell."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.project import GROUP_A, ROOT, changing
from tests.conftest import run as train
from tests.killing import left_by, without_clock
from tests.wandb_server import expected, history
from toolkit.run_folder import Run, run_for

CHANGES = (
    "data.count=80",
    "data.controls=40",
    "stage.learn.epochs=8",
    "stage.learn.save=3 steps",
    "stage.learn.keep=best",
    "lora.dropout=0.1",
    "recall.every=epoch",
)
"""Changes of recipes/tiny/groupA.toml: 40 updates of 16 rows, 5 an epoch, so that saves fall everywhere in epochs."""


@dataclass
class Attempt:
    """A process that was started on a run."""

    status: int
    """Exit status; negative where a signal ended it."""
    started: float
    seconds: float
    said: str
    imports_only: bool = False
    """Whether it was killed before it could have come to the run."""

    @property
    def killed(self) -> bool:
        return self.status == -9


def settings(name: str, base: str) -> tuple[str, ...]:
    return (f"name={name}", f"model.base={base}", *CHANGES)


def attempt_forked(name: str, base: str, kill_after: float | None) -> Attempt:
    """`toolkit.run` in a fork of this process, which has all imports; killed after so many seconds, or left alone."""
    log = Path(f"{name}.log")
    child = get_context("fork").Process(target=in_fork, args=(name, base, log))
    started = time.time()
    child.start()
    child.join(kill_after)
    if child.exitcode is None:
        child.kill()
        child.join()
    return Attempt(child.exitcode or 0, started, time.time() - started, log.read_text(errors="replace"))


def in_fork(name: str, base: str, log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    train(GROUP_A, *settings(name, base))


def attempt_command(name: str, base: str, kill_after: float) -> Attempt:
    """`python -m toolkit.run` as a user starts it, killed in its first seconds, most of which are imports."""
    command = [sys.executable, "-m", "toolkit.run", GROUP_A, *changing(*settings(name, base))]
    started = time.time()
    child = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        child.wait(kill_after)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    written = changed_since(run_for(name, 0), started)
    return Attempt(child.returncode, started, time.time() - started, "", imports_only=not written)


def contents(name: str) -> dict[str, Any]:
    """All that a finished run ends with, at W&B too, without what depends on the clock and on the number of starts."""
    run = run_for(name, 0)
    folders = list(Path("wandb").glob(f"offline-run-*-{run.info['wandb']['id']}*"))
    tracked = [row for folder in folders for row in history(str(folder))]
    return left_by(run) | {
        "number of W&B's folders": len(folders),
        "rows at W&B": [without_clock(row) for row in tracked],
        "W&B's agreement with metrics.jsonl": tracked == expected(run.rows()),
    }


def changed_since(run: Run, moment: float) -> bool:
    return any(path.stat().st_mtime >= moment for path in run.path.rglob("*"))


def where_it_fell(name: str, attempt: Attempt) -> tuple[str, int]:
    """In which of its works an attempt was killed, as far as the run's folder shows it, and the last step in there."""
    run = run_for(name, 0)
    rows = run.rows()
    step = max((row["step"] for row in rows), default=0)
    return place_of(run, rows, step, attempt), step


def place_of(run: Run, rows: list[dict[str, Any]], step: int, attempt: Attempt) -> str:
    if attempt.imports_only:
        return "in the imports of a new process"
    if not changed_since(run, attempt.started):
        return "loading the base, before anything was written"
    stage = run.state_folder / "learn"
    if run.exists and run.info.get("state") == "complete":
        return "after run.json said complete"
    if (stage / "after").exists() or (stage / ".after.part").exists():
        return "at the end: final weights, W&B, run.json"
    saves = list(stage.glob("checkpoints/checkpoint-*"))
    if any(save.stat().st_mtime >= attempt.started and not (save / "complete").exists() for save in saves):
        return "in a save"
    new = [row for row in rows if row["time"] >= attempt.started]
    if not any(row["kind"] == "recall" for row in rows):
        return "setting up, or in the first reading"
    if new and new[-1]["kind"] == "train" and new[-1]["epoch"] == round(new[-1]["epoch"]):
        return "in a reading"
    if not new:
        return "setting up again, or in the first update after that"
    return "in an update, before the first save" if not saves else "in an update, or about to save"
