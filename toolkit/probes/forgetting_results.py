"""What became of a base's abilities: baseline_results.json and evaluation_results.json, and the table of a command.

Rows are those of probes/forgetting.py with every `when` together: before, again and after of the same questions.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.metrics.classification import mcnemar
from toolkit.metrics.forgetting import chance_corrected, graded_change, percent_change, ratio_change, smallest_drop
from toolkit.metrics.testing import holm
from toolkit.probes.forgetting import Read, file_name, item_schema, means, read_items, read_rows_of_text
from toolkit.probes.held_out import schema as window_schema
from toolkit.probes.held_out import summarise as summarise_text
from toolkit.probes.recall import write_reading
from toolkit.run_folder import BASELINE, EVALUATION, remove_folder, write_whole
from toolkit.stored import read_json

Row = dict[str, Any]
Result = dict[str, Any]
TEXT = "text.parquet"


# --- files ---


def write_results(folder: Path, rows: Path, read: Read, about: Result) -> Result:
    """Keep what was read: a file a task and one of the texts in `rows`, and the two JSON files in `folder`.

    Tasks and texts that lie in `rows` from before stay, unless they were read anew. Returns what
    evaluation_results.json says.
    """
    forget_other_weights(folder, rows, about)
    by_task: dict[str, list[Row]] = {}
    for row in read.items:
        by_task.setdefault(row["task"], []).append(row)
    for task, of_task in by_task.items():
        write_reading(rows / f"{file_name(task)}.parquet", of_task, item_schema())
    if read.windows:
        asked = {row["text"] for row in read.windows}
        others = [row for row in stored_windows(rows) if row["text"] not in asked]
        write_reading(rows / TEXT, others + read.windows, window_schema())
    everything = stored_rows(rows)
    base = {**about, **baseline(everything)}
    with_settings(base, folder / BASELINE, read)
    write_json(folder / BASELINE, base)
    if not any(row["when"] == "after" for row in [*everything.items, *everything.windows]):
        return base
    evaluation = {**about, **evaluated(everything)}
    with_settings(evaluation, folder / EVALUATION, read)
    write_json(folder / EVALUATION, evaluation)
    return evaluation


def forget_other_weights(folder: Path, rows: Path, about: Result) -> None:
    """Remove what an earlier call measured of other weights than these, trained anew under the same name."""
    known = read_json(folder / BASELINE).get("model", {}) if (folder / BASELINE).is_file() else {}
    said = about["model"].get("weights")
    if known.get("weights") and said and known["weights"] != said:
        remove_folder(rows)
        for name in (BASELINE, EVALUATION):
            (folder / name).unlink(missing_ok=True)


def with_settings(results: Result, path: Path, read: Read) -> None:
    """Say with each task how it was asked: those that were read before have the settings of then."""
    before = read_json(path)["tasks"] if path.is_file() else {}
    asked = {row["task"] for row in read.items}
    for task, found in results["tasks"].items():
        known = before.get(task, {}).get("settings")
        found["settings"] = results["settings"] if task in asked or known is None else known


def about_results(checkpoint: str, described: Result, how: Result, asked: Result) -> Result:
    """What both files begin with: of what they are, and how it was asked.

    described: what run.json says of the model; how: a [forgetting] table; asked: a [model] table.
    """
    import lm_eval

    settings = {key: how.get(key) for key in ("limit", "few_shot", "batch_size")}
    settings |= {key: asked.get(key) for key in ("precision", "format", "max_length")}
    model = {key: described.get(key) for key in ("base", "revision", "base_digest", "dtype", "engine", "device")}
    return {"checkpoint": checkpoint, "model": model, "settings": settings | {"lm_eval": lm_eval.__version__}}


def stored_rows(folder: Path) -> Read:
    """All that lies in a folder of results. Raises UserError where a file is damaged."""
    items: list[Row] = []
    for path in sorted(folder.glob("*.parquet")):
        if path.name != TEXT:
            items += read_items(path)
    return Read(items, stored_windows(folder))


def stored_windows(folder: Path) -> list[Row]:
    return read_rows_of_text(folder / TEXT) if (folder / TEXT).is_file() else []


def write_json(path: Path, values: Result) -> None:
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


# --- what they say ---


def baseline(read: Read) -> Result:
    """What the base could do: by task and subject the mean of each measure, and of texts the bits a byte."""
    texts = summarise_text([row for row in read.windows if row["when"] == "before"])
    tasks = {}
    for task, rows in grouped(read.items, "task").items():
        before = [row for row in rows if row["when"] == "before"]
        # Of a measure that is no number of one question, such as F1, there is no mean.
        subjects = {name: means(of, "before").get(task, {}) for name, of in grouped(before, "subject").items()}
        tasks[task] = {
            "questions": len({(row["subject"], row["item"]) for row in before}),
            "cut": len({(row["subject"], row["item"]) for row in before if row["cut"]}),
            "measures": means(before, "before").get(task, {}),
            "subjects": subjects,
        }
    return {"tasks": tasks, "text": {key.split("/", 1)[1].rsplit("/", 1)[0]: value for key, value in texts.items()}}


def evaluated(read: Read) -> Result:
    """Base, after, and the change, absolute and in percent, of each task and measure, subject by subject, and of texts.

    p is McNemar's, exact, on the same questions (of values that are no right or wrong, by the signs of their changes).
    Only main measures are tests: Holm is over those of all tasks, and, as a family of its own, of all subjects.
    """
    tasks = {
        task: {
            "questions": len({(row["subject"], row["item"]) for row in rows if row["when"] == "after"}),
            "cut": len({(row["subject"], row["item"]) for row in rows if row["when"] == "after" and row["cut"]}),
            "measures": changes(rows),
            "subjects": {name: changes(of) for name, of in grouped(rows, "subject").items()},
        }
        for task, rows in grouped(read.items, "task").items()
        if any(row["when"] == "after" for row in rows)
    }
    correct([main_of(one["measures"]) for one in tasks.values()])
    correct([
        main_of(measures) for one in tasks.values() if len(one["subjects"]) > 1 for measures in one["subjects"].values()
    ])  # fmt: skip
    return {"tasks": tasks, "text": text_changes(read.windows)}


def changes(rows: list[Row]) -> dict[str, Result]:
    """Every measure of some questions, before and after."""
    found = {}
    for measure, of_measure in grouped(rows, "measure").items():
        by_when = {
            when: {(row["subject"], row["item"]): row for row in of} for when, of in grouped(of_measure, "when").items()
        }
        before, after = by_when.get("before", {}), by_when.get("after", {})
        # Of the very same prompts; an older lm-eval may have asked otherwise.
        both = [
            key
            for key in before
            if key in after
            and None not in (before[key]["value"], after[key]["value"])
            and before[key]["prompt_hash"] == after[key]["prompt_hash"]
        ]
        if both:
            found[measure] = change([before[key] for key in both], [after[key] for key in both], by_when.get("again"))
    return found


def change(before: list[Row], after: list[Row], again: dict[Any, Row] | None) -> Result:
    """One measure on the same questions, in the same order; again: the base a second time, by question."""
    values = [[float(row["value"]) for row in rows] for rows in (before, after)]
    first, last = (math.fsum(of) / len(of) for of in values)
    is_right = all(row["right"] is not None for row in (*before, *after))
    found = {"n": len(before), "before": first, "after": last}
    if is_right:
        test = mcnemar([row["right"] for row in before], [row["right"] for row in after])
        found |= {"change": test.difference, "low": test.low, "high": test.high, "p": test.p}
        found |= {"only_before": test.only_first, "only_after": test.only_second}
        chance = math.fsum(row["chance"] for row in before) / len(before)
        found["chance"] = chance
        found |= {f"{when}_corrected": chance_corrected(share, chance)
                  for when, share in (("before", first), ("after", last))}  # fmt: skip
    else:
        graded = graded_change(values[0], values[1])
        found |= {"change": graded.difference, "low": number(graded.low), "high": number(graded.high), "p": graded.p}
    found["change_percent"] = percent_change(first, last) if first >= 0 else None
    found |= {"holm": None, "smallest_drop": None}
    if again:
        found["again_changed"] = sum(
            row["value"] != again[key]["value"] for row in before if (key := (row["subject"], row["item"])) in again
        )
    return found


def main_of(measures: dict[str, Result]) -> Result:
    """The first measure; a task's others are seen on the same answers, and are no tests of their own."""
    return next(iter(measures.values()), {"p": None})


def correct(results: list[Result]) -> None:
    """One family of tests: p after Holm, and the drop that these questions could have shown in it."""
    for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
        result["holm"] = corrected
        if "only_after" in result:
            result["smallest_drop"] = smallest_drop(result["n"], result["only_after"], tests=len(results))


def text_changes(rows: list[Row]) -> dict[str, Result]:
    """Bits a byte of each text before and after, on the same windows, and the KL to the base in bits a token."""
    found = {}
    for name, of_text in grouped(rows, "text").items():
        by_when = {when: {row["window"]: row for row in of} for when, of in grouped(of_text, "when").items()}
        before, after = by_when.get("before", {}), by_when.get("after", {})
        same = (w for w in before.keys() & after.keys() if before[w]["bytes"] == after[w]["bytes"])
        both = sorted(same)
        if not both:
            continue
        bits = [[of[window]["bits"] for window in both] for of in (before, after)]
        sizes = [before[window]["bytes"] for window in both]
        moved = ratio_change(bits[0], bits[1], sizes)
        first, last = (math.fsum(of) / sum(sizes) for of in bits)
        tokens = sum(after[window]["tokens"] for window in both)
        distances = {key: math.fsum(after[window][key] for window in both) for key in ("kl_from_base", "kl_to_base")}
        found[name] = {
            "tokens": tokens, "bytes": sum(sizes), "before": first, "after": last, "change": moved.difference,
            "low": number(moved.low), "high": number(moved.high), "change_percent": percent_change(first, last),
            **{key: total / tokens for key, total in distances.items()},
        }  # fmt: skip
    return found


def number(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


def grouped(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


# --- the terminal ---


def print_results(results: list[Result], console: Console) -> None:
    """A table of tasks and one of texts, a row a checkpoint and measure; of a base alone what it can do."""
    tasks = Table(box=None, pad_edge=False, header_style="bold")
    heads = ("checkpoint", "task", "measure", "questions", "base", "after", "change", "95 % interval", "p", "Holm",
             "lost/gained")  # fmt: skip
    for name in heads:
        tasks.add_column(name, justify="left" if name in ("checkpoint", "task", "measure") else "right", no_wrap=True)
    texts = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("checkpoint", "text", "bytes", "base", "after", "change", "95 % interval", "KL from base"):
        texts.add_column(name, justify="left" if name in ("checkpoint", "text") else "right", no_wrap=True)
    for result in results:
        for task, found in result["tasks"].items():
            for measure, of in found["measures"].items():
                tasks.add_row(result["checkpoint"], task, measure, *task_cells(found, of))
        for text, of in result["text"].items():
            texts.add_row(result["checkpoint"], text, *text_cells(of))
    for table in (tasks, texts):
        if table.row_count:
            console.print(table)
    cut = {task: found for result in results for task, found in result["tasks"].items() if found["cut"]}
    for task, found in cut.items():
        console.print(
            f"{task}: {found['cut']:,} of {found['questions']:,} prompts were too long and lost their beginning;"
            " raise [model] max_length (--max-length).",
            style="yellow",
        )


def task_cells(found: Result, of: Result | float) -> list[str]:
    if isinstance(of, float | int):
        return [f"{found['questions']:,}", share(of), *["–"] * 6]
    is_share = min(of["before"], of["after"]) >= 0 and max(of["before"], of["after"]) <= 1
    form, times = ("{:+.1f}", 100) if is_share else ("{:+.4g}", 1)
    change, low, high = (
        "" if of[key] is None else form.format(times * of[key]) for key in ("change", "low", "high")
    )  # fmt: skip
    interval = f"[{low}, {high}]" if low else "–"
    counts = f"{of['only_before']:,}/{of['only_after']:,}" if "only_before" in of else "–"
    return [
        f"{of['n']:,}", share(of["before"]), share(of["after"]), change, interval,
        f"{of['p']:.3g}", "–" if of["holm"] is None else f"{of['holm']:.3g}", counts,
    ]  # fmt: skip


def share(value: float) -> str:
    """In percent, of a measure that is a share."""
    return f"{value:.1%}" if 0 <= value <= 1 else f"{value:.4g}"


def text_cells(of: Result | float) -> list[str]:
    if isinstance(of, float | int):
        return ["–", f"{of:.4f}", *["–"] * 4]
    interval = "–" if of["low"] is None else f"[{of['low']:+.4f}, {of['high']:+.4f}]"
    return [
        f"{of['bytes']:,}", f"{of['before']:.4f}", f"{of['after']:.4f}", f"{of['change']:+.4f}", interval,
        f"{of['kl_from_base']:.4f} bits",
    ]  # fmt: skip
