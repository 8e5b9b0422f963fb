"""Questions of several parts, and texts: what is read, trained, exposed and reported of each."""

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import run
from toolkit.example import Example, main_part
from toolkit.recipe import Recipe
from toolkit.run_folder import Run
from toolkit.studies import STUDIES, names, news
from toolkit.studies.built import Built

LN2 = math.log(2)


# --- summaries ---


def row(
    part: str, bits: float, exact: bool, split: str = "train", variant: str = "plain", **more: Any
) -> dict[str, Any]:
    """A row of a reading: an answer of one token."""
    return {
        "split": split, "part": part, "variant": variant, "prior": None, "bits": [bits], "bits_total": bits,
        "correct": [exact], "exact": exact, "digits_teacher_forced": float(exact), "eos_bits": 0.0, "stopped": True,
        "prompt_bits_total": 1.0, "line_tokens": 2, "output": None, "foil_bits_total": None, "gold": "1",
        "em": None, "f1": None,
    } | more  # fmt: skip


def test_the_main_part_is_called_facts_or_is_the_first() -> None:
    assert main_part(["old", "facts", "new"]) == "facts"
    assert main_part(["practice", "chunks"]) == "practice"


def test_parts_are_reported_apart_and_only_the_main_one_without_an_ending(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    rows = [
        row("old", 1.0, exact=True), row("old", 3.0, exact=False),
        row("facts", 2.0, exact=True, foil_bits_total=9.0),
        row("new", 8.0, exact=False, foil_bits_total=1.0),
        row("practice", 5.0, exact=True),
        row("facts", 7.0, exact=False, split="control"),
        row("facts", 4.0, exact=True, split="test", variant="paraphrase-1"),
        # Asked of a part that is not the main one: it is in no summary.
        row("old", 90.0, exact=False, split="test", variant="paraphrase-1"),
        row("old", 90.0, exact=False, split="test", variant="reversed"),
    ]  # fmt: skip
    summary = summarise(rows, 10.0, whole_line=False)
    expected = {
        "recall/read": 1, "recall/exact": 1.0, "recall/bits": 2.0, "loss/digit_nats": 2 * LN2,
        "recall/bits_memorised": 8.0, "recall/membership_auc": 1.0, "recall/bits_foil": 9.0,
        "recall/read_control": 1, "recall/exact_control": 0.0, "recall/bits_control": 7.0,
        "recall/read_old": 2, "recall/exact_old": 0.5, "recall/bits_old": 2.0, "loss/digit_nats_old": 2 * LN2,
        "recall/read_new": 1, "recall/exact_new": 0.0, "recall/bits_new": 8.0,
        "recall/read_practice": 1, "recall/exact_practice": 1.0,
        "recall/read_paraphrase": 1, "recall/exact_paraphrase": 1.0, "recall/bits_paraphrase": 4.0,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == pytest.approx(expected)
    assert not [key for key in summary if key.endswith("_facts")]
    assert "recall/exact_reversed" not in summary


def test_recall_by_class_is_of_the_main_part_where_it_has_several(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    rows = [
        row("facts", 1.0, exact=True, prior="unknown"), row("facts", 3.0, exact=False, prior="unknown"),
        row("facts", 5.0, exact=False, prior="believes_otherwise"),
        row("old", 9.0, exact=True, prior="highly_known"),
        row("facts", 9.0, exact=True, prior="weakly_known", split="control"),
    ]  # fmt: skip
    summary = summarise(rows, None, whole_line=False)
    found = {key: value for key, value in summary.items() if "_prior_" in key and key.startswith("recall/")}
    assert found == {
        "recall/read_prior_unknown": 2, "recall/exact_prior_unknown": 0.5, "recall/bits_prior_unknown": 2.0,
        "recall/read_prior_believes_otherwise": 1, "recall/exact_prior_believes_otherwise": 0.0,
        "recall/bits_prior_believes_otherwise": 5.0,
    }  # fmt: skip
    same = [entry | {"prior": "unknown"} for entry in rows]
    assert not [key for key in summarise(same, None, whole_line=False) if "_prior_" in key]


def test_where_all_trained_questions_are_of_another_part_that_is_the_main_one(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    rows = [row("old", 2.0, exact=True), row("new", 8.0, exact=False), row("facts", 7.0, exact=False, split="control")]
    summary = summarise(rows, None, whole_line=False)
    assert (summary["recall/exact"], summary["recall/exact_control"], summary["recall/exact_new"]) == (1.0, 0.0, 0.0)


# --- texts ---


@pytest.fixture(scope="module")
def tokenizer(project: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(project / "checkpoints/tiny-base/seed-0/model")


TEXT = Example("chunk", "chunk", "", "第4812个号码是：720955", "train", part="chunks", facts=("a", "b"))
QUESTION = Example("a", "a", "第1个号码是：", "07", "train")


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_text_is_trained_whole_and_never_in_a_chat_template(tokenizer: Any, form: Any) -> None:
    from toolkit.rendering import end_token, fact_numbers, tokenise, training_rows

    other = Example("b", "b", "第2个号码是：", "08", "train")
    numbers = fact_numbers([TEXT, QUESTION, other])
    assert numbers == {"a": 0, "b": 1}
    text, question = training_rows(tokenizer, [TEXT, QUESTION], form, numbers, loss_on="answer", train_eos=True)
    assert text["input_ids"] == text["labels"] == [*tokenise(tokenizer, TEXT.answer), end_token(tokenizer)]
    # Each fact that it states is exposed once.
    assert text["facts"] == [0, 1]
    assert question["facts"] == [0]
    assert (len(question["input_ids"]) > len(tokenise(tokenizer, QUESTION.prompt + "07")) + 1) == (form == "chat")
    assert -100 in question["labels"]


def test_a_text_is_never_asked(engine: ModuleType) -> None:
    from toolkit.training.readings import read_examples

    held_out = Example("held-out", "held-out", "", "text", "control", part="chunks")
    built = Built([TEXT, QUESTION, held_out, Example("c", "c", "?", "1", "control")])
    for everything in (True, False):
        assert [e.id for e in read_examples(built, None, 0, everything=everything)] == ["a", "c"]


def test_preferences_and_questions_need_a_question(tokenizer: Any) -> None:
    from toolkit.errors import UserError
    from toolkit.rendering import pair_rows, render

    with pytest.raises(UserError, match="chunk is a text without a question"):
        pair_rows(tokenizer, [TEXT], ["x"], "plain", {"a": 0, "b": 1}, 99)
    with pytest.raises(UserError, match="empty prompt"):
        render(tokenizer, TEXT, "plain")


# --- real runs ---

SMALL = """
name = "{name}"
study = "{study}"
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 512
{model}
[lora]
rank = 4
alpha = 8
[data]
{data}
{stages}
[recall]
batch_size = 64
"""
STAGE = """
[stage.{name}]
method = "{method}"
train_on = {parts}
epochs = {epochs}
batch_size = {batch}
grad_accum = 1
optimizer = "adamw"
"""


def stage(name: str, parts: list[str], *, method: str = "sft", epochs: int = 1, batch: int = 4) -> str:
    return STAGE.format(name=name, parts=json.dumps(parts), method=method, epochs=epochs, batch=batch)


def trained(name: str, study: str, data: str, *stages: str, model: str = "") -> Run:
    path = Path(f"{name}.toml")
    path.write_text(SMALL.format(name=name, study=study, data=data, stages="".join(stages), model=model), "utf-8")
    run(path.as_posix())
    return Run(Path(f"checkpoints/{name}/seed-0"))


def rows_of(done: Run) -> list[list[dict[str, Any]]]:
    from toolkit.probes.recall import read_reading

    return [read_reading(path) for path in done.readings()]


def by_id(rows: list[dict[str, Any]], *, variant: str = "plain") -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows if row["variant"] == variant}


def test_a_run_of_names_reports_its_parts_apart_and_counts_the_exposures_of_the_main_one(in_project: Path) -> None:
    data = "count = 6\ncontrols = 4\nchanged = 2\nadded = 2\nfillers = 2"
    stages = [stage("learn", ["facts", "old"], epochs=2), stage("change", ["new"]), stage("forget", ["filler"])]
    done = trained("parts-names", "names", data, *stages)
    assert done.info["data"]["trained"] == 4
    assert done.info["data"]["parts"] == {"facts": 4, "old": 2, "new": 2, "added": 2, "filler": 2}
    readings, summaries = rows_of(done), done.rows("recall")
    # Before, after two epochs, after the change and after the filler; only the first stage feeds the main part.
    assert [summary["exposures"] for summary in summaries] == [0, 1, 2, 2, 2]
    fed = {
        part: [by_id(rows)[example]["exposures"] for rows in readings]
        for part, example in first_of(readings[0]).items()
    }
    assert fed == {
        "facts": [0, 1, 2, 2, 2], "old": [0, 1, 2, 2, 2], "new": [0, 0, 0, 1, 1], "added": [0] * 5,
        "filler": [0, 0, 0, 0, 1],
    }  # fmt: skip
    for rows, summary in zip(readings, summaries, strict=True):
        for part, size in (("", 4), ("_old", 2), ("_new", 2), ("_added", 2), ("_filler", 2), ("_control", 4)):
            assert summary[f"recall/read{part}"] == size
        main = [row for row in rows if (row["split"], row["part"]) == ("train", "facts")]
        assert summary["recall/bits"] == pytest.approx(sum(row["bits_total"] for row in main) / 4)
        old = [row for row in rows if (row["split"], row["part"]) == ("train", "old")]
        assert summary["recall/bits_old"] == pytest.approx(sum(row["bits_total"] for row in old) / 2)
        assert summary["recall/bits_memorised"] == pytest.approx(
            done.info["data"]["entropy_bits"] - summary["recall/bits"]
        )
    # Other words are asked of old names too, and summarised of the main ones.
    asked = [row for row in readings[-1] if row["variant"].startswith("paraphrase")]
    assert len(asked) == 12
    assert summaries[-1]["recall/read_paraphrase"] == 8


def first_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    """An example of each part that is trained."""
    return {row["part"]: row["id"] for row in rows if row["split"] == "train"}


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_run_of_news_reads_texts_exposes_what_they_state_and_asks_none_of_them(in_project: Path, form: str) -> None:
    source = 'source = "recipes/tiny/news_articles.csv"\ncount = 2\ncontrols = 1\n'
    data = f"{source}chunk_words = 20\noverlap_words = 8\ncloze = 2\npractice = 2"
    stages = [stage("read", ["chunks"], epochs=2), stage("prefer", ["practice"], batch=2)]
    done = trained(f"parts-news-{form}", "news", data, *stages, model=f'format = "{form}"')
    examples = [json.loads(line) for line in (done.path / "examples.jsonl").read_text("utf-8").splitlines()]
    chunks = [example for example in examples if example.get("part") == "chunks"]
    assert chunks
    assert all(example["prompt"] == "" for example in chunks)
    readings, summaries = rows_of(done), done.rows("recall")
    asked = {row["id"] for rows in readings for row in rows}
    assert not asked & {example["id"] for example in chunks}
    # A question is exposed once by each chunk that states it, in each epoch; practice by its own stage besides.
    stating = {
        fact: sum(fact in example.get("facts", []) for example in chunks)
        for fact in {row["fact"] for row in readings[0] if row["split"] == "train"}
    }
    assert max(stating.values()) > 1
    after_reading, last = by_id(readings[2]), by_id(readings[-1])
    for fact, count in stating.items():
        practice = last[fact]["part"] == "practice"
        assert after_reading[fact]["exposures"] == 2 * count
        assert last[fact]["exposures"] == 2 * count + practice
    main = [fact for fact in stating if last[fact]["part"] == "facts"]
    mean = sum(stating[fact] for fact in main) / len(main)
    assert [summary["exposures"] for summary in summaries] == pytest.approx([0, mean, 2 * mean, 2 * mean])
    assert summaries[-1]["recall/read"] == len(main)
    assert summaries[-1]["recall/read_practice"] == len(stating) - len(main)


def test_a_sample_reads_the_main_part_and_both_numbers_of_a_name(engine: ModuleType) -> None:
    from toolkit.training.readings import read_examples

    built = names.build(0, 0, count=20, controls=5, changed=15, added=30)
    for seed in range(20):
        read = [example for example in read_examples(built, 4, seed, everything=False) if example.split == "train"]
        assert "facts" in {example.part for example in read}
        old, new = ({e.fact.removesuffix("-new") for e in read if e.part == part} for part in ("old", "new"))
        assert old == new


def test_eval_recall_asks_no_text_and_reports_parts_apart(in_project: Path) -> None:
    from toolkit.checkpoints import find_checkpoints
    from toolkit.eval_recall import examples_of, measure

    found = find_checkpoints(["checkpoints/parts-names/seed-0", "checkpoints/parts-news-plain/seed-0"])
    examples = [examples_of(checkpoint) for checkpoint in found]
    results = measure(found, examples, None, None, None, 64, [0], 0, 1.0, 0)
    sizes = [{label: split["facts"] for label, split in result["splits"].items()} for result in results]
    assert sizes[0] == {"train": 4, "old": 2, "new": 2, "control": 4, "added": 2, "filler": 2}
    assert sizes[1].keys() == {"train", "practice", "control"}
    # As at the run's end.
    end = Run(Path("checkpoints/parts-names/seed-0")).rows("recall")[-1]
    for label, suffix in (("train", ""), ("old", "_old"), ("new", "_new"), ("control", "_control")):
        assert results[0]["splits"][label]["bits"] == pytest.approx(end[f"recall/bits{suffix}"], rel=1e-3)
    assert results[0]["memory"]["recall/bits_memorised"] == pytest.approx(end["recall/bits_memorised"], rel=1e-3)


def test_studies_with_parts_are_those_of_facts() -> None:
    assert STUDIES["names"] is names.build
    assert STUDIES["news"] is news.build
    assert Recipe.model_fields["study"]
