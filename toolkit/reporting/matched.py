"""Less information, or a rule that helps? What groups say together whose answers carry equally many bits."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from toolkit.reporting.groups import Group, differing_keys, setting
from toolkit.reporting.verdict import EVERY_OUTCOME, Outcome, change

NEAR = 0.1
"""Bits an answer; a palindrome of 11 digits and a random number of 6 both have log2 10^6."""
ABOUT_NUMBERS = {"name", "seeds", "data.pattern", "data.digits", "data.prefix"}
"""Keys of a recipe in which groups may differ and still be told apart by information and rule."""


def in_words(groups: list[Group], outcome: str, results: list[dict[str, Any]]) -> list[str]:
    """A sentence for every two groups of as many bits by other rules, and one for each difference they take apart."""
    by_name = {group.name: group for group in groups}
    same = [equally_much(by_name[r["a"]], by_name[r["b"]], r) for r in results if r["p"] is not None]
    return [*filter(None, same), *taken_apart(groups, EVERY_OUTCOME[outcome], results)]


def equally_much(a: Group, b: Group, result: dict[str, Any]) -> str | None:
    if pattern(a) == pattern(b) or not as_many(a, b) or not alike(a, b):
        return None
    found = "the difference shown is not one of information" if result["shown"] else "no difference is shown"
    same = f"carry the same {a.data['rule_only_bits']:.1f} bits an answer"
    return f"{a.name} and {b.name} {same}, by another {with_length('rule', a, b)}: {found}."


def taken_apart(groups: list[Group], about: Outcome, results: list[dict[str, Any]]) -> Iterator[str]:
    """From a rule with many bits to another with few, by way of the first rule with few: information, then the rule.

    Means over runs add up exactly, so the two steps are the whole difference.
    """
    known = {(r["a"], r["b"]): r for r in results} | {(r["b"], r["a"]): turned(r) for r in results}
    for start, between, end in itertools.permutations(groups, 3):
        if not alike(start, between) or not alike(between, end):
            continue
        if pattern(start) != pattern(between) or pattern(between) == pattern(end):
            continue
        if as_many(start, between) or not as_many(between, end):
            continue
        whole, less, rule = (known.get((x.name, y.name)) for x, y in ((start, end), (start, between), (between, end)))
        if whole is None or less is None or rule is None or less["low"] is None or rule["low"] is None:
            continue
        yield (
            f"From {start.name} to {end.name}, {about.said} change by {change(about, whole)}:"
            f" {change(about, less)} by the {with_length('amount of information', start, between)}"
            f" ({start.name} to {between.name}), and {change(about, rule)} by the {with_length('rule', between, end)}"
            f" at equal information ({between.name} to {end.name})."
        )


def with_length(what: str, a: Group, b: Group) -> str:
    return what if a.data.get("answer_digits") == b.data.get("answer_digits") else f"{what} and length"


def alike(a: Group, b: Group) -> bool:
    """Whether two groups' recipes differ in nothing but what their numbers look like."""
    return set(differing_keys(a, b)) <= ABOUT_NUMBERS


def turned(result: dict[str, Any]) -> dict[str, Any]:
    """The contrast seen from its other end."""
    less = {key: None if result[key] is None else 0.0 - result[key] for key in ("difference", "low", "high")}
    return result | {"difference": less["difference"], "low": less["high"], "high": less["low"]}


def pattern(group: Group) -> Any:
    return setting(group, "data.pattern")


def as_many(a: Group, b: Group) -> bool:
    """Whether an answer of the one carries as many bits as one of the other."""
    one, other = a.data.get("rule_only_bits"), b.data.get("rule_only_bits")
    return one is not None and other is not None and math.isclose(one, other, abs_tol=NEAR)
