"""Recipes in, checkpoints out: trains every seed, reads recall as it goes, goes on where it stopped."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from toolkit import processes
from toolkit.errors import MachineError, UserError
from toolkit.models.base import base_digest, check_base
from toolkit.probes.named import check_named
from toolkit.recipe import Recipe, read_recipes
from toolkit.run_folder import (
    CONFUSION,
    JUDGED,
    RESULTS,
    Run,
    locked,
    refuse_if_changed,
    remove_folder,
    remove_leftovers,
    run_for,
    write_whole,
)
from toolkit.run_together import (
    refuse_mixtures,
    refuse_shared_answers,
    refuse_unasked_judge,
    refuse_unrejected,
    refuse_unyoked,
)
from toolkit.stored import read_json
from toolkit.studies import build_data, resolve_data
from toolkit.studies.built import Built
from toolkit.training.one_run import Planned, load, run_one
from toolkit.training.saved import refuse_other_count

if TYPE_CHECKING:
    from toolkit.models.loaded import Loaded
    from toolkit.probes.forgetting import Abilities


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

    \b
        python -m toolkit.run recipes/tiny/groupA.toml
        python -m toolkit.run recipes/groupA.toml recipes/groupB.toml --seeds 0,1,2 --compare
        python -m toolkit.run recipes/groupA.toml --set model.precision=nf4 --set name=GroupA-nf4 --dry-run
    """
    console = Console(stderr=True, soft_wrap=True, quiet=not processes.is_first())
    wanted = parse_seeds(seeds)
    read = [(path, recipe) for path in recipes for recipe in read_recipes(path, tuple(change or ()), wanted)]
    asked = [(path, resolve_data(recipe, path)) for path, recipe in read]
    refuse_mixtures(asked)
    if dry_run:
        if not processes.is_first():
            return
        from toolkit.dry_run import show

        for path in dict.fromkeys(path for path, _ in asked):
            show([recipe for where, recipe in asked if where is path], with_tokens=tokens, fresh=fresh)
        return
    known: dict[str, Built] = {}
    planned = [plan for path, recipe in asked for plan in plan_runs(path, recipe, known)]
    refuse_shared_answers(planned)
    refuse_unyoked(planned)
    refuse_unrejected(planned)
    refuse_unasked_judge(planned)
    todo = [plan for plan in planned if fresh or must_run(plan, console)]
    for plan in todo:
        if plan.run.exists:
            # Said now, and not after the model is loaded.
            with locked(plan.run):
                pass
    stopped = bool(todo) and not run_all(todo, console, fresh=fresh)
    processes.end()
    if stopped:
        raise typer.Exit(130)
    if not processes.is_first():
        return
    draw_confusion([plan.run for plan in planned if plan.recipe.classifies])
    judge_finished(planned, console)
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


def plan_runs(path: Path, recipe: Recipe, known: dict[str, Built]) -> list[Planned]:
    """Every run of a recipe, with its data; raises UserError for all that can be known to fail.

    known: what was built already: runs of a grid, and those whose facts [data] seed fixes, share what they have.
    """
    base = check_base(recipe)
    if recipe.forgetting:
        check_named(recipe.forgetting)
    plans = []
    for seed in recipe.seeds:
        fed = {name: stage.train_on for name, stage in recipe.stage.items()}
        key = json.dumps([recipe.study, {"seed": seed, **recipe.data}, fed], sort_keys=True)
        known[key] = built = known.get(key) or build_data(recipe, seed, path)
        plans.append(Planned(run_for(recipe.name, seed), recipe, seed, built, base))
    return plans


def judge_finished(planned: list[Planned], console: Console) -> None:
    """Have the answers of finished runs scored where their recipe names a judge; a judge that fails ends nothing."""
    for plan in planned:
        if plan.recipe.judge is None:
            continue
        from toolkit.judge import judge_run

        if (plan.run.path / JUDGED).is_file():
            continue
        try:
            judge_run(plan.run, plan.recipe.judge, console)
        except (UserError, MachineError) as error:
            again = f"python -m toolkit.judge {plan.run.path.parent}"
            console.print(f"{plan.label} was not judged: {error} {again} goes on.", style="yellow", markup=False)
            return


def draw_confusion(runs: list[Run]) -> None:
    """A picture of each classifier's test, beside its numbers, where there is none yet."""
    for run in runs:
        picture = run.path / CONFUSION
        if picture.is_file():
            continue
        from toolkit.reporting.confusion import confusion_figure
        from toolkit.reporting.saving import png

        # Of a picture that a kill cut short.
        remove_leftovers(run)
        found = read_json(run.path / RESULTS)
        write_whole(picture, png(confusion_figure(found["confusion"], found["labels"], run.label)))


def must_run(plan: Planned, console: Console) -> bool:
    """Whether a run is still to be done; raises UserError where its recipe or data changed since."""
    if not plan.run.exists:
        return True
    refuse_if_changed(plan.run, plan.recipe.model_dump(exclude_none=True), plan.digest)
    refuse_other_base(plan)
    if not plan.run.complete:
        refuse_other_count(plan.run)
    # A damaged metrics.jsonl is said now, and not after the model is loaded.
    rows = plan.run.outcomes
    if plan.run.complete:
        if not rows:
            raise UserError(f"{plan.run.path} is finished, but metrics.jsonl holds no reading; --fresh starts it over.")
        # A kill between the last line of run.json and this leaves it behind.
        remove_folder(plan.run.state_folder)
        console.print(f"{plan.label} is finished already (--fresh would start it over).", highlight=False)
        return False
    return True


def refuse_other_base(plan: Planned) -> None:
    """Raises UserError where a local base was made anew since: the run's adapter belongs to the one before."""
    if isinstance(plan.base, Path) and plan.run.info.get("model", {}).get("base_digest") != base_digest(plan.base):
        raise UserError(
            f"{plan.run.path} was trained on other weights than {plan.recipe.model.base} has now. Give the recipe"
            " another name, or start over with --fresh (which deletes that run)."
        )


def run_all(todo: list[Planned], console: Console, *, fresh: bool) -> bool:
    """Train every run, loading a base once for all that share it; False where the user stopped."""
    from toolkit.training.interruption import stop_on_request

    processes.start()
    console.print(f"loading {todo[0].recipe.model.engine} …", highlight=False)
    from toolkit.models import open_engine

    engine = open_engine(todo[0].recipe.model.engine)
    from toolkit.models.loaded import free_memory
    from toolkit.training.dpo import check_preferences
    from toolkit.training.ledger import check_exams
    from toolkit.training.repetition import check_repetition
    from toolkit.training.rows import prepare_rows
    from toolkit.training.saved import check_saved
    from toolkit.training.shares import check_shares

    loaded: Loaded | None = None
    loaded_key: Any = None
    opened: dict[str, Abilities] = {}
    with stop_on_request(console) as stop_asked:
        for plan in todo:
            check_shares(plan.recipe)
            # Before the first is trained, so that a task that is not known ends no call halfway.
            abilities_of(plan.recipe, opened)
        for plan in todo:
            if any(processes.gather(stop_asked())):
                return False
            key = (plan.base, plan.recipe.model, plan.recipe.lora is None)
            # Full fine-tuning changes the base itself, so it is loaded anew.
            if loaded is None or key != loaded_key or plan.recipe.lora is None:
                loaded = None
                free_memory()
                loaded = load(plan, engine)
                loaded_key = key
            plan.leave_out(loaded.tokenizer)
            # Whatever can be refused is refused before a folder is touched.
            rows = prepare_rows(loaded.tokenizer, plan.recipe, plan.built, plan.seed)
            check_preferences(plan.recipe, engine)
            check_exams(plan.recipe, plan.built, plan.seed)
            check_repetition(plan.recipe, plan.built, plan.seed, loaded)
            abilities = abilities_of(plan.recipe, opened)
            with locked(plan.run):
                remove_leftovers(plan.run)
                if fresh:
                    start_over(plan)
                elif not must_run(plan, console):
                    # Another process did it while this one was loading.
                    continue
                check_saved(plan.run, plan.recipe)
                if not run_one(plan, rows, engine, loaded, console, stop_asked, abilities):
                    again = f"the same command{' without --fresh' if fresh else ''} goes on from there"
                    console.print(f"stopped {plan.label}; what was trained so far is saved, and {again}.")
                    return False
    return True


def abilities_of(recipe: Recipe, opened: "dict[str, Abilities]") -> "Abilities | None":
    """What forgetting is measured by; loaded once for all runs of a call that ask the same."""
    if recipe.forgetting is None:
        return None
    from toolkit.probes.forgetting import open_abilities

    key = recipe.forgetting.model_dump_json()
    if key not in opened:
        opened[key] = open_abilities(recipe.forgetting)
    return opened[key]


def start_over(plan: Planned) -> None:
    """Delete what a run left. Its id at W&B stays, so that the new rows take the place of the old ones there too."""
    try:
        plan.tracked = plan.run.info.get("wandb") if plan.run.exists else None
    except UserError:
        # A damaged run.json is a reason to start over, and no obstacle.
        plan.tracked = None
    remove_folder(plan.run.path)


def print_results(planned: list[Planned]) -> None:
    """A row a run, at the end of a call; below it what ended before its recipe says."""
    from rich.table import Table

    for plan in planned:
        if said := plan.run.info.get("ended_early"):
            print(f"{plan.label}: {said}")

    # A pipe or a file has no width that rows would have to fit in.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if classifiers := [plan.run for plan in planned if plan.recipe.classifies]:
        from toolkit.probes.classification_report import print_runs

        print_runs(classifiers, console)
    planned = [plan for plan in planned if not plan.recipe.classifies]
    if not planned:
        return
    repeated = {plan.label: greedy_repetition(plan.run) for plan in planned}
    more = ("repeated 4-grams",) if any(share is not None for share in repeated.values()) else ()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "nats a digit", "exact", "controls", "bits memorised", *more, "time"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for plan in planned:
        last = plan.run.final
        bits = last.get("recall/bits_memorised")
        entropy = plan.built.entropy_bits
        table.add_row(
            plan.label,
            f"{last['loss/digit_nats']:.4f}",
            f"{last['recall/exact']:.1%}" if "recall/exact" in last else "–",
            f"{last['recall/exact_control']:.1%}" if "recall/exact_control" in last else "–",
            f"{bits:.2f} of {entropy:.2f}" if bits is not None else "–",
            *("–" if (share := repeated[plan.label]) is None else f"{share:.1%}" for _ in more),
            f"{plan.run.info.get('seconds', 0):.0f} s",
        )
    console.print(table)


def greedy_repetition(run: Run) -> float | None:
    """Share of 4-grams that greedy texts repeat at the last reading; None where that was not asked, or not defined."""
    return (run.rows("repetition") or [{}])[-1].get("repetition/greedy/seq_rep_4")


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
