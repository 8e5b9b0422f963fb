"""What a recipe would do: its resolved text, tokens, schedule, sizes and information, and nothing is written."""

import re
from pathlib import Path
from typing import Any

from rich.console import Console

from toolkit.dry_run_forgetting import show_forgetting
from toolkit.dry_run_size import show_size
from toolkit.dry_run_stages import SHOWN_EXAMPLES, show_data, show_schedule, show_stage, show_tokens
from toolkit.errors import MachineError, UserError
from toolkit.example import Example
from toolkit.metrics.information import Shape
from toolkit.metrics.testing import contrasts_among, reachable_level, seeds_needed, smallest_difference, smallest_p
from toolkit.models.base import check_tokenizer, find_base, shape_of
from toolkit.recipe import Recipe, to_toml
from toolkit.run_folder import ROOT, Run, changed_keys, run_for
from toolkit.studies import build_data
from toolkit.studies.built import Built
from toolkit.training.rows import Rows

MOST_RENDERED = 20_000
"""Examples of a part that a dry run renders: of millions a run does it, and it takes minutes."""


def show(groups: list[Recipe], *, with_tokens: bool, fresh: bool = False) -> None:
    """Print everything that is known of a recipe before it is run; of a grid the first group, and the others' names."""
    recipe = groups[0]
    # Without markup: tables' names stand in brackets, in the recipe and in messages.
    console = Console(highlight=False, markup=False)
    console.print(short_lists(to_toml(recipe)).rstrip(), soft_wrap=True)
    lacking: list[str] = []
    base, shape = find_model(recipe, lacking)
    has_model = not lacking
    heading(console, "data")
    built = find_data(recipe, lacking)
    updates: list[int | None] = [None]
    longest = 0
    if built is None:
        console.print("not known: the data set is not on this machine")
        if has_model and isinstance(check_tokenizer(recipe.model), str):
            not_shown(console, recipe.model.tokenizer and recipe.model.tokenizer.base)
        heading(console, "schedule")
        for name in recipe.stage:
            show_schedule(console, recipe, name)
    else:
        show_data(console, built)
        tokenizer = open_tokenizer(recipe, built, base, console) if with_tokens and has_model else None
        rows = None
        if tokenizer:
            built, rows = show_rows(console, recipe, built, tokenizer)
        longest = longest_row(recipe, built, rows)
        heading(console, "schedule")
        updates = [show_stage(console, recipe, built, name, rows[name] if rows else None) for name in recipe.stage]
    if recipe.judge and built:
        show_judge(console, recipe, built)
    if recipe.forgetting:
        heading(console, "forgetting")
        try:
            show_forgetting(console, recipe)
        except UserError as error:
            lacking.append(str(error))
            console.print("not known: something is not there")
    heading(console, "size")
    show_size(console, recipe, shape, len(built.labels or ()) if built else 0, longest)
    heading(console, f"runs: {len(recipe.seeds)}, seeds {', '.join(map(str, recipe.seeds))}")
    show_runs(console, recipe, updates, fresh)
    heading(console, "what so many seeds can show")
    show_design(console, groups)
    if len(groups) > 1:
        show_grid(console, groups)
    for said in lacking:
        console.print(f"before it can run: {said}", style="yellow")


def find_model(recipe: Recipe, lacking: list[str]) -> tuple[Path | str | None, Shape | None]:
    """The base (None of a new model), and the shape as far as it is known; `lacking` is told what is not there."""
    try:
        base = find_base(recipe.model.base) if recipe.model.base else None
        return base, shape_of(recipe, base)
    except UserError as error:
        lacking.append(str(error))
        return None, None


def find_data(recipe: Recipe, lacking: list[str]) -> Built | None:
    """The examples; None, with a word in `lacking`, where they are of a hub that cannot be reached."""
    try:
        return build_data(recipe, recipe.seeds[0])
    except MachineError as error:
        lacking.append(f"{error} python -m toolkit.data RECIPE --fetch does so, into data/sets/.")
        return None


def show_rows(console: Console, recipe: Recipe, built: Built, tokenizer: Any) -> tuple[Built, dict[str, Rows] | None]:
    """Shows the first rows of each stage. Returns what is trained of the examples, and all rows of it; None for rows,
    where there are so many examples that only the first are rendered."""
    from toolkit.training.lengths import without_long
    from toolkit.training.rows import prepare_rows

    heading(console, "tokens (trained ones are " + ("green)" if console.color_system else "in brackets)"))
    first = first_of(built)
    many = len(first.examples) < len(built.examples)
    fitting = without_long(tokenizer, recipe, first)
    rows = prepare_rows(tokenizer, recipe, fitting, recipe.seeds[0])
    for name, stage in recipe.stage.items():
        shown = 1 if stage.method == "pretrain" or stage.packing else SHOWN_EXAMPLES
        show_tokens(console, name, rows[name][:shown], tokenizer)
    for note in fitting.notes[len(built.notes) :]:
        console.print(note, style="yellow")
    if many:
        console.print(f"only the first {MOST_RENDERED:,} examples of each part were rendered; a run renders all")
        return built, None
    return fitting, rows


def first_of(built: Built) -> Built:
    """The first examples of each split and part."""
    kept: dict[tuple[str, str], list[Example]] = {}
    for example in built.examples:
        kept.setdefault((example.split, example.part), []).append(example)
    return built._replace(examples=[example for group in kept.values() for example in group[:MOST_RENDERED]])


def longest_row(recipe: Recipe, built: Built, rows: dict[str, Rows] | None) -> int:
    """Tokens of the longest row but for blocks of a stream; without rows a guess, a token a character."""
    if rows is None:
        return min(recipe.model.max_length, max(len(example.said) for example in built.examples))
    of = [row for name, stage in recipe.stage.items() if stage.method != "pretrain" for row in rows[name]]
    return max((len(row["input_ids"]) for row in of if "input_ids" in row), default=0)


def short_lists(toml: str) -> str:
    """TOML with each list on one line."""
    return re.sub(
        r"\[\n((?: +.*,\n)+)\]",
        lambda found: f"[{' '.join(line.strip() for line in found[1].splitlines())[:-1]}]",
        toml,
    )


def heading(console: Console, text: str) -> None:
    console.print()
    console.print(text, style="bold")


def show_grid(console: Console, groups: list[Recipe]) -> None:
    """A line a group, with how many of its runs are finished."""
    heading(console, f"grid: {len(groups)} groups, {sum(len(recipe.seeds) for recipe in groups)} runs")
    console.print("above is the first; the others differ in what the grid says, and in their names:")
    for recipe in groups:
        done = sum(run_for(recipe.name, seed).complete for seed in recipe.seeds)
        console.print(f"  {recipe.name}: {done} of {len(recipe.seeds)} finished", soft_wrap=True)


def show_design(console: Console, groups: list[Recipe]) -> None:
    """What comparing the groups, or one with another of as many runs, could show at 5 %, after Holm."""
    seeds, alone = len(groups[0].seeds), len(groups) == 1
    if seeds < 2:
        console.print("one run says nothing about other seeds: no difference can be shown", style="yellow")
        return
    pairs = contrasts_among(groups)
    # Of one pattern and one seed: the very same facts.
    for paired in sorted({a.data == b.data for a, b in pairs}) or [False]:
        least, contrasts = smallest_p(seeds, seeds, paired), max(1, len(pairs))
        against = f"{seeds} pairs of runs" if paired else f"compared with a group of {seeds} runs"
        holm = f", and Holm takes it up to {contrasts} times" if contrasts > 1 else ""
        console.print(f"{against}: the smallest p is {least:.3g}{holm}")
        level = reachable_level(seeds, seeds, paired, 0.05 / contrasts)
        if not level:
            more = f" ({seeds_needed(3)} for three groups)" if alone else ""
            console.print(
                f"{seeds} seeds can never show a difference at 5 %, however large it is: say at least"
                f" {seeds_needed(contrasts, paired)}{more}",
                style="yellow",
            )
            continue
        difference = smallest_difference(1.0, seeds, paired, alpha=level)
        of = "of differences within pairs" if paired else "of runs within a group"
        more = f"; for three groups say at least {seeds_needed(3)} seeds" if alone and least * 3 > 0.05 else ""
        console.print(
            f"a difference of {difference:.2f} standard deviations ({of}) is found with about 80 % power{more}"
        )


def open_tokenizer(recipe: Recipe, built: Built, base: Any, console: Console) -> Any:
    """The base's tokenizer, or a new model's; None, and a word, where it is not to be had."""
    if recipe.model.tokenizer:
        from toolkit.models.from_scratch import tokenizer_of

        try:
            return tokenizer_of(recipe.model, built.examples, local_only=True)
        except UserError:
            if not isinstance(check_tokenizer(recipe.model), str):
                raise
            not_shown(console, recipe.model.tokenizer.base)
            return None
    from transformers import AutoTokenizer

    from toolkit.models.opening import not_loaded

    try:
        return AutoTokenizer.from_pretrained(
            base,
            revision=recipe.model.revision,
            trust_remote_code=recipe.model.remote_code,
            # A dry run fetches nothing.
            local_files_only=True,
        )
    # As where a base is loaded: of any class.
    except Exception as error:
        if isinstance(base, Path):
            raise UserError(not_loaded(base, recipe.model, error)) from error
        not_shown(console, base)
        return None


def not_shown(console: Console, base: Any) -> None:
    console.print(f"\ntokens are not shown: the tokenizer of {base} is not on this machine (a run fetches it).")


def show_judge(console: Console, recipe: Recipe, built: Built) -> None:
    """What a judge would be asked."""
    from toolkit.judge import most_calls

    assert recipe.judge is not None
    asked = sum(example.is_question for example in built.examples)
    calls = most_calls(asked, len(recipe.stage))
    console.print(
        f"judge: at most {calls:,} calls a run to {recipe.judge.model} at {recipe.judge.base_url}, {asked:,} before"
        f" training and after each of {len(recipe.stage)} stages; python -m toolkit.judge --dry-run says more"
    )


def show_runs(console: Console, recipe: Recipe, updates: list[int | None], fresh: bool) -> None:
    for seed in recipe.seeds:
        run = run_for(recipe.name, seed)
        state = "finished already" if run.complete else "would go on" if run.exists else "new"
        if run.exists and changed_keys(run.recipe, recipe.model_dump(exclude_none=True)):
            state = "made by another version of this recipe, and left alone without --fresh"
        if run.exists and fresh:
            state = "would be deleted and started over"
        console.print(f"  {run.path}: {state}")
    known = seconds_an_update(recipe)
    if known and None not in updates:
        seconds, label = known
        total = sum(n or 0 for n in updates) * seconds
        console.print(f"about {total:.0f} s a run, as {label} took {seconds:.3f} s an update with readings")


def seconds_an_update(recipe: Recipe) -> tuple[float, str] | None:
    """What an update took in the longest finished run of the same base and batch; None where there was none."""
    found: list[tuple[int, float, str]] = []
    for path in sorted(ROOT.glob("*/seed-*/run.json")):
        run = Run(path.parent)
        try:
            if not run.complete:
                continue
            before, rows, seconds = run.recipe, run.rows(), run.info.get("seconds")
        except UserError:
            # Another run that is damaged is none of this recipe's business.
            continue
        same = before.get("model") == recipe.model.model_dump(exclude_none=True) and [
            (s.get("batch_size"), s.get("grad_accum")) for s in before.get("stage", {}).values()
        ] == [(s.batch_size, s.grad_accum) for s in recipe.stage.values()]
        steps = rows[-1]["step"] if rows else 0
        if same and steps and seconds:
            found.append((steps, seconds, run.label))
    if not found:
        return None
    # In a short run, what is done once weighs much.
    steps, seconds, label = max(found, key=lambda run: run[0])
    return seconds / steps, label
