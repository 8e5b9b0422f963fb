"""Has a service write questions about a recipe's articles (`python -m toolkit.questions recipes/news.toml`)."""

import contextlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from toolkit.errors import MachineError, UserError
from toolkit.recipe import Recipe, read_recipe
from toolkit.run_folder import write_whole
from toolkit.studies import check_data
from toolkit.studies.articles import TESTED, Article, read_articles
from toolkit.studies.cloze import normalise

if TYPE_CHECKING:
    from toolkit.service import Service

LONGEST_ANSWER = 10
"""Words that an answer is asked to have at most: a longer one is never given back word for word."""

ROLE = "You write exam questions about news articles. Reply with one JSON object and nothing else."
ASK = """Write {count} questions about the article below.
- Each question can be understood without seeing the article: it names who or what it is about.
- The answer is copied from the article word for word, and has at most {longest} words.
- "wrong" holds three wrong answers of the same kind as the answer, which somebody who has not read the article would
  take for right.
- No two questions ask for the same thing. Questions and answers are in the language of the article.

{{"questions": [{{"question": "…", "answer": "…", "wrong": ["…", "…", "…"]}}]}}

Topic: {topic}
Date: {date}
Article:
{content}"""

AS_IT_SHOULD_BE = '[judge]\nbase_url = "http://localhost:8000/v1"\nmodel = "…"'

NOT_IN_ARTICLE = "their answer does not stand in the article"
TWICE = "the article was asked the same already"
NOTHING_WRONG = "no wrong answer came with them"
EMPTY = "question or answer is empty"


class Proposed(BaseModel):
    """A question as a service writes it."""

    question: str
    answer: str
    wrong: list[str]


class Proposals(BaseModel):
    """What a service is asked for."""

    questions: list[Proposed]


def main(
    recipe: Annotated[Path, typer.Argument(help="A recipe of the news study; its [judge] says whom to ask.")],
    per_article: Annotated[int, typer.Option(min=1, max=200, help="How many questions an article are asked for.")] = 25,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many calls it takes, and send nothing.")] = False,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
) -> None:
    """Write a file of questions with answers and wrong answers, for `[data] questions` of a news recipe.

    Questions whose answer does not stand in the article are refused. What a service replied is kept in data/service/,
    so that the same command sends only what is missing.
    """
    from toolkit.service import Service

    read = read_recipe(recipe, tuple(change or ()))
    data = news_data(read, recipe)
    articles = read_articles(data["source"])
    target = Path(data["questions"] or f"data/{read.name}/questions.jsonl")
    with contextlib.closing(Service(read.judge or refuse_no_judge(recipe))) as service:
        if dry_run:
            say_calls(service, articles, per_article, target)
            return
        refuse_there(target)
        rows, refused, unread = ask_all(service, articles, per_article)
        if rows:
            write_whole(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        say_what_came(service, target, rows, refused, unread)
    if not data["questions"]:
        print(f'{recipe} does not name it yet; its [data] should say\n  questions = "{target.as_posix()}"')


def news_data(recipe: Recipe, where: Path) -> dict[str, Any]:
    """What [data] says, checked."""
    if recipe.study != "news":
        raise UserError(
            f'{where}: study = "{recipe.study}" has no articles to ask about; questions are made for study = "news".'
        )
    return check_data(recipe, where)


def refuse_no_judge(where: Path) -> Any:
    raise UserError(f"{where}: a service writes the questions, and no [judge] says which; add\n{AS_IT_SHOULD_BE}")


def refuse_there(target: Path) -> None:
    if target.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UserError(f'[data] questions = "{target}": questions are written as JSON Lines; call it .jsonl.')
    if target.exists():
        raise UserError(
            f"{target} is there already, and may have been edited: delete it or move it away to have it made anew"
            " (the replies are kept: nothing is asked twice)."
        )


def messages_for(article: Article, count: int) -> list[dict[str, str]]:
    said = ASK.format(
        count=count,
        longest=LONGEST_ANSWER,
        topic=article.topic or "–",
        date=article.date or "–",
        content=article.content,
    )
    return [{"role": "system", "content": ROLE}, {"role": "user", "content": said}]


def say_calls(service: "Service", articles: list[Article], count: int, target: Path) -> None:
    missing = sum(service.unanswered(messages_for(article, count), Proposals) is not None for article in articles)
    print(f"{len(articles)} articles, {count} questions each: {missing} calls of {service.settings.model}")
    print(f"{len(articles) - missing} replies are in the cache ({service.folder}) and cost nothing")
    if target.exists():
        print(f"{target} is there already, and would not be overwritten")


def ask_all(
    service: "Service", articles: list[Article], count: int
) -> tuple[list[dict[str, Any]], dict[str, int], list[str]]:
    """Rows of the file, how many questions were refused by reason, and the articles whose reply could not be read."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    rows: list[dict[str, Any]] = []
    refused: dict[str, int] = {}
    unread: list[str] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for article in bar.track(articles, description="articles"):
            answer = service.ask(messages_for(article, count), Proposals)
            if answer.value is None:
                unread.append(article.index)
                continue
            kept, reasons = accept(answer.value, article)
            rows += kept
            for reason in reasons:
                refused[reason] = refused.get(reason, 0) + 1
    return rows, refused, unread


def accept(proposals: Proposals, article: Article) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows for the questions that can be used, and for each of the others the reason why not."""
    content = normalise(article.content)
    kept: list[dict[str, Any]] = []
    reasons: list[str] = []
    asked: set[str] = set()
    for each in proposals.questions:
        question, answer = " ".join(each.question.split()), " ".join(each.answer.split())
        right = normalise(answer)
        wrong = {normalise(text): " ".join(text.split()) for text in each.wrong if normalise(text).strip()}
        wrong.pop(right, None)
        if not right.strip() or not normalise(question).strip():
            reasons.append(EMPTY)
        elif right not in content:
            reasons.append(NOT_IN_ARTICLE)
        elif normalise(question) in asked:
            reasons.append(TWICE)
        elif not wrong:
            reasons.append(NOTHING_WRONG)
        else:
            asked.add(normalise(question))
            kept.append(
                {"article": article.index, "question": question, "answer": answer, "wrong": list(wrong.values())}
            )
    # The first ones are what an article is most of all about, and the first TESTED test it: both uses get of each kind.
    random.Random(article.index).shuffle(kept)
    return kept, reasons


def say_what_came(
    service: "Service", target: Path, rows: list[dict[str, Any]], refused: dict[str, int], unread: list[str]
) -> None:
    """Everything that was asked for and is not in the file is said. Raises MachineError where nothing is in it."""
    totals = service.totals
    articles = len({row["article"] for row in rows})
    if rows:
        print(f"{target}: {len(rows)} questions about {articles} articles; the first {TESTED} of an article test it")
    for reason, times in refused.items():
        print(f"  {times} refused: {reason}")
    if unread:
        print(f"  {len(unread)} replies could not be read, even asked again: articles {', '.join(unread)}")
    tokens = totals.prompt_tokens + totals.completion_tokens
    print(f"  {totals.calls} calls ({tokens:,} tokens), {totals.from_cache} replies from the cache")
    if not rows:
        raise MachineError(f"no question could be used, and {target} was not written. Replies are in {service.folder}.")


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
