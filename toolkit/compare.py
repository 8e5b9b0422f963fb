"""Compares finished runs: the figures, the numbers, the table (`python -m toolkit.compare CHECKPOINT...`)."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.errors import UserError
from toolkit.recipe.fields import NAME_RULE, is_name

if TYPE_CHECKING:
    from rich.console import Console

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
    """Draw and tabulate what finished runs learned and recall.

    Writes loss_curves.png, recall_curves.png and summary.json to reports/<name>/ and prints a table. Values stand with
    the interval over a group's runs; one run says nothing about others, and its interval is that of its items.
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
    from toolkit.reporting.groups import collect
    from toolkit.reporting.summary import summarise
    from toolkit.reporting.table import print_table
    from toolkit.run_folder import write_whole

    groups, unread = collect(arguments)
    folder = REPORTS / (name or report_name([group.name for group in groups]))
    summary = {"name": folder.name, **summarise(groups, unread)}

    from toolkit.reporting.figures import loss_curves, recall_curves

    figures = {"loss_curves.png": loss_curves(groups), "recall_curves.png": recall_curves(groups)}
    for file, png in figures.items():
        write_whole(folder / file, png)
    summary["figures"] = [(folder / file).as_posix() for file in figures]
    write_whole(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    print_table(summary, console)
    console.print(
        f"figures and numbers: {folder.as_posix()}/ (loss_curves.png, recall_curves.png, summary.json)",
        soft_wrap=True,
        markup=False,
    )
    return folder


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
    if len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256("\n".join(groups).encode()).hexdigest()[:6]
    room, kept = LONGEST - len(f"-and-{len(groups)}-more-{digest}"), short[0]
    count = 1
    while count < len(short) and len(f"{kept}-vs-{short[count]}") <= room:
        kept, count = f"{kept}-vs-{short[count]}", count + 1
    rest = f"-and-{len(short) - count}-more" if count < len(short) else ""
    return f"{kept[:room].rstrip('.-')}{rest}-{digest}"


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
