"""A checkpoint from the command line, opened: its base, its weights on top, and the recipe that it was trained by."""

from types import ModuleType
from typing import NamedTuple

from toolkit.errors import UserError
from toolkit.models.base import find_base
from toolkit.models.loaded import Loaded
from toolkit.recipe import Model
from toolkit.run_folder import Checkpoint, read_json


class Opened(NamedTuple):
    """A checkpoint that can be asked."""

    loaded: Loaded
    asked: Model
    """How it is to be rendered and loaded."""


def model_of(checkpoint: Checkpoint, base: str | None, form: str | None) -> Model:
    """What the checkpoint's run, or else the command line, says of its model. Raises UserError where neither does."""
    is_adapter = (checkpoint.weights / "adapter_config.json").is_file()
    if checkpoint.run:
        values = checkpoint.run.recipe["model"]
        # A new model is a base of its own once it is trained.
        values = {key: value for key, value in values.items() if key not in ("shape", "tokenizer")}
    else:
        values = {}
        if is_adapter:
            values["base"] = base or read_json(checkpoint.weights / "adapter_config.json").get(
                "base_model_name_or_path"
            )
            if not values["base"]:
                raise UserError(f"{checkpoint.weights} does not say which base it belongs to; give --base.")
    if not is_adapter:
        values = values | {"base": str(checkpoint.weights)}
    if base:
        values = values | {"base": base}
    if form:
        values = values | {"format": form}
    return Model.model_validate(values)


def check_files(checkpoint: Checkpoint) -> None:
    """Raises UserError for a checkpoint whose files are damaged or missing, before anything is loaded."""
    from safetensors import SafetensorError, safe_open

    folder = checkpoint.weights
    is_adapter = (folder / "adapter_config.json").is_file()
    files = sorted(folder.glob("adapter_model.safetensors" if is_adapter else "model*.safetensors"))
    again = "train it again with --fresh, or take another copy"
    if not files:
        raise UserError(f"{folder} has no weights (*.safetensors); {again}.")
    for path in files:
        try:
            with safe_open(path, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); {again}.") from None
    if not (folder / "tokenizer.json").is_file() and not is_adapter:
        raise UserError(f"{folder} has no tokenizer.json; {again}.")


def open_checkpoint(checkpoint: Checkpoint, engine: ModuleType, asked: Model, opened: Opened | None) -> Opened:
    """Load a checkpoint, on the base of the one opened before where that is the same."""
    import torch
    from peft import PeftModel

    from toolkit.models.loaded import remove_adapter

    is_adapter = (checkpoint.weights / "adapter_config.json").is_file()
    if opened and is_adapter and opened.asked == asked and hasattr(opened.loaded.model, "peft_config"):
        loaded = opened.loaded
        remove_adapter(loaded)
    else:
        assert asked.base is not None
        loaded = engine.load_base(find_base(asked.base), asked, full=not is_adapter)
    if is_adapter:
        refuse_other_base(checkpoint, loaded)
        try:
            loaded.model = PeftModel.from_pretrained(loaded.model, str(checkpoint.weights))
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{checkpoint.weights} does not fit its base {asked.base}: {first_line(error)}") from None
    loaded.model.eval()
    torch.set_grad_enabled(False)
    return Opened(loaded, asked)


def refuse_other_base(checkpoint: Checkpoint, loaded: Loaded) -> None:
    """Raises UserError where an adapter's matrices have other sizes than the base that they are to be added to."""
    from safetensors import safe_open

    sizes: dict[str, tuple[int, int]] = {}
    for name, module in loaded.model.named_modules():
        if hasattr(module, "in_features"):
            sizes[name] = (module.in_features, module.out_features)
    with safe_open(checkpoint.weights / "adapter_model.safetensors", framework="np") as file:
        for key in file.keys():  # noqa: SIM118  (not a mapping)
            name, _, matrix = key.removeprefix("base_model.model.").rpartition(".lora_")
            if matrix not in ("A.weight", "B.weight"):
                continue
            shape = file.get_slice(key).get_shape()
            found = sizes.get(name)
            wanted = shape[1] if matrix == "A.weight" else shape[0]
            if found is None or wanted != found[0 if matrix == "A.weight" else 1]:
                raise UserError(
                    f"{checkpoint.weights} belongs to another base than {loaded.described['base']}: {name} has"
                    f" {wanted} there and {found and found[0 if matrix == 'A.weight' else 1]} here."
                )


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
