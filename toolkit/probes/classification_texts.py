"""The texts that a classifier is measured on: its run's own, or those of a table, whose labels must be its classes."""

from collections import Counter
from pathlib import Path

from toolkit.checkpoints import Checkpoint
from toolkit.classes import FILE, Classes, example_of
from toolkit.errors import UserError, checked_path, nearest
from toolkit.example import Example, read_jsonl
from toolkit.studies.labelled import Labelled, Reader
from toolkit.studies.splits import CALLED, Table, find_tables, known_names, listing, refuse_missing_shards
from toolkit.studies.tables import READERS, SHOWN


def own_examples(checkpoint: Checkpoint, classes: Classes, split: str) -> list[Example]:
    """A split of a run's own texts. Raises UserError where they are not what this classifier was trained on."""
    if checkpoint.run is None:
        raise UserError(f"{checkpoint.weights} comes from no run: say what to measure it on with --data FILE.")
    path = checkpoint.run.path / "examples.jsonl"
    examples = [example for example in read_jsonl(path) if example.split == split]
    if not examples:
        raise UserError(f"{path} has no {split} texts.")
    for example in examples:
        if example.answer not in classes.labels:
            said = f'"{example.answer}", as {example.id} in {path} is'
            raise UserError(f"{checkpoint.weights / FILE} has no class {said}: the two belong to different runs.")
        if not is_place(example.info.get("text"), len(example.prompt)):
            raise UserError(f"{path} is damaged: {example.id} does not say where in its prompt its text is.")
    return examples


def is_place(value: object, length: int) -> bool:
    """Whether it is [start, end] within so many characters."""
    if not isinstance(value, list) or len(value) != 2 or not all(type(place) is int for place in value):
        return False
    return 0 <= value[0] < value[1] <= length


# --- texts from elsewhere ---


def read_labelled(source: Path, text: str, label: str) -> list[Labelled]:
    """The rows of a table, or of the one that is called test in a folder; the columns as in training, if not named."""
    reader, table = Reader(text, label, where="--"), table_at(source)
    rows = reader.read("test", table, table.stem, some=False)
    reader.refuse()
    # A Parquet file of the hub says itself what its numbers are called.
    known = known_names(source.as_posix(), table, reader.label)
    return [row._replace(label=known.get(row.label, row.label)) for row in rows]


def table_at(source: Path) -> Table:
    path = checked_path(source, "--data ")
    if not path.is_dir():
        refuse_no_file(path, "--data", tuple(READERS))
        return Table(path.stem, path.as_posix(), (path.as_posix(),))
    found = find_tables(path.as_posix())
    fits = [table for table in found if table.stem.lower() in CALLED["test"]]
    if len(fits) != 1:
        what = "several files that are called test" if fits else "nothing called test (test.csv, test.parquet …)"
        raise UserError(f"--data {source} has {what}: name a file. {listing(path.as_posix(), found)}")
    refuse_missing_shards(fits[0])
    return fits[0]


def refuse_no_file(path: Path, option: str, endings: tuple[str, ...]) -> None:
    """Raises UserError for what is no file with one of these endings."""
    if path.is_file() and path.suffix.lower() in endings:
        return
    if path.exists():
        what = "is a folder: name a file in it" if path.is_dir() else "has another ending than those that are read"
        raise UserError(f"{option} {path} {what} ({', '.join(endings)}).")
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    hint = f"; did you mean {path.with_name(near)}?" if near else "."
    raise UserError(f"{option} {path}: there is no such file{hint}")


def given_examples(checkpoint: Checkpoint, classes: Classes, rows: list[Labelled]) -> list[Example]:
    """Rows as questions. Raises UserError for labels that are none of the classifier's."""
    names = names_of(checkpoint, classes)
    times = Counter(row.label for row in rows if row.label not in names)
    if not times:
        return [example_of(row.id, row.text, names[row.label], classes) for row in rows]
    first = {row.label: row.place for row in reversed(rows)}
    known = shown([*names])
    lines = []
    for label, count in times.items():
        near = nearest(label, list(names))
        hint = f'; did you mean "{near}"?' if near else "."
        if label == "-1":
            hint = ": hidden labels cannot be measured on."
        lines.append(f'{first[label]}: "{label}" ({count:,} {"row" if count == 1 else "rows"}){hint}')
    said = f"{checkpoint.label} has no such class; it has {known}:"
    more = [f"and {len(lines) - SHOWN:,} labels more."] if len(lines) > SHOWN else []
    raise UserError("\n  ".join([said, *lines[:SHOWN], *more]))


def names_of(checkpoint: Checkpoint, classes: Classes) -> dict[str, str]:
    """The class of a label as it may be stored: by its name, and by its number where the run's recipe names numbers."""
    stored = checkpoint.run.recipe.get("data", {}).get("label_names") if checkpoint.run else None
    named = isinstance(stored, list) and tuple(str(name).strip() for name in stored) == classes.labels
    numbers = {str(number): label for number, label in enumerate(classes.labels)} if named else {}
    # Numbers last, and so first: names may be numbers too, and the run's own files have the numbers.
    return {label: label for label in classes.labels} | numbers


def shown(labels: list[str]) -> str:
    return ", ".join(labels if len(labels) <= SHOWN else [*labels[: SHOWN - 1], f"… ({len(labels):,})"])
