"""A classifier in, its accuracy measured again, or a file of texts labelled: `python -m toolkit.eval_classification`."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.classes import FILE, HEAD, Classes, example_of, holds_classes, read_classes
from toolkit.errors import UserError, checked_path, nearest
from toolkit.example import Example, read_jsonl
from toolkit.models.files import AGAIN, stored_weights
from toolkit.recipe import Classification
from toolkit.stored import read_json
from toolkit.studies.labelled import CALLED, Labelled, Reader, Table, find_tables, listing, refuse_missing_shards
from toolkit.studies.tables import READERS, SHOWN

SPLITS = ("test", "validation", "train")
MEASURING = ("--split", "--data", "--label", "--json")
LABELLING = ("--out", "--force")


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Runs, groups (checkpoints/sst2-lora), kept epochs or model folders; globs too.")
    ],
    split: Annotated[str, typer.Option(help="Which of a run's own texts: test (default), validation or train.")] = "",
    data: Annotated[Path | None, typer.Option(help="Other texts with labels: a table, or a folder's test.")] = None,
    text: Annotated[str, typer.Option(help="Column of the texts (default: the one called text or the like).")] = "",
    label: Annotated[str, typer.Option(help="Column of the labels (default: the one called label or the like).")] = "",
    predict: Annotated[Path | None, typer.Option(help="Label these texts: the lines of a .txt, or a table.")] = None,
    out: Annotated[Path | None, typer.Option(help="The CSV that --predict writes (default: stdout).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the file of --out.")] = False,
    base: Annotated[str | None, typer.Option(help="The base of a PEFT folder that no run made.")] = None,
    engine: Annotated[str | None, typer.Option(help="unsloth or transformers (default: the run's).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts a forward pass (default: the run's).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Measure finished classifiers on their own test texts or on others, or label texts that have no labels.

    \b
    python -m toolkit.eval_classification checkpoints/sst2-lora
    python -m toolkit.eval_classification "checkpoints/sst2-*" --data reviews.csv --label mood
    python -m toolkit.eval_classification checkpoints/sst2-lora --predict new.txt --out labels.csv
    """
    options = {"--split": split, "--data": data, "--text": text, "--label": label, "--json": as_json, "--out": out}
    given = [name for name, value in (options | {"--force": force}).items() if value]
    refuse_unfitting(given, split, engine, predicts=predict is not None)
    found = [Asked(checkpoint, classes_of(checkpoint)) for checkpoint in find_checkpoints(checkpoints)]
    if predict:
        label_texts(checkpoints, found[0], len(found), predict, text, out, force, base, engine, batch_size)
        return
    rows = read_labelled(data, text, label) if data else None
    texts = [given_examples(one, rows) if rows else own_examples(one, split or "test") for one in found]
    results = measure(found, texts, split or "test", data, base, engine, batch_size)
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    from toolkit.probes.classification_report import print_measured

    print_measured(results, Console(highlight=False, markup=False))


class Asked(NamedTuple):
    """A classifier that is to be opened."""

    checkpoint: Checkpoint
    classes: Classes

    @property
    def is_final(self) -> bool:
        """Whether it is what its run ended with, and not what was kept on the way."""
        return self.checkpoint.run is not None and self.checkpoint.weights == self.checkpoint.run.weights

    def said(self, table: str, key: str) -> Any:
        """What its run's recipe says, as it was stored: any value."""
        return self.checkpoint.run.recipe.get(table, {}).get(key) if self.checkpoint.run else None

    def batch_size(self, wanted: int | None) -> int:
        """The run's own where none is wanted: in batches of another size the last digits may be others."""
        stored = self.said("classification", "batch_size")
        return wanted or (stored if isinstance(stored, int) and stored > 0 else Classification().batch_size)


def refuse_unfitting(given: list[str], split: str, engine: str | None, *, predicts: bool) -> None:
    """Raises UserError for options that do not go together, or have no such value."""
    for name in given:
        if predicts and name in MEASURING:
            raise UserError(f"{name} is for measuring, and --predict only labels texts: leave one of them out.")
        if not predicts and name in LABELLING:
            raise UserError(f"{name} is for labelling texts, and there is no --predict FILE.")
        if name in ("--text", "--label") and not predicts and "--data" not in given:
            raise UserError(f"{name} names a column of the file that --data gives, and there is none.")
    if split and split not in SPLITS:
        raise UserError(f"--split {split}: {', '.join(SPLITS[:-1])} or {SPLITS[-1]} is expected.")
    if split and "--data" in given:
        raise UserError("--split is of a run's own texts, and --data gives others: leave one of them out.")
    if engine not in (None, "unsloth", "transformers"):
        raise UserError(f"--engine {engine}: unsloth or transformers is expected.")


def classes_of(checkpoint: Checkpoint) -> Classes:
    """What a checkpoint tells apart. Raises UserError where it is no classifier, or half of one."""
    folder = checkpoint.weights
    if not holds_classes(folder):
        if checkpoint.run and checkpoint.run.classifies:
            raise UserError(f"{folder} has lost its {FILE}, which says what it tells apart; {AGAIN}.")
        raise UserError(
            f"{folder} is no classifier: it has no {FILE}. What it recalls is measured by"
            f" python -m toolkit.eval_recall {(checkpoint.run.path if checkpoint.run else folder).as_posix()}"
        )
    classes = read_classes(folder)
    if classes.head:
        if not (folder / HEAD).is_file():
            raise UserError(f"{folder} has no {HEAD}, the head that its {FILE} describes; {AGAIN}.")
        stored_weights(folder, [HEAD])
    return classes


# --- the texts ---


def own_examples(asked: Asked, split: str) -> list[Example]:
    """A split of a run's own texts; of validation and test both, for they share batches in the run's own test too."""
    run, labels = asked.checkpoint.run, asked.classes.labels
    if run is None:
        raise UserError(f"{asked.checkpoint.weights} comes from no run: say what to measure it on with --data FILE.")
    path = run.path / "examples.jsonl"
    together = ("train",) if split == "train" else ("validation", "test")
    examples = [example for example in read_jsonl(path) if example.split in together]
    if not any(example.split == split for example in examples):
        raise UserError(f"{path} has no {split} texts.")
    if stranger := next((example for example in examples if example.answer not in labels), None):
        said = f'"{stranger.answer}" of {stranger.id} in {path}'
        raise UserError(f"{asked.checkpoint.weights / FILE} has no class {said}: the two belong to different runs.")
    return examples


def read_labelled(source: Path, text: str, label: str) -> list[Labelled]:
    """The rows of a table, or of a folder's test."""
    reader = Reader(text, label, where="--")
    table = table_at(source)
    rows = reader.read("test", table, table.stem, some=False)
    reader.refuse()
    return rows


def table_at(source: Path) -> Table:
    path = checked_path(source, "--data ")
    if not path.is_dir():
        refuse_no_file(path, "--data", tuple(READERS))
        return Table(path.stem, path.as_posix(), (path.as_posix(),))
    found = find_tables(path.as_posix())
    fits = [table for table in found if table.stem.lower() in CALLED["test"]]
    if len(fits) != 1:
        what = "has several files that are called test" if fits else "has nothing called test (test.csv, test.parquet …)"
        raise UserError(f"--data {source} {what}: name a file. {listing(path.as_posix(), found)}")
    refuse_missing_shards(fits[0])
    return fits[0]


def refuse_no_file(path: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Raises UserError for what is no file of these kinds."""
    if path.is_file() and path.suffix.lower() in suffixes:
        return
    if path.exists():
        what = "is a folder; name a file in it" if path.is_dir() else "is of no kind that is read here"
        raise UserError(f"{option} {path} {what} ({', '.join(suffixes)}).")
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    raise UserError(f"{option} {path}: there is no such file{f'; did you mean {path.with_name(near)}?' if near else '.'}")


def given_examples(asked: Asked, rows: list[Labelled]) -> list[Example]:
    """Rows as questions. Raises UserError where a label is none of the classifier's."""
    names = names_of(asked)
    unknown = {row.label: row for row in reversed(rows) if row.label not in names}
    if not unknown:
        return [example_of(row.id, row.text, names[row.label], asked.classes) for row in rows]
    times = Counter(row.label for row in rows)
    lines = [f'{row.place}: "{label}" ({times[label]:,} in all)' for label, row in reversed(unknown.items())]
    more = [f"and {len(lines) - SHOWN:,} labels more"] if len(lines) > SHOWN else []
    known = ", ".join([*asked.classes.labels[:SHOWN], *(["…"] if len(asked.classes.labels) > SHOWN else [])])
    hidden = " The label -1 stands for a hidden one, which cannot be measured on." if "-1" in unknown else ""
    said = f"labels that {asked.checkpoint.label} does not know (it knows {known}):"
    raise UserError("\n  ".join([said, *lines[:SHOWN], *more]) + hidden)


def names_of(asked: Asked) -> dict[str, str]:
    """The class of each label as it may be stored: by its name, or by its number where the run's recipe names those."""
    labels, stored = asked.classes.labels, asked.said("data", "label_names")
    numbered = stored if isinstance(stored, list) and [str(name).strip() for name in stored] == list(labels) else []
    # Its number first: names may be numbers too.
    return {name: name for name in labels} | {str(number): labels[number] for number in range(len(numbered))}


# --- measuring ---


def start(asked: list[Asked], base: str | None, engine_name: str | None) -> tuple[list[Any], Any]:
    """How each is to be loaded, and the engine for all. Raises UserError for all that can be known to fail before."""
    from toolkit.models.opening import prepare

    models = []
    for checkpoint, classes in asked:
        model = prepare(checkpoint, base, classes.format)
        models.append(model.model_copy(update={"max_length": classes.max_length, "engine": engine_name or model.engine}))
    engines = {model.engine for model in models}
    if len(engines) > 1:
        raise UserError("these checkpoints were trained with different engines; give --engine, or ask them one by one.")
    Console(stderr=True, highlight=False, markup=False).print(f"loading {models[0].engine} …")
    from toolkit.models import open_engine

    return models, open_engine(engines.pop())


def measure(
    found: list[Asked],
    texts: list[list[Example]],
    split: str,
    data: Path | None,
    base: str | None,
    engine_name: str | None,
    batch_size: int | None,
) -> list[dict[str, Any]]:
    """One result a checkpoint, of its own texts; the base is loaded once for neighbours that share it."""
    stored = [None if data else stored_results(one, split) for one in found]
    models, engine = start(found, base, engine_name)
    from toolkit.models.opening import open_checkpoint

    opened, results = None, []
    for one, model, examples, then in zip(found, models, texts, stored, strict=True):
        opened = open_checkpoint(one.checkpoint, engine, model, opened)
        with Console(stderr=True, highlight=False, markup=False).status(f"measuring {one.checkpoint.label} …"):
            values = read_split(one, opened.loaded, engine, examples, "test" if data else split, batch_size)
        results.append(
            {
                "checkpoint": one.checkpoint.label if one.checkpoint.run else str(one.checkpoint.weights),
                # What was kept on the way is none of the group's runs.
                "group": one.checkpoint.run.name if one.checkpoint.run and one.is_final else None,
                "seed": one.checkpoint.run.seed if one.checkpoint.run else None,
                "model": opened.loaded.described,
                "format": one.classes.format,
                "data": str(data) if data else None,
                **values,
                "as_at_the_end_of_the_run": compared(then, values) if then else None,
            }
        )
    return results


def read_split(
    asked: Asked, loaded: Any, engine: Any, examples: list[Example], split: str, batch_size: int | None
) -> dict[str, Any]:
    """What test_results.json says of a split, measured now."""
    from toolkit.probes.classification import read_classes, results
    from toolkit.probes.recall import Moment

    moment, size = Moment(asked.checkpoint.label, -1, "", 0, 0.0, {}, {}), asked.batch_size(batch_size)
    rows = read_classes(loaded, engine, examples, moment, batch_size=size, with_text=True)
    if any(math.isnan(row["p"]) for row in rows):
        raise UserError(f"{asked.checkpoint.label} gives no probabilities but NaN: its training diverged.")
    # As JSON has it, so that it can be set against what is stored.
    return json.loads(json.dumps(results([row for row in rows if row["split"] == split], asked.classes.labels)))


def stored_results(asked: Asked, split: str) -> dict[str, Any] | None:
    """What the run's own test came to, where there is such a file and this checkpoint is what was tested."""
    if not asked.is_final or split == "train":
        return None
    assert asked.checkpoint.run is not None
    path = asked.checkpoint.run.path / "test_results.json"
    if not path.is_file():
        return None
    stored = read_json(path)
    return stored if split == "test" else stored.get("validation")


def compared(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Whether a run's own test said the same to the last bit, and the single numbers in which it did not."""
    differs = {key: [then.get(key), value] for key, value in now.items() if then.get(key) != value}
    return {"same": not differs, "then_and_now": {key: pair for key, pair in differs.items() if is_number(pair[1])}}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


# --- labelling ---


def label_texts(
    named: list[str],
    asked: Asked,
    found: int,
    path: Path,
    column: str,
    out: Path | None,
    force: bool,
    base: str | None,
    engine_name: str | None,
    batch_size: int | None,
) -> None:
    """Label a file of texts with one checkpoint; nothing is written unless all of it can be."""
    ...
