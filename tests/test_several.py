"""One recipe on several processes: what two of them make is what one makes, once, and both go on where they stopped."""

import json
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from tests.conftest import ROOT, SMALL_BASE, command, run
from tests.together import ZERO2, end, killed_after_a_save, rows_of, start, together
from toolkit import processes
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.probes.recall import read_reading
from toolkit.recipe import Stage, read_recipe
from toolkit.rendering.rows import ints_of_many
from toolkit.studies.built import Built
from toolkit.training.shares import (
    Share,
    blank_row,
    blanks_needed,
    refuse_strategies,
    share_of_batch,
    without_uneven_pairs,
)

NUMBERS, CONVERSATIONS = "recipes/tiny/groupA.toml", "recipes/tiny/mini_qwen.toml"
CHANGES = {
    # 18 rows in updates of 8: of the last two of an epoch, the second process has none.
    "data.count": 18,
    "data.controls": 6,
    "stage.learn.epochs": 4,
    "stage.learn.batch_size": 4,
    "stage.learn.grad_accum": 2,
    "stage.learn.schedule": "cosine",
}
WRITING = {"repetition.prompts": 6, "repetition.batch_size": 2, "repetition.max_new_tokens": 6}
LONGER = CHANGES | {"stage.learn.epochs": 12, "stage.learn.save": "2 steps", "recall.every": "stage"}


def alone(folder: Path, recipe: str, changes: dict) -> Path:
    """The folder of a run by one process, made once."""
    made = folder / "checkpoints" / changes["name"] / "seed-0"
    if not (made / "run.json").is_file():
        run(recipe, *(f"{key}={value}" for key, value in changes.items()))
    return made


def same_training(one: Path, two: Path, tolerance: float) -> None:
    """Losses, gradients and exposures of every update, and what readings found."""
    mine, theirs = rows_of(one, "train"), rows_of(two, "train")
    # Within an epoch they count its parts in batches, of which each of two has fewer.
    assert [(row["step"], row["exposures"]) for row in mine] == [(row["step"], row["exposures"]) for row in theirs]
    assert mine[-1]["epoch"] == theirs[-1]["epoch"]
    for name in ("train/loss", "train/grad_norm", "train/learning_rate"):
        assert [row[name] for row in theirs] == pytest.approx([row[name] for row in mine], abs=tolerance), name
    read = [[row["loss/digit_nats"] for row in rows_of(folder, "recall")] for folder in (one, two)]
    assert read[1] == pytest.approx(read[0], abs=tolerance)


def info(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


# --- DDP ---


def test_two_processes_train_lora_as_one_does_and_write_everything_once(in_project: Path, tmp_path: Path) -> None:
    changes = CHANGES | WRITING
    one = alone(in_project, NUMBERS, changes | {"name": "alone"})
    wandb = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    log = tmp_path / "log"
    assert together(NUMBERS, changes | {"name": "ddp"}, in_project, log, **wandb) == 0, log.read_text()
    two = in_project / "checkpoints/ddp/seed-0"
    same_training(one, two, 1e-5)
    assert info(two)["processes"] == {"count": 2, "strategy": "ddp", "batch_size": 4, "grad_accum": 1}
    assert "processes" not in info(one)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    # One of them sends rows, and one only.
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1
    last = "recall-learn-000012.parquet"
    mine, theirs = read_reading(one / "probes" / last), read_reading(two / "probes" / last)
    assert [row["exposures"] for row in theirs] == [row["exposures"] for row in mine]
    assert [row["since"] for row in theirs] == [row["since"] for row in mine]
    assert [row["id"] for row in theirs] == [row["id"] for row in mine]
    for row, other in zip(mine, theirs, strict=True):
        assert other["bits"] == pytest.approx(row["bits"], abs=1e-4)
    texts = [pq.read_table(folder / "probes/repetition-learn-000000.parquet").to_pylist() for folder in (one, two)]
    # Sampled ones too: what is drawn for a text does not depend on which process writes it.
    assert [(row["id"], row["decoding"], row["text"]) for row in texts[1]] == [
        (row["id"], row["decoding"], row["text"]) for row in texts[0]
    ]
    assert {row["decoding"] for row in texts[0]} == {"human", "greedy", "sampled"}
    said = log.read_text(encoding="utf-8")
    assert said.count("the last update of an epoch has 2 rows") == 1


def test_two_processes_train_every_weight_as_one_does(in_project: Path, tmp_path: Path) -> None:
    changes = {key: value for key, value in (change.split("=") for change in SMALL_BASE)}  # noqa: C416
    changes |= {"data.count": "500", "name": "scratch-alone"}
    one = alone(in_project, "recipes/tiny/base.toml", changes)
    log = tmp_path / "log"
    assert together("recipes/tiny/base.toml", changes | {"name": "scratch-two"}, in_project, log) == 0, log.read_text()
    two = in_project / "checkpoints/scratch-two/seed-0"
    same_training(one, two, 1e-5)
    weights = [load_file(folder / "model/model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=0)


def test_two_processes_prefer_as_one_does(in_project: Path, tmp_path: Path) -> None:
    changes = {
        "name": "dpo-alone",
        "data.count": 16,
        "data.controls": 4,
        "stage.learn.epochs": 2,
        "stage.prefer.method": "dpo",
    }
    recipe = in_project / "dpo.toml"
    recipe.write_text(
        f'extends = "{in_project}/recipes/tiny/groupA.toml"\nname = "dpo-alone"\n[data]\ncount = 16\ncontrols = 4\n'
        "[stage.learn]\nepochs = 2\n[stage.prefer]\n"
        'method = "dpo"\nrejected = "one_digit_off"\nepochs = 2\nbatch_size = 4\ngrad_accum = 2\nlearning_rate = 1e-3\n'
        'optimizer = "adamw"\n',
        encoding="utf-8",
    )
    one = alone(in_project, "dpo.toml", {"name": changes["name"]})
    log = tmp_path / "log"
    assert together("dpo.toml", {"name": "dpo-two"}, in_project, log) == 0, log.read_text()
    two = in_project / "checkpoints/dpo-two/seed-0"
    same_training(one, two, 1e-4)
    assert rows_of(two, "train")[-1]["stage"] == "prefer"


def test_what_is_killed_inside_an_epoch_goes_on_to_the_same_weights(in_project: Path, tmp_path: Path) -> None:
    one = alone(in_project, NUMBERS, LONGER | {"name": "alone-longer"})
    changes, log = LONGER | {"name": "ddp-killed"}, tmp_path / "log"
    step = killed_after_a_save(NUMBERS, changes, in_project, log)
    two = in_project / "checkpoints/ddp-killed/seed-0"
    assert info(two)["state"] == "running"
    # One alone has not the states of two, and says so before it loads a model.
    refused = command(
        "toolkit.run", NUMBERS, *(f"--set={key}={value}" for key, value in changes.items()), folder=in_project
    )
    assert refused.returncode == 2
    assert "was begun by 2 processes and cannot go on with 1" in refused.stderr
    assert "loading" not in refused.stderr
    assert together(NUMBERS, changes, in_project, log, "ddp") == 0, log.read_text()
    assert f"goes on at step {step}" in log.read_text(encoding="utf-8")
    same_training(one, two, 1e-5)
    mine, theirs = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (one, two))
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=0)
    assert not (two / "state").exists()


def test_ctrl_c_saves_and_stops_both_and_the_same_command_goes_on(in_project: Path, tmp_path: Path) -> None:
    changes = LONGER | {"name": "ddp-stopped", "stage.learn.epochs": 200, "stage.learn.save": "stage"}
    arguments = ["toolkit.run", NUMBERS, *(f"--set={key}={value}" for key, value in changes.items())]
    log, made = tmp_path / "log", in_project / "checkpoints/ddp-stopped/seed-0"
    process = start(arguments, in_project, log)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and not ((made / "metrics.jsonl").is_file() and len(rows_of(made, "train")) > 5):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        end(process)
    said = log.read_text(encoding="utf-8")
    assert "the same command goes on from there" in said, said[-3000:]
    assert said.count("saving, then stopping") == 1
    assert len(list(made.glob("state/learn/checkpoints/checkpoint-*/complete"))) == 1


# --- ZeRO-2 ---


def test_zero_2_is_in_use_and_trains_as_one_process_does(in_project: Path, tmp_path: Path) -> None:
    one = alone(in_project, NUMBERS, LONGER | {"name": "alone-longer"})
    changes, log = LONGER | {"name": "zero-killed"}, tmp_path / "log"
    step = killed_after_a_save(NUMBERS, changes, in_project, log, **ZERO2)
    two = in_project / "checkpoints/zero-killed/seed-0"
    assert info(two)["processes"]["strategy"] == "zero-2"
    # Each process saved a half of the optimizer's state, and no more: it is shared out, and not only said to be.
    trained = info(two)["model"]["trainable_parameters"]
    for part in two.glob("state/learn/checkpoints/*/global_step*/zero_pp_rank_*_optim_states.pt"):
        held = torch.load(part, weights_only=False)["optimizer_state_dict"]["base_optimizer_state"]["state"]
        sizes = [state["exp_avg"].numel() for state in held.values()]
        assert trained / 2 <= sum(sizes) < trained / 2 * 1.01
    assert together(NUMBERS, changes, in_project, log, "zero2") == 0, log.read_text()
    assert info(two)["processes"]["strategy"] == "zero-2"
    assert f"goes on at step {step}" in log.read_text(encoding="utf-8")
    same_training(one, two, 1e-4)


def test_a_new_model_of_packed_conversations_is_killed_under_zero_2_and_goes_on_as_one_process_trains_it(
    in_project: Path, tmp_path: Path
) -> None:
    changes = {
        "data.invented": 160, "data.validation": 10, "data.invented_facts": 8, "data.fact_controls": 2,
        "model.shape.hidden_size": 64, "model.shape.num_hidden_layers": 2, "model.shape.intermediate_size": 128,
        "model.tokenizer.vocab_size": 500, "stage.learn.packing": "true", "stage.learn.batch_size": 4,
        "stage.learn.epochs": 6, "stage.learn.keep": "last", "stage.learn.save": "2 steps", "recall.every": "stage",
        "repetition.every": "stage", "repetition.prompts": 3, "repetition.max_new_tokens": 6,
    }  # fmt: skip
    one = alone(in_project, CONVERSATIONS, changes | {"name": "packed-alone", "seeds": "[0]"})
    changes, log = changes | {"name": "packed-zero", "seeds": "[0]"}, tmp_path / "log"
    step = killed_after_a_save(CONVERSATIONS, changes, in_project, log, **ZERO2)
    assert together(CONVERSATIONS, changes, in_project, log, "zero2") == 0, log.read_text()
    two = in_project / "checkpoints/packed-zero/seed-0"
    assert info(two)["processes"]["strategy"] == "zero-2"
    assert f"goes on at step {step}" in log.read_text(encoding="utf-8")
    assert info(one)["model"]["tokenizer"] == info(two)["model"]["tokenizer"]
    same_training(one, two, 1e-4)


# --- what cannot be shared ---


def test_an_update_has_the_recipes_rows_whatever_the_number_of_processes() -> None:
    stage = Stage(method="sft", batch_size=16, grad_accum=72)
    for count in (1, 2, 3, 4, 6, 8, 12, 64):
        share = share_of_batch(stage, count)
        assert share.batch_size * share.grad_accum * count == 1152
    assert share_of_batch(stage, 6) == Share(16, 12)
    # A number that does not divide the batches takes smaller ones.
    assert share_of_batch(Stage(method="sft", batch_size=16, grad_accum=1), 4) == Share(4, 1)
    with pytest.raises(UserError, match="5 processes cannot share evenly"):
        share_of_batch(stage, 5)


def test_blank_rows_fill_up_what_the_last_batches_lack() -> None:
    assert blanks_needed(18, Share(4, 1), 2) == 6
    assert blanks_needed(16, Share(4, 1), 2) == 0
    assert blanks_needed(1, Share(4, 1), 3) == 11


def test_what_two_processes_cannot_train_is_refused_before_anything_is_written(
    in_project: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    changes = CHANGES | {"name": "uneven", "stage.learn.batch_size": 3, "stage.learn.grad_accum": 1}
    assert together(NUMBERS, changes, in_project, log) != 0
    said = log.read_text(encoding="utf-8")
    assert said.count("error:") == 1
    assert "[stage.learn] batch_size = 3 times grad_accum = 1 are 3 rows an update, which 2 processes" in said
    assert not (in_project / "checkpoints/uneven").exists()


def test_ways_of_sharing_that_are_not_known_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(UserError, match="fsdp_version: 2"):
        refuse_strategies()
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for stage, known in ((2, True), (3, False)):
        config = tmp_path / f"zero{stage}.json"
        config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(config))
        if known:
            refuse_strategies()
            continue
        with pytest.raises(UserError, match="stage 3 is not"):
            refuse_strategies()


def test_pairs_that_processes_cannot_share_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(Path("recipes/mini_qwen_pretrain.toml"))
    pairs = [Example(f"p-{i}", f"p-{i}", "q", "a", "train", part="preferences", wrong=("b",)) for i in range(59)]
    built = Built([*pairs, Example("c-1", "c-1", "q", "a", "train", part="conversations")])
    assert without_uneven_pairs(recipe, built) is built
    monkeypatch.setenv("WORLD_SIZE", "6")
    kept = without_uneven_pairs(recipe, built)
    # In batches of four each, six processes take 24 pairs at a time.
    assert [example.id for example in kept.examples] == [*(f"p-{i}" for i in range(48)), "c-1"]
    assert kept.notes == ("prefer: 11 of 59 pairs left out, which 6 processes cannot share",)
    with pytest.raises(UserError, match="23 pairs are no full batch for each of 6"):
        without_uneven_pairs(recipe, Built(pairs[:23]))


def test_a_blank_row_is_held_as_its_neighbours_are() -> None:
    listed, many = (
        {"input_ids": held([7, 8]), "labels": held([7, 8]), "facts": held([0])} for held in (list, ints_of_many)
    )
    for like in (listed, many):
        dataset = Dataset.from_list([like, blank_row(3, like)])
        assert dataset[1] == {"input_ids": [3, 3], "labels": [-100, -100], "facts": []}


def test_fsdp_without_gpus_is_refused_and_not_silently_left_out(in_project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert together(NUMBERS, CHANGES | {"name": "fsdp"}, in_project, log, "fsdp") != 0
    assert "FSDP needs GPUs: accelerate leaves it out without them" in log.read_text(encoding="utf-8")
    assert not (in_project / "checkpoints/fsdp").exists()


def test_one_process_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.start()
    assert not processes.together()
    assert processes.gather("mine") == ["mine"]
    assert processes.spread([3, 1, 2], sorted) == [1, 2, 3]


# --- FSDP ---


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_model_in_parts_answers_and_is_saved_and_put_back_as_a_whole_one(
    in_project: Path, tmp_path: Path, kind: str
) -> None:
    base, log = in_project / "checkpoints/tiny-base/seed-0/model", tmp_path / "log"
    (tmp_path / kind).mkdir()
    process = start(["tests.shards_in_parts", str(base), kind, str(tmp_path)], ROOT, log)
    try:
        assert process.wait(timeout=120) == 0, log.read_text(encoding="utf-8")
    finally:
        end(process)
    first, second = (json.loads((tmp_path / f"{kind}-{number}.json").read_text()) for number in (0, 1))
    assert (first["was_sharded"], first["is_sharded"]) == (False, True)
    assert first == second
    assert first["parts"]["said"] == first["whole"]["said"]
    assert first["spoilt"]["bits"] != first["parts"]["bits"]
    for when in ("parts", "put_back"):
        for mine, theirs in zip(first["whole"]["bits"], first[when]["bits"], strict=True):
            assert theirs == pytest.approx(mine, abs=1e-4)
    saved = load_file(tmp_path / kind / ("model.safetensors" if kind == "full" else "adapter_model.safetensors"))
    if kind == "full":
        torch.testing.assert_close(saved, load_file(base / "model.safetensors"))
    assert all(value.numel() for value in saved.values())
