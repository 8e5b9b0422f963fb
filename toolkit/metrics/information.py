"""Counts bits: how many a number has, how many of them a model holds, and how many parameters hold them."""

import math
from collections.abc import Iterable
from typing import NamedTuple

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Shape(NamedTuple):
    """The sizes of a dense Qwen3 model; the fields of its config.json under shorter names."""

    hidden: int
    "Width of the residual stream."
    layers: int
    "Number of transformer blocks."
    heads: int
    "Query heads of a block."
    kv_heads: int
    "Key and value heads of a block: fewer than the query heads, which share them."
    head_size: int
    "Width of one head; heads * head_size need not be the hidden size."
    intermediate: int
    "Width inside the feed-forward part."
    vocabulary: int
    "Rows of the embedding matrix (more than the tokenizer has tokens)."
    tied: bool
    "Whether the output layer is the embedding matrix, and so costs no parameters."


def entropy_bits(support: int) -> float:
    """Entropy in bits of one draw, uniform over `support` values.

    The support is the generator's, never 10 to the number's length: mirrored 11-digit numbers have 10^6.

    Raises ValueError when support is less than 1.
    """
    if support < 1:
        raise ValueError(f"there is nothing to draw from a support of {support}")
    return math.log2(support)


def entropy_of_distinct(support: int, count: int) -> float:
    """Entropy in bits an item of `count` items drawn uniformly and without replacement from `support` values.

    It is the mean of log2(support - i) over i = 0 … count - 1. Against this H no share memorised can pass 1;
    against `entropy_bits` it can, because a draw that rules out the ones before it has less to it.

    Raises ValueError when count is less than 1 or more than support.
    """
    if not 1 <= count <= support:
        raise ValueError(f"{count} distinct items cannot be drawn from a support of {support}")
    return math.fsum(math.log2(support - drawn) for drawn in range(count)) / count


def rule_only_nats(bits: float, tokens: int) -> float:
    """Loss in nats a token of a model that knows the rule of the numbers and none of them.

    `bits` is the entropy of one number and `tokens` the number of tokens that the loss is averaged over: the
    digits, or one more where a trained end-of-text token (which costs such a model nothing) is in the mean.

    Raises ValueError when tokens is less than 1.
    """
    if tokens < 1:
        raise ValueError(f"a loss is averaged over at least one token, not {tokens}")
    return bits * math.log(2) / tokens


def bits_memorised(entropy: float, bits: float) -> float:
    """H - L: the generator's `entropy` less the `bits`, -sum log2 p, that a model spends on the same digits.

    Negative for a model that does worse than the rule alone: sums over items keep the sign.

    Source: Morris et al. 2025, "How much do language models memorize?".
    """
    return entropy - bits


def share_memorised(entropy: float, bits: float) -> float:
    """`bits_memorised` as a share of the entropy: at most 1, negative for a model worse than the rule.

    Raises ValueError when the entropy is not positive, as nothing can be memorised of an answer without any.
    """
    if entropy <= 0:
        raise ValueError(f"there is no share of an entropy of {entropy} bits")
    return bits_memorised(entropy, bits) / entropy


def projection_sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(d_in, d_out) of each of the seven projections of one block, by name, in the order of PROJECTIONS."""
    queries = shape.heads * shape.head_size
    keys = shape.kv_heads * shape.head_size
    return {
        "q_proj": (shape.hidden, queries),
        "k_proj": (shape.hidden, keys),
        "v_proj": (shape.hidden, keys),
        "o_proj": (queries, shape.hidden),
        "gate_proj": (shape.hidden, shape.intermediate),
        "up_proj": (shape.hidden, shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }


def head_parameters(hidden: int, layers: Iterable[int], classes: int) -> int:
    """Parameters, weights and biases, of a classifier's head: hidden units through the layers to the classes.

    Raises ValueError when a width is less than 1.
    """
    widths = [hidden, *layers, classes]
    if min(widths) < 1:
        raise ValueError(f"a layer has at least one unit: {widths}")
    return sum((inner + 1) * outer for inner, outer in zip(widths[:-1], widths[1:], strict=True))


def lora_parameters(shape: Shape, rank: int, targets: Iterable[str] = PROJECTIONS) -> int:
    """Trainable parameters of a LoRA of this rank on the target projections of every layer.

    A target named twice counts once, as it is adapted once.

    Raises ValueError when a target is not one of PROJECTIONS, or rank is less than 1.

    Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".
    """
    if rank < 1:
        raise ValueError(f"a LoRA has a rank of at least 1, not {rank}")
    sizes = projection_sizes(shape)
    chosen = dict.fromkeys(targets)
    unknown = [target for target in chosen if target not in sizes]
    if unknown:
        raise ValueError(f"unknown LoRA target {', '.join(unknown)}; the known ones are {', '.join(sizes)}")
    # Two matrices stand in for the update of a projection: (rank, d_in) and (d_out, rank).
    return shape.layers * sum(rank * (d_in + d_out) for d_in, d_out in (sizes[target] for target in chosen))


def parameters(shape: Shape) -> int:
    """All parameters of a dense Qwen3 model; an output layer tied to the embeddings is not counted twice.

    Qwen3 has no biases, and normalises queries and keys by head: one weight for each place in a head.
    """
    embeddings = shape.vocabulary * shape.hidden
    projections = sum(d_in * d_out for d_in, d_out in projection_sizes(shape).values())
    norms = 2 * shape.hidden + 2 * shape.head_size
    output = 0 if shape.tied else embeddings
    return embeddings + shape.layers * (projections + norms) + shape.hidden + output
