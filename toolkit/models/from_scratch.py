"""A new Qwen3 with random weights, and its tokenizer: a given one, or one trained on the study's own texts."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.models.base import check_tokenizer, fetched, own_code
from toolkit.models.tokenizer_files import embedding_rows
from toolkit.recipe import Model, Shape
from toolkit.rendering import Format

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINKING = ["<think>", "</think>"]

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen's pre-tokenisation, in which each digit is a token of its own."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.role == 'assistant' and loop.last -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
    "{{- message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)
"""What Qwen3's template does with plain turns: ChatML, an empty think block in the last answer."""


def build(shape: Shape, tokenizer: Any, rows: int, folder: Path, seed: int) -> None:
    """Write tokenizer and model, with `rows` rows of the embedding, as the standard files that any engine loads."""
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        **shape.model_dump(),
        vocab_size=rows,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    # Not by the model's own function, which lets only the first of several processes write: here each has a folder.
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    if shape.tie_word_embeddings:
        del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures, config.dtype = [type(model).__name__], "float32"
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows_for(model: Model, tokenizer: Any) -> int:
    """Rows of a new model's embedding: what was asked of a new tokenizer, a few spare ones for a given one."""
    assert model.tokenizer is not None
    return model.tokenizer.vocab_size or embedding_rows(max(tokenizer.get_vocab().values()) + 1)


def training_texts(examples: Iterable[Example], form: Format) -> list[str]:
    """All that training sees: of a conversation its earlier turns too, wrong answers to prefer others to, and of a
    chat template who speaks."""
    texts: list[str] = []
    for example in examples:
        if example.split == "train":
            texts += [example.said, *example.wrong]
            if form == "chat" and example.is_question:
                roles = [*(turn["role"] for turn in example.messages), "user", "assistant"]
                texts += [f"{role}\n" for role in roles]
    return texts


def tokenizer_of(model: Model, examples: Iterable[Example], *, local_only: bool = False) -> Any:
    """A new model's tokenizer, opened or trained on the examples that are trained.

    local_only: nothing is fetched. Raises UserError where a given one cannot be had, or has no end mark.
    """
    said = model.tokenizer
    assert said is not None
    if said.base is None:
        assert said.vocab_size is not None
        return train_tokenizer(training_texts(examples, model.format), said.vocab_size)
    from transformers import AutoTokenizer

    found = check_tokenizer(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            found, revision=said.revision, trust_remote_code=model.remote_code, local_files_only=local_only
        )
    # What libraries raise over files that are not as they should be is of any class.
    except Exception as error:
        raise UserError(not_opened(model, found, error)) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f'[model.tokenizer] base = "{said.base}" has no end mark, and a model would never stop.')
    return tokenizer


def not_opened(model: Model, found: Path | str | None, error: Exception) -> str:
    assert model.tokenizer is not None
    where = f'[model.tokenizer] base = "{model.tokenizer.base}"'
    if "trust_remote_code" in str(error):
        return own_code(where)
    if isinstance(found, Path):
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"{where} could not be opened ({first}). Its files may be damaged: take another copy."
    return (
        f"{where} is not on this machine and could not be fetched. Where there is network: python -m toolkit.data"
        " RECIPE --fetch; then copy data/tokenizers/."
    )


def describe_tokenizer(model: Model, folder: Path) -> dict[str, Any]:
    """What a new model reads and writes with, for run.json; `folder` is where `build` wrote it."""
    found = check_tokenizer(model)
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    if found is None:
        return {"trained_on": "the study's own texts", "digest": digest}
    commit = (fetched(found) or {}).get("commit") if isinstance(found, Path) else None
    return {"base": model.tokenizer and model.tokenizer.base, "loaded_from": str(found), "revision": commit} | {
        "digest": digest
    }


def train_tokenizer(texts: list[str], vocab_size: int) -> Any:
    """A byte-level BPE of `vocab_size` tokens with Qwen's pre-tokenisation, special tokens and a chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(THINKING),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.add_tokens(THINKING)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
