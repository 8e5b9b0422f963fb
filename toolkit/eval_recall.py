"""A checkpoint in, its recall measured again, in more depth: `python -m toolkit.eval_recall checkpoints/GroupC`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl
from toolkit.run_folder import DEEP

CELL = 5
"""Width of a share in a row of shares, its gap included."""
SHADES = ((0.95, "green"), (0.5, "yellow"), (0.0, "red"))


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Runs, groups (checkpoints/GroupC), kept epochs or PEFT folders; globs too.")
    ],
    given: Annotated[
        str | None, typer.Option(metavar="0,1,…", help="How many digits are given, the rest recalled (default: each).")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Also draw this many answers a fact.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.01, help="Temperature of those draws.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of those draws.")] = 0,
    base: Annotated[str | None, typer.Option(help="The base of a PEFT folder that no run made.")] = None,
    format: Annotated[str | None, typer.Option(help="plain or chat, for such a folder.")] = None,
    facts: Annotated[Path | None, typer.Option(help="JSONL of prompt and answer to ask, instead of the run's.")] = None,
    engine: Annotated[str | None, typer.Option(help="unsloth or transformers (default: the run's).")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a forward pass.")] = 32,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also canary exposure, and set against binding; kept with the run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Measure exact recall of finished checkpoints: loss, bits, exact, strict and lenient recall, trained and controls.

    \b
    python -m toolkit.eval_recall checkpoints/GroupC
    python -m toolkit.eval_recall "checkpoints/Group*" --given 0,3,5 --json
    python -m toolkit.eval_recall some/adapter --base Qwen/Qwen3-1.7B --facts facts.jsonl
    """
    found = find_checkpoints(checkpoints)
    counts = parse_given(given) if given is not None else None
    if format not in (None, "plain", "chat"):
        raise UserError(f"--format {format}: plain or chat is expected.")
    if engine not in (None, "unsloth", "transformers"):
        raise UserError(f"--engine {engine}: unsloth or transformers is expected.")
    asked_facts = read_jsonl(facts) if facts else None
    examples = [asked_facts or examples_of(checkpoint) for checkpoint in found]
    if deep:
        refuse_what_has_no_run(found, facts)
    results = measure(found, examples, base, format, engine, batch_size, counts, samples, temperature, seed, deep=deep)
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        print_report(results, Console(highlight=False, markup=False))


def parse_given(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--given {text}: whole numbers with commas between them are expected, such as 0,3,5."
        ) from None
    if min(counts) < 0:
        raise UserError(f"--given {text}: a number of digits cannot be negative.")
    return counts


def examples_of(checkpoint: Checkpoint) -> list[Example]:
    if checkpoint.run is None:
        raise UserError(f"{checkpoint.weights} comes from no run: say what to ask with --facts FILE.jsonl.")
    return read_jsonl(checkpoint.run.path / "examples.jsonl")


def measure(
    checkpoints: list[Checkpoint],
    examples: list[list[Example]],
    base: str | None,
    form: str | None,
    engine_name: str | None,
    batch_size: int,
    given: list[int] | None,
    samples: int,
    temperature: float,
    seed: int,
    *,
    deep: bool = False,
) -> list[dict[str, Any]]:
    """One result a checkpoint, with its own examples; the base is loaded once for neighbours that share it."""
    from toolkit.models.opening import prepare

    asked = [prepare(checkpoint, base, form) for checkpoint in checkpoints]
    if engine_name:
        asked = [model.model_copy(update={"engine": engine_name}) for model in asked]
    engines: set[Literal["unsloth", "transformers"]] = {model.engine for model in asked}
    if len(engines) > 1:
        raise UserError("these checkpoints were trained with different engines; give --engine, or ask them one by one.")
    console = Console(stderr=True, highlight=False, markup=False)
    name = engines.pop()
    console.print(f"loading {name} …")
    from toolkit.models import open_engine

    engine = open_engine(name)
    from toolkit.models.opening import open_checkpoint
    from toolkit.probes.recall_report import report

    opened = None
    results = []
    for checkpoint, model, questions in zip(checkpoints, asked, examples, strict=True):
        opened = open_checkpoint(checkpoint, engine, model, opened)
        with console.status(f"measuring {checkpoint.label} …"):
            results.append(report(checkpoint, opened, engine, questions, batch_size, given, samples, temperature, seed))
        if deep:
            with console.status(f"measuring {checkpoint.label} in depth …"):
                results[-1]["deep"] = measure_deep(checkpoint, opened, engine, questions, batch_size)
    return results


def refuse_what_has_no_run(checkpoints: list[Checkpoint], facts: Path | None) -> None:
    """Raises UserError where --deep would have no run to take the rule from and to keep the result with."""
    for checkpoint in checkpoints:
        if checkpoint.run is None or facts or checkpoint.weights != checkpoint.run.weights:
            raise UserError(f"--deep is for a run's own facts and final weights, which {checkpoint.label} is not.")


def measure_deep(
    checkpoint: Checkpoint, opened: Any, engine: Any, examples: list[Example], batch_size: int
) -> dict[str, Any]:
    """Measure what takes longer, and keep it in the run's folder, where `compare` finds it."""
    from toolkit.probes.deep import measure as measure_depth
    from toolkit.run_folder import write_whole

    run = checkpoint.run
    assert run is not None
    data, entropy = run.recipe.get("data", {}), run.info.get("data", {}).get("entropy_bits")
    values = measure_depth(opened.loaded, engine, opened.asked, examples, data, entropy, batch_size)
    write_whole(run.path / DEEP, json.dumps(values, indent=1) + "\n")
    return values


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
        ("lenient (first number in it)", lambda s: share(s["lenient"])),
        ("no well-formed number", lambda s: share(s["malformed"])),
        ("stops after the answer", lambda s: share(s["stopped"])),
        (f"{unit}s right, teacher-forced", lambda s: f"{s['digits_teacher_forced']:.1%}"),
        (f"{'digit' if unit == 'digit' else 'character'}s right, generated", lambda s: f"{s['digits_generated']:.1%}"),
        (f"first wrong {unit} (mean)", lambda s: "–" if s["first_error"] is None else f"{s['first_error'] + 1:.2f}"),
        ("edit distance (mean)", lambda s: f"{s['edit_distance']:.2f}"),
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
    from toolkit.metrics.statistics import t_interval

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


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
