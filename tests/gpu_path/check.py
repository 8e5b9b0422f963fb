"""Unsloth's GPU path gives what its CPU backend gives, through our rendering, collator, trainer and readings.

`make gpu-path` runs it: triton lies beside the environment (.triton), and each backend has a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution, version
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_path.versions import WRITTEN_FOR

ROOT = Path(__file__).parents[2]
TRITON = ROOT / ".triton"
TOLERANCE = 1e-5


def why_not() -> str | None:
    """Why the GPU path cannot be run here; None where it can."""
    found = {name: version(name).split("+")[0] for name in WRITTEN_FOR if name != "triton"}
    folder = next(TRITON.glob("triton-*.dist-info"), None)
    found["triton"] = PathDistribution(folder).version if folder else "not in .triton"
    other = [f"{name} {found[name]}, not {wanted}" for name, wanted in WRITTEN_FOR.items() if found[name] != wanted]
    return f"the stand-in replaces private names of other versions ({'; '.join(other)})" if other else None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each backend met, by its name, with its gradients."""
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("gpu-path")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    found = {}
    for backend, path in (("cpu", ROOT), ("gpu", f"{TRITON}{os.pathsep}{ROOT}")):
        done = subprocess.run(
            [sys.executable, "-m", "tests.gpu_path.walk", backend, str(folder)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        found[backend] = json.loads((folder / f"{backend}.json").read_text(encoding="utf-8"))
        found[backend]["gradients"] = load_file(folder / f"{backend}.safetensors")
    return found


def both(met: dict[str, dict[str, Any]], kind: str) -> Iterator[tuple[Any, Any]]:
    """Rows of every run: the CPU backend's and the GPU path's."""
    for cpu, gpu in zip(met["cpu"]["runs"], met["gpu"]["runs"], strict=True):
        yield from zip(cpu[kind], gpu[kind], strict=True)


def test_every_layer_is_patched_so_that_no_fallback_passes_unseen(met: dict[str, dict[str, Any]]) -> None:
    assert met["gpu"]["patches"] == ["apply_lora_qkv", "apply_lora_o", "apply_lora_mlp_swiglu"] * 2
    assert met["gpu"]["trainer"] == "UnslothSFTTrainer"
    assert (met["gpu"]["forward"], met["cpu"]["forward"]) == ("_CausalLM_fast_forward", "forward")
    assert met["cpu"]["trainer"] != "UnslothSFTTrainer"
    assert not set(met["gpu"]["patches"]) & set(met["cpu"]["patches"])


def test_the_triton_kernels_were_launched(met: dict[str, dict[str, Any]]) -> None:
    launches = met["gpu"]["launches"]
    # Two layers, fifteen updates and the one batch: each backward pass launches its feed-forward kernel once a layer.
    assert launches["_DWf_DW_dfg_kernel"] == 2 * (6 + 7 + 2 + 1)
    for kernel in ("_fg_kernel", "_rms_layernorm_forward", "_rms_layernorm_backward", "_rope_embedding_QK"):
        assert launches[kernel] >= 2 * (6 + 7 + 1), kernel
    assert met["cpu"]["launches"] == {}


def test_loss_and_gradients_of_a_padded_batch_are_equal(met: dict[str, dict[str, Any]]) -> None:
    assert met["gpu"]["loss"] == pytest.approx(met["cpu"]["loss"], abs=TOLERANCE)
    ours, theirs = met["cpu"]["gradients"], met["gpu"]["gradients"]
    assert ours.keys() == theirs.keys()
    # Seven projections, two matrices each, two layers.
    assert len(ours) == 28
    for name, gradient in ours.items():
        assert gradient.abs().max() > 0, name
        assert (gradient - theirs[name]).abs().max() < TOLERANCE, name


def test_three_training_steps_are_equal(met: dict[str, dict[str, Any]]) -> None:
    rows = list(both(met, "train"))
    assert [ours["step"] for ours, _ in rows] == [1, 2, 3] * 2
    for ours, theirs in rows:
        for key in ("step", "epoch", "exposures", "train/learning_rate"):
            assert ours[key] == theirs[key]
        for key in ("train/loss", "train/grad_norm"):
            assert theirs[key] == pytest.approx(ours[key], abs=TOLERANCE)


def test_readings_are_equal_in_bits_and_in_greedy_tokens(met: dict[str, dict[str, Any]]) -> None:
    said = set()
    for ours, theirs in both(met, "readings"):
        assert len(ours) == 12
        for one, other in zip(ours, theirs, strict=True):
            for key in ("bits", "eos_bits", "prompt_bits_total", "foil_bits_total"):
                assert other[key] == pytest.approx(one[key], abs=TOLERANCE)
            for key in ("id", "output", "correct", "stopped", "exposures"):
                assert other[key] == one[key]
            said.add(one["output"])
    # A model that always says the same would show little.
    assert len(said) > 3


def test_preferences_and_exams_are_equal(met: dict[str, dict[str, Any]]) -> None:
    assert met["gpu"]["preference_trainer"] == "UnslothDPOTrainer"
    ours, theirs = met["cpu"]["later"]["train"], met["gpu"]["later"]["train"]
    assert [row["stage"] for row in ours] == ["learn"] * 3 + ["prefer"] * 2 + ["drill"] * 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in set(one) - {"time", "kind", "stage"}:
            assert other[key] == pytest.approx(one[key], abs=10 * TOLERANCE), key
    # The second update of a preference is one that the first has moved.
    assert abs(ours[4]["train/rewards/margins"]) > 100 * TOLERANCE


def test_a_head_on_the_backbone_is_trained_and_read_equally(met: dict[str, dict[str, Any]]) -> None:
    ours, theirs = met["cpu"]["classifier"], met["gpu"]["classifier"]
    assert len(ours["train"]) == 2
    for one, other in zip(ours["train"], theirs["train"], strict=True):
        for key in ("train/loss", "train/grad_norm", "train/learning_rate", "exposures"):
            assert other[key] == pytest.approx(one[key], abs=10 * TOLERANCE), key
    assert [len(reading) for reading in ours["readings"]] == [4, 4, 8]
    for one, other in zip(ours["readings"], theirs["readings"], strict=True):
        for row, same in zip(one, other, strict=True):
            assert (same["id"], same["predicted"]) == (row["id"], row["predicted"])
            assert same["probabilities"] == pytest.approx(row["probabilities"], abs=10 * TOLERANCE)
    # What was trained is seen in the readings, so that equal ones say something.
    before, after = (ours["readings"][place][0]["probabilities"][0] for place in (0, 1))
    assert abs(before - after) > 100 * TOLERANCE


def test_float32_is_trained_in_float32_also_where_bfloat16_is_there(met: dict[str, dict[str, Any]]) -> None:
    assert met["gpu"]["mixed_precision"] == met["cpu"]["mixed_precision"] == [None] * 4


def test_what_is_forgotten_is_measured_equally(met: dict[str, dict[str, Any]]) -> None:
    ours, theirs = met["cpu"]["forgotten"], met["gpu"]["forgotten"]
    # Two questions and one text: of the base, and after each of three stages.
    assert [len(ours["items"]), len(ours["windows"])] == [8, 4]
    for one, other in zip(ours["items"], theirs["items"], strict=True):
        assert {key: other[key] for key in ("when", "item", "right", "answer", "prompt_hash")} == {
            key: one[key] for key in ("when", "item", "right", "answer", "prompt_hash")
        }
        assert other["loglikelihoods"] == pytest.approx(one["loglikelihoods"], abs=100 * TOLERANCE)
    for one, other in zip(ours["windows"], theirs["windows"], strict=True):
        for key in ("bits", "kl_from_base", "kl_to_base"):
            assert other[key] == pytest.approx(one[key], abs=100 * TOLERANCE), key
    # The base is left, so that equal distances say something.
    assert ours["windows"][-1]["kl_from_base"] > 1000 * TOLERANCE
