"""The engine: Unsloth patches model and trainers. The only file that imports unsloth.

The GPU and the CPU backend take different keywords; only what both take is passed, and precision is always said.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Unsloth reads these at import: no look-ups for statistics, and its cache of compiled code outside the user's folder.
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
# In the user's own folder: code is imported from there, and a shared one would let others place it.
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path.home() / ".cache" / "memory-toolkit" / "unsloth"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Unsloth's banners go to stderr, so that `--json` prints JSON and nothing else."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


with quiet():
    import unsloth

import trl  # noqa: E402  (after unsloth, which patches it)

from toolkit.models.loaded import (  # noqa: E402
    Loaded,
    adapter_config,
    dequantising,
    describe,
    quiet_libraries,
    refuse_impossible_precision,
    weights_dtype,
)
from toolkit.recipe import Lora, Model  # noqa: E402

quiet_libraries()
# It tells of a tokenizer's file at every save.
logging.getLogger("transformers.models.llama.modeling_llama").addFilter(
    lambda record: "added_tokens_decoder" not in record.getMessage()
)

FastLanguageModel: Any = unsloth.FastLanguageModel
"""Another class on each backend."""
VERSION = unsloth.__version__


def load_base(base: Path | str, asked: Model, *, full: bool) -> Loaded:
    """A base and its tokenizer in the precision that is asked for, or the nearest that this machine has."""
    refuse_impossible_precision(asked)
    # On a GPU a full fine-tuning before leaves this at 1, and LoRA would silently not be added.
    os.environ["UNSLOTH_ENABLE_FULL_FINETUNING"] = "0"
    fp8 = {"load_in_fp8": True} if asked.precision == "fp8" else {}
    with quiet():
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=str(base),
            max_seq_length=asked.max_length,
            dtype=weights_dtype(asked.precision, full=full),
            load_in_4bit=asked.precision == "nf4",
            load_in_8bit=False,
            load_in_16bit=asked.precision in ("bf16", "fp16") and not full,
            full_finetuning=full,
            revision=asked.revision,
            trust_remote_code=asked.remote_code,
            use_gradient_checkpointing=checkpointing(asked),
            # It would swap Qwen3-1.7B-FP8 for its own 4-bit copy otherwise.
            use_exact_model_name=True,
            **fp8,
            **dequantising(base, asked),
        )
    described = describe(model, str(base), asked)
    return Loaded(model, tokenizer, described | {"attention": attention_of(model) or described.get("attention")})


def attention_of(model: Any) -> str | None:
    """What Unsloth computes attention by, by its own choice: on a GPU its layers do not ask the model's config.

    None where the layers are not Unsloth's (on a CPU, and of models that it only compiles). A padding mask, which no
    training has here, would make it torch's own.
    """
    layers = [type(layer) for layer in model.modules() if type(layer).__name__.endswith("Attention")]
    module = layers[0].forward.__module__ if layers else ""
    choose = getattr(sys.modules.get(module), "select_attention_backend", None)
    if not module.startswith("unsloth.") or choose is None:
        return None
    backend: str = choose()
    return "flash_attention_2" if backend.startswith("flash") else backend


def add_lora(loaded: Loaded, lora: Lora, asked: Model, seed: int) -> None:
    """Add trainable matrices, initialised from the seed."""
    with quiet():
        loaded.model = FastLanguageModel.get_peft_model(
            loaded.model,
            **adapter_config(lora),
            random_state=seed,
            use_gradient_checkpointing=checkpointing(asked),
        )
    if not hasattr(loaded.model, "peft_config"):
        raise RuntimeError("Unsloth added no LoRA to this model.")


def checkpointing(asked: Model) -> str | bool:
    return "unsloth" if asked.gradient_checkpointing else False


def trainer_and_config() -> tuple[type, type]:
    """TRL's SFT trainer as Unsloth left it."""
    return trl.SFTTrainer, trl.SFTConfig  # pyright: ignore[reportPrivateImportUsage]


def preference_trainer_and_config() -> tuple[type, type]:
    """TRL's DPO trainer as Unsloth left it."""
    return trl.DPOTrainer, trl.DPOConfig  # pyright: ignore[reportPrivateImportUsage]


def config_extras(asked: Model) -> dict[str, Any]:
    """What SFTConfig wants said besides transformers' own arguments: rows are ours, and are left as they are."""
    return {
        "max_length": asked.max_length,
        "packing": False,
        "padding_free": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "loss_type": "nll",
    }


@contextlib.contextmanager
def precision_kept(asked: Model) -> Iterator[None]:
    """While a trainer is built: Unsloth's own make bfloat16 of float32 where a GPU has it, unless they read this."""
    name = "UNSLOTH_MIXED_PRECISION"
    before = os.environ.get(name)
    if asked.precision == "fp32":
        # The one word for which they leave both kinds of autocast off.
        os.environ[name] = "bfloat16"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def for_inference(model: Any) -> None:
    FastLanguageModel.for_inference(model)


def for_training(model: Any) -> None:
    """Back to training, with the gradient checkpointing that the model was loaded with."""
    FastLanguageModel.for_training(model)
