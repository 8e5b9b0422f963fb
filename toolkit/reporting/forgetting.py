"""What training cost, in every kind of report: abilities and held-out text before and after, as verdict and tables.

Runs are read question by question (`forgotten`). Each change of one trained model has its own test, with Holm over all
such tests of the report; the mean over a group's runs, with its t interval, is what says something of the recipe.
"""

from collections.abc import Iterator
from typing import Any

from toolkit.metrics.testing import contrasts_among, holm
from toolkit.reporting import forgetting_changes as changes
from toolkit.reporting import forgetting_curves as curves
from toolkit.reporting import forgetting_figures as draw
from toolkit.reporting import forgetting_frontier as frontier
from toolkit.reporting import forgetting_notes as notes
from toolkit.reporting import forgetting_tables as tables
from toolkit.reporting import forgetting_words as words
from toolkit.reporting.forgetting_groups import could_show, of_group
from toolkit.reporting.groups import Group
from toolkit.reporting.page import Parts
from toolkit.reporting.saving import Drawn
from toolkit.reporting.verdict import ALPHA, EVERY_OUTCOME, MEAN_CHANGE, contrast

Summary = dict[str, Any]


def added(said: Summary, groups: list[Group]) -> Summary:
    """The summary with what was forgotten; as it is where no run was measured."""
    if not any(read.tasks or read.texts or read.trouble for group in groups for read in group.forgotten):
        return said
    found = {group.name: of_group(group) for group in groups}
    tests = correct(found)
    explore(found)
    between = contrasts(groups, found)
    summary = {
        "tests": tests,
        "interval": "95 %: over runs t, of one run over its questions (Newcombe) or its windows of text",
        "groups": found,
        "frontier": frontier.summary(groups, found),
    }
    outcome = {
        "said": EVERY_OUTCOME[MEAN_CHANGE].said,
        "groups": {name: group["mean_change"] for name, group in found.items()},
        "contrasts": between,
    }
    return said | {
        "forgotten": words.in_words(summary, between),
        "outcomes": said["outcomes"] | ({MEAN_CHANGE: outcome} if between else {}),
        "forgetting": summary,
        "notes": [*said["notes"], *notes.on(groups, found)],
    }


def correct(found: Summary) -> int:
    """Add to each run's test its p with Holm over all of them, and what it could have shown; returns their number.

    Main measures are tested. A task's others (the second filter of GSM8K) judge the same answers again, and are shown.
    """
    tasks = [task for group in found.values() for task in group["tasks"].values()]
    tested = [run for task in tasks for run in task["measures"][task["main"]]["per_run"]]
    corrected = iter(holm([run["p"] for run in tested]))
    for task in tasks:
        for name, measure in task["measures"].items():
            for run in measure["per_run"]:
                run["holm"] = next(corrected) if name == task["main"] else None
                run["shown"] = run["holm"] is not None and run["holm"] <= ALPHA
            measure.update(could_show(measure, len(tested)))
    return len(tested)


def explore(found: Summary) -> None:
    """The same for subjects: a family of their own, as they are looked through for those that changed most."""
    subjects = [s for group in found.values() for task in group["tasks"].values() for s in task["subjects"].values()]
    corrected = iter(holm([p for subject in subjects for p in subject["p"]]))
    for subject in subjects:
        subject["holm"] = [next(corrected) for _ in subject["p"]]


def contrasts(groups: list[Group], found: Summary) -> list[Summary]:
    """Which group forgot less, by runs: exploratory, with Holm over these contrasts; none without a mean change."""
    known = [group for group in groups if found[group.name]["mean_change"]["mean"] is not None]
    results = []
    for a, b in contrasts_among(known):
        one, other = found[a.name], found[b.name]
        result = contrast(a, b, MEAN_CHANGE, None, *(own["mean_change"]["per_run"] for own in (one, other)))
        if "why_not" not in result and not same_tasks(one, other):
            nothing = dict.fromkeys(("difference", "low", "high", "p", "exact"))
            result |= nothing | {"why_not": "they were not asked the same questions in the same way"}
        results.append(result)
    for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
        result["holm"], result["shown"] = corrected, corrected is not None and corrected <= ALPHA
    return results


def same_tasks(one: Summary, other: Summary) -> bool:
    """Whether the mean changes of two groups are of the same questions."""
    asked = [
        {task: own["tasks"][task]["measures"][own["tasks"][task]["main"]]["digest"] for task in
         own["mean_change"]["tasks"]}
        for own in (one, other)
    ]  # fmt: skip
    return asked[0] == asked[1]


def figures(groups: list[Group], said: Summary) -> Iterator[Drawn]:
    """Every figure, in the order of the page; none where nothing was measured."""
    found = said.get("forgetting")
    if found is None:
        return
    yield "frontier", "Memory gained against ability lost, a point a run.", curves.frontier(groups, found)
    yield "abilities", "Accuracy by task before training and after it.", draw.abilities(groups, found)
    yield "changes", "Change of each task and of the subjects that changed most.", changes.figure(groups, found)
    yield "forgetting", "Ability through training.", curves.through_training(groups)


def with_sections(parts: Parts, said: Summary) -> Parts:
    """The parts of a page, with the tables on forgetting below its own."""
    found = said.get("forgetting")
    return parts if found is None else parts._replace(sections=[*parts.sections, *tables.sections(found)])


def measured(said: Summary) -> Iterator[tuple[str, str, Summary]]:
    """Group, measure and its values over runs, for summary.csv."""
    for name, group in said.get("forgetting", {}).get("groups", {}).items():
        if group["mean_change"]["mean"] is not None:
            yield name, MEAN_CHANGE, over_runs(group["mean_change"])
        for task, found in group["tasks"].items():
            for measure, values in found["measures"].items():
                for key in ("before", "after", "change"):
                    yield name, f"forgetting/{task}/{measure}/{key}", over_runs(values[key])
        for text, values in group["text"].items():
            for key in ("before", "after", "change", "kl_from_base", "kl_to_base"):
                yield name, f"forgetting/{text}/{key}", over_runs(values[key])


def over_runs(values: Summary) -> Summary:
    """As in the other rows, no interval where it is not one over runs."""
    return values if values["over"] == "runs" else values | {"low": None, "high": None}
