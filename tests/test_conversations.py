"""Conversations from tables: every usable row as it is there, and every other one refused, or left out and counted."""

import json
from collections import Counter
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.studies.conversations import Conversation, read_conversations

ASKED = [{"from": "human", "value": "李白是谁？"}, {"from": "gpt", "value": "唐代诗人。"}]
LONG = [
    {"from": "system", "value": "Be brief."},
    *ASKED,
    {"from": "human", "value": "More?"},
    {"from": "gpt", "value": "No."},
]


@pytest.fixture
def table(tmp_path):
    """Writes rows as JSON Lines."""

    def table(*rows: Any) -> str:
        path = tmp_path / "talks.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return table


def talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def read(source: str, longest: int | None = None, leave_out: bool = False) -> tuple[list[Conversation], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(read_conversations(source, longest, leave_out, counts)), counts


def refused(source: str) -> str:
    with pytest.raises(UserError) as error:
        read(source)
    return str(error.value)


def test_turns_of_both_ways_to_write_them_are_the_same(table):
    spoken = [{"role": "user", "content": "李白是谁？"}, {"role": "assistant", "content": "唐代诗人。"}]
    wanted = (("user", "李白是谁？"), ("assistant", "唐代诗人。"))
    assert read(table({"conversations": ASKED}))[0] == [Conversation(1, wanted)]
    assert read(table({"messages": spoken}))[0] == [Conversation(1, wanted)]


def test_several_turns_and_a_system_turn_stay_in_their_order(table):
    ((conversation,), counts) = read(table({"id": 7, "conversations": LONG, "label": {"a": 1}}))
    assert [role for role, _ in conversation.turns] == ["system", "user", "assistant", "user", "assistant"]
    assert conversation.turns[-1] == ("assistant", "No.")
    assert (counts["rows"], counts["turns"], counts["unused id"], counts["unused label"]) == (1, 5, 1, 1)


def test_the_same_rows_come_from_every_format(table, tmp_path):
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"conversations": ASKED}, {"conversations": LONG}]
    (tmp_path / "talks.json").write_text(json.dumps(rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "talks.parquet")
    with (tmp_path / "talks.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["conversations"], *([json.dumps(row["conversations"])] for row in rows)])
    wanted = [conversation.turns for conversation in read(table(*rows))[0]]
    assert len(wanted) == 2
    for name in ("talks.json", "talks.parquet", "talks.csv"):
        assert [conversation.turns for conversation in read(str(tmp_path / name))[0]] == wanted, name


def test_a_data_set_of_the_hub_that_was_fetched_is_read(table, tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/sets/somebody--talks"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{"conversations": ASKED}]), folder / "train.parquet")
    assert len(read("somebody/talks")[0]) == 1


def test_white_space_around_a_turn_is_left_out_and_within_it_is_kept(table):
    ((conversation,), _) = read(table(talk(("human", " a\n\n b \n"), ("gpt", "\n1\n\n 2\n"))))
    assert [text for _, text in conversation.turns] == ["a\n\n b", "1\n\n 2"]


UNUSABLE = [
    (talk(), "`conversations` is empty", "without a turn"),
    ({"conversations": None}, "`conversations` is empty", "without a turn"),
    ({"conversations": "hello"}, "`conversations` is no list of turns", "that are no list of turns"),
    ({"conversations": {"from": "human"}}, "`conversations` is no list of turns", "that are no list of turns"),
    ({"conversations": ["hello"]}, "turn 1 is no object with from and value", "with turns of no speaker"),
    (talk(("human", "a")), "nothing is answered in it", "without an answer"),
    (talk(("human", "a"), ("gpt", " \n")), "turn 2 is empty", "with an empty turn"),
    (talk(("human", None), ("gpt", "b")), "turn 1 is empty", "with an empty turn"),
    (talk(("human", ["a"]), ("gpt", "b")), "turn 1 is no text", "with turns that are no text"),
    (
        talk(("gpt", "a"), ("human", "b"), ("gpt", "c")),
        "turn 1: the user's is expected here",
        "with turns out of order",
    ),
    (
        talk(("human", "a"), ("human", "b"), ("gpt", "c")),
        "turn 2: the assistant's is expected",
        "with turns out of order",
    ),
    (
        talk(("human", "a"), ("gpt", "b"), ("gpt", "c")),
        "turn 3: the user's is expected here",
        "with turns out of order",
    ),
    (talk(("human", "a"), ("gpt", "b"), ("human", "c")), "it ends without an answer", "that end without an answer"),
    (
        talk(("human", "a"), ("tool", "b")),
        "turn 2 is of 'tool'; known are human, user, gpt",
        "with turns of unknown roles",
    ),
]


@pytest.mark.parametrize(("row", "what", "why"), UNUSABLE)
def test_a_row_that_is_no_conversation_is_refused_by_its_number_or_left_out_and_counted(table, row, what, why):
    source = table({"conversations": ASKED}, row, {"conversations": LONG})
    said = refused(source)
    assert f"line 2: {what}" in said
    assert "[data] leave_out_unusable = true leaves such rows out" in said
    conversations, counts = read(source, leave_out=True)
    assert [conversation.row for conversation in conversations] == [1, 3]
    assert (counts["rows"], counts[f"unusable {why}"]) == (3, 1)


def test_half_a_character_is_refused(tmp_path):
    path = tmp_path / "half.jsonl"
    path.write_text('{"conversations": [{"from": "human", "value": "\\ud83d"}, {"from": "gpt", "value": "b"}]}\n')
    assert "line 1: turn 1 holds half a character" in refused(str(path))


def test_all_rows_that_are_none_are_said_at_once(table):
    said = refused(table(*[row for row, _, _ in UNUSABLE]))
    assert [f"line {number}: " in said for number in (1, 2, 3, 10)] == [True] * 4
    assert "and 4 more." in said


def test_a_conversation_that_is_there_again_is_left_out_and_the_same_question_with_another_answer_kept(table):
    again = talk(("human", "李白是谁？"), ("gpt", "诗人。"))
    conversations, counts = read(table({"conversations": ASKED}, again, {"conversations": ASKED}))
    assert [conversation.row for conversation in conversations] == [1, 2]
    assert counts["repeated"] == 1


def test_longer_ones_are_left_out_by_the_characters_of_all_turns(table):
    length = sum(len(turn["value"]) for turn in LONG)
    source = table({"conversations": ASKED}, {"conversations": LONG})
    assert len(read(source, longest=length)[0]) == 2
    conversations, counts = read(source, longest=length - 1)
    assert [conversation.row for conversation in conversations] == [1]
    assert counts["long"] == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "a"}, "has the columns instruction; wanted is one of `conversations` or `messages`"),
        ({"conversation": ASKED}, "has the columns conversation; rename `conversation`."),
        ({"conversations": ASKED, "messages": []}, "has a column `conversations` and a column `messages`"),
    ],
)
def test_columns_without_conversations_are_refused(table, row, said):
    assert said in refused(table(row))
