"""What a recipe may say: every table and key, its type, its default, and a sentence about it."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from toolkit.recipe.forgetting import Forgetting
from toolkit.recipe.model import Lora, Model
from toolkit.recipe.repetition import Repetition
from toolkit.recipe.stage import Stage
from toolkit.recipe.table import NAME_RULE, Every, Table, is_name, refuse


class Recall(Table):
    """[recall]: when exact recall is measured."""

    every: Every = "epoch"
    """"epoch", "5 epochs", "100 steps" or "stage"; always once before training and once at the end."""
    batch_size: int = Field(default=32, ge=1)
    """Examples a forward pass of a reading."""
    sample: int | None = Field(default=None, ge=1)
    """At most this many trained examples and controls are read, the same ones each time; all where left out."""
    prior_samples: int = Field(default=0, ge=0)
    """Answers drawn for each question before training, beside the greedy one: facts are put into classes by what the
    base answers already, and recall is reported by class."""


class Classification(Table):
    """[classification]: when a classifier is measured on the validation texts, and by what its best reading is told."""

    every: Every = "epoch"
    """"epoch", "5 epochs", "50 steps" or "stage"; always once before training and once at the end."""
    batch_size: int = Field(default=32, ge=1)
    """Texts a forward pass of a reading; of classes in words, whole replies."""
    best_by: Literal["accuracy", "macro_f1", "loss"] = "accuracy"
    """By which of them, on the validation texts, the best reading is told: for keep = "best" and for patience."""
    patience: int | None = Field(default=None, ge=1)
    """Training ends after so many readings in a row that are no better than the best; never early where left out."""


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
        "exposures_to_recall",
        "recall/exact",
        "recall/bits_memorised",
        "recall/share_memorised",
        "loss/digit_nats",
        "loss/answer_nats_validation",
        "test/accuracy",
        "test/macro_f1",
        "test/loss",
    ] = "exposures_to_recall"
    """The one outcome that is tested as such, by run; all others are exploratory. Of all but the first: at the end.
    test/… are those of classifiers, where test/accuracy is what is left out."""
    after: str | None = None
    """The stage after which "the end" is, where later stages are about something else; the last where left out."""


class Judge(Table):
    """[judge]: an OpenAI-compatible service that makes questions and judges answers. Its key is never written down."""

    base_url: str = Field(pattern=r"^https?://")
    """Where the service is, such as "https://api.openai.com/v1" or "http://localhost:8000/v1"."""
    model: str
    """The model's name there."""
    key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds until an answer is given up and asked for again."""
    retries: int = Field(default=5, ge=0)
    """How often a failed request is sent again, after growing pauses."""


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
    classification: Classification | None = None
    """When a classifier is measured; of a recipe with such a stage only."""
    forgetting: Forgetting | None = None
    """What the model could do before, measured before and after; of no recipe that leaves the table out."""
    repetition: Repetition | None = None
    """What the model repeats when it writes freely; of no recipe that leaves the table out."""
    compare: Compare = Field(default_factory=Compare)
    """What groups are judged by."""
    judge: Judge | None = None
    """Who makes questions and judges answers, where that is wanted."""
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
        problems += self.classifier_problems()
        if self.forgetting and self.forgetting.stop_if_worse_by is not None:
            exams = [name for name, stage in self.stage.items() if stage.method == "exam"]
            problems += [
                f'[forgetting] stop_if_worse_by: [stage.{name}] method = "exam" is asked in rounds and cannot end early'
                for name in exams
            ]
        if self.compare.after is not None and self.compare.after not in self.stage:
            problems.append(f'[compare] after = "{self.compare.after}" is no stage; there are {", ".join(self.stage)}')
        if self.model.shape and self.lora:
            problems.append("[lora] on random weights learns nothing: leave it out where [model.shape] builds a model")
        if self.model.precision in ("nf4", "fp8") and self.lora is None:
            precision = self.model.precision
            problems.append(f'[model] precision = "{precision}" has no trainable weights: it needs a [lora] table')
        refuse(problems)
        return self

    @property
    def classifies(self) -> bool:
        return any(stage.method == "classify" for stage in self.stage.values())

    def classifier_problems(self) -> list[str]:
        """What does not fit together of a classifier; fills in what one has and other recipes have not."""
        primary = self.compare.primary
        if not self.classifies:
            said = [
                ("[model.head]", self.model.head is not None),
                ("[classification]", self.classification is not None),
                (f'[compare] primary = "{primary}"', primary.startswith("test/")),
            ]
            return [f'{what} is for a stage with method = "classify"' for what, there in said if there]
        self.classification = self.classification or Classification()
        if "primary" not in self.compare.model_fields_set:
            self.compare.primary = primary = "test/accuracy"
        problems = []
        if others := [name for name, stage in self.stage.items() if stage.method != "classify"]:
            problems.append(f'method = "classify" shares its recipe with no other: [stage.{others[0]}] has another one')
        if not primary.startswith("test/"):
            problems.append(f'[compare] primary = "{primary}": of a classifier it is test/accuracy or another test/…')
        if self.recall != Recall():
            problems.append("[recall] is of facts; when a classifier is measured stands in [classification]")
        if self.repetition is not None:
            problems.append("[repetition] is of models that write freely, which a classifier does not: leave it out")
        return problems
