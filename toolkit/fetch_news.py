"""Fetches news articles from NewsAPI into a table for the news study (`python -m toolkit.fetch_news "QUERY"`).

{"index": "001", "topic": "New bridge in Orlin", "content": "Orlin opened …", "word_count": "31", "keywords": "",
 "date": "2026-01-05", "url": "https://…"}
"""

import datetime
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field, ValidationError

from toolkit.errors import MachineError, UserError, checked_path
from toolkit.run_folder import write_whole
from toolkit.service import brief, check_address, in_whole_characters, read_key
from toolkit.studies.articles import UNIT
from toolkit.studies.cloze import normalise

if TYPE_CHECKING:
    import httpx

TIMEOUT = 30.0
"""Seconds without a sign of the service."""
RETRIES = 5
FIRST_WAIT = 0.5
"""Seconds before the first retry; twice as long before each further one."""
LONGEST_WAIT = 60.0
"""A service that wants to be left alone for longer (a day's quota) is not waited for."""

CUT = re.compile(r"\s*(?:…|\.{3})?\s*\[\+\d+ chars\]\s*$")
"""How NewsAPI ends what it cut off, at about 200 characters: "the head of the comp… [+1234 chars]"."""
REMOVED = "[Removed]"
"""Title and content of what its publisher took back."""


class Article(BaseModel):
    """An article as NewsAPI gives it, as far as it is kept."""

    title: str | None = None
    description: str | None = None
    content: str | None = None
    url: str | None = None
    published: str | None = Field(default=None, alias="publishedAt")


class Page(BaseModel):
    """A reply of /everything."""

    status: Literal["ok"]
    total: int = Field(alias="totalResults", ge=0)
    articles: list[Article]


@dataclass
class Table:
    """The file of articles: its lines as they are, and what would be an article twice."""

    lines: list[str]
    seen: set[str]
    last: int
    """The highest index."""


@dataclass
class Count:
    """What became of the articles that came."""

    new: int = 0
    twice: int = 0
    """There already, by address, title or text."""
    empty: int = 0
    """Without title or text."""
    cut: int = 0
    """New ones of which NewsAPI gave the beginning only."""
    notes: list[str] = field(default_factory=list)


def main(
    query: Annotated[str, typer.Argument(help='What to look for: "orlin AND bridge", in NewsAPI\'s own terms.')],
    out: Annotated[Path, typer.Option(help="The table; what is in it stays.")] = Path("data/news.jsonl"),
    since: Annotated[str | None, typer.Option("--from", metavar="2026-01-31", help="Not older than this day.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="2026-01-31", help="Not newer than this day.")] = None,
    language: Annotated[str, typer.Option(help="Two letters.")] = "en",
    pages: Annotated[int, typer.Option(min=1, help="A call each.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=100, help="Articles a page.")] = 50,
    key_env: Annotated[str, typer.Option(help="The environment variable that holds the key.")] = "NEWSAPI_KEY",
    base_url: Annotated[str, typer.Option(help="The service.")] = "https://newsapi.org/v2",
) -> None:
    """Add news articles to a table that `[data] source` of a news recipe can name.

    An article's topic is its title; it has no keywords, as NewsAPI gives none, and of most articles the first 200
    characters only. What the table has already is kept, and is not added twice.
    """
    asked = parameters(query, since, until, language, page_size)
    count = fetch(asked, out, pages, key_env, base_url)
    print(f"{out}: {count.new} new articles")
    if count.twice:
        print(f"  {count.twice} left out: they are in it already, by address, title or text")
    if count.empty:
        print(f"  {count.empty} left out: they have no title or no text (or their publisher removed them)")
    if count.cut:
        print(f"  {count.cut} of the new ones are only as long as NewsAPI gives them (about 200 characters)")
    for note in count.notes:
        print(f"  {note}")


def parameters(query: str, since: str | None, until: str | None, language: str, page_size: int) -> dict[str, str]:
    """What is asked for. Raises UserError for what is no query, day or language."""
    if not query.strip():
        raise UserError("the query is empty: say what to look for.")
    for option, day in (("--from", since), ("--to", until)):
        if day is not None:
            try:
                datetime.date.fromisoformat(day)
            except ValueError:
                raise UserError(f"{option} {day}: a day is expected, such as 2026-01-31.") from None
    if since and until and since > until:
        raise UserError(f"--from {since} is after --to {until}.")
    if not re.fullmatch(r"[a-z]{2}", language):
        raise UserError(f"--language {language}: two letters are expected, such as en or zh.")
    asked = {"q": query, "language": language, "pageSize": str(page_size), "sortBy": "publishedAt"}
    return asked | ({"from": since} if since else {}) | ({"to": until} if until else {})


def fetch(
    asked: dict[str, str], out: Path, pages: int, key_env: str, base_url: str, first_wait: float = FIRST_WAIT
) -> Count:
    """Add up to so many pages of articles to a table, which is written anew after each of them, whole.

    Raises UserError where the key is missing, the table is none or the service refuses, and MachineError where it
    cannot be reached: the pages before are in the table then.
    """
    import httpx

    check_address(base_url)
    key = read_key(key_env, base_url)
    if key is None:
        raise UserError(f"NewsAPI needs a key: put it into the environment variable {key_env}.")
    table, count = read_table(out), Count()
    # The key goes in a header, as addresses stand in logs; and where a redirect leads is not told it.
    with httpx.Client(headers={"X-Api-Key": key}, timeout=TIMEOUT, follow_redirects=False) as client:
        service = NewsService(client, f"{base_url.rstrip('/')}/everything", key, key_env, out, first_wait)
        for number in range(1, pages + 1):
            page = service.page(asked, number)
            if isinstance(page, str):
                count.notes.append(f"NewsAPI gives no further page: {page}")
                break
            add(page.articles, table, count)
            write_whole(out, "".join(table.lines))
            if not page.articles or number * int(asked["pageSize"]) >= page.total:
                break
    return count


# --- the service ---


@dataclass
class NewsService:
    """NewsAPI, or what speaks like it."""

    client: "httpx.Client"
    address: str
    key: str
    key_env: str
    out: Path
    first_wait: float

    def page(self, asked: dict[str, str], number: int) -> Page | str:
        """A page of articles, or what is said where an account gets no further page."""
        response = self.answer({**asked, "page": str(number)})
        said = brief(body_of(response) or response.text, self.key)
        if response.status_code == 426 and number > 1:
            return said
        if response.status_code in (401, 403):
            said += f". The key is taken from the environment variable {self.key_env}"
        if response.status_code != 200:
            raise UserError(f"{self.address} refused the request ({response.status_code}: {said}).")
        try:
            return Page.model_validate(body_of(response))
        except ValidationError:
            raise UserError(f"{self.address} answered with what is no list of articles ({said}).") from None

    def answer(self, asked: dict[str, str]) -> "httpx.Response":
        """The service's answer, asked for again while it is busy, away or cut off."""
        import httpx

        said = ""
        for attempt in range(RETRIES + 1):
            wait = self.first_wait * 2**attempt
            try:
                response = self.client.get(self.address, params=asked)
            except httpx.RequestError as error:
                late = isinstance(error, httpx.TimeoutException)
                said = f"did not answer in {TIMEOUT:g} s" if late else "is not there, or hung up"
            else:
                status = response.status_code
                cut_off = status == 200 and body_of(response) is None
                if not cut_off and status not in (408, 429) and status < 500:
                    return response
                said = f"answered {status} ({brief(body_of(response) or response.text, self.key) or 'nothing'})"
                with suppress(ValueError):
                    wait = max(0.0, float(response.headers.get("Retry-After", "")))
            if wait > LONGEST_WAIT or attempt == RETRIES:
                break
            time.sleep(wait)
        raise MachineError(f"{self.address} {said}. The pages that came before are in {self.out}; try again later.")


def body_of(response: "httpx.Response") -> Any:
    """What a response says in JSON, or None."""
    try:
        return in_whole_characters(json.loads(response.content))
    except (ValueError, RecursionError):
        return None


# --- the table ---


def read_table(out: Path) -> Table:
    """The articles that are there. Raises UserError where a line is none, so that no other file is added to."""
    if out.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UserError(f"--out {out}: articles are written as JSON Lines; call it .jsonl.")
    table = Table([], set(), 0)
    if not checked_path(out, "--out ").exists():
        return table
    try:
        lines = out.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--out {out}: cannot be read as UTF-8 text ({error}).") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = [row.get(name) or "" for name in ("url", "topic", "content")]
            index = str(row["index"])
            table.seen.update(names_of(*texts))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(f"--out {out}, line {number}: it is no article; give another name.") from None
        table.lines.append(line + "\n")
        table.last = max(table.last, int(index) if index.isdecimal() else 0)
    return table


def names_of(url: str, topic: str, content: str) -> Iterator[str]:
    """By what an article is known again: the study refuses a text that it has already, however it is written."""
    for kind, text in (("url", url.rstrip("/")), ("topic", normalise(topic)), ("content", normalise(content))):
        if text.strip():
            yield f"{kind} {text}"


def add(articles: list[Article], table: Table, count: Count) -> None:
    for article in articles:
        given = article.content or article.description or ""
        topic, content = plain(article.title or ""), whole_words(plain(given))
        if not topic or not content or REMOVED in (topic, content):
            count.empty += 1
            continue
        names = list(names_of(article.url or "", topic, content))
        if not table.seen.isdisjoint(names):
            count.twice += 1
            continue
        table.last += 1
        row = {
            "index": f"{table.last:03d}",
            "topic": topic,
            "content": content,
            "word_count": str(len(UNIT.findall(content))),
            "keywords": "",
            "date": (article.published or "")[:10],
            "url": article.url or "",
        }
        table.seen.update(names)
        table.lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        count.new += 1
        count.cut += bool(CUT.search(given))


def plain(text: str) -> str:
    """A text without tags, in single spaces."""
    return " ".join(re.sub(r"<[^<>]{1,200}>", " ", text).split())


def whole_words(content: str) -> str:
    """A text without NewsAPI's mark where it cut it off, and without the word that it cut."""
    return re.sub(r"\s\S{1,30}$", "", CUT.sub("", content)) if CUT.search(content) else content


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
