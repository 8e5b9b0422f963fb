"""Rows to a batch: padded on the right, with the numbers of the facts that the batch exposes."""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from toolkit.rendering import IGNORED


class Collator:
    """TRL's own collator drops columns that it does not know, and with them the facts."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask`, `labels` (rows × tokens), `facts` (rows × facts, -1 where there are fewer)."""
        return {**self.texts(rows), "labels": pad([row["labels"] for row in rows], IGNORED)}

    def texts(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """What every row has."""
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "facts": pad([row["facts"] for row in rows], -1),
        }


class PairCollator(Collator):
    """Pairs to a batch as TRL's DPO trainer takes it: all chosen answers, then all rejected ones.

    TRL's own collator drops the facts.
    """

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """As Collator, with a `completion_mask` instead of `labels`, and the reference's log-probabilities."""
        halves = [(row["prompt_ids"], row[which]) for which in ("chosen_ids", "rejected_ids") for row in rows]
        ids = [torch.tensor(prompt + answer) for prompt, answer in halves]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "completion_mask": pad([[0] * len(prompt) + [1] * len(answer) for prompt, answer in halves], 0),
            "ref_chosen_logps": torch.tensor([row["ref_chosen_logps"] for row in rows]),
            "ref_rejected_logps": torch.tensor([row["ref_rejected_logps"] for row in rows]),
            "facts": pad([row["facts"] for row in rows], -1),
        }


class ClassCollator(Collator):
    """Texts to a batch, each with its class instead of labels of its tokens."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """As Collator, with `class` (rows) instead of `labels`."""
        return {**self.texts(rows), "class": torch.tensor([row["class"] for row in rows])}


def pad(rows: list[list[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)
