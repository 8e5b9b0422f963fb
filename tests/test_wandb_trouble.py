"""A whole run while W&B refuses, hangs, answers 500 or cuts off: the same run, in about the same time, nothing lost."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.killing import left_by
from tests.wandb_server import Answers, Server, expected, history
from toolkit import tracking
from toolkit.run_folder import Run, run_for

KEY = "fedcba9876543210" * 2 + "fedcba98"
PATIENCE = 2.0
CHANGES = ("data.count=16", "data.controls=4", "stage.learn.epochs=2", "recall.every=epoch")


def hang(answers: Answers) -> None:
    time.sleep(120)


def fail(answers: Answers) -> None:
    answers.reply(500, b"oops")


def cut_off(answers: Answers) -> None:
    """Announce an answer, give a part of it, and hang up."""
    answers.send_response(200)
    answers.send_header("Content-Length", "1000")
    answers.end_headers()
    answers.wfile.write(b'{"data": {"ups')
    answers.wfile.flush()
    answers.connection.shutdown(socket.SHUT_RDWR)
    answers.close_connection = True


def hang_up(answers: Answers) -> None:
    """Not even a status."""
    answers.connection.shutdown(socket.SHUT_RDWR)
    answers.close_connection = True


TROUBLES = (hang, fail, cut_off, hang_up)


@pytest.fixture
def quick(in_project: Path, monkeypatch: pytest.MonkeyPatch, nobody_logged_in: None) -> Iterator[None]:
    """W&B with a key and short patience, on a machine where nobody logged in otherwise."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for limit in ("INIT_SECONDS", "FINISH_SECONDS", "SERVICE_SECONDS"):
        monkeypatch.setattr(tracking, limit, PATIENCE)
    tracking.restart_service()
    yield
    tracking.restart_service()


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> Run:
    before = Path.cwd()
    os.chdir(project)
    try:
        run("recipes/tiny/groupA.toml", "name=no-wandb", *CHANGES, "wandb.mode=disabled")
    finally:
        os.chdir(before)
    return Run(project / "checkpoints/no-wandb/seed-0")


def run_with(monkeypatch: pytest.MonkeyPatch, address: str, name: str) -> Run:
    """A run that should be online, after a look that it ended in time."""
    monkeypatch.setenv("WANDB_BASE_URL", address)
    begun = time.monotonic()
    run("recipes/tiny/groupA.toml", f"name={name}", *CHANGES, "wandb.mode=online")
    # Once at the start and once at the end for a server, and for wandb's own helper process.
    assert time.monotonic() - begun < 15 + 8 * PATIENCE
    return run_for(name, 0)


def assert_all_there(finished: Run, undisturbed: Run) -> None:
    assert left_by(finished) == left_by(undisturbed)
    assert finished.info["state"] == "complete"
    log = (finished.path / "run.log").read_text(encoding="utf-8")
    assert log.count("W&B: ") == 1, log
    assert KEY not in log
    if finished.info["wandb"]["mode"] != "disabled":
        assert history(finished.info["wandb"]["folder"]) == expected(finished.rows())


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_server_in_trouble_from_the_start(
    quick: None, undisturbed: Run, monkeypatch: pytest.MonkeyPatch, trouble
) -> None:
    class Troubled(Answers):
        do_POST = do_PUT = do_GET = trouble

    with Server(Troubled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finished = run_with(monkeypatch, f"http://127.0.0.1:{server.server_port}", f"wandb-start-{trouble.__name__}")
        server.shutdown()
    assert finished.info["wandb"]["mode"] == "offline"
    assert_all_there(finished, undisturbed)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_server_in_trouble_once_the_run_has_begun(
    quick: None, undisturbed: Run, monkeypatch: pytest.MonkeyPatch, trouble
) -> None:
    class Troubled(Answers):
        def do_POST(self) -> None:
            if "file_stream" in self.path:
                trouble(self)
            else:
                super().do_POST()

        do_PUT = trouble

    with Server(Troubled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finished = run_with(monkeypatch, f"http://127.0.0.1:{server.server_port}", f"wandb-later-{trouble.__name__}")
        server.shutdown()
    assert finished.info["wandb"]["mode"] == "online"
    assert_all_there(finished, undisturbed)


def test_a_server_that_refuses(quick: None, undisturbed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = run_with(monkeypatch, "http://127.0.0.1:9", "wandb-refuses")
    assert finished.info["wandb"]["mode"] == "offline"
    assert_all_there(finished, undisturbed)
