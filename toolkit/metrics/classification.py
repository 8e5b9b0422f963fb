"""Says how often a classifier is right, class by class, and whether a second one on the same items does better.

Of 100 items both get 60 right and 20 wrong, the first alone gets 15 right, and the second alone 5: p is 0.041.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.metrics.statistics import wilson


class ClassScore(NamedTuple):
    """How well one class is told from the others; each share is 0 to 1, and 0 where it has nothing to divide by."""

    precision: float
    """Share right of the items that were given this class."""
    recall: float
    """Share of the items of this class that were given it."""
    f1: float
    """Harmonic mean of the two."""
    support: int
    """Gold examples of the class."""


class Scores(NamedTuple):
    """How well a classifier's answers match the gold labels of n items; each share is 0 to 1."""

    n: int
    accuracy: float
    """Share right of all items: an unreadable reply is wrong."""
    macro_precision: float
    """Mean over all labels passed, each counted alike; a label that is never gold counts too, with 0."""
    macro_recall: float
    macro_f1: float
    """Mean of the classes' F1, not the F1 of the two means."""
    per_class: dict[str, ClassScore]
    """In the order of the labels."""
    confusion: list[list[int]]
    """Items: a row a gold label, a column a predicted one, both in the order of the labels; last, the unreadable."""
    unreadable: int
    """Replies in which no label could be read."""


class Paired(NamedTuple):
    """Two classifiers on the same n items."""

    n: int
    only_first: int
    """Items that the first got right, and the second wrong."""
    only_second: int
    difference: float
    """Accuracy of the second less that of the first, -1 to 1."""
    low: float
    """95 % interval of the difference; it has a width also where the two never differ."""
    high: float
    p: float
    """Two-sided, exact; 1 where the two never differ."""


def classification_scores(gold: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> Scores:
    """Accuracy, precision, recall, F1 and confusions of predicted labels, one an item; None is an unreadable reply.

    An unreadable reply is wrong: it costs its gold class recall, and no class precision.

    Raises ValueError when gold and predicted differ in length, there is no item, a label is not among `labels`, or
    `labels` repeat.

    Source: F1 van Rijsbergen 1979, "Information Retrieval"; the macro average is that of scikit-learn.
    """
    _check_labels(gold, predicted, labels)
    from sklearn import metrics

    # scikit-learn has no types, and those guessed from its defaults are not what it takes and gives.
    score: Any = metrics.precision_recall_fscore_support
    # Whole numbers and not words: whatever word stood for an unreadable reply, somebody's label might be the same.
    codes: dict[str | None, int] = {label: code for code, label in enumerate(labels)}
    codes[None] = unreadable = len(labels)
    true, given = [codes[label] for label in gold], [codes[label] for label in predicted]
    columns = score(true, given, labels=range(unreadable), average=None, zero_division=0)
    # No gold label is unreadable, so the last row is empty.
    confusion = metrics.confusion_matrix(true, given, labels=range(unreadable + 1)).tolist()[:-1]
    return Scores(
        len(gold),
        sum(row[code] for code, row in enumerate(confusion)) / len(gold),
        *(math.fsum(column) / len(labels) for column in columns[:3]),
        per_class={
            # Its supports are no whole numbers where nothing is right.
            label: ClassScore(float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
        },
        confusion=confusion,
        unreadable=given.count(unreadable),
    )


def _check_labels(gold: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(predicted)} predictions belong to {len(gold)} gold labels")
    if not gold:
        raise ValueError("a classifier is judged by at least one item")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels repeat: {list(labels)}")
    for kind, given in (("gold", set(gold)), ("predicted", set(predicted) - {None})):
        if strangers := given - set(labels):
            raise ValueError(f"{kind} labels {sorted(strangers, key=str)} are not among {list(labels)}")


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Whether the second of two classifiers is right more often than the first; item i is the same in both.

    The interval comes from another model than the exact p, which is the more careful: they may disagree near 5 %, the
    interval alone leaving out 0. Both hold items for independent and say nothing about other runs.

    Raises ValueError when the two differ in length or are empty.

    Source: McNemar 1947, "Note on the Sampling Error of the Difference between Correlated Proportions or
    Percentages", its p the exact binomial one; interval: Newcombe 1998, "Improved confidence intervals for the
    difference between binomial proportions based on paired data", method 10.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"two classifiers are compared on the same items, not on {len(first)} and {len(second)}")
    from scipy.stats import binomtest

    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    kinds = ((True, True), (True, False), (False, True), (False, False))
    both, only_first, only_second, neither = (pairs.count(kind) for kind in kinds)
    differ = only_first + only_second
    low, high = _newcombe(both, only_first, only_second, neither)
    return Paired(
        n=len(pairs),
        only_first=only_first,
        only_second=only_second,
        difference=(only_second - only_first) / len(pairs),
        low=low,
        high=high,
        p=float(binomtest(only_second, differ).pvalue) if differ else 1.0,
    )


def _newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of the second share less the first, from the Wilson intervals of the two, squared and added."""
    n = both + only_first + only_second + neither
    right = both + only_first, both + only_second
    (low1, high1), (low2, high2) = (wilson(count, n) for count in right)
    share1, share2 = (count / n for count in right)
    # phi is the correlation of being right. Where it is positive, method 10 moves half an item from each way to agree
    # to a way to differ, but not past 0: without that (method 8) two classifiers that never differ, right on half of
    # the items, would have an interval of no width.
    together = both * neither - only_first * only_second
    if together > 0:
        together = max(0.0, together - n / 2)
    margins = math.prod(right) * math.prod(n - count for count in right)
    phi = together / math.sqrt(margins) if margins else 0.0

    def length(one: float, other: float) -> float:
        return math.sqrt(one**2 - 2 * phi * one * other + other**2)

    difference = share2 - share1
    return difference - length(share2 - low2, high1 - share1), difference + length(high2 - share2, share1 - low1)


def log_loss(p_gold: Sequence[float]) -> float:
    """Mean of -ln p, in nats an item, of the probability 0 to 1 that each item's gold label was given.

    0 is perfect, ln k what guessing among k labels alike gets; infinity where one gold label was held impossible.

    Raises ValueError when there is none, or one is not in 0 … 1.

    Source: Good 1952, "Rational Decisions".
    """
    if not p_gold:
        raise ValueError("a mean loss needs at least one item")
    if not all(0 <= p <= 1 for p in p_gold):
        raise ValueError("the probability of a gold label lies between 0 and 1")
    return math.fsum(-math.log(p) if p else math.inf for p in p_gold) / len(p_gold)
