"""Forgetting while a run is trained: the base before, the model after epochs or stages, and when that is enough."""

import time
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.probes.forgetting import (
    Read,
    digests_of,
    item_schema,
    main_changes,
    read_abilities,
    read_base,
    read_items,
    read_rows_of_text,
    summarise,
    summarise_base,
)
from toolkit.probes.forgetting_results import about_results, write_results
from toolkit.probes.held_out import schema as window_schema
from toolkit.probes.recall import write_reading
from toolkit.recipe import Recipe
from toolkit.run_folder import FORGETTING, Run
from toolkit.training.readings import Training, keep_row, moment

KIND = "forgetting"


def files_of(run: Run, stage: str, step: int) -> tuple[Path, Path]:
    """Where the questions and the texts of one reading lie; `step` counts through all stages."""
    return tuple(run.path / "probes" / f"{kind}-{stage}-{step:06d}.parquet" for kind in (KIND, "heldout"))  # pyright: ignore[reportReturnType]


def measure_base(training: Training) -> None:
    """Before training: what the base can do, measured, or kept of another run that measured the same."""
    abilities, run = training.abilities, training.run
    if abilities is None:
        return
    asked = training.recipe.model
    digests = digests_of(training.loaded, training.engine, asked, abilities)
    if run.rows(KIND):
        refuse_other_questions(run, digests)
        return
    started = time.perf_counter()
    assert training.reference is not None
    name = next(iter(training.recipe.stage))
    now = moment(training, name, 0, 0.0)
    base = read_base(
        training.loaded, training.engine, asked, abilities, training.reference, digests, now,
        training.progress.measuring,
    )  # fmt: skip
    write(run, name, now.step, base)
    run.update_info(asked=digests)
    seconds = {"seconds/reading": round(time.perf_counter() - started, 4)}
    keep_row(training, KIND, name, 0, 0.0, summarise_base(base) | seconds)
    training.base = base


def refuse_other_questions(run: Run, digests: dict[str, str]) -> None:
    """Raises UserError where what is asked now is not what was asked before training: nothing could be compared."""
    before = run.info.get("asked") or {}
    if other := next((name for name in {**before, **digests} if before.get(name) != digests.get(name)), None):
        raise UserError(
            f"{run.label} cannot go on: [forgetting] {other} is not what it was before training. Put it back as it was,"
            " or start over with --fresh."
        )


def take_forgetting(training: Training, name: str, step: int, epoch: float, more: dict[str, Any] | None = None) -> None:
    """Measure forgetting now: files of rows, and their summary in metrics.jsonl; `step` and `epoch` are the stage's."""
    abilities = training.abilities
    if abilities is None:
        return
    started = time.perf_counter()
    assert training.reference is not None
    now = moment(training, name, step, epoch)
    read = read_abilities(
        training.loaded, training.engine, training.recipe.model, abilities, training.reference, now,
        training.progress.measuring,
    )  # fmt: skip
    write(training.run, name, now.step, read)
    values = summarise(base_of(training), read) | (more or {})
    keep_row(
        training, KIND, name, step, epoch, values | {"seconds/reading": round(time.perf_counter() - started, 4)}
    )  # fmt: skip


def forgetting_after_epoch(training: Training, name: str, step: int, epoch: float) -> bool:
    """What is measured beside the stage's own readings after each epoch but the last, where the recipe asks for it.
    Returns whether so much was forgotten that the stage ends here."""
    how = training.recipe.forgetting
    if how is None or how.every == "stage":
        return False
    take_forgetting(training, name, step, epoch)
    return is_worse(training.run, training.recipe, name) is not None


def base_of(training: Training) -> Read:
    """What was read of the base before training; of a run that goes on, from its files."""
    if training.base is None:
        training.base = stored_base(training.run)
    return training.base


def stored_base(run: Run) -> Read:
    return read_stored(run, run.rows(KIND)[0])


def read_stored(run: Run, row: dict[str, Any]) -> Read:
    """The rows of one reading; `row` is its line in metrics.jsonl."""
    items, windows = files_of(run, row["stage"], row["step"])
    return Read(
        read_items(items) if items.is_file() else [], read_rows_of_text(windows) if windows.is_file() else []
    )  # fmt: skip


def write(run: Run, stage: str, step: int, read: Read) -> None:
    for path, rows, schema in zip(files_of(run, stage, step), read, (item_schema(), window_schema()), strict=True):
        if rows:
            write_reading(path, rows, schema)


def keep_forgetting(run: Run) -> None:
    """At the end of a run: the base and the final weights together, and what became of what the base could do."""
    rows = run.rows(KIND)
    # An exam that feeds nothing trains nothing, and leaves the base as it was.
    base, final = read_stored(run, rows[0]), read_stored(run, rows[-1]) if len(rows) > 1 else Read([], [])
    info, recipe = run.info, run.recipe
    about = about_results(run.label, info.get("model", {}), recipe["forgetting"], recipe["model"])
    together = Read(base.items + final.items, base.windows + final.windows)
    write_results(run.path, run.path / FORGETTING, together, about)


def is_worse(run: Run, recipe: Recipe, stage: str) -> str | None:
    """The task whose accuracy was lower by more than `stop_if_worse_by` at a reading of a stage; None where none was.

    At any of them: where better weights were put back after the one that ended the stage, it has ended all the same.
    """
    limit = recipe.forgetting.stop_if_worse_by if recipe.forgetting else None
    if limit is None:
        return None
    fallen = (
        task
        for row in run.rows(KIND)
        if row["stage"] == stage
        for task, change in main_changes(row).items()
        # 0.7 - 0.8 is -0.10000000000000009.
        if change < -limit - 1e-9
    )
    return next(fallen, None)
