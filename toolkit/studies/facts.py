"""The user's own facts: a table with a row a fact, and a question and an answer that name its columns in braces.

name,number
Ann,00123        prompt = "What is the number of {name}?", answer = "{number}", reverse = "Whose number is {number}?"

{"id": "fact-00002", "prompt": "What is the number of Ann?", "answer": "00123", "split": "train", "foil": "70418", ...}

White space around a value and around a column's name is left out; everything else stays as it is in the table.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, NamedTuple

from pydantic import Field

from toolkit.errors import UserError, is_text, nearest
from toolkit.example import Example, Split
from toolkit.studies.built import Built
from toolkit.studies.tables import Other, Problems, read_rows

MOST_ROWS = 100_000
"""All of them are held in memory and compared; a reading of so many takes minutes."""
LONGEST_ANSWER = 2_000
"""Characters; tokens are counted later, against [model] max_length."""
PLACE = re.compile(r"\{([^{}]*)\}")
NO_QUESTIONS: list[str] = []


class Template(NamedTuple):
    """A text with columns in braces, as a key of [data] says it."""

    key: str
    text: str

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name.strip() for name in PLACE.findall(self.text)))

    def fill(self, values: dict[str, str]) -> str:
        # In one go: braces within a value stay what they are.
        return PLACE.sub(lambda place: values[place[1].strip()], self.text)


class Question(NamedTuple):
    """One way to ask for a fact."""

    variant: str
    prompt: Template
    answer: Template


class Fact(NamedTuple):
    """One row, as far as it is asked for."""

    row: int
    values: dict[str, str]
    prompt: str
    answer: str


def build(
    data_seed: int,
    assignment_seed: int,
    source: Annotated[
        str,
        Field(
            description="The table: a .csv, .tsv, .json, .jsonl or .parquet file, or a hub data set, owner/name:split."
        ),
    ],
    prompt: Annotated[str, Field(description="The question; a column of the table stands in braces, such as {name}.")],
    answer: Annotated[str, Field(description="The answer; a column of the table stands in braces, such as {number}.")],
    controls: Annotated[
        int,
        Field(ge=0, le=MOST_ROWS, description="How many facts, drawn, are never trained: they give the chance level."),
    ] = 0,
    count: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_ROWS,
            description="How many facts are trained, drawn from the first 100,000 rows; every row if left out.",
        ),
    ] = None,
    paraphrases: Annotated[
        list[str], Field(description="Other questions with the same answer, asked of trained facts and never trained.")
    ] = NO_QUESTIONS,
    reverse: Annotated[
        str, Field(description='Asks the other way round, such as "Whose number is {number}?"; "" for not at all.')
    ] = "",
    reverse_answer: Annotated[
        str, Field(description="The answer to the reversed question; the prompt's column, if it names just one.")
    ] = "",
) -> Built:
    """Trained facts with foils, controls, and other questions for the trained ones.

    Raises UserError for templates that do not fit the table, and for every row that is no fact, by its number.
    """
    questions = read_questions(prompt, answer, paraphrases, reverse, reverse_answer)
    facts = read_facts(source, questions, some=count is not None)
    trained, held_out = assign(facts, count, controls, source, assignment_seed)
    rng = random.Random(data_seed)
    rng.shuffle(trained)
    foils = draw_foils(facts, trained, held_out, rng)
    width = max(5, len(str(facts[-1].row)))
    examples = [example_of(fact, "train", foil, width) for fact, foil in zip(trained, foils, strict=True)]
    examples += [example_of(fact, "control", None, width) for fact in held_out]
    lengths = {len(fact.answer) if is_number(fact.answer) else None for fact in trained + held_out}
    for question in questions[1:]:
        examples += ask_otherwise(facts, trained, question, width)
    return Built(
        examples,
        # No entropy and no floors: those are a generator's, and nobody knows how a user's answers came to be.
        answer_digits=lengths.pop() if len(lengths) == 1 else None,
    )


# --- templates ---


def read_questions(
    prompt: str, answer: str, paraphrases: list[str], reverse: str, reverse_answer: str
) -> list[Question]:
    """The trained question, then the others. Raises UserError where one cannot tell facts apart or says its answer."""
    asked, answered = Template("prompt", prompt), Template("answer", answer)
    questions = [Question("plain", asked, answered)]
    for number, text in enumerate(paraphrases, start=1):
        if text in (prompt, *paraphrases[: number - 1]):
            what = "the trained prompt itself" if text == prompt else "there twice"
            raise UserError(f'[data] paraphrases: "{text}" is {what}.')
        questions.append(Question(f"paraphrase-{number}", Template("paraphrases", text), answered))
    if reverse_answer and not reverse:
        raise UserError('[data] reverse_answer is said, but no question: say reverse, such as "Whose is {number}?".')
    if reverse:
        if not reverse_answer and len(asked.columns) != 1:
            named = in_braces(asked.columns)
            raise UserError(f"[data] reverse: the prompt names {named}; say in reverse_answer which is asked for.")
        expected = Template("reverse_answer", reverse_answer or f"{{{asked.columns[0]}}}")
        questions.append(Question("reversed", Template("reverse", reverse), expected))
    for question in questions:
        refuse_question(question)
    return questions


def in_braces(columns: list[str]) -> str:
    return ", ".join(f"{{{column}}}" for column in columns)


def refuse_question(question: Question) -> None:
    for template in (question.prompt, question.answer):
        if not template.columns or "" in template.columns or re.search(r"[{}]", PLACE.sub("", template.text)):
            raise UserError(
                f'[data] {template.key} = "{template.text}": it must name a column of the table in braces, such as'
                " {name}, and have no other braces."
            )
    if set(question.answer.columns) <= set(question.prompt.columns):
        said = f'[data] {question.prompt.key} = "{question.prompt.text}"'
        raise UserError(f"{said} gives its answer away: it names {in_braces(question.answer.columns)}.")


def refuse_unknown(questions: list[Question], columns: list[str], source: str) -> None:
    complaints = []
    for template in dict.fromkeys(template for question in questions for template in question[1:]):
        for column in template.columns:
            if column not in columns:
                near = nearest(column, columns)
                hint = f"did you mean {{{near}}}? " if near else ""
                complaints.append(
                    f"[data] {template.key} names {{{column}}}, which is no column of {source}; {hint}It has"
                    f" {', '.join(filter(None, columns))}."
                )
    if complaints:
        raise UserError("\n  ".join(dict.fromkeys(complaints)))


# --- rows ---


def read_facts(source: str, questions: list[Question], *, some: bool) -> list[Fact]:
    """Every row as a fact, up to 100,000. Raises UserError for all rows at once that are none.

    some: fewer facts will be drawn from them, so that rows beyond that are left alone; else they are refused.
    """
    problems = Problems(source)
    facts: list[Fact] = []
    by_prompt: dict[str, Fact] = {}
    used = Used(questions)
    for row in read_rows(source, problems):
        if not facts:
            refuse_unknown(questions, list(row.values), source)
        if len(facts) == MOST_ROWS:
            if some:
                break
            raise UserError(
                f"{source} has over {MOST_ROWS:,} rows: say [data] count, and so many are drawn from the first"
                f" {MOST_ROWS:,} (shuffle the rows of a sorted table first)."
            )
        values = {column: row.values.get(column, "").strip() for column in used.columns}
        fact = Fact(row.number, values, questions[0].prompt.fill(values), questions[0].answer.fill(values))
        facts.append(fact)
        wrong = wrong_value(row.values, values, used) or wrong_text(values, questions)
        if not wrong and (other := by_prompt.setdefault(fact.prompt, fact)) is not fact:
            wrong = repeated(fact, other, f"{problems.unit} {other.row}")
        if wrong:
            problems.add(row.number, wrong)
    problems.refuse()
    return facts


class Used:
    """The columns that questions and answers name."""

    def __init__(self, questions: list[Question]) -> None:
        self.columns = list(dict.fromkeys(name for asked in questions for part in asked[1:] for name in part.columns))
        self.answered = {name for asked in questions for name in asked.answer.columns}
        self.told: set[str] = set()
        """Columns that are stored as something else than text: said once, not in every row."""


def wrong_value(raw: dict[str, str], values: dict[str, str], used: Used) -> str | None:
    for column, value in values.items():
        stored = raw.get(column)
        kind = stored.kind if isinstance(stored, Other) else None
        # What is asked for is held to every digit; in a prompt a number is as good as its text.
        if kind and (kind != "a number" or column in used.answered):
            if column in used.told:
                return None
            used.told.add(column)
            lost = ", which has lost the zeros at its front" if kind == "a number" else ""
            return f"`{column}` is stored as {kind}{lost}: store the column as text (JSON: in quotes)"
        if not value:
            return f"`{column}` is empty"
        if not value.isascii() and not is_text(value):
            return f"`{column}` holds half a character (\\ud800 to \\udfff), which no text has"
    return None


def wrong_text(values: dict[str, str], questions: list[Question]) -> str | None:
    for template in dict.fromkeys(asked.answer for asked in questions):
        length = len(template.fill(values))
        if length > LONGEST_ANSWER:
            return f"its {template.key} has {length:,} characters, over {LONGEST_ANSWER:,}"
    return None


def repeated(fact: Fact, other: Fact, place: str) -> str:
    if fact.answer == other.answer:
        return f"{place} says the same (a fact that stands twice would be trained twice)"
    said = other.answer if len(other.answer) <= 40 else other.answer[:39] + "…"
    return f'{place} answers the same prompt by "{said}"'


# --- examples ---


def assign(
    facts: list[Fact], count: int | None, controls: int, source: str, seed: int
) -> tuple[list[Fact], list[Fact]]:
    """Facts to train and facts to hold out, drawn. With another count the same ones are held out."""
    if (count or 1) + controls > len(facts):
        asked = f"{count or 'at least one'} trained and {controls} control facts"
        raise UserError(f"[data] {source} has {len(facts):,} rows, too few for {asked}: lower count or controls.")
    order = random.Random(seed).sample(facts, len(facts))
    return order[controls:][:count], order[:controls]


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def draw_foils(facts: list[Fact], trained: list[Fact], held_out: list[Fact], rng: random.Random) -> list[str | None]:
    """For each trained fact a number of as many digits that is no answer of the table, where its answer is a number;
    else a control's answer that is never trained. None where there is none."""
    answers = {fact.answer for fact in facts}
    digits = Counter(len(answer) for answer in answers if is_number(answer))
    # Where most numbers are taken, those left are few, and are drawn from a list.
    left = {
        length: [text for number in range(10**length) if (text := f"{number:0{length}d}") not in answers]
        for length, taken in digits.items()
        if 2 * taken > 10**length
    }
    trained_answers = {fact.answer for fact in trained}
    others = [fact.answer for fact in held_out if fact.answer not in trained_answers]

    def draw(position: int, answer: str) -> str | None:
        if not is_number(answer):
            return others[position % len(others)] if others else None
        if len(answer) in left:
            return rng.choice(left[len(answer)]) if left[len(answer)] else None
        while (foil := "".join(rng.choices("0123456789", k=len(answer)))) in answers:
            pass
        return foil

    return [draw(position, fact.answer) for position, fact in enumerate(trained)]


def example_of(fact: Fact, split: Split, foil: str | None, width: int) -> Example:
    identity = f"fact-{fact.row:0{width}d}"
    # The number last, as a column may be called "row" too.
    info = {**fact.values, "row": fact.row}
    return Example(identity, identity, fact.prompt, fact.answer, split, foil=foil, info=info)


def ask_otherwise(facts: list[Fact], trained: list[Fact], question: Question, width: int) -> Iterator[Example]:
    """Trained facts asked by another question, but for those to which the table has several answers."""
    ambiguous = several_answers(facts, question)
    for fact in trained:
        text = question.prompt.fill(fact.values)
        if text not in ambiguous:
            plain = example_of(fact, "test", None, width)
            answer, variant = question.answer.fill(fact.values), question.variant
            yield replace(plain, id=f"{plain.id}-{variant}", prompt=text, answer=answer, variant=variant)


def several_answers(facts: list[Fact], question: Question) -> set[str]:
    """The questions that two rows answer differently. Raises UserError where that is every one of them."""
    answers: dict[str, str] = {}
    found = set()
    for fact in facts:
        text, answer = question.prompt.fill(fact.values), question.answer.fill(fact.values)
        if answers.setdefault(text, answer) != answer:
            found.add(text)
    if len(found) == len(answers):
        said = f'[data] {question.prompt.key} = "{question.prompt.text}"'
        raise UserError(f"{said}: no fact can be asked so, as the table has several answers to each such question.")
    return found
