"""What a training step of the toolkit costs beside a bare Unsloth and TRL script and a bare PyTorch loop, and where."""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, ratio, spread, timed
from benchmarks.project import GROUP_A, Folder, Quick, make_base, project
from benchmarks.step_parts import PARTS, Clock, watch

TOOLKIT, TRL, LOOP = "toolkit", "bare Unsloth and TRL", "bare PyTorch loop"


class Setting(NamedTuple):
    """One base, loaded once, and 96 rows that divide evenly: every step has 16."""

    engine: ModuleType
    loaded: Any
    recipe: Any
    built: Any
    rows: list[dict[str, list[int]]]

    @property
    def stage(self) -> Any:
        return self.recipe.stage["learn"]

    @property
    def steps(self) -> int:
        return len(self.rows) // self.stage.batch_size * self.stage.epochs


class Taken(NamedTuple):
    """What one training took, and the weights that it ended with."""

    seconds: float
    weights: list[Any]


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """LoRA of rank 32 on the tiny base, 16 rows a step: the same steps by three programs, in turn."""
    started = time.perf_counter()
    with project(folder):
        setting = prepare(quick)
        last: dict[str, Taken] = {}
        ways = {name: turn(setting, name, way, last) for name, way in WAYS.items()}
        measured = alternate(ways, 2 if quick else 5)
        clock = Clock()
        with watch(clock):
            for _ in range(1 if quick else 3):
                clock.turns += 1
                turn(setting, "watched", lambda setting: by_toolkit(setting, clock), last)()
        same = all(one.equal(other) for one, other in zip(last[TOOLKIT].weights, last[TRL].weights, strict=True))
    finish(result(setting, measured, clock, same), started, quick=quick)


def prepare(quick: bool) -> Setting:
    base = make_base(small=quick)
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from toolkit.models.base import check_base
    from toolkit.models.opening import load_base
    from toolkit.recipe import read_recipe
    from toolkit.studies import build_data
    from toolkit.training.rows import prepare_rows

    changes = ("name=bench-step", f"model.base={base}", "data.count=96", f"stage.learn.epochs={1 if quick else 8}")
    recipe = read_recipe(Path(GROUP_A), changes, None)
    found = check_base(recipe)
    assert found is not None
    loaded = load_base(engine, found, recipe.model, full=False)
    built = build_data(recipe, 0)
    return Setting(engine, loaded, recipe, built, prepare_rows(loaded.tokenizer, recipe, built, 0)["learn"])


def turn(setting: Setting, name: str, way: Callable[[Setting], float], last: dict[str, Taken]) -> Callable[[], float]:
    """One training from fresh LoRA weights, which are taken off again, as a run's seeds do."""

    def measure() -> float:
        from toolkit.models.loaded import free_memory, remove_adapter
        from toolkit.training.used import forward_of, restore_forward

        loaded = setting.loaded
        setting.engine.add_lora(loaded, setting.recipe.lora, setting.recipe.model, 0)
        own = forward_of(loaded.model)
        setting.engine.for_training(loaded.model)
        seconds = way(setting)
        restore_forward(loaded.model, own)
        last[name] = Taken(seconds, [p.detach().clone() for p in loaded.model.parameters() if p.requires_grad])
        remove_adapter(loaded)
        free_memory()
        return seconds

    return measure


def by_toolkit(setting: Setting, clock: Clock | None = None) -> float:
    """The toolkit's trainer with its callback, collator, counting, metrics.jsonl and bar; no reading and no save."""
    from rich.console import Console

    from toolkit.run_folder import Run
    from toolkit.tracking import Tracker
    from toolkit.training.callback import Every, StageCallback
    from toolkit.training.progress import RunProgress
    from toolkit.training.readings import Training, keep_row
    from toolkit.training.sft import make_trainer

    with tempfile.TemporaryDirectory() as place:
        run, recipe = Run(Path(place)), setting.recipe
        with Path(place, "terminal").open("w") as file, RunProgress(Console(file=file), "", 1, 1) as progress:
            log = Tracker(run, {"mode": "disabled"}, print).log
            training = Training(
                run, recipe, 0, setting.built, setting.engine, setting.loaded, progress, log, lambda: False
            )
            callback = StageCallback(
                read=lambda step, epoch, last: None,
                log_row=lambda step, epoch, values: keep_row(training, "train", "learn", step, epoch, values),
                keep_epoch=lambda epoch: None,
                stop_asked=training.stop_asked,
                reading=Every.parse("stage"),
                saving=Every.parse("stage"),
                exposures=training.exposures,
            )
            trainer = make_trainer(
                setting.engine, setting.loaded, setting.rows, recipe, setting.stage, 0, Path(place),
                training.exposures, callback,
            )  # fmt: skip
            if clock:
                clock.attach(trainer)
            seconds = timed(trainer.train)
    if set(training.exposures.counts) != {setting.stage.epochs}:
        raise RuntimeError("the toolkit did not expose every fact once an epoch")
    return seconds


def by_trl(setting: Setting) -> float:
    """The script that a user would write: TRL's trainer and collator, its log every ten steps, no progress bar."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from toolkit.training.sft import arguments

    trainer_class, config = setting.engine.trainer_and_config()
    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in setting.rows]
    with tempfile.TemporaryDirectory() as place:
        said = arguments(setting.recipe, setting.stage, 0, len(rows), Path(place)) | {"logging_steps": 10}
        trainer = trainer_class(
            model=setting.loaded.model,
            args=config(**said, **setting.engine.config_extras(setting.recipe.model)),
            train_dataset=Dataset.from_list(rows),
            processing_class=setting.loaded.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        return timed(trainer.train)


def by_loop(setting: Setting) -> float:
    """Forward, backward, clip, step: no trainer at all. Batches are made as they are needed, as above."""
    import torch

    from toolkit.rendering import pad_token
    from toolkit.training.collator import Collator

    stage, model, rows = setting.stage, setting.loaded.model, setting.rows
    collate = Collator(pad_token(setting.loaded.tokenizer))
    weights = [p for p in model.parameters() if p.requires_grad]

    def loop() -> None:
        optimizer = torch.optim.AdamW(weights, lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / setting.steps)
        for epoch in range(stage.epochs):
            order = random.Random(epoch).sample(rows, len(rows))
            for start in range(0, len(rows), stage.batch_size):
                batch = collate(order[start : start + stage.batch_size])
                del batch["facts"]
                model(**batch, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, stage.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    return timed(loop)


WAYS: dict[str, Callable[[Setting], float]] = {TOOLKIT: by_toolkit, TRL: by_trl, LOOP: by_loop}


def result(setting: Setting, measured: dict[str, list[float]], clock: Clock, same: bool) -> Result:
    a_step = {name: [1000 * value / setting.steps for value in values] for name, values in measured.items()}
    middle = medians(a_step)
    lengths = [len(row["input_ids"]) for row in setting.rows]
    rows = [
        [name, f"{middle[name]:.1f}", spread(a_step[name]), f"{ratio(measured, name, LOOP):.3f}"] for name in measured
    ]
    what = f"16 rows of {min(lengths)} to {max(lengths)} tokens"
    steps = Table([what, "ms a step (median)", "ms (range)", "times the loop"], rows)
    milliseconds = {part: 1000 * clock.seconds[part] / setting.steps / clock.turns for part in PARTS}
    whole = sum(milliseconds.values())
    parts = Table(
        ["part of a step of the toolkit", "whose", "ms", "share"],
        [
            [part, whose, f"{milliseconds[part]:.3f}", f"{milliseconds[part] / whole:.2%}"]
            for part, whose in sorted(PARTS.items(), key=lambda item: -milliseconds[item[0]])
        ],
        "Where a step goes, each part without the parts inside it",
    )
    targets = [
        Target("a step of the toolkit over one of a bare script", "<=", 1.05, ratio(measured, TOOLKIT, TRL)),
        Target("trained weights that differ between the two", "==", 0, float(not same)),
    ]
    values = {"seconds": measured, "steps": setting.steps, "milliseconds": milliseconds}
    return Result("training_step", [steps, parts], targets, values)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
