"""A checkpoint from the command line, opened: its base, its weights on top, and the recipe that it was trained by."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationError

from toolkit.checkpoints import Checkpoint
from toolkit.classes import holds_classes, read_classes
from toolkit.errors import MachineError, UserError
from toolkit.models.base import base_digest, find_base, own_code
from toolkit.models.files import AGAIN, AdapterConfig, Config, check_files, holds_adapter
from toolkit.recipe import Model
from toolkit.recipe.complaints import complain
from toolkit.stored import read_json

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit.models.loaded import Loaded

STORED = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""A config's dtype, in a recipe's words."""

SMALLER = 'precision = "nf4" (on a GPU), a smaller model or a larger machine help.'


class Opened(NamedTuple):
    """A checkpoint that can be asked."""

    loaded: "Loaded"
    asked: Model
    """How it is to be rendered and loaded."""


def prepare(checkpoint: Checkpoint, base: str | None, form: str | None) -> Model:
    """How a checkpoint is to be loaded. Raises UserError for all that can be known to fail, with no torch imported."""
    check_files(checkpoint.weights)
    asked = model_of(checkpoint, base, form)
    found = find_base(asked.base or "")
    if isinstance(found, Path) and found != checkpoint.weights:
        check_files(found)
        known = checkpoint.run.info.get("model", {}).get("base_digest") if checkpoint.run and not base else None
        if known and known != base_digest(found):
            raise UserError(
                f"{checkpoint.weights} was trained on other weights than {asked.base} has now (it was made anew)."
                " Train it again with --fresh."
            )
    return asked


def model_of(checkpoint: Checkpoint, base: str | None, form: str | None) -> Model:
    """What the checkpoint's run, or else the command line, says of its model. Raises UserError where neither does."""
    folder, values = checkpoint.weights, {}
    if checkpoint.run:
        # A new model is a base of its own once it is trained.
        said = checkpoint.run.recipe.get("model", {})
        values = {key: value for key, value in said.items() if key not in ("shape", "tokenizer")}
    if not holds_adapter(folder):
        if base:
            raise UserError(f"--base {base}: {folder} is a whole model, which needs no base.")
        values["base"] = str(folder)
    elif base:
        values |= {"base": base, "revision": None}
    elif not checkpoint.run:
        values["base"] = read_json(folder / "adapter_config.json", AdapterConfig).get("base_model_name_or_path")
        if not values["base"]:
            raise UserError(f"{folder} does not say which base it belongs to; give --base.")
    if not checkpoint.run:
        values["precision"] = stored_precision(find_base(values["base"]))
    if form:
        values["format"] = form
    try:
        return Model.model_validate(values)
    except ValidationError as error:
        source = checkpoint.run.path / "recipe.toml" if checkpoint.run else folder
        raise complain(error, source.as_posix(), Model, prefix=("model",), layers=[]) from None


def stored_precision(base: Path | str) -> str:
    """The precision that a local base is stored in; bf16 for one on the hub."""
    config = read_json(base / "config.json", Config) if isinstance(base, Path) else {}
    # transformers 4 called it torch_dtype.
    return STORED.get(config.get("dtype") or config.get("torch_dtype") or "", "bf16")


def refuse_unknown(form: str | None = None, engine: str | None = None) -> None:
    """Raises UserError for a --format or an --engine that there is not."""
    if form not in (None, "plain", "chat"):
        raise UserError(f"--format {form}: plain or chat is expected.")
    if engine not in (None, "unsloth", "transformers"):
        raise UserError(f"--engine {engine}: unsloth or transformers is expected.")


def open_shared_engine(models: list[Model], console: "Console") -> ModuleType:
    """The engine that all are to be loaded by, with a word on it: importing it takes seconds.

    Raises UserError where they have several: Unsloth patches its process, so that two cannot share one.
    """
    from toolkit.models import open_engine

    engines: set[Literal["unsloth", "transformers"]] = {model.engine for model in models}
    if len(engines) > 1:
        raise UserError("these checkpoints were trained with different engines; give --engine, or ask them one by one.")
    (name,) = engines
    console.print(f"loading {name} …")
    return open_engine(name)


def load_base(engine: ModuleType, base: Path | str, asked: Model, *, full: bool) -> "Loaded":
    """A base by its engine. Raises UserError where it cannot be had, MachineError where the machine is too small."""
    try:
        return engine.load_base(base, asked, full=full)
    except (UserError, MachineError):
        raise
    # What libraries raise over files that are not as they should be is of any class: tokenizers Exception itself.
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise MachineError(f"there is not enough memory to load {asked.base}. {SMALLER}") from error
        raise UserError(not_loaded(base, asked, error)) from error


def not_loaded(base: Path | str, asked: Model, error: Exception) -> str:
    """Why a base could not be loaded, and what helps."""
    where = f'[model] base = "{asked.base}"'
    if "trust_remote_code" in str(error):
        return own_code(where)
    said = f"{where} could not be loaded: {first_line(error)}"
    if isinstance(base, Path):
        return f"{said}\nIts files may be damaged, or of a kind of model that is not known here; {AGAIN}."
    return (
        f"{said}\nWithout network, fetch it where there is one (python -m toolkit.data RECIPE --fetch) and copy"
        " data/models/."
    )


def open_checkpoint(checkpoint: Checkpoint, engine: ModuleType, asked: Model, opened: Opened | None) -> Opened:
    """Load a checkpoint, on the base of the one opened before where that is the same."""
    from peft import PeftModel

    from toolkit.models.classifier import add_classes, load_head
    from toolkit.models.loaded import remove_adapter

    is_adapter = holds_adapter(checkpoint.weights)
    if opened and is_adapter and opened.asked == asked and hasattr(opened.loaded.model, "peft_config"):
        loaded = opened.loaded
        remove_adapter(loaded)
    else:
        assert asked.base is not None
        loaded = load_base(engine, find_base(asked.base), asked, full=not is_adapter)
    if is_adapter:
        refuse_other_base(checkpoint, loaded)
        try:
            loaded.model = PeftModel.from_pretrained(loaded.model, str(checkpoint.weights))
        # As in load_base: of any class.
        except Exception as error:
            raise UserError(f"{checkpoint.weights} does not fit its base {asked.base}: {first_line(error)}") from error
        refuse_half_an_adapter(checkpoint, loaded)
    loaded.model.eval()
    if holds_classes(checkpoint.weights):
        add_classes(loaded, read_classes(checkpoint.weights), 0)
        if loaded.head is not None:
            load_head(loaded, checkpoint.weights)
            loaded.head.eval()
    return Opened(loaded, asked)


def refuse_other_base(checkpoint: Checkpoint, loaded: "Loaded") -> None:
    """Raises UserError where an adapter's matrices have other sizes than the base that they are to be added to."""
    from safetensors import safe_open

    other = f"{checkpoint.weights} belongs to another base than {loaded.described['base']}"
    layers = dict(loaded.model.named_modules())
    with safe_open(checkpoint.weights / "adapter_model.safetensors", framework="np") as file:
        for key in file.keys():  # noqa: SIM118  (not a mapping)
            name, _, matrix = key.removeprefix("base_model.model.").rpartition(".lora_")
            if matrix not in ("A.weight", "B.weight"):
                continue
            side, axis = ("in_features", 1) if matrix == "A.weight" else ("out_features", 0)
            wanted, found = file.get_slice(key).get_shape()[axis], getattr(layers.get(name), side, None)
            if found is None:
                raise UserError(f"{other}, which has no {name}.")
            if wanted != found:
                raise UserError(f"{other}: {name} has {side} = {found} there, and the adapter is made for {wanted}.")


def refuse_half_an_adapter(checkpoint: Checkpoint, loaded: "Loaded") -> None:
    """Raises UserError where matrices that adapter_config.json names are not in the file: PEFT leaves them at zero."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(checkpoint.weights / "adapter_model.safetensors", framework="np") as file:
        missing = sorted(get_peft_model_state_dict(loaded.model).keys() - set(file.keys()))
    if missing:
        raise UserError(f"{checkpoint.weights}: its adapter_config.json names {missing[0]}, which its weights lack.")


def first_line(error: Exception) -> str:
    """With its class, so that a fault of a library or of this toolkit can be told from a damaged file."""
    return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
