"""What a classifier's test came to: test_results.json and test_summary.txt in its folder, and the table of a call."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.checkpoints import Checkpoint
from toolkit.example import Example
from toolkit.metrics.statistics import Mean, t_interval
from toolkit.models.opening import Opened
from toolkit.probes.classification import Tick, read_classes, read_rows, results
from toolkit.probes.recall import Moment
from toolkit.probes.recall_report import whose
from toolkit.run_folder import RESULTS, SUMMARY, Run, write_whole

MOST_CLASSES = 40
"""Classes whose confusion matrix is written out; the JSON has every one."""
ROUNDING = 1e-5
"""Other batches, engines and processors round otherwise: of float32 by less than this."""


def write_test_results(run: Run, final: dict[str, Any]) -> None:
    """The two files that people look for, from the reading that the run ends with."""
    found = test_results(run, final)
    write_whole(run.path / RESULTS, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_whole(run.path / SUMMARY, summary_text(run.label, found))


def test_results(run: Run, final: dict[str, Any]) -> dict[str, Any]:
    rows = read_rows(run.path / "probes" / f"test-{final['stage']}-{final['step']:06d}.parquet")
    labels = tuple(run.info["data"]["labels"])
    tested, chosen = ([row for row in rows if row["split"] == split] for split in ("test", "validation"))
    return {
        "run": run.label,
        "seed": run.seed,
        "step": final["step"],
        "weights_of_step": int(final["best_step"]),
        **results(tested, labels),
        "validation": results(chosen, labels),
    }


def summary_text(title: str, found: dict[str, Any], whole: str = RESULTS) -> str:
    """The results of one run for people: plain text; `whole` says where what has no room here is found."""
    low, high = found["accuracy_interval_within_the_run"]
    majority = found["majority"]
    lines = [
        f"{title}: {found['n']:,} {found['split']} texts",
        "",
        f"accuracy           {found['accuracy']:.4f} [{low:.4f}, {high:.4f}] (Wilson; says nothing of other runs)",
        f'always answering   {majority["accuracy"]:.4f} ("{majority["label"]}")',
        f"macro precision    {found['macro_precision']:.4f}",
        f"macro recall       {found['macro_recall']:.4f}",
        f"macro F1           {found['macro_f1']:.4f}",
        f"loss               {found['loss']:.4f} nats",
        f"calibration error  {found['expected_calibration_error']:.4f} (Brier score {found['brier']:.4f})",
    ]
    if found["texts_cut"]:
        lines.append(f"texts cut          {found['texts_cut']:,}, to fit the longest input")
    if said := found["said"]:
        share = said["unreadable"] / said["n"]
        lines.append(f"replies            {said['accuracy']:.4f} right when it replies by itself")
        lines.append(f"unreadable         {said['unreadable']:,} replies ({share:.1%}), which are wrong")
    return "\n".join([*lines, "", *class_lines(found), "", *confusion_lines(found, whole), ""])


def class_lines(found: dict[str, Any]) -> list[str]:
    width = max(5, *(len(label) for label in found["labels"]))
    lines = [f"{'class':<{width}}  precision  recall      F1   texts"]
    for label, score in found["per_class"].items():
        numbers = f"{score['precision']:9.4f}  {score['recall']:.4f}  {score['f1']:.4f}  {score['support']:6,}"
        lines.append(f"{label:<{width}}  {numbers}")
    return lines


def confusion_lines(found: dict[str, Any], whole: str) -> list[str]:
    labels = found["labels"]
    if len(labels) > MOST_CLASSES:
        return [f"the confusion matrix of {len(labels)} classes is in {whole}"]
    # Classes by number above the columns: names would not fit.
    width = max(5, *(len(label) for label in labels))
    cell = max(4, len(f"{max(map(max, found['confusion'])):,}"))
    lines = ["confusion: rows are what a text is, columns (in the same order) what it was taken for"]
    for number, (label, row) in enumerate(zip(labels, found["confusion"], strict=True), start=1):
        counts = "  ".join(f"{count:>{cell},}" for count in row[: len(labels)])
        lines.append(f"{number:>2} {label:<{width}}  {counts}")
    return lines


COLUMNS = (
    ("accuracy", "test/accuracy", "{:.4f}"),
    ("macro F1", "test/macro_f1", "{:.4f}"),
    ("loss", "test/loss", "{:.4f}"),
    ("unreadable", "test/unreadable", "{:.1%}"),
)


def print_runs(runs: Sequence[Run], console: Console) -> None:
    """A row a run, and for each group of several mean ± standard deviation over its runs, with the t interval."""
    finals = [(run, run.final) for run in runs]
    shown = [column for column in COLUMNS if any(column[1] in final for _, final in finals)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("test", *(column[0] for column in shown), "time"):
        table.add_column(name, justify="left" if name == "test" else "right", no_wrap=True)
    for group in dict.fromkeys(run.name for run, _ in finals):
        of_group = [(run, final) for run, final in finals if run.name == group]
        for run, final in of_group:
            values = [form.format(final[key]) if key in final else "–" for _, key, form in shown]
            table.add_row(run.label, *values, f"{run.info.get('seconds', 0):.0f} s")
        if len(of_group) > 1:
            spreads = [[final[key] for _, final in of_group if key in final] for _, key, _ in shown]
            table.add_row(f"{group}: mean ± sd", *(mean_and_sd(values) for values in spreads), "", style="bold")
            intervals = [interval(t_interval(values)) for values in spreads]
            table.add_row(f"95 % interval over {len(of_group)} runs", *intervals, "", style="dim")
    console.print(table)


def mean_and_sd(values: Sequence[float]) -> str:
    """.94 .95 .93 as 0.9400 ± 0.0100: the standard deviation of runs, n - 1 in its denominator."""
    from statistics import fmean, stdev

    return f"{fmean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else "–"


def interval(mean: Mean) -> str:
    return f"[{mean.low:.4f}, {mean.high:.4f}]" if mean.n > 1 else "–"


MEASURES = {
    "accuracy": "accuracy",
    "macro F1": "macro_f1",
    "macro precision": "macro_precision",
    "macro recall": "macro_recall",
    "loss": "loss",
    "Brier score": "brier",
    "calibration error": "expected_calibration_error",
}
"""What is averaged over runs that were measured again."""


def report(
    checkpoint: Checkpoint,
    opened: Opened,
    engine: ModuleType,
    examples: list[Example],
    batch_size: int,
    data: Path | None,
    then: dict[str, Any] | None,
    tick: Tick,
) -> dict[str, Any]:
    """Plain data, ready for JSON: what was measured on one checkpoint; `then` is what the run's own test said."""
    labels = opened.loaded.classes.labels if opened.loaded.classes else ()
    moment = Moment(checkpoint.label, -1, "", 0, 0.0, {}, {})
    rows = read_classes(opened.loaded, engine, examples, moment, batch_size=batch_size, with_text=True, tick=tick)
    # As JSON has it, to be held against what is stored.
    now = json.loads(json.dumps(results(rows, labels)))
    return {
        **whose(checkpoint, opened),
        "data": data.as_posix() if data else None,
        **now,
        "as_at_the_end_of_the_run": compared(then, now) if then else None,
    }


def compared(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Whether the run's own test said the same to the last bit, and the numbers in which it did not."""
    differing = {key: [then.get(key), value] for key, value in now.items() if then.get(key) != value}
    numbers = {key: pair for key, pair in differing.items() if all(isinstance(value, int | float) for value in pair)}
    return {"same": not differing, "then_and_now": numbers}


def print_measured(measured: Sequence[dict[str, Any]], console: Console) -> None:
    """What `eval_classification` found: a block a checkpoint, and the mean over the runs of each group of several."""
    for found in measured:
        title = found["checkpoint"] + (f" on {found['data']}" if found["data"] else "")
        console.print(summary_text(title, found, "what --json prints"), soft_wrap=True)
        model = found["model"]
        console.print(f"{model['base']}, {model['dtype']}, {model['engine']}, {found['format']}", soft_wrap=True)
        if before := found["as_at_the_end_of_the_run"]:
            console.print(same_as_before(before), soft_wrap=True)
        console.print()
    groups = dict.fromkeys(found["group"] for found in measured if found["group"])
    for group in groups:
        of_group = [found for found in measured if found["group"] == group]
        if len(of_group) > 1:
            console.print(means_table(group, of_group))
            console.print()


def same_as_before(before: dict[str, Any]) -> str:
    if before["same"]:
        return "as at the end of the run, to the last bit"
    numbers = before["then_and_now"]
    largest = max((abs(now - then) for then, now in numbers.values()), default=math.inf)
    if largest < ROUNDING:
        return f"as at the end of the run but for rounding (no number differs by more than {largest:.1g})"
    said = [f"{key.replace('_', ' ')} {then:.6g} then, {now:.6g} now" for key, (then, now) in numbers.items()]
    return f"not as at the end of the run: {'; '.join(said) or 'other classes of single texts'}"


def means_table(group: str, of_group: list[dict[str, Any]]) -> Table:
    """A row a measure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{group}, {len(of_group)} runs", no_wrap=True)
    table.add_column("mean ± sd", justify="right", no_wrap=True)
    table.add_column("95 % interval over runs", justify="right", no_wrap=True)
    columns = {name: [found[key] for found in of_group] for name, key in MEASURES.items()}
    if said := [found["said"] for found in of_group if found["said"]]:
        columns["unreadable replies"] = [one["unreadable"] / one["n"] for one in said]
    for name, values in columns.items():
        table.add_row(name, mean_and_sd(values), interval(t_interval(values)))
    return table
