"""What a reading costs: exact recall from one forward pass, against generating, item by item and in batches."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, ratio, spread, timed
from benchmarks.project import GROUP_A, Folder, Quick, make_base, project
from tests.conftest import run as train

THREADS = tuple(sorted({1, os.cpu_count() or 1}))
"""One, and as many as a user has: PyTorch takes all cores unless it is told otherwise."""
NEW_TOKENS = 8
"""Generated beyond an answer, as a reading with text does."""


class Asked(NamedTuple):
    """A trained adapter on its base, and one hundred facts as tokens."""

    engine: ModuleType
    opened: Any
    examples: list[Any]
    rendered: list[Any]


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """One hundred numbers, taught to the tiny base: their recall read in four ways, in turn, by threads."""
    started = time.perf_counter()
    with project(folder):
        asked = open_trained(quick)
        ways = ways_of(asked)
        actions = {label(name, n): with_threads(n, way) for n in THREADS for name, way in ways.items()}
        measured = alternate(actions, 2 if quick else 7)
    finish(result(measured, asked), started, quick=quick)


def open_trained(quick: bool) -> Asked:
    """Train recipes/tiny/groupA.toml (where that is not done yet) and open it as `eval_recall` does."""
    base = make_base(small=quick)
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from toolkit.checkpoints import find_checkpoints
    from toolkit.example import read_jsonl
    from toolkit.models.opening import open_checkpoint, prepare
    from toolkit.rendering import render

    epochs = 2 if quick else 60
    train(GROUP_A, "name=bench-reading", f"model.base={base}", f"stage.learn.epochs={epochs}", "recall.every=stage")
    (checkpoint,) = find_checkpoints(["checkpoints/bench-reading/seed-0"])
    opened = open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None)
    examples = [e for e in read_jsonl(Path("checkpoints/bench-reading/seed-0/examples.jsonl")) if e.split == "train"]
    return Asked(engine, opened, examples, [render(opened.loaded.tokenizer, e, opened.asked.format) for e in examples])


def with_threads(threads: int, way: Callable[[], None]) -> Callable[[], float]:
    """The seconds that a way takes with so many threads."""
    import torch

    def measure() -> float:
        torch.set_num_threads(threads)
        return timed(way)

    return measure


def ways_of(asked: Asked) -> dict[str, Callable[[], None]]:
    """The four ways, each by name."""
    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate, score
    from toolkit.probes.recall import Moment, read_recall

    engine, loaded = asked.engine, asked.opened.loaded
    prompts = [item.prompt_ids for item in asked.rendered]
    new = max(len(item.answer_ids) for item in asked.rendered) + NEW_TOKENS
    now = Moment("bench-reading", 0, "learn", 0, 0.0, {}, {})
    size = len(asked.rendered)

    def one_pass() -> None:
        with undisturbed(loaded, engine):
            score(loaded, asked.rendered, size)

    def reading() -> None:
        read_recall(loaded, engine, asked.opened.asked, asked.examples, now, batch_size=size, with_text=False)

    def batched() -> None:
        with undisturbed(loaded, engine):
            loss_pass(loaded, asked.rendered)
            generate(loaded, engine, prompts, new, size)

    def one_by_one() -> None:
        with undisturbed(loaded, engine):
            generate(loaded, engine, prompts, new, 1)

    return {"one pass": one_pass, "reading": reading, "loss, then generation": batched, "item by item": one_by_one}


def loss_pass(loaded: Any, rendered: list[Any]) -> float:
    """The mean loss of the answers, in one batch, as a trainer's evaluation has it."""
    import torch

    from toolkit.rendering import pad_token
    from toolkit.training.collator import Collator

    rows = [{"input_ids": item.input_ids, "labels": item.labels("answer", True), "facts": []} for item in rendered]
    batch = Collator(pad_token(loaded.tokenizer))(rows)
    del batch["facts"]
    with torch.no_grad():
        return loaded.model(**batch).loss.item()


def label(name: str, threads: int) -> str:
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def result(measured: dict[str, list[float]], asked: Asked) -> Result:
    ways = {
        "one pass": "one pass: loss, bits, exact recall, first error",
        "reading": "a reading: the same, with foils and rows",
        "loss, then generation": "a loss pass, then generation in one batch",
        "item by item": "generation item by item",
    }
    middle = medians(measured)
    columns = [f"{len(asked.rendered)} facts", "s (median)", "s (range)", "over a reading", "(range)"]
    tables = []
    for threads in THREADS:
        rows, reading = [], measured[label("reading", threads)]
        for name, said in ways.items():
            way = label(name, threads)
            over = [mine / its for mine, its in zip(measured[way], reading, strict=True)]
            median = ratio(measured, way, label("reading", threads))
            rows.append([said, f"{middle[way]:.3f}", spread(measured[way]), f"{median:.2f}", spread(over)])
        tables.append(Table(columns, rows, title=label("", threads).strip(", ")))
    names = ("item by item", "one pass", "reading", "loss, then generation")
    slow, one_pass, reading, batched = (label(name, THREADS[-1]) for name in names)
    targets = [
        # Like for like: a reading's second pass asks for foils, which generating the answers leaves out.
        Target(f"{slow}, over one pass", ">=", 30, ratio(measured, slow, one_pass)),
        Target("a whole reading over loss and batched generation", "<=", 1, ratio(measured, reading, batched)),
    ]
    return Result("reading", tables, targets, {"seconds": measured})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
