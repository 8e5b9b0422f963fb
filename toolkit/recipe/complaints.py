"""What is said when a recipe is wrong: file, table, key, the nearest known key and the allowed values."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from toolkit.errors import UserError, nearest
from toolkit.recipe.fields import Recipe
from toolkit.recipe.files import Layer, read_layers
from toolkit.recipe.stage import Stage

Location = tuple[str | int, ...]

EXPECTED = {
    "int_type": "a whole number is expected",
    "int_from_float": "a whole number is expected",
    "float_type": "a number is expected",
    "finite_number": "a finite number is expected",
    "string_type": "text in quotes is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list is expected, in square brackets",
    "too_short": "must not be empty",
    "greater_than": "must be over {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be under {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
}
"""Pydantic's kinds of mistakes, in a user's words."""

PATTERNS = {
    "every": 'write "epoch", "5 epochs", "100 steps" or "stage"',
    "save": 'write "epoch", "5 epochs", "100 steps" or "stage"',
    "project": "letters, digits, '_', '-' and '.' only",
}
"""What text must look like, by key."""

NO_STAGE = "no stage is said: write at least one, such as [stage.learn]."

OTHER_NAMES = {
    "lr": "learning_rate", "num_train_epochs": "epochs", "lr_scheduler_type": "schedule", "warmup_ratio": "warmup",
    "per_device_train_batch_size": "batch_size", "gradient_accumulation_steps": "grad_accum", "optim": "optimizer",
    "r": "rank", "lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "targets",
    "max_seq_length": "max_length", "dtype": "precision", "model_name": "base", "trust_remote_code": "remote_code",
}  # fmt: skip
"""What TRL and PEFT call our keys."""


def complain(
    error: ValidationError,
    where: str | Path,
    model: type[BaseModel],
    prefix: tuple[str, ...] = (),
    layers: list[Layer] | None = None,
) -> UserError:
    """Every mistake that pydantic found, a line each, as one UserError.

    `where` is what was asked for; a mistake that stands in an extended file or a --set is said to be from there.
    `prefix` is the table that `model` describes.
    """
    source = where.as_posix() if isinstance(where, Path) else where
    if layers is None and source.endswith(".toml") and Path(source).is_file():
        layers = read_layers(Path(source))
    lines = []
    for mistake in error.errors():
        location = (*prefix, *mistake["loc"])
        origin = said_in(layers or [], location, mistake["input"])
        suffix = f" (from {origin})" if origin not in (None, source) else ""
        lines += [line + suffix for line in describe(mistake, location, model, prefix)]
    lines = list(dict.fromkeys(lines))
    return UserError(f"{source}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{source}:", *lines]))


def said_in(layers: list[Layer], location: Location, value: Any) -> str | None:
    """The last source that gives this value to this key."""
    for layer in reversed(layers):
        place: Any = layer.values
        for part in location:
            entries: Any = dict(enumerate(place)) if isinstance(place, list) else place
            place = entries.get(part) if isinstance(entries, dict) else None
        if place == value:
            return layer.source
    return None


def describe(mistake: Any, location: Location, model: type[BaseModel], prefix: tuple[str, ...]) -> list[str]:
    """One mistake in a line; several where a check found several."""
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    path = tuple(part for part in location if isinstance(part, str))
    known = tables(model, prefix)
    if kind == "extra_forbidden":
        return [unknown_key(path, value, model, prefix)]
    if kind == "missing":
        return [missing_key(path, known)]
    if kind == "value_error":
        table = path if general(path) in known else path[:-1]
        return [(f"{table_name(table)} " if table else "") + f"{said}." for said in str(context["error"]).split("\n")]
    if general(path) in known or path in (("stage",), ("data",)):
        return [no_table(path, value)]
    said = f"{table_name(path[:-1])} {path[-1]}" if path[:-1] else path[-1]
    for part in location[len(path) :]:
        said += f", entry {int(part) + 1}"
    said += f" = {show(value)}"
    if kind == "literal_error":
        allowed = context["expected"].replace("'", '"').replace(" or ", ", ")
        near = nearest(str(value).lower(), [word.strip('" ') for word in allowed.split(",")])
        return [f"{said}: allowed are {allowed}" + (f"; did you mean {show(near)}?" if near else ".")]
    if kind == "string_pattern_mismatch":
        return [f"{said}: {PATTERNS.get(path[-1], 'it must fit ' + context['pattern'])}."]
    expected = EXPECTED[kind].format(**context) if kind in EXPECTED else mistake["msg"]
    return [f"{said}: {expected}."]


def no_table(path: tuple[str, ...], value: Any) -> str:
    """What is said where something else stands in place of a table."""
    if path == ("stage",) and value == {}:
        return NO_STAGE
    if path == ("stage",) or (path[0] == "stage" and len(path) == 2 and path[1] in Stage.model_fields):
        return "a stage has a name: write [stage.learn], or another name, above its keys, in single brackets."
    said = f"{table_name(path[:-1])} {path[-1]}" if path[:-1] else path[-1]
    if path in (("lora",), ("model", "head")):
        way = f"write a {table_name(path)} table, or {path[-1]} = false to take out that of an extended recipe."
        return f"{said} = {show(value)}: {way}"
    return f"{said} = {show(value)}: a table is expected, {table_name(path)}."


def show(value: Any) -> str:
    """A value as it would stand in TOML, in short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        text = f"[{', '.join(map(show, value))}]"
    else:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def table_name(path: tuple[str, ...]) -> str:
    return f"[{'.'.join(path)}]" if path else "at the top:"


def general(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with a stage's own name left open: ("stage", "learn") is ("stage", "<name>")."""
    return (path[0], "<name>", *path[2:]) if path[:1] == ("stage",) and len(path) > 1 else path


def tables(model: type[BaseModel] = Recipe, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Any]]:
    """Every table that a recipe can have, with its keys; a stage is called "<name>"."""
    found = {at: dict(model.model_fields)}
    for name, entry in model.model_fields.items():
        for kind in (entry.annotation, *get_args(entry.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inside = (*at, name, "<name>") if name == "stage" else (*at, name)
                found |= tables(kind, inside)
    return found


def unknown_key(path: tuple[str, ...], value: Any, model: type[BaseModel], prefix: tuple[str, ...]) -> str:
    """Says the table where a key of that name belongs, else the nearest key: of the same table, then of the others."""
    *above, key = path
    known = tables(model, prefix) | (tables() if model is not Recipe else {})
    here = general(tuple(above))
    if here not in known:
        here = prefix
    said = f"{table_name(tuple(above))} unknown key `{key}`"
    word = OTHER_NAMES.get(key, key)
    elsewhere = [table for table, keys in known.items() if word in keys and table != here]
    if word in known[here]:
        return f"{said}: it is called `{word}` here."
    if word == key and elsewhere:
        return f"{said}: it belongs {' or '.join(belongs(table, key, known) for table in elsewhere)}."
    if isinstance(value, dict) and not above and set(value) & {"method", "epochs", "learning_rate", "train_on"}:
        return f"{said}: a stage is written [stage.{key}]."
    near = nearest(word.lower(), list(known[here]))
    if near:
        return f"{said}: did you mean `{near}`?"
    for table, keys in known.items():
        # Closer than in the same table: a far guess in another one would only mislead.
        for near in get_close_matches(word.lower(), list(keys), n=1, cutoff=0.8):
            return f"{said}: did you mean `{near}` {belongs(table, near, known)}?"
    hint = "; what the study takes belongs in [data]" if not above else ""
    return f"{said}; known are {', '.join(known[here])}{hint}."


def belongs(table: tuple[str, ...], key: str, known: dict[tuple[str, ...], dict[str, Any]]) -> str:
    if general((*table, key)) in known:
        return f"in a table of its own, {table_name((*table, key))}"
    return f"in {table_name(table)}" if table else "at the top, above the first [table]"


def missing_key(path: tuple[str, ...], known: dict[tuple[str, ...], dict[str, Any]]) -> str:
    *above, key = path
    if path == ("stage",):
        return NO_STAGE
    if path in known:
        return f"the table {table_name(path)} is missing."
    entry = known.get(general(tuple(above)), {}).get(key)
    choices = [choice for choice in get_args(entry.annotation) if isinstance(choice, str)] if entry else []
    said = f"{table_name(tuple(above))} `{key}` is missing"
    return f"{said} (one of {', '.join(choices)})." if choices else f"{said}."
