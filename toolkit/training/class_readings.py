"""Readings of a classifier while it is trained: of the validation texts, of which the best is kept, and one test."""

import json
import time
from pathlib import Path
from typing import Any

from toolkit.models.loaded import load_weights, save_weights
from toolkit.probes.classification import read_classes, summarise, write_rows
from toolkit.recipe import Recipe, Stage
from toolkit.run_folder import Run, whole_folder
from toolkit.stored import Stored, read_json
from toolkit.training.readings import Training, keep_row, moment

BEST = "best.json"
"""When the best reading was, and its value; beside the weights of then."""


class StoredBest(Stored):
    """best.json."""

    step: int
    value: float


def take_class_reading(training: Training, name: str, stage: Stage, step: int, epoch: float) -> None:
    """Measure on the validation texts: a Parquet file of rows, and their summary in metrics.jsonl."""
    how = training.recipe.classification
    assert how is not None
    summary = read_splits(training, "classification", name, step, epoch, ("validation",))
    training.progress.reading(training.step + step, training.epoch + epoch, summary)
    if step:
        value = summary[f"validation/{how.best_by}"]
        keep_if_best(training, name, training.step + step, value, how.best_by, weights=stage.keep == "best")


def put_best_class_back(training: Training, name: str, stage: Stage) -> dict[str, Any] | None:
    """After a stage whose `keep` says best: the best reading's weights become the present ones. Returns that reading;
    None where the last weights stay."""
    best = best_so_far(training.run, name) if stage.keep == "best" else None
    if best:
        load_weights(training.loaded, best_folder(training.run, name))
    return best


def take_test(training: Training, name: str, best: dict[str, Any] | None) -> None:
    """After the last stage: the test, once. `best` is the reading whose weights are tested, None for the last ones."""
    # A run that was killed after its test has the row, and takes no second look.
    if training.run.rows("test"):
        return
    step, epoch = training.run.rows("classification")[-1]["step"], training.run.rows("train")[-1]["epoch"]
    kept = {"best_step": best["step"] if best else step}
    read_splits(training, "test", name, step - training.step, epoch - training.epoch, ("validation", "test"), kept)


def read_splits(
    training: Training,
    kind: str,
    name: str,
    step: int,
    epoch: float,
    splits: tuple[str, ...],
    more: dict[str, Any] | None = None,
) -> dict[str, float]:
    """One reading of some splits, as a row of `kind` and a file of rows; replies in words are read at the end only."""
    how, classes, run = training.recipe.classification, training.loaded.classes, training.run
    assert how is not None
    assert classes is not None
    started = time.perf_counter()
    now = moment(training, name, step, epoch)
    rows = []
    # Each by itself: what shares a batch, and so a padding, is told by the last bits.
    for split in splits:
        examples = [example for example in training.built.examples if example.split == split]
        rows += read_classes(
            training.loaded, training.engine, examples, now, batch_size=how.batch_size, with_text=kind == "test"
        )
    write_rows(run.path / "probes" / f"{kind}-{name}-{now.step:06d}.parquet", rows)
    summary = summarise(rows, classes.labels)
    seconds = {"seconds/reading": round(time.perf_counter() - started, 4)}
    keep_row(training, kind, name, step, epoch, summary | (more or {}) | seconds)
    return summary


# --- the best reading ---


def is_better(value: float, than: float, by: str) -> bool:
    return value < than if by == "loss" else value > than


def best_folder(run: Run, stage: str) -> Path:
    return run.state_folder / stage / "best"


def best_so_far(run: Run, stage: str) -> dict[str, Any] | None:
    folder = best_folder(run, stage)
    return read_json(folder / BEST, StoredBest) if folder.is_dir() else None


def keep_if_best(training: Training, stage: str, step: int, value: float, by: str, *, weights: bool) -> None:
    """Note a reading that is better than all before it, with the weights of then where they are wanted.

    After a kill the folder may be ahead of the checkpoint: its weights were measured all the same, and a reading that
    is taken again is no better than itself.
    """
    before = best_so_far(training.run, stage)
    if before and not is_better(value, before["value"], by):
        return
    with whole_folder(best_folder(training.run, stage)) as folder:
        if weights:
            save_weights(training.loaded, folder)
        (folder / BEST).write_text(json.dumps({"step": step, "value": value}), encoding="utf-8")


def is_over(run: Run, recipe: Recipe, stage: str) -> bool:
    """Whether the last readings of a stage were no better than the best, as often in a row as `patience` says."""
    patience = recipe.classification.patience if recipe.classification else None
    if patience is None or (best := best_so_far(run, stage)) is None:
        return False
    later = [row for row in run.rows("classification") if row["stage"] == stage and row["step"] > best["step"]]
    return len(later) >= patience
