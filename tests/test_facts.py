"""The user's own facts: rows become questions, nothing is lost, and every row that is no fact is refused by number."""

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import read_jsonl, to_jsonl
from toolkit.studies import facts
from toolkit.studies.built import Built

ASK: Any = {"prompt": "What is the number of {name}?", "answer": "{number}"}
REVERSE: Any = {"reverse": "Whose number is {number}?"}


@pytest.fixture
def table(tmp_path):
    """Writes rows of names and numbers, or whatever columns the first line says, as CSV."""

    def table(*lines, header="name,number"):
        path = tmp_path / "facts.csv"
        path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
        return str(path)

    return table


def numbers(count, digits=5, seed=0):
    """Lines of distinct names and distinct numbers, some with zeros at the front."""
    drawn = random.Random(seed).sample(range(10**digits), count)
    return [f"Name {i},{number:0{digits}d}" for i, number in enumerate(drawn)]


def build(source, **changes) -> Built:
    return facts.build(0, 0, source, **(ASK | changes))


def of(built, split, variant="plain"):
    return [example for example in built.examples if (example.split, example.variant) == (split, variant)]


def refused(source, **changes):
    with pytest.raises(UserError) as error:
        build(source, **changes)
    return str(error.value)


# --- what is built ---


def test_a_row_becomes_a_question_with_its_answer(table):
    (example,) = build(table("Ann,00123")).examples
    assert (example.id, example.fact, example.split, example.variant) == ("fact-00002", "fact-00002", "train", "plain")
    assert (example.prompt, example.answer) == ("What is the number of Ann?", "00123")
    assert example.info == {"name": "Ann", "number": "00123", "row": 2}


def test_leading_zeros_survive_from_every_format(table, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"name": "Ann", "number": "00123"}, {"name": "李雷", "number": "00000"}]
    sources = {
        "a.json": json.dumps(records),
        "a.jsonl": "\n".join(map(json.dumps, records)),
        "a.tsv": "name\tnumber\nAnn\t00123\n李雷\t00000\n",
        "excel.csv": "\ufeffname;number\r\nAnn;00123\r\n李雷;00000\r\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for source in (table("Ann,00123", "李雷,00000"), *(str(tmp_path / name) for name in (*sources, "a.parquet"))):
        built = build(source)
        assert {example.answer for example in built.examples} == {"00123", "00000"}, source
        assert built.answer_digits == 5


def test_chinese_columns_and_templates(table):
    built = build(
        table("李雷,01391234,北京", "韩梅梅,01398765,上海", header="姓名,号码,城市"),
        prompt="{姓名}（{城市}）的号码是：",
        answer="{号码}",
        reverse="号码{号码}是谁的？",
        reverse_answer="{姓名}",
    )
    assert {e.prompt + e.answer for e in built.examples} == {
        "李雷（北京）的号码是：01391234",
        "韩梅梅（上海）的号码是：01398765",
        "号码01391234是谁的？李雷",
        "号码01398765是谁的？韩梅梅",
    }


def test_white_space_around_values_goes_and_within_them_stays(table):
    (example,) = build(table('"  Ann  Lee\u3000", 00123 ')).examples
    assert (example.prompt, example.answer) == ("What is the number of Ann  Lee?", "00123")


def test_braces_within_a_value_are_no_column(table):
    (example,) = build(table("{number},00123")).examples
    assert example.prompt == "What is the number of {number}?"


def test_only_columns_that_are_used_are_kept_and_checked(table):
    (example,) = build(table("7,Ann,00123,,x", header="row,name,number,empty,other")).examples
    assert example.info == {"name": "Ann", "number": "00123", "row": 2}
    (example,) = build(table("7,00123", header="row,number"), prompt="Row {row}: ").examples
    assert (example.prompt, example.info) == ("Row 7: ", {"row": 2, "number": "00123"})


def test_ids_sort_as_rows_do(table):
    built = build(table("", '"two', 'lines",1', "Bo,2"))
    assert sorted(example.id for example in built.examples) == ["fact-00003", "fact-00005"]
    many = build(table(*numbers(1200)))
    assert [example.info["row"] for example in sorted(many.examples, key=lambda e: e.id)] == list(range(2, 1202))


def test_examples_can_be_written_and_read_again(table, tmp_path):
    built = build(table(*numbers(20)), controls=5, paraphrases=["{name}'s number: "], **REVERSE)
    (tmp_path / "examples.jsonl").write_text(to_jsonl(built.examples), encoding="utf-8")
    assert read_jsonl(tmp_path / "examples.jsonl") == built.examples


def test_digits_are_known_only_where_every_answer_has_as_many(table):
    assert build(table("A,00123", "B,12345")).answer_digits == 5
    assert build(table("A,00123", "B,1234")).answer_digits is None
    assert build(table("A,00123", "B,1234x")).answer_digits is None
    assert build(table("A,００１２３")).answer_digits is None  # full-width digits are other tokens
    built = build(table("A,00123"))
    assert (built.entropy_bits, built.rule_only_bits, built.rule_only_digits) == (None, None, None)


# --- what is drawn ---


def test_the_same_seeds_give_the_same_examples_to_the_byte(table):
    source = table(*numbers(50))

    def text(data_seed, assignment_seed):
        return to_jsonl(
            facts.build(data_seed, assignment_seed, source, controls=10, count=20, **ASK, **REVERSE).examples
        )

    assert text(1, 2) == text(1, 2)
    assert text(1, 2) != text(3, 2)
    assert text(1, 2) != text(1, 3)


def test_the_assignment_seed_draws_who_is_trained_and_the_data_seed_orders_them(table):
    source = table(*numbers(50))

    def drawn(data_seed, assignment_seed):
        built = facts.build(data_seed, assignment_seed, source, controls=10, count=20, **ASK)
        return [e.fact for e in of(built, "train")], [e.fact for e in of(built, "control")]

    trained, held_out = drawn(0, 0)
    assert (len(set(trained)), len(set(held_out))) == (20, 10)
    assert not set(trained) & set(held_out)
    reordered, same = drawn(1, 0)
    assert (set(reordered), same) == (set(trained), held_out)
    assert reordered != trained
    assert set(drawn(0, 1)[1]) != set(held_out)


def test_every_row_is_as_likely_to_be_held_out(table):
    source = table(*numbers(10))
    times = Counter(
        e.fact for seed in range(600) for e in of(facts.build(0, seed, source, **ASK, controls=1), "control")
    )
    assert len(times) == 10
    # 60 expected, standard deviation 7.3.
    assert all(30 <= n <= 90 for n in times.values())


def test_every_fact_is_trained_where_nothing_else_is_said(table):
    built = build(table(*numbers(30)))
    assert len(of(built, "train")) == len(built.examples) == 30
    held = build(table(*numbers(30)), controls=10)
    assert (len(of(held, "train")), len(of(held, "control"))) == (20, 10)


def test_more_facts_add_to_fewer_and_leave_the_controls(table):
    source = table(*numbers(40))
    few, many = (build(source, count=count, controls=10) for count in (10, 20))
    assert {e.fact for e in of(few, "train")} < {e.fact for e in of(many, "train")}
    assert [e.fact for e in of(few, "control")] == [e.fact for e in of(many, "control")]


def test_too_few_rows_are_refused(table):
    source = table(*numbers(10))
    assert "has 10 rows, too few for 8 trained and 3 control facts" in refused(source, count=8, controls=3)
    assert "too few for at least one trained and 10 control facts" in refused(source, controls=10)
    assert len(of(build(source, controls=9), "train")) == 1


# --- foils ---


def test_a_foil_is_a_number_as_long_that_is_no_answer(table):
    lines = [*numbers(40, digits=2), *(f"Long {i},0{i}00{i}" for i in range(1, 9))]
    built = build(table(*lines), controls=10)
    answers = {line.split(",")[1] for line in lines}
    for example in of(built, "train"):
        assert example.foil is not None
        assert example.foil.isdigit()
        assert len(example.foil) == len(example.answer)
        assert example.foil not in answers
    assert all(example.foil is None for example in of(built, "control"))


def test_there_is_no_foil_where_every_number_is_taken(table):
    built = build(table(*(f"Name {i},{i}" for i in range(10)), "Name 10,10"))
    foils = {example.answer: example.foil for example in built.examples}
    assert [foils[str(i)] for i in range(10)] == [None] * 10
    assert len(str(foils["10"])) == 2
    (left,) = {example.foil for example in build(table(*(f"Name {i},{i}" for i in range(9)))).examples}
    assert left == "9"


def test_the_foil_of_words_is_a_controls_answer_that_is_never_trained(table):
    lines = [f"Name {i},City {i}" for i in range(20)]
    built = build(table(*lines), controls=5)
    held_out = {example.answer for example in of(built, "control")}
    assert {example.foil for example in of(built, "train")} == held_out
    assert {example.foil for example in build(table(*lines)).examples} == {None}
    # Of answers that repeat, a control's is trained elsewhere, and so no foil.
    same = build(table(*(f"Name {i},Paris" for i in range(20))), controls=5)
    assert {example.foil for example in of(same, "train")} == {None}


# --- other questions ---


def test_trained_facts_are_asked_otherwise_and_controls_are_not(table):
    paraphrases = ["{name}'s number is ", "谁？{name}："]
    built = build(table(*numbers(20)), controls=5, paraphrases=paraphrases, **REVERSE)
    trained = {example.fact: example for example in of(built, "train")}
    asked = [example for example in built.examples if example.split == "test"]
    assert Counter(example.variant for example in asked) == {"paraphrase-1": 15, "paraphrase-2": 15, "reversed": 15}
    for example in asked:
        plain = trained[example.fact]
        assert example.id == f"{example.fact}-{example.variant}"
        assert example.info == plain.info
        if example.variant == "reversed":
            assert example.prompt == f"Whose number is {plain.answer}?"
            assert example.answer == plain.info["name"]
        else:
            assert example.prompt == paraphrases[int(example.variant[-1]) - 1].replace("{name}", plain.info["name"])
            assert example.answer == plain.answer


def test_a_question_that_two_rows_answer_differently_is_left_out_for_them(table):
    built = build(table("Ann,1", "Bo,1", "Cy,2"), **REVERSE)
    assert [(e.prompt, e.answer) for e in of(built, "test", "reversed")] == [("Whose number is 2?", "Cy")]
    # Also where the other row is a control, or is not used.
    for seed in range(10):
        some = facts.build(0, seed, table("Ann,1", "Bo,1", "Cy,2", "Di,3"), count=2, **ASK, **REVERSE)
        assert all("number is 1?" not in example.prompt for example in some.examples)
    by_city = build(
        table("Ann,Rome,1", "Ann,Oslo,2", "Bo,Oslo,3", header="name,city,number"),
        prompt="{name} of {city}: ",
        paraphrases=["{name}: "],
    )
    assert [e.prompt for e in of(by_city, "test", "paraphrase-1")] == ["Bo: "]
    assert "no fact can be asked so" in refused(table("Ann,1", "Bo,1"), **REVERSE)


def test_reversed_is_asked_for_the_one_column_of_the_prompt_or_for_what_is_said(table):
    source = table("Ann,Rome,1", "Bo,Oslo,2", header="name,city,number")
    two = "{name} of {city}: "
    assert "the prompt names {name}, {city}; say in reverse_answer" in refused(source, prompt=two, **REVERSE)
    built = build(source, prompt=two, reverse_answer="{name} of {city}", **REVERSE)
    assert {e.answer for e in of(built, "test", "reversed")} == {"Ann of Rome", "Bo of Oslo"}
    assert "reverse_answer is said, but no question" in refused(source, reverse_answer="{name}")


# --- what is refused ---


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ('prompt = "Number\\?": it must name a column', {"prompt": "Number?"}),
        ('prompt = "": it must name a column', {"prompt": ""}),
        ('answer = "42": it must name a column', {"answer": "42"}),
        ('prompt = "{} {name}": it must name a column', {"prompt": "{} {name}"}),
        ('prompt = "{{name}}".*no other braces', {"prompt": "{{name}}"}),
        ('prompt = "{name} }".*no other braces', {"prompt": "{name} }"}),
        ('paraphrases = "Who\\?": it must name a column', {"paraphrases": ["Who?"]}),
        ('reverse = "Who\\?": it must name a column', {"reverse": "Who?"}),
        ('paraphrases: ".*" is the trained prompt itself', {"paraphrases": [ASK["prompt"]]}),
        ('paraphrases: ".*" is there twice', {"paraphrases": ["{name}: ", "{name}: "]}),
        ("gives its answer away: it names {number}", {"prompt": "{name} has {number}: "}),
        ("paraphrases = .* gives its answer away", {"paraphrases": ["{number}: "]}),
        ("reverse = .* gives its answer away", {"reverse": "{name}: "}),
        (
            "answer names {numbr}, which is no column of .*; did you mean {number}. It has name, number",
            {"answer": "{numbr}"},
        ),
        (r"prompt names {x}, which is no column of .*csv; It has name, number", {"prompt": "{x}"}),
        ("prompt names {name.__class__}, which is no column", {"prompt": "{name.__class__}"}),
        ("answer names {号码}.*\n.*prompt names {Name}|prompt names {Name}.*\n.*answer names {号码}",
         {"prompt": "{Name}", "answer": "{号码}"}),
    ],
)  # fmt: skip
def test_a_template_that_does_not_fit_is_refused(table, said, changes):
    with pytest.raises(UserError, match=said):
        build(table("Ann,1"), **changes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",1", "line 3: `name` is empty"),
        ("Bo,", "line 3: `number` is empty"),
        ("Bo,  ", "line 3: `number` is empty"),
        ("Ann,1", "line 3: line 2 says the same"),
        (" Ann , 1 ", "line 3: line 2 says the same"),
        ("Ann,2", 'line 3: line 2 answers the same prompt by "1"'),
        ("Bo," + "1" * 2001, "line 3: its answer has 2,001 characters, over 2,000"),
        ("Bo", "line 3: 1 cells, where the header has 2"),
    ],
)
def test_a_row_that_is_no_fact_is_refused_by_its_number(table, line, said):
    assert f"facts.csv, {said}" in refused(table("Ann,1", line))


def test_an_answer_of_the_longest_length_is_taken(table):
    assert build(table("Ann," + "1" * 2000)).answer_digits == 2000


def test_all_bad_rows_are_said_at_once(table):
    said = refused(table("Ann,1", "Ann,2", "Bo", ",3", *(f"Name {i}," for i in range(9)), "Ann,1")).splitlines()
    assert said[0].endswith("facts.csv:")
    assert said[1:4] == [
        '  line 3: line 2 answers the same prompt by "1".',
        "  line 4: 1 cells, where the header has 2.",
        "  line 5: `name` is empty.",
    ]
    assert len(said) == 12
    assert said[-1] == "  and 3 more."


def test_a_bad_row_is_refused_whether_it_is_drawn_or_not(table):
    source = table("Ann,1", *numbers(20), "Bo,")
    for seed in range(5):
        with pytest.raises(UserError, match="line 23: `number` is empty"):
            facts.build(0, seed, source, count=1, **ASK)


def test_numbers_that_have_lost_their_zeros_are_refused_once_a_column(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"name": f"Name {i}", "number": 123 + i, "index": i} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(records), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for name, unit in (("a.jsonl", "line 1"), ("a.json", "record 1"), ("a.parquet", "record 1")):
        source = str(tmp_path / name)
        said = refused(source)
        assert said.endswith(
            f"{name}, {unit}: `number` is stored as a number, which has lost the zeros at its front: store the column"
            " as text (JSON: in quotes)."
        )
        # In a prompt it only has to tell facts apart.
        built = build(source, prompt="Entry {index}: ", answer="{name}")
        assert {example.prompt for example in built.examples} == {f"Entry {i}: " for i in range(20)}
        assert "`index` is stored as a number" in refused(
            source, prompt="Entry {index}: ", answer="{name}", reverse="Where is {name}?"
        )


def test_what_is_no_text_is_refused_where_it_is_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"name": "A", "number": "1", "tags": ["x"]}\n{"name": "B", "number": null}\n{"name": "C"}\n'
        '{"name": ["D"], "number": "4"}\n{"name": "E", "number": "\\ud83d"}\n',
        encoding="utf-8",
    )
    assert refused(str(path)).splitlines()[1:] == [
        "  line 2: `number` is empty.",
        "  line 3: `number` is empty.",
        "  line 4: `name` is stored as a list: store the column as text (JSON: in quotes).",
        "  line 5: `number` holds half a character (\\ud800 to \\udfff), which no text has.",
    ]


# --- many rows ---


def test_rows_beyond_the_most_are_refused_unless_some_are_drawn(table, monkeypatch):
    monkeypatch.setattr(facts, "MOST_ROWS", 10)
    source = table(*numbers(10))
    assert len(build(source).examples) == 10
    source = table(*numbers(10), "Ann")  # what lies beyond is not even read
    assert "has over 10 rows: say [data] count" in refused(table(*numbers(11)))
    source = table(*numbers(11), "Ann")
    rows = {e.info["row"] for seed in range(30) for e in facts.build(0, seed, source, count=3, **ASK).examples}
    assert rows == set(range(2, 12))


def seconds_to_build(path: Path, count: int) -> float:
    path.write_text("name,number\n" + "\n".join(numbers(count, digits=11)) + "\n", encoding="utf-8")
    started = time.process_time()
    built = build(str(path), controls=100, paraphrases=["{name}: "], **REVERSE)
    seconds = time.process_time() - started
    assert len(built.examples) == count + 2 * (count - 100)
    return seconds


def test_time_grows_as_the_rows_do_up_to_the_most(tmp_path):
    path = tmp_path / "facts.csv"
    few = min(seconds_to_build(path, 5_000) for _ in range(3))
    # Four times the rows; sixteen times would be quadratic.
    assert seconds_to_build(path, 20_000) < 8 * few
    assert seconds_to_build(path, 100_000) < 50 * few
