"""What one run knows at its end, beyond recall: where its bits come from, how they could be got out, how it errs."""

import itertools
import math
import statistics
from typing import Any

from toolkit.metrics import digits, extraction, survival
from toolkit.metrics.statistics import t_interval
from toolkit.reporting import stages
from toolkit.reporting.groups import Group
from toolkit.reporting.learning import Learning, end_of
from toolkit.run_folder import DEEP, JUDGED
from toolkit.stored import Deep, Judged, read_json

HALF = 0.5
FIFTHS = 5
SEVEN = 7
"""Encounters that people are said to need."""


def of_run(group: Group, number: int) -> dict[str, float | None]:
    """Values of a group's run by name; None where a run does not say. Bits are bits an answer."""
    rows, learning = group.readings[number], group.learning[number]
    values = from_rows(group, rows, group.ends[number])
    if learning is not None:
        values |= from_facts(learning)
    return values | stages.of_run(group, number) | from_depth(group, number) | from_judge(group, number)


def from_depth(group: Group, number: int) -> dict[str, float | None]:
    """What `eval_recall --deep` measured, where it was asked for. Raises UserError for a damaged file."""
    path = group.runs[number].path / DEEP
    found = read_json(path, Deep) if path.is_file() else {}
    names = (
        "binding/facts",
        "binding/set_known",
        "binding/binding_known",
        "canary/bits",
        "canary/exact",
        "canary/first",
    )
    return {name: found.get(name) for name in names}


def from_judge(group: Group, number: int) -> dict[str, float | None]:
    """What a judge said of the generated answers of trained facts at the end, where one was asked.

    Raises UserError for a damaged file.
    """
    path = group.runs[number].path / JUDGED
    if not path.is_file():
        return {}
    readings = {reading["reading"]: reading for reading in read_json(path, Judged)["readings"]}
    end = end_of(list(readings), group.after)
    train = readings[end]["splits"].get("train") if end else None
    if not train:
        return {}
    of_all = train["judged"] + train["unparseable"]
    return {
        "judge/score": train["score"],
        "judge/unparseable": train["unparseable"] / of_all if of_all else None,
        "judge/kappa": train["kappa"],
        "judge/auc": train["auc"],
    }


def from_rows(group: Group, rows: list[dict[str, Any]], last: dict[str, Any]) -> dict[str, float | None]:
    """What the summaries of a run's readings say together; `last` is that at the end."""
    before = rows[0].get("recall/bits")
    trained, control, floor = last.get("recall/bits"), last.get("recall/bits_control"), group.data.get("rule_only_bits")
    bits = last.get("recall/bits_memorised")
    parameters, facts = group.info.get("model", {}).get("trainable_parameters"), group.data.get("trained")
    values: dict[str, float | None] = {
        "bits_per_exposure": bits_per_exposure(rows),
        "bits_per_parameter": bits * facts / parameters if bits is not None and facts and parameters else None,
        "structure_by_controls": None, "memory_by_controls": None, "explained_by_rule": None, "beyond_rule": None,
    }  # fmt: skip
    if before is not None and trained is not None and control is not None:
        split = extraction.structure_and_memory(before, control, trained)
        values |= {"structure_by_controls": split.structure, "memory_by_controls": split.memory}
    if before is not None and trained is not None and floor is not None:
        split = extraction.structure_and_memory(before, floor, trained)
        values |= {"explained_by_rule": split.structure, "beyond_rule": split.memory}
    return values


def bits_per_exposure(rows: list[dict[str, Any]]) -> float | None:
    """Bits memorised an answer, over its exposures, at the first reading with half of the answers recalled.

    Later ones would mostly count exposures that had nothing left to teach. None where half is never recalled.
    """
    read = [row for row in rows if row.get("recall/bits_memorised") is not None and row["exposures"] > 0]
    row = next((row for row in read if (row.get("recall/exact") or 0) >= HALF - 1e-6), None)
    return None if row is None else row["recall/bits_memorised"] / row["exposures"]


def from_facts(learning: Learning) -> dict[str, float | None]:
    """What the facts of a run say one by one."""
    trained = learning.answers
    durations = learning.durations
    median = survival.median(survival.kaplan_meier(durations)).value
    values: dict[str, float | None] = {
        "median_exposures": median,
        "recalled_by_7": share_by_seven(learning),
        "low_confidence_tokens": None, "draws_to_discover": None, "recency": None, "brier": None,
        "expected_calibration_error": None,
    }  # fmt: skip
    if not trained:
        return values
    draws = [extraction.draws_to_discover(extraction.sequence_probability(row["bits"]), HALF) for row in trained]
    values["low_confidence_tokens"] = extraction.low_confidence_tokens([row["bits"] for row in trained])
    values["draws_to_discover"] = statistics.median(draws)
    values["recency"] = recency(trained)
    if all(row["confidence"] is not None and row["confidence"] <= 1 for row in trained):
        own = extraction.calibration([row["confidence"] for row in trained], [bool(row["strict"]) for row in trained])
        values |= {"brier": own.brier, "expected_calibration_error": own.expected_error}
    return values


def median_within(group: Group) -> dict[str, Any] | None:
    """The 90 % interval of the exposures until half of the facts are recalled, and whether that is "seven".

    It holds each run's own interval and the t interval over runs, and reaches down by the step between readings: a
    fact was recalled some time after the reading before. None where a run never recalled half; an open end is None.
    """
    medians: list[survival.Median] = []
    steps: list[float] = []
    for learning in group.learning:
        if (
            learning is None
            or not (learning.evenly or learning.one_by_one)
            or (found := survival.median(survival.kaplan_meier(learning.durations, 0.9))).value is None
        ):
            return None
        medians.append(found)
        asked = learning.asked_after()
        # Fed one by one, the readings of a fact are an exposure apart, whatever they are on average.
        steps += [1.0] if learning.one_by_one else [b - a for a, b in itertools.pairwise(asked)]
    values = [median.value for median in medians if median.value is not None]
    spread = t_interval(values, 0.9)
    lows, highs = [median.low for median in medians], [median.high for median in medians]
    if len(values) > 1:
        lows, highs = [*lows, spread.low], [*highs, spread.high]
    low = None if None in lows else min(low for low in lows if low is not None) - max(steps, default=0)
    high = None if None in highs else max(high for high in highs if high is not None)
    # Runs that agree to the reading have no spread to go by.
    agree = len(values) > 1 and spread.low == spread.high
    return {"low": low, "high": high, "equal_to_seven": not agree and survival.equal_to((low, high))}


def share_by_seven(learning: Learning) -> float | None:
    if learning.seen_until < SEVEN:
        return None
    return survival.share_by(learning.durations, SEVEN).share


def recency(rows: list[dict[str, Any]]) -> float | None:
    """Spearman's correlation of how far back a fact was fed last and the bits that it still costs.

    Above 0 the facts fed last are known best. None where all cost the same, or were fed at once.
    """
    known = [(row["since"], row["bits_total"]) for row in rows if row["since"] is not None]
    if len(known) < 3 or len({since for since, _ in known}) < 2 or len({bits for _, bits in known}) < 2:
        return None
    from scipy.stats import spearmanr

    value = float(spearmanr(*zip(*known, strict=True)).statistic)  # type: ignore[union-attr]
    return value if math.isfinite(value) else None


def by_recency(learning: Learning) -> list[float]:
    """Mean bits that trained answers still cost, by when each was fed last: a value a fifth of them, the latest first.

    None where there are fewer answers than fifths, or it is not known when they were fed.
    """
    known = sorted((row["since"], row["bits_total"]) for row in learning.answers if row["since"] is not None)
    if len(known) < FIFTHS:
        return []
    ends = [len(known) * part // FIFTHS for part in range(FIFTHS + 1)]
    return [statistics.fmean(bits for _, bits in known[start:end]) for start, end in itertools.pairwise(ends)]


def by_position(learning: Learning) -> list[float]:
    """Share of trained answers right at each position, everything before it given; none where lengths differ."""
    correct = [row["correct"] for row in learning.answers]
    if not correct or len(set(map(len, correct))) > 1:
        return []
    return [sum(column) / len(column) for column in zip(*correct, strict=True)]


def extractable(learning: Learning) -> list[float]:
    """Share of trained answers whose rest is exact with the first 0, 1, … digits given; none where lengths differ."""
    correct = [row["correct"] for row in learning.answers]
    if not correct or len(set(map(len, correct))) > 1:
        return []
    return [sum(digits.extractable(row, k) for row in correct) / len(correct) for k in range(len(correct[0]))]
