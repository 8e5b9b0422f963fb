"""A checkpoint's files, looked at before anything is loaded: whole, of one another's sizes, and no pickles."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from toolkit.errors import UserError
from toolkit.metrics.information import Shape, projection_sizes
from toolkit.stored import Stored, read_json

AGAIN = "train it again with --fresh, or take another copy"
PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
"""Weights that could run code when they are loaded."""

Size = Annotated[int, Field(ge=1)]


class AdapterConfig(Stored):
    """adapter_config.json, as far as it is read here."""

    base_model_name_or_path: str | None = None
    megatron_config: None = None
    """PEFT would import whatever module the file names beside it."""


class Config(Stored):
    """config.json of any model, as far as it is read here."""

    model_config = ConfigDict(allow_inf_nan=True)

    model_type: str | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    """What transformers 4 called it."""
    quantization_config: dict[str, Any] | None = None


class Qwen3Config(Config):
    """config.json of a Qwen3."""

    hidden_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size | None = None
    intermediate_size: Size
    vocab_size: Size
    tie_word_embeddings: bool = False


class Index(Stored):
    """model.safetensors.index.json: in which file each weight is."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]


def holds_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def check_files(folder: Path) -> None:
    """Raises UserError for an adapter or a model whose files are damaged or missing, before anything is loaded."""
    if holds_adapter(folder):
        read_json(folder / "adapter_config.json", AdapterConfig)
        weights = stored_weights(folder, ["adapter_model.safetensors"])
        if not any(".lora_" in name for name in weights):
            raise UserError(f"{folder}/adapter_model.safetensors holds no LoRA matrices; {AGAIN}.")
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has neither adapter_config.json nor config.json; {AGAIN}.")
    read_json(folder / "config.json", Config)
    weights = stored_weights(folder, model_files(folder))
    refuse_other_sizes(folder, weights)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder} has no tokenizer.json; {AGAIN}.")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file():
            read_json(folder / name, Anything)


class Anything(Stored):
    """A JSON object."""

    model_config = ConfigDict(allow_inf_nan=True)


def model_files(folder: Path) -> list[str]:
    """Names of the files that transformers takes a model's weights from."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return ["model.safetensors"]
    return sorted(set(read_json(index, Index)["weight_map"].values()))


def stored_weights(folder: Path, names: list[str]) -> dict[str, tuple[int, ...]]:
    """The size of every weight in these files, by name, from their headers alone."""
    from safetensors import SafetensorError, safe_open

    sizes: dict[str, tuple[int, ...]] = {}
    for name in names:
        path = folder / name
        if not path.is_file() or Path(name).name != name:
            raise UserError(f"{folder} {without_weights(folder, name if len(names) > 1 else None)}; {AGAIN}.")
        try:
            with safe_open(path, framework="np") as file:
                sizes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); {AGAIN}.") from None
    return sizes


def without_weights(folder: Path, part: str | None) -> str:
    if part:
        return f"lacks {part}, a part of its weights"
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    return "has no weights (*.safetensors)" + (
        f", only {pickles[0]}: a pickle can run code when it is loaded, and is never loaded here" if pickles else ""
    )


def refuse_other_sizes(folder: Path, weights: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError where a Qwen3's weights are not those that its config.json describes.

    transformers would go on with random weights for missing ones, and drop those of a layer too many.
    """
    shape = shape_in(folder)
    if shape is None or read_json(folder / "config.json").get("quantization_config"):
        # Packed weights have other names and sizes.
        return
    found = {name.removeprefix("model."): size for name, size in weights.items()}
    wanted = qwen3_sizes(shape)
    for name, size in wanted.items():
        if found.get(name) != size:
            said = f"is {found[name]} there" if name in found else "is missing there"
            raise UserError(f"{folder}: its weights are not those of its config.json: {name} of size {size} {said}.")
    if more := sorted(name for name in found.keys() - wanted.keys() if name.startswith("layers.")):
        raise UserError(f"{folder}: its weights are not those of its config.json, which has no {more[0]}.")


def qwen3_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The weights of a Qwen3 of this shape, by name, without the `model.` before most of them."""
    sizes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    sizes["norm.weight"] = (shape.hidden,)
    if not shape.tied:
        sizes["lm_head.weight"] = (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        at = f"layers.{layer}"
        sizes |= {f"{at}.{norm}_layernorm.weight": (shape.hidden,) for norm in ("input", "post_attention")}
        sizes |= {f"{at}.self_attn.{norm}_norm.weight": (shape.head_size,) for norm in ("q", "k")}
        for name, (inner, outer) in projection_sizes(shape).items():
            block = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            sizes[f"{at}.{block}.{name}.weight"] = (outer, inner)
    return sizes


def shape_in(folder: Path) -> Shape | None:
    """The shape that a folder's config.json describes; None for another architecture than Qwen3."""
    path = folder / "config.json"
    if read_json(path, Config).get("model_type") != "qwen3":
        return None
    config = read_json(path, Qwen3Config)
    heads = config["num_attention_heads"]
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
    )
