"""Finds the files of train, dev and test, in a folder or on the hub.

sst2/data/train-00000-of-00001.parquet         train, from all its shards
sst2/data/validation-00000-of-00001.parquet    dev
sst2/data/test-00000-of-00001.parquet          test
"""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from toolkit.errors import UserError, checked_path, nearest
from toolkit.studies.tables import READERS, SHOWN, fetched_folder, hub_errors, named_on_hub

Role = Literal["train", "test", "dev"]
CALLED: dict[Role, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test",),
    "dev": ("dev", "valid", "validation", "val"),
}
"""What the files of a split are called."""

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
    hub = named_on_hub(source)
    # Where the folder around it is there, it was to be a folder; without network the hub is asked for half a minute.
    if not hub or path.parent.is_dir():
        beside = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir()) if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        hint = f'did you mean "{(path.parent / near).as_posix()}"?' if near else "name one, or organisation/name."
        raise UserError(f"{said}: there is no such folder; {hint}")
    if hub[2] or hub[3]:
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
