"""Exams that are killed, stopped or damaged: they go on to the same weights, ledger and rows, or are refused."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.conftest import Hostile
from tests.conftest import run as run_recipe
from tests.killing import contents, die, forked, watch
from tests.test_exam import BASE, FACTS
from toolkit.errors import UserError, status_of
from toolkit.run_folder import Run, run_for
from toolkit.training.ledger import read_ledger

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot"
)

EXAM = """
[model]
base = "checkpoints/exam-saved-base"
precision = "fp32"
max_length = 96
[lora]
rank = 8
alpha = 16
dropout = 0.1
[stage.drill]
method = "exam"
review = "leitner"
epochs = 5
batch_size = 2
grad_accum = 1
learning_rate = 5e-3
optimizer = "adamw"
save = "2 epochs"
[stage.last]
method = "sft"
epochs = 1
batch_size = 2
grad_accum = 1
optimizer = "adamw"
"""
"""Rounds feed five or fewer of six facts, two a batch; saves come after the second and the fourth."""


def write(name: str, text: str) -> str:
    Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}', encoding="utf-8")
    return f"{name}.toml"


def in_a_fork(name: str, before: Callable[[], None] = lambda: None, *changes: str) -> int:
    """Its exit status; negative where a signal ended it."""
    recipe = write(name, FACTS + EXAM)

    def child() -> None:
        before()
        try:
            sys.exit(status_of(lambda: run_recipe(recipe, *changes)))
        except typer.Exit as stopped:
            sys.exit(stopped.exit_code)

    return forked(child, Path(f"{name}.log"))


def log(name: str) -> str:
    return Path(f"{name}.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def there(project: Path) -> Iterator[Path]:
    """The project, as current folder of all runs of this file, with a base that knows one of the facts."""
    import toolkit.training.one_run  # noqa: F401  (imported here, so that no child has to)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        run_recipe(write("exam-saved-base", FACTS + BASE), "lora=false")
        yield project


@pytest.fixture(scope="module")
def whole(there: Path) -> Run:
    """A run that nothing happened to."""
    assert in_a_fork("exam-whole") == 0, log("exam-whole")
    return run_for("exam-whole", 0)


def left_by(run: Run) -> tuple[dict[str, Any], bytes]:
    return contents(run), (run.path / "ledger.jsonl").read_bytes()


# --- killed ---


def at_batch(number: int, act: Callable[[], None] = die) -> Callable[[str], Callable[[], None]]:
    """In the middle of training: when a process has fed so many batches."""

    def before() -> None:
        from toolkit.training.exposures import Exposures

        present, fed = Exposures.present, 0

        def presenting(self: Exposures, numbers: Any) -> None:
            nonlocal fed
            present(self, numbers)
            fed += 1
            if fed == number:
                act()

        Exposures.present = presenting  # type: ignore[method-assign]

    return lambda name: before


def at_change(part: str) -> Callable[[str], Callable[[], None]]:
    """Just before a change to the folder."""

    def before_change(name: str) -> Callable[[], None]:
        folder = Path.cwd() / "checkpoints" / name
        return lambda: watch(folder, lambda what: die() if part in what else None)

    return before_change


PLACES = {
    "in the first round": at_batch(2),
    "before a round is in the ledger": at_change("os.rename seed-0/.ledger.jsonl"),
    "between a round and its save": at_change("os.mkdir seed-0/state/drill/checkpoints/.checkpoint-2.part"),
    "in the middle of a save": at_change("checkpoint-2.part/exam.json"),
    "in the third round": at_batch(7),
    "in the fourth round": at_batch(4),
    "before the reading after it": at_change("os.rename seed-0/probes/.recall-drill"),
    "before an older save goes": at_change("os.rename seed-0/state/drill/checkpoints/checkpoint-2"),
    "in the last round": at_batch(1),
    "before the stage's weights are whole": at_change("os.rename seed-0/state/drill/.after.part"),
    "before the next stage begins": at_change("state/last"),
    "before the final weights are whole": at_change("os.rename seed-0/.adapter.part"),
}


def test_killed_again_and_again_it_ends_with_the_same_weights_ledger_and_rows(whole: Run) -> None:
    expected = left_by(whole)
    # The schedule does something: rounds ask and feed different numbers of facts.
    assert len({(entry["asked"], entry["missed"]) for entry in read_ledger(whole)}) > 1
    killed = run_for("exam-killed", 0)
    goes_on = []
    for place, dies in PLACES.items():
        assert in_a_fork("exam-killed", dies("exam-killed")) == -9, (place, log("exam-killed"))
        goes_on.append(sorted(path.name for path in killed.state_folder.glob("drill/checkpoints/checkpoint-*")))
    assert in_a_fork("exam-killed") == 0, log("exam-killed")
    assert left_by(killed) == expected
    assert len(killed.info["resumed"]) == len(PLACES)
    # Gone on with, and not started anew.
    assert ["checkpoint-2"] in goes_on
    assert ["checkpoint-2", "checkpoint-4"] in goes_on
    steps = [int(line.rpartition(" ")[2]) for line in log("exam-killed").splitlines() if "goes on at step" in line]
    updates = [entry["updates"] for entry in read_ledger(whole, "drill")]
    assert {sum(updates[:2]), sum(updates[:4]), sum(updates)} <= set(steps)
    assert steps == sorted(steps)


def test_ctrl_c_ends_the_round_saves_and_goes_on_to_the_same(whole: Run) -> None:
    """The first comes in the second round, of which nothing would have been saved; the next at once after it."""

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    stopped = run_for("exam-stopped", 0)
    only_then = "stage.drill.save=stage"
    assert in_a_fork("exam-stopped", at_batch(4, interrupt)(""), only_then) == 130, log("exam-stopped")
    assert "the same command goes on from there" in log("exam-stopped")
    assert [entry["round"] for entry in read_ledger(stopped)] == [0, 1]
    assert (stopped.path / "state/drill/checkpoints/checkpoint-2/exam.json").is_file()
    assert in_a_fork("exam-stopped", at_batch(1, interrupt)(""), only_then) == 130, log("exam-stopped")
    assert [entry["round"] for entry in read_ledger(stopped)] == [0, 1, 2]
    assert in_a_fork("exam-stopped", lambda: None, only_then) == 0, log("exam-stopped")
    assert left_by(stopped) == left_by(whole)


def test_a_second_ctrl_c_ends_it_at_once_and_it_goes_on_to_the_same(whole: Run) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    assert in_a_fork("exam-twice", at_batch(8, twice)("")) not in (0, 130)
    assert "KeyboardInterrupt" in log("exam-twice")
    assert in_a_fork("exam-twice") == 0, log("exam-twice")
    assert left_by(run_for("exam-twice", 0)) == left_by(whole)


def nothing_missed() -> None:
    from toolkit.training import exam

    exam.ask = lambda training, examples: [True] * len(examples)


QUIET = {
    "between two rounds": at_change("os.mkdir seed-0/state/drill/checkpoints/.checkpoint-4.part"),
    "before its last reading is a row": at_change("os.rename seed-0/probes/.recall-drill-000000.parquet"),
    "after its last reading": at_change("os.mkdir seed-0/state/drill/.after.part"),
    "in the next stage": at_batch(1),
}


def test_so_does_one_in_which_nothing_was_missed_and_no_step_tells_rounds_apart(there: Path) -> None:
    def before(dies: Callable[[], None] = lambda: None) -> Callable[[], None]:
        return lambda: (nothing_missed(), dies())[0]

    assert in_a_fork("exam-quiet-whole", before()) == 0, log("exam-quiet-whole")
    whole = run_for("exam-quiet-whole", 0)
    assert [(row["stage"], row["step"], row["epoch"]) for row in whole.rows("recall")] == [
        ("drill", 0, 0), ("drill", 0, 5), ("last", 3, 6)
    ]  # fmt: skip
    for place, dies in QUIET.items():
        status = in_a_fork("exam-quiet", before(dies("exam-quiet")))
        if place == "before its last reading is a row" and status == 0:
            pytest.fail("the first reading has the same name as the last")
        assert status == -9, (place, log("exam-quiet"))
    assert in_a_fork("exam-quiet", before()) == 0, log("exam-quiet")
    assert left_by(run_for("exam-quiet", 0)) == left_by(whole)


def test_a_yoked_run_goes_on_to_the_same_too(whole: Run) -> None:
    yoke = ("stage.drill.review=yoked", "stage.drill.yoked_to=exam-whole")
    assert in_a_fork("exam-yoke-whole", lambda: None, *yoke) == 0, log("exam-yoke-whole")
    assert in_a_fork("exam-yoke", at_batch(8)(""), *yoke) == -9, log("exam-yoke")
    assert in_a_fork("exam-yoke", lambda: None, *yoke) == 0, log("exam-yoke")
    yoked = run_for("exam-yoke", 0)
    assert left_by(yoked) == left_by(run_for("exam-yoke-whole", 0))
    counts = [[(len(entry["fed"]), entry["updates"]) for entry in read_ledger(run)] for run in (yoked, whole)]
    assert counts[0] == counts[1]


# --- damaged ---


def files(folder: Path) -> dict[str, bytes]:
    """All but what a kill left half written, which goes first of all."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def saved(there: Path) -> Path:
    """A run that was killed in its third round, after checkpoint-2."""
    killed = at_change("os.rename seed-0/.ledger.jsonl")

    def before() -> None:
        from toolkit.training import exam

        save = exam.save

        def saving(*arguments: Any) -> None:
            save(*arguments)
            killed("exam-saved")()

        exam.save = saving

    assert in_a_fork("exam-saved", before) == -9, log("exam-saved")
    return (there / "checkpoints/exam-saved/seed-0").rename(there / "exam-saved")


@pytest.fixture(scope="module")
def between(there: Path) -> Path:
    """A run that was killed between its stage of exams and the next."""
    assert in_a_fork("exam-stages", at_change("state/last")("exam-stages")) == -9, log("exam-stages")
    return (there / "checkpoints/exam-stages/seed-0").rename(there / "exam-stages")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def other(path: Path) -> None:
    path.write_bytes(b'{"box": 1}\n' if path.suffix.startswith(".json") else b"\x80\x04N.")


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00" * 50)


def hostile(path: Path) -> None:
    import torch

    torch.save({"state": Hostile()}, path)


def hostile_pickle(path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(Hostile()))


def changed(**changes: Any) -> Callable[[Path], None]:
    """A file that is whole, and does not agree with the rest."""

    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")

    return change


CHECKPOINT = "state/drill/checkpoints/checkpoint-2"
DAMAGES = [(f"{CHECKPOINT}/exam.json", damage) for damage in (cut, empty, gone, other, binary)]
DAMAGES += [
    (f"{CHECKPOINT}/exam.json", changed(**wrong))
    for wrong in (
        {"box": [1, 1]},
        {"updates": 1},
        {"updates": -1},
        {"box": [0] * 6},
        {"rounds": []},
        {"due": ["0"] * 6},
    )
]
DAMAGES += [(f"{CHECKPOINT}/optimizer.pt", damage) for damage in (cut, empty, gone, other, hostile, hostile_pickle)]
DAMAGES += [
    (f"{CHECKPOINT}/{name}", damage)
    for name in ("adapter_model.safetensors", "exposures.json")
    for damage in (cut, empty, gone, other)
]
DAMAGES += [("ledger.jsonl", damage) for damage in (cut, empty, other, binary)]


def assert_refused(original: Path, where: str, damage: Callable[[Path], None]) -> None:
    copy = run_for(original.name, 0).path
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy)
    damage(copy / where)
    before = files(copy)
    with pytest.raises(UserError) as said:
        run_recipe(write(original.name, FACTS + EXAM))
    named = where if where == "ledger.jsonl" else Path(where).parent.as_posix()
    assert (copy / named).as_posix() in str(said.value)
    assert "--fresh" in str(said.value)
    assert str(said.value).count("\n") == 0
    assert not Path("code-was-run").exists()
    assert files(copy) == before


@pytest.mark.parametrize(("where", "damage"), DAMAGES)
def test_what_is_damaged_or_hostile_is_refused_by_name(saved: Path, where: str, damage: Callable[[Path], None]) -> None:
    assert (saved / where).is_file()
    assert_refused(saved, where, damage)


def without_its_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, empty, gone, other, binary, without_its_last_line])
def test_so_is_the_ledger_of_a_stage_that_is_done(between: Path, damage: Callable[[Path], None]) -> None:
    """Its updates say which step the next stage starts from."""
    assert_refused(between, "ledger.jsonl", damage)


def test_what_is_not_damaged_goes_on(saved: Path, between: Path, whole: Run) -> None:
    for original in (saved, between):
        finished = run_for(original.name, 0)
        shutil.rmtree(finished.path, ignore_errors=True)
        shutil.copytree(original, finished.path)
        run_recipe(write(original.name, FACTS + EXAM))
        assert left_by(finished) == left_by(whole)


def test_a_run_whose_pair_was_trained_anew_meanwhile_is_refused(whole: Run) -> None:
    pair = run_for("exam-pair", 0)
    shutil.copytree(whole.path, pair.path)
    yoke = ("stage.drill.review=yoked", "stage.drill.yoked_to=exam-pair")
    assert in_a_fork("exam-orphan", at_change("checkpoints/.checkpoint-4.part")("exam-orphan"), *yoke) == -9
    rounds = read_ledger(pair)
    more = next(fact for fact in (f"name-{i}" for i in range(1, 7)) if fact not in rounds[1]["fed"])
    rounds[1]["fed"].append(more)
    rounds[1]["updates"] = -(-len(rounds[1]["fed"]) // 2)
    (pair.path / "ledger.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in rounds), encoding="utf-8")
    orphan = run_for("exam-orphan", 0).path
    before = files(orphan)
    with pytest.raises(UserError, match=r"exam-pair/seed-0, which it is yoked to, was trained anew since.*--fresh"):
        run_recipe("exam-orphan.toml", *yoke)
    assert files(orphan) == before


def test_a_ledger_of_another_recipe_is_not_gone_on_with(whole: Run) -> None:
    """run.json is gone, so that the folder could be anybody's: what its ledger says of other stages is not kept."""
    lost = run_for("exam-lost", 0)
    lost.path.mkdir(parents=True)
    lines = (whole.path / "ledger.jsonl").read_text("utf-8")
    (lost.path / "ledger.jsonl").write_text(lines.replace('"drill"', '"elsewhere"'), encoding="utf-8")
    assert in_a_fork("exam-lost") == 0, log("exam-lost")
    assert left_by(lost) == left_by(whole)
