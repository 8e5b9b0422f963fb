"""What a dry run says of forgetting: what will be asked, how much of it, and when."""

from pathlib import Path
from typing import Any

from rich.console import Console

from toolkit.probes.named import Named, members_of, named_tasks, read_task_file, read_texts
from toolkit.recipe import Forgetting, Recipe

LARGEST = 20_000_000
"""Bytes of a file of questions that is read to count them."""


def show_forgetting(console: Console, recipe: Recipe) -> None:
    """Tasks with the number of their questions where their data are local, texts, and how often they are read.

    Raises UserError as `check_named` does. Loads no lm-eval.
    """
    how = recipe.forgetting
    assert how is not None
    named = named_tasks(how.tasks, code=how.task_code)
    own = [one.name for one in named if one.folder is None]
    if own:
        console.print(f"tasks of lm-eval: {', '.join(own)}")
    for one in named:
        if one.folder:
            counts = counted(one, how)
            sizes = (f"{name}, {size:,} questions" if size else name for name, size in counts.items())
            console.print(f"tasks in {one.name}: {'; '.join(sizes)}")
    limits = [f"at most {how.limit:,} questions of each subject"] if how.limit and named else []
    limits += [f"{how.few_shot} examples before each question"] if how.few_shot and named else []
    if limits:
        console.print(", ".join(limits))
    for text in read_texts(how.text):
        console.print(f"text: {text.name}, {len(text.text.encode('utf-8')):,} bytes")
    show_times(console, recipe, how)


def show_times(console: Console, recipe: Recipe, how: Forgetting) -> None:
    stages = recipe.stage.values()
    times = sum(stage.epochs for stage in stages) if how.every == "epoch" else len(stages)
    early = how.stop_if_worse_by is not None or any(stage.method == "exam" for stage in stages)
    twice = ", questions twice (noise_floor)" if how.noise_floor and how.tasks else ""
    kept = "; what a base answers is kept for all runs that ask it the same" if how.tasks and recipe.model.base else ""
    console.print(f"read before training{twice}{kept}")
    often = f"{'at most ' if early and times > 1 else ''}{times} times" if times > 1 else "once"
    console.print(f"read after each {how.every}, {often} a run, in batches of {how.batch_size}")
    if how.stop_if_worse_by is not None:
        console.print(
            f"training ends after an epoch at whose end a task has fallen by over {100 * how.stop_if_worse_by:g} points"
        )


def counted(one: Named, how: Forgetting) -> dict[str, int | None]:
    """How many questions each task of a folder has, all its subjects together; None where that is not cheaply told."""
    assert one.folder is not None
    configs: dict[str, dict[str, Any]] = {}
    for path in sorted(one.folder.rglob("*.yaml")):
        config = read_task_file(path, code=how.task_code)
        configs[str(config.get("group") or config.get("task"))] = config

    def size(name: str) -> int | None:
        config = configs.get(name)
        if config is None:
            return None
        if not config.get("group"):
            return questions_of(config, how.limit)
        sizes = [size(child) for child in members_of(config)]
        return None if None in sizes else sum(filter(None, sizes))

    return {name: size(name) for name in one.inside}


def questions_of(config: dict[str, Any], limit: int | None) -> int | None:
    """Lines of a subject's local JSON Lines file, at most `limit`."""
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    split = config.get("test_split") or config.get("validation_split")
    path = files.get(split) if isinstance(files, dict) else None
    if config.get("dataset_path") != "json" or not isinstance(path, str) or not path.endswith(".jsonl"):
        return None
    if not Path(path).is_file() or Path(path).stat().st_size > LARGEST:
        return None
    lines = sum(1 for line in Path(path).read_bytes().splitlines() if line.strip())
    return min(lines, limit) if limit else lines
