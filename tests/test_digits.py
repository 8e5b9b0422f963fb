"""Recall of a number: matches, digits, distances, and what can be extracted."""

import math

import pytest

from toolkit.metrics import digits

GOLD = "13912345678"
FULL_WIDTH = "".join(chr(ord(digit) - ord("0") + 0xFF10) for digit in GOLD)

# output, right digits, Levenshtein, optimal string alignment, common prefix
WORKED = [
    ("13912354678", 9, 2, 1, 6),
    ("1391234567", 10, 1, 1, 10),
    ("013912345678", 0, 1, 1, 0),
    ("", 0, 11, 11, 0),
]


@pytest.mark.parametrize(("output", "right", "levenshtein", "osa", "prefix"), WORKED)
def test_worked_outputs_have_these_digits_distances_and_prefixes(output, right, levenshtein, osa, prefix):
    assert digits.digit_accuracy(output, GOLD) == pytest.approx(right / 11)
    assert digits.edit_distance(output, GOLD) == levenshtein
    assert digits.osa_distance(output, GOLD) == osa
    assert digits.common_prefix(output, GOLD) == prefix


@pytest.mark.parametrize("output", [GOLD, f"  {GOLD}\n", FULL_WIDTH, f"\u3000{FULL_WIDTH}"])
def test_white_space_and_full_width_digits_are_forgiven_everywhere(output):
    assert digits.strict_match(output, GOLD)
    assert digits.lenient_match(output, GOLD)
    assert digits.well_formed(output, 11)
    assert digits.digit_accuracy(output, GOLD) == 1
    assert digits.edit_distance(output, GOLD) == digits.osa_distance(output, GOLD) == 0
    assert digits.common_prefix(output, GOLD) == 11


@pytest.mark.parametrize(
    "output",
    [
        f"{GOLD} 9",
        f"9 {GOLD}",
        f"号码 {GOLD}。",
        f"{GOLD}, then 55555",
        f"{FULL_WIDTH} 9",
        f"+{GOLD}-{GOLD}",
    ],
)
def test_a_number_among_other_text_matches_leniently_and_not_strictly(output):
    assert digits.lenient_match(output, GOLD)
    assert not digits.strict_match(output, GOLD)


@pytest.mark.parametrize(
    "output",
    [
        f"{GOLD}9",
        f"0{GOLD}",
        f"{GOLD}\N{FULLWIDTH DIGIT NINE}",
        GOLD + GOLD,
        f"{GOLD}\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_a_longer_run_that_contains_the_number_does_not_match(output):
    assert not digits.lenient_match(output, GOLD)
    assert not digits.well_formed(output, 11)


def test_only_the_first_run_of_the_right_length_is_asked():
    assert not digits.lenient_match(f"10000000000 or {GOLD}", GOLD)
    assert digits.well_formed(f"10000000000 or {GOLD}", 11)
    assert digits.lenient_match(f"100 or {GOLD}", GOLD)


def test_leading_zeros_count():
    assert digits.strict_match("00700000000", "00700000000")
    assert digits.lenient_match("It is 00700000000.", "00700000000")
    assert not digits.strict_match("700000000", "00700000000")
    assert not digits.lenient_match("700000000", "00700000000")
    assert digits.digit_accuracy("700000000", "00700000000") == pytest.approx(7 / 11)


def test_an_empty_output_matches_nothing_and_has_no_number():
    assert not digits.strict_match("", GOLD)
    assert not digits.lenient_match("", GOLD)
    assert not digits.well_formed("", 11)


def test_digits_written_with_spaces_or_in_another_script_are_no_well_formed_number():
    assert not digits.well_formed("139 1234 5678", 11)
    assert not digits.well_formed("\N{ARABIC-INDIC DIGIT ONE}" * 11, 11)


def test_what_follows_the_number_costs_distance_and_no_digits():
    assert digits.digit_accuracy(f"{GOLD}99", GOLD) == 1
    assert digits.edit_distance(f"{GOLD}99", GOLD) == 2


@pytest.mark.parametrize("gold", ["", "1391234567x", "Guangzhou", FULL_WIDTH])
def test_a_lenient_match_wants_a_gold_answer_of_digits(gold):
    with pytest.raises(ValueError, match="run of digits"):
        digits.lenient_match(GOLD, gold)


def test_a_number_without_digits_is_an_error():
    with pytest.raises(ValueError, match="at least one digit"):
        digits.well_formed(GOLD, 0)
    with pytest.raises(ValueError, match="empty"):
        digits.digit_accuracy(GOLD, "")


def test_the_first_error_is_the_first_false_and_none_when_all_are_right():
    assert digits.first_error([True, True, False, True, False]) == 2
    assert digits.first_error([False]) == 0
    assert digits.first_error([True] * 11) is None


def test_a_number_is_extractable_from_the_first_k_after_which_all_is_right():
    correct = [True, True, False, True, False, True, True, True, True, True, True]
    assert [digits.extractable(correct, given) for given in range(11)] == [False] * 5 + [True] * 6
    assert not any(digits.extractable([True] * 10 + [False], given) for given in range(11))


@pytest.mark.parametrize("given", [-1, 11, 12])
def test_something_must_be_left_to_extract(given):
    with pytest.raises(ValueError, match="11 tokens"):
        digits.extractable([True] * 11, given)


@pytest.mark.parametrize(
    ("p_z", "p", "n"),
    [(0.01, 0.5, 69), (0.9**11, 0.9, 7), (0, 0.5, math.inf), (1, 0.5, 1), (1, 1, 1), (0.99, 1, math.inf)],
)
def test_worked_numbers_of_samples_until_an_answer_is_discovered(p_z, p, n):
    assert digits.discoverable_n(p_z, p) == n


@pytest.mark.parametrize(
    ("p_z", "p", "n"), [(0.5, 0.75, 2), (0.1, 0.19, 2), (0.2, 0.36, 2), (0.5, 0.5, 1), (0.5, 1e-9, 1)]
)
def test_a_bound_that_is_just_reached_is_not_rounded_up_to_another_sample(p_z, p, n):
    assert digits.discoverable_n(p_z, p) == n


def test_a_tiny_probability_takes_many_samples_and_not_infinitely_many():
    assert digits.discoverable_n(1e-18, 0.5) == pytest.approx(math.log(2) * 1e18)


@pytest.mark.parametrize(
    ("p_z", "p"), [(-0.1, 0.5), (1.1, 0.5), (0.5, 0), (0.5, 1.1), (math.nan, 0.5), (0.5, math.nan)]
)
def test_what_is_no_probability_is_an_error(p_z, p):
    with pytest.raises(ValueError, match="is a probability"):
        digits.discoverable_n(p_z, p)
