"""The numbers on what a group forgot: each task, subject and held-out text, run by run and over its runs."""

import math
from typing import Any

import numpy as np

from toolkit.metrics.forgetting import chance_corrected, detectable_drop, percent_change, ratio_change, smallest_drop
from toolkit.reporting.forgetting_items import exact_p, finite, interval_of, of_run
from toolkit.reporting.forgotten import Asked, Scored
from toolkit.reporting.groups import Group
from toolkit.reporting.summary import number, spread

Summary = dict[str, Any]
Alike = list[tuple[int, Any]]
"""Those runs of a group, by their places, that were asked the same in the same way, and what was read of each."""


def of_group(group: Group) -> Summary:
    """A group's tasks and texts, with its mean change over the tasks that all of its measured runs have."""
    tasks = {}
    for task in dict.fromkeys(task for read in group.forgotten for task in read.tasks):
        measures = dict.fromkeys(m for read in group.forgotten for m in read.tasks.get(task, {}))
        by_measure = {m: alike([read.tasks.get(task, {}).get(m) for read in group.forgotten]) for m in measures}
        main = next(iter(measures))
        tasks[task] = {
            "main": main,
            "measures": {measure: of_measure(group, runs) for measure, runs in by_measure.items()},
            "subjects": of_subjects(by_measure[main]),
        }
    texts = dict.fromkeys(text for read in group.forgotten for text in read.texts)
    return {
        "runs": [read.run for read in group.forgotten if read.tasks or read.texts],
        "without": [read.run for read in group.forgotten if not (read.tasks or read.texts)],
        "tasks": tasks,
        "mean_change": mean_change(group, tasks),
        "text": {text: of_text(group, alike([read.texts.get(text) for read in group.forgotten])) for text in texts},
    }


def alike(found: list[Any]) -> Alike:
    """The runs that were asked what the first one was that was asked at all."""
    known = [(place, read) for place, read in enumerate(found) if read is not None]
    return [(place, read) for place, read in known if read.digest == known[0][1].digest]


def of_measure(group: Group, runs: Alike) -> Summary:
    """One measure of a task over a group's runs, and each run's own test."""
    first: Asked = runs[0][1]
    per_run = [{"run": group.runs[place].label, "seed": group.seeds[place], **of_run(asked)} for place, asked in runs]
    before, after, change = of_base(runs, per_run), over_runs(per_run, "after"), over_runs(per_run, "change")
    again = [run["again_changed"] for run in per_run if run["again_changed"] is not None]
    corrected = {
        key: number(chance_corrected(mean, first.chance)) if not first.graded and first.chance < 1 else None
        for key, mean in (("before_corrected", before["mean"]), ("after_corrected", after["mean"]))
    }
    return {
        "questions": len(first.before),
        "graded": any(asked.graded for _, asked in runs),
        "share": all(asked.share for _, asked in runs),
        "cut": int((first.cut > 0).sum()),
        "most_cut": int(first.cut.max()),
        "digest": first.digest,
        "before": before,
        "after": after,
        "change": change,
        "change_percent": percent_change(before["mean"], after["mean"]) if before["mean"] >= 0 else None,
        "chance": first.chance,
        **corrected,
        "again_changed": math.fsum(again) / len(again) if again else None,
        "per_run": per_run,
    }


def of_base(runs: Alike, per_run: list[Summary]) -> Summary:
    """What was before training: of one base, however many runs, nothing varies but the questions."""
    found = over_runs(per_run, "before")
    if all((read.before == runs[0][1].before).all() for _, read in runs):
        low, high = per_run[0]["before_interval"]
        found |= {"low": low, "high": high, "over": "questions"}
    return found


def over_runs(per_run: list[Summary], key: str) -> Summary:
    """Mean over runs with the t interval; of one run its own, over its questions."""
    found = spread([run[key] for run in per_run]) | {"over": "runs"}
    if len(per_run) == 1:
        low, high = per_run[0][f"{key}_interval"]
        found |= {"low": low, "high": high, "over": "questions"}
    return found


def could_show(measure: Summary, tests: int) -> Summary:
    """The drop that so many questions could have shown after Holm over `tests`: the largest of the runs' own."""
    if measure["graded"]:
        return {"smallest_drop": None, "detectable_drop": None}
    n, per_run = measure["questions"], measure["per_run"]
    least = [smallest_drop(n, run["only_after"], tests) for run in per_run]
    changed = math.fsum(run["only_before"] + run["only_after"] for run in per_run) / len(per_run) / n
    known = [drop for drop in least if drop is not None]
    return {
        "smallest_drop": max(known) if len(known) == len(least) else None,
        "detectable_drop": detectable_drop(n, changed, tests=tests),
    }


def of_subjects(runs: Alike) -> dict[str, Summary]:
    """The main measure by subject, with each run's exact p; nothing of a task without parts, or of no share."""
    first: Asked = runs[0][1]
    if len(first.names) < 2 or not all(asked.share for _, asked in runs):
        return {}
    counts = np.bincount(first.subject, minlength=len(first.names))
    sums = [[np.bincount(first.subject, part) for part in (asked.before, asked.after)] for _, asked in runs]
    ways = [
        [np.bincount(first.subject, way, minlength=len(counts)).astype(int) for way in (fell, rose)]
        for fell, rose in ((asked.before > asked.after, asked.before < asked.after) for _, asked in runs)
    ]
    p = [exact_p(fell, rose) for fell, rose in ways]
    found = {}
    for place, name in enumerate(first.names):
        before, after = ([float(run[when][place] / counts[place]) for run in sums] for when in (0, 1))
        change = spread([b - a for a, b in zip(before, after, strict=True)]) | {"over": "runs"}
        if len(runs) == 1:
            here = first.of_subject(place)
            low, high = interval_of(first.before[here], first.after[here])
            change |= {"low": low, "high": high, "over": "questions"}
        found[name] = {
            "questions": int(counts[place]),
            "before": math.fsum(before) / len(runs),
            "after": math.fsum(after) / len(runs),
            "change": change,
            "only_before": [int(fell[place]) for fell, _ in ways],
            "only_after": [int(rose[place]) for _, rose in ways],
            # Of graded answers: by the signs of the changes, whatever their sizes.
            "p": [float(of_run[place]) for of_run in p],
        }
    return found


def mean_change(group: Group, tasks: Summary) -> Summary:
    """Of each run, the mean over tasks of the main measure's change; t interval over runs, or that of one's questions.

    Of measures that are shares only: points of others would be no points. The interval of one run adds the tasks'
    own, squared (Zou and Donner 2008, "Construction of confidence limits about effect measures: A general approach").
    """
    main = {task: found["measures"][found["main"]] for task, found in tasks.items()}
    shares = {task: measure for task, measure in main.items() if measure["share"]}
    changes: dict[str, list[float]] = {read.run: [] for read in group.forgotten if read.tasks}
    for measure in shares.values():
        for run in measure["per_run"]:
            changes[run["run"]].append(run["change"])
    values = [
        math.fsum(changes[run.label]) / len(shares) if shares and len(changes.get(run.label, ())) == len(shares)
        else None
        for run in group.runs
    ]  # fmt: skip
    found = spread(values) | {"tasks": list(shares), "over": "runs"}
    if found["n"] == 1:
        own = [measure["per_run"][0] for measure in shares.values()]
        found |= {"low": None, "high": None, "over": "questions"}
        if all(run["change_interval"][0] is not None for run in own):
            down, up = (
                math.hypot(*(run["change"] - run["change_interval"][end] for run in own)) / len(own) for end in (0, 1)
            )
            found |= {"low": found["mean"] - down, "high": found["mean"] + up}
    return found


def of_text(group: Group, runs: Alike) -> Summary:
    """Bits a byte before and after, and KL to the base in bits a token, over runs; of one run over its windows."""
    per_run = []
    for place, scored in runs:
        change = ratio_change(scored.before.tolist(), scored.after.tolist(), scored.bytes.tolist())
        own = {
            "run": group.runs[place].label,
            "change": change.difference,
            "change_interval": finite(change.low, change.high),
        }
        for when, bits in (("before", scored.before), ("after", scored.after)):
            own |= ratio(when, bits, scored.bytes)
        for key, bits in (("kl_from_base", scored.kl_from_base), ("kl_to_base", scored.kl_to_base)):
            own |= ratio(key, bits, scored.tokens)
        per_run.append(own)
    first: Scored = runs[0][1]
    keys = ("after", "change", "kl_from_base", "kl_to_base")
    found: Summary = {"before": of_base(runs, per_run)} | {key: over_runs(per_run, key) for key in keys}
    totals = {"windows": len(first.bytes), "tokens": int(first.tokens.sum()), "bytes": int(first.bytes.sum())}
    percent = percent_change(found["before"]["mean"], found["after"]["mean"])
    return {**totals, "digest": first.digest, **found, "change_percent": percent, "per_run": per_run}


def ratio(key: str, bits: np.ndarray, sizes: np.ndarray) -> Summary:
    """Bits of each byte or token, with the interval over windows; nothing known where some bits are no number."""
    if not np.isfinite(bits).all():
        return {key: None, f"{key}_interval": (None, None)}
    found = ratio_change([0.0] * len(bits), bits.tolist(), sizes.tolist())
    return {key: found.difference, f"{key}_interval": finite(found.low, found.high)}
