"""Every key of a recipe changes something: a real run with another value does or leaves something else.

The same seed gives the same run to the last bit, so that a difference comes from the changed key and nothing else.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.observed import Ran, ran
from toolkit.example import Example
from toolkit.metrics.information import PROJECTIONS
from toolkit.recipe.complaints import general, tables
from toolkit.studies import STUDIES, data_model
from toolkit.studies.built import Built

PHONE = """
study = "phone"
[data]
count = 8
controls = 4
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
[lora]
rank = 4
alpha = 8
[stage.learn]
method = "sft"
epochs = 2
batch_size = 4
grad_accum = 1
learning_rate = 1e-3
optimizer = "adamw"
"""
NEW = """
study = "lines"
[data]
count = 60
controls = 4
[model]
precision = "fp32"
max_length = 64
[model.shape]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
intermediate_size = 32
[model.tokenizer]
vocab_size = 300
[stage.learn]
method = "pretrain"
train_on = ["lines"]
loss_on = "all"
block = 64
epochs = 1
optimizer = "adamw"
"""
ONLY_WATCH = {
    "name",
    "stage.learn.keep",
    "stage.learn.save",
    "recall.every",
    "recall.batch_size",
    "recall.sample",
    "compare.primary",
}
"""What may not touch the weights; nor may any key of [wandb]."""


def exposures_midway(r: Ran) -> set[int]:
    """How often each trained fact had been fed at the end of the first of two epochs."""
    from toolkit.probes.recall import read_reading

    return {row["exposures"] for row in read_reading(r.run.readings()[1]) if row["split"] == "train"}


def compared(r: Ran) -> dict[str, Any]:
    from toolkit.compare import compare

    folder = compare([str(r.run.path)], f"every-key-{r.run.name}", Console(quiet=True))
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def two_parts(data_seed: int, assignment_seed: int, count: int = 8, controls: int = 0) -> Built:
    """A study of two parts, which no shipped one has yet."""
    lines = [(part, f"{part} {number} = ", str(number)) for part in ("facts", "more") for number in range(count // 2)]
    return Built([Example(prompt, prompt, prompt, answer, "train", part=part) for part, prompt, answer in lines])


DIFFERENT = object()
"""Any other value than before."""

Look = Callable[[Ran], Any]

# The change of the key (with what must be said beside it, before and after), what is looked at, before and after.
ON_PHONE: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    ("name=every-key-renamed", lambda r: r.run.name == "every-key-renamed", False, True),
    ("seeds=[1]", lambda r: r.run.path.name, "seed-0", "seed-1"),
    ("study=two_parts", lambda r: r.prompts[0] == "facts 0 = ", False, True),
    (('stage.learn.train_on=["facts", "more"]', "study=two_parts"), lambda r: len(r.watched.fed), 4, 8),
    ("data.seed=7", lambda r: r.answers, DIFFERENT, DIFFERENT),
    ("data.pattern=mirrored", lambda r: all(a == a[::-1] for a in r.answers), False, True),
    ("data.count=9", lambda r: r.splits.count("train"), 8, 9),
    ("data.controls=5", lambda r: r.splits.count("control"), 4, 5),
    ("data.digits=5", lambda r: {len(a) for a in r.answers}, {11}, {5}),
    ('data.prefix="1[3-9]"', lambda r: {a[0] for a in r.answers} == {"1"}, False, True),
    (("data.duplicates=true", "data.digits=1", "data.controls=0"), lambda r: len(set(r.answers)) < 8, False, True),
    ("data.shuffle_indices=false", lambda r: r.trained_indices == list(range(1, 9)), False, True),
    ("data.prompt=Number {index}: ", lambda r: {p[:6] for p in r.prompts} == {"Number"}, False, True),
    ('data.paraphrases=["Item {index}: "]', lambda r: r.asked("paraphrase-1")[0][:2], "号码", "It"),
    ('data.reverse=""', lambda r: len(r.asked("reversed")), 8, 0),
    ("model.base=checkpoints/every-key-base", lambda r: r.first_loss, DIFFERENT, DIFFERENT),
    ("model.revision=main", lambda r: r.watched.engine_asked["revision"], None, "main"),
    ("model.precision=bf16", lambda r: r.run.info["model"]["dtype"], "float32", "bfloat16"),
    ("model.engine=transformers", lambda r: r.run.info["model"]["engine"], "unsloth", "transformers"),
    ("model.format=chat", lambda r: "template" in r.run.info["model"], False, True),
    ("model.max_length=64", lambda r: r.watched.engine_asked["max_seq_length"], 512, 64),
    ("model.gradient_checkpointing=true", lambda r: r.watched.blocks_computed, DIFFERENT, DIFFERENT),
    ("model.remote_code=true", lambda r: r.watched.engine_asked["trust_remote_code"], False, True),
    ("lora=false", lambda r: r.run.weights.name, "adapter", "model"),
    ("lora.rank=2", lambda r: {min(size) for size in r.sizes.values()}, {4}, {2}),
    ("lora.alpha=32", lambda r: r.column("train/loss")[1:], DIFFERENT, DIFFERENT),
    ("lora.dropout=0.5", lambda r: r.column("train/loss"), DIFFERENT, DIFFERENT),
    ('lora.targets=["q_proj", "v_proj"]', lambda r: r.projections, set(PROJECTIONS), {"q_proj", "v_proj"}),
    ("stage.learn.loss_on=all", lambda r: any(-100 in row["labels"] for row in r.watched.fed), True, False),
    ("stage.learn.train_eos=false", lambda r: len(r.watched.fed[0]["input_ids"]), DIFFERENT, DIFFERENT),
    ("stage.learn.epochs=3", lambda r: len(r.column("train/loss")), 4, 6),
    ("stage.learn.learning_rate=2e-3", lambda r: r.column("train/learning_rate")[0], 1e-3, 2e-3),
    ("stage.learn.schedule=constant", lambda r: set(r.column("train/learning_rate")) == {1e-3}, False, True),
    ("stage.learn.order=massed", lambda r: exposures_midway(r), {1}, {0, 2}),
    ("stage.learn.warmup=0.5", lambda r: r.column("train/learning_rate")[0], 1e-3, 0.0),
    ("stage.learn.weight_decay=0.9", lambda r: r.weights, DIFFERENT, DIFFERENT),
    (("stage.learn.max_grad_norm=1e-3", "stage.learn.optimizer=sgd"), lambda r: r.weights, DIFFERENT, DIFFERENT),
    ("stage.learn.batch_size=2", lambda r: len(r.column("train/loss")), 4, 8),
    ("stage.learn.grad_accum=2", lambda r: len(r.column("train/loss")), 4, 2),
    ("stage.learn.optimizer=sgd", lambda r: r.run.info["stages"]["learn"]["optimizer"] == "sgd", False, True),
    ("stage.learn.keep=epochs", lambda r: r.kept, [], ["epoch-001", "epoch-002"]),
    ("stage.learn.save=1 steps", lambda r: r.watched.saves, ["checkpoint-2", "checkpoint-4"],
     ["checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"]),
    ("recall.every=stage", lambda r: r.steps_read, [0, 2, 4], [0, 4]),
    ("recall.batch_size=3", lambda r: max(r.watched.batches), 32, 3),
    ("recall.sample=2", lambda r: r.examples_read, 12 + 3 * 8, 4 + 3 * 2),
    ("compare.primary=recall/exact", lambda r: compared(r)["primary"], "exposures_to_recall", "recall/exact"),
    ("wandb.mode=offline", lambda r: r.run.info["wandb"]["mode"], "disabled", "offline"),
    (("wandb.project=other", "wandb.mode=offline"), lambda r: r.at_wandb["project"], "toolkit", "other"),
    (("wandb.entity=team", "wandb.mode=offline"), lambda r: r.at_wandb.get("entity"), None, "team"),
]  # fmt: skip
ON_NEW: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    ("data.count=70", lambda r: r.splits.count("train"), 60, 70),
    ("data.controls=5", lambda r: r.splits.count("control"), 4, 5),
    ("model.tokenizer.vocab_size=310", lambda r: r.sizes["model.embed_tokens.weight"][0], 300, 310),
    ("model.shape.hidden_size=64", lambda r: r.sizes["model.norm.weight"], [32], [64]),
    ("model.shape.num_hidden_layers=2", lambda r: max(re.findall(r"layers\.(\d)", str(r.sizes))), "0", "1"),
    ("model.shape.num_attention_heads=4", lambda r: r.block("self_attn.q_proj"), [32, 32], [64, 32]),
    ("model.shape.num_key_value_heads=2", lambda r: r.block("self_attn.k_proj"), [16, 32], [32, 32]),
    ("model.shape.head_dim=32", lambda r: r.block("self_attn.k_norm"), [16], [32]),
    ("model.shape.intermediate_size=48", lambda r: r.block("mlp.up_proj"), [32, 32], [48, 32]),
    ("model.shape.max_position_embeddings=128", lambda r: r.config["max_position_embeddings"], 2048, 128),
    ("model.shape.tie_word_embeddings=false", lambda r: "lm_head.weight" in r.sizes, False, True),
    (("stage.learn.method=sft", "stage.learn.block=128", "model.max_length=128"),
     lambda r: len(r.watched.fed) == 60, False, True),
    ("stage.learn.block=32", lambda r: len(r.watched.fed[0]["input_ids"]), 64, 32),
]  # fmt: skip


@pytest.fixture(scope="module")
def unchanged(project: Path) -> Callable[..., Ran]:
    """A run of a recipe, with what must be said beside a key; a run that was made before is taken again."""
    made: dict[tuple[str, ...], Ran] = {}

    def of(recipe: str, *beside: str) -> Ran:
        if (recipe, *beside) not in made:
            made[recipe, *beside] = ran(recipe, f"every-key-{len(made)}", *beside)
        return made[recipe, *beside]

    return of


def key_of(change: str | tuple[str, ...]) -> str:
    return (change if isinstance(change, str) else change[0]).partition("=")[0]


@pytest.mark.parametrize(
    ("recipe", "change", "look", "before", "after"),
    [pytest.param(recipe, *case, id=f"{study}-{key_of(case[0])}")
     for study, recipe, cases in (("phone", PHONE, ON_PHONE), ("lines", NEW, ON_NEW)) for case in cases],
)  # fmt: skip
def test_another_value_of_a_key_makes_the_difference_that_it_should(
    in_project: Path, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., Ran],
    recipe: str, change: str | tuple[str, ...], look: Look, before: Any, after: Any,
) -> None:  # fmt: skip
    monkeypatch.setitem(STUDIES, "two_parts", two_parts)
    mine, *beside = (change,) if isinstance(change, str) else change
    if mine.startswith("model.base="):
        ran(NEW, "every-key-base")
    was = unchanged(recipe, *beside)
    now = ran(recipe, f"every-key-{re.sub('[^a-z_]+', '-', key_of(change))}-{len(recipe)}", *beside, mine)
    if before is DIFFERENT:
        assert look(now) != look(was)
    else:
        assert (look(was), look(now)) == (before, after)
    if key_of(change) in ONLY_WATCH or mine.startswith("wandb."):
        assert now.weights == was.weights


def test_no_key_is_left_out() -> None:
    fields = tables()
    keys = {(*table, key) for table, keys in fields.items() for key in keys} - (fields.keys() - {("lora",)})
    keys = keys - {("stage",), ("data",)} | {
        ("data", key) for study in STUDIES for key in data_model(study).model_fields
    }
    shown = {general(tuple(key_of(case[0]).split("."))) for case in ON_PHONE + ON_NEW}
    assert shown == keys
    for study, cases in (("phone", ON_PHONE), ("lines", ON_NEW)):
        own = {key_of(case[0]) for case in cases}
        assert {f"data.{key}" for key in data_model(study).model_fields} - {"data.seed"} <= own
