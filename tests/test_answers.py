"""Exact match and F1 of answers in words, by SQuAD's examples and by hand."""

import pytest

from toolkit.metrics.answers import exact_match, f1, normalise


def test_the_worked_example_has_no_exact_match_and_f1_of_four_fifths():
    assert not exact_match("the Eiffel Tower", "Eiffel Tower Paris")
    assert f1("the Eiffel Tower", "Eiffel Tower Paris") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("output", "gold"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("1,200", "1200"),
        ("１２０", "120"),
        ("北京。", "北京"),
        ("an apple", "Apple"),
        ("  two\nwords ", "two words"),
    ],
)
def test_case_articles_punctuation_and_width_do_not_matter(output, gold):
    assert exact_match(output, gold)
    assert f1(output, gold) == 1


@pytest.mark.parametrize(("output", "gold"), [("theatre", "atre"), ("12 00", "1200"), ("tower Eiffel", "Eiffel tower")])
def test_what_only_looks_alike_is_no_exact_match(output, gold):
    assert not exact_match(output, gold)


def test_chinese_is_compared_by_characters():
    assert normalise("我在北京 today") == ["我", "在", "北", "京", "today"]
    # Two of three and two of two: 2 · (2/3) · 1 / (2/3 + 1).
    assert f1("北京市", "北京") == pytest.approx(0.8)


def test_a_repeated_word_counts_once_where_the_gold_has_it_once():
    assert f1("paris paris", "paris") == pytest.approx(2 / 3)


NOTHING = [("", "a", 1.0), ("", "x", 0.0), (".", "x", 0.0), ("x", "the", 0.0)]


@pytest.mark.parametrize(("output", "gold", "value"), NOTHING)
def test_without_a_token_left_there_is_all_or_nothing(output, gold, value):
    assert f1(output, gold) == value


def test_order_does_not_matter_to_f1():
    assert f1("tower eiffel", "Eiffel Tower") == 1
