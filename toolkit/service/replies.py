"""What a chat service says: the object in its reply, or what is wrong with it."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from toolkit.service.keys import scrub
from toolkit.stored import Count, Stored

T = TypeVar("T", bound=BaseModel)
Messages = list[dict[str, str]]


class Reply(Stored):
    """What is kept of a reply; its tokens are None where the service does not count them."""

    text: str
    finish: str | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


def reply_in(body: str, key: str | None) -> Reply | None:
    """What a chat completion says, without the key; None where the body is none."""
    try:
        whole = in_whole_characters(json.loads(body))
        if whole.get("error"):
            return None
        choice = whole["choices"][0] if whole["choices"] else {}
        message, usage = choice.get("message", {}), whole.get("usage") or {}
        text = message.get("content") or message.get("refusal") or ""
        counted = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
        return Reply(text=scrub(text, key), finish=choice.get("finish_reason"), **counted)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None


def read_object(reply: Reply, schema: type[T]) -> tuple[T | None, str | None]:
    """The object in a reply, or what is wrong with it."""
    try:
        return schema.model_validate(first_object(reply.text)), None
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    return None, problem + (", and the reply was cut off at its longest" if reply.finish == "length" else "")


def first_object(text: str) -> Any:
    """The first JSON object of a text, whatever stands around it. Raises ValueError with what is wrong."""
    # What a model thinks before its reply may hold objects, too.
    spoken = text.rpartition("</think>")[2].partition("<think>")[0]
    # Not the next one where this is broken: it may lie inside, in what the reply quotes.
    start = re.search(r'\{\s*["}]', spoken)
    if start is None:
        raise ValueError("it holds no JSON object" if text.strip() else "it is empty")
    try:
        found, _ = json.JSONDecoder(object_pairs_hook=said_once).raw_decode(spoken, start.start())
    except json.JSONDecodeError as error:
        raise ValueError(f"its JSON is broken ({error.msg})") from None
    return in_whole_characters(found)


def in_whole_characters(values: Any) -> Any:
    """JSON can say half of a character (\\ud83d), which could not be written again; it becomes a question mark."""
    return json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace"))


def said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("it says a key twice")
    return dict(pairs)


def complain(messages: Messages, problem: str, schema: type[BaseModel]) -> Messages:
    """The request once more. In the same turn: not every model takes the same role twice, or an empty reply."""
    wanted = json.dumps(schema.model_json_schema(), ensure_ascii=False)
    said = f"An earlier reply could not be read: {problem}. Reply with one JSON object and nothing else: {wanted}"
    return [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}\n\n{said}"}]
