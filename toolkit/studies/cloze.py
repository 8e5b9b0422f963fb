"""Takes dates, numbers and names out of sentences, so that a text can be asked about without any service.

"The works opened on 3 May 2021 in Orlin." → "The works opened on ____ in Orlin.", answer "3 May 2021", kind "date"
"""

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Kind = Literal["date", "number", "name"]
KINDS: tuple[Kind, ...] = ("date", "number", "name")

BLANK = "____"
WORDS = range(5, 101)
"""Fewer words around a blank say too little to be asked by; more are a list or a table rather than a sentence."""
NAME_WORDS = 5
"""More capitalised words in a row are several names, or a title."""


class Cloze(NamedTuple):
    """A sentence with a blank, and what stood there."""

    sentence: str
    blanked: str
    answer: str
    kind: Kind
    start: int
    """Of the answer, in characters from the start of the content."""
    end: int

    @property
    def sentence_start(self) -> int:
        """In characters from the start of the content; sentences that hold a BLANK of their own are never asked."""
        return self.start - self.blanked.index(BLANK)


class Span(NamedTuple):
    """Characters start to end of a text."""

    start: int
    end: int
    kind: Kind


CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of languages that put no spaces between words, for a class of a pattern."""
WORD = re.compile(rf"\d+(?:[.,]\d+)*|[{CJK}]|(?:(?![{CJK}])[^\W\d_])+")


def normalise(text: str) -> str:
    """Words in lower case between single spaces, one also before the first and after the last.

    So `normalise(answer) in normalise(text)` says whether a text holds an answer as whole words: 5 is not in 35.
    A word of Chinese is a character; marks are left out, and so are the commas of 1,200.
    """
    words = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return f" {' '.join(words)} ".replace(",", "") if words else " "


# --- sentences ---

END = re.compile(r"(?:[.!?]+[\"'”’)\]]*(?=\s|$))|(?:[。！？]+[”’」』）]*)|(?:\n\s*\n)")


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEVER_LAST = word_set(
    "mr mrs ms dr prof st gen sen rep gov lt col capt sgt rev hon pres vs e.g i.e cf approx est fig "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Abbreviations that something follows; the full stop after them ends no sentence."""
SOMETIMES_LAST = word_set("jr sr inc ltd co corp llc plc etc a.m p.m no")
"""Abbreviations that may end a sentence; they do where a word follows that usually begins one."""
OPENERS = word_set(
    "The A An In On At By For From With Without After Before When While As If It Its He She They We You I His Her "
    "Their Our My This That These Those There Here But And Or So Yet Then Also However Meanwhile Since Until During "
    "Under Over About Among Between More Most Some Many Few Several Every Each All Both No Not Now Yesterday Today "
    "Tomorrow Last Next First Another Other Such Only Even Still Once What Who Where Why How Which "
    "According Although Because Despite Later Earlier"
)
"""Words that begin sentences, and have a capital letter for that reason only."""


def sentences(content: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of an English or Chinese text, in characters, white space around it off.

    A full stop after "Dr", an initial or "U.S" ends none, unless a word like "The" follows; a blank line always does.
    """
    start = 0
    for match in [*END.finditer(content), None]:
        end = match.end() if match else len(content)
        if match and not ends_sentence(content, match):
            continue
        text = content[start:end]
        if text.strip():
            yield start + len(text) - len(text.lstrip()), start + len(text.rstrip())
        start = end


def ends_sentence(content: str, match: re.Match[str]) -> bool:
    if match[0][0] not in ".!?":
        # 「…！」 with words right after it is what somebody said.
        return match[0][-1] not in "”’」』" or not re.match(r"\w", content[match.end() : match.end() + 1])
    following = re.match(r"\s+[\"'“‘(\[]*(\S*)", content[match.end() : match.end() + 40])
    if not following or not following[1]:
        return True
    if following[1][0].islower():
        return False
    if match[0] != ".":
        return True
    before = re.search(r"[^\s(\"'“‘]*$", content[max(0, match.start() - 20) : match.start()])
    word = before[0] if before else ""
    if word.lower() in NEVER_LAST:
        return False
    if word.lower() in SOMETIMES_LAST or re.fullmatch(r"(?:[A-Za-z]\.)*[A-Z]", word):
        return following[1].rstrip(",") in OPENERS
    return True


# --- dates, numbers, names ---

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
SHORT_MONTHS = tuple(month[:3] for month in MONTHS)
MONTH = rf"(?:{'|'.join(MONTHS)}|(?:Sept|{'|'.join(SHORT_MONTHS)})\b\.?)"
NOT_INSIDE = r"(?<![A-Za-z0-9_.,:/–-])"
NOT_GOING_ON = r"(?![A-Za-z0-9_]|[.,:/–-]\d)"
SCALE = r"(?:percent|per cent|thousand|million|billion|trillion)(?![A-Za-z])"

DATE = re.compile(
    rf"{NOT_INSIDE}(?:\d{{1,2}} {MONTH},? \d{{4}}|{MONTH} \d{{1,2}}, \d{{4}}|\d{{4}}-\d{{2}}-\d{{2}}"
    rf"|\d{{4}}年(?:\d{{1,2}}月(?:\d{{1,2}}[日号])?)?|\d{{1,2}}月\d{{1,2}}[日号]"
    rf"|{MONTH} \d{{4}}|\d{{1,2}} {MONTH}|{MONTH} \d{{1,2}}"
    rf"|(?<![$€£¥])(?:1[89]|20)\d{{2}}(?!\s?%|\s?[千百万亿]| {SCALE})){NOT_GOING_ON}"
)
NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.,:/$€£¥–-])(?:(?:US|HK|NT|A|C)?[$€£¥])?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?"
    rf"(?:\s?[%％]|\s?{SCALE}|\s?[千百]?[万亿]+)?{NOT_GOING_ON}"
)
CAPITALISED = r"(?:[A-Z]\.(?: ?[A-Z]\.)*|[A-ZÀ-ÖØ-Þ][A-Za-z0-9À-ɏ&-]*(?:['’][A-Z][A-Za-zÀ-ɏ]+)?)"
BETWEEN = r"(?:of the |of |for |& |de |van |von )"
NAME = re.compile(rf"(?<![\w'’.-]){CAPITALISED}(?: {BETWEEN}?{CAPITALISED})+(?![A-Za-z0-9_])")


def spans(content: str, start: int, end: int, keywords: Sequence[str], kinds: Iterable[Kind]) -> list[Span]:
    """What can be taken out of content[start:end], one sentence: no two overlap; dates come before numbers and names.

    Offsets are those of the content.
    """
    sentence = content[start:end]
    found: list[Span] = [Span(*match.span(), "date") for match in DATE.finditer(sentence)]
    # A lone digit is guessed too often to be asked.
    numbers = (Span(*match.span(), "number") for match in NUMBER.finditer(sentence) if len(match[0]) > 1)
    found += apart(numbers, found)
    named = [Span(*pair, "name") for pair in (*names(sentence, content), *keyword_places(sentence, keywords))]
    found += apart(sorted(named, key=lambda span: span.start - span.end), found)
    wanted = set(kinds)
    return sorted(Span(start + a, start + b, kind) for a, b, kind in found if kind in wanted)


def apart(spans: Iterable[Span], taken: Sequence[Span]) -> list[Span]:
    """Those that overlap neither the ones taken nor one another; the earlier in the order given stays."""
    kept: list[Span] = []
    for span in spans:
        if not any(span.start < other.end and other.start < span.end for other in (*taken, *kept)):
            kept.append(span)
    return kept


def names(sentence: str, content: str) -> Iterator[tuple[int, int]]:
    """Capitalised words in a row. Where they begin the sentence they count only if they also occur inside one."""
    for match in NAME.finditer(sentence):
        first = match[0].split(" ")[0]
        start = match.start() + (len(first) + 1 if first in OPENERS else 0)
        name = sentence[start : match.end()]
        if not re.search(r" [A-ZÀ-Þ]", name) or len(name.split()) > NAME_WORDS:
            continue
        begins = not re.search(r"\w", sentence[:start])
        if begins and not re.search(rf"[a-z0-9,;:]\s{re.escape(name)}(?![A-Za-z0-9])", content):
            continue
        yield start, match.end()


def keyword_places(sentence: str, keywords: Sequence[str]) -> Iterator[tuple[int, int]]:
    for keyword in filter(None, map(str.strip, keywords)):
        # Chinese has no spaces to end a word by.
        before = r"(?<![A-Za-z0-9])" if keyword[0].isascii() else ""
        after = r"(?![A-Za-z0-9])" if keyword[-1].isascii() else ""
        for match in re.finditer(before + re.escape(keyword) + after, sentence, re.IGNORECASE):
            yield match.span()


def kind_of(answer: str) -> Kind:
    """What a whole answer is; anything that is neither a date nor a number counts as a name."""
    if DATE.fullmatch(answer):
        return "date"
    return "number" if NUMBER.fullmatch(answer) else "name"


# --- questions ---


def candidates(content: str, keywords: Sequence[str], kinds: Iterable[Kind] = KINDS) -> list[Cloze]:
    """Every blank of a text by which it can be asked, in the order of the text.

    Left out are spans that their own sentence says twice, and sentences of too few or too many words.
    """
    kinds = tuple(kinds)
    found = []
    for begin, finish in sentences(content):
        sentence = content[begin:finish]
        if BLANK in sentence or len(normalise(sentence).split()) not in WORDS:
            continue
        for start, end, kind in spans(content, begin, finish, keywords, kinds):
            blanked = content[begin:start] + BLANK + content[end:finish]
            answer = content[start:end]
            if normalise(answer).strip() and normalise(answer) not in normalise(blanked):
                found.append(Cloze(sentence, blanked, answer, kind, start, end))
    return found


def choose(found: Sequence[Cloze], count: int, rng: random.Random) -> list[Cloze]:
    """`count` of the candidates, or as many as there are: from each sentence in turn, of the kind chosen least so far.

    No two have the same answer: of one text, that would often be the same fact asked twice.
    """
    left: dict[str, list[Cloze]] = {}
    for cloze in found:
        left.setdefault(cloze.sentence, []).append(cloze)
    order = sorted(left)
    rng.shuffle(order)
    chosen: list[Cloze] = []
    answers: set[str] = set()
    while len(chosen) < count and any(left.values()):
        for sentence in order:
            here = left[sentence] = [cloze for cloze in left[sentence] if normalise(cloze.answer) not in answers]
            if not here or len(chosen) == count:
                continue
            least = min(sum(cloze.kind == other.kind for other in chosen) for cloze in here)
            rare = [cloze for cloze in here if sum(cloze.kind == other.kind for other in chosen) == least]
            taken = rng.choice(rare)
            chosen.append(taken)
            answers.add(normalise(taken.answer))
    return chosen


def make_questions(
    content: str, keywords: Sequence[str], kinds: Iterable[Kind], count: int, rng: random.Random
) -> list[Cloze]:
    """Up to `count` questions about a text."""
    return choose(candidates(content, keywords, kinds), count, rng)
