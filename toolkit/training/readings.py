"""A run while it is trained: what is read of it between updates, and which weights are kept."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from toolkit.example import Example, main_part
from toolkit.models.loaded import Loaded, load_weights, save_weights
from toolkit.models.reference import Reference
from toolkit.probes.forgetting import Abilities, Read
from toolkit.probes.prior import Class, classes_of, read_prior, write_prior
from toolkit.probes.recall import Moment, read_recall, summarise, write_reading
from toolkit.probes.repetition_prompts import Prompt
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import fact_numbers
from toolkit.run_folder import Run, remove_folder, whole_folder
from toolkit.seeds import sub_seed
from toolkit.studies.built import Built
from toolkit.training.exposures import Exposures
from toolkit.training.progress import RunProgress

VALIDATION_LOSS = "loss/answer_nats_validation"


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
    main: list[int] = field(init=False)
    """Numbers of the facts that the study's outcomes are of: "exposures" are theirs."""
    exposures: Exposures = field(init=False)
    step: int = 0
    """Updates of the stages before the present one."""
    epoch: float = 0.0
    prior: dict[str, Class] | None = None
    """What the base knew of each fact, read once."""
    abilities: Abilities | None = None
    """What forgetting is measured by, where it is."""
    reference: Reference | None = None
    """The base's own weights, to measure the distance from it."""
    base: Read | None = None
    """What the base could do, read once."""
    prompts: list[Prompt] = field(default_factory=list)
    """What is asked to measure repetition, drawn once, where it is measured."""

    def __post_init__(self) -> None:
        trained = [example for example in self.built.examples if example.split == "train"]
        self.numbers = fact_numbers(trained)
        asked = [example for example in trained if example.is_question] or trained
        part = main_part([example.part for example in asked])
        facts = dict.fromkeys(fact for example in asked if example.part == part for fact in example.exposes)
        self.main = [self.numbers[fact] for fact in facts]
        self.exposures = Exposures.of(len(self.numbers))


def keep_row(training: Training, kind: str, stage: str, step: int, epoch: float, values: dict[str, float]) -> None:
    """One line of metrics.jsonl, and of W&B; `step` and `epoch` are the stage's own."""
    row = {
        "kind": kind,
        "stage": stage,
        "step": training.step + step,
        "epoch": round(training.epoch + epoch, 6),
        "exposures": training.exposures.mean_of(training.main),
        "time": round(time.time(), 3),
        **values,
    }
    training.run.append_row(row)
    training.log_row(row)
    if "train/loss" in values:
        training.progress.step(row["step"], row["epoch"], values["train/loss"])


def moment(training: Training, stage: str, step: int, epoch: float) -> Moment:
    """Now, with what each fact was fed until now; `step` and `epoch` are the stage's own."""
    presented = training.exposures
    counts = {fact: presented.counts[number] for fact, number in training.numbers.items()}
    since = {fact: presented.clock - presented.last[n] for fact, n in training.numbers.items() if presented.last[n]}
    return Moment(
        training.run.name, training.seed, stage, training.step + step, training.epoch + epoch, counts, since
    )  # fmt: skip


def take_reading(
    training: Training,
    stage: str,
    step: int,
    epoch: float,
    *,
    with_text: bool,
    before_training: bool = False,
    more: dict[str, float] | None = None,
) -> None:
    """Measure recall now: a Parquet file of rows, and their summary in metrics.jsonl, with `more` values."""
    recipe, run = training.recipe, training.run
    now = moment(training, stage, step, epoch)
    started = time.perf_counter()
    examples = read_examples(training.built, recipe.recall.sample, training.seed, everything=with_text)
    rows = read_recall(
        training.loaded,
        training.engine,
        recipe.model,
        examples,
        now,
        batch_size=recipe.recall.batch_size,
        with_text=with_text,
    )
    if before_training:
        write_prior(run, classes_of(training.loaded, training.engine, recipe, training.seed, examples, rows))
    if training.prior is None:
        training.prior = read_prior(run)
    for row in rows:
        row["prior"] = training.prior.get(row["fact"])
    path = run.path / "probes" / f"recall-{stage}-{now.step:06d}.parquet"
    write_reading(path, rows)
    whole_line = any(entry.loss_on == "all" and entry.method == "sft" for entry in recipe.stage.values())
    summary = summarise(rows, training.built.entropy_bits, whole_line=whole_line)
    seconds = {"seconds/reading": round(time.perf_counter() - started, 4)}
    keep_row(training, "recall", stage, step, epoch, summary | (more or {}) | seconds)
    training.progress.reading(now.step, now.epoch, summary)


def read_examples(built: Built, sample: int | None, seed: int, *, everything: bool) -> list[Example]:
    """What readings measure: trained and controls, all or a sample of each that is the same at every reading.

    Of several parts a sample of each, by place: of a name with two numbers, in parts of one order, both or none. What
    is held out to choose by (validation) is always read whole.
    everything: the other questions for these facts too (paraphrases, reversed), which the first and last readings ask.
    """
    chosen: list[Example] = []
    asked = [example for example in built.examples if example.split in ("train", "control") and example.is_question]
    kinds = sorted(
        dict.fromkeys((example.split, example.part) for example in asked), key=lambda kind: kind[0] == "control"
    )
    for kind in kinds:
        examples = [example for example in asked if (example.split, example.part) == kind]
        size = len(examples) if sample is None else min(sample, len(examples))
        drawn = random.Random(sub_seed(seed, "sampling")).sample(examples, size)
        chosen += examples if size == len(examples) else drawn
    facts = {example.fact for example in chosen}
    chosen += [example for example in built.examples if example.split == "validation"]
    if everything:
        chosen += [example for example in built.examples if example.split == "test" and example.fact in facts]
    return chosen


def keep_weights(training: Training, name: str, stage: Stage, epoch: int) -> None:
    """Keep an epoch's weights as `keep` asks: every epoch's, or those of the best reading so far."""
    if stage.keep == "last":
        return
    folder = training.run.path / "stages" / name / f"epoch-{epoch:03d}"
    if stage.keep == "best":
        readings = still_there(training, name, readings_of_epochs(training, name))
        if not readings or readings[-1]["epoch"] != training.epoch + epoch or best(readings) is not readings[-1]:
            return
    with whole_folder(folder) as temporary:
        save_weights(training.loaded, temporary)
    if stage.keep == "best":
        for older in folder.parent.glob("epoch-*"):
            if older != folder:
                remove_folder(older)


def readings_of_epochs(training: Training, name: str) -> list[dict[str, Any]]:
    """The readings of a stage at the ends of its epochs: weights are kept there."""
    return [
        row
        for row in training.run.rows("recall")
        if row["stage"] == name
        and row["step"] > training.step
        and row["epoch"] == round(row["epoch"])
        # What is read once more after the best weights were put back.
        and "best_step" not in row
    ]


def still_there(training: Training, name: str, readings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose weights are kept, and the last one, whose weights the model has. Work that is done again after a kill
    may come out otherwise on a GPU, when the weights of the reading that was best then are gone."""
    folder = training.run.path / "stages" / name
    return [
        row
        for row in readings
        if row is readings[-1] or (folder / f"epoch-{round(row['epoch'] - training.epoch):03d}").is_dir()
    ]


def put_best_back(training: Training, name: str, stage: Stage) -> dict[str, Any] | None:
    """Where examples are held out to choose by, and `keep` says best: the best reading's weights become the present
    ones. Returns that reading; None where the last one is the best, or nothing is chosen."""
    validates = any(example.split == "validation" for example in training.built.examples)
    readings = readings_of_epochs(training, name) if stage.keep == "best" and validates else []
    readings = still_there(training, name, readings)
    if not readings or best(readings)["step"] == readings[-1]["step"]:
        return None
    found = best(readings)
    epoch = round(found["epoch"] - training.epoch)
    load_weights(training.loaded, training.run.path / "stages" / name / f"epoch-{epoch:03d}")
    return found


def best(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """The reading with the lowest loss on the validation examples, or else with the highest exact recall, and among
    equals the lowest loss a digit; then the earliest."""
    if all(VALIDATION_LOSS in row for row in readings):
        return min(readings, key=lambda row: (row[VALIDATION_LOSS], row["step"]))
    return max(readings, key=lambda row: (row["recall/exact"], -row["loss/digit_nats"], -row["step"]))
