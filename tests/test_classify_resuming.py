"""A classifier that is killed or stopped goes on to the same weights, head, rows and test, whenever that was."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import Hostile, run
from tests.killing import contents, die, forked, watch
from tests.test_classify import HEAD, LINEAR, LORA, write
from toolkit.errors import UserError, status_of
from toolkit.run_folder import run_for

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot"
)

SHORT = (
    "data.count=90", "data.dev_share=0.3", "stage.learn.epochs=3", "stage.learn.batch_size=8",
    "stage.learn.learning_rate=3e-3", "stage.learn.save=5 steps", "classification.every=3 steps",
)  # fmt: skip
"""63 texts, 24 updates: readings after every third, saves after every fifth, so that they seldom fall together."""
EARLY = ("stage.learn.epochs=40", "classification.patience=2", "classification.every=epoch", "stage.learn.save=epoch")


def trained(name: str, *changes: str, more: str = HEAD + LORA, before: Callable[[], None] = lambda: None) -> int:
    """Exit status; negative where a signal ended it."""
    recipe = write(name, more)

    def child() -> None:
        before()
        sys.exit(status_of(lambda: run(recipe, *SHORT, *changes)))

    return forked(child, Path(f"{name}.log"))


def kind_of(what: str) -> str:
    return re.sub(r"\d+", "#", what)


def kinds_of(name: str, *changes: str, more: str = HEAD + LORA) -> list[str]:
    """Every kind of change that an undisturbed run makes to its folder, in order."""
    listed = Path(f"{name}-changes.txt").resolve()
    folder = Path.cwd() / "checkpoints" / name

    def listing() -> None:
        file = listed.open("w", encoding="utf-8")
        watch(folder, lambda what: print(kind_of(what), file=file, flush=True))

    assert trained(name, *changes, more=more, before=listing) == 0, Path(f"{name}.log").read_text()
    return list(dict.fromkeys(listed.read_text(encoding="utf-8").splitlines()))


def dies_before(name: str, kind: str) -> Callable[[], None]:
    folder = Path.cwd() / "checkpoints" / name
    return lambda: watch(folder, lambda what: die() if kind_of(what) == kind else None)


@pytest.fixture(scope="module", autouse=True)
def _imported(project: Path, engine: ModuleType) -> None:
    import toolkit.training.one_run
    import toolkit.training.train  # noqa: F401  (imported here, so that no child has to)


def test_killed_before_every_kind_of_change_it_ends_as_if_nothing_had_been(in_project: Path) -> None:
    kinds = kinds_of("classify-unkilled")
    expected = contents(run_for("classify-unkilled", 0))
    assert len(kinds) > 35
    assert any("best" in kind for kind in kinds)
    name = "classify-killed"
    for kind in kinds:
        status = trained(name, before=dies_before(name, kind))
        if status == 0:
            # It was past all changes of this kind: they are met from the start.
            assert contents(run_for(name, 0)) == expected, kind
            shutil.rmtree(f"checkpoints/{name}")
            status = trained(name, before=dies_before(name, kind))
        assert status == -9, (kind, Path(f"{name}.log").read_text())
    assert trained(name) == 0, Path(f"{name}.log").read_text()
    assert contents(run_for(name, 0)) == expected


def test_one_that_ended_early_ends_at_the_same_update_after_kills(in_project: Path) -> None:
    kinds = kinds_of("classify-early-whole", *EARLY, more=LINEAR)
    expected = contents(run_for("classify-early-whole", 0))
    assert run_for("classify-early-whole", 0).final["epoch"] < 40
    name = "classify-early-killed"
    # What comes after the reading that ends it: the test, the weights, and the end of the state.
    for kind in [kind for kind in kinds if re.search(r"test|after|model/|best", kind)][::4]:
        status = trained(name, *EARLY, more=LINEAR, before=dies_before(name, kind))
        if status == 0:
            assert contents(run_for(name, 0)) == expected, kind
            shutil.rmtree(f"checkpoints/{name}")
    assert trained(name, *EARLY, more=LINEAR) == 0, Path(f"{name}.log").read_text()
    assert contents(run_for(name, 0)) == expected


def test_in_words_it_goes_on_to_the_same_weights(in_project: Path) -> None:
    assert trained("classify-words-whole", more=LORA) == 0
    expected = contents(run_for("classify-words-whole", 0))
    name = "classify-words-killed"
    for kind in ("classification-learn-", "checkpoint-#/trainer_state", "test-learn-"):
        before = dies_before_part(name, kind)
        assert trained(name, more=LORA, before=before) == -9, Path(f"{name}.log").read_text()
    assert trained(name, more=LORA) == 0, Path(f"{name}.log").read_text()
    assert contents(run_for(name, 0)) == expected


def dies_before_part(name: str, part: str) -> Callable[[], None]:
    """Dies at the third change whose path has this in it, or at the last."""
    folder, seen = Path.cwd() / "checkpoints" / name, [0]

    def act(what: str) -> None:
        if part in kind_of(what):
            seen[0] += 1
            if seen[0] == 3 or part.startswith("test"):
                die()

    return lambda: watch(folder, act)


@pytest.mark.parametrize("harm", ["short", "gone", "best", "hostile"])
def test_a_damaged_state_is_said_before_it_is_gone_on_from(in_project: Path, harm: str) -> None:
    name = f"classify-damaged-{harm}"
    assert trained(name, before=dies_before_part(name, "checkpoint-#/trainer_state")) == -9
    checkpoint = max(run_for(name, 0).state_folder.glob("learn/checkpoints/checkpoint-*/complete")).parent
    if harm == "short":
        head = checkpoint / "head.safetensors"
        head.write_bytes(head.read_bytes()[:40])
    elif harm == "gone":
        (checkpoint / "head.safetensors").unlink()
    elif harm == "best":
        (run_for(name, 0).state_folder / "learn/best/head.safetensors").unlink()
    else:
        import torch

        torch.save(Hostile(), checkpoint / "optimizer.pt")
    before = sorted(path.name for path in checkpoint.rglob("*"))
    recipe = write(name)
    with pytest.raises(UserError, match=r"--fresh starts it over"):
        run(recipe, *SHORT)
    assert sorted(path.name for path in checkpoint.rglob("*")) == before
    assert not Path("code-was-run").exists()
