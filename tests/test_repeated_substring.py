"""The longest repeat: the worked example, brute force on random texts, long texts of known repeats, and time."""

import random
import time

import numpy as np
import pytest

from tests.random_texts import fibonacci, random_texts
from toolkit.metrics.repeated_substring import Repeats, longest_repeats, suffix_array
from toolkit.metrics.repetition import longest_repeat


def repeats_by_brute_force(text: str) -> Repeats:
    overlapping = apart = 0
    for start in range(len(text)):
        for length in range(1, len(text) - start):
            piece = text[start : start + length]
            if text.find(piece, start + 1) >= 0:
                overlapping = max(overlapping, length)
            if text.find(piece, start + length) >= 0:
                apart = max(apart, length)
    return Repeats(overlapping, apart)


def test_longest_repeat_of_the_worked_example():
    assert longest_repeat("abcdabcdab", overlapping=True) == 6
    assert longest_repeat("abcdabcdab", overlapping=False) == 4
    assert longest_repeats([ord(c) for c in "abcdabcdab"]) == (6, 4)


def test_a_repeat_apart_may_be_another_one_than_the_longest():
    # "aaaa" twice one apart; apart there is "aa" in it, and "xyz" twice.
    assert longest_repeats("aaaaa-xyz-xyz") == (4, 4)
    assert longest_repeats("aaaaaxyz1xyz") == (4, 3)


def test_what_never_occurs_twice_has_length_0():
    assert [longest_repeats(text) for text in ("", "a", "abc")] == [(0, 0)] * 3
    assert longest_repeats("aa") == (1, 1)
    assert longest_repeats("aaa") == (2, 1)


@pytest.mark.parametrize("sorted_directly", [0, 5, 512])
def test_longest_repeats_are_those_of_brute_force(sorted_directly: int):
    for text in random_texts(1500, longest=20, seed=sorted_directly):
        assert longest_repeats(text, sorted_directly) == repeats_by_brute_force(text), text


@pytest.mark.parametrize("sorted_directly", [0, 100])
def test_the_suffix_array_is_that_of_sorting_the_suffixes(sorted_directly: int):
    for text in [*random_texts(300, longest=150), fibonacci(400), "a" * 301, "ab" * 200]:
        if text:
            found = suffix_array(np.array([ord(c) for c in text]), sorted_directly)
            assert found.tolist() == sorted(range(len(text)), key=lambda start: text[start:])


def test_more_symbols_than_sixteen_bits_hold_are_told_apart():
    # 65,536 apart, so that their lower halves are the same.
    distinct = list(range(140_000))
    assert longest_repeats(distinct) == (0, 0)
    assert longest_repeats([*distinct, 7, 8, 9, 65_536 + 10]) == (3, 3)


def test_rare_chinese_and_emoji_are_characters_and_not_halves():
    assert longest_repeats("😀a😁b") == (0, 0)
    assert longest_repeats("𠮷野家𠮷野家") == (3, 3)


def test_long_texts_of_known_repeats():
    n = 200_000
    assert longest_repeats("a" * n) == (n - 1, n // 2)
    assert longest_repeats("豪放不羁、" * (n // 5)) == (n - 5, n // 2)
    once = "".join(random.Random(1).choices("abcdefghij", k=n // 2))
    assert longest_repeats(once + "-" + once) == (n // 2, n // 2)


@pytest.mark.parametrize("text", ["a" * 200_000, fibonacci(200_000), "豪放不羁、" * 40_000])
def test_a_text_that_quadratic_methods_fail_on_takes_seconds(text: str):
    # At 200,000 characters the square is 4e10: hours. Linear ones take half a second, more on a busy machine.
    started = time.process_time()
    longest_repeats(text)
    assert time.process_time() - started < 15
