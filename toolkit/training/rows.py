"""What each stage is fed: its examples as rows of tokens and labels, by method. No torch: a dry run is quick."""

import math
import random
from collections.abc import Callable
from typing import Any

from toolkit import processes
from toolkit.classes import Classes, answers_of, prompts_of
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import (
    Rendered,
    end_token,
    fact_numbers,
    pack,
    packed_rows,
    pair_rows,
    refuse_merged_digits,
    refuse_too_long,
    training_rows,
)
from toolkit.seeds import sub_seed
from toolkit.studies.built import Built
from toolkit.training.rejected import rejected_answers

NEAR = 0.8
"""Of what was asked for: how much smaller, or larger by as much, an advised number of rows may be."""
Rows = list[dict[str, Any]]
"""Each row: lists of token ids by column, and the numbers of the facts that it exposes."""


def sft_rows(
    tokenizer: Any, examples: list[Example], numbers: dict[str, int], recipe: Recipe, stage: Stage, seed: int
) -> Rows:
    rows = training_rows(
        tokenizer,
        examples,
        recipe.model.format,
        numbers,
        loss_on=stage.loss_on,
        train_eos=stage.train_eos,
        max_length=recipe.model.max_length,
    )
    if not stage.packing:
        return rows
    # In the order of the data, facts would share rows with facts alone.
    return pack(random.Random(sub_seed(seed, "order")).sample(rows, len(rows)), recipe.model.max_length)


def pretrain_rows(
    tokenizer: Any, examples: list[Example], numbers: dict[str, int], recipe: Recipe, stage: Stage, seed: int
) -> Rows:
    if len(stage.train_on) > 1:
        # As where rows are packed: parts would follow one another in blocks of their own.
        examples = random.Random(sub_seed(seed, "order")).sample(examples, len(examples))
    return packed_rows(tokenizer, examples, recipe.model.format, numbers, stage.block)


def dpo_rows(
    tokenizer: Any, examples: list[Example], numbers: dict[str, int], recipe: Recipe, stage: Stage, seed: int
) -> Rows:
    rejected = rejected_answers(examples, stage.rejected, sub_seed(seed, "rejected"))
    return pair_rows(tokenizer, examples, rejected, recipe.model.format, numbers, recipe.model.max_length)


def class_rows(tokenizer: Any, examples: list[Example], numbers: dict[str, int], classes: Classes) -> Rows:
    """With a head `input_ids` and `class`, the label's number; in words `input_ids` and `labels`; and `facts`."""
    answers, end = answers_of(tokenizer, classes), end_token(tokenizer)
    rows = []
    for example, prompt in zip(examples, prompts_of(tokenizer, examples, classes), strict=True):
        number, facts = classes.labels.index(example.answer), [numbers[fact] for fact in example.exposes]
        if classes.head:
            rows.append({"input_ids": prompt.ids, "class": number, "facts": facts})
            continue
        rendered = Rendered(prompt.ids, answers[number], end)
        rows.append({"input_ids": rendered.input_ids, "labels": rendered.labels("answer", True), "facts": facts})
    return rows


METHODS: dict[str, Callable[[Any, list[Example], dict[str, int], Recipe, Stage, int], Rows]] = {
    "sft": sft_rows,
    "pretrain": pretrain_rows,
    "dpo": dpo_rows,
    "exam": sft_rows,
}


def stage_examples(built: Built, stage: Stage) -> list[Example]:
    """What a stage is fed."""
    return [example for example in built.examples if example.split == "train" and example.part in stage.train_on]


def prepare_rows(tokenizer: Any, recipe: Recipe, built: Built, seed: int) -> dict[str, Rows]:
    """Every stage's rows, rendered before anything is written, so that what cannot be trained is refused first.

    seed: the run's; wrong answers for preference training are drawn from it.
    """
    if recipe.classifies:
        return prepare_class_rows(tokenizer, recipe, built)
    refuse_merged_digits(tokenizer, built.examples)
    refuse_too_long(tokenizer, not_rendered_below(recipe, built), recipe.model.format, recipe.model.max_length)
    numbers = fact_numbers([example for example in built.examples if example.split == "train"])
    rows = {}
    for name, stage in recipe.stage.items():
        try:
            rows[name] = METHODS[stage.method](tokenizer, stage_examples(built, stage), numbers, recipe, stage, seed)
        except UserError as error:
            raise UserError(f"[stage.{name}] {error}") from None
    return rows


def not_rendered_below(recipe: Recipe, built: Built) -> list[Example]:
    """Examples whose length nothing else looks at.

    Those that are trained one by one are measured as they are rendered, as a million of them take a quarter of an hour;
    and texts that pretraining alone is fed, in blocks of its own, may have any length.
    """
    stages = recipe.stage.values()
    single = {part for stage in stages if METHODS[stage.method] is sft_rows for part in stage.train_on}
    streamed = {part for stage in stages if stage.method == "pretrain" for part in stage.train_on}
    streamed -= {part for stage in stages if stage.method != "pretrain" for part in stage.train_on}
    return [
        example
        for example in built.examples
        if not (example.split == "train" and example.part in single)
        and (example.is_question or example.part not in streamed)
    ]


def prepare_class_rows(tokenizer: Any, recipe: Recipe, built: Built) -> dict[str, Rows]:
    """The same of a classifier, whose texts are cut where they are too long; a question that is too long is refused."""
    classes = classes_of(recipe, built)
    prompts_of(tokenizer, [example for example in built.examples if example.split != "train"], classes)
    numbers = fact_numbers([example for example in built.examples if example.split == "train"])
    return {
        name: class_rows(tokenizer, stage_examples(built, stage), numbers, classes)
        for name, stage in recipe.stage.items()
    }


def classes_of(recipe: Recipe, built: Built) -> Classes:
    """What a run's classifier tells apart, and how it is asked."""
    assert built.labels is not None
    model = recipe.model
    prompt = recipe.data["prompt"].replace("{class_labels}", ",".join(built.labels))
    return Classes(built.labels, prompt, model.format, model.max_length, model.head)


def updates_an_epoch(rows: int, stage: Stage) -> int:
    return math.ceil(math.ceil(rows / stage.batch_size) / stage.grad_accum)


def uneven_last_update(rows: int, stage: Stage) -> str | None:
    """A warning where the last update of an epoch has fewer rows than the others; None where all are alike."""
    whole = stage.batch_size * stage.grad_accum
    left = rows % whole
    # Of texts with classes none is asked for by itself.
    if not left or rows < whole or stage.method == "classify":
        return None
    return (
        f"the last update of an epoch has {left} rows, not {whole}: each weighs {whole / left:.3g} times as much\n"
        f"  {divisor_advice(rows, stage)}"
    )


def divisor_advice(rows: int, stage: Stage) -> str:
    """The whole-number split of the rows nearest to what was asked for, which processes can share; none far from it."""
    whole, shared = stage.batch_size * stage.grad_accum, processes.count()
    near = range(math.ceil(whole * NEAR), math.floor(whole / NEAR) + 1)
    known = [n for n in near if rows % n == 0 and n % shared == 0]
    if not known:
        return f"No number of rows near {whole} divides {rows} evenly."
    nearest = min(known, key=lambda n: (abs(n - whole), -n))
    batch = max(n for n in range(1, stage.batch_size + 1) if nearest % n == 0)
    return f"batch_size = {batch}, grad_accum = {nearest // batch} ({nearest} an update) divides {rows} evenly."
