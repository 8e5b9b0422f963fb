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
LAST = ["prior", "since", "bits", "correct", "foil_bits_total", "confidence", "strict"]
"""What is read of the last one besides; None where a reading is from before a column."""


@dataclass(frozen=True)
class Learning:
    """The trained facts of one run: those of its main part, where it asks for several."""

    facts: list[str]
    exposures: "np.ndarray"
    """Presentations, readings × facts; all readings, also those after the end."""
    exact: "np.ndarray"
    """Recalled exactly, readings × facts."""
    bits: "np.ndarray"
    """What each answer costs, readings × facts; NaN where a reading does not say."""
    stages: list[str]
    """The stage in or before which each reading was taken."""
    end: int
    """The reading that outcomes are of: the last one, or that at the end of the stage that the recipe names."""
    last: list[dict[str, Any]]
    """The rows of trained facts and controls at the end; none where it could not be read."""
    others: list[dict[str, Any]]
    """The rows of trained questions of other parts there."""
    trouble: list[str]
    """What could not be read."""

    @property
    def to_the_end(self) -> bool:
        """Whether the reading at the end could be read."""
        return bool(self.last)

    @cached_property
    def durations(self) -> list[Duration]:
        """Exposures to recall of each fact until the end, by the primary rule (two probes in a row)."""
        return self.durations_in(0, self.end)

    def durations_in(self, first: int, last: int) -> list[Duration]:
        """The same from one reading to another, by exposures since the first of them."""
        fed, known = self.exposures[first : last + 1], self.exact[first : last + 1]
        return [
            exposures_to_recall((fed[:, fact] - fed[0, fact]).tolist(), known[:, fact].tolist())
            for fact in range(len(self.facts))
        ]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The trained facts' rows at the end; none where one of them has no finite bits."""
        rows = [row for row in self.last if row["split"] == "train"]
        whole = all(row["correct"] and row["bits"] and all(map(math.isfinite, row["bits"])) for row in rows)
        return rows if whole else []

    def facts_known_before(self, as_class: str) -> list[int]:
        """The numbers of the facts that were of a class before training; none where it is not known."""
        known = {row["id"]: row["prior"] for row in self.last}
        return [number for number, fact in enumerate(self.facts) if known.get(fact) == as_class]

    @property
    def fed(self) -> "np.ndarray":
        """Presentations, readings until the end × facts."""
        return self.exposures[: self.end + 1]

    @property
    def seen_until(self) -> float:
        """The exposures up to which it is known of every fact whether it was recalled.

        A fact that was recalled may have been left alone since, as in an exam: it is known of it for ever.
        """
        open_ends = [duration.time for duration in self.durations if not duration.observed]
        return float(min(open_ends, default=self.fed[-1].max()))

    def asked_after(self, until: float = math.inf) -> list[float]:
        """The mean exposures of the facts at each reading, as far as `until`."""
        return [round(float(mean), 6) for mean in self.fed.mean(axis=1) if mean <= until]

    @property
    def evenly(self) -> bool:
        """Whether all facts had as many exposures as one another, within one, at every reading."""
        return bool((self.fed.max(axis=1) - self.fed.min(axis=1) <= 1).all())

    @property
    def one_by_one(self) -> bool:
        """Whether no fact was fed more than once between two readings, so that each exposure of each is told apart."""
        return bool((self.fed[1:] - self.fed[:-1] <= 1).all())

    def restricted_mean(self, until: float) -> float:
        return restricted_mean(self.durations, until)


def read_learning(run: Run) -> Learning | None:
    """The facts of a run over its readings; None where no reading of them can be read at all."""
    import numpy as np

    trouble: list[str] = []
    known: dict[str, dict[str, tuple[int, bool, float]]] = {}
    last: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    paths = {path.name: path for path in run.readings("recall")}
    end = end_of(list(paths), end_stage(run))
    for name, path in paths.items():
        try:
            rows = read_columns(path, [*READ, *LAST] if name == end else READ)
        except UserError as error:
            trouble.append(str(error))
            continue
        own = of_main_part(rows)
        if facts := {row["id"]: seen(row) for row in own if row["split"] == "train"}:
            known[name] = facts
        if name == end:
            last = [row for row in own if row["split"] in ("train", "control")]
            mine = {row["part"] for row in own if row["split"] == "train"}
            others = [row for row in rows if row["split"] == "train" and row["part"] not in mine]
    readings = list(known.values())
    facts = [fact for fact in readings[-1] if all(fact in reading for reading in readings)] if readings else []
    if not facts:
        return None
    if len(facts) < len(readings[-1]):
        trouble.append(
            f"{run.path}: {len(readings[-1]) - len(facts)} facts are not in every reading, and are left out."
        )
    exposures, exact, bits = (
        np.array([[reading[fact][column] for fact in facts] for reading in readings]) for column in range(3)
    )
    stages = [stage_of(paths[name]) for name in known]
    # Where the reading at the end cannot be read: the one before it, and none of a later stage.
    until = list(paths).index(end) if end is not None else 0
    at = max(sum(position <= until for position, name in enumerate(paths) if name in known) - 1, 0)
    return Learning(facts, exposures, exact, bits, stages, at, last, others, trouble)


def seen(row: dict[str, Any]) -> tuple[int, bool, float]:
    """Exposures, whether recalled, and bits of a fact at one reading."""
    return row["exposures"], row["exact"], math.nan if row["bits_total"] is None else row["bits_total"]


def end_stage(run: Run) -> str | None:
    """The stage after which a run's outcomes are taken, where its recipe names one."""
    compare = run.recipe.get("compare", {})
    return compare.get("after") if isinstance(compare, dict) else None


def end_of(names: list[str], stage: str | None) -> str | None:
    """Of readings' files in order, the last one of a stage; the last of all where it has none, or none is named."""
    in_stage = [name for name in names if stage is not None and stage_of(Path(name)) == stage]
    return (in_stage or names or [None])[-1]


def of_main_part(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that outcomes are of: the main part of what is trained, and controls; all of an older reading, which
    has no parts."""
    parts = [row["part"] for row in rows if row["split"] == "train"]
    if not parts or None in parts:
        return rows
    main = main_part(parts)
    return [row for row in rows if row["part"] == main or row["split"] == "control"]


def stage_of(path: Path) -> str:
    """The stage in the name of a reading's file: learn for recall-learn-000070.parquet."""
    return path.stem.partition("-")[2].rpartition("-")[0]


def read_columns(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """These columns of a reading's rows. Raises UserError where the file is damaged, or no reading."""
    schema, rows = read_parquet(path, columns)
    if lacking := [name for name in EACH if name not in schema.names]:
        raise UserError(f"{path} is no reading of recall: it has no column {lacking[0]}.")
    return [dict.fromkeys(columns) | row for row in rows]
