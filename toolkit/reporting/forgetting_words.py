"""Says what was forgotten, and what was not shown to be: a sentence a group and task, each change with its interval."""

from typing import Any

from toolkit.reporting.verdict import EVERY_OUTCOME, MEAN_CHANGE
from toolkit.reporting.verdict import sentence as between_groups

Summary = dict[str, Any]
MOST_SENTENCES = 8
"""Groups and tasks that are said one by one: four tasks of two groups."""
MOST_CONTRASTS = 3
"""Contrasts of groups that are said one by one: those of three groups."""
ABOUT = (
    "McNemar's test is about one trained model and these questions; what other runs of the recipe lose is for the"
    " interval over runs to say, again on these questions."
)


def in_words(said: Summary, between: list[Summary]) -> list[str]:
    """The verdict on forgetting. between: contrasts of groups by their mean change."""
    groups, tests = said["groups"], said["tests"]
    by_task = [
        (task, name, group["tasks"][task])
        for task in dict.fromkeys(task for group in groups.values() for task in group["tasks"])
        for name, group in groups.items()
        if task in group["tasks"]
    ]
    lines = mean_changes(groups)
    if len(by_task) > MOST_SENTENCES:
        lines.append(counted(by_task, tests))
    else:
        lines += [of_task(task, name, found, tests) for task, name, found in by_task]
    if by_task:
        alone = [name for name, group in groups.items() if len(group["runs"]) == 1]
        known = f" Nothing is known about other runs of {', '.join(alone)}." if alone else ""
        lines.append(ABOUT + (known if len(alone) <= MOST_SENTENCES else ""))
    return [*lines, *contrasted(groups, between), *of_texts(groups)]


def contrasted(groups: Summary, between: list[Summary]) -> list[str]:
    """The groups' mean changes against each other, where runs can say something of it."""
    tested = [result for result in between if result["p"] is not None]
    what = "Mean change over tasks between groups (exploratory):"
    if len(tested) > MOST_CONTRASTS:
        shown = sum(result["shown"] for result in tested)
        return [
            f"{what} {shown or 'none'} of {len(tested)} contrasts {plural(shown, 'is', 'are')} shown to differ, with"
            " Holm over all of them; the table of tests has each."
        ]
    about, values = EVERY_OUTCOME[MEAN_CHANGE], {name: group["mean_change"] for name, group in groups.items()}
    return [f"{what} {between_groups(about, r, values[r['a']], values[r['b']])}" for r in tested]


def mean_changes(groups: Summary) -> list[str]:
    """The mean change over tasks of every group, where there are several tasks and few groups."""
    known = {
        name: group["mean_change"] for name, group in groups.items()
        if group["mean_change"]["mean"] is not None and len(group["mean_change"]["tasks"]) > 1
    }  # fmt: skip
    if not 0 < len(known) <= MOST_SENTENCES:
        return []
    values = [f"{name} {points(change)} {of_how_many(change)}" for name, change in known.items()]
    counts = {len(change["tasks"]) for change in known.values()}
    over = f"{counts.pop()} tasks" if len(counts) == 1 else "the tasks of each"
    return [f"Mean change over {over} since before training: {'; '.join(values)}."]


def of_how_many(spread: Summary) -> str:
    return f"over {spread['n']} runs" if spread["over"] == "runs" else "(one run)"


def counted(by_task: list[tuple[str, str, Summary]], tests: int) -> str:
    runs = [run for _, _, found in by_task for run in found["measures"][found["main"]]["per_run"]]
    lost, won = (len([run for run in runs if run["shown"] and sign * run["change"] > 0]) for sign in (-1, 1))
    return (
        f"Of {len(runs)} tests of a trained model on a task, {lost} show that it forgot and {won} that it gained"
        f" (McNemar, with Holm over {tests} tests); the table has each, with the smallest drop it could have shown."
    )


def of_task(task: str, name: str, found: Summary, tests: int) -> str:
    """What one group did on one task, by its main measure."""
    measure = found["measures"][found["main"]]
    runs = measure["per_run"]
    if not any(run["values_changed"] for run in runs):
        changed = sum(run["answers_changed"] for run in runs)
        what = f"no answer became right or wrong, though {changed:,} became other ones" if changed else unchanged(runs)
        return f"{task}: {name}: {what} ({share(measure['before']['mean'])} right; {could(measure)})."
    values = f"{share(measure['before']['mean'])} before training, {share(measure['after']['mean'])} after"
    if len(runs) == 1:
        return (
            f"{task}: {runs[0]['run']} {verdict(runs[0])}: {values}, change {moved(measure)}"
            f" ({ways(runs)}{test(runs, tests)}; {could(measure)})."
        )
    lost, won = (sum(run["shown"] and sign * run["change"] > 0 for run in runs) for sign in (-1, 1))
    low, high = measure["change"]["low"], measure["change"]["high"]
    zero = "holds 0" if low <= 0 <= high else "leaves 0 out"
    return (
        f"{task}: {name}: mean change {moved(measure)} over {len(runs)} runs, which {zero} ({values});"
        f" of its {len(runs)} models {lost or 'none'} {plural(lost, 'is', 'are')} shown to have forgotten and"
        f" {won or 'none'} to have gained ({ways(runs)}{test(runs, tests)}; {could(measure)})."
    )


def unchanged(runs: list[Summary]) -> str:
    return "no answer changed at all" + (f" in any of {len(runs)} runs" if len(runs) > 1 else "")


def verdict(run: Summary) -> str:
    if not run["shown"]:
        return "is not shown to have changed"
    return "forgot" if run["change"] < 0 else "gained"


def ways(runs: list[Summary]) -> str:
    """The counts of answers that became wrong and right, of each run."""
    if any(run["only_before"] is None for run in runs):
        return ""
    before, after = (", ".join(f"{run[key]:,}" for run in runs) for key in ("only_before", "only_after"))
    return f"right only before {before}, only after {after}; "


def test(runs: list[Summary], tests: int) -> str:
    how = "by the signs of the changes," if any(run["only_before"] is None for run in runs) else "McNemar"
    p, corrected = (span([run[key] for run in runs]) for key in ("p", "holm"))
    over = f" over {tests} tests" if tests > 1 else ""
    return f"{how} p = {p}, with Holm{over} {corrected}"


def span(values: list[float]) -> str:
    least, most = f"{min(values):.3g}", f"{max(values):.3g}"
    return least if least == most else f"{least} to {most}"


def could(measure: Summary) -> str:
    """The drop that the questions could have shown."""
    asked = f"{measure['questions']:,} question{'s' if measure['questions'] > 1 else ''}"
    if measure["graded"]:
        return asked
    drop = measure["smallest_drop"]
    return f"{asked} could have shown " + ("no drop at all" if drop is None else f"a drop of {100 * drop:.1f} points")


def of_texts(groups: Summary) -> list[str]:
    """A sentence a text: bits a byte before and after, and how far the model moved from the base."""
    lines = []
    for text in dict.fromkeys(text for group in groups.values() for text in group["text"]):
        there = {name: group["text"][text] for name, group in groups.items() if text in group["text"]}
        if len(there) <= MOST_SENTENCES:
            lines.append(f"{text}: {'; '.join(f'{name} {of_text(found)}' for name, found in there.items())}.")
    return lines


def of_text(found: Summary) -> str:
    change, kl = found["change"], found["kl_from_base"]
    over = f"over {change['n']} runs" if change["over"] == "runs" else f"over its {found['windows']:,} windows"
    said = (
        f"{found['before']['mean']:.3f} bits a byte before, {found['after']['mean']:.3f} after, change"
        f" {interval(change, '{:z.3f}')} {over}"
    )
    if kl["mean"] is None:
        return said
    reverse = found["kl_to_base"]
    other_way = "" if reverse["mean"] is None else f", {interval(not_negative(reverse), '{:.3f}')} the other way"
    return f"{said}; KL(base || model) {interval(not_negative(kl), '{:.3f}')} bits a token{other_way}"


def not_negative(spread: Summary) -> Summary:
    """What is shown of an interval ends where the measure does."""
    return spread if spread["low"] is None else spread | {"low": max(spread["low"], 0.0)}


def share(value: float) -> str:
    """In per cent, of a measure that is a share."""
    return f"{100 * value:z.1f} %" if 0 <= value <= 1 else f"{value:.4g}"


def moved(measure: Summary) -> str:
    """A measure's change with its interval."""
    return points(measure["change"]) if measure["share"] else interval(measure["change"], "{:z.4g}")


def points(spread: Summary) -> str:
    """A change with its interval, in points."""
    value, *ends = (None if spread[key] is None else f"{100 * spread[key]:z.1f}" for key in ("mean", "low", "high"))
    return f"{value} points" + (f" [{ends[0]}, {ends[1]}]" if None not in ends else "")


def interval(spread: Summary, form: str) -> str:
    if spread["low"] is None:
        return form.format(spread["mean"])
    return f"{form.format(spread['mean'])} [{form.format(spread['low'])}, {form.format(spread['high'])}]"


def plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
