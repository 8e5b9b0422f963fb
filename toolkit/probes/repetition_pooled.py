"""What a checkpoint's texts are together, which is no mean over them: distinct words among all, and equal texts."""

from typing import Any

from toolkit.metrics.repetition import distinct_n, distinct_texts

Row = dict[str, Any]
POOLED = ("distinct_1", "distinct_2", "distinct_texts")


def pooled(rows: list[Row], decoding: str) -> dict[str, tuple[float, int]]:
    """Measures of the texts of a decoding together, each with the number of texts it is of; what is undefined is left
    out. rows: a reading's, of all decodings. Of draw 0 alone, so that there is a text a prompt: all of them fall with
    the number of texts.

    distinct_1, distinct_2: of the prompts that have a reference answer, if any has, each text cut to as many tokens as
    the reference: people's and a model's are then of the same prompts, and no model's of more tokens. Of fewer tokens
    it is higher: a model that writes less than people looks more diverse for that alone.
    distinct_texts: share of distinct texts, of all prompts; not of people's.
    """
    chosen = [row for row in rows if row["decoding"] == decoding and row["draw"] == 0]
    lengths = {row["id"]: len(row["ids"]) for row in rows if row["decoding"] == "human"}
    cut = [row["ids"][: lengths[row["id"]]] for row in chosen if row["id"] in lengths]
    of = cut if lengths else [row["ids"] for row in chosen]
    found = {f"distinct_{n}": (distinct_n(of, n), len(of)) for n in (1, 2)}
    if decoding != "human":
        found["distinct_texts"] = (distinct_texts([row["text"] for row in chosen]), len(chosen))
    return {name: (value, n) for name, (value, n) in found.items() if value is not None}
