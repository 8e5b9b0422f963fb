"""Tasks of lm-eval, asked of a model in memory: one row a question and measure."""

import contextlib
import functools
import hashlib
import inspect
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from toolkit.errors import MachineError, UserError, nearest
from toolkit.models.loaded import Loaded, mixed_precision, undisturbed
from toolkit.probes.lm_memory import HFLM, InMemory, Progress, barred
from toolkit.probes.named import Named
from toolkit.recipe import Model
from toolkit.studies.tables import first_line

Row = dict[str, Any]
SEED = 1234
"""lm-eval's own, of the examples before a question: its command gives the same prompts."""
QUESTION = 400
"""Characters of a prompt's end that are kept."""


class Task(NamedTuple):
    """A task as it is reported."""

    name: str
    built: Any
    """lm-eval's Task or Group, with its data."""
    subjects: tuple[str, ...]
    """Its leaves, by name; of a task without parts its own name."""
    code: bool
    """Whether it may run code: its templates, too, are held in a sandbox otherwise."""


@functools.cache
def own_index() -> Any:
    """lm-eval's index of its own ten thousand tasks, which takes some seconds."""
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager()


def index_of(folder: Path) -> Any:
    """lm-eval's index of a folder's tasks alone: they take the place of none of its own."""
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=str(folder), include_defaults=False)


def load_tasks(named: list[Named], *, code: bool) -> list[Task]:
    """Every task with its data. Raises UserError for a name that lm-eval does not know and for data that are not there,
    MachineError where the hub cannot be reached."""
    tasks = []
    for one in named:
        index = index_of(one.folder) if one.folder else own_index()
        for name in one.inside or (one.name,):
            if name not in index.task_index:
                near = nearest(name, list(index.task_index))
                hint = f'did you mean "{near}"?' if near else "python -m lm_eval ls tasks lists them."
                raise UserError(f'[forgetting] tasks: lm-eval has no task called "{name}"; {hint}')
            tasks += loaded_tasks(index, name, code=code or one.folder is None)
    return tasks


def loaded_tasks(index: Any, name: str, *, code: bool) -> list[Task]:
    from datasets.exceptions import DatasetNotFoundError

    try:
        # A task is tried on its first question when it is loaded.
        with quiet(), sandboxed(code=code), blamed(name):
            loaded = index.load([name])
    except DatasetNotFoundError as error:
        raise UserError(f'[forgetting] tasks: "{name}": {first_line(error)}') from None
    # As datasets say that there is no network.
    except (ConnectionError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise UserError(f'[forgetting] tasks: "{name}": {first_line(error)}') from None
        raise MachineError(
            f'the data of the task "{name}" could not be had ({first_line(error)}). Without network, fetch them where'
            " there is one (python -m toolkit.data RECIPE --fetch) and copy Hugging Face's cache (HF_HOME)."
        ) from None
    leaves = loaded["tasks"]
    for leaf in leaves.values():
        refuse_unfit(name, leaf)
    if name in loaded["groups"]:
        return [Task(name, loaded["groups"][name], tuple(leaves), code)]
    # A tag is many tasks under one name: each is its own.
    return [Task(leaf, built, (leaf,), code) for leaf, built in leaves.items()]


@contextlib.contextmanager
def blamed(name: str) -> Iterator[None]:
    """A task file's mistakes are of any class: KeyError for a split, jinja2's own for a template."""
    try:
        yield
    except (UserError, MachineError, MemoryError, OSError):
        raise
    except Exception as error:
        # datasets say only that they could not read a table, and their cause says where.
        of = error.__cause__ if type(error).__name__.startswith("DatasetGeneration") else None
        said = of if isinstance(of, Exception) else error
        raise UserError(
            f'[forgetting] tasks: "{name}" cannot be used: {type(said).__name__}: {first_line(said)}'
        ) from error


def refuse_unfit(name: str, leaf: Any) -> None:
    """Raises UserError for what cannot be asked of a language model here, or would run a model's own code."""
    if getattr(leaf, "UNSAFE_CODE", False):
        raise UserError(f'[forgetting] tasks: "{name}" runs code that the model writes, which is not done here.')
    if getattr(leaf, "MULTIMODAL", False):
        raise UserError(f'[forgetting] tasks: "{name}" shows pictures or sound, and a language model reads text.')
    if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
        raise UserError(f'[forgetting] tasks: "{name}" is a text; name a file of it under text = […].')


def leaves_of(task: Task) -> list[Any]:
    return task.built.get_all_tasks() if hasattr(task.built, "get_all_tasks") else [task.built]


def as_asked(task: Task, few_shot: int | None) -> None:
    """The settings that lm-eval's own command would give its tasks, and the state of their draws at its beginning."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    for leaf in leaves_of(task):
        own = leaf.get_config("num_fewshot")
        # A task that says 0 itself keeps it.
        if few_shot is not None and own != 0:
            leaf.set_config(key="num_fewshot", value=few_shot)
        elif own is None:
            leaf.set_config(key="num_fewshot", value=0)
        leaf.set_fewshot_seed(seed=SEED)


def ask(
    loaded: Loaded,
    engine: ModuleType,
    task: Task,
    asked: Model,
    *,
    limit: int | None,
    few_shot: int | None,
    batch_size: int,
    progress: Progress,
) -> list[Row]:
    """One row a question and measure, columns as in `probes.forgetting.schema` from `task` on.

    The prompts and numbers are those of lm-eval's command on the saved model with the same settings (`max_length`, and
    where the format is "chat", `--apply_chat_template` with thinking off). Leaves no trace in model, tokenizer and
    random states. Raises UserError where generated answers leave no room for a prompt.
    """
    from lm_eval.evaluator import evaluate

    chat = asked.format == "chat"
    with undisturbed(loaded, engine), quiet(), barred(progress), sandboxed(code=task.code):
        as_asked(task, few_shot)
        lm = InMemory(
            loaded.model,
            loaded.tokenizer,
            max_length=asked.max_length,
            batch_size=batch_size,
            mixed=mixed_precision(asked.precision),
            chat=chat,
        )
        results = evaluate(
            lm=lm,
            task_dict=manager_of(task),
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=True,
        )
        samples: Any = (results or {}).get("samples")
        # Inside too: lm-eval draws a name for a task each time that it is asked for its own.
        return [
            row
            for leaf in leaves_of(task)
            for sample in samples[leaf.task_name]
            for row in rows_of(task, leaf, sample, lm.cut.get((leaf.task_name, sample["doc_id"]), 0))
        ]


def manager_of(task: Task) -> dict[str, Any]:
    """What lm-eval's `evaluate` takes; of tasks that are built, its manager only sorts them."""
    groups = {task.name: task.built} if hasattr(task.built, "get_all_tasks") else {}
    groups |= {group.name: group for one in groups.values() for group in one.get_all_groups()}
    return {
        "tasks": {leaf.task_name: leaf for leaf in leaves_of(task)},
        "groups": groups,
        "group_map": {name: group.child_names for name, group in groups.items()},
    }


def rows_of(task: Task, leaf: Any, sample: Row, cut: int) -> Iterator[Row]:
    """The measures of one question; a sample is of one filter, of which a task may have several."""
    is_choice = leaf.OUTPUT_TYPE == "multiple_choice"
    prompt = sample["arguments"][0][0]
    prompt = prompt if isinstance(prompt, str) else str(prompt)
    # For acc_mutual_info, what each choice is without its question stands behind the choices.
    number_of = len(sample["arguments"]) // (2 if "acc_mutual_info" in sample["metrics"] else 1)
    choices = [arguments[1].strip() for arguments in sample["arguments"][:number_of]] if is_choice else []
    likelihoods = [float(response[0]) for response in sample["filtered_resps"][:number_of]] if is_choice else None
    several = len(getattr(leaf, "_filters", None) or []) > 1
    better = leaf.higher_is_better()
    # The first is the main one: of perplexity and accuracy, accuracy.
    for metric in sorted(sample["metrics"], key=lambda name: not better.get(name, True)):
        value = sample[metric]
        number = float(value) if isinstance(value, bool | int | float) else None
        yield {
            "task": task.name,
            "subject": leaf.task_name,
            "item": int(sample["doc_id"]),
            "question": prompt[-QUESTION:],
            "measure": f"{metric},{sample['filter']}" if several else metric,
            "value": number,
            "right": bool(number) if number in (0.0, 1.0) else None,
            "chance": 1 / len(choices) if choices else 0.0,
            "gold": gold_of(sample["target"], choices),
            "answer": taken(metric, choices, likelihoods) if likelihoods else str(sample["filtered_resps"][0]),
            "loglikelihoods": likelihoods,
            "cut": cut,
            "prompt_hash": sample["prompt_hash"],
        }


def gold_of(target: Any, choices: list[str]) -> str:
    """The right answer in words; lm-eval gives a choice's number, or the text."""
    is_number = isinstance(target, int) or (isinstance(target, str) and target.isdigit() and target not in choices)
    return choices[int(target)] if choices and is_number and int(target) < len(choices) else str(target)


def taken(metric: str, choices: list[str], likelihoods: list[float]) -> str:
    """The choice that the model finds likeliest; acc_norm weighs a choice by its length in characters."""
    by = [
        likelihood / max(len(choice), 1) if metric == "acc_norm" else likelihood
        for choice, likelihood in zip(choices, likelihoods, strict=True)
    ]
    return choices[max(range(len(by)), key=by.__getitem__)]


def prompts_digest(task: Task, asked: Model, limit: int | None, few_shot: int | None, tokenizer: Any) -> str:
    """SHA-256 of all that a task asks and how it scores: every request, every right answer, filters and metrics.

    Sets random states, as `ask` does inside. Raises UserError where a question cannot be made.
    """
    chat = asked.format == "chat"
    whole = hashlib.sha256()
    with quiet(), barred(None), sandboxed(code=task.code), blamed(task.name):
        as_asked(task, few_shot)
        template = functools.partial(chat_text, tokenizer) if chat else None
        for leaf in leaves_of(task):
            leaf.build_all_requests(
                limit=limit, rank=0, world_size=1, apply_chat_template=chat, fewshot_as_multiturn=True,
                chat_template=template, tokenizer_name="",
            )  # fmt: skip
            config = leaf.config.to_dict(keep_callable=True)
            whole.update(json.dumps(config, default=said_of, sort_keys=True).encode())
            for request in leaf.instances:
                whole.update(json.dumps([request.args, request.doc], default=str, ensure_ascii=False).encode())
    return whole.hexdigest()


def said_of(value: Any) -> Any:
    """What is said of a task's setting that is no JSON: of a function the file that it stands in, helpers and all."""
    from lm_eval.utils import handle_non_serializable

    if isinstance(value, functools.partial):
        return [said_of(value.func), [*map(repr, value.args)], repr(sorted(value.keywords.items()))]
    if callable(value):
        of = inspect.unwrap(value) if hasattr(value, "__qualname__") else type(value)
        file = inspect.getsourcefile(of)
        return [of.__qualname__, hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""]
    return handle_non_serializable(value)


def chat_text(tokenizer: Any, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """As lm-eval renders a conversation for InMemory, with thinking off."""
    of_lm_eval = SimpleNamespace(tokenizer=tokenizer, chat_template_args={"enable_thinking": False})
    return HFLM.apply_chat_template(of_lm_eval, history, add_generation_prompt)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """lm-eval and datasets tell of every task and file; what a user must know is said by this toolkit."""
    names = ("lm_eval", "lm-eval", "datasets")
    before = {name: logging.getLogger(name).level for name in names}
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def sandboxed(*, code: bool) -> Iterator[None]:
    """A task file's templates without Python's insides, and no measures but lm-eval's own: as it reads them, a template
    could run anything, and a measure that it does not know is looked for, and run, as code of the library evaluate."""
    import lm_eval.api.metrics  # which fills the registry
    import lm_eval.api.task
    import lm_eval.utils
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval.api.registry import metric_registry

    open_one, get_metric = lm_eval.utils.env, lm_eval.api.task.get_metric

    def known_metric(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in metric_registry:
            raise UserError(
                f'the measure "{name}" is none of lm-eval\'s own, and its code has not been run. Let it run where you'
                " trust it: [forgetting] task_code = true (--task-code)."
            )
        return get_metric(name)

    if not code:
        closed = ImmutableSandboxedEnvironment(
            loader=open_one.loader,
            undefined=open_one.undefined,
            keep_trailing_newline=open_one.keep_trailing_newline,
        )
        closed.filters.update(open_one.filters)
        lm_eval.utils.env, lm_eval.api.task.get_metric = closed, known_metric
    try:
        yield
    finally:
        lm_eval.utils.env, lm_eval.api.task.get_metric = open_one, get_metric
