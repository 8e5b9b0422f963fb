"""What a recipe would do: its resolved text, tokens, schedule, sizes and information, and nothing is written."""

import re
from pathlib import Path
from typing import Any

from rich.console import Console

from toolkit.dry_run_forgetting import show_forgetting
from toolkit.dry_run_stages import SHOWN_EXAMPLES, show_data, show_stage, show_tokens
from toolkit.errors import UserError
from toolkit.metrics.information import Shape, head_parameters, lora_parameters, parameters, projection_sizes
from toolkit.metrics.testing import contrasts_among, reachable_level, seeds_needed, smallest_difference, smallest_p
from toolkit.models.base import find_base, shape_of
from toolkit.recipe import Recipe, to_toml
from toolkit.run_folder import ROOT, Run, changed_keys, run_for
from toolkit.studies import build_data
from toolkit.studies.built import Built

WEIGHT_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "nf4": 0.55, "fp8": 1.0}
"""Bytes a weight of a projection; nf4 with double quantisation needs about 4.4 bits."""
OPTIMIZER_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 2, "adamw": 8, "sgd": 0}
"""Bytes of optimizer state a trained weight."""


def show(groups: list[Recipe], *, with_tokens: bool, fresh: bool = False) -> None:
    """Print everything that is known of a recipe before it is run; of a grid the first group, and the others' names."""
    recipe = groups[0]
    # Without markup: tables' names stand in brackets, in the recipe and in messages.
    console = Console(highlight=False, markup=False)
    console.print(short_lists(to_toml(recipe)).rstrip(), soft_wrap=True)
    built = build_data(recipe, recipe.seeds[0])
    base, missing = None, ""
    if recipe.model.base:
        try:
            base = find_base(recipe.model.base)
        except UserError as error:
            missing = str(error)
    heading(console, "data")
    show_data(console, built)
    tokenizer = open_tokenizer(recipe, built, base, console) if with_tokens and not missing else None
    rows = None
    if tokenizer:
        from toolkit.training.rows import prepare_rows

        heading(console, "tokens (trained ones are " + ("green)" if console.color_system else "in brackets)"))
        rows = prepare_rows(tokenizer, recipe, built, recipe.seeds[0])
        for name, stage in recipe.stage.items():
            shown = 1 if stage.method == "pretrain" else SHOWN_EXAMPLES
            show_tokens(console, name, rows[name][:shown], tokenizer)
    heading(console, "schedule")
    updates = [show_stage(console, recipe, built, name, len(rows[name]) if rows else None) for name in recipe.stage]
    if recipe.judge:
        show_judge(console, recipe, built)
    lacking = [missing] if missing else []
    if recipe.forgetting:
        heading(console, "forgetting")
        try:
            show_forgetting(console, recipe)
        except UserError as error:
            lacking.append(str(error))
            console.print("not known: something is not there")
    heading(console, "size")
    show_size(console, recipe, None if missing else shape_of(recipe, base), len(built.labels or ()))
    heading(console, f"runs: {len(recipe.seeds)}, seeds {', '.join(map(str, recipe.seeds))}")
    show_runs(console, recipe, updates, fresh)
    heading(console, "what so many seeds can show")
    show_design(console, groups)
    if len(groups) > 1:
        show_grid(console, groups)
    for said in lacking:
        console.print(f"before it can run: {said}", style="yellow")


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
    """The base's tokenizer, or a new one trained on the study's texts; None, and a word, where it is not to be had."""
    if recipe.model.tokenizer:
        from toolkit.models.from_scratch import train_tokenizer

        texts = [example.prompt + example.answer for example in built.examples if example.split == "train"]
        return train_tokenizer(texts, recipe.model.tokenizer.vocab_size)
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
        console.print(f"\ntokens are not shown: the tokenizer of {base} is not on this machine (a run fetches it).")
        return None


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


def show_size(console: Console, recipe: Recipe, shape: Shape | None, classes: int) -> None:
    if shape is None:
        console.print("not known: the base is not on this machine, or no Qwen3")
        return
    total = parameters(shape)
    trained = lora_parameters(shape, recipe.lora.rank, recipe.lora.targets) if recipe.lora else total
    head = head_parameters(shape.hidden, recipe.model.head.layers, classes) if recipe.model.head else 0
    trained += head
    of_head = f", {head:,} of them in the head; {total:,}" if head else f" of {total:,}"
    console.print(f"{trained:,} trainable parameters{of_head} in the {'base' if recipe.lora else 'model'}")
    memory = estimate_memory(shape, recipe, trained)
    parts = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in memory.items())
    console.print(f"memory about {sum(memory.values()) / 2**30:.1f} GiB, an estimate: {parts}")
    kept = 1 + max((s.epochs if s.keep == "epochs" else s.keep == "best") for s in recipe.stage.values())
    saved = trained * 4
    working = 2 * (saved + trained * OPTIMIZER_BYTES[next(iter(recipe.stage.values())).optimizer]) + saved
    console.print(
        f"disk about {saved * kept / 2**20:.0f} MiB a run when finished, {(saved * kept + working) / 2**20:.0f} MiB"
        " while it runs"
    )


def estimate_memory(shape: Shape, recipe: Recipe, trained: int) -> dict[str, float]:
    """Bytes by purpose, roughly: weights and optimizer are counted, activations are a rule of thumb.

    Of training and of readings, which take turns, that one which needs more.
    """
    # Weights that are trained stay in float32.
    bytes_each = WEIGHT_BYTES[recipe.model.precision] if recipe.lora else 4.0
    projections = shape.layers * sum(a * b for a, b in projection_sizes(shape).values())
    dense = max(2.0, bytes_each)
    weights = projections * bytes_each + (parameters(shape) - projections) * dense
    stage = max(recipe.stage.values(), key=lambda s: s.batch_size)
    longest = {"pretrain": stage.block, "classify": recipe.model.max_length}
    tokens = stage.batch_size * longest.get(stage.method, min(recipe.model.max_length, 64))
    layers = 1 if recipe.model.gradient_checkpointing else shape.layers
    training = {
        # About 34 bytes a token, layer and hidden unit in 16 bits (Korthikanti 2022), twice that in 32.
        "activations": tokens * layers * shape.hidden * 17 * dense,
        "logits": 0.0 if recipe.model.head else tokens * shape.vocabulary * 8.0,
    }
    # Generating a short answer: keys and values of 512 places, which Unsloth makes room for, and logits in two copies.
    cache = shape.layers * shape.kv_heads * shape.head_size * 2 * dense * 512
    held = recipe.recall.batch_size * (cache + shape.vocabulary * 8.0 * 20)
    if recipe.forgetting and recipe.forgetting.tasks:
        # lm-eval takes the logits of whole prompts; 13 bytes each were measured.
        how = recipe.forgetting
        at_once = 2 if how.noise_floor and how.batch_size == 1 else how.batch_size
        held = max(held, at_once * recipe.model.max_length * shape.vocabulary * 13.3)
    readings = {"readings": held}
    return {
        "weights": weights,
        "gradients and optimizer": trained * (4 + OPTIMIZER_BYTES[stage.optimizer] + (4 if recipe.lora else 0)),
        **(readings if (recipe.forgetting or not recipe.classifies) and held > sum(training.values()) else training),
    }


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
