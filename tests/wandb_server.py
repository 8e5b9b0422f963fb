"""What W&B has of a run: a server that takes its rows, and wandb's own reader of offline folders."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROWS = [
    {"kind": "recall", "step": 0, "epoch": 0.0, "exposures": 0.0, "stage": "learn", "recall/exact": 0.0},
    {"kind": "train", "step": 7, "epoch": 1.0, "exposures": None, "stage": "learn", "train/loss": 2.5},
    {"kind": "recall", "step": 7, "epoch": 1.0, "exposures": 1.0, "stage": "learn", "loss/digit_nats": 0.25},
    {"kind": "train", "step": 14, "epoch": 2.0, "exposures": None, "stage": "learn", "train/loss": 1.5},
]


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
    daemon_threads = True
    """One that hangs is not waited for."""

    def __init__(self, answers: type[BaseHTTPRequestHandler] = Answers) -> None:
        super().__init__(("127.0.0.1", 0), answers)
        self.history: list[dict] = []

    def handle_error(self, request, client_address) -> None:
        """wandb's helper hangs up without a word when it ends."""


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
