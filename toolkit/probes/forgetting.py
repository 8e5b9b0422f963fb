"""Forgetting: what the model could do before training, asked again in the same way; tasks item by item, and texts.

A task is what the recipe names; its subjects are lm-eval's leaf tasks; a measure is a metric of them, the first of
which is the main one. `when` is before (the base), again (the base a second time: what rounding alone changes), after.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from toolkit.errors import UserError
from toolkit.models.base import base_digest
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.reference import Reference, as_base
from toolkit.probes import held_out
from toolkit.probes.lm_tasks import Task, ask, load_tasks, prompts_digest
from toolkit.probes.named import named_tasks, read_texts
from toolkit.probes.recall import Moment, write_reading
from toolkit.recipe import Forgetting, Model
from toolkit.stored import read_reading

KEPT = Path("data/forgetting")
"""What was measured of bases, a file a task and digest: a grid over one base measures it once."""

TEXT = "text"
"""What the file of the texts is called, beside those of tasks."""
Row = dict[str, Any]
Tell = Callable[[str, int, int], None]
"""Told what is asked, and how much of it is done, of how much."""


class Abilities(NamedTuple):
    """What a [forgetting] table asks, loaded."""

    how: Forgetting
    tasks: list[Task]
    texts: list[held_out.Text]


class Read(NamedTuple):
    """One reading: rows of questions, and rows of windows of text."""

    items: list[Row]
    windows: list[Row]


def open_abilities(how: Forgetting) -> Abilities:
    """Load tasks with their data, and texts. An engine is opened first. Raises UserError as `check_named` does,
    and for a task that is not known or cannot be asked; MachineError where the hub cannot be reached."""
    named = named_tasks(how.tasks, code=how.task_code)
    tasks = load_tasks(named, code=how.task_code)
    names = [name for task in tasks for name in dict.fromkeys([task.name, *task.subjects])]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'[forgetting] tasks: "{twice}" is named twice, by itself and as part of another.')
    return Abilities(how, tasks, read_texts(how.text))


# --- reading ---


def read_abilities(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    abilities: Abilities,
    reference: Reference,
    moment: Moment,
    tell: Tell,
) -> Read:
    """What the model can do now, as rows with `when` = after. Leaves no trace in model, tokenizer and random states."""
    items = []
    for task in abilities.tasks:
        items += ask_task(loaded, engine, asked, abilities.how, task, abilities.how.batch_size, tell)
    windows = read_windows(loaded, engine, asked, abilities, reference, moment, tell)
    return Read(at(moment, marked(items, "after")), windows)


def digests_of(loaded: Loaded, engine: ModuleType, asked: Model, abilities: Abilities) -> dict[str, str]:
    """What identifies all that is asked: of each task its prompts, answers and scoring, of each text what it says."""
    how = abilities.how
    with undisturbed(loaded, engine):
        found = {
            task.name: prompts_digest(task, asked, how.limit, how.few_shot, loaded.tokenizer)
            for task in abilities.tasks
        }
    return found | {
        f"text {text.name}": hashlib.sha256(text.text.encode()).hexdigest() for text in abilities.texts
    }  # fmt: skip


def read_base(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    abilities: Abilities,
    reference: Reference,
    digests: dict[str, str],
    moment: Moment,
    tell: Tell,
) -> Read:
    """What the base can do, as rows with `when` = before and again; taken from an earlier measurement of the same base
    with the same questions and settings where there is one. Called before anything is trained.

    digests: as `digests_of` says.
    """
    how = abilities.how
    items = []
    # Without an adapter the model is the base itself, as nothing was trained yet.
    is_base = not hasattr(loaded.model, "peft_config")
    with contextlib.nullcontext() if is_base else as_base(loaded, reference):
        for task in abilities.tasks:
            kept = kept_file(loaded, engine, asked, how, task.name, digests[task.name])
            if known := kept_rows(kept):
                items += known
                continue
            rows = marked(ask_task(loaded, engine, asked, how, task, how.batch_size, tell), "before")
            if how.noise_floor:
                # Half of it may take the same kernels of a GPU, and change nothing.
                other = 1 if how.batch_size > 1 else 2
                rows += marked(ask_task(loaded, engine, asked, how, task, other, tell), "again")
            if kept:
                write_reading(kept, rows, item_schema(moment=False))
            items += rows
        windows = read_windows(loaded, engine, asked, abilities, None, moment, tell)
    return Read(at(moment, items), windows)


def ask_task(
    loaded: Loaded, engine: ModuleType, asked: Model, how: Forgetting, task: Task, batch_size: int, tell: Tell
) -> list[Row]:
    def progress(done: int, total: int) -> None:
        tell(task.name, done, total)

    return ask(
        loaded, engine, task, asked,
        limit=how.limit, few_shot=how.few_shot, batch_size=batch_size, progress=progress,
    )  # fmt: skip


def read_windows(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    abilities: Abilities,
    reference: Reference | None,
    moment: Moment,
    tell: Tell,
) -> list[Row]:
    """Rows of the texts' windows: of the base where there is no reference, which is what to compare with."""
    if not abilities.texts:
        return []
    length = min(asked.max_length, held_out.LONGEST)
    when = "before" if reference is None else "after"
    return held_out.read_held_out(
        loaded, engine, reference, abilities.texts, moment, when,
        length=length, progress=lambda done, total: tell("text", done, total),
    )  # fmt: skip


def at(moment: Moment, rows: list[Row]) -> list[Row]:
    """Rows with the columns that say when they were read."""
    now = {name: getattr(moment, name) for name in OF_MOMENT}
    return [now | row for row in rows]


def marked(rows: list[Row], when: str) -> list[Row]:
    return [{"when": when, **row} for row in rows]


def kept_file(
    loaded: Loaded, engine: ModuleType, asked: Model, how: Forgetting, task: str, prompts: str
) -> Path | None:
    """Where this base's answers to this task are kept; None for a base that nothing identifies.

    The name holds a digest of all that the answers depend on: weights, how they are loaded and computed, every prompt
    and right answer, batch sizes, and versions.
    """
    import lm_eval
    import torch
    import transformers

    described = loaded.described
    source = Path(described["loaded_from"])
    weights = base_digest(source) if source.is_dir() else described["revision"]
    if not weights:
        return None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    loading = [described[key] for key in ("dtype", "quantisation", "precision_asked", "engine")]
    parts = [
        # Unsloth has other kernels for a model without an adapter than for one whose adapter is off.
        weights, config_digest(source), *loading, hasattr(loaded.model, "peft_config"), engine.VERSION,
        torch.__version__, transformers.__version__, lm_eval.__version__, device, asked.format, asked.max_length,
        how.batch_size, how.noise_floor, tokenizer_digest(loaded.tokenizer), prompts,
    ]  # fmt: skip
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return KEPT / f"{file_name(task)}-{digest}.parquet"


def config_digest(source: Path) -> str | None:
    """Of a local base's config.json: the same weights with other settings, of positions say, are another base."""
    path = source / "config.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def kept_rows(path: Path | None) -> list[Row] | None:
    """What was measured of a base before. None where nothing was, and where the file is damaged or of another version:
    the base is there to be asked again, and what it says takes the file's place."""
    if path is None or not path.is_file():
        return None
    try:
        return read_items(path)
    except UserError:
        return None


def tokenizer_digest(tokenizer: Any) -> str:
    """Of its own file and template; how it cut and padded the last texts that it was given is no part of it."""
    said: Any = repr(tokenizer)
    if hasattr(tokenizer, "backend_tokenizer"):
        said = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps([said, tokenizer.chat_template]).encode()).hexdigest()


def file_name(task: str) -> str:
    """A task's name as a file can be called on every system, and no other task's is."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip(".-")
    if plain == task and plain.lower() != TEXT:
        return plain
    return f"{plain or 'task'}-{hashlib.sha256(task.encode()).hexdigest()[:8]}"


# --- files ---

OF_MOMENT = ("run", "seed", "stage", "step", "epoch")


def of_moment() -> list[tuple[str, Any]]:
    import pyarrow as pa

    types = (pa.string(), pa.int64(), pa.string(), pa.int64(), pa.float64())
    return list(zip(OF_MOMENT, types, strict=True))


def item_schema(*, moment: bool = True) -> Any:
    """Columns of probes/forgetting-*.parquet. moment: with the columns that say when a run was read."""
    import pyarrow as pa

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return pa.schema(
        [
            *(of_moment() if moment else []),
            ("when", text), ("task", text), ("subject", text), ("item", whole), ("question", text), ("measure", text),
            ("value", number), ("right", pa.bool_()), ("chance", number), ("gold", text), ("answer", text),
            ("loglikelihoods", pa.list_(number)), ("cut", whole), ("prompt_hash", text),
        ]
    )  # fmt: skip


def read_items(path: Path) -> list[Row]:
    """Rows of questions. Raises UserError where the file is damaged or has not their columns."""
    return read_reading(path, item_schema(moment=False), "tasks")


def read_rows_of_text(path: Path) -> list[Row]:
    """Rows of windows. Raises UserError where the file is damaged or has not their columns."""
    return read_reading(path, held_out.schema(), "texts")


# --- what metrics.jsonl says ---


def summarise(before: Read, now: Read) -> dict[str, float]:
    """Shares of right answers (means, of a measure that is no right or wrong) by task and measure, and their changes.

    forgetting/<task>/<measure>, …_change, forgetting/mean_change over the tasks' main measures, and of texts what
    `held_out.summarise` says.
    """
    first, last = means(before.items, "before"), means(now.items, "after")
    values: dict[str, float] = {}
    changes = []
    for task, measures in last.items():
        for number, (measure, value) in enumerate(measures.items()):
            values[f"forgetting/{task}/{measure}"] = value
            change = value - first[task][measure]
            values[f"forgetting/{task}/{measure}_change"] = change
            if not number:
                changes.append(change)
    if changes:
        values["forgetting/mean_change"] = math.fsum(changes) / len(changes)
    return values | held_out.summarise([row for row in now.windows if row["when"] == "after"])


def summarise_base(base: Read) -> dict[str, float]:
    """The same of the base, of which nothing has changed."""
    values = {
        f"forgetting/{task}/{measure}": value
        for task, measures in means(base.items, "before").items()
        for measure, value in measures.items()
    }
    return values | held_out.summarise([row for row in base.windows if row["when"] == "before"])


def means(rows: Iterable[Row], when: str) -> dict[str, dict[str, float]]:
    """The mean value of each measure over a task's questions, all subjects together, in the order of the rows."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["when"] == when and row["value"] is not None:
            found.setdefault(row["task"], {}).setdefault(row["measure"], []).append(row["value"])
    return {
        task: {measure: math.fsum(values) / len(values) for measure, values in measures.items()}
        for task, measures in found.items()
    }


def main_changes(summary: dict[str, float]) -> dict[str, float]:
    """The change of each task's main measure, by task, from a row of metrics.jsonl; none of what is no share."""
    changes: dict[str, float] = {}
    seen: set[str] = set()
    for key, change in summary.items():
        found = re.fullmatch(r"forgetting/(.+)/([^/]+)_change", key)
        if found is None or change is None or found[1] in seen:
            continue
        seen.add(found[1])
        now = summary[key.removesuffix("_change")]
        if min(now, now - change) >= -1e-9 and max(now, now - change) <= 1 + 1e-9:
            changes[found[1]] = change
    return changes
