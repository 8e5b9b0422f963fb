"""Compares finished runs: the figures, the numbers, the table (`python -m toolkit.compare CHECKPOINT...`)."""

import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.errors import UserError
from toolkit.recipe.table import NAME_RULE, is_name
from toolkit.run_folder import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from toolkit.reporting.groups import Group
    from toolkit.reporting.page import Parts

REPORTS = Path("reports")
LONGEST = 80
"""Characters of a report's name that is made of the groups' names."""


def main(
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT", help="Runs or groups: checkpoints/GroupA, checkpoints/Group*/seed-0"),
    ],
    name: Annotated[
        str | None, typer.Option(help="The report's folder in reports/; the groups' names where left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json instead of the table.")] = False,
) -> None:
    """Say which difference between groups of finished runs is real, and draw and tabulate what they recall or classify.

    Writes reports/<name>/index.html, one page that opens without network, with its figures (PNG, SVG), summary.json and
    summary.csv, and prints the verdict and a table. Values stand with the interval over a group's runs; one run says
    nothing about others, and its interval is that of its items.
    """
    from rich.console import Console

    # A pipe has no width; 80 columns would break the table.
    console = Console(quiet=as_json, highlight=False)
    if not console.is_terminal:
        console.width = 140
    folder = compare(checkpoints, name, console)
    if as_json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")


def compare(arguments: list[str], name: str | None, console: "Console") -> Path:
    """Write the report on the runs that the arguments name, print its table, and return its folder.

    Raises UserError for a name that is no folder's name, and for arguments that name no finished run.
    """
    if name is not None and not is_name(name):
        raise UserError(f"--name {name!r}: {NAME_RULE}.")
    from rich.console import Console

    from toolkit.reporting import classifiers, facts, forgetting, repetition
    from toolkit.reporting.groups import collect

    with Console(stderr=True).status("reading the runs …") as status:
        groups, unread = collect(arguments)
        # Both have the same functions.
        kind = classifiers if groups[0].classifies else facts
        folder = REPORTS / (name or report_name([group.name for group in groups]))
        status.update("comparing …")
        summary = forgetting.added({"name": folder.name, **kind.summarise(groups, unread)}, groups)
        summary = repetition.added(summary, groups)
        drawn: dict[str, tuple[str, Figure]] = {}
        for figures in (repetition.figures, forgetting.figures, kind.figures):
            for file, caption, figure in figures(groups, summary):
                if figure is not None:
                    drawn[file] = (caption, figure)
                    status.update(f"drawing, {len(drawn)} figures so far …")
        parts = repetition.with_sections(forgetting.with_sections(kind.parts(summary), summary), summary, groups)
        rows = (*kind.measured(summary), *forgetting.measured(summary), *repetition.measured(summary))
        status.update(f"writing {folder.as_posix()}/ …")
        command = f"python -m toolkit.compare {shlex.join(arguments)} --name {folder.name}"
        write_report(folder, summary, groups, drawn, parts, command)
        write_whole(folder / "summary.csv", as_csv(rows))
    print_report(folder, summary, parts, console)
    return folder


def write_report(
    folder: Path, summary: dict[str, Any], groups: "list[Group]", drawn: "dict[str, tuple[str, Figure]]",
    parts: "Parts", command: str,
) -> None:  # fmt: skip
    """Write the figures, the page with the files beside it, and summary.json. drawn: caption and figure by file."""
    from toolkit.reporting import repetition
    from toolkit.reporting.page import page
    from toolkit.reporting.saving import inline, png, svg

    summary["figures"] = [(folder / f"{file}.{ending}").as_posix() for file in drawn for ending in ("png", "svg")]
    # What cannot be written as JSON is found before anything is.
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    for file, (_, figure) in drawn.items():
        write_whole(folder / f"{file}.png", png(figure))
        write_whole(folder / f"{file}.svg", svg(figure, name=file))
    names = [group.name for group in groups]
    on_page = [(caption, inline(figure, names, file)) for file, (caption, figure) in drawn.items()]
    for file, content in repetition.files(groups, summary):
        write_whole(folder / file, content)
    write_whole(folder / "index.html", page(summary, groups, on_page, parts, command))
    write_whole(folder / "summary.json", text)


def print_report(folder: Path, summary: dict[str, Any], parts: "Parts", console: "Console") -> None:
    """Print the verdict in words, the table, and where the report lies."""
    from toolkit.reporting.summary import SAID
    from toolkit.reporting.table import print_table

    unable = [f"What this design cannot show: {line}." for line in summary["limits"]]
    for line in (*(line for part in SAID for line in summary.get(part, [])), *unable):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    print_table(summary, parts.columns, parts.below, console)
    console.print(
        f"the report: {folder.as_posix()}/index.html (figures as PNG and SVG, summary.json and .csv beside it)",
        soft_wrap=True,
        markup=False,
    )


def as_csv(measured: Iterable[tuple[str, str, dict[str, Any]]]) -> str:
    """A row a group and measure: mean, interval, runs, and of classifiers the standard deviation."""
    rows = list(measured)
    more = ["sd"] if any("sd" in spread for _, _, spread in rows) else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["group", "measure", "mean", "low", "high", "runs", *more])
    for group, measure, spread in rows:
        keys = ("mean", "low", "high", "n", *more)
        writer.writerow([group, measure, *(spread.get(key) for key in keys)])
    return buffer.getvalue()


def report_name(groups: list[str]) -> str:
    """GroupA-vs-GroupB; what every name begins with is said once (tiny-GroupA-vs-GroupB).

    A long list is cut, with a few signs of a digest of all names, so that two lists do not share a folder.
    """
    # Groups of one name in two places are told apart by their paths.
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", group).strip(".-") for group in groups]
    parts = [name.split("-") for name in names]
    shared = 0
    if len(parts) > 1:
        while shared < min(map(len, parts)) - 1 and len({part[shared] for part in parts}) == 1:
            shared += 1
    short = [names[0], *("-".join(part[shared:]) for part in parts[1:])]
    whole = "-vs-".join(short)
    digest = hashlib.sha256("\n".join(groups).encode()).hexdigest()[:6]
    if not all(names) or not is_name(whole[:LONGEST].rstrip(".-")):
        # Of names in other letters little is left that a folder may be called on every system.
        return f"report-{digest}"
    if len(whole) <= LONGEST:
        return whole
    room, kept = LONGEST - len(f"-and-{len(groups)}-more-{digest}"), short[0]
    count = 1
    while count < len(short) and len(f"{kept}-vs-{short[count]}") <= room:
        kept, count = f"{kept}-vs-{short[count]}", count + 1
    rest = f"-and-{len(short) - count}-more" if count < len(short) else ""
    return f"{kept[:room].rstrip('.-')}{rest}-{digest}"


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
