"""Finds the longest substring that occurs twice, in time and memory linear in the length, whatever the text.

In "abcdabcdab" it is "abcdab", which overlaps itself; the longest that occurs twice side by side is "abcd".
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SORTED_DIRECTLY = 512
"""Suffixes of at most so many symbols are sorted as they are: a bounded piece of work, and faster for a short text."""


class Repeats(NamedTuple):
    """Lengths, in elements of the sequence, of its longest repeated substrings; 0 where no element occurs twice."""

    overlapping: int
    "Of the longest that occurs at two places, which may overlap."
    apart: int
    "Of the longest that occurs at two places which do not."


def longest_repeats(sequence: Sequence[Hashable], sorted_directly: int = SORTED_DIRECTLY) -> Repeats:
    """The longest repeated substrings of a text (its characters) or of token ids, both at once.

    A suffix array is built, then the lengths that neighbours in it share, then the groups of suffixes that share a
    prefix: of each, the first and the last place say how long a repeat can be without overlapping. A million
    characters take some seconds (`python -m benchmarks.repetition_speed`).

    sorted_directly: as SORTED_DIRECTLY; the result does not depend on it.

    Source: Kärkkäinen and Sanders 2003, "Simple Linear Work Suffix Array Construction"; Kärkkäinen, Manzini and
    Puglisi 2009, "Permuted Longest-Common-Prefix Array"; Abouelhoda, Kurtz and Ohlebusch 2004, "Replacing suffix trees
    with enhanced suffix arrays".
    """
    if len(sequence) < 2:
        return Repeats(0, 0)
    import numpy as np

    # Any numbering of the symbols will do: which suffixes are neighbours depends on it, what they share does not.
    numbers: dict[Hashable, int] = {}
    symbols = [numbers.setdefault(element, len(numbers)) for element in sequence]
    order = suffix_array(np.asarray(symbols), sorted_directly)
    shared = _shared_with_the_one_before(symbols, order)
    return Repeats(int(shared.max()), _longest_apart(order.tolist(), shared.tolist()))


def suffix_array(symbols: "np.ndarray", sorted_directly: int = SORTED_DIRECTLY) -> "np.ndarray":
    """The starts of all suffixes of `symbols` (whole numbers from 0), in the order of the suffixes.

    The starts that are no multiple of three are sorted first, by naming their triples and sorting the shorter sequence
    of names; then the others follow from them, and the two are merged.

    Source: Kärkkäinen and Sanders 2003, "Simple Linear Work Suffix Array Construction".
    """
    import numpy as np

    n = len(symbols)
    if n <= max(2, sorted_directly):
        packed = symbols.astype(">u4").tobytes()
        return np.asarray(sorted(range(n), key=lambda start: packed[4 * start :]), dtype=np.int64)
    # 0 stands behind the end, where every suffix that ends is the smaller one.
    text = np.concatenate([symbols.astype(np.int64) + 1, np.zeros(3, np.int64)])
    # Start n, where it is of the first class, is a triple of 0: it parts the classes in the sequence of names.
    first, second = np.arange(1, n + (n % 3 == 1), 3), np.arange(2, n, 3)
    sample = _sample_in_order(text, np.concatenate([first, second]), sorted_directly)
    rank = np.zeros(n + 3, np.int64)
    rank[sample] = np.arange(1, len(sample) + 1)
    others = _stably_by(text, sample[sample % 3 == 1] - 1)
    # A start is compared by its symbol and the rank of the next one: of the first class that is in the sample, and of
    # the second class it is among the others, which are ranked with the first once these two are merged.
    below_first, both = _below(others, sample[sample % 3 == 1], text, rank)
    rank[both] = np.arange(1, len(both) + 1)
    below_second, _ = _below(others, sample[sample % 3 == 2], text, rank)
    order = np.empty(len(sample) + len(others), np.int64)
    places = np.arange(len(others)) + below_first + below_second
    order[places] = others
    left = np.ones(len(order), bool)
    left[places] = False
    order[left] = sample
    return order[order < n]


def _sample_in_order(text: "np.ndarray", sample: "np.ndarray", sorted_directly: int) -> "np.ndarray":
    """The starts of `sample`, all of one class before those of the other, in the order of their suffixes."""
    import numpy as np

    order = np.arange(len(sample))
    for offset in (2, 1, 0):
        order = order[_stable_order(text[sample[order] + offset])]
    starts = sample[order]
    differs = np.zeros(len(sample), bool)
    for offset in range(3):
        differs[1:] |= text[starts[1:] + offset] != text[starts[:-1] + offset]
    names = np.empty(len(sample), np.int64)
    names[order] = np.cumsum(differs)
    return starts if differs[1:].all() else sample[suffix_array(names, sorted_directly)]


def _below(
    others: "np.ndarray", ranked: "np.ndarray", text: "np.ndarray", rank: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
    """How many of `ranked` are below each of `others`, and both merged; each is in order when it comes."""
    import numpy as np

    starts = np.concatenate([others, ranked])
    # Two ascending runs: numpy's stable sort of such numbers is Timsort, which merges them in one pass.
    order = np.argsort(text[starts] * len(rank) + rank[starts + 1], kind="stable")
    places = np.empty(len(starts), np.int64)
    places[order] = np.arange(len(starts))
    return places[: len(others)] - np.arange(len(others)), starts[order]


def _stably_by(text: "np.ndarray", starts: "np.ndarray") -> "np.ndarray":
    return starts[_stable_order(text[starts])]


def _stable_order(values: "np.ndarray") -> "np.ndarray":
    """As argsort of whole numbers from 0, digit by digit: numpy sorts numbers of 16 bits by radix, in linear time."""
    import numpy as np

    order = np.argsort(values.astype(np.uint16), kind="stable")
    most, shift = int(values.max(initial=0)), 16
    while most >> shift:
        order = order[np.argsort((values[order] >> shift).astype(np.uint16), kind="stable")]
        shift += 16
    return order


def _shared_with_the_one_before(symbols: list[int], order: "np.ndarray") -> "np.ndarray":
    """How many symbols each suffix shares with its neighbour before it in `order`; 0 for the first."""
    import numpy as np

    before = np.full(len(order), -1)
    before[order[1:]] = order[:-1]
    ended = [*symbols, -1]
    shared = []
    length = 0
    for start, other in enumerate(before.tolist()):
        if other < 0:
            length = 0
        else:
            # Of two different places only one can be the end, so that the comparison stops there.
            while ended[start + length] == ended[other + length]:
                length += 1
        shared.append(length)
        # The next suffix shares at least all of this but its first symbol: in all, two comparisons a symbol.
        length -= length > 0
    return np.asarray(shared)[order]


def _longest_apart(order: list[int], shared: list[int]) -> int:
    """The longest prefix that two suffixes share whose starts are at least that far apart.

    Suffixes that share a prefix stand together in `order`: a stack holds the open groups, each with its length and its
    first and last start.
    """
    longest = 0
    groups: list[tuple[int, int, int]] = []
    for start, length in zip(order, [*shared[1:], 0], strict=True):
        low = high = start
        while groups and groups[-1][0] > length:
            closed, first, last = groups.pop()
            low, high = min(low, first), max(high, last)
            longest = max(longest, min(closed, high - low))
        if groups and groups[-1][0] == length:
            _, first, last = groups.pop()
            low, high = min(low, first), max(high, last)
        groups.append((length, low, high))
    return longest
