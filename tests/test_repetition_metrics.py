"""Repetition: the worked examples of each measure, brute force and other ways on random texts, and the traps."""

import random
import time
import zlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from tests.random_texts import fibonacci, random_texts
from toolkit.metrics.repetition import (
    Loop,
    compression_ratio,
    distinct_n,
    loop,
    measure,
    rep_w,
    seq_rep_n,
)

T = "abcdabcdab"


def loop_by_brute_force(text: str) -> Loop | None:
    for period in range(1, len(text) + 1):
        ends = [n for n in range(1, len(text) + 1) if all(a == b for a, b in zip(text[-n:], text[-n:][period:]))]  # noqa: B905
        if ends and ends[-1] >= max(3 * period, 8):
            return Loop(period, ends[-1] // period, ends[-1], len(text) - ends[-1])
    return None


def test_seq_rep_of_the_worked_example():
    assert [seq_rep_n(T, n) for n in (1, 2, 3, 4)] == pytest.approx([0.6, 0.5556, 0.5, 0.4286], abs=5e-5)
    assert seq_rep_n(list(T), 2) == seq_rep_n(T, 2)


def test_an_output_shorter_than_n_has_no_seq_rep_rather_than_none_repeated():
    assert seq_rep_n("abc", 4) is None
    assert seq_rep_n("abcd", 4) == 0
    assert seq_rep_n([], 1) is None


def test_distinct_n_of_the_worked_example():
    assert distinct_n([T], 1) == pytest.approx(0.4)
    assert distinct_n([T], 2) == pytest.approx(4 / 9)


def test_distinct_n_is_pooled_and_not_a_mean_over_outputs():
    # Each output has only new words; together half of them are.
    assert distinct_n(["ab", "ab"], 1) == 0.5


def test_no_n_gram_crosses_from_one_output_to_the_next():
    # In "abab" there would be "ba".
    assert distinct_n(["ab", "ab"], 2) == 0.5
    assert distinct_n(["a", "b"], 2) is None


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_seq_rep_and_distinct_n_are_those_of_other_implementations(n: int):
    texts = random_texts(500)
    for text in texts:
        found = seq_rep_n([ord(c) for c in text], n)
        if len(text) < n:
            assert found is None
            continue
        # Each n-gram beyond the first of its kind is a repetition.
        counts = Counter(text[i : i + n] for i in range(len(text) - n + 1))
        assert found == pytest.approx(sum(count - 1 for count in counts.values()) / sum(counts.values()))
    windows = [
        np.lib.stride_tricks.sliding_window_view(np.array([ord(c) for c in text]), n)
        for text in texts
        if len(text) >= n
    ]
    pooled = np.concatenate(windows)
    assert distinct_n(texts, n) == pytest.approx(len(np.unique(pooled, axis=0)) / len(pooled))


def test_rep_w_of_the_worked_example():
    assert rep_w(T, 3) == 0
    assert rep_w(T, 4) == 0.6
    assert rep_w(T, 16) == rep_w(T) == 0.6


def test_rep_w_looks_no_further_back_than_w():
    assert rep_w("a" + "b" * 16 + "a", 16) == 15 / 18
    assert rep_w("a" + "b" * 15 + "a", 16) == 15 / 17


def test_a_single_token_has_no_rep_w():
    assert rep_w("a") is None
    assert rep_w("") is None
    assert rep_w("ab") == 0


@pytest.mark.parametrize("w", [1, 2, 3, 16])
def test_rep_w_is_that_of_looking_at_each_window(w: int):
    for text in random_texts(500):
        if len(text) >= 2:
            assert rep_w(text, w) == sum(text[i] in text[max(0, i - w) : i] for i in range(len(text))) / len(text)


def test_looking_for_a_loop_reads_each_character_a_few_times_only():
    def steps(text: str) -> int:
        """Elements read one by one: what is not done inside numpy, whose passes have a fixed number a level."""
        read = 0

        class Counted(str):
            def __getitem__(self, key):  # type: ignore[override]
                nonlocal read
                read += 1
                return str.__getitem__(self, key)

        from toolkit.metrics.repetition import _agreement_with_the_start

        _agreement_with_the_start(Counted(text))
        return read

    for text in ("a" * 4000, fibonacci(4000), "ab" * 2000):
        assert steps(text) < 4.5 * steps(text[:1000])
        assert steps(text) < 5 * len(text)


@pytest.mark.parametrize("text", ["a" * 200_000, fibonacci(200_000), "豪放不羁、" * 40_000])
def test_a_loop_in_a_long_text_takes_seconds(text: str):
    # At 200,000 characters the square is 4e10: hours. Linear ones take a tenth of a second.
    started = time.process_time()
    loop(text)
    assert time.process_time() - started < 15


def test_a_loop_of_the_worked_example():
    assert loop("李白" + "豪放不羁" * 3) == Loop(period=4, times=3, characters=12, start=2)


def test_a_loop_of_digits_in_an_answer_is_none():
    assert loop("13800004444") is None
    assert loop("4444") is None
    assert loop("4444444") is None
    assert loop("44444444") == (1, 8, 8, 0)


def test_a_repetition_that_is_not_there_three_times_is_no_loop():
    assert loop("abcabcab") is None
    assert loop("豪放不羁、" * 2) is None
    assert loop("abcabcabc") == (3, 3, 9, 0)
    # Three times, but six characters.
    assert loop("ababab") is None


def test_a_loop_that_the_limit_of_tokens_cut_is_still_one():
    assert loop("李白" + "豪放不羁" * 3 + "豪放") == (4, 3, 14, 2)


def test_a_character_cut_in_half_breaks_no_loop():
    cut = "豪放不羁" * 3 + "豪放\ufffd"
    assert loop(cut) == (4, 3, 14, 0)
    # A second one is no cut, and what is broken elsewhere is no loop.
    assert loop(cut + "\ufffd") is None
    assert loop("豪放不羁" * 3 + "豪放a") is None
    # Half characters that go on and on are a loop of their own.
    assert loop("豪" + "\ufffd" * 9) == (1, 9, 9, 1)


def test_the_period_is_the_least_one():
    assert loop("ab" * 12) == (2, 12, 24, 0)
    assert loop("aab" * 8) == (3, 8, 24, 0)


def test_repetition_that_the_text_went_on_from_is_no_loop():
    assert loop("豪放不羁" * 10 + "。他是唐代诗人") is None


def test_a_text_without_end_has_no_loop():
    assert loop("") is None
    assert loop("李白是唐代诗人，号青莲居士。") is None


def test_loops_are_those_of_brute_force():
    found = 0
    for text in random_texts(1500, longest=12, seed=3):
        assert loop(text) == loop_by_brute_force(text), text
        found += loop(text) is not None
    assert found > 100


def test_the_looping_end_begins_where_the_row_says():
    text = "x羁" + "豪放不羁" * 5 + "豪"
    end = loop(text)
    # The character before has the period too, by chance, and belongs to it.
    assert end is not None
    assert end == (4, 5, 22, 1)
    suffix = text[end.start :]
    assert all(suffix[i] == suffix[i + 4] for i in range(len(suffix) - 4))


def test_compression_of_the_worked_example():
    # 29 or 30 bytes, by zlib's build.
    assert compression_ratio("豪放不羁、" * 20, size=300) == pytest.approx(300 / 29, rel=0.1)


def test_a_text_shorter_than_the_size_has_no_ratio():
    assert compression_ratio("a" * 511) is None
    assert compression_ratio("a" * 512) == compression_ratio("a" * 5000)
    assert compression_ratio("豪放不羁、" * 20) is None
    # Characters are not bytes: 171 of three bytes are enough.
    assert compression_ratio("豪" * 171) is not None
    assert compression_ratio("豪" * 170) is None


def test_a_text_is_cut_at_whole_characters():
    # 512 bytes end within the 171st character of three.
    assert compression_ratio("豪" * 300) == 510 / len(zlib.compress(("豪" * 170).encode()))
    assert compression_ratio("é" * 300, size=511) == 510 / len(zlib.compress(("é" * 255).encode()))
    assert compression_ratio("a" + "😀" * 300) == 509 / len(zlib.compress(("a" + "😀" * 127).encode()))


def test_half_a_surrogate_pair_is_no_error():
    assert compression_ratio("\ud83d" * 600) == compression_ratio("?" * 512)
    assert measure([1, 2], "\ud83d" * 600)["loop_characters"] == 600


def test_a_text_that_repeats_compresses_more():
    draw = random.Random(0)
    varied = "".join(chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(200))
    ratios = [compression_ratio(text) for text in (varied, varied[:60] * 4, varied[:4] * 50)]
    assert all(low is not None and high is not None and low < high for low, high in pairwise(ratios))


def test_measure_has_the_columns_of_a_row():
    row = measure([1, 2, 3, 4, 1, 2, 3, 4, 1, 2], "李白" + "豪放不羁" * 3)
    assert {name: value for name, value in row.items() if "seq_rep" not in name} == {
        "rep_w": 0.6,
        "char_rep_w": 8 / 14,
        "longest_repeat": 8,
        "longest_repeat_apart": 4,
        "longest_repeat_tokens": 6,
        "longest_repeat_apart_tokens": 4,
        "loop_period": 4,
        "loop_times": 3,
        "loop_characters": 12,
        "loop_start": 2,
        "compression_ratio": None,
    }
    assert [row[f"seq_rep_{n}"] for n in (1, 2, 3, 4)] == pytest.approx([0.6, 0.5556, 0.5, 0.4286], abs=5e-5)
    # 14 characters, of which 6 differ; 11 runs of four, of which 6 do.
    assert [row[f"char_seq_rep_{n}"] for n in (1, 4)] == pytest.approx([8 / 14, 5 / 11])


def test_an_empty_output_has_no_value_but_the_length_of_its_repeats():
    row = measure([], "")
    assert {name for name, value in row.items() if value is not None} == {
        "longest_repeat",
        "longest_repeat_apart",
        "longest_repeat_tokens",
        "longest_repeat_apart_tokens",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: seq_rep_n("ab", 0),
        lambda: distinct_n(["ab"], 0),
        lambda: rep_w("ab", 0),
        lambda: compression_ratio("ab", 3),
    ],
)
def test_sizes_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"not 0|cannot hold"):
        wrong()
