"""What a base could do, and what became of it: `python -m toolkit.eval_forgetting CHECKPOINT... --tasks mmlu`."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError
from rich.console import Console

from toolkit.checkpoints import Checkpoint, find_checkpoints
from toolkit.errors import UserError
from toolkit.models.base import find_base, is_hub_name, weights_digest
from toolkit.models.files import holds_adapter
from toolkit.models.opening import refuse_unknown
from toolkit.probes.named import check_named
from toolkit.recipe import Forgetting, Model
from toolkit.recipe.complaints import complain
from toolkit.run_folder import FORGETTING, locked

if TYPE_CHECKING:
    from toolkit.models.opening import Opened
    from toolkit.probes.forgetting import Abilities, Read, Tell

LONGEST = 2048
"""Tokens of a prompt, where no run says more or less: questions with five examples fit."""
OUT = Path("reports")


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Bases (hub names, folders), runs, groups, kept epochs or PEFT folders; globs.")
    ],
    tasks: Annotated[
        str, typer.Option(metavar="NAME,…", help="lm-eval's tasks, or folders of task files (default: the run's own).")
    ] = "",
    text: Annotated[str, typer.Option(metavar="FILE,…", help="Held-out texts: bits a byte, and KL to the base.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many questions of each subject.")] = None,
    few_shot: Annotated[int | None, typer.Option(min=0, help="Examples before each question.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions a forward pass.")] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help=f"Longest prompt in tokens (default: the run's, or {LONGEST}).")
    ] = None,
    noise_floor: Annotated[
        bool | None, typer.Option(help="Measure the base twice, then question by question (default: as the run).")
    ] = None,
    task_code: Annotated[bool, typer.Option("--task-code", help="Let code beside task files run.")] = False,
    base: Annotated[str | None, typer.Option(help="The base of a folder that no run made.")] = None,
    format: Annotated[str | None, typer.Option(help="plain or chat (default: the run's, or plain).")] = None,
    engine: Annotated[str | None, typer.Option(help="unsloth or transformers (default: the run's).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results of what is no run's final weights.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Ask a base and what was trained from it the same questions, and say what was forgotten, item by item.

    A run's results lie in its folder (baseline_results.json, evaluation_results.json, forgetting/), where compare
    finds them; those of anything else in reports/. What was measured of a base is kept in data/forgetting/.

    \b
    python -m toolkit.eval_forgetting checkpoints/GroupA --tasks mmlu,gsm8k --limit 50
    python -m toolkit.eval_forgetting Qwen/Qwen3-1.7B --tasks ceval-valid,cmmlu
    python -m toolkit.eval_forgetting some/adapter --base Qwen/Qwen3-1.7B --text held_out.txt
    """
    refuse_unknown(format, engine)
    said = {"limit": limit, "few_shot": few_shot, "batch_size": batch_size, "noise_floor": noise_floor,
            "task_code": task_code or None}  # fmt: skip
    named = {"tasks": parts(tasks), "text": parts(text)}
    targets = [target for argument in checkpoints for target in targets_of(argument, base)]
    asked = [asked_of(target, named, said) for target in targets]
    for how in asked:
        check_named(how)
    changes = {"format": format, "engine": engine, "max_length": max_length}
    results = measure(targets, asked, {key: value for key, value in changes.items() if value is not None}, out)
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    from toolkit.probes.forgetting_results import print_results

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A pipe has no width; 80 columns would cut the table.
        console.width = 160
    print_results(results, console)


class Target(NamedTuple):
    """Weights that are asked, and the base that they are compared with."""

    label: str
    checkpoint: Checkpoint | None
    """None for a base by its hub name."""
    base: str | None
    """What a whole model is compared with; None where it is a base itself. An adapter's base is its own."""


def parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def targets_of(argument: str, base: str | None) -> list[Target]:
    """What an argument names: a base, or checkpoints. Raises UserError where it is neither."""
    if is_hub_name(argument) and not Path(argument).is_dir():
        return [Target(argument, None, None)]
    found = []
    for checkpoint in find_checkpoints([argument]):
        own = checkpoint.run.recipe.get("model", {}).get("base") if checkpoint.run else None
        found.append(Target(checkpoint.label, checkpoint, base or own))
    return found


def asked_of(target: Target, named: dict[str, list[str]], said: dict[str, Any]) -> Forgetting:
    """What is asked: what the command line says, and else what the run's recipe says."""
    run = target.checkpoint.run if target.checkpoint else None
    stored = run.recipe.get("forgetting") if run else None
    if not any(named.values()):
        if not isinstance(stored, dict):
            raise UserError(
                f"{target.label}: say what to ask: --tasks mmlu,gsm8k (or a folder of task files), --text held_out.txt."
            )
        named = {key: list(stored.get(key, ())) for key in ("tasks", "text")}
        keys = ("limit", "few_shot", "batch_size", "noise_floor", "task_code")
        kept = {key: stored[key] for key in keys if key in stored}
        said = kept | {key: value for key, value in said.items() if value is not None}
    values = {key: value for key, value in said.items() if value is not None}
    try:
        return Forgetting.model_validate(named | values)
    except ValidationError as error:
        raise complain(error, target.label, Forgetting, prefix=("forgetting",), layers=[]) from None


def measure(
    targets: list[Target], asked: list[Forgetting], changes: dict[str, Any], out: Path | None
) -> list[dict[str, Any]]:
    """One result a target; a base is loaded once for neighbours that share it."""
    from toolkit.models.opening import open_shared_engine

    models = [model_of(target, changes) for target in targets]
    console = Console(stderr=True, highlight=False, markup=False)
    engine = open_shared_engine(models, console)
    from toolkit.probes.forgetting import open_abilities

    loaded: dict[str, Abilities] = {}
    held: list[Opened] = []
    results = []
    with progress(console) as tell:
        for target, how, model in zip(targets, asked, models, strict=True):
            key = how.model_dump_json()
            loaded[key] = loaded.get(key) or open_abilities(how)
            # Taken out of the list, so that a model that the next one does not need is given back.
            opened, read = read_target(target, engine, model, loaded[key], held, tell)
            results.append(keep(target, how, opened, read, out))
            held.append(opened)
            del opened
    return results


def model_of(target: Target, changes: dict[str, Any]) -> Model:
    """How a target is to be loaded. Raises UserError for all that can be known to fail."""
    from toolkit.models.opening import prepare, stored_precision

    if target.checkpoint is None:
        known = find_base(target.label)
        model = Model(base=target.label, precision=stored_precision(known), max_length=LONGEST)  # pyright: ignore[reportArgumentType]
        return model.model_copy(update=changes)
    adapter, run = holds_adapter(target.checkpoint.weights), target.checkpoint.run
    own = run.recipe.get("model", {}).get("base") if run else None
    model = prepare(target.checkpoint, target.base if adapter and target.base != own else None, None)
    if target.base and not adapter:
        find_base(target.base)
    # A run that asked nothing is measured as any folder: its own longest is that of its facts.
    longest = {} if run and run.recipe.get("forgetting") else {"max_length": longest_of(model)}
    return model.model_copy(update=longest | changes)


def longest_of(model: Model) -> int:
    """LONGEST, or as many positions as a local base has."""
    from toolkit.models.files import Config
    from toolkit.stored import read_json

    base = find_base(model.base or "")
    known = read_json(base / "config.json", Config).get("max_position_embeddings") if isinstance(base, Path) else None
    return min(LONGEST, known) if isinstance(known, int) else LONGEST


def read_target(
    target: Target, engine: ModuleType, model: Model, abilities: "Abilities", held: "list[Opened]", tell: "Tell"
) -> "tuple[Opened, Read]":
    """The base's rows, and those of what was trained from it. held: the model that was opened before, if any."""
    from toolkit.models.loaded import free_memory
    from toolkit.models.opening import Opened, load_base, open_checkpoint
    from toolkit.models.reference import Reference, reference_of
    from toolkit.probes.forgetting import Read, digests_of, read_abilities, read_base

    when, checkpoint = moment_of(target), target.checkpoint
    opened = held.pop() if held else None
    if checkpoint and holds_adapter(checkpoint.weights):
        opened = open_checkpoint(checkpoint, engine, model, opened)
        loaded = opened.loaded
        reference = reference_of(loaded)
        digests = digests_of(loaded, engine, model, abilities)
        base = read_base(loaded, engine, model, abilities, reference, digests, when, tell)
    else:
        opened = None
        free_memory()
        source = target.base or (str(checkpoint.weights) if checkpoint else target.label)
        # Of what was trained whole, weights stay in float32: its base is loaded in the same way.
        full = checkpoint is not None and (checkpoint.run is not None or target.base is not None)
        loaded = load_base(engine, find_base(source), model.model_copy(update={"base": source}), full=full)
        loaded.model.eval()
        opened = Opened(loaded, model)
        digests = digests_of(loaded, engine, model, abilities)
        base = read_base(loaded, engine, model, abilities, Reference(None), digests, when, tell)
        if checkpoint is None or target.base is None:
            return opened, base
        reference = reference_of(loaded) if abilities.texts else Reference(None)
        del loaded
        opened = None
        free_memory()
        opened = open_checkpoint(checkpoint, engine, model, None)
    after = read_abilities(opened.loaded, engine, model, abilities, reference, when, tell)
    return opened, Read(base.items + after.items, base.windows + after.windows)


def moment_of(target: Target) -> Any:
    """When the weights are from, as the columns of a reading say it."""
    from toolkit.probes.recall import Moment

    run = target.checkpoint.run if target.checkpoint else None
    if run is None or target.checkpoint is None or target.checkpoint.weights != run.weights:
        return Moment(target.label, run.seed if run else 0, "", 0, 0.0, {}, {})
    final = run.final
    return Moment(run.name, run.seed, final.get("stage") or "", final["step"], final.get("epoch") or 0.0, {}, {})


def keep(target: Target, how: Forgetting, opened: "Opened", read: "Read", out: Path | None) -> dict[str, Any]:
    """Write what was read where it belongs, and return what the file of results says."""
    from toolkit.probes.forgetting import file_name
    from toolkit.probes.forgetting_results import about_results, write_results

    model = opened.asked
    about = about_results(target.label, opened.loaded.described, how.model_dump(), model.model_dump())
    # Of a hub base what the hub calls it.
    own = weights_digest(target.checkpoint.weights) if target.checkpoint else opened.loaded.described["revision"]
    about["model"]["weights"] = own
    run = target.checkpoint.run if target.checkpoint else None
    if run and target.checkpoint and target.checkpoint.weights == run.weights and target.base and out is None:
        with locked(run):
            return write_results(run.path, run.path / FORGETTING, read, about)
    name = file_name(target.label.replace("/", "-"))
    folder = out / name if out else OUT / f"forgetting-{name}"
    return write_results(folder, folder / FORGETTING, read, about)


@contextlib.contextmanager
def progress(console: Console) -> "Iterator[Tell]":
    """A bar for each task and text, while it is asked."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        yield tell


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
