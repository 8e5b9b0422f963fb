"""How soon each command answers where no model is needed: help, a mistake, a dry run, a list."""

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, spread, timed
from benchmarks.project import GROUP_A, Folder, Quick, changing, make_base, project

COMMANDS = ("run", "eval_recall", "compare", "ask", "data", "list", "schema")
NOTHING = "python -c pass"


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """Wall time of whole processes, in turn."""
    started = time.perf_counter()
    with project(folder):
        base = make_base(small=quick)
        dry_run = ["toolkit.run", GROUP_A, *changing(f"model.base={base}"), "--dry-run", "--no-tokens"]
        asked: dict[str, tuple[list[str], int]] = {NOTHING: (["-c", "pass"], 0)}
        asked |= {f"{name} --help": (["-m", f"toolkit.{name}", "--help"], 0) for name in COMMANDS}
        asked["run, a mistake in the recipe"] = (["-m", "toolkit.run", GROUP_A, *changing("lora.ranks=8")], 2)
        asked["run --dry-run --no-tokens"] = (["-m", *dry_run], 0)
        asked["list"] = (["-m", "toolkit.list"], 0)
        measured = alternate({name: process(*how) for name, how in asked.items()}, 2 if quick else 5)
    finish(result(measured), started, quick=quick)


def process(arguments: list[str], expected: int) -> Callable[[], float]:
    """A Python process with these arguments, timed; raises RuntimeError for another exit status."""

    def run() -> None:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != expected:
            raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    return lambda: timed(run)


def result(measured: dict[str, list[float]]) -> Result:
    middle = medians(measured)
    rows = [[name, f"{middle[name]:.2f}", spread(measured[name])] for name in measured]
    slowest = max(middle, key=lambda name: middle[name])
    targets = [Target(f"seconds of the slowest ({slowest})", "<=", 1, middle[slowest])]
    return Result("startup", [Table(["command", "s (median)", "s (range)"], rows)], targets, {"seconds": measured})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
