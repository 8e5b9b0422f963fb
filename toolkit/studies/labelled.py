"""Reads texts and their classes: rows of a table, whose two columns are named or found."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from toolkit.errors import UserError, nearest
from toolkit.studies.splits import Role, Table
from toolkit.studies.tables import Other, Problems, Row, read_rows

MOST_ROWS = 1_000_000
"""A split: all of its texts are held in memory."""

TEXTS = ("text", "sentence", "content", "document", "review", "article", "title")
LABELS = ("label", "labels", "category", "class", "target", "sentiment", "topic", "intent")
"""What the two columns are called, where [data] does not say it."""


class Labelled(NamedTuple):
    """One row."""

    id: str
    text: str
    label: str
    is_number: bool
    """Whether the label is stored as a number."""
    source: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.source}, {Problems(self.source).unit} {self.number}"


class Reader:
    """Reads tables one after the other: the first one's columns are those that all must have."""

    def __init__(self, text: str, label: str, where: str = "[data] ") -> None:
        self.text = text
        self.label = label
        self.where = where
        """What stands before the name of a column's key where it is said: "--" on a command line."""
        self.problems: list[Problems] = []

    def read(self, role: Role, table: Table, prefix: str, *, some: bool) -> list[Labelled]:
        """Its rows. some: fewer will be drawn, so that rows beyond the most are left alone; else they are refused."""
        rows = list(islice(self.rows(table, prefix), MOST_ROWS + 1))
        if len(rows) > MOST_ROWS and not some:
            hint = "shorten it."
            if role == "train":
                hint = f"say [data] count, and so many are drawn from the first {MOST_ROWS:,} (shuffle a sorted table)."
            raise UserError(f"{table.shown} has over {MOST_ROWS:,} rows: {hint}")
        return rows[:MOST_ROWS]

    def rows(self, table: Table, prefix: str) -> Iterator[Labelled]:
        position = 0
        for source in table.sources:
            problems = Problems(source)
            self.problems.append(problems)
            for row in self.with_columns(read_rows(source, problems), source):
                position += 1
                try:
                    yield self.labelled(row, f"{prefix}-{position:06d}", source)
                except ValueError as error:
                    problems.add(row.number, str(error))

    def with_columns(self, rows: Iterator[Row], source: str) -> Iterator[Row]:
        """The rows, once the columns were found in the first."""
        for first in rows:
            self.find_columns(list(first.values), source)
            yield first
            yield from rows

    def refuse(self) -> None:
        """Raises UserError for all wrong rows of all tables."""
        said = []
        for problems in self.problems:
            try:
                problems.refuse()
            except UserError as error:
                said.append(str(error))
        if said:
            raise UserError("\n".join(said))

    def find_columns(self, columns: list[str], source: str) -> None:
        if self.text and self.text == self.label:
            raise UserError(f"{self.where}text and label are both `{self.text}`: the label is another column.")
        self.text = find_column("text", self.text, TEXTS, columns, self.label, source, self.where)
        self.label = find_column("label", self.label, LABELS, columns, self.text, source, self.where)

    def labelled(self, row: Row, identity: str, source: str) -> Labelled:
        text, label = value_of(row, self.text), value_of(row, self.label)
        is_number = isinstance(label, Other)
        label = whole_number(label, self.label) if is_number else label.strip()
        return Labelled(identity, text.strip(), label, is_number, source, row.number)


def find_column(
    key: str, named: str, usual: tuple[str, ...], columns: list[str], other: str, source: str, where: str = "[data] "
) -> str:
    """The column that is named, or else the only one with a usual name but for the other, which is named already.

    Raises UserError where it is not there.
    """
    there = f"It has {', '.join(filter(None, columns))}."
    if named:
        if named not in columns:
            near = nearest(named, columns)
            hint = f"; did you mean `{near}`?" if near else "."
            raise UserError(f"{where}{key}: {source} has no column `{named}`{hint} {there}")
        return named
    columns = [column for column in columns if column != other]
    fits = [column for column in columns if column.lower() in usual]
    if len(fits) != 1:
        many = f"`{'`, `'.join(fits)}` could each be the {key}"
        what = many if fits else f"no column is called {', '.join(usual[:3])} or the like"
        equals = " = " if where == "[data] " else " "
        raise UserError(f'{source}: {what}. {there} Name one: {where}{key}{equals}"{(fits or columns or ["…"])[0]}".')
    return fits[0]


def value_of(row: Row, column: str) -> str:
    """Raises ValueError where it is no text or number."""
    value = row.values.get(column, "")
    if isinstance(value, Other) and value.kind != "a number":
        raise ValueError(f"`{column}` is stored as {value.kind}: store it as text")
    if not value or value.isspace():
        raise ValueError(f"`{column}` is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"`{column}` holds half a character (\\ud800 to \\udfff), which no text has") from None
    return value


def whole_number(literal: str, column: str) -> str:
    """The literal of a whole number, 1 for 1.0 too, as columns with a missing value are stored."""
    if re.fullmatch(r"-?\d{1,18}", literal):
        return str(int(literal))
    value = float(literal)
    if not value.is_integer() or abs(value) >= 2**53:
        raise ValueError(f"`{column}` is the number {literal}: a label is a whole number or text")
    return str(int(value))
