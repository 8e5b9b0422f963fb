"""What of an update each process takes, where several train one run: the same rows as one alone would take.

batch_size = 4, grad_accum = 6, 100 rows on 3 processes: batches of 4 rows, 2 of them a process and update. The last
update of an epoch has 4 rows left: the first process takes them, and the other two a row each of which nothing is
trained, as all wait for all.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler

from toolkit import processes
from toolkit.errors import UserError
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import IGNORED
from toolkit.rendering.rows import ints_of_many
from toolkit.studies.built import Built
from toolkit.training.rows import stage_examples


class Share(NamedTuple):
    """How a process makes its part of an update."""

    batch_size: int
    grad_accum: int


def share_of_batch(stage: Stage, count: int) -> Share:
    """Batches as large as the recipe's, and fewer of them; smaller ones only where their number cannot be shared.

    Raises UserError where the rows of an update cannot be shared out evenly.
    """
    whole = stage.batch_size * stage.grad_accum
    fitting = [size for size in range(1, stage.batch_size + 1) if whole % (size * count) == 0]
    if not fitting:
        raise UserError(
            f"batch_size = {stage.batch_size} times grad_accum = {stage.grad_accum} are {whole} rows an update, which"
            f" {count} processes cannot share evenly: start as many as divide {whole}."
        )
    return Share(fitting[-1], whole // (fitting[-1] * count))


def check_shares(recipe: Recipe) -> None:
    """Raises UserError for what several processes cannot train; nothing for one alone."""
    count = processes.count()
    if count == 1:
        return
    refuse_strategies()
    for name, stage in recipe.stage.items():
        where = f"[stage.{name}]"
        if stage.method in ("exam", "classify"):
            raise UserError(f'{where} method = "{stage.method}" is trained by one process: leave the launcher out.')
        try:
            share_of_batch(stage, count)
        except UserError as error:
            raise UserError(f"{where} {error}") from None


def refuse_strategies() -> None:
    """Raises UserError for a way of sharing a model out, asked for of accelerate, that is not known here."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        if os.environ.get("FSDP_VERSION") != "2":
            raise UserError(
                "FSDP is known in its second version: say fsdp_version: 2, as recipes/accelerate/fsdp.yaml."
            )
        if not torch.cuda.is_available():
            raise UserError(
                "FSDP needs GPUs: accelerate leaves it out without them. Launch with recipes/accelerate/ddp.yaml."
            )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        from accelerate.utils import DeepSpeedPlugin

        stage = DeepSpeedPlugin().zero_stage
        if stage not in (1, 2):
            raise UserError(f"DeepSpeed is known with ZeRO-2 (recipes/accelerate/zero2.json); stage {stage} is not.")


def without_uneven_pairs(recipe: Recipe, built: Built) -> Built:
    """Without the last pairs of a preference stage that several processes cannot share in full batches, which is noted:
    pairs weigh alike in an update's loss, and there is no pair that weighs nothing. All of them for one process alone.
    """
    count, notes = processes.count(), []
    left_out: set[str] = set()
    for name, stage in recipe.stage.items() if count > 1 else ():
        if stage.method != "dpo":
            continue
        pairs, size = stage_examples(built, stage), share_of_batch(stage, count).batch_size * count
        if len(pairs) < size:
            raise UserError(f"[stage.{name}] {len(pairs)} pairs are no full batch for each of {count} processes.")
        if uneven := len(pairs) % size:
            left_out |= {example.id for example in pairs[-uneven:]}
            notes.append(f"{name}: {uneven} of {len(pairs):,} pairs left out, which {count} processes cannot share")
    if not left_out:
        return built
    others = {part for stage in recipe.stage.values() if stage.method != "dpo" for part in stage.train_on}
    if shared := next((e.part for e in built.examples if e.id in left_out and e.part in others), None):
        raise UserError(
            f'the pairs of the part "{shared}" cannot be shared by {count} processes in full batches, and another stage'
            " is fed them too: start another number of processes."
        )
    examples = [example for example in built.examples if example.id not in left_out]
    return built._replace(examples=examples, notes=(*built.notes, *notes))


def blanks_needed(rows: int, share: Share, count: int) -> int:
    """How many rows are lacking until every process has a full batch."""
    return -rows % (share.batch_size * count)


def blank_row(pad: int, like: dict[str, Any]) -> dict[str, Any]:
    """A row that trains nothing and exposes nothing, held as another row is: a table's columns are of one type."""
    row = {"input_ids": [pad, pad], "labels": [IGNORED, IGNORED], "facts": []}
    return row if isinstance(like["input_ids"], list) else {name: ints_of_many(ids) for name, ids in row.items()}


class Filled(Sampler[int]):
    """The order that one process alone would feed the rows in, and at its end the blank row, as often as it takes."""

    def __init__(self, order: Any, rows: int, blanks: int, epochs_done: Callable[[], float]) -> None:
        self.order, self.rows, self.blanks, self.epochs_done = order, rows, blanks, epochs_done

    def __len__(self) -> int:
        return self.rows + self.blanks

    def __iter__(self) -> Iterator[int]:
        if isinstance(self.order, SeedableRandomSampler):
            # The trainer tells it through what several processes wrap it in, which does not pass it on within an epoch.
            self.order.set_epoch(int(self.epochs_done()))
        yield from self.order
        yield from [self.rows] * self.blanks


def new_every_epoch(rows: int, seed: int) -> SeedableRandomSampler:
    """The order in which the trainer feeds rows by itself, where nothing else is said."""
    return SeedableRandomSampler(range(rows), data_seed=seed)
