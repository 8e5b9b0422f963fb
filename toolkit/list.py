"""Lists the runs that there are, and how far each has come (`python -m toolkit.list`)."""

import datetime
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.checkpoints import runs_in, what_is_there
from toolkit.errors import UserError, checked_path
from toolkit.run_folder import ROOT, Run, locked
from toolkit.stored import parse_row


def main(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to look: a folder of groups, a group or a run [default: checkpoints].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
) -> None:
    """List all runs: whether each is complete, running or stopped, how far it came, and its recall or accuracy so far.

    A stopped run goes on where it stopped when its recipe is run again.
    """
    if folder is not None and not checked_path(folder).is_dir():
        raise UserError(f"{folder} is no folder; {what_is_there(folder)}")
    runs = [how_far(run) for run in find(folder or ROOT)]
    if as_json:
        print(json.dumps(runs, indent=2, ensure_ascii=False))
    elif not runs:
        print(
            f"There is no run in {folder or ROOT}/ yet. A recipe makes one: python -m toolkit.run recipes/groupA.toml"
        )
    else:
        print_runs(runs)


def find(folder: Path) -> list[Run]:
    """Every run in a folder of groups, in a group, or the run that the folder is; by group and seed."""
    if runs := runs_in(folder):
        return runs
    groups = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    return [run for group in groups if not group.name.startswith(".") for run in runs_in(group)]


def how_far(run: Run) -> dict[str, Any]:
    """What is known of a run; one whose files cannot be read is listed as damaged, and hides no other."""
    known = {"run": run.label, "path": run.path.as_posix()}
    try:
        info = run.info
        last, read, epochs = *last_rows(run), all_epochs(run)
    except (UserError, OSError, ValueError) as error:
        return {**known, "state": "damaged", "problem": str(error)}
    return {
        **known,
        "state": state(run, info),
        "stage": last.get("stage"),
        "step": last.get("step"),
        "epoch": last.get("epoch"),
        "epochs": epochs,
        "exposures": last.get("exposures"),
        "recall_exact": read.get("recall/exact"),
        "accuracy": read.get("test/accuracy", read.get("validation/accuracy")),
        "started": info.get("started"),
        "finished": info.get("finished"),
        "base": info.get("model", {}).get("base"),
    }


def state(run: Run, info: dict[str, Any]) -> str:
    """complete, running (a living process holds its lock) or stopped."""
    if info.get("state") == "complete":
        return "complete"
    if not (run.path.parent / f".{run.path.name}.lock").exists():
        return "stopped"
    try:
        with locked(run):
            return "stopped"
    except UserError:
        return "running"
    except OSError:  # a folder that may only be read: nobody here trains in it
        return "stopped"


def last_rows(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last row of metrics.jsonl and the last reading, read from the end: most rows need no parsing."""
    path = run.path / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = text.splitlines()
    last: dict[str, Any] = {}
    for place, line in enumerate(reversed(lines)):
        try:
            row = parse_row(line)
        except ValueError:
            if place == 0 and not text.endswith("\n"):  # a row that is just being written
                continue
            raise
        last = last or row
        if row["kind"] in ("recall", "classification", "test"):
            return last, row
    return last, {}


def all_epochs(run: Run) -> int | None:
    """Epochs of all stages together; None where the recipe does not say."""
    if not (run.path / "recipe.toml").is_file():
        return None
    epochs = [stage.get("epochs") for stage in run.recipe.get("stage", {}).values()]
    return sum(epochs) if epochs and None not in epochs else None


def print_runs(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a pipe has no width
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for head in ("run", "state", "reached", "recall, accuracy", "when", "base"):
        table.add_column(head, justify="right" if head == "recall, accuracy" else "left")
    colours = {"complete": "green", "running": "cyan", "stopped": "yellow", "damaged": "red"}
    for run in runs:
        found = next((run[key] for key in ("recall_exact", "accuracy") if run.get(key) is not None), None)
        table.add_row(
            Text(run["run"]),
            Text(run["state"], colours[run["state"]]),
            Text(run["problem"] if run["state"] == "damaged" else reached(run)),
            Text("–" if found is None else f"{100 * found:.1f} %"),
            Text(when(run)),
            Text(run.get("base") or "–"),
        )
    console.print(table)


def reached(run: dict[str, Any]) -> str:
    """learn, epoch 5 of 10."""
    if not run["step"]:
        return "before training"
    if run["epoch"] is None:
        return f"{run['stage']}, step {run['step']}"
    whole = f" of {run['epochs']}" if run["epochs"] else ""
    return f"{run['stage']}, epoch {run['epoch']:.4g}{whole}"


def when(run: dict[str, Any]) -> str:
    """In the time of the place where it is read."""
    moment = run.get("finished") or run.get("started")
    if not moment:
        return "–"
    try:
        return f"{datetime.datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return str(moment)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
