"""What each fact of a run did over its readings, from the Parquet files: when it was recalled, and its last rows."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError
from toolkit.example import main_part
from toolkit.metrics.survival import Duration, exposures_to_recall, restricted_mean
from toolkit.run_folder import Run
from toolkit.stored import read_parquet

if TYPE_CHECKING:
    import numpy as np

EACH = ["id", "split", "exposures", "exact"]
"""What every reading has."""
READ = [*EACH, "part", "bits_total"]
"""What is read of every reading; None where one is from before a column."""
LAST = ["since", "bits", "correct", "foil_bits_total", "confidence", "strict"]
"""What is read of the last one besides; None where a reading is from before a column."""


@dataclass(frozen=True)
class Learning:
    """The trained facts of one run: those of its main part, where it asks for several."""

    facts: list[str]
    exposures: "np.ndarray"
    """Presentations, readings × facts."""
    exact: "np.ndarray"
    """Recalled exactly, readings × facts."""
    bits: "np.ndarray"
    """What each answer costs, readings × facts; NaN where a reading does not say."""
    stages: list[str]
    """The stage in or before which each reading was taken."""
    last: list[dict[str, Any]]
    """The rows of trained facts and controls at the last reading; none where it could not be read."""
    trouble: list[str]
    """What could not be read."""
    to_the_end: bool
    """Whether the last reading could be read."""

    @cached_property
    def durations(self) -> list[Duration]:
        """Exposures to recall of each fact, by the primary rule (two probes in a row)."""
        return [
            exposures_to_recall(self.exposures[:, fact].tolist(), self.exact[:, fact].tolist())
            for fact in range(len(self.facts))
        ]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The trained facts' rows at the last reading; none where one of them has no finite bits."""
        rows = [row for row in self.last if row["split"] == "train"]
        whole = all(row["correct"] and row["bits"] and all(map(math.isfinite, row["bits"])) for row in rows)
        return rows if whole else []

    @property
    def seen_until(self) -> float:
        """The exposures up to which it is known of every fact whether it was recalled.

        A fact that was recalled may have been left alone since, as in an exam: it is known of it for ever.
        """
        open_ends = [duration.time for duration in self.durations if not duration.observed]
        return float(min(open_ends, default=self.exposures[-1].max()))

    def asked_after(self, until: float = math.inf) -> list[float]:
        """The mean exposures of the facts at each reading, as far as `until`."""
        return [round(float(mean), 6) for mean in self.exposures.mean(axis=1) if mean <= until]

    @property
    def evenly(self) -> bool:
        """Whether all facts had as many exposures as one another, within one, at every reading."""
        return bool((self.exposures.max(axis=1) - self.exposures.min(axis=1) <= 1).all())

    @property
    def one_by_one(self) -> bool:
        """Whether no fact was fed more than once between two readings, so that each exposure of each is told apart."""
        return bool((self.exposures[1:] - self.exposures[:-1] <= 1).all())

    def restricted_mean(self, until: float) -> float:
        return restricted_mean(self.durations, until)


def read_learning(run: Run) -> Learning | None:
    """The facts of a run over its readings; None where no reading of them can be read at all."""
    import numpy as np

    trouble: list[str] = []
    readings: list[dict[str, tuple[int, bool, float]]] = []
    stages: list[str] = []
    last: list[dict[str, Any]] = []
    paths = run.readings()
    for path in paths:
        try:
            rows = read_columns(path, [*READ, *LAST] if path == paths[-1] else READ)
        except UserError as error:
            trouble.append(str(error))
            continue
        rows = of_main_part(rows)
        known = {
            row["id"]: (row["exposures"], row["exact"], math.nan if row["bits_total"] is None else row["bits_total"])
            for row in rows
            if row["split"] == "train"
        }
        if known:
            readings.append(known)
            stages.append(stage_of(path))
        if path == paths[-1]:
            last = [row for row in rows if row["split"] in ("train", "control")]
    if not readings:
        return None
    facts = [fact for fact in readings[-1] if all(fact in reading for reading in readings)]
    if not facts:
        return None
    if len(facts) < len(readings[-1]):
        trouble.append(
            f"{run.path}: {len(readings[-1]) - len(facts)} facts are not in every reading, and are left out."
        )
    exposures, exact, bits = (
        np.array([[reading[fact][column] for fact in facts] for reading in readings]) for column in range(3)
    )
    return Learning(facts, exposures, exact, bits, stages, last, trouble, bool(last))


def of_main_part(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that outcomes are of; of an older reading, which has no parts, all."""
    parts = [row["part"] for row in rows]
    if not rows or None in parts:
        return rows
    main = main_part(parts)
    return [row for row in rows if row["part"] == main]


def stage_of(path: Path) -> str:
    """The stage in the name of a reading's file: learn for recall-learn-000070.parquet."""
    return path.stem.partition("-")[2].rpartition("-")[0]


def read_columns(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """These columns of a reading's rows. Raises UserError where the file is damaged, or no reading."""
    schema, rows = read_parquet(path, columns)
    if lacking := [name for name in EACH if name not in schema.names]:
        raise UserError(f"{path} is no reading of recall: it has no column {lacking[0]}.")
    return [dict.fromkeys(columns) | row for row in rows]
