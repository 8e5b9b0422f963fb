"""What a [forgetting] table names: found without lm-eval, and refused with one message where it is not as it ought."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.task_files import chinese_questions, mmlu_questions, write_answers, write_choices, write_group, write_school
from toolkit.errors import UserError
from toolkit.probes.named import Named, check_named, named_tasks, read_texts
from toolkit.recipe import Forgetting

ROWS = [{"question": "1?", "choices": ["a", "b", "c", "d"], "answer": 0}]
MARK = "code-was-run"
OWN = f'from pathlib import Path\nPath("{MARK}").mkdir()\ndef same(rows):\n    return rows\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inside(*, code: bool = False) -> tuple[str, ...]:
    (found,) = named_tasks(["tasks"], code=code)
    assert found.folder == Path("tasks")
    return found.inside


def refused(*entries: str) -> str:
    with pytest.raises(UserError) as caught:
        named_tasks(list(entries or ("tasks",)), code=False)
    return str(caught.value)


def write(name: str, text: str) -> Path:
    path = Path("tasks") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused_text(name: str) -> str:
    with pytest.raises(UserError) as caught:
        read_texts([name])
    return str(caught.value)


# --- what is found ---


def test_a_folder_is_its_groups_and_the_tasks_in_none_of_them() -> None:
    write_school(Path("tasks"))
    assert inside() == ("school", "trivia")


def test_the_real_questions_are_there() -> None:
    """The tests of what is measured ask them."""
    assert len(mmlu_questions()) == 57
    assert sum(map(len, mmlu_questions().values())) > 250
    rows = [row for of in mmlu_questions().values() for row in of]
    assert {row["answer"] for row in rows} == {0, 1, 2, 3}
    assert len(chinese_questions()) > 20
    assert all(len(set(row["choices"])) == 4 for row in chinese_questions())
    assert chinese_questions() == chinese_questions(0) != chinese_questions(1)


def test_a_name_is_one_of_lm_evals_own_whatever_it_is() -> None:
    assert named_tasks(["mmlu", "arc/easy"], code=False) == [Named("mmlu", None), Named("arc/easy", None)]


def test_members_of_a_group_are_asked_once_however_the_group_names_them() -> None:
    for name in "abcdef":
        write_choices(Path("tasks"), name, ROWS, "tag: letters\n" if name in "ef" else "")
    write(
        "_all.yaml",
        "group: all\ntask:\n  - a\n  - {task: b, num_fewshot: 1}\n  - {group: inner, task: [c]}\n  - letters\n",
    )
    assert inside() == ("all", "d")
    write(
        "_more.yaml",
        "group: more\ntask:\n  - all\n  - group: made\n    task:\n      - group: deeper\n        task: d\n",
    )
    assert inside() == ("more",)


def test_names_that_an_included_file_gives_are_its_own() -> None:
    write("_base", "group: outer\ntask: [a]\n")
    write("outer.yaml", "include: _base\n")
    write_choices(Path("tasks"), "a", ROWS)
    assert inside() == ("outer",)


def test_no_heavy_library_is_imported_for_it(here: Path) -> None:
    write_answers(Path("tasks"), "trivia", chinese_questions()[:2])
    (here / "text.txt").write_text("words", encoding="utf-8")
    code = (
        "import sys; from toolkit.probes.named import check_named; from toolkit.recipe import Forgetting;"
        " check_named(Forgetting(tasks=['tasks', 'mmlu'], text=['text.txt']));"
        " print([name for name in ('torch', 'lm_eval', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


# --- code ---


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("process_docs: !function own.same\n", "!function"),
        # A tag may be written in other signs; YAML reads it as the same one.
        ("process_docs: !fun%63tion own.same\n", "!function"),
        ("process_docs: !<!function> own.same\n", "!function"),
        ("%TAG !x! !func\n---\nprocess_docs: !x!tion own.same\n", "!function"),
        ("metric_list: [{metric: !function own.same}]\n", "!function"),
        ("class: own.Task\n", "class"),
        ("'class': own.Task\n", "class"),
        ("custom_dataset: own.same\n", "custom_dataset"),
        ("dataset_path: pandas\n", "dataset_path: pandas"),
    ],
)
@pytest.mark.parametrize("by", ["itself", "include", "include from elsewhere", "include twice"])
def test_code_is_found_however_it_is_written_and_nothing_is_run(here: Path, text: str, asked: str, by: str) -> None:
    write("own.py", OWN)
    guilty = write("one.yaml" if by == "itself" else "_base", text)
    head = "task: one\n" if not text.startswith("%") else ""
    if by == "itself":
        guilty.write_text(text.replace("---\n", "---\ntask: one\n") if not head else head + text, encoding="utf-8")
    elif by == "include from elsewhere":
        guilty = guilty.rename(here / "elsewhere")
        write("one.yaml", f"include: {guilty}\ntask: one\n")
    elif by == "include twice":
        write("_between", "include: [_base]\n")
        write("one.yaml", "include:\n  - _between\ntask: one\n")
    else:
        write("one.yaml", "include: _base\ntask: one\n")
    said = refused()
    assert said == (
        f"{guilty} asks for Python code beside it ({asked}), which has not been run. Look at it, and let it run where"
        " you trust it: [forgetting] task_code = true (--task-code)."
    )
    assert inside(code=True) == ("one",)
    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    "text",
    [
        "doc_to_text: |\n  class: {{question}}\n  custom_dataset: !function\n",
        "# process_docs: !function own.same\n",
        'description: "!function"\n',
        "fewshot_config: {samples: [{class: 1, question: a}]}\n",
    ],
)
def test_words_that_only_look_like_code_are_none(text: str) -> None:
    write("one.yaml", f"task: one\n{text}")
    assert inside() == ("one",)


# --- what is wrong ---


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, 'tasks has no task file of lm-eval (*.yaml with `task:` or `group:`).'),
        ({"notes.txt": "task: a"}, 'tasks has no task file of lm-eval (*.yaml with `task:` or `group:`).'),
        ({"base.yaml": "output_type: multiple_choice"}, 'tasks has no task file of lm-eval (*.yaml with `task:`'),
        ({"a.yaml": "task: [a"}, "tasks/a.yaml is no task file of lm-eval (while parsing a flow sequence"),
        ({"a.yaml": "- a\n- b"}, "tasks/a.yaml is no task file of lm-eval: keys and values are expected."),
        ({"a.yaml": ""}, "tasks/a.yaml is no task file of lm-eval: keys and values are expected."),
        ({"a.yaml": "task: a\nx: !!python/object/apply:os.getcwd []"}, "tasks/a.yaml is no task file of"),
        ({"a.yaml": "task: a", "deep/b.yaml": "task: a"}, 'tasks: two task files are called "a"; rename one.'),
        ({"a.yaml": "task: a", "b.yaml": "group: a\ntask: [a]"}, 'tasks: two task files are called "a"; rename one.'),
        ({"a.yaml": "task: a\ninclude: _base"}, "tasks/a.yaml includes tasks/_base, which is not there."),
        (
            {"a.yaml": "task: a\ninclude: _base", "_base": "include: a.yaml"},
            "tasks/a.yaml includes itself, by way of",
        ),
        (
            {"anatomy.yaml": "task: anatomy", "g.yaml": "group: g\ntask: [anatomi]"},
            'tasks/g.yaml names the task "anatomi", and tasks has none of that name; did you mean "anatomy"?',
        ),
        (
            {"a.yaml": "task: a", "g.yaml": "group: g\ntask: [a, mmlu_anatomy]"},
            'tasks/g.yaml names the task "mmlu_anatomy", and tasks has none of that name; it has a, g.',
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_as_it_should_be_is_refused(files: dict[str, str], said: str) -> None:
    Path("tasks").mkdir()
    for name, text in files.items():
        write(name, text)
    assert refused().startswith(said)


def test_a_task_file_that_is_no_text_is_refused() -> None:
    write("a.yaml", "").write_bytes(b"task: \xff\xfe\n")
    assert refused().startswith("tasks/a.yaml is no task file of lm-eval (")


def test_what_is_neither_a_folder_nor_a_name_is_refused(here: Path) -> None:
    (here / "a.yaml").write_text("task: a", encoding="utf-8")
    assert refused("a.yaml") == ('[forgetting] tasks: "a.yaml" is a file; name the folder that its task files lie in.')
    for name in ("recipes/mine", "data/tasks", "./tasks", "../tasks", str(here / "tasks")):
        assert refused(name) == f'[forgetting] tasks: there is no folder "{name}".'
    assert "File name too long" in refused("x" * 5000)


def test_two_entries_that_name_one_task_are_refused() -> None:
    for folder in ("one", "two"):
        write_choices(Path(folder), "quiz", ROWS)
    assert refused("one", "two") == '[forgetting] tasks: there are two tasks called "quiz"; rename one.'
    write_group(Path("two"), "other", ["quiz"])
    assert refused("two", "other") == '[forgetting] tasks: there are two tasks called "other"; rename one.'
    assert [one.inside for one in named_tasks(["one", "two"], code=False)] == [("quiz",), ("other",)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file text.txt in "),
        (b"", "text.txt is empty; bits a byte need some text, a few pages at best."),
        (b" \n\r\n", "text.txt is empty; bits a byte need some text, a few pages at best."),
        (b"caf\xe9", "text.txt is not UTF-8 (byte 3); save it in that encoding."),
    ],
)
def test_a_text_that_cannot_be_read_is_named(here: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (here / "text.txt").write_bytes(content)
    assert refused_text("text.txt").startswith(f"[forgetting] text: {said}")
    with pytest.raises(UserError):
        check_named(Forgetting(text=["text.txt"]))


def test_a_folder_is_no_text(here: Path) -> None:
    (here / "text.txt").mkdir()
    assert refused_text("text.txt") == "[forgetting] text: text.txt cannot be read (Is a directory)."
    (here / "file").write_text("a", encoding="utf-8")
    assert refused_text("file/text.txt").startswith("[forgetting] text: there is no file file/text.txt in ")


def test_line_ends_of_a_text_are_kept(here: Path) -> None:
    (here / "text.txt").write_bytes("é\r\n\n".encode())
    assert read_texts(["text.txt"])[0] == ("text.txt", "é\r\n\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "names neither tasks nor text"),
        ({"tasks": []}, "names neither tasks nor text"),
        ({"tasks": ["mmlu"], "limit": 0}, "greater than or equal to 1"),
        ({"tasks": ["mmlu"], "few_shot": -1}, "greater than or equal to 0"),
        ({"tasks": ["mmlu"], "batch_size": 0}, "greater than or equal to 1"),
        ({"tasks": ["mmlu", "mmlu"]}, "tasks: one of them is named twice"),
        ({"tasks": [" "]}, "tasks: one of them is empty"),
        ({"text": ["a", "a"]}, "text: one of them is named twice"),
        (
            {"text": ["a"], "stop_if_worse_by": 0.1, "every": "epoch"},
            "stop_if_worse_by looks at tasks after each epoch",
        ),
    ],
)
def test_a_table_that_asks_nothing_or_too_little_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Forgetting.model_validate(changes)
