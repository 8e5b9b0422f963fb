"""A small real run, and everything that one key of its recipe could have changed about it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.conftest import run as run_recipe
from tests.wandb_server import records
from toolkit.run_folder import Run, run_for

DIFFERENT = object()
"""Any other value than before."""


class Watched:
    """What a run does and leaves no trace of in its folder."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import transformers

        from toolkit.models import scoring, with_unsloth
        from toolkit.probes import classification, lm_memory
        from toolkit.training import callback, sft

        self.fed: list[dict[str, list[int]]] = []
        self.saves: list[str] = []
        self.batches: list[int] = []
        self.questions_at_once: list[int] = []
        self.blocks_computed = 0
        self.engine_asked: dict[str, Any] = {}
        self.tokenizer_asked: dict[str, Any] = {}

        def make_trainer(engine: Any, loaded: Any, rows: Any, *rest: Any, **keywords: Any) -> Any:
            self.fed += rows
            return make(engine, loaded, rows, *rest, **keywords)

        def write_whole(path: Path, text: str) -> None:
            if path.name == callback.MARKER:
                self.saves.append(path.parent.name)
            path.write_text(text, encoding="utf-8")

        def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
            for chunk in cut(items, size):
                self.batches.append(len(chunk))
                yield chunk

        def from_pretrained(**keywords: Any) -> Any:
            self.engine_asked |= keywords
            return load(**keywords)

        def open_tokenizer(base: Any, **keywords: Any) -> Any:
            if "local_files_only" in keywords:
                # As a new model's is opened, and not those of bases.
                self.tokenizer_asked |= keywords
            return open_any(base, **keywords)

        def count(module: torch.nn.Module, inputs: Any) -> None:
            self.blocks_computed += type(module).__name__ == "Qwen3MLP"

        def asked(lm: Any, inputs: torch.Tensor, *rest: Any, **keywords: Any) -> torch.Tensor:
            self.questions_at_once.append(len(inputs))
            return call(lm, inputs, *rest, **keywords)

        call, open_any = lm_memory.HFLM._model_call, transformers.AutoTokenizer.from_pretrained
        cut, load, make = scoring.chunks, with_unsloth.FastLanguageModel.from_pretrained, sft.make_trainer
        patch.setattr(sft, "make_trainer", make_trainer)
        patch.setattr(callback, "write_whole", write_whole)
        patch.setattr(lm_memory.HFLM, "_model_call", asked)
        patch.setattr(scoring, "chunks", chunks)
        patch.setattr(classification, "chunks", chunks)
        patch.setattr(with_unsloth.FastLanguageModel, "from_pretrained", from_pretrained)
        patch.setattr(transformers.AutoTokenizer, "from_pretrained", open_tokenizer)
        self.hook = torch.nn.modules.module.register_module_forward_pre_hook(count)


class Ran(NamedTuple):
    """A finished run."""

    run: Run
    watched: Watched

    @property
    def facts(self) -> list[dict[str, Any]]:
        return self.lines("examples.jsonl")

    def asked(self, variant: str) -> list[str]:
        """The questions of one kind for trained facts."""
        return [fact["prompt"] for fact in self.facts if fact.get("variant") == variant]

    @property
    def answers(self) -> list[str]:
        return [fact["answer"] for fact in self.facts if fact["split"] != "test"]

    @property
    def prompts(self) -> list[str]:
        return [fact["prompt"] for fact in self.facts if fact["split"] != "test"]

    @property
    def splits(self) -> list[str]:
        return [fact["split"] for fact in self.facts]

    @property
    def trained_indices(self) -> list[int]:
        return sorted(fact["info"]["index"] for fact in self.facts if fact["split"] == "train")

    @property
    def weights(self) -> bytes:
        return self.file.read_bytes()

    @property
    def file(self) -> Path:
        return next(self.run.weights.glob("*model.safetensors"))

    @property
    def sizes(self) -> dict[str, list[int]]:
        from safetensors import safe_open

        with safe_open(self.file, framework="np") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  (not a mapping)

    def block(self, name: str) -> list[int]:
        """The size of a weight of the first block."""
        return self.sizes[f"model.layers.0.{name}.weight"]

    @property
    def projections(self) -> set[str]:
        return {name.split(".lora_")[0].rpartition(".")[2] for name in self.sizes}

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.run.weights / "config.json").read_text("utf-8"))

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in self.run.path.glob("stages/*/*"))

    @property
    def steps_read(self) -> list[int]:
        return [row["step"] for row in self.run.rows("recall")]

    @property
    def examples_read(self) -> int:
        from toolkit.probes.recall import read_reading

        return len(read_reading(self.run.readings()[-1]))

    @property
    def first_loss(self) -> float:
        return self.run.rows("recall")[0]["loss/digit_nats"]

    @property
    def at_wandb(self) -> dict[str, Any]:
        return records(self.run.info["wandb"]["folder"], "run")[0]

    def column(self, key: str, stage: str = "learn") -> list[float]:
        return [row[key] for row in self.run.rows("train") if row["stage"] == stage]

    def lines(self, file: str) -> list[dict[str, Any]]:
        """A JSONL file of its folder."""
        return [json.loads(line) for line in (self.run.path / file).read_text("utf-8").splitlines()]

    @property
    def fed_by_round(self) -> list[int]:
        """How many facts each round of its exam fed."""
        return [len(entry["fed"]) for entry in self.lines("ledger.jsonl")]

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """Right and rejected answers of its preference training."""
        return [(pair["chosen"], pair["rejected"]) for pair in self.lines("pairs-prefer.jsonl")]


Look = Callable[[Ran], Any]


def ran(recipe: str, name: str, *changes: str) -> Ran:
    """Train a recipe's text; `changes` may give it another name or another seed."""
    path = Path(f"{name}.toml")
    path.write_text(f'name = "{name}"\n{recipe}', encoding="utf-8")
    said = dict(change.split("=", 1) for change in changes)
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        try:
            run_recipe(path.as_posix(), *changes)
        finally:
            watched.hook.remove()
    return Ran(run_for(said.get("name", name), json.loads(said.get("seeds", "[0]"))[0]), watched)
