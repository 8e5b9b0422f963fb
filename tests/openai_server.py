"""A server that chats and has news, and misbehaves as a test says: late, cut off, busy, in prose, out of range."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

KEY = "sk-" + "fedcba9876543210" * 2
"""What must be found nowhere."""


class Asked(NamedTuple):
    path: str
    key: str | None
    """As it was sent."""
    content: str
    """The last message to a chat service."""


class Answers(BaseHTTPRequestHandler):
    """Answers each request as the next line of the server's script says, and as its `usual` when that is over."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.headers["Authorization"], body["messages"][-1]["content"])

    def do_GET(self) -> None:
        self.answer(self.headers["X-Api-Key"], "")

    def answer(self, key: str | None, content: str) -> None:
        server = self.server
        assert isinstance(server, Server)
        with server.lock:
            server.asked.append(Asked(self.path, key, content))
            act = server.script.pop(0) if server.script else server.usual
        act(self)

    def reply(self, status: int, content: str, kind: str = "application/json", **headers: str) -> None:
        data = content.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the tests' output."""


Act = Callable[[Answers], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    """One that hangs is not waited for."""

    def __init__(self, usual: Act) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.usual, self.script, self.asked, self.lock = usual, list[Act](), list[Asked](), threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that lost its patience hangs up."""


@contextmanager
def serving(usual: Act) -> Iterator[Server]:
    with Server(usual) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


# --- what it does ---


def says(text: str | None, finish: str = "stop", **message: Any) -> Act:
    """A chat completion of 10 tokens for 100."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return sends({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})


def scores(score: Any, reason: str = "why not") -> Act:
    return says(json.dumps({"reason": reason, "score": score}))


def sends(body: Any) -> Act:
    return lambda answers: answers.reply(200, json.dumps(body))


def fails(status: int, message: str = "busy", **headers: str) -> Act:
    """An error as OpenAI words it; at once worth another try, where it is worth one."""
    body = json.dumps({"error": {"message": message, "type": "error"}, "message": message})
    return lambda answers: answers.reply(status, body, **{"Retry_After_Ms": "1", **headers})


def late(seconds: float) -> Act:
    return lambda answers: time.sleep(seconds)


def hangs(answers: Answers) -> None:
    time.sleep(120)


def is_cut_off(answers: Answers) -> None:
    """Announce an answer, give a part of it, and hang up."""
    answers.send_response(200)
    answers.send_header("Content-Type", "application/json")
    answers.send_header("Content-Length", "1000")
    answers.end_headers()
    answers.wfile.write(b'{"choices": [{"mess')
    answers.wfile.flush()
    answers.connection.shutdown(socket.SHUT_RDWR)
    answers.close_connection = True


def hangs_up(answers: Answers) -> None:
    """Not even a status."""
    answers.connection.shutdown(socket.SHUT_RDWR)
    answers.close_connection = True


def is_a_web_page(answers: Answers) -> None:
    answers.reply(200, "<html>Welcome to the login page</html>", "text/html")


# --- what it left ---


def files_with(secret: str, folder: Path) -> list[Path]:
    """Every file below a folder that holds a secret, hidden ones too."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
