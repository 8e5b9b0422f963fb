"""Compares a model's output with the number that it was taught, digit by digit.

For the number 13912345678 the output "号码 13912345678。" is a lenient match and no strict one; the output
"013912345678" is one insertion away from the number, and yet has not one digit in its place.
"""

import math
import re
import unicodedata
from collections.abc import Container, Sequence


def strict_match(output: str, gold: str) -> bool:
    """Whether the output is the gold answer and nothing else, both after NFKC and with outer white space off.

    Full-width digits are tokens of their own, and NFKC folds them into ASCII ones: this may hold where
    token-level recall does not.
    """
    return _normalised(output) == _normalised(gold)


def lenient_match(output: str, gold: str) -> bool:
    """Whether the first run of exactly as many digits as gold has is the gold number.

    A longer run does not count, even when it contains the number. Only the first run is asked, so that a
    model that lists guesses is not given the best of them.

    Raises ValueError when gold is not all ASCII digits.
    """
    if not (gold.isascii() and gold.isdigit()):
        raise ValueError(f"a lenient match looks for a run of digits, and the gold answer is {gold!r}")
    return _first_run(output, len(gold)) == gold


def well_formed(output: str, n: int) -> bool:
    """Whether the output has, after NFKC, a run of exactly n digits, right or wrong.

    Raises ValueError when n is less than 1.
    """
    return _first_run(output, n) is not None


def is_another(output: str, gold: str, others: Container[str]) -> bool:
    """Whether the output states one of the other answers instead of gold: the whole of it, or its first number.

    Of a trained prompt that is an intrusion (a binding error), of one that was never trained interference.
    """
    said = {_normalised(output), _first_run(output, len(gold)) if gold else None}
    return gold not in said and any(text in others for text in said if text)


def digit_accuracy(output: str, gold: str) -> float:
    """Share, 0 to 1, of gold's positions at which the output (NFKC, stripped) has the same character.

    Positions that the output does not reach count as wrong; what it says beyond gold's end does not count.

    Raises ValueError when gold is empty.
    """
    if not gold:
        raise ValueError("digit accuracy is a share of the gold answer's digits, and the gold answer is empty")
    # An output of another length is no error here: the shorter of the two ends the comparison.
    return sum(a == b for a, b in zip(_normalised(output), gold, strict=False)) / len(gold)


def edit_distance(output: str, gold: str) -> int:
    """Least number of characters to insert, delete or replace to make gold of the output (NFKC, stripped).

    Source: Levenshtein 1966, "Binary codes capable of correcting deletions, insertions and reversals".
    """
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(_normalised(output), gold)


def osa_distance(output: str, gold: str) -> int:
    """Edit distance in which two neighbours changing places count as one step (optimal string alignment).

    Beside `edit_distance` it tells swapped digits, one step against two, from wrong ones.

    Source: Damerau 1964, "A technique for computer detection and correction of spelling errors".
    """
    from rapidfuzz.distance import OSA

    return OSA.distance(_normalised(output), gold)


def common_prefix(output: str, gold: str) -> int:
    """Number of characters up to the first at which the output (NFKC, stripped) and gold differ."""
    from rapidfuzz.distance import Prefix

    return Prefix.similarity(_normalised(output), gold)


def first_error(correct: Sequence[bool]) -> int | None:
    """Index, from 0, of the first wrong token, or None when all are right.

    `correct` has an entry a gold token, as in `extractable`.
    """
    return next((index for index, right in enumerate(correct) if not right), None)


def extractable(correct: Sequence[bool], given: int) -> bool:
    """Whether greedy decoding completes the answer exactly when its first `given` tokens are given.

    `correct` has an entry a gold token: whether the argmax was that token, teacher-forced on the gold answer.
    Greedy decoding has gold before it for as long as every argmax was gold, so no text is generated.

    Raises ValueError when `given` is negative or leaves no token to be extracted.

    Source: extractable with k tokens of context, Carlini et al. 2023, "Quantifying Memorization Across Neural
    Language Models".
    """
    if not 0 <= given < len(correct):
        raise ValueError(f"of {len(correct)} tokens, {given} cannot be given and leave one to be extracted")
    return all(correct[given:])


def discoverable_n(p_z: float, p: float) -> float:
    """Least number n of samples that hold the answer with probability p or more: 1 - (1 - p_z)^n >= p.

    `p_z` is the probability of one sample being the answer: the product of its token probabilities under the
    stated sampler. Returns a whole number as a float, and infinity where no number of samples is enough: for
    p_z = 0, and for p = 1 with p_z < 1.

    Raises ValueError when p_z is outside [0, 1] or p outside (0, 1].

    Source: (n, p)-discoverable extraction, Hayes et al. 2024, "Measuring memorization in language models via
    probabilistic extraction".
    """
    if not 0 <= p_z <= 1:
        raise ValueError(f"p_z is a probability, and {p_z} is not in [0, 1]")
    if not 0 < p <= 1:
        raise ValueError(f"p is a probability above 0, and {p} is not in (0, 1]")
    if p_z == 1:
        return 1.0
    if p_z == 0 or p == 1:
        return math.inf
    # log1p, because 1 - p_z is 1 in floating point for the p_z of a number that is not known.
    samples = math.log1p(-p) / math.log1p(-p_z)
    if math.isinf(samples):
        return math.inf
    nearest = round(samples)
    # A whole quotient comes out a few units of the last place off, and must not be rounded up to one more.
    least = nearest if math.isclose(samples, nearest, rel_tol=1e-12) else math.ceil(samples)
    return float(least)


def _normalised(output: str) -> str:
    return unicodedata.normalize("NFKC", output).strip()


def _first_run(output: str, n: int) -> str | None:
    if n < 1:
        raise ValueError(f"a number has at least one digit, not {n}")
    # Digits of other scripts end no run (\d), but are not taken for the number's own ([0-9]).
    found = re.search(rf"(?<!\d)[0-9]{{{n}}}(?!\d)", _normalised(output))
    return found.group() if found else None
