"""The tables on forgetting, from what summary.json says: over runs, run by run, subjects, and held-out text."""

from collections.abc import Iterator
from typing import Any

from toolkit.reporting.forgetting_words import ABOUT, not_negative, share, span
from toolkit.reporting.page import NBSP, Section
from toolkit.reporting.verdict import ALPHA

Summary = dict[str, Any]
MOST_ROWS = 120
"""Tests that the page lists one by one."""
MOST_SUBJECTS, OF_ALL_GROUPS = 12, 72
"""Subjects that are shown, and rows of all groups together; but at least four subjects."""
OF_RUNS = [
    "task", "run", "before", "after", "change", "percent", "only before right", "only after right", "p", "Holm",
    "conclusion", "other answers", "by noise alone",
]  # fmt: skip
OF_GROUPS = [
    "task", "group", "runs", "questions", "before", "after", "change", "percent", "chance", "before, above chance",
    "after, above chance", "smallest drop", "drop found in 80 %", "by noise alone", "prompts cut",
]  # fmt: skip
OF_SUBJECTS = [
    "subject", "group", "questions", "before", "after", "change", "only before right", "only after right", "p", "Holm",
]  # fmt: skip
OF_TEXTS = ["text", "group", "before", "after", "change", "percent", "KL(base || model)", "KL(model || base)"]


def sections(said: Summary) -> Iterator[Section]:
    """said: what summary.json holds of forgetting."""
    groups, tests = said["groups"], said["tests"]
    measured = list(by_measure(groups))
    if measured:
        yield Section(
            "What was forgotten",
            "Change in points, below it its 95 % interval: over runs by t, or of one run's questions (Newcombe). Above"
            " chance: 0 for guessing, 100 for all right. Smallest drop, in points: what an observed one must reach to"
            f" be shown with Holm over {tests} tests, by McNemar; found in 80 %: what a true one must be, where as many"
            " answers change as did. By noise alone: answers that changed between right and wrong when the base was"
            " measured twice.",
            OF_GROUPS,
            [group_row(*of_group) for of_group in measured],
        )
        rows = list(run_rows(measured))
        more = f" The first {MOST_ROWS}; all are in summary.json." if len(rows) > MOST_ROWS else ""
        yield Section(
            "Forgetting, model by model",
            f"{ABOUT} Two-sided, exact; Holm is over the {tests} tests of the tasks' first measures; intervals are"
            f" Newcombe's.{more}",
            OF_RUNS,
            rows[:MOST_ROWS],
        )
    most = changed_most(groups)
    if most:
        yield Section(
            "Subjects that changed most",
            "Those with the smallest p in any run. Exploratory: Holm is over all subjects, runs and groups, a family of"
            " its own, as these were looked through for the most extreme ones.",
            OF_SUBJECTS,
            list(subject_rows(most, groups)),
        )
    rows = [text_row(text, name, found) for name, group in groups.items() for text, found in group["text"].items()]
    if rows:
        yield Section(
            "Held-out text",
            "Bits a byte, and KL in bits a token; 95 % intervals over runs by t, of one run over its windows of text.",
            OF_TEXTS,
            rows,
        )


def by_measure(groups: Summary) -> Iterator[tuple[str, str, Summary]]:
    """Task with its measure, group, and the values: all groups of a task together."""
    for task in dict.fromkeys(task for group in groups.values() for task in group["tasks"]):
        there = {name: group["tasks"][task]["measures"] for name, group in groups.items() if task in group["tasks"]}
        for measure in dict.fromkeys(measure for measures in there.values() for measure in measures):
            for name, measures in there.items():
                if measure in measures:
                    yield f"{task} ({measure})", name, measures[measure]


def group_row(task: str, name: str, found: Summary) -> list[str]:
    questions = found["questions"]
    corrected = [found[key] for key in ("before_corrected", "after_corrected")]
    return [
        task, name, str(len(found["per_run"])), f"{questions:,}", *values(found),
        change(found["change"], found["share"]), percent(found), share(found["chance"]),
        *("–" if value is None else share(value) if value >= 0 else f"{100 * value:z.1f} %" for value in corrected),
        *("–" if found[key] is None else f"{100 * found[key]:z.1f}" for key in ("smallest_drop", "detectable_drop")),
        "–" if found["again_changed"] is None else noise(found["again_changed"], questions),
        f"{found['cut']:,}",
    ]  # fmt: skip


def noise(count: float, questions: int) -> str:
    return f"{count:g} of {questions:,}\n{share(count / questions)}"


def values(found: Summary) -> list[str]:
    """Before and after, each with its interval below it."""
    return [
        share(found[key]["mean"])
        + ("" if found[key]["low"] is None else f"\n[{ends(found[key], found['share'])}]")
        for key in ("before", "after")
    ]  # fmt: skip


def ends(spread: Summary, of_share: bool) -> str:
    if not of_share:
        return f"{spread['low']:.4g},{NBSP}{spread['high']:.4g}"
    return f"{100 * max(spread['low'], 0):z.1f},{NBSP}{100 * min(spread['high'], 1):z.1f}"


def change(spread: Summary, of_share: bool = True) -> str:
    """In points, of a measure that is a share."""
    form, times = ("{:z.1f}", 100) if of_share else ("{:z.4g}", 1)
    said, *ends = ("" if spread[key] is None else form.format(times * spread[key]) for key in ("mean", "low", "high"))
    return said if spread["low"] is None else f"{said}\n[{ends[0]},{NBSP}{ends[1]}]"


def percent(found: Summary) -> str:
    return "–" if found["change_percent"] is None else f"{found['change_percent']:z.1f} %"


def run_rows(measured: list[tuple[str, str, Summary]]) -> Iterator[list[str]]:
    for task, _, found in measured:
        for run in found["per_run"]:
            low, high = run["change_interval"]
            again = run["again_changed"]
            shown = ("forgotten" if run["change"] < 0 else "gained") if run["shown"] else "no change shown"
            shown = "no test of its own" if run["holm"] is None else shown
            corrected = "–" if run["holm"] is None else f"{run['holm']:.3g}"
            yield [
                task, run["run"], share(run["before"]), share(run["after"]),
                change({"mean": run["change"], "low": low, "high": high}, found["share"]),
                "–" if run["before"] <= 0 else f"{100 * run['change'] / run['before']:z.1f} %",
                *("–" if run[key] is None else f"{run[key]:,}" for key in ("only_before", "only_after")),
                f"{run['p']:.3g}", corrected, shown, f"{run['answers_changed']:,} of {run['questions']:,}",
                "–" if again is None else noise(again, run["questions"]),
            ]  # fmt: skip


def changed_most(groups: Summary) -> list[tuple[str, str]]:
    """Task and subject of the few that changed most, by the smallest p of any run, and then by the change."""
    least: dict[tuple[str, str], tuple[float, float]] = {}
    for group in groups.values():
        for task, found in group["tasks"].items():
            for name, subject in found["subjects"].items():
                if any(subject["only_before"]) or any(subject["only_after"]):
                    evidence = min(subject["p"]), -abs(subject["change"]["mean"])
                    least[task, name] = min(least.get((task, name), evidence), evidence)
    return sorted(least, key=lambda place: (*least[place], place))[
        : max(4, min(MOST_SUBJECTS, OF_ALL_GROUPS // len(groups)))
    ]


def subject_rows(most: list[tuple[str, str]], groups: Summary) -> Iterator[list[str]]:
    """A row a subject and group."""
    for task, subject in most:
        for name, group in groups.items():
            found = group["tasks"].get(task, {}).get("subjects", {}).get(subject)
            if found is None:
                continue
            shown = any(p <= ALPHA for p in found["holm"])
            yield [
                subject, name, f"{found['questions']:,}", share(found["before"]), share(found["after"]),
                change(found["change"]),
                *(", ".join(f"{count:,}" for count in found[key]) for key in ("only_before", "only_after")),
                span(found["p"]), span(found["holm"]) + ("\nshown" if shown else ""),
            ]  # fmt: skip


def text_row(text: str, name: str, found: Summary) -> list[str]:
    def cell(key: str) -> str:
        spread = not_negative(found[key]) if key.startswith("kl_") else found[key]
        if spread["mean"] is None:
            return "–"
        return f"{spread['mean']:z.3f}" + (
            "" if spread["low"] is None else f"\n[{spread['low']:z.3f},{NBSP}{spread['high']:z.3f}]"
        )

    first, second, moved, *kl = (cell(key) for key in ("before", "after", "change", "kl_from_base", "kl_to_base"))
    return [text, name, first, second, moved, percent(found), *kl]
