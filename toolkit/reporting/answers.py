"""What studies of facts ask, answered in words: does an exam help, how many exposures, what did later stages do?"""

import math
from collections.abc import Iterator
from typing import Any

from toolkit.metrics.testing import MOST_ALL_PAIRS
from toolkit.reporting.groups import Group
from toolkit.reporting.matched import turned
from toolkit.reporting.verdict import EVERY_OUTCOME, are_paired, change

Summary = dict[str, Any]


def examined(groups: list[Group], results: list[dict[str, Any]], primary: str) -> list[str]:
    """Does being examined help? Of each group that is yoked to another one here, by the test of the primary outcome."""
    said, about = [], EVERY_OUTCOME[primary]
    for group in groups:
        for followed in [other for other in groups if other.name in yoked_to(group)]:
            pair = {group.name, followed.name}
            result = next((r for r in results if {r["a"], r["b"]} == pair), None)
            if result is None:
                continue
            if result["b"] == group.name:
                result = turned(result)
            # The exam itself trains nothing: what it can do is to choose.
            asked = (
                f"Does being examined help (feeding what was missed, {followed.name}, against as many facts at random"
                f" in as many updates, {group.name})?"
            )
            if why_not := result.get("why_not") or unlike(group, followed):
                said.append(f"{asked} That cannot be said: {why_not}.")
                continue
            better = (result["difference"] < 0) == about.less_is_more
            answer = ("Yes" if better else "No, it does harm") if result["shown"] else "No difference shown"
            said.append(
                f"{asked} {answer}: {about.said}, examined less yoked, {change(about, result)}"
                f" (p = {result['p']:.3g}, with Holm {result['holm']:.3g})."
            )
    return said


def yoked_to(group: Group) -> set[str]:
    """The groups that a group's stages are yoked to."""
    stages = group.runs[0].recipe.get("stage", {}).values()
    return {stage["yoked_to"] for stage in stages if stage.get("yoked_to")}


def unlike(group: Group, followed: Group) -> str | None:
    """Why a group is no control of the one that it is yoked to; it may have followed runs that were made anew since."""
    if not are_paired(group, followed):
        return "their runs have not the same seeds and facts"
    for key, what in (("exposures", "presentations"), ("step", "updates")):
        one, other = ([row[key] for row in each.ends] for each in (group, followed))
        if any(abs(a - b) > 1e-6 for a, b in zip(one, other, strict=True)):
            return f"their runs had not as many {what}"
    return None


def exposures_needed(summaries: list[Summary]) -> list[str]:
    """How many exposures, and is it seven? Of each group, where they are few."""
    if len(summaries) > MOST_ALL_PAIRS:
        return []
    said = []
    for summary in summaries:
        known = summary["knowledge"]
        median, by_seven = known.get("median_exposures"), known.get("recalled_by_7")
        if not median:
            continue
        half = half_recalled(summary, median, summary["median_90"])
        if by_seven and by_seven["mean"] is not None:
            half += f"; after seven, {ranged(by_seven, 100, ' %', 0, 100)}"
        said.append(f"{summary['group']}: {half}.")
    return [f"How many exposures? {' '.join(said)}"] if said else []


def half_recalled(summary: Summary, median: Summary, within: Summary | None) -> str:
    """median: the runs' values, of which none is where a run never recalled half; within: the interval, where it is
    known between which readings that was."""
    reached = sum(value is not None for value in median["per_run"])
    if reached < summary["runs"]:
        ends = f"within {max(summary['exposures']):g}"
        if not reached:
            return f"not half of the facts are recalled {ends}"
        return f"half of the facts are recalled {ends} in {reached} of {summary['runs']} runs"
    half = f"half of the facts are recalled after {median['mean']:.3g}"
    if within is None:
        return f"{half} or fewer, as readings were too far apart to tell"
    low, high = ("?" if end is None else f"{end:.3g}" for end in (within["low"], within["high"]))
    seven = "which is seven" if within["equal_to_seven"] else "not shown to be seven"
    return f"{half} [90 %: {low}, {high}], {seven}" + (" (in one run)" if summary["runs"] == 1 else "")


def later_stages(summaries: list[Summary]) -> list[str]:
    """What later stages did, a sentence a group and kind of stage, where groups are few."""
    if len(summaries) > MOST_ALL_PAIRS:
        return []
    return [sentence for summary in summaries for sentence in of_group(summary["group"], summary["knowledge"])]


def of_group(name: str, values: Summary) -> Iterator[str]:
    """values: spreads by name, as summary.json has them."""

    def value(key: str, times: float = 100, unit: str = " %", low: float = 0, high: float = 100) -> str | None:
        spread = values.get(key)
        return None if not spread or spread["mean"] is None else ranged(spread, times, unit, low, high)

    if still := value("recalled_after_delay"):
        before = value("recalled_before_delay")
        saved, again = value("savings", low=-math.inf), value("relearned")
        rest = (
            f"; learning anew saves {saved} of the exposures of facts recalled again, which are {again}"
            if saved
            else ""
        )
        yield f"{name}: recalled before a stage that fed none of these facts {before}, after it {still}{rest}."
    if (lost := value("dpo_displaced")) and (bits := value("dpo_bits_change", 1, " bits", -math.inf, math.inf)):
        yield (
            f"{name}: preference training made the right answer itself less likely in {lost} of the facts; bits that it"
            f" costs more than before, on average: {bits}."
        )
    lost = value("collateral", unit=" points", low=-100)
    others = f"; recall that untouched names lost: {lost}" if lost else ""
    old = value("old_still_recalled")
    if new := value("overwritten"):
        yield (
            f"{name}: of the changed names {new} give the new number, {old} still the old one,"
            f" and in {value('old_likelier')} the old one is likelier{others}."
        )
    elif old:
        yield f"{name}: no name was taught a second number; {old} of those that could be still give theirs{others}."
    if costs := value("belief_costs", 1, "", -math.inf, math.inf):
        spread = values["belief_costs"]
        none = spread["low"] is not None and spread["low"] <= 0 <= spread["high"]
        yield (
            f"{name}: exposures to recall that facts took more of which the base believed something else, than unknown"
            f" ones: {costs}{', no difference shown' if none else ''}."
        )


def ranged(spread: Summary, times: float, unit: str, lowest: float, highest: float) -> str:
    """A mean with its interval over runs, as far as the measure goes."""
    said = f"{times * spread['mean']:.1f}{unit}"
    if spread["low"] is None:
        return f"{said} (one run)"
    low, high = max(times * spread["low"], lowest), min(times * spread["high"], highest)
    return f"{said} [{low:.1f}, {high:.1f}]"
