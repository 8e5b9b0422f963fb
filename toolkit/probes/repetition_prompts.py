"""Which prompts the repetition probe asks, and how often what they ask stands in the training data. No torch.

{"id": "question-1", "source": "question", "example": {"prompt": "李白是谁？", …}, "asked": 12, "mentioned": 40, …}

A question is looked for as `normalised` writes it: "李白是谁？" as 李白是谁, "Who are  you?" as who are you.
"""

import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Repetition
from toolkit.seeds import sub_seed

TALK = "conversations"
"""The part that is asked where there is one: an answer of a few digits has nothing to repeat."""
AT_ONCE = 5_000
"""Training texts that are counted between two calls of `progress`."""
CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters that are written without spaces: Han, with Hiragana and Katakana."""
WIDE = tuple(zip("，：；！？（）", ",:;!?()", strict=True))
"""What NFKC makes of them, here before it: of a text without them it is twenty times as fast."""
WORD = re.compile(f"[^\\W_{CJK}]+")
UNSPACED = re.compile(f"[{CJK}]+")


class Frequency(NamedTuple):
    """How often a question stands in the training data."""

    asked: int
    """Training conversations in which a user asks this very question."""
    mentioned: int
    """Training texts that contain its words, in this order."""
    familiarity: float
    """Mean over its units, words or pairs of CJK characters, each once, of ln(1 + training texts that have it)."""


class Prompt(NamedTuple):
    """What is asked at every reading."""

    id: str
    """question-1 …, or the example's."""
    source: Literal["question", "held_out", "trained"]
    example: Example
    """Its answer is the reference; a question has none, and stands there twice."""
    frequency: Frequency | None = None
    """None where the training data are not known, and of what is asked within a conversation."""

    @property
    def has_reference(self) -> bool:
        return self.source != "question"

    @property
    def turns(self) -> int:
        """Of users and assistants before the prompt: 0 for a single question, under a system's words too."""
        return sum(turn["role"] != "system" for turn in self.example.messages)

    @property
    def context(self) -> str:
        """What was said before it, a line a turn: "user: …", "assistant: …"."""
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in self.example.messages)


def draw_prompts(examples: list[Example], how: Repetition, seed: int) -> list[Prompt]:
    """The questions first, then `how.prompts` examples drawn for this seed, or all where there are no more.

    No two ask the same, all turns together as `normalised` writes them: one prompt has one greedy text, however often
    it is asked. The first of equals is kept, a question before an example.

    Of the part "conversations" where questions of such a part are there, else of any part; those held out
    (validation), or controls where none are, or else trained ones. Paraphrases and the like are not drawn.

    Raises UserError where nothing is left to ask.
    """
    asked = [
        Prompt(f"question-{number}", "question", Example(f"question-{number}", "", question, question, "test"))
        for number, question in enumerate(how.questions, start=1)
    ]
    pool = [example for example in examples if example.is_question]
    pool = [example for example in pool if example.part == TALK] or pool
    held_out = next((of for split in ("validation", "control") if (of := having(pool, split))), None)
    source: Literal["held_out", "trained"] = "trained" if held_out is None else "held_out"
    choice = unlike(having(pool, "train") if held_out is None else held_out, how.questions)
    if how.prompts < len(choice):
        choice = random.Random(sub_seed(seed, "repetition")).sample(choice, how.prompts)
    taken = {prompt.id for prompt in asked}
    asked += [Prompt(f"{e.id}-drawn" if e.id in taken else e.id, source, e) for e in choice]
    if not asked:
        raise UserError("[repetition] names no questions, and the data have none: there is nothing to ask.")
    return asked


def unlike(examples: list[Example], questions: list[str]) -> list[Example]:
    """The first example of each prompt, and none that asks one of the questions."""
    said: set[tuple[tuple[str, str], ...]] = {(("user", normalised(question)),) for question in questions}
    found = []
    for example in examples:
        earlier = tuple((turn["role"], normalised(turn["content"])) for turn in example.messages)
        whole = (*earlier, ("user", normalised(example.prompt)))
        if whole not in said:
            said.add(whole)
            found.append(example)
    return found


def trained_texts(examples: list[Example], parts: Iterable[str]) -> list[Example]:
    """What is trained: examples of the parts that stages are fed."""
    fed = set(parts)
    return [example for example in having(examples, "train") if example.part in fed]


def having(examples: list[Example], split: str) -> list[Example]:
    return [example for example in examples if example.split == split]


def describe(prompts: list[Prompt], training_texts: int) -> dict[str, Any]:
    """What run.json says of them."""
    drawn = [prompt for prompt in prompts if prompt.has_reference]
    return {
        "prompts": len(prompts),
        "held_out": sum(prompt.source == "held_out" for prompt in drawn),
        "source": drawn[0].source if drawn else "question",
        "training_texts": training_texts,
    }


# --- frequency ---


def with_frequency(
    prompts: list[Prompt], trained: list[Example], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Prompt]:
    """The prompts with how often each stands in these training texts, which are gone through once.

    One within a conversation gets none: "and he?" is asked often, and is another question in each.

    progress: told how many texts of how many are done. Time is linear in the texts; memory does not grow with them.
    """
    alone = {prompt.id: normalised(prompt.example.prompt) for prompt in prompts if prompt.turns == 0}
    units = {question: units_of(question) for question in alone.values()}
    needed = Needed(list(units.values()))
    search = Search(units)
    having: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    mentioned: Counter[str] = Counter()
    for done, example in enumerate(trained, start=1):
        text = "\n".join(map(folded, texts_of(example)))
        found = needed.found(text)
        having.update(found)
        mentioned.update(search.found(text, found))
        asked.update({bare(turn) for turn in map(folded, user_turns(example))} & units.keys())
        if done % AT_ONCE == 0 or done == len(trained):
            progress(done, len(trained))
    frequencies = {
        question: Frequency(
            asked[question],
            mentioned[question],
            math.fsum(math.log1p(having[unit]) for unit in own) / len(own) if own else 0.0,
        )
        for question, own in units.items()
    }
    return [
        prompt._replace(frequency=frequencies[alone[prompt.id]] if prompt.id in alone else None) for prompt in prompts
    ]


def texts_of(example: Example) -> Iterable[str]:
    """Every turn of a conversation, or a text."""
    return (*(turn["content"] for turn in example.messages), example.prompt, example.answer)


def user_turns(example: Example) -> Iterable[str]:
    earlier = (turn["content"] for turn in example.messages if turn["role"] == "user")
    return (*earlier, example.prompt) if example.is_question else ()


def folded(text: str) -> str:
    """A text as it is searched: NFKC, without case, one space where there is white space."""
    for wide, narrow in WIDE:
        text = text.replace(wide, narrow)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def bare(text: str) -> str:
    """Without the punctuation at its end; a text of nothing else stays as it is."""
    end = len(text)
    while end and (text[end - 1] == " " or unicodedata.category(text[end - 1]).startswith("P")):
        end -= 1
    return text[:end] or text


def normalised(question: str) -> str:
    """A question as it is compared: NFKC, without case, one space where there is white space, none and no punctuation
    at its end."""
    return bare(folded(question))


def units_of(text: str) -> list[str]:
    """Words, and pairs of neighbouring CJK characters, each once; a CJK character that stands alone is one too."""
    units = WORD.findall(text)
    for run in UNSPACED.findall(text):
        units += map("".join, zip(run, run[1:], strict=False)) if len(run) > 1 else [run]
    return list(dict.fromkeys(units))


class Needed:
    """The units that are counted, by what they are found by."""

    def __init__(self, units: list[list[str]]) -> None:
        every = {unit for own in units for unit in own}
        unspaced = {unit for unit in every if UNSPACED.match(unit)}
        self.words = every - unspaced
        self.pairs = {(unit[0], unit[1]) for unit in unspaced if len(unit) == 2}
        self.single = {unit for unit in unspaced if len(unit) == 1}

    def found(self, text: str) -> set[str]:
        """Those that a text has."""
        found = self.words.intersection(WORD.findall(text))
        if not text.isascii():
            found |= set(map("".join, self.pairs.intersection(zip(text, text[1:], strict=False))))
            found |= {sign for sign in self.single if sign in text}
        return found


class Search:
    """Questions that are looked for in texts: each only where its anchor was found, which most texts have not."""

    def __init__(self, questions: Iterable[str]) -> None:
        self.by_anchor: dict[str, list[str]] = {}
        self.always: list[str] = []
        for question in dict.fromkeys(questions):
            anchor = anchor_of(question)
            if anchor is None:
                self.always.append(question)
            else:
                self.by_anchor.setdefault(anchor, []).append(question)

    def found(self, text: str, units: set[str]) -> list[str]:
        """The questions that a text with these units contains."""
        candidates = [question for anchor in self.by_anchor.keys() & units for question in self.by_anchor[anchor]]
        return [question for question in (*candidates, *self.always) if question in text]


def anchor_of(question: str) -> str | None:
    """A unit that every text with this question in it has: a pair of CJK characters, or the longest word that is
    neither at its beginning nor at its end, where a text may go on ("you" in "your"). None where it has none."""
    pairs = [unit for unit in units_of(question) if len(unit) == 2 and UNSPACED.match(unit)]
    inner = [match.group() for match in WORD.finditer(question) if match.start() > 0 and match.end() < len(question)]
    return max(inner, key=len) if inner else next(iter(pairs), None)
