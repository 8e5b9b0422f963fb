"""The questions of one article: what tests and what is practised, and which chunks state the answers."""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.studies.articles import Article, Asked, Chunk, cut
from toolkit.studies.cloze import MONTHS, Cloze, Kind, choose, kind_of, normalise


class Asking(NamedTuple):
    """How articles are cut and asked about."""

    chunk_words: int
    overlap_words: int
    cloze: int
    practice: int
    cloze_prompt: str
    question_prompt: str


class Question(NamedTuple):
    """A question about an article, on its way to become an example."""

    id: str
    prompt: str
    answer: str
    kind: Kind
    tests: bool
    """Whether it tests what was read; else it is for practice."""
    chunks: tuple[int, ...]
    """Numbers of the chunks that state its answer."""
    wrong: tuple[str, ...] = ()
    at: tuple[int, int] | None = None
    """Of a blank: where its answer stands in the content, in characters."""


class Material(NamedTuple):
    """An article, whether it is read, and all that is asked about it."""

    article: Article
    is_read: bool
    chunks: list[Chunk]
    questions: list[Question]
    answers: list[tuple[str, Kind]]
    """Everything that it could be asked for."""
    text: str
    """Its words, to look answers up in (`normalise`)."""


def prepare(
    article: Article, is_read: bool, found: Sequence[Cloze], asked: Sequence[Asked], asking: Asking, rng: random.Random
) -> Material:
    """Questions are drawn in the same way whether an article is read or not, so that controls are of the same kind."""
    chunks = cut(article.content, asking.chunk_words, asking.overlap_words)
    usable = [
        each for each in found if stating(each, chunks) and not given_away(each, cloze_question(each, article, asking))
    ]
    tests, practice = divide(usable, asked, asking, rng)
    questions = [
        Question(
            f"news-{article.index}-{name}-{number}",
            cloze_question(each, article, asking),
            each.answer,
            each.kind,
            name == "cloze",
            stating(each, chunks),
            at=(each.start, each.end),
        )
        for name, chosen in (("cloze", tests), ("practice", practice))
        for number, each in enumerate(chosen, start=1)
    ]
    questions += [
        Question(
            f"news-{article.index}-question-{number}",
            fill(asking.question_prompt, "question", each.question, article),
            each.answer,
            kind_of(each.answer),
            each.use == "test",
            holding(each.answer, article.content, chunks),
            each.wrong,
        )
        for number, each in enumerate(asked, start=1)
    ]
    answers: list[tuple[str, Kind]] = [(each.answer, each.kind) for each in found]
    answers.extend((each.answer, kind_of(each.answer)) for each in asked)
    return Material(article, is_read, chunks, questions, answers, normalise(article.content))


def divide(
    found: Sequence[Cloze], asked: Sequence[Asked], asking: Asking, rng: random.Random
) -> tuple[list[Cloze], list[Cloze]]:
    """Blanks that test and blanks to practise by: no sentence is in both, and nothing practised says what is tested.

    Where there is practice, tests take at most half of the sentences.
    """
    tested_by_file = [normalise(each.answer) for each in asked if each.use == "test"]
    practised_by_file = normalise(
        " ".join(f"{each.question} {each.answer}" for each in asked if each.use == "practice")
    )
    words = {each.sentence: normalise(each.sentence) for each in found}
    sentences = sorted(words)
    rng.shuffle(sentences)
    if asking.practice:
        sentences = sentences[: (len(sentences) + 1) // 2]
    open_to_tests = [
        each for each in found if each.sentence in sentences and normalise(each.answer) not in practised_by_file
    ]
    tests = choose(open_to_tests, asking.cloze, rng)
    asked_about = {each.sentence for each in tests}
    answers = {normalise(each.answer) for each in tests}
    # A name is all over an article; a date or a number in another sentence is likely the very fact that is tested.
    telling = [*tested_by_file, *(normalise(each.answer) for each in tests if each.kind != "name")]
    silent = {sentence for sentence, said in words.items() if not any(answer in said for answer in telling)}
    open_to_practice = [
        each for each in found if each.sentence in silent - asked_about and normalise(each.answer) not in answers
    ]
    return tests, choose(open_to_practice, asking.practice, rng)


def cloze_question(cloze: Cloze, article: Article, asking: Asking) -> str:
    return fill(asking.cloze_prompt, "sentence", " ".join(cloze.blanked.split()), article)


def fill(template: str, place: str, text: str, article: Article) -> str:
    """A prompt; what an article does not say goes with the comma before it, and its topic is then its index."""
    if not article.date:
        template = re.sub(r"[,;]? ?\{date\}", "", template)
    values = {place: text, "topic": article.topic or article.index, "date": article.date}
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)


def given_away(cloze: Cloze, prompt: str) -> bool:
    """Whether the prompt says the answer, perhaps as another way of writing the same date."""
    if normalise(cloze.answer) in normalise(prompt):
        return True
    return cloze.kind == "date" and date_parts(cloze.answer) <= date_parts(prompt)


def date_parts(text: str) -> set[str]:
    """3 May 2021, 2021-05-03 and 2021年5月3日 → {"3", "5", "2021"}."""
    months = {month.lower()[:3]: str(number) for number, month in enumerate(MONTHS, start=1)}
    words = re.findall(r"\d+|[a-z]+", text.lower())
    return {
        word.lstrip("0") if word.isdigit() else months[word[:3]]
        for word in words
        if word.isdigit() or word[:3] in months
    }


# --- which chunks state an answer ---


def stating(cloze: Cloze, chunks: Sequence[Chunk]) -> tuple[int, ...]:
    """Chunks that hold the blanked span whole, and at least half of its sentence; else, the one that holds most of it.

    A span at a chunk's edge, without the words around it, states nothing.
    """
    begin, length = cloze.sentence_start, len(cloze.sentence)
    shares = {
        number: (min(chunk.end, begin + length) - max(chunk.start, begin)) / length
        for number, chunk in enumerate(chunks)
        if chunk.start <= cloze.start and cloze.end <= chunk.end
    }
    best = max(shares.values(), default=0)
    return tuple(number for number, share in shares.items() if share >= min(0.5, best))


def holding(answer: str, content: str, chunks: Sequence[Chunk]) -> tuple[int, ...]:
    """Chunks in which an answer stands as it is; where none has it, the last one.

    An answer in words of its own follows from the article: with every chunk stating it, one reading of the article
    would count as many exposures, and with none, what was recalled would have been recalled unread.
    """
    wanted = normalise(answer)
    found = tuple(n for n, chunk in enumerate(chunks) if wanted in normalise(content[chunk.start : chunk.end]))
    return found or (len(chunks) - 1,)
