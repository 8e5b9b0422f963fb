"""The real command on several processes of this machine, as a launcher starts them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0")
"""With `--config_file` of recipes/accelerate/."""
ZERO2 = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "recipes/accelerate/zero2.json"}
"""What `accelerate launch` says of DeepSpeed to the processes that it starts."""


def sets(changes: dict[str, Any]) -> list[str]:
    return [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]


def start(
    arguments: list[str], folder: Path, log: Path, config: str | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """`torchrun --nproc_per_node 2 -m …`, or `accelerate launch` with a shipped config; what it says goes to `log`."""
    launcher = TORCHRUN if config is None else (*ACCELERATE, "--config_file", f"recipes/accelerate/{config}.yaml")
    with log.open("wb") as file:
        return subprocess.Popen(
            [*launcher, "-m", *arguments],
            cwd=folder,
            env=os.environ | {"WANDB_MODE": "disabled"} | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def together(
    recipe: str, changes: dict[str, Any], folder: Path, log: Path, config: str | None = None, **environment: str
) -> int:
    """Run a recipe by two processes to its end; the launcher's exit status."""
    process = start(["toolkit.run", recipe, *sets(changes)], folder, log, config, **environment)
    try:
        return process.wait(timeout=240)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the launcher and all that it started, at once: these are in sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(process.pid)
        for one in (launcher, *launcher.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def killed_after_a_save(recipe: str, changes: dict[str, Any], folder: Path, log: Path, **environment: str) -> int:
    """Begin a recipe by two processes, and kill both inside an epoch, when a save is whole; the step of that save."""
    process = start(["toolkit.run", recipe, *sets(changes)], folder, log, **environment)
    saved = folder / "checkpoints" / changes["name"] / "seed-0/state/learn/checkpoints"
    until = time.monotonic() + 240
    try:
        while time.monotonic() < until and process.poll() is None:
            if whole := sorted(saved.glob("checkpoint-*/complete")):
                return int(whole[-1].parent.name.removeprefix("checkpoint-"))
            time.sleep(0.02)
    finally:
        end(process)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace")[-3000:])


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Whole lines: the last one may just be written."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return [row for row in map(json.loads, (line for line in lines if line.endswith("\n"))) if row["kind"] == kind]
