"""The base of a model that is being trained, in the same memory: what it was before, asked beside what it is now.

A model with LoRA is its base where the adapter is off, which costs nothing; of one that is trained whole a copy of the
weights is kept on the CPU.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch

from toolkit.errors import UserError
from toolkit.models.loaded import Loaded


class Reference(NamedTuple):
    """What a base needs beside the model that was trained from it."""

    weights: dict[str, torch.Tensor] | None
    """Each parameter under its name; tied ones are one tensor under all their names. None for LoRA."""


def reference_of(loaded: Loaded) -> Reference:
    """What this model is now, to be compared with later: call it before training, and after LoRA was added.

    A model without an adapter is copied to the CPU, each tied weight once. The copy also serves another model of the
    same shape, such as a checkpoint that is opened later.
    """
    if hasattr(loaded.model, "peft_config"):
        return Reference(None)
    copies: dict[int, torch.Tensor] = {}
    weights = {}
    for name, parameter in loaded.model.named_parameters(remove_duplicate=False):
        if id(parameter) not in copies:
            copies[id(parameter)] = parameter.detach().to("cpu", copy=True)
        weights[name] = copies[id(parameter)]
    return Reference(weights)


def beside(loaded: Loaded, reference: Reference) -> Reference:
    """The reference with its weights on the model's device and in its dtype, for as long as the result is kept.

    A reading that goes to and fro between model and base brings them there once; as_base brings them each time. Nothing
    is copied that is there already. Raises UserError where the model is none that this base can have become.
    """
    if reference.weights is None:
        return reference
    refuse_another_shape(loaded, reference.weights)
    moved: dict[int, torch.Tensor] = {}
    weights = {}
    for name, parameter in loaded.model.named_parameters(remove_duplicate=False):
        kept = reference.weights[name]
        if id(kept) not in moved:
            moved[id(kept)] = kept.to(parameter.device, parameter.dtype)
        weights[name] = moved[id(kept)]
    return Reference(weights)


@contextlib.contextmanager
def as_base(loaded: Loaded, reference: Reference) -> Iterator[None]:
    """Inside, the model is its base; afterwards what was trained is back, bit for bit, also after an exception.

    What may be trained, gradients, an optimizer's state and buffers are left alone. A model with an adapter is the base
    that the adapter lies on, whatever weights the reference holds. For reading only: nothing may be trained inside.
    Raises UserError where the model is none that this base can have become.
    """
    if hasattr(loaded.model, "peft_config"):
        with without_adapter(loaded):
            yield
        return
    assert reference.weights is not None, "this reference was taken of a model with an adapter"
    weights = beside(loaded, reference).weights or {}
    own = [(name, parameter, parameter.data) for name, parameter in loaded.model.named_parameters()]
    try:
        for name, parameter, _ in own:
            parameter.data = weights[name]
        # Autocast keeps 16-bit copies by parameter, not by what the parameter holds.
        torch.clear_autocast_cache()
        yield
    finally:
        for _, parameter, data in own:
            parameter.data = data
        torch.clear_autocast_cache()


@contextlib.contextmanager
def without_adapter(loaded: Loaded) -> Iterator[None]:
    """The adapter is off inside. Unsloth's fused layers ask for that too, in passes without gradients."""
    # PEFT makes all of an adapter trainable when it goes on again, also one that was opened to be read only.
    trained = [(parameter, parameter.requires_grad) for parameter in loaded.model.parameters()]
    try:
        with loaded.model.disable_adapter():
            yield
    finally:
        for parameter, was_trained in trained:
            parameter.requires_grad_(was_trained)


def refuse_another_shape(loaded: Loaded, weights: dict[str, torch.Tensor]) -> None:
    """Raises UserError where the model has other parameters than the base, other shapes, or ties other weights."""
    other = f"{loaded.described.get('base', 'the model')} was not trained from this base"
    parameters = dict(loaded.model.named_parameters(remove_duplicate=False))
    if differing := sorted(parameters.keys() ^ weights.keys()):
        has = "the base has no" if differing[0] in parameters else "only the base has"
        raise UserError(f"{other}: {has} {differing[0]}. Compare it with the base that it was trained from.")
    first_names = {id(parameter): name for name, parameter in reversed(parameters.items())}
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            shapes = [" × ".join(map(str, shape)) for shape in (weights[name].shape, parameter.shape)]
            raise UserError(
                f"{other}: {name} is {shapes[0]} there, and {shapes[1]} here. Compare it with the base that it was"
                " trained from."
            )
        first = first_names[id(parameter)]
        if weights[name] is not weights[first]:
            raise UserError(f"{other}: {name} and {first} are one weight here, and two there.")
