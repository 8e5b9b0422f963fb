"""A run that measures forgetting and is killed, anywhere, ends as if nothing had been: weights, rows and results."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import run
from tests.killing import contents, die, forked, watch
from tests.test_forgetting import (
    BY_EPOCH,
    GUARDED,
    STAGE,
    asked,  # noqa: F401  (a fixture)
    guarded,
    stopping,
    write,
    write_guarded,
)
from toolkit.errors import status_of
from toolkit.run_folder import Run, run_for
from toolkit.studies import STUDIES

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot"
)

CHOSEN = (*GUARDED, "stage.learn.epochs=3", "stage.learn.save=2 steps")
"""The best weights are those of the first of three epochs of three updates, and are put back at the end."""
ENDED = (*GUARDED, "stage.learn.save=epoch")
"""It ends after the second epoch of five, and goes back to the weights of the first; nothing is trained after it."""
LATER = (STAGE.format(name="more", method="sft"), stopping(0.5))


@pytest.fixture
def there(asked: Path, engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    import toolkit.training.one_run
    import toolkit.training.train  # noqa: F401  (imported here, so that no child has to)

    monkeypatch.chdir(asked)
    monkeypatch.setitem(STUDIES, "guarded", guarded)
    return asked


def trained(
    name: str,
    *changes: str,
    tables: tuple[str, ...] = (BY_EPOCH,),
    before: Callable[[], None] = lambda: None,
    fresh: bool = False,
) -> int:
    """Exit status; negative where a signal ended it."""
    recipe = (write_guarded if "study=guarded" in changes else write)(name, *tables)

    def child() -> None:
        before()
        sys.exit(status_of(lambda: run(recipe, *changes, fresh=fresh)))

    return forked(child, Path(f"{name}.log"))


ELSEWHERE = re.compile(
    r"os\.remove|README|adapter_config|template|tokenizer|\.lock|recipe\.toml|examples|prior|exposures|\.complete|pair|"
    r"os\.(mkdir|rename) seed-#/(probes/\.(recall|heldout)|state/learn/checkpoints|state$|state/learn$)"
)
"""Changes that have nothing to do with forgetting, or come right after another one: test_killed.py dies before them."""


def kind_of(what: str) -> str:
    return re.sub(r"\d+", "#", what)


def reached(name: str, step: int) -> bool:
    """Whether forgetting was measured at a step already."""
    path = Path("checkpoints", name, "seed-0/metrics.jsonl")
    return path.exists() and bool(
        re.search(rf'"kind": "forgetting", "stage": "learn", "step": {step},', path.read_text(encoding="utf-8"))
    )


def kinds_of(name: str, *changes: str, tables: tuple[str, ...], since: int | None = None) -> list[str]:
    """Every kind of change that an undisturbed run makes to its folder, in order; since: after a reading at that
    step."""
    listed = Path(f"{name}-changes.txt").resolve()
    folder = Path.cwd() / "checkpoints" / name

    def listing() -> None:
        file = listed.open("w", encoding="utf-8")
        watch(
            folder,
            lambda what: print(kind_of(what), file=file, flush=True) if since is None or reached(name, since) else None,
        )

    assert trained(name, *changes, tables=tables, before=listing) == 0, Path(f"{name}.log").read_text()
    found = dict.fromkeys(listed.read_text(encoding="utf-8").splitlines())
    return [kind for kind in found if not ELSEWHERE.search(kind)]


def dies_before(name: str, kind: str, since: int | None = None) -> Callable[[], None]:
    folder = Path.cwd() / "checkpoints" / name

    def act(what: str) -> None:
        if kind_of(what) == kind and (since is None or reached(name, since)):
            die()

    return lambda: watch(folder, act)


def left(run: Run) -> dict[str, Any]:
    """All that two equal runs have in common, with their results."""
    found = contents(run)
    for name in ("baseline_results.json", "evaluation_results.json"):
        found[name] = json.loads((run.path / name).read_text(encoding="utf-8")) | {"checkpoint": ""}
    for path in sorted((run.path / "forgetting").iterdir()):
        found[path.name] = [row | {"run": ""} for row in pq.read_table(path).to_pylist()]
    return found | {"ended_early": run.info.get("ended_early")}


def killed_before_each(
    name: str, kinds: list[str], expected: dict[str, Any], *changes: str, tables: tuple[str, ...], since: int | None
) -> None:
    """A run that is killed before the change of one kind goes on and is killed before that of the next."""
    for kind in kinds:
        status = trained(name, *changes, tables=tables, before=dies_before(name, kind, since))
        if status == 0:
            # It was past all changes of this kind: they are met from the start.
            assert left(run_for(name, 0)) == expected, kind
            shutil.rmtree(f"checkpoints/{name}")
            status = trained(name, *changes, tables=tables, before=dies_before(name, kind, since))
        assert status == -9, (kind, Path(f"{name}.log").read_text())
    assert trained(name, *changes, tables=tables) == 0, Path(f"{name}.log").read_text()
    assert left(run_for(name, 0)) == expected


def test_killed_before_every_kind_of_change_it_ends_as_if_nothing_had_been(there: Path) -> None:
    tables = (BY_EPOCH,)
    kinds = kinds_of("forgetting-unkilled", *CHOSEN, tables=tables)
    expected = left(run_for("forgetting-unkilled", 0))
    assert [row.get("best_step") for row in expected["rows of metrics.jsonl"][-2:]] == [3, 3]
    for part in ("probes/.forgetting-", "probes/.heldout-", "forgetting/.known", ".evaluation_results", "stages/learn"):
        assert any(part in kind for kind in kinds), part
    killed_before_each("forgetting-killed", kinds, expected, *CHOSEN, tables=tables, since=None)


def test_one_that_ended_early_and_went_back_ends_so_after_kills_and_trains_nothing_more(there: Path) -> None:
    kinds = kinds_of("forgetting-ended-unkilled", *ENDED, tables=LATER, since=6)
    expected = left(run_for("forgetting-ended-unkilled", 0))
    assert "known fell by more than 50 points" in expected["ended_early"]
    assert expected["rows of metrics.jsonl"][-1]["best_step"] == 3
    assert any("state/learn/" in kind for kind in kinds)
    assert any("forgetting/.known" in kind for kind in kinds)
    killed_before_each("forgetting-ended-killed", kinds, expected, *ENDED, tables=LATER, since=6)
    assert {row["stage"] for row in run_for("forgetting-ended-killed", 0).rows()} == {"learn"}


@pytest.mark.parametrize("kind", ["open", "os.rename"])
def test_killed_while_the_base_is_measured_what_is_kept_of_it_is_whole(there: Path, kind: str) -> None:
    mine = BY_EPOCH.replace("batch_size = 5", f"batch_size = {10 + len(kind)}")
    name, kept = f"forgetting-base-{kind.replace('.', '-')}", Path.cwd() / "data/forgetting"
    known = set(kept.glob("*.parquet"))

    def dies(calls: int) -> Callable[[], None]:
        seen = [0]

        def act(what: str) -> None:
            seen[0] += what.startswith(kind)
            if seen[0] == calls:
                die()

        return lambda: watch(kept, act)

    # Before the first task's file, and then before that of the second.
    for call, whole in ((1, 0), (2, 1)):
        assert trained(name, "stage.learn.epochs=2", tables=(mine,), before=dies(call - whole)) == -9
        assert len(set(kept.glob("*.parquet")) - known) == whole
        if not whole:
            # The first is measured now, and then the process dies.
            assert trained(name, "stage.learn.epochs=2", tables=(mine,), before=dies(2)) == -9
            assert len(set(kept.glob("*.parquet")) - known) == 1
        for path in kept.glob("*.parquet"):
            assert pq.read_table(path).num_rows
        assert run_for(name, 0).rows("forgetting") == []
    assert trained(name, "stage.learn.epochs=2", tables=(mine,)) == 0, Path(f"{name}.log").read_text()
    assert trained(f"{name}-whole", "stage.learn.epochs=2", tables=(mine,)) == 0
    assert left(run_for(name, 0)) == left(run_for(f"{name}-whole", 0))


def third_question() -> None:
    """Makes a process die when it is to ask a third task: the second of the base, after two passes over the first."""
    from toolkit.probes import forgetting

    ask, calls = forgetting.ask_task, 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return die() if calls == 3 else ask(*arguments)

    forgetting.ask_task = dying


def half_a_row() -> None:
    """Makes a process die when it has written half of its second row of forgetting."""
    append, calls = Run.append_row, 0

    def dying(self: Run, row: dict[str, Any]) -> None:
        nonlocal calls
        calls += row["kind"] == "forgetting"
        if calls == 2:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"kind": "forgetting", "sta')
            die()
        append(self, row)

    Run.append_row = dying  # type: ignore[method-assign]


def final_results() -> None:
    """Makes a process die between two files of its final results."""
    from toolkit.probes import forgetting_results

    forgetting_results.baseline = lambda read: die()


@pytest.mark.parametrize("middle", [third_question, half_a_row, final_results], ids=lambda middle: middle.__name__)
def test_killed_in_the_middle_of(there: Path, middle: Callable[[], None]) -> None:
    # What a model that is trained whole was before is taken anew by the process that goes on.
    changes = ("stage.learn.epochs=2", "stage.learn.save=2 steps", *(("lora=false",) if middle is half_a_row else ()))
    tables = (BY_EPOCH.replace("batch_size = 5", f"batch_size = {20 + len(middle.__name__)}"),)
    name = f"forgetting-middle-{middle.__name__.replace('_', '-')}"
    assert trained(name, *changes, tables=tables, before=middle) == -9, Path(f"{name}.log").read_text()
    assert trained(name, *changes, tables=tables) == 0, Path(f"{name}.log").read_text()
    assert trained(f"{name}-whole", *changes, tables=tables) == 0
    assert left(run_for(name, 0)) == left(run_for(f"{name}-whole", 0))


def test_a_run_that_was_killed_is_refused_with_other_questions_of_the_recipe_and_started_over_with_fresh(
    there: Path,
) -> None:
    name = "forgetting-killed-changed"
    assert trained(name, before=dies_before(name, "open seed-#/probes/.forgetting-learn-#.parquet.#.part", 0)) == -9
    before = sorted(run_for(name, 0).path.rglob("*"))
    assert trained(name, "forgetting.limit=3") == 2
    assert "forgetting.limit: None -> 3" in Path(f"{name}.log").read_text(encoding="utf-8")
    assert sorted(run_for(name, 0).path.rglob("*")) == before
    assert trained(name, "forgetting.limit=3", fresh=True) == 0, Path(f"{name}.log").read_text()
    assert len(pq.read_table(run_for(name, 0).path / "forgetting/known.parquet")) == 3 * 3 * 2
