"""One run from its first reading to its final weights: stages in order, on the same weights, resumable anywhere."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from toolkit.example import Example
from toolkit.models.loaded import Loaded, load_weights, save_weights
from toolkit.probes.recall import Moment, read_recall, summarise, write_reading
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import fact_numbers
from toolkit.run_folder import Run, remove_folder, whole_folder
from toolkit.seeds import sub_seed
from toolkit.studies.built import Built
from toolkit.training.callback import Every, StageCallback
from toolkit.training.exposures import Exposures
from toolkit.training.progress import RunProgress
from toolkit.training.rows import Rows, updates_an_epoch
from toolkit.training.saved import MARKER, latest_checkpoint
from toolkit.training.sft import make_trainer


@dataclass
class Training:
    """One run while it is being trained; steps and epochs here count through all stages."""

    run: Run
    recipe: Recipe
    seed: int
    built: Built
    engine: ModuleType
    loaded: Loaded
    progress: RunProgress
    log_row: Callable[[dict[str, Any]], None]
    """Sends a row that metrics.jsonl already has to W&B."""
    stop_asked: Callable[[], bool]
    numbers: dict[str, int] = field(init=False)
    """Of each trained fact."""
    exposures: Exposures = field(init=False)
    step: int = 0
    """Updates of the stages before the present one."""
    epoch: float = 0.0

    def __post_init__(self) -> None:
        trained = [example for example in self.built.examples if example.split == "train"]
        self.numbers = fact_numbers(trained)
        self.exposures = Exposures.of(len(self.numbers))


def train(training: Training, rows: dict[str, Rows]) -> bool:
    """Train all stages; returns False where the user stopped it (what resuming needs is then saved)."""
    run, recipe = training.run, training.recipe
    for name, stage in recipe.stage.items():
        total = updates_an_epoch(len(rows[name]), stage) * stage.epochs
        after = run.state_folder / name / "after"
        if (after / MARKER).is_file():
            load_weights(training.loaded.model, after)
            training.exposures.load(after)
        else:
            if not train_stage(training, name, stage, rows[name]):
                return False
            with whole_folder(after) as folder:
                save_weights(training.loaded.model, training.loaded.tokenizer, folder)
                training.exposures.save(folder)
                (folder / MARKER).touch()
            remove_folder(run.state_folder / name / "checkpoints")
        training.step += total
        training.epoch += stage.epochs
    final = run.path / ("adapter" if recipe.lora else "model")
    with whole_folder(final) as folder:
        save_weights(training.loaded.model, training.loaded.tokenizer, folder)
    return True


def train_stage(training: Training, name: str, stage: Stage, rows: Rows) -> bool:
    """Train one stage, from its last whole checkpoint where there is one; False where the user stopped it."""
    run = training.run
    folder = run.state_folder / name / "checkpoints"
    checkpoint = latest_checkpoint(folder)
    if checkpoint:
        training.exposures.load(checkpoint)
    if not run.rows("recall"):
        take_reading(training, name, 0, 0.0, with_text=True)
    callback = StageCallback(
        read=lambda step, epoch, last: take_reading(training, name, step, epoch, with_text=last),
        log_row=lambda step, epoch, values: keep_row(training, "train", name, step, epoch, values),
        keep_epoch=lambda epoch: keep_weights(training, name, stage, epoch),
        stop_asked=training.stop_asked,
        reading=Every.parse(training.recipe.recall.every),
        saving=Every.parse(stage.save),
        exposures=training.exposures,
    )
    own_forward = forward_of(training.loaded.model)
    trainer = make_trainer(
        training.engine, training.loaded, rows, training.recipe, stage, training.seed, folder, training.exposures,
        callback,
    )  # fmt: skip
    note_what_is_used(run, name, trainer.args)
    training.engine.for_training(training.loaded.model)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finished = trainer.state.global_step >= trainer.state.max_steps
    restore_forward(training.loaded.model, own_forward)
    return finished


def note_what_is_used(run: Run, stage: str, arguments: Any) -> None:
    """Keep in run.json what the engine made of the optimizer and the precision that were asked for."""
    optimizer = getattr(arguments.optim, "value", str(arguments.optim))
    mixed = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else None
    stages = run.info.get("stages", {})
    run.update_info(stages=stages | {stage: {"optimizer": optimizer, "mixed_precision": mixed}})


def forward_of(model: Any) -> Any:
    """The base's own forward, where one is set on the instance. TRL wraps it anew for each trainer that is made."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.__dict__.get("forward")


def restore_forward(model: Any, forward: Any) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.__dict__.pop("forward", None)
    if forward is not None:
        base.forward = forward


def keep_row(training: Training, kind: str, stage: str, step: int, epoch: float, values: dict[str, float]) -> None:
    """One line of metrics.jsonl, and of W&B; `step` and `epoch` are the stage's own."""
    row = {
        "kind": kind,
        "stage": stage,
        "step": training.step + step,
        "epoch": round(training.epoch + epoch, 6),
        "exposures": training.exposures.mean,
        "time": round(time.time(), 3),
        **values,
    }
    training.run.append_row(row)
    training.log_row(row)
    if "train/loss" in values:
        training.progress.step(row["step"], row["epoch"], values["train/loss"])


def take_reading(training: Training, stage: str, step: int, epoch: float, *, with_text: bool) -> None:
    """Measure recall now: a Parquet file of rows, and their summary in metrics.jsonl."""
    recipe, run = training.recipe, training.run
    presented = training.exposures
    counts = {fact: presented.counts[number] for fact, number in training.numbers.items()}
    since = {fact: presented.clock - presented.last[n] for fact, n in training.numbers.items() if presented.last[n]}
    now = Moment(run.name, training.seed, stage, training.step + step, training.epoch + epoch, counts, since)
    started = time.perf_counter()
    rows = read_recall(
        training.loaded,
        training.engine,
        recipe.model,
        read_examples(training.built, recipe.recall.sample, training.seed, everything=with_text),
        now,
        batch_size=recipe.recall.batch_size,
        with_text=with_text,
    )
    path = run.path / "probes" / f"recall-{stage}-{now.step:06d}.parquet"
    write_reading(path, rows)
    whole_line = any(entry.loss_on == "all" and entry.method == "sft" for entry in recipe.stage.values())
    summary = summarise(rows, training.built.entropy_bits, whole_line=whole_line)
    seconds = {"seconds/reading": round(time.perf_counter() - started, 4)}
    keep_row(training, "recall", stage, step, epoch, summary | seconds)
    training.progress.reading(now.step, now.epoch, summary)


def read_examples(built: Built, sample: int | None, seed: int, *, everything: bool) -> list[Example]:
    """What readings measure: trained and controls, all or a sample of each that is the same at every reading.

    everything: the other questions for these facts too (paraphrases, reversed), which the first and last readings ask.
    """
    chosen: list[Example] = []
    for split in ("train", "control"):
        examples = [example for example in built.examples if example.split == split]
        size = len(examples) if sample is None else min(sample, len(examples))
        drawn = random.Random(sub_seed(seed, "sampling")).sample(examples, size)
        chosen += examples if size == len(examples) else drawn
    facts = {example.fact for example in chosen}
    if everything:
        chosen += [example for example in built.examples if example.split == "test" and example.fact in facts]
    return chosen


def keep_weights(training: Training, name: str, stage: Stage, epoch: int) -> None:
    """Keep an epoch's weights as `keep` asks: every epoch's, or those of the best reading so far."""
    if stage.keep == "last":
        return
    folder = training.run.path / "stages" / name / f"epoch-{epoch:03d}"
    if stage.keep == "best":
        readings = [
            row
            for row in training.run.rows("recall")
            # Weights are kept at the ends of epochs, so only readings taken there count.
            if row["stage"] == name and row["step"] > training.step and row["epoch"] == round(row["epoch"])
        ]
        if not readings or readings[-1]["epoch"] != training.epoch + epoch or best(readings) is not readings[-1]:
            return
    with whole_folder(folder) as temporary:
        save_weights(training.loaded.model, training.loaded.tokenizer, temporary)
    if stage.keep == "best":
        for older in folder.parent.glob("epoch-*"):
            if older != folder:
                remove_folder(older)


def best(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """The reading with the highest exact recall; among equals the lowest loss a digit, then the earliest."""
    return max(readings, key=lambda row: (row["recall/exact"], -row["loss/digit_nats"], -row["step"]))
