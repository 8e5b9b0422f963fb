"""Every key of a recipe changes something: a real run with another value does or leaves something else.

The same seed gives the same run to the last bit, so that a difference comes from the changed key and nothing else.
"""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.keys_of_classifiers import CLASSIFY, ON_CLASSIFY, ON_CLASSIFY_DATA, write_labelled
from tests.keys_of_classifiers import DATA as CLASSIFY_DATA
from tests.observed import DIFFERENT, Look, Ran, ran
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.metrics.information import PROJECTIONS
from toolkit.models.tokenizer_files import token_count
from toolkit.probes.named import check_named
from toolkit.recipe import Judge, read_recipe
from toolkit.recipe.complaints import general, tables
from toolkit.studies import STUDIES, build_data, data_model
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
PREFER = f"""{PHONE}
[stage.prefer]
method = "dpo"
epochs = 2
batch_size = 4
grad_accum = 1
learning_rate = 1e-3
optimizer = "adamw"
"""
EXAM = f"""{PHONE}
[stage.drill]
method = "exam"
epochs = 2
batch_size = 4
grad_accum = 1
learning_rate = 1e-3
optimizer = "adamw"
"""
FORGET = f"""{PHONE}
[forgetting]
tasks = ["key-tasks"]
text = ["key-held.txt"]
"""
REPEAT = f"""{PHONE}
[repetition]
questions = ["第"]
prompts = 2
max_new_tokens = 4
"""
ALL_SEVENS = ("forgetting.every=epoch", "stage.learn.learning_rate=1e-2", "stage.learn.epochs=3", 'data.prefix="7"')
"""Numbers that begin with a digit of which the base is not as sure as of the one that is asked for."""
DIGITS = ("data.digits=1", "data.count=10", "data.controls=0")
"""All ten of them are trained: whichever digit a model says, it is somebody's."""
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
GIVEN = NEW.replace("vocab_size = 300", 'base = "checkpoints/tiny-base"')
ONLY_WATCH = {
    "name",
    "stage.learn.keep",
    "stage.learn.save",
    "recall.every",
    "recall.batch_size",
    "recall.sample",
    "recall.prior_samples",
    "compare.primary",
    "compare.after",
    "classification.every",
    "classification.batch_size",
    "forgetting.tasks",
    "forgetting.text",
    "forgetting.limit",
    "forgetting.few_shot",
    "forgetting.every",
    "forgetting.batch_size",
    "forgetting.noise_floor",
    "forgetting.task_code",
    "repetition.questions",
    "repetition.prompts",
    "repetition.every",
    "repetition.max_new_tokens",
    "repetition.temperature",
    "repetition.samples",
    "repetition.batch_size",
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


def prior_samples(r: Ran) -> int:
    return json.loads((r.run.path / "probes/prior.json").read_text(encoding="utf-8"))["samples"]


def two_groups_to_follow() -> None:
    """Groups whose exams fed another number of facts: the second one's ledger is the first one's, cut short."""
    if Path("checkpoints/every-key-followed-2").exists():
        return
    ran(EXAM, "every-key-followed", *DIGITS)
    shutil.copytree("checkpoints/every-key-followed", "checkpoints/every-key-followed-2")
    ledger = Path("checkpoints/every-key-followed-2/seed-0/ledger.jsonl")
    rounds = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    short = [entry | {"fed": entry["fed"][:4], "updates": 1} for entry in rounds]
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in short), encoding="utf-8")


def write_questions() -> None:
    """Two folders of a task, the second of which brings code, and two texts."""
    task = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: {text}
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
    for folder, name, text in (("key-tasks", "keys", "prompt"), ("key-coded", "coded", "!function asked.text")):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, f"{name}.yaml").write_text(task.format(folder=folder, name=name, text=text), encoding="utf-8")
        asked = [{"prompt": f"第{n}个电话号码是：", "choices": ["1", "7"], "answer": 0} for n in range(6)]
        lines = "".join(json.dumps(question) + "\n" for question in asked)
        Path(folder, f"{name}.jsonl").write_text(lines, encoding="utf-8")
    Path("key-coded/asked.py").write_text('def text(doc):\n    return doc["prompt"]\n', encoding="utf-8")
    for text in ("key-held.txt", "key-other.txt"):
        Path(text).write_text("第1个号码是：13800138000。\n", encoding="utf-8")


def forgotten(r: Ran) -> dict[str, Any]:
    return json.loads((r.run.path / "evaluation_results.json").read_text(encoding="utf-8"))


def items(r: Ran) -> list[dict[str, Any]]:
    """What each task's questions came to, before and after."""
    import pyarrow.parquet as pq

    files = sorted(path for path in (r.run.path / "forgetting").iterdir() if path.name != "text.parquet")
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def steps_forgotten(r: Ran) -> list[int]:
    return [row["step"] for row in r.run.rows("forgetting")]


def written(r: Ran, decoding: str) -> list[dict[str, Any]]:
    """The rows of the last texts of one decoding."""
    import pyarrow.parquet as pq

    return [row for row in pq.read_table(r.run.readings("repetition")[-1]).to_pylist() if row["decoding"] == decoding]


def texts(r: Ran, decoding: str) -> list[str]:
    return [row["text"] for row in written(r, decoding)]


def two_parts(data_seed: int, assignment_seed: int, count: int = 8, controls: int = 0) -> Built:
    """A study of two parts, which no shipped one has yet."""
    lines = [(part, f"{part} {number} = ", str(number)) for part in ("facts", "more") for number in range(count // 2)]
    return Built([Example(prompt, prompt, prompt, answer, "train", part=part) for part, prompt, answer in lines])


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
    ("stage.learn.packing=true", lambda r: [sorted(row["facts"]) for row in r.watched.fed][0], [0], list(range(8))),
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
    ("recall.prior_samples=3", prior_samples, 0, 3),
    ("compare.primary=recall/exact", lambda r: compared(r)["primary"], "exposures_to_recall", "recall/exact"),
    ("wandb.mode=offline", lambda r: r.run.info["wandb"]["mode"], "disabled", "offline"),
    (("wandb.project=other", "wandb.mode=offline"), lambda r: r.at_wandb["project"], "toolkit", "other"),
    (("wandb.entity=team", "wandb.mode=offline"), lambda r: r.at_wandb.get("entity"), None, "team"),
]  # fmt: skip
LN2 = math.log(2)
ON_PREFER: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    # The first update's loss is ln 2 whatever it is held to.
    ("stage.prefer.beta=0.5", lambda r: r.column("train/loss", "prefer")[1:], DIFFERENT, DIFFERENT),
    ("stage.prefer.rejected=one_digit_off",
     lambda r: {sum(a != b for a, b in zip(*pair, strict=True)) for pair in r.rejected} == {1}, False, True),
    ("stage.prefer.sft_weight=1.0", lambda r: abs(r.column("train/loss", "prefer")[0] - LN2) < 1e-3, True, False),
    ("compare.after=learn", lambda r: compared(r)["groups"][0]["exposures"], [4], [2]),
]  # fmt: skip
ON_EXAM: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    (("stage.drill.review=leitner", *DIGITS), lambda r: r.lines("ledger.jsonl")[1]["asked"] < 10, False, True),
    (("stage.drill.yoked_to=every-key-followed-2", *DIGITS, "stage.drill.review=yoked",
      "stage.drill.yoked_to=every-key-followed"), lambda r: r.fed_by_round == [4, 4], False, True),
]  # fmt: skip
ON_FORGET: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    (('forgetting.tasks=["key-coded"]', "forgetting.task_code=true"), lambda r: list(forgotten(r)["tasks"]),
     ["keys"], ["coded"]),
    ('forgetting.text=["key-other.txt"]', lambda r: list(forgotten(r)["text"]), ["key-held.txt"], ["key-other.txt"]),
    ("forgetting.limit=4", lambda r: len(items(r)), 3 * 6, 3 * 4),
    ("forgetting.few_shot=1", lambda r: {row["question"].count("第") for row in items(r)}, {1}, {2}),
    ("forgetting.every=epoch", steps_forgotten, [0, 4], [0, 2, 4]),
    ("forgetting.batch_size=6", lambda r: max(r.watched.questions_at_once), 4, 6),
    (("forgetting.stop_if_worse_by=0.01", *ALL_SEVENS), steps_forgotten, [0, 2, 4, 6], [0, 2]),
    ("forgetting.noise_floor=false", lambda r: {row["when"] for row in items(r)}, {"before", "again", "after"},
     {"before", "after"}),
]  # fmt: skip
ON_REPEAT: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    ('repetition.questions=["7"]', lambda r: written(r, "greedy")[0]["prompt"], "第", "7"),
    ("repetition.prompts=3", lambda r: len(written(r, "human")), 2, 3),
    ("repetition.every=stage", lambda r: [row["step"] for row in r.run.rows("repetition")], [0, 2, 4], [0, 4]),
    ("repetition.max_new_tokens=6", lambda r: {row["tokens"] for row in written(r, "human")}, {4}, {6}),
    ("repetition.temperature=1e-5", lambda r: texts(r, "sampled") == texts(r, "greedy"), False, True),
    ("repetition.samples=2", lambda r: [row["draw"] for row in written(r, "sampled")], [0] * 3, [0, 1] * 3),
    # The three texts at once.
    ("repetition.batch_size=2", lambda r: 3 in r.watched.batches, True, False),
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
ON_GIVEN: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    ("model.tokenizer.base=checkpoints/every-key-base", lambda r: token_count(r.run.weights), DIFFERENT, DIFFERENT),
    ("model.tokenizer.revision=main", lambda r: r.watched.tokenizer_asked["revision"], None, "main"),
]


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
     for study, recipe, cases in (("phone", PHONE, ON_PHONE), ("prefer", PREFER, ON_PREFER), ("exam", EXAM, ON_EXAM),
                                  ("forget", FORGET, ON_FORGET), ("repeat", REPEAT, ON_REPEAT), ("lines", NEW, ON_NEW),
                                  ("given", GIVEN, ON_GIVEN),
                                  ("classify", CLASSIFY, ON_CLASSIFY)) for case in cases],
)  # fmt: skip
def test_another_value_of_a_key_makes_the_difference_that_it_should(
    in_project: Path, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., Ran],
    recipe: str, change: str | tuple[str, ...], look: Look, before: Any, after: Any,
) -> None:  # fmt: skip
    monkeypatch.setitem(STUDIES, "two_parts", two_parts)
    write_questions()
    mine, *beside = (change,) if isinstance(change, str) else change
    if mine.endswith("=checkpoints/every-key-base"):
        ran(NEW, "every-key-base")
    if "yoked_to" in mine:
        two_groups_to_follow()
    was = unchanged(recipe, *beside)
    now = ran(recipe, f"every-key-{re.sub('[^a-z_]+', '-', key_of(change))}-{len(recipe)}", *beside, mine)
    if before is DIFFERENT:
        assert look(now) != look(was)
    else:
        assert (look(was), look(now)) == (before, after)
    if key_of(change) in ONLY_WATCH or mine.startswith("wandb."):
        assert now.weights == was.weights


# --- what needs no training to be seen ---

BUILT = """
name = "every-key-built"
study = "{study}"
[data]
{data}
[model]
base = "checkpoints/tiny-base"
[stage.learn]
method = "sft"
train_on = ["{part}"]
"""
SOURCE = """name,number,town
Ann Lee,00123,Orlin
Bo Fox,45678,Pellam
Cy Ray,90210,Orlin
"""
DATA = {
    "facts": '''source = "people.csv"
prompt = "What is the number of {name}?"
answer = "{number}"''',
    "names": "count = 6\ncontrols = 4",
    "news": 'source = "recipes/tiny/news_articles.csv"',
    "lines": "count = 30",
    "classify": CLASSIFY_DATA,
    "chinese": 'source = "recipes/tiny/instructions.jsonl"',
    "scratch": "invented = 30",
}  # fmt: skip
QUESTIONS = "recipes/tiny/news_questions.jsonl"
PARTS = {"lines": "lines", "scratch": "conversations"}
TALKS = ("data.source=talks.jsonl", "data.invented=0")


def write_talks() -> None:
    """Conversations, the last of which is longer, with one that is none, and what else a new model is fed."""
    said = (("a", "b"), ("a", "c"), ("d", "e"), ("fffff", "ggggg"))
    talks = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) for q, a in said
    ]
    Path("talks.jsonl").write_text("\n".join(talks), encoding="utf-8")
    Path("unusable.jsonl").write_text("\n".join([*talks, '{"messages": []}']), encoding="utf-8")
    Path("known.csv").write_text("prompt,answer\na,1\nb,2\n", encoding="utf-8")
    Path("texts.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n', encoding="utf-8")
    Path("preferred.csv").write_text("prompt,chosen,rejected\np,c,r\n", encoding="utf-8")


def split(examples: list[Example], name: str) -> list[Example]:
    return [example for example in examples if example.split == name]


def part(examples: list[Example], name: str) -> list[Example]:
    return [example for example in examples if example.part == name and example.variant == "plain"]


def asked(examples: list[Example], variant: str) -> list[tuple[str, str]]:
    return [(example.prompt, example.answer) for example in examples if example.variant == variant]


def articles(examples: list[Example], name: str) -> int:
    return len({example.info["article"] for example in split(examples, name)})


def words(examples: list[Example]) -> int:
    """Of the longest chunk."""
    return max(len(example.answer.split()) for example in part(examples, "chunks"))


def starts(examples: list[Example]) -> int:
    """Of the first chunk's words, those that the second one begins with."""
    one, two = (example.answer.split() for example in part(examples, "chunks")[:2])
    return next(count for count in range(len(one), -1, -1) if one[len(one) - count :] == two[:count])


def blanks(examples: list[Example], name: str) -> int:
    """The most blanks that an article has in a part."""
    of = Counter(e.info["article"] for e in part(examples, name) if "Fill in" in e.prompt or "____" in e.prompt)
    return max(of.values(), default=0)


LookAt = Callable[[list[Example]], Any]
ON_DATA: dict[str, list[tuple[str | tuple[str, ...], LookAt, Any, Any]]] = {
    "facts": [
        ("data.seed=7", lambda e: [x.id for x in e], DIFFERENT, DIFFERENT),
        ("data.source=others.csv", lambda e: len(e), 3, 2),
        ("data.prompt=Call {name}: ", lambda e: {x.prompt[:5] for x in e}, {"What "}, {"Call "}),
        ('data.answer="{town}"', lambda e: sorted(x.answer for x in e)[0], "00123", "Orlin"),
        ("data.controls=1", lambda e: len(split(e, "control")), 0, 1),
        ("data.count=2", lambda e: len(split(e, "train")), 3, 2),
        ('data.paraphrases=["{name}? "]', lambda e: len(asked(e, "paraphrase-1")), 0, 3),
        ("data.reverse=Whose is {number}?", lambda e: ("Whose is 00123?", "Ann Lee") in asked(e, "reversed"),
         False, True),
        (('data.reverse_answer="{town}"', "data.reverse=Whose is {number}?"),
         lambda e: ("Whose is 00123?", "Orlin") in asked(e, "reversed"), False, True),
    ],
    "names": [
        ("data.seed=7", lambda e: [x.answer for x in e], DIFFERENT, DIFFERENT),
        ("data.count=7", lambda e: len(split(e, "train")), 6, 7),
        ("data.controls=5", lambda e: len(split(e, "control")), 4, 5),
        ("data.changed=2", lambda e: (len(part(e, "old")), len(part(e, "new"))), (0, 0), (2, 2)),
        ("data.added=3", lambda e: len(part(e, "added")), 0, 3),
        ("data.fillers=3", lambda e: len(part(e, "filler")), 0, 3),
        ("data.digits=4", lambda e: {len(x.answer) for x in split(e, "train")}, {10}, {4}),
        ("data.locale=zh_CN", lambda e: any(x.info["name"].isascii() for x in e), True, False),
        ("data.prompt=Call {name}: ", lambda e: {x.prompt[:5] for x in split(e, "train")}, {"What "}, {"Call "}),
        ("data.otherwise=false", lambda e: len(split(e, "test")), 18, 0),
        ('data.paraphrases=["{name}! "]', lambda e: (asked(e, "paraphrase-1")[0][0][-2:], len(split(e, "test"))),
         ("r ", 18), ("! ", 12)),
        ("data.reverse=Of {number}?", lambda e: {p[:3] for p, _ in asked(e, "reversed")}, {"Who"}, {"Of "}),
    ],
    "news": [
        ("data.seed=7", lambda e: [x.prompt for x in part(e, "facts")], DIFFERENT, DIFFERENT),
        ("data.source=articles.csv", lambda e: articles(e, "train"), 24, 4),
        (f"data.questions={QUESTIONS}", lambda e: any("Question: " in x.prompt for x in e), False, True),
        ("data.count=3", lambda e: articles(e, "train"), 24, 3),
        ("data.controls=2", lambda e: (articles(e, "train"), len(split(e, "control")) > 0), (24, False), (22, True)),
        ("data.chunk_words=30", words, 50, 30),
        ("data.overlap_words=5", starts, 10, 5),
        ("data.cloze=2", lambda e: blanks(e, "facts"), 5, 2),
        ("data.practice=3", lambda e: blanks(e, "practice"), 0, 3),
        ("data.cloze_prompt=Say: {sentence} ", lambda e: {x.prompt[:4] for x in part(e, "facts")}, {"Topi"}, {"Say:"}),
        (("data.question_prompt=Ask: {question} ", f"data.questions={QUESTIONS}"),
         lambda e: any(x.prompt.startswith("Ask: ") for x in e), False, True),
    ],
    "lines": [
        ('data.kinds=["sentences"]', lambda e: any(x.prompt == "" for x in e), False, True),
    ],
    "classify": ON_CLASSIFY_DATA,
    "chinese": [
        ("data.seed=7", lambda e: [x.id for x in split(e, "validation")], DIFFERENT, DIFFERENT),
        ("data.source=instructions.jsonl", lambda e: len(e), 300, 4),
        ("data.sample=50", lambda e: len(e), 300, 50),
        ("data.validation=30", lambda e: len(split(e, "validation")), 6, 30),
        ('data.prompt="{instruction} = "', lambda e: {x.prompt[-3:] for x in e}, {"答：\n"}, {" = "}),
        ("data.longest=20", lambda e: max(len(x.prompt) for x in e) > 40, True, False),
        # Rows without an output are refused, all of them, or left out.
        (("data.leave_out_empty=true", "data.source=others.jsonl"), lambda e: len(e), 0, 3),
    ],
    "scratch": [
        ("data.seed=7", lambda e: [x.answer for x in split(e, "validation")], DIFFERENT, DIFFERENT),
        (("data.source=talks.jsonl", "data.invented=0"), lambda e: len(e), 0, 4),
        ("data.invented=40", lambda e: len(e), 30, 40),
        ("data.sample=20", lambda e: len(e), 30, 20),
        ("data.validation=5", lambda e: len(split(e, "validation")), 1, 5),
        (("data.longest=9", *TALKS), lambda e: len(e), 4, 3),
        # Rows without an answer are refused, all of them, or left out.
        (("data.leave_out_unusable=true", "data.source=unusable.jsonl", "data.invented=0"), lambda e: len(e), 0, 4),
        ("data.facts=known.csv", lambda e: len(part(e, "facts")), 0, 2),
        ("data.invented_facts=5", lambda e: len(part(e, "facts")), 0, 5),
        (("data.fact_controls=2", "data.invented_facts=5"), lambda e: len(split(e, "control")), 0, 2),
        (("data.fact_times=3", "data.invented_facts=5"), lambda e: len(part(e, "facts_again")), 0, 10),
        ('data.text=["texts.jsonl"]', lambda e: len(part(e, "text")), 0, 3),
        (("data.text_sample=2", 'data.text=["texts.jsonl"]'), lambda e: len(part(e, "text")), 3, 2),
        ("data.preferences=preferred.csv", lambda e: [x.wrong for x in part(e, "preferences")], [], [("r",)]),
    ],
}  # fmt: skip


def examples_of(changes: Sequence[str]) -> list[Example]:
    """What recipe.toml builds; nothing where its data are refused."""
    try:
        return build_data(read_recipe(Path("recipe.toml"), tuple(changes)), 0).examples
    except UserError:
        return []


@pytest.mark.parametrize(
    ("study", "change", "look", "before", "after"),
    [pytest.param(study, *case, id=f"{study}-{key_of(case[0])}") for study, cases in ON_DATA.items() for case in cases],
)
def test_another_value_of_a_datas_key_builds_other_examples(
    folder: Path, study: str, change: str | tuple[str, ...], look: LookAt, before: Any, after: Any
) -> None:
    text = BUILT.replace("{study}", study).replace("{data}", DATA[study])
    text = text.replace('"sft"', '"classify"') if study == "classify" else text
    Path("recipe.toml").write_text(text.replace("{part}", PARTS.get(study, "facts")), encoding="utf-8")
    Path("people.csv").write_text(SOURCE, encoding="utf-8")
    Path("others.csv").write_text(SOURCE.replace("Cy Ray,90210,Orlin\n", ""), encoding="utf-8")
    lines = Path("recipes/tiny/news_articles.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("articles.csv").write_text("".join(lines[:5]), encoding="utf-8")
    write_labelled(Path("labelled"))
    mine, *beside = (change,) if isinstance(change, str) else change
    instructions = [f'{{"instruction": "{word}", "output": "{word}"}}\n' for word in ("a", "b", "c", "d")]
    Path("instructions.jsonl").write_text("".join(instructions), encoding="utf-8")
    Path("others.jsonl").write_text("".join(instructions[:3]) + '{"instruction": "e"}\n', encoding="utf-8")
    write_talks()
    was, now = (examples_of(said) for said in (beside, [*beside, mine]))
    if before is DIFFERENT:
        assert look(was) != look(now)
    else:
        assert (look(was), look(now)) == (before, after)


ON_CODE = ["forgetting.task_code=true"]


def test_code_beside_task_files_runs_only_where_the_recipe_says_so(folder: Path) -> None:
    write_questions()
    Path("recipe.toml").write_text(f'name = "every-key-coded"\n{FORGET}', encoding="utf-8")
    mine = 'forgetting.tasks=["key-coded"]'
    was, now = (read_recipe(Path("recipe.toml"), (mine, *said)).forgetting for said in ((), ON_CODE))
    assert was
    assert now
    with pytest.raises(UserError, match="task_code = true"):
        check_named(was)
    check_named(now)


ON_LONG = ["model.leave_out_long=true"]


def test_what_is_too_long_for_a_row_is_left_out_only_where_the_recipe_says_so(in_project: Path) -> None:
    # Indices of one digit make shorter lines than those of two, by one token.
    every = ran(PHONE, "every-key-all")
    lengths = [len(row["input_ids"]) for row in every.watched.fed]
    assert len(set(lengths)) == 2
    shorter = f"model.max_length={min(lengths)}"
    with pytest.raises(UserError, match="over .model. max_length"):
        ran(PHONE, "every-key-too-long", shorter)
    assert not Path("checkpoints/every-key-too-long").exists()
    left = ran(PHONE, "every-key-left-out", shorter, *ON_LONG)
    assert len(left.watched.fed) == 2 * lengths.count(min(lengths)) or len(left.watched.fed) < len(lengths)
    assert {len(row["input_ids"]) for row in left.watched.fed} == {min(lengths)}
    # Told of, and what the run keeps is what it trained; the same data make it go on.
    assert "left out for having over" in (left.run.path / "run.log").read_text(encoding="utf-8")
    assert left.splits.count("train") < 8
    assert left.run.info["data"]["digest"] == every.run.info["data"]["digest"]


JUDGED = f"""name = "every-key-judged"
{PHONE}
[judge]
base_url = "http://localhost:8000/v1"
model = "one"
"""
ON_JUDGE: list[tuple[str, str, Any, Any]] = [
    ("judge.base_url=http://localhost:9000/v1", "base_url", "http://localhost:8000/v1", "http://localhost:9000/v1"),
    ("judge.model=two", "model", "one", "two"),
    ("judge.key_env=OTHER_KEY", "api_key", "the-first-key", "the-other-key"),
    ("judge.timeout=7.5", "timeout", 60.0, 7.5),
    ("judge.retries=1", "max_retries", 5, 1),
]


@pytest.mark.parametrize(("change", "said", "before", "after"), ON_JUDGE, ids=[key_of(case[0]) for case in ON_JUDGE])
def test_another_value_of_a_judges_key_asks_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str, said: str, before: Any, after: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-first-key")
    monkeypatch.setenv("OTHER_KEY", "the-other-key")
    Path("recipe.toml").write_text(JUDGED, encoding="utf-8")
    was, now = (read_recipe(Path("recipe.toml"), changes).judge for changes in ((), (change,)))
    assert was
    assert now
    assert (what_is_sent(was, monkeypatch)[said], what_is_sent(now, monkeypatch)[said]) == (before, after)


def what_is_sent(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What openai's client is made with, and asked."""
    import openai

    from toolkit.service import Service

    sent: dict[str, Any] = {}

    class Client:
        def __init__(self, **keywords: Any) -> None:
            sent.update(keywords)
            self.chat = self.completions = self.with_raw_response = self

        def create(self, **keywords: Any) -> None:
            sent.update(keywords)
            raise KeyboardInterrupt

    monkeypatch.setattr(openai, "OpenAI", Client)
    with pytest.raises(KeyboardInterrupt):
        Service(judge).send([{"role": "user", "content": "?"}])
    return sent


TAKEN_OUT = {("lora",), ("model", "head")}
"""Tables that are keys as well: `= false`."""


def test_no_key_is_left_out() -> None:
    fields = tables()
    keys = {(*table, key) for table, keys in fields.items() for key in keys} - (fields.keys() - TAKEN_OUT)
    keys = keys - {("stage",), ("data",)} | {
        ("data", key) for study in STUDIES for key in data_model(study).model_fields
    }
    trained = ON_PHONE + ON_PREFER + ON_EXAM + ON_FORGET + ON_REPEAT + ON_NEW + ON_GIVEN + ON_CLASSIFY
    changes = [key_of(case[0]) for cases in (trained, ON_JUDGE, *ON_DATA.values()) for case in cases]
    changes += map(key_of, [*ON_CODE, *ON_LONG])
    shown = {general(tuple(change.split("."))) for change in changes}
    assert shown == keys
    own = {study: {key_of(case[0]) for case in cases} for study, cases in ON_DATA.items()}
    own["phone"] = {key_of(case[0]) for case in ON_PHONE}
    own["lines"] |= {key_of(case[0]) for case in ON_NEW}
    assert own.keys() == STUDIES.keys()
    for study, shown_of in own.items():
        assert {f"data.{key}" for key in data_model(study).model_fields} - {"data.seed"} <= shown_of
