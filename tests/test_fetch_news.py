"""A news service that misbehaves: what came is kept, nothing is twice, and the key is nowhere."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import command
from tests.openai_server import (
    KEY,
    Act,
    Server,
    fails,
    files_with,
    hangs,
    hangs_up,
    is_a_web_page,
    is_cut_off,
    late,
    sends,
    serving,
)
from toolkit import fetch_news
from toolkit.errors import MachineError, UserError
from toolkit.fetch_news import Count, fetch, parameters, whole_words
from toolkit.studies.articles import read_articles

OUT = Path("data/news.jsonl")


def article(number: int, **said: Any) -> dict[str, Any]:
    return {
        "source": {"id": None, "name": "The Orlin Post"},
        "author": None,
        "title": f"Bridge {number} opened",
        "description": "A bridge.",
        "url": f"https://example.com/{number}",
        "urlToImage": None,
        "publishedAt": f"2026-01-{number:02d}T10:00:00Z",
        "content": f"Bridge {number} of Orlin was opened\r\nby its mayor. The head of the comp… [+1234 chars]",
    } | said


def page(*articles: dict[str, Any], total: int = 100) -> Act:
    return sends({"status": "ok", "totalResults": total, "articles": articles})


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(page(article(1), article(2))) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEWSAPI_KEY", KEY)
    monkeypatch.setattr(fetch_news, "TIMEOUT", 0.3)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    yield
    # httpcore's own log of what it sends names no header, and httpx's has the address.
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())
    assert files_with(KEY, tmp_path) == []


def fetched(server: Server, pages: int = 1, page_size: int = 2, **said: Any) -> Count:
    asked = parameters("orlin", said.get("since"), said.get("until"), "en", page_size)
    return fetch(asked, OUT, pages, "NEWSAPI_KEY", server.address, first_wait=0.01)


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in OUT.read_text(encoding="utf-8").splitlines()]


# --- what is fetched ---


def test_articles_become_rows_of_the_news_study(server: Server) -> None:
    assert fetched(server) == Count(new=2, cut=2)
    assert rows()[0] == {
        "index": "001",
        "topic": "Bridge 1 opened",
        "content": "Bridge 1 of Orlin was opened by its mayor. The head of the",
        "word_count": "13",
        "keywords": "",
        "date": "2026-01-01",
        "url": "https://example.com/1",
    }
    assert [(read.index, read.topic, read.date) for read in read_articles(str(OUT))] == [
        ("001", "Bridge 1 opened", "2026-01-01"),
        ("002", "Bridge 2 opened", "2026-01-02"),
    ]


def test_the_key_goes_in_a_header_and_in_no_address(server: Server) -> None:
    fetched(server, since="2026-01-01", until="2026-01-31")
    (asked,) = server.asked
    assert asked.key == KEY
    assert urlsplit(asked.path).path == "/v1/everything"
    assert parse_qs(urlsplit(asked.path).query) == {
        "q": ["orlin"], "language": ["en"], "pageSize": ["2"], "sortBy": ["publishedAt"], "page": ["1"],
        "from": ["2026-01-01"], "to": ["2026-01-31"],
    }  # fmt: skip


def test_pages_are_fetched_until_there_are_no_more(server: Server) -> None:
    server.script = [page(article(1), article(2), total=3), page(article(3), total=3)]
    assert fetched(server, pages=9).new == 3
    assert [row["index"] for row in rows()] == ["001", "002", "003"]
    assert len(server.asked) == 2


def test_what_is_in_the_table_stays_as_it_is_and_is_not_added_twice(server: Server) -> None:
    OUT.parent.mkdir()
    mine = '{"index": "041",  "topic": "BRIDGE 1 opened!", "content": "Mine.", "note": "by hand"}'
    OUT.write_text(mine, encoding="utf-8")
    assert fetched(server) == Count(new=1, twice=1, cut=1)
    assert OUT.read_text(encoding="utf-8").startswith(mine + "\n")
    assert [row["index"] for row in rows()] == ["041", "042"]
    before = OUT.read_bytes()
    assert fetched(server) == Count(twice=2)
    assert OUT.read_bytes() == before


@pytest.mark.parametrize(
    "same",
    [
        {"title": "Another title", "content": "Another text."},
        {"url": "https://example.com/9", "content": "Another text."},
        {"url": "https://example.com/9", "title": "Another title"},
    ],
)
def test_an_article_is_known_again_by_address_title_or_text(server: Server, same: dict[str, str]) -> None:
    server.script = [page(article(1), article(1, **same))]
    assert fetched(server) == Count(new=1, twice=1, cut=1)
    read_articles(str(OUT))


def test_what_has_no_text_or_was_removed_is_counted_and_left_out(server: Server) -> None:
    nothing = {"title": None, "content": None, "description": None}
    removed = {"title": "[Removed]", "content": "[Removed]"}
    server.script = [page(article(1, **nothing), article(2, **removed), article(3, content=None), article(4))]
    assert fetched(server) == Count(new=2, empty=2, cut=1)
    assert rows()[0]["content"] == "A bridge."


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("The head of the comp… [+1234 chars]", "The head of the"),
        ("The head of the comp... [+5 chars]", "The head of the"),
        ("奥林大桥昨日由市长宣布通车，全长三千八百米，耗资六千七百万，由河门银行出资修建，公… [+99 chars]",
         "奥林大桥昨日由市长宣布通车，全长三千八百米，耗资六千七百万，由河门银行出资修建，公"),
        ("It cost [+5 chars] or so.", "It cost [+5 chars] or so."),
        ("Whole.", "Whole."),
    ],
)  # fmt: skip
def test_newsapis_mark_is_taken_off_with_the_word_that_it_cut(given: str, kept: str) -> None:
    assert whole_words(given) == kept


def test_half_a_character_in_a_title_is_no_reason_to_lose_a_page(server: Server) -> None:
    server.script = [page(article(1, title="Bridge \ud83d"), article(2))]
    assert fetched(server).new == 2
    assert rows()[0]["topic"] == "Bridge ?"


# --- a service in trouble ---


@pytest.mark.parametrize(
    "act",
    [fails(429), fails(500), fails(503, Retry_After="0.01"), is_cut_off, hangs_up, late(30), is_a_web_page],
    ids=["busy", "defect", "away", "cut off", "hung up", "late", "a page"],
)
def test_what_passes_is_tried_again(server: Server, act: Act) -> None:
    server.script = [act]
    assert fetched(server).new == 2
    assert len(server.asked) == 2


def test_the_service_says_how_long_it_wants_to_be_left_alone(server: Server) -> None:
    server.script = [fails(429, Retry_After="0.6")]
    begun = time.monotonic()
    fetched(server)
    assert time.monotonic() - begun >= 0.6


def test_a_quota_of_a_day_is_not_waited_for(server: Server) -> None:
    server.script = [fails(429, "too many requests today", Retry_After="43200")]
    with pytest.raises(MachineError, match=r"answered 429 \(too many requests today\)"):
        fetched(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("act", [fails(500), hangs_up, hangs], ids=["defect", "hung up", "hangs"])
def test_pages_before_a_failure_are_kept(server: Server, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_news, "RETRIES", 1)
    server.script, server.usual = [page(article(1), article(2))], act
    with pytest.raises(MachineError, match="The pages that came before are in data/news.jsonl"):
        fetched(server, pages=3)
    assert len(server.asked) == 3
    assert [row["topic"] for row in rows()] == ["Bridge 1 opened", "Bridge 2 opened"]
    server.script = [page(article(1), article(2)), page(article(3), total=3)]
    assert fetched(server, pages=3) == Count(new=1, twice=2, cut=1)


def test_an_account_that_gets_no_further_page_keeps_what_it_got(server: Server) -> None:
    server.script = [page(article(1), article(2)), fails(426, "You have requested too many results.")]
    count = fetched(server, pages=3)
    assert (count.new, count.notes) == (2, ["NewsAPI gives no further page: You have requested too many results"])


@pytest.mark.parametrize("status", [400, 401, 403, 426, 302])
def test_a_refusal_says_what_the_service_said_without_the_key(server: Server, status: int) -> None:
    server.usual = fails(status, f"{KEY} is no key", Location="/elsewhere")
    with pytest.raises(UserError) as refused:
        fetched(server)
    assert f"({status}: [key] is no key" in str(refused.value)
    assert ("NEWSAPI_KEY" in str(refused.value)) == (status in (401, 403))
    assert len(server.asked) == 1
    assert not OUT.exists()


@pytest.mark.parametrize("body", [{"status": "error", "message": "no"}, {"status": "ok"}, [], {"articles": [7]}])
def test_a_reply_that_is_no_list_of_articles_is_refused(server: Server, body: Any) -> None:
    server.usual = sends(body)
    with pytest.raises(UserError, match="no list of articles"):
        fetched(server)


# --- mistakes ---


def test_a_missing_key_names_its_variable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEWSAPI_KEY")
    with pytest.raises(UserError, match="environment variable NEWSAPI_KEY"):
        fetched(server)
    assert server.asked == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"query": " "}, "query is empty"),
        ({"since": "yesterday"}, "--from yesterday: a day is expected"),
        ({"until": "2026-02-30"}, "--to 2026-02-30"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "is after"),
        ({"language": "English"}, "two letters"),
    ],
)
def test_what_cannot_be_asked_for_is_said(said: dict[str, Any], message: str) -> None:
    known = {"query": "orlin", "since": None, "until": None, "language": "en", "page_size": 50}
    with pytest.raises(UserError, match=message):
        parameters(**known | said)


@pytest.mark.parametrize("content", ["index,topic\n", "[]\n", '{"prompt": "a"}\n', '{"index": 1, "topic": 2}\n'])
def test_a_file_of_something_else_is_not_added_to(server: Server, content: str) -> None:
    OUT.parent.mkdir()
    OUT.write_text(content)
    with pytest.raises(UserError, match="line 1: it is no article"):
        fetched(server)
    assert OUT.read_text() == content
    assert server.asked == []


def test_a_table_is_json_lines(server: Server) -> None:
    with pytest.raises(UserError, match="call it .jsonl"):
        fetch({}, Path("data/news.csv"), 1, "NEWSAPI_KEY", server.address)


def test_the_command_says_what_came(server: Server, tmp_path: Path) -> None:
    server.script = [page(article(1), article(1), article(2, title=None), total=3)]
    done = command("toolkit.fetch_news", "orlin", "--base-url", server.address, "--from", "2026-01-01", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "data/news.jsonl: 1 new articles",
        "  1 left out: they are in it already, by address, title or text",
        "  1 left out: they have no title or no text (or their publisher removed them)",
        "  1 of the new ones are only as long as NewsAPI gives them (about 200 characters)",
    ]
    server.usual = fails(401, f"Your API key {KEY} is invalid")
    done = command("toolkit.fetch_news", "orlin", "--base-url", server.address, folder=tmp_path)
    assert (done.returncode, KEY in done.stdout + done.stderr) == (2, False)
    assert "error: http://127.0.0.1" in done.stderr
