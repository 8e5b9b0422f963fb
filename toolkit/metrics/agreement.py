"""Says how far a judge's scores from 0 to 100 agree with exact match.

Of 50 answers both call 20 right and 15 wrong, the judge alone calls 5 right, and exact match 10: Cohen's kappa is 0.4.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.metrics.extraction import membership_auc

THRESHOLD = 50.0
"""A score from here on says that an answer is right."""


class TwoByTwo(NamedTuple):
    """Answers counted by what two raters call them."""

    both_right: int
    only_score: int
    """Right by the score, wrong by exact match: what exact match is too strict for, or the judge too kind."""
    only_exact: int
    both_wrong: int


class Agreement(NamedTuple):
    """How far scores and exact match agree on n answers; what is undefined is nan."""

    n: int
    counts: TwoByTwo
    kappa: float
    """Cohen's kappa at the threshold: 1 is full agreement, 0 what the two shares of right answers give by chance."""
    auc: float
    """Probability that an exact answer has the higher score than one that is not, ties counted half; 0.5 is chance."""


def agreement(scores: Sequence[float], exact: Sequence[bool], threshold: float = THRESHOLD) -> Agreement:
    """Agreement of scores (0 to 100, one an answer) with exact match; a score of `threshold` or more says right.

    With no answer at all everything is nan.

    Raises ValueError when the two differ in length or a score is nan.
    """
    if len(scores) != len(exact):
        raise ValueError(f"{len(scores)} scores belong to {len(exact)} answers")
    if any(math.isnan(score) for score in scores):
        raise ValueError("a score is nan; an answer without a score belongs into neither list")
    pairs = [(score >= threshold, bool(right)) for score, right in zip(scores, exact, strict=True)]
    kinds = ((True, True), (True, False), (False, True), (False, False))
    counts = TwoByTwo(*(pairs.count(kind) for kind in kinds))
    return Agreement(len(pairs), counts, cohen_kappa(counts), auc(scores, exact))


def cohen_kappa(counts: TwoByTwo) -> float:
    """Cohen's kappa of two raters on two classes, (observed - expected) / (1 - expected) agreement: -1 to 1.

    nan where both call every answer the same, all right or all wrong, as chance alone agrees fully then, and where
    there is no answer. Where only one of them does so it is 0.

    Source: Cohen 1960, "A Coefficient of Agreement for Nominal Scales".
    """
    n = sum(counts)
    by_score = counts.both_right + counts.only_score
    by_exact = counts.both_right + counts.only_exact
    # In whole numbers, n² times each, so that what is undefined is so exactly.
    observed = n * (counts.both_right + counts.both_wrong)
    expected = by_score * by_exact + (n - by_score) * (n - by_exact)
    return math.nan if expected == n * n else (observed - expected) / (n * n - expected)


def auc(scores: Sequence[float], exact: Sequence[bool]) -> float:
    """Area under the ROC curve that tells exact answers from others by their score: 0 to 1, at any threshold.

    nan where no answer is exact or all are: there is nothing to tell apart then.

    Source: Mann and Whitney 1947; see `membership_auc`.
    """
    right = [score for score, hit in zip(scores, exact, strict=True) if hit]
    wrong = [score for score, hit in zip(scores, exact, strict=True) if not hit]
    return membership_auc(right, wrong) if right and wrong else math.nan
