"""What a comparison costs: fifteen runs of 100 facts, and thirty groups of 100,000 rows of recall each."""

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import Result, Table, Target, finish
from benchmarks.project import ROOT, Folder, Quick, project
from tests.planted import plant

FEW, MANY = "15 runs of 100 facts", "30 groups of 100,000 rows"
"""At full size; --quick compares fewer."""


def main(quick: Quick = False, folder: Folder = None) -> None:
    """Planted runs, compared by the real command."""
    started = time.perf_counter()
    with project(folder):
        for group in "ABC":
            for seed in range(2 if quick else 5):
                plant_run(f"Few{group}", seed, facts=100)
        few = compared("checkpoints/Few*")
        for number in range(3 if quick else 30):
            # Eleven readings of trained facts and as many controls.
            plant_run(f"Many{number:02d}", 0, facts=100 if quick else 4546)
        many = compared("checkpoints/Many*")
    rows = [
        ["15 runs of 100 facts", f"{few[0]:.1f}", f"{few[1]:.2f}"],
        ["30 groups", f"{many[0]:.1f}", f"{many[1]:.2f}"],
    ]
    targets = [
        Target(f"{FEW}, seconds", "<=", 20, few[0]),
        Target(f"{MANY}, seconds", "<=", 120, many[0]),
        Target(f"{MANY}, GB", "<=", 2, many[1]),
    ]
    values = {"few": few, "many": many}
    finish(
        Result("comparing", [Table(["compared", "s", "most memory, GB"], rows)], targets, values), started, quick=quick
    )


def plant_run(name: str, seed: int, facts: int) -> None:
    rng = random.Random(f"{name}{seed}")
    plant(name, seed, [rng.randint(1, 12) for _ in range(facts)], digits=11)


def compared(pattern: str) -> tuple[float, float]:
    """Seconds, and the most memory (GB) of the command."""
    begun = time.perf_counter()
    arguments = [sys.executable, "-m", "toolkit.compare", pattern, "--json"]
    child = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"compare ended with {child.returncode}")
    unit = 2**30 if sys.platform == "darwin" else 2**20
    assert isinstance(used, resource.struct_rusage)
    assert Path("reports").is_dir()
    return time.perf_counter() - begun, used.ru_maxrss / unit


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
