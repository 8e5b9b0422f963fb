"""Asks any OpenAI-compatible chat service for an object, and keeps every reply on disk, so that nothing is paid twice.

Asked for {"score": 0 … 100}, a service says "Sure! ```json {"score": 90}```": the object is found, and checked.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn

from pydantic import BaseModel

from toolkit.errors import MachineError, UserError
from toolkit.recipe import Judge
from toolkit.run_folder import write_whole
from toolkit.service.keys import brief, check_address, read_key, scrub
from toolkit.service.replies import Messages, Reply, T, complain, read_object, reply_in
from toolkit.stored import read_json

CACHE = Path("data/service")


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


def stored(place: Path) -> Reply:
    try:
        return Reply.model_validate(read_json(place, Reply))
    except UserError as error:
        raise UserError(f"{error} Delete it, and it is asked for again.") from None
