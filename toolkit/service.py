"""Asks any OpenAI-compatible chat service for an object, and keeps every reply on disk, so that nothing is paid twice.

Asked for {"score": 0 … 100}, a service says "Sure! ```json {"score": 90}```": the object is found, and checked.
"""

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from toolkit.errors import MachineError, UserError
from toolkit.recipe import Judge
from toolkit.run_folder import write_whole
from toolkit.stored import Count, Stored, read_json

T = TypeVar("T", bound=BaseModel)
Messages = list[dict[str, str]]

CACHE = Path("data/service")
SECRET_LENGTH = 8
"""A shorter key is a word that a local server wants to see ("EMPTY"): crossing it out would cross out prose."""


class Reply(Stored):
    """What is kept of a reply; its tokens are None where the service does not count them."""

    text: str
    finish: str | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class Answer(NamedTuple, Generic[T]):
    """What came of asking."""

    value: T | None
    """The object, or None where no reply could be read."""
    text: str
    """The last reply as it was."""
    problem: str | None
    """Why it could not be read."""
    prompt_tokens: int
    """Of all replies that it took."""
    completion_tokens: int
    cached: bool
    """Whether nothing was sent for it."""


@dataclass
class Totals:
    """What asking took so far."""

    calls: int = 0
    """Replies that came from the service now, and were paid."""
    from_cache: int = 0
    """Replies that an earlier call paid."""
    retries: int = 0
    """Requests sent again after an error of the service or the network."""
    unparseable: int = 0
    """Answers of which two replies could not be read."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    uncounted: int = 0
    """Replies, of either kind, for which the service named no tokens."""

    def add(self, reply: Reply, cached: bool) -> None:
        told, said = reply.prompt_tokens or 0, reply.completion_tokens or 0
        self.uncounted += reply.prompt_tokens is None
        if cached:
            self.from_cache += 1
            self.cached_prompt_tokens += told
            self.cached_completion_tokens += said
        else:
            self.calls += 1
            self.prompt_tokens += told
            self.completion_tokens += said


class Service:
    """A chat service, with its replies on disk. No key is needed until something must be sent.

    Raises UserError for an address that is none.
    """

    def __init__(self, settings: Judge, folder: Path = CACHE) -> None:
        check_address(settings.base_url)
        self.settings, self.folder, self.totals = settings, folder, Totals()
        self.base_url = settings.base_url.rstrip("/")
        self.key: str | None = None
        self.client: Any = None

    def close(self) -> None:
        if self.client is not None:
            self.client.close()

    def ask(self, messages: Messages, schema: type[T]) -> Answer[T]:
        """An object of `schema`. A reply that holds none is asked for once more, with the complaint; both are kept.

        Raises UserError where the key is missing or the service refuses the request, and MachineError where it cannot
        be reached: what was answered before is kept, and is not asked again.
        """
        reply, cached = self.reply(messages, schema)
        value, problem = read_object(reply, schema)
        replies = [reply]
        if problem is not None:
            reply, again = self.reply(complain(messages, problem, schema), schema)
            value, problem = read_object(reply, schema)
            replies, cached = [*replies, reply], cached and again
        self.totals.unparseable += problem is not None
        told = sum(each.prompt_tokens or 0 for each in replies)
        said = sum(each.completion_tokens or 0 for each in replies)
        return Answer(value, reply.text, problem, told, said, cached)

    def unanswered(self, messages: Messages, schema: type[BaseModel]) -> Path | None:
        """The file of the next reply that `ask` has to get from the service; None where it would send nothing."""
        place = self.place(messages, schema)
        if place.is_file():
            _, problem = read_object(stored(place), schema)
            if problem is None:
                return None
            place = self.place(complain(messages, problem, schema), schema)
        return None if place.is_file() else place

    def place(self, messages: Messages, schema: type[BaseModel]) -> Path:
        """The file of the reply to a request."""
        asked = [self.base_url, self.settings.model, messages, schema.model_json_schema()]
        text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def reply(self, messages: Messages, schema: type[BaseModel]) -> tuple[Reply, bool]:
        """The reply to a request, and whether it lay on disk."""
        place = self.place(messages, schema)
        cached = place.is_file()
        reply = stored(place) if cached else self.send(messages)
        if not cached:
            about = {"base_url": self.base_url, "model": self.settings.model, "when": time.strftime("%FT%T%z")}
            kept = about | {"messages": messages} | reply.model_dump()
            write_whole(place, scrub(json.dumps(kept, indent=1, ensure_ascii=False), self.key) + "\n")
        self.totals.add(reply, cached)
        return reply, cached

    def send(self, messages: Messages) -> Reply:
        """Ask the service. A body that is no chat completion may have been cut off, and is asked for once more."""
        body = self.post(messages)
        reply = reply_in(body, self.key)
        if reply is None:
            self.totals.retries += 1
            body = self.post(messages)
            reply = reply_in(body, self.key)
        if reply is not None:
            return reply
        said = brief(body, self.key)
        if said.startswith("{") and '"error"' in said:
            self.give_up(f"answered with an error ({said})")
        raise UserError(
            f"{self.base_url} answered with what is no chat completion ({said or 'nothing'}). Does base_url end as it"
            " should, often in /v1?"
        )

    def post(self, messages: Messages) -> str:
        """The body of the service's answer; openai's client waits and tries again by itself."""
        import openai

        if self.client is None:
            self.key = read_key(self.settings.key_env, self.base_url)
            # openai insists on a key, and a server on this machine takes any.
            self.client = openai.OpenAI(
                base_url=self.base_url, api_key=self.key or "none",
                timeout=self.settings.timeout, max_retries=self.settings.retries,
            )  # fmt: skip
        try:
            answer = self.client.chat.completions.with_raw_response.create(model=self.settings.model, messages=messages)
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            self.totals.retries += int(error.request.headers.get("x-stainless-retry-count", 0))
            if isinstance(error, openai.APIStatusError):
                self.refuse(error.status_code, brief(error.body, self.key))
            late = isinstance(error, openai.APITimeoutError)
            self.give_up(f"did not answer in {self.settings.timeout:g} s" if late else "is not there, or hung up")
        self.totals.retries += answer.retries_taken
        return answer.content.decode("utf-8", "replace")

    def refuse(self, status: int, said: str) -> NoReturn:
        if status in (408, 409, 429) or status >= 500:
            self.give_up(f"answered {status} ({said})")
        hint = ""
        if status in (401, 403):
            hint = f" The key is taken from the environment variable {self.settings.key_env}."
        elif status == 404:
            hint = f' Is there a model "{self.settings.model}", and does base_url end as it should, often in /v1?'
        raise UserError(f"{self.base_url} refused the request ({status}: {said}).{hint}") from None

    def give_up(self, said: str) -> NoReturn:
        raise MachineError(
            f"{self.base_url} {said}. Every reply before is kept in {self.folder} ({self.totals.calls} of this call);"
            " the same command goes on from there."
        ) from None


# --- what is said and answered ---


def stored(place: Path) -> Reply:
    try:
        return Reply.model_validate(read_json(place, Reply))
    except UserError as error:
        raise UserError(f"{error} Delete it, and it is asked for again.") from None


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


def brief(said: Any, key: str | None) -> str:
    """What a service says of an error, in a line and without the key."""
    if isinstance(said, dict):
        said = said.get("message") or said.get("detail") or said
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    # Cut last, as half a key would not be found.
    return " ".join(scrub(text, key).split())[:300].rstrip(".")


# --- addresses and keys ---


def check_address(base_url: str) -> None:
    """Raises UserError for what is no http address, and for one that holds more, which may be a secret."""
    try:
        parts = urlsplit(base_url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UserError("base_url is no address; one is http://localhost:8000/v1.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated here, as it would stand in logs.
        raise UserError("base_url holds more than an address. A key belongs in an environment variable (key_env).")
    if parts.scheme not in ("http", "https") or not named:
        raise UserError(f'base_url = "{base_url}" is no address; one is http://localhost:8000/v1.')


def read_key(variable: str, base_url: str) -> str | None:
    """The key for a service; None where this machine serves it and there is none. Raises UserError without the key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        # It may be the key itself, put in the wrong place.
        raise UserError("key_env is the name of the environment variable that holds the key, such as OPENAI_API_KEY.")
    key = os.environ.get(variable, "").strip()
    if not key and is_local(base_url):
        return None
    if not key:
        raise UserError(f"{base_url} needs a key: put it into the environment variable {variable}.")
    if not re.fullmatch(r"[!-~]+", key):
        raise UserError(f"the key in the environment variable {variable} holds a sign that no key has.")
    return key


def is_local(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def scrub(text: str, key: str | None) -> str:
    """A text without the key, whatever the service repeats of it."""
    if key is None or len(key) < SECRET_LENGTH:
        return text
    return text.replace(key, "[key]").replace(json.dumps(key)[1:-1], "[key]")
