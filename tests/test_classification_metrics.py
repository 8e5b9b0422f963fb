"""A classifier's labels against gold, and two classifiers on the same items: worked examples, counts, and traps."""

import itertools
import json
import math
import random
import statistics
import subprocess
import sys
from fractions import Fraction

import pytest

from toolkit.metrics.classification import Paired, classification_scores, log_loss, mcnemar

# --- one classifier ---


def by_counting(gold: list[str], predicted: list[str | None], label: str) -> tuple[Fraction, Fraction, Fraction, int]:
    """The definitions: precision, recall and F1 of a class, from counted items, and its support."""
    pairs = list(zip(gold, predicted, strict=True))
    hits, given, there = pairs.count((label, label)), predicted.count(label), gold.count(label)
    # F1 as one fraction of counts, not by way of the other two.
    shares = ((hits, given), (hits, there), (2 * hits, given + there))
    precision, recall, f1 = (Fraction(part, whole) if whole else Fraction(0) for part, whole in shares)
    return precision, recall, f1, there


def test_the_scores_are_those_of_the_worked_example() -> None:
    scores = classification_scores(list("000112"), list("001110"), list("012"))
    assert (scores.n, scores.accuracy) == (6, pytest.approx(4 / 6))
    assert scores.per_class["0"] == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert scores.per_class["1"] == pytest.approx((2 / 3, 1, 4 / 5, 2))
    assert scores.per_class["2"] == (0, 0, 0, 1)
    assert scores.macro_precision == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores.macro_recall == pytest.approx((2 / 3 + 1 + 0) / 3)
    # The F1 of the two means would be 40/81.
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert scores.confusion == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0]]
    assert scores.unreadable == 0


def test_the_scores_are_those_of_counted_items() -> None:
    draw = random.Random(0)
    for _ in range(60):
        labels = draw.sample(["sport", "Sport", "war", "art", "news"], draw.randrange(1, 6))
        gold = draw.choices(labels, k=draw.randrange(1, 30))
        predicted = [g if draw.random() < 0.5 else draw.choice([*labels, None]) for g in gold]
        scores = classification_scores(gold, predicted, labels)
        counted = [by_counting(gold, predicted, label) for label in labels]
        pairs = list(zip(gold, predicted, strict=True))
        assert list(scores.per_class) == labels
        for found, expected in zip(scores.per_class.values(), counted, strict=True):
            assert found == pytest.approx([float(value) for value in expected])
        macro = [float(sum(column) / len(labels)) for column in list(zip(*counted, strict=True))[:3]]
        assert [scores.macro_precision, scores.macro_recall, scores.macro_f1] == pytest.approx(macro)
        assert scores.confusion == [[pairs.count((g, p)) for p in [*labels, None]] for g in labels]
        assert scores.accuracy == pytest.approx(sum(g == p for g, p in pairs) / len(pairs))
        assert scores.unreadable == predicted.count(None)


def test_an_unreadable_reply_is_wrong_and_counted_and_costs_no_class_precision() -> None:
    scores = classification_scores(["a", "a", "b", "b"], ["a", None, "b", None], ["a", "b"])
    assert (scores.accuracy, scores.unreadable) == (0.5, 2)
    assert scores.per_class["a"] == pytest.approx((1, 1 / 2, 2 / 3, 2))
    assert scores.confusion == [[1, 0, 1], [0, 1, 1]]
    # Left out and not counted as wrong, they would make it a perfect classifier.
    assert classification_scores(["a", "b"], ["a", "b"], ["a", "b"]).accuracy == 1


@pytest.mark.parametrize("label", ["None", "unreadable", "nan", "", "-1", "2", "0"])
def test_no_label_is_taken_for_an_unreadable_reply(label: str) -> None:
    scores = classification_scores([label, label, "x"], [label, None, label], [label, "x"])
    assert scores.confusion == [[1, 0, 1], [1, 0, 0]]
    assert (scores.unreadable, scores.accuracy) == (1, pytest.approx(1 / 3))


def test_a_label_that_is_neither_gold_nor_predicted_counts_with_nothing_in_the_macro_means() -> None:
    two = classification_scores(["a", "b"], ["a", "b"], ["a", "b"])
    four = classification_scores(["a", "b"], ["a", "b"], ["a", "b", "c", "d"])
    assert (two.macro_f1, four.macro_f1, four.accuracy) == (1, 0.5, 1)
    assert four.per_class["d"] == (0, 0, 0, 0)


def test_the_order_of_labels_is_the_one_given() -> None:
    scores = classification_scores(["b", "a"], ["a", "a"], ["b", "a"])
    assert list(scores.per_class) == ["b", "a"]
    assert scores.confusion == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("predicted", [["b", "a"], [None, None], ["b", None]])
def test_supports_are_whole_numbers_where_nothing_is_right_and_nothing_warns(predicted: list[str | None]) -> None:
    scores = classification_scores(["a", "b"], predicted, ["a", "b", "c"])
    assert (scores.accuracy, scores.macro_f1) == (0, 0)
    supports = [score.support for score in scores.per_class.values()]
    assert supports == [1, 1, 0]
    assert all(type(support) is int for support in supports)


def test_scores_can_be_written_as_json() -> None:
    scores = classification_scores(["a", "b"], ["a", None], ["a", "b"])
    assert json.loads(json.dumps(scores._asdict()))["per_class"]["a"] == [1, 1, 1, 1]
    assert all(type(value) is float for value in scores[1:5])


@pytest.mark.parametrize(
    ("gold", "predicted", "labels", "complaint"),
    [
        (["a", "b"], ["a"], ["a", "b"], "1 predictions belong to 2 gold labels"),
        ([], [], ["a"], "at least one item"),
        (["a"], ["a"], ["a", "b", "a"], "labels repeat"),
        (["c"], ["a"], ["a", "b"], r"gold labels \['c'\] are not among \['a', 'b'\]"),
        (["a"], ["A"], ["a", "b"], r"predicted labels \['A'\] are not among \['a', 'b'\]"),
        # What an unreadable reply says is None: text that is no label is a mistake of the caller.
        (["a"], [""], ["a", "b"], r"predicted labels \[''\]"),
        ([None], ["a"], ["a", "b"], r"gold labels \[None\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(gold, predicted, labels, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        classification_scores(gold, predicted, labels)


# --- two classifiers on the same items ---

Table = tuple[int, int, int, int]
"""Items that both get right, only the first, only the second, and neither."""


def answers(table: Table) -> tuple[list[bool], list[bool]]:
    """What two classifiers got right that have these counts."""
    both, only_first, only_second, neither = table
    first = [True] * both + [True] * only_first + [False] * only_second + [False] * neither
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def compared(table: Table) -> Paired:
    return mcnemar(*answers(table))


def tables(n: int) -> list[Table]:
    """Every way to spread n items over the four counts."""
    cuts = itertools.combinations(range(n + 3), 3)
    return [(a, b - a - 1, c - b - 1, n + 2 - c) for a, b, c in cuts]


def test_the_comparison_is_that_of_the_worked_example() -> None:
    found = compared((60, 15, 5, 20))
    assert (found.n, found.only_first, found.only_second) == (100, 15, 5)
    assert found.difference == pytest.approx(-0.10)
    # Of twenty fair coins five or fewer heads, or fifteen or more.
    assert found.p == pytest.approx(2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20)
    assert found.p == pytest.approx(0.0414, abs=5e-5)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Published as first less second. Newcombe 1998, Table III, method 10 (as others quote it).
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((18, 12, 2, 18), 0.0562, 0.3290),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((18, 14, 0, 18), 0.1441, 0.3963),
        ((2, 97, 1, 0), 0.8721, 0.9854),
        ((0, 29, 1, 0), 0.6666, 0.9882),
        ((0, 30, 0, 0), 0.8395, 1.0),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        # Method 8, which leaves phi as it is, has no width here.
        ((27, 0, 0, 27), -0.0351, 0.0351),
        # The complete responses of Cavo 2012, in Fagerland, Lydersen and Laake's R package contingencytables.
        ((59, 6, 16, 80), -0.1186, -0.0046),
    ],
)
def test_the_interval_is_the_published_one(table: Table, low: float, high: float) -> None:
    found = compared(table)
    # The paper's z is 1.96.
    assert (-found.high, -found.low) == pytest.approx((low, high), abs=1e-4)


def score_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's interval by its definition: the shares that the measured one does not contradict, found by halving."""
    z, share = statistics.NormalDist().inv_cdf(0.975), right / n

    def end(outside: float) -> float:
        if outside == share:
            return share
        inside = share
        for _ in range(60):
            middle = (inside + outside) / 2
            if (share - middle) ** 2 <= z**2 * middle * (1 - middle) / n:
                inside = middle
            else:
                outside = middle
        return inside

    return end(0.0), end(1.0)


def squared_and_added(first: list[bool], second: list[bool], phi: float) -> tuple[float, float]:
    """How far the interval goes below and above the difference, of two shares right that are correlated by phi."""
    share1, share2, n = statistics.fmean(first), statistics.fmean(second), len(first)
    (low1, high1), (low2, high2) = score_interval(sum(first), n), score_interval(sum(second), n)
    ends = ((share2 - low2, high1 - share1), (high2 - share2, share1 - low1))
    below, above = (math.sqrt(a * a + b * b - 2 * phi * a * b) for a, b in ends)
    return below, above


@pytest.mark.parametrize("table", [(3, 9, 8, 2), (1, 4, 9, 2), (5, 20, 3, 10), (0, 7, 6, 0), (6, 7, 14, 3)])
def test_the_interval_is_wider_where_one_is_right_when_the_other_is_wrong(table: Table) -> None:
    first, second = answers(table)
    phi = statistics.correlation(first, second)
    assert phi < 0
    found = mcnemar(first, second)
    expected = squared_and_added(first, second, phi)
    assert (found.difference - found.low, found.high - found.difference) == pytest.approx(expected)
    assert expected > squared_and_added(first, second, 0)


@pytest.mark.parametrize("table", [(8, 2, 2, 1), (1, 1, 7, 12), (2, 0, 1, 1), (4, 2, 2, 1)])
def test_a_correlation_that_half_an_item_could_make_does_not_narrow_the_interval(table: Table) -> None:
    first, second = answers(table)
    assert statistics.correlation(first, second) >= 0
    found = mcnemar(first, second)
    expected = squared_and_added(first, second, 0)
    assert (found.difference - found.low, found.high - found.difference) == pytest.approx(expected)


def test_p_counts_the_ways_that_the_items_on_which_they_differ_could_have_fallen() -> None:
    for only_first, only_second in itertools.product(range(6), repeat=2):
        differ, apart = only_first + only_second, abs(only_second - only_first)
        falls = [abs(sum(fall)) for fall in itertools.product((-1, 1), repeat=differ)]
        expected = sum(far >= apart for far in falls) / len(falls)
        assert compared((3, only_first, only_second, 2)).p == pytest.approx(expected)


def test_p_does_not_ask_on_how_many_items_they_agree() -> None:
    assert compared((0, 2, 9, 0)).p == compared((500, 2, 9, 70)).p


def test_two_that_never_differ_have_a_p_of_one_and_an_interval_around_nothing() -> None:
    for table in tables(8):
        if table[1] == table[2] == 0:
            found = compared(table)
            assert (found.difference, found.p) == (0, 1)
            assert found.low < 0 < found.high
            assert found.high == pytest.approx(-found.low)


def test_the_interval_holds_the_difference_and_stays_between_minus_one_and_one() -> None:
    for table in tables(7):
        found = compared(table)
        assert -1 <= found.low <= found.difference <= found.high <= 1
        assert found.high - found.low > 0.1


def test_the_second_is_as_much_better_as_the_first_is_worse() -> None:
    for both, only_first, only_second, neither in tables(6):
        found = compared((both, only_first, only_second, neither))
        other = compared((both, only_second, only_first, neither))
        assert (found.difference, found.p) == (-other.difference, other.p)
        assert (found.low, found.high) == pytest.approx((-other.high, -other.low))


def test_the_interval_of_errors_is_that_of_right_answers_turned_around() -> None:
    for both, only_first, only_second, neither in tables(6):
        found = compared((both, only_first, only_second, neither))
        errors = compared((neither, only_second, only_first, both))
        assert (found.low, found.high) == pytest.approx((-errors.high, -errors.low))


def test_the_interval_may_leave_out_no_difference_where_p_is_above_five_percent() -> None:
    found = compared((59, 6, 16, 80))
    assert found.low > 0
    assert found.p == pytest.approx(0.052479, abs=5e-7)


def test_items_are_paired_by_their_place() -> None:
    assert mcnemar([True, False], [False, True])[:3] == (2, 1, 1)
    assert mcnemar([True, False], [True, False])[:3] == (2, 0, 0)


@pytest.mark.parametrize(("first", "second"), [([True, False], [True]), ([], [True]), ([], [])])
def test_classifiers_on_different_items_or_none_are_not_compared(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match=f"not on {len(first)} and {len(second)}"):
        mcnemar(first, second)


# --- logarithmic loss ---


def test_the_loss_is_in_nats_an_item() -> None:
    # One bit and two bits, of ln 2 nats each.
    assert log_loss([0.5, 0.25]) == pytest.approx(1.5 * math.log(2))
    assert log_loss([1 / 6] * 10) == pytest.approx(math.log(6))
    assert log_loss([1.0, 1.0]) == 0


def test_one_gold_label_held_impossible_costs_infinity() -> None:
    assert log_loss([0.9, 0.0, 0.9]) == math.inf


@pytest.mark.parametrize("p_gold", [[0.5, 1.1], [-0.1], [math.nan], [math.inf], [-0.7, 0.2]])
def test_what_is_no_probability_has_no_loss(p_gold: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        log_loss(p_gold)


def test_no_item_has_no_loss() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        log_loss([])


# --- weight ---


def test_importing_the_measures_imports_no_heavy_library() -> None:
    code = (
        "import sys, toolkit.metrics.classification\n"
        "print([name for name in ('sklearn', 'scipy', 'numpy', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
