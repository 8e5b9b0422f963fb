"""Canary exposure: exact ranks equal those of trying every number, estimates cover them, and a real model agrees."""

import dataclasses
import functools
import itertools
import math
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.test_phone import HAS_PATTERN, every_number
from toolkit.checkpoints import find_checkpoints
from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl
from toolkit.metrics.canary import Exposure, canary_exposure, rank_among, search_rank
from toolkit.studies.phone import PATTERNS, allowed_next, describe

TEN = "0123456789"


class Planted:
    """A model of which every digit's probability is known: drawn anew for each prefix, sharp or flat, 3 % on words."""

    def __init__(self, sharpness: float, seed: int = 0, known: str = "") -> None:
        self.sharpness = sharpness
        self.seed = seed
        self.known = known
        self.asked: list[list[str]] = []
        self.row = functools.cache(self._row)

    def _row(self, prefix: str) -> list[float]:
        rng = random.Random(f"{self.seed}/{prefix}")
        shares = [rng.gammavariate(1 / self.sharpness, 1) + 1e-9 for _ in TEN]
        if self.known and self.known.startswith(prefix):
            shares[int(self.known[len(prefix)])] += 9 * sum(shares)
        return [math.log(0.97 * share / sum(shares)) for share in shares]

    def __call__(self, prefixes: list[str]) -> list[list[float]]:
        self.asked.append(prefixes)
        return [self.row(prefix) for prefix in prefixes]

    def log_p(self, number: str) -> float:
        return functools.reduce(lambda total, i: total + self.row(number[:i])[int(number[i])], range(len(number)), 0.0)


def ranked(model: Any, gold: str, allowed: Any, support: int, **changes: Any) -> Exposure:
    settings = {"nodes": math.inf, "samples": 64, "rng": random.Random(gold)} | changes
    return canary_exposure(model, search_rank(gold, allowed, support, **settings))


def any_digit(prefix: str) -> str:
    return TEN


def follows(pattern: str, digits: int, prefix: str = "") -> Any:
    return functools.partial(allowed_next, pattern, digits, prefix)


# --- what may follow ---


def leaves(allowed: Any, digits: int) -> list[str]:
    numbers = [""]
    for _ in range(digits):
        numbers = [number + digit for number in numbers for digit in allowed(number)]
    return numbers


@pytest.mark.parametrize(
    ("pattern", "digits"),
    [(name, n) for name in PATTERNS for n in (1, 3, 4, 5, 6, 11) if describe(name, n).support <= 200_000],
)
def test_what_may_follow_leads_to_every_number_of_the_pattern_and_to_no_other(pattern, digits):
    numbers = leaves(follows(pattern, digits), digits)
    # All different, all of the pattern, and as many as there are: the two sets are equal.
    assert len(set(numbers)) == len(numbers) == describe(pattern, digits).support
    assert all(map(HAS_PATTERN[pattern], numbers))


@pytest.mark.parametrize("pattern", ["random", "mirrored", "antisymmetric", "halves"])
def test_what_may_follow_keeps_to_the_prefix(pattern):
    expected = {number for number in every_number(pattern, 4) if number[0] == "1" and number[1] in "3456789"}
    assert set(leaves(follows(pattern, 4, "1[3-9]"), 4)) == expected


# --- by trying all of a small support ---


def test_rank_three_of_a_thousand_is_an_exposure_of_8_381_bits():
    numbers = [f"{n:03d}" for n in range(1000)]
    found = rank_among("002", numbers, [-float(n) for n in range(1000)])
    assert found == Exposure(found.bits, 3, 1000, "enumerated", 1000, 0, 3, 3)
    assert found.bits == pytest.approx(8.381, abs=5e-4)
    assert rank_among("000", numbers, [-float(n) for n in range(1000)]).bits == math.log2(1000)
    assert rank_among("999", numbers, [-float(n) for n in range(1000)]).bits == 0


def test_a_number_ranks_behind_those_strictly_likelier_only():
    assert rank_among("b", "abcd", [-1, -2, -2, -3]).rank == 2
    with pytest.raises(ValueError, match="not among"):
        rank_among("x", "abcd", [-1, -2, -2, -3])


# --- by branch and bound ---


def every_rank(model: Planted, digits: int) -> dict[str, int]:
    """The rank of every number of so many digits."""
    order = sorted(map("".join, itertools.product(TEN, repeat=digits)), key=model.log_p, reverse=True)
    return {number: place for place, number in enumerate(order, start=1)}


def true_rank(model: Planted, gold: str, numbers: list[str]) -> int:
    return 1 + sum(model.log_p(number) > model.log_p(gold) for number in numbers)


@pytest.mark.parametrize("sharpness", [0.1, 1, 10])
@pytest.mark.parametrize(
    ("pattern", "digits"),
    [("random", 4), ("mirrored", 5), ("antisymmetric", 5), ("repeated", 7), ("halves", 6), ("ascending", 5)],
)
def test_ranks_are_those_of_trying_every_number(pattern, digits, sharpness):
    model, allowed = Planted(sharpness), follows(pattern, digits)
    numbers = sorted(leaves(allowed, digits), key=model.log_p, reverse=True)
    support = len(numbers)
    for place in (0, 1, 2, 10, support // 3, support - 1):
        found = ranked(model, numbers[place], allowed, support)
        assert found.rank == found.least_rank == found.most_rank == true_rank(model, numbers[place], numbers)
        assert found.rank == place + 1
        assert (found.method, found.error) == ("exact", 0)
        assert found.bits == pytest.approx(math.log2(support) - math.log2(place + 1))


def test_the_batch_changes_neither_rank_nor_what_is_asked():
    model = Planted(5)
    found = [ranked(model, "3141", any_digit, 10_000, batch=batch) for batch in (1, 7, 1000)]
    assert found[0] == found[1] == found[2]


def test_a_number_that_is_known_costs_one_question():
    model = Planted(3, known="39504711826")
    found = ranked(model, "39504711826", any_digit, 10**11, nodes=256)
    assert (found.rank, found.method, found.nodes) == (1, "exact", 1)
    assert found.bits == pytest.approx(36.5412, abs=5e-5)
    assert model.asked == [["39504711826"[:i] for i in range(11)]]


def test_only_prefixes_likelier_than_the_whole_number_are_asked_about():
    model = Planted(2)
    gold = list(every_rank(model, 4))[100]
    found = ranked(model, gold, any_digit, 10_000)
    prefixes = [p for n in range(4) for p in map("".join, itertools.product(TEN, repeat=n))]
    likelier = {p for p in prefixes if model.log_p(p) > model.log_p(gold)}
    asked = [prefix for call in model.asked for prefix in call]
    assert sorted(asked) == sorted(likelier)
    assert len(likelier) < 0.3 * len(prefixes)
    # Gold's own four are one question.
    assert (found.rank, found.nodes) == (101, len(asked) - 3)


def test_digits_that_the_rule_determines_are_asked_about_together():
    model = Planted(1)
    ranked(model, "12321", follows("mirrored", 5), 1000)
    asked_first = {prefix: i for i, call in reversed(list(enumerate(model.asked))) for prefix in call}
    halves = [prefix for prefix in asked_first if len(prefix) == 3]
    assert len(halves) > 1
    assert all(asked_first[half] == asked_first[half + half[1]] for half in halves)


def test_numbers_as_likely_as_gold_do_not_count_against_it():
    found = ranked(lambda prefixes: [[math.log(0.1)] * 10 for _ in prefixes], "555", any_digit, 1000)
    assert (found.rank, found.method) == (1, "exact")


def test_a_number_that_the_model_gives_no_probability_ranks_behind_all_that_have_some():
    row = [math.log(0.2)] * 5 + [-math.inf] * 5
    found = ranked(lambda prefixes: [row for _ in prefixes], "997", any_digit, 1000)
    assert (found.rank, found.method) == (126, "exact")


@pytest.mark.parametrize(
    ("gold", "allowed", "changes", "what"),
    [
        ("12322", follows("mirrored", 5), {}, "no number of this rule"),
        ("", any_digit, {}, "no number of this rule"),
        ("123", any_digit, {"samples": 1}, "two draws"),
    ],
)
def test_what_cannot_be_ranked_is_an_error(gold, allowed, changes, what):
    with pytest.raises(ValueError, match=what):
        ranked(Planted(1), gold, allowed, 1000, **changes)


def test_a_model_that_gives_nan_is_an_error_and_no_first_rank():
    with pytest.raises(ValueError, match="nan"):
        ranked(lambda prefixes: [[math.nan] * 10 for _ in prefixes], "123", any_digit, 1000)


# --- beyond the budget ---


def test_beyond_the_budget_the_rank_is_called_an_estimate_and_keeps_to_the_budget():
    found = ranked(Planted(1), "27182", any_digit, 10**5, nodes=20, samples=10)
    assert found.method == "estimate"
    assert 20 <= found.nodes <= 20 + 10 * 5
    assert found.error > 0
    assert found.least_rank <= found.rank <= found.most_rank <= 10**5
    assert ranked(Planted(1), "27182", any_digit, 10**5, nodes=20, samples=10) == found


@pytest.mark.parametrize("sharpness", [0.2, 1, 5, 20])
def test_estimates_cover_the_true_rank(sharpness):
    model, rng = Planted(sharpness, seed=3), random.Random(4)
    order = list(every_rank(model, 4).items())
    off, covered = [], 0
    for _ in range(60):
        # As many among the likeliest ones as among the others.
        gold, true = order[int(10_000 ** rng.uniform(0.5, 1)) - 1]
        found = ranked(model, gold, any_digit, 10_000, nodes=8, samples=48, rng=rng)
        assert found.method == "estimate"
        assert found.least_rank <= true <= found.most_rank
        off.append(found.bits - (math.log2(10_000) - math.log2(true)))
        covered += abs(off[-1]) <= 1.96 * found.error
    assert covered >= 0.88 * 60
    assert sum(map(abs, off)) / 60 < 0.4
    assert abs(sum(off) / 60) < 0.2


@pytest.mark.parametrize("nodes", [5, 300])
def test_estimates_of_a_rank_average_to_it(nodes):
    model = Planted(3, seed=5)
    gold, true = list(every_rank(model, 4).items())[2000]
    ranks = [ranked(model, gold, any_digit, 10_000, nodes=nodes, samples=8, rng=random.Random(i)).rank
             for i in range(400)]  # fmt: skip
    mean = sum(ranks) / 400
    error = math.sqrt(sum((rank - mean) ** 2 for rank in ranks) / 399 / 400)
    assert error < 0.05 * true
    assert abs(mean - true) < 3 * error


def test_numbers_of_eleven_digits_are_ranked_among_all_of_them():
    import numpy as np

    rng = random.Random(6)
    # Each place has its own digits whatever came before, so that halves can be counted against each other.
    rows = [Planted(4, seed=7).row(str(place)) for place in range(11)]
    first, last = (functools.reduce(lambda a, b: np.add.outer(a, b).ravel(), map(np.array, part), np.zeros(1))
                   for part in (rows[:5], rows[5:]))  # fmt: skip
    last.sort()
    covered = 0
    for sharp in [0, 0.5, 1] * 8:
        digits = [rng.choices(range(10), [math.exp(sharp * p) for p in row])[0] for row in rows]
        log_p = sum(row[digit] for row, digit in zip(rows, digits, strict=True))
        true = 1 + int((len(last) - np.searchsorted(last, log_p + 1e-9 - first, side="right")).sum())
        found = ranked(lambda prefixes: [rows[len(prefix)] for prefix in prefixes], "".join(map(str, digits)),
                       any_digit, 10**11, nodes=256, rng=rng)  # fmt: skip
        assert found.least_rank <= true <= found.most_rank
        assert found.method == "estimate" or found.rank == true
        covered += abs(math.log2(found.rank) - math.log2(true)) <= 1.96 * found.error + 1e-9
    assert covered >= 22


def test_where_no_draw_is_likelier_the_error_is_as_wide_as_the_bounds():
    def row(prefix: str) -> list[float]:
        # 0 is the likelier beginning and leads nowhere; 15 is the likeliest number of two digits.
        shares = {"": [0.6, 0.4, *[1e-9] * 8], "1": [1e-9] * 5 + [1.0] + [1e-9] * 4}.get(prefix, [0.1] * 10)
        return [math.log(share) for share in shares]

    found = ranked(lambda prefixes: list(map(row, prefixes)), "15", any_digit, 100, nodes=0)
    # All of the mass could hold two numbers of 0.4.
    assert (found.method, found.rank, found.least_rank, found.most_rank) == ("estimate", 1, 1, 3)
    assert found.error == math.log2(3)
    assert ranked(lambda prefixes: list(map(row, prefixes)), "15", any_digit, 100).rank == 1


# --- a real model ---


@dataclasses.dataclass
class Asked:
    """The half-trained run, opened."""

    engine: ModuleType
    opened: Any
    examples: list[Example]
    data: dict[str, Any]

    def exposures(self, examples: list[Example], rule: Any, **settings: Any) -> list[Exposure]:
        from toolkit.probes.canary_exposure import canary_exposures

        loaded, asked = self.opened.loaded, self.opened.asked
        return canary_exposures(loaded, self.engine, asked, examples, rule, **settings)

    def log_likelihoods(self, prompt: str, numbers: list[str]) -> list[float]:
        """Of each number after the prompt, as a reading scores it."""
        from toolkit.models.loaded import undisturbed
        from toolkit.models.scoring import score
        from toolkit.rendering import render

        examples = [Example(number, number, prompt, number, "test") for number in numbers]
        items = [render(self.opened.loaded.tokenizer, example, self.opened.asked.format) for example in examples]
        with undisturbed(self.opened.loaded, self.engine):
            return [-sum(scored.bits) for scored in score(self.opened.loaded, items, 250)]


@pytest.fixture(scope="module")
def asked(half_trained: Path, project: Path, engine: ModuleType) -> Asked:
    from toolkit.models.opening import open_checkpoint, prepare

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        (checkpoint,) = find_checkpoints([str(half_trained / "seed-0")])
        opened = open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None)
    assert checkpoint.run
    examples = [e for e in read_jsonl(half_trained / "seed-0/examples.jsonl") if e.split in ("train", "control")]
    return Asked(engine, opened, examples, checkpoint.run.recipe["data"])


def test_exact_ranks_of_a_real_model_are_those_of_scoring_every_number(asked: Asked) -> None:
    from toolkit.probes.canary_exposure import Rule

    numbers = leaves(follows("repeated", 8), 8)
    assert len(numbers) == 1000
    prompts = [asked.examples[0].prompt, asked.examples[-1].prompt]
    answers = ["33444555", "00000000", "99111000"]
    pairs = list(itertools.product(prompts, answers))
    examples = [Example(f"{i}", f"{i}", prompt, answer, "test") for i, (prompt, answer) in enumerate(pairs)]
    found = asked.exposures(examples, Rule("repeated", 8, ""))
    scores = {prompt: dict(zip(numbers, asked.log_likelihoods(prompt, numbers), strict=True)) for prompt in prompts}
    for example, exposure in zip(examples, found, strict=True):
        of_prompt = scores[example.prompt]
        gold = of_prompt[example.answer]
        assert (exposure.method, exposure.support) == ("exact", 1000)
        # Numbers within rounding of gold may fall on either side.
        first, last = (1 + sum(score > gold + slack for score in of_prompt.values()) for slack in (1e-4, -1e-4))
        assert first <= exposure.rank <= last
        assert last - first <= 2
        enumerated = rank_among(example.answer, numbers, list(of_prompt.values()))
        assert first <= enumerated.rank <= last


def test_trained_numbers_rank_high_and_controls_anywhere(asked: Asked) -> None:
    from toolkit.probes.canary_exposure import Rule, summarise

    rule = Rule.of(asked.data)
    assert rule == ("random", 8, "")
    trained, controls = ([e for e in asked.examples if e.split == split] for split in ("train", "control"))
    found = asked.exposures(trained, rule)
    summary, unknown = summarise(found), summarise(asked.exposures(controls, rule))
    assert summary["canary/read"] == 24
    assert summary["canary/exact"] == sum(exposure.method == "exact" for exposure in found) / 24
    assert summary["canary/bits"] == pytest.approx(sum(exposure.bits for exposure in found) / 24)
    # A rank that is drawn blindly has an exposure of log2 e = 1.44 bits on average, with a deviation of as much.
    assert abs(unknown["canary/bits"] - 1.44) < 4 * 1.44 / math.sqrt(12)
    assert summary["canary/bits"] > unknown["canary/bits"] + 5


def test_the_bounds_of_an_estimate_hold_the_rank_that_a_search_to_the_end_finds(asked: Asked) -> None:
    from toolkit.probes.canary_exposure import Rule

    trained = [example for example in asked.examples if example.split == "train"]
    # The likeliest two, which take the fewest prefixes.
    trained.sort(key=lambda example: -asked.log_likelihoods(example.prompt, [example.answer])[0])
    for example in trained[:2]:
        (exact,) = asked.exposures([example], Rule.of(asked.data), nodes=1_000_000)
        (estimate,) = asked.exposures([example], Rule.of(asked.data), nodes=16)
        assert (exact.method, estimate.method) == ("exact", "estimate")
        assert estimate.least_rank <= exact.rank <= estimate.most_rank
        # No more numbers can be likelier than share what is left of all probability.
        (bits,) = asked.log_likelihoods(example.prompt, [example.answer])
        assert exact.rank <= 2**-bits


def test_exposures_depend_on_neither_batch_nor_neighbours(asked: Asked) -> None:
    from toolkit.probes.canary_exposure import Rule

    some = asked.examples[::6]
    together = asked.exposures(some, Rule.of(asked.data), nodes=40, samples=8)
    for settings, examples in (({"batch_size": 3}, some), ({}, some[::-1])):
        apart = asked.exposures(examples, Rule.of(asked.data), nodes=40, samples=8, **settings)
        for one, other in zip(together, apart if examples is some else apart[::-1], strict=True):
            assert one.method == other.method
            assert one.bits == pytest.approx(other.bits, abs=0.1)


def test_reading_exposures_leaves_no_trace(asked: Asked) -> None:
    import torch

    from toolkit.probes.canary_exposure import Rule

    model = asked.opened.loaded.model
    model.train()
    before = random.getstate(), torch.get_rng_state().tolist()
    asked.exposures(asked.examples[:2], Rule.of(asked.data), nodes=10, samples=4)
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
    assert model.training
    model.eval()


@pytest.mark.parametrize("answer", ["1234567", "12345678"])
def test_an_answer_that_is_no_number_of_the_rule_is_refused_by_name(asked: Asked, answer: str) -> None:
    from toolkit.probes.canary_exposure import Rule

    wrong = Example("phone-007", "phone-007", "第7个电话号码是：", answer, "test")
    with pytest.raises(UserError, match=f"phone-007: {answer} is no mirrored number of 8 digits"):
        asked.exposures([wrong], Rule("mirrored", 8, ""))
