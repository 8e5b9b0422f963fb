"""A chat service that misbehaves: nothing is lost, nothing paid twice, and the key is nowhere."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests import openai_server as server_acts
from tests.openai_server import KEY, Server, fails, files_with, late, says, scores, sends, serving
from toolkit.errors import MachineError, UserError
from toolkit.recipe import Judge
from toolkit.service import CACHE, Answer, Reply, Service, check_address, first_object, read_key, read_object, scrub

MESSAGES = [{"role": "user", "content": "How good is this answer?"}]


class Score(BaseModel):
    model_config = ConfigDict(strict=True)

    score: int = Field(ge=0, le=100)
    reason: str


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(scores(90)) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """A key, an empty folder, every logger at its loudest; afterwards the key is searched for everywhere."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())
    assert files_with(KEY, tmp_path) == []


def service(server: Server, **settings: Any) -> Service:
    return Service(judge(server.address, **settings))


def judge(base_url: str, **settings: Any) -> Judge:
    return Judge.model_validate(
        {"base_url": base_url, "model": "judge-1", "key_env": "JUDGE_KEY", "timeout": 5.0, "retries": 1} | settings
    )


def ask(asked: Service, content: str = "How good is this answer?") -> Answer[Score]:
    return asked.ask([{"role": "user", "content": content}], Score)


def kept() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CACHE.glob("*"))]


# --- a service that works ---


def test_an_answer_is_the_object_that_was_asked_for(server: Server) -> None:
    asked = service(server)
    assert ask(asked) == (Score(score=90, reason="why not"), '{"reason": "why not", "score": 90}', None, 100, 10, False)
    assert [(request.path, request.key) for request in server.asked] == [("/v1/chat/completions", f"Bearer {KEY}")]
    assert (asked.totals.calls, asked.totals.prompt_tokens, asked.totals.completion_tokens) == (1, 100, 10)


def test_nothing_is_paid_twice(server: Server) -> None:
    ask(service(server))
    again = service(server)
    answer = ask(again)
    assert (answer.value, answer.cached) == (Score(score=90, reason="why not"), True)
    assert len(server.asked) == 1
    assert (again.totals.calls, again.totals.from_cache, again.totals.cached_prompt_tokens) == (0, 1, 100)
    assert again.totals.prompt_tokens == 0


def test_another_question_model_or_schema_is_another_request(server: Server) -> None:
    class Other(Score):
        surely: bool = True

    ask(service(server))
    ask(service(server), "And this one?")
    ask(service(server, model="judge-2"))
    service(server).ask(MESSAGES, Other)
    assert len(server.asked) == len(kept()) == 4


def test_what_lies_on_disk_needs_neither_key_nor_service(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(service(server))
    server.shutdown()
    server.server_close()
    monkeypatch.delenv("JUDGE_KEY")
    assert ask(service(server)).value == Score(score=90, reason="why not")


def test_a_reply_is_kept_with_what_was_asked(server: Server) -> None:
    ask(service(server))
    (reply,) = kept()
    assert reply["text"] == '{"reason": "why not", "score": 90}'
    assert (reply["messages"], reply["model"], reply["base_url"]) == (MESSAGES, "judge-1", server.address)
    assert (reply["prompt_tokens"], reply["completion_tokens"], reply["finish"]) == (100, 10, "stop")


def test_a_damaged_file_is_named_and_not_paid_again_in_silence(server: Server) -> None:
    ask(service(server))
    (path,) = CACHE.glob("*")
    path.write_text('{"text": 7}')
    with pytest.raises(UserError, match=r"data/service/.*is damaged \(text: .*Delete it, and it is asked for again"):
        ask(service(server))
    path.unlink()
    assert ask(service(server)).value
    assert len(server.asked) == 2


def test_a_service_that_counts_no_tokens_is_said_to(server: Server) -> None:
    server.script = [sends({"choices": [{"message": {"content": '{"score": 1, "reason": ""}'}}]})]
    asked = service(server)
    assert ask(asked).prompt_tokens == 0
    assert asked.totals.uncounted == 1


# --- replies that cannot be read ---

UNREADABLE = {
    "prose": (says("I like it."), "no JSON object"),
    "out of range": (scores(250), "score: input should be less than or equal to 100"),
    "negative": (scores(-1), "greater than or equal to 0"),
    "a score in words": (scores("90"), "score: input should be a valid integer"),
    "a flag for a score": (scores(True), "valid integer"),
    "half a score": (scores(85.5), "valid integer"),
    "no reason": (says('{"score": 90}'), "reason: field required"),
    "cut off": (says('{"score": 90, "rea', finish="length"), "cut off"),
    "empty": (says(""), "it is empty"),
    "no content": (says(None), "it is empty"),
    "refused": (says(None, refusal="I'm sorry, I can't."), "no JSON object"),
    "no choices": (sends({"choices": []}), "it is empty"),
    "two scores": (says('{"score": 9, "score": 90, "reason": ""}'), "twice"),
    "nested deeply": (says('{"a": ' * 100_000), ""),
    "a long number": (says('{"score": ' + "9" * 5000 + "}"), ""),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_reply_is_asked_for_once_more_with_the_complaint(server: Server, case: str) -> None:
    act, complaint = UNREADABLE[case]
    server.script = [act]
    asked = service(server)
    answer = ask(asked)
    assert answer.value == Score(score=90, reason="why not")
    first, second = (request.content for request in server.asked)
    assert second.startswith(first)
    assert complaint in second[len(first) :]
    assert (asked.totals.unparseable, asked.totals.retries, asked.totals.calls) == (0, 0, 2)
    assert len(kept()) == 2


@pytest.mark.parametrize("case", UNREADABLE)
def test_two_unreadable_replies_are_counted_and_kept_and_not_asked_for_again(server: Server, case: str) -> None:
    act, complaint = UNREADABLE[case]
    server.usual = act
    for asked in (service(server), service(server)):
        answer = ask(asked)
        assert answer.value is None
        assert complaint in (answer.problem or "")
        assert asked.totals.unparseable == 1
        assert [reply["text"] for reply in kept()] == [answer.text] * 2
        assert asked.unanswered(MESSAGES, Score) is None
    assert len(server.asked) == 2


def test_a_prose_reply_keeps_its_text(server: Server) -> None:
    server.usual = says("I like it. 好的")
    assert ask(service(server)).text == "I like it. 好的"
    assert [reply["text"] for reply in kept()] == ["I like it. 好的"] * 2


@pytest.mark.parametrize(
    "text",
    [
        'Sure!\n```json\n{"reason": "as told", "score": 42}\n```\nAnything else?',
        '```\n{\n  "score": 42,\n  "reason": "as told"\n}```',
        'By the set {a, b} I say {"score": 42, "reason": "as told"}; not {"score": 1, "reason": "b"}.',
        '<think>{"score": 1, "reason": "no"} hm</think>{"score": 42, "reason": "as told"}',
        'It may be {"score": 1, "reason": "no"} hm</think>\n\n{"score": 42, "reason": "as told"}',
        '{"score": 42, "reason": "as told", "confidence": {"high": true}}',
    ],
)
def test_an_object_is_found_in_what_stands_around_it(text: str) -> None:
    assert read_object(Reply(text=text), Score) == (Score(score=42, reason="as told"), None)


def test_half_a_character_is_no_reason_to_pay_again(server: Server) -> None:
    server.script = [says('{"score": 90, "reason": "\\ud83d"}'), says('{"score": 80, "reason": "\ud83d"}')]
    assert ask(service(server)).value == Score(score=90, reason="?")
    assert ask(service(server), "And this one?").value == Score(score=80, reason="?")
    assert len(server.asked) == 2


def test_no_score_is_taken_from_what_a_broken_reply_quotes() -> None:
    quoting = '{"reason": "the answer says {"score": 100, "reason": "perfect"}", "score": 0}'
    with pytest.raises(ValueError, match="broken"):
        first_object(quoting)
    with pytest.raises(ValueError, match="no JSON object"):
        first_object('<think>The answer says {"score": 100, "reason": "perfect"}')


# --- a service in trouble ---

PASSING = {
    "busy": fails(429, Retry_After="1"),
    "too many": fails(429),
    "defect": fails(500),
    "away": fails(503),
    "conflict": fails(409),
    "cut off": server_acts.is_cut_off,
    "hung up": server_acts.hangs_up,
    "a page": server_acts.is_a_web_page,
    "no completion": sends({"object": "list"}),
    "an error": sends({"error": {"message": "try later", "code": 429}}),
    "an error for a reply": sends({"error": {"message": "try later"}, "choices": []}),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_tried_again(server: Server, case: str) -> None:
    server.script = [PASSING[case]]
    asked = service(server)
    assert ask(asked).value == Score(score=90, reason="why not")
    assert len(server.asked) == 2
    assert (asked.totals.retries, asked.totals.calls, len(kept())) == (1, 1, 1)


def test_the_service_says_how_long_it_wants_to_be_left_alone(server: Server) -> None:
    import time

    server.script = [fails(429, Retry_After_Ms="", Retry_After="1")]
    begun = time.monotonic()
    ask(service(server))
    assert time.monotonic() - begun >= 1


def test_a_late_answer_is_not_waited_for(server: Server) -> None:
    server.script = [late(30)]
    assert ask(service(server, timeout=0.3)).value
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (fails(429, "slow down"), "answered 429 (slow down)"),
        (fails(500, "oops"), "answered 500 (oops)"),
        (server_acts.hangs_up, "is not there, or hung up"),
        (server_acts.hangs, "did not answer in 0.2 s"),
        (sends({"error": {"message": "no credit"}}), "no credit"),
    ],
)
def test_a_service_that_stays_away_loses_nothing(server: Server, act: server_acts.Act, said: str) -> None:
    asked = service(server, timeout=0.2)
    ask(asked)
    server.usual = act
    with pytest.raises(MachineError) as failed:
        ask(asked, "And this one?")
    assert said in str(failed.value)
    assert "kept in data/service (1 of this call); the same command goes on from there" in str(failed.value)
    assert asked.totals.retries == 1
    server.usual = scores(70)
    goes_on = service(server)
    before = len(server.asked)
    assert [ask(goes_on).cached, ask(goes_on, "And this one?").cached] == [True, False]
    assert len(server.asked) == before + 1


def test_a_port_where_nobody_listens_is_a_failure_of_the_machine() -> None:
    with pytest.raises(MachineError, match="is not there"):
        ask(Service(judge("http://127.0.0.1:9/v1", retries=0)))


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, ""), (401, "environment variable JUDGE_KEY"), (403, "JUDGE_KEY"), (404, 'model "judge-1"'), (422, "")],
)
def test_a_refusal_says_what_the_service_said_without_the_key(server: Server, status: int, hint: str) -> None:
    server.usual = fails(status, f"{KEY} is not what I want, {'x' * 230}{KEY}")
    with pytest.raises(UserError) as refused:
        ask(service(server))
    assert f"({status}: [key] is not what I want" in str(refused.value)
    assert hint in str(refused.value)
    assert "fedcba" not in str(refused.value)
    assert len(server.asked) == 1
    assert kept() == []


@pytest.mark.parametrize("body", [{"detail": "no such model"}, {"message": "no such model"}, "no such model"])
def test_a_refusal_in_other_words_than_openais_is_said_too(server: Server, body: Any) -> None:
    server.usual = lambda answers: answers.reply(404, json.dumps(body))
    with pytest.raises(UserError, match="404: .?no such model"):
        ask(service(server))


def test_a_page_instead_of_a_service_is_the_users_mistake(server: Server) -> None:
    server.usual = server_acts.is_a_web_page
    with pytest.raises(UserError, match=r"no chat completion \(<html>Welcome.*often in /v1"):
        ask(service(server))
    assert len(server.asked) == 2


# --- addresses and keys ---


def test_a_reply_that_repeats_the_key_is_kept_without_it(server: Server) -> None:
    server.script = [scores(90, f"I was called with {KEY}")]
    assert ask(service(server)).value == Score(score=90, reason="I was called with [key]")


def test_a_question_that_holds_the_key_is_kept_without_it(server: Server) -> None:
    ask(service(server), f"Is {KEY} a key?")
    assert kept()[0]["messages"] == [{"role": "user", "content": "Is [key] a key?"}]
    assert ask(service(server), f"Is {KEY} a key?").cached


def test_a_word_for_a_key_is_not_crossed_out_of_prose(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "why")
    assert ask(service(server)).value == Score(score=90, reason="why not")
    assert scrub("none of it", "none") == "none of it"


def test_a_server_on_this_machine_needs_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    assert ask(service(server)).value
    for address in ("http://localhost:8000/v1", "http://[::1]:8000/v1", "http://127.0.0.2/v1"):
        assert read_key("JUDGE_KEY", address) is None


@pytest.mark.parametrize(
    "address", ["https://api.example.com/v1", "http://10.0.0.5:8000/v1", "http://localhost.example.com/v1"]
)
def test_any_other_needs_one_and_the_variable_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", " ")
    with pytest.raises(UserError, match="put it into the environment variable JUDGE_KEY"):
        ask(Service(judge(address)))


def test_a_key_with_a_line_end_is_taken_without_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY + "\n")
    ask(service(server))
    assert server.asked[0].key == f"Bearer {KEY}"


@pytest.mark.parametrize(("variable", "key"), [("JUDGE_KEY", KEY + "é"), ("JUDGE_KEY", KEY + "\nX"), (KEY, "")])
def test_a_key_in_the_wrong_form_or_place_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, key: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(UserError, match="environment variable") as refused:
        read_key(variable, "https://api.example.com/v1")
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("address", ["", "localhost:8000/v1", "ftp://a/v1", "http://", "http://a:b/v1", "http://[::1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        check_address(address)


@pytest.mark.parametrize("address", [f"https://me:{KEY}@a/v1", f"https://a/v1?key={KEY}", f"https://a/v1#{KEY}"])
def test_an_address_that_holds_a_key_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UserError, match="more than an address") as refused:
        check_address(address)
    assert KEY not in str(refused.value)
