"""Every text that the runs wrote, side by side by reading, loops marked: on the page, and a file a run beside it."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from toolkit.metrics.answers import CJK
from toolkit.reporting.groups import Group
from toolkit.reporting.page import Texts, environment, ink_of
from toolkit.reporting.repetition_read import HUMAN, Repeated, Row

MOST_ON_PAGE = 1_500_000
"""Characters of texts that the page itself holds; a run's file holds all of them."""
MOST_OF_TITLE = 90
"""Characters of a prompt that stand in its line."""
UNSEEN = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
"""Control characters, which a page may not hold, by the pictures of them."""
LOOPS = (
    "Highlighted: a loop, the same again and again to the end of the text, three times or more. Underlined: eight"
    " characters or more (four of Chinese or Japanese) that stood before in the same text."
)
SEEN, SEEN_CJK = 8, 4
"""Characters in a row that are underlined where they come again."""


class Written(NamedTuple):
    """A text as it is shown: `loop` is the end of it that repeats itself."""

    before: list[tuple[str, bool]]
    """In pieces, each with whether it stood in the text before."""
    loop: str
    said: str
    """What is measured of it, in a line."""


class Column(NamedTuple):
    """A reading's place side by side: of all groups that were read then."""

    epoch: float
    """Or update, where readings are set side by side by these."""
    nth: int
    """Of the readings of one epoch, such as those of two stages."""


class Place(NamedTuple):
    """Where a text stands among those of its prompt."""

    group: int
    column: Column
    decoding: str
    draw: int


Seen = tuple[int, str, Repeated]
"""A group's number, its name where several are shown, and what was read of one of its runs."""


def on_page(groups: list[Group], axis: str = "epochs") -> Texts | None:
    """The texts of each group's first run that was read, as many as the page holds; None where there are none."""
    first = [
        (number, next((read for read in group.repeated if read.readings), None)) for number, group in enumerate(groups)
    ]
    shown = [(number, groups[number].name, read) for number, read in first if read is not None]
    if not shown:
        return None
    prompts, length = [], 0
    every = list(prompts_of(shown, axis))
    for prompt in every:
        length += prompt["length"]
        # One prompt may be longer than all that a page should hold.
        if prompts and length > MOST_ON_PAGE:
            break
        prompts.append(prompt)
    runs = ", ".join(read.run for _, _, read in shown)
    some = "" if len(prompts) == len(every) else f" The first {len(prompts):,} of {len(every):,} prompts are here."
    said = f"What {runs} wrote to the same prompts, a column a reading. {LOOPS}{some} All texts of every run:"
    return Texts(said, list(zip_links(groups)), prompts)


def files(groups: list[Group]) -> Iterator[tuple[str, str]]:
    """A page a run with all of its texts: its file's name and content."""
    template = environment().get_template("repetition_texts.html").module
    for (number, read), (name, link) in zip(runs_of(groups), zip_links(groups), strict=True):
        texts = sum(len(reading.rows) for reading in read.readings)
        said = f"{texts:,} texts of {len(read.readings)} readings, with the reference answers. {LOOPS}"
        shown = list(prompts_of([(number, "", read)]))
        yield link, str(template.alone(f"Texts of {name}", said, shown))  # pyright: ignore[reportAttributeAccessIssue]


def runs_of(groups: list[Group]) -> list[tuple[int, Repeated]]:
    return [(number, read) for number, group in enumerate(groups) for read in group.repeated if read.readings]


def zip_links(groups: list[Group]) -> Iterator[tuple[str, str]]:
    """Each run's name and its file's; names that are no file's, or come twice, are told apart by their numbers."""
    taken: set[str] = set()
    for place, (number, read) in enumerate(runs_of(groups)):
        group, _, seed = f"{groups[number].name}/{read.run.rpartition('/')[2]}".rpartition("/")
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{group}-{seed}").strip(".-")[:80]
        file = f"texts-{plain}.html"
        if not plain or file.lower() in taken:
            file = f"texts-{plain}-{place}.html"
        taken.add(file.lower())
        yield f"{group}/{seed}", file


# --- a prompt and its texts ---


def prompts_of(shown: list[Seen], axis: str = "epochs") -> Iterator[dict[str, Any]]:
    """Every prompt that was asked, questions first, with its texts of each reading."""
    columns, by_place = columns_of(shown, axis)
    asked: dict[tuple[str, str, str], Row] = {}
    texts: dict[tuple[str, str, str], dict[Place, Row]] = {}
    for number, _, read in shown:
        for place, reading in zip(by_place[number], read.readings, strict=True):
            for row in reading.rows:
                key = row["id"], row["prompt"], row["context"]
                asked.setdefault(key, row)
                texts.setdefault(key, {})[Place(number, place, row["decoding"], row["draw"] or 0)] = row
    for key in sorted(asked, key=lambda key: asked[key]["source"] != "question"):
        yield prompt_of(asked[key], shown, columns, texts[key]) | {"heads": heads(columns, axis)}


def columns_of(shown: list[Seen], axis: str) -> tuple[list[Column], dict[int, list[Column]]]:
    """The columns of all readings in order, and that of each reading, by the group's number."""
    found: dict[int, list[Column]] = {}
    for number, _, read in shown:
        places: list[Column] = []
        for reading in read.readings:
            epoch = reading.step if axis == "updates" else round(reading.epoch, 6)
            places.append(Column(epoch, sum(place.epoch == epoch for place in places)))
        found[number] = places
    return sorted({place for places in found.values() for place in places}), found


def prompt_of(row: Row, shown: list[Seen], columns: list[Column], texts: dict[Place, Row]) -> dict[str, Any]:
    """What the page shows of one prompt; a line a group and decoding, a cell a reading."""
    lines = []
    for number, name, _ in shown:
        draws = sorted({(at.decoding, at.draw) for at in texts if at.group == number and at.decoding != HUMAN})
        for decoding, draw in draws:
            several = sum(other == decoding for other, _ in draws) > 1
            cells = [texts.get(Place(number, column, decoding, draw)) for column in columns]
            lines.append(
                {"group": number, "colour": ink_of(number), "name": name if len(shown) > 1 else "",
                 "decoding": f"{decoding} {draw + 1}" if several else decoding,
                 "cells": [None if cell is None else written(cell) for cell in cells]}
            )  # fmt: skip
    human = {text["text"]: text for at, text in texts.items() if at.decoding == HUMAN}
    prompt = visible(row["prompt"])
    title = " ".join(prompt.split())
    cut = len(title) > MOST_OF_TITLE
    return {
        "title": f"{title[:MOST_OF_TITLE]}…" if cut else title or "(an empty prompt)",
        "whole": prompt if cut or "\n" in prompt else "",
        "said": source_of(row, {text["asked"] for text in texts.values()}),
        "references": [written(text) for text in human.values()],
        "context": visible(row["context"]),
        "lines": lines,
        "length": sum(len(text["text"]) + 150 for text in texts.values()) + len(prompt),
    }


def heads(columns: list[Column], axis: str) -> list[str]:
    twice = {column.epoch for column in columns if column.nth}
    return [
        f"{axis.removesuffix('s')} {column.epoch:g}" + (f", reading {column.nth + 1}" if column.epoch in twice else "")
        for column in columns
    ]


def source_of(row: Row, asked: set[int | None]) -> str:
    """Where a prompt is from, and how often training asks it, where that is the same for all groups."""
    where = {"question": "a question of the recipe", "held_out": "held out", "trained": "trained on"}
    said: str = where.get(row["source"], str(row["source"]))
    (count,) = asked if len(asked) == 1 else (None,)
    return said if not count else f"{said}; asked {count:,} time{'s' if count > 1 else ''} in training"


def written(row: Row) -> Written:
    text, start = visible(row["text"]), row["loop_start"]
    loops = start is not None and 0 <= start < len(text)
    said = [] if row["seq_rep_4"] is None else [f"{100 * row['seq_rep_4']:.0f} % repeated"]
    if loops and row["loop_times"] and row["loop_period"]:
        said.append(f"loop of {row['loop_period']:,} × {row['loop_times']:,}")
    if row["tokens"] is not None:
        said.append(f"{row['tokens']:,} tokens")
    if row["ended"] is False:
        said.append("no end")
    return Written(pieces(text[:start] if loops else text), text[start:] if loops else "", " · ".join(said))


def pieces(text: str) -> list[tuple[str, bool]]:
    """The text in pieces, by whether it stood before in it: what a share of repeated 4-grams counts, about."""
    again = bytearray(len(text))
    for size in (SEEN, SEEN_CJK):
        seen: set[str] = set()
        for start in range(len(text) - size + 1):
            part = text[start : start + size]
            if part in seen and (size == SEEN or len(CJK.findall(part)) == size):
                again[start : start + size] = b"\1" * size
            seen.add(part)
    found, start = [], 0
    for end in range(1, len(text) + 1):
        if end == len(text) or again[end] != again[start]:
            found.append((text[start:end], bool(again[start])))
            start = end
    return found


def visible(text: str) -> str:
    """Characters that a page may not hold as pictures of them, one for one."""
    return text.translate(UNSEEN)
