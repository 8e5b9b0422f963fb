"""A temporary project folder with the shipped recipes and a base, for benchmarks: the user's is left alone."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tests.conftest import SMALL_BASE

ROOT = Path(__file__).parents[1]
GROUP_A = "recipes/tiny/groupA.toml"

Quick = Annotated[bool, typer.Option(help="At small size, nothing kept.")]
Folder = Annotated[Path | None, typer.Option(help="Project folder to use (default: a temporary one).")]
"""Options of every benchmark."""


@contextlib.contextmanager
def project(folder: Path | None) -> Iterator[Path]:
    """The project as current folder: the one given, which stays, or a new one that is removed at the end."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        if not (folder / "recipes").exists():
            (folder / "recipes").symlink_to(ROOT / "recipes")
        os.environ.setdefault("WANDB_MODE", "disabled")
        # Bases are local: nothing is to be looked up.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        stack.enter_context(contextlib.chdir(folder))
        yield folder


def make_base(*, small: bool) -> str:
    """A base in the current project, made once: the demo's (about a minute), or a smaller one (seconds)."""
    name = "small-base" if small else "tiny-base"
    if not Path("checkpoints", name, "seed-0/model").is_dir():
        command("toolkit.run", "recipes/tiny/base.toml", *changing(f"name={name}", *(SMALL_BASE if small else ())))
    return f"checkpoints/{name}"


def changing(*changes: str) -> list[str]:
    """Changes of a recipe as the command line takes them."""
    return [part for change in changes for part in ("--set", change)]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m …` as a user runs it, in the current folder; raises RuntimeError with what it said where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"python -m {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
