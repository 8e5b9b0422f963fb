"""Asking a model in memory beside lm-eval's own way; what readings load, and memory over twenty of them."""

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.measuring import Result, Table, Target, alternate, finish, medians, ratio, spread
from benchmarks.project import Folder, Quick, changing, command, project
from tests.conftest import SMALL_BASE

RECIPE = "recipes/tiny/chinese.toml"
TOOLKIT, LM_EVAL, WHOLE = "toolkit", "lm-eval, model and tasks loaded", "lm-eval, loading them too"
READINGS = 20
MOST_MEGABYTES = 20.0

Rows = dict[tuple[str, int], list[float]]
"""Log-likelihoods of the choices, by task and question."""


class Setting(NamedTuple):
    """A model as the toolkit holds it, and the same weights as lm-eval loads them."""

    engine: ModuleType
    loaded: Any
    recipe: Any
    abilities: Any
    base: str
    plain: Any
    """lm-eval's own, over a model that transformers alone loaded."""


class Memory(NamedTuple):
    """What a session of training and reading cost."""

    loads: int
    """Models that transformers loaded from files, from the first to the last reading."""
    megabytes: list[float]
    """Resident, after each reading."""


def main(
    quick: Quick = False,
    folder: Folder = None,
    recipe: Annotated[str, typer.Option(help="Whose base, tasks and settings are taken, in the project.")] = RECIPE,
    limit: Annotated[int, typer.Option(help="Questions of each subject.")] = 75,
    rounds: Annotated[int, typer.Option(help="How often each way has its turn.")] = 5,
) -> None:
    """Ask the tiny base four tasks' questions in three ways, and read it twenty times with an adapter on."""
    started = time.perf_counter()
    with project(folder):
        if recipe == RECIPE and not Path("checkpoints/tiny-words-base/seed-0/model").is_dir():
            command("toolkit.run", "recipes/tiny/words_base.toml", *changing(*(SMALL_BASE if quick else ())))
        setting = prepare(recipe, 20 if quick else limit)
        seconds, differing, furthest = measure_asking(setting, 2 if quick else rounds)
        memory = measure_readings(setting, 4 if quick else READINGS)
    finish(result(setting, seconds, differing, furthest, memory), started, quick=quick or recipe != RECIPE)


def prepare(recipe_path: str, limit: int) -> Setting:
    """Load what is needed once. limit: questions of each subject."""
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    from lm_eval.models import huggingface
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from toolkit.models.base import check_base
    from toolkit.models.opening import load_base
    from toolkit.probes.forgetting import open_abilities
    from toolkit.recipe import read_recipes

    recipe, *_ = read_recipes(Path(recipe_path), (f"forgetting.limit={limit}",), None)
    found = check_base(recipe)
    assert recipe.forgetting is not None
    assert found is not None
    loaded = load_base(engine, found, recipe.model, full=False)
    loaded.model.eval()
    model = AutoModelForCausalLM.from_pretrained(found, dtype="float32")
    hflm: Any = huggingface.HFLM
    plain = hflm(
        pretrained=model, tokenizer=AutoTokenizer.from_pretrained(found), **settings(recipe), softmax_dtype="float32"
    )  # fmt: skip
    return Setting(engine, loaded, recipe, open_abilities(recipe.forgetting), str(found), plain)


def settings(recipe: Any) -> dict[str, Any]:
    return {"batch_size": recipe.forgetting.batch_size, "max_length": recipe.model.max_length}


# --- asking ---


def measure_asking(setting: Setting, rounds: int) -> tuple[dict[str, list[float]], int, float]:
    """Seconds of each way and round; questions that are answered otherwise; how far log-likelihoods lie apart."""
    found: dict[str, Rows] = {}

    def turn(name: str, way: Any) -> Any:
        def measure() -> float:
            started = time.perf_counter()
            # lm-eval's bars; the toolkit has its own, and shows none here.
            with contextlib.redirect_stderr(io.StringIO()):
                found[name] = way(setting)
            return time.perf_counter() - started

        return measure

    ways = {TOOLKIT: by_toolkit, LM_EVAL: by_lm_eval, WHOLE: from_nothing}
    seconds = alternate({name: turn(name, way) for name, way in ways.items()}, rounds)
    own = found[TOOLKIT]
    if any(set(other) != set(own) for other in found.values()):
        raise RuntimeError("the three ways were not asked the same questions")
    pairs = [(own[key], other[key]) for other in (found[LM_EVAL], found[WHOLE]) for key in own]
    differing = sum(taken(one) != taken(two) for one, two in pairs)
    return seconds, differing, max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))


def taken(likelihoods: list[float]) -> int:
    return max(range(len(likelihoods)), key=likelihoods.__getitem__)


def by_toolkit(setting: Setting) -> Rows:
    """As a reading asks, with all that it keeps of a question; without what it writes."""
    from toolkit.probes.lm_tasks import ask

    how = setting.abilities.how
    rows = [
        row
        for task in setting.abilities.tasks
        for row in ask(
            setting.loaded, setting.engine, task, setting.recipe.model,
            limit=how.limit, few_shot=how.few_shot, batch_size=how.batch_size, progress=None,
        )
    ]  # fmt: skip
    return {(row["subject"], row["item"]): row["loglikelihoods"] for row in rows}


def by_lm_eval(setting: Setting) -> Rows:
    """`evaluate`, with samples kept, of a model and of tasks that were loaded before."""
    from lm_eval.evaluator import evaluate

    from toolkit.probes.lm_tasks import as_asked, manager_of, quiet

    how, rows = setting.abilities.how, {}
    for task in setting.abilities.tasks:
        with quiet():
            as_asked(task, how.few_shot)
            rows |= rows_of(
                evaluate(
                    lm=setting.plain, task_dict=manager_of(task), limit=how.limit, bootstrap_iters=0, log_samples=True
                )
            )
    return rows


def from_nothing(setting: Setting) -> Rows:
    """`simple_evaluate` as a script calls it, which loads the model and indexes and loads the tasks."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from toolkit.probes.lm_tasks import quiet

    how, recipe = setting.abilities.how, setting.recipe
    with quiet():
        return rows_of(
            simple_evaluate(
                model="hf",
                model_args={
                    "pretrained": setting.base, "dtype": "float32", "softmax_dtype": "float32",
                    "max_length": recipe.model.max_length,
                },
                batch_size=how.batch_size,
                device=str(setting.loaded.model.device),
                tasks=[task.name for task in setting.abilities.tasks],
                task_manager=TaskManager(include_path=how.tasks, include_defaults=False),
                num_fewshot=how.few_shot,
                limit=how.limit,
                bootstrap_iters=0,
                log_samples=True,
            )
        )  # fmt: skip


def rows_of(results: Any) -> Rows:
    return {
        (task, sample["doc_id"]): [float(response[0]) for response in sample["filtered_resps"]]
        for task, samples in results["samples"].items()
        for sample in samples
    }


# --- loads and memory ---


def measure_readings(setting: Setting, readings: int) -> Memory:
    """A session as training has it: an adapter, the base before, and so many readings of tasks and texts."""
    from toolkit.models.loaded import remove_adapter
    from toolkit.models.reference import reference_of
    from toolkit.probes.forgetting import read_abilities
    from toolkit.probes.recall import Moment

    loaded, engine, recipe = setting.loaded, setting.engine, setting.recipe
    engine.add_lora(loaded, recipe.lora, recipe.model, 0)
    engine.for_training(loaded.model)
    reference, megabytes = reference_of(loaded), []
    with counted_loads() as loads:
        for step in range(readings):
            now = Moment("measured", 0, "learn", step, float(step), {}, {})
            read_abilities(
                loaded, engine, recipe.model, setting.abilities, reference, now, lambda what, done, total: None
            )  # fmt: skip
            megabytes.append(resident())
    remove_adapter(loaded)
    return Memory(len(loads), megabytes)


@contextlib.contextmanager
def counted_loads() -> Iterator[list[str]]:
    """What every model class of transformers is loaded from, meanwhile."""
    from transformers import PreTrainedModel

    own, loads = PreTrainedModel.__dict__["from_pretrained"], []

    def noted(cls: Any, name: Any, *arguments: Any, **named: Any) -> Any:
        loads.append(str(name))
        return own.__func__(cls, name, *arguments, **named)

    PreTrainedModel.from_pretrained = classmethod(noted)
    try:
        yield loads
    finally:
        PreTrainedModel.from_pretrained = own


def resident() -> float:
    """MB of this process that lie in memory now."""
    import psutil

    return psutil.Process().memory_info().rss / 1e6


# --- tables ---


def result(
    setting: Setting, seconds: dict[str, list[float]], differing: int, furthest: float, memory: Memory
) -> Result:
    grown = memory.megabytes[-1] - memory.megabytes[1]
    rows = [
        [name, f"{medians(seconds)[name]:.2f}", spread(values), f"{ratio(seconds, TOOLKIT, name):.3f}"]
        for name, values in seconds.items()
    ]
    targets = [
        Target("asking, over lm-eval with model and tasks loaded", "<=", 1.1, ratio(seconds, TOOLKIT, LM_EVAL)),
        Target("questions answered otherwise", "==", 0, differing),
        Target(f"models loaded by {len(memory.megabytes)} readings", "==", 0, memory.loads),
        Target(f"MB more after reading {len(memory.megabytes)} than after 2", "<=", MOST_MEGABYTES, grown),
    ]
    values = {
        "recipe": setting.recipe.name, "seconds": seconds, "furthest_log_likelihoods": furthest,
        "megabytes": memory.megabytes,
    }  # fmt: skip
    table = Table(["the same questions", "s", "(range)", "toolkit over it"], rows)
    return Result("forgetting_speed", [table], targets, values)


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
