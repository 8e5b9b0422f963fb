"""The toolkit's way from a recipe to an adapter on one of Unsloth's backends, and what it met there.

    python -m tests.gpu_path.walk cpu FOLDER     # the CPU backend, on which the other tests run; makes the base too
    python -m tests.gpu_path.walk gpu FOLDER     # the GPU path's code on CPU tensors

Writes <backend>.json and <backend>.safetensors (gradients) into the folder, beside the runs that it trains there.
"""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.conftest import run

BASE = (
    "data.count=1500",
    "model.shape.hidden_size=64",
    "model.shape.num_hidden_layers=2",
    "model.shape.num_attention_heads=2",
    "model.shape.num_key_value_heads=1",
    "model.shape.intermediate_size=128",
    "stage.pretrain.epochs=10",
    "recall.sample=4",
)
RECIPE = "recipes/tiny/groupA.toml"
STUDY = (
    "data.count=6",
    "data.controls=6",
    "data.digits=3",
    # Through an interpreter every question more costs seconds.
    "data.paraphrases=[]",
    'data.reverse=""',
    "lora.rank=8",
    "lora.alpha=16",
    "stage.learn.epochs=1",
    "stage.learn.batch_size=2",
    "stage.learn.learning_rate=1e-2",
    "recall.every=stage",
)
"""Three updates, a reading before and one after them: the interpreter takes seconds for each."""
LATER = """
extends = "recipes/tiny/groupA.toml"
[stage.prefer]
method = "dpo"
sft_weight = 0.5
epochs = 1
batch_size = 3
grad_accum = 1
learning_rate = 1e-3
optimizer = "adamw"
[stage.drill]
method = "exam"
epochs = 1
batch_size = 3
grad_accum = 1
learning_rate = 1e-2
optimizer = "adamw"
[forgetting]
tasks = ["abilities"]
text = ["held_out.txt"]
batch_size = 2
noise_floor = false
"""
"""The other trainers, on a model that has learned a little: two updates each, and what is forgotten meanwhile."""
ABILITIES = """
task: digits
dataset_path: json
dataset_kwargs: {data_files: {test: abilities/digits.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: 0
metric_list: [{metric: acc}]
"""
QUESTIONS = [
    {"prompt": "第7个电话号码是：", "choices": ["123", "9a", "码"]},
    {"prompt": "The number of entry 12 is", "choices": [" 55", " is is", "?"]},
]
HELD_OUT = "第9个电话号码是：4471\nThe number of entry 3 is 8850.\n"
CLASSIFIER = """
study = "classify"
[data]
source = "names"
prompt = "{text}: "
dev_share = 0.4
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 32
[model.head]
layers = [16]
dropout = 0.0
[lora]
rank = 8
alpha = 16
[stage.learn]
method = "classify"
epochs = 1
batch_size = 3
grad_accum = 1
learning_rate = 1e-2
optimizer = "adamw"
[classification]
every = "stage"
"""
"""Two updates of a head on the backbone; texts of several lengths, so that there is padding."""
NAMES = {
    "train": "text,label\nVesterinen,fi\nBo,nl\nAho,fi\nvan der Berg,nl\nKorhonen,fi\nVos,nl\nVirta,fi\nde Wit,nl\n"
    "Mäkelä,fi\nDekker,nl\n",
    "test": "text,label\nLaaksonen,fi\nKok,nl\nSalo,fi\nvan Leeuwen,nl\n",
}
SEEDS = "0,1"
"""The second one starts on the base from which the first one's adapter was taken off."""


def main(backend: str, folder: Path) -> None:
    os.chdir(folder)
    os.environ["WANDB_MODE"] = "disabled"
    launches: dict[str, int] = {}
    if backend == "gpu":
        from tests.gpu_path.stand_in import launches  # also opens the engine, with everything in its place

        # As most GPUs have it: Unsloth's trainers would then take it for float32 training too. Imported behind it.
        setattr(sys.modules["unsloth_zoo.device_type"], "device_is_bf16_supported", lambda *_, **__: True)  # noqa: B010
    from toolkit.models import open_engine

    engine = open_engine("unsloth")
    if backend == "cpu":
        run("recipes/tiny/base.toml", *BASE)
    run(RECIPE, f"name={backend}", *STUDY, seeds=SEEDS)
    Path("later.toml").write_text(LATER, encoding="utf-8")
    Path("abilities").mkdir(exist_ok=True)
    Path("abilities/digits.yaml").write_text(ABILITIES, encoding="utf-8")
    lines = [json.dumps(question, ensure_ascii=False) + "\n" for question in QUESTIONS]
    Path("abilities/digits.jsonl").write_text("".join(lines), encoding="utf-8")
    Path("held_out.txt").write_text(HELD_OUT, encoding="utf-8")
    run("later.toml", f"name={backend}-later", *STUDY, seeds="0")
    Path("names").mkdir(exist_ok=True)
    for name, rows in NAMES.items():
        Path(f"names/{name}.csv").write_text(rows, encoding="utf-8")
    Path("classifier.toml").write_text(CLASSIFIER, encoding="utf-8")
    run("classifier.toml", f"name={backend}-classifier", seeds="0")
    model, loss = one_batch(engine)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    met = {
        "runs": [of_run(backend, seed) for seed in SEEDS.split(",")],
        "later": of_run(f"{backend}-later", "0"),
        "classifier": of_classifier(f"{backend}-classifier"),
        "forgotten": of_forgetting(f"{backend}-later"),
        "mixed_precision": mixed_precision_of([backend, f"{backend}-later"]),
        "loss": loss,
        "patches": patches_of(model),
        "forward": type(model.get_base_model()).forward.__name__,
        "trainer": engine.trainer_and_config()[0].__name__,
        "preference_trainer": engine.preference_trainer_and_config()[0].__name__,
        "launches": launches,
    }
    from safetensors.torch import save_file

    save_file(gradients, f"{backend}.safetensors")
    Path(f"{backend}.json").write_text(json.dumps(met, indent=1, ensure_ascii=False), encoding="utf-8")


def of_run(name: str, seed: str) -> dict[str, Any]:
    """What a run logged of its updates, and the rows of its readings."""
    from toolkit.probes.recall import read_reading
    from toolkit.run_folder import run_for

    done = run_for(name, int(seed))
    return {
        "train": done.rows("train"),
        "recall": done.rows("recall"),
        "readings": [read_reading(path) for path in done.readings("recall")],
    }


def of_forgetting(name: str) -> dict[str, Any]:
    """What every reading of tasks and texts said."""
    from toolkit.probes.forgetting import read_items, read_rows_of_text
    from toolkit.run_folder import run_for

    done = run_for(name, 0)
    return {
        "items": [row for path in done.readings("forgetting") for row in read_items(path)],
        "windows": [row for path in done.readings("heldout") for row in read_rows_of_text(path)],
    }


def mixed_precision_of(names: list[str]) -> list[Any]:
    """What autocast every stage was really trained under."""
    from toolkit.run_folder import run_for

    return [stage["mixed_precision"] for name in names for stage in run_for(name, 0).info["stages"].values()]


def of_classifier(name: str) -> dict[str, Any]:
    from toolkit.probes.classification import read_rows
    from toolkit.run_folder import run_for

    done = run_for(name, 0)
    return {"train": done.rows("train"), "readings": [read_rows(path) for path in done.readings()]}


def one_batch(engine: ModuleType) -> tuple[Any, float]:
    """A model after the backward pass of all facts in one padded batch, and their loss.

    With the adapter that the CPU backend trained: an untrained one's second matrices are zero, and with them the
    gradients of the first.
    """
    from toolkit.models.base import find_base
    from toolkit.models.loaded import load_weights
    from toolkit.models.opening import load_base
    from toolkit.recipe import read_recipe
    from toolkit.rendering import pad_token
    from toolkit.run_folder import run_for
    from toolkit.studies import build_data, resolve_data
    from toolkit.training.collator import Collator
    from toolkit.training.rows import prepare_rows

    recipe = resolve_data(read_recipe(Path(RECIPE), STUDY, [0]), RECIPE)
    assert recipe.model.base is not None
    assert recipe.lora is not None
    loaded = load_base(engine, find_base(recipe.model.base), recipe.model, full=False)
    engine.add_lora(loaded, recipe.lora, recipe.model, 0)
    load_weights(loaded, run_for("cpu", 0).weights)
    engine.for_training(loaded.model)
    rows = prepare_rows(loaded.tokenizer, recipe, build_data(recipe, 0), 0)["learn"]
    batch = Collator(pad_token(loaded.tokenizer))(rows)
    assert 0 in batch["attention_mask"], "prompts of one length would not show what padding does"
    del batch["facts"]
    loss = loaded.model(**batch).loss
    loss.backward()
    return loaded.model, loss.item()


def patches_of(model: Any) -> list[str]:
    """What computes queries, keys and values, the output and the feed-forward layer of each block."""
    functions = []
    for layer in model.get_base_model().model.layers:
        attention = layer.self_attn
        functions += [getattr(attention, "apply_qkv", None), getattr(attention, "apply_o", None), layer.mlp.forward]
    return [getattr(function, "__name__", "none") for function in functions]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
