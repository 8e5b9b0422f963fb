"""A classifier: a language model's backbone, read at each text's last token by a head, or by the replies that it gives.

Its head lies in head.safetensors, in float32, beside the weights of the model or the adapter.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from toolkit.classes import HEAD, Classes, write_classes
from toolkit.errors import UserError
from toolkit.recipe import Head


class Classifier(nn.Module):
    """The backbone of a causal language model, with or without LoRA, and a head; also what the trainer trains."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, rows × classes, in float32: before any softmax, as cross-entropy takes them."""
        hidden = backbone(self.model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        rows = torch.arange(len(input_ids), device=hidden.device)
        pooled = hidden[rows, last_real(attention_mask)]
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(pooled.float())

    def gradient_checkpointing_enable(self, **arguments: Any) -> None:
        """What the trainer calls where the recipe asks for it."""
        getattr(self.model, "gradient_checkpointing_enable")(**arguments)  # noqa: B009  (nn.Module's type has none)


def backbone(model: Any) -> Any:
    """The blocks below the language model's own output layer, LoRA included."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model


def last_real(attention_mask: torch.Tensor) -> torch.Tensor:
    """The place of each row's last token that is no padding (rows), on whichever side the padding is."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask * places).argmax(dim=1)


def build_head(hidden: int, head: Head, classes: int, seed: int) -> nn.Sequential:
    """Linear layers with ReLU and dropout between them, Xavier-uniform from the seed, biases zero; no softmax."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    widths = [hidden, *head.layers, classes]
    for number, (inner, outer) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        if number:
            layers += [nn.ReLU(), nn.Dropout(head.dropout)]
        linear = nn.Linear(inner, outer)
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
    return nn.Sequential(*layers)


def add_classes(loaded: Any, classes: Classes, seed: int) -> None:
    """Make a loaded model one that tells classes apart; its head is new, drawn from the seed."""
    loaded.classes = classes
    if classes.head:
        loaded.head = build_head(loaded.model.config.hidden_size, classes.head, len(classes.labels), seed)
        loaded.head.to(loaded.model.device)


def save_classes(loaded: Any, folder: Path) -> None:
    """Beside a model's or an adapter's own files: what its classes are, and its head."""
    from safetensors.torch import save_file

    write_classes(folder, loaded.classes)
    if loaded.head is not None:
        save_file({name: value.contiguous() for name, value in loaded.head.state_dict().items()}, folder / HEAD)


def load_head(loaded: Any, folder: Path) -> None:
    """Put a folder's head into a model that has one of its shape. Raises UserError where it is another's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded.head.load_state_dict(load_file(folder / HEAD))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {HEAD}, the head that its classes.json describes.") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{folder / HEAD} is damaged, or another model's ({str(error).splitlines()[0]}).") from None
