"""How forgetting was measured: runs and files left out, prompts that were cut, noise, and what does not compare."""

import itertools
from collections.abc import Iterator
from typing import Any

from toolkit.reporting.forgetting_words import plural, share
from toolkit.reporting.groups import Group

Summary = dict[str, Any]


def on(groups: list[Group], found: Summary) -> list[str]:
    """Notes of the whole report. found: what was forgotten, by group."""
    said = [line for group in groups for read in group.forgotten for line in read.trouble]
    for group in groups:
        said += [f"{group.name}: {line}" for line in left_out(group, found[group.name])]
    said += [*cuts(found), *noise(found)]
    for a, b in itertools.combinations(groups, 2):
        said += unlike(a, b)
    return said


def left_out(group: Group, found: Summary) -> Iterator[str]:
    """Runs that were not measured, or were asked something else than the first, or ended by what they were asked."""
    for run in group.runs:
        if said := run.info.get("ended_early"):
            yield f"{run.path.name}: {said}; the questions that ended it are those tested, so its drop is overstated"
    if found["without"]:
        in_all = ", ".join(found["without"]) if found["runs"] else "any of its runs"
        yield f"forgetting was not measured in {in_all}"
    for task, own in found["tasks"].items():
        for measure, values in own["measures"].items():
            taken = {run["run"] for run in values["per_run"]}
            asked = [read.run for read in group.forgotten if measure in read.tasks.get(task, {})]
            what = f"{task} ({measure})"
            if others := [run for run in asked if run not in taken]:
                first = values["per_run"][0]["run"]
                yield (
                    f"{what} is without {', '.join(others)}, which {plural(len(others), 'was', 'were')} not asked the"
                    f" same questions in the same way as {first}"
                )
            if lacking := [run for run in found["runs"] if run not in asked]:
                yield f"{what} was not measured in {', '.join(lacking)}"
        if own["measures"][own["main"]]["before"]["over"] == "runs":
            yield f"before training its runs did not answer {task} alike: they had other bases, or other machines"


def cuts(found: Summary) -> Iterator[str]:
    """Prompts that lost their beginnings, a line a task, as all groups of a report are mostly asked the same."""
    for task, measures in main_measures(found).items():
        said: dict[str, list[str]] = {}
        for name, m in measures.items():
            if m["cut"]:
                said.setdefault(
                    f"{m['cut']:,} of {m['questions']:,} prompts were too long and lost their beginnings, at most"
                    f" {m['most_cut']:,} tokens",
                    [],
                ).append(name)
        for line, names in said.items():
            yield f"{task}: {line}" if len(names) == len(measures) else f"{task}, {', '.join(names)}: {line}"


def noise(found: Summary) -> Iterator[str]:
    """What the base did when it was measured twice."""
    alike, changed = [], []
    for task, measures in main_measures(found).items():
        counts = {(m["again_changed"], m["questions"]) for m in measures.values() if m["again_changed"] is not None}
        for again, questions in sorted(counts):
            many = f"{task} {again:g} of {questions:,} ({share(again / questions)})"
            changed.append(many) if again else alike.append(task)
    if changed:
        yield f"measured twice, the base changed answers by rounding alone: {', '.join(changed)}"
    if alike:
        yield f"measured twice, the base was right on the same questions: {', '.join(alike)}"


def main_measures(found: Summary) -> dict[str, Summary]:
    """The main measure of each task, by group."""
    return {
        task: {
            name: group["tasks"][task]["measures"][group["tasks"][task]["main"]]
            for name, group in found.items()
            if task in group["tasks"]
        }
        for task in dict.fromkeys(task for group in found.values() for task in group["tasks"])
    }


def unlike(a: Group, b: Group) -> Iterator[str]:
    """What two groups were not asked alike, and what their bases did not answer alike."""
    one, other = ({task: m for read in group.forgotten[::-1] for task, m in read.main.items()} for group in (a, b))
    if not one or not other:
        return
    shared = [task for task in one if task in other]
    if missing := sorted(set(one) ^ set(other)):
        yield f"{a.name} and {b.name} do not have all tasks in common: {', '.join(missing)}"
    others = [task for task in shared if one[task].digest != other[task].digest]
    if others:
        yield (
            f"{a.name} and {b.name} were not asked the same questions in the same way ({', '.join(others)}): they are"
            " not compared by these"
        )
    bases = [task for task in shared if task not in others and (one[task].before != other[task].before).any()]
    if bases:
        yield (
            f"before training {a.name} and {b.name} did not answer alike ({', '.join(bases)}): they had other bases, or"
            " other machines"
        )
