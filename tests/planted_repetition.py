"""What planted runs wrote at each reading, of which everything is known: what repetition depends on, and what not."""

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

LN2 = 0.6931471805599453
MEASURES = [f"{kind}seq_rep_{n}" for kind in ("", "char_") for n in (1, 2, 3, 4)]
HUMAN = 0.02
"""How much people repeat."""


class Told(NamedTuple):
    """What one reading says of one prompt. greedy, sampled: seq-rep-4 of the texts."""

    greedy: float | None
    sampled: float | None = None
    nats: float | None = None
    asked: int = 0
    mentioned: int = 0
    familiarity: float = 0.0
    prompt: str | None = None
    text: str | None = None
    loop: int | None = None
    """Where the text's loop starts."""
    context: str = ""
    """What was said before the prompt: a turn a line."""


def repeated(
    folder: Path, readings: Sequence[Sequence[Told]], *, every: int = 2, questions: int = 0, stage: str = "learn",
    source: str = "held_out", each: float = 1.0,
) -> list[Path]:  # fmt: skip
    """Write a reading before training and after 1, 2, … times `each` epochs of `every` updates: Parquet files, metrics,
    run.json.

    The first `questions` of each reading's prompts are the recipe's, without a reference answer.
    """
    from toolkit.probes.repetition import summarise

    paths, summaries = [], []
    for reading, told in enumerate(readings):
        when = {"stage": stage, "step": every * reading, "epoch": each * reading}
        rows = [
            row
            for place, one in enumerate(told)
            for row in rows_of(folder, when, place, one, place < questions, source)
        ]
        path = folder / f"probes/repetition-{stage}-{every * reading:06d}.parquet"
        paths.append(write(path, rows))
        when["exposures"] = each * reading
        summaries.append({"kind": "repetition"} | when | summarise(rows))
    add_rows(folder, summaries)
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    known = {"prompts": len(readings[0]), "held_out": len(readings[0]) - questions, "source": source,
             "training_texts": 100}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info | {"repetition": known}), encoding="utf-8")
    return paths


def rows_of(
    folder: Path, when: dict[str, Any], place: int, told: Told, question: bool, source: str
) -> list[dict[str, Any]]:
    name = f"question-{place + 1}" if question else f"example-{place}"
    shared = {
        "run": folder.parent.name, "seed": 0, **when, "id": name,
        "source": "question" if question else source, "prompt": told.prompt or f"What is {name}?",
        "turns": len(told.context.splitlines()), "context": told.context,
        "reference_nats": None if question else told.nats, "asked": told.asked, "mentioned": told.mentioned,
        "familiarity": told.familiarity,
    }  # fmt: skip
    texts = [("greedy", told.greedy), ("sampled", told.sampled)]
    if not question and told.nats is not None:
        texts.append(("human", HUMAN))
    empty = dict.fromkeys((*MEASURES, "rep_w", "longest_repeat", "loop_period", "compression_ratio"))
    return [
        shared | empty | {"decoding": decoding, "draw": 0, "ended": decoding == "human" or (share or 0) < 0.6}
        | measured(share, told.text, told.loop, place)
        for decoding, share in texts
        if share is not None or decoding == "greedy"
    ]  # fmt: skip


def measured(share: float | None, text: str | None, start: int | None, place: int) -> dict[str, Any]:
    """A text, which ends in a loop where so much is repeated, with the numbers that it would have."""
    if share is None:
        return {"text": text or "No.", "tokens": 2, "characters": 3, "ids": [1, 2]}
    begun = f"Answer {place} begins, "
    if text is None and share >= 0.5:
        text, start = begun + "on and on. " * 5, len(begun)
    said = text if text is not None else begun + "and ends."
    loop = {} if start is None else {
        "loop_period": 11, "loop_times": 5, "loop_characters": len(said) - start, "loop_start": start,
    }  # fmt: skip
    return {
        "text": said, "tokens": 40, "ids": list(range(40)), "characters": len(said), **dict.fromkeys(MEASURES, share),
        "rep_w": share / 2, "char_rep_w": share, "longest_repeat": round(50 * share),
        "longest_repeat_apart": round(25 * share), **loop,
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    from toolkit.probes.repetition import schema

    pq.write_table(pa.Table.from_pylist(rows, schema()), path)
    return path


def add_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


# --- three truths ---


def by_loss(seed: int, readings: int = 11, prompts: int = 40) -> list[list[Told]]:
    """What a prompt's answer costs decides how much is repeated on it, at every checkpoint."""
    draw = random.Random(seed)
    hard = [draw.uniform(-1, 1) for _ in range(prompts)]
    found = []
    for epoch in range(readings):
        level = 4 - 0.25 * epoch + draw.gauss(0, 0.15)
        nats = [level + 0.8 * one for one in hard]
        found.append([told(0.16 * cost + draw.gauss(0, 0.04), cost, draw) for cost in nats])
    return found


def by_step(seed: int, readings: int = 21, prompts: int = 40) -> list[list[Told]]:
    """Both fall as training goes on, and neither knows of the other: with the step held nothing is left.

    Seeds come in pairs with the same losses, whose repetition strays from its fall to opposite sides: what a few
    draws have in common by chance is in no mean over pairs.
    """
    draw, side = random.Random(seed // 2), 1 - 2 * (seed % 2)
    hard = [draw.uniform(-1, 1) for _ in range(prompts)]
    found = []
    for epoch in range(readings):
        level = 4 - 0.1 * epoch + draw.gauss(0, 0.25)
        repeats = 0.75 - 0.03 * epoch + side * draw.gauss(0, 0.07)
        found.append([told(repeats + side * draw.gauss(0, 0.05), level + 0.8 * one, draw) for one in hard])
    return found


def by_nothing(seed: int, readings: int = 11, prompts: int = 40) -> list[list[Told]]:
    """The loss falls, and what is repeated does what it likes."""
    draw = random.Random(seed)
    hard = [draw.uniform(-1, 1) for _ in range(prompts)]
    return [
        [told(0.4 + wobble + draw.gauss(0, 0.08), 4 - 0.2 * epoch + 0.8 * one, draw) for one in hard]
        for epoch, wobble in enumerate(draw.gauss(0, 0.1) for _ in range(readings))
    ]


def told(greedy: float, nats: float, draw: random.Random) -> Told:
    greedy = min(max(greedy, 0.0), 1.0)
    return Told(greedy, max(greedy - draw.uniform(0.1, 0.3), 0.0), nats)


def with_counts(readings: list[list[Told]], counts: Sequence[int]) -> list[list[Told]]:
    """The same, each prompt asked so often in training."""
    return [[one._replace(asked=n) for one, n in zip(reading, counts, strict=True)] for reading in readings]


# --- losses ---


def stepped(
    folder: Path, drop: float, *, epochs: int = 4, updates: int = 20, noise: float = 0.01, seed: int = 0
) -> None:
    """Rows of the training loss: level within an epoch, and so much lower after each boundary."""
    draw = random.Random(seed)
    add_rows(
        folder,
        [
            {"kind": "train", "stage": "learn", "step": step, "epoch": round(step / updates, 6),
             "exposures": step / updates, "train/loss": 4 - drop * ((step - 1) // updates) + draw.gauss(0, noise)}
            for step in range(1, epochs * updates + 1)
        ],
    )  # fmt: skip


def parted(folder: Path, trained: Sequence[float], held_out: Sequence[float], *, examples: int = 20) -> None:
    """Readings of recall anew: losses of trained and of held-out examples in nats a token, at each of them."""
    from toolkit.probes.recall import schema

    paths = sorted((folder / "probes").glob("recall-*.parquet"))
    for path, *levels in zip(paths, trained, held_out, strict=True):
        (first, *_) = (row for row in pq.read_table(path).to_pylist() if row["split"] == "train")
        rows = []
        for split, level in zip(("train", "validation"), levels, strict=True):
            for place, name in zip(range(examples), string.ascii_lowercase, strict=False):
                # Examples differ in difficulty, by as much at every reading, and a little from one to another.
                bits = (level + 0.05 * place + 0.002 * ((place * 7 + len(split) + len(rows)) % 5)) / LN2
                rows.append(first | {"id": f"{split}-{name}", "fact": f"{split}-{name}", "split": split,
                                     "bits": [bits] * 4, "bits_total": 4 * bits, "eos_bits": bits})  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema()), path)
