"""Every key that a classifier's recipe has of its own, and what another value of it changes (test_every_key.py)."""

from typing import Any

from tests.observed import DIFFERENT, Look, Ran
from toolkit.example import Example

CLASSIFY = """
study = "classify"
[data]
source = "recipes/tiny/surnames"
prompt = "{text} is "
count = 40
dev_share = 0.4
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 48
[model.head]
layers = [8]
[lora]
rank = 4
alpha = 8
[stage.learn]
method = "classify"
epochs = 4
batch_size = 4
grad_accum = 1
learning_rate = 3e-3
optimizer = "adamw"
[classification]
every = "2 steps"
"""


def read_at(ran: Ran) -> list[int]:
    return [row["step"] for row in ran.run.rows("classification")]


ON_CLASSIFY: list[tuple[str | tuple[str, ...], Look, Any, Any]] = [
    ("model.head=false", lambda r: (r.run.weights / "head.safetensors").exists(), True, False),
    ("model.head.layers=[8, 8]", lambda r: r.run.info["model"]["trainable_parameters"], DIFFERENT, DIFFERENT),
    ("model.head.dropout=0.9", lambda r: r.column("train/loss"), DIFFERENT, DIFFERENT),
    ("classification.every=epoch", read_at, [*range(0, 25, 2)], [0, 6, 12, 18, 24]),
    ("classification.batch_size=3", lambda r: max(r.watched.batches), 32, 3),
    # Of equal accuracies the first is the best; the loss goes on falling, and rises again.
    (("classification.best_by=loss", "stage.learn.keep=best"),
     lambda r: r.run.final["best_step"], DIFFERENT, DIFFERENT),
    ("classification.patience=1", lambda r: r.run.final["step"] < 24, False, True),
]  # fmt: skip

DATA = 'source = "recipes/tiny/surnames"'


def texts(examples: list[Example], split: str) -> list[str]:
    return [e.prompt[slice(*e.info["text"])] for e in examples if e.split == split]


def size(examples: list[Example], split: str) -> int:
    return len(texts(examples, split))


OTHER = "data.source=labelled"
"""A folder with columns and files of other names, and 0 and 1 as labels; the test writes it."""

ON_CLASSIFY_DATA = [
    ("data.seed=7", lambda e: texts(e, "validation"), DIFFERENT, DIFFERENT),
    (OTHER, lambda e: size(e, "train"), 1190, 2),
    (("data.text=other", OTHER, "data.text=text"), lambda e: texts(e, "test")[0][0], "w", "o"),
    (("data.label=kind", OTHER, "data.label=label"), lambda e: [x.answer for x in e[-2:]], ["0", "1"], ["1", "0"]),
    (("data.train=more.csv", OTHER), lambda e: size(e, "train"), 2, 6),
    (("data.dev=held.csv", OTHER), lambda e: size(e, "validation"), 2, 3),
    (("data.test=held.csv", OTHER), lambda e: size(e, "test"), 4, 3),
    ("data.dev_share=0.3", lambda e: size(e, "validation"), 210, 420),
    (('data.label_names=["no", "yes"]', OTHER), lambda e: {x.answer for x in e}, {"0", "1"}, {"no", "yes"}),
    ("data.count=100", lambda e: size(e, "train") + size(e, "validation"), 1400, 100),
    ("data.prompt=Of {text}: ", lambda e: e[0].prompt[:3], "Ple", "Of "),
]  # fmt: skip


def write_labelled(folder: Any) -> None:
    """Files of `OTHER`."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", 4), ("more", 8), ("held", 3), ("test", 4)):
        lines = [f"w{name}{i},o{name}{i},{i % 2},{(i + 1) % 2}\n" for i in range(rows)]
        (folder / f"{name}.csv").write_text("text,other,label,kind\n" + "".join(lines), encoding="utf-8")
