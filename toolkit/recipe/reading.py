"""A recipe is read: `extends` and `--set` are merged, and every key but those of [data] is checked."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.errors import UserError, is_text, nearest
from toolkit.recipe.complaints import complain, show
from toolkit.recipe.fields import Recipe
from toolkit.recipe.files import Layer, merge, nest, parse_toml, read_layers
from toolkit.recipe.grid import expand_grid

TAKEN_OUT = (["lora"], ["model", "head"])
"""Tables that `= false` takes out of a recipe that is extended."""


def read_recipes(path: Path, changes: tuple[str, ...] = (), seeds: list[int] | None = None) -> list[Recipe]:
    """The resolved recipe of a file, or those of its [grid], with `key=value` changes and other seeds for this call.

    A file with another study than the one that it extends starts with an empty [data].

    Raises UserError that names file, table and key. [data] is checked later, against the study's own arguments.
    """
    layers = read_layers(path)
    values: dict[str, Any] = {}
    for layer in layers:
        if "study" in layer.values and layer.values["study"] != values.get("study"):
            # What another study was built from says nothing to this one.
            values.pop("data", None)
        values = merge(values, layer.values)
    for change in changes:
        parts, value = parse_change(change)
        refuse_misplaced(change, parts, value, values)
        said = nest(parts, value)
        layers.append(Layer(f"--set {change}", said))
        values = merge(values, said)
    if seeds is not None:
        layers.append(Layer("--seeds", {"seeds": seeds}))
        values = values | {"seeds": seeds}
    groups = expand_grid(values, path.as_posix())
    values.pop("grid", None)
    return [
        resolve(merge(values, changed), suffix, path, [*layers, Layer("[grid]", changed)]) for suffix, changed in groups
    ]


def read_recipe(path: Path, changes: tuple[str, ...] = (), seeds: list[int] | None = None) -> Recipe:
    """The recipe of a file that has no [grid]."""
    recipe, *more = read_recipes(path, changes, seeds)
    if more:
        raise UserError(f"{path.as_posix()} has a [grid] of {1 + len(more)} groups, and one recipe is wanted here.")
    return recipe


def resolve(values: dict[str, Any], suffix: str, path: Path, layers: list[Layer]) -> Recipe:
    """One recipe of merged values; `suffix` is what a grid adds to its name."""
    if values.get("lora") is False:
        values = {key: value for key, value in values.items() if key != "lora"}
    model = values.get("model")
    if isinstance(model, dict) and model.get("head") is False:
        values = values | {"model": {key: value for key, value in model.items() if key != "head"}}
    if suffix and isinstance(values.get("name"), str):
        values = values | {"name": values["name"] + suffix}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise complain(error, path, Recipe, layers=layers) from None


def parse_change(change: str) -> tuple[list[str], Any]:
    """`stage.learn.learning_rate=1e-3` as its keys and its value; a value that is no TOML is taken as text."""
    key, equals, text = change.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise UserError(f"--set {change}: write it as key=value, such as stage.learn.learning_rate=1e-3.")
    if not is_text(change):
        # What the shell passed on and no text has, as names of files may.
        raise UserError(f"--set {change}: is not UTF-8 text.")
    if parts == ["extends"]:
        raise UserError(f"--set {change}: which recipe is extended can only be said in the file itself.")
    text = text.strip()
    if not text:
        raise UserError(f'--set {change}: a value is missing after the =; empty text is written "".')
    try:
        value = parse_toml(f"value = {text}")
    except ValueError:
        value = {}
    if set(value) == {"value"}:
        return parts, value["value"]
    if text[0] in "[{\"'":
        raise UserError(f"--set {change}: {text} is no TOML; in a shell, put the whole change in single quotes.")
    return parts, text


def refuse_misplaced(change: str, parts: list[str], value: Any, values: dict[str, Any]) -> None:
    """Raises UserError where a change would make a table of a value, a value of a table, or a new stage of a typo."""
    place = values
    for depth, table in enumerate(parts[:-1], start=1):
        inside = place.get(table, {})
        if inside is False and parts[:depth] in TAKEN_OUT:
            inside = {}
        if not isinstance(inside, dict):
            at = ".".join(parts[:depth])
            raise UserError(f"--set {change}: {at} = {show(inside)} is no table, and has no {parts[depth]} in it.")
        place = inside
    present = place.get(parts[-1])
    if isinstance(present, dict) and not isinstance(value, dict) and not (parts in TAKEN_OUT and value is False):
        at, inside = ".".join(parts), next(iter(present), "…")
        raise UserError(f"--set {change}: {at} is a table; change one of its keys, such as {at}.{inside}.")
    stages = list(values["stage"]) if isinstance(values.get("stage"), dict) else []
    if parts[0] == "stage" and len(parts) > 2 and stages and parts[1] not in stages:
        near = nearest(parts[1], stages)
        known = f"did you mean stage.{near}?" if near else f"there are {', '.join(stages)}."
        raise UserError(f"--set {change}: there is no stage.{parts[1]}; {known}")


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML; what is not set (None) is left out, as TOML has no null."""
    import tomli_w

    return tomli_w.dumps(recipe.model_dump(exclude_none=True))
