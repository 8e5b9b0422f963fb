"""Instructions: the input is never dropped, nothing is trained that is held out, and what is left out is counted."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import tiny_abilities
from tests.conftest import ROOT
from toolkit.errors import UserError
from toolkit.example import read_jsonl, to_jsonl
from toolkit.recipe import read_recipe, read_recipes
from toolkit.recipe.complaints import tables
from toolkit.rendering import render
from toolkit.studies import build_data, chinese, data_model
from toolkit.studies.built import Built

TINY = ROOT / "recipes/tiny"
REVERSE = {"instruction": "把下面的词语倒过来写。", "input": "春天", "output": "天春"}
PLAIN = {"instruction": "你好吗？", "input": "", "output": "我很好。"}


@pytest.fixture
def table(tmp_path):
    """Writes rows as JSON Lines."""

    def table(*rows: Any) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return table


def numbered(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"写出{i}。", "input": "", "output": str(i)} for i in range(1, count + 1)]


def build(source: str, **changes: Any) -> Built:
    arguments: dict[str, Any] = {"data_seed": 0, "validation": 1} | changes
    return chinese.build(assignment_seed=0, source=source, **arguments)


def refused(source: str, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        build(source, **changes)
    return str(error.value)


def prompts(built: Built) -> list[str]:
    return [example.prompt for example in built.examples]


def held_out(built: Built) -> set[str]:
    return {example.id for example in built.examples if example.split == "validation"}


# --- what is asked ---


def test_the_input_stands_below_its_instruction(table):
    asked, plain = prompts(build(table(REVERSE, PLAIN)))
    assert asked == "### 指令：\n把下面的词语倒过来写。\n春天\n\n### 回答：\n"
    assert plain == "### 指令：\n你好吗？\n\n### 回答：\n"


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"instruction": "a", "output": "b"}, "a"),
        ({"instruction": "a", "input": None, "output": "b"}, "a"),
        ({"instruction": "a", "input": " \n", "output": "b"}, "a"),
        ({"instruction": " a\n", "input": "\nx\ny ", "output": "b"}, "a\nx\ny"),
        ({"instruction": "a", "input": 0, "output": "b"}, "a\n0"),
        ({"instruction": "{instruction}", "input": "{input}", "output": "b"}, "{instruction}\n{input}"),
    ],
)
def test_a_missing_input_adds_nothing_and_every_other_one_is_asked(table, row, asked):
    assert prompts(build(table(row, PLAIN), prompt="{instruction}"))[0] == asked


def test_every_output_is_the_answer_and_fact_and_id_go_by_the_row(table):
    first, second = build(table(REVERSE, PLAIN)).examples
    assert (first.answer, second.answer) == ("天春", "我很好。")
    assert [(e.id, e.fact, e.part, e.info) for e in (first, second)] == [
        (f"instruction-{row:06d}", f"instruction-{row:06d}", "facts", {"row": row}) for row in (1, 2)
    ]


def test_nothing_is_said_of_entropy(table):
    built = build(table(*numbered(5)))
    assert (built.entropy_bits, built.rule_only_bits, built.answer_digits, built.labels) == (None, None, None, None)


def test_the_same_rows_come_from_every_format(table, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [REVERSE, PLAIN, {"instruction": "加一", "input": "007", "output": "008"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(map(",".join, cells)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    wanted = [(e.prompt, e.answer) for e in build(table(*rows)).examples]
    for name in ("rows.json", "rows.csv", "rows.parquet"):
        assert [(e.prompt, e.answer) for e in build(str(tmp_path / name)).examples] == wanted, name


def test_a_chat_template_has_the_instruction_alone_in_the_users_turn(table, project):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(project / "checkpoints/tiny-base/seed-0/model")
    example = build(table(REVERSE, PLAIN), prompt="{instruction}").examples[0]
    rendered = render(tokenizer, example, "chat")
    said = tokenizer.decode(rendered.prompt_ids)
    assert "user\n把下面的词语倒过来写。\n春天<|im_end|>" in said
    assert "###" not in said
    # The end mark is trained, so that the model learns to stop.
    assert rendered.labels("answer", True)[-1] == tokenizer.eos_token_id


def test_examples_can_be_written_and_read_again(table, tmp_path):
    built = build(table(REVERSE, PLAIN, *numbered(20)))
    (tmp_path / "examples.jsonl").write_text(to_jsonl(built.examples), encoding="utf-8")
    assert read_jsonl(tmp_path / "examples.jsonl") == built.examples


# --- what is held out ---


@pytest.mark.parametrize(
    ("rows", "validation", "count"),
    [(100, 0.02, 2), (100, 0.1, 10), (10, 0.02, 1), (2, 0.001, 1), (100, 7, 7), (100, 99, 99), (100, 1, 1)],
)
def test_validation_is_a_share_or_a_number_and_at_least_one(table, rows, validation, count):
    built = build(table(*numbered(rows)), validation=validation)
    assert Counter(e.split for e in built.examples) == {"validation": count, "train": rows - count}


def test_no_prompt_is_held_out_and_trained(table):
    # The same question in two ways: with its object as an input, and in the instruction itself.
    joined = [{"instruction": f"写出{i}。\n快", "input": "", "output": "x"} for i in range(1, 51)]
    split = [{"instruction": f"写出{i}。", "input": "快", "output": "x"} for i in range(1, 51)]
    built = build(table(*joined, *split), validation=20)
    assert len(set(prompts(built))) == len(built.examples) == 50
    assert built.notes == ("50 of 100 rows were left out for asking what an earlier row asks, word for word",)


def test_the_data_seed_draws_what_is_held_out(table):
    source = table(*numbered(60))
    assert build(source, validation=6) == build(source, validation=6)
    assert held_out(build(source, validation=6)) != held_out(build(source, validation=6, data_seed=1))


def test_every_row_is_as_likely_to_be_held_out(table):
    source = table(*numbered(10))
    times = Counter(row for seed in range(600) for row in held_out(build(source, data_seed=seed)))
    assert len(times) == 10
    # 60 expected, standard deviation 7.3.
    assert all(30 <= n <= 90 for n in times.values())


@pytest.mark.parametrize("validation", [3, 100])
def test_where_nothing_would_be_trained_it_is_refused(table, validation):
    said = refused(table(*numbered(3)), validation=validation)
    assert f"validation = {validation}: " in said
    assert "gives 3 rows" in said
    assert "none trained" in said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "must be over 0"), (-0.1, "must be over 0"), (1.5, "a share under 1 or a whole number"),
     ("0.1", "a number is expected"), (True, "a number is expected")],
)  # fmt: skip
def test_what_is_no_share_and_no_number_of_rows_is_refused(folder, value, said):
    text = f'extends = "recipes/tiny/chinese.toml"\n[data]\nvalidation = {json.dumps(value)}\n'
    Path("mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said) as error:
        build_data(read_recipe(Path("mine.toml")), 0, Path("mine.toml"))
    assert "mine.toml: [data] validation" in str(error.value)


# --- what is taken ---


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_order_of_the_table(table):
    source = table(*numbered(200))
    rows = [e.info["row"] for e in build(source, sample=50).examples]
    assert len(set(rows)) == 50
    assert rows == sorted(rows)
    assert max(rows) > 150
    assert rows == [e.info["row"] for e in build(source, sample=50).examples]
    assert rows != [e.info["row"] for e in build(source, sample=50, data_seed=1).examples]


def test_a_larger_sample_holds_a_smaller_one_and_the_same_rows_out(table):
    source = table(*numbered(200))
    few, many = (build(source, sample=size, validation=10) for size in (50, 100))
    assert {e.id for e in few.examples} < {e.id for e in many.examples}
    assert held_out(few) == held_out(many)


def test_rows_that_are_left_out_are_no_part_of_the_sample(table):
    long = [{"instruction": f"长{i}", "output": "x" * 100} for i in range(100)]
    built = build(table(*long, *numbered(20)), sample=20, longest=50)
    assert len(built.examples) == 20


def test_a_sample_of_more_than_there_is_takes_all_and_says_so(table):
    built = build(table(*numbered(5)), sample=50)
    assert len(built.examples) == 5
    assert built.notes == ("[data] sample = 50, and there are 5 rows: all of them are taken",)


def test_too_many_rows_are_refused_unless_some_are_drawn(table, monkeypatch):
    monkeypatch.setattr(chinese, "MOST_ROWS", 10)
    assert "has over 10 rows: say [data] sample" in refused(table(*numbered(11)))
    assert len(build(table(*numbered(11)), sample=5).examples) == 5
    assert len(build(table(*numbered(10))).examples) == 10


def test_only_the_rows_that_are_taken_are_held(table):
    import tracemalloc

    source = table(*({"instruction": f"{i}", "output": "x" * 2000} for i in range(5000)))
    tracemalloc.start()
    built = build(source, sample=10)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(built.examples) == 10
    # Held, they would be ten million characters.
    assert most < 3_000_000


# --- what is left out, and counted ---


def test_long_rows_and_repeated_ones_are_left_out_and_nothing_else(table):
    rows = [
        PLAIN,
        REVERSE,
        PLAIN | {"output": "别的话"},  # asks the same
        PLAIN | {"input": "别的"},  # asks something else
        {"instruction": "长", "input": "字" * 5, "output": "字" * 5},  # eleven characters
        {"instruction": "短", "input": "字" * 5, "output": "字" * 4},  # ten
    ]
    built = build(table(*rows), longest=18)
    assert [e.info["row"] for e in built.examples] == [1, 2, 4, 5, 6]
    assert built.notes == ("1 of 6 rows was left out for asking what an earlier row asks, word for word",)
    assert built.examples[0].answer == "我很好。"
    built = build(table(*rows[-2:], PLAIN), longest=10)
    assert [e.info["row"] for e in built.examples] == [2, 3]
    assert built.notes == ("1 of 3 rows was left out for having over 10 characters",)


def test_what_was_left_out_for_its_length_is_no_earlier_row(table):
    built = build(
        table({"instruction": "a", "output": "x" * 50}, {"instruction": "a", "output": "x"}, PLAIN), longest=20
    )
    assert [e.info["row"] for e in built.examples] == [2, 3]


def test_columns_that_nothing_is_made_of_are_named(table):
    built = build(table(REVERSE | {"text": "…", "id": "7"}, PLAIN))
    assert built.notes == ("columns that nothing is made of: text, id",)


def test_a_clean_table_has_no_notes(table):
    assert build(table(REVERSE, PLAIN)).notes == ()


# --- what is refused ---


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "a", "answer": "b"}, "has the columns question, answer; wanted are instruction, output and, where"
         " there is one, input: `instruction` is missing."),
        ({"instruction": "a", "answer": "b"}, "input: `output` is missing."),
        ({"Instruction": "a", "output": "b"}, "rename `Instruction` to `instruction`."),
        ({"instruction": "a", "outputs": "b"}, "rename `outputs` to `output`."),
        ({"instruction": "a", "Input": "x", "output": "b"}, "is `Input` the input? Rename it"),
        ({"instruction": "a", "inputs": "x", "output": "b"}, "is `inputs` the input? Rename it"),
    ],
)  # fmt: skip
def test_wrong_columns_are_named_with_those_that_are_wanted(table, row, said):
    assert said in refused(table(row))


def test_an_input_that_only_later_rows_have_is_asked_and_under_another_name_refused(table):
    first, later = {"instruction": "a", "output": "b"}, {"instruction": "a", "input": "x", "output": "b"}
    assert prompts(build(table(first, later), prompt="{instruction}")) == ["a", "a\nx"]
    assert "is `Input` the input?" in refused(table(first, {"instruction": "a", "Input": "x", "output": "b"}))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "", "output": "b"}, "line 2: `instruction` is empty."),
        ({"instruction": "a", "output": " \u3000"}, "line 2: `output` is empty."),
        ({"instruction": "a", "output": None}, "line 2: `output` is empty."),
        ({"instruction": "a"}, "line 2: `output` is empty."),
        ({"instruction": "a", "output": ["b"]}, "line 2: `output` is stored as a list: store it as text."),
        ({"instruction": "a", "input": {"x": 1}, "output": "b"}, "line 2: `input` is stored as an object"),
        (["a", "b"], "line 2: an object, {…}, is expected."),
    ],
)
def test_a_row_that_cannot_be_trained_is_refused_by_its_line(table, row, said):
    assert said in refused(table(PLAIN, row))


def test_half_a_character_is_refused_by_its_line(tmp_path):
    (tmp_path / "half.jsonl").write_text('{"instruction": "a", "output": "b\\ud800"}\n', encoding="utf-8")
    assert "line 1: `output` holds half a character" in refused(str(tmp_path / "half.jsonl"))


def test_many_wrong_rows_are_said_at_once_with_a_way_out(table):
    said = refused(table(PLAIN, *({"instruction": f"{i}", "output": ""} for i in range(15))), sample=3)
    assert re.findall(r"line (\d+): `output` is empty", said) == [str(line) for line in range(2, 12)]
    assert "and 5 more." in said
    assert said.endswith("[data] leave_out_empty = true leaves empty ones out, and says how many.")


def test_empty_rows_can_be_left_out_and_others_are_still_refused(table):
    empty = {"instruction": "a", "output": ""}
    built = build(table(PLAIN, empty, REVERSE, {"output": "b"}), leave_out_empty=True)
    assert [e.info["row"] for e in built.examples] == [1, 3]
    assert built.notes == ("2 of 4 rows were left out for want of an instruction or an output",)
    said = refused(table(PLAIN, empty, {"instruction": "a", "output": ["b"]}), leave_out_empty=True)
    assert "line 3: `output` is stored as a list" in said
    assert "leave_out_empty" not in said


@pytest.mark.parametrize(
    "prompt", ["", "no place", "{instruction}{instruction}", "{instruction} {input}", "{", "{ instruction }"]
)
def test_a_prompt_without_one_place_for_the_instruction_is_refused_before_anything_is_read(prompt):
    assert "it must contain {instruction} once" in refused("nowhere/at/all.jsonl", prompt=prompt)


@pytest.mark.parametrize(("source", "said"), [("no.csv", "there is no such file"), ("recipes/tiny", "is a folder")])
def test_a_source_that_is_no_table_is_refused(folder, source, said):
    assert said in refused(source)


def test_a_table_of_which_nothing_is_left_is_refused(table):
    assert "gives 0 rows" in refused(table(PLAIN), longest=3)
    assert "gives 1 row, of which 1 would be held out" in refused(table(PLAIN))


# --- the recipes ---


def test_every_rank_of_the_grid_has_the_same_scale_and_rows():
    ranks = read_recipes(ROOT / "recipes/chinese_ranks.toml")
    assert [recipe.lora.rank for recipe in ranks if recipe.lora] == [4, 8, 16, 32, 64, 128]
    assert {recipe.lora.alpha / recipe.lora.rank for recipe in ranks if recipe.lora} == {2}
    assert len({json.dumps(recipe.data) for recipe in ranks}) == 1
    assert ranks[0].data["seed"] == 0


@pytest.mark.parametrize("name", ["chinese_lora", "chinese_ranks", "tiny/chinese"])
def test_the_best_weights_are_chosen_by_what_is_held_out_and_not_by_what_is_measured(name):
    recipe = read_recipes(ROOT / f"recipes/{name}.toml")[0]
    assert {stage.keep for stage in recipe.stage.values()} == {"best"}
    assert recipe.compare.primary == "loss/answer_nats_validation"
    assert recipe.forgetting
    assert recipe.forgetting.tasks


def test_no_row_of_the_longest_can_be_over_the_length_of_the_model():
    recipe = read_recipe(ROOT / "recipes/chinese_lora.toml")
    # A tokenizer that spells falls back to three tokens for nearly every Chinese character.
    assert 3 * (recipe.data["longest"] + len(chinese.PROMPT)) < recipe.model.max_length


def test_every_key_of_the_data_table_is_described_and_none_is_the_seeds():
    fields = data_model("chinese").model_fields
    assert set(fields) == {"seed", "source", "sample", "validation", "prompt", "longest", "leave_out_empty"}
    assert all(field.description for field in fields.values())
    assert ("data",) not in tables()


# --- the tiny data ---


def test_the_shipped_data_are_what_their_generator_makes(tmp_path, capsys):
    tiny_abilities.main(tmp_path, 2026)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 2 + len(tiny_abilities.QUESTIONS)
    for path in made:
        assert (tmp_path / path).read_bytes() == (TINY / path).read_bytes(), path


def questions(name: str) -> list[dict[str, Any]]:
    lines = (TINY / f"abilities/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", tiny_abilities.QUESTIONS)
def test_every_question_has_four_choices_that_differ_and_stands_once(name):
    asked = questions(name)
    assert len({question["prompt"] for question in asked}) == len(asked) == 150
    assert {len(set(question["choices"])) for question in asked} == {4}
    # The right one is anywhere: 37.5 expected in each place, standard deviation 5.3.
    places = Counter(question["answer"] for question in asked)
    assert sorted(places) == [0, 1, 2, 3]
    assert min(places.values()) > 20


@pytest.mark.parametrize("name", ["rules_chinese", "rules_english"])
def test_the_right_digits_follow_the_rule_that_the_prompt_asks_for_and_no_others_do(name):
    from toolkit.studies.lines import RULED

    for question in questions(name):
        (index,) = re.findall(r"\d+", question["prompt"])
        right = RULED[question["prompt"].replace(index, "{i}")](index)
        assert [choice == right for choice in question["choices"]] == [i == question["answer"] for i in range(4)]
        assert {Counter(choice).total() for choice in question["choices"]} == {11}


def test_a_third_of_the_instructions_and_more_has_an_input():
    lines = (TINY / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 300
    assert sum(bool(row["input"]) for row in rows) == 200
    assert all(re.search(r"[\u4e00-\u9fff]", row["instruction"]) for row in rows)
    recipe = read_recipe(TINY / "chinese.toml", (f"data.source={TINY}/instructions.jsonl",))
    built = build_data(recipe, 0)
    assert Counter(e.split for e in built.examples) == {"train": 256, "validation": 44}
    assert built.notes == ()


def test_nothing_is_asked_or_read_that_the_base_was_trained_on():
    trained = tiny_abilities.lines_of_the_base()
    assert len(trained) > 15_000
    text = (TINY / "held_out.txt").read_text(encoding="utf-8")
    assert 5_000 < len(text.encode()) < 20_000
    answered = {q["prompt"] + q["choices"][q["answer"]] for name in tiny_abilities.QUESTIONS for q in questions(name)}
    assert not trained & {*text.splitlines(), *answered}


def test_the_task_files_name_their_data_and_the_group_two_subjects(folder):
    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in TINY.glob("abilities/*.yaml")}
    group = files.pop("rules")
    assert group["task"] == ["tiny_rules_chinese", "tiny_rules_english"]
    assert set(files) == set(tiny_abilities.QUESTIONS)
    for name, task in files.items():
        assert task["task"] == f"tiny_{name}"
        # Relative to the project, where every command is started.
        assert Path(task["dataset_kwargs"]["data_files"]["test"]).is_file()
        assert task["num_fewshot"] == 0
