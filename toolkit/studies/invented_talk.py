"""Conversations about a small invented world, in English and Chinese, some subjects much more often than others.

user: Who is Tavor Melkin?   assistant: Tavor Melkin is a miller from Ostran. Breakfast is always plum soup. The family
                                        keeps a goat.
user: Tell me more.          assistant: Tavor Melkin was born in 1913. Most evenings are spent with old maps.

Which things are said, in which order and in which words is drawn, so that held-out answers are new and their subjects
are not. And facts of four digits, of which nothing else is said: What is the code of the Tavor mill? 4821
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from toolkit.studies.invented import invented
from toolkit.studies.invented_world import (
    CAKE_ENDS,
    CAKES,
    GIVEN,
    KINDS,
    LI_BAI,
    MORE,
    MUNG_BEAN_CAKE,
    SELF,
    SURNAMES,
    TOWN_ENDS,
    TOWNS,
    Kind,
)

SUBJECTS = 120
"""Of the world; the k-th is spoken of 1/k times as often as the first (Zipf's law)."""
STUDIED = {0: ("", SELF), 7: ("李白", LI_BAI), 31: ("绿豆糕", MUNG_BEAN_CAKE)}
"""Places of the study's own three: one often asked, one less, one seldom."""
PLACES = ("mill", "bridge", "inn", "farm", "well", "tower", "gate", "barn")
ASKED = (
    "What is the code of the {n}?",
    "Tell me the code of the {n}.",
    "Which code does the {n} have?",
    "The code of the {n}, please.",
    "I need the code of the {n}.",
)
"""Ways to ask for a fact; the first one is plain."""
MOST_FACTS = 2_000


class Subject(NamedTuple):
    """Somebody or something that is spoken of."""

    name: str
    kind: Kind
    properties: dict[str, str]

    def say(self, text: str) -> str:
        return text.format(n=self.name, **self.properties)


class Talk(NamedTuple):
    """A conversation: questions and answers by turns, and what it is about."""

    subject: str
    said: tuple[str, ...]


class Code(NamedTuple):
    """A fact: a place's code, and one that it has not."""

    name: str
    code: str
    foil: str


def draw_subjects(rng: random.Random) -> list[Subject]:
    """Subjects of the world, from the one most spoken of to the one least."""
    subjects: list[Subject] = []
    names: set[str] = set()
    kinds = list(KINDS)
    while len(subjects) < SUBJECTS:
        if studied := STUDIED.get(len(subjects)):
            subjects.append(Subject(*studied, {}))
            continue
        kind = kinds[len(subjects) % len(kinds)]
        name = draw_name(kind, rng)
        if name not in names:
            names.add(name)
            subjects.append(Subject(name, KINDS[kind], draw_properties(KINDS[kind], rng)))
    return subjects


def draw_name(kind: str, rng: random.Random) -> str:
    if kind == "人":
        return rng.choice(SURNAMES) + "".join(rng.sample(GIVEN, 2))
    if kind == "点心":
        return "".join(rng.sample(CAKES, 2)) + rng.choice(CAKE_ENDS)
    name = invented(rng, 2 if kind == "person" else 1)
    return name.lower() if kind == "animal" else name


def draw_properties(kind: Kind, rng: random.Random) -> dict[str, str]:
    own = {name: rng.choice(choices) for name, choices in kind.properties.items()}
    chinese = kind.language == "zh"
    return own | {
        "place": rng.choice(TOWNS) + rng.choice(TOWN_ENDS) if chinese else invented(rng, 1),
        "person": draw_name("人" if chinese else "person", rng),
        "year": str(rng.randint(1850, 1999)),
        "number": str(rng.randint(20, 999)),
    }


def draw_talks(count: int, seed: int) -> Iterator[Talk]:
    """So many conversations, no two of them word for word the same; fewer are the first of more."""
    subjects = draw_subjects(random.Random(f"{seed}/subjects"))
    weights = [1 / rank for rank in range(1, SUBJECTS + 1)]
    rng = random.Random(f"{seed}/talks")
    seen: set[tuple[str, ...]] = set()
    while len(seen) < count:
        talk = draw_talk(rng.choices(subjects, weights)[0], rng)
        if talk.said not in seen:
            seen.add(talk.said)
            yield talk


def draw_talk(subject: Subject, rng: random.Random) -> Talk:
    """What it is and two to four things about it; one in four goes on with the others."""
    kind = subject.kind
    question = rng.choice(kind.questions)
    sentences = rng.sample(kind.sentences, len(kind.sentences))
    first = rng.randint(2, min(4, len(sentences) - 1))
    goes_on = rng.random() < 0.25
    language = "zh" if question.endswith(("。", "？")) else kind.language
    asked = [question, *([rng.choice(MORE[language])] if goes_on else [])]
    told = [(kind.opening, *sentences[:first]), tuple(sentences[first : first + 3])]
    space = "" if kind.language == "zh" else " "
    answers = [space.join(subject.say(rng.choice(ways)) for ways in things) for things in told]
    said = [text for pair in zip(asked, answers, strict=False) for text in pair]
    return Talk(subject.name or "the model itself", (subject.say(said[0]), *said[1:]))


def draw_codes(count: int, seed: int) -> list[Code]:
    """So many places with codes of four digits, each place and each code once, foils included."""
    rng = random.Random(f"{seed}/codes")
    codes = [f"{number:04d}" for number in rng.sample(range(10_000), 2 * count)]
    names: dict[str, None] = {}
    while len(names) < count:
        names[f"{invented(rng, 1)} {rng.choice(PLACES)}"] = None
    return [Code(name, codes[2 * i], codes[2 * i + 1]) for i, name in enumerate(names)]
