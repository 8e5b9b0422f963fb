"""Every benchmark, one after another, each in a process of its own: `python -m benchmarks.all` (half an hour)."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.project import Quick

EACH = (
    "repetition_speed",
    "startup", "second_recipe", "training_step", "reading", "comparing", "forgetting_speed", "simulations", "scaling",
    "kills",
)  # fmt: skip
"""The short ones first."""


def main(quick: Quick = False) -> None:
    """Run all benchmarks; each prints its tables and targets, and keeps them in benchmarks/results/ at full size."""
    failed = []
    for number, name in enumerate(EACH, start=1):
        print(f"\n[{number}/{len(EACH)}] {name}", flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], check=False)
        print(
            f"[{number}/{len(EACH)}] {name}: {time.monotonic() - started:.0f} s, status {done.returncode}", flush=True
        )
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
