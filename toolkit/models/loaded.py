"""A loaded model with its tokenizer, what both engines need around it, and what was really loaded."""

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from toolkit import processes
from toolkit.classes import Classes
from toolkit.errors import UserError
from toolkit.models.base import fetched
from toolkit.models.classifier import load_head, save_classes
from toolkit.models.shards import is_sharded, load_shards, save_shards
from toolkit.recipe import Lora, Model


def mixed_precision(precision: str) -> Literal["bf16", "fp16"] | None:
    """The autocast of training and of readings: on a GPU, as precision says; none for fp32 and on a CPU.

    4 bits on a card without bfloat16 (T4, RTX 20xx) are computed in fp16.
    """
    if not torch.cuda.is_available() or precision == "fp32":
        return None
    if precision == "fp16" or (precision == "nf4" and not torch.cuda.is_bf16_supported(including_emulation=False)):
        return "fp16"
    return "bf16"


def compute_dtype(precision: str) -> torch.dtype:
    if precision in ("fp32", "fp16"):
        return torch.float32 if precision == "fp32" else torch.float16
    return torch.float16 if mixed_precision(precision) == "fp16" else torch.bfloat16


def weights_dtype(precision: str, *, full: bool) -> torch.dtype:
    """What the base's weights are stored in. Those that are trained stay in float32, and autocast computes in 16 bits.

    A step of 2e-5 on a bfloat16 weight of 0.02 rounds to nothing (its neighbours are 1.2e-4 apart).
    """
    return torch.float32 if full and precision in ("bf16", "fp16") else compute_dtype(precision)


def quiet_libraries() -> None:
    """Our own progress is shown; a bar for every saved checkpoint is not."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if not torch.cuda.is_available():
        # Where it is installed, DeepSpeed would say on stdout that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


@dataclass
class Loaded:
    """A model that can be trained and asked. `model` is replaced when LoRA is added or taken away."""

    model: Any
    tokenizer: Any
    described: dict[str, Any] = field(default_factory=dict)
    classes: Classes | None = None
    """What it tells apart, where it is a classifier."""
    head: nn.Module | None = None
    """A classifier's head; None where it answers in words."""


def describe(model: Any, base: str, asked: Model) -> dict[str, Any]:
    """What was really loaded, for run.json."""
    config = model.config
    quantised = getattr(config, "quantization_config", None)
    method = getattr(quantised, "quant_method", None) or (quantised or {}).get("quant_method") if quantised else None
    return {
        "base": asked.base,
        "loaded_from": base,
        "revision": getattr(config, "_commit_hash", None) or (fetched(Path(base)) or {}).get("commit"),
        "architecture": type(model).__name__,
        "engine": asked.engine,
        "precision_asked": asked.precision,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantisation": str(getattr(method, "value", method)) if method else None,
        "attention": getattr(config, "_attn_implementation", None),
        "device": str(model.device),
        "parameters": model.num_parameters(),
    }


def refuse_impossible_precision(model: Model) -> None:
    """Raises UserError for what this machine cannot load."""
    if model.precision == "fp8" and not torch.cuda.is_available():
        raise UserError(
            '[model] precision = "fp8" trains LoRA over FP8 weights, which needs a GPU;'
            ' precision = "bf16" or "fp32" dequantises an FP8 base.'
        )
    if mixed_precision(model.precision) == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f'[model] precision = "{model.precision}": this GPU has no bfloat16; say "fp16" or "nf4".')


def stored_as_fp8(base: Path | str, model: Model) -> bool:
    """Whether a base's weights are fine-grained FP8, which must be dequantised where they are not trained over."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, revision=model.revision, trust_remote_code=model.remote_code)
    quantised = getattr(config, "quantization_config", None) or {}
    return (quantised if isinstance(quantised, dict) else quantised.to_dict()).get("quant_method") == "fp8"


def dequantising(base: Path | str, model: Model) -> dict[str, Any]:
    """The keyword that turns an FP8 base into dense weights while loading; empty for every other base."""
    stored = stored_as_fp8(base, model)
    if model.precision == "fp8" and not stored:
        raise UserError(f'[model] precision = "fp8": {model.base} is not stored in FP8; Qwen/Qwen3-1.7B-FP8 is.')
    if model.precision == "nf4" and stored:
        raise UserError(
            f'[model] precision = "nf4": {model.base} is stored in FP8; take the base that it was made from.'
        )
    if model.precision == "fp8" or not stored:
        return {}
    from transformers import FineGrainedFP8Config

    return {"quantization_config": FineGrainedFP8Config(dequantize=True)}


def adapter_config(lora: Lora) -> dict[str, Any]:
    """LoRA as both engines take it."""
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
        "bias": "none",
    }


def free_memory() -> None:
    """Give back what a model held that nobody needs any more; trainers and models refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def remove_adapter(loaded: Loaded) -> None:
    """Take LoRA off again, and a classifier's head, so that the next run starts from the same base."""
    loaded.classes = loaded.head = None
    loaded.model = loaded.model.unload()
    if hasattr(loaded.model, "peft_config"):
        del loaded.model.peft_config


def load_weights(loaded: Loaded, folder: Path) -> None:
    """Put a folder's weights into a model that has their shape already: an adapter's or a whole model's, and a head."""
    from safetensors.torch import load_file

    model = loaded.model
    if loaded.head is not None:
        load_head(loaded, folder)
    if is_sharded(model):
        load_shards(model, folder)
        return
    if (folder / "adapter_model.safetensors").is_file():
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        return
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(path)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # Tied output embeddings are stored once.
    missing = [name for name in missing if not (model.config.tie_word_embeddings and name == "lm_head.weight")]
    if missing or unexpected:
        raise UserError(f"{folder} does not hold this model's weights ({(missing + unexpected)[0]}).")


def save_weights(loaded: Loaded, folder: Path) -> None:
    """Standard files, safetensors only, with the tokenizer; of a classifier its classes and head too.

    Of several processes the first one writes.
    """
    if is_sharded(loaded.model):
        save_shards(loaded.model, folder, gathers_itself=loaded.described["engine"] == "unsloth")
    elif processes.is_first():
        loaded.model.save_pretrained(folder)
    if not processes.is_first():
        return
    loaded.tokenizer.save_pretrained(folder)
    if loaded.classes:
        save_classes(loaded, folder)


@contextlib.contextmanager
def undisturbed(loaded: Loaded, engine: ModuleType) -> Iterator[None]:
    """Read from a model that is being trained and leave no trace: mode, cache, padding and every random state."""
    import random

    import numpy

    model, tokenizer = loaded.model, loaded.tokenizer
    states = (random.getstate(), numpy.random.get_state(), torch.get_rng_state())
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    was_training, side, cache = model.training, tokenizer.padding_side, model.config.use_cache
    model.eval()
    if loaded.head is not None:
        loaded.head.eval()
    # The trainer wraps its model in autocast on a GPU; said here, a reading is the same before, during and after.
    mixed = mixed_precision(loaded.described["precision_asked"])
    dtype = torch.float16 if mixed == "fp16" else torch.bfloat16
    try:
        with torch.no_grad(), torch.autocast(model.device.type, dtype, enabled=mixed is not None):
            yield
    finally:
        if was_training:
            # Unsloth's generation switches more than the mode; only its own function switches all of it back.
            engine.for_training(model)
        model.train(was_training)
        if loaded.head is not None:
            loaded.head.train(was_training)
        tokenizer.padding_side = side
        model.config.use_cache = cache
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
