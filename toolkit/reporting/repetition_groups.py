"""The numbers on what a group's runs repeated: at the end, and against the loss of checkpoints; contrasts of groups."""

import math
from dataclasses import replace
from typing import Any

from toolkit.metrics.association import FEWEST_RUNS, across_runs
from toolkit.probes.repetition_report import MEASURES, over_prompts
from toolkit.reporting import repetition_losses as losses
from toolkit.reporting import repetition_prompts as prompts
from toolkit.reporting.groups import Group
from toolkit.reporting.repetition_rank import Ranked, over_runs, ranked
from toolkit.reporting.repetition_read import Repeated
from toolkit.reporting.summary import spread

Summary = dict[str, Any]
LOSS = "repetition/reference_nats"
"""The mean loss of the prompts' reference answers, wherever the prompts are from."""
SOURCES = ("repetition/held_out_nats", "repetition/trained_nats")
LENGTH = "repetition.max_new_tokens"
POOLED = ("distinct_1", "distinct_2", "distinct_texts")
"""Measures of all texts together, which have no interval over prompts."""


def with_readings(groups: list[Group]) -> list[Group]:
    """The groups with the rows of their readings of repetition in place of those of recall, a list a run."""
    needed = ("step", "epoch", "exposures")
    return [
        replace(
            group, readings=[[with_loss(row) for row in run.rows("repetition", needed=needed)] for run in group.runs]
        )
        for group in groups
    ]


def axis_of(through: list[Group]) -> str:
    """What readings of several groups are set side by side by: "updates" where they agree in these and not in epochs,
    as where one group's data are repeated and another's are not; else "epochs"."""
    shared = {}
    for name in ("step", "epoch"):
        places = [{round(row[name], 6) for rows in group.readings for row in rows} for group in through]
        shared[name] = len(set.intersection(*(of for of in places if of)) - {0}) if any(places) else 0
    return "updates" if shared["step"] > shared["epoch"] else "epochs"


def by_updates(through: list[Group]) -> list[Group]:
    """The same readings, each at its update in place of its epoch."""
    return [
        replace(group, readings=[[row | {"epoch": row["step"]} for row in rows] for rows in group.readings])
        for group in through
    ]


def with_loss(row: Summary) -> Summary:
    known = [row[name] for name in SOURCES if row.get(name) is not None]
    return row | {LOSS: known[0]} if known else row


def of_group(group: Group, through: Group) -> Summary:
    """through: the same group with its readings of repetition."""
    read = [bool(rows or of_run.readings) for rows, of_run in zip(through.readings, group.repeated, strict=True)]
    ends = [end_of(rows, group.after) for rows in through.readings]
    before = [next((row for row in rows if row["step"] == 0), {}) for rows in through.readings]
    keys = dict.fromkeys(key for row in ends for key in row if key.startswith("repetition/"))
    infos = (run.info.get("repetition") for run in group.runs)
    known: Summary = next((info for info in infos if isinstance(info, dict)), {})
    return {
        "runs": [run.label for run, there in zip(group.runs, read, strict=True) if there],
        "without": [run.label for run, there in zip(group.runs, read, strict=True) if not there],
        "source": known.get("source"),
        "prompts": known.get("prompts"),
        "epochs": [row.get("epoch") for row in ends if row],
        "final": final(group, ends, list(keys)),
        "before": {key: spread([row.get(key) for row in before]) for key in keys},
        "within": prompts.within(group),
        "across": {name: across(through, name) for name in prompts.DECODINGS},
        "frequency": prompts.frequency(group),
        "decoding": prompts.decoding(group),
        "staircase": losses.staircase(group),
        "memorisation": losses.memorisation(group),
        "injected": losses.injected(group),
    }


def final(group: Group, ends: list[Summary], keys: list[str]) -> Summary:
    """Each measure at the end over runs; of one run that was read, with its interval over prompts too."""
    found = {key: spread([row.get(key) for row in ends]) for key in keys}
    read = [end for of_run in group.repeated if (end := prompts.end_of(of_run, group.after)) is not None]
    if len([row for row in ends if row]) != 1 or len(read) != 1:
        return found
    for key, own in found.items():
        decoding, _, name = key.removeprefix("repetition/").partition("/")
        if own["mean"] is not None and name in MEASURES and name not in POOLED:
            inside = over_prompts(read[0].of(decoding), name)
            own["within_run"] = inside and {end: inside[end] for end in ("low", "high", "n")}
    return found


def end_of(rows: list[Summary], stage: str | None) -> Summary:
    """The row that outcomes are of; empty where a run has none."""
    of_stage = [row for row in rows if row.get("stage") == stage]
    return (of_stage or rows or [{}])[-1]


def across(through: Group, decoding: str) -> Summary:
    """Correlation over a run's checkpoints of its mean repetition with the loss of its reference answers, alone and
    with the step held; the mean over runs. Checkpoints of one run are no independent points: it has no interval."""
    key = f"repetition/{decoding}/{prompts.MAIN}"
    plain, held, steps = [], [], []
    for rows in through.readings:
        repeated, loss, step = (
            {place: row[name] for place, row in enumerate(rows) if is_number(row.get(name))}
            for name in (key, LOSS, "step")
        )
        names = prompts.REPETITION, prompts.LOSS, prompts.STEP
        plain.append(ranked(repeated, loss, names=names))
        held.append(ranked(repeated, loss, step, names))
        steps.append(ranked(repeated, step, names=(prompts.REPETITION, prompts.STEP, "")))
    with_rows = [place for place, rows in enumerate(through.readings) if rows]

    def of(found: list[Ranked]) -> Summary:
        return over_runs([found[place] for place in with_rows], "")

    straight = of(held)
    if straight["rho"] is not None:
        # Both may bend alike in time, which the runs share: an interval over them would show that bend.
        straight |= {"low": None, "high": None, "why_not": "a bend in time that both share is still in it"}
    return {"loss": of(plain), "loss_step_held": straight, "step": of(steps), "between_runs": between(through, key)}


def between(through: Group, key: str) -> Summary:
    """Whether runs of a higher loss than others repeat more at the same reading: nothing that all share is in it."""
    found: Summary = {"rho": None, "p": None, "runs": 0, "readings": 0, "why_not": None}
    by_run = [
        {when: (row[LOSS], row[key]) for when, row in zip(whens_of(rows), rows, strict=True)
         if is_number(row.get(LOSS)) and is_number(row.get(key))}
        for rows in through.readings
    ]  # fmt: skip
    by_run = [rows for rows in by_run if rows]
    if len(by_run) < FEWEST_RUNS:
        return found | {"runs": len(by_run), "why_not": f"it takes {FEWEST_RUNS} runs"}
    if len({prompts_of(read) for read in through.repeated if read.readings}) > 1:
        return found | {"runs": len(by_run), "why_not": "its runs were asked different prompts"}
    shared = [when for when in by_run[0] if all(when in rows for rows in by_run)]
    losses, repeated = ([[rows[when][place] for when in shared] for rows in by_run] for place in (0, 1))
    own = across_runs(losses, repeated)
    if own is None:
        return found | {"runs": len(by_run), "why_not": "the runs do not differ at any reading"}
    return found | {"rho": own.rho, "p": own.p, "runs": own.runs, "readings": own.readings}


def whens_of(rows: list[Summary]) -> list[prompts.When]:
    return prompts.numbered((row["epoch"], row.get("stage") or "") for row in rows)


def prompts_of(read: Repeated) -> frozenset[str]:
    return frozenset(row["context"] + row["prompt"] for row in read.readings[-1].rows)


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
