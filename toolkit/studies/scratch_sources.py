"""What a model from random weights is fed besides conversations: facts, texts and preferences."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from toolkit.errors import UserError, checked_path
from toolkit.example import Example
from toolkit.studies import facts as tables_of_facts
from toolkit.studies.chinese import text_of
from toolkit.studies.conversations import turns_of
from toolkit.studies.invented_talk import ASKED, draw_codes
from toolkit.studies.tables import Other, Problems, Row, read_lines, read_rows

LARGEST_TEXT = 100_000_000
"""Characters of a .txt file, which is one text."""
MOST_TEXTS = 2_000_000
AGAIN = "facts_again"
"""The part of a fact's other examples: only the first one is asked as the study's fact."""
PREFERRED = ("prompt", "chosen", "rejected")


@contextmanager
def of_key(key: str) -> Iterator[None]:
    """What tables say of [data] source, said of another key."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("[data] source", f"[data] {key}")) from None


# --- facts ---


def read_facts(
    source: str | None, invented: int, controls: int, times: int, data_seed: int, assignment_seed: int
) -> Iterator[Example]:
    """Facts to train with their foils, `times` examples each, and controls. Raises UserError for rows that are none."""
    ways: dict[str, list[str]] = {}
    if source is not None:
        with of_key("facts"):
            plain = tables_of_facts.build(data_seed, assignment_seed, source, "{prompt}", "{answer}", controls).examples
    else:
        plain = made_up_facts(invented, controls, data_seed, assignment_seed)
        ways = {fact.id: [way.format(n=fact.info["name"]) for way in ASKED] for fact in plain}
    yield from plain
    for fact in plain if times > 1 else []:
        if fact.split == "train":
            asked = ways.get(fact.id, [fact.prompt])
            for number in range(1, times):
                prompt = asked[number % len(asked)]
                yield replace(fact, id=f"{fact.id}-{number + 1}", prompt=prompt, part=AGAIN, foil=None)


def made_up_facts(count: int, controls: int, data_seed: int, assignment_seed: int) -> list[Example]:
    if count and controls >= count:
        raise UserError(f"[data] fact_controls = {controls}: of invented_facts = {count} none would be trained.")
    held_out = set(random.Random(assignment_seed).sample(range(count), controls))
    return [
        Example(
            f"fact-{number + 1:05d}",
            f"fact-{number + 1:05d}",
            ASKED[0].format(n=place.name),
            place.code,
            "control" if number in held_out else "train",
            foil=None if number in held_out else place.foil,
            info={"name": place.name},
        )
        for number, place in enumerate(draw_codes(count, data_seed))
    ]


# --- texts ---


def read_texts(sources: list[str], sample: int | None, seed: int, left_out: Counter[str] | None) -> Iterator[Example]:
    """Each source's texts, in its order. Raises UserError for a source without texts, and for rows that are no text.

    left_out: counts those rows by source instead of their being refused.
    """
    taken = 0
    for place, source in enumerate(sources):
        if source in sources[:place]:
            raise UserError(f'[data] text: "{source}" is named twice.')
        with of_key("text"):
            numbered = texts_in(source, left_out)
            if sample is not None:
                rng = random.Random(f"{seed}/text/{place}")
                drawn = heapq.nsmallest(sample, ((rng.random(), entry) for entry in numbered))
                numbered = iter(sorted(entry for _, entry in drawn))
            for row, text in numbered:
                taken += 1
                if taken > MOST_TEXTS:
                    raise UserError(
                        f"[data] text has over {MOST_TEXTS:,} texts: say text_sample, and so many are drawn."
                    )
                identity = f"text-{taken:07d}"
                info = {"source": source, "row": row}
                yield Example(identity, identity, "", text, "train", part="text", info=info)


def texts_in(source: str, left_out: Counter[str] | None) -> Iterator[tuple[int, str]]:
    """Row and text of each."""
    path = checked_path(source, "[data] text: ")
    if path.suffix.lower() == ".txt" and path.is_file():
        yield 1, whole_text(path)
        return
    if path.suffix.lower() == ".txt" and not path.exists():
        raise UserError(f'[data] text = "{source}": there is no such file.')
    yield from usable(source, left_out, lambda row: (row.number, column(row, "text")))


T = TypeVar("T")


def usable(source: str, left_out: Counter[str] | None, made_of: Callable[[Row], T]) -> Iterator[T]:
    """What is made of each row. Raises UserError at the end for all rows at once of which nothing can be made, or
    counts them, and where nothing can be made of any."""
    problems = Problems(source)
    count = 0
    for row in read_rows(source, problems):
        try:
            made = made_of(row)
        except ValueError as error:
            if left_out is None:
                problems.add(row.number, str(error))
            else:
                left_out[source] += 1
            continue
        count += 1
        yield made
    problems.refuse()
    if not count:
        raise UserError(f"{source} has no row that can be used.")


def whole_text(path: Path) -> str:
    if path.stat().st_size > LARGEST_TEXT:
        raise UserError(
            f"{path} is over {LARGEST_TEXT // 1_000_000} MB, and a .txt file is one text: write its texts as JSON"
            ' Lines, {"text": …} a line (.jsonl).'
        )
    text = "".join(read_lines(path)).strip()
    if not text:
        raise UserError(f"{path} holds no text.")
    return text


def column(row: Row, name: str) -> str:
    """Raises ValueError where it is missing, no text, or blank."""
    if name not in row.values:
        raise ValueError(f"there is no `{name}`, but {', '.join(filter(None, row.values))}")
    if text := text_of(row, name):
        return text
    raise ValueError(f"`{name}` is empty")


# --- preferences ---


def read_preferences(source: str | None, left_out: Counter[str] | None) -> Iterator[Example]:
    """A question a row, with its right answer and the rejected one. Raises UserError for rows that are none.

    left_out: counts those rows by source instead of their being refused.
    """
    if source is not None:
        with of_key("preferences"):
            yield from usable(source, left_out, preference_of)


def answer_in(row: Row, name: str) -> str:
    """A column's text, or the last turn's where it is a list of turns, as some tables store an answer."""
    value = row.values.get(name)
    listed = isinstance(value, Other) and isinstance(value.stored, list)
    return turns_of(row, name)[-1][1] if listed else column(row, name)


def preference_of(row: Row) -> Example:
    prompt, chosen, rejected = (answer_in(row, name) for name in PREFERRED)
    if chosen == rejected:
        raise ValueError("`chosen` and `rejected` are the same")
    identity = f"preference-{row.number:06d}"
    info = {"row": row.number}
    return Example(identity, identity, prompt, chosen, "train", part="preferences", wrong=(rejected,), info=info)
