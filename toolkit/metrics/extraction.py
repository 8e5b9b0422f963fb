"""Says what can be got out of a model: by drawing, by telling members from others, by trusting its confidence.

A number that the model gives with probability 0.01 is found among 69 draws with probability one half.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.metrics.digits import discoverable_n


class Bin(NamedTuple):
    """Answers of about the same confidence."""

    confidence: float
    """Mean confidence, 0 to 1."""
    right: float
    """Share of them that is right, 0 to 1."""
    answers: int
    """How many there are."""


class Calibration(NamedTuple):
    """Whether a model's confidence can be trusted."""

    brier: float
    """Mean squared difference of confidence and being right: 0 is perfect, and 0.25 what always saying 0.5 gets."""
    expected_error: float
    """Mean over answers of the difference, in their bin, of mean confidence and share right."""
    bins: list[Bin]
    """From low to high confidence; those without an answer are left out."""


class SetAndBinding(NamedTuple):
    """How much of the answers is knowing which ones there are, and how much is knowing which belongs where."""

    binding_missing: list[float]
    """Bits each prompt still costs once the set is given: 0 when bound, log2 n when nothing is."""
    set_missing: list[float]
    """Bits it costs each prompt that its answer is one of the set."""
    binding_known: float
    """Mean bits known of the binding, of log2 n; negative for a model that binds wrongly."""
    set_known: float
    """Mean bits known of the set, of entropy - log2 n. The two sum to the bits memorised."""
    most_likely: float
    """Share of prompts whose own answer is the likeliest of the set, 1/n by chance; a tie of k counts 1/k."""


class StructureAndMemory(NamedTuple):
    """Bits an answer that training saved: by what holds for every number, and by knowing this one."""

    structure: float
    memory: float


def draws_to_discover(probability: float, share: float) -> float:
    """Least number of draws that hold an answer with probability `share` or more: (n, p)-discoverable extraction.

    `probability` is that of one draw being the answer, as `sequence_probability` gives it. A whole number as a float;
    infinity where no number of draws is enough.

    Raises ValueError when probability is outside [0, 1] or share outside (0, 1].

    Source: Hayes et al. 2024, "Measuring memorization in language models via probabilistic extraction".
    """
    return discoverable_n(probability, share)


def sequence_probability(bits: Sequence[float]) -> float:
    """Probability of drawing an answer at temperature 1, from its bits a token (-log2 p)."""
    return 2.0 ** -math.fsum(bits)


def low_confidence_tokens(bits: Sequence[Sequence[float]], threshold: float = 0.5) -> float:
    """Share of tokens, over all answers, that the model gave a probability below `threshold`; bits are -log2 p.

    Raises ValueError when there is no token.
    """
    flat = [token for answer in bits for token in answer]
    if not flat:
        raise ValueError("a share of tokens needs at least one token")
    return sum(token > -math.log2(threshold) for token in flat) / len(flat)


def membership_auc(trained: Sequence[float], controls: Sequence[float]) -> float:
    """Area under the ROC curve that tells trained answers from controls by their log-likelihood (any base).

    It is the probability that a trained answer is likelier than a control, ties counted half: 0.5 is chance.

    Raises ValueError when either is empty or a likelihood is nan.

    Source: Mann and Whitney 1947; as a membership attack by loss, Yeom et al. 2018, "Privacy Risk in Machine
    Learning: Analyzing the Connection to Overfitting".
    """
    from scipy.stats import rankdata

    if not trained or not controls:
        raise ValueError("membership is told from at least one trained answer and one control")
    ranks = rankdata([*trained, *controls], nan_policy="raise")
    n = len(trained)
    return float(ranks[:n].sum() - n * (n + 1) / 2) / (n * len(controls))


def membership_interval(area: float, trained: int, controls: int) -> tuple[float, float]:
    """95 % interval (low, high), each 0 to 1, of a `membership_auc` of so many trained answers and controls.

    The score interval: of every true area it takes those that the measured one does not contradict, so that it has a
    width also at an area of 1, where Hanley and McNeil's own standard error is 0. It holds trained answers and
    controls for independent (foils share their prompts with the trained answers), and says nothing about other runs.

    Raises ValueError when area is outside [0, 1] or a count is less than 1.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
    Part 2", method 5; on the variance of Hanley and McNeil 1982, "The Meaning and Use of the Area under a Receiver
    Operating Characteristic (ROC) Curve".
    """
    from scipy.optimize import root_scalar

    if not 0 <= area <= 1 or min(trained, controls) < 1:
        raise ValueError(f"an area of {area} from {trained} trained answers and {controls} controls is none")

    def excess(true: float) -> float:
        others = (trained + controls) / 2 - 1
        spread = 1 + others * ((1 - true) / (2 - true) + true / (1 + true))
        return (area - true) ** 2 - 1.959964**2 * true * (1 - true) * spread / (trained * controls)

    # Both ends of [0, 1] are roots where the area lies there.
    edge = 1e-12
    low = 0.0 if area < edge else root_scalar(excess, bracket=(0, min(area, 1 - edge))).root
    high = 1.0 if area > 1 - edge else root_scalar(excess, bracket=(max(area, edge), 1)).root
    return low, high


def calibration(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> Calibration:
    """Brier score and expected calibration error of answers, over bins of equal width, each with its upper edge.

    `confidence` is the probability, 0 to 1, that the model gave its own (greedy) answer; `right` whether that is the
    true one. With few answers a bin the expected error is above 0 by chance alone: compare equal numbers of answers.

    Raises ValueError when the two differ in length, are empty, or hold what is no probability.

    Source: Brier 1950, "Verification of Forecasts Expressed in Terms of Probability"; Guo et al. 2017, "On Calibration
    of Modern Neural Networks".
    """
    if len(confidence) != len(right) or not right or bins < 1:
        raise ValueError(f"{len(confidence)} confidences, {len(right)} answers and {bins} bins are no calibration")
    if not all(0 <= p <= 1 for p in confidence):
        raise ValueError("a confidence is a probability, from 0 to 1")
    members: dict[int, list[tuple[float, bool]]] = {}
    for p, correct in zip(confidence, right, strict=True):
        members.setdefault(max(0, math.ceil(p * bins) - 1), []).append((p, bool(correct)))
    filled = [
        Bin(math.fsum(p for p, _ in pairs) / len(pairs), sum(hit for _, hit in pairs) / len(pairs), len(pairs))
        for _, pairs in sorted(members.items())
    ]
    n = len(right)
    brier = math.fsum((p - bool(hit)) ** 2 for p, hit in zip(confidence, right, strict=True)) / n
    return Calibration(brier, math.fsum(b.answers * abs(b.confidence - b.right) for b in filled) / n, filled)


def set_and_binding(
    log_likelihoods: Sequence[Sequence[float]], entropy: float, own: Sequence[int] | None = None
) -> SetAndBinding:
    """Splits what is known of n answers into knowing the set of them and knowing which prompt has which.

    `log_likelihoods` (natural, of whole answers) has a row a prompt and a column an answer of the run; `own` says
    which column is each row's, the diagonal if left out. `entropy` is that of one answer, in bits. An answer costs
    -log2 p = -log2 (mass on the set) - log2 (its share of that mass), and the two terms are told apart here.

    Raises ValueError when rows differ in length, or without `own` are not as many as columns.
    """
    import numpy as np

    table = np.asarray(log_likelihoods, dtype=float)
    if table.ndim != 2 or table.size == 0 or (own is None and table.shape[0] != table.shape[1]):
        raise ValueError(f"a row a prompt and a column an answer are expected, not a shape of {table.shape}")
    rows, columns = np.arange(len(table)), np.asarray(range(len(table)) if own is None else own)
    gold = table[rows, columns]
    mass = np.logaddexp.reduce(table, axis=1)
    binding = (mass - gold) / math.log(2)
    missing = -mass / math.log(2)
    best = table.max(axis=1)
    shares = np.where(gold == best, 1 / (table == best[:, None]).sum(axis=1), 0.0)
    to_bind = math.log2(table.shape[1])
    return SetAndBinding(
        binding_missing=binding.tolist(),
        set_missing=missing.tolist(),
        binding_known=float(to_bind - binding.mean()),
        set_known=float(entropy - to_bind - missing.mean()),
        most_likely=float(shares.mean()),
    )


def structure_and_memory(before: float, control: float, trained: float) -> StructureAndMemory:
    """Splits the bits that training saved on an answer: structure, before - control, and memory, control - trained.

    `before` is what trained answers cost before training, `control` and `trained` what never-trained and trained ones
    cost after it. With unseen prompts as control, structure is what carried over to them: it is negative where the
    model answers them with trained numbers (interference). With the generator's floor it is what the rule explains.
    """
    return StructureAndMemory(structure=before - control, memory=control - trained)
