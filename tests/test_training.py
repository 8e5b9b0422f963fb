"""Training for real on a small base: seeds, exposures, engines, what is kept, and what a run leaves behind."""

import json
from pathlib import Path

import pytest

from tests.conftest import command, run
from toolkit.errors import UserError
from toolkit.run_folder import Run, run_for

SHORT = ("stage.learn.epochs=3", "data.count=20", "data.controls=10", "recall.every=epoch")
GROUP = "recipes/tiny/groupA.toml"


def train(name: str, *changes: str, seeds: str = "0", recipe: str = GROUP) -> Run:
    run(recipe, f"name={name}", *SHORT, *changes, seeds=seeds)
    return run_for(name, int(seeds.split(",")[0]))


def weights(run: Run) -> bytes:
    return next(run.weights.glob("*model.safetensors")).read_bytes()


def losses(run: Run) -> list[float]:
    return [row["train/loss"] for row in run.rows("train")]


@pytest.fixture(scope="module")
def pair(project: Path) -> tuple[Run, Run]:
    """Seeds 0 and 1, trained in one call on one loaded base."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        train("pair", seeds="0,1")
        return Run(project / "checkpoints/pair/seed-0"), Run(project / "checkpoints/pair/seed-1")


def test_the_same_seed_gives_the_same_weights_to_the_last_bit(in_project: Path, pair: tuple[Run, Run]) -> None:
    again = train("pair-again")
    assert weights(again) == weights(pair[0])
    assert losses(again) == losses(pair[0])


def test_a_run_on_a_base_that_another_run_used_before_equals_one_on_a_fresh_base(
    in_project: Path, pair: tuple[Run, Run]
) -> None:
    assert weights(train("alone", seeds="1")) == weights(pair[1])


def test_seeds_reach_data_initialisation_and_order(in_project: Path, pair: tuple[Run, Run]) -> None:
    zero, one = pair
    assert (zero.path / "examples.jsonl").read_text() != (one.path / "examples.jsonl").read_text()
    assert weights(zero) != weights(one)
    # With the facts fixed, what is left of a seed's effect is initialisation and order.
    train("fixed", "data.seed=5", seeds="0,1")
    fixed = [run_for("fixed", seed) for seed in (0, 1)]
    assert (fixed[0].path / "examples.jsonl").read_text() == (fixed[1].path / "examples.jsonl").read_text()
    assert losses(fixed[0])[0] != losses(fixed[1])[0]


def test_before_training_lora_leaves_the_base_as_it_was(in_project: Path, pair: tuple[Run, Run]) -> None:
    other = train("other-init", "lora.rank=4", "lora.alpha=8")
    key = "loss/digit_nats"
    assert other.rows("recall")[0][key] == pytest.approx(pair[0].rows("recall")[0][key], abs=1e-5)


def test_readings_are_taken_before_training_at_every_epoch_and_once_at_the_end(pair: tuple[Run, Run]) -> None:
    rows = pair[0].rows("recall")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert [path.name for path in pair[0].readings()] == [f"recall-learn-{step:06d}.parquet" for step in (0, 2, 4, 6)]
    assert [("recall/strict" in row) for row in rows] == [True, False, False, True]


def test_exposures_are_counted_by_fact_from_what_was_fed(pair: tuple[Run, Run]) -> None:
    from toolkit.probes.recall import read_reading

    for path, exposures in zip(pair[0].readings(), (0, 1, 2, 3), strict=True):
        rows = read_reading(path)
        assert {row["exposures"] for row in rows if row["split"] == "train"} == {exposures}
        assert {row["exposures"] for row in rows if row["split"] == "control"} == {0}
    # Twenty facts by sixteen: after an odd number of updates sixteen of them were fed once more than the other four.
    assert [row["exposures"] for row in pair[0].rows("train")] == [0.8, 1.0, 1.8, 2.0, 2.8, 3.0]


def test_readings_do_not_disturb_training(in_project: Path, pair: tuple[Run, Run]) -> None:
    rarely = train("rarely", "recall.every=stage", "lora.dropout=0.1")
    often = train("often", "recall.every=1 steps", "lora.dropout=0.1")
    assert len(often.rows("recall")) > len(rarely.rows("recall"))
    assert weights(often) == weights(rarely)


def test_both_engines_give_the_same_losses(in_project: Path, pair: tuple[Run, Run]) -> None:
    changes = [part for change in (*SHORT, "name=plain", "model.engine=transformers") for part in ("--set", change)]
    done = command("toolkit.run", GROUP, "--seeds", "0", *changes, folder=in_project)
    assert done.returncode == 0, done.stderr
    plain = run_for("plain", 0)
    assert plain.info["model"]["engine"] == "transformers"
    assert losses(plain) == pytest.approx(losses(pair[0]), abs=1e-5)
    for key in ("loss/digit_nats", "loss/digit_nats_control", "loss/eos_nats"):
        ours = [row[key] for row in pair[0].rows("recall")]
        assert [row[key] for row in plain.rows("recall")] == pytest.approx(ours, abs=1e-4)


def test_accumulated_small_batches_train_like_one_large_batch(in_project: Path) -> None:
    one = train("one-batch", "data.count=16")
    four = train("four-batches", "data.count=16", "stage.learn.batch_size=4", "stage.learn.grad_accum=4")
    assert losses(four) == pytest.approx(losses(one), abs=1e-4)


def test_the_trained_loss_is_the_loss_that_the_reading_reports(in_project: Path) -> None:
    """One update over all facts: train/loss averages digits and end marks before it, as the reading does apart."""
    whole = train("whole", "data.count=16", "stage.learn.epochs=1", "stage.learn.batch_size=16")
    before = whole.rows("recall")[0]
    expected = (11 * before["loss/digit_nats"] + before["loss/eos_nats"]) / 12
    assert losses(whole)[0] == pytest.approx(expected, abs=1e-4)


def test_a_finished_run_is_skipped_and_a_changed_one_refused(
    in_project: Path, pair: tuple[Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(pair[0])
    train("pair")
    assert "finished already" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"stage.learn.epochs: 3 -> 4[\s\S]*--fresh"):
        train("pair", "stage.learn.epochs=4")
    assert weights(pair[0]) == before


def test_what_cannot_be_trained_is_refused_before_fresh_deletes_anything(in_project: Path) -> None:
    train("precious")
    with pytest.raises(UserError, match="over .model. max_length = 8"):
        run(GROUP, "name=precious", *SHORT, "model.max_length=8", seeds="0", fresh=True)
    assert run_for("precious", 0).complete


def test_a_base_that_was_made_anew_since_is_noticed(in_project: Path) -> None:
    import shutil

    from toolkit.checkpoints import find_checkpoints
    from toolkit.models.base import base_digest
    from toolkit.models.opening import prepare

    shutil.copytree(in_project / "checkpoints/tiny-base/seed-0/model", in_project / "own-base")
    done = train("on-own-base", "model.base=own-base", "stage.learn.epochs=1")
    weights = in_project / "own-base/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    base_digest.cache_clear()
    with pytest.raises(UserError, match="other weights than own-base has now"):
        train("on-own-base", "model.base=own-base", "stage.learn.epochs=1")
    with pytest.raises(UserError, match="other weights than own-base has now"):
        prepare(find_checkpoints([str(done.path)])[0], None, None)


def test_a_reading_of_a_sample_says_how_many_it_read(in_project: Path) -> None:
    rows = train("sampled", "recall.sample=7").rows("recall")
    assert {(row["recall/read"], row["recall/read_control"]) for row in rows} == {(7, 7)}


def test_pretraining_exposes_every_fact_once_an_epoch(in_project: Path) -> None:
    stage = ('stage.learn.method="pretrain"', 'stage.learn.loss_on="all"', "stage.learn.block=40", "lora=false")
    packed = train("packed", *stage, "stage.learn.batch_size=2", "recall.every=stage")
    assert packed.rows("recall")[-1]["exposures"] == 3


def test_groups_of_one_pattern_and_seed_share_numbers_on_purpose(in_project: Path) -> None:
    from toolkit.recipe import read_recipe
    from toolkit.run import plan_runs, refuse_shared_answers
    from toolkit.studies import resolve_data

    def planned(*changes: str):
        return plan_runs(Path(GROUP), resolve_data(read_recipe(Path(GROUP), changes, [0]), GROUP), {})

    refuse_shared_answers(planned() + planned("name=fewer", "data.count=50"))
    ours, theirs = planned(), planned("name=other", 'data.pattern="mirrored"')
    theirs[0].built.examples.append(ours[0].built.examples[0])
    with pytest.raises(UserError, match="share a number"):
        refuse_shared_answers(ours + theirs)


def test_fresh_starts_over(in_project: Path) -> None:
    first = train("fresh")
    run(GROUP, "name=fresh", *SHORT, "stage.learn.epochs=1", seeds="0", fresh=True)
    assert [row["epoch"] for row in first.rows("recall")] == [0, 1]


def test_kept_epochs_are_checkpoints(in_project: Path) -> None:
    from toolkit.checkpoints import find_checkpoints

    kept = train("kept", 'stage.learn.keep="epochs"')
    folders = sorted(path.name for path in (kept.path / "stages/learn").iterdir())
    assert folders == ["epoch-001", "epoch-002", "epoch-003"]
    last = find_checkpoints([str(kept.path / "stages/learn/epoch-003")])[0]
    assert (last.weights / "adapter_model.safetensors").read_bytes() == weights(kept)


def test_keep_best_keeps_the_epoch_with_the_best_reading(in_project: Path) -> None:
    kept = train("best", 'stage.learn.keep="best"')
    rows = kept.rows("recall")[1:]
    best = max(rows, key=lambda row: (row["recall/exact"], -row["loss/digit_nats"]))
    assert [path.name for path in (kept.path / "stages/learn").iterdir()] == [f"epoch-{round(best['epoch']):03d}"]


def test_without_lora_every_weight_is_trained(in_project: Path) -> None:
    full = train("full", "lora=false", "stage.learn.learning_rate=1e-3")
    info = full.info["model"]
    assert info["trainable_parameters"] == info["parameters"]
    assert (full.path / "model/model.safetensors").is_file()
    assert full.rows("recall")[-1]["loss/digit_nats"] < full.rows("recall")[0]["loss/digit_nats"]


def test_two_stages_train_the_same_weights_one_after_the_other(in_project: Path) -> None:
    second = '{method = "sft", epochs = 1, learning_rate = 1e-3, batch_size = 16, grad_accum = 1, optimizer = "adamw"}'
    both = train("two-stages", f"stage.more={second}")
    rows = both.rows("recall")
    assert [(row["stage"], row["step"], row["epoch"]) for row in rows] == [
        ("learn", 0, 0), ("learn", 2, 1), ("learn", 4, 2), ("learn", 6, 3), ("more", 8, 4),
    ]  # fmt: skip
    assert rows[-1]["exposures"] == 4
    assert rows[-1]["loss/digit_nats"] < rows[0]["loss/digit_nats"]


def test_gradient_checkpointing_changes_memory_and_not_the_losses(in_project: Path, pair: tuple[Run, Run]) -> None:
    checkpointed = train("checkpointed", "model.gradient_checkpointing=true")
    assert losses(checkpointed) == pytest.approx(losses(pair[0]), abs=1e-5)


def test_chat_rendering_trains_and_is_measured(in_project: Path) -> None:
    chat = train("chat", 'model.format="chat"')
    rows = chat.rows("recall")
    assert rows[-1]["loss/digit_nats"] < rows[0]["loss/digit_nats"]
    assert "template" in chat.info["model"]


def test_the_whole_line_is_trained_and_measured_where_asked(in_project: Path) -> None:
    line = train("line", 'stage.learn.loss_on="all"', "stage.learn.train_eos=false")
    rows = line.rows("recall")
    assert rows[-1]["loss/line_nats"] < rows[0]["loss/line_nats"]


def test_nf4_is_loaded_as_nf4_and_said(in_project: Path) -> None:
    described = train("nf4", 'model.precision="nf4"').info["model"]
    assert described["quantisation"] == "bitsandbytes"
    assert described["precision_asked"] == "nf4"


def test_fp8_without_a_gpu_is_refused_with_a_way_out(in_project: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="needs a GPU"):
        train("fp8", 'model.precision="fp8"')
    assert not run_for("fp8", 0).path.exists()


def test_what_was_really_used_is_recorded(pair: tuple[Run, Run]) -> None:
    info = pair[0].info
    assert info["state"] == "complete"
    assert info["stages"]["learn"]["optimizer"].startswith("adamw_torch")
    assert info["peak_memory_gb"] > 0
    assert info["model"]["dtype"] == "float32"
    assert info["data"]["entropy_bits"] == pytest.approx(36.5412, abs=1e-4)
    assert {"torch", "unsloth", "trl", "python"} <= set(info["versions"])
    assert not (pair[0].path / "state").exists()


def test_the_folder_holds_safetensors_and_no_pickle(pair: tuple[Run, Run]) -> None:
    names = [path.name for path in pair[0].path.rglob("*") if path.is_file()]
    assert "adapter_model.safetensors" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


def test_a_metrics_line_has_step_epoch_exposures_and_stage(pair: tuple[Run, Run]) -> None:
    for line in (pair[0].path / "metrics.jsonl").read_text().splitlines():
        assert {"kind", "step", "epoch", "exposures", "stage"} <= set(json.loads(line))


def test_two_recipes_of_one_name_and_two_engines_are_refused(in_project: Path) -> None:
    from toolkit.run import main

    with pytest.raises(UserError, match="both called"):
        main([Path(GROUP), Path(GROUP)], None, "", False, False, True, False)


def test_a_damaged_base_is_refused_before_anything_is_written(in_project: Path) -> None:
    import shutil

    shutil.copytree(in_project / "checkpoints/tiny-base/seed-0/model", in_project / "broken-base")
    weights = in_project / "broken-base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        train("on-broken-base", "model.base=broken-base")
    assert not run_for("on-broken-base", 0).path.parent.exists()


def test_an_fp8_base_is_dequantised_where_its_weights_are_not_trained_over(
    in_project: Path, pair: tuple[Run, Run]
) -> None:
    store_as_fp8(in_project / "checkpoints/tiny-base/seed-0/model", in_project / "fp8-base")
    trained = train("over-fp8", "model.base=fp8-base")
    assert trained.info["model"]["dtype"] == "float32"
    # Eight bits a weight are near enough for the same loss, and no longer the same weights.
    before, reference = trained.rows("recall")[0]["loss/digit_nats"], pair[0].rows("recall")[0]["loss/digit_nats"]
    assert before == pytest.approx(reference, abs=0.05)
    assert before != reference


def store_as_fp8(source: Path, target: Path) -> None:
    """Write a model's projections as fine-grained FP8 in blocks of 128 × 128, as Qwen publishes its FP8 checkpoints."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    stored: dict[str, torch.Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if not name.endswith("proj.weight"):
            stored[name] = weight
            continue
        rows, columns = (-(-size // 128) for size in weight.shape)
        scales, values = torch.zeros(rows, columns), torch.zeros(weight.shape, dtype=torch.float8_e4m3fn)
        for i in range(rows):
            for j in range(columns):
                block = (slice(i * 128, (i + 1) * 128), slice(j * 128, (j + 1) * 128))
                scales[i, j] = weight[block].abs().max() / 448
                values[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
        stored |= {name: values, f"{name}_scale_inv": scales}
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    }
    (target / "config.json").write_text(json.dumps(config))


def test_an_offline_run_is_at_wandb_under_the_names_of_metrics_jsonl(
    in_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.wandb_server import expected, history

    monkeypatch.setenv("WANDB_MODE", "offline")
    tracked = train("tracked")
    described = tracked.info["wandb"]
    assert described["mode"] == "offline"
    assert history(described["folder"]) == expected(tracked.rows())
