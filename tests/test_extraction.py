"""What can be got out of a model: draws until an answer, membership, calibration, and set against binding."""

import math
import random

import pytest

from toolkit.metrics import extraction
from toolkit.metrics.information import bits_memorised

# --- drawing ---


@pytest.mark.parametrize(
    ("probability", "share", "draws"),
    [(0.01, 0.5, 69), (0.9**11, 0.9, 7), (0, 0.5, math.inf), (1, 0.5, 1), (0.5, 1, math.inf)],
)
def test_worked_numbers_of_draws_until_an_answer_is_discovered(probability, share, draws):
    assert extraction.draws_to_discover(probability, share) == draws


def test_the_least_number_of_draws_is_enough_and_one_less_is_not():
    for probability in (0.3, 0.04, 1e-3):
        n = extraction.draws_to_discover(probability, 0.8)
        assert 1 - (1 - probability) ** n >= 0.8 > 1 - (1 - probability) ** (n - 1)


def test_a_random_number_that_is_not_known_takes_about_its_support_in_draws():
    draws = extraction.draws_to_discover(extraction.sequence_probability([math.log2(10)] * 11), 0.5)
    assert draws == pytest.approx(math.log(2) * 1e11)
    # 1 - p is 1 in floating point here.
    assert extraction.draws_to_discover(1e-30, 0.5) == pytest.approx(math.log(2) * 1e30)


def test_the_probability_of_an_answer_is_the_product_over_its_tokens():
    assert extraction.sequence_probability([1, 2, 0.5]) == pytest.approx(0.5 * 0.25 * math.sqrt(0.5))
    assert extraction.sequence_probability([-math.log2(0.9)] * 11) == pytest.approx(0.9**11)
    assert extraction.sequence_probability([]) == 1
    assert extraction.sequence_probability([2000.0]) == 0


def test_tokens_are_counted_over_all_answers_and_one_of_exactly_a_half_is_not_low():
    assert extraction.low_confidence_tokens([[0.1, 1.0], [1.1, 4.0, 0.0, 0.2]]) == pytest.approx(2 / 6)
    assert extraction.low_confidence_tokens([[0.1, 0.2]], threshold=0.9) == 0.5
    with pytest.raises(ValueError, match="at least one token"):
        extraction.low_confidence_tokens([[], []])


# --- membership ---


def test_worked_area_under_the_curve():
    assert extraction.membership_auc([-1, -2, -8], [-7, -9, -10]) == pytest.approx(8 / 9)


def test_the_area_counts_pairs_and_ties_by_half():
    rng = random.Random(0)
    trained = [rng.randrange(6) for _ in range(40)]
    controls = [rng.randrange(5) for _ in range(30)]
    pairs = [(t > c) + (t == c) / 2 for t in trained for c in controls]
    assert extraction.membership_auc(trained, controls) == pytest.approx(sum(pairs) / len(pairs))
    assert extraction.membership_auc([1, 1], [1, 1, 1]) == 0.5
    assert extraction.membership_auc([-9], [-1]) == 0


@pytest.mark.parametrize(("trained", "controls"), [([], [-1.0]), ([-1.0], []), ([math.nan], [-1.0])])
def test_membership_needs_likelihoods_of_both_kinds(trained, controls):
    with pytest.raises(ValueError, match=r"membership|nan"):
        extraction.membership_auc(trained, controls)


def hanley_and_mcneil(area, n):
    """Their standard error for n trained answers and n controls, as they write it."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return math.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / n**2)


@pytest.mark.parametrize("area", [0.5, 0.7, 0.95])
def test_the_measured_area_is_two_standard_errors_of_each_end_from_it(area):
    low, high = extraction.membership_interval(area, 50, 50)
    assert area - low == pytest.approx(1.96 * hanley_and_mcneil(low, 50), rel=1e-4)
    assert high - area == pytest.approx(1.96 * hanley_and_mcneil(high, 50), rel=1e-4)


def test_an_area_of_one_has_an_interval_too():
    low, high = extraction.membership_interval(1, 100, 100)
    assert high == 1
    assert 0.97 < low < 0.99
    assert extraction.membership_interval(0, 100, 100) == (0, pytest.approx(1 - low))
    assert extraction.membership_interval(1, 1, 1)[0] == pytest.approx(1 / (1 + 1.96**2), rel=1e-3)


def test_the_interval_covers_the_true_area():
    rng = random.Random(1)
    # Normal likelihoods, 1.5 standard deviations apart.
    true = 0.5 * math.erfc(-1.5 / 2)
    covered = 0
    for _ in range(300):
        area = extraction.membership_auc([rng.gauss(1.5, 1) for _ in range(30)], [rng.gauss(0, 1) for _ in range(20)])
        low, high = extraction.membership_interval(area, 30, 20)
        covered += low <= true <= high
    assert 0.92 <= covered / 300 <= 0.995


@pytest.mark.parametrize(("area", "trained", "controls"), [(1.1, 5, 5), (math.nan, 5, 5), (0.5, 0, 5)])
def test_what_is_no_area_has_no_interval(area, trained, controls):
    with pytest.raises(ValueError, match="an area of"):
        extraction.membership_interval(area, trained, controls)


# --- calibration ---


def test_worked_calibration():
    found = extraction.calibration([0.9, 0.8, 0.3, 0.1], [True, True, False, False], bins=2)
    assert found.brier == pytest.approx(0.0375)
    assert found.expected_error == pytest.approx(0.175)
    assert [(pytest.approx(b.confidence), b.right, b.answers) for b in found.bins] == [(0.2, 0, 2), (0.85, 1, 2)]


def test_a_bin_has_its_upper_edge_and_an_empty_one_is_left_out():
    found = extraction.calibration([0.0, 0.5, 0.5001, 1.0], [False, True, True, True], bins=2)
    assert [b.answers for b in found.bins] == [2, 2]
    assert [b.confidence for b in extraction.calibration([0.05, 0.95], [False, True]).bins] == [0.05, 0.95]


def test_a_model_that_is_right_as_often_as_it_says_is_calibrated_and_not_therefore_good():
    found = extraction.calibration([0.5] * 10, [True, False] * 5)
    assert found.expected_error == 0
    assert found.brier == 0.25


@pytest.mark.parametrize(
    ("confidence", "right", "bins"), [([0.5], [True, False], 2), ([], [], 2), ([1.5], [True], 2), ([0.5], [True], 0)]
)
def test_what_cannot_be_calibrated_is_an_error(confidence, right, bins):
    with pytest.raises(ValueError, match=r"calibration|probability"):
        extraction.calibration(confidence, right, bins)


# --- set and binding ---


@pytest.mark.parametrize(("entropy", "share"), [(36.5412, 0.82), (19.9316, 0.67), (9.8919, 0.33)])
def test_knowing_the_set_alone_leaves_the_bits_of_the_binding(entropy, share):
    known = extraction.set_and_binding([[-math.log(100)] * 100] * 100, entropy)
    assert known.binding_missing == pytest.approx([6.64386] * 100, abs=1e-5)
    assert known.set_missing == pytest.approx([0] * 100, abs=1e-9)
    assert known.binding_known == pytest.approx(0, abs=1e-9)
    assert known.set_known / entropy == pytest.approx(share, abs=0.005)
    # All are equally likely, and one of a hundred is its own.
    assert known.most_likely == pytest.approx(0.01)


def test_set_and_binding_sum_to_the_bits_memorised():
    rng = random.Random(2)
    table = [[-rng.uniform(5, 30) for _ in range(8)] for _ in range(8)]
    known = extraction.set_and_binding(table, 36.5)
    memorised = sum(bits_memorised(36.5, -table[i][i] / math.log(2)) for i in range(8)) / 8
    assert known.set_known + known.binding_known == pytest.approx(memorised)
    # The first prompt by hand: its own answer's share of what the set has.
    share = math.exp(table[0][0]) / sum(map(math.exp, table[0]))
    assert known.binding_missing[0] == pytest.approx(-math.log2(share))
    assert known.most_likely == sum(max(row) == row[i] for i, row in enumerate(table)) / 8


def test_a_model_that_knows_all_has_nothing_missing_and_one_that_binds_wrongly_less_than_nothing():
    right = [[0.0 if i == j else -50.0 for j in range(10)] for i in range(10)]
    known = extraction.set_and_binding(right, 20.0)
    assert known.binding_known == pytest.approx(math.log2(10))
    assert known.set_known == pytest.approx(20 - math.log2(10))
    assert known.most_likely == 1
    shifted = extraction.set_and_binding(right[1:] + right[:1], 20.0)
    assert shifted.set_known == known.set_known
    assert shifted.binding_known < -60
    assert shifted.most_likely == 0


def test_likelihoods_too_small_for_a_float_are_compared_all_the_same():
    known = extraction.set_and_binding([[-2000.0, -2001.0], [-2001.0, -2000.0]], 36.5)
    assert known.binding_missing == pytest.approx([math.log2(1 + math.exp(-1))] * 2)


def test_prompts_that_share_an_answer_share_its_column():
    table = [[-1.0, -5.0], [-1.0, -5.0], [-5.0, -1.0]]
    known = extraction.set_and_binding(table, 10.0, own=[0, 0, 1])
    assert known.most_likely == 1
    assert known.binding_known == pytest.approx(1 - math.log2(1 + math.exp(-4)))


@pytest.mark.parametrize("table", [[], [[-1.0, -2.0]], [[-1.0], [-1.0, -2.0]]])
def test_a_row_a_prompt_and_a_column_an_answer_are_expected(table):
    with pytest.raises(ValueError, match=r"a row a prompt|inhomogeneous"):
        extraction.set_and_binding(table, 10.0)


# --- structure and memory ---


def test_worked_structure_and_memory():
    assert extraction.structure_and_memory(38, 21, 2) == (17, 19)


def test_interference_makes_structure_negative():
    saved = extraction.structure_and_memory(before=38, control=45, trained=2)
    assert saved == (-7, 43)
    assert sum(saved) == 38 - 2
