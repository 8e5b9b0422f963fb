"""Repetition while a run is trained: what the model writes before, at some epochs or steps, and at each stage's end."""

import time
from typing import Any

from toolkit.models.loaded import Loaded
from toolkit.probes.recall import write_reading
from toolkit.probes.repetition import read_repetition, render_prompts, schema, summarise
from toolkit.probes.repetition_prompts import Prompt, describe, draw_prompts, trained_texts, with_frequency
from toolkit.recipe import Recipe
from toolkit.studies.built import Built
from toolkit.training.callback import Every
from toolkit.training.readings import Training, keep_row, moment

KIND = "repetition"


def repetition_every(training: Training) -> Every | None:
    """How often it is measured besides; None where the recipe does not ask for it."""
    how = training.recipe.repetition
    return Every.parse(how.every) if how else None


def check_repetition(recipe: Recipe, built: Built, seed: int, loaded: Loaded) -> None:
    """Raises UserError where there is nothing to ask, or what is asked cannot be, before anything is written."""
    if recipe.repetition:
        render_prompts(loaded, recipe.model, drawn(recipe, built, seed), recipe.repetition)


def drawn(recipe: Recipe, built: Built, seed: int) -> list[Prompt]:
    """What a run is asked at every reading; nothing where the recipe does not ask for it. Where [data] seed fixes the
    facts, all runs are asked the same."""
    how = recipe.repetition
    return draw_prompts(built.examples, how, recipe.data.get("seed", seed)) if how else []


def notes_of_prompts(recipe: Recipe, built: Built, seed: int) -> list[str]:
    """Says where fewer prompts are drawn from the data than the recipe asks for."""
    count = sum(prompt.has_reference for prompt in drawn(recipe, built, seed))
    if recipe.repetition is None or count >= recipe.repetition.prompts:
        return []
    wanted = f"[repetition] prompts = {recipe.repetition.prompts}"
    return [f"{wanted}: {count} are drawn, as the data have no more that differ"]


def take_repetition(training: Training, name: str, step: int, epoch: float, more: dict[str, Any] | None = None) -> None:
    """Measure repetition now: a file of rows, and their summary in metrics.jsonl; `step` and `epoch` are the stage's.

    Nothing where the recipe does not ask for it, and where a run that was killed right after it has it already.
    """
    how, run = training.recipe.repetition, training.run
    if how is None:
        return
    now = moment(training, name, step, epoch)
    taken = [(row["stage"], row["step"], row["epoch"], row.get("best_step")) for row in run.rows(KIND)]
    if (name, now.step, round(now.epoch, 6), (more or {}).get("best_step")) in taken:
        return
    prompts = prompts_of(training)
    started = time.perf_counter()
    rows = read_repetition(
        training.loaded, training.engine, training.recipe.model, prompts, how, now, training.seed,
        lambda done, total: training.progress.measuring("writing", done, total),
    )  # fmt: skip
    write_reading(run.path / "probes" / f"{KIND}-{name}-{now.step:06d}.parquet", rows, schema())
    seconds = {"seconds/reading": round(time.perf_counter() - started, 4)}
    keep_row(training, KIND, name, step, epoch, summarise(rows) | (more or {}) | seconds)


def prompts_of(training: Training) -> list[Prompt]:
    """What is asked at every reading, drawn once, with its frequency in what the stages train; run.json says how
    much of it there is."""
    if not training.prompts:
        parts = {part for stage in training.recipe.stage.values() for part in stage.train_on}
        texts = trained_texts(training.built.examples, parts)
        prompts, tell = drawn(training.recipe, training.built, training.seed), training.progress.measuring
        training.prompts = with_frequency(prompts, texts, lambda done, total: tell("counting", done, total))
        training.run.update_info(repetition=describe(prompts, len(texts)))
    return training.prompts
