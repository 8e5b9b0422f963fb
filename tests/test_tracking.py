"""Weights & Biases: every metrics row once, under its own name, offline or online; no failure there stops a run."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit import recipe, tracking
from toolkit.run_folder import Run

KEY = "0123456789abcdef" * 2 + "01234567"
CONFIG = {"name": "GroupA", "study": "phone", "lora": {"rank": 32}, "seeds": [0, 3]}
ROWS = [
    {"kind": "recall", "step": 0, "epoch": 0.0, "exposures": 0.0, "stage": "learn", "recall/exact": 0.0},
    {"kind": "train", "step": 7, "epoch": 1.0, "exposures": None, "stage": "learn", "train/loss": 2.5},
    {"kind": "recall", "step": 7, "epoch": 1.0, "exposures": 1.0, "stage": "learn", "loss/digit_nats": 0.25},
    {"kind": "train", "step": 14, "epoch": 2.0, "exposures": None, "stage": "learn", "train/loss": 1.5},
]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """A run's folder in a project of its own, on a machine where nobody has logged in to W&B."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_ENTITY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    run = Run(Path("checkpoints/GroupA/seed-3"))
    run.path.mkdir(parents=True)
    run.update_info(state="training")
    return run


@pytest.fixture(autouse=True)
def fresh_wandb(monkeypatch):
    """wandb reads its settings and the environment once a process; each test is to be a process of its own."""
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 3.0)
    yield
    if "wandb" in sys.modules:
        tracking.restart_service()


def started(run: Run, said: list[str], **fields) -> tracking.Tracker:
    return tracking.start(run, CONFIG, recipe.Wandb(project="phone-memory", **fields), said.append)


def log_rows(run: Run, tracker: tracking.Tracker, rows: list[dict]) -> None:
    for row in rows:
        run.append_row(row)
        tracker.log(row)


def records(folder: str, kind: str) -> list[dict]:
    """What wandb's own reader finds in a run's folder."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", folder]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


def logged(items: list[dict]) -> list[dict]:
    """Rows of the history without wandb's own columns and without the final table's row."""
    rows = [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]
    return [row for row in rows if not any(key.startswith("recall/final") for key in row)]


def expected(rows: list[dict]) -> list[dict]:
    return [
        {key: value for key, value in row.items() if key not in ("kind", "step") and value is not None}
        | {"train/global_step": row["step"]}
        for row in rows
    ]


def history(folder: str) -> list[dict]:
    return logged([record["item"] for record in records(folder, "history")])


def test_every_row_is_offline_once_under_its_own_name(run):
    said: list[str] = []
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
    assert records(folder, "exit") == [{"exit_code": 0}]


def test_a_resumed_run_has_each_row_once_and_its_earlier_folder_is_gone(run):
    said: list[str] = []
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


def test_the_last_reading_becomes_a_table_and_the_examples_an_artifact(run):
    reading = run.path / "probes" / "recall-learn-000014.parquet"
    reading.parent.mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "exact": [True, False], "bits": [[0.5, 1.0], None]}), reading)
    examples = run.path / "examples.jsonl"
    examples.write_text('{"id": "a"}\n', encoding="utf-8")
    said: list[str] = []
    tracker = started(run, said, mode="offline")
    tracker.finish(None, reading, examples, ok=True)
    assert said == []
    folder = Path(tracker.described["folder"])
    (file,) = (folder / "files" / "media" / "table" / "recall").glob("final_*.table.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["columns"] == ["id", "exact", "bits"]
    assert table["data"] == [["a", True, [0.5, 1.0]], ["b", False, None]]
    (dataset,) = [record for record in records(str(folder), "artifact") if record["type"] == "dataset"]
    assert dataset["name"] == "GroupA-seed-3-examples"
    assert [entry["path"] for entry in dataset["manifest"]["contents"]] == ["examples.jsonl"]


def test_a_damaged_reading_is_told_once_and_costs_no_rows(run):
    reading = run.path / "reading.parquet"
    reading.write_text("no parquet")
    said: list[str] = []
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
def test_auto_follows_the_environment_and_then_the_key(run, monkeypatch, server, asked, environment, key, mode):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if key == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    if key == "netrc":
        Path("netrc").write_text(f"machine 127.0.0.1:{server.server_port}\n  login user\n  password {KEY}\n")
    said: list[str] = []
    tracker = started(run, said, mode=asked)
    tracker.finish(None, None, None, ok=True)
    assert tracker.described["mode"] == mode
    assert len(said) == (1 if (asked, mode) == ("online", "offline") else 0)


class Answers(BaseHTTPRequestHandler):
    """Just enough of a W&B server to take a run's rows."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        answer: dict = {}
        if self.path == "/graphql" and "UpsertBucket" in body["query"]:
            project = {"id": "UA==", "name": "phone-memory", "entity": {"id": "RQ==", "name": "me"}}
            bucket = {"id": "Qg==", "name": body["variables"]["name"], "config": "{}", "project": project}
            answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif self.path == "/graphql" and "CreateRunFiles" in body["query"]:
            urls = [
                {"name": name, "uploadUrl": f"http://127.0.0.1:{server.server_port}/"}
                for name in body["variables"]["files"]
            ]
            answer = {"data": {"createRunFiles": {"runID": "Qg==", "uploadHeaders": [], "files": urls}}}
        elif "file_stream" in self.path and server.upload_status == 200:
            rows = body.get("files", {}).get("wandb-history.jsonl")
            if rows:
                server.history[rows["offset"] :] = [json.loads(line) for line in rows["content"]]
        self.reply(server.upload_status if "file_stream" in self.path else 200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, b"")

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args) -> None:
        """Not into the tests' output."""


class Server(ThreadingHTTPServer):
    upload_status = 200
    """How uploads of rows are answered."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.history: list[dict] = []

    def handle_error(self, request, client_address) -> None:
        """wandb's helper hangs up without a word when it ends."""


@pytest.fixture
def server(monkeypatch):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_a_resumed_run_has_each_row_once_online_too(run, monkeypatch, server):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    said: list[str] = []
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
def test_a_server_that_takes_no_rows_is_told_once_and_in_time(run, monkeypatch, server, status):
    server.upload_status = status
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    said: list[str] = []
    begun = time.monotonic()
    tracker = started(run, said)
    log_rows(run, tracker, ROWS)
    tracker.finish(None, None, None, ok=True)
    assert time.monotonic() - begun < 10
    assert len(said) == 1
    assert f"wandb sync --include-online {tracker.described['folder']}" in said[0]
    assert history(tracker.described["folder"]) == expected(ROWS)


def test_an_unreachable_server_means_a_warning_and_an_offline_run_soon(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    said: list[str] = []
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


def test_a_failure_while_logging_is_told_once_and_the_next_run_is_tracked(run):
    import wandb

    said: list[str] = []
    tracker = started(run, said, mode="offline")
    wandb.teardown()  # the helper process is gone, as after a crash
    log_rows(run, tracker, ROWS)
    tracker.finish(None, None, None, ok=True)
    assert len(said) == 1
    following = started(run, said, mode="offline")
    following.finish(None, None, None, ok=True)
    assert len(said) == 1
    assert history(following.described["folder"]) == expected(ROWS)


def test_a_bad_environment_turns_tracking_off_with_a_warning(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "on-line")
    said: list[str] = []
    tracker = started(run, said)
    tracker.log(ROWS[0])
    tracker.finish(None, None, None, ok=True)
    assert len(said) == 1
    assert tracker.described == {"mode": "disabled"}


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
    root = Path(tracking.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
