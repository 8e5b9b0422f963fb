"""Labels a file of texts, some thousand at a time, as CSV: text, label, and the probability of every class.

"text","label","probability","p_Negative","p_Positive"
"a gripping film","Positive",0.981034,0.0189663,0.981034
"""

import contextlib
import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from toolkit.classes import example_of, prompts_of
from toolkit.errors import UserError, checked_path
from toolkit.studies.labelled import TEXTS, find_column, value_of
from toolkit.studies.tables import READERS, Problems, read_lines

if TYPE_CHECKING:
    from toolkit.models.loaded import Loaded

BATCHES = 32
"""How many of them are held in memory."""
ENDINGS = (".txt", *READERS)


class Text(NamedTuple):
    number: int
    """Of its line or record, from 1."""
    text: str
    """As it stands in the file; the white space around it is no part of what is classified, as in training."""


# --- texts in ---


def count_texts(path: Path, column: str) -> int:
    """How many there are. Raises UserError for lines and records that have none, and where all of them have none."""
    problems = problems_of(path)
    count = sum(1 for _ in read_texts(path, column, problems))
    problems.refuse()
    if not count:
        raise UserError(f"{path} has no texts.")
    return count


def problems_of(path: Path, *, at_once: bool = False) -> Problems:
    problems = Problems(str(path), at_once=at_once)
    if path.suffix.lower() == ".txt":
        problems.unit = "line"
    return problems


def read_texts(path: Path, column: str, problems: Problems) -> Iterator[Text]:
    """Line by line, or record by record; what is wrong is added to `problems`."""
    if path.suffix.lower() == ".txt":
        for number, line in enumerate(read_lines(path), start=1):
            if line.isspace():
                problems.add(number, "it is empty, and every line is a text")
            else:
                yield Text(number, line.rstrip("\r\n"))
        return
    found = ""
    for row in READERS[path.suffix.lower()](path, problems):
        found = found or find_column("text", column, TEXTS, list(row.values), "", str(path), "--")
        try:
            yield Text(row.number, str(value_of(row, found)))
        except ValueError as error:
            problems.add(row.number, str(error))


# --- labels out ---


def refuse_out(out: Path, path: Path, *, force: bool) -> None:
    """Raises UserError where the labels cannot, or should not, be written."""
    if not checked_path(out, "--out ").exists():
        if above := next((parent for parent in out.parents if parent.exists() and not parent.is_dir()), None):
            raise UserError(f"--out {out}: {above} is a file, and no folder.")
        return
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file.")
    if out.samefile(path):
        raise UserError(f"--out {out} is the file of texts itself.")
    if not force:
        raise UserError(f"--out {out} is there already; --force writes over it.")


def label_file(
    loaded: "Loaded", engine: ModuleType, path: Path, column: str, count: int, file: TextIO, batch_size: int, bar: bool
) -> int:
    """Write a row a text, in the order of the texts; returns how many texts were cut to fit."""
    assert loaded.classes is not None
    # Quotes around all text: whatever line ends are in it, they stay; numbers are left bare.
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(["text", "label", "probability", *(f"p_{label}" for label in loaded.classes.labels)])
    texts, cut = read_texts(path, column, problems_of(path, at_once=True)), 0
    with text_bar("labelling", count, shown=bar) as tick:
        while chunk := list(islice(texts, batch_size * BATCHES)):
            rows, shortened = label_chunk(loaded, engine, chunk, batch_size, tick)
            writer.writerows(rows)
            cut += shortened
    return cut


@contextlib.contextmanager
def text_bar(said: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr; yields what is told how many texts more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (said, BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, disable=not shown or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda texts: progress.advance(task, texts)


def label_chunk(
    loaded: "Loaded", engine: ModuleType, texts: list[Text], batch_size: int, tick: Callable[[int], None]
) -> tuple[list[list[Any]], int]:
    """Rows of the CSV, and how many of the texts were cut."""
    from toolkit.models.loaded import undisturbed
    from toolkit.probes.classification import log_probabilities

    assert loaded.classes is not None
    labels = loaded.classes.labels
    examples = [example_of(f"text {number}", text.strip(), labels[0], loaded.classes) for number, text in texts]
    prompts = prompts_of(loaded.tokenizer, examples, loaded.classes)
    with undisturbed(loaded, engine):
        log_p = log_probabilities(loaded, [prompt.ids for prompt in prompts], batch_size, tick)
    rows = []
    for (_, text), row, probabilities in zip(texts, log_p.tolist(), log_p.exp().tolist(), strict=True):
        best = max(range(len(labels)), key=row.__getitem__)
        p = [float(f"{value:.6g}") for value in probabilities]
        rows.append([text, labels[best], p[best], *p])
    return rows, sum(prompt.cut > 0 for prompt in prompts)
