"""What a reading costs: exact recall from one forward pass, against generating, item by item and in batches."""

import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, ratio, spread, timed
from benchmarks.project import GROUP_A, Folder, Quick, make_base, project
from tests.conftest import run as train

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
    """One hundred numbers, taught to the tiny base: their recall read in four ways, in turn."""
    started = time.perf_counter()
    with project(folder):
        asked = open_trained(quick)
        measured = alternate(actions(asked), 2 if quick else 7)
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


def actions(asked: Asked) -> dict[str, Any]:
    """The four ways, each by name, each measuring itself."""
    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate, score
    from toolkit.probes.recall import Moment, read_recall

    engine, loaded = asked.engine, asked.opened.loaded
    prompts = [item.prompt_ids for item in asked.rendered]
    new = max(len(item.answer_ids) for item in asked.rendered) + NEW_TOKENS
    now = Moment("bench-reading", 0, "learn", 0, 0.0, {})
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

    ways = {"one pass": one_pass, "reading": reading, "loss, then generation": batched, "item by item": one_by_one}
    return {name: lambda way=way: timed(way) for name, way in ways.items()}


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


def result(measured: dict[str, list[float]], asked: Asked) -> Result:
    names = {
        "one pass": "one pass: loss, bits, exact recall, first error",
        "reading": "a reading: the same, with foils and rows",
        "loss, then generation": "a loss pass, then generation in one batch",
        "item by item": "generation item by item",
    }
    middle = medians(measured)
    rows = [
        [said, f"{middle[name]:.3f}", spread(measured[name]), f"{ratio(measured, name, 'one pass'):.2f}"]
        for name, said in names.items()
    ]
    columns = [f"{len(asked.rendered)} facts", "s (median)", "s (range)", "times one pass"]
    targets = [
        Target("item by item over a reading", ">=", 30, ratio(measured, "item by item", "reading")),
        Target(
            "a reading over loss and batched generation", "<=", 1, ratio(measured, "reading", "loss, then generation")
        ),
    ]
    return Result("reading", [Table(columns, rows)], targets, {"seconds": measured})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
