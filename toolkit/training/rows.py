"""What each stage is fed: its examples as rows of tokens and labels, by method. No torch: a dry run is quick."""

import math
from collections.abc import Callable
from typing import Any

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import fact_numbers, packed_rows, refuse_merged_digits, training_rows
from toolkit.studies.built import Built

Rows = list[dict[str, list[int]]]


def sft_rows(tokenizer: Any, examples: list[Example], numbers: dict[str, int], recipe: Recipe, stage: Stage) -> Rows:
    return training_rows(
        tokenizer,
        examples,
        recipe.model.format,
        numbers,
        loss_on=stage.loss_on,
        train_eos=stage.train_eos,
        max_length=recipe.model.max_length,
    )


def pretrain_rows(
    tokenizer: Any, examples: list[Example], numbers: dict[str, int], recipe: Recipe, stage: Stage
) -> Rows:
    return packed_rows(tokenizer, examples, recipe.model.format, numbers, stage.block)


METHODS: dict[str, Callable[[Any, list[Example], dict[str, int], Recipe, Stage], Rows]] = {
    "sft": sft_rows,
    "pretrain": pretrain_rows,
}


def stage_examples(built: Built, name: str, stage: Stage) -> list[Example]:
    """What a stage is fed. Raises UserError where `train_on` selects nothing."""
    trained = [example for example in built.examples if example.split == "train"]
    chosen = [example for example in trained if example.part in stage.train_on]
    parts = sorted({example.part for example in trained})
    unknown = [part for part in stage.train_on if part not in parts]
    if unknown or not chosen:
        raise UserError(
            f'[stage.{name}] train_on = {stage.train_on}: this study has no part "{(unknown or stage.train_on)[0]}";'
            f" it has {', '.join(parts)}."
        )
    return chosen


def prepare_rows(tokenizer: Any, recipe: Recipe, built: Built) -> dict[str, Rows]:
    """Every stage's rows, rendered before anything is written, so that what cannot be trained is refused first."""
    refuse_merged_digits(tokenizer, built.examples)
    numbers = fact_numbers([example for example in built.examples if example.split == "train"])
    return {
        name: METHODS[stage.method](tokenizer, stage_examples(built, name, stage), numbers, recipe, stage)
        for name, stage in recipe.stage.items()
    }


def updates_an_epoch(rows: int, stage: Stage) -> int:
    return math.ceil(math.ceil(rows / stage.batch_size) / stage.grad_accum)
