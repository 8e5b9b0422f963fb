"""Time and memory of building, rendering and reading 100 to 100,000 facts, each size in a process of its own."""

import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measuring import Result, Table, Target, finish
from benchmarks.project import GROUP_A, Folder, Quick, make_base, project

SIZES = (100, 1_000, 10_000, 100_000)
QUICK_SIZES = (100, 1_000, 3_000)
PHASES = ("building", "rendering", "reading")
REPEATS = {100: 5, 1_000: 3}
"""Small sizes take milliseconds: the least of a few is kept."""


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """The phone study on a small base (hidden size 128, two layers), so that the toolkit's own share is seen."""
    started = time.perf_counter()
    with project(folder):
        base = make_base(small=True)
        measured = {size: in_new_process(size, base) for size in (QUICK_SIZES if quick else SIZES)}
    finish(result(measured), started, quick=quick)


def in_new_process(size: int, base: str) -> dict[str, float]:
    """Peak memory cannot be reset, so every size has a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, size, base).result()


def measure(size: int, base: str) -> dict[str, float]:
    """Seconds of each phase, and the process's peak in GB: after the base is loaded, and after each phase."""
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from toolkit.models.base import check_base
    from toolkit.models.opening import load_base
    from toolkit.recipe import read_recipe
    from toolkit.studies import build_data
    from toolkit.training.machine import peak_memory_gb
    from toolkit.training.rows import prepare_rows

    changes = ("name=bench-scaling", f"model.base={base}", f"data.count={size}", "data.controls=100")
    recipe = read_recipe(Path(GROUP_A), changes, None)
    found = check_base(recipe)
    assert found is not None
    loaded = load_base(engine, found, recipe.model, full=False)
    loaded.model.eval()
    seconds = {"peak of loading": peak_memory_gb()}
    rows = {}
    for _ in range(REPEATS.get(size, 1)):
        started = time.perf_counter()
        built = build_data(recipe, 0)
        keep_least(seconds, "building", started)
        started = time.perf_counter()
        rows = prepare_rows(loaded.tokenizer, recipe, built, 0)
        keep_least(seconds, "rendering", started)
        seconds["peak of rendering"] = peak_memory_gb()
        started = time.perf_counter()
        read(engine, loaded, recipe, built)
        keep_least(seconds, "reading", started)
    assert len(rows["learn"]) == size
    return seconds | {"peak": peak_memory_gb()}


def keep_least(seconds: dict[str, float], phase: str, started: float) -> None:
    seconds[phase] = min(seconds.get(phase, math.inf), time.perf_counter() - started)


def read(engine, loaded, recipe, built) -> None:  # type: ignore[no-untyped-def]
    """One reading as a run takes it: every example and its foil, the file of rows, the summary."""
    from toolkit.probes.recall import Moment, read_recall, summarise, write_reading

    now = Moment("bench-scaling", 0, "learn", 0, 0.0, {}, {})
    asked, size = recipe.model, recipe.recall.batch_size
    rows = read_recall(loaded, engine, asked, built.examples, now, batch_size=size, with_text=False)
    write_reading(Path("probes/bench-scaling.parquet"), rows)
    summarise(rows, built.entropy_bits, whole_line=False)


def slope(measured: dict[int, dict[str, float]], phase: str) -> float:
    """Of log time against log facts, between the last two sizes: 1 is linear."""
    before, last = sorted(measured)[-2:]
    return math.log(measured[last][phase] / measured[before][phase]) / math.log(last / before)


def result(measured: dict[int, dict[str, float]]) -> Result:
    rows = [
        [f"{size:,}", *(f"{of[phase]:.3g}" for phase in PHASES), f"{of['peak of rendering']:.2f}", f"{of['peak']:.2f}"]
        for size, of in measured.items()
    ]
    slopes = {phase: slope(measured, phase) for phase in PHASES}
    rows.append(["slope of the last two", *(f"{slopes[phase]:.2f}" for phase in PHASES), "", ""])
    columns = ["facts", "building, s", "rendering, s", "a reading, s", "peak to rendering, GB", "peak of all, GB"]
    targets = [Target(f"slope of {phase}", "<=", 1.1, value) for phase, value in slopes.items()]
    targets.append(Target("peak memory, GB", "<=", 4, max(of["peak"] for of in measured.values())))
    return Result("scaling", [Table(columns, rows)], targets, {str(size): of for size, of in measured.items()})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
