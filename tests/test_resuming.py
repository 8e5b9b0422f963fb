"""A run that is killed or stopped goes on to the same weights, with every row once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from toolkit.run_folder import Run, run_for

GROUP = "recipes/tiny/groupA.toml"
CHANGES = (
    "stage.learn.epochs=6",
    "data.count=60",
    "lora.dropout=0.1",
    "recall.every=epoch",
    "stage.learn.save=3 steps",
)


def start(name: str, folder: Path) -> subprocess.Popen[str]:
    changes = [part for change in (f"name={name}", *CHANGES) for part in ("--set", change)]
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit.run", GROUP, *changes],
        cwd=folder,
        env=os.environ | {"WANDB_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def at_step(process: subprocess.Popen[str], run: Run, step: int) -> None:
    """Wait until the run has come to a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(row["step"] >= step for row in run.rows()):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached: {process.communicate()[0]}")


def contents(run: Run) -> tuple[bytes, list[dict[str, object]]]:
    """Final weights, and the rows without what depends on the clock."""
    rows = [{key: row[key] for key in row if key not in ("time", "seconds/reading")} for row in run.rows()]
    return (run.weights / "adapter_model.safetensors").read_bytes(), rows


def test_killed_in_the_middle_and_resumed_it_ends_with_the_same_weights_and_rows(in_project: Path) -> None:
    whole = start("whole-run", in_project)
    assert whole.wait(timeout=180) == 0
    expected = contents(run_for("whole-run", 0))
    killed = run_for("killed-run", 0)
    for step in (5, 14):
        process = start("killed-run", in_project)
        at_step(process, killed, step)
        if step == 14:
            assert_a_second_process_is_refused(process, "killed-run", in_project)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert not killed.complete
    resumed = start("killed-run", in_project)
    output, _ = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, output
    assert contents(killed) == expected
    assert len(killed.info["resumed"]) == 2


def assert_a_second_process_is_refused(first: subprocess.Popen[str], name: str, folder: Path) -> None:
    """While the first one is held still, so that the second cannot come too late."""
    first.send_signal(signal.SIGSTOP)
    before = {path: path.read_bytes() for path in run_for(name, 0).path.rglob("*") if path.is_file()}
    begun = time.monotonic()
    second = start(name, folder)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 2, output
    assert (
        output.strip() == f"error: {name}/seed-0 is being trained by another process just now; wait for it or stop it."
    )
    assert time.monotonic() - begun < 2
    assert {path: path.read_bytes() for path in run_for(name, 0).path.rglob("*") if path.is_file()} == before


def test_ctrl_c_saves_says_how_to_go_on_and_resumes_to_the_same_weights(in_project: Path) -> None:
    stopped = run_for("stopped-run", 0)
    process = start("stopped-run", in_project)
    at_step(process, stopped, 7)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "goes on from there" in output
    last = max(row["step"] for row in stopped.rows())
    resumed = start("stopped-run", in_project)
    output, _ = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, output
    assert contents(stopped) == contents(run_for("whole-run", 0))
    assert last < 24


@pytest.mark.parametrize(
    "place",
    ["before the stage's weights", "before the final weights", "before run.json says complete", "before state/ goes"],
)
def test_killed_at_the_very_end_it_still_ends_with_the_same_weights_and_rows(
    in_project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from toolkit.training import one_run, train

    name = "end-" + "".join(filter(str.isalpha, place))
    changes = (f"name={name}", *CHANGES, "stage.learn.epochs=2", "data.count=20")
    calls = {"saves": 0}
    save, remove = train.save_weights, one_run.remove_folder

    def killed_save(*arguments: Any) -> None:
        calls["saves"] += 1
        if (place == "before the stage's weights") or (place == "before the final weights" and calls["saves"] == 2):
            raise RuntimeError("killed")
        save(*arguments)

    def killed(*arguments: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_weights", killed_save)
        if place == "before run.json says complete":
            patch.setattr(one_run, "close_run", killed)
        if place == "before state/ goes":
            patch.setattr(one_run, "remove_folder", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(GROUP, *changes)
    assert one_run.remove_folder is remove
    run(GROUP, *changes)
    resumed = run_for(name, 0)
    assert resumed.complete
    assert not resumed.state_folder.exists()
    run(GROUP, *changes, "name=end-whole")
    assert contents(resumed) == contents(run_for("end-whole", 0))
