"""Text classification: each row of a table, a text and its class, becomes a question with the class as its answer.

sentence,label              from a folder's train.csv, test.csv and perhaps dev.csv, or Parquet or JSON of these names
a gripping film,1           label_names = ["Negative", "Positive"]

{"id": "train-000001", "prompt": "Please carefully read the following reference text:\\"a gripping film\\", \\nand …",
 "answer": "Positive", "split": "train", "info": {"text": [52, 67]}}

`info` has the place of the text in the prompt, so that a text that is too long is shortened there, never the question.
"""

import re
from collections import defaultdict
from itertools import islice
from typing import Annotated

from pydantic import Field

from toolkit.errors import UserError, nearest
from toolkit.example import Example, Split
from toolkit.studies.built import Built
from toolkit.studies.labelled import MOST_ROWS, Labelled, Reader
from toolkit.studies.splits import CALLED, Role, Table, choose_tables, known_names
from toolkit.studies.stratified import cut_off, draw_count, sizes_of
from toolkit.studies.tables import SHOWN

PROMPT = (
    'Please carefully read the following reference text:"{text}", \n'
    "and determine which of the following categories it belongs to:{class_labels},answer:"
)
MOST_CLASSES = 1_000
"""Every prompt may name them all; more are a sign that another column was taken for the labels."""
UNEVEN = 3
"""Times as many rows of the largest class as of the smallest, from which on it is said."""
HELD_OUT: tuple[Role, ...] = ("dev", "test")
SPLITS: dict[Role, Split] = {"train": "train", "dev": "validation", "test": "test"}
NO_NAMES: list[str] = []


def build(
    data_seed: int,
    assignment_seed: int,
    source: Annotated[
        str, Field(description="A folder with the files train, test and perhaps dev, or a hub data set, owner/name.")
    ],
    text: Annotated[
        str, Field(description='The column of the texts; "" for the one that is called text, sentence or the like.')
    ] = "",
    label: Annotated[
        str, Field(description='The column of the classes; "" for the one that is called label, category or the like.')
    ] = "",
    train: Annotated[
        str, Field(description='The file (with all its shards) or split to train on; "" for what is called train.')
    ] = "",
    dev: Annotated[
        str, Field(description='The file or split to validate on; "" for dev, valid, validation or val, if there.')
    ] = "",
    test: Annotated[
        str, Field(description='The file or split to test on, such as "validation"; "" for what is called test.')
    ] = "",
    dev_share: Annotated[
        float, Field(gt=0, lt=0.5, description="Share of train, by class, to validate on where there is no dev.")
    ] = 0.15,
    label_names: Annotated[
        list[str], Field(description='Names of the labels 0, 1, …, such as ["Negative", "Positive"].')
    ] = NO_NAMES,
    count: Annotated[
        int | None,
        Field(ge=1, le=MOST_ROWS, description="At most so many rows of train are used, drawn by class; all if absent."),
    ] = None,
    prompt: Annotated[
        str, Field(description="The question, with {text}, and {class_labels} where the classes shall be named.")
    ] = PROMPT,
) -> Built:
    """The rows as questions: those to train on, to validate on and to test on, each in the order of its file.

    Raises UserError for files, columns and labels that do not fit, and for every row that has no text or no label.
    """
    refuse_prompt(prompt)
    label_names = read_names(label_names)
    tables = choose_tables(source, {"train": train, "dev": dev, "test": test})
    reader = Reader(text, label)
    prefixes = prefixes_of(tables)
    rows: dict[Role, list[Labelled]] = {
        role: reader.read(role, table, prefixes[role], some=role == "train" and count is not None)
        for role, table in tables.items()
    }
    reader.refuse()
    names = name_labels(rows["train"], label_names, source, reader.label)
    if not label_names:
        known = known_names(source, tables["train"], reader.label)
        names = {label: known.get(label, label) for label in names}
    refuse_unknown(rows, names)
    if count is not None:
        rows["train"] = draw_count(rows["train"], count, names, data_seed)
    if "dev" not in rows:
        rows["train"], rows["dev"] = cut_off(rows["train"], dev_share, names, assignment_seed, source)
    filled = Filled(prompt, names)
    return Built(
        [filled.example(row, split) for role, split in SPLITS.items() for row in rows[role]],
        labels=tuple(names.values()),
        notes=(*uneven(rows["train"], names), *repeated(rows)),
    )


def prefixes_of(tables: dict[Role, Table]) -> dict[Role, str]:
    """What ids begin with: what the split is called where it comes from; another choice of splits keeps them."""
    usual = {name for names in CALLED.values() for name in names}
    prefixes: dict[Role, str] = {role: table.stem.lower() for role, table in tables.items()}
    if set(prefixes.values()) <= usual and len(set(prefixes.values())) == len(prefixes):
        return prefixes
    return dict(SPLITS)


# --- labels ---


def read_names(label_names: list[str]) -> list[str]:
    names = [name.strip() for name in label_names]
    for position, name in enumerate(names):
        if not name or name in names[:position]:
            what = f'"{name}" is there twice' if name else f"entry {position + 1} is empty"
            raise UserError(f"[data] label_names: {what}.")
    return names


def name_labels(rows: list[Labelled], label_names: list[str], source: str, column: str) -> dict[str, str]:
    """What each label of train is called, in the order of the classes: by value, or alphabetically.

    Raises UserError for numbers beside text, for one class or too many, and for names that do not fit the labels.
    """
    refuse_mixed(rows)
    found = {row.label for row in rows}
    # Also as text, as in a CSV, where everything is.
    are_numbers = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", label) for label in found)
    order = sorted(found, key=int) if are_numbers else sorted(found)
    if len(order) == 1:
        raise UserError(f'{source}: every row of train has the label "{order[0]}": there is nothing to tell apart.')
    if len(order) > MOST_CLASSES:
        raise UserError(
            f"{source}: train has {len(order):,} labels in {len(rows):,} rows, over {MOST_CLASSES:,}: is `{column}` the"
            " column of the classes? Else say [data] label."
        )
    said = f"[data] label_names has {len(label_names)} names, for the labels 0 … {len(label_names) - 1}; train has"
    if label_names and not are_numbers:
        raise UserError(f"{said} labels that are text, {shown(order)}: leave it out.")
    if label_names and order != [str(number) for number in range(len(label_names))]:
        raise UserError(f"{said} the {len(order)} labels {shown(order)}.")
    return dict(zip(order, label_names or order, strict=True))


def shown(labels: list[str]) -> str:
    return ", ".join(labels if len(labels) <= SHOWN else [*labels[: SHOWN - 1], "…", labels[-1]])


def refuse_mixed(rows: list[Labelled]) -> None:
    firsts = {row.is_number: row for row in reversed(rows)}
    if len(firsts) == 2:
        number, text = firsts[True], firsts[False]
        raise UserError(
            f'mixed label types: {number.place} has the number {number.label}, {text.place} the text "{text.label}";'
            " store all labels as text, or all as numbers."
        )


def refuse_unknown(rows: dict[Role, list[Labelled]], names: dict[str, str]) -> None:
    """Raises UserError for the labels of dev and test that train has not."""
    unknown: dict[tuple[Role, str], list[Labelled]] = defaultdict(list)
    for role in HELD_OUT:
        for row in rows.get(role, []):
            if row.label not in names:
                unknown[role, row.label].append(row)
    if unknown:
        said = [lacking(role, those, names) for (role, _), those in islice(unknown.items(), SHOWN)]
        more = [f"and {len(unknown) - SHOWN:,} more."] if len(unknown) > SHOWN else []
        raise UserError("\n  ".join(said + more))


def lacking(role: Role, rows: list[Labelled], names: dict[str, str]) -> str:
    """What is said of rows with a label that train has not."""
    label = rows[0].label
    # A number is near to every other one.
    near = None if label.lstrip("-").isdigit() else nearest(label, list(names))
    hint = f'; did you mean "{near}"?' if near else f" ({shown(list(names))})."
    if label == "-1":
        hint = ": hidden labels cannot be tested on"
        hint += '; [data] test = "validation" takes another split.' if role == "test" else "."
    times = "1 row has" if len(rows) == 1 else f"{len(rows):,} rows have"
    return f'{role}: {times} the label "{label}", the first in {rows[0].place}, which no row of train has{hint}'


# --- the prompt ---


def refuse_prompt(prompt: str) -> None:
    rest = prompt.replace("{text}", "").replace("{class_labels}", "")
    fits = prompt.count("{text}") == 1 and prompt.count("{class_labels}") <= 1
    if not fits or re.search(r"[{}]", rest):
        raise UserError(
            f'[data] prompt = "{prompt}": it must contain {{text}} once, may contain {{class_labels}} once, and has no'
            " other braces."
        )


class Filled:
    """The prompt around a text."""

    def __init__(self, prompt: str, names: dict[str, str]) -> None:
        self.names = names
        labels = ",".join(names.values())
        # Apart before anything is put in: braces within a text or a label stay what they are.
        self.before, self.after = (part.replace("{class_labels}", labels) for part in prompt.split("{text}"))

    def example(self, row: Labelled, split: Split) -> Example:
        start = len(self.before)
        return Example(
            id=row.id,
            fact=row.id,
            prompt=f"{self.before}{row.text}{self.after}",
            answer=self.names[row.label],
            split=split,
            info={"text": [start, start + len(row.text)]},
        )


# --- what is to be said of the data ---


def uneven(rows: list[Labelled], names: dict[str, str]) -> list[str]:
    sizes = sizes_of(rows, names).most_common()
    (largest, most), (smallest, least) = sizes[0], sizes[-1]
    if most < UNEVEN * least:
        return []
    between = "… " if len(sizes) > 2 else ""
    times = f"{most / least:.1f}" if most < 10 * least else f"{most / least:,.0f}"
    return [
        f"classes are uneven: {names[largest]} {most:,}, {between}{names[smallest]} {least:,} ({times} times as many);"
        f' always answering "{names[largest]}" would be right in {100 * most / len(rows):.1f} % of train: macro F1'
        " weighs all classes alike"
    ]


def repeated(rows: dict[Role, list[Labelled]]) -> list[str]:
    """Texts of dev and test that are trained too, and trained texts with two labels; exactly the same text only."""
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows["train"]:
        labels[row.text].add(row.label)
    notes = []
    for role in HELD_OUT:
        times = sum(row.text in labels for row in rows[role])
        if times:
            notes.append(
                f"{times:,} of {len(rows[role]):,} {role} texts ({100 * times / len(rows[role]):.1f} %) are in train"
                " too, word for word: accuracy on them may be memory"
            )
    if several := sum(len(found) > 1 for found in labels.values()):
        stands = "1 text stands" if several == 1 else f"{several:,} texts stand"
        notes.append(f"{stands} in train with different labels: no model can be right on all of them")
    return notes
