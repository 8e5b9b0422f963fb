"""A given tokenizer's files, looked at before anything is loaded: its tokens, their number, and its end mark."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from toolkit.errors import UserError
from toolkit.stored import Stored, read_json


class TokenizerModel(Stored):
    vocab: dict[str, int] | list[Any]
    """Numbers of the tokens; of a unigram model the tokens in order, each with its weight."""


class AddedToken(Stored):
    id: Annotated[int, Field(ge=0)]
    content: str


class TokenizerFile(Stored):
    """tokenizer.json, as far as it is read here."""

    model_config = ConfigDict(allow_inf_nan=True)

    model: TokenizerModel
    added_tokens: list[AddedToken] = []


class SpecialTokens(Stored):
    """tokenizer_config.json or special_tokens_map.json, as far as it is read here."""

    model_config = ConfigDict(allow_inf_nan=True)

    eos_token: str | dict[str, Any] | None = None


def holds_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file()


def token_numbers(folder: Path) -> dict[str, int]:
    """Every token of a folder's tokenizer.json with its number. Raises UserError where the file is damaged."""
    values = read_json(folder / "tokenizer.json", TokenizerFile)
    vocab = values["model"]["vocab"]
    if isinstance(vocab, list):
        vocab = {str(entry[0] if isinstance(entry, list) and entry else entry): n for n, entry in enumerate(vocab)}
    return vocab | {added["content"]: added["id"] for added in values.get("added_tokens", [])}


def token_count(folder: Path) -> int:
    """One more than the largest number of a token."""
    return max(token_numbers(folder).values(), default=-1) + 1


def embedding_rows(tokens: int) -> int:
    """Rows of the embedding for a given tokenizer: rounded up to a multiple of 128.

    A GPU's matrix units work in tiles, and an output layer of a width that these do not divide is slower; Qwen's own
    models have spare rows for the same reason. No token has the number of a spare row.
    """
    return -(-tokens // 128) * 128


def check_tokenizer_files(folder: Path) -> None:
    """Raises UserError for a tokenizer that cannot be a new model's, before anything is loaded."""
    if not holds_tokenizer(folder):
        raise UserError(f"{folder} has no tokenizer.json, which a new model's tokenizer is read from.")
    numbers = token_numbers(folder)
    ends: list[str] = []
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            said = read_json(folder / name, SpecialTokens).get("eos_token")
            said = said.get("content") if isinstance(said, dict) else said
            ends += [said] if isinstance(said, str) else []
    if not ends:
        raise UserError(
            f"{folder}: its tokenizer_config.json names no eos_token, and without an end mark a model never learns to"
            " stop."
        )
    if ends[0] not in numbers:
        raise UserError(f"{folder}: its eos_token {ends[0]} is not in its tokenizer.json.")
