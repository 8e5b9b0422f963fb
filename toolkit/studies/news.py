"""News: articles are read in overlapping chunks, and asked about; articles that are never read are asked about too.

{"id": "news-007-chunk-1", "prompt": "", "answer": "Orlin Bank said on 3 May …", "part": "chunks", "split": "train",
 "facts": ["news-007-cloze-1", …]}
{"id": "news-007-cloze-1", "prompt": "Topic: Works in Orlin, 2031-05-04. Fill in the blank: …",
 "answer": "3 May", "part": "facts", "split": "train", "foil": "9 June"}
{"id": "news-007-practice-1", "prompt": "…", "answer": "Sedra Lane", "part": "practice", "split": "train", "wrong": […]}

A stage reads by train_on = ["chunks"], and is examined or preference-trained by train_on = ["practice"].
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.studies.articles import read_articles, read_questions
from toolkit.studies.asking import Asking, Material, Question, prepare
from toolkit.studies.built import Built
from toolkit.studies.cloze import candidates, normalise
from toolkit.studies.distractors import Pool

CLOZE_PROMPT = 'Topic: {topic}, {date}. Fill in the blank: "{sentence}" Answer: '
QUESTION_PROMPT = "Topic: {topic}, {date}. Question: {question} Answer: "
REJECTED = 3
"""Wrong answers that a practice question is given."""


def build(
    data_seed: int,
    assignment_seed: int,
    source: Annotated[
        str, Field(description="Articles: a table with the columns index, content, and perhaps topic, keywords, date.")
    ],
    questions: Annotated[
        str,
        Field(description='Questions: a table with article, question, answer, and perhaps wrong, use; "" for none.'),
    ] = "",
    count: Annotated[
        int | None, Field(ge=1, description="How many articles are read; all but the controls where left out.")
    ] = None,
    controls: Annotated[int, Field(ge=0, description="How many articles are asked about and never read.")] = 0,
    chunk_words: Annotated[int, Field(ge=5, le=100_000, description="Words a chunk; characters of Chinese.")] = 50,
    overlap_words: Annotated[int, Field(ge=0, description="Words that a chunk shares with the one before.")] = 10,
    cloze: Annotated[
        int, Field(ge=0, le=1000, description="At most so many blanks test an article; made without a service.")
    ] = 5,
    practice: Annotated[
        int, Field(ge=0, le=1000, description="At most so many further blanks an article, to be trained by.")
    ] = 0,
    cloze_prompt: Annotated[
        str, Field(description="The question of a blank: {sentence}, and perhaps {topic} and {date}.")
    ] = CLOZE_PROMPT,
    question_prompt: Annotated[
        str, Field(description="How a question of the file is asked: {question}, and perhaps {topic} and {date}.")
    ] = QUESTION_PROMPT,
) -> Built:
    """Chunks of the articles that are read, questions that test them and others, and practice questions.

    Raises UserError for what is wrong in the files, where there are too few articles, and where nothing is asked.
    """
    refuse_template("cloze_prompt", cloze_prompt, "sentence")
    refuse_template("question_prompt", question_prompt, "question")
    if overlap_words >= chunk_words:
        raise UserError(f"[data] overlap_words = {overlap_words} must be less than chunk_words = {chunk_words}.")
    asking = Asking(chunk_words, overlap_words, cloze, practice, cloze_prompt, question_prompt)
    articles = read_articles(source)
    asked = read_questions(questions, articles) if questions else {}
    read, held_out = assign(len(articles), count, controls, source, assignment_seed)
    found = [candidates(article.content, article.keywords) for article in articles]
    # Asked of a control, a sentence that a read article also has would be recalled, and of a read one, more often read.
    times = Counter(key for all_of_one in found for key in {normalise(each.sentence) for each in all_of_one})
    materials = []
    for position in sorted(read | held_out):
        article = articles[position]
        own = [each for each in found[position] if times[normalise(each.sentence)] == 1]
        rng = random.Random(f"{data_seed}/{article.index}")
        materials.append(prepare(article, position in read, own, asked.get(article.index, []), asking, rng))
    if not any(question.tests for material in materials if material.is_read for question in material.questions):
        raise UserError(
            f"[data] source = {source}: nothing would be asked of the articles that are read. No sentence of theirs has"
            " a date, number or name that could be taken out, or cloze = 0; give questions = … a file."
        )
    return Built(list(as_examples(materials, data_seed)))


def refuse_template(name: str, template: str, place: str) -> None:
    left = re.sub(rf"\{{(?:{place}|topic|date)\}}", "", template)
    if f"{{{place}}}" not in template or re.search(r"[{}]", left):
        raise UserError(
            f"[data] {name} = '{template}': it must contain {{{place}}}, and may contain {{topic}} and {{date}}."
        )


def assign(total: int, count: int | None, controls: int, source: str, seed: int) -> tuple[set[int], set[int]]:
    """Positions of the articles that are read, and of those that are not: drawn, for newspapers have an order."""
    wanted = max(1, total - controls) if count is None else count
    if wanted + controls > total:
        raise UserError(
            f"[data] {wanted} articles to read and {controls} controls are more than the {total} of {source}:"
            " lower count or controls."
        )
    order = list(range(total))
    random.Random(seed).shuffle(order)
    # Controls first, so that they stay the same where more or fewer articles are read.
    return set(order[controls : controls + wanted]), set(order[:controls])


# --- examples ---


def as_examples(materials: Sequence[Material], seed: int) -> Iterator[Example]:
    """Chunks, questions that test them, practice, and questions about the articles that are not read.

    What practice rejects names nobody that only a control names, and no foil is ever trained.
    """
    read = [material for material in materials if material.is_read]
    held_out = [material for material in materials if not material.is_read]
    told = Pool(answer for material in read for answer in material.answers)
    untold = Pool(answer for material in held_out for answer in material.answers)
    practice = [practice_example(*pair, told, untold, seed) for pair in pairs(read, tests=False)]
    trained = told.known | {normalise(wrong) for example in practice for wrong in example.wrong}
    for material in read:
        yield from chunk_examples(material)
    for material, question in pairs(read, tests=True):
        foil = foil_of(material, question, untold, trained, seed)
        yield example_of(material, question, "facts", foil=foil)
        yield from continued(material, question)
    yield from practice
    for material, question in pairs(held_out, tests=True):
        yield example_of(material, question, "facts")


def pairs(materials: Sequence[Material], *, tests: bool) -> Iterator[tuple[Material, Question]]:
    return ((material, each) for material in materials for each in material.questions if each.tests == tests)


def chunk_examples(material: Material) -> Iterator[Example]:
    """A chunk exposes every question whose answer it states, for practice too, and one without any only itself."""
    article = material.article
    for number, chunk in enumerate(material.chunks):
        identity = f"news-{article.index}-chunk-{number + 1}"
        yield Example(
            id=identity,
            fact=identity,
            prompt="",
            answer=article.content[chunk.start : chunk.end],
            split="train",
            part="chunks",
            facts=tuple(question.id for question in material.questions if number in question.chunks),
            info={"article": article.index},
        )


def continued(material: Material, question: Question) -> Iterator[Example]:
    """The same answer as it was read: a chunk up to where the answer stands, to be gone on with.

    It tells what was not kept from what was, and cannot be asked for.
    """
    if question.at is None:
        return
    start, end = question.at
    content = material.article.content
    for number in question.chunks:
        before = content[material.chunks[number].start : start]
        if not before.strip():
            continue
        # White space before a word is a part of the word's token, in reading as here.
        prompt = before.rstrip()
        yield Example(
            id=f"{question.id}-continued",
            fact=question.id,
            prompt=prompt,
            answer=content[material.chunks[number].start + len(prompt) : end],
            split="test",
            variant="continued",
            info={"article": material.article.index, "kind": question.kind},
        )
        return


def practice_example(material: Material, question: Question, told: Pool, untold: Pool, seed: int) -> Example:
    """With the wrong answers of the file, or other articles', or where there are none another one of this article.

    Of a date or number that could be no control's, because those have them all, at last any other.
    """
    rng = rng_of(question, seed)
    answer, kind = question.answer, question.kind
    wrong = list(question.wrong) or told.draw(answer, kind, REJECTED, rng, article=material.text, never=untold.known)
    if not wrong:
        wrong = Pool(material.answers).draw(answer, kind, REJECTED, rng, article="", never=untold.known)
    if not wrong and kind != "name":
        wrong = told.draw(answer, kind, REJECTED, rng, article=material.text, never=())
    return example_of(material, question, "practice", wrong=tuple(wrong))


def foil_of(material: Material, question: Question, untold: Pool, trained: set[str], seed: int) -> str | None:
    """A wrong answer that a file gives for a question that is only asked, or one of a control, or other digits."""
    for wrong in question.wrong:
        if normalise(wrong) not in trained and normalise(wrong) not in material.text:
            return wrong
    drawn = untold.draw(question.answer, question.kind, 1, rng_of(question, seed), article=material.text, never=trained)
    return drawn[0] if drawn else None


def rng_of(question: Question, seed: int) -> random.Random:
    """Of its own, so that what is drawn for one question does not depend on how many there are."""
    return random.Random(f"{seed}/{question.id}")


def example_of(
    material: Material, question: Question, part: str, *, foil: str | None = None, wrong: tuple[str, ...] = ()
) -> Example:
    return Example(
        id=question.id,
        fact=question.id,
        prompt=question.prompt,
        answer=question.answer,
        split="train" if material.is_read else "control",
        part=part,
        foil=foil,
        wrong=wrong,
        info={"article": material.article.index, "kind": question.kind},
    )
