"""What planted runs forgot, of which everything is known: each question before training and after it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
OF_TASKS = pa.schema(
    [
        ("run", TEXT), ("seed", WHOLE), ("stage", TEXT), ("step", WHOLE), ("epoch", REAL), ("when", TEXT),
        ("task", TEXT), ("subject", TEXT), ("item", WHOLE), ("question", TEXT), ("measure", TEXT), ("value", REAL),
        ("right", pa.bool_()), ("chance", REAL), ("gold", TEXT), ("answer", TEXT), ("loglikelihoods", pa.list_(REAL)),
        ("cut", WHOLE), ("prompt_hash", TEXT),
    ]
)  # fmt: skip
OF_TEXTS = pa.schema(
    [
        ("run", TEXT), ("seed", WHOLE), ("stage", TEXT), ("step", WHOLE), ("epoch", REAL), ("when", TEXT),
        ("text", TEXT), ("window", WHOLE), ("tokens", WHOLE), ("bytes", WHOLE), ("bits", REAL),
        ("kl_from_base", REAL), ("kl_to_base", REAL),
    ]
)  # fmt: skip


def answers(*counts: int) -> tuple[list[float], list[float]]:
    """Values before and after of questions that are right both times, only before, only after, and never."""
    pairs = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    found = [pair for pair, count in zip(pairs, counts, strict=True) for _ in range(count)]
    return [before for before, _ in found], [after for _, after in found]


def forgot(
    folder: Path,
    task: str,
    before: Sequence[float],
    after: Sequence[float],
    *,
    again: Sequence[float] | None = None,
    subjects: Sequence[str] | None = None,
    measure: str = "acc",
    chance: float = 0.25,
    cut: int = 0,
    asked: str = "",
    step: int = 20,
    more: dict[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Path:
    """Write forgetting/<task>.parquet into a run's folder. Answers are right ("A") or wrong ("B").

    subjects: of each question; cut: tokens that the first five prompts lost; asked: of other prompts another; more:
    values before and after by further measures.
    """
    rows = []
    for name, (first, last) in {measure: (before, after), **(more or {})}.items():
        readings = {"before": first, "again": again if name == measure else None, "after": last}
        for when, values in readings.items():
            for item, value in enumerate(values or ()):
                rows.append(
                    {"run": folder.parent.name, "seed": 0, "stage": "learn", "step": step if when == "after" else 0,
                     "epoch": 1.0, "when": when, "task": task, "subject": subjects[item] if subjects else task,
                     "item": item, "question": f"Question {item}?", "measure": name, "value": value,
                     "right": bool(value) if value in (0, 1) else None, "chance": chance, "gold": "A",
                     "answer": "A" if value == 1 else "B", "loglikelihoods": [-1.0, -2.0],
                     "cut": cut if item < 5 else 0, "prompt_hash": f"{asked}{item}"}
                )  # fmt: skip
    return write(folder / f"forgetting/{task}.parquet", rows, OF_TASKS)


def read_text(
    folder: Path, text: str, before: Sequence[float], after: Sequence[float], kl: Sequence[float], size: int = 100
) -> Path:
    """Write forgetting/text.parquet: bits of each window of `size` bytes and a quarter as many tokens."""
    rows = [
        {"run": folder.parent.name, "seed": 0, "stage": "learn", "step": 20, "epoch": 1.0, "when": when, "text": text,
         "window": window, "tokens": size // 4, "bytes": size, "bits": bits,
         "kl_from_base": kl[window] if when == "after" else None,
         "kl_to_base": 2 * kl[window] if when == "after" else None}
        for when, values in (("before", before), ("after", after))
        for window, bits in enumerate(values)
    ]  # fmt: skip
    return write(folder / "forgetting/text.parquet", rows, OF_TEXTS)


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def readings(folder: Path, changes: Sequence[float], every: int = 2) -> None:
    """Rows of kind "forgetting" in metrics.jsonl: before training, which says nothing of a change, and the mean change
    after 1, 2, … epochs of `every` updates.
    """
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for epoch, change in enumerate([0.0, *changes]):
            row = {"kind": "forgetting", "stage": "learn", "step": every * epoch, "epoch": float(epoch),
                   "exposures": float(epoch), "heldout/held_out.txt/bits_per_byte": 1.0}  # fmt: skip
            if epoch:
                row |= {"forgetting/mean_change": change, "heldout/held_out.txt/kl_from_base": abs(change)}
            file.write(json.dumps(row) + "\n")
