"""Texts and their classes: files are found, labels come from train, draws keep every class, wrong rows are refused."""

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import MachineError, UserError
from toolkit.example import read_jsonl, to_jsonl
from toolkit.recipe import Recipe
from toolkit.studies import build_data, classify, labelled, stratified
from toolkit.studies.built import Built

R8 = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")


def rows_of(sizes, start=0, column="text"):
    """Rows of so many texts a class, all different, the classes mixed."""
    labels = [label for label, size in sizes.items() for _ in range(size)]
    random.Random(0).shuffle(labels)
    return [{column: f"text {start + i}", "label": label} for i, label in enumerate(labels)]


TRAIN = rows_of({"neg": 12, "pos": 8})
TEST = rows_of({"neg": 3, "pos": 3}, start=1000)
DEV = rows_of({"neg": 2, "pos": 2}, start=2000)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix
    if kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of files, each from its rows or its text, and gives its path."""

    def folder(files, name="data-set"):
        for file, content in files.items():
            path = tmp_path / name / file
            if isinstance(content, list):
                write_rows(path, content)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return folder


def build(source, data_seed=0, assignment_seed=0, **arguments) -> Built:
    return classify.build(data_seed, assignment_seed, source, **arguments)


def refused(source, **arguments):
    with pytest.raises(UserError) as error:
        build(source, **arguments)
    return str(error.value)


def of(built, split):
    return [example for example in built.examples if example.split == split]


def text_of(example):
    start, end = example.info["text"]
    return example.prompt[start:end]


def lines(*rows):
    return "\n".join(["text,label", *rows, ""])


# --- what is built ---


def test_a_row_becomes_a_question_with_its_class_as_answer(folder):
    built = build(folder({"train.json": TRAIN, "dev.json": DEV, "test.json": TEST}))
    assert built.labels == ("neg", "pos")
    first = built.examples[0]
    assert (first.id, first.fact, first.split, first.part) == ("train-000001", "train-000001", "train", "facts")
    assert first.answer == TRAIN[0]["label"]
    assert first.prompt == (
        'Please carefully read the following reference text:"text 0", \n'
        "and determine which of the following categories it belongs to:neg,pos,answer:"
    )
    assert [example.split for example in built.examples] == ["train"] * 20 + ["validation"] * 4 + ["test"] * 6
    assert [text_of(example) for example in built.examples] == [row["text"] for row in TRAIN + DEV + TEST]
    assert [example.id for example in of(built, "validation")] == [f"dev-{i:06d}" for i in range(1, 5)]
    assert [example.id for example in of(built, "test")] == [f"test-{i:06d}" for i in range(1, 7)]


@pytest.mark.parametrize("labels", [("neg", "pos"), ("0", "1"), (0, 1)])
def test_every_format_gives_the_same_examples(folder, labels):
    texts = ['He said: "no", and\nleft.', "很好看", "tab\there", "plain", "semi;colon", "\u2028 odd"] * 4
    rows = [{"text": f"{i} {text}", "label": labels[i % 2]} for i, text in enumerate(texts)]
    built = [
        build(folder({f"train.{kind}": rows, f"test.{kind}": [{"text": "new", "label": labels[0]}]}, kind))
        for kind in ("csv", "tsv", "json", "jsonl", "ndjson", "parquet")
    ]
    assert len(built[0].examples) == 25
    assert all(other == built[0] for other in built[1:])


def test_examples_can_be_written_and_read_again(folder, tmp_path):
    built = build(folder({"train.csv": TRAIN, "test.csv": TEST}))
    (tmp_path / "examples.jsonl").write_text(to_jsonl(built.examples), encoding="utf-8")
    assert read_jsonl(tmp_path / "examples.jsonl") == built.examples


def test_a_recipe_builds_it_and_can_train_on_its_part(folder):
    source = folder({"train.csv": TRAIN, "test.csv": TEST})
    stage: Any = {"learn": {"method": "sft", "train_on": ["facts"]}}
    recipe = Recipe.model_validate(
        {"name": "x", "study": "classify", "data": {"source": source}, "model": {"base": "b"}, "stage": stage}
    )
    assert build_data(recipe, 0).labels == ("neg", "pos")
    stage["learn"]["train_on"] = ["words"]
    with pytest.raises(UserError, match='no trained example is of the part "words"'):
        build_data(recipe.model_validate(recipe.model_dump() | {"stage": stage}), 0)


def test_texts_and_labels_lose_the_white_space_around_them(folder):
    source = folder(
        {"train.csv": lines('"  a  b\u3000", neg ', "c,pos", "d,neg", "e,pos"), "test.csv": lines("f,neg ")}
    )
    built = build(source)
    assert built.labels == ("neg", "pos")
    assert "a  b" in [text_of(example) for example in built.examples]
    assert {example.answer for example in of(built, "test")} == {"neg"}


def test_a_text_that_is_stored_as_a_number_is_its_literal(folder):
    rows = [{"text": "42", "label": "a"}, {"text": 1.50, "label": "b"}, {"text": 7, "label": "a"}] * 2
    built = build(folder({"train.json": rows, "test.json": [{"text": 9, "label": "a"}]}))
    assert {text_of(example) for example in built.examples} == {"42", "1.5", "7", "9"}


# --- the prompt ---


def test_the_place_of_the_text_is_known_whatever_stands_in_it(folder):
    texts = ["{text}", "{class_labels}", "{", "{}}{0}", "é 很\n好", "{text} {text}", '"quoted"', "\\1 %s"]
    rows = [{"text": text, "label": label} for text in texts for label in ("{text}", "b")]
    source = folder({"train.json": rows, "test.json": rows[:2]})
    for prompt in (classify.PROMPT, "{text}", "{text} of {class_labels}?", "Of {class_labels}: {text} is "):
        built = build(source, prompt=prompt)
        for example in built.examples:
            start, end = example.info["text"]
            assert example.prompt[start:end] in texts
            assert example.prompt[:start] == prompt.split("{text}")[0].replace("{class_labels}", "b,{text}")
            assert example.prompt[end:] == prompt.split("{text}")[1].replace("{class_labels}", "b,{text}")
        assert Counter(map(text_of, of(built, "train") + of(built, "validation"))) == Counter(texts * 2)


@pytest.mark.parametrize(
    "prompt",
    ["", "Which?", "{text} {text}", "{text} {label}", "{text} {class_labels}{class_labels}", "{text} {}", "{{text}}",
     "{class_labels}", "{text} }", "{ text }", "{te{text}xt}"],
)  # fmt: skip
def test_a_prompt_names_the_text_once_and_has_no_other_braces(folder, prompt):
    said = refused("nowhere", prompt=prompt)
    assert said.startswith(f'[data] prompt = "{prompt}": it must contain {{text}} once')


# --- labels ---


def test_text_labels_are_in_alphabetical_order_and_numbers_in_that_of_their_values(folder):
    def labels(values, kind="json", **arguments):
        rows = [{"text": f"{i}", "label": value} for i, value in enumerate([*values, *values])]
        return build(folder({f"train.{kind}": rows, f"test.{kind}": rows[:1]}, f"{kind}{values}"), **arguments).labels

    assert labels(R8[::-1]) == R8
    ten = list(range(10, -1, -1))
    assert labels(ten) == labels(ten, "parquet") == labels(ten, "csv") == tuple(str(i) for i in range(11))
    assert labels([2, -1]) == ("-1", "2")
    assert labels([1.0, 0.0]) == labels([1.0, 0.0], "parquet") == ("0", "1")
    assert labels([True, False]) == ("false", "true")
    # No numbers: 07 is a name that has lost nothing.
    assert labels(["10", "9", "07"], "csv") == ("07", "10", "9")


def test_label_names_are_those_of_the_numbers_in_every_format(folder):
    rows = [{"text": f"{i}", "label": i % 3} for i in range(30)]
    names = ["Negative", "Neutral", "Positive"]
    for kind in ("csv", "json", "parquet"):
        built = build(folder({f"train.{kind}": rows, f"test.{kind}": rows[:3]}, kind), label_names=names)
        assert built.labels == tuple(names)
        assert [example.answer for example in of(built, "test")] == names
        assert "belongs to:Negative,Neutral,Positive,answer:" in built.examples[0].prompt


@pytest.mark.parametrize(
    ("values", "names", "said"),
    [
        ([0, 1], ["A"], "label_names has 1 names, for the labels 0 … 0; train has the 2 labels 0, 1."),
        ([0, 1], ["A", "B", "C"], "has 3 names, for the labels 0 … 2; train has the 2 labels 0, 1."),
        ([1, 2], ["A", "B"], "has 2 names, for the labels 0 … 1; train has the 2 labels 1, 2."),
        ([-1, 0], ["A", "B"], "train has the 2 labels -1, 0."),
        (["a", "b"], ["A", "B"], "train has labels that are text, a, b: leave it out."),
        ([0, 1], ["A", " A "], '[data] label_names: "A" is there twice.'),
        ([0, 1], ["A", ""], "[data] label_names: entry 2 is empty."),
    ],
)
def test_label_names_that_do_not_fit_are_refused(folder, values, names, said):
    rows = [{"text": f"{i}", "label": value} for i, value in enumerate(values * 2)]
    assert refused(folder({"train.json": rows, "test.json": rows}), label_names=names).endswith(said)


def test_numbers_beside_text_are_refused_with_a_line_of_each(folder):
    source = folder({
        "train.jsonl": '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n{"text": "c", "label": "positive"}\n',
        "test.jsonl": '{"text": "d", "label": 0}',
    })  # fmt: skip
    assert refused(source) == (
        f'mixed label types: {source}/train.jsonl, line 1 has the number 0, {source}/train.jsonl, line 3 the text'
        ' "positive"; store all labels as text, or all as numbers.'
    )  # fmt: skip


def test_one_class_and_too_many_are_refused(folder):
    one = folder({"train.csv": lines("a,x", "b,x"), "test.csv": lines("c,x")}, "one")
    assert 'every row of train has the label "x": there is nothing to tell apart.' in refused(one)
    swapped = [{"label": "x", "text": f"text {i}"} for i in range(1001)]
    many = folder({"train.json": swapped, "test.json": swapped}, "many")
    assert refused(many, text="label", label="text").endswith(
        "train has 1,001 labels in 1,001 rows, over 1,000: is `text` the column of the classes? Else say [data] label."
    )


def test_a_label_that_train_lacks_is_refused_by_name_count_and_first_line(folder):
    source = folder({
        "train.csv": TRAIN, "dev.csv": lines("a,neg", "b,3"), "test.csv": lines("c,pos", "d,x", "e,x", "f,Neg"),
    })  # fmt: skip
    assert refused(source).split("\n  ") == [
        f'dev: 1 row has the label "3", the first in {source}/dev.csv, line 3, which no row of train has'
        ' (neg, pos).',
        f'test: 2 rows have the label "x", the first in {source}/test.csv, line 3, which no row of train has'
        " (neg, pos).",
        f'test: 1 row has the label "Neg", the first in {source}/test.csv, line 5, which no row of train has; did you'
        ' mean "neg"?',
    ]  # fmt: skip


def test_many_labels_that_train_lacks_are_counted(folder):
    rows = [{"text": "a", "label": f"{i} is another label"} for i in range(50_000)]
    said = refused(folder({"train.csv": [row | {"label": row["label"][:1]} for row in rows[:20]], "test.json": rows}))
    assert len(said.splitlines()) == 11
    assert said.endswith("\n  and 49,990 more.")


def test_hidden_labels_are_said_with_the_way_around_them(folder):
    numbers = [{"sentence": f"{i}", "label": i % 2} for i in range(20)]
    hidden = [{"sentence": f"hidden {i}", "label": -1} for i in range(5)]
    source = folder({
        "train-00000-of-00001.parquet": numbers, "validation-00000-of-00001.parquet": numbers[:4],
        "test-00000-of-00001.parquet": hidden,
    })  # fmt: skip
    assert refused(source) == (
        f'test: 5 rows have the label "-1", the first in {source}/test-00000-of-00001.parquet, record 1, which no row'
        ' of train has: hidden labels cannot be tested on; [data] test = "validation" takes another split.'
    )
    built = build(source, test="validation")
    assert [example.id for example in of(built, "test")] == [f"validation-{i:06d}" for i in range(1, 5)]
    assert len(of(built, "validation")) == 3
    assert {example.id[:6] for example in of(built, "validation")} == {"train-"}


# --- rows ---


def test_all_wrong_rows_of_all_files_are_said_at_once(folder):
    source = folder({
        "train.csv": lines("a,neg", ",pos", "b,", "  ,pos", "c", "d,pos,x", "e,pos"),
        "dev.jsonl": '{"text": "a", "label": "neg"}\n{"text": null, "label": "neg"}\n{"text": "a"\n{"text": "b"}\n',
        "test.json": json.dumps([
            {"text": "a", "label": ["neg"]}, {"text": {"a": 1}, "label": "neg"}, {"text": "b", "label": 1.5},
            {"text": "\ud83d", "label": "neg"}, {"text": "b", "label": float("inf")}, 7,
        ]),
    })  # fmt: skip
    assert refused(source).splitlines() == [
        f"{source}/train.csv:",
        "  line 3: `text` is empty.",
        "  line 4: `label` is empty.",
        "  line 5: `text` is empty.",
        "  line 6: 1 cells, where the header has 2.",
        '  line 7: 3 cells, where the header has 2; a cell that holds "," stands in quotes.',
        f"{source}/test.json:",
        "  record 1: `label` is stored as a list: store it as text.",
        "  record 2: `text` is stored as an object: store it as text.",
        "  record 3: `label` is the number 1.5: a label is a whole number or text.",
        "  record 4: `text` holds half a character (\\ud800 to \\udfff), which no text has.",
        "  record 5: `label` is the number Infinity: a label is a whole number or text.",
        "  record 6: an object, {…}, is expected.",
        f"{source}/dev.jsonl:",
        "  line 2: `text` is empty.",
        "  line 3: not JSON (Expecting ',' delimiter at character 1).",
        "  line 4: `label` is empty.",
    ]


def test_many_wrong_rows_are_counted(folder):
    source = folder({"train.csv": lines(*[",x"] * 30, "a,x", "b,y"), "test.csv": lines("c,x")})
    said = refused(source).splitlines()
    assert len(said) == 12
    assert said[-1] == "  and 20 more."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", "text,label\n", "train.csv has no rows"),
        ("train.csv", "", "train.csv is empty"),
        ("train.json", "[]", "train.json has no rows"),
        ("train.json", '[{"text": "a"', "train.json: not JSON"),
        ("train.json", '{"text": ["a"]}', "an array of objects is expected"),
        ("train.parquet", b"PAR1 and then nothing", "train.parquet is damaged or no Parquet file"),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1", "train.parquet is damaged or no Parquet file"),
        ("train.csv", lines("a,x", '"b,x'), "line 3: a quote is opened in this row and never closed"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(folder, name, content, said):
    assert said in refused(folder({name: content, "test.csv": TEST}))


def test_more_rows_than_fit_are_refused_unless_some_of_train_are_drawn(folder, monkeypatch):
    monkeypatch.setattr(labelled, "MOST_ROWS", 20)
    source = folder({"train.csv": TRAIN, "test.csv": TEST})
    assert len(build(source).examples) == 26
    monkeypatch.setattr(labelled, "MOST_ROWS", 19)
    assert "train.csv has over 19 rows: say [data] count, and so many are drawn from the first 19" in refused(source)
    assert {row.id for row in build(source, count=19).examples if row.split != "test"} == {
        f"train-{i:06d}" for i in range(1, 20)
    }
    monkeypatch.setattr(labelled, "MOST_ROWS", 5)
    assert "test.csv has over 5 rows: shorten it." in refused(source, count=5)


# --- columns ---


@pytest.mark.parametrize(
    ("text", "label"), [("sentence", "label"), ("content", "category"), ("Text", "Intent"), ("title", "class")]
)
def test_usual_columns_are_found(folder, text, label):
    rows = [{"idx": 1, text: row["text"], label: row["label"], "more": ""} for row in TRAIN]
    assert build(folder({"train.csv": rows, "test.csv": rows})).labels == ("neg", "pos")


def test_columns_that_are_named_are_taken(folder):
    rows = [{"title": "same", "text": row["text"], "topic": "x", "label": row["label"]} for row in TRAIN]
    source = folder({"train.json": rows, "test.json": rows})
    assert refused(source).startswith(
        f"{source}/train.json: `title`, `text` could each be the text. It has title, text, topic, label. Name one:"
        ' [data] text = "title".'
    )
    assert "`topic`, `label` could each be the label. It has" in refused(source, text="text")
    built = build(source, text="text", label="label")
    assert {text_of(example) for example in built.examples} == {row["text"] for row in TRAIN}
    # What is named as the one is not taken for the other.
    rows = [{"title": row["text"], "text": row["label"], "topic": "x"} for row in TRAIN]
    assert build(folder({"train.json": rows, "test.json": rows}, "b"), label="text").labels == ("neg", "pos")


def test_columns_that_are_not_there_are_refused(folder):
    rows = [{"utterance": "a", "mood": "b"}]
    source = folder({"train.csv": rows, "test.csv": rows})
    assert refused(source) == (
        f"{source}/train.csv: no column is called text, sentence, content or the like. It has utterance, mood. Name"
        ' one: [data] text = "utterance".'
    )
    assert "no column is called label, labels, category or the like" in refused(source, text="utterance")
    assert refused(source, text="uterance") == (
        f"[data] text: {source}/train.csv has no column `uterance`; did you mean `utterance`? It has utterance, mood."
    )
    assert "has no column `x`. It has utterance, mood." in refused(source, text="utterance", label="x")
    assert "text and label are both `mood`" in refused(source, text="mood", label="mood")


def test_every_file_must_have_both_columns(folder):
    source = folder({"train.csv": TRAIN, "test.csv": [{"sentence": "a", "label": "neg"}]})
    assert f"[data] text: {source}/test.csv has no column `text`. It has sentence, label." in refused(source)
    source = folder({"train.csv": TRAIN, "test.csv": [{"text": "a", "labels": "neg"}]})
    assert f"[data] label: {source}/test.csv has no column `label`; did you mean `labels`?" in refused(source)


# --- files ---


@pytest.mark.parametrize("dev", ["dev.csv", "valid.json", "validation.parquet", "val.jsonl", "Dev.csv"])
@pytest.mark.parametrize("within", ["", "data/"])
def test_files_are_found_by_what_they_are_called(folder, dev, within):
    files = {f"{within}train.json": TRAIN, f"{within}{dev}": DEV, f"{within}test.tsv": TEST, "README.md": "x"}
    built = build(folder(files))
    assert Counter(example.split for example in built.examples) == {"train": 20, "validation": 4, "test": 6}


def test_shards_are_read_in_order_and_numbered_through(folder):
    shards = {f"data/train-0000{i}-of-00003.parquet": TRAIN[7 * i : 7 * i + 7] for i in range(3)}
    files = shards | {"data/test-00000-of-00001-a09b74b3ef9c3b56.parquet": TEST}
    built = build(folder(files))
    assert built.examples == build(folder({"train.csv": TRAIN, "test.csv": TEST}, "whole")).examples
    # A shard stands for all of them: two names for a part would train on a third.
    source = folder({"train.csv": DEV})
    assert "data/train-00000-of-00003.parquet could be train; name one" in refused(source)
    for shard in shards:
        assert build(source, train=shard) == built


def test_a_wrong_row_of_a_shard_is_said_by_file_and_record(folder):
    rows = [*TRAIN[:3], {"text": "", "label": "neg"}]
    source = folder({
        "train-00000-of-00002.jsonl": TRAIN, "train-00001-of-00002.jsonl": rows, "test.csv": lines("a,x"),
    })  # fmt: skip
    assert refused(source) == f"{source}/train-00001-of-00002.jsonl, line 4: `text` is empty."


def test_a_missing_shard_is_refused(folder):
    files = {f"train-0000{i}-of-00003.parquet": TRAIN for i in (0, 2)}
    source = folder(files | {"test.csv": TEST})
    said = f"{source}/train-00000-of-00003.parquet is one of 3 shards,"
    assert refused(source) == f"{said} of which are missing: 00001."
    folder({f"train-0000{i}-of-00003-0123456789abcdef.parquet": TRAIN for i in (1, 2)})
    assert f"{said} and 4 are there: take out those of another version." in refused(source)
    assert build(folder({"train.json": TRAIN}), train="train.json", test="test")


def test_two_files_for_one_split_are_refused_unless_one_is_named(folder):
    source = folder({"train.json": TRAIN, "train.parquet": TRAIN, "test.csv": TEST, "dev.csv": DEV, "val.csv": DEV})
    assert refused(source) == (
        f'[data] source = "{source}": train.json and train.parquet could be train; name one: train = "train.json".'
    )
    assert 'dev.csv and val.csv could be dev; name one: dev = "dev.csv"' in refused(source, train="train.json")
    assert len(build(source, train="train.json", dev="val").examples) == 30
    assert 'train.json and train.parquet could be dev; name one: dev = "train.json"' in refused(source, dev="train")
    source = folder({"train.json": TRAIN, "data/train.json": TRAIN, "test.csv": TEST}, "b")
    assert 'train.json and data/train.json could be train; name one: train = "train.json"' in refused(source)
    assert build(source, train="data/train.json") == build(source, train="train.json")


def test_files_are_named_by_path_name_or_what_they_are_called(folder):
    source = folder({"all.csv": TRAIN, "data/unseen.json": TEST, "sub/more.csv": DEV})
    for test in ("unseen", "unseen.json", "data/unseen.json"):
        built = build(source, train="all.csv", test=test, dev="sub/more.csv")
        assert [text_of(example) for example in of(built, "test")] == [row["text"] for row in TEST]
        assert [example.id[:-7] for example in built.examples[::10]] == ["train", "train", "validation"]
    assert refused(source, train="all", test="unsen") == (
        f'[data] test = "unsen": {source} has no such file or split; did you mean "unseen"? It has all.csv,'
        " data/unseen.json."
    )
    folder({"notes.txt": "x"})
    assert '[data] train = "notes.txt": tables are .csv' in refused(source, train="notes.txt")
    assert "[data] train" in refused(source, train="a\0b")


def test_a_split_is_freed_for_another(folder):
    source = folder({"train.csv": TRAIN, "validation.csv": DEV, "test.csv": TEST})
    built = build(source, test="validation")
    assert Counter(example.split for example in built.examples) == {"train": 17, "validation": 3, "test": 4}
    folder({"dev.csv": TEST})
    built = build(source, test="validation")
    assert [example.id for example in of(built, "validation")] == [f"dev-{i:06d}" for i in range(1, 7)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"train": "train", "dev": "train.csv"}, "train and dev would both be train.csv"),
        ({"test": "train.csv"}, "train and test would both be train.csv"),
        ({"dev": "test"}, "test and dev would both be test.csv"),
        ({"dev": "val", "test": "val.csv"}, "test and dev would both be val.csv"),
        ({"train": "link"}, "train and test would both be link.csv"),
    ],
)
def test_a_file_that_would_serve_two_splits_is_refused(folder, arguments, said):
    source = folder({"train.csv": TRAIN, "val.csv": DEV, "test.csv": TEST})
    Path(source, "link.csv").symlink_to(Path(source, "test.csv"))
    with pytest.raises(UserError, match=f"{said} of .*: name another for one of them. It has link.csv, test.csv"):
        build(source, **arguments)


def test_what_is_missing_is_said_with_what_is_there(folder):
    source = folder({"a.csv": TRAIN, "validation.csv": DEV, "b.txt": "x"})
    assert refused(source) == (
        f'[data] source = "{source}" has nothing called train (train.csv, train.parquet …). It has a.csv,'
        ' validation.csv. Name one: train = "a.csv".'
    )
    said = refused(source, train="a.csv")
    assert 'has nothing called test (test.csv, test.parquet …). It has a.csv, validation.csv.' in said  # fmt: skip
    assert said.endswith('Name one: test = "validation.csv".')
    assert len(of(build(source, train="a.csv", test="validation.csv"), "test")) == 4
    empty = folder({"plain_text/train.csv": TRAIN, "README.md": "x"}, "empty")
    assert 'It has README.md, plain_text/. Name one: train = "…".' in refused(empty)


def test_a_source_that_is_no_folder_is_refused(folder):
    source = folder({"train.csv": TRAIN})
    above = Path(source).parent.as_posix()
    assert f'"{source}/train.csv" is a file: name its folder, "{source}"' in refused(f"{source}/train.csv")
    assert f'there is no such folder; did you mean "{source}"?' in refused(f"{above}/data-sets")
    for nothing in ("", "sst2", "a/b/c", "x" * 5000):
        with pytest.raises(UserError, match="source"):
            build(nothing)


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    # A path into the project's own folders, none of which is there yet.
    assert "there is no such folder; name one, or organisation/name." in refused("data/r8")
    (tmp_path / "data" / "sst2").mkdir(parents=True)
    assert 'there is no such folder; did you mean "data/sst2"?' in refused("data/sst")
    assert "there is no such folder; name one, or organisation/name." in refused("data/else")
    assert hub.asked == []


# --- draws ---


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3, 0.49])
@pytest.mark.parametrize("sizes", [{"a": 500, "b": 500}, {"a": 613, "b": 201, "c": 77}, dict.fromkeys(R8, 41)])
def test_a_share_of_every_class_is_cut_off_to_validate_on(folder, sizes, share):
    rows = rows_of(sizes)
    built = build(folder({"train.csv": rows, "test.csv": rows[:1]}), dev_share=share)
    kept, validation = of(built, "train"), of(built, "validation")
    assert len(validation) == round(share * len(rows))
    for label, times in Counter(example.answer for example in validation).items():
        assert abs(times - share * sizes[label]) < 1
    # Nothing is lost or doubled, ids stay, and both keep the order of the file.
    assert sorted(example.id for example in kept + validation) == [f"train-{i:06d}" for i in range(1, len(rows) + 1)]
    assert sorted(text_of(e) for e in kept + validation) == sorted(row["text"] for row in rows)
    for part in (kept, validation):
        assert [example.id for example in part] == sorted(example.id for example in part)


def test_the_assignment_seed_draws_what_is_cut_off_and_the_data_seed_what_is_used(folder):
    source = folder({"train.csv": rows_of({"a": 60, "b": 40}), "test.csv": lines("x,a")})

    def drawn(data_seed, assignment_seed, **arguments):
        built = build(source, data_seed, assignment_seed, **arguments)
        validation = {example.id for example in of(built, "validation")}
        return validation, validation | {example.id for example in of(built, "train")}

    assert drawn(0, 1) == drawn(0, 1) == drawn(5, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1, count=50) == drawn(0, 1, count=50)
    assert drawn(0, 1, count=50)[1] == drawn(0, 2, count=50)[1]
    assert drawn(0, 1, count=50)[1] != drawn(1, 1, count=50)[1]


def test_every_row_of_a_class_is_as_likely_to_be_cut_off(folder):
    source = folder({"train.csv": rows_of({"a": 10, "b": 10}), "test.csv": lines("x,a")})
    times = Counter(e.id for seed in range(600) for e in of(build(source, 0, seed, dev_share=0.1), "validation"))
    assert len(times) == 20
    # 60 expected, standard deviation 7.3.
    assert all(30 <= n <= 90 for n in times.values())


def test_a_named_dev_leaves_train_whole(folder):
    built = build(folder({"train.csv": TRAIN, "dev.csv": DEV, "test.csv": TEST}), dev_share=0.3)
    assert (len(of(built, "train")), len(of(built, "validation"))) == (20, 4)


def test_small_classes_are_in_both_and_a_single_row_is_trained(folder):
    rows = rows_of({"large": 40, "two": 2, "one": 1, "single": 1})
    built = build(folder({"train.csv": rows, "test.csv": rows[:1]}))
    assert built.labels == ("large", "one", "single", "two")
    assert Counter(example.answer for example in of(built, "validation")) == {"large": 6, "two": 1}
    assert Counter(example.answer for example in of(built, "train")) == {"large": 34, "two": 1, "one": 1, "single": 1}
    # A share of less than a row each is still a row each.
    few = rows_of(dict.fromkeys("abcdef", 2))
    built = build(folder({"train.csv": few, "test.csv": few[:1]}, "few"), dev_share=0.01)
    assert Counter(example.answer for example in of(built, "validation")) == dict.fromkeys("abcdef", 1)


def test_rows_of_one_a_class_cannot_be_cut(folder):
    source = folder({"train.csv": lines("a,x", "b,y"), "test.csv": lines("c,x")})
    assert "no row of train can be cut off to validate on, as every class has one only" in refused(source)
    assert len(build(folder({"dev.csv": lines("d,y")})).examples) == 4
    source = folder({"train.csv": TRAIN, "test.csv": TEST}, "b")
    assert "no row of train can be cut off" in refused(source, count=2)


def test_count_draws_by_class_before_anything_is_cut_off(folder):
    sizes = {"a": 70, "b": 27, "c": 3}
    source = folder({"train.csv": rows_of(sizes), "test.csv": lines("x,a")})
    with_dev = folder({"train.csv": rows_of(sizes), "test.csv": lines("x,a"), "dev.csv": lines("y,a")}, "dev")
    for count in (3, 10, 33, 99):
        built = build(with_dev if count == 3 else source, count=count, dev_share=0.2)
        used = Counter(example.answer for example in built.examples if example.id.startswith("train-"))
        assert used.total() == count
        assert all(used[label] >= 1 for label in sizes)
        assert count == 3 or all(abs(used[label] - max(1, count * size / 100)) <= 1 for label, size in sizes.items())
    for count in (100, 5000):
        assert build(source, count=count) == build(source)
    assert refused(source, count=2) == "[data] count = 2: train has 3 classes, and a row of each is needed."


def test_an_allotment_is_by_largest_remainder_within_its_bounds():
    def allot(total, sizes, least=0, spare=0):
        return stratified.allot(total, {k: (least, n - spare) for k, n in sizes.items()}, Counter(sizes))

    # Quotas of 4.2, 3.6 and 2.2: the second has the largest remainder.
    assert allot(10, {"a": 42, "b": 36, "c": 22}) == {"a": 4, "b": 4, "c": 2}
    assert allot(3, {"a": 98, "b": 1, "c": 1}, least=1) == {"a": 1, "b": 1, "c": 1}
    assert allot(6, {"a": 98, "b": 1, "c": 1}, least=1) == {"a": 4, "b": 1, "c": 1}
    assert allot(0, {"a": 9, "b": 1}) == {"a": 0, "b": 0}
    assert allot(99, {"a": 2, "b": 3}, spare=1) == {"a": 1, "b": 2}
    assert allot(0, {"a": 2, "b": 3}, least=1) == {"a": 1, "b": 1}


# --- notes ---


def test_uneven_classes_are_said(folder):
    def notes(sizes, **arguments):
        files = {"train.csv": rows_of(sizes), "test.csv": lines(f"x,{min(sizes)}"), "dev.csv": lines(f"y,{max(sizes)}")}
        return build(folder(files, "".join(sizes)), **arguments).notes

    assert notes({"earn": 2414, "acq": 1357, "grain": 35, "ship": 854}) == (
        'classes are uneven: earn 2,414, … grain 35 (69 times as many); always answering "earn" would be right in'
        " 51.8 % of train: macro F1 weighs all classes alike",
    )
    (note,) = notes({"a": 7, "b": 2})
    assert note.startswith("classes are uneven: a 7, b 2 (3.5 times as many); always")
    assert notes({"a": 29, "b": 10}) == ()
    assert len(notes({"a": 30, "b": 10})) == 1
    (note,) = notes({"1": 9, "0": 1}, label_names=["No", "Yes"])
    assert note.startswith('classes are uneven: Yes 9, No 1 (9.0 times as many); always answering "Yes" would be right')


def test_texts_that_are_trained_too_are_said(folder):
    rows = rows_of({"a": 50, "b": 50})
    test = [{"text": f" {rows[0]['text']} ", "label": "a"}, {"text": rows[1]["text"].upper(), "label": "b"}]
    built = build(folder({"train.json": rows, "dev.json": rows[2:5], "test.json": test}))
    assert built.notes == (
        "3 of 3 dev texts (100.0 %) are in train too, word for word: accuracy on them may be memory",
        "1 of 2 test texts (50.0 %) are in train too, word for word: accuracy on them may be memory",
    )
    # What is cut off is no longer in train.
    assert build(folder({"train.json": rows, "test.json": rows_of({"a": 2}, 500)}, "b")).notes == ()


def test_texts_with_two_labels_are_said(folder):
    rows = rows_of({"a": 5, "b": 5})
    files = {"dev.csv": lines("x,a"), "test.csv": lines("y,b")}
    one = folder(files | {"train.csv": [*rows, {"text": "z", "label": "a"}, {"text": "z", "label": "b"}] * 2}, "one")
    said = "stand in train with different labels: no model can be right on all of them"
    assert build(one).notes == (f"1 text {said.replace('stand', 'stands', 1)}",)
    flipped = [row | {"label": {"a": "b", "b": "a"}[row["label"]]} for row in rows]
    assert build(folder(files | {"train.csv": rows + flipped}, "all")).notes == (f"10 texts {said}",)


# --- the hub ---


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the hub: the splits of one data set, the names of its labels, and what it raises."""
    import datasets

    class Hub:
        splits: dict[str, list[dict[str, Any]]] = {}
        names: list[str] | None = None
        raises: Exception | None = None
        asked: list[str] = []

    def get_dataset_split_names(name):
        Hub.asked.append(name)
        if Hub.raises:
            raise Hub.raises
        return list(Hub.splits)

    def load_dataset(name, split, streaming):
        assert streaming
        Hub.asked.append(f"{name}:{split}")
        return datasets.IterableDataset.from_generator(lambda: iter(Hub.splits[split]))

    def load_dataset_builder(name):
        label = datasets.ClassLabel(names=Hub.names) if Hub.names else datasets.Value("int64")
        features = datasets.Features({"sentence": datasets.Value("string"), "label": label})
        return type("Builder", (), {"info": datasets.DatasetInfo(features=features)})

    for stand_in in (get_dataset_split_names, load_dataset, load_dataset_builder):
        monkeypatch.setattr(datasets, stand_in.__name__, stand_in)
    return Hub


SST2 = {
    "train": [{"idx": i, "sentence": f"text {i}", "label": i % 2} for i in range(20)],
    "validation": [{"idx": i, "sentence": f"dev {i}", "label": i % 2} for i in range(4)],
    "test": [{"idx": i, "sentence": f"test {i}", "label": -1} for i in range(6)],
}


def test_a_hub_data_set_is_read_by_its_splits_with_its_own_names(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.splits, hub.names = SST2, ["negative", "positive"]
    assert refused("organisation/sst2").startswith(
        'test: 6 rows have the label "-1", the first in organisation/sst2:test, record 1, which no row of train has'
    )
    built = build("organisation/sst2", test="validation")
    assert built.labels == ("negative", "positive")
    assert [example.id for example in of(built, "test")] == [f"validation-{i:06d}" for i in range(1, 5)]
    assert built.examples[0].answer in built.examples[0].prompt
    assert hub.asked[-3:] == ["organisation/sst2", "organisation/sst2:train", "organisation/sst2:validation"]
    assert build("organisation/sst2", test="validation", label_names=["No", "Yes"]).labels == ("No", "Yes")
    hub.names = None
    assert build("organisation/sst2", test="validation").labels == ("0", "1")
    # A name that no row of train uses is no class.
    hub.names = ["negative", "positive", "neutral"]
    assert build("organisation/sst2", test="validation").labels == ("negative", "positive")


def test_splits_of_the_hub_that_do_not_fit_are_refused_as_files_are(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.splits = {"train": SST2["train"], "unsupervised": SST2["test"]}
    assert refused("organisation/name") == (
        '[data] source = "organisation/name" has nothing called test (test.csv, test.parquet …). It has train,'
        ' unsupervised. Name one: test = "unsupervised".'
    )
    assert 'did you mean "unsupervised"?' in refused("organisation/name", test="unsupervise")
    assert "train and test would both be train" in refused("organisation/name", test="train")
    assert 'write "organisation/name", and name splits by train, dev and test' in refused("organisation/name:test")


def test_what_the_hub_says_becomes_a_message(hub, tmp_path, monkeypatch):
    from datasets.exceptions import DatasetNotFoundError

    monkeypatch.chdir(tmp_path)
    for raised, kind, said in (
        (DatasetNotFoundError("no"), UserError, "no folder, and no data set that the hub shows you"),
        (ValueError("Config name is missing.\nPick one"), UserError, '"organisation/name": Config name is missing.$'),
        (ConnectionError("Couldn't reach it"), MachineError, "could not be read .*and name its folder"),
    ):
        hub.raises = raised
        with pytest.raises(kind, match=said):
            build("organisation/name")
