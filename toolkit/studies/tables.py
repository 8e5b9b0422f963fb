"""The user's own table, row by row: CSV, TSV, JSON, JSON Lines, Parquet, or a data set of the hub. Text stays text.

name,number        line 1
Ann,00123          Row(number=2, values={"name": "Ann", "number": "00123"})

Everything but .json is streamed: no more than a line, or a batch of a Parquet file, is in memory at a time.
"""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import PROJECT_FOLDERS, MachineError, UserError, checked_path, nearest

LARGEST_JSON = 100_000_000
"""Bytes: the standard library reads an array of JSON only as a whole, at about ten times its size in memory."""
LONGEST_LINE = 10_000_000
"""Characters: a file without line ends (a disk image, 2 GB of zeros) is refused before it is in memory."""
SHOWN = 10
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+)(?=:))?(?::([\w.-]+))?", re.ASCII)
"""Name, configuration and split: BAAI/Infinity-Instruct:7M:train; of two, name and split."""
REALLY = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file: call it .parquet",
    b"\x1f\x8b": "packed by gzip",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    codecs.BOM_UTF32_LE: "UTF-32: save it as UTF-8",
}
"""What the first bytes of a file say that only its name calls text."""
AS_UTF8 = "save it as UTF-8 (Excel: Save as, CSV UTF-8)"


FETCHED = Path("data/sets")
"""Where `python -m toolkit.data RECIPE --fetch` puts data sets of the hub: a Parquet file a split."""


def fetched_folder(name: str, config: str | None = None) -> Path:
    return FETCHED / (name.replace("/", "--") + (f"--{config}" if config else ""))


class Other(str):
    """A value that the file does not store as text; a number is its literal."""

    kind: str
    """a number, a list, an object, bytes …"""
    stored: Any
    """A list or an object as it is there; None of the others."""

    def __new__(cls, text: str, kind: str, stored: Any = None) -> "Other":
        value = super().__new__(cls, text)
        value.kind, value.stored = kind, stored
        return value


class Row(NamedTuple):
    """One row of a table."""

    number: int
    """Of the line on which it starts, the header's being 1; in .json, .parquet and on the hub of the record, from 1."""
    values: dict[str, str]
    """By column; a missing value (null, NaN) is "", and what is no text is an `Other`."""


class Problems:
    """What is wrong with a table, row by row, so that all of it is said at once: the first ten, and how many more."""

    def __init__(self, source: str, *, at_once: bool = False) -> None:
        self.source = source
        self.at_once = at_once
        is_lines = READERS.get(Path(source).suffix.lower()) in (read_delimited, read_json_lines)
        self.unit = "line" if is_lines else "record"
        self.count = 0
        self.said: list[str] = []

    def add(self, row: int, what: str) -> None:
        self.count += 1
        if len(self.said) < SHOWN:
            self.said.append(f"{self.unit} {row}: {what}.")
        if self.at_once:
            self.refuse()

    def refuse(self) -> None:
        """Raises UserError where anything is wrong."""
        if self.count == 1:
            raise UserError(f"{self.source}, {self.said[0]}")
        if self.count:
            more = [f"and {self.count - SHOWN:,} more."] if self.count > SHOWN else []
            raise UserError("\n  ".join([f"{self.source}:", *self.said, *more]))


def read_rows(source: str, problems: Problems | None = None) -> Iterator[Row]:
    """The rows of a file, by its extension, or of a hub data set, `organisation/name`, `organisation/name:split` or
    `organisation/name:configuration:split`.

    A row that is no row is added to `problems` and left out; without `problems` it is raised at once. Raises UserError
    where there is no such table, where it cannot be read on, and where it has no rows; MachineError where the hub
    cannot be reached.
    """
    problems = problems or Problems(source, at_once=True)
    path = checked_path(source, "[data] source: ")
    reader = READERS.get(path.suffix.lower())
    if path.is_file() and reader:
        return refuse_none(reader(path, problems), problems)
    known = ", ".join(READERS)
    if path.is_file():
        raise UserError(f'[data] source = "{source}": tables are {known}; save it as one of these.')
    if path.is_dir():
        tables = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
        hint = f"it has {', '.join(tables[:SHOWN])}" if tables else f"tables are {known}"
        raise UserError(f'[data] source = "{source}" is a folder; name a file in it ({hint}).')
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    hub = named_on_hub(source)
    if hub and not reader and not near:
        name, config, split = hub[1], hub[2], hub[3] or "train"
        local = fetched_folder(name, config) / f"{split}.parquet"
        rows = read_parquet(local, problems) if local.is_file() else read_hub(name, config, split, problems)
        return refuse_none(rows, problems)
    hint = f"did you mean {(path.parent / near).as_posix()}?" if near else f"tables are {known}, or organisation/name."
    raise UserError(f'[data] source = "{source}": there is no such file; {hint}')


def refuse_none(rows: Iterable[Row], problems: Problems) -> Iterator[Row]:
    none = True
    for row in rows:
        none = False
        yield row
    if none and not problems.count:
        raise UserError(f"{problems.source} has no rows.")


# --- text ---


def encoding_of(path: Path) -> str:
    """UTF-8, or UTF-16 by its mark (Excel's "Unicode text"). Nothing is guessed: a wrong guess teaches wrong facts."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise UserError(f"{path} is empty.")
    for mark, what in REALLY.items():
        if start.startswith(mark):
            raise UserError(f"{path} is no text but {what}.")
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[str]:
    """Lines with their ends, which csv wants."""
    encoding = encoding_of(path)
    number = 0
    # Bytes that are no UTF-8 come through as half characters, so that their place is known.
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        while True:
            number += 1
            try:
                line = file.readline(longest)
                line.encode()
            except UnicodeEncodeError as error:
                place = f"character {error.start + 1:,} is the byte 0x{ord(error.object[error.start]) - 0xDC00:02x}"
                raise UserError(f"{path}, line {number}: {place}, which is not UTF-8: {AS_UTF8}.") from None
            except UnicodeError:
                raise UserError(f"{path}, line {number} or after: it is not UTF-16, as it began: {AS_UTF8}.") from None
            if "\0" in line:
                raise UserError(f"{path}, line {number}: a NUL byte, which no text has; if it is UTF-16, {AS_UTF8}.")
            if len(line) == longest:
                raise UserError(f"{path}, line {number}: over {longest:,} characters without an end: is it a table?")
            if not line:
                return
            yield line


# --- CSV and TSV ---

CSV_ERRORS = {
    "unexpected end of data": "a quote is opened in this row and never closed",
    "field larger than": f"a cell of over {csv.field_size_limit():,} characters, or a quote that is never closed",
    "expected after": 'text after a closing quote; a quote inside a cell is written twice, as ""',
}


def read_delimited(path: Path, problems: Problems) -> Iterator[Row]:
    lines = read_lines(path)
    first = next(lines, "")
    # Excel writes ";" where "," is the decimal comma. Every row is held to the header, so that a wrong guess is seen.
    outside = re.sub('"[^"]*"', "", first)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=outside.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    columns: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            said = [ours for theirs, ours in CSV_ERRORS.items() if theirs in str(error)]
            raise UserError(f"{path}, line {number}: {said[0] if said else error}.") from None
        if not "".join(cells).strip():
            continue  # a blank line, or a row of commas only, which Excel writes below a table
        if not columns:
            columns = header(path, cells)
        elif len(cells) != len(columns):
            hint = f'; a cell that holds "{delimiter}" stands in quotes' if len(cells) > len(columns) else ""
            problems.add(number, f"{len(cells)} cells, where the header has {len(columns)}{hint}")
        else:
            # A column without a name (pandas' index, an empty one at the end) cannot be asked for.
            yield Row(number, {column: cell for column, cell in zip(columns, cells, strict=True) if column})


def header(path: Path, names: list[str]) -> list[str]:
    columns = [name.strip() for name in names]
    for column, times in Counter(columns).items():
        if column and times > 1:
            raise UserError(f"{path}: {times} columns are called `{column}`; rename all but one.")
    return columns


# --- JSON ---


def parse_json(text: str) -> Any:
    """Numbers by their literal, in which nothing is rounded; raises ValueError with what is wrong."""

    def number(literal: str) -> Other:
        return Other(literal, "a number")

    try:
        return json.loads(
            text,
            parse_int=number,
            parse_float=number,
            parse_constant=lambda name: None if name == "NaN" else number(name),
            object_pairs_hook=unique,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in text.strip() else ""
        said = f"not JSON ({error.msg} at {place}character {error.colno})"
        if re.match(r"0[0-9]", text[max(0, error.pos - 1) :]):
            said += "; a number with zeros at the front must stand in quotes"
        raise ValueError(said) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {key.strip(): value for key, value in pairs}
    if len(values) < len(pairs):
        twice = Counter(key.strip() for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"`{twice}` is there twice")
    return values


def as_rows(records: Iterable[tuple[int, Any]], problems: Problems) -> Iterator[Row]:
    for number, record in records:
        if isinstance(record, dict):
            yield Row(number, {column: as_text(value) for column, value in record.items()})
        else:
            problems.add(number, "an object, {…}, is expected")


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return Other(str(value), "a number")
    if isinstance(value, date | time):
        return str(value)
    kinds = {dict: "an object", list: "a list", bytes: "bytes"}
    stored = value if isinstance(value, dict | list) else None
    return Other("", kinds.get(type(value), f"a {type(value).__name__}"), stored)


def read_json_lines(path: Path, problems: Problems) -> Iterator[Row]:
    def records() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError as error:
                problems.add(number, str(error))
            else:
                yield number, record

    return as_rows(records(), problems)


def read_json_array(path: Path, problems: Problems) -> Iterator[Row]:
    if path.stat().st_size > LARGEST_JSON:
        size = f"over {LARGEST_JSON // 1_000_000} MB, and an array can only be read as a whole"
        raise UserError(f"{path} is {size}: write it as JSON Lines, an object a line (.jsonl).")
    try:
        records = parse_json("".join(read_lines(path, LARGEST_JSON + 1)))
    except ValueError as error:
        hint = "; a file of one object a line is called .jsonl" if "Extra data" in str(error) else ""
        raise UserError(f"{path}: {error}{hint}.") from None
    if not isinstance(records, list):
        raise UserError(f'{path}: an array of objects is expected, [{{…}}, {{…}}] (pandas: orient="records").')
    return as_rows(enumerate(records, start=1), problems)


# --- Parquet and the hub ---


def read_parquet(path: Path, problems: Problems) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def records() -> Iterator[Any]:
        try:
            # Without pre_buffer, which would fetch a whole row group.
            with pq.ParquetFile(path, pre_buffer=False) as file:
                header(path, file.schema_arrow.names)
                for batch in file.iter_batches(batch_size=1024):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path} is damaged or no Parquet file ({first_line(error)}).") from None

    return as_rows(enumerate(records(), start=1), problems)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def named_on_hub(source: str) -> re.Match[str] | None:
    """Name, configuration and split of what could be a data set of the hub; None for a path into our own folders."""
    return None if source.split("/")[0] in PROJECT_FOLDERS else HUB_NAME.fullmatch(source)


@contextmanager
def hub_errors(name: str, split: str = "") -> Iterator[None]:
    """What the hub says, as a message. split: of it one table is wanted, and else all of them."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    what, which = ("file", "the file") if split else ("folder", "its folder")
    try:
        yield
    except DatasetNotFoundError:
        raise UserError(f'[data] source = "{name}": no {what}, and no data set that the hub shows you.') from None
    except (DatasetsError, ValueError) as error:
        source = f"{name}:{split}" if split else name
        raise UserError(f'[data] source = "{source}": {first_line(error)}') from None
    except OSError as error:
        hint = f"Fetch it where there is network, and name {which}."
        raise MachineError(f"the hub's data set {name} could not be read ({first_line(error)}). {hint}") from None


def read_hub(name: str, config: str | None, split: str, problems: Problems) -> Iterator[Row]:
    from datasets import load_dataset

    def records() -> Iterator[Any]:
        with hub_errors(name, split):
            # Never trust_remote_code: a table needs no program.
            yield from load_dataset(*filter(None, (name, config)), split=split, streaming=True)

    return as_rows(enumerate(records(), start=1), problems)


READERS: dict[str, Callable[[Path, Problems], Iterator[Row]]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json_array,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
