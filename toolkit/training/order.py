"""In which order rows are fed, where it is not simply a new one every epoch."""

import random
from collections.abc import Callable, Iterator

from torch.utils.data import Sampler

MIXED = 50
"""Batches whose rows are sorted among themselves: a row's neighbours are near it in length, and others every epoch."""


class Massed(Sampler[int]):
    """Feeds a block of rows (one update's) all its times before the next block, so that each has few updates between.

    The same presentations as an order that is new at every epoch, only at other times: epoch e is the e-th part of the
    whole sequence. The blocks, and the order within each pass over one, are drawn from the seed.
    """

    def __init__(self, rows: int, block: int, epochs: int, seed: int, epochs_done: Callable[[], float]) -> None:
        self.rows, self.block, self.epochs, self.seed = rows, block, epochs, seed
        self.epochs_done = epochs_done
        """Where the training stands; asked at the start of each epoch, and of a part of one that is gone on with."""

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(self.seed)
        order = rng.sample(range(self.rows), self.rows)
        whole: list[int] = []
        for start in range(0, self.rows, self.block):
            block = order[start : start + self.block]
            for _ in range(self.epochs):
                whole += rng.sample(block, len(block))
        first = int(self.epochs_done()) * self.rows
        yield from whole[first : first + self.rows]


class ByLength(Sampler[int]):
    """Feeds rows of nearly one length together, so that little is padding: a new order every epoch, from the seed.

    Not transformers' "group_by_length": it feeds the long ones of every fifty batches first, and draws from the one
    random state of the process, so that a run that goes on inside an epoch would be fed in another order.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, epochs_done: Callable[[], float]) -> None:
        self.lengths, self.batch, self.seed, self.epochs_done = lengths, batch, seed, epochs_done

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/{int(self.epochs_done())}")
        order = rng.sample(range(len(self)), len(self))
        batches: list[list[int]] = []
        for start in range(0, len(order), self.batch * MIXED):
            mixed = sorted(order[start : start + self.batch * MIXED], key=self.lengths.__getitem__)
            batches += [mixed[at : at + self.batch] for at in range(0, len(mixed), self.batch)]
        # The one that is not full stays last: the loader cuts the sequence into equal pieces.
        short = [batches.pop()] if len(order) % self.batch else []
        rng.shuffle(batches)
        yield from (number for batch in batches + short for number in batch)
