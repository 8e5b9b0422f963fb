"""What a recipe may say: every table and key, its type, its default, and a sentence about it."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from toolkit.metrics.information import PROJECTIONS

Every = Annotated[str, Field(pattern=r"^(epoch|stage|[1-9][0-9]{0,8} (epochs|steps))$")]

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
"""What may become a folder's name on every system."""
NAME_RULE = "it becomes a folder's name: up to 100 of a-z, A-Z, 0-9, '.', '_', '-'; first a letter or a digit; no '..'"

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, so that no folder can be called it."""


def is_name(text: str) -> bool:
    return bool(NAME.fullmatch(text)) and ".." not in text and not RESERVED.fullmatch(text)


def refuse(problems: list[str]) -> None:
    """All problems as one ValueError, a line each, so that every one of them is said."""
    if problems:
        raise ValueError("\n".join(problems))


class Table(BaseModel):
    """A table of a recipe: unknown keys and wrong types are refused; the sentence below a field describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


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
    """[model.tokenizer]: a byte-level BPE with Qwen3's pre-tokenisation is trained on the study's own texts."""

    vocab_size: int = Field(default=512, ge=270)
    """Tokens, the 256 bytes and the special tokens included."""


class Model(Table):
    """[model]: what is trained."""

    base: str | None = None
    """A hub name, a folder, or a checkpoint such as checkpoints/tiny-base."""
    shape: Shape | None = None
    """A new model of this shape with random weights, instead of a base."""
    tokenizer: Tokenizer | None = None
    """A new tokenizer, for a new model."""
    revision: str | None = None
    """Branch, tag or commit of a hub base."""
    precision: Literal["bf16", "fp16", "fp32", "nf4", "fp8"] = "bf16"
    """What is asked for; run.json records what was really loaded. fp8 is LoRA over FP8 weights, on a GPU only."""
    engine: Literal["unsloth", "transformers"] = "unsloth"
    """Who patches the model: Unsloth, or nobody (the same run as control)."""
    format: Literal["plain", "chat"] = "plain"
    """How prompt and answer become text, for training and for every probe: as they are, or by the chat template."""
    max_length: int = Field(default=512, ge=8)
    """Longest example in tokens; a longer one is refused, never cut."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    remote_code: bool = False
    """Whether code that comes with the base may run."""

    @field_validator("base")
    @classmethod
    def base_says_something(cls, base: str | None) -> str | None:
        if base is not None and not base.strip():
            raise ValueError('base = "" is empty: give a hub name, a folder or a checkpoint')
        return base

    @field_validator("revision")
    @classmethod
    def revision_is_one(cls, revision: str | None) -> str | None:
        # It becomes a file's name in the hub's cache.
        if revision is not None and (not re.fullmatch(r"\w[\w./+-]*", revision) or ".." in revision):
            raise ValueError(f"revision = {json.dumps(revision, ensure_ascii=False)} is no branch, tag or commit")
        return revision

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
            problems.append("a new model takes a new tokenizer: [model.tokenizer] is missing")
        if self.shape is not None and self.revision is not None:
            problems.append("revision belongs to a hub base, and [model.shape] builds a new model")
        if self.shape is not None and self.precision != "fp32":
            problems.append(f'precision = "{self.precision}": new weights are trained in fp32: say precision = "fp32"')
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


class Stage(Table):
    """[stage.<name>]: one training pass of a run. Stages run in the order written, on the same weights."""

    method: Literal["sft", "pretrain"]
    """sft: one example a row. pretrain: all texts in one stream, cut into blocks."""
    train_on: list[str] = Field(default_factory=lambda: ["facts"], min_length=1)
    """Which parts of the examples it is fed."""
    loss_on: Literal["answer", "all"] = "answer"
    """Whether only the answer's tokens are trained, or the prompt's too."""
    train_eos: bool = True
    """Whether the end mark after the answer is trained, so that the model learns to stop."""
    block: int = Field(default=128, ge=8)
    """pretrain: tokens a row."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the data."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls to zero after the warm-up (constant: not at all)."""
    order: Literal["spaced", "massed"] = "spaced"
    """sft: spaced feeds every fact once an epoch, in a new order; massed feeds a fact all its times in one epoch."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the updates in which the learning rate rises to its peak."""
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    batch_size: int = Field(default=4, ge=1)
    """Rows a forward pass."""
    grad_accum: int = Field(default=4, ge=1)
    """Forward passes an update."""
    optimizer: Literal["adamw_8bit", "adamw", "paged_adamw_8bit", "sgd"] = "adamw_8bit"
    """What is asked for; without a GPU 8-bit Adam becomes AdamW, and run.json says so."""
    keep: Literal["last", "epochs", "best"] = "last"
    """Which weights stay besides the final ones, in stages/<stage>/: none, every epoch's, or the best reading's."""
    save: Every = "epoch"
    """How often what resuming needs is saved: "epoch", "5 epochs", "100 steps" or "stage"."""

    @field_validator("train_on")
    @classmethod
    def parts_differ(cls, train_on: list[str]) -> list[str]:
        if len(set(train_on)) < len(train_on):
            raise ValueError("train_on: a part is named twice")
        return train_on

    @model_validator(mode="after")
    def method_takes_them(self) -> "Stage":
        problems = []
        if self.method == "pretrain" and self.loss_on == "answer":
            problems.append('method = "pretrain" trains every token: say loss_on = "all"')
        if self.method == "pretrain" and not self.train_eos:
            problems.append('method = "pretrain" trains every token, the end marks too: leave train_eos = false out')
        # A resolved recipe says the default, so only another value is a mistake.
        if self.method != "pretrain" and self.block != Stage.model_fields["block"].default:
            problems.append(f'block = {self.block} belongs to method = "pretrain", and this is "{self.method}"')
        if self.method == "pretrain" and self.order == "massed":
            problems.append('order = "massed" belongs to method = "sft", and this is "pretrain"')
        refuse(problems)
        return self


class Recall(Table):
    """[recall]: when exact recall is measured."""

    every: Every = "epoch"
    """"epoch", "5 epochs", "100 steps" or "stage"; always once before training and once at the end."""
    batch_size: int = Field(default=32, ge=1)
    """Examples a forward pass of a reading."""
    sample: int | None = Field(default=None, ge=1)
    """At most this many trained examples and controls are read, the same ones each time; all where left out."""


class Wandb(Table):
    """[wandb]: where metrics are sent."""

    project: str = Field(default="toolkit", pattern=r"^[\w.-]+$")
    """The project's name there."""
    entity: str | None = None
    """The account or team; its default one where left out."""
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where a key is configured, else offline."""


class Compare(Table):
    """[compare]: what groups are judged by; declared before training, so that it is not chosen by its outcome."""

    primary: Literal[
        "exposures_to_recall", "recall/exact", "recall/bits_memorised", "recall/share_memorised", "loss/digit_nats"
    ] = "exposures_to_recall"
    """The one outcome that is tested as such, by run; all others are exploratory. Of the last four: at the end."""


class Recipe(Table):
    """A study: its data, model, stages and probes."""

    name: str
    """Writes checkpoints/<name>/seed-<seed>/."""
    study: str
    """What kind of facts."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default_factory=lambda: [0], min_length=1)
    """A run each; data, assignment, order, initialisation and sampling are drawn from it."""
    data: dict[str, Any] = Field(default_factory=dict)
    """The arguments of the study's build function; seed fixes the facts across the runs."""
    model: Model
    """What is trained."""
    lora: Lora | None = None
    """Added weights; without this table every weight is trained."""
    stage: dict[str, Stage] = Field(min_length=1)
    """Training passes by name, in the order written."""
    recall: Recall = Field(default_factory=Recall)
    """When exact recall is measured."""
    compare: Compare = Field(default_factory=Compare)
    """What groups are judged by."""
    wandb: Wandb = Field(default_factory=Wandb)
    """Where metrics are sent."""

    @field_validator("name")
    @classmethod
    def name_is_no_path(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(f"name = {json.dumps(name, ensure_ascii=False)}: {NAME_RULE}")
        return name

    @field_validator("seeds")
    @classmethod
    def seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {seeds}: a seed is named twice")
        return seeds

    @model_validator(mode="after")
    def fits_together(self) -> "Recipe":
        problems = []
        # Windows and macOS see one folder in two spellings.
        if len({name.casefold() for name in self.stage}) < len(self.stage):
            problems.append(f"two stages have one name: {', '.join(f'[stage.{name}]' for name in self.stage)}")
        for name, stage in self.stage.items():
            if not is_name(name):
                problems.append(f"[stage.{name}] is no good name: {NAME_RULE}")
            if stage.method == "pretrain" and stage.block > self.model.max_length:
                longest = self.model.max_length
                problems.append(f"[stage.{name}] block = {stage.block} is over [model] max_length = {longest}")
        if self.model.shape and self.lora:
            problems.append("[lora] on random weights learns nothing: leave it out where [model.shape] builds a model")
        if self.model.precision in ("nf4", "fp8") and self.lora is None:
            precision = self.model.precision
            problems.append(f'[model] precision = "{precision}" has no trainable weights: it needs a [lora] table')
        refuse(problems)
        return self
