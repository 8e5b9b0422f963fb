"""What lies in a run's folder: whole writes, what resuming reads, and how checkpoints are found on the command line."""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from toolkit import processes
from toolkit.errors import MACHINE_ERRORS, MachineError, UserError
from toolkit.recipe import Recipe
from toolkit.recipe.files import parse_toml
from toolkit.stored import RunInfo, StoredRecipe, checked, parse_row, read_json

ROOT = Path("checkpoints")
IGNORED_ON_CHANGE = ("seeds", "wandb", "judge")
"""What may differ between a recipe and the run that it resumes: it changes no weight and no number."""
BASELINE, EVALUATION = "baseline_results.json", "evaluation_results.json"
"""What the base could do, and what became of it."""
FORGETTING = "forgetting"
"""The folder of their questions, a file a task, and of their texts."""
DEEP = "probes/deep.json"
"""What `eval_recall --deep` keeps in a run's folder."""
JUDGED = "probes/judged.json"
"""What a judge said of the generated answers."""
RESULTS, SUMMARY, CONFUSION = "test_results.json", "test_summary.txt", "confusion.png"
"""What a classifier's test came to, for programs, for reading, and as a picture."""
SEED_FOLDER = re.compile(r"seed-[0-9]+")


@dataclass(frozen=True)
class Run:
    """One recipe with one seed: checkpoints/<name>/seed-<seed>/."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.parent.name

    @property
    def seed(self) -> int:
        """Raises UserError where the folder was renamed, so that its name is no seed's."""
        if not SEED_FOLDER.fullmatch(self.path.name):
            raise UserError(f"{self.path}: a run's folder is called seed-0, seed-1 …; this one was renamed.")
        return int(self.path.name.removeprefix("seed-"))

    @property
    def label(self) -> str:
        return f"{self.name}/{self.path.name}"

    @property
    def state_folder(self) -> Path:
        return self.path / "state"

    @property
    def info(self) -> dict[str, Any]:
        """run.json."""
        return read_json(self.path / "run.json", RunInfo)

    @property
    def recipe(self) -> dict[str, Any]:
        """recipe.toml, as it was resolved."""
        path = self.path / "recipe.toml"
        try:
            return checked(parse_toml(path.read_text(encoding="utf-8")), StoredRecipe)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or damaged ({error}).") from None

    @property
    def exists(self) -> bool:
        return (self.path / "run.json").is_file()

    @property
    def complete(self) -> bool:
        return self.exists and self.info.get("state") == "complete"

    @property
    def weights(self) -> Path:
        """The final adapter, or the whole model."""
        return self.path / "adapter" if (self.path / "adapter").is_dir() else self.path / "model"

    def rows(self, kind: str | None = None, needed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, all or those of one kind ("train", "recall"); a half-written last line is left out.

        Raises UserError where a line is damaged, or lacks a value that is `needed`.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        rows = []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                row = parse_row(line)
                if kind is not None and row["kind"] != kind:
                    continue
                if lacking := [key for key in needed if row.get(key) is None]:
                    raise ValueError(f"it lacks {lacking[0]}")
            except ValueError as error:
                if number == len(lines) and not line.endswith("\n"):
                    break
                said = f"{path}, line {number} is damaged ({error}); run the recipe again with --fresh."
                raise UserError(said) from None
            rows.append(row)
        return rows

    @property
    def classifies(self) -> bool:
        """Whether it trained a classifier: its readings are of classes then, and not of recall."""
        return self.info.get("study") == "classify"

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """The rows of which the last says what came out: a classifier's test, or else the readings of recall."""
        kind, needed = ("test", "test/accuracy") if self.classifies else ("recall", "loss/digit_nats")
        return self.rows(kind, needed=(needed,))

    @property
    def final(self) -> dict[str, Any]:
        """What came out of a run that has come to its end."""
        return self.outcomes[-1]

    def append_row(self, row: dict[str, Any]) -> None:
        with processes.one_writes() as mine:
            if mine:
                with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")

    def keep_rows_until(self, step: int) -> None:
        """Drop the rows and readings of work that a resumed run does again."""
        rows = [row for row in self.rows() if row["step"] <= step]
        write_whole(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        with processes.one_writes() as mine:
            for reading in self.readings() if mine else ():
                if step_of_reading(reading) > step:
                    reading.unlink()

    def readings(self, kind: str = "[!.]*") -> list[Path]:
        """Parquet files of readings, all or those of one kind ("recall"), in the order of their steps."""
        found = (self.path / "probes").glob(f"{kind}-*.parquet")
        # What somebody else put there has no step in its name.
        named = [path for path in found if re.fullmatch(r".*-[0-9]+", path.stem)]
        # A stage without an update, such as an exam of what is all known, has the step of the stage before it.
        return sorted(named, key=lambda path: (step_of_reading(path), path.stat().st_mtime_ns))

    def update_info(self, **values: Any) -> None:
        info = self.info if self.exists else {}
        write_whole(self.path / "run.json", json.dumps(info | values, indent=2, ensure_ascii=False) + "\n")

    def log(self, text: str) -> None:
        """One line of run.log, of the first process; the others go on, as none of them reads it."""
        if not processes.is_first():
            return
        with (self.path / "run.log").open("a", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")


def step_of_reading(path: Path) -> int:
    """The step in the name of a reading's file: 70 for recall-learn-000070.parquet."""
    return int(path.stem.rsplit("-", 1)[1])


def run_for(name: str, seed: int) -> Run:
    return Run(ROOT / name / f"seed-{seed}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is whole or absent, whatever happens meanwhile."""
    with whole_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well, and is absent, or as it was, when it does not.

    Of several processes the first writes it, and what the others write goes nowhere.
    """
    with processes.one_writes() as mine:
        if mine:
            with own_file(path) as file:
                yield file
        else:
            yield io.BytesIO()


@contextlib.contextmanager
def own_file(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def not_written(path: Path, error: OSError) -> MachineError:
    return MachineError(f"{path} could not be written ({error.strerror}). What was complete before is kept.")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes `path`'s place when the block ends well, and disappears when it does not.

    Of several processes only the first may write in it.
    """
    with processes.one_writes() as mine:
        if mine:
            with own_folder(path) as temporary:
                yield temporary
        else:
            yield path


@contextlib.contextmanager
def own_folder(path: Path) -> Iterator[Path]:
    temporary, going = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.going")
    for left_by_a_kill in (temporary, going):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        # Two renames, one right after the other: the old folder is deleted only when the new one is in its place.
        if path.exists():
            path.replace(going)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if going.exists() and not path.exists():
            going.replace(path)
        shutil.rmtree(going, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder; it disappears under its name at once, so that a kill cannot leave half of it there."""
    going = path.with_name(f".{path.name}.going")
    with processes.one_writes() as mine:
        if not mine:
            return
        shutil.rmtree(going, ignore_errors=True)
        if path.exists():
            path.replace(going)
            if going.is_symlink():
                # What a link leads to may be anybody's.
                going.unlink()
            else:
                shutil.rmtree(going)


def remove_leftovers(run: Run) -> None:
    """Remove what a killed process left half written or half removed in a run's folder; with its lock held."""
    with processes.one_writes() as mine:
        endings = ("part", "going") if mine else ()
        for left in [path for ending in endings for path in run.path.rglob(f".*.{ending}")]:
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Keep a second process off the same run; the system frees the lock of a process that died."""
    from filelock import FileLock, Timeout

    if not processes.is_first():
        # The first one has it for all of them.
        yield
        return
    lock = FileLock(run.path.parent / f".{run.path.name}.lock", timeout=0)
    try:
        run.path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"{run.label} is being trained by another process just now; wait for it or stop it.") from None
    except OSError as error:
        raise not_written(run.path, error) from error
    try:
        yield
    finally:
        lock.release()


def changed_keys(before: Any, now: Any, at: str = "") -> list[str]:
    """What differs between two recipes, a line a key; what one of them leaves out is None."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in dict.fromkeys([*before, *now]):
            if at or key not in IGNORED_ON_CHANGE:
                lines += changed_keys(before.get(key), now.get(key), f"{at}.{key}" if at else key)
        return lines
    return [] if before == now else [f"{at}: {before!r} -> {now!r}"]


def with_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe with the keys that have been added since it was written; as it is, where it is none any more."""
    try:
        return Recipe.model_validate(recipe).model_dump(exclude_none=True)
    except ValidationError:
        return recipe


def refuse_if_changed(run: Run, recipe: dict[str, Any], digest: str) -> None:
    """Raises UserError where the recipe or its data are no longer those of the run's folder."""
    changes = changed_keys(with_defaults(run.recipe), recipe)
    if changes:
        raise UserError(
            f"{run.path} was made by another version of this recipe:\n  "
            + "\n  ".join(changes)
            + "\nGive the recipe another name, or start over with --fresh (which deletes that run)."
        )
    if run.info.get("data", {}).get("digest") != digest:
        raise UserError(f"{run.path} was made from other data. Start over with --fresh (which deletes that run).")
