"""What a recipe may say of a stage: method, schedule, and what belongs to one method alone."""

import json
from typing import Literal

from pydantic import Field, field_validator, model_validator

from toolkit.recipe.table import NAME_RULE, Every, Table, is_name, refuse


class Stage(Table):
    """[stage.<name>]: one training pass of a run. Stages run in the order written, on the same weights."""

    method: Literal["sft", "dpo", "exam", "classify", "pretrain"]
    """sft: one example a row. dpo: right answers preferred to wrong ones. exam: rounds of asking, and training what was
    missed. classify: texts and their classes. pretrain: all texts in one stream, cut into blocks."""
    train_on: list[str] = Field(default_factory=lambda: ["facts"], min_length=1)
    """Which parts of the examples it is fed."""
    loss_on: Literal["answer", "all"] = "answer"
    """Whether only the answer's tokens are trained, or the prompt's too."""
    train_eos: bool = True
    """Whether the end mark after the answer is trained, so that the model learns to stop."""
    block: int = Field(default=128, ge=8)
    """pretrain: tokens a row."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the data; of an exam its rounds, of which each feeds a fact once or not at all."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    """Peak learning rate; of an exam it changes from round to round."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls to zero after the warm-up (constant: not at all)."""
    order: Literal["spaced", "massed"] = "spaced"
    """sft: spaced feeds every fact once an epoch, in a new order; massed feeds a fact all its times in one epoch."""
    packing: bool = False
    """sft: several whole examples one after another in a row, up to max_length tokens; each sees those before it in its
    row."""
    beta: float = Field(default=0.1, gt=0)
    """dpo: how closely the model is held to the one that the stage starts from, its reference."""
    rejected: Literal["other_person", "one_digit_off", "random", "own_mistake", "given"] = "other_person"
    """dpo: the wrong answer: another fact's, a near miss, random digits, one that the model itself gives, or one that
    comes with the question."""
    sft_weight: float = Field(default=0.0, ge=0)
    """dpo: weight of the loss of the right answer alone, which keeps its own probability from falling."""
    review: Literal["missed_only", "leitner", "yoked"] = "missed_only"
    """exam: what is asked and trained in a round: everything, and what was missed; what is due (2^(box - 1) rounds
    after it was right), and what was missed; or as many facts as in another run, drawn at random."""
    yoked_to: str | None = None
    """exam, review = "yoked": the group whose run of the same seed and stage says how many facts each round feeds."""
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
    """Which weights stay besides the final ones, in stages/<stage>/: none, every epoch's, or the best reading's.
    classify: with "best" the weights of the best reading become the final ones."""
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
        if self.method == "dpo" and (self.loss_on == "all" or not self.train_eos):
            problems.append('method = "dpo" compares whole answers: leave loss_on = "all" and train_eos = false out')
        if self.method == "classify" and (self.loss_on == "all" or not self.train_eos):
            problems.append('method = "classify" trains classes: leave loss_on = "all" and train_eos = false out')
        if self.packing and not self.train_eos:
            problems.append(
                "packing = true tells examples in a row apart by their end marks: leave train_eos = false out"
            )
        # A resolved recipe says the defaults, so only another value is a mistake.
        for key, method in ONLY_FOR.items():
            value = getattr(self, key)
            if self.method != method and value != Stage.model_fields[key].default:
                said = json.dumps(value, ensure_ascii=False)
                problems.append(f'{key} = {said} belongs to method = "{method}", and this is "{self.method}"')
        if self.review == "yoked" and self.method == "exam" and self.yoked_to is None:
            problems.append('review = "yoked" is yoked to another group: say yoked_to = "its name"')
        if self.review != "yoked" and self.yoked_to is not None:
            problems.append(f'yoked_to = "{self.yoked_to}" belongs to review = "yoked", and this is "{self.review}"')
        if self.yoked_to is not None and not is_name(self.yoked_to):
            problems.append(
                f"yoked_to = {json.dumps(self.yoked_to, ensure_ascii=False)} is no group's name: {NAME_RULE}"
            )
        refuse(problems)
        return self


ONLY_FOR = {
    "block": "pretrain", "order": "sft", "packing": "sft", "beta": "dpo", "rejected": "dpo", "sft_weight": "dpo",
    "review": "exam", "yoked_to": "exam",
}  # fmt: skip
"""Keys of a stage that one method alone understands."""
