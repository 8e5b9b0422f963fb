"""A checkpoint in, its recall measured again, in more depth: `python -m toolkit.eval_recall checkpoints/GroupC`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl
from toolkit.run_folder import Checkpoint, find_checkpoints

SHADES = ((0.95, "green"), (0.5, "yellow"), (0.0, "red"))


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Runs, groups (checkpoints/GroupC), kept epochs or PEFT folders; globs too.")
    ],
    given: Annotated[
        str, typer.Option(metavar="0,1,…", help="How many digits are given, the rest recalled (default: 0 to 10).")
    ] = "0,1,2,3,4,5,6,7,8,9,10",
    samples: Annotated[int, typer.Option(min=0, help="Also draw this many answers a fact.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.01, help="Temperature of those draws.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of those draws.")] = 0,
    base: Annotated[str | None, typer.Option(help="The base of a PEFT folder that no run made.")] = None,
    format: Annotated[str | None, typer.Option(help="plain or chat, for such a folder.")] = None,
    facts: Annotated[Path | None, typer.Option(help="JSONL of prompt and answer to ask, instead of the run's.")] = None,
    engine: Annotated[str | None, typer.Option(help="unsloth or transformers (default: the run's).")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a forward pass.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Measure exact recall of finished checkpoints: loss, bits, exact, strict and lenient recall, trained and controls.

    python -m toolkit.eval_recall checkpoints/GroupC
    python -m toolkit.eval_recall "checkpoints/Group*" --given 0,3,5 --json
    python -m toolkit.eval_recall some/adapter --base Qwen/Qwen3-1.7B --facts facts.jsonl
    """
    found = find_checkpoints(checkpoints)
    counts = parse_given(given)
    if format not in (None, "plain", "chat"):
        raise UserError(f"--format {format}: plain or chat is expected.")
    if engine not in (None, "unsloth", "transformers"):
        raise UserError(f"--engine {engine}: unsloth or transformers is expected.")
    asked_facts = read_jsonl(facts) if facts else None
    examples = {checkpoint.label: asked_facts or examples_of(checkpoint) for checkpoint in found}
    results = measure(found, examples, base, format, engine, batch_size, counts, samples, temperature, seed)
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        print_report(results, Console())


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
    examples: dict[str, list[Example]],
    base: str | None,
    form: str | None,
    engine_name: str | None,
    batch_size: int,
    given: list[int],
    samples: int,
    temperature: float,
    seed: int,
) -> list[dict[str, Any]]:
    """One result a checkpoint; the base is loaded once for neighbours that share it."""
    from toolkit.models.base import find_base
    from toolkit.models.opening import check_files, model_of

    asked = {}
    for checkpoint in checkpoints:
        check_files(checkpoint)
        asked[checkpoint.label] = model_of(checkpoint, base, form)
        find_base(asked[checkpoint.label].base or "")
    engines = {engine_name or model.engine for model in asked.values()}
    if len(engines) > 1:
        raise UserError("these checkpoints were trained with different engines; give --engine, or ask them one by one.")
    console = Console(stderr=True)
    console.print(f"loading {min(engines)} …")
    from toolkit.models import open_engine

    engine = open_engine(min(engines))  # type: ignore[arg-type]
    from toolkit.models.opening import open_checkpoint
    from toolkit.probes.recall_report import report

    opened = None
    results = []
    for checkpoint in checkpoints:
        opened = open_checkpoint(checkpoint, engine, asked[checkpoint.label], opened)
        with console.status(f"measuring {checkpoint.label} …"):
            results.append(
                report(
                    checkpoint,
                    opened,
                    engine,
                    examples[checkpoint.label],
                    batch_size,
                    given,
                    samples,
                    temperature,
                    seed,
                )
            )
    return results


def print_report(results: list[dict[str, Any]], console: Console) -> None:
    for result in results:
        console.print(Text(result["checkpoint"], style="bold"), end="")
        console.print(f"   {result['model']['base']}, {result['model']['dtype']}, {result['model']['engine']}")
        console.print(split_table(result))
        for name, split in result["splits"].items():
            if split["by_position"]:
                console.print(position_row(name, split["by_position"]))
        console.print(extraction_row(result))
        console.print()
    print_group_means(results, console)
    console.print(
        "Intervals are Wilson's at 95 %, over facts within one run; they say nothing about other runs.", style="dim"
    )


def split_table(result: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in result["splits"]:
        table.add_column(f"{name} ({result['splits'][name]['facts']})", justify="right")
    lines = (
        ("loss (nats a digit)", lambda s: f"{s['loss_digit_nats']:.4f}"),
        ("bits an answer", lambda s: f"{s['bits']:.3f}"),
        ("exact recall (tokens)", lambda s: share(s["exact"])),
        ("strict (generated text)", lambda s: share(s["strict"])),
        ("lenient", lambda s: share(s["lenient"])),
        ("no well-formed number", lambda s: share(s["malformed"])),
        ("stops after the answer", lambda s: share(s["stopped"])),
        ("digits, teacher-forced", lambda s: f"{s['digits_teacher_forced']:.1%}"),
        ("digits, generated", lambda s: f"{s['digits_generated']:.1%}"),
        ("first error at digit (mean)", lambda s: "–" if s["first_error"] is None else f"{s['first_error'] + 1:.2f}"),
        ("edit distance (mean)", lambda s: f"{s['edit_distance']:.2f}"),
        ("found in the draws", lambda s: None if s["sampled"] is None else f"{s['sampled']['found']:.1%}"),
        ("share of draws exact", lambda s: None if s["sampled"] is None else f"{s['sampled']['share_exact']:.1%}"),
    )
    for label, say in lines:
        cells = [say(split) for split in result["splits"].values()]
        if any(cell is not None for cell in cells):
            table.add_row(label, *(cell or "–" for cell in cells))
    return table


def share(value: dict[str, float] | None) -> str | None:
    if value is None:
        return None
    return f"{value['share']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def position_row(name: str, shares: list[float]) -> Text:
    """Share of facts whose digit is right at each position, everything before it given."""
    line = Text(f"by position, {name}:".ljust(24))
    for value in shares:
        style = next(style for limit, style in SHADES if value >= limit)
        line.append(f"{value:>4.0%} ", style=style)
    return line


def extraction_row(result: dict[str, Any]) -> Text:
    train = next(iter(result["splits"].values()))
    parts = [f"{count}: {value:.0%}" for count, value in train["extractable"].items()]
    return Text("exact with k digits given:  " + "   ".join(parts))


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
        exact = t_interval([member["splits"]["train"]["exact"]["share"] for member in members])
        loss = t_interval([member["splits"]["train"]["loss_digit_nats"] for member in members])
        console.print(
            f"{name}, mean of {len(members)} runs: exact recall {exact.mean:.1%} [{exact.low:.1%}, {exact.high:.1%}],"
            f" loss {loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}] nats a digit (t intervals over runs)",
            highlight=False,
        )


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
