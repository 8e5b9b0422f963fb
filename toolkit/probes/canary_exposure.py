"""Canary exposure of a checkpoint's numbers: how high each ranks, given its prompt, among all numbers of its group."""

import functools
import math
import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.metrics.canary import Allowed, Asking, Exposure, Rows, search_rank
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import chunks
from toolkit.recipe import Model
from toolkit.rendering import pad_token, refuse_merged_digits, render, tokenise_answer
from toolkit.studies.phone import allowed_next, describe

NODES = 256
"""Prefixes that the search for one number asks about. A prefix costs 0.85 ms (tiny base, one core), and every number
of a probability of 0.3 % or more needed fewer, of some hundreds on simulated models."""
SAMPLES = 64
"""Numbers drawn where that was not enough: up to twice as many prefixes again. Errors are some tenths of a bit."""
SMALL = 1000
"""A support of up to this size is searched to its end, which takes some 1100 prefixes at most."""

Question = tuple[int, str]
"""The number of a prompt, and digits after it."""


class Rule(NamedTuple):
    """What numbers a group draws from, as its recipe's [data] says."""

    pattern: str
    digits: int
    prefix: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Rule":
        """From the [data] of a run's recipe.toml, which has every argument of the phone study."""
        return cls(data["pattern"], data["digits"], data["prefix"])


def canary_exposures(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    examples: Sequence[Example],
    rule: Rule,
    *,
    batch_size: int = 128,
    nodes: int = NODES,
    samples: int = SAMPLES,
    seed: int = 0,
) -> list[Exposure]:
    """The exposure of each example's answer, in their order; exact where `nodes` were enough, else an estimate.

    All searches run side by side, so that a forward pass has prefixes of many numbers in it. Leaves no trace in
    model, tokenizer and random states. Examples that ask for something else than a number of the rule (the reversed
    ones) are to be left out before.

    Raises UserError where an answer is no number of the rule, or digits are not a token each.
    """
    tokenizer = loaded.tokenizer
    refuse_merged_digits(tokenizer, list(examples))
    rendered = [render(tokenizer, example, asked.format) for example in examples]
    digit_ids = [token for digit in "0123456789" for token in tokenise_answer(tokenizer, digit)]
    allowed = functools.cache(functools.partial(allowed_next, *rule))
    for example, item in zip(examples, rendered, strict=True):
        refuse_other_number(example, item.answer_ids, rule, allowed, digit_ids)
    support = describe(*rule).support
    searches = [
        search_rank(
            example.answer,
            allowed,
            support,
            nodes=math.inf if support <= SMALL else nodes,
            samples=samples,
            rng=random.Random(f"{seed}/{example.id}"),
        )
        for example in examples
    ]
    prompts = [item.prompt_ids for item in rendered]
    with undisturbed(loaded, engine):
        return side_by_side(searches, lambda questions: rows_of(loaded, prompts, digit_ids, questions, batch_size))


def refuse_other_number(
    example: Example, answer_ids: list[int], rule: Rule, allowed: Allowed, digit_ids: list[int]
) -> None:
    answer = example.answer
    if len(answer) != rule.digits or any(digit not in allowed(answer[:i]) for i, digit in enumerate(answer)):
        raise UserError(f"example {example.id}: {answer} is no {rule.pattern} number of {rule.digits} digits.")
    if answer_ids != [digit_ids[int(digit)] for digit in answer]:
        raise UserError(f"example {example.id}: this tokenizer has other tokens for the digits of {answer}.")


def side_by_side(searches: list[Asking], answer: Callable[[list[Question]], Rows]) -> list[Exposure]:
    """Runs searches to their ends, asking in one go what all of them want to know next."""
    results: dict[int, Exposure] = {}
    wanted = {number: next(search) for number, search in enumerate(searches)}
    while wanted:
        rows = iter(answer([(number, prefix) for number, prefixes in wanted.items() for prefix in prefixes]))
        following: dict[int, list[str]] = {}
        for number, prefixes in wanted.items():
            try:
                following[number] = searches[number].send([next(rows) for _ in prefixes])
            except StopIteration as done:
                results[number] = done.value
        wanted = following
    return [results[number] for number in range(len(searches))]


def rows_of(
    loaded: Loaded, prompts: list[list[int]], digit_ids: list[int], questions: list[Question], batch_size: int
) -> Rows:
    """Log-probabilities (natural, float32) of the ten digits after each question's prompt and digits.

    Padded on the right, as in `score`. A text says what follows each of its beginnings, so only the longest are run.
    """
    ends: dict[Question, list[Question]] = {}
    longest: Question = (-1, "")
    # Sorted, what begins with a text stands right behind it.
    for number, prefix in sorted(questions, reverse=True):
        if longest[0] != number or not longest[1].startswith(prefix):
            longest = (number, prefix)
            ends[longest] = []
        ends[longest].append((number, prefix))
    rows: dict[Question, list[float]] = {}
    device, pad = loaded.model.device, pad_token(loaded.tokenizer)
    # Texts of about one length side by side need the least padding.
    for batch in chunks(sorted(ends, key=lambda text: len(prompts[text[0]]) + len(text[1])), batch_size):
        ids = [torch.tensor(prompts[number] + [digit_ids[int(d)] for d in prefix]) for number, prefix in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        logits = loaded.model(input_ids=padded.to(device), attention_mask=mask.to(device)).logits
        places = [(row, question) for row, text in enumerate(batch) for question in ends[text]]
        at = [len(prompts[number]) + len(prefix) - 1 for _, (number, prefix) in places]
        log_p = torch.log_softmax(logits[[row for row, _ in places], at].float(), dim=-1)
        rows.update(zip((question for _, question in places), log_p[:, digit_ids].tolist(), strict=True))
    return [rows[question] for question in questions]


def summarise(exposures: Sequence[Exposure]) -> dict[str, float]:
    """Means over numbers: bits with the standard error that estimates bring, share exact, share of rank 1, nodes."""
    n = len(exposures)
    return {
        "canary/read": n,
        "canary/bits": math.fsum(exposure.bits for exposure in exposures) / n,
        "canary/bits_error": math.sqrt(math.fsum(exposure.error**2 for exposure in exposures)) / n,
        "canary/exact": sum(exposure.method != "estimate" for exposure in exposures) / n,
        "canary/first": sum(exposure.most_rank == 1 for exposure in exposures) / n,
        "canary/nodes": sum(exposure.nodes for exposure in exposures) / n,
    }
