"""A model on several processes, whole on each of them or, with FSDP, in parts; and readings that they share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from toolkit import processes
from toolkit.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def is_sharded(model: Any) -> bool:
    """Whether each process holds a part of every weight only (FSDP): then all compute the same at the same time."""
    if not processes.together():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(weight, DTensor) for weight in model.parameters())


def spread(model: Any, items: list[T], work: Callable[[list[T]], list[R]]) -> list[R]:
    """`work(items)` on every process: each does some of them where it has the whole model, and all do all where not."""
    return work(items) if is_sharded(model) else processes.spread(items, work)


def save_shards(model: Any, folder: Path, *, gathers_itself: bool) -> None:
    """Put the parts of all processes together; the first one writes them.

    gathers_itself: Unsloth's models do, and are to be saved by every process.
    """
    if gathers_itself:
        model.save_pretrained(folder)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if model.config.tie_word_embeddings:
        # Gathered twice, and stored once.
        weights.pop("lm_head.weight", None)
    if processes.is_first():
        model.save_pretrained(folder, state_dict=weights)


def load_shards(model: Any, folder: Path) -> None:
    """Each process takes its part of a folder's weights: an adapter's, or a whole model's.

    Raises UserError where the folder holds weights that the model has not.
    """
    from safetensors.torch import load_file
    from torch.distributed.tensor import DTensor, distribute_tensor

    weights: dict[str, torch.Tensor] = {}
    for path in sorted([*folder.glob("adapter_model.safetensors"), *folder.glob("model*.safetensors")]):
        # PEFT leaves an adapter's name out of the names of its weights.
        for name, value in load_file(path).items():
            weights[re.sub(r"\.(lora_[AB])\.weight$", r".\1.default.weight", name)] = value
    whole = not (folder / "adapter_model.safetensors").is_file()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name not in weights:
                if whole:
                    raise UserError(f"{folder} does not hold this model's weights ({name}).")
                continue
            value = weights.pop(name).to(weight.device, weight.dtype)
            weight.copy_(
                distribute_tensor(value, weight.device_mesh, weight.placements)
                if isinstance(weight, DTensor)
                else value
            )
    if weights:
        raise UserError(f"{folder} does not hold this model's weights ({next(iter(weights))}).")
