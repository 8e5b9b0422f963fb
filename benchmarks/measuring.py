"""Times things in turn, so that the load of the machine falls on all alike; keeps results as JSON, shows tables."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

# A second thread mostly waits on models this small, and makes everything many times slower where the machine is busy.
# Set before torch is imported, and inherited by the commands that benchmarks start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same tables in a terminal, a pipe and a log.
WIDTH = 120

RESULTS = Path(__file__).parent / "results"
PACKAGES_LEFT_OUT = ("wandb",)


@dataclass
class Target:
    """What a benchmark wants to show, and what it measured."""

    what: str
    sign: Literal["<=", ">=", "=="]
    limit: float
    measured: float

    @property
    def met(self) -> bool:
        return {
            "<=": self.measured <= self.limit,
            ">=": self.measured >= self.limit,
            "==": self.measured == self.limit,
        }[self.sign]


@dataclass
class Table:
    """What is printed, and what the README shows."""

    columns: list[str]
    rows: list[list[str]]
    title: str = ""


@dataclass
class Result:
    """One benchmark's outcome."""

    name: str
    tables: list[Table]
    targets: list[Target]
    values: dict[str, Any] = field(default_factory=dict)
    """The numbers behind the tables."""
    seconds: float = 0.0
    """Of the whole benchmark."""


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternate(actions: dict[str, Callable[[], float]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """What each action measures (seconds) in every round; each has its turn in a round, the first one last in the next.

    warm: how many turns of each come first and are not counted.
    """
    measured: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(-warm, rounds):
        for name in reversed(actions) if turn % 2 else actions:
            seconds = actions[name]()
            if turn >= 0:
                measured[name].append(seconds)
    return measured


def ratio(measured: dict[str, list[float]], above: str, below: str) -> float:
    """The median over rounds of one action's seconds over another's: both of a round met the same load."""
    return statistics.median(a / b for a, b in zip(measured[above], measured[below], strict=True))


def medians(measured: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in measured.items()}


def spread(values: Sequence[float]) -> str:
    """Least and most, for a table."""
    return f"{min(values):.3g} … {max(values):.3g}"


def finish(result: Result, started: float, *, quick: bool) -> None:
    """Print a result, and keep it where it was measured at full size."""
    result.seconds = round(time.perf_counter() - started, 1)
    show(result)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(rounded(asdict(result) | {"machine": machine()}), indent=2, ensure_ascii=False)
        (RESULTS / f"{result.name}.json").write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the numbers depend on, and nothing that says whose machine it was."""
    from toolkit.training.machine import versions

    known = {name: version for name, version in versions().items() if name not in PACKAGES_LEFT_OUT}
    threads = int(os.environ["OMP_NUM_THREADS"])
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "threads": threads,
        "versions": known,
    }


def rounded(value: Any) -> Any:
    """Five digits: the rest is noise, and would make every line of a new measurement a change."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value


def show(result: Result) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console(width=WIDTH, highlight=False, markup=False)
    for table in result.tables:
        printed = Printed(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(table.columns):
            printed.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            printed.add_row(*row)
        console.print(printed)
    for target in result.targets:
        console.print(said(target), style="green" if target.met else "red")
    console.print(f"{result.name}: {result.seconds:.0f} s")


def said(target: Target) -> str:
    """A target and what came of it, in a line."""
    words = {"<=": "at most", ">=": "at least", "==": "exactly"}[target.sign]
    verdict = "met" if target.met else "not met"
    return f"{target.what}: {target.measured:.4g} (target: {words} {target.limit:g}; {verdict})"
