"""What checkpoints the command line names: runs, groups, kept epochs, PEFT folders, and globs of them."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError, checked_path, nearest
from toolkit.run_folder import ROOT, SEED_FOLDER, Run


@dataclass(frozen=True)
class Checkpoint:
    """Weights that can be loaded, and the run that they come from, where they come from one."""

    weights: Path
    run: Run | None
    label: str


def find_checkpoints(arguments: list[str]) -> list[Checkpoint]:
    """Every checkpoint that the arguments name: runs, groups, kept epochs, PEFT folders, and globs of them."""
    return list(dict.fromkeys(checkpoint for path in expand(arguments) for checkpoint in checkpoints_in(path)))


def find_runs(arguments: list[str]) -> list[Run]:
    """The finished runs that the arguments name.

    Raises UserError for what was named and is no run or group, or has no finished run. What only a glob found is left
    out then, unless it found nothing else.
    """
    runs: list[Run] = []
    problems: list[UserError] = []
    named = {Path(argument) for argument in arguments}
    for path in expand(arguments):
        found = runs_in(path)
        finished = [run for run in found if run.complete]
        runs += finished
        if finished:
            continue
        wrong = f"{path} is no run or group; {what_is_there(path, 'run.json')}"
        problem = UserError(unfinished(found[0]) if found else wrong)
        if path in named:
            raise problem
        problems.append(problem)
    if problems and not runs:
        raise problems[0]
    return list(dict.fromkeys(runs))


def expand(arguments: list[str]) -> list[Path]:
    """Paths, with globs expanded here too: Windows' shells leave them to the program."""
    paths = []
    for argument in arguments:
        if any(sign in argument for sign in "*?[") and not checked_path(argument).exists():
            # Not Path.glob: it takes no absolute pattern.
            found = sorted(glob.glob(argument), key=in_order)  # noqa: PTH207
            matches = [Path(match) for match in found if Path(match).is_dir()]
            if not matches:
                raise UserError(f"{argument}: no folder fits; {what_was_trained()}")
            paths += matches
        else:
            paths.append(checked_path(argument))
    return list(dict.fromkeys(paths))


def in_order(path: str) -> list[str]:
    """Sorts rank2 before rank16."""
    return [part.zfill(20) if part.isdigit() else part for part in re.split(r"([0-9]+)", path)]


def runs_in(path: Path) -> list[Run]:
    if (path / "run.json").is_file():
        return [Run(path)]
    runs = [Run(entry.parent) for entry in path.glob("seed-*/run.json") if SEED_FOLDER.fullmatch(entry.parent.name)]
    return sorted(runs, key=lambda run: run.seed)


def checkpoints_in(path: Path) -> list[Checkpoint]:
    runs = runs_in(path)
    if runs:
        finished = [run for run in runs if run.complete]
        if not finished:
            raise UserError(unfinished(runs[0]))
        for run in finished:
            if not run.weights.is_dir():
                raise UserError(f"{run.path} is finished, but its weights (adapter/ or model/) are gone.")
        return [Checkpoint(run.weights, run, run.label) for run in finished]
    if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
        owner = next((Run(parent) for parent in path.resolve().parents if (parent / "run.json").is_file()), None)
        label = f"{owner.label}/{path.resolve().relative_to(owner.path).as_posix()}" if owner else path.name
        return [Checkpoint(path, owner, label)]
    raise UserError(f"{path} is no checkpoint; {what_is_there(path, 'run.json, adapter_config.json or config.json')}")


def unfinished(run: Run) -> str:
    last = max((row["step"] for row in run.rows()), default=0)
    said = f"{run.path} is not finished (step {last}); its recipe goes on where it stopped"
    kept = sorted(path for path in run.path.glob("stages/*/*") if path.is_dir())
    return said + (f", and eval_recall and ask take what it kept ({kept[-1]})." if kept else ".")


def what_is_there(path: Path, wanted: str = "run.json") -> str:
    """What a path that was not understood could have meant."""
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))[:12]
        return f"it has no {wanted} (there: {', '.join(names) or 'nothing'})."
    if path.exists():
        return "it is a file, and a folder is expected."
    beside = path.parent.iterdir() if path.parent.is_dir() else []
    siblings = {entry.name: entry for entry in sorted(beside) if entry.is_dir() and not entry.name.startswith(".")}
    groups = {entry.name: entry for entry in ROOT.iterdir() if entry.is_dir()} if ROOT.is_dir() else {}
    for places in (siblings, groups):
        if near := nearest(path.name, list(places)):
            return f"it is not there; did you mean {places[near]}?"
    return f"it is not there; {what_was_trained()}"


def what_was_trained() -> str:
    """The groups under checkpoints/, for a message."""
    groups = sorted(str(entry) for entry in ROOT.iterdir() if entry.is_dir()) if ROOT.is_dir() else []
    return f"there are {', '.join(groups)}." if groups else "nothing has been trained yet."
