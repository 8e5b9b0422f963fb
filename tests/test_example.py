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
