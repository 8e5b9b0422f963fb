"""How often each fact was fed to the optimiser, and when last; saved and read with what a run goes on from."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from toolkit import processes
from toolkit.run_folder import write_whole
from toolkit.stored import Stored, read_json

FILE = "exposures.json"


@dataclass
class Exposures:
    """An entry a fact, by its number."""

    counts: list[int]
    """Presentations until now."""
    last: list[int]
    """The serial number, among all presentations of the run, of its latest one; 0 before the first."""
    clock: int = 0
    """Presentations of all facts until now."""
    fed: list[list[int]] = field(default_factory=list)
    """What this process was fed since the last update, a list a batch: not counted yet."""

    @classmethod
    def of(cls, facts: int) -> "Exposures":
        return cls([0] * facts, [0] * facts)

    def mean_of(self, numbers: Sequence[int]) -> float:
        """Presentations a fact, over some of the facts, each once."""
        if len(numbers) == len(self.counts):
            # All of them: asked at every update, also of tens of thousands.
            return self.clock / len(numbers)
        counted = [self.counts[number] for number in numbers]
        return sum(counted) / len(counted)

    def present(self, numbers: Iterable[int]) -> None:
        """Count what was fed, in the order of the batch."""
        for number in numbers:
            self.clock += 1
            self.counts[number] += 1
            self.last[number] = self.clock

    def count_update(self) -> None:
        """Count what all processes were fed for an update, in the order in which one alone would have been fed it."""
        for batches in zip(*processes.gather(self.fed), strict=True):
            for batch in batches:
                self.present(batch)
        self.fed = []

    def save(self, folder: Path) -> None:
        write_whole(folder / FILE, json.dumps({"counts": self.counts, "last": self.last, "clock": self.clock}))

    def load(self, folder: Path) -> None:
        """Take over what was saved. Raises UserError where the file is damaged."""
        saved = read_json(folder / FILE, StoredExposures)
        self.counts[:], self.last[:], self.clock = saved["counts"], saved["last"], saved["clock"]


Count = Annotated[int, Field(ge=0)]


class StoredExposures(Stored):
    """exposures.json."""

    counts: list[Count]
    last: list[Count]
    clock: Count
