"""Weights & Biases: every metrics row once, under its own name, offline or online; no failure there stops a run."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.wandb_server import ROWS, Server, expected, history, logged, records
from toolkit import recipe, tracking
from toolkit.run_folder import Run

KEY = "0123456789abcdef" * 2 + "01234567"
CONFIG = {"name": "GroupA", "study": "phone", "lora": {"rank": 32}, "seeds": [0, 3]}


@pytest.fixture
def run(tmp_path, monkeypatch, nobody_logged_in) -> Iterator[Run]:
    """A run's folder in a project of its own, on a machine where nobody has logged in to W&B, with short patience.

    wandb reads its settings and the environment once a process; each test is to be a process of its own.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 3.0)
    tracking.restart_service()
    run = Run(Path("checkpoints/GroupA/seed-3"))
    run.path.mkdir(parents=True)
    run.update_info(state="training")
    yield run
    tracking.restart_service()


@pytest.fixture
def said() -> list[str]:
    """The warnings."""
    return []


def started(run: Run, said: list[str], **fields) -> tracking.Tracker:
    return tracking.start(run, CONFIG, recipe.Wandb(project="phone-memory", **fields), said.append)


def log_rows(run: Run, tracker: tracking.Tracker, rows: list[dict]) -> None:
    for row in rows:
        run.append_row(row)
        tracker.log(row)


def test_every_row_is_offline_once_under_its_own_name(run, said):
    tracker = started(run, said, mode="offline")
    log_rows(run, tracker, ROWS)
    tracker.finish({"recall/exact": 0.5}, None, None, ok=True)
    assert said == []
    assert tracker.described["mode"] == "offline"
    folder = tracker.described["folder"]
    assert folder.startswith("wandb/offline-run-")
    assert folder.endswith(tracker.described["id"])
    assert history(folder) == expected(ROWS)
    first = records(folder, "run")[0]
    assert (first["run_group"], first["display_name"], first["project"]) == ("GroupA", "GroupA-seed-3", "phone-memory")
    config = first["config"]["update"]
    assert {key: config[key] for key in (*CONFIG, "seed")} == {**CONFIG, "seed": 3}
    assert {"glob_name": "*", "step_metric": "train/global_step"}.items() <= records(folder, "metric")[1].items()
    assert {"recall/exact": 0.5} in [record["update"] for record in records(folder, "summary")]
    assert records(folder, "environment") == []  # nothing about this machine
    assert [record["exit_code"] for record in records(folder, "exit")] == [0]


def test_the_test_of_a_classifier_does_not_bend_the_curve_of_its_validation(run, said):
    """Its row has the validation of the tested weights, too, which may be those of an earlier reading."""
    tracker = started(run, said, mode="offline")
    log_rows(
        run,
        tracker,
        [
            {"kind": "classification", "step": 6, "epoch": 2.0, "validation/accuracy": 0.7},
            {"kind": "test", "step": 6, "epoch": 2.0, "validation/accuracy": 0.8, "test/accuracy": 0.75},
        ],
    )
    tracker.finish(None, None, None, ok=True)
    assert said == []
    logged = history(tracker.described["folder"])
    assert [row.get("validation/accuracy") for row in logged] == [0.7, None]
    assert logged[1]["test/accuracy"] == 0.75


def test_a_resumed_run_has_each_row_once_and_its_earlier_folder_is_gone(run, said):
    first = started(run, said, mode="offline")
    run.update_info(wandb=first.described)
    log_rows(run, first, ROWS[:2])
    tracking.restart_service()  # as if the process had been killed here
    other = Path("wandb/offline-run-20260101_000000-ffffffff")
    other.mkdir()

    second = started(run, said, mode="offline")
    log_rows(run, second, ROWS[2:])
    second.finish(None, None, None, ok=False)
    assert said == []
    assert second.described["id"] == first.described["id"]
    assert second.described["folder"] != first.described["folder"]
    assert not Path(first.described["folder"]).exists()
    assert other.exists()  # another run's
    assert history(second.described["folder"]) == expected(ROWS)
    assert records(second.described["folder"], "exit") == [{"exit_code": 1}]


def test_the_last_reading_becomes_a_table_and_the_examples_an_artifact(run, said):
    reading = run.path / "probes" / "recall-learn-000014.parquet"
    reading.parent.mkdir()
    pq.write_table(
        pa.table({"id": ["a", "b", "c"], "exact": [True, False, None], "bits": [[0.5, 1.0], None, [2.0]]}), reading
    )
    examples = run.path / "examples.jsonl"
    examples.write_text('{"id": "a"}\n', encoding="utf-8")
    tracker = started(run, said, mode="offline")
    tracker.finish(None, reading, examples, ok=True)
    assert said == []
    folder = Path(tracker.described["folder"])
    (file,) = (folder / "files" / "media" / "table" / "recall").glob("final_*.table.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["columns"] == ["id", "exact", "bits"]
    assert table["data"] == [["a", True, [0.5, 1.0]], ["b", False, None], ["c", None, [2.0]]]
    (dataset,) = [record for record in records(str(folder), "artifact") if record["type"] == "dataset"]
    assert dataset["name"] == "GroupA-seed-3-examples"
    assert [entry["path"] for entry in dataset["manifest"]["contents"]] == ["examples.jsonl"]


def test_a_damaged_reading_is_told_once_and_costs_no_rows(run, said):
    reading = run.path / "reading.parquet"
    reading.write_text("no parquet")
    tracker = started(run, said, mode="offline")
    log_rows(run, tracker, ROWS)
    tracker.finish(None, reading, None, ok=True)
    assert len(said) == 1
    assert f"wandb sync {tracker.described['folder']}" in said[0]
    assert history(tracker.described["folder"]) == expected(ROWS)


@pytest.mark.parametrize(
    ("asked", "environment", "key", "mode"),
    [
        ("auto", None, None, "offline"),
        ("auto", "disabled", "environment", "disabled"),
        ("auto", "offline", "environment", "offline"),
        ("auto", None, "environment", "online"),
        ("auto", None, "netrc", "online"),
        ("auto", "online", "netrc", "online"),
        ("online", None, None, "offline"),
        ("offline", "online", "environment", "offline"),
    ],
)
def test_auto_follows_the_environment_and_then_the_key(run, monkeypatch, server, asked, environment, key, mode, said):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if key == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    if key == "netrc":
        host = f"127.0.0.1:{server.server_port}"
        Path(os.environ["NETRC"]).write_text(f"machine {host} login user password {KEY}\n")
    tracker = started(run, said, mode=asked)
    tracker.finish(None, None, None, ok=True)
    assert tracker.described["mode"] == mode
    assert len(said) == (1 if (asked, mode) == ("online", "offline") else 0)


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def test_a_resumed_run_has_each_row_once_online_too(run, monkeypatch, server, said):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    first = started(run, said)
    run.update_info(wandb=first.described)
    log_rows(run, first, ROWS[:2])
    first.finish(None, None, None, ok=False)
    assert logged(server.history) == expected(ROWS[:2])

    second = started(run, said)
    log_rows(run, second, ROWS[2:])
    second.finish(None, None, None, ok=True)
    assert said == []
    assert second.described["id"] == first.described["id"]
    assert logged(server.history) == expected(ROWS)
    files = [path for path in Path("wandb").rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_takes_no_rows_is_told_once_and_in_time(run, monkeypatch, server, status, said):
    server.upload_status = status
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    begun = time.monotonic()
    tracker = started(run, said)
    log_rows(run, tracker, ROWS)
    tracker.finish(None, None, None, ok=True)
    assert time.monotonic() - begun < 10
    assert len(said) == 1
    assert f"wandb sync --include-online {tracker.described['folder']}" in said[0]
    assert history(tracker.described["folder"]) == expected(ROWS)


def test_an_unreachable_server_means_a_warning_and_an_offline_run_soon(run, monkeypatch, said):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    begun = time.monotonic()
    tracker = started(run, said, mode="online")
    assert time.monotonic() - begun < 10
    assert len(said) == 1
    assert "logged offline" in said[0]
    assert KEY not in said[0]
    log_rows(run, tracker, ROWS)
    tracker.finish(None, None, None, ok=True)
    assert len(said) == 1
    assert tracker.described["mode"] == "offline"
    assert history(tracker.described["folder"]) == expected(ROWS)


def test_a_failure_while_logging_is_told_once_and_the_next_run_is_tracked(run, said):
    import wandb

    tracker = started(run, said, mode="offline")
    wandb.teardown()  # the helper process is gone, as after a crash
    log_rows(run, tracker, ROWS)
    tracker.finish(None, None, None, ok=True)
    assert len(said) == 1
    following = started(run, said, mode="offline")
    following.finish(None, None, None, ok=True)
    assert len(said) == 1
    assert history(following.described["folder"]) == expected(ROWS)


def test_a_bad_environment_turns_tracking_off_with_a_warning(run, monkeypatch, said):
    monkeypatch.setenv("WANDB_MODE", "on-line")
    tracker = started(run, said)
    tracker.log(ROWS[0])
    tracker.finish(None, None, None, ok=True)
    assert len(said) == 1
    assert tracker.described["mode"] == "disabled"


def test_disabled_does_nothing_keeps_the_id_and_does_not_import_wandb(run):
    run.update_info(wandb={"mode": "offline", "id": "0a1b2c3d", "folder": "wandb/offline-run-20260101_000000-0a1b2c3d"})
    program = f"""
import sys
from pathlib import Path
from toolkit import recipe, tracking
from toolkit.run_folder import Run
tracker = tracking.start(Run(Path({str(run.path)!r})), {{}}, recipe.Wandb(mode="disabled"), print)
tracker.log({ROWS[0]!r})
tracker.finish({{}}, None, None, ok=True)
assert tracker.described["id"] == "0a1b2c3d" and tracker.described["mode"] == "disabled"
assert "wandb" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(tracking.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
