"""Every keyword that the toolkit passes to Unsloth is one that both of its backends take, read from their sources.

Both signatures end in **kwargs, so that a misspelt or unknown keyword would not be noticed by calling: names are
compared. The GPU backend cannot be imported here; `make gpu-path` runs it.
"""

import ast
import importlib.util
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_path.versions import WRITTEN_FOR
from toolkit.recipe import Lora, Model

ROOT = Path(__file__).parents[1]
GPU_ONLY = {"load_in_fp8"}
"""LoRA over FP8 weights is refused without a GPU before anything is loaded; the CPU backend takes no such keyword."""


def source(package: str, file: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / file).read_text(encoding="utf-8")


def method(package: str, file: str, owner: str, name: str) -> ast.FunctionDef:
    for node in ast.walk(ast.parse(source(package, file))):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for inside in node.body:
                if isinstance(inside, ast.FunctionDef) and inside.name == name:
                    return inside
    raise AssertionError(f"{package}/{file} has no {owner}.{name}")


def taken(function: ast.FunctionDef) -> set[str]:
    """Its parameters by name, and what it reads out of **kwargs by name."""
    names = {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("kwargs.get", "kwargs.pop"):
            names |= set(strings(node.args[0]))
        if isinstance(node, ast.For) and "kwargs.pop(key" in ast.unparse(node):
            names |= set(strings(node.iter))
    return names


def strings(node: ast.AST) -> Iterator[str]:
    for inside in ast.walk(node):
        if isinstance(inside, ast.Constant) and isinstance(inside.value, str):
            yield inside.value


BACKENDS = {
    "from_pretrained": (
        taken(method("unsloth", "models/loader.py", "FastLanguageModel", "from_pretrained")),
        taken(method("unsloth_zoo", "cpu/loader.py", "FastCPUModel", "from_pretrained")),
    ),
    "get_peft_model": (
        # FastLanguageModel's own passes everything on to this one.
        taken(method("unsloth", "models/llama.py", "FastLlamaModel", "get_peft_model")),
        taken(method("unsloth_zoo", "cpu/loader.py", "FastCPUModel", "get_peft_model")),
    ),
}
"""What the GPU's and the CPU's function take."""


class Recorder:
    """In place of Unsloth's class: keeps the keywords of each call."""

    def __init__(self) -> None:
        self.calls: dict[str, list[dict[str, Any]]] = {"from_pretrained": [], "get_peft_model": []}

    def from_pretrained(self, **keywords: Any) -> tuple[Any, Any]:
        self.calls["from_pretrained"].append(keywords)
        return types.SimpleNamespace(modules=list), None

    def get_peft_model(self, model: Any, **keywords: Any) -> Any:
        self.calls["get_peft_model"].append(keywords)
        return types.SimpleNamespace(peft_config={})


@pytest.fixture
def calls(engine: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Every kind of call that the toolkit makes: each precision and format of the base, LoRA and all weights."""
    from toolkit.models import loaded

    recorder = Recorder()
    monkeypatch.setattr(engine, "FastLanguageModel", recorder)
    monkeypatch.setattr(engine, "describe", lambda *arguments: {})
    # As on a machine with a GPU, where FP8 weights are not refused.
    monkeypatch.setattr(engine, "refuse_impossible_precision", lambda asked: None)
    for stored in (False, True):
        monkeypatch.setattr(loaded, "stored_as_fp8", lambda base, model, stored=stored: stored)
        for precision in ("bf16", "fp16", "fp32", "nf4", "fp8"):
            if stored == (precision == "nf4") or (precision == "fp8" and not stored):
                continue
            for checkpointing in (True, False):
                asked = Model(base="x", precision=precision, gradient_checkpointing=checkpointing)
                for full in (True, False):
                    base = engine.load_base("x", asked, full=full)
                engine.add_lora(base, Lora(), asked, 7)
    return recorder.calls


@pytest.mark.parametrize("function", list(BACKENDS))
def test_every_keyword_is_one_that_both_backends_take(calls: dict[str, list[dict[str, Any]]], function: str) -> None:
    passed = set().union(*calls[function])
    on_gpu, on_cpu = BACKENDS[function]
    assert passed
    assert passed <= on_gpu
    assert passed - GPU_ONLY <= on_cpu


def test_what_only_a_gpu_takes_is_passed_for_fp8_alone(calls: dict[str, list[dict[str, Any]]]) -> None:
    for keywords in calls["from_pretrained"]:
        assert bool(GPU_ONLY & set(keywords)) == (keywords.get("load_in_fp8") is True)


def test_the_precision_is_said_in_every_call_as_unsloths_default_is_4_bits(
    calls: dict[str, list[dict[str, Any]]],
) -> None:
    said = [(keywords["load_in_4bit"], keywords["load_in_16bit"]) for keywords in calls["from_pretrained"]]
    # Of eight kinds of base, each with and without checkpointing, with LoRA and in full, only nf4 is in 4 bits.
    assert said.count((True, False)) == 4
    assert (True, True) not in said


def test_the_rank_is_a_whole_number_and_no_subclass_of_it(calls: dict[str, list[dict[str, Any]]]) -> None:
    """The GPU backend asks `type(r) is int`."""
    assert {type(keywords["r"]) for keywords in calls["get_peft_model"]} == {int}


def test_a_keyword_that_a_backend_does_not_take_is_found() -> None:
    """Or else the tests above would show nothing: these raise TypeError on the CPU backend, at their defaults too."""
    on_gpu, on_cpu = BACKENDS["from_pretrained"]
    assert {"load_in_fp8", "rope_scaling", "text_only", "qat_scheme"} <= on_gpu - on_cpu
    assert "max_sequence_length" not in on_gpu | on_cpu


def test_modes_are_switched_by_functions_of_one_argument() -> None:
    for package, file, owner in (
        ("unsloth", "models/loader.py", "FastLanguageModel"),
        ("unsloth_zoo", "cpu/loader.py", "FastCPUModel"),
    ):
        for name in ("for_inference", "for_training"):
            arguments = method(package, file, owner, name).args
            assert arguments.args[0].arg == "model"
            assert len(arguments.args) - len(arguments.defaults) == 1


def test_every_environment_variable_that_is_set_is_one_that_unsloth_reads() -> None:
    ours = (ROOT / "toolkit/models/with_unsloth.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"(UNSLOTH_[A-Z_]+)"', ours))
    assert names == {
        "UNSLOTH_DISABLE_STATISTICS",
        "UNSLOTH_COMPILE_LOCATION",
        "UNSLOTH_ENABLE_FULL_FINETUNING",
        "UNSLOTH_MIXED_PRECISION",
    }
    read = "".join(
        source(package, file)
        for package, file in (
            ("unsloth", "models/_utils.py"),
            ("unsloth", "models/llama.py"),
            ("unsloth", "models/rl.py"),
            ("unsloth_zoo", "compiler.py"),
        )  # fmt: skip
    )
    for name in names:
        assert name in read, name


def test_the_training_arguments_are_fields_of_trls_config(engine: types.ModuleType, tmp_path: Path) -> None:
    """On a GPU Unsloth rewrites SFTConfig with the same fields and **kwargs; TRL's own takes no unknown name."""
    import dataclasses

    from toolkit.recipe import Recipe, Stage
    from toolkit.training.sft import arguments

    stage = Stage(method="sft")
    recipe = Recipe(name="x", study="phone", model=Model(base="x"), lora=Lora(), stage={"learn": stage})
    passed = arguments(recipe, stage, 0, 100, tmp_path) | engine.config_extras(recipe.model)
    fields = {field.name for field in dataclasses.fields(engine.trainer_and_config()[1]) if field.init}
    assert set(passed) <= fields
    # What Unsloth gives other defaults on a GPU is said.
    changed = {
        "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "optim", "weight_decay", "seed",
        "logging_steps", "warmup_steps", "packing", "padding_free", "lr_scheduler_type",
    }  # fmt: skip
    assert changed <= set(passed)


@pytest.mark.parametrize("file", ["README.md", "Makefile", "pyproject.toml"])
def test_the_versions_that_are_installed_are_those_that_the_gpu_path_is_written_for(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    pins = dict(re.findall(r"\b(unsloth|unsloth_zoo|torch|triton)==([\w.]+)", text))
    assert pins
    assert pins.items() <= WRITTEN_FOR.items()
