"""Which group repeats itself less, tested by runs: at the end, and through training.

Arms of a study end where little is repeated any more; what they differ in shows on the way. There a model may repeat
nothing because it gives one short answer to whatever it is asked: how many texts differ stands beside it.
"""

from typing import Any, NamedTuple

from toolkit.metrics.testing import contrasts_among, holm
from toolkit.reporting.groups import Group, setting
from toolkit.reporting.repetition_groups import end_of, is_number
from toolkit.reporting.summary import spread
from toolkit.reporting.verdict import ALPHA, EVERY_OUTCOME, OF_REPETITION, THROUGH, contrast

Summary = dict[str, Any]
Row = dict[str, Any]
LENGTH = "repetition.max_new_tokens"
FEWEST = 2
"""Readings of which a mean says more than the last one."""


class Reading(NamedTuple):
    """One on the way, at its epoch and update since its stage began."""

    epoch: float
    step: int
    value: float


class Places(NamedTuple):
    """Where all runs of a group were read: by epochs, and by updates. Packed rows make epochs of unlike length."""

    epochs: list[float]
    steps: list[int]

    @property
    def number(self) -> int:
        return max(len(self.epochs), len(self.steps))


def outcomes(groups: list[Group], through: list[Group]) -> Summary:
    """Every outcome with its contrasts, exploratory, with Holm over those of an outcome.

    groups: as they are; through: the same with their readings of repetition.
    """
    found = {}
    for name in OF_REPETITION:
        places: dict[str, Places] = {}
        if name in THROUGH:
            values = {}
            for group, readings in zip(groups, through, strict=True):
                by_run = [on_the_way(rows, THROUGH[name], group.after) for rows in readings.readings]
                values[group.name], places[group.name] = means(by_run)
        else:
            values = {
                group.name: [end_of(rows, group.after).get(name) for rows in readings.readings]
                for group, readings in zip(groups, through, strict=True)
            }
        known = [group for group in groups if any(value is not None for value in values[group.name])]
        results = [compared(a, b, name, values, places) for a, b in contrasts_among(known)]
        for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
            result["holm"], result["shown"] = corrected, corrected is not None and corrected <= ALPHA
        if results:
            spreads = {group.name: spread(values[group.name], all_or_none=True) for group in groups}
            found[name] = {"said": EVERY_OUTCOME[name].said, "groups": spreads, "contrasts": results}
            if places:
                found[name]["readings"] = {group.name: places[group.name].number for group in known}
    return found


def on_the_way(rows: list[Row], measure: str, stage: str | None) -> list[Reading]:
    """A run's readings after training began, of the stage that outcomes are of.

    What is read once more, as the best weights are put back, is no reading on the way.
    """
    rows = [row for row in rows if row.get("best_step") is None]
    stage = end_of(rows, stage).get("stage")
    of_stage = [place for place, row in enumerate(rows) if row.get("stage") == stage]
    start = rows[of_stage[0] - 1] if of_stage and of_stage[0] else {"epoch": 0.0, "step": 0}
    return [
        Reading(round(row["epoch"] - start["epoch"], 6), row["step"] - start["step"], row[measure])
        for row in (rows[place] for place in of_stage)
        if row["step"] > start["step"] and is_number(row.get(measure))
    ]


def means(by_run: list[list[Reading]]) -> tuple[list[float | None], Places]:
    """Each run's mean over the readings that all runs of the group have, and which these are; None of one alone."""
    read = [run for run in by_run if run]
    places = Places(
        sorted(set.intersection(*({reading.epoch for reading in run} for run in read)) if read else ()),
        sorted(set.intersection(*({reading.step for reading in run} for run in read)) if read else ()),
    )
    if places.number < FEWEST:
        return [None] * len(by_run), places
    # Of one epoch there may be several, as between the rounds of an exam.
    name = "step" if len(places.steps) > len(places.epochs) else "epoch"
    shared = set(getattr(places, f"{name}s"))
    values = [[one.value for one in run if getattr(one, name) in shared] for run in by_run]
    return [sum(of_run) / len(of_run) if of_run else None for of_run in values], places


def compared(
    a: Group, b: Group, name: str, values: dict[str, list[float | None]], places: dict[str, Places]
) -> Summary:
    """A contrast, without a test where the texts of the two do not compare."""
    result = contrast(a, b, name, None, values[a.name], values[b.name])
    lengths = [setting(group, LENGTH) for group in (a, b)]
    if lengths[0] != lengths[1]:
        # A longer text repeats more, whatever wrote it.
        why_not = f"their texts were cut after {lengths[0]} and {lengths[1]} tokens"
    elif places and not alike(places[a.name], places[b.name]):
        counts = f"{places[a.name].number} and {places[b.name].number} readings"
        why_not = f"their texts were read at other epochs and updates ({counts}), or too short to repeat in some"
    else:
        return result
    return result | dict.fromkeys(("difference", "low", "high", "p", "exact")) | {"why_not": why_not}


def alike(a: Places, b: Places) -> bool:
    """Whether two groups were read at the same epochs, or after the same updates, at each reading that counts."""
    both = ((a.epochs, b.epochs), (a.steps, b.steps))
    return any(one == other and len(one) == a.number == b.number for one, other in both)
