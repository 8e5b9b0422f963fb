"""What a recipe may say of its model and of LoRA."""

import json
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from toolkit.metrics.information import PROJECTIONS
from toolkit.recipe.table import Table, refuse


def no_empty_base(base: str | None) -> str | None:
    if base is not None and not base.strip():
        raise ValueError('base = "" is empty: give a hub name, a folder or a checkpoint')
    return base


def no_path_as_revision(revision: str | None) -> str | None:
    # It becomes a file's name in the hub's cache.
    if revision is not None and (not re.fullmatch(r"\w[\w./+-]*", revision) or ".." in revision):
        raise ValueError(f"revision = {json.dumps(revision, ensure_ascii=False)} is no branch, tag or commit")
    return revision


class Shape(Table):
    """[model.shape]: a Qwen3 of this shape is built with random weights, instead of a base."""

    hidden_size: int = Field(default=192, ge=32)
    """Width of the residual stream."""
    num_hidden_layers: int = Field(default=4, ge=1)
    """Blocks."""
    num_attention_heads: int = Field(default=6, ge=1)
    """Query heads."""
    num_key_value_heads: int = Field(default=3, ge=1)
    """Key and value heads; the query heads must be a multiple."""
    head_dim: int = Field(default=32, ge=8, multiple_of=2)
    """Size of a head."""
    intermediate_size: int = Field(default=512, ge=32)
    """Width of the feed-forward layer."""
    max_position_embeddings: int = Field(default=2048, ge=64)
    """Longest sequence that positions are made for."""
    tie_word_embeddings: bool = True
    """Whether input and output embeddings are the same weights."""

    @model_validator(mode="after")
    def heads_divide(self) -> "Shape":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads = {self.num_attention_heads} must be a multiple of"
                f" num_key_value_heads = {self.num_key_value_heads}"
            )
        return self


class Tokenizer(Table):
    """[model.tokenizer]: of a new model: one that is given, or one that is trained on the study's own texts."""

    base: str | None = None
    """A given one: a hub name such as Qwen/Qwen3-0.6B, a folder with a tokenizer.json, or a checkpoint."""
    revision: str | None = None
    """Branch, tag or commit of a given one on the hub."""
    vocab_size: int | None = Field(default=None, ge=270)
    """Of a new one, a byte-level BPE with Qwen3's pre-tokenisation: tokens, the 256 bytes and the special ones too;
    512 where neither this nor base is said."""

    @field_validator("base")
    @classmethod
    def base_says_something(cls, base: str | None) -> str | None:
        return no_empty_base(base)

    @field_validator("revision")
    @classmethod
    def revision_is_one(cls, revision: str | None) -> str | None:
        return no_path_as_revision(revision)

    @model_validator(mode="after")
    def given_or_new(self) -> "Tokenizer":
        problems = []
        if self.base is not None and self.vocab_size is not None:
            problems.append("takes base, a given tokenizer, or vocab_size, one that is trained, and not both")
        if self.revision is not None and self.base is None:
            problems.append("revision belongs to a given tokenizer on the hub: base is missing")
        refuse(problems)
        if self.base is None and self.vocab_size is None:
            self.vocab_size = 512
        return self


class Head(Table):
    """[model.head]: a classifier on top of the backbone, which reads it at each text's last token."""

    layers: list[int] = Field(default_factory=lambda: [512, 256])
    """Widths of the layers between the backbone and the classes, each with ReLU and dropout; [] is a linear head."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a layer's units that a training step leaves out."""

    @field_validator("layers")
    @classmethod
    def layers_have_units(cls, layers: list[int]) -> list[int]:
        if any(width < 1 for width in layers):
            raise ValueError(f"layers = {layers}: a layer has at least one unit")
        return layers


class Model(Table):
    """[model]: what is trained."""

    base: str | None = None
    """A hub name, a folder, or a checkpoint such as checkpoints/tiny-base."""
    shape: Shape | None = None
    """A new model of this shape with random weights, instead of a base."""
    tokenizer: Tokenizer | None = None
    """A new model's tokenizer: a given or a new one."""
    head: Head | None = None
    """A classifier's head; without this table classes are answered in words."""
    revision: str | None = None
    """Branch, tag or commit of a hub base."""
    precision: Literal["bf16", "fp16", "fp32", "nf4", "fp8"] = "bf16"
    """What is asked for; run.json records what was really loaded. fp8 is LoRA over FP8 weights, on a GPU only. Weights
    that are all trained stay in float32 and are computed with in 16 bits, on a GPU only."""
    engine: Literal["unsloth", "transformers"] = "unsloth"
    """Who patches the model: Unsloth, or nobody (the same run as control)."""
    format: Literal["plain", "chat"] = "plain"
    """How prompt and answer become text, for training and for every probe: as they are, or by the chat template."""
    max_length: int = Field(default=512, ge=8)
    """Longest example in tokens; a longer one is refused, never cut, but for texts that are classified: of these the
    text is cut, and never the question."""
    leave_out_long: bool = False
    """Leave examples of more tokens out, and count them, instead of refusing them."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    remote_code: bool = False
    """Whether code that comes with the base may run."""

    @field_validator("base")
    @classmethod
    def base_says_something(cls, base: str | None) -> str | None:
        return no_empty_base(base)

    @field_validator("revision")
    @classmethod
    def revision_is_one(cls, revision: str | None) -> str | None:
        return no_path_as_revision(revision)

    @model_validator(mode="after")
    def base_or_shape(self) -> "Model":
        problems = []
        if self.base is None and self.shape is None:
            problems.append("says neither base = … nor [model.shape]")
        if self.base is not None and self.shape is not None:
            problems.append("says both base and [model.shape], and takes one of them")
        if self.shape is None and self.tokenizer is not None:
            problems.append("tokenizer belongs to a new model: [model.shape] is missing")
        if self.shape is not None and self.tokenizer is None:
            problems.append("a new model takes a tokenizer, a given or a new one: [model.tokenizer] is missing")
        if self.shape is not None and self.revision is not None:
            problems.append("revision belongs to a hub base, and [model.shape] builds a new model")
        if self.shape is not None and self.precision in ("nf4", "fp8"):
            problems.append(
                f'precision = "{self.precision}": new weights are all trained, which those of 4 and 8 bits cannot be:'
                ' say precision = "bf16", "fp16" or "fp32"'
            )
        if self.shape is not None and self.max_length > self.shape.max_position_embeddings:
            longest = self.shape.max_position_embeddings
            problems.append(f"max_length = {self.max_length} is over [model.shape] max_position_embeddings = {longest}")
        if self.precision == "fp8" and self.engine == "transformers":
            problems.append('precision = "fp8" needs engine = "unsloth": plain transformers cannot train over FP8')
        refuse(problems)
        return self


class Lora(Table):
    """[lora]: which weights are added and trained. Leave the table out to train every weight."""

    rank: int = Field(default=32, ge=1, le=1024)
    """Rank r of the added matrices."""
    alpha: int = Field(default=64, ge=1)
    """Scale: the added product is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the added matrices."""
    targets: list[str] = Field(default_factory=lambda: list(PROJECTIONS), min_length=1)
    """Which projections get them: the seven of a Qwen3 block by default."""

    @field_validator("targets")
    @classmethod
    def targets_are_projections(cls, targets: list[str]) -> list[str]:
        unknown = [target for target in targets if target not in PROJECTIONS]
        if unknown:
            raise ValueError(f'targets: no projection is called "{unknown[0]}"; known are {", ".join(PROJECTIONS)}')
        if len(set(targets)) < len(targets):
            raise ValueError("targets: a projection is named twice")
        return targets
