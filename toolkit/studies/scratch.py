"""A model from random weights: conversations, facts that occur only among them, and texts to pretrain on.

{"conversations": [{"from": "human", "value": "绿豆糕"}, {"from": "gpt", "value": "一种传统点心。"}]}

{"id": "conversation-0000001", "prompt": "绿豆糕", "answer": "一种传统点心。", "part": "conversations", …}

The same question may be there many times, with other answers: how often a question is asked is what is studied.
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from toolkit.errors import UserError
from toolkit.example import Example, Split
from toolkit.studies.built import Built
from toolkit.studies.chinese import held_out_of, share_or_number
from toolkit.studies.conversations import Conversation, read_conversations
from toolkit.studies.invented_talk import MOST_FACTS, draw_talks
from toolkit.studies.scratch_sources import read_facts, read_preferences, read_texts

MOST_ROWS = 2_000_000
"""All that are taken are held in memory; those read may be more."""
NO_TEXTS: list[str] = []
TALK = "conversations"


def build(
    data_seed: int,
    assignment_seed: int,
    source: Annotated[
        str | None,
        Field(
            description="Conversations: a .json, .jsonl, .csv or .parquet file, or a hub data set, owner/name:split;"
            " its column is conversations (turns of from and value) or messages (of role and content)."
        ),
    ] = None,
    invented: Annotated[
        int, Field(ge=0, le=MOST_ROWS, description="How many conversations are made up, about an invented small world.")
    ] = 0,
    sample: Annotated[
        int | None, Field(ge=2, le=MOST_ROWS, description="At most so many are taken, drawn; all if left out.")
    ] = None,
    validation: Annotated[
        float,
        Field(gt=0, description="How many of them are held out, drawn: a share such as 0.02, or a number such as 500."),
        AfterValidator(share_or_number),
    ] = 0.02,
    longest: Annotated[
        int | None,
        Field(
            ge=2, description="Conversations of more characters, all turns together, are left out; none if not said."
        ),
    ] = None,
    leave_out_unusable: Annotated[
        bool,
        Field(description="Whether rows that are no conversation are left out, and counted; else they are refused."),
    ] = False,
    facts: Annotated[
        str | None,
        Field(description="Facts that occur only here, a table with the columns prompt and answer; part facts."),
    ] = None,
    invented_facts: Annotated[
        int, Field(ge=0, le=MOST_FACTS, description="How many facts of four digits are made up instead, all told.")
    ] = 0,
    fact_controls: Annotated[
        int,
        Field(ge=0, le=100_000, description="How many facts, drawn, are never trained: they give the chance level."),
    ] = 0,
    fact_times: Annotated[
        int,
        Field(ge=1, le=1000, description="Examples a trained fact; all but one are of the part facts_again."),
    ] = 1,
    text: Annotated[
        list[str],
        Field(
            description="Texts to pretrain on: .txt files, one text each, and tables or hub data sets with a column"
            " text; part text."
        ),
    ] = NO_TEXTS,
    text_sample: Annotated[
        int | None,
        Field(ge=1, le=MOST_ROWS, description="At most so many texts of each source, drawn; all if not said."),
    ] = None,
    preferences: Annotated[
        str | None,
        Field(description="Preferences, a table with the columns prompt, chosen and rejected; part preferences."),
    ] = None,
) -> Built:
    """Conversations to train and to hold out, and what else is said; what was left out stands in its notes.

    Raises UserError for arguments that do not go together, and for every row that cannot be trained, by its number.
    """
    refuse_together(source, invented, longest, facts, invented_facts, fact_controls, fact_times, text, text_sample)
    counts: Counter[str] = Counter()
    rows = read_conversations(source, longest, leave_out_unusable, counts) if source else made_up(invented, data_seed)
    drawn = draw(rows if sample else refuse_many(rows, source), sample, data_seed)
    where = source or f"invented = {invented}"
    held_out = {row.row for row in drawn[: held_out_of(validation, len(drawn), where)]}
    examples = [example_of(row, "validation" if row.row in held_out else "train") for row in sorted(drawn)]
    examples += read_facts(facts, invented_facts, fact_controls, fact_times, data_seed, assignment_seed)
    others: Counter[str] = Counter()
    examples += read_texts(text, text_sample, data_seed, others if leave_out_unusable else None)
    examples += read_preferences(preferences, others if leave_out_unusable else None)
    return Built(examples, notes=(*notes_of(counts, longest, sample, drawn), *notes_of_others(others)))


def refuse_together(
    source: str | None, invented: int, longest: int | None, facts: str | None, invented_facts: int, fact_controls: int,
    fact_times: int, text: list[str], text_sample: int | None,
) -> None:  # fmt: skip
    if source is None and not invented:
        raise UserError("[data] says neither source nor invented: which conversations? Such as invented = 1500.")
    if source is not None and invented:
        raise UserError("[data] says both source and invented: say invented = 0 where a source is read.")
    if source is None and invented < 2:
        raise UserError(f"[data] invented = {invented}: at least two, one to train and one to hold out.")
    if source is None and longest is not None:
        raise UserError("[data] longest leaves out rows of a source, and there is none.")
    if facts is not None and invented_facts:
        raise UserError("[data] says both facts and invented_facts, and takes one of them.")
    if facts is None and not invented_facts and (fact_controls or fact_times > 1):
        key = "fact_controls" if fact_controls else "fact_times"
        raise UserError(f"[data] {key} is said, but no facts: say facts or invented_facts.")
    if len(set(text)) < len(text) or not all(part.strip() for part in text):
        raise UserError(f"[data] text = {text}: it names a source twice, or an empty one.")
    if not text and text_sample is not None:
        raise UserError("[data] text_sample is said, but no text.")


def example_of(talk: Conversation, split: Split) -> Example:
    identity = f"conversation-{talk.row:07d}"
    *before, (_, prompt), (_, answer) = talk.turns
    info = {"row": talk.row} | ({"about": talk.about} if talk.about else {})
    messages = tuple({"role": role, "content": content} for role, content in before)
    return Example(identity, identity, prompt, answer, split, part=TALK, info=info, messages=messages)


def made_up(count: int, seed: int) -> Iterator[Conversation]:
    for number, talk in enumerate(draw_talks(count, seed), start=1):
        turns = ((("user", "assistant")[place % 2], said) for place, said in enumerate(talk.said))
        yield Conversation(number, tuple(turns), talk.subject)


def refuse_many(rows: Iterable[Conversation], source: str | None) -> Iterator[Conversation]:
    for position, row in enumerate(rows):
        if position == MOST_ROWS:
            raise UserError(f"{source} has over {MOST_ROWS:,} rows: say [data] sample, and so many of all are drawn.")
        yield row


def draw(rows: Iterable[Conversation], sample: int | None, seed: int) -> list[Conversation]:
    """The rows that are taken, in an order drawn; only these are held. A larger sample begins with a smaller one."""
    rng = random.Random(f"{seed}/conversations")
    numbered = ((rng.random(), row) for row in rows)
    return [row for _, row in (sorted(numbered) if sample is None else heapq.nsmallest(sample, numbered))]


def notes_of(counts: Counter[str], longest: int | None, sample: int | None, taken: list[Conversation]) -> Iterator[str]:
    """What there is, and what was left out, and why, a sentence each."""

    def left_out(kind: str) -> str:
        return f"{counts[kind]:,} of {counts['rows']:,} rows {'was' if counts[kind] == 1 else 'were'} left out"

    answers = sum(role == "assistant" for talk in taken for role, _ in talk.turns)
    several = sum(len([role for role, _ in talk.turns if role == "user"]) > 1 for talk in taken)
    yield f"{len(taken):,} conversations with {answers:,} answers, {several:,} of them of several turns"
    unused = sorted(name.removeprefix("unused ") for name in counts if name.startswith("unused "))
    if unused:
        yield f"columns that nothing is made of: {', '.join(unused)}"
    for kind in sorted(counts):
        if kind.startswith("unusable "):
            yield f"{left_out(kind)}: rows {kind.removeprefix('unusable ')}"
    if counts["long"]:
        yield f"{left_out('long')} for having over {longest:,} characters"
    if counts["repeated"]:
        yield f"{left_out('repeated')} for being an earlier one, word for word"
    if sample and len(taken) < sample:
        yield f"[data] sample = {sample:,}, and there are {len(taken):,} conversations: all of them are taken"


def notes_of_others(left_out: Counter[str]) -> Iterator[str]:
    for source, count in left_out.items():
        rows = "1 row" if count == 1 else f"{count:,} rows"
        yield f"{rows} of {source} left out for being empty, or no text"
