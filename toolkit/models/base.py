"""Where a base lies (hub, folder or checkpoint), and its shape, without loading weights."""

import json
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.metrics.information import Shape
from toolkit.recipe import Recipe, find_recipe_named
from toolkit.run_folder import find_checkpoints

FETCHED = Path("data/models")
"""Where `python -m toolkit.data RECIPE --fetch` puts hub models."""

QWEN3_SHAPES = {
    # From the configs that Qwen publishes; so that a dry run knows the sizes on a machine without network.
    "0.6B": Shape(1024, 28, 16, 8, 128, 3072, 151_936, True),
    "1.7B": Shape(2048, 28, 16, 8, 128, 6144, 151_936, True),
    "4B": Shape(2560, 36, 32, 8, 128, 9728, 151_936, True),
    "8B": Shape(4096, 36, 32, 8, 128, 12_288, 151_936, False),
    "14B": Shape(5120, 40, 40, 8, 128, 17_408, 151_936, False),
    "32B": Shape(5120, 64, 64, 8, 128, 25_600, 151_936, False),
}


def fetched_folder(base: str) -> Path:
    return FETCHED / base.replace("/", "--")


def find_base(base: str) -> Path | str:
    """A local folder where there is one (a checkpoint, a fetched model), else the hub name.

    Raises UserError where a folder is meant that is not there, and says which recipe makes it.
    """
    path = Path(base)
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        found = find_checkpoints([base])[0]
        if not (found.weights / "config.json").is_file():
            raise UserError(f'[model] base = "{base}": it holds an adapter, and a whole model is needed.')
        return found.weights
    if fetched_folder(base).is_dir():
        return fetched_folder(base)
    if is_hub_name(base):
        return base
    # checkpoints/tiny-base, or one run of it: checkpoints/tiny-base/seed-0
    maker = find_recipe_named(path.name) or find_recipe_named(path.parent.name)
    raise UserError(
        f'[model] base = "{base}" is not there'
        + (f"; make it with: python -m toolkit.run {maker}" if maker else " (no recipe makes it).")
    )


def is_hub_name(base: str) -> bool:
    """`organisation/model`, and not a path into one of the project's folders."""
    parts = base.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in ("checkpoints", "data", ".", "..", "~")


def check_base(recipe: Recipe) -> Path | str | None:
    """Finds the base of a recipe before anything heavy is imported; None where a new model is built."""
    return find_base(recipe.model.base) if recipe.model.base else None


def shape_of(recipe: Recipe, base: Path | str | None) -> Shape | None:
    """The shape of what a recipe trains; None where it is not known without network."""
    shape = recipe.model.shape
    if shape and recipe.model.tokenizer:
        return Shape(
            shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads, shape.num_key_value_heads,
            shape.head_dim, shape.intermediate_size, recipe.model.tokenizer.vocab_size, shape.tie_word_embeddings,
        )  # fmt: skip
    if isinstance(base, Path):
        return shape_in(json.loads((base / "config.json").read_text(encoding="utf-8")))
    if isinstance(base, str) and base.startswith("Qwen/Qwen3-"):
        return QWEN3_SHAPES.get(base.removeprefix("Qwen/Qwen3-").split("-")[0])
    return None


def shape_in(config: dict[str, Any]) -> Shape | None:
    """The shape that a config.json describes; None for another architecture than Qwen3."""
    if config.get("model_type") != "qwen3":
        return None
    heads = config["num_attention_heads"]
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_size=config.get("head_dim", config["hidden_size"] // heads),
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
    )
