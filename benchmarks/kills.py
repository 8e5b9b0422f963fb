"""Kills a real run at random moments, again and again, and compares what it ends with with an unbroken one."""

import json
import os
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from benchmarks.killed_runs import Attempt, attempt_command, attempt_forked, contents, where_it_fell
from benchmarks.measuring import Result, Table, Target, finish
from benchmarks.project import Folder, Quick, make_base, project

IMPORTING = 0.05
"""Share of kills that hit a command of its own in its first seconds; the others hit a fork that has all imports."""
IMPORT_SECONDS = 8.0


@dataclass
class Tally:
    """What happened until now."""

    kills: int = 0
    places: Counter[str] = field(default_factory=Counter)
    steps: list[int] = field(default_factory=list)
    finished: int = 0
    kills_of_finished: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def main(
    kills: Annotated[int, typer.Option(help="How many kills.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    quick: Quick = False,
    folder: Folder = None,
) -> None:
    """A run of 40 updates with dropout, a save every 3 steps, a reading every epoch, logged to W&B offline."""
    started = time.perf_counter()
    kills = min(kills, 8) if quick else kills
    with project(folder):
        base = make_base(small=quick)
        os.environ["WANDB_MODE"] = "offline"
        from toolkit.models import open_engine

        # A fork has all imports; it comes before the first threads of torch, which would not survive it.
        open_engine("unsloth")
        import wandb  # noqa: F401

        import toolkit.training.train  # noqa: F401

        whole = attempt_forked("bench-whole", base, None)
        if whole.status != 0:
            raise RuntimeError(f"the unbroken run ended with {whole.status}:\n{whole.said}")
        tally = kill_until(kills, base, whole, random.Random(seed))
    finish(result(tally, whole, seed), started, quick=quick)


def kill_until(kills: int, base: str, whole: Attempt, rng: random.Random) -> Tally:
    """Runs, one after another, each started again after every kill until it finishes; the last is left to finish."""
    expected = contents("bench-whole")
    tally = Tally()
    number = 0
    while tally.kills < kills:
        number += 1
        name, before = f"bench-killed-{number}", tally.kills
        while True:
            attempt = one_attempt(name, base, whole, rng, kill=tally.kills < kills)
            if attempt.status == 0:
                break
            if not attempt.killed:
                tally.differences.append(f"{name} ended by itself with {attempt.status}: {attempt.said[-600:]}")
                return tally
            tally.kills += 1
            place, step = where_it_fell(name, attempt)
            tally.places[place] += 1
            tally.steps.append(step)
        tally.finished += 1
        tally.kills_of_finished.append(tally.kills - before)
        tally.differences += compare(name, expected, contents(name))
        print(f"{name}: finished after {tally.kills - before} kills ({tally.kills} of {kills})", flush=True)
    return tally


def one_attempt(name: str, base: str, whole: Attempt, rng: random.Random, *, kill: bool) -> Attempt:
    """Start a run or go on with it, and kill it at a moment drawn uniformly, if it lives until then."""
    if not kill:
        return attempt_forked(name, base, None)
    if rng.random() < IMPORTING:
        return attempt_command(name, base, rng.uniform(0, IMPORT_SECONDS))
    # Up to the length of the whole run: what is left of a resumed one is shorter, and may finish before.
    return attempt_forked(name, base, rng.uniform(0, whole.seconds))


def compare(name: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each thing that is not as in the unbroken run."""
    return [f"{name}: other {what}" for what in expected if expected[what] != found[what]]


def result(tally: Tally, whole: Attempt, seed: int) -> Result:
    rows = [[place, str(count)] for place, count in tally.places.most_common()]
    rows.append(["all kills", str(tally.kills)])
    steps = Table(["step reached when it was killed", "kills"], histogram(tally.steps))
    outcome = Table(
        ["outcome", ""],
        [
            ["runs finished", str(tally.finished)],
            ["kills each of them", ", ".join(map(str, tally.kills_of_finished))],
            ["differences from the unbroken run", str(len(tally.differences))],
            *[[re.sub(r"\s+", " ", line), ""] for line in tally.differences],
        ],
    )
    targets = [Target("differences from the unbroken run", "==", 0, len(tally.differences))]
    values = {"seed": seed, "kills": tally.kills, "places": dict(tally.places), "steps": tally.steps}
    values |= {"unbroken_seconds": whole.seconds, "differences": json.loads(json.dumps(tally.differences))}
    return Result("kills", [Table(["where a kill fell", "kills"], rows), steps, outcome], targets, values)


def histogram(steps: list[int]) -> list[list[str]]:
    counts = Counter(min(step // 10 * 10, 30) for step in steps)
    return [[f"{start} to {start + 9 if start < 30 else 40}", str(counts[start])] for start in range(0, 40, 10)]


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
