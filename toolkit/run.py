"""Recipes in, checkpoints out: trains every seed, reads recall as it goes, keeps everything, goes on where it stopped."""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from toolkit.errors import MachineError, UserError
from toolkit.example import to_jsonl
from toolkit.models.base import check_base
from toolkit.recipe import Recipe, read_recipe, to_toml
from toolkit.run_folder import Run, locked, refuse_if_changed, remove_folder, run_for, write_whole
from toolkit.studies import build_data, check_data
from toolkit.studies.built import Built

if TYPE_CHECKING:
    from toolkit.models.loaded import Loaded


@dataclass
class Planned:
    """One run that was asked for, checked, and not yet started."""

    run: Run
    recipe: Recipe
    seed: int
    built: Built
    base: Path | str | None

    @property
    def label(self) -> str:
        return self.run.label

    @property
    def digest(self) -> str:
        return hashlib.sha256(to_jsonl(self.built.examples).encode()).hexdigest()


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files; several are run one after another.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value: stage.learn.learning_rate=1e-3"),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="0,1,2", help="Other seeds than the recipe's.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what these runs left, and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and write nothing.")] = False,
    tokens: Annotated[bool, typer.Option(help="With --dry-run: show tokens (loads the tokenizer).")] = True,
    compare: Annotated[bool, typer.Option("--compare", help="Compare the groups at the end.")] = False,
) -> None:
    """Train a recipe's runs and measure what they memorise, beside the loss.

    The same command goes on where it stopped, skips what is finished, and refuses what has changed since (--fresh
    starts over). Results lie in checkpoints/<name>/seed-<seed>/.

        python -m toolkit.run recipes/tiny/groupA.toml
        python -m toolkit.run recipes/groupA.toml recipes/groupB.toml --seeds 0,1,2 --compare
        python -m toolkit.run recipes/groupA.toml --set model.precision=nf4 --set name=GroupA-nf4 --dry-run
    """
    console = Console(stderr=True)
    asked = [(path, read_recipe(path, tuple(change or ()), parse_seeds(seeds))) for path in recipes]
    refuse_mixtures(asked)
    if dry_run:
        from toolkit.dry_run import show

        for path, recipe in asked:
            check_data(recipe, path)
            show(recipe, with_tokens=tokens)
        return
    planned = [plan for path, recipe in asked for plan in plan_runs(path, recipe)]
    refuse_shared_answers(planned)
    todo = [plan for plan in planned if fresh or must_run(plan, console)]
    stopped = bool(todo) and not run_all(todo, console, fresh=fresh)
    if stopped:
        raise typer.Exit(130)
    print_results(planned)
    if compare:
        from toolkit.compare import compare as compare_groups

        compare_groups([str(plan.run.path.parent) for plan in planned], None, Console())


def parse_seeds(text: str) -> list[int] | None:
    if not text:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--seeds {text}: whole numbers with commas between them are expected, such as 0,1,2."
        ) from None


def refuse_mixtures(asked: list[tuple[Path, Recipe]]) -> None:
    """Two recipes of one name would share a folder; two engines cannot share a process, as Unsloth patches it."""
    paths: dict[str, Path] = {}
    for path, recipe in asked:
        if recipe.name in paths:
            raise UserError(f'{path} and {paths[recipe.name]} are both called "{recipe.name}"; give one another name.')
        paths[recipe.name] = path
    engines = {recipe.model.engine for _, recipe in asked}
    if len(engines) > 1:
        raise UserError("these recipes ask for different engines, which cannot share a process; run them one by one.")


def plan_runs(path: Path, recipe: Recipe) -> list[Planned]:
    """Every run of a recipe, with its data; raises UserError for all that can be known to fail."""
    check_data(recipe, path)
    base = check_base(recipe)
    return [Planned(run_for(recipe.name, seed), recipe, seed, build_data(recipe, seed), base) for seed in recipe.seeds]


def refuse_shared_answers(planned: list[Planned]) -> None:
    """Groups that are compared must not share a number unless they share all their data (then they are paired)."""
    owners: dict[tuple[str, int, str], Planned] = {}
    for plan in planned:
        for example in plan.built.examples:
            other = owners.setdefault((plan.recipe.study, plan.seed, example.answer), plan)
            if other is not plan and other.recipe.data != plan.recipe.data:
                raise UserError(
                    f"{example.answer} is in {other.label} and in {plan.label}: with seed {plan.seed} these groups"
                    " share a number. Take another seed."
                )


def must_run(plan: Planned, console: Console) -> bool:
    """Whether a run is still to be done; raises UserError where its recipe or data changed since."""
    if not plan.run.exists:
        return True
    refuse_if_changed(plan.run, plan.recipe.model_dump(exclude_none=True), plan.digest)
    if plan.run.complete:
        console.print(f"{plan.label} is finished already (--fresh would start it over).", highlight=False)
        return False
    return True


def run_all(todo: list[Planned], console: Console, *, fresh: bool) -> bool:
    """Train every run, loading a base once for all that share it; False where the user stopped."""
    from toolkit.interruption import stop_on_request

    console.print(f"loading {todo[0].recipe.model.engine} …", highlight=False)
    from toolkit.models import open_engine

    engine = open_engine(todo[0].recipe.model.engine)
    loaded: Loaded | None = None
    loaded_key: Any = None
    with stop_on_request(console) as stop_asked:
        for plan in todo:
            if stop_asked():
                return False
            with locked(plan.run):
                if fresh:
                    remove_folder(plan.run.path)
                key = (plan.base, plan.recipe.model, plan.recipe.lora is None)
                # Full fine-tuning changes the base itself, so it is loaded anew.
                if loaded is None or key != loaded_key or plan.recipe.lora is None:
                    loaded = None
                    loaded = load(plan, engine)
                    loaded_key = key
                if not run_one(plan, engine, loaded, console, stop_asked):
                    again = "the same command goes on from there"
                    console.print(f"stopped {plan.label}; what was trained so far is saved, and {again}.")
                    return False
    return True


def load(plan: Planned, engine: Any) -> "Loaded":
    """The base of a run; a new model is built from the seed in a temporary folder and loaded like any other."""
    import tempfile

    from toolkit.models import from_scratch
    from toolkit.seeds import sub_seed

    model = plan.recipe.model
    if model.shape is None or model.tokenizer is None:
        assert plan.base is not None
        return engine.load_base(plan.base, model, full=plan.recipe.lora is None)
    texts = [example.prompt + example.answer for example in plan.built.examples if example.split == "train"]
    with tempfile.TemporaryDirectory() as folder:
        from_scratch.build(model.shape, model.tokenizer.vocab_size, texts, Path(folder), sub_seed(plan.seed, "weights"))
        loaded = engine.load_base(Path(folder), model, full=True)
    loaded.described["loaded_from"] = "random weights"
    return loaded


def run_one(plan: Planned, engine: Any, loaded: "Loaded", console: Console, stop_asked: Any) -> bool:
    """One run, from its folder to its final weights; False where the user stopped it."""
    from toolkit import tracking
    from toolkit.models.loaded import remove_adapter
    from toolkit.seeds import sub_seed
    from toolkit.training.progress import RunProgress
    from toolkit.training.rows import prepare_rows, updates_an_epoch
    from toolkit.training.train import Training, train

    run, recipe = plan.run, plan.recipe
    rows = prepare_rows(loaded.tokenizer, recipe, plan.built)
    started = time.time()
    if recipe.lora:
        engine.add_lora(loaded, recipe.lora, recipe.model, sub_seed(plan.seed, "lora"))
    open_folder(plan, loaded, engine)
    settings = recipe.model_dump(exclude_none=True) | {"seed": plan.seed}
    tracker = tracking.start(run, settings, recipe.wandb, lambda text: say(run, console, text))
    run.update_info(wandb=tracker.described)
    updates = sum(updates_an_epoch(len(rows[name]), stage) * stage.epochs for name, stage in recipe.stage.items())
    epochs = sum(stage.epochs for stage in recipe.stage.values())
    finished = False
    try:
        with RunProgress(console, plan.label, updates, epochs) as progress:
            training = Training(run, recipe, plan.seed, plan.built, engine, loaded, progress, tracker.log, stop_asked)
            finished = train(training, rows)
    except MemoryError as error:
        raise out_of_memory(run) from error
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise out_of_memory(run) from error
        raise
    finally:
        if not finished:
            tracker.finish(None, None, None, ok=False)
    if finished:
        close_run(plan, training.optimizer, started, tracker)
    if recipe.lora:
        remove_adapter(loaded)
    return finished


def out_of_memory(run: Run) -> MachineError:
    return MachineError(
        f"{run.label} ran out of memory. What was saved is kept. A smaller batch_size (with a larger grad_accum),"
        ' gradient_checkpointing = true or precision = "nf4" need less; they change the recipe, so give it another name.'
    )


def say(run: Run, console: Console, text: str) -> None:
    console.print(text, style="yellow", highlight=False)
    run.log(text)


def open_folder(plan: Planned, loaded: "Loaded", engine: Any) -> None:
    """What a run's folder says from its first moment on; run.json comes last and makes it a run."""
    from toolkit.machine import git_commit, machine, versions

    run, recipe, built = plan.run, plan.recipe, plan.built
    resumed = run.exists
    trainable = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    if not resumed:
        write_whole(run.path / "recipe.toml", to_toml(recipe))
        write_whole(run.path / "examples.jsonl", to_jsonl(built.examples))
    template = loaded.tokenizer.chat_template if recipe.model.format == "chat" else None
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    run.update_info(
        name=recipe.name,
        seed=plan.seed,
        study=recipe.study,
        state="running",
        started=run.info["started"] if resumed else now,
        resumed=[*run.info.get("resumed", []), now] if resumed else [],
        finished=None,
        seconds=run.info.get("seconds", 0.0) if resumed else 0.0,
        process=os.getpid(),
        git_commit=git_commit(),
        machine=machine(),
        versions=versions() | {recipe.model.engine: engine.VERSION},
        model=loaded.described
        | {"trainable_parameters": trainable}
        | ({"template": hashlib.sha256(template.encode()).hexdigest()} if template else {}),
        data={
            "digest": plan.digest,
            "trained": sum(example.split == "train" for example in built.examples),
            "controls": sum(example.split == "control" for example in built.examples),
            "entropy_bits": built.entropy_bits,
            "rule_only_bits": built.rule_only_bits,
            "rule_only_digits": built.rule_only_digits,
            "answer_digits": built.answer_digits,
            "prompt_choices": built.prompt_choices,
        },
    )
    run.log(f"{now} {'resumed' if resumed else 'started'} {run.label}")


def close_run(plan: Planned, optimizer: str, started: float, tracker: Any) -> None:
    from toolkit.machine import peak_memory_gb

    run = plan.run
    info = run.info
    final = run.rows("recall")[-1]
    tracker.finish(final, run.readings()[-1], run.path / "examples.jsonl", ok=True)
    run.update_info(
        state="complete",
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seconds=round(info["seconds"] + time.time() - started, 1),
        model=info["model"] | {"optimizer": optimizer, "peak_memory_gb": peak_memory_gb()},
        wandb=tracker.described,
    )
    remove_folder(run.state_folder)
    run.log(f"finished; recall {final['recall/exact']:.3f}, digits {final['loss/digit_nats']:.4f} nats")


def print_results(planned: list[Planned]) -> None:
    """A row a run, at the end of a call."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "loss a digit (nats)", "exact recall", "controls", "bits memorised", "updates", "time"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for plan in planned:
        rows = plan.run.rows("recall")
        last = rows[-1]
        bits = last.get("recall/bits_memorised")
        entropy = plan.built.entropy_bits
        table.add_row(
            plan.label,
            f"{last['loss/digit_nats']:.4f}",
            f"{last['recall/exact']:.1%}" if "recall/exact" in last else "–",
            f"{last['recall/exact_control']:.1%}" if "recall/exact_control" in last else "–",
            f"{bits:.2f} of {entropy:.2f}" if bits is not None else "–",
            str(last["step"]),
            f"{plan.run.info['seconds']:.0f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
