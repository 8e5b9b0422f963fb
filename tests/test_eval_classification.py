"""Measuring finished classifiers again, and labelling texts: what is measured and written, and what is refused."""

import csv
import io
import json
import re
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import command, run
from toolkit.checkpoints import find_checkpoints
from toolkit.classes import example_of, read_classes
from toolkit.errors import MachineError, UserError
from toolkit.eval_classification import main
from toolkit.run_folder import Run, run_for

NAMES = ("Dutch", "English", "Finnish", "Italian", "Spanish")
RECIPE = """
name = "{name}"
study = "classify"
[data]
source = "{source}"
prompt = "{{text}} is "
label_names = {label_names}
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 48
[classification]
batch_size = 64
[lora]
rank = 8
alpha = 16
[stage.learn]
method = "classify"
epochs = 4
learning_rate = 3e-3
batch_size = 16
optimizer = "adamw"
"""
HEAD = "\n[model.head]\nlayers = [32]\n"


def surnames(project: Path, rows: str) -> list[dict[str, str]]:
    text = (project / f"recipes/tiny/surnames/{rows}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_csv(path: Path, columns: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def train(project: Path, name: str, label_names: list[str], more: str, seeds: str) -> Run:
    """On 200 surnames, tested on 100; their classes stored by number where those have names, and else by name."""
    for rows, count in (("train", 200), ("test", 100)):
        labels = [(row["text"], row["label"]) for row in surnames(project, rows)[:count]]
        stored = [(text, str(NAMES.index(label)) if label_names else label) for text, label in labels]
        write_csv(project / f"{name}-data/{rows}.csv", ("sentence", "class"), stored)
    recipe = RECIPE.format(name=name, source=f"{name}-data", label_names=json.dumps(label_names))
    (project / f"{name}.toml").write_text(recipe + more, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        run(f"{name}.toml", seeds=seeds)
        return Run(run_for(name, int(seeds[0])).path.resolve())


@pytest.fixture(scope="session")
def head(project: Path) -> Run:
    """The first of two runs with a head (checkpoints/measured-head), whose classes are stored by number."""
    return train(project, "measured-head", list(NAMES), 'keep = "epochs"\n' + HEAD, "0,1")


@pytest.fixture(scope="session")
def words(project: Path) -> Run:
    """A run that answers in words (checkpoints/measured-words), its classes stored by name."""
    return train(project, "measured-words", [], "", "0")


@pytest.fixture
def copied(head: Run, in_project: Path, tmp_path: Path) -> Run:
    """A copy of the run with a head, to be damaged."""
    shutil.copytree(head.path, tmp_path / "copied/seed-0")
    return Run(tmp_path / "copied/seed-0")


def ask(*checkpoints: str | Path, **changes: Any) -> None:
    """The command's function, with the defaults of its options."""
    options = {
        "split": "", "data": None, "text": "", "label": "", "predict": None, "out": None, "force": False,
        "base": None, "engine": None, "batch_size": None, "as_json": False,
    } | changes  # fmt: skip
    main([str(checkpoint) for checkpoint in checkpoints], **options)


@pytest.fixture
def measured(capsys: pytest.CaptureFixture[str]) -> Any:
    """What `--json` prints."""

    def measure(*checkpoints: str | Path, **changes: Any) -> list[dict[str, Any]]:
        capsys.readouterr()
        ask(*checkpoints, as_json=True, **changes)
        return json.loads(capsys.readouterr().out)

    return measure


def refused(*checkpoints: str | Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        ask(*checkpoints, **changes)
    return str(caught.value)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def stored(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "test_results.json").read_text(encoding="utf-8"))


def without(found: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in keys}


OF_THE_RUN = ("run", "seed", "step", "weights_of_step", "validation")
OF_THE_CALL = ("checkpoint", "group", "seed", "model", "format", "data", "as_at_the_end_of_the_run")


# --- what is measured ---


def test_the_test_of_a_run_is_measured_again_to_the_last_bit(in_project: Path, head: Run, measured: Any) -> None:
    results = measured("checkpoints/measured-head")
    assert [result["checkpoint"] for result in results] == ["measured-head/seed-0", "measured-head/seed-1"]
    for result in results:
        then = stored(run_for("measured-head", result["seed"]))
        assert without(result, *OF_THE_CALL) == without(then, *OF_THE_RUN)
        assert result["as_at_the_end_of_the_run"] == {"same": True, "then_and_now": {}}
        assert result["n"] == 100
        assert result["said"] is None
    assert results[0]["loss"] != results[1]["loss"]


def test_replies_in_words_are_read_as_at_the_end_of_the_run(in_project: Path, words: Run, measured: Any) -> None:
    (result,) = measured("checkpoints/measured-words")
    assert without(result, *OF_THE_CALL) == without(stored(words), *OF_THE_RUN)
    assert result["said"]["n"] == 100


def test_validation_texts_and_trained_ones_are_measured_where_they_are_asked_for(
    in_project: Path, head: Run, measured: Any
) -> None:
    (result,) = measured(head.path, split="validation")
    assert without(result, *OF_THE_CALL) == stored(head)["validation"]
    assert result["as_at_the_end_of_the_run"]["same"]
    (trained,) = measured(head.path, split="train")
    assert (trained["n"], trained["split"]) == (head.info["data"]["trained"], "train")
    assert trained["as_at_the_end_of_the_run"] is None
    # What was learned is known better.
    assert trained["loss"] < result["loss"]


def test_the_other_engine_says_the_same_but_for_rounding(in_project: Path, head: Run) -> None:
    done = command("toolkit.eval_classification", str(head.path), "--engine", "transformers", folder=in_project)
    assert done.returncode == 0, done.stderr
    assert "float32, transformers, plain" in done.stdout
    assert re.search("as at the end of the run(, to the last bit| but for rounding)", done.stdout)


def test_a_report_has_what_the_runs_summary_has_and_the_mean_over_runs(
    in_project: Path, head: Run, words: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ask("checkpoints/measured-head", "checkpoints/measured-words")
    said = capsys.readouterr().out
    for one in (head, run_for("measured-head", 1), words):
        assert (one.path / "test_summary.txt").read_text(encoding="utf-8").strip() in said
    assert said.count("as at the end of the run, to the last bit") == 3
    accuracies = [stored(run_for("measured-head", seed))["accuracy"] for seed in (0, 1)]
    spread = abs(accuracies[0] - accuracies[1]) / 2**0.5
    assert "measured-head, 2 runs" in said
    assert f"{sum(accuracies) / 2:.4f} ± {spread:.4f}" in said
    # A single run has no spread.
    assert "measured-words, " not in said
    assert said.count("right when it replies by itself") == 1


def test_a_confusion_matrix_too_wide_to_print_is_in_the_json(
    in_project: Path, head: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.probes.classification_report.MOST_CLASSES", 4)
    ask(head.path)
    assert "\nthe confusion matrix of 5 classes is in what --json prints\n" in capsys.readouterr().out


def test_what_differs_from_the_end_of_the_run_is_said(copied: Run, capsys: pytest.CaptureFixture[str]) -> None:
    # The same texts in batches of another size: other roundings at most.
    ask(copied.path, batch_size=7)
    assert re.search("as at the end of the run(, to the last bit| but for rounding)", capsys.readouterr().out)
    then = stored(copied)
    changed = then | {"accuracy": then["accuracy"] + 0.25, "loss": "low"}
    (copied.path / "test_results.json").write_text(json.dumps(changed))
    ask(copied.path)
    now = then["accuracy"]
    assert f"not as at the end of the run: accuracy {now + 0.25:g} then, {now:g} now\n" in capsys.readouterr().out
    (copied.path / "test_results.json").unlink()
    ask(copied.path)
    assert "the end of the run" not in capsys.readouterr().out


def test_a_kept_epoch_is_measured_and_is_none_of_the_groups_runs(in_project: Path, head: Run, measured: Any) -> None:
    kept = sorted(head.path.glob("stages/learn/epoch-*"))
    results = measured(*kept)
    assert [result["group"] for result in results] == [None] * 4
    assert [result["as_at_the_end_of_the_run"] for result in results] == [None] * 4
    assert results[-1]["loss"] == stored(head)["loss"]
    assert results[0]["loss"] != results[-1]["loss"]


def test_a_folder_of_no_run_is_measured_on_data(in_project: Path, head: Run, tmp_path: Path, measured: Any) -> None:
    adapter = tmp_path / "elsewhere"
    shutil.copytree(head.weights, adapter)
    assert refused(adapter) == f"{adapter} comes from no run: say what to measure it on with --data FILE."
    for base in (None, "checkpoints/tiny-base"):
        # No recipe of a run says what the numbers stand for.
        (result,) = measured(adapter, base=base, data=Path("measured-words-data"))
        assert (result["checkpoint"], result["group"], result["seed"]) == (str(adapter), None, None)
        assert result["loss"] == pytest.approx(stored(head)["loss"], abs=1e-6)
        assert result["confusion"] == stored(head)["confusion"]


# --- other data ---


def test_the_same_texts_from_a_file_give_the_same_numbers(
    in_project: Path, head: Run, words: Run, measured: Any, tmp_path: Path
) -> None:
    for data in ("measured-head-data", "measured-head-data/test.csv", "measured-words-data/test.csv"):
        (result,) = measured(head.path, data=Path(data))
        assert without(result, *OF_THE_CALL) == without(stored(head), *OF_THE_RUN)
        assert (result["data"], result["as_at_the_end_of_the_run"]) == (data, None)
    rows = [(row["text"], f" {row['label']} ") for row in surnames(in_project, "test")[:100]]
    write_csv(tmp_path / "own.csv", ("label", "mood"), rows)
    (result,) = measured(words.path, data=tmp_path / "own.csv", text="label", label="mood")
    assert without(result, *OF_THE_CALL) == without(stored(words), *OF_THE_RUN)


def test_numbers_are_classes_only_where_the_runs_recipe_names_them(in_project: Path, head: Run, words: Run) -> None:
    said = refused(words.path, data=Path("measured-head-data/test.csv"))
    lines = said.splitlines()
    known = "Dutch, English, Finnish, Italian, Spanish"
    assert lines[0] == f"measured-words/seed-0 has no such class; it has {known}:"
    assert len(lines) == 6
    assert re.fullmatch(r'  measured-head-data/test.csv, line 2: "3" \(\d+ rows\)\.', lines[1])


def test_unknown_labels_are_named_with_their_lines(in_project: Path, head: Run, tmp_path: Path) -> None:
    rows = [("a", "Dutch"), ("b", "Duch"), ("c", "dutch"), ("d", "Klingon"), ("e", "Klingon"), ("f", "-1"), ("g", "5")]
    write_csv(tmp_path / "own.csv", ("text", "label"), rows)
    assert refused(head.path, data=tmp_path / "own.csv").splitlines()[1:] == [
        f'  {tmp_path}/own.csv, line 3: "Duch" (1 row); did you mean "Dutch"?',
        f'  {tmp_path}/own.csv, line 4: "dutch" (1 row); did you mean "Dutch"?',
        f'  {tmp_path}/own.csv, line 5: "Klingon" (2 rows).',
        f'  {tmp_path}/own.csv, line 7: "-1" (1 row): hidden labels cannot be measured on.',
        f'  {tmp_path}/own.csv, line 8: "5" (1 row).',
    ]
    write_csv(tmp_path / "many.csv", ("text", "label"), [("a", f"x{number}") for number in range(14)])
    assert refused(head.path, data=tmp_path / "many.csv").endswith("\n  and 4 labels more.")


def test_data_that_cannot_be_read_is_refused_in_the_commands_own_words(
    in_project: Path, head: Run, tmp_path: Path
) -> None:
    (tmp_path / "test.csv").write_text("words,mood\nx,Dutch\n", encoding="utf-8")
    data = tmp_path / "test.csv"
    there = "It has words, mood."
    assert f'{data}: no column is called text, sentence, content or the like. {there} Name one: --text "words".' == (
        refused(head.path, data=data)
    )
    assert f'label, labels, category or the like. {there} Name one: --label "mood".' in (
        refused(head.path, data=data, text="words")
    )
    assert f"--label: {data} has no column `mod`; did you mean `mood`? {there}" == (
        refused(head.path, data=data, text="words", label="mod")
    )
    assert "--text and label are both `mood`" in refused(head.path, data=data, text="mood", label="mood")
    assert f"--data {tmp_path}/tset.csv: there is no such file; did you mean {data}?" == (
        refused(head.path, data=tmp_path / "tset.csv")
    )
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "Dutch"}\n', encoding="utf-8")
    said = f"--data {tmp_path} has several files that are called test: name a file. It has test.csv, test.jsonl."
    assert refused(head.path, data=tmp_path) == said
    (tmp_path / "empty").mkdir()
    assert "empty has nothing called test (test.csv, test.parquet …)" in refused(head.path, data=tmp_path / "empty")
    (tmp_path / "a.txt").write_text("a\n")
    assert "has another ending than those that are read (.csv, " in refused(head.path, data=tmp_path / "a.txt")
    write_csv(tmp_path / "holes.csv", ("text", "label"), [("a", "Dutch"), ("", "Dutch"), ("b", "")])
    assert refused(head.path, data=tmp_path / "holes.csv").splitlines()[1:] == [
        "  line 3: `text` is empty.", "  line 4: `label` is empty."
    ]  # fmt: skip


# --- labelling ---


ODD = ["Rossi", '"quoted", with a comma', "  spaced  ", "p_Dutch", "Väisänen\u2028林", "=1+1", "0012", "x" * 300]


def test_predictions_are_those_of_a_reading_in_the_order_of_the_file(
    in_project: Path, head: Run, words: Run, tmp_path: Path, engine: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    from toolkit.models.opening import open_checkpoint, prepare
    from toolkit.probes.classification import read_classes as read
    from toolkit.probes.recall import Moment

    (tmp_path / "texts.txt").write_bytes("\n".join(ODD).encode("utf-8-sig"))
    for one in (head, words):
        ask(one.path, predict=tmp_path / "texts.txt", out=tmp_path / "new" / f"{one.name}.csv")
        assert f"{one.name}.csv: {len(ODD)} texts, of which 1 were cut to fit 48 tokens" in capsys.readouterr().err
        rows = read_csv(tmp_path / "new" / f"{one.name}.csv")
        assert [row["text"] for row in rows] == ODD
        assert list(rows[0]) == ["text", "label", "probability", *(f"p_{name}" for name in NAMES)]
        classes, (checkpoint,) = read_classes(one.weights), find_checkpoints([str(one.path)])
        asked = [example_of(f"{i}", text.strip(), "Dutch", classes) for i, text in enumerate(ODD)]
        loaded = open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None).loaded
        moment = Moment("", 0, "", 0, 0.0, {}, {})
        for row, same in zip(rows, read(loaded, engine, asked, moment, batch_size=64, with_text=False), strict=True):
            assert row["label"] == same["predicted"]
            assert row["probability"] == row[f"p_{row['label']}"]
            numbers = [float(row[f"p_{name}"]) for name in NAMES]
            assert numbers == pytest.approx(same["probabilities"], rel=1e-4)
            assert sum(numbers) == pytest.approx(1, abs=1e-5)


def test_every_kind_of_table_is_labelled_alike_and_line_ends_in_texts_are_kept(
    in_project: Path, head: Run, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [*ODD, "two\nlines", "a\rb", "c\r\nd", 'e "f"\n']
    write_csv(tmp_path / "a.csv", ("id", "sentence"), [(f"{i}", text) for i, text in enumerate(texts)])
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"sentence": texts}), tmp_path / "c.parquet")
    (tmp_path / "d.json").write_text(json.dumps([{"a": text, "text": "?"} for text in texts]))
    for name in ("a.csv", "b.jsonl", "c.parquet", "d.json"):
        ask(head.path, predict=tmp_path / name, out=tmp_path / f"{name}.out.csv", text="a" if name[0] == "d" else "")
        assert [row["text"] for row in read_csv(tmp_path / f"{name}.out.csv")] == texts
    written = [(tmp_path / f"{name}.out.csv").read_bytes() for name in ("a.csv", "b.jsonl", "c.parquet", "d.json")]
    assert len(set(written)) == 1
    # What was written can be labelled in its turn.
    ask(head.path, predict=tmp_path / "a.csv.out.csv", out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == written[0]


def test_no_more_than_a_chunk_of_texts_is_in_memory(
    in_project: Path, head: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.probes import predictions

    (tmp_path / "many.txt").write_text("Rossi\nde Vries\n" * 5000)
    read, labelled, ahead = 0, 0, []
    read_texts, label_chunk = predictions.read_texts, predictions.label_chunk

    def reading(*arguments: Any) -> Any:
        nonlocal read
        read = 0
        for text in read_texts(*arguments):
            read += 1
            yield text

    def labelling(loaded: Any, engine: Any, texts: list[Any], *rest: Any) -> Any:
        nonlocal labelled
        ahead.append(read - labelled)
        labelled += len(texts)
        return label_chunk(loaded, engine, texts, *rest)

    monkeypatch.setattr(predictions, "read_texts", reading)
    monkeypatch.setattr(predictions, "label_chunk", labelling)
    ask(head.path, predict=tmp_path / "many.txt", out=tmp_path / "out.csv")
    assert max(ahead) == 64 * predictions.BATCHES
    assert len(ahead) == 5
    assert len({row["p_Dutch"] for row in read_csv(tmp_path / "out.csv")}) == 2


def test_a_group_labels_with_its_lowest_seed_and_says_so(
    in_project: Path, head: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("Rossi\n")
    ask("checkpoints/measured-head", predict=tmp_path / "a.txt")
    said = capsys.readouterr()
    assert "checkpoints/measured-head has 2 runs; labelling with measured-head/seed-0." in said.err
    ask(head.path, predict=tmp_path / "a.txt")
    assert capsys.readouterr().out == said.out
    assert [row["text"] for row in csv.DictReader(io.StringIO(said.out))] == ["Rossi"]
    several = refused(head.path, "checkpoints/measured-head/seed-1", predict=tmp_path / "a.txt")
    assert several == "--predict takes one checkpoint, and 2 are named."


def test_what_goes_wrong_midway_leaves_no_file_and_the_old_one_as_it_was(
    in_project: Path, head: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.probes import predictions

    (tmp_path / "a.txt").write_text("Rossi\n" * 200)
    out = tmp_path / "out" / "labels.csv"
    out.parent.mkdir()
    label_chunk, calls = predictions.label_chunk, []
    trouble: BaseException = OSError(28, "No space left on device")

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) % 2 == 0:
            raise trouble
        return label_chunk(*arguments)

    monkeypatch.setattr(predictions, "label_chunk", failing)
    monkeypatch.setattr(predictions, "BATCHES", 2)
    with pytest.raises(MachineError, match=r"labels\.csv could not be written \(No space left on device\)"):
        ask(head.path, predict=tmp_path / "a.txt", out=out)
    assert list(out.parent.iterdir()) == []
    out.write_text("what was there")
    for trouble in (KeyboardInterrupt(), UserError("damaged"), RuntimeError("a fault of ours")):
        with pytest.raises(type(trouble)):
            ask(head.path, predict=tmp_path / "a.txt", out=out, force=True)
        assert [path.read_text() for path in out.parent.iterdir()] == ["what was there"]
    monkeypatch.setattr(predictions, "label_chunk", label_chunk)
    ask(head.path, predict=tmp_path / "a.txt", out=out, force=True)
    assert len(read_csv(out)) == 200


def test_what_cannot_be_labelled_is_refused_before_anything_is_loaded_or_written(
    in_project: Path, head: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.models.open_engine", lambda name: pytest.fail("an engine was loaded"))
    texts, out = tmp_path / "a.txt", tmp_path / "out.csv"

    def said(content: bytes | None = b"Rossi\n", name: str = "a.txt", **changes: Any) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        message = refused(head.path, **({"predict": tmp_path / name, "out": out} | changes))
        assert not out.exists()
        return message

    empty = "it is empty, and every line is a text."
    assert said(b"a\n\nb\n  \n").splitlines() == [f"{texts}:", f"  line 2: {empty}", f"  line 4: {empty}"]
    assert said(b"a\n" + b"\n" * 30).endswith("and 20 more.")
    assert said(b"") == f"{texts} is empty."
    assert said(b"\xef\xbb\xbf") == f"{texts} has no texts."
    assert f"{texts}, line 2: character 2 is the byte 0xe4, which is not UTF-8" in said(b"a\nb\xe4\n")
    assert said(b"text,label\n\n", "a.csv") == f"{tmp_path}/a.csv has no texts."
    assert said(b"text,label\n,x\n", "a.csv") == f"{tmp_path}/a.csv, line 2: `text` is empty."
    assert said(b"a,b\n1,2\n", "a.csv").endswith('It has a, b. Name one: --text "a".')
    assert said(b'{"text": ["a"]}\n', "a.jsonl").endswith("line 1: `text` is stored as a list: store it as text.")
    assert "has another ending" in said(b"a\n", "a.md")
    assert said(None, "a.tx") == f"--predict {tmp_path}/a.tx: there is no such file; did you mean {texts}?"
    assert "is a folder: name a file in it" in said(predict=tmp_path)
    assert said(text="text") == f"--text text: {texts} has no columns, every line of it is a text."
    assert said(out=texts, force=True) == f"--out {texts} is the file of texts itself."
    assert said(out=tmp_path) == f"--out {tmp_path} is a folder: name a file."
    assert said(out=texts / "out.csv") == f"--out {texts}/out.csv: {texts} is a file, and no folder."
    (tmp_path / "there.csv").write_text("mine")
    assert said(out=tmp_path / "there.csv") == f"--out {tmp_path}/there.csv is there already; --force writes over it."
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_question_that_leaves_no_room_for_a_text_writes_nothing(copied: Run, tmp_path: Path) -> None:
    path = copied.weights / "classes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompt": "{text}" + " is" * 60}))
    (tmp_path / "a.txt").write_text("Rossi\n")
    said = refused(copied.path, predict=tmp_path / "a.txt", out=tmp_path / "out.csv")
    assert said.startswith("example text 1: the question alone leaves no room for its text in 48 tokens")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.txt", "copied"]


# --- what is no classifier ---


def test_a_checkpoint_that_recalls_is_sent_to_the_command_for_it(in_project: Path) -> None:
    said = refused("checkpoints/tiny-base")
    assert "model is no classifier: it has no classes.json. What it recalls, python -m toolkit.eval_recall" in said


def test_half_a_classifier_is_refused_before_anything_is_loaded(copied: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.models.open_engine", lambda name: pytest.fail("an engine was loaded"))
    folder = copied.weights
    again = "train it again with --fresh, or take another copy."
    head, classes = (folder / "head.safetensors").read_bytes(), (folder / "classes.json").read_text()
    (folder / "head.safetensors").write_bytes(head[:-50])
    assert refused(copied.path).startswith(f"{folder}/head.safetensors is damaged (")
    (folder / "head.safetensors").unlink()
    assert (
        refused(copied.path) == f"{folder} has no head.safetensors, the head that its classes.json describes; {again}"
    )
    (folder / "head.safetensors").write_bytes(head)
    for damage, said in (
        (classes[:40], f"{folder}/classes.json is damaged ("),
        (classes.replace('"Dutch"', '"English"'), f"{folder}/classes.json is damaged (a label twice, or"),
        (classes.replace("{text}", "text"), f"{folder}/classes.json is damaged (a label twice, or"),
        (classes.replace("[\n      32\n    ]", "[0]"), f"{folder}/classes.json is damaged (head: "),
        (classes.replace('"Dutch"', '"Deutsch"'), f'{folder}/classes.json has no class "Dutch", as '),
    ):
        (folder / "classes.json").write_text(damage)
        assert refused(copied.path).startswith(said)
    (folder / "classes.json").unlink()
    said = f"{folder} has lost its classes.json, which says what it tells apart; {again}"
    assert refused(copied.path) == said


def test_a_head_of_another_shape_is_refused(copied: Run) -> None:
    path = copied.weights / "classes.json"
    path.write_text(path.read_text().replace("32", "33"))
    assert refused(copied.path).startswith(f"{copied.weights}/head.safetensors is damaged, or another model's (")


def test_damaged_files_of_a_run_are_named(copied: Run) -> None:
    examples = copied.path / "examples.jsonl"
    lines = [json.loads(line) for line in examples.read_text(encoding="utf-8").splitlines()]
    for place in (None, [0], [3, 2], [0, 10**6], ["0", "1"]):
        examples.write_text("".join(json.dumps(line | {"info": {"text": place}}) + "\n" for line in lines))
        assert "does not say where in its prompt its text is" in refused(copied.path)
    examples.write_text("".join(json.dumps(line) + "\n" for line in lines if line["split"] != "test"))
    assert refused(copied.path) == f"{examples} has no test texts."
    (copied.path / "test_results.json").write_text("{")
    examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert refused(copied.path).startswith(f"{copied.path}/test_results.json is damaged (")


def test_a_classifier_whose_training_diverged_gives_no_numbers(copied: Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied.weights / "head.safetensors"
    save_file({name: value * float("nan") for name, value in load_file(path).items()}, path)
    with pytest.raises(MachineError, match="no probabilities but NaN: training diverged"):
        ask(copied.path)
    (tmp_path / "a.txt").write_text("Rossi\n")
    with pytest.raises(MachineError, match="no probabilities but NaN: training diverged"):
        ask(copied.path, predict=tmp_path / "a.txt", out=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# --- the command ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "tset"}, "--split tset: test, validation or train is expected"),
        ({"split": "test", "data": Path("x.csv")}, "--split is of a run's own texts, and --data gives others"),
        ({"engine": "vllm"}, "--engine vllm: unsloth or transformers is expected"),
        ({"out": Path("x.csv")}, "--out is for labelling texts: say which by --predict FILE"),
        ({"force": True}, "--force is for labelling texts"),
        ({"text": "a"}, "--text names a column of the table that --data gives"),
        ({"label": "a"}, "--label names a column of the table that --data gives"),
        ({"predict": Path("x.txt"), "as_json": True}, "--json is for measuring, and --predict only labels texts"),
        ({"predict": Path("x.txt"), "data": Path("x.csv")}, "--data is for measuring"),
        ({"predict": Path("x.txt"), "split": "test"}, "--split is for measuring"),
        ({"predict": Path("x.txt"), "label": "a"}, "--label is for measuring"),
    ],
)
def test_options_that_do_not_go_together_are_refused(in_project: Path, changes: dict[str, Any], said: str) -> None:
    assert refused("checkpoints/tiny-base", **changes).startswith(said)


def test_a_wrong_path_is_answered_at_once_with_the_nearest_one(in_project: Path, head: Run) -> None:
    for arguments in (["--help"], ["checkpoints/measured-haed"]):
        started = time.perf_counter()
        done = command("toolkit.eval_classification", *arguments, folder=in_project)
        assert time.perf_counter() - started < 1.5
    assert (done.returncode, done.stdout) == (2, "")
    said = "checkpoints/measured-haed is no checkpoint; it is not there; did you mean checkpoints/measured-head?"
    assert done.stderr == f"error: {said}\n"


def test_json_is_pure_json_and_labels_are_pure_csv_on_stdout(in_project: Path, head: Run, tmp_path: Path) -> None:
    done = command("toolkit.eval_classification", str(head.path), "--json", folder=in_project)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["accuracy"] == stored(head)["accuracy"]
    (tmp_path / "a.csv").write_text('text\n"a\nb"\n"c\r\nd"\n', newline="")
    # As on a terminal, where a bar is shown: it must not take what is written to stdout for itself.
    shown = command(
        "toolkit.eval_classification", str(head.path), "--predict", str(tmp_path / "a.csv"),
        folder=in_project, FORCE_COLOR="1",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "labelling" in shown.stderr
    # Python reads what a command says with its line ends made alike.
    assert [row["text"] for row in csv.DictReader(io.StringIO(shown.stdout))] == ["a\nb", "c\nd"]
