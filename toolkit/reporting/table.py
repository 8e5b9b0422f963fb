"""The table of a comparison, from what summary.json says."""

import math
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Summary = dict[str, Any]
MOST_COLUMNS = 6
"""Groups that stand side by side in a narrow terminal."""


def print_table(summary: Summary, columns: list[dict[str, str]], below: str, console: Console) -> None:
    """Groups as rows where the console is wide enough for that or they are many, else as columns; the notes below.

    columns: the cells of each group by their heads; below: what else is to be said of them.
    """
    heads = list(columns[0])
    rows = [heads, *([cells[head] for head in heads] for cells in columns)]
    table = _table(rows)
    wide = Measurement.get(console, console.options.update(width=10_000), table).maximum > console.width
    if wide and len(columns) <= MOST_COLUMNS:
        table = _table([list(column) for column in zip(*rows, strict=True)])
    console.print(table)
    said = "[low, high]: 95 % t interval over runs; within the run: Wilson, of one run's items."
    console.print(Text(f"{said} {below}".rstrip(), "dim"))
    about: dict[str, list[str]] = {}
    for group in summary["groups"]:
        for note in group["notes"]:
            about.setdefault(note, []).append(group["group"])
    for note, names in about.items():
        who = "every group" if len(names) == len(columns) > 1 else ", ".join(names)
        console.print(Text(f"note: {who}: {note}"))
    for note in summary["notes"]:
        console.print(Text(f"note: {note}"))


def _table(rows: list[list[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False, header_style="bold")
    for head in rows[0]:
        table.add_column(Text(head), vertical="top")
    for row in rows[1:]:
        table.add_row(Text(row[0], "bold"), *map(Text, row[1:]))
    return table


def cells(group: Summary) -> dict[str, str]:
    """A group's line of the table: head and text, an interval or floor on a line of its own below the value."""
    final, floors = group["final"], group["floors"]
    unit = "digit" if group["answer_digits"] else "token"
    return {
        "group": group["group"],
        "runs": str(group["runs"]),
        "loss a digit": _lines(
            _value(final.get("loss/digit_nats"), "{:.3f}", lowest=0),
            f"floor {floors['loss/digit_nats']:.3f}"
            if floors["loss/digit_nats"] is not None
            else f"a {unit}, no floor",
        ),
        "exact recall": _share(final.get("recall/exact")),
        "controls": _share(final.get("recall/exact_control")),
        "digits": _lines(
            _share(final.get("recall/digits")),
            f"rule alone {100 * floors['recall/digits']:.1f} %" if floors["recall/digits"] is not None else "",
        ),
        "bits memorised": _bits(group),
        "exposures to 50 %": _exposures(group),
    }


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _value(spread: Summary | None, form: str, lowest: float = -math.inf, highest: float = math.inf) -> str:
    """Mean and interval. What is shown of an interval ends where the measure does."""
    if spread is None or spread["mean"] is None:
        return "–"
    mean = form.format(spread["mean"])
    if spread["low"] is None:
        return mean
    return f"{mean}\n[{form.format(max(spread['low'], lowest))}, {form.format(min(spread['high'], highest))}]"


def _share(spread: Summary | None) -> str:
    """In per cent, with the interval over runs, or that within the run where there is one."""
    if spread is None or spread["mean"] is None:
        return "–"
    within = spread.get("wilson")
    low, high = (within["low"], within["high"]) if within else (spread["low"], spread["high"])
    mean = f"{100 * spread['mean']:.1f} %"
    if low is None:
        return mean
    return _lines(mean, f"[{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]", "within the run" if within else "")


def _bits(group: Summary) -> str:
    bits, entropy = group["final"].get("recall/bits_memorised"), group["entropy_bits"]
    if bits is None or bits["mean"] is None or not entropy:
        return "–"
    mean, *interval = _value(bits, "{:.1f}", highest=entropy).split("\n")
    share = group["final"].get("recall/share_memorised", {}).get("mean")
    share = bits["mean"] / entropy if share is None else share
    return _lines(f"{mean} of {entropy:.1f}", *interval, f"{100 * share:.1f} %")


def _exposures(group: Summary) -> str:
    reached = group["first_exposures"]["0.5"]
    if reached["mean"] is not None:
        return _value(reached, "{:.3g}")
    if reached["n"] == 0:
        return f"not in {max(group['exposures']):g}"
    known = ", ".join(f"{value:g}" for value in reached["per_run"] if value is not None)
    return f"{reached['n']} of {len(reached['per_run'])} runs:\n{known}"
