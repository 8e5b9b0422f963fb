"""One project folder, one small base and one engine for all tests that train."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

# The models here are so small that a second thread mostly waits, and makes everything ten times slower where
# the machine is busy. Set before torch is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
SMALL_BASE = (
    "data.count=1500",
    "model.shape.hidden_size=128",
    "model.shape.num_hidden_layers=2",
    "model.shape.num_attention_heads=4",
    "model.shape.num_key_value_heads=2",
    "model.shape.intermediate_size=256",
    "stage.pretrain.epochs=1",
)
"""Changes that make recipes/tiny/base.toml a matter of seconds."""


@pytest.fixture(scope="session")
def engine() -> ModuleType:
    """Unsloth, imported once and before transformers."""
    from toolkit.models import open_engine

    return open_engine("unsloth")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, engine: ModuleType) -> Path:
    """A project folder with the shipped recipes and a small base in checkpoints/tiny-base."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    os.environ["WANDB_MODE"] = "disabled"
    before = Path.cwd()
    os.chdir(folder)
    try:
        run("recipes/tiny/base.toml", *SMALL_BASE)
    finally:
        os.chdir(before)
    return folder


HALF_TRAINED = (
    "name=half",
    "data.count=24",
    "data.controls=12",
    "data.digits=8",
    "stage.learn.epochs=40",
    "stage.learn.batch_size=4",
    "stage.learn.keep=best",
    "recall.every=10 epochs",
)
"""Changes of recipes/tiny/groupA.toml after which some numbers are known and some are not."""


@pytest.fixture(scope="session")
def half_trained(project: Path) -> Path:
    """A group of two finished runs (checkpoints/half) that recall a part of their numbers."""
    before = Path.cwd()
    os.chdir(project)
    try:
        run("recipes/tiny/groupA.toml", *HALF_TRAINED, seeds="0,1")
    finally:
        os.chdir(before)
    return project / "checkpoints/half"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project where nothing has been trained, as current folder."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is the project's."""
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B as on a machine where nobody has logged in, with its files in the test's own folder."""
    for name in ("MODE", "API_KEY", "DIR", "ENTITY", "IDENTITY_TOKEN_FILE", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


class Hostile:
    """A pickle that makes a folder when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def run(recipe: str, *changes: str, seeds: str = "", fresh: bool = False) -> None:
    """`python -m toolkit.run RECIPE --set …`, in this process."""
    from toolkit.run import main

    main([Path(recipe)], list(changes), seeds, fresh, False, True, False)


def command(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m toolkit.…` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"WANDB_MODE": "disabled"} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
