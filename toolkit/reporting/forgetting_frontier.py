"""Memory gained against ability lost: what each run bought with its training, and what it paid."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

from toolkit.reporting.groups import Group
from toolkit.reporting.summary import spread
from toolkit.reporting.verdict import MEAN_CHANGE

Summary = dict[str, Any]
FEWEST = 3
"""Readings that make a curve: before training, and two more."""


class Memory(NamedTuple):
    """What is counted as memory gained."""

    key: str
    said: str
    times: float
    """What its rise is multiplied by: -1 where a fall is a gain, 100 for points."""
    lowest: float = -math.inf
    """What is below counts as that."""


OF_FACTS = (
    # Below 0 a model has yet to learn the rule: what it gains until then is no memory.
    Memory("recall/bits_memorised", "bits memorised an answer", 1.0, 0.0),
    Memory("loss/answer_nats_validation", "fall of the loss on rows that chose the epoch (nats a token)", -1.0),
    Memory("recall/exact", "exact recall gained (points)", 100.0),
)
OF_CLASSIFIERS = (Memory("validation/accuracy", "accuracy gained on the validation texts (points)", 100.0),)


def summary(groups: list[Group], found: Summary) -> Summary | None:
    """Points, means and lines of the groups whose mean change is known; None where no memory is known of all of them.

    Ability lost is minus the mean change over tasks, in points. found: what was forgotten, by group.
    """
    known = [group for group in groups if found[group.name]["mean_change"]["mean"] is not None]
    kinds = OF_CLASSIFIERS if groups[0].classifies else OF_FACTS
    for memory in kinds if known else ():
        drawn = {group.name: of_group(group, found[group.name], memory) for group in known}
        if all(points is not None for points in drawn.values()):
            return {"memory": memory.key, "said": memory.said, "groups": drawn}
    return None


def of_group(group: Group, found: Summary, memory: Memory) -> Summary | None:
    """None where the memory of a run is not known before training or at its end."""
    change = found["mean_change"]
    runs = []
    for place, value in enumerate(change["per_run"]):
        if value is None:
            continue
        gained = gain(group, place, memory, final_row(group, place))
        if gained is None:
            return None
        runs.append({"run": group.runs[place].label, "gained": gained, "lost": lost(value)})
    low, high = (None if change[end] is None else lost(change[end]) for end in ("high", "low"))
    return {
        "runs": runs,
        "gained": spread([run["gained"] for run in runs]),
        "lost": {"mean": lost(change["mean"]), "low": low, "high": high, "over": change["over"]},
        "line": line(group, memory),
    }


def lost(change: float) -> float:
    """Points; without the minus of a zero."""
    return 0.0 - 100 * change


def final_row(group: Group, place: int) -> Summary:
    """The reading of the weights that were measured at the end: not of the last ones where the best were kept."""
    steps = {asked.step for asked in group.forgotten[place].main.values()}
    rows = [row for row in group.readings[place] if row.get("step") in steps]
    return rows[-1] if rows else group.readings[place][-1]


def gain(group: Group, place: int, memory: Memory, row: Summary) -> float | None:
    first = group.readings[place][0] if group.readings[place] else {}
    before, now = first.get(memory.key), row.get(memory.key)
    if before is None or now is None or not (math.isfinite(before) and math.isfinite(now)):
        return None
    return memory.times * (max(now, memory.lowest) - max(before, memory.lowest))


def line(group: Group, memory: Memory) -> list[list[float]]:
    """Epoch, memory gained and ability lost through training: means at the epochs at which every run was read."""
    lines = []
    for place, rows in enumerate(forgetting_rows(group)):
        # Of a stage without an update, the later reading is of the same weights.
        readings = {row["step"]: row for row in group.readings[place]}
        there = [(row, readings.get(row["step"])) for row in rows if row.get(MEAN_CHANGE) is not None]
        known = [(row, gain(group, place, memory, reading)) for row, reading in there if reading]
        lines.append({row["epoch"]: (gained, lost(row[MEAN_CHANGE])) for row, gained in known if gained is not None})
    lines = [points for points in lines if points]
    epochs = sorted(set.intersection(*map(set, lines))) if lines else []
    means = [
        [epoch, *(math.fsum(points[epoch][axis] for points in lines) / len(lines) for axis in (0, 1))]
        for epoch in epochs
    ]
    return means if means and means[0][0] == 0 else [[0.0, 0.0, 0.0], *means]


def forgetting_rows(group: Group) -> list[list[Summary]]:
    """The rows of the readings of abilities, a list a run."""
    return [run.rows("forgetting", needed=("step", "epoch", "exposures")) for run in group.runs]


def from_zero(rows: list[Summary]) -> list[Summary]:
    """The same with what no row before training needs to say: that nothing had changed yet."""
    changes = {key: 0.0 for row in rows for key in row if key == MEAN_CHANGE or key.endswith("/kl_from_base")}
    return [changes | row if row["epoch"] == 0 else row for row in rows]


def with_readings(groups: list[Group]) -> list[Group]:
    """The groups with those readings in place of their own, where they are enough for a curve."""
    others = [replace(group, readings=[from_zero(rows) for rows in forgetting_rows(group)]) for group in groups]
    keys = {key for group in others for rows in group.readings for row in rows for key in row}
    drawn = [key for key in keys if key == MEAN_CHANGE or key.endswith("/kl_from_base")]
    return others if any(len(group.curve(key)) >= FEWEST for group in others for key in drawn) else []
