"""What checkpoints wrote, as results with intervals, and as tables and texts for a terminal, loops marked in them."""

import math
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.metrics.statistics import t_interval, wilson
from toolkit.probes.repetition_pooled import POOLED, pooled

Row = dict[str, Any]
Result = dict[str, Any]
DECODINGS = ("human", "greedy", "sampled")
SHARES = ("loops", "never_ended", "undefined_4")
MEASURES = {
    "seq_rep_1": "repeated tokens (seq-rep-1)",
    "seq_rep_2": "repeated pairs (seq-rep-2)",
    "seq_rep_3": "repeated triples (seq-rep-3)",
    "seq_rep_4": "repeated 4-grams (seq-rep-4)",
    "char_seq_rep_4": "… of characters",
    "rep_w": "among the 16 tokens before (rep-w)",
    "distinct_1": "distinct tokens, pooled",
    "distinct_2": "distinct pairs, pooled",
    "distinct_texts": "distinct texts",
    "longest_repeat": "longest repeat (characters)",
    "compression_ratio": "compressed to one in",
    "loops": "end in a loop",
    "never_ended": "never end",
    "undefined_4": "under 4 tokens",
    "tokens": "tokens",
}
"""Measures as a result names them, and as a table does."""
PERCENT = {name for name in MEASURES if name not in ("longest_repeat", "compression_ratio", "tokens")}
NATS = "loss on these (nats a token)"
LOOP = "black on yellow"


def results_of(rows: list[Row]) -> Result:
    """Each measure by decoding, {"mean", "low", "high", "n"}, ready for JSON; a measure that no text has is left out.

    The interval is one at 95 % over the prompts, whose draws are averaged first: Wilson's of a share with one text a
    prompt, else Student's t. It is None for one prompt, and for what is of all texts together (`pooled`).
    """
    found: Result = {}
    for decoding in DECODINGS:
        chosen = [row for row in rows if row["decoding"] == decoding]
        if chosen:
            measured = {name: over_prompts(chosen, name) for name in MEASURES if name not in POOLED}
            together = pooled(rows, decoding)
            measured |= {
                name: {"mean": value, "low": None, "high": None, "n": n} for name, (value, n) in together.items()
            }
            if decoding == "human":
                measured["reference_nats"] = over_prompts(chosen, "reference_nats")
                measured["never_ended"] = None
            found[decoding] = {name: value for name, value in measured.items() if value}
    return found


def over_prompts(rows: list[Row], name: str) -> Result | None:
    """One measure of the texts of one decoding; None where none of them has it."""
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        if (value := value_of(row, name)) is not None:
            by_prompt.setdefault(row["id"], []).append(float(value))
    means = [math.fsum(values) / len(values) for values in by_prompt.values()]
    if not means:
        return None
    if name in SHARES and all(mean in (0, 1) for mean in means):
        low, high = wilson(round(math.fsum(means)), len(means))
        return {"mean": math.fsum(means) / len(means), "low": low, "high": high, "n": len(means)}
    return as_result(t_interval(means))


def value_of(row: Row, name: str) -> float | None:
    if name == "loops":
        return row["loop_period"] is not None
    if name == "never_ended":
        return not row["ended"]
    return row["tokens"] < 4 if name == "undefined_4" else row[name]


def as_result(interval: Any) -> Result:
    """JSON has no nan."""
    low, high = (value if math.isfinite(value) else None for value in (interval.low, interval.high))
    return {"mean": interval.mean, "low": low, "high": high, "n": interval.n}


def texts_of(rows: list[Row]) -> list[Row]:
    """What the questions were answered with, ready for JSON."""
    columns = ("id", "prompt", "decoding", "draw", "text", "ended", "tokens", "loop_period", "loop_times",
               "loop_characters", "loop_start", "seq_rep_4", "asked", "mentioned", "familiarity")  # fmt: skip
    return [{name: row[name] for name in columns} for row in rows if row["source"] == "question"]


def groups_of(results: list[Result]) -> dict[str, Result]:
    """Of each group with several runs the means over runs, with t intervals; only what all of its runs have."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result["group"]:
            groups.setdefault(result["group"], []).append(result["measures"])
    found: dict[str, Result] = {}
    for group, runs in groups.items():
        for decoding in DECODINGS if len(runs) > 1 else ():
            of = [run.get(decoding, {}) for run in runs]
            means = {
                name: as_result(t_interval([one[name]["mean"] for one in of]))
                for name in of[0] if all(name in one for one in of)
            }  # fmt: skip
            if means:
                found.setdefault(group, {})[decoding] = means
    return found


# --- the terminal ---


def print_report(results: list[Result], console: Console) -> None:
    for result in results:
        settings, model = result["settings"], result["model"]
        console.print(Text(result["checkpoint"], style="bold"))
        drawn = f"{result['drawn']} {result['source'].replace('_', ' ')}" if result["drawn"] else "no others"
        console.print(
            f"{model['base']}, {model['dtype']}, {model['engine']}, {result['format']}; {len(settings['questions'])}"
            f" questions and {drawn}, up to {settings['max_new_tokens']} tokens, sampled at temperature"
            f" {settings['temperature']:g}",
            style="dim",
        )
        console.print(table_of(result["measures"]))
        print_texts(result["texts"], console)
        console.print()
    console.print(
        "Intervals in brackets are at 95 %, over the prompts of one checkpoint; they say nothing about other runs.",
        style="dim",
    )
    for group, measures in groups_of(results).items():
        runs = next(of["n"] for decoding in measures.values() for of in decoding.values())
        console.print(Text(f"\n{group}, mean of {runs} runs, with t intervals over runs", style="bold"))
        console.print(table_of(measures))


def table_of(measures: Result) -> Table:
    """A row a measure, a column a decoding, the people's first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for decoding in measures:
        # The same number of texts has nearly every measure.
        table.add_column(f"{decoding} ({measures[decoding]['tokens']['n']})", justify="right")
    for name, label in (MEASURES | {"reference_nats": NATS}).items():
        cells = [cell(of.get(name), of["tokens"]["n"], percent=name in PERCENT) for of in measures.values()]
        if any(said != "–" for said in cells):
            table.add_row(label, *cells)
    return table


def cell(value: Result | None, all_of: int, *, percent: bool) -> str:
    """A value with its interval, or with how many have it where those are not all."""
    if value is None:
        return "–"
    form = "{:.1%}" if percent else "{:.3g}"
    said = form.format(value["mean"])
    if value["n"] < all_of:
        said += f" (of {value['n']})"
    if value["low"] is None:
        return said
    # A t interval may leave what is possible.
    low, high = max(0.0, value["low"]), min(1.0, value["high"]) if percent else value["high"]
    return f"{said} [{form.format(low)}, {form.format(high)}]"


def print_texts(texts: list[Row], console: Console) -> None:
    """Each question with what was written to it."""
    asked = None
    for row in texts:
        if row["id"] != asked:
            asked = row["id"]
            known = f"  (asked {row['asked']:,} times in training)" if row["asked"] is not None else ""
            console.print(Text.assemble("\n", (row["prompt"], "bold"), (known, "dim")))
        console.print(Padding(marked(row), (0, 0, 0, 2), expand=False))


def marked(row: Row) -> Text:
    """A text with its loop marked; what ended it stands behind it, for terminals without colours too."""
    text = Text.assemble((f"{row['decoding']}  ", "dim"))
    start, length = row["loop_start"], row["loop_characters"]
    said = row["text"]
    if start is None:
        text.append(said)
    else:
        text.append(said[:start])
        text.append(said[start : start + length], style=LOOP)
        text.append(said[start + length :])
    notes = [] if row["ended"] else [f"cut at {row['tokens']} tokens"]
    if start is not None:
        notes.insert(0, f"loop: {row['loop_period']} characters × {row['loop_times']}")
    if not said:
        notes.insert(0, "nothing")
    text.append(f" [{', '.join(notes)}]" if notes else "", style="dim")
    return text
