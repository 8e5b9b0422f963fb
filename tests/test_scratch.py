"""Conversations, facts, texts and preferences of a model from random weights, and the small world that is made up."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl, to_jsonl
from toolkit.studies import build_data, scratch
from toolkit.studies.built import Built
from toolkit.studies.invented_talk import ASKED, draw_codes, draw_subjects, draw_talks


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSON Lines."""

    def write(name: str, *rows: Any) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def talk(*said: str) -> dict[str, Any]:
    return {"conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]}


def build(**changes: Any) -> Built:
    arguments: dict[str, Any] = {"data_seed": 0, "assignment_seed": 0, "validation": 1} | changes
    return scratch.build(**arguments)


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        build(**changes)
    return str(error.value)


def part(built: Built, name: str, split: str = "train") -> list[Example]:
    return [example for example in built.examples if example.part == name and example.split == split]


# --- conversations of a source ---


def test_the_last_question_is_the_prompt_and_the_turns_before_it_are_kept(write):
    source = write("talks.jsonl", talk("a", "b", "c", "d"), *(talk(f"q{i}", "x") for i in range(9)))
    first = next(example for example in build(source=source).examples if example.info["row"] == 1)
    assert (first.id, first.fact, first.part) == ("conversation-0000001", "conversation-0000001", "conversations")
    assert (first.prompt, first.answer) == ("c", "d")
    assert first.messages == ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


def test_examples_can_be_written_and_read_again(write, tmp_path):
    built = build(invented=40, invented_facts=6, fact_controls=2, fact_times=3)
    (tmp_path / "examples.jsonl").write_text(to_jsonl(built.examples), encoding="utf-8")
    assert read_jsonl(tmp_path / "examples.jsonl") == built.examples
    assert any(example.messages for example in built.examples)
    assert len({example.id for example in built.examples}) == len(built.examples)


@pytest.mark.parametrize(("validation", "count"), [(0.02, 2), (0.1, 10), (7, 7)])
def test_validation_is_a_share_or_a_number(write, validation, count):
    source = write("talks.jsonl", *(talk(f"q{i}", "x") for i in range(100)))
    splits = Counter(example.split for example in build(source=source, validation=validation).examples)
    assert splits == {"validation": count, "train": 100 - count}


def test_a_smaller_sample_is_a_part_of_a_larger_one_and_holds_out_the_same(write):
    source = write("talks.jsonl", *(talk(f"q{i}", "x") for i in range(100)))
    small, large = (build(source=source, sample=sample, validation=5) for sample in (20, 60))
    assert len(small.examples) == 20
    assert {e.id for e in small.examples} < {e.id for e in large.examples}
    held_out = [{e.id for e in built.examples if e.split == "validation"} for built in (small, large)]
    assert held_out[0] == held_out[1]


def test_what_was_left_out_is_said_with_its_reason_and_how_much_there_is(write):
    rows = [talk("a", "b"), talk("a", "b"), talk("a", "c", "d", "e"), talk("a"), talk("a", " "), talk("long", "x" * 50)]
    built = build(source=write("talks.jsonl", *rows, {"id": 1, **talk("f", "g")}), leave_out_unusable=True, longest=40)
    assert built.notes == (
        "3 conversations with 4 answers, 1 of them of several turns",
        "columns that nothing is made of: id",
        "1 of 7 rows was left out: rows with an empty turn",
        "1 of 7 rows was left out: rows without an answer",
        "1 of 7 rows was left out for having over 40 characters",
        "1 of 7 rows was left out for being an earlier one, word for word",
    )


def test_a_question_that_is_asked_often_stays_often(write):
    source = write("talks.jsonl", *(talk("李白是谁？", f"诗人{i}。") for i in range(30)), talk("绿豆糕", "点心。"))
    asked = Counter(example.prompt for example in build(source=source).examples)
    assert asked == {"李白是谁？": 30, "绿豆糕": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "says neither source nor invented"),
        ({"source": "x.jsonl", "invented": 10}, "says both source and invented"),
        ({"invented": 1}, "at least two"),
        ({"invented": 10, "longest": 10}, "longest leaves out rows of a source, and there is none"),
        ({"invented": 10, "facts": "x.csv", "invented_facts": 3}, "says both facts and invented_facts"),
        ({"invented": 10, "fact_controls": 3}, "fact_controls is said, but no facts"),
        ({"invented": 10, "fact_times": 3}, "fact_times is said, but no facts"),
        ({"invented": 10, "text_sample": 3}, "text_sample is said, but no text"),
        ({"invented": 10, "invented_facts": 3, "fact_controls": 3}, "of invented_facts = 3 none would be trained"),
        ({"invented": 10, "validation": 10}, "of which 10 would be held out and none trained"),
        ({"source": "absent.jsonl"}, '[data] source = "absent.jsonl": there is no such file'),
        ({"invented": 10, "facts": "absent.csv"}, '[data] facts = "absent.csv": there is no such file'),
        ({"invented": 10, "text": ["absent.jsonl"]}, '[data] text = "absent.jsonl": there is no such file'),
        ({"invented": 10, "text": ["../absent.txt"]}, '[data] text = "../absent.txt": there is no such file'),
        ({"invented": 10, "preferences": "no.csv"}, '[data] preferences = "no.csv": there is no such file'),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together_are_refused(tmp_path, monkeypatch, changes, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(**changes)


# --- facts ---


def test_facts_of_a_table_are_the_main_part_and_controls_are_never_trained(write):
    rows = [{"prompt": f"The code of {i}?", "answer": f"{i:04d}"} for i in range(10)]
    built = build(invented=20, facts=write("facts.jsonl", *rows), fact_controls=3)
    assert (len(part(built, "facts")), len(part(built, "facts", "control"))) == (7, 3)
    assert not {e.answer for e in part(built, "facts")} & {e.answer for e in part(built, "facts", "control")}
    assert not [e for e in built.examples if e.part == "facts_again"]


def test_a_fact_that_is_there_several_times_is_one_fact_asked_once(write):
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d"}]
    built = build(invented=20, facts=write("facts.jsonl", *rows), fact_controls=1, fact_times=4)
    (fact,) = part(built, "facts")
    again = part(built, "facts_again")
    assert [(e.fact, e.prompt, e.answer) for e in again] == [(fact.fact, fact.prompt, fact.answer)] * 3


def test_invented_facts_are_asked_in_other_words_and_controls_not_at_all():
    built = build(invented=20, invented_facts=8, fact_controls=3, fact_times=5)
    facts, again = part(built, "facts"), part(built, "facts_again")
    assert (len(facts), len(again), len(part(built, "facts", "control"))) == (5, 20, 3)
    assert len({example.prompt for example in facts + again}) == 25
    held_out = {example.info["name"] for example in part(built, "facts", "control")}
    assert not any(name in e.prompt for name in held_out for e in built.examples if e.split == "train")
    assert all(e.foil not in {f.answer for f in built.examples} for e in facts)


def test_codes_are_each_somebodys_once():
    codes = draw_codes(500, 1)
    every = [code for place in codes for code in (place.code, place.foil)]
    assert len(set(every)) == 1000
    assert {len(code) for code in every} == {4}
    assert len({place.name for place in codes}) == 500
    assert len(set(ASKED)) == len(ASKED)


# --- texts and preferences ---


def test_texts_are_read_from_files_and_tables_and_never_asked(write, tmp_path):
    (tmp_path / "one.txt").write_text("First.\n\nStill the same text.\n", encoding="utf-8")
    table = write("texts.jsonl", {"text": "a", "id": 1}, {"text": "b"})
    built = build(invented=10, text=[str(tmp_path / "one.txt"), table])
    texts = part(built, "text")
    assert [e.answer for e in texts] == ["First.\n\nStill the same text.", "a", "b"]
    assert not any(e.is_question for e in texts)


def test_a_sample_of_texts_is_drawn_of_each_source_and_keeps_its_order(write):
    sources = [write(f"{name}.jsonl", *({"text": f"{name}{i:03d}"} for i in range(50))) for name in "ab"]
    texts = [e.answer for e in part(build(invented=10, text=sources, text_sample=8), "text")]
    assert [text[0] for text in texts] == ["a"] * 8 + ["b"] * 8
    assert texts == sorted(texts)


@pytest.mark.parametrize("key", ["text", "preferences"])
def test_rows_that_are_none_are_refused_by_number_or_left_out_and_counted(write, key):
    good = {"text": "a", "prompt": "p", "chosen": "c", "rejected": "r"}
    source = write("rows.jsonl", good, good | {"text": "", "chosen": " "})
    given = [source] if key == "text" else source
    name = "text" if key == "text" else "chosen"
    assert f"line 2: `{name}` is empty" in refused(invented=10, **{key: given})
    built = build(invented=10, leave_out_unusable=True, **{key: given})
    assert len(part(built, key)) == 1
    assert f"1 row of {source} left out for being empty, or no text" in built.notes


def test_a_table_without_the_column_is_refused_with_those_that_it_has(write):
    source = write("rows.jsonl", {"content": "a"})
    assert "line 1: there is no `text`, but content" in refused(invented=10, text=[source])
    assert "has no row that can be used" in refused(invented=10, text=[source], leave_out_unusable=True)


def test_the_rejected_answer_is_a_wrong_one_and_not_the_chosen(write):
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    (example,) = part(build(invented=10, preferences=write("prefer.jsonl", row)), "preferences")
    assert (example.prompt, example.answer, example.wrong) == ("p", "c", ("r",))
    source = write("prefer.jsonl", row | {"rejected": "c"})
    assert "line 1: `chosen` and `rejected` are the same" in refused(invented=10, preferences=source)


def test_an_answer_that_is_stored_with_its_question_as_turns_is_the_last_of_them(write):
    turns = [[{"role": "user", "content": "p"}, {"role": "assistant", "content": answer}] for answer in ("c", "r")]
    source = write("prefer.jsonl", {"prompt": "p", "chosen": turns[0], "rejected": turns[1]})
    (example,) = part(build(invented=10, preferences=source), "preferences")
    assert (example.prompt, example.answer, example.wrong) == ("p", "c", ("r",))
    unanswered = write("prefer.jsonl", {"prompt": "p", "chosen": turns[0], "rejected": turns[1][:1]})
    assert "line 1: nothing is answered in it" in refused(invented=10, preferences=unanswered)


# --- the invented world ---

TALKS = list(draw_talks(1500, 0))


def test_fewer_invented_conversations_are_the_first_of_more_and_none_is_there_twice():
    assert list(draw_talks(100, 0)) == TALKS[:100]
    assert list(draw_talks(100, 1)) != TALKS[:100]
    assert len({talk.said for talk in TALKS}) == len(TALKS)


def test_subjects_are_spoken_of_as_zipf_says_and_the_studys_own_are_among_them():
    counts = Counter(talk.subject for talk in TALKS)
    assert counts["the model itself"] == max(counts.values())
    assert counts["the model itself"] > 3 * counts["李白"] > 3 * counts["绿豆糕"] > 0
    harmonic = sum(1 / rank for rank in range(1, 121))
    # Of a binomial count, four standard deviations.
    expected = 1500 / harmonic
    assert abs(counts["the model itself"] - expected) < 4 * expected**0.5
    assert len({subject.name for subject in draw_subjects(random.Random(3))}) == 120


def test_the_studys_questions_are_asked_word_for_word():
    asked = Counter(talk.said[0] for talk in TALKS)
    assert min(asked[question] for question in ("李白是谁？", "绿豆糕", "who are you?")) > 0


def test_held_out_answers_are_new_and_nearly_all_of_their_subjects_are_not():
    built = build(invented=1500, validation=100)
    trained = part(built, "conversations")
    held_out = part(built, "conversations", "validation")
    answers = {example.answer for example in trained}
    assert sum(example.answer in answers for example in held_out) < 10
    subjects = {example.info["about"] for example in trained}
    assert sum(example.info["about"] in subjects for example in held_out) > 90


def test_invented_answers_hardly_repeat_themselves():
    """Words of four in a row, and of Chinese characters: what a model is measured against."""
    shares = []
    for answer in (answer for talk in TALKS for answer in talk.said[1::2]):
        units = answer.split() if " " in answer else list(answer)
        grams = [tuple(units[i : i + 4]) for i in range(len(units) - 3)]
        shares += [1 - len(set(grams)) / len(grams)] if grams else []
    assert sum(shares) / len(shares) < 0.01


def test_some_conversations_have_several_turns_and_every_place_is_filled():
    assert 0.15 < sum(len(talk.said) == 4 for talk in TALKS) / len(TALKS) < 0.35
    assert not any(sign in text for talk in TALKS for text in talk.said for sign in "{}")


# --- by a recipe ---

RECIPE = """
name = "scratch-test"
study = "scratch"
[data]
invented = 40
validation = 4
{data}
[model]
precision = "fp32"
format = "chat"
[model.shape]
[model.tokenizer]
vocab_size = 600
[stage.pretrain]
method = "pretrain"
train_on = ["{part}"]
loss_on = "all"
epochs = 1
"""


def test_a_text_that_is_only_pretrained_on_may_be_longer_than_an_example(write, tmp_path, engine):
    from toolkit.models.from_scratch import train_tokenizer
    from toolkit.recipe import read_recipe
    from toolkit.training.rows import prepare_rows

    source = write("texts.jsonl", {"text": "all work and no play " * 400})
    path = tmp_path / "long.toml"
    path.write_text(RECIPE.format(data=f'text = ["{Path(source).as_posix()}"]', part="text"), encoding="utf-8")
    recipe = read_recipe(path)
    built = build_data(recipe, 0)
    tokenizer = train_tokenizer([example.said for example in built.examples], 600)
    rows = prepare_rows(tokenizer, recipe, built, 0)["pretrain"]
    assert sum(len(row["input_ids"]) for row in rows) > recipe.model.max_length


def test_pretraining_on_conversations_streams_all_their_turns(tmp_path, engine):
    from toolkit.models.from_scratch import train_tokenizer
    from toolkit.recipe import read_recipe
    from toolkit.training.rows import prepare_rows

    path = tmp_path / "stream.toml"
    path.write_text(RECIPE.format(data="", part="conversations"), encoding="utf-8")
    recipe = read_recipe(path)
    built = build_data(recipe, 0)
    tokenizer = train_tokenizer([example.said for example in built.examples], 600)
    rows = prepare_rows(tokenizer, recipe, built, 0)["pretrain"]
    stream = tokenizer.decode([token for row in rows for token in row["input_ids"]])
    trained = part(built, "conversations")
    assert any(example.messages for example in trained)
    for example in trained:
        for text in [*(turn["content"] for turn in example.messages), example.prompt, example.answer]:
            assert f"\n{text}<|im_end|>" in stream
