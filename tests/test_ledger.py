"""ledger.jsonl: what was asked and fed, read back as it was written; and which other run a yoked one may follow."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Recipe, read_recipe, to_toml
from toolkit.run_folder import Run, run_for, write_whole
from toolkit.studies.built import Built
from toolkit.studies.names import build
from toolkit.training.ledger import check_exams, read_ledger, updates_in, write_ledger, yoke
from toolkit.training.one_run import Planned

NAMES = ["name-1", "name-2", "name-3", "name-4", "name-5", "name-6"]
ROUNDS = [
    {"stage": "drill", "round": 0, "asked": 6, "missed": 6, "fed": NAMES, "updates": 2},
    {"stage": "drill", "round": 1, "asked": 6, "missed": 2, "fed": ["name-5", "name-2"], "updates": 1},
    {"stage": "drill", "round": 2, "asked": 6, "missed": 0, "fed": [], "updates": 0},
]
AGAIN = {"stage": "again", "round": 0, "asked": 3, "missed": 1, "fed": ["name-1"], "updates": 1}
RECIPE = """
study = "names"
data = { count = 6, controls = 3 }
model = { base = "checkpoints/tiny-base" }
[stage.drill]
method = "exam"
epochs = 3
batch_size = 2
grad_accum = 2
"""
YOKED = ("name=passive", "stage.drill.review=yoked", "stage.drill.yoked_to=active")


@pytest.fixture
def active(folder: Path) -> Run:
    """What a finished run of exams leaves, as far as another one looks at it."""
    run = run_for("active", 0)
    recipe = recipe_of()
    plan = Planned(run, recipe, 0, facts(), None)
    write_whole(run.path / "recipe.toml", to_toml(recipe))
    run.update_info(state="complete", seed=0, data={"digest": plan.digest})
    write_ledger(run, ROUNDS)
    return run


def facts(data_seed: int = 1, **changes: Any) -> Built:
    arguments: dict[str, Any] = {"count": 6, "controls": 3} | changes
    return build(data_seed, 2, **arguments)


def recipe_of(*changes: str) -> Recipe:
    path = Path("active.toml")
    path.write_text(f'name = "active"\n{RECIPE}', encoding="utf-8")
    return read_recipe(path, changes)


def followed(*changes: str, built: Built | None = None, seed: int = 0) -> list[dict[str, Any]]:
    return yoke(built or facts(), seed, "drill", recipe_of(*YOKED, *changes).stage["drill"])


# --- the file ---


def test_what_is_written_is_read_back_whole_or_by_stage(active: Run) -> None:
    write_ledger(active, [*ROUNDS, AGAIN])
    assert read_ledger(active) == [*ROUNDS, AGAIN]
    assert read_ledger(active, "drill") == ROUNDS
    assert read_ledger(active, "again") == [AGAIN]
    assert read_ledger(active, "nothing") == []
    assert (updates_in(active, "drill"), updates_in(active, "again"), updates_in(active, "nothing")) == (3, 1, 0)
    assert len((active.path / "ledger.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_a_run_without_exams_has_none(folder: Path) -> None:
    assert read_ledger(run_for("nobody", 0)) == []


def test_an_id_may_hold_any_character(active: Run) -> None:
    """The trap: U+2028 and U+0085 end a line for Python's splitlines(), and JSON leaves them as they are."""
    odd = ROUNDS[0] | {"fed": ["王小明", "a\u2028b", "c\u0085d", 'e"f\\g\nh\ri']}
    write_ledger(active, [odd, AGAIN])
    assert read_ledger(active) == [odd, AGAIN]


def line_of(**changes: Any) -> bytes:
    return (json.dumps(ROUNDS[1] | changes) + "\n").encode()


DAMAGES = {
    "half a line": line_of()[:40],
    "an empty line": b"\n",
    "a list": b"[1, 2]\n",
    "no JSON": b"drill 1 6 2\n",
    "no text": b"\xff\xfe\x00\n",
    "a pickle": b"\x80\x04N.\n",
    "nested too deeply": b"[" * 100_000 + b"\n",
    "a missing key": b'{"stage": "drill", "round": 1, "asked": 6, "missed": 2, "fed": []}\n',
    "a number below zero": line_of(updates=-1),
    "text for a number": line_of(updates="1"),
    "a number for an id": line_of(fed=[1]),
    "no number": b'{"stage": "drill", "round": 1, "asked": NaN, "missed": 2, "fed": [], "updates": 1}\n',
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_line_is_refused_by_file_and_number(active: Run, damage: str) -> None:
    path = active.path / "ledger.jsonl"
    path.write_bytes(line_of(round=0) + DAMAGES[damage])
    with pytest.raises(UserError, match=rf"^{path}, line 2 is damaged \(") as said:
        read_ledger(active)
    assert len(str(said.value).splitlines()) == 1


def test_an_empty_one_is_damaged(active: Run) -> None:
    (active.path / "ledger.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="ledger.jsonl, line 1 is damaged"):
        read_ledger(active)


# --- yoked runs ---


def test_a_yoked_stage_follows_the_rounds_of_its_pair(active: Run) -> None:
    assert followed() == ROUNDS
    # How it is trained otherwise is its own business.
    assert followed("stage.drill.learning_rate=1e-3", "stage.drill.batch_size=4", "stage.drill.grad_accum=1") == ROUNDS


def unfinished(run: Run) -> None:
    run.update_info(state="running")


def gone(run: Run) -> None:
    (run.path / "run.json").unlink()


def without_exams(run: Run) -> None:
    (run.path / "ledger.jsonl").unlink()


def with_other_stages(run: Run) -> None:
    write_ledger(run, [AGAIN])


def damaged(run: Run) -> None:
    (run.path / "ledger.jsonl").write_bytes(line_of()[:30])


def of_other_parts(run: Run) -> None:
    write_whole(run.path / "recipe.toml", to_toml(recipe_of('stage.drill.train_on=["facts", "old"]')))


NOT_FOLLOWED: list[tuple[Callable[[Run], None], str]] = [
    (unfinished, "checkpoints/active/seed-0 is not there or not finished. Run its recipe first, with seed 0."),
    (gone, "checkpoints/active/seed-0 is not there or not finished."),
    (without_exams, "checkpoints/active/seed-0 had no exam in a stage called drill."),
    (with_other_stages, "had no exam in a stage called drill."),
    (damaged, "ledger.jsonl, line 1 is damaged"),
    (of_other_parts, "active/seed-0 was trained on other facts; give both one [data] and one train_on."),
]


@pytest.mark.parametrize(("change", "said"), NOT_FOLLOWED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_run_that_cannot_be_followed_is_refused(active: Run, change: Callable[[Run], None], said: str) -> None:
    change(active)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        followed()
    assert len(str(error.value).splitlines()) == 1


def test_other_facts_of_the_same_names_are_refused(active: Run) -> None:
    """The trap: ids are numbered alike in all data, so that every id that was fed is known here too."""
    for other in (facts(data_seed=5), facts(count=7), facts(controls=4), facts(digits=9)):
        with pytest.raises(UserError, match=r'yoked_to = "active": active/seed-0 was trained on other facts'):
            followed(built=other)


def test_another_number_of_rounds_is_refused(active: Run) -> None:
    with pytest.raises(UserError, match=r"active/seed-0 had 3 rounds, and here epochs = 4\."):
        followed("stage.drill.epochs=4")


def test_other_batches_are_refused_before_they_are_trained(active: Run) -> None:
    with pytest.raises(
        UserError, match=r"fed 6 facts of round 0 in 2 updates, and here they would be 3; give both one"
    ):
        followed("stage.drill.grad_accum=1")


def test_each_seed_follows_its_own(active: Run) -> None:
    with pytest.raises(UserError, match="checkpoints/active/seed-1 is not there or not finished"):
        followed(seed=1)


def test_exams_of_texts_are_refused_and_what_is_read_beside_them_is_not(active: Run) -> None:
    text = Example("article-1", "article-1", "", "Ostrany has a new bridge.", "train", part="articles")
    built = facts()
    built = built._replace(examples=[*built.examples, text])
    check_exams(recipe_of(), built, 0)
    with pytest.raises(
        UserError, match=r"^\[stage.drill\] article-1 is a text without a question: exams need questions"
    ):
        check_exams(recipe_of('stage.drill.train_on=["facts", "articles"]'), built, 0)


def test_a_wrong_yoke_is_found_among_the_stages(active: Run) -> None:
    check_exams(recipe_of(*YOKED), facts(), 0)
    with pytest.raises(UserError, match=r"^\[stage.drill\] yoked_to"):
        check_exams(recipe_of(*YOKED, "stage.drill.epochs=2"), facts(), 0)
