"""Text to tokens: with the tokenizer's marks as marks, or spelled where a text only speaks of them."""

import functools
from typing import Any, NamedTuple

from toolkit.errors import UserError


def tokenise(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text in which marks such as <|im_end|> are marks."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def spell(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text that somebody said: a mark in it is spelled in characters, and ends nothing."""
    if not spells_mark(tokenizer, text):
        return tokenise(tokenizer, text)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if habits(tokenizer).marks & set(ids):
        raise UserError(
            f"a text holds one of the tokenizer's own marks ({', '.join(marks_in(tokenizer, text))}), and this"
            " tokenizer cannot spell it. Take it out of the text."
        )
    return ids


def spells_mark(tokenizer: Any, text: str) -> bool:
    return any(mark in text for mark in habits(tokenizer).spelled)


def marks_in(tokenizer: Any, text: str) -> list[str]:
    return [mark for mark in habits(tokenizer).spelled if mark in text]


def tokenise_answer(tokenizer: Any, answer: str) -> list[int]:
    """Tokens of an answer where it stands behind a prompt.

    A tokenizer that begins every text with a space (Llama 2: "▁1" or "▁" "1") is given a line break to begin with.
    """
    if not habits(tokenizer).space:
        return spell(tokenizer, answer)
    return continued(tokenizer, answer, spell(tokenizer, f"\n{answer}")) or spell(tokenizer, answer)


def tokenise_between(tokenizer: Any, text: str) -> list[int]:
    """Tokens of what stands between two answers, in which marks are marks."""
    if not habits(tokenizer).space:
        return tokenise(tokenizer, text)
    return continued(tokenizer, text, tokenise(tokenizer, f"\n{text}")) or tokenise(tokenizer, text)


def continued(tokenizer: Any, text: str, whole: list[int]) -> list[int] | None:
    """Tokens of a text of which `whole` has a line break before it; None where that melted into the text."""
    before = tokenise(tokenizer, "\n")
    return whole[len(before) :] if text and whole[: len(before)] == before else None


def opening(tokenizer: Any) -> list[int]:
    """The mark that a tokenizer puts before every text by itself (Llama's <s>); nothing with Qwen's."""
    return list(habits(tokenizer).mark)


class Habits(NamedTuple):
    """What a tokenizer puts before every text, and which of its tokens are marks."""

    mark: tuple[int, ...]
    space: bool
    marks: frozenset[int]
    spelled: tuple[str, ...]


@functools.lru_cache(maxsize=8)
def habits(tokenizer: Any) -> Habits:
    """Looked at once: a study has many texts."""
    first, plain = tokenizer("0")["input_ids"][:1], tokenise(tokenizer, "0")
    has_mark = first == [tokenizer.bos_token_id] and first != plain[:1]
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return Habits(
        tuple(first) if has_mark else (),
        tokenizer.convert_ids_to_tokens(plain)[0].startswith("▁"),
        frozenset(special),
        tuple(special.values()),
    )


def end_token(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise UserError("this tokenizer has no end mark (eos_token): answers could not be ended.")
    return tokenizer.eos_token_id


def pad_token(tokenizer: Any) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_token(tokenizer)
