"""One number a run; what data, order, initialisation and sampling draw from is derived from it by purpose."""

import hashlib
from typing import Literal

Purpose = Literal[
    "data", "assignment", "order", "lora", "weights", "training", "sampling", "rejected", "exam", "head", "repetition"
]  # fmt: skip


def sub_seed(seed: int, purpose: Purpose, step: int | None = None) -> int:
    """A seed in 0 … 2**31 - 1 for one purpose of a run; step: of what is drawn anew at each of some steps.

    Hashing keeps the streams of neighbouring seeds and of different purposes apart, where `seed + 1` would
    make run 0's order equal to run 1's initialisation.
    """
    named = f"{seed}/{purpose}" if step is None else f"{seed}/{purpose}/{step}"
    digest = hashlib.sha256(named.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
