"""What text that nothing is trained on costs a model, in bits a byte, and how far the model moved from its base there.

A text is read in windows, each token once, as lm-eval's loglikelihood_rolling does it:

    tokens 1 2 3 4 5 6 7, length 3        given   scored
                                          ^ 1 2   1 2 3
    ^ is the prefix token                 3 4 5   4 5 6
    the last window is filled up          4 5 6   7

Bits a byte compare models with different tokenizers, which perplexity does not.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch

from toolkit.errors import MachineError, UserError
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.reference import Reference, as_base, beside
from toolkit.probes.named import Text
from toolkit.probes.recall import LN2, Moment
from toolkit.rendering import end_token

LONGEST = 512
"""Tokens of a window, where the model takes as many: longer ones cost memory and say little else."""
AT_ONCE = 32
"""Positions whose probabilities over the whole vocabulary are held in float32 at a time (19 MB each, at 151,936)."""

Row = dict[str, Any]
When = Literal["before", "again", "after"]


class Window(NamedTuple):
    """A piece of a text, as the model is given it."""

    ids: list[int]
    """What stands before, and then the tokens that are scored; the model is given all but the last."""
    scored: int
    """How many of the tokens, the last ones, are scored here and in no other window."""
    bytes: int
    """UTF-8 bytes of the text from the first token that is scored here up to the next window's first."""


class Cost(NamedTuple):
    """Sums over the positions of a window, in bits."""

    bits: float
    kl_from_base: float | None
    """KL(base ‖ model); None where there is no base to compare with."""
    kl_to_base: float | None
    """KL(model ‖ base)."""


def windows_of(tokenizer: Any, text: str, length: int) -> list[Window]:
    """The windows of a text, each of which gives the model at most `length` tokens; their bytes are all of the text's.

    Special tokens that stand in a text are read as its characters (`split_special_tokens`), and none are added but the
    prefix token before the first window. A character whose tokens lie on both sides of a border counts for the later
    window. Raises UserError where the tokenizer does not tell where its tokens stand, or finds none.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            "[forgetting] text: this base's tokenizer does not tell where its tokens stand in a text (it is no fast"
            " one), so that bytes cannot be counted. Leave text out, or take a base with a tokenizer.json."
        )
    # Not verbose: what is longer than the model takes is read in windows.
    found = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    tokens, offsets = found["input_ids"], found["offset_mapping"]
    if not tokens:
        raise UserError("[forgetting] text: the tokenizer finds no token in a text.")
    stream = [prefix_token(tokenizer), *tokens]
    windows, reached = [], 0
    for start in range(0, len(tokens), length):
        end = min(start + length, len(tokens))
        border = max(reached, offsets[end][0]) if end < len(tokens) else len(text)
        size = len(text[reached:border].encode("utf-8"))
        windows.append(Window(stream[max(0, end - length) : end + 1], end - start, size))
        reached = border
    return windows


def prefix_token(tokenizer: Any) -> int:
    """What stands before a text's first token: the tokenizer's mark of a beginning, or else its end mark."""
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end_token(tokenizer)


def read_held_out(
    loaded: Loaded,
    engine: ModuleType,
    reference: Reference | None,
    texts: list[Text],
    moment: Moment,
    when: When,
    *,
    length: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """One row a window of each text. Leaves no trace in model, tokenizer and random states.

    With a reference, each window is also read by the base, and the row says how far the two are from each other; both
    columns are None otherwise. `length` is in tokens, `progress` is told how many windows are done, and of how many.
    Raises MachineError where the model gives no numbers, UserError as windows_of and beside do.
    """
    pieces = [
        (text.name, number, window)
        for text in texts
        for number, window in enumerate(windows_of(loaded.tokenizer, text.text, length))
    ]
    rows = []
    with undisturbed(loaded, engine):
        base = None if reference is None else beside(loaded, reference)
        for done, (name, number, window) in enumerate(pieces, start=1):
            cost = cost_of(loaded, base, window)
            rows.append(
                {
                    "run": moment.run,
                    "seed": moment.seed,
                    "stage": moment.stage,
                    "step": moment.step,
                    "epoch": moment.epoch,
                    "when": when,
                    "text": name,
                    "window": number,
                    "tokens": window.scored,
                    "bytes": window.bytes,
                    **cost._asdict(),
                }
            )
            progress(done, len(pieces))
    return rows


def cost_of(loaded: Loaded, base: Reference | None, window: Window) -> Cost:
    """What one window costs, from one forward pass of the model and one of the base."""
    logits = logits_of(loaded, window)
    base_logits = None
    if base is not None:
        with as_base(loaded, base):
            base_logits = logits_of(loaded, window)
    targets = torch.tensor(window.ids[-window.scored :], device=logits.device)
    sums = torch.zeros(3, dtype=torch.float64, device=logits.device)
    for start in range(0, window.scored, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        log_p = log_softmax(logits[part])
        sums[0] -= log_p.gather(1, targets[part, None]).sum(dtype=torch.float64)
        if base_logits is not None:
            from_base, to_base = divergences(log_softmax(base_logits[part]), log_p)
            sums[1] += from_base.sum()
            sums[2] += to_base.sum()
    if sums.isnan().any():
        raise MachineError("the model gives no probabilities but NaN: training diverged. A lower rate may help.")
    bits, from_base, to_base = (sums / LN2).tolist()
    return Cost(bits, None, None) if base is None else Cost(bits, from_base, to_base)


def logits_of(loaded: Loaded, window: Window) -> torch.Tensor:
    """Logits (scored positions × vocabulary) of one window, in the model's own dtype.

    Without labels: Unsloth's GPU path gives no logits with them.
    """
    ids = torch.tensor([window.ids[:-1]], device=loaded.model.device)
    return loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -window.scored :]


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """ln p (positions × vocabulary) in float32. What a model rules out (-inf) is the smallest number that there is.

    So a token that both models rule out adds nothing to a divergence, where -inf less -inf would be no number.
    """
    return torch.log_softmax(logits.float(), dim=-1).clamp_(min=torch.finfo(torch.float32).min)


def divergences(log_p: torch.Tensor, log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p ‖ q) and KL(q ‖ p) of each position, in nats (float64), from ln p and ln q (positions × vocabulary).

    The sum of p ln(p/q) - p + q: the last two cancel where p and q add up to one, and where they do not quite, as in
    float32, they take away most of what that does to a small divergence.
    """
    p, q, ratio = log_p.exp(), log_q.exp(), log_p - log_q
    surplus = (p - q).sum(-1, dtype=torch.float64)
    forth = (p.mul_(ratio)).sum(-1, dtype=torch.float64) - surplus
    back = surplus - (q.mul_(ratio)).sum(-1, dtype=torch.float64)
    return forth, back


def summarise(rows: list[Row]) -> dict[str, float]:
    """What metrics.jsonl says of a reading: bits a byte of each text, and KL in bits a token where it was read."""
    summary = {}
    for name in dict.fromkeys(row["text"] for row in rows):
        of_text = [row for row in rows if row["text"] == name]
        tokens = sum(row["tokens"] for row in of_text)
        size = sum(row["bytes"] for row in of_text)
        summary[f"heldout/{name}/bits_per_byte"] = sum(row["bits"] for row in of_text) / size
        for measure in ("kl_from_base", "kl_to_base"):
            if all(row[measure] is not None for row in of_text):
                summary[f"heldout/{name}/{measure}"] = sum(row[measure] for row in of_text) / tokens
    return summary


def schema() -> Any:
    """Columns of probes/heldout-*.parquet, with their types."""
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    return pa.schema(
        [
            ("run", text), ("seed", whole), ("stage", text), ("step", whole), ("epoch", real), ("when", text),
            ("text", text), ("window", whole), ("tokens", whole), ("bytes", whole), ("bits", real),
            ("kl_from_base", real), ("kl_to_base", real),
        ]
    )  # fmt: skip
