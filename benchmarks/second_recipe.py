"""What a call with two recipes saves over two calls: imports and base are loaded once."""

import shutil
import time
from pathlib import Path

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, ratio, spread, timed
from benchmarks.project import GROUP_A, Folder, Quick, changing, command, make_base, project

GROUP_B = "recipes/tiny/groupB.toml"
ONE, TWO = "one call, two recipes", "two calls, a recipe each"


def main(
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """Groups A and B on the tiny base, an epoch each, in turn: the training is the same, so the rest is compared."""
    started = time.perf_counter()
    with project(folder):
        changes = changing(f"model.base={make_base(small=quick)}", "stage.learn.epochs=1", "recall.every=stage")
        # Recipes keep their names: a change holds for all recipes of a call. What was trained before goes.
        ways = {ONE: lambda: once([GROUP_A, GROUP_B], changes), TWO: lambda: twice(changes)}
        measured = alternate(ways, 1 if quick else 3, warm=0)
        remove_runs()
    finish(result(measured), started, quick=quick)


def once(recipes: list[str], changes: list[str]) -> float:
    remove_runs()
    return timed(lambda: command("toolkit.run", *recipes, *changes))


def twice(changes: list[str]) -> float:
    return once([GROUP_A], changes) + once([GROUP_B], changes)


def remove_runs() -> None:
    for name in ("tiny-GroupA", "tiny-GroupB"):
        shutil.rmtree(Path("checkpoints", name), ignore_errors=True)


def result(measured: dict[str, list[float]]) -> Result:
    middle = medians(measured)
    rows = [[name, f"{middle[name]:.1f}", spread(measured[name])] for name in measured]
    saved = middle[TWO] - middle[ONE]
    rows.append(["saved by one call", f"{saved:.1f}", ""])
    targets = [Target("one call over two", "<=", 0.7, ratio(measured, ONE, TWO))]
    columns = ["two groups, an epoch each", "s (median)", "s (range)"]
    return Result("second_recipe", [Table(columns, rows)], targets, {"seconds": measured, "saved": saved})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
