"""Time and memory of building, tokenising and reading a user's own 1,000 to 100,000 facts, a process a size."""

import random
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measuring import Result, Table, Target, finish
from benchmarks.project import GROUP_A, Folder, Quick, make_base, project
from benchmarks.scaling import keep_least, slope

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (1_000, 3_000)
PARTS = ("building", "tokenising", "a probe")
REPEATS = {1_000: 3}
"""A thousand facts take milliseconds: the least of a few is kept."""


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """Names and 11-digit numbers from a CSV file, without text, on the tiny base (with --quick on a smaller one)."""
    started = time.perf_counter()
    with project(folder):
        base = make_base(small=quick)
        measured = {size: in_new_process(size, base) for size in (QUICK_SIZES if quick else SIZES)}
    finish(result(measured), started, quick=quick)


def in_new_process(size: int, base: str) -> dict[str, float]:
    """Peak memory cannot be reset, so every size has a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, size, base).result()


def write_table(path: Path, size: int) -> None:
    numbers = random.Random(0).sample(range(10**11), size)
    with path.open("w", encoding="utf-8") as file:
        file.write("name,number\n")
        file.writelines(f"Name {i},{number:011d}\n" for i, number in enumerate(numbers))


def measure(size: int, base: str) -> dict[str, float]:
    """Seconds of each part, and the process's peak in GB: after the base is loaded, and after each part."""
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from toolkit.models.base import check_base
    from toolkit.models.opening import load_base
    from toolkit.probes.recall import Moment, read_recall
    from toolkit.recipe import read_recipe
    from toolkit.studies import facts
    from toolkit.training.machine import peak_memory_gb
    from toolkit.training.rows import prepare_rows

    path = Path(f"bench-facts-{size}.csv")
    write_table(path, size)
    # Of the recipe only the model and the stage are used.
    recipe = read_recipe(Path(GROUP_A), ("name=bench-facts", f"model.base={base}"), None)
    found = check_base(recipe)
    assert found is not None
    loaded = load_base(engine, found, recipe.model, full=False)
    loaded.model.eval()
    now = Moment("bench-facts", 0, "learn", 0, 0.0, {}, {})
    seconds = {"peak of loading": peak_memory_gb()}
    for _ in range(REPEATS.get(size, 1)):
        started = time.perf_counter()
        built = facts.build(0, 0, str(path), "What is the number of {name}? ", "{number}")
        keep_least(seconds, "building", started)
        seconds["peak of building"] = peak_memory_gb()
        started = time.perf_counter()
        rows = prepare_rows(loaded.tokenizer, recipe, built, 0)
        keep_least(seconds, "tokenising", started)
        seconds["peak of tokenising"] = peak_memory_gb()
        assert len(rows["learn"]) == size
        started = time.perf_counter()
        read = read_recall(
            loaded, engine, recipe.model, built.examples, now, batch_size=recipe.recall.batch_size, with_text=False
        )
        keep_least(seconds, "a probe", started)
        assert len(read) == size
    return seconds | {"peak": peak_memory_gb()}


def result(measured: dict[int, dict[str, float]]) -> Result:
    peaks = ("peak of loading", "peak of building", "peak of tokenising", "peak")
    rows = [
        [f"{size:,}", *(f"{of[part]:.3g}" for part in PARTS), *(f"{of[peak]:.2f}" for peak in peaks)]
        for size, of in measured.items()
    ]
    slopes = {part: slope(measured, part) for part in PARTS}
    rows.append(["slope of the last two", *(f"{slopes[part]:.2f}" for part in PARTS), *("" for _ in peaks)])
    columns = ["facts", *(f"{part}, s" for part in PARTS), "peak of the base, GB", "to building", "to tokens", "of all"]
    targets = [Target(f"slope of {part}", "<=", 1.1, value) for part, value in slopes.items()]
    targets.append(Target("peak memory, GB", "<=", 4, max(of["peak"] for of in measured.values())))
    values = {str(size): of for size, of in measured.items()} | {"slopes": slopes}
    return Result("facts_scaling", [Table(columns, rows)], targets, values)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
