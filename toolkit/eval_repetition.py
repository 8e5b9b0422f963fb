"""What checkpoints write, and what repeats in it: `python -m toolkit.eval_repetition checkpoints/mini-qwen`."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.classes import holds_classes
from toolkit.errors import UserError
from toolkit.eval_forgetting import progress
from toolkit.example import Example, read_jsonl
from toolkit.models.opening import refuse_unknown
from toolkit.probes.repetition_prompts import Prompt, draw_prompts, trained_texts, with_frequency
from toolkit.probes.repetition_report import print_report, results_of, texts_of
from toolkit.recipe import Model, Repetition
from toolkit.recipe.complaints import complain
from toolkit.run_folder import write_whole

if TYPE_CHECKING:
    from toolkit.models.opening import Opened
    from toolkit.probes.recall import Moment

OUT = Path("reports")
EPOCH = re.compile(r"stages/([^/]+)/epoch-([0-9]+)")
"""Where a kept epoch lies in its run's folder."""


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Runs, groups (checkpoints/mini-qwen), kept epochs, folders of models; globs.")
    ],
    question: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Ask this, instead of the run's questions; repeatable.")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=0, help="Held-out prompts besides (default: the run's number, or 100).")
    ] = None,
    facts: Annotated[Path | None, typer.Option(help="JSONL of prompt and answer to draw them from.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Where a text is cut (default: the run's, or 256).")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, help="Sampled texts a prompt (default: the run's, or 1).")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="Of the sampled texts (default: the run's, or 1).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of the sampled texts (default: the run's).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Texts that are written at a time (default: the run's, or 32).")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The base of a PEFT folder that no run made.")] = None,
    format: Annotated[str | None, typer.Option(help="plain or chat, for such a folder.")] = None,
    engine: Annotated[str | None, typer.Option(help="unsloth or transformers (default: the run's).")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the texts (Parquet) and results (JSON).")] = OUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Let checkpoints write to questions and held-out prompts, greedily and sampled, and measure what repeats.

    Beside them stand the reference answers, which people wrote and which repeat something too. A run is asked what its
    own [repetition] asks, or the defaults; a folder that no run made is asked the questions, and prompts of --facts.

    \b
    python -m toolkit.eval_repetition checkpoints/mini-qwen
    python -m toolkit.eval_repetition "checkpoints/mini-qwen/seed-0/stages/learn/epoch-*" --samples 4
    python -m toolkit.eval_repetition some/model --question "who are you?" --question 绿豆糕 --format chat
    """
    found = find_checkpoints(checkpoints)
    if classifier := next((checkpoint for checkpoint in found if holds_classes(checkpoint.weights)), None):
        raise UserError(f"{classifier.label} is a classifier: it writes nothing that could repeat.")
    refuse_unknown(format, engine)
    said = {"questions": question or None, "prompts": prompts, "max_new_tokens": max_new_tokens, "samples": samples,
            "temperature": temperature, "batch_size": batch_size}  # fmt: skip
    hows = [how_of(checkpoint, said) for checkpoint in found]
    asked = prompts_of(found, hows, given_in(facts), seed or 0)
    results = measure(found, hows, asked, base, format, engine, seed, out)
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A pipe has no width; 80 columns would cut the table.
        console.width = 160
    print_report(results, console)


def how_of(checkpoint: Checkpoint, said: dict[str, Any]) -> Repetition:
    """How a checkpoint is asked: as the command line says, and else as its run's recipe does, or by default."""
    stored = checkpoint.run.recipe.get("repetition") if checkpoint.run else None
    known = stored if isinstance(stored, dict) else {}
    values = {key: known[key] for key in Repetition.model_fields if key in known}
    try:
        return Repetition.model_validate(values | {key: value for key, value in said.items() if value is not None})
    except ValidationError as error:
        raise complain(error, checkpoint.label, Repetition, prefix=("repetition",), layers=[]) from None


def given_in(facts: Path | None) -> list[Example] | None:
    """The examples of --facts; those of them that say no split are asked as what is held out."""
    if facts is None:
        return None
    examples = read_jsonl(facts)
    if text := next((example for example in examples if not example.is_question), None):
        raise UserError(f"{facts}: {text.id} has an empty prompt: there is nothing to ask.")
    from dataclasses import replace

    return [replace(e, split="validation") if e.split == "test" else e for e in examples]


def prompts_of(
    checkpoints: list[Checkpoint], hows: list[Repetition], given: list[Example] | None, seed: int
) -> list[list[Prompt]]:
    """What each checkpoint is asked: of a run what its readings asked, with its frequency in what the run trained."""
    examples: dict[Path, list[Example]] = {}
    drawn: dict[tuple[Path | None, str], list[Prompt]] = {}
    with progress(Console(stderr=True, highlight=False, markup=False)) as tell:
        for checkpoint, how in zip(checkpoints, hows, strict=True):
            run = checkpoint.run
            key = (run.path if run else None, how.model_dump_json())
            if key in drawn:
                continue
            if run is None:
                drawn[key] = draw_prompts(given or [], how, seed)
                continue
            # What is held out is drawn beside the run's own questions, so that it is what its readings asked.
            stored = how_of(checkpoint, {"prompts": how.prompts})
            if run.path not in examples:
                examples[run.path] = read_jsonl(run.path / "examples.jsonl")
            own = examples[run.path]
            parts = {part for stage in run.recipe.get("stage", {}).values() for part in stage.get("train_on", ())}
            drawn[key] = draw_prompts(given or own, stored, run.recipe.get("data", {}).get("seed", run.seed))
            if how.questions != stored.questions:
                others = [prompt for prompt in drawn[key] if prompt.has_reference]
                drawn[key] = [*(draw_prompts([], how, seed) if how.questions else []), *others]
            # Of a large corpus the run keeps what is asked, and not what it trained: nothing can be counted.
            if "kept" not in run.info.get("data", {}):
                texts = trained_texts(own, parts)
                drawn[key] = with_frequency(drawn[key], texts, lambda done, total: tell("counting", done, total))
    keys = [(c.run.path if c.run else None, how.model_dump_json()) for c, how in zip(checkpoints, hows, strict=True)]
    return [drawn[key] for key in keys]


def measure(
    checkpoints: list[Checkpoint],
    hows: list[Repetition],
    asked: list[list[Prompt]],
    base: str | None,
    form: str | None,
    engine_name: str | None,
    seed: int | None,
    out: Path,
) -> list[dict[str, Any]]:
    """One result a checkpoint, each kept as soon as it is there; neighbours that share a base load it once."""
    from toolkit.models.opening import open_checkpoint, open_shared_engine, prepare

    models = [prepare(checkpoint, base, form) for checkpoint in checkpoints]
    if engine_name:
        models = [model.model_copy(update={"engine": engine_name}) for model in models]
    console = Console(stderr=True, highlight=False, markup=False)
    engine = open_shared_engine(models, console)
    opened = None
    results = []
    with progress(console) as tell:
        for checkpoint, model, how, prompts in zip(checkpoints, models, hows, asked, strict=True):
            opened = open_checkpoint(checkpoint, engine, model, opened)
            results.append(measure_one(checkpoint, opened, engine, model, how, prompts, seed, tell, out))
    console.print(f"texts and results are kept in {out}/", style="dim")
    return results


def measure_one(
    checkpoint: Checkpoint,
    opened: "Opened",
    engine: ModuleType,
    model: Model,
    how: Repetition,
    prompts: list[Prompt],
    seed: int | None,
    tell: Any,
    out: Path,
) -> dict[str, Any]:
    """Ask one checkpoint, and keep its texts and results."""
    from toolkit.probes.recall import write_reading
    from toolkit.probes.recall_report import whose
    from toolkit.probes.repetition import read_repetition, schema

    moment = moment_of(checkpoint)
    drawn_by = moment.seed if seed is None else seed
    rows = read_repetition(
        opened.loaded, engine, model, prompts, how, moment, drawn_by,
        lambda done, total: tell(checkpoint.label, done, total),
    )  # fmt: skip
    others = [prompt.source for prompt in prompts if prompt.has_reference]
    settings = how.model_dump(exclude={"every"}) | {"seed": drawn_by}
    about = {"settings": settings, "drawn": len(others), "source": others[0] if others else None}
    result = {**whose(checkpoint, opened), **about, "measures": results_of(rows), "texts": texts_of(rows)}
    label = checkpoint.label if checkpoint.run else str(checkpoint.weights)
    name = "repetition-" + re.sub(r"[^\w.-]+", "-", label).strip("-.")
    write_reading(out / f"{name}.parquet", rows, schema())
    write_whole(out / f"{name}.json", json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return result


def moment_of(checkpoint: Checkpoint) -> "Moment":
    """When the weights are from, as a reading says it: a run's last, or a kept epoch's, where its row is found."""
    from toolkit.probes.recall import Moment

    run = checkpoint.run
    if run is None:
        return Moment(checkpoint.label, 0, "", 0, 0.0, {}, {})
    row: dict[str, Any] = {}
    if checkpoint.weights == run.weights:
        row = run.final
    elif kept := EPOCH.search(checkpoint.weights.resolve().as_posix()):
        stages: dict[str, Any] = run.recipe.get("stage", {})
        earlier = list(stages)[: list(stages).index(kept[1]) if kept[1] in stages else None]
        before = sum(stages[name].get("epochs") or 0 for name in earlier)
        row = next((r for r in run.outcomes if (r["stage"], r["epoch"]) == (kept[1], before + int(kept[2]))), {})
    return Moment(run.name, run.seed, row.get("stage") or "", row.get("step", 0), row.get("epoch") or 0.0, {}, {})


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
