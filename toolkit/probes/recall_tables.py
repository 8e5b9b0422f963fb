"""A checkpoint's recall in tables for a terminal: a measure a row, a split a column."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.metrics.statistics import t_interval

CELL = 5
"""Width of a share in a row of shares, its gap included."""
SHADES = ((0.95, "green"), (0.5, "yellow"), (0.0, "red"))


def print_report(results: list[dict[str, Any]], console: Console) -> None:
    for result in results:
        console.print(Text(result["checkpoint"], style="bold"))
        model, drawn = result["model"], result["samples"]
        draws = f", {drawn} draws at temperature {result['temperature']:g}" if drawn else ""
        console.print(f"{model['base']}, {model['dtype']}, {model['engine']}, {result['format']}{draws}", style="dim")
        console.print(split_table(result))
        for table in position_tables(result["splits"], console.width):
            console.print(table)
        if result["asked_otherwise"]:
            console.print(variant_table(result["asked_otherwise"]))
        if result["memory"].keys() - {"entropy_bits"}:
            console.print(memory_table(result["memory"]))
        if "deep" in result:
            console.print(deep_table(result["deep"]))
        console.print()
    print_group_means(results, console)
    console.print(
        "Intervals in brackets are Wilson's at 95 %, over the facts of one run; they say nothing about other runs.",
        style="dim",
    )


def split_table(result: dict[str, Any]) -> Table:
    """A row a measure, a column a split."""
    unit = unit_of(result["splits"])
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name, split in result["splits"].items():
        table.add_column(f"{name} ({split['facts']})", justify="right")
    lines = (
        (f"loss (nats a {unit})", lambda s: f"{s['loss_digit_nats']:.4f}"),
        ("bits an answer", lambda s: f"{s['bits']:.3f}"),
        ("exact (by tokens)", lambda s: share(s["exact"])),
        ("strict (generated text)", lambda s: share(s["strict"])),
        ("exact match (SQuAD)", lambda s: share(s["em"])),
        ("F1 (SQuAD)", lambda s: None if s["f1"] is None else f"{s['f1']:.3f}"),
        ("lenient (first number in it)", lambda s: share(s["lenient"])),
        ("no well-formed number", lambda s: share(s["malformed"])),
        ("stops after the answer", lambda s: share(s["stopped"])),
        (f"{unit}s right, teacher-forced", lambda s: f"{s['digits_teacher_forced']:.1%}"),
        (f"{'digit' if unit == 'digit' else 'character'}s right, generated", lambda s: f"{s['digits_generated']:.1%}"),
        (f"first wrong {unit} (mean)", lambda s: "–" if s["first_error"] is None else f"{s['first_error'] + 1:.2f}"),
        ("edit distance (mean)", lambda s: f"{s['edit_distance']:.2f}"),
        (f"{unit}s under p = 0.5", lambda s: f"{s['low_confidence_tokens']:.1%}"),
        ("draws that find half (median)", lambda s: None if (n := s["draws_to_discover"]) is None else f"{n:.3g}"),
        ("Brier score of its own answers", lambda s: None if (c := s["calibration"]) is None else f"{c['brier']:.3f}"),
        (
            "calibration error of these",
            lambda s: None if (c := s["calibration"]) is None else f"{c['expected_error']:.3f}",
        ),
        ("found in the draws", lambda s: None if s["sampled"] is None else f"{s['sampled']['found']:.1%}"),
        ("draws that are exact", lambda s: None if s["sampled"] is None else f"{s['sampled']['share_exact']:.1%}"),
    )
    for label, say in lines:
        cells = [say(split) for split in result["splits"].values()]
        if any(cell is not None for cell in cells):
            table.add_row(label, *(cell or "–" for cell in cells))
    return table


def variant_table(variants: dict[str, Any]) -> Table:
    """Trained facts asked otherwise, a row a way of asking."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("trained facts, asked otherwise", "exact", "bits an answer"):
        table.add_column(name, justify="left" if name.startswith("trained") else "right")
    for name, values in variants.items():
        table.add_row(f"{name} ({values['facts']})", share(values["exact"]), f"{values['bits']:.3f}")
    return table


def memory_table(values: dict[str, Any]) -> Table:
    """What is memorised beyond the rule, and trained facts against what was never trained, a row a measure."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=False)
    if "recall/bits_memorised" in values:
        bits, entropy = values["recall/bits_memorised"], values["entropy_bits"]
        table.add_row("bits memorised an answer", f"{bits:.2f} of {entropy:.2f} ({bits / entropy:.1%})")
    if "recall/membership_auc" in values:
        low, high = values["recall/membership_auc_interval"]
        auc = f"{values['recall/membership_auc']:.3f} [{low:.3f}, {high:.3f}]"
        table.add_row("trained answers told from foils (AUC; 0.5 is chance)", auc)
    for key, said in (
        ("recall/intrusions", "trained prompts answered with another fact's answer"),
        ("recall/interference", "never-trained prompts answered with a trained answer"),
    ):
        if key in values:
            table.add_row(said, f"{values[key]:.1%}")
    return table


def deep_table(values: dict[str, Any]) -> Table:
    """What --deep measured, a row a measure."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=False)
    if "binding/set_known" in values:
        table.add_row("bits known of the set of answers", f"{values['binding/set_known']:.2f}")
        table.add_row("bits known of which prompt has which", f"{values['binding/binding_known']:.2f}")
        table.add_row("own answer likeliest of the set", f"{values['binding/most_likely']:.1%}")
    if "canary/bits" in values:
        error = f" ± {values['canary/bits_error']:.2f}" if values["canary/bits_error"] else ""
        table.add_row("canary exposure, bits", f"{values['canary/bits']:.2f}{error}")
        table.add_row("… of these exact (the others are estimates)", f"{values['canary/exact']:.0%}")
        table.add_row("… likelier than every other number", f"{values['canary/first']:.0%}")
    return table


def unit_of(splits: dict[str, Any]) -> str:
    """What is counted: digits (a token each) where every answer is a number."""
    return "digit" if all(split["lenient"] for split in splits.values()) else "token"


def share(value: dict[str, float] | None) -> str | None:
    if value is None:
        return None
    return f"{value['share']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def position_tables(splits: dict[str, Any], width: int) -> Iterator[Table]:
    """Which digits are right, everything before them given; and the share exact when the first k digits are given."""
    unit = unit_of(splits)
    given = f"first {unit}s given"
    for heading, kind, column in (
        (unit, "right", {name: dict(enumerate(split["by_position"], start=1)) for name, split in splits.items()}),
        (given, "rest exact", {name: split["extractable"] for name, split in splits.items()}),
    ):
        labels = {name: f"{kind}, {name}" for name in splits}
        label_width = max(map(len, (given, *labels.values())))
        keys = list(dict.fromkeys(key for shares in column.values() for key in shares))
        for some in chunks(keys, max(1, (width - label_width) // CELL)):
            table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 0, 0, 1))
            table.add_column(heading, width=label_width)
            for key in some:
                table.add_column(str(key), justify="right", width=CELL - 1)
            for name, shares in column.items():
                table.add_row(labels[name], *(shaded(shares.get(key)) for key in some))
            yield table


def shaded(value: float | None) -> Text:
    if value is None:
        return Text("–")
    return Text(f"{value:.0%}", style=next(style for limit, style in SHADES if value >= limit))


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def print_group_means(results: list[dict[str, Any]], console: Console) -> None:
    """The mean over runs of one group, with a t interval, where there are several."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result["group"]:
            groups.setdefault(result["group"], []).append(result)
    for name, members in groups.items():
        if len(members) < 2:
            continue
        # The trained ones; with --facts there may be none.
        split = next(iter(members[0]["splits"]))
        exact = t_interval([member["splits"][split]["exact"]["share"] for member in members])
        loss = t_interval([member["splits"][split]["loss_digit_nats"] for member in members])
        console.print(
            f"{name}, mean of {len(members)} runs, {split}, with t intervals over runs:\n"
            f"  exact {exact.mean:.1%} [{max(0.0, exact.low):.1%}, {min(1.0, exact.high):.1%}],"
            f" loss {loss.mean:.4f} [{max(0.0, loss.low):.4f}, {loss.high:.4f}]"
            f" nats a {unit_of(members[0]['splits'])}"
        )
