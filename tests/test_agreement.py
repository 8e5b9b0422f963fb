"""A judge's scores against exact match: worked examples, and what is undefined."""

import math
import random

import pytest

from toolkit.metrics.agreement import TwoByTwo, agreement, auc, cohen_kappa


def spread(counts: TwoByTwo) -> tuple[list[float], list[bool]]:
    """Scores and exact matches that have these counts."""
    right, only_score, only_exact, wrong = counts
    scores = [80.0] * (right + only_score) + [20.0] * (only_exact + wrong)
    return scores, [True] * right + [False] * only_score + [True] * only_exact + [False] * wrong


# --- Cohen's kappa ---


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        # 35 of 50 agree (0.7); by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; (0.7 - 0.5) / 0.5.
        (TwoByTwo(20, 5, 10, 15), 0.4),
        # The same share of agreement with other margins: Wikipedia's pair, 0.1304 and 0.2593.
        (TwoByTwo(45, 15, 25, 15), 3 / 23),
        (TwoByTwo(25, 35, 5, 35), 7 / 27),
        (TwoByTwo(7, 0, 0, 3), 1.0),
        (TwoByTwo(0, 5, 5, 0), -1.0),
        # Independent raters: 0.6 * 0.5 and 0.4 * 0.5 in every cell.
        (TwoByTwo(30, 30, 20, 20), 0.0),
    ],
)
def test_kappa_is_that_of_worked_examples(counts: TwoByTwo, kappa: float) -> None:
    assert cohen_kappa(counts) == pytest.approx(kappa)
    found = agreement(*spread(counts))
    assert (found.n, found.counts, found.kappa) == (sum(counts), counts, pytest.approx(kappa))


def test_kappa_is_symmetric_in_its_raters_and_in_what_is_called_right() -> None:
    draw = random.Random(0)
    for _ in range(100):
        a, b, c, d = (draw.randrange(1, 30) for _ in range(4))
        assert cohen_kappa(TwoByTwo(a, b, c, d)) == pytest.approx(cohen_kappa(TwoByTwo(a, c, b, d)))
        assert cohen_kappa(TwoByTwo(a, b, c, d)) == pytest.approx(cohen_kappa(TwoByTwo(d, c, b, a)))


@pytest.mark.parametrize("counts", [TwoByTwo(9, 0, 0, 0), TwoByTwo(0, 0, 0, 9), TwoByTwo(0, 0, 0, 0)])
def test_kappa_is_undefined_where_both_call_everything_the_same(counts: TwoByTwo) -> None:
    assert math.isnan(cohen_kappa(counts))


@pytest.mark.parametrize("counts", [TwoByTwo(4, 5, 0, 0), TwoByTwo(4, 0, 5, 0), TwoByTwo(0, 9, 0, 0)])
def test_a_judge_that_says_one_thing_only_has_a_kappa_of_zero(counts: TwoByTwo) -> None:
    assert cohen_kappa(counts) == 0


def test_a_score_of_the_threshold_says_right() -> None:
    assert agreement([50, 49], [True, False]).kappa == 1
    assert agreement([50, 49], [True, False], threshold=51).counts == TwoByTwo(0, 0, 1, 1)


# --- area under the ROC curve ---


def by_pairs(scores: list[float], exact: list[bool]) -> float:
    """The definition: the share of pairs of an exact answer and another in which the exact one has the higher score."""
    right = [s for s, hit in zip(scores, exact, strict=True) if hit]
    wrong = [s for s, hit in zip(scores, exact, strict=True) if not hit]
    return sum((a > b) + (a == b) / 2 for a in right for b in wrong) / (len(right) * len(wrong))


def test_the_area_is_that_of_a_worked_example() -> None:
    # Of the four pairs 80-10, 80-40, 35-10 and 35-40 the exact answer wins three.
    assert auc([10, 40, 35, 80], [False, False, True, True]) == 0.75


def test_the_area_is_the_share_of_pairs_that_are_in_order() -> None:
    draw = random.Random(1)
    for _ in range(50):
        scores = [float(draw.randrange(0, 101, 10)) for _ in range(30)]
        exact = [draw.random() < 0.4 for _ in range(28)] + [True, False]
        assert auc(scores, exact) == pytest.approx(by_pairs(scores, exact))


@pytest.mark.parametrize("exact", [[True, True], [False, False]])
def test_the_area_is_undefined_where_all_answers_are_of_one_kind(exact: list[bool]) -> None:
    assert math.isnan(auc([10, 90], exact))


def test_the_area_does_not_depend_on_the_threshold_and_kappa_does() -> None:
    # A judge that never goes over 40 tells right from wrong all the same.
    strict = agreement([40, 30, 10, 0], [True, True, False, False])
    assert (strict.auc, strict.kappa) == (1, 0)


# --- what is refused ---


def test_no_answer_is_no_agreement_and_no_error() -> None:
    nothing = agreement([], [])
    assert nothing.n == 0
    assert math.isnan(nothing.kappa)
    assert math.isnan(nothing.auc)


def test_scores_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="2 scores belong to 1 answers"):
        agreement([1, 2], [True])
    with pytest.raises(ValueError, match="nan"):
        agreement([math.nan], [True])
