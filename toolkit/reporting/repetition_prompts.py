"""Repetition prompt by prompt: whether it goes with the loss of the prompt's answer, with frequency, with decoding."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from toolkit.metrics.statistics import t_interval
from toolkit.reporting.groups import Group
from toolkit.reporting.repetition_rank import NOTHING, Ranked, Values, over_runs, places_of, ranked, within_strata
from toolkit.reporting.repetition_read import GREEDY, SAMPLED, Reading, Repeated
from toolkit.reporting.summary import number, spread

Summary = dict[str, Any]
DECODINGS = (GREEDY, SAMPLED)
MAIN = "seq_rep_4"
MEASURES = (MAIN, "char_seq_rep_4")
COUNTS = {
    "asked": "how often training asks the question",
    "mentioned": "how many training texts contain the question",
    "familiarity": "how many training texts have its words",
}
"""What is known of a prompt's frequency in the training data, in words."""
REPETITION, LOSS, STEP = "repetition", "the loss", "the step"


class When(NamedTuple):
    """A reading's place in a run, the same in all runs of a recipe."""

    epoch: float
    stage: str
    nth: int
    """Of the readings of a stage at one epoch."""


def numbered(readings: Iterable[tuple[float, str]]) -> list[When]:
    """The places of a run's readings, of which epoch and stage are given, in their order. Not by update: packed rows
    make epochs of unlike many updates."""
    counted: Counter[tuple[float, str]] = Counter()
    found = []
    for epoch, stage in readings:
        at = round(epoch, 6), stage
        found.append(When(*at, counted[at]))
        counted[at] += 1
    return found


def places(read: Repeated) -> dict[When, Reading]:
    whens = numbered((reading.epoch, reading.stage) for reading in read.readings)
    return dict(zip(whens, read.readings, strict=True))


def end_of(read: Repeated, stage: str | None) -> Reading | None:
    """The reading that outcomes are of: the last one of the stage that the recipe names, or of all."""
    of_stage = [reading for reading in read.readings if reading.stage == stage]
    return (of_stage or list(read.readings) or [None])[-1]


def trained(read: Repeated) -> list[Reading]:
    """Without those before training, which know nothing of the data."""
    return [reading for reading in read.readings if reading.step > 0]


def mean_by_prompt(values: list[Values]) -> Values:
    """Of prompts that every reading has a value of, the mean over readings."""
    shared = set.intersection(*map(set, values)) if values else set()
    return {
        prompt: math.fsum(of[prompt] for of in values) / len(values) for prompt in (values or [{}])[0]
        if prompt in shared
    }  # fmt: skip


# --- loss ---


def within(group: Group) -> Summary:
    """Correlation over prompts of repetition and the loss of the prompt's reference answer, at each checkpoint alone.

    "pooled": of each prompt's mean rank over the readings after training began. Ranks, since in means of the measures
    the first reading, at which most is repeated, would count for nearly all.
    """
    found = {}
    steps = steps_of(group)
    for decoding in DECODINGS:
        for measure in MEASURES:
            by_run = [
                {when: by_loss(reading, decoding, measure) for when, reading in places(read).items()}
                for read in group.repeated
            ]
            last = [end_of(read, group.after) for read in group.repeated]
            found[f"{decoding}/{measure}"] = {
                "readings": [
                    {"epoch": when.epoch, "step": steps[when], "stage": when.stage, "nth": when.nth}
                    | over_runs([run.get(when, NOTHING) for run in by_run], "prompts")
                    for when in in_order(by_run)
                ],
                "last": over_runs(
                    [NOTHING if reading is None else by_loss(reading, decoding, measure) for reading in last], "prompts"
                ),
                "pooled": over_runs(
                    [pooled_by_loss(read, decoding, measure) for read in group.repeated], "prompts"
                ),
            }  # fmt: skip
    return found


def in_order(by_run: list[dict[When, Ranked]]) -> list[When]:
    return sorted(dict.fromkeys(when for run in by_run for when in run), key=lambda when: when.epoch)


def steps_of(group: Group) -> dict[When, int]:
    return {when: reading.step for read in reversed(group.repeated) for when, reading in places(read).items()}


def by_loss(reading: Reading, decoding: str, measure: str) -> Ranked:
    repeated, loss = reading.by_prompt(decoding, measure), reading.of_prompts("reference_nats")
    found = ranked(repeated, loss, names=(REPETITION, LOSS, ""))
    return found._replace(texts=reading.different(decoding, repeated.keys() & loss.keys()))


def pooled_by_loss(read: Repeated, decoding: str, measure: str) -> Ranked:
    repeated = mean_by_prompt([places_of(reading.by_prompt(decoding, measure)) for reading in trained(read)])
    loss = mean_by_prompt([places_of(reading.of_prompts("reference_nats")) for reading in trained(read)])
    found = ranked(repeated, loss, names=(REPETITION, LOSS, ""))
    return found._replace(texts=most_different(read, decoding, repeated.keys() & loss.keys()))


def most_different(read: Repeated, decoding: str, prompts: Collection[str]) -> int | None:
    """Of the readings after training began, at the one of the most."""
    return max((reading.different(decoding, prompts) for reading in trained(read)), default=None)


# --- frequency ---


def frequency(group: Group) -> Summary:
    """Correlation over prompts of repetition and each count: at the last reading, of mean ranks over readings, and
    those with the loss of the reference answer held. Only prompts that begin their conversation, ranked within their
    script: Chinese units are counted otherwise than words, and texts in the two repeat otherwise.
    """
    found: Summary = {}
    names = REPETITION, "the count", LOSS
    for name in COUNTS:
        for decoding in DECODINGS:
            last, pooled, held = [], [], []
            for read in group.repeated:
                end, after = end_of(read, group.after), trained(read)
                if end is None:
                    continue
                counts, scripts = end.first_turns(name), end.scripts()
                repeated = only(end.by_prompt(decoding, MAIN), counts)
                counts = only(counts, end.by_prompt(decoding, MAIN))
                texts = end.different(decoding, counts)
                by_script = within_strata(counts, scripts)
                last.append(ranked(within_strata(repeated, scripts), by_script, names=names)._replace(texts=texts))
                means, loss = (
                    mean_by_prompt([within_strata(only(values, counts), scripts) for values in of])
                    for of in ([reading.by_prompt(decoding, MAIN) for reading in after],
                               [reading.of_prompts("reference_nats") for reading in after])
                )  # fmt: skip
                texts = most_different(read, decoding, counts)
                pooled.append(ranked(means, by_script, names=names)._replace(texts=texts))
                held.append(ranked(means, by_script, loss, names)._replace(texts=texts))
            found.setdefault(name, {})[decoding] = {
                "last": over_runs(last, "prompts"),
                "pooled": over_runs(pooled, "prompts"),
                "pooled_loss_held": over_runs(held, "prompts"),
            }
    return found


def only(values: Values, those: Collection[str]) -> Values:
    return {key: value for key, value in values.items() if key in those}


# --- decoding ---


def decoding(group: Group) -> Summary | None:
    """Greedy less sampled, paired by prompt: at the last reading, at each, and the mean over readings after training
    began; over runs, or of one run over its prompts. None where not both were written.
    """
    ends = [end_of(read, group.after) for read in group.repeated]
    last = apart([[] if end is None else [end] for end in ends])
    if last is None:
        return None
    by_run = [places(read) for read in group.repeated]
    steps = steps_of(group)
    readings = [
        {"epoch": when.epoch, "step": step, "stage": when.stage, "nth": when.nth, **found}
        for when, step in sorted(steps.items(), key=lambda item: item[0].epoch)
        if (found := apart([[run[when]] if when in run else [] for run in by_run])) is not None
    ]
    return last | {"all": apart([trained(read) for read in group.repeated]), "readings": readings}


def apart(runs: list[list[Reading]]) -> Summary | None:
    """Of some readings of each run, the mean over them by prompt."""
    pairs = []
    for readings in runs:
        one, other = (mean_by_prompt([reading.by_prompt(name, MAIN) for reading in readings]) for name in DECODINGS)
        pairs.append([(one[prompt], other[prompt]) for prompt in one if prompt in other])
    known = [of_run for of_run in pairs if of_run]
    if not known:
        return None
    differences = [[greedy - sampled for greedy, sampled in of_run] for of_run in known]
    found = spread([math.fsum(of_run) / len(of_run) for of_run in differences]) | {"over": "runs"}
    if len(known) == 1:
        own = t_interval(differences[0])
        found |= {"low": number(own.low), "high": number(own.high), "over": "prompts"}
    means = [[math.fsum(values) / len(of_run) for values in zip(*of_run, strict=True)] for of_run in known]
    return {
        GREEDY: spread([of_run[0] for of_run in means]),
        SAMPLED: spread([of_run[1] for of_run in means]),
        "difference": found,
        "prompts": [len(of_run) for of_run in known],
    }
