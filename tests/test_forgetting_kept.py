"""What is kept of forgetting: names that no two tasks share, digests of what was asked, and weights made anew."""

import functools
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.run_folder import BASELINE, EVALUATION, Run


def test_no_two_tasks_have_one_file(engine: ModuleType) -> None:
    from toolkit.probes.forgetting import TEXT, file_name

    names = ["mmlu", "数学", "语文", "a b", "a-b", "a/b", "text", "Text", "..", "task"]
    files = [file_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    assert files[0] == "mmlu"
    assert TEXT not in [file.lower() for file in files]
    assert all(file.isascii() and "/" not in file and not file.startswith(".") for file in files)


def loaded(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_function_of_a_task_is_known_by_its_file_and_not_by_where_it_lies_in_memory(
    engine: ModuleType, tmp_path: Path
) -> None:
    from toolkit.probes.lm_tasks import said_of

    path = tmp_path / "helpers.py"
    path.write_text("def helper(x):\n    return x\n\ndef scored(x):\n    return helper(x)\n", encoding="utf-8")
    first, again = (loaded(path, name).scored for name in ("one", "two"))
    assert first is not again
    assert json.dumps(said_of(first)) == json.dumps(said_of(again))
    assert json.dumps(said_of(functools.partial(first, 1))) == json.dumps(said_of(functools.partial(again, 1)))
    assert said_of(functools.partial(first, 1)) != said_of(functools.partial(first, 2))
    before = said_of(first)
    # Only what it calls is changed.
    path.write_text(path.read_text(encoding="utf-8").replace("return x\n\n", "return -x\n\n"), encoding="utf-8")
    assert said_of(loaded(path, "three").scored) != before


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"mmlu": "1", "text a.txt": "2"}, None),
        ({"mmlu": "other", "text a.txt": "2"}, "mmlu"),
        ({"mmlu": "1", "text a.txt": "other"}, "text a.txt"),
        ({"mmlu": "1"}, "text a.txt"),
        ({"mmlu": "1", "text a.txt": "2", "gsm8k": "3"}, "gsm8k"),
    ],
)
def test_a_run_does_not_go_on_with_other_questions_than_it_began_with(
    engine: ModuleType, tmp_path: Path, now: dict[str, str], said: str | None
) -> None:
    from toolkit.training.forgetting import refuse_other_questions

    run = Run(tmp_path / "group/seed-0")
    run.update_info(state="running", asked={"mmlu": "1", "text a.txt": "2"})
    if said is None:
        refuse_other_questions(run, now)
        return
    with pytest.raises(UserError, match=f"{said} is not what it was before training.*--fresh"):
        refuse_other_questions(run, now)


@pytest.mark.parametrize(("weights", "stays"), [("one", True), ("other", False), (None, True)])
def test_what_was_measured_of_other_weights_is_not_taken_for_that_of_these(
    engine: ModuleType, tmp_path: Path, weights: str | None, stays: bool
) -> None:
    from toolkit.probes.forgetting_results import forget_other_weights

    rows = tmp_path / "forgetting"
    rows.mkdir()
    (rows / "mmlu.parquet").touch()
    for name in (BASELINE, EVALUATION):
        (tmp_path / name).write_text('{"model": {"weights": "one"}, "tasks": {}}', encoding="utf-8")
    forget_other_weights(tmp_path, rows, {"model": {"weights": weights}})
    left = (tmp_path / BASELINE, tmp_path / EVALUATION, rows / "mmlu.parquet")
    assert [path.exists() for path in left] == [stays] * 3
