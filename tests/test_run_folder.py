"""A run's folder: whole writes, what resuming reads, locks, and how checkpoints are found on the command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.checkpoints import find_checkpoints, find_runs
from toolkit.errors import MachineError, UserError
from toolkit.run_folder import (
    Run,
    changed_keys,
    locked,
    refuse_if_changed,
    remove_folder,
    run_for,
    whole_folder,
    write_whole,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_run(name="GroupA", seed=0, *, state="complete", weights: str | None = "adapter"):
    run = run_for(name, seed)
    write_whole(run.path / "recipe.toml", f'name = "{name}"\n')
    write_whole(run.path / "run.json", json.dumps({"state": state, "data": {"digest": "d"}}))
    if weights:
        write_whole(run.path / weights / "config.json", "{}")
    return run


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# --- whole or absent ---


def test_a_file_is_written_with_its_folders_and_no_line_end_is_changed():
    write_whole(Path("a/b/c.txt"), "第7\n\r\n")
    assert Path("a/b/c.txt").read_bytes() == "第7\n\r\n".encode()
    write_whole(Path("a/b/c.txt"), b"\x00")
    assert Path("a/b/c.txt").read_bytes() == b"\x00"
    assert names_in("a/b") == ["c.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(monkeypatch, failing):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    write_whole(Path("run.json"), "old")
    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(MachineError, match=r"run\.json could not be written \(No space left on device\).*is kept"):
        write_whole(Path("run.json"), "new")
    assert Path("run.json").read_text() == "old"
    assert names_in(".") == ["run.json"]


def test_an_interrupted_write_leaves_nothing_half(monkeypatch):
    def interrupt(number):
        raise KeyboardInterrupt

    write_whole(Path("run.json"), "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(Path("run.json"), "new")
    assert Path("run.json").read_text() == "old"
    assert names_in(".") == ["run.json"]


def test_a_folder_that_cannot_be_made_is_the_machines_failure():
    Path("file").write_text("")
    with pytest.raises(MachineError, match="could not be written"):
        write_whole(Path("file/run.json"), "x")


def test_a_whole_folder_takes_the_old_ones_place():
    for text in ("old", "new"):
        with whole_folder(Path("run/adapter")) as folder:
            (folder / text).write_text(text)
            # Until the end the old folder is the one that is there.
            assert names_in("run/adapter") == ["old"] if text == "new" else not Path("run/adapter").exists()
    assert names_in("run/adapter") == ["new"]
    assert names_in("run") == ["adapter"]


def write_half_a_folder(path, error):
    with whole_folder(path) as folder:
        (folder / "half").write_text("")
        raise error


@pytest.mark.parametrize("error", [UserError, RuntimeError, KeyboardInterrupt, FileNotFoundError])
def test_an_error_leaves_no_folder_and_keeps_the_old_one(error):
    with pytest.raises(error):
        write_half_a_folder(Path("run/new"), error)
    assert names_in("run") == []
    write_whole(Path("run/old/weights"), "old")
    with pytest.raises(error):
        write_half_a_folder(Path("run/old"), error)
    assert names_in("run") == ["old"]
    assert names_in("run/old") == ["weights"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(monkeypatch):
    write_whole(Path("run/adapter/weights"), "old")
    replace = Path.replace

    def fail_for_the_new_one(self, target):
        if self.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_new_one)
    with pytest.raises(MachineError), whole_folder(Path("run/adapter")):
        pass
    assert names_in("run") == ["adapter"]
    assert names_in("run/adapter") == ["weights"]


def test_a_full_disk_is_the_machines_failure():
    with pytest.raises(MachineError, match="No space left"), whole_folder(Path("run/new")):
        raise OSError(28, "No space left on device")
    assert names_in("run") == []


def test_what_a_kill_left_does_not_stay():
    write_whole(Path("run/.adapter.part/half"), "")
    write_whole(Path("run/.adapter.going/half"), "")
    with whole_folder(Path("run/adapter")) as folder:
        assert names_in(folder) == []
        (folder / "weights").write_text("")
    assert names_in("run") == ["adapter"]
    assert names_in("run/adapter") == ["weights"]


def test_a_folder_is_removed_and_an_absent_one_is_no_error():
    write_whole(Path("run/state/file"), "")
    remove_folder(Path("run/state"))
    remove_folder(Path("run/state"))
    assert names_in("run") == []


# --- rows ---


def row(step, kind="train"):
    return {"kind": kind, "step": step}


def test_rows_are_read_as_written_and_by_kind():
    run = write_run()
    assert run.rows() == []
    for entry in (row(0, "recall"), row(7), row(7, "recall")):
        run.append_row(entry)
    assert run.rows() == [row(0, "recall"), row(7), row(7, "recall")]
    assert run.rows("recall") == [row(0, "recall"), row(7, "recall")]


@pytest.mark.parametrize("half", ['{"kind": "tr', '{"kind": "train", "st\xe9', "\x00\x00"])
def test_a_half_written_last_line_is_left_out(half):
    run = write_run()
    run.append_row(row(1))
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(half.encode("latin-1"))
    assert run.rows() == [row(1)]
    run.keep_rows_until(1)
    run.append_row(row(2))
    assert run.rows() == [row(1), row(2)]


def test_a_damaged_line_before_others_is_said_with_its_number():
    run = write_run()
    (run.path / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n{"kind\n{"kind": "train", "step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged.*--fresh"):
        run.rows()


def test_rows_and_readings_after_the_step_resumed_from_are_dropped():
    run = write_run()
    for step in (0, 7, 14, 21):
        run.append_row(row(step))
        run.append_row(row(step, "recall"))
        write_whole(run.path / f"probes/recall-learn-{step:06d}.parquet", b"")
    run.keep_rows_until(14)
    assert [entry["step"] for entry in run.rows()] == [0, 0, 7, 7, 14, 14]
    assert [path.name[-14:-8] for path in run.readings()] == ["000000", "000007", "000014"]


def test_readings_come_in_the_order_of_their_steps():
    run = write_run()
    for name in ("recall-two-000140", "recall-one-000070", "recall-a-b-1000000", "recall-one-000000"):
        write_whole(run.path / f"probes/{name}.parquet", b"")
    # Half-written readings of a killed process are hidden files.
    write_whole(run.path / "probes/.recall-one-000077.parquet.1.part", b"")
    assert [path.stem.split("-", 1)[1] for path in run.readings()] == [
        "one-000000", "one-000070", "two-000140", "a-b-1000000",
    ]  # fmt: skip


def test_info_is_updated_key_by_key():
    run = run_for("GroupA", 3)
    assert not run.exists
    assert not run.complete
    run.update_info(state="running", seed=3)
    run.update_info(state="complete")
    assert run.info == {"state": "complete", "seed": 3}
    assert run.complete
    assert (run.name, run.seed, run.label) == ("GroupA", 3, "GroupA/seed-3")


@pytest.mark.parametrize(("file", "read"), [("run.json", "info"), ("recipe.toml", "recipe")])
def test_a_damaged_file_is_said_by_its_name(file, read):
    run = write_run()
    for content in (b"{\xff", b"{ ="):
        (run.path / file).write_bytes(content)
        with pytest.raises(UserError, match=rf"{file}.* damaged"):
            getattr(run, read)
    (run.path / file).unlink()
    with pytest.raises(UserError, match=file):
        getattr(run, read)


def test_a_renamed_runs_folder_is_said():
    with pytest.raises(UserError, match="was renamed"):
        _ = Run(Path("checkpoints/GroupA/best")).seed


# --- what changed ---


def test_changed_keys_are_named_by_table():
    before = {"name": "a", "lora": {"rank": 8, "alpha": 16}, "stage": {"learn": {"epochs": 10}}}
    now = {"name": "a", "lora": {"rank": 32, "alpha": 16}, "stage": {"learn": {"epochs": 10, "warmup": 0.1}}}
    assert changed_keys(before, now) == ["lora.rank: 8 -> 32", "stage.learn.warmup: None -> 0.1"]
    assert changed_keys(before, before) == []


def test_seeds_and_wandb_may_differ_but_not_a_data_seed():
    before = {"seeds": [0], "wandb": {"mode": "online"}, "data": {"seed": 0, "seeds": 0}}
    assert changed_keys(before, before | {"seeds": [0, 1], "wandb": {}}) == []
    assert changed_keys(before, before | {"data": {"seed": 1, "seeds": 1}}) == [
        "data.seed: 0 -> 1",
        "data.seeds: 0 -> 1",
    ]


def test_a_changed_recipe_or_changed_data_is_refused():
    run = write_run()
    refuse_if_changed(run, {"name": "GroupA", "seeds": [4]}, "d")
    with pytest.raises(UserError, match=r"lora\.rank|lora: None -> \{'rank': 8\}[\s\S]*--fresh"):
        refuse_if_changed(run, {"name": "GroupA", "lora": {"rank": 8}}, "d")
    with pytest.raises(UserError, match="made from other data.*--fresh"):
        refuse_if_changed(run, {"name": "GroupA"}, "other")


# --- locks ---

HOLD = """
import sys, time
from toolkit.run_folder import locked, run_for
with locked(run_for("GroupA", 0)):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_not_after_the_first_died(project):
    run = run_for("GroupA", 0)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="GroupA/seed-0 is being trained by another process"), locked(run):
            pass
        with locked(run_for("GroupA", 1)):
            pass
        other.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        other.wait()
    with locked(run):
        pass


def test_a_lock_is_given_back_after_an_error():
    run = run_for("GroupA", 0)
    with pytest.raises(RuntimeError), locked(run):
        raise RuntimeError
    with locked(run):
        pass


# --- checkpoints on the command line ---


def labels(*arguments):
    return [checkpoint.label for checkpoint in find_checkpoints(list(arguments))]


def test_a_run_a_group_and_a_pattern_are_found():
    for name, seed in (("GroupA", 0), ("GroupA", 2), ("GroupA", 10), ("GroupB", 0)):
        write_run(name, seed)
    write_run("GroupA", 11, state="running")
    assert labels("checkpoints/GroupA/seed-2") == ["GroupA/seed-2"]
    # By number, and without the run that is not finished.
    assert labels("checkpoints/GroupA/") == ["GroupA/seed-0", "GroupA/seed-2", "GroupA/seed-10"]
    assert labels("checkpoints/Group*") == ["GroupA/seed-0", "GroupA/seed-2", "GroupA/seed-10", "GroupB/seed-0"]
    assert labels("checkpoints/GroupB", "checkpoints/GroupB/seed-0") == ["GroupB/seed-0"]
    assert labels(str(Path("checkpoints/Group[B]").absolute())) == ["GroupB/seed-0"]
    assert [run.label for run in find_runs(["checkpoints/*", "checkpoints/GroupA"])] == [
        "GroupA/seed-0", "GroupA/seed-2", "GroupA/seed-10", "GroupB/seed-0",
    ]  # fmt: skip


def test_a_finished_run_gives_its_adapter_or_its_model():
    write_run("GroupA", 0)
    write_run("tiny-base", 0, weights="model")
    adapter, model = find_checkpoints(["checkpoints/GroupA", "checkpoints/tiny-base"])
    assert adapter.weights == Path("checkpoints/GroupA/seed-0/adapter")
    assert model.weights == Path("checkpoints/tiny-base/seed-0/model")
    assert adapter.run == run_for("GroupA", 0)


def test_a_kept_epoch_knows_its_run_and_needs_no_finished_one():
    run = write_run(state="running", weights=None)
    epoch = run.path / "stages/learn/epoch-003"
    write_whole(epoch / "adapter_config.json", "{}")
    (checkpoint,) = find_checkpoints([str(epoch)])
    assert checkpoint.label == "GroupA/seed-0/stages/learn/epoch-003"
    assert checkpoint.weights == epoch
    assert checkpoint.run is not None
    assert checkpoint.run.label == "GroupA/seed-0"


def test_any_peft_folder_is_a_checkpoint_without_a_run():
    write_whole(Path("elsewhere/adapter_config.json"), "{}")
    (checkpoint,) = find_checkpoints(["elsewhere"])
    assert (checkpoint.weights, checkpoint.run, checkpoint.label) == (Path("elsewhere"), None, "elsewhere")


def test_a_folder_with_a_sign_of_patterns_in_its_name_is_itself():
    write_whole(Path("run[1]/adapter_config.json"), "{}")
    assert labels("run[1]") == ["run[1]"]


@pytest.mark.parametrize("find", [find_checkpoints, find_runs])
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("checkpoints/GruopA", "it is not there; did you mean checkpoints/GroupA?"),
        ("GroupA", "did you mean checkpoints/GroupA?"),
        ("checkpoints/GroupA/seed-7", "did you mean checkpoints/GroupA/seed-0?"),
        ("checkpoints/xyzzy", "there are checkpoints/Empty, checkpoints/GroupA, checkpoints/Running."),
        ("checkpoints/xyz*", "no folder fits; there are checkpoints/Empty"),
        ("checkpoints/Empty", "run.json"),
        ("checkpoints/GroupA/seed-0/run.json", "it is a file"),
        ("checkpoints/Running", "is not finished (step 21)"),
    ],
)
def test_a_wrong_path_is_said_with_what_was_meant(find, argument, said):
    write_run("GroupA")
    running = write_run("Running", state="running")
    running.append_row(row(7))
    running.append_row(row(21))
    Path("checkpoints/Empty").mkdir()
    with pytest.raises(UserError) as refused:
        find([argument])
    assert said in str(refused.value)


def test_before_anything_is_trained_that_is_said():
    with pytest.raises(UserError, match="nothing has been trained yet"):
        find_checkpoints(["checkpoints/GroupA"])


def test_a_finished_run_whose_weights_are_gone_is_said():
    write_run(weights=None)
    with pytest.raises(UserError, match=r"weights \(adapter/ or model/\) are gone"):
        find_checkpoints(["checkpoints/GroupA"])


def test_an_unfinished_run_shows_the_way_to_its_kept_epochs():
    write_run(state="running")
    with pytest.raises(UserError, match=r"step 0\).*where it stopped\.$"):
        find_checkpoints(["checkpoints/GroupA/seed-0"])
    Path("checkpoints/GroupA/seed-0/stages/learn/epoch-003").mkdir(parents=True)
    with pytest.raises(UserError, match=r"eval_recall and ask take .*checkpoints/GroupA/seed-0/stages/learn/epoch-003"):
        find_checkpoints(["checkpoints/GroupA/seed-0"])


def test_a_glob_leaves_out_what_is_not_finished_and_a_name_does_not():
    write_run()
    write_run("GroupB", state="running")
    assert [run.name for run in find_runs(["checkpoints/Group*"])] == ["GroupA"]
    with pytest.raises(UserError, match="GroupB/seed-0 is not finished"):
        find_runs(["checkpoints/GroupA", "checkpoints/GroupB"])
