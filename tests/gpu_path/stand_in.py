"""Unsloth's GPU path on CPU tensors: its patched Qwen3, fused LoRA and Triton kernels, under Triton's interpreter.

Imported before torch, trl, transformers and unsloth, in a process of its own. It replaces private names of Unsloth, so
it belongs to one version of it (versions.py). float32 only: the interpreter is wrong in bfloat16. What it cannot show:
compiled kernels, bf16, 4 and 8 bits, FlashAttention, memory and speed.
"""
# triton lies in a folder that is on the path of this process alone, and private names are replaced.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import functools
import os
import types
from collections import Counter

os.environ.update(
    TRITON_INTERPRET="1",
    UNSLOTH_ALLOW_CPU="1",
    UNSLOTH_COMPILE_DISABLE="1",
    TORCHDYNAMO_DISABLE="1",
    UNSLOTH_DISABLE_STATISTICS="1",
    HF_HUB_OFFLINE="1",
)

import torch  # noqa: E402

torch.cuda.current_device = lambda: 0
torch.cuda.get_device_capability = lambda *args, **kwargs: (8, 0)
torch.cuda.get_device_properties = lambda *args, **kwargs: types.SimpleNamespace(  # type: ignore[assignment]
    name="stand-in",
    total_memory=16 << 30,
    major=8,
    minor=0,
    multi_processor_count=1,
    max_threads_per_multi_processor=1024,
    warp_size=32,
    shared_memory_per_block_optin=100 << 10,
)

from triton.runtime import interpreter  # noqa: E402

launches: Counter[str] = Counter()
"""How often each Triton kernel was launched."""
_run = interpreter.InterpretedFunction.run


def _counted_run(self, *args, **kwargs):
    launches[self.fn.__name__] += 1
    return _run(self, *args, **kwargs)


interpreter.InterpretedFunction.run = _counted_run

from toolkit.models import open_engine  # noqa: E402

engine = open_engine("unsloth")

import unsloth.kernels.cross_entropy_loss as cross_entropy  # noqa: E402
import unsloth.models.llama as llama  # noqa: E402

cross_entropy.triton_cast = lambda x, dtype: x.to(dtype) if hasattr(x, "to") else x
llama.DEVICE_COUNT = 1
llama.DEVICE_TYPE_TORCH = "cpu"
llama.get_current_device = lambda: torch.device("cpu")
# A float32 base is refused the fused LoRA path.
llama._base_weight_dtype = lambda projection: torch.float16

_ensure = llama._PerDeviceRopeCache._ensure_rope_cache


def _ensure_rope_cache(self, index=None):
    return _ensure(self, 0 if index is None else index)


def _build_rope_cache(self, index):
    size = self.current_rope_size
    self._set_cos_sin_cache(
        seq_len=self._rope_cache_rows(), device=torch.device("cpu", 0), dtype=self._rope_cache_dtype
    )
    self.current_rope_size = size
    self._rope_cache_versions[index] = self._rope_cache_version


llama._PerDeviceRopeCache._ensure_rope_cache = _ensure_rope_cache
llama._PerDeviceRopeCache._build_rope_cache = _build_rope_cache

# Weights stay where the interpreter works; everything else of the call is the toolkit's own.
engine.FastLanguageModel.from_pretrained = functools.partial(
    engine.FastLanguageModel.from_pretrained, device_map={"": "cpu"}
)


def rewrite_trainers() -> None:
    """Rewrite TRL's trainers as Unsloth does at import on a GPU; the stand-in above makes it skip that."""
    os.environ["UNSLOTH_ALLOW_CPU"] = "0"
    from unsloth.context_parallel import patch_sft_trainer
    from unsloth.models.rl import PatchFastRL
    from unsloth.trainer import _patch_trl_trainer

    PatchFastRL(FastLanguageModel=llama.FastLlamaModel)
    _patch_trl_trainer()
    patch_sft_trainer()


rewrite_trainers()
