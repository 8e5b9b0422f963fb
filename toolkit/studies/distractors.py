"""Wrong answers of the kind and shape of a right one: another article's, or the same date or number with other digits.

"3 May 2021" → "17 March 2022"; "1,200" → "1,700"; "Orlin Bank" → "Tavim Mills"
"""

import random
import re
from collections.abc import Collection, Iterable

from toolkit.studies.cloze import CJK, MONTHS, SHORT_MONTHS, Kind, normalise

TRIES = 40
"""Draws for one answer; few digits have few others, and all of them may be taken."""


def shape(answer: str, kind: Kind) -> tuple[str, ...]:
    """What two answers share that look alike: "3 May 2021" and "7 June 1999"; "1,200" and "9,750".

    Names look alike by script, capital letters and number of words.
    """
    if kind == "name":
        words = answer.split()
        return kind, *(("一" if re.match(f"[{CJK}]", word) else "A" if word[0].isupper() else "a") for word in words)
    if kind == "number":
        return kind, re.sub(r"\d", "0", answer)
    # 3 and 28 are days alike, and May may be a short month.
    short = re.sub(rf"(?:Sept|{'|'.join(SHORT_MONTHS)})\b", "M", re.sub("|".join(MONTHS), "M", answer))
    return kind, re.sub(r"\d{1,2}(?!\d)", "0", re.sub(r"\d{4}", "Y", short))


class Pool:
    """Answers by shape, to draw wrong ones from."""

    def __init__(self, answers: Iterable[tuple[str, Kind]]) -> None:
        self.by_shape: dict[tuple[str, ...], list[str]] = {}
        self.names: dict[str, list[str]] = {}
        self.known: set[str] = set()
        for answer, kind in answers:
            if normalise(answer) not in self.known:
                self.known.add(normalise(answer))
                self.by_shape.setdefault(shape(answer, kind), []).append(answer)
                if kind == "name":
                    self.names.setdefault(shape(answer, kind)[1], []).append(answer)

    def like(self, answer: str, kind: Kind, rng: random.Random) -> list[str]:
        """Some of the answer's shape, in random order; then names of another number of words."""
        same = shape(answer, kind)
        alike = self.by_shape.get(same, [])
        wider = self.names.get(same[1], []) if kind == "name" else []
        return [*rng.sample(alike, min(len(alike), TRIES)), *rng.sample(wider, min(len(wider), TRIES))]

    def draw(
        self, answer: str, kind: Kind, count: int, rng: random.Random, *, article: str, never: Collection[str]
    ) -> list[str]:
        """Up to `count` wrong answers, the pool's first, then dates and numbers with other digits.

        None is in `never`, nor, as whole words, in the article (both normalised): what the article says may be right.
        Nor is one a part of the right answer, or has it as a part, as a family name of a whole one.
        """
        found: list[str] = []
        right = normalise(answer)
        taken = {right}

        def offer(other: str) -> None:
            key = normalise(other)
            if key in taken or key in never or key in article or key in right or right in key:
                return
            if len(found) < count:
                taken.add(key)
                found.append(other)

        for other in self.like(answer, kind, rng):
            offer(other)
        for _ in range(TRIES):
            if len(found) < count and kind != "name":
                offer(perturb(answer, kind, rng))
        return found


def perturb(answer: str, kind: Kind, rng: random.Random) -> str:
    """A date or number of the same shape, with other digits: perhaps, by chance, the same one."""
    return perturb_date(answer, rng) if kind == "date" else perturb_number(answer, rng)


def perturb_number(answer: str, rng: random.Random) -> str:
    """Other digits in the same places; the zeros at the end stay, for round numbers are answered by round ones."""
    places = [match.start() for match in re.finditer(r"\d", answer)]
    first = places[0]
    last = max((place for place in places if answer[place] != "0"), default=first)

    def other(match: re.Match[str]) -> str:
        place = match.start()
        if place > last or (place == first and match[0] == "0"):
            return match[0]
        # A zero in front, or one more at the end, would be another shape.
        return str(rng.randint(1 if place in (first, last) else 0, 9))

    return re.sub(r"\d", other, answer)


def perturb_date(answer: str, rng: random.Random) -> str:
    """Another year nearby, another month and another day, as far as the date says them."""
    reach = 5 if re.fullmatch(r"\d{4}年?", answer) else 2
    month = rng.randrange(12)

    def other(match: re.Match[str]) -> str:
        text, after = match[0], answer[match.end() : match.end() + 1]
        if len(text) == 4 and text.isdigit():
            return str(int(text) + rng.randint(-reach, reach))
        if text.isdigit():
            is_month = after in ("月", "-")
            return str(rng.randint(1, 12 if is_month else 28)).rjust(2 if "-" in answer else 1, "0")
        return MONTHS[month] if text in MONTHS else SHORT_MONTHS[month]

    return re.sub(rf"\d+|{'|'.join(MONTHS)}|Sept|{'|'.join(SHORT_MONTHS)}", other, answer)
