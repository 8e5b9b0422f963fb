"""Measures how much a text repeats itself: in n-grams, in its longest repeat, in a loop at its end, and by compression.

Of "abcdabcdab" four in ten characters are new, "abcdab" occurs twice, and "abcd" over and over fills it whole.
Each function takes a text (its characters) or a list of token ids; `measure` gives all of them for one output.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from toolkit.metrics.repeated_substring import longest_repeats

WINDOW = 16
"""Elements before a token among which rep-w looks for it."""
LOOP_TIMES = 3
"""A period is a loop from so many repetitions on …"""
LOOP_CHARACTERS = 8
"""… and so many characters: "4444" in an answer is none."""
COMPRESSED_BYTES = 512
"""Of a text, compressed: ratios of texts of different lengths cannot be compared."""
CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class Loop(NamedTuple):
    """The repetitions at the end of a text, in characters."""

    period: int
    "The least that does: of 豪放不羁豪放不羁豪放不羁 it is 4."
    times: int
    "Whole repetitions, at least three; a part of one more may come before or after them."
    characters: int
    "Of the whole looping end, its partial repetition included."
    start: int
    "Where it begins in the text, from 0."


def measure(tokens: Sequence[int], text: str) -> dict[str, Any]:
    """All measures of one output, one a column of a reading's rows; None where one is not defined.

    tokens: ids without the end mark. text: those tokens as text. Columns named char_ and those of the longest repeat
    without _tokens, of the loop and of the compression are of characters (and bytes), the others of tokens.
    """
    repeats, of_tokens, end = longest_repeats(text), longest_repeats(tokens), loop(text)
    return {
        **{f"seq_rep_{n}": seq_rep_n(tokens, n) for n in (1, 2, 3, 4)},
        **{f"char_seq_rep_{n}": seq_rep_n(text, n) for n in (1, 2, 3, 4)},
        "rep_w": rep_w(tokens),
        "char_rep_w": rep_w(text),
        "longest_repeat": repeats.overlapping,
        "longest_repeat_apart": repeats.apart,
        "longest_repeat_tokens": of_tokens.overlapping,
        "longest_repeat_apart_tokens": of_tokens.apart,
        "loop_period": end.period if end else None,
        "loop_times": end.times if end else None,
        "loop_characters": end.characters if end else None,
        "loop_start": end.start if end else None,
        "compression_ratio": compression_ratio(text),
    }


def seq_rep_n(sequence: Sequence[Hashable], n: int) -> float | None:
    """1 - distinct / all n-grams of one output, 0 to 1: the share of them that were there before.

    None for an output shorter than n, which has none. Longer outputs score higher: compare equal lengths.

    Raises ValueError when n is less than 1.

    Source: seq-rep-n, Welleck et al. 2020, "Neural Text Generation With Unlikelihood Training".
    """
    grams = _n_grams(sequence, n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Distinct / all n-grams of many outputs pooled, 0 to 1; none crosses from one output to the next.

    None where no output is as long as n. It falls with the number of outputs: compare equally many.

    Raises ValueError when n is less than 1.

    Source: distinct-n, Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models".
    """
    grams = [gram for sequence in sequences for gram in _n_grams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else None


def distinct_texts(texts: Sequence[str]) -> float | None:
    """Distinct / all texts, above 0 to 1: as low as 1 / n where the same is written to all n prompts. None of none."""
    return len(set(texts)) / len(texts) if texts else None


def rep_w(sequence: Sequence[Hashable], w: int = WINDOW) -> float | None:
    """Share, 0 to 1, of an output's tokens that occurred among the w before them.

    Of all its tokens, the first one too, which nothing precedes: abcdabcdab has .6 with w = 16. None for an output of
    fewer than two tokens, in which nothing can repeat.

    Raises ValueError when w is less than 1.

    Source: rep/l, Welleck et al. 2020, "Neural Text Generation With Unlikelihood Training", there of a model's argmax
    given human text, here of what it wrote.
    """
    if w < 1:
        raise ValueError(f"rep-w looks at one token or more before each, not {w}")
    if len(sequence) < 2:
        return None
    last: dict[Hashable, int] = {}
    repeated = 0
    for place, element in enumerate(sequence):
        repeated += place - last.get(element, -w - 1) <= w
        last[element] = place
    return repeated / len(sequence)


def longest_repeat(sequence: Sequence[Hashable], overlapping: bool) -> int:
    """Length of the longest substring that occurs at least twice, or 0; `longest_repeats` gives both kinds at once.

    overlapping: whether its two places may overlap. In linear time.
    """
    return longest_repeats(sequence)[0 if overlapping else 1]


def loop(text: str) -> Loop | None:
    """The loop that a text ends in: the least period p that its last 3p characters, and its last 8, have; or None.

    The text may be cut within a repetition: 豪放不羁豪放不羁豪放不羁豪 is a loop of 13 characters, three times whole.
    The looping end reaches back as far as the period holds, be it by chance: a character before the first repetition
    belongs to it when it is the one that the period asks for. A character that the limit of tokens cut in half (one
    U+FFFD at the end) is passed over where only it breaks the loop. In linear time.
    """
    found = _loop(text)
    return _loop(text[:-1]) if found is None and text.endswith(CUT_CHARACTER) else found


def compression_ratio(text: str, size: int = COMPRESSED_BYTES) -> float | None:
    """UTF-8 bytes over zlib bytes of the first `size` bytes, cut back to whole characters; None for a shorter text.

    1 or less where nothing repeats, and the higher the more does. zlib at its default level (6); builds of zlib differ
    by a byte or two. Scripts differ too: three bytes of each Chinese character compress better than one of a Latin
    one, so compare texts of one language.

    Raises ValueError when size is less than 4, the length of the longest character.
    """
    if size < 4:
        raise ValueError(f"a character has up to 4 bytes, and {size} cannot hold one")
    import zlib

    # A character has a byte or more; half a surrogate pair, which a model's output may hold, counts as "?".
    data = text[: size + 1].encode("utf-8", "replace")
    if len(data) < size:
        return None
    end = size
    while end < len(data) and data[end] & 0b1100_0000 == 0b1000_0000:
        end -= 1
    return end / len(zlib.compress(data[:end]))


def _n_grams(sequence: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"an n-gram has at least one element, not {n}")
    # The shortest of the shifted copies ends the last n-gram.
    return list(zip(*(sequence[shift:] for shift in range(n)), strict=False))


def _loop(text: str) -> Loop | None:
    # Of the text reversed, so that its end comes first: the end that has the period p is p + agreement[p] long.
    agreement = _agreement_with_the_start(text[::-1])
    for period in range(1, len(text) // LOOP_TIMES + 1):
        characters = period + agreement[period]
        if characters >= max(LOOP_TIMES * period, LOOP_CHARACTERS):
            return Loop(period, characters // period, characters, len(text) - characters)
    return None


def _agreement_with_the_start(text: str) -> list[int]:
    """For each place, how many characters from there on are those that the text begins with (the Z function).

    Source: Gusfield 1997, "Algorithms on Strings, Trees, and Sequences".
    """
    n = len(text)
    agreement = [0] * n
    left = right = 0
    for place in range(1, n):
        length = min(right - place, agreement[place - left]) if place < right else 0
        while place + length < n and text[length] == text[place + length]:
            length += 1
        agreement[place] = length
        if place + length > right:
            left, right = place, place + length
    return agreement
