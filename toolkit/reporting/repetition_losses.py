"""What losses say of learning by heart: steps at epoch boundaries, where memorising begins, and facts injected."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import UserError
from toolkit.metrics.staircase import SAME, Onset, Staircase, onset
from toolkit.metrics.staircase import staircase as stairs_of
from toolkit.reporting.groups import Group, setting
from toolkit.reporting.learning import stage_of
from toolkit.reporting.repetition_prompts import When, numbered
from toolkit.reporting.summary import spread, within_run
from toolkit.run_folder import Run

Summary = dict[str, Any]
LN2 = math.log(2)
READ = ["id", "split", "part", "variant", "epoch", "step", "bits", "bits_total", "eos_bits"]
HELD_OUT = ("validation", "control")
"""What is never trained: examples held out, or else controls."""
TALK = "conversations"
"""The part that is trained beside facts, where facts are injected."""


# --- steps at epoch boundaries ---


def staircase(group: Group) -> list[Summary]:
    """Of every stage of two epochs or more, the drop of the training loss at each boundary, over runs or of one run."""
    by_run = [stages_of(run) for run in group.runs]
    return [
        over_runs(stage, [stages[stage] for stages in by_run if stage in stages])
        for stage in dict.fromkeys(stage for stages in by_run for stage in stages)
    ]


class Update(NamedTuple):
    """One update with its training loss."""

    epoch: float
    step: int
    loss: float


class Stairs(NamedTuple):
    start: float
    """Epochs of the stages before it."""
    updates: list[Update]
    found: Staircase

    def last_before(self, boundary: int) -> int:
        """The update that ends the stage's epoch of this number."""
        return max(update.step for update in self.updates if update.epoch <= self.start + boundary + SAME)


def stages_of(run: Run) -> dict[str, Stairs]:
    found, start = {}, 0.0
    for stage, updates in training_loss(run).items():
        known = [update for update in updates if math.isfinite(update.loss)]
        try:
            stairs = stairs_of([update.epoch - start for update in known], [update.loss for update in known])
        except ValueError:
            # Epochs that do not ascend: rows that somebody put together.
            continue
        if stairs.steps:
            found[stage] = Stairs(start, known, stairs)
        start = max(update.epoch for update in updates)
    return found


def training_loss(run: Run) -> dict[str, list[Update]]:
    """Each stage's updates, in the order of the stages."""
    found: dict[str, list[Update]] = {}
    for row in run.rows("train", needed=("epoch", "step")):
        if row.get("train/loss") is not None:
            found.setdefault(row.get("stage") or "", []).append(Update(row["epoch"], row["step"], row["train/loss"]))
    return found


def over_runs(stage: str, runs: list[Stairs]) -> Summary:
    boundaries = []
    for place in range(min(len(run.found.steps) for run in runs)):
        steps = [run.found.steps[place] for run in runs]
        drop = spread([step.drop for step in steps], all_or_none=True) | {"over": "runs"}
        if len(steps) == 1:
            drop |= {"low": steps[0].low, "high": steps[0].high, "over": "updates"}
        boundaries.append(
            {"epoch": runs[0].start + steps[0].epoch, "step": runs[0].last_before(steps[0].epoch), "drop": drop,
             "updates": list(steps[0].updates)}
        )  # fmt: skip
    totals, falls, shares = (
        spread([getattr(run.found, name) for run in runs], all_or_none=True) for name in ("total", "fall", "share")
    )
    totals["over"] = "runs"
    only = runs[0].found
    if len(runs) == 1 and only.total is not None and only.error is not None:
        half = t_of(only) * only.error
        totals |= {"low": only.total - half, "high": only.total + half, "over": "updates"}
    return {"stage": stage, "boundaries": boundaries, "total": totals, "fall": falls, "share": shares}


def recipe_stages(group: Group) -> list[Summary]:
    """The stages of a group's recipe, in whichever way it writes them."""
    found = setting(group, "stage") or setting(group, "stages") or []
    every = [found, *found.values()] if isinstance(found, dict) else found
    return [stage for stage in every if isinstance(stage, dict) and ("method" in stage or "loss_on" in stage)]


def t_of(stairs: Staircase) -> float:
    """97.5 % point for the sum of drops that share no update (Satterthwaite 1946, "An Approximate Distribution of
    Estimates of Variance Components")."""
    from scipy.special import stdtrit

    parts = [(step.error**2, step.freedom) for step in stairs.steps if step.error and step.freedom]
    if not parts:
        return 0.0
    return float(stdtrit(math.fsum(v for v, _ in parts) ** 2 / math.fsum(v**2 / n for v, n in parts), 0.975))


# --- trained examples against held-out ones ---


class Losses(NamedTuple):
    """Each example's loss at every reading of one run, in nats a token, the end mark included."""

    split: str
    """What is held out."""
    when: list[tuple[float, str, int]]
    """Epoch, stage and update of each reading."""
    trained: list[list[float]]
    held_out: list[list[float]]
    tokens: tuple[list[int], list[int]]

    def onset(self) -> Onset:
        return onset(self.trained, self.held_out, *self.tokens)


def memorisation(group: Group) -> Summary | None:
    """Loss of trained and of held-out examples by reading, where the gap between them begins, and where held-out loss
    is lowest; None where no run has both kinds at every reading.
    """
    runs = [(run.label, losses) for run in group.runs if (losses := losses_of(run)) is not None]
    if not runs:
        return None
    found = [(label, losses, losses.onset()) for label, losses in runs]
    per_run = [
        {"run": label, "held_out": losses.split, "begins": None if own.begins is None else losses.when[own.begins][0],
         "lowest": losses.when[own.lowest][0], "last": losses.when[-1][0],
         "lowest_loss": own.gaps[own.lowest].held_out, "last_loss": own.gaps[-1].held_out,
         "last_gap": [own.gaps[-1].gap, own.gaps[-1].low, own.gaps[-1].high],
         "examples": [len(losses.trained[0]), len(losses.held_out[0])]}
        for label, losses, own in found
    ]  # fmt: skip
    return {
        "held_out": runs[0][1].split,
        "begins": spread([run["begins"] for run in per_run], all_or_none=True),
        "lowest": spread([run["lowest"] for run in per_run]),
        "lowest_loss": spread([run["lowest_loss"] for run in per_run]),
        "last_loss": spread([run["last_loss"] for run in per_run]),
        "readings": by_reading([(losses, own) for _, losses, own in found]),
        "per_run": per_run,
    }


def by_reading(found: list[tuple[Losses, Onset]]) -> list[Summary]:
    """Means over the runs that were all read at an epoch, in its order among the readings."""
    readings: dict[When, list[tuple[int, Any]]] = {}
    for losses, own in found:
        whens = numbered((epoch, stage) for epoch, stage, _ in losses.when)
        for when, (_, _, step), gap in zip(whens, losses.when, own.gaps, strict=True):
            readings.setdefault(when, []).append((step, gap))
    rows = [
        {"epoch": when.epoch, "stage": when.stage, "step": there[0][0]}
        | {name: spread([getattr(gap, name) for _, gap in there]) for name in ("trained", "held_out", "gap")}
        for when, there in sorted(readings.items(), key=lambda item: (item[0].epoch, item[1][0][0]))
        if len(there) == len(found)
    ]
    if len(found) == 1:
        # Of one run that over its examples is known.
        for row, gap in zip(rows, found[0][1].gaps, strict=True):
            row["gap"] |= {"low": gap.low, "high": gap.high, "over": "examples"}
    return rows


def losses_of(run: Run) -> Losses | None:
    """None where there are not two examples of each kind that every reading read; damaged readings are left out, and
    are named where recall is reported.
    """
    readings = []
    for path in run.readings("recall"):
        try:
            readings.append((stage_of(path), read_losses(path)))
        except UserError:
            continue
    readings = [(stage, rows) for stage, rows in readings if rows]
    if not readings:
        return None
    there = [{key: row for row in rows for key in [(row["split"], row["id"])]} for _, rows in readings]
    shared = [key for key in there[0] if all(key in rows for rows in there)]
    for split in HELD_OUT:
        held = [key for key in shared if key[0] == split]
        parts = {there[0][key]["part"] for key in held}
        trained = [key for key in shared if key[0] == "train" and there[0][key]["part"] in parts]
        if min(len(held), len(trained)) > 1:
            when = [(round(rows[0]["epoch"], 6), stage, rows[0]["step"]) for stage, rows in readings]
            values = [[[rows[key]["nats"] for key in keys] for rows in there] for keys in (trained, held)]
            tokens = [[there[0][key]["tokens"] for key in keys] for keys in (trained, held)]
            return Losses(split, when, values[0], values[1], (tokens[0], tokens[1]))
    return None


def read_losses(path: Path) -> list[Summary]:
    """Examples in their own words with their loss in nats a token and their tokens; only those whose loss is a number.

    Raises UserError where the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if lacking := [name for name in READ if name not in file.schema_arrow.names]:
                raise UserError(f"{path} has no column {lacking[0]}.")
            table = file.read(columns=READ)
        # Only how many there are: thousands of examples have millions of bits.
        counts = pc.list_value_length(table["bits"])  # pyright: ignore[reportAttributeAccessIssue]
        rows = table.drop_columns(["bits"]).append_column("count", counts).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}).") from None
    found = []
    for row in rows:
        cost = (row["bits_total"] or 0) + (row["eos_bits"] or 0)
        if row["variant"] in (None, "plain") and row["count"] and row["bits_total"] is not None and math.isfinite(cost):
            tokens = row["count"] + (row["eos_bits"] is not None)
            found.append(row | {"tokens": tokens, "nats": cost * LN2 / tokens})
    return found


# --- facts ---


def injected(group: Group) -> Summary | None:
    """Exact recall at the end of facts that only this training holds, and of controls; None in other studies."""
    if not any(f"recall/read_{TALK}" in row and "recall/exact_control" in row for row in group.ends):
        return None
    trained, control = group.last("recall/exact"), group.last("recall/exact_control")
    both = [None if one is None or other is None else one - other for one, other in zip(trained, control, strict=True)]
    found = {"trained": spread(trained), "control": spread(control), "difference": spread(both)}
    if len(group.runs) == 1:
        found["trained"]["wilson"] = within_run(group, "recall/exact")
        found["control"]["wilson"] = within_run(group, "recall/exact_control")
    return found
