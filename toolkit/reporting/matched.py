"""Less information, or a rule that helps? What groups say together whose answers carry equally many bits."""

import math
from collections.abc import Iterator
from typing import Any

from toolkit.reporting.groups import Group
from toolkit.reporting.verdict import OUTCOMES, Outcome, interval

NEAR = 0.1
"""Bits an answer; a palindrome of 11 digits and a random number of 6 both have log2 10^6."""


def in_words(groups: list[Group], outcome: str, results: list[dict[str, Any]]) -> list[str]:
    """A sentence for every two groups of as many bits by other rules, and one for each difference they take apart."""
    by_name = {group.name: group for group in groups}
    same = [equally_much(by_name[r["a"]], by_name[r["b"]], r) for r in results if r["p"] is not None]
    return [*filter(None, same), *taken_apart(groups, OUTCOMES[outcome], results)]


def equally_much(a: Group, b: Group, result: dict[str, Any]) -> str | None:
    if pattern(a) == pattern(b) or not as_many(a, b):
        return None
    kind = "rule" if a.data.get("answer_digits") == b.data.get("answer_digits") else "rule and length"
    found = "the difference shown is" if result["shown"] else "no difference is shown that is"
    bits = a.data["rule_only_bits"]
    same = f"{a.name} and {b.name} carry the same {bits:.1f} bits an answer, by another {kind}"
    return f"{same}: {found} not one of information."


def taken_apart(groups: list[Group], about: Outcome, results: list[dict[str, Any]]) -> Iterator[str]:
    """From a rule with many bits to another with few, by way of the first rule with few: information, then the rule.

    Means over runs add up exactly, so the two steps are the whole difference.
    """
    known = {(r["a"], r["b"]): r for r in results} | {(r["b"], r["a"]): turned(r) for r in results}
    for start in groups:
        for between in groups:
            for end in groups:
                if pattern(start) != pattern(between) or pattern(between) == pattern(end):
                    continue
                if as_many(start, between) or not as_many(between, end):
                    continue
                whole, less, rule = (
                    known.get((x.name, y.name)) for x, y in ((start, end), (start, between), (between, end))
                )
                if whole is None or less is None or rule is None or less["low"] is None or rule["low"] is None:
                    continue
                yield (
                    f"From {start.name} to {end.name}, {about.said} change by {about.form(whole['difference'])}:"
                    f" {step(about, less)} by the amount of information ({start.name} to {between.name}), and"
                    f" {step(about, rule)} by rule and length at equal information ({between.name} to {end.name})."
                )


def step(about: Outcome, result: dict[str, Any]) -> str:
    return interval(about, {"mean": result["difference"], "low": result["low"], "high": result["high"]})


def turned(result: dict[str, Any]) -> dict[str, Any]:
    """The contrast seen from its other end."""
    less = {key: None if result[key] is None else -result[key] for key in ("difference", "low", "high")}
    return result | {"difference": less["difference"], "low": less["high"], "high": less["low"]}


def pattern(group: Group) -> Any:
    data = group.runs[0].recipe.get("data")
    return data.get("pattern") if isinstance(data, dict) else None


def as_many(a: Group, b: Group) -> bool:
    """Whether an answer of the one carries as many bits as one of the other."""
    one, other = a.data.get("rule_only_bits"), b.data.get("rule_only_bits")
    return one is not None and other is not None and math.isclose(one, other, abs_tol=NEAR)
