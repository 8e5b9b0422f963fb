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
from toolkit.training.rows import Rows


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


def check_shares(recipe: Recipe, rows: dict[str, Rows]) -> None:
    """Raises UserError for what several processes cannot train, before anything is written; nothing for one alone."""
    count = processes.count()
    if count == 1:
        return
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not torch.cuda.is_available():
        raise UserError(
            "FSDP needs GPUs: accelerate leaves it out without them. Launch with recipes/accelerate/ddp.yaml."
        )
    for name, stage in recipe.stage.items():
        where = f"[stage.{name}]"
        if stage.method in ("exam", "classify"):
            raise UserError(f'{where} method = "{stage.method}" is trained by one process: leave the launcher out.')
        try:
            share = share_of_batch(stage, count)
        except UserError as error:
            raise UserError(f"{where} {error}") from None
        left = blanks_needed(len(rows[name]), share, count)
        if stage.method == "dpo" and left:
            # Pairs weigh alike in the loss of an update, and there is no pair that weighs nothing.
            raise UserError(
                f"{where} {len(rows[name])} pairs cannot be shared by {count} processes in batches of"
                f" {share.batch_size}: their number must be a multiple of {count * share.batch_size}."
            )


def blanks_needed(rows: int, share: Share, count: int) -> int:
    """How many rows are lacking until every process has a full batch."""
    return -rows % (share.batch_size * count)


def blank_row(pad: int) -> dict[str, list[int]]:
    """A row that trains nothing, and exposes nothing."""
    return {"input_ids": [pad, pad], "labels": [IGNORED, IGNORED], "facts": []}


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
