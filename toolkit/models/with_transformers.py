"""The engine without Unsloth: transformers and PEFT alone, as a control of the other one."""

import contextlib
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

from toolkit import processes
from toolkit.errors import UserError
from toolkit.models.loaded import (
    Loaded,
    adapter_config,
    compute_dtype,
    dequantising,
    describe,
    mixed_precision,
    quiet_libraries,
    refuse_impossible_precision,
    weights_dtype,
)
from toolkit.recipe import Lora, Model

quiet_libraries()

VERSION = transformers.__version__


def load_base(base: Path | str, asked: Model, *, full: bool) -> Loaded:
    """A base and its tokenizer in the precision that is asked for."""
    refuse_impossible_precision(asked)
    quantised = dequantising(base, asked)
    if asked.precision == "nf4":
        quantised = {
            "quantization_config": transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=compute_dtype("nf4"),
            )
        }
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base,
        dtype=weights_dtype(asked.precision, full=full),
        attn_implementation=attention_for(asked.precision),
        device_map={"": processes.on_this_machine()} if torch.cuda.is_available() else "cpu",
        revision=asked.revision,
        trust_remote_code=asked.remote_code,
        **quantised,
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        base, revision=asked.revision, trust_remote_code=asked.remote_code
    )
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(full)
    return Loaded(model, tokenizer, describe(model, str(base), asked))


def attention_for(precision: str) -> str:
    """FlashAttention 2 where this machine has it, which computes in 16 bits only; torch's own elsewhere."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    return "flash_attention_2" if mixed_precision(precision) and is_flash_attn_2_available() else "sdpa"


def add_lora(loaded: Loaded, lora: Lora, asked: Model, seed: int) -> None:
    """Add trainable matrices, initialised from the seed as the other engine does it."""
    torch.manual_seed(seed)
    if asked.gradient_checkpointing:
        loaded.model.enable_input_require_grads()
    loaded.model = get_peft_model(loaded.model, LoraConfig(**adapter_config(lora), task_type="CAUSAL_LM"))


def trainer_and_config() -> tuple[type, type]:
    """transformers' own trainer: TRL's SFT trainer without Unsloth wants a Triton kernel, also on a CPU."""
    return transformers.Trainer, transformers.TrainingArguments


def preference_trainer_and_config() -> tuple[type, type]:
    """TRL's DPO trainer. Raises UserError without a GPU: its loss is a Triton kernel, which Unsloth replaces."""
    if not torch.cuda.is_available():
        raise UserError(
            'method = "dpo" without a GPU needs [model] engine = "unsloth": TRL\'s own loss is a GPU kernel.'
        )
    import trl

    return trl.DPOTrainer, trl.DPOConfig  # pyright: ignore[reportPrivateImportUsage]


def config_extras(asked: Model) -> dict[str, Any]:
    return {}


def precision_kept(asked: Model) -> contextlib.AbstractContextManager[None]:
    """While a trainer is built: transformers' own keeps what it is told."""
    return contextlib.nullcontext()


def for_inference(model: Any) -> None:
    model.eval()


def for_training(model: Any) -> None:
    model.train()
