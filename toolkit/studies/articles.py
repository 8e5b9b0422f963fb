"""Reads news articles and the questions about them, and cuts articles into overlapping chunks.

{"index": "007", "topic": "Works in Orlin", "content": "Orlin Bank said on 3 May …", "keywords": "Orlin; Sedra Lane"}
{"article": "007", "question": "Who runs the works?", "answer": "Sedra Lane", "wrong": ["Tam Orvel"], "use": "test"}
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from toolkit.errors import UserError, is_text, nearest
from toolkit.studies.cloze import CJK, normalise
from toolkit.studies.tables import Other, Problems, Row, encoding_of, parse_json, read_rows

TESTED = 5
"""Questions of an article that test it, where a file does not say their use; the others are for practice."""
USES = ("test", "practice")


@dataclass(frozen=True)
class Article:
    """One article; what a file does not say is empty."""

    index: str
    """As it is written: 007 is not 7."""
    topic: str
    content: str
    keywords: tuple[str, ...]
    date: str


class Asked(NamedTuple):
    """A question from a file, with its use."""

    row: int
    article: str
    question: str
    answer: str
    wrong: tuple[str, ...]
    use: str


class Chunk(NamedTuple):
    """content[start:end]."""

    start: int
    end: int


def read_articles(source: str) -> list[Article]:
    """Articles in the order of the file. Raises UserError with every row that cannot be used, and why.

    How many words an article is said to have is not asked: they are there to be counted.
    """
    problems, keywords = Problems(source), lists_in(source, "keywords")
    articles: list[Article] = []
    seen: dict[tuple[str, str], int] = {}
    for row in with_columns(read_rows(source, problems), source, ("index", "content"), ("topic", "keywords", "date")):
        index, content = text_of(row, "index", problems), text_of(row, "content", problems)
        for name, key in (("index", index), ("content", normalise(content).strip())):
            if key and (before := seen.setdefault((name, key), row.number)) != row.number:
                said = f'the {name} "{index}"' if name == "index" else f"the content of article {index}"
                problems.add(row.number, f"{said} is that of {problems.unit} {before} already")
        topic, date = text_of(row, "topic", problems, needed=False), text_of(row, "date", problems, needed=False)
        articles.append(Article(index, topic, content, entries(row, "keywords", keywords, problems), date))
    problems.refuse()
    return articles


def with_columns(rows: Iterator[Row], source: str, needed: Sequence[str], others: Sequence[str]) -> Iterator[Row]:
    """Rows with their columns in lower case. Raises UserError where the first has not the needed ones."""
    first = True
    for row in rows:
        values = {name.strip().lower(): value for name, value in row.values.items()}
        for name in needed if first else ():
            if name not in values:
                near = nearest(name, [other for other in values if other not in (*needed, *others)])
                hint = f"is `{near}` meant?" if near else f"it has {', '.join(values)}."
                raise UserError(f"{source}: a column `{name}` is missing; {hint}")
        first = False
        yield Row(row.number, values)


def text_of(row: Row, column: str, problems: Problems, *, needed: bool = True) -> str:
    value = row.values.get(column, "")
    if isinstance(value, Other) and value.kind != "a number":
        problems.add(row.number, f"`{column}` must be text, not {value.kind}")
        return ""
    # A plain string: what else a value is, is of no interest beyond here.
    text = str(value).strip()
    if not text and needed:
        problems.add(row.number, f"`{column}` is empty")
    if not is_text(text):
        problems.add(row.number, f"`{column}` holds half a character (\\ud800 to \\udfff), which no text has")
        return ""
    return text


def entries(row: Row, column: str, lists: dict[int, list[str]], problems: Problems) -> tuple[str, ...]:
    """A list of JSON Lines, or text separated by | (keywords also by ; or ,)."""
    value = row.values.get(column, "")
    if isinstance(value, Other) and value.kind == "a list":
        listed = lists.get(row.number)
        if listed is None or not all(type(entry) is str and is_text(entry) for entry in listed):
            problems.add(row.number, f"`{column}` must be a list of texts in .jsonl, and elsewhere text like a | b")
            return ()
    else:
        separators = r"[|;；,，、]" if column == "keywords" and "|" not in value else r"\|"
        listed = re.split(separators, text_of(row, column, problems, needed=False))
    return tuple(dict.fromkeys(entry.strip() for entry in listed if entry.strip()))


def lists_in(source: str, column: str) -> dict[int, list[str]]:
    """The lists of a column of JSON Lines, by line: the rows of tables have texts only."""
    path = Path(source)
    found: dict[int, list[str]] = {}
    if path.suffix.lower() not in (".jsonl", ".ndjson") or not path.is_file():
        return found
    with path.open(encoding=encoding_of(path), errors="replace", newline="") as file:
        for number, line in enumerate(file, start=1):
            # A line that is no object is complained of where its row is read.
            with contextlib.suppress(ValueError, AttributeError):
                values = {name.strip().lower(): value for name, value in parse_json(line).items()}
                if isinstance(values.get(column), list):
                    found[number] = values[column]
    return found


# --- questions ---


def read_questions(source: str, articles: Sequence[Article]) -> dict[str, list[Asked]]:
    """Questions by article, each with its use. Raises UserError with every row that cannot be used, and why.

    Where the file says no use, the first TESTED questions of an article test it. Nothing that is tested may be
    practised in other words: a later question with a tested answer is a test as well.
    """
    if not Path(source).is_file():
        raise UserError(
            f'[data] questions = "{source}": there is no such file; `python -m toolkit.questions` with the recipe'
            " makes one, where [judge] names a service."
        )
    problems, lists = Problems(source), lists_in(source, "wrong")
    known = dict.fromkeys(article.index for article in articles)
    asked: dict[str, list[Asked]] = {}
    needed = ("article", "question", "answer")
    for row in with_columns(read_rows(source, problems), source, needed, ("wrong", "use")):
        article, question, answer = (text_of(row, column, problems) for column in needed)
        use = text_of(row, "use", problems, needed=False).lower()
        wrong = entries(row, "wrong", lists, problems)
        if article and article not in known:
            near = nearest(article, list(known))
            problems.add(row.number, f'there is no article "{article}"' + (f'; did you mean "{near}"?' if near else ""))
        if use and use not in USES:
            problems.add(row.number, f'use is {" or ".join(USES)}, not "{use}"')
        if normalise(answer) in map(normalise, wrong):
            problems.add(row.number, f'"{answer}" is the answer, and among the wrong ones')
        same = [other.row for other in asked.get(article, []) if normalise(other.question) == normalise(question)]
        if same and question:
            problems.add(row.number, f"the question is that of {problems.unit} {same[0]} already")
        asked.setdefault(article, []).append(Asked(row.number, article, question, answer, wrong, use))
    problems.refuse()
    return {article: with_use(questions, source) for article, questions in asked.items()}


def with_use(asked: Sequence[Asked], source: str) -> list[Asked]:
    tested = {normalise(each.answer): each.row for each in asked if each.use == "test"}
    practised = {normalise(each.answer): each.row for each in asked if each.use == "practice"}
    if both := sorted(tested.keys() & practised.keys()):
        test, practice = tested[both[0]], practised[both[0]]
        raise UserError(
            f"{source}: question {practice} practises the answer that question {test} tests"
            f" (article {asked[0].article}): what is recalled then was not only read. Give both the same use."
        )
    count = sum(each.use == "test" for each in asked)
    used = []
    for each in asked:
        answer, use = normalise(each.answer), each.use
        if not use:
            use = "practice" if answer in practised else "test" if answer in tested or count < TESTED else "practice"
            count += use == "test"
            (tested if use == "test" else practised)[answer] = each.row
        used.append(each._replace(use=use))
    return used


# --- chunks ---

CLOSING = "，。！？；：、）》」』"
UNIT = re.compile(rf"(?:[{CJK}]|[^\s{CJK}{CLOSING}]+)[{CLOSING}]*|[{CLOSING}]+")
"""A word: what stands between spaces, or a character of Chinese, with the marks that close it."""


def cut(content: str, words: int, overlap: int) -> list[Chunk]:
    """Windows of `words` words, each with the last `overlap` words of the one before.

    Together they hold every word. The last one may be shorter; it always holds a word that the one before does not.
    """
    units = [match.span() for match in UNIT.finditer(content)]
    found = []
    for first in range(0, max(1, len(units) - overlap), words - overlap):
        window = units[first : first + words]
        if window:
            found.append(Chunk(window[0][0], window[-1][1]))
    return found
