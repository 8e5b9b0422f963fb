"""What a run wrote at each reading, text by text, from its probes/repetition-*.parquet."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.metrics.answers import CJK
from toolkit.reporting.learning import stage_of
from toolkit.run_folder import Run, step_of_reading
from toolkit.stored import read_parquet

Row = dict[str, Any]
TEXTS = ("id", "source", "decoding", "prompt", "context", "text")
WHOLE = ("draw", "turns", "tokens", "longest_repeat", "loop_period", "loop_times", "loop_start", "asked", "mentioned")
NUMBERS = ("epoch", "seq_rep_1", "seq_rep_2", "seq_rep_3", "seq_rep_4", "char_seq_rep_4", "rep_w", "compression_ratio",
           "reference_nats", "familiarity")  # fmt: skip
FLAGS = ("ended",)
COLUMNS = (*TEXTS, *WHOLE, *NUMBERS, *FLAGS)
"""What is read of a reading's columns."""
GREEDY, SAMPLED, HUMAN = "greedy", "sampled", "human"


@dataclass(frozen=True)
class Reading:
    """Every text of one checkpoint of one run."""

    stage: str
    step: int
    epoch: float
    rows: list[Row]

    def of(self, decoding: str) -> list[Row]:
        return [row for row in self.rows if row["decoding"] == decoding]

    def by_prompt(self, decoding: str, measure: str) -> dict[str, float]:
        """A measure of each prompt's texts by the prompt's id, the mean over draws; only where it is defined."""
        found: dict[str, list[float]] = {}
        for row in self.of(decoding):
            if row[measure] is not None:
                found.setdefault(row["id"], []).append(row[measure])
        return {prompt: math.fsum(values) / len(values) for prompt, values in found.items()}

    def of_prompts(self, name: str) -> dict[str, float]:
        """What every row of a prompt says alike, such as reference_nats, by the prompt's id; only where it is known."""
        return {row["id"]: float(row[name]) for row in self.rows if row[name] is not None}

    def first_turns(self, name: str) -> dict[str, float]:
        """The same, without prompts that are asked within a conversation: what is said before is asked with them."""
        return {row["id"]: float(row[name]) for row in self.rows if row[name] is not None and row["turns"] == 0}

    def different(self, decoding: str, prompts: Collection[str]) -> int:
        """How many different texts were written to these prompts: equal ones say the same once more."""
        return len({row["text"] for row in self.of(decoding) if not row["draw"] and row["id"] in prompts})

    def scripts(self) -> dict[str, str]:
        """Whether each prompt is written in Chinese, Japanese or otherwise, by its id."""
        return {row["id"]: "cjk" if CJK.search(row["prompt"]) else "other" for row in self.rows}


@dataclass(frozen=True)
class Repeated:
    """What was read of one run; no reading where it has no such files."""

    run: str
    readings: tuple[Reading, ...] = ()
    """First to last, those before training included."""
    trouble: tuple[str, ...] = ()
    """Files that could not be read, and why."""


def read_repeated(run: Run) -> Repeated:
    """All readings of a run; what cannot be read is named, and the rest is there."""
    readings: list[Reading] = []
    trouble: list[str] = []
    for path in run.readings("repetition"):
        try:
            rows = list(rows_of(path))
            readings.append(Reading(stage_of(path), step_of_reading(path), rows[0]["epoch"], rows))
        except UserError as error:
            trouble.append(f"{str(error).removesuffix('.')}; left out.")
    return Repeated(run.label, tuple(readings), tuple(trouble))


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a reading, nan as None. Raises UserError where the file is damaged, empty, or another file."""
    schema, _ = read_parquet(path, [])
    if lacking := [name for name in COLUMNS if name not in schema.names]:
        raise UserError(
            f"{path} is no reading of repetition: it has no column {lacking[0]}: another file, or one of an earlier"
            " version."
        )
    if wrong := [name for name in COLUMNS if not has_type(schema.field(name).type, name)]:
        raise UserError(f"{path} is no reading of repetition: column {wrong[0]} is {schema.field(wrong[0]).type}.")
    _, rows = read_parquet(path, list(COLUMNS))
    if not rows:
        raise UserError(f"{path} holds no text.")
    for row in rows:
        if (without := [name for name in (*TEXTS, "epoch") if row[name] is None]) or not math.isfinite(row["epoch"]):
            raise UserError(f"{path} is no reading of repetition: a row has no {(without or ['epoch'])[0]}.")
        yield row | {name: None for name in NUMBERS if row[name] is not None and not math.isfinite(row[name])}


def has_type(found: Any, name: str) -> bool:
    from pyarrow import types

    if name in TEXTS:
        return types.is_string(found) or types.is_large_string(found) or types.is_dictionary(found)
    if name in NUMBERS:
        return types.is_floating(found) or types.is_integer(found)
    return types.is_boolean(found) if name in FLAGS else types.is_integer(found)
