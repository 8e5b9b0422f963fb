"""What a report on classifiers consists of: summary, figures, table, and what else is on its page."""

from collections.abc import Iterator
from statistics import stdev
from typing import Any

from toolkit.metrics.extraction import calibration
from toolkit.metrics.testing import MOST_ALL_PAIRS
from toolkit.reporting import classifier_figures, confusion, mcnemar, sensitivity
from toolkit.reporting.classifier_tables import BELOW, cells, sections
from toolkit.reporting.design import differing, notes_on_runs, unequal, unlike_seeds
from toolkit.reporting.groups import Group
from toolkit.reporting.page import Parts
from toolkit.reporting.saving import Drawn
from toolkit.reporting.summary import COUNTED, outcome_summary, spread, within_run
from toolkit.reporting.tested import Tested, unlike
from toolkit.reporting.verdict import OF_CLASSIFIERS, are_paired, in_words, limits, percent, primary_outcome

Summary = dict[str, Any]
NOT_MEASURED = ("test/read", "validation/read")
SPLITS = ("train", "validation", "test")
SHOWN = 6
"""Classes that are named in a note."""


def summarise(groups: list[Group], unread: list[str]) -> Summary:
    """What summary.json holds. Intervals are as computed: those of a share may reach below 0 or above 1."""
    primary, disagreement = primary_outcome(groups)
    outcomes = {name: outcome_summary(groups, name, None) for name in dict.fromkeys([primary, *OF_CLASSIFIERS])}
    results, spreads = outcomes[primary]["contrasts"], outcomes[primary]["groups"]
    between, left_out = mcnemar.between_runs(groups)
    summaries, differ = [group_summary(group) for group in groups], differing(groups)
    alike = not any(unlike(groups[0].tested, group.tested) for group in groups[1:])
    return {
        "verdict": [disagreement] * (disagreement is not None) + in_words(groups, primary, None, results, spreads),
        "mcnemar": mcnemar.in_words(between),
        "controls": controls(summaries),
        "sensitivity": sensitivity.in_words(differ, primary, spreads) if alike else [],
        "primary": primary,
        "declared": disagreement is None,
        "until_exposures": None,
        "limits": limits(groups, results),
        "outcomes": outcomes,
        "mcnemar_tests": between,
        "interval": "95 % t interval on run means; null for one run. sd: of runs, n - 1 in its denominator",
        "groups": summaries,
        "settings_that_differ": differ,
        "notes": [f"{name}: no test of a classifier lies there; left out" for name in unread]
        + warnings_of(groups)
        + left_out,
    }


def group_summary(group: Group) -> Summary:
    keys = dict.fromkeys(key for row in group.tests for key in row if key.startswith(("test/", "validation/")))
    final = {key: with_sd(group.last(key)) for key in keys if key not in NOT_MEASURED}
    known = [tested for tested in group.tested if tested.rows]
    final["test/majority"] = with_sd([tested.majority[1] if tested.rows else None for tested in group.tested])
    final["test/cut"] = with_sd([share_cut(tested) for tested in group.tested])
    if len(group.runs) == 1:
        for key in COUNTED:
            if key in final:
                final[key]["wilson"] = within_run(group, key)
    alike = of_same_classes(known)
    return {
        "group": group.name,
        "runs": len(group.runs),
        "seeds": group.seeds,
        "model": {key: group.info.get("model", {}).get(key) for key in ("base", "dtype", "engine")},
        "trainable_parameters": group.info.get("model", {}).get("trainable_parameters"),
        "labels": group.data.get("labels"),
        "texts": group.data.get("splits"),
        "epochs": [row["epoch"] for row in group.tests],
        "steps": [row["step"] for row in group.tests],
        "weights_of_steps": [row.get("best_step") for row in group.tests],
        "final": final,
        "majority": known[0].majority[0] if known else None,
        "classes": per_class(group.tested, alike),
        "confusion": confusion.added([tested.scores for tested in alike]),
        "replies_confusion": confusion.added([tested.said for tested in alike if tested.said]),
        "calibration": pooled_calibration(known),
        "notes": notes_on(group, final),
    }


def with_sd(values: list[float | None]) -> Summary:
    """Mean, t interval and standard deviation over runs; none of them where a run has no value."""
    found = spread(values, all_or_none=True)
    runs = [value for value in found["per_run"] if value is not None]
    several = found["mean"] is not None and len(runs) == len(values) > 1
    return {"mean": found.pop("mean"), "sd": stdev(runs) if several else None, **found}


def share_cut(tested: Tested) -> float | None:
    """The share of the test texts that were too long, and cut."""
    return sum(row["cut"] > 0 for row in tested.rows) / len(tested.rows) if tested.rows else None


def of_same_classes(known: list[Tested]) -> list[Tested]:
    return [tested for tested in known if tested.labels == known[0].labels]


def per_class(tested: list[Tested], alike: list[Tested]) -> Summary:
    """Precision, recall and F1 of each class over runs, and its test texts; nothing where runs have other classes."""
    if not alike or len(alike) < sum(bool(run.rows) for run in tested):
        return {}
    found = {}
    for label in alike[0].labels:
        scores = [run.scores.per_class[label] if run.rows else None for run in tested]
        values = {
            key: with_sd([getattr(score, key) if score else None for score in scores])
            for key in ("precision", "recall", "f1")
        }
        found[label] = {"texts": alike[0].scores.per_class[label].support, **values}
    return found


def pooled_calibration(known: list[Tested]) -> Summary | None:
    """Of the test texts of all runs together; each run's own error is among its final values."""
    rows = classifier_figures.sure_of(known)
    if not rows:
        return None
    found = calibration([row["p"] for row in rows], [row["right"] for row in rows])
    return {**found._asdict(), "bins": [part._asdict() for part in found.bins]}


def controls(summaries: list[Summary]) -> list[str]:
    """What accuracy stands beside, in words, where groups are few: always the same answer, and the validation texts."""
    if len(summaries) > MOST_ALL_PAIRS:
        return []
    said = []
    (label, share), *others = {(s["majority"], s["final"]["test/majority"]["mean"]) for s in summaries}
    if label is not None and share is not None and not others:
        said.append(
            f'Always answering "{label}", the most frequent class, is right for {percent(share)} of the test texts.'
        )
    elif values := shares(summaries, "{}", "test/majority"):
        said.append(f"Accuracy of always answering the most frequent class of the test texts: {values}.")
    if values := shares(summaries, "{} (on the test texts {})", "validation/accuracy", "test/accuracy"):
        said.append(f"Accuracy of the same weights on the validation texts, by which the best are chosen: {values}.")
    return said


def shares(summaries: list[Summary], form: str, *keys: str) -> str:
    """The mean shares of each group that has them all."""
    means = {s["group"]: [s["final"].get(key, {}).get("mean") for key in keys] for s in summaries}
    known = {name: map(percent, values) for name, values in means.items() if None not in values}
    return ", ".join(f"{name} {form.format(*values)}" for name, values in known.items())


# --- notes ---


def notes_on(group: Group, final: Summary) -> list[str]:
    notes = notes_on_runs(group)
    known = [tested for tested in group.tested if tested.rows]
    if known and (why_not := unlike(known, [])):
        notes.append(f"its runs cannot be taken together: {why_not}")
    accuracy, majority = final["test/accuracy"], final["test/majority"]["mean"]
    per_run = accuracy["per_run"]
    if len(per_run) > 1 and len(set(per_run)) == 1:
        notes.append(
            f"every run ended at {percent(per_run[0])} accuracy: an interval without width says that these runs"
            " agree, not that the next one must"
        )
    low = (accuracy.get("wilson") or accuracy)["low"]
    if majority is not None and low is not None and low <= majority:
        answer = f'always answering "{known[0].majority[0]}" ({percent(majority)})'
        notes.append(f"its accuracy is not shown to be above that of {answer}: its interval begins at {percent(low)}")
    if any(value is None for value in final.get("test/loss", {}).get("per_run", [])):
        notes.append("a run's loss on the test texts is no number")
    return notes


def warnings_of(groups: list[Group]) -> list[str]:
    """Unequal designs, what could not be read, and runs that look like pairs and are none."""
    splits = {group.name: group.data.get("splits") or {} for group in groups}
    said = unequal(
        updates={group.name: max(row["step"] for row in group.tests) for group in groups},
        **{f"{split}_texts": {name: of.get(split) for name, of in splits.items()} for split in SPLITS},
    )
    said += other_classes(groups)
    said += [tested.trouble for group in groups for tested in group.tested if tested.trouble]
    said += unlike_seeds(groups, "texts")
    for number, a in enumerate(groups):
        for b in groups[number + 1 :]:
            if a.seeds == b.seeds and not are_paired(a, b) and unlike(a.tested, b.tested) is None:
                said.append(f"{a.name} and {b.name} have the same seeds, but not the same texts or prompts to train on"
                            " and to choose by: their runs are no pairs")  # fmt: skip
    return said


def other_classes(groups: list[Group]) -> list[str]:
    labels = {group.name: set(group.data.get("labels") or ()) for group in groups}
    everywhere, anywhere = set.intersection(*labels.values()), set.union(*labels.values())
    if everywhere == anywhere:
        return []
    some = sorted(anywhere - everywhere)
    named = ", ".join(some[:SHOWN]) + (", …" if len(some) > SHOWN else "")
    return [*unequal(classes={name: len(of) for name, of in labels.items()}), f"classes that not all have: {named}"]


# --- what is drawn and written ---


def figures(groups: list[Group], said: Summary) -> Iterator[Drawn]:
    """Every figure, in the order of the page."""
    if said["sensitivity"]:
        differ, primary = said["settings_that_differ"], said["primary"]
        by_setting = sensitivity.figure(differ, primary, said["outcomes"][primary]["groups"])
        yield "sensitivity", sensitivity.CAPTION, by_setting
    yield (
        "validation",
        "Accuracy, macro F1 and loss on the validation texts by epoch; stars: the weights that were tested.",
        classifier_figures.validation_curves(groups),
    )
    yield "confusion", "What the test texts of each class were taken for.", confusion.by_group(said["groups"])
    yield "classes", "F1 of each class on the test texts.", classifier_figures.class_scores(groups, said["groups"])
    yield (
        "calibration",
        "How often a class that was given is right, by its probability.",
        classifier_figures.reliability(groups, said["groups"]),
    )


def parts(said: Summary) -> Parts:
    """What table and page hold besides what every report has."""
    replies = any("test/unreadable" in group["final"] for group in said["groups"])
    columns = [cells(group, replies=replies) for group in said["groups"]]
    return Parts("which classes were told apart", columns, BELOW, sections(said))


def measured(said: Summary) -> Iterator[tuple[str, str, Summary]]:
    """Group, measure and its values, for summary.csv."""
    for group in said["groups"]:
        for measure, values in group["final"].items():
            yield group["group"], measure, values
        for label, scores in group["classes"].items():
            for key in ("precision", "recall", "f1"):
                yield group["group"], f"class/{label}/{key}", scores[key]
