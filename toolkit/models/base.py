"""Where a base or a tokenizer lies (hub, folder or checkpoint), and the model's shape, without loading weights."""

import functools
import hashlib
import re
from pathlib import Path
from typing import Any

from toolkit.checkpoints import find_checkpoints, what_is_there
from toolkit.errors import PROJECT_FOLDERS, UserError, checked_path
from toolkit.metrics.information import Shape
from toolkit.models.files import check_files, holds_adapter, shape_in
from toolkit.models.tokenizer_files import check_tokenizer_files, embedding_rows, holds_tokenizer, token_count
from toolkit.recipe import Model, Recipe, find_recipe_named
from toolkit.stored import Stored, read_json

FETCHED = Path("data/models")
"""Where `python -m toolkit.data RECIPE --fetch` puts hub models."""

FETCHED_TOKENIZERS = Path("data/tokenizers")
"""Where it puts the tokenizers of new models: folders without weights, which no command takes for a model."""

HUB_NAME = re.compile(r"\w([\w.-]*\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)
"""What the hub lets a model be called; it also becomes a folder's name in data/models/."""

FETCHED_NOTE = "fetched.json"
"""What lies beside a fetched model's files, written last."""

QWEN3_SHAPES = {
    # From the configs that Qwen publishes; so that a dry run knows the sizes on a machine without network.
    "0.6B": Shape(1024, 28, 16, 8, 128, 3072, 151_936, True),
    "1.7B": Shape(2048, 28, 16, 8, 128, 6144, 151_936, True),
    "4B": Shape(2560, 36, 32, 8, 128, 9728, 151_936, True),
    "8B": Shape(4096, 36, 32, 8, 128, 12_288, 151_936, False),
    "14B": Shape(5120, 40, 40, 8, 128, 17_408, 151_936, False),
    "32B": Shape(5120, 64, 64, 8, 128, 25_600, 151_936, False),
}


QWEN3_TOKENS = 151_669
"""Entries of the tokenizer that all of them share."""


def fetched_folder(base: str) -> Path:
    return FETCHED / base.replace("/", "--")


def fetched_tokenizer(base: str) -> Path:
    return FETCHED_TOKENIZERS / base.replace("/", "--")


def find_base(base: str) -> Path | str:
    """A local folder where there is one (a checkpoint, a fetched model), else the hub name.

    Raises UserError where a folder is meant that is not there, and says which recipe makes it.
    """
    path = checked_path(base, "[model] base = ")
    if path.is_dir():
        folder = path if (path / "config.json").is_file() else find_checkpoints([base])[0].weights
        # transformers would put an adapter beside a config.json on top, whatever base it names.
        if holds_adapter(folder) or not (folder / "config.json").is_file():
            raise UserError(f'[model] base = "{base}": it holds an adapter, and a whole model is needed.')
        return folder
    if is_hub_name(base):
        return fetched_folder(base) if fetched_folder(base).is_dir() else base
    raise UserError(f'[model] base = "{base}" is not there; {how_to_make(path)}')


def how_to_make(path: Path) -> str:
    """Which recipe makes checkpoints/tiny-base, or what lies in it: checkpoints/tiny-base/seed-0/model."""
    maker = next(filter(None, map(find_recipe_named, path.parts)), None)
    if maker:
        return f"make it with: python -m toolkit.run {maker}"
    hint = what_is_there(path).removeprefix("it is not there; ")
    return f"no recipe makes it. {hint[0].upper()}{hint[1:]}"


def find_tokenizer(base: str) -> Path | str:
    """The folder of a given tokenizer where there is one (a fetched one, a model's or an adapter's), else the hub name.

    Raises UserError where a folder is meant that is not there, or that holds none.
    """
    said = f'[model.tokenizer] base = "{base}"'
    path = checked_path(base, "[model.tokenizer] base = ")
    if path.is_file():
        raise UserError(f"{said} is a file: name the folder that it is in.")
    if path.is_dir():
        if holds_tokenizer(path):
            return path
        try:
            folder = find_checkpoints([base])[0].weights
        except UserError:
            raise UserError(f"{said} has no tokenizer.json, and is no checkpoint.") from None
        if not holds_tokenizer(folder):
            raise UserError(f"{said}: {folder} has no tokenizer.json.")
        return folder
    if is_hub_name(base):
        fetched = (fetched_tokenizer(base), fetched_folder(base))
        return next((folder for folder in fetched if folder.is_dir()), base)
    raise UserError(f"{said} is not there; {how_to_make(path)}")


def check_tokenizer(model: Model) -> Path | str | None:
    """Finds the given tokenizer of a new model, and looks at its files; None where one is trained."""
    if model.tokenizer is None or model.tokenizer.base is None:
        return None
    found = find_tokenizer(model.tokenizer.base)
    if isinstance(found, Path):
        refuse_other_revision(found, model.tokenizer.revision, "[model.tokenizer]")
        check_tokenizer_files(found)
    return found


def vocabulary_of(model: Model) -> int | None:
    """Rows of a new model's embedding; None where its tokenizer is on the hub, and not one of Qwen3's.

    Raises UserError where a given tokenizer is missing or damaged.
    """
    found = check_tokenizer(model)
    if isinstance(found, Path):
        return embedding_rows(token_count(found))
    if found is not None:
        return embedding_rows(QWEN3_TOKENS) if found.startswith("Qwen/Qwen3-") else None
    return model.tokenizer.vocab_size if model.tokenizer else None


def own_code(where: str) -> str:
    """What is said where a base or a tokenizer is a program too, which a recipe must let run."""
    return (
        f"{where} comes with code of its own, which has not been run. Look at it, and let it run where you trust it:"
        " [model] remote_code = true."
    )


def is_hub_name(base: str) -> bool:
    """`organisation/model`, and not a path into one of the project's folders."""
    return (
        bool(HUB_NAME.fullmatch(base)) and not re.search(r"\.\.|--", base) and base.split("/")[0] not in PROJECT_FOLDERS
    )


class Fetched(Stored):
    """What FETCHED_NOTE says."""

    base: str
    revision: str | None
    commit: str | None


def fetched(folder: Path) -> dict[str, Any] | None:
    """What `--fetch` noted in a folder: `base`, the `revision` asked for and the `commit` it was; None elsewhere."""
    note = folder / FETCHED_NOTE
    return read_json(note, Fetched) if note.is_file() else None


def refuse_other_revision(base: Path, revision: str | None, table: str = "[model]") -> None:
    """Raises UserError where a recipe asks for another revision than the one that was fetched."""
    known = fetched(base)
    if known and revision is not None and revision not in (known["revision"], known["commit"]):
        raise UserError(
            f'{table} revision = "{revision}": {base} was fetched as {known["revision"] or "the newest"}'
            f" ({known['commit']}). Delete it and fetch again."
        )


@functools.cache
def base_digest(base: Path) -> str:
    """SHA-256 over the weights of a local base, taken once: an adapter belongs to exactly these."""
    return weights_digest(base)


def weights_digest(folder: Path) -> str:
    """SHA-256 over the weights of an adapter or a whole model."""
    whole = hashlib.sha256()
    for path in sorted([*folder.glob("adapter_model.safetensors"), *folder.glob("model*.safetensors")]):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def check_base(recipe: Recipe) -> Path | str | None:
    """Finds a recipe's base, and looks at its files, before anything heavy is imported; None for a new model."""
    if recipe.model.base is None:
        check_tokenizer(recipe.model)
        return None
    base = find_base(recipe.model.base)
    if isinstance(base, Path):
        refuse_other_revision(base, recipe.model.revision)
        check_files(base)
    return base


def shape_of(recipe: Recipe, base: Path | str | None) -> Shape | None:
    """The shape of what a recipe trains; None where it is not known without network."""
    shape = recipe.model.shape
    if shape:
        rows = vocabulary_of(recipe.model)
        return None if rows is None else Shape(
            shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads, shape.num_key_value_heads,
            shape.head_dim, shape.intermediate_size, rows, shape.tie_word_embeddings,
        )  # fmt: skip
    if isinstance(base, Path):
        return shape_in(base)
    if isinstance(base, str) and base.startswith("Qwen/Qwen3-"):
        return QWEN3_SHAPES.get(base.removeprefix("Qwen/Qwen3-").split("-")[0])
    return None
