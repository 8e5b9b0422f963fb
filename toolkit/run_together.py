"""What is refused before anything is written: runs that cannot share a call, and what they need that is not there."""

from pathlib import Path

from toolkit.errors import UserError
from toolkit.recipe import Recipe, find_recipe_named
from toolkit.run_folder import JUDGED, run_for
from toolkit.seeds import sub_seed
from toolkit.training.one_run import Planned
from toolkit.training.rejected import rejected_answers
from toolkit.training.rows import stage_examples


def refuse_mixtures(asked: list[tuple[Path, Recipe]]) -> None:
    """Two recipes of one name would share a folder; two engines cannot share a process, as Unsloth patches it."""
    paths: dict[str, Path] = {}
    for path, recipe in asked:
        # Windows and macOS see one folder in two spellings.
        name = recipe.name.casefold()
        if name in paths:
            raise UserError(f'{path} and {paths[name]} are both called "{recipe.name}"; give one another name.')
        paths[name] = path
    engines = {recipe.model.engine for _, recipe in asked}
    if len(engines) > 1:
        raise UserError("these recipes ask for different engines, which cannot share a process; run them one by one.")


def refuse_shared_answers(planned: list[Planned]) -> None:
    """Groups of different patterns must not share an answer; of one pattern and seed they do on purpose, as pairs."""
    owners: dict[tuple[str, int, str], Planned] = {}
    for plan in planned:
        for example in plan.built.examples:
            if example.split == "test":
                # Asked only: a reversed question's answer is an index, which all groups have.
                continue
            other = owners.setdefault((plan.recipe.study, plan.seed, example.answer), plan)
            if other is not plan and other.recipe.data.get("pattern") != plan.recipe.data.get("pattern"):
                raise UserError(
                    f"{example.answer} is in {other.label} and in {plan.label}: with seed {plan.seed} these groups"
                    " share a number. Take another seed."
                )


def refuse_unyoked(planned: list[Planned]) -> None:
    """A yoked run follows another one, which must be finished, or come before it in this call."""
    before: set[tuple[str, int]] = set()
    all_of_them = {(plan.recipe.name, plan.seed) for plan in planned}
    for plan in planned:
        for name, stage in plan.recipe.stage.items():
            followed = stage.yoked_to
            if (followed, plan.seed) in all_of_them - before:
                raise UserError(f"{plan.recipe.name} follows {followed}, which comes after it: give that recipe first.")
            if followed and (followed, plan.seed) not in before and not run_for(followed, plan.seed).complete:
                maker, run = find_recipe_named(followed), run_for(followed, plan.seed)
                raise UserError(
                    f'{plan.recipe.name}: [stage.{name}] yoked_to = "{followed}": {run.path} is not finished. '
                    + (f"Give {maker} first, in this call or before." if maker else "No recipe is called so.")
                )
        before.add((plan.recipe.name, plan.seed))


def refuse_unasked_judge(planned: list[Planned]) -> None:
    """A judge that could not be asked is said before training: an address that is none, a key that is not there."""
    lacking = [plan for plan in planned if not (plan.run.path / JUDGED).is_file()]
    for judge in {plan.recipe.name: plan.recipe.judge for plan in lacking}.values():
        if judge:
            from toolkit.service import check_address, read_key

            check_address(judge.base_url)
            read_key(judge.key_env, judge.base_url)


def refuse_unrejected(planned: list[Planned]) -> None:
    """A wrong answer that preference training asks for and that cannot be had is said before anything is loaded."""
    for plan in planned:
        for name, stage in plan.recipe.stage.items():
            if stage.method != "dpo":
                continue
            examples = stage_examples(plan.built, stage)
            try:
                rejected_answers(examples, stage.rejected, sub_seed(plan.seed, "rejected"))
            except UserError as error:
                raise UserError(f"{plan.recipe.name}: [stage.{name}] {error}") from None
