"""One text to train on or one question to ask, and JSONL files of them.

A question has a prompt; a text has none, is trained whole, and is never asked.

{"id": "phone-007", "fact": "phone-007", "prompt": "第7个电话号码是：", "answer": "39504711826", "split": "train", ...}
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from toolkit.errors import UserError, checked_path, is_text, nearest

Split = Literal["train", "control", "validation", "test"]


@dataclass(frozen=True)
class Example:
    """One text to train on or one question to ask."""

    id: str
    """Unique within a run."""
    fact: str
    """The fact it states; paraphrases and reversals are examples of the same fact."""
    prompt: str
    """What is given; empty for a text, and of a conversation the last thing that the user says."""
    answer: str
    """What is to be answered, or the whole text, without any end mark."""
    split: Split
    """train is fed to the optimiser; control is of the same kind and never trained."""
    variant: str = "plain"
    """plain, paraphrase-1 …, reversed, or a language."""
    part: str = "facts"
    """What a stage selects by (`train_on`)."""
    facts: tuple[str, ...] = ()
    """Ids of the facts that a text contains, where it is more than its own."""
    foil: str | None = None
    """A never-trained answer of the same kind, scored against the same prompt."""
    wrong: tuple[str, ...] = ()
    """Wrong answers to the prompt that preference training may reject."""
    info: dict[str, Any] = field(default_factory=dict)
    """What else a study wants to keep, such as the index of a number."""
    messages: tuple[dict[str, str], ...] = ()
    """The turns of a conversation before the prompt, each {"role": "system", "user" or "assistant", "content": …}; the
    assistant's are trained too."""

    @property
    def exposes(self) -> tuple[str, ...]:
        """The facts that one presentation of this example exposes."""
        return self.facts or (self.fact,)

    @property
    def is_question(self) -> bool:
        return bool(self.prompt)

    @property
    def said(self) -> str:
        """All of its text, turn after turn: what a tokenizer is trained on, and words are counted in."""
        return "".join([*(turn["content"] for turn in self.messages), self.prompt, self.answer])


MAIN = "facts"


def main_part(parts: list[str]) -> str:
    """The part that a study's outcomes are of: the one called "facts", or else the first."""
    return MAIN if MAIN in parts else parts[0]


REQUIRED = ("id", "fact", "prompt", "answer", "split")


def to_json(example: Example) -> str:
    """One line of JSON; fields at their defaults are left out."""
    defaults = asdict(Example("", "", "", "", "train"))
    values = asdict(example)
    kept = {name: value for name, value in values.items() if name in REQUIRED or value != defaults[name]}
    return json.dumps(kept, ensure_ascii=False)


def to_jsonl(examples: Iterable[Example]) -> str:
    return "".join(to_json(example) + "\n" for example in examples)


def read_jsonl(path: Path) -> list[Example]:
    """Read examples, each at least a prompt and an answer; raises UserError with file and line where one is none.

    Left out, `id` is the line's number, `fact` the id, and `split` is test.
    """
    if not checked_path(path).is_file():
        raise UserError(f"{path}: there is no such file.")
    try:
        # -sig, because Windows' editors put a byte order mark first.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    examples: list[Example] = []
    seen: dict[str, int] = {}
    # Not splitlines(): texts may hold line separators (U+2028, U+0085) that JSON leaves as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            example = from_json(line, number)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        if example.id in seen:
            raise UserError(f'{path}, line {number}: the id "{example.id}" is that of line {seen[example.id]} already.')
        seen[example.id] = number
        examples.append(example)
    if not examples:
        raise UserError(f"{path}: holds no example.")
    return examples


def from_json(line: str, number: int) -> Example:
    """One line of a file; raises ValueError with what is wrong in it."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.colno})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("an object with prompt and answer is expected")
    names = [entry.name for entry in fields(Example)]
    for name in values:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean `{near}`?" if near else f"known are {', '.join(names)}"
            raise ValueError(f"unknown field `{name}` ({hint})")
    for name in ("prompt", "answer"):
        if name not in values:
            raise ValueError(f"`{name}` is missing")
    values.setdefault("id", f"line-{number:05d}")
    values.setdefault("fact", values["id"])
    values.setdefault("split", "test")
    check_types(values)
    values |= {name: tuple(values.get(name, ())) for name in ("facts", "wrong", "messages")}
    return Example(**values)


def check_types(values: dict[str, Any]) -> None:
    for name in (*REQUIRED, "variant", "part", "foil"):
        if not isinstance(values.get(name, ""), str) and not (name == "foil" and values[name] is None):
            raise ValueError(
                f"`{name}` must be text in quotes (a number loses its leading zeros), not {values[name]!r}"
            )
        if not is_text(values.get(name) or ""):
            raise ValueError(f"`{name}` holds half a character (\\ud800 to \\udfff), which no text has")
    for name in ("id", "fact", "answer"):
        if not values[name]:
            raise ValueError(f"`{name}` is empty")
    if values["split"] not in get_args(Split):
        raise ValueError(f'`split` is one of {", ".join(get_args(Split))}, not "{values["split"]}"')
    for name, what in (("facts", "ids"), ("wrong", "answers")):
        listed = values.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(entry, str) and is_text(entry) for entry in listed):
            raise ValueError(f"`{name}` must be a list of {what} in quotes")
    if not isinstance(values.get("info", {}), dict):
        raise ValueError("`info` must be an object")
    check_messages(values.get("messages", []), values["prompt"])


ROLES = ("system", "user", "assistant")


def check_messages(messages: Any, prompt: str) -> None:
    """Raises ValueError unless these are the turns before a prompt."""
    if not isinstance(messages, list):
        raise ValueError("`messages` must be a list of turns")
    for number, turn in enumerate(messages, start=1):
        if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
            raise ValueError(
                f"`messages`, turn {number}: an object with role and content, and nothing else, is expected"
            )
        content = turn["content"]
        if turn["role"] not in ROLES:
            raise ValueError(f"`messages`, turn {number}: `role` is one of {', '.join(ROLES)}, not {turn['role']!r}")
        if not isinstance(content, str) or not content or not is_text(content):
            raise ValueError(f"`messages`, turn {number}: `content` must be text, and not empty")
    if wrong := out_of_order([turn["role"] for turn in messages]):
        raise ValueError(f"`messages`, turn {wrong[0]}: {wrong[1]}")
    if messages and not prompt:
        raise ValueError("`messages` go before a prompt, and it is empty")


def out_of_order(roles: list[str]) -> tuple[int, str] | None:
    """The first turn, from 1, that is not in its place before a user's turn, and what is wrong with it.

    A system turn may come first; then user and assistant take turns.
    """
    start = 1 if roles[:1] == ["system"] else 0
    for number, role in enumerate(roles[start:]):
        expected = ("user", "assistant")[number % 2]
        if role != expected:
            return start + number + 1, f"the {expected}'s is expected here, not the {role}'s"
    if (len(roles) - start) % 2:
        return len(roles), "a user's turn without an answer, before the prompt"
    return None
