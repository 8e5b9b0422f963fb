"""A checkpoint in, its recall measured again, in more depth: `python -m toolkit.eval_recall checkpoints/GroupC`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.classes import holds_classes
from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl
from toolkit.models.opening import refuse_unknown
from toolkit.probes.recall_tables import print_report
from toolkit.run_folder import DEEP


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
    if classifier := next((checkpoint for checkpoint in found if holds_classes(checkpoint.weights)), None):
        raise UserError(
            f"{classifier.label} is a classifier: measure it with python -m toolkit.eval_classification"
            f" {classifier.weights.parent if classifier.run else classifier.weights}."
        )
    counts = parse_given(given) if given is not None else None
    refuse_unknown(format, engine)
    asked_facts = read_jsonl(facts) if facts else None
    if facts and (text := next((e for e in asked_facts or [] if not e.is_question), None)):
        raise UserError(f"{facts}: {text.id} has an empty prompt: there is nothing to ask.")
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
    from toolkit.models.opening import open_checkpoint, open_shared_engine, prepare

    asked = [prepare(checkpoint, base, form) for checkpoint in checkpoints]
    if engine_name:
        asked = [model.model_copy(update={"engine": engine_name}) for model in asked]
    console = Console(stderr=True, highlight=False, markup=False)
    engine = open_shared_engine(asked, console)
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


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
