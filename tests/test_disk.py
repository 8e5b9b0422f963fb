"""A full disk and folders that may only be read: one message, what was complete is kept, and the run goes on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.killing import contents, trained
from toolkit.run_folder import run_for

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk of its own"
)


def disk(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


@pytest.fixture
def small_disk(in_project: Path) -> Iterator[Path]:
    """checkpoints/small as a disk of its own, of 64 MiB."""
    folder = in_project / "checkpoints/small"
    folder.mkdir(exist_ok=True)
    disk("mount", "-t", "tmpfs", "-o", "size=64M", "none", str(folder))
    yield folder
    disk("umount", str(folder))


@pytest.fixture(scope="module")
def expected(project: Path, engine: ModuleType) -> dict[str, Any]:
    """What the run leaves on a large disk."""
    import toolkit.training.one_run  # noqa: F401  (imported here, so that no child has to)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        assert trained("large") == 0, Path("large.log").read_text()
        return contents(run_for("large", 0))


def said(log: Path) -> str:
    """What the last attempt said; a traceback would be our own bug."""
    text = log.read_text(encoding="utf-8")
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("failed: ")]
    log.unlink()
    return line


def test_a_disk_that_is_full_at_some_time_costs_a_message_and_nothing_else(
    small_disk: Path, expected: dict[str, Any]
) -> None:
    # From nothing at all to nearly enough, so that it is full before, in the middle of and after the first saves.
    for free in (0, 8, 100, 300, 600, 1000, 1500, 2000, 2600, 3200):
        disk("mount", "-o", "remount,size=64M", str(small_disk))
        used = int(subprocess.check_output(["du", "-sk", str(small_disk)], text=True).split()[0])
        disk("mount", "-o", f"remount,size={used + free + 4}k", str(small_disk))
        status = trained("small")
        if status == 0:
            break
        message = said(Path("small.log"))
        assert "No space left on device" in message or "os error 28" in message
        assert "kept" in message
    assert free >= 600, "the disk was never full in the middle of the run"
    disk("mount", "-o", "remount,size=64M", str(small_disk))
    assert trained("small") == 0, Path("small.log").read_text()
    assert contents(run_for("small", 0)) == expected


def test_a_disk_that_may_only_be_read_is_said_and_left_alone(small_disk: Path, expected: dict[str, Any]) -> None:
    disk("mount", "-o", "remount,ro", str(small_disk))
    assert trained("small") == 1
    assert "Read-only file system" in said(Path("small.log"))
    disk("mount", "-o", "remount,rw", str(small_disk))
    assert list(small_disk.iterdir()) == []


def test_a_finished_run_on_a_disk_that_may_only_be_read_is_listed_and_measured(
    small_disk: Path, expected: dict[str, Any]
) -> None:
    from tests.test_eval_recall import measured
    from toolkit.list import find, how_far

    assert trained("small") == 0
    disk("mount", "-o", "remount,ro", str(small_disk))
    assert [how_far(run)["state"] for run in find(small_disk)] == ["complete"]
    assert measured("checkpoints/small")[0]["splits"]["train"]["facts"] == 20
    assert trained("small") == 0, "a finished run is skipped"
