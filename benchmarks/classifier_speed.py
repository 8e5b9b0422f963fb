"""Times the toolkit's training and reading of a classifier in turn with a plain script's, and counts the padding."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.measuring import alternate, timed
from benchmarks.plain_classifier import PlainClassifier, dataset_of, plain_trainer

TOOLKIT, PLAIN, PASSES = "toolkit", "plain transformers", "toolkit, the passes alone"


class Setting(NamedTuple):
    """One base, loaded once, with texts to train on and to read, as a script takes them: `input_ids` and `labels`."""

    engine: ModuleType
    loaded: Any
    recipe: Any
    built: Any
    """Of its validation texts readings are taken."""
    classes: Any
    rows: list[dict[str, Any]]
    """What the toolkit's trainer is fed."""
    trained: list[dict[str, Any]]
    read: list[dict[str, Any]]

    @property
    def stage(self) -> Any:
        return self.recipe.stage["learn"]


@dataclass
class Fed:
    """Tokens that passed through the backbone, and how many of them were padding."""

    tokens: int = 0
    padding: int = 0

    @property
    def share(self) -> float:
        return self.padding / self.tokens


@dataclass
class Measured:
    """Seconds of every round by way, and what else was seen."""

    texts: int
    seconds: dict[str, list[float]]
    padding: dict[str, float]
    """Share of the tokens fed, by way."""
    differing: int = 0
    """Texts that the same weights were asked of in both ways, and that got another class."""


def prepare(recipe_path: str, changes: Sequence[str], seed: int = 0, texts: int | None = None) -> Setting:
    """Load what is needed once, with the rows of a seed. texts: how many of the test are read (else all)."""
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from toolkit.models.base import check_base
    from toolkit.models.opening import load_base
    from toolkit.recipe import read_recipe
    from toolkit.studies import build_data
    from toolkit.training.rows import class_rows, classes_of, prepare_rows

    recipe = read_recipe(Path(recipe_path), tuple(changes), None)
    found = check_base(recipe)
    assert found is not None
    loaded, built = load_base(engine, found, recipe.model, full=False), build_data(recipe, seed)
    tested = [replace(example, split="validation") for example in built.examples if example.split == "test"][:texts]
    built = built._replace(examples=[e for e in built.examples if e.split == "train"] + tested)
    classes, rows = classes_of(recipe, built), prepare_rows(loaded.tokenizer, recipe, built, seed)["learn"]
    read = class_rows(loaded.tokenizer, tested, {example.fact: -1 for example in tested}, classes)
    return Setting(engine, loaded, recipe, built, classes, rows, plain_rows(rows), plain_rows(read))


def plain_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"input_ids": row["input_ids"], "labels": row["class"]} for row in rows]


@contextlib.contextmanager
def fresh(setting: Setting, seed: int) -> Iterator[None]:
    """The base with new LoRA weights and a new head, which are taken off again, as a run's seeds do."""
    from toolkit.models.classifier import add_classes
    from toolkit.models.loaded import free_memory, remove_adapter
    from toolkit.seeds import sub_seed
    from toolkit.training.used import forward_of, restore_forward

    loaded, recipe = setting.loaded, setting.recipe
    setting.engine.add_lora(loaded, recipe.lora, recipe.model, sub_seed(seed, "lora"))
    add_classes(loaded, setting.classes, sub_seed(seed, "head"))
    own = forward_of(loaded.model)
    setting.engine.for_training(loaded.model)
    yield
    restore_forward(loaded.model, own)
    remove_adapter(loaded)
    free_memory()


@contextlib.contextmanager
def watched(setting: Setting) -> Iterator[Fed]:
    """Count what passes through the backbone."""
    from toolkit.models.classifier import backbone

    fed = Fed()

    def count(_: Any, arguments: Any, named: dict[str, Any]) -> None:
        mask = named["attention_mask"]
        fed.tokens += mask.numel()
        fed.padding += mask.numel() - int(mask.sum())

    handle = backbone(setting.loaded.model).register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield fed
    finally:
        handle.remove()


# --- training ---


def measure_training(setting: Setting, rounds: int) -> Measured:
    """The same rows by the toolkit's trainer, without readings and saves, and the plain one; each as it orders them."""
    measured = Measured(len(setting.rows) * setting.stage.epochs, {}, {})

    def turn(name: str, train: Callable[[Setting, int], float]) -> Callable[[], float]:
        def measure() -> float:
            with fresh(setting, 0), watched(setting) as fed:
                seconds = train(setting, 0)
            measured.padding[name] = fed.share
            return seconds

        return measure

    ways = {name: turn(name, way) for name, way in ((TOOLKIT, train_by_toolkit), (PLAIN, train_plainly))}
    measured.seconds = alternate(ways, rounds)
    return measured


def train_by_toolkit(setting: Setting, seed: int) -> float:
    """Rows, order, counted exposures, callback, metrics.jsonl and bar, as a run has them."""
    from toolkit.training.callback import Every, StageCallback
    from toolkit.training.classify import make_trainer
    from toolkit.training.readings import keep_row

    with training_of(setting, seed) as training:
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
            setting.engine, setting.loaded, setting.rows, setting.recipe, setting.stage, seed, training.run.path,
            training.exposures, callback,
        )  # fmt: skip
        seconds = timed(trainer.train)
    if set(training.exposures.counts) != {setting.stage.epochs}:
        raise RuntimeError("the toolkit did not expose every text once an epoch")
    return seconds


@contextlib.contextmanager
def training_of(setting: Setting, seed: int) -> Iterator[Any]:
    """A run of the toolkit's in a temporary folder."""
    from rich.console import Console

    from toolkit.run_folder import Run
    from toolkit.tracking import Tracker
    from toolkit.training.progress import RunProgress
    from toolkit.training.readings import Training

    with tempfile.TemporaryDirectory() as place:
        run = Run(Path(place))
        with Path(place, "terminal").open("w") as file, RunProgress(Console(file=file), "", 1, 1) as progress:
            log = Tracker(run, {"mode": "disabled"}, print).log
            yield Training(
                run, setting.recipe, seed, setting.built, setting.engine, setting.loaded, progress, log, lambda: False
            )


def train_plainly(setting: Setting, seed: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        return timed(trainer_of(setting, Path(place), seed).train)


def trainer_of(setting: Setting, place: Path, seed: int = 0) -> Any:
    stage, loaded = setting.stage, setting.loaded
    return plain_trainer(
        PlainClassifier(loaded.model.get_base_model().model, loaded.head),
        loaded.tokenizer,
        setting.trained,
        place,
        batch_size=stage.batch_size,
        reading_batch_size=setting.recipe.classification.batch_size,
        epochs=stage.epochs,
        learning_rate=stage.learning_rate,
        seed=seed,
    )


# --- reading ---


def measure_reading(setting: Setting, rounds: int) -> Measured:
    """The same texts in three ways: a reading as a run takes it, its passes alone, and the plain trainer's predict.

    A reading starts from texts, and ends with its rows in a Parquet file and their summary in metrics.jsonl; the plain
    one gets tokens that were made before, and gives accuracy and macro F1.
    """
    from toolkit.models.loaded import undisturbed
    from toolkit.probes.classification import log_probabilities, read_rows
    from toolkit.training.class_readings import read_splits

    measured = Measured(len(setting.read), {}, {})
    prompts, given = [row["input_ids"] for row in setting.read], dataset_of(setting.read)
    found: dict[str, list[int]] = {}
    with fresh(setting, 0), training_of(setting, 0) as training, tempfile.TemporaryDirectory() as place:
        trainer = trainer_of(setting, Path(place))

        def reading() -> None:
            read_splits(training, "classification", "learn", 0, 0.0, ("validation",))

        def passes() -> None:
            with undisturbed(setting.loaded, setting.engine):
                log_probabilities(setting.loaded, prompts, setting.recipe.classification.batch_size)

        def predict() -> None:
            found[PLAIN] = trainer.predict(given).predictions.argmax(-1).tolist()

        def turn(name: str, way: Callable[[], None]) -> Callable[[], float]:
            def measure() -> float:
                with watched(setting) as fed:
                    seconds = timed(way)
                measured.padding[name] = fed.share
                return seconds

            return measure

        ways = {TOOLKIT: reading, PASSES: passes, PLAIN: predict}
        measured.seconds = alternate({name: turn(name, way) for name, way in ways.items()}, rounds)
        (path,) = training.run.readings()
        found[TOOLKIT] = [setting.classes.labels.index(row["predicted"]) for row in read_rows(path)]
    measured.differing = sum(one != other for one, other in zip(found[TOOLKIT], found[PLAIN], strict=True))
    return measured
