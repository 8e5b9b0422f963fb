"""In which order facts are fed, where it is not a new one every epoch."""

import random
from collections.abc import Callable, Iterator

from torch.utils.data import Sampler


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
