"""Examples as lines of JSON: what is written can be read, and what cannot is refused with its line."""

import json

import pytest

from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl, to_json, to_jsonl

PLAIN = Example("phone-007", "phone-007", "第7个电话号码是：", "09504711826", "train")
FULL = Example(
    id="text-1",
    fact="text-1",
    prompt="Two\nlines\u2028and a separator\x85 of each kind",
    answer='quoted "0012"',
    split="control",
    variant="paraphrase-1",
    part="chunks",
    facts=("a", "b"),
    foil="0021",
    info={"index": 7, "tags": ["x"]},
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "facts.jsonl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_what_is_written_is_read_again(write):
    examples = [PLAIN, FULL]
    assert read_jsonl(write(to_jsonl(examples))) == examples


def test_defaults_are_left_out_and_chinese_stays_readable():
    assert to_json(PLAIN) == (
        '{"id": "phone-007", "fact": "phone-007", "prompt": "第7个电话号码是：", "answer": "09504711826", '
        '"split": "train"}'
    )
    assert set(json.loads(to_json(FULL))) == {
        "id", "fact", "prompt", "answer", "split", "variant", "part", "facts", "foil", "info",
    }  # fmt: skip


def test_an_example_exposes_its_facts_or_its_own():
    assert PLAIN.exposes == ("phone-007",)
    assert FULL.exposes == ("a", "b")


def test_prompt_and_answer_are_enough(write):
    example, named = read_jsonl(
        write('{"prompt": "1+1=", "answer": "2"}\n\n{"prompt": "", "answer": "3", "id": "x"}\n')
    )
    assert example == Example("line-00001", "line-00001", "1+1=", "2", "test")
    assert (named.id, named.fact) == ("x", "x")


def test_a_file_from_a_windows_editor_is_read(write):
    lines = to_jsonl([PLAIN, FULL]).replace("\n", "\r\n")
    assert read_jsonl(write(b"\xef\xbb\xbf" + lines.encode())) == [PLAIN, FULL]


GOOD = '{"prompt": "p", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "an object with prompt and answer"),
        ('"text"', "an object"),
        ('{"prompt": "p"}', "`answer` is missing"),
        ('{"answer": "a"}', "`prompt` is missing"),
        (
            '{"prompt": "p", "answer": 13912345678}',
            "`answer` must be text in quotes (a number loses its leading zeros)",
        ),
        ('{"prompt": 7, "answer": "a"}', "`prompt` must be text"),
        ('{"prompt": "p", "answer": null}', "`answer` must be text"),
        ('{"prompt": "p", "answer": ""}', "`answer` is empty"),
        ('{"prompt": "p", "answer": "a", "id": 7}', "`id` must be text"),
        ('{"prompt": "p", "answer": "a", "foil": 12}', "`foil` must be text"),
        ('{"prompt": "p", "answer": "a", "part": ["x"]}', "`part` must be text"),
        ('{"prompt": "p", "answer": "a", "split": "tain"}', "train, control, validation, test"),
        ('{"prompt": "p", "answer": "a", "facts": "x"}', "`facts` must be a list"),
        ('{"prompt": "p", "answer": "a", "facts": [1]}', "`facts` must be a list"),
        ('{"prompt": "p", "answer": "a", "info": 3}', "`info` must be an object"),
        ('{"promt": "p", "answer": "a"}', "unknown field `promt` (did you mean `prompt`?)"),
        ('{"prompt": "p", "answer": "a", "zzz": 1}', "unknown field `zzz` (known are id, fact"),
        ('{"prompt": "p", "answer": "a", "id": "line-00001"}', 'the id "line-00001" is that of line 1'),
    ],
)
def test_what_is_no_example_is_refused_with_its_line(write, line, said):
    path = write(f"{GOOD}\n{line}\n{GOOD}")
    with pytest.raises(UserError) as refused:
        read_jsonl(path)
    message = str(refused.value)
    assert message.startswith(f"{path}, line 3: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_is_not_there_empty_or_no_text_is_refused(write, tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        read_jsonl(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match="holds no example"):
        read_jsonl(write("\n"))
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read_jsonl(write('{"prompt": "é"}'.encode("latin-1")))


TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"},
         {"role": "assistant", "content": "李白。"})  # fmt: skip


def test_a_conversation_is_read_as_it_was_written_and_left_out_where_there_is_none(write):
    talk = Example("c", "c", "And then?", "Nothing.", "train", messages=TURNS)
    assert read_jsonl(write(to_jsonl([talk, PLAIN]))) == [talk, PLAIN]
    assert "messages" not in json.loads(to_json(PLAIN))


def test_all_that_is_said_in_a_conversation_is_its_text():
    assert (
        Example("c", "c", "And then?", "Nothing.", "train", messages=TURNS).said
        == "Be brief.Who?李白。And then?Nothing."
    )
    assert PLAIN.said == PLAIN.prompt + PLAIN.answer


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ("Who?", "`messages` must be a list of turns"),
        (["Who?"], "turn 1: an object with role and content"),
        ([{"role": "user"}], "turn 1: an object with role and content"),
        ([{"role": "user", "content": "a", "name": "b"}], "turn 1: an object with role and content, and nothing else"),
        ([{"role": "human", "content": "a"}], "turn 1: `role` is one of system, user, assistant, not 'human'"),
        ([{"role": "user", "content": 1}], "turn 1: `content` must be text, and not empty"),
        ([{"role": "user", "content": ""}], "turn 1: `content` must be text, and not empty"),
        ([TURNS[1]], "turn 1: a user's turn without an answer, before the prompt"),
        ([TURNS[2], TURNS[1]], "turn 1: the user's is expected here, not the assistant's"),
        ([TURNS[1], TURNS[1]], "turn 2: the assistant's is expected here, not the user's"),
        ([*TURNS, *TURNS], "turn 4: the user's is expected here, not the system's"),
        ([TURNS[0], TURNS[1]], "turn 2: a user's turn without an answer"),
    ],
)
def test_turns_that_do_not_lead_to_the_prompt_are_refused_with_their_line(write, messages, wrong):
    line = json.dumps({"prompt": "a", "answer": "b", "messages": messages})
    with pytest.raises(UserError) as error:
        read_jsonl(write(to_json(PLAIN) + "\n" + line))
    assert "facts.jsonl, line 2: `messages`" in str(error.value)
    assert wrong in str(error.value)


def test_turns_before_no_prompt_are_refused(write):
    line = json.dumps({"prompt": "", "answer": "b", "messages": list(TURNS)})
    with pytest.raises(UserError, match="line 1: `messages` go before a prompt, and it is empty"):
        read_jsonl(write(line))
