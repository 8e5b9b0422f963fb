"""Which difference between groups is real: one primary outcome, tested by runs, and what the design can show."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from toolkit.metrics.testing import MOST_ALL_PAIRS, holm, permutation_test, seeds_needed, smallest_p
from toolkit.reporting.groups import Group

ALPHA = 0.05
MOST_SENTENCES = 15
"""Contrasts that are said one by one: those of six groups."""


class Outcome(NamedTuple):
    """One number a run, by which groups are compared."""

    name: str
    said: str
    form: Callable[[float], str]
    less_is_more: bool = False
    """Whether a smaller value means that more was learned."""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


OUTCOMES = {
    outcome.name: outcome
    for outcome in (
        Outcome("exposures_to_recall", "mean exposures to recall", "{:.2f}".format, less_is_more=True),
        Outcome("recall/exact", "exact recall at the end", percent),
        Outcome("recall/bits_memorised", "bits memorised an answer at the end", "{:.2f}".format),
        Outcome("recall/share_memorised", "share of the entropy memorised at the end", percent),
        Outcome("loss/digit_nats", "loss in nats a digit at the end", "{:.4f}".format, less_is_more=True),
    )
}


def primary_outcome(groups: list[Group]) -> tuple[str, list[str]]:
    """The outcome that the recipes declare, and what is to be said where they do not agree on one."""
    declared = {group.name: declared_by(group) for group in groups}
    first = declared[groups[0].name]
    if len(set(declared.values())) == 1:
        return first, []
    listed = ", ".join(f"{name} {outcome}" for name, outcome in declared.items())
    return first, [f"the recipes declare different primary outcomes ({listed}); that of {groups[0].name} is taken"]


def declared_by(group: Group) -> str:
    compare = group.runs[0].recipe.get("compare", {})
    name = compare.get("primary") if isinstance(compare, dict) else None
    return name if name in OUTCOMES else "exposures_to_recall"


def values_of(group: Group, outcome: str, until: float | None) -> list[float | None]:
    """The outcome of each run; None where a run has none."""
    if outcome != "exposures_to_recall":
        return group.last(outcome)
    return [
        None if learning is None or until is None else learning.restricted_mean(until) for learning in group.learning
    ]


def common_end(groups: list[Group]) -> float | None:
    """Exposures up to which every run of every group was followed; restricted means go so far."""
    ends = [learning.seen_until for group in groups for learning in group.learning if learning is not None]
    return min(ends) if ends and min(ends) > 0 else None


def contrasts(groups: list[Group], outcome: str, until: float | None) -> list[dict[str, Any]]:
    """Every pair of groups (of many groups: each with the first) on one outcome, p values corrected by Holm."""
    every = itertools.combinations(groups, 2)
    pairs = list(every) if len(groups) <= MOST_ALL_PAIRS else [(groups[0], other) for other in groups[1:]]
    values = {group.name: values_of(group, outcome, until) for group in groups}
    results = [contrast(a, b, values[a.name], values[b.name]) for a, b in pairs]
    for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
        result["holm"] = corrected
        result["shown"] = corrected is not None and corrected <= ALPHA
    return results


def contrast(a: Group, b: Group, first: list[float | None], second: list[float | None]) -> dict[str, Any]:
    """Two groups on one outcome: b - a with its interval, and p; no p where a group has one run, or a run no value."""
    paired = are_paired(a, b)
    result: dict[str, Any] = {"a": a.name, "b": b.name, "paired": paired, "difference": None, "low": None, "high": None}
    result |= {"p": None, "exact": None, "smallest_p": smallest_p(len(first), len(second), paired)}
    known = [value for value in (*first, *second) if value is not None and math.isfinite(value)]
    if len(known) < len(first) + len(second):
        return result | {"why_not": "a run has no value"}
    one, two = [float(value or 0) for value in first], [float(value or 0) for value in second]
    tested = permutation_test(one, two, paired)
    result["difference"] = tested.difference
    if min(len(one), len(two)) < 2:
        return result | {"why_not": "one run says nothing about others"}
    return result | {"low": tested.low, "high": tested.high, "p": tested.p, "exact": tested.exact}


def are_paired(a: Group, b: Group) -> bool:
    """Whether runs of one seed have the very same facts: then it is their differences that are tested.

    Groups of different patterns share only which index is trained, and other numbers: these runs are not pairs. That
    a seed's order and initialisation are shared makes the unpaired test, if anything, careful.
    """
    facts = [[run.info.get("data", {}).get("digest") for run in group.runs] for group in (a, b)]
    return a.seeds == b.seeds and None not in facts[0] and facts[0] == facts[1]


def limits(groups: list[Group], results: list[dict[str, Any]]) -> list[str]:
    """What this design cannot show, in words."""
    said = []
    fewest = min(len(group.runs) for group in groups)
    if not results:
        return ["one group: there is nothing to compare it with"]
    if fewest == 1:
        said.append("a group has one run: nothing is known about other seeds, and no difference can be shown")
    for paired in sorted({result["paired"] for result in results}):
        mine = [result for result in results if result["paired"] == paired]
        least = max(result["smallest_p"] for result in mine)
        needed = seeds_needed(len(results), paired)
        if least * len(results) > ALPHA and fewest > 1:
            kind = "paired runs" if paired else "runs"
            said.append(
                f"{fewest} {kind} a group: the smallest p that they can give is {least:.3g}, and with Holm over"
                f" {len(results)} contrast{'s' if len(results) > 1 else ''} no difference can be shown at 5 %;"
                f" {needed} seeds can"
            )
    return said


def in_words(groups: list[Group], outcome: str, results: list[dict[str, Any]], spreads: dict[str, Any]) -> list[str]:
    """The verdict: a sentence a contrast, with the values of both groups."""
    about = OUTCOMES[outcome]
    if len(results) > MOST_SENTENCES:
        shown = sum(result["shown"] for result in results)
        said = f"{shown} of {len(results)} groups differ from {groups[0].name}, with Holm over all of them"
        return [f"{about.said.capitalize()}: {said}; the table of tests has each."]
    return [sentence(about, result, spreads[result["a"]], spreads[result["b"]]) for result in results]


def sentence(about: Outcome, result: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> str:
    said = about.said.capitalize()
    values = f"{result['a']} {interval(about, a)}, {result['b']} {interval(about, b)}"
    if result["p"] is None:
        return f"{said}: {values}. No test: {result['why_not']}."
    wide = f"[{about.form(result['low'])}, {about.form(result['high'])}]" if result["low"] is not None else ""
    difference = f"difference {about.form(result['difference'])} {wide}".strip()
    p = f"p = {result['p']:.3g}, with Holm {result['holm']:.3g}"
    if not result["shown"]:
        return f"{said}: {values}. No difference shown ({difference}; {p})."
    ahead = result["b"] if (result["difference"] < 0) == about.less_is_more else result["a"]
    word = "faster" if about.name == "exposures_to_recall" else "more" if not about.less_is_more else "better"
    return f"{said}: {values}. Difference shown: {ahead} learned {word} ({difference}; {p})."


def interval(about: Outcome, spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "–"
    value = about.form(spread["mean"])
    return value if spread["low"] is None else f"{value} [{about.form(spread['low'])}, {about.form(spread['high'])}]"
