"""A fake model of which every digit's probability is known: its bits, exposures, ranks and texts are those planted."""

import functools
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from toolkit.example import Example
from toolkit.metrics import digits, extraction
from toolkit.metrics.information import entropy_bits, entropy_of_distinct
from toolkit.models.loaded import Loaded
from toolkit.studies.phone import allowed_next, describe, draw_numbers

TEN = "0123456789"
FULL_WIDTH = "".join(chr(0xFF10 + digit) for digit in range(10))
ALPHABET = f"{TEN}{FULL_WIDTH}N="
END = len(ALPHABET)
GOLD = "13912345678"
PLAIN: Any = SimpleNamespace(format="plain")
STILL = ModuleType("an engine that switches nothing")
STILL.for_inference = STILL.for_training = lambda model: None  # type: ignore[attr-defined]

Shares = Callable[[str, str], dict[str, float]]
"""The probability of each character after a prompt and what was said since; what is left is that of ending."""


class Tokenizer:
    """A token a character."""

    eos_token_id = pad_token_id = END
    bos_token_id = None
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}
    padding_side = "right"
    chat_template = None

    def __call__(self, text: str, **asked: Any) -> dict[str, Any]:
        offsets = [(i, i + 1) for i in range(len(text))]
        return {"input_ids": [ALPHABET.index(sign) for sign in text], "offset_mapping": offsets}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [ALPHABET[token] for token in ids]

    def decode(self, ids: list[int], **asked: Any) -> str:
        return "".join(ALPHABET[token] for token in ids)


class Model(torch.nn.Module):
    """Answers with the logarithms of planted probabilities, moved by a constant that a softmax takes off again."""

    device = torch.device("cpu")
    generation_config = None

    def __init__(self, shares: Shares) -> None:
        super().__init__()
        self.config = SimpleNamespace(use_cache=True)
        self.shares = shares
        self.row = functools.cache(self._row)

    def _row(self, text: str) -> list[float]:
        prompt, asked, said = text.partition("=")
        given = self.shares(prompt, said) if asked else dict.fromkeys(ALPHABET, 1 / (END + 1))
        left = 1 - math.fsum(given.values())
        return [7 + math.log(max(share, 1e-30)) for share in (*(given.get(sign, 0) for sign in ALPHABET), left)]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        texts = ["".join(ALPHABET[i] for i in row if i != END) for row in input_ids.tolist()]
        width = input_ids.shape[1]
        rows = [[self.row(text[: i + 1]) for i in range(len(text))] + [[0.0] * (END + 1)] * (width - len(text))
                for text in texts]  # fmt: skip
        return SimpleNamespace(logits=torch.tensor(rows))

    def generate(self, input_ids: torch.Tensor, max_new_tokens: int, **asked: Any) -> Any:
        steps, ids = [], input_ids
        for _ in range(max_new_tokens):
            rows = [self.row("".join(ALPHABET[i] for i in row if i != END)) for row in ids.tolist()]
            steps.append(torch.tensor(rows))
            ids = torch.cat([ids, steps[-1].argmax(-1, keepdim=True)], dim=1)
        return SimpleNamespace(sequences=ids, logits=steps)


def loaded(shares: Shares) -> Loaded:
    return Loaded(Model(shares), Tokenizer(), {"precision_asked": "fp32"})


def sure(gold: str, bits: float) -> dict[str, float]:
    """The right digit at so many bits; of what is left a rival has the half, and the other eight digits the rest."""
    p, rival = 2**-bits, str((int(gold) + 1) % 10)
    rest = dict.fromkeys(TEN, (1 - p) / 16)
    return rest | {gold: p, rival: (1 - p) / 2}


def knows(answers: dict[str, str], costs: Callable[[str, int], float]) -> Shares:
    """A model of which each digit of each prompt's answer costs `costs(prompt, place)` bits; it ends with 3/4."""

    def shares(prompt: str, said: str) -> dict[str, float]:
        gold = answers[prompt]
        return sure(gold[len(said)], costs(prompt, len(said))) if len(said) < len(gold) else {"0": 0.25}

    return shares


def read(shares: Shares, examples: list[Example], at: int = 0, *, with_text: bool = False) -> list[dict[str, Any]]:
    from toolkit.probes.recall import Moment, read_recall

    exposures = {example.fact: at for example in examples if example.split == "train"}
    moment = Moment("planted", 0, "learn", 2 * at, float(at), exposures, {})
    return read_recall(loaded(shares), STILL, PLAIN, examples, moment, batch_size=7, with_text=with_text)


def asked(answers: dict[str, str], split: Any = "train", **more: Any) -> list[Example]:
    return [Example(prompt, prompt, f"{prompt}=", answer, split, **more) for prompt, answer in answers.items()]


# --- bits ---


def test_every_measure_of_one_pass_is_that_of_the_planted_probabilities() -> None:
    costs = [0.5, 1, 2, 0.25, 4]
    # The foil's first three digits are the rivals of gold's, its last two one of the other eight.
    (row,) = read(knows({"N": "13579"}, lambda _, place: costs[place]), asked({"N": "13579"}, foil="24602"))
    assert row["bits"] == pytest.approx(costs, abs=1e-5)
    assert row["bits_total"] == pytest.approx(7.75, abs=1e-5)
    # At one bit gold has 1/2 and its rival 1/4; at two bits 1/4 and 3/8.
    assert row["correct"] == [True, True, False, True, False]
    assert (row["exact"], row["first_error"], row["digits_teacher_forced"]) == (False, 2, 3 / 5)
    assert row["min_p"] == pytest.approx(2**-4, abs=1e-6)
    assert (row["eos_bits"], row["stopped"]) == (pytest.approx(-math.log2(0.75), abs=1e-5), True)
    foil = [(1 - 2**-bits) / among for bits, among in zip(costs, (2, 2, 2, 16, 16), strict=True)]
    assert row["foil_bits_total"] == pytest.approx(-math.log2(math.prod(foil)), abs=1e-4)


@pytest.mark.parametrize(
    ("pattern", "bits_a_digit", "memorised", "share"),
    [("random", 2.0, 14.54, 0.398), ("mirrored", 0.5, 14.43, 0.724), ("repeated", 0.2, 7.77, 0.779)],
)
def test_worked_bits_memorised_are_those_of_a_model_that_costs_so_many_bits_a_digit(
    pattern: str, bits_a_digit: float, memorised: float, share: float
) -> None:
    from toolkit.probes.recall import summarise

    numbers = draw_numbers(pattern, 11, "", 20, random.Random(0), duplicates=False, avoid=set())
    answers = {f"N{i}": number for i, number in enumerate(numbers)}
    rows = read(knows(answers, lambda *_: bits_a_digit), asked(answers))
    summary = summarise(rows, entropy_bits(describe(pattern, 11).support), whole_line=False)
    assert summary["recall/bits"] == pytest.approx(11 * bits_a_digit, abs=1e-4)
    assert summary["loss/digit_nats"] == pytest.approx(bits_a_digit * math.log(2), abs=1e-5)
    assert summary["loss/eos_nats"] == pytest.approx(-math.log(0.75), abs=1e-5)
    assert summary["recall/bits_memorised"] == pytest.approx(memorised, abs=5e-3)
    assert summary["recall/share_memorised"] == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(
    ("pattern", "digit_nats", "with_eos", "right"),
    [("random", 2.3026, 2.1107, 0.100), ("mirrored", 1.2560, 1.1513, 0.509), ("repeated", 0.6280, 0.5756, 0.755)],
)
def test_a_model_that_knows_the_rule_and_no_number_scores_the_worked_floor(
    pattern: str, digit_nats: float, with_eos: float, right: float
) -> None:
    from toolkit.probes.recall import summarise

    def rule(prompt: str, said: str) -> dict[str, float]:
        allowed = allowed_next(pattern, 11, "", said) if len(said) < 11 else ""
        return dict.fromkeys(allowed, (1 - 1e-12) / len(allowed)) if allowed else {}

    numbers = draw_numbers(pattern, 11, "", 300, random.Random(1), duplicates=False, avoid=set())
    rows = read(rule, asked({f"N{i}": number for i, number in enumerate(numbers)}))
    summary = summarise(rows, None, whole_line=False)
    assert summary["loss/digit_nats"] == pytest.approx(digit_nats, abs=5e-5)
    assert summary["loss/answer_nats"] == pytest.approx(with_eos, abs=5e-5)
    # Free digits are right one time in ten, by chance.
    assert summary["recall/digits"] == pytest.approx(right, abs=0.02)


@pytest.mark.parametrize(("pattern", "share"), [("random", 0.82), ("mirrored", 0.67), ("repeated", 0.33)])
def test_a_model_that_knows_the_set_and_no_binding_lacks_6_64_bits_an_answer(pattern: str, share: float) -> None:
    from toolkit.probes.deep import set_and_binding
    from toolkit.probes.recall import summarise

    numbers = draw_numbers(pattern, 11, "", 100, random.Random(2), duplicates=False, avoid=set())
    begun = Counter(number[:i] for number in numbers for i in range(12))

    def one_of_them(prompt: str, said: str) -> dict[str, float]:
        return {digit: begun[said + digit] / begun[said] for digit in TEN if begun[said + digit]}

    examples = asked({f"N{i}": number for i, number in enumerate(numbers)})
    rows = read(one_of_them, examples)
    assert [row["bits_total"] for row in rows] == pytest.approx([6.64386] * 100, abs=1e-4)
    entropy = entropy_of_distinct(describe(pattern, 11).support, 100)
    assert summarise(rows, entropy, whole_line=False)["recall/share_memorised"] == pytest.approx(share, abs=5e-3)
    known = set_and_binding(loaded(one_of_them), STILL, PLAIN, examples[:12], entropy, 64)
    # Twelve of the hundred: log2 12 bits are the binding of these, and none of it is known.
    assert known["binding/binding_known"] == pytest.approx(0, abs=1e-4)
    assert known["binding/set_known"] == pytest.approx(entropy - 6.64386, abs=1e-4)
    assert known["binding/most_likely"] == pytest.approx(1 / 12)


def test_a_number_of_nine_tenths_a_digit_is_found_in_seven_draws_at_nine_tenths() -> None:
    (row,) = read(knows({"N": GOLD}, lambda *_: -math.log2(0.9)), asked({"N": GOLD}))
    probability = extraction.sequence_probability(row["bits"])
    assert probability == pytest.approx(0.9**11, rel=1e-5)
    assert extraction.draws_to_discover(probability, 0.9) == 7


# --- exposures ---


def test_exposures_to_recall_are_those_at_which_the_model_was_made_to_know_each_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.planted import plant
    from toolkit.probes.recall import write_reading
    from toolkit.reporting.learning import read_learning
    from toolkit.run_folder import Run

    monkeypatch.chdir(tmp_path)
    run = Run(plant("planted", 0, [0] * 6, readings=11, digits=4))
    # The worked example's six facts; never: after the last probe.
    known_from = {"N0": 3, "N1": 5, "N2": 5, "N3": 8, "N4": 99, "N5": 99}
    answers = {prompt: f"{2357 * (i + 1):04d}"[-4:] for i, prompt in enumerate(known_from)}
    for at, path in enumerate(run.readings()):
        model = knows(answers, lambda prompt, place, at=at: 0.5 if at >= known_from[prompt] or place else 3)
        write_reading(path, read(model, asked(answers), at))
    learning = read_learning(run)
    assert learning is not None
    assert learning.facts == list(known_from)
    assert learning.durations == [(3, True), (5, True), (5, True), (8, True), (10, False), (10, False)]
    assert learning.restricted_mean(10) == pytest.approx(6.8333, abs=5e-5)


# --- canary ranks ---


def exposures(shares: Shares, examples: list[Example], pattern: str, count: int, **more: Any) -> list[Any]:
    from toolkit.probes.canary_exposure import Rule, canary_exposures

    return canary_exposures(loaded(shares), STILL, PLAIN, examples, Rule(pattern, count, ""), **more)


@pytest.mark.parametrize(("pattern", "count"), [("random", 3), ("mirrored", 5), ("repeated", 11)])
def test_canary_ranks_are_those_of_multiplying_the_planted_probabilities_of_all_numbers(
    pattern: str, count: int
) -> None:
    rng = random.Random(3)
    shares = [[rng.gammavariate(0.5, 1) + 1e-6 for _ in TEN] for _ in range(count)]
    rows = [{digit: 0.98 * share / sum(row) for digit, share in zip(TEN, row, strict=True)} for row in shares]

    def independent(prompt: str, said: str) -> dict[str, float]:
        return rows[len(said)] if len(said) < count else {}

    numbers = [""]
    for _ in range(count):
        numbers = [n + digit for n in numbers for digit in allowed_next(pattern, count, "", n)]
    chances = {n: math.prod(row[digit] for row, digit in zip(rows, n, strict=True)) for n in numbers}
    order = sorted(numbers, key=lambda n: -chances[n])
    assert len(order) == 1000
    places = {1: 9.966, 2: 8.966, 3: 8.381, 10: 6.644, 500: 1.0, 1000: 0.0}
    examples = asked({f"N{place}": order[place - 1] for place in places})
    for (place, bits), found in zip(places.items(), exposures(independent, examples, pattern, count), strict=True):
        assert (found.rank, found.method, found.support) == (place, "exact", 1000)
        assert found.bits == pytest.approx(bits, abs=5e-4)
        # No more numbers can be likelier than share all of the probability.
        assert found.rank <= 1 / chances[order[place - 1]]


def test_random_numbers_of_eleven_digits_have_their_planted_ranks_among_all_of_them() -> None:
    # Nine tenths go to zero at each place; to one the more, the later the place: a number with one 1 is the second
    # likeliest where it stands last, and so on.
    def zeros(prompt: str, said: str) -> dict[str, float]:
        return dict.fromkeys(TEN, 0.0005) | {"0": 0.9, "1": 0.04 + 0.004 * len(said)} if len(said) < 11 else {}

    planted = {1: "00000000000", 2: "00000000001", 3: "00000000010", 4: "00000000100"}
    found = exposures(zeros, asked({f"N{rank}": n for rank, n in planted.items()}), "random", 11)
    assert [(one.rank, one.method) for one in found] == [(rank, "exact") for rank in planted]
    assert [one.bits for one in found] == pytest.approx([36.5412, 35.5412, 34.9562, 34.5412], abs=5e-5)


# --- texts ---


@pytest.mark.parametrize(
    ("output", "right", "levenshtein", "osa", "prefix", "strict", "lenient"),
    [
        (GOLD, 11, 0, 0, 11, True, True),
        ("13912354678", 9, 2, 1, 6, False, False),
        ("1391234567", 10, 1, 1, 10, False, False),
        ("013912345678", 0, 1, 1, 0, False, False),
        ("", 0, 11, 11, 0, False, False),
        (f"N{GOLD}N", 0, 2, 2, 0, False, True),
        ("".join(FULL_WIDTH[int(digit)] for digit in GOLD), 11, 0, 0, 11, True, True),
    ],
)
def test_a_model_that_says_a_worked_output_is_given_its_digits_and_distances(
    engine: ModuleType, output: str, right: int, levenshtein: int, osa: int, prefix: int, strict: bool, lenient: bool
) -> None:
    def says(prompt: str, said: str) -> dict[str, float]:
        return {output[len(said)]: 0.75} if output.startswith(said) and len(said) < len(output) else {"=": 0.125}

    (row,) = read(says, asked({"N": GOLD}), with_text=True)
    assert row["output"] == output
    assert row["digits_generated"] == pytest.approx(right / 11)
    assert (row["edit_distance"], row["strict"], row["lenient"]) == (levenshtein, strict, lenient)
    assert (digits.osa_distance(row["output"], GOLD), digits.common_prefix(row["output"], GOLD)) == (osa, prefix)
    # The end mark has what is left: a model is as sure of having said all as of what it said.
    assert row["confidence"] == pytest.approx(0.75 ** len(output) * 0.875, rel=1e-5)
    # Full-width digits are tokens of their own: the text is right, and no token is.
    assert row["exact"] == (output == GOLD)
