"""Says in numbers what was measured: a group's values at the end of training, with their intervals, and its floors."""

import math
from collections.abc import Callable
from typing import Any

from toolkit.metrics.statistics import t_interval, wilson
from toolkit.metrics.testing import MOST_ALL_PAIRS
from toolkit.reporting import answers, matched, sensitivity
from toolkit.reporting.design import differing, notes_on_runs, unequal, unlike_seeds
from toolkit.reporting.groups import Group, first_exposures
from toolkit.reporting.knowledge import by_position, by_recency, extractable, median_within, of_run
from toolkit.reporting.learning import Learning
from toolkit.reporting.verdict import (
    EVERY_OUTCOME,
    OF_VALIDATION,
    OUTCOMES,
    common_end,
    contrasts,
    in_words,
    limits,
    primary_outcome,
    values_of,
)
from toolkit.run_folder import DEEP

REACHED = (0.5, 0.95)
"""Shares of exact recall whose first exposure count is reported."""
COUNTED = {
    "recall/exact": "recall/read",
    "recall/exact_control": "recall/read_control",
    "test/accuracy": "test/read",
    "validation/accuracy": "validation/read",
}
"""Shares of the examples that a reading read, and where it says how many these were."""

SAID = (
    "verdict", "mcnemar", "forgotten", "repeated", "controls", "information", "sensitivity", "examined",
    "exposures_needed", "later_stages", "stored",
)  # fmt: skip
"""What is said in words, in this order; of some there is nothing to say, or no such part."""


def summarise(groups: list[Group], unread: list[str]) -> dict[str, Any]:
    """What summary.json holds. Intervals are as computed: those of a share may reach below 0 or above 1."""
    notes = [f"{name}: no reading of recall lies there; left out" for name in unread]
    ends = {group.name: max(row["exposures"] for row in group.ends) for group in groups}
    if len(set(ends.values())) > 1:
        listed = ", ".join(f"{name} {count:g}" for name, count in ends.items())
        notes.append(f"the last readings were taken after different numbers of exposures: {listed}")
    until = common_end(groups)
    primary, disagreement = primary_outcome(groups)
    held_out = [
        name for name in OF_VALIDATION if any(value is not None for group in groups for value in group.last(name))
    ]
    names = dict.fromkeys([primary, *OUTCOMES, *held_out])
    outcomes = {name: outcome_summary(groups, name, until) for name in names}
    results = outcomes[primary]["contrasts"]
    summaries = [group_summary(group) for group in groups]
    differ, spreads = differing(groups), outcomes[primary]["groups"]
    return {
        "verdict": [disagreement] * (disagreement is not None) + in_words(groups, primary, until, results, spreads),
        "information": matched.in_words(groups, primary, results),
        "sensitivity": sensitivity.in_words(differ, primary, spreads),
        "examined": answers.examined(groups, results, primary),
        "exposures_needed": answers.exposures_needed(summaries),
        "later_stages": answers.later_stages(summaries),
        "stored": stored(summaries),
        "primary": primary,
        "declared": disagreement is None,
        "until_exposures": until,
        "limits": limits(groups, results),
        "outcomes": outcomes,
        "interval": "95 % t interval on run means; null for one run",
        "groups": summaries,
        "settings_that_differ": differ,
        "notes": notes + warnings_of(groups),
    }


def stored(summaries: list[dict[str, Any]]) -> list[str]:
    """How much information that was, in a sentence, where the entropy of the answers is known, and groups are few."""
    said = []
    if len(summaries) > MOST_ALL_PAIRS:
        return said
    for what, key, form in (
        ("bits memorised an answer, of its entropy", "recall/bits_memorised", "{:.1f} of {:.1f}"),
        ("bits memorised an answer and exposure, until half are recalled", "bits_per_exposure", "{:.1f}"),
    ):
        means = {s["group"]: (s["final"] | s["knowledge"]).get(key, {}).get("mean") for s in summaries}
        entropies = {s["group"]: s["entropy_bits"] for s in summaries}
        known = [f"{name} {form.format(mean, entropies[name])}" for name, mean in means.items()
                 if mean is not None and entropies[name]]  # fmt: skip
        if known:
            said.append(f"{what.capitalize()}: {', '.join(known)}.")
    wrong = {s["group"]: s["final"].get("recall/interference", {}).get("mean") for s in summaries}
    known = [f"{name} {100 * mean:.1f} %" for name, mean in wrong.items() if mean is not None]
    if known:
        said.append(f"Never-trained prompts answered with a trained answer: {', '.join(known)}.")
    return said


def outcome_summary(groups: list[Group], name: str, until: float | None) -> dict[str, Any]:
    """One outcome of every group and its contrasts; only the primary one is a test, the others are exploratory."""
    return {
        "said": EVERY_OUTCOME[name].said,
        "groups": {group.name: spread(values_of(group, name, until), all_or_none=True) for group in groups},
        "contrasts": contrasts(groups, name, until),
    }


def warnings_of(groups: list[Group]) -> list[str]:
    """Unequal designs: what differs beside what the groups are about."""
    said = unequal(
        updates={group.name: max(row["step"] for row in group.ends) for group in groups},
        trained_facts={group.name: group.data.get("trained") for group in groups},
        digits_an_answer={group.name: group.data.get("answer_digits") for group in groups},
    )
    any_facts = any(learning is not None for group in groups for learning in group.learning)
    for group in groups:
        for run, learning in zip(group.runs, group.learning, strict=True):
            if learning is not None:
                said += learning.trouble
            elif any_facts:
                said.append(f"{run.label}: no reading of its facts is there")
    for group in groups:
        deep = sum((run.path / DEEP).is_file() for run in group.runs)
        if 0 < deep < len(group.runs):
            said.append(
                f"{group.name}: eval_recall --deep was run on {deep} of {len(group.runs)} runs, and is left out"
            )
    return said + unlike_seeds(groups, "facts")


def group_summary(group: Group) -> dict[str, Any]:
    keys = dict.fromkeys(key for row in group.ends for key in row if key.startswith(("loss/", "recall/")))
    final = {key: spread(group.last(key)) for key in keys}
    for key in COUNTED:
        if key in final and len(group.runs) == 1:
            final[key]["wilson"] = within_run(group, key)
    return {
        "group": group.name,
        "runs": len(group.runs),
        "seeds": group.seeds,
        "model": {key: group.info.get("model", {}).get(key) for key in ("base", "dtype", "engine")},
        "stages": group.info.get("stages"),
        "trained": group.data.get("trained"),
        "controls": group.data.get("controls"),
        "answer_digits": group.data.get("answer_digits"),
        "entropy_bits": group.entropy_bits,
        "rule_only_bits": group.data.get("rule_only_bits"),
        "floors": {
            "loss/digit_nats": group.floor_digit_nats,
            "recall/digits": group.data.get("rule_only_digits"),
        },
        "exposures": [row["exposures"] for row in group.ends],
        "epochs": [row["epoch"] for row in group.ends],
        "final": final,
        "first_exposures": {
            f"{share:g}": spread([first_exposures(rows, share) for rows in group.readings], all_or_none=True)
            for share in REACHED
        },
        "knowledge": knowledge(group),
        "median_90": median_within(group),
        "by_position": over_runs(group, by_position),
        "by_recency": over_runs(group, by_recency),
        "extractable": over_runs(group, extractable),
        "notes": notes_on(group),
    }


def knowledge(group: Group) -> dict[str, Any]:
    """What the runs know at their end, by name, with intervals over runs."""
    runs = [of_run(group, number) for number in range(len(group.runs))]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: spread([run.get(name) for run in runs], all_or_none=True) for name in names}


def over_runs(group: Group, measure: Callable[[Learning], list[float]]) -> list[float]:
    """The mean over runs of a list that every run has in one length; empty where they have not."""
    lists = [measure(learning) for learning in group.learning if learning is not None]
    if not lists or len(set(map(len, lists))) > 1:
        return []
    return [math.fsum(column) / len(column) for column in zip(*lists, strict=True)]


def spread(values: list[float | None], all_or_none: bool = False) -> dict[str, Any]:
    """Mean and t interval over runs. `all_or_none`: no mean of the runs that got there when others did not."""
    known = [value for value in values if value is not None]
    mean = t_interval([] if all_or_none and len(known) < len(values) else known)
    return {
        "mean": number(mean.mean),
        "low": number(mean.low),
        "high": number(mean.high),
        "n": len(known),
        "per_run": [None if value is None else number(value) for value in values],
    }


def number(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


def within_run(group: Group, key: str) -> dict[str, Any] | None:
    """The Wilson interval of a share of the examples that one run's last reading read."""
    share, count = group.last(key)[0], int(group.last(COUNTED[key])[0] or 0)
    if share is None or not count:
        return None
    low, high = wilson(round(share * count), count)
    return {"low": low, "high": high, "successes": round(share * count), "of": count, "within": "the run"}


def notes_on(group: Group) -> list[str]:
    notes = notes_on_runs(group)
    ends = [f"{row['exposures']:g}" for row in group.ends]
    if len(set(ends)) > 1:
        notes.append(f"its runs were last read after different numbers of exposures ({', '.join(ends)})")
    exact = group.last("recall/exact")
    if len(exact) > 1 and len(set(exact)) == 1 and exact[0] is not None:
        notes.append(
            f"every run ended at {100 * exact[0]:.1f} % exact recall: an interval without width says that these runs"
            " agree, not that the next one must"
        )
    if any(value is not None and not math.isfinite(value) for value in group.last("loss/digit_nats")):
        notes.append("a run's loss is no number at the end: it diverged")
    if group.entropy_bits is None:
        notes.append("the entropy of its answers is not known: no bits memorised")
    if group.floor_digit_nats is None:
        notes.append("no rule-only floor is known for its answers")
    return notes
