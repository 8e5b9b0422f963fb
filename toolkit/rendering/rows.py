"""Rows that a stage is fed: tokens and labels of examples, packed or not, pairs, and the stream of pretraining."""

from array import array
from dataclasses import replace
from typing import Any, Literal

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering.refused import refuse_length
from toolkit.rendering.rendered import IGNORED, Format, render, render_whole

MANY = 100_000
"""Rows above which token ids are held as arrays: in lists they take some 40 bytes each, in every process."""


def training_rows(
    tokenizer: Any,
    examples: list[Example],
    form: Format,
    numbers: dict[str, int],
    *,
    loss_on: Literal["answer", "all"],
    train_eos: bool,
    max_length: int | None = None,
) -> list[dict[str, list[int]]]:
    """A row an example: `input_ids`, `labels`, and `facts`, the numbers (as given) of the facts that it exposes.

    Raises UserError for an example over `max_length` tokens, where that is given.
    """
    rows: list[dict[str, Any]] = []
    held = ints_of_many if len(examples) > MANY else list
    for example in examples:
        rendered = render_whole(tokenizer, example, form)
        if max_length is not None:
            refuse_length(example, rendered, max_length)
        ids = rendered.input_ids
        labels = rendered.labels(loss_on, train_eos)
        if not train_eos:
            # An end mark that is not trained is not shown either: the original's lines just ended.
            ids, labels = ids[:-1], labels[:-1]
        facts = [numbers[fact] for fact in example.exposes]
        rows.append({"input_ids": held(ids), "labels": held(labels), "facts": held(facts)})
    return rows


def ints_of_many(ids: Any) -> Any:
    """The same in four bytes each."""
    import numpy

    return numpy.asarray(ids, dtype=numpy.int32)


def pack(rows: list[dict[str, list[int]]], max_length: int) -> list[dict[str, list[int]]]:
    """Rows of several whole examples, one after another, in the order given, up to `max_length` tokens each.

    No example is cut or left out. An example sees those before it in its row, on purpose: whether that makes a model
    repeat itself is what packing is studied for, and it needs no attention kernel of its own. Its first token, which
    nothing predicts where it stands alone, is not trained here either: as many tokens are trained as without packing.
    """
    packed: list[dict[str, list[int]]] = []
    for row in rows:
        if not packed or len(packed[-1]["input_ids"]) + len(row["input_ids"]) > max_length:
            packed.append(dict(row))
            continue
        last = packed[-1]
        joined = {"input_ids": row["input_ids"], "labels": [IGNORED, *row["labels"][1:]], "facts": row["facts"]}
        # Lists of many rows would not fit: an array stays one.
        packed[-1] = {name: joined_ids(last[name], ids) for name, ids in joined.items()}
    return packed


def joined_ids(first: Any, second: Any) -> Any:
    return [*first, *second] if isinstance(first, list) else ints_of_many([*first.tolist(), *map(int, second)])


def pair_rows(
    tokenizer: Any,
    examples: list[Example],
    rejected: list[str],
    form: Format,
    numbers: dict[str, int],
    max_length: int,
) -> list[dict[str, Any]]:
    """A row a question: `prompt_ids`, `chosen_ids` and `rejected_ids` with their end marks, and `facts`.

    Raises UserError for a text, which has no answer to prefer, and where a rejected answer makes it too long.
    """
    rows = []
    for example, wrong in zip(examples, rejected, strict=True):
        if not example.is_question:
            raise UserError(f"{example.id} is a text without a question: preference training needs questions.")
        right, other = render(tokenizer, example, form), render(tokenizer, replace(example, answer=wrong), form)
        if len(other.input_ids) > max_length:
            raise UserError(
                f"example {example.id} has {len(other.input_ids)} tokens with its rejected answer, over [model]"
                f" max_length = {max_length}; raise it (nothing is ever cut off)."
            )
        rows.append(
            {
                "prompt_ids": right.prompt_ids,
                "chosen_ids": [*right.answer_ids, right.end_id],
                "rejected_ids": [*other.answer_ids, other.end_id],
                "facts": [numbers[fact] for fact in example.exposes],
            }
        )
    return rows


def packed_rows(
    tokenizer: Any, examples: list[Example], form: Format, numbers: dict[str, int], block: int
) -> list[dict[str, list[int]]]:
    """All examples as one stream, each ended, cut into rows of `block` tokens, all trained; the last may be shorter.

    `facts` are the facts that end in a row: one that lies across a border is exposed once, not twice.
    """
    many = len(examples) > MANY
    ids: Any = array("i") if many else []
    ends: list[tuple[int, list[int]]] = []
    for example in examples:
        ids.extend(render_whole(tokenizer, example, form).input_ids)
        ends.append((len(ids) - 1, [numbers[fact] for fact in example.exposes]))
    if len(ids) % block == 1 and len(ids) > 1:
        # A row of one token has nothing to predict.
        ids.pop()
        ends[-1] = (len(ids) - 1, ends[-1][1])
    rows: list[dict[str, Any]] = []
    held = ints_of_many if many else list
    for start in range(0, len(ids), block):
        piece = ids[start : start + block]
        rows.append({"input_ids": held(piece), "labels": held(piece), "facts": []})
    for end, facts in ends:
        rows[end // block]["facts"] += facts
    return [row | {"facts": held(row["facts"])} for row in rows]


def fact_numbers(examples: list[Example]) -> dict[str, int]:
    """Each fact's number, in the order of first appearance."""
    return {fact: number for number, fact in enumerate(dict.fromkeys(f for e in examples for f in e.exposes))}
