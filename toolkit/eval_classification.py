"""A classifier in; its accuracy measured again, or texts labelled: `python -m toolkit.eval_classification GROUP`."""

import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.classes import FILE, HEAD, Classes, holds_classes, read_classes
from toolkit.errors import UserError, checked_path
from toolkit.example import Example
from toolkit.models.files import AGAIN, stored_weights
from toolkit.models.opening import refuse_unknown
from toolkit.probes.classification_texts import given_examples, own_examples, read_labelled, refuse_no_file
from toolkit.probes.predictions import ENDINGS, count_texts, label_file, refuse_out, text_bar
from toolkit.recipe import Classification, Model
from toolkit.run_folder import RESULTS, whole_file
from toolkit.stored import read_json

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
        refuse_several(checkpoints, found)
        label_texts(found[0], predict, text, out, base, engine, batch_size, force=force)
        return
    rows = read_labelled(data, text, label) if data else None
    texts = [given_examples(*one, rows) if rows else own_examples(*one, split or "test") for one in found]
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


def batch_size_of(checkpoint: Checkpoint) -> int:
    """The run's own: in batches of another size the last digits may be others."""
    stored = checkpoint.run.recipe.get("classification", {}).get("batch_size") if checkpoint.run else None
    return stored if isinstance(stored, int) and stored > 0 else Classification().batch_size


def remarks() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


# --- what is refused before anything is loaded ---


def refuse_unfitting(given: list[str], split: str, engine: str | None, *, predicts: bool) -> None:
    """Raises UserError for options that do not go together, or have no such value."""
    for name in given:
        if predicts and name in MEASURING:
            raise UserError(f"{name} is for measuring, and --predict only labels texts: leave one of them out.")
        if not predicts and name in LABELLING:
            raise UserError(f"{name} is for labelling texts: say which by --predict FILE.")
        if name in ("--text", "--label") and not predicts and "--data" not in given:
            raise UserError(f"{name} names a column of the table that --data gives, and there is none.")
    if split and split not in SPLITS:
        raise UserError(f"--split {split}: test, validation or train is expected.")
    if split and "--data" in given:
        raise UserError("--split is of a run's own texts, and --data gives others: leave one of them out.")
    refuse_unknown(engine=engine)


def refuse_several(named: list[str], found: list[Asked]) -> None:
    """Raises UserError where several checkpoints are named; of the runs of a group, says which one is taken."""
    if len(named) > 1:
        raise UserError(f"--predict takes one checkpoint, and {len(named)} are named.")
    if len(found) > 1:
        remarks().print(f"{named[0]} has {len(found)} runs; labelling with {found[0].checkpoint.label}.")


def classes_of(checkpoint: Checkpoint) -> Classes:
    """What a checkpoint tells apart. Raises UserError where it is no classifier, or half of one."""
    folder = checkpoint.weights
    if not holds_classes(folder):
        if checkpoint.run and checkpoint.run.classifies:
            raise UserError(f"{folder} has lost its {FILE}, which says what it tells apart; {AGAIN}.")
        raise UserError(
            f"{folder} is no classifier: it has no {FILE}. What it recalls, python -m toolkit.eval_recall measures."
        )
    classes = read_classes(folder)
    if classes.head:
        if not (folder / HEAD).is_file():
            raise UserError(f"{folder} has no {HEAD}, the head that its {FILE} describes; {AGAIN}.")
        stored_weights(folder, [HEAD])
    return classes


# --- loading ---


def start(found: list[Asked], base: str | None, engine_name: str | None) -> tuple[list[Model], ModuleType]:
    """How each is to be loaded, and the engine for all. Raises UserError for all that can be known to fail before."""
    from toolkit.models.opening import open_shared_engine, prepare

    models = []
    for checkpoint, classes in found:
        model = prepare(checkpoint, base, classes.format)
        changes = {"max_length": classes.max_length, "engine": engine_name or model.engine}
        models.append(model.model_copy(update=changes))
    return models, open_shared_engine(models, remarks())


# --- measuring ---


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
    before = [None if data else stored_results(one.checkpoint, split) for one in found]
    models, engine = start(found, base, engine_name)
    from toolkit.models.opening import open_checkpoint
    from toolkit.probes.classification_report import report

    opened, results = None, []
    for (checkpoint, _), model, examples, then in zip(found, models, texts, before, strict=True):
        opened = open_checkpoint(checkpoint, engine, model, opened)
        size = batch_size or batch_size_of(checkpoint)
        with text_bar(f"measuring {checkpoint.label}", len(examples)) as tick:
            results.append(report(checkpoint, opened, engine, examples, size, data, then, tick))
    return results


def stored_results(checkpoint: Checkpoint, split: str) -> dict[str, Any] | None:
    """What the run's own test said of a split; None where it said nothing of these weights."""
    if checkpoint.run is None or checkpoint.weights != checkpoint.run.weights or split == "train":
        return None
    path = checkpoint.run.path / RESULTS
    stored = read_json(path) if path.is_file() else {}
    found = stored if split == "test" else stored.get("validation")
    return found if isinstance(found, dict) and found else None


# --- labelling ---


def label_texts(
    asked: Asked,
    path: Path,
    column: str,
    out: Path | None,
    base: str | None,
    engine_name: str | None,
    batch_size: int | None,
    *,
    force: bool,
) -> None:
    """Label a file of texts with one checkpoint, as CSV: whole, or not at all."""
    refuse_no_file(checked_path(path, "--predict "), "--predict", ENDINGS)
    if column and path.suffix.lower() == ".txt":
        raise UserError(f"--text {column}: {path} has no columns, every line of it is a text.")
    if out:
        refuse_out(out, path, force=force)
    size = batch_size or batch_size_of(asked.checkpoint)
    count = count_texts(path, column)
    (model,), engine = start([asked], base, engine_name)
    from toolkit.models.opening import open_checkpoint

    loaded = open_checkpoint(asked.checkpoint, engine, model, None).loaded
    if out:
        with whole_file(out) as whole:
            # newline="": as csv wants it, so that line ends within texts stay what they are.
            file = io.TextIOWrapper(whole, encoding="utf-8", newline="")
            cut = label_file(loaded, engine, path, column, count, file, size, bar=True)
            # Flushed; it is closed where it was opened.
            file.detach()
    else:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(newline="")  # type: ignore[union-attr]
        cut = label_file(loaded, engine, path, column, count, sys.stdout, size, bar=not sys.stdout.isatty())
    said = f", of which {cut:,} were cut to fit {asked.classes.max_length} tokens" if cut else ""
    remarks().print(f"{out.as_posix() if out else 'labelled'}: {count:,} texts{said}", soft_wrap=True)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
