"""Finds the files of texts and their classes, in a folder or on the hub, and reads them.

sst2/data/train-00000-of-00001.parquet    train, from all its shards
sst2/data/validation-00000-of-00001.parquet    dev
sst2/data/test-00000-of-00001.parquet    test
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, islice
from pathlib import Path
from typing import Literal, NamedTuple

from toolkit.errors import MachineError, UserError, checked_path, nearest
from toolkit.studies.tables import (
    HUB_NAME,
    READERS,
    SHOWN,
    Other,
    Problems,
    Row,
    fetched_folder,
    first_line,
    read_rows,
)  # fmt: skip

MOST_ROWS = 1_000_000
"""A split: all of its texts are held in memory."""

Role = Literal["train", "test", "dev"]
CALLED: dict[Role, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test",),
    "dev": ("dev", "valid", "validation", "val"),
}
"""What the files of a split are called."""

TEXTS = ("text", "sentence", "content", "document", "review", "article", "title")
LABELS = ("label", "labels", "category", "class", "target", "sentiment", "topic", "intent")
"""What the two columns are called, where [data] does not say it."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]{16})?")
"""As the hub names Parquet files; the letters at the end are of older ones."""


class Table(NamedTuple):
    """A file, with its other shards where it is one, or a split of the hub."""

    stem: str
    """What it is called, such as validation."""
    shown: str
    """How [data] would name it."""
    sources: tuple[str, ...]
    """What `read_rows` takes, shard by shard."""


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


# --- finding the tables ---


def choose_tables(source: str, named: dict[Role, str]) -> dict[Role, Table]:
    """The tables of train, test and, where there is one, dev: those that are `named`, else by what they are called.

    Raises UserError where train or test is missing, or could be two files, and where one would serve twice.
    """
    found = find_tables(source)
    chosen = {role: named_table(role, wanted, source, found) for role, wanted in named.items() if wanted}
    for role, names in CALLED.items():
        if role in chosen:
            continue
        fits = [table for table in found if table.stem.lower() in names]
        free = [table for table in fits if not any(share_a_file(table, other) for other in chosen.values())]
        if free:
            chosen[role] = the_only(role, free, source)
        elif role != "dev":
            if not fits:
                raise missing(role, source, found)
            chosen[role] = fits[0]
    in_order: dict[Role, Table] = {role: chosen[role] for role in CALLED if role in chosen}
    for (role, table), (other, its) in combinations(in_order.items(), 2):
        if share_a_file(table, its):
            said = f"[data] {role} and {other} would both be {table.shown} of {source}: name another for one of them."
            raise UserError(f"{said} {listing(source, found)}")
    for table in in_order.values():
        refuse_missing_shards(table)
    return in_order


def find_tables(source: str) -> list[Table]:
    """Whatever could be a split. Raises UserError where the source is neither a folder nor a hub name."""
    path = checked_path(source, "[data] source: ")
    if source and path.is_dir():
        return [table for within in (".", "data") if (path / within).is_dir() for table in tables_in(path, within)]
    said = f'[data] source = "{source}"'
    if path.is_file():
        raise UserError(f'{said} is a file: name its folder, "{path.parent.as_posix()}", and the files of it by'
                        f' train = "{path.name}", test = … (they need not be called train and test).')  # fmt: skip
    hub = HUB_NAME.fullmatch(source)
    # Where the folder around it is there, it was to be a folder; without network the hub is asked for half a minute.
    if not hub or path.parent.is_dir():
        beside = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir()) if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        hint = f'did you mean "{(path.parent / near).as_posix()}"?' if near else "name one, or organisation/name."
        raise UserError(f"{said}: there is no such folder; {hint}")
    if hub[2]:
        raise UserError(f'{said}: write "{hub[1]}", and name splits by train, dev and test.')
    if (local := fetched_folder(source)).is_dir():
        return tables_in(local, ".")
    return [Table(split, split, (f"{source}:{split}",)) for split in hub_splits(source)]


def tables_in(folder: Path, within: str) -> list[Table]:
    """The tables of a folder within the source's, shards of one table together and in order."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted((folder / within).iterdir()):
        if path.suffix.lower() in READERS and path.is_file():
            shard = SHARD.fullmatch(path.stem)
            key = (shard["stem"], shard["total"], path.suffix) if shard else (path.stem, "", path.suffix)
            groups.setdefault(key, []).append(path.as_posix())
    return [
        Table(stem, (Path(within) / Path(paths[0]).name).as_posix(), tuple(paths))
        for (stem, _, _), paths in groups.items()
    ]


def named_table(role: Role, wanted: str, source: str, found: list[Table]) -> Table:
    """The table that [data] names by a file, one of its shards, or what it is called, such as "validation"."""
    path = checked_path(Path(source) / wanted, f"[data] {role}: ")
    said = f'[data] {role} = "{wanted}"'
    if path.is_file():
        if path.suffix.lower() not in READERS:
            raise UserError(f"{said}: tables are {', '.join(READERS)}; save it as one of these.")
        beside = tables_in(Path(source), str(Path(wanted).parent))
        return next(table for table in beside if any(path.samefile(one) for one in table.sources))
    fits = [table for table in found if wanted in (table.stem, *(Path(one).name for one in table.sources))]
    if not fits:
        near = nearest(wanted, [name for table in found for name in (table.stem, table.shown)])
        hint = f'; did you mean "{near}"?' if near else "."
        raise UserError(f"{said}: {source} has no such file or split{hint} {listing(source, found)}")
    return the_only(role, fits, source)


def the_only(role: Role, fits: list[Table], source: str) -> Table:
    if len(fits) > 1:
        shown = " and ".join(table.shown for table in fits)
        raise UserError(f'[data] source = "{source}": {shown} could be {role}; name one: {role} = "{fits[0].shown}".')
    return fits[0]


def share_a_file(one: Table, other: Table) -> bool:
    return not {Path(source).resolve() for source in one.sources}.isdisjoint(
        Path(source).resolve() for source in other.sources
    )


def missing(role: Role, source: str, found: list[Table]) -> UserError:
    # A dev file can be tested on; what is called as another split is no train file.
    called = {name: role for role, names in CALLED.items() for name in names}
    likely = [table for table in found if role == "test" and called.get(table.stem.lower()) == "dev"]
    likely += [table for table in found if table.stem.lower() not in called]
    example = likely[0].shown if likely else "…"
    return UserError(
        f'[data] source = "{source}" has nothing called {role} ({role}.csv, {role}.parquet …).'
        f' {listing(source, found)} Name one: {role} = "{example}".'
    )


def listing(source: str, found: list[Table]) -> str:
    """A sentence that says what is there: the tables, or else what lies in the folder."""
    shown = [table.shown for table in found]
    if not shown and Path(source).is_dir():
        entries = sorted(Path(source).iterdir())
        shown = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    more = f" and {len(shown) - SHOWN:,} more" if len(shown) > SHOWN else ""
    return f"It has {', '.join(shown[:SHOWN]) or 'nothing'}{more}."


def refuse_missing_shards(table: Table) -> None:
    shards = [shard for source in table.sources if (shard := SHARD.fullmatch(Path(source).stem))]
    if not shards:
        return
    total, there = int(shards[0]["total"]), {int(shard["index"]) for shard in shards}
    lacking = sorted(set(range(total)) - there)
    said = f"{table.sources[0]} is one of {total:,} shards"
    if lacking:
        more = f" and {len(lacking) - SHOWN:,} more" if len(lacking) > SHOWN else ""
        raise UserError(f"{said}, of which are missing: {', '.join(f'{one:05d}' for one in lacking[:SHOWN])}{more}.")
    if len(shards) > total:
        raise UserError(f"{said}, and {len(shards):,} are there: take out those of another version.")


# --- the hub ---


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """What the hub says, as a message."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        yield
    except DatasetNotFoundError:
        raise UserError(f'[data] source = "{name}": no folder, and no data set that the hub shows you.') from None
    except (DatasetsError, ValueError) as error:
        raise UserError(f'[data] source = "{name}": {first_line(error)}') from None
    except OSError as error:
        hint = "Fetch it where there is network, and name its folder."
        raise MachineError(f"the hub's data set {name} could not be read ({first_line(error)}). {hint}") from None


def hub_splits(name: str) -> list[str]:
    import datasets

    with hub_errors(name):
        return [str(split) for split in datasets.get_dataset_split_names(name)]


def hub_label_names(name: str, column: str) -> list[str]:
    import datasets

    with hub_errors(name):
        features = datasets.load_dataset_builder(name).info.features or {}
    kind = features.get(column)
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else []


def stored_label_names(path: Path, column: str) -> list[str]:
    """What a Parquet file that came from the hub says in its metadata."""
    import pyarrow.parquet as pq

    said = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(said)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def known_names(source: str, table: Table, column: str) -> dict[str, str]:
    """What the data set itself calls its labels 0 …, where it says so."""
    path = Path(table.sources[0])
    if path.is_file():
        names = stored_label_names(path, column) if path.suffix.lower() == ".parquet" else []
    else:
        names = hub_label_names(source, column)
    return {str(number): called for number, called in enumerate(names)}


# --- reading them ---


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
