"""Recipe files: found, read as TOML, and laid one over the other by `extends`."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import UserError, nearest

RECIPES = Path("recipes")
DEEPEST = 32
"""Tables and lists in one another; a recipe has three."""


class Layer(NamedTuple):
    """What one source says of a recipe; later layers lie over earlier ones."""

    source: str
    """A file's path, or `--set key=value`."""
    values: dict[str, Any]


def read_layers(path: Path) -> list[Layer]:
    """A recipe's file and those that it extends, the furthest first.

    Raises UserError where one is missing, is no TOML, or extends itself through others.
    """
    layers: list[Layer] = []
    seen: list[str] = []
    while True:
        values = load_toml(path)
        layers.insert(0, Layer(path.as_posix(), {key: value for key, value in values.items() if key != "extends"}))
        if "extends" not in values:
            return layers
        parent = values["extends"]
        if not isinstance(parent, str) or not parent.strip():
            raise UserError(
                f'{path.as_posix()}: extends takes the path of one recipe in quotes: extends = "other.toml".'
            )
        seen.append(os.path.realpath(path))
        # normpath, not resolve: messages keep the path as the user knows it.
        parent_path = Path(os.path.normpath(path.parent / parent))
        if is_folder(parent_path):
            raise UserError(f'{path.as_posix()}: extends = "{parent}" is a folder, and a recipe is a .toml file.')
        # Not Path.exists, which raises where a name is too long.
        if not os.path.exists(parent_path):  # noqa: PTH110
            raise UserError(f'{path.as_posix()}: extends = "{parent}": {no_such_file(parent_path)}')
        if os.path.realpath(parent_path) in seen:
            raise UserError(f'{path.as_posix()}: extends = "{parent}" goes round in a circle.')
        path = parent_path


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge; everything else replaces, lists and `lora = false` too."""
    merged = dict(below)
    for key, value in above.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def nest(parts: list[str], value: Any) -> dict[str, Any]:
    """A value as tables in tables: lora and rank are {"lora": {"rank": value}}."""
    for part in reversed(parts):
        value = {part: value}
    return value


def load_toml(path: Path) -> dict[str, Any]:
    if is_folder(path):
        inside = sorted(entry.as_posix() for entry in path.glob("*.toml"))
        raise UserError(
            f"{path.as_posix()} is a folder, and a recipe is a .toml file"
            + (f"; in it are {', '.join(inside)}." if inside else ".")
        )
    try:
        # -sig, because Windows' editors put a byte order mark first.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(no_such_file(path)) from None
    except UnicodeDecodeError:
        raise UserError(f"{path.as_posix()}: is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path.as_posix()}: cannot be read ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"{path.as_posix()!r} is no path.") from None
    try:
        return parse_toml(text)
    except ValueError as error:
        raise UserError(f"{path.as_posix()}: is not TOML: {what_is_no_toml(error, text)}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML says. Raises ValueError, also where tomllib gives up otherwise or takes more than TOML allows."""
    try:
        values = tomllib.loads(text)
        refuse_beyond_toml(values)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values


def refuse_beyond_toml(value: Any, depth: int = 0) -> None:
    """Raises ValueError for whole numbers of more than 64 bits, which nothing below could count with or even print."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number has more than 64 bits")
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        refuse_beyond_toml(inside, depth + 1)


def is_folder(path: Path) -> bool:
    """Path.is_dir, which raises where a name is longer than the system allows."""
    return os.path.isdir(path)  # noqa: PTH112


def what_is_no_toml(error: ValueError, text: str) -> str:
    """Python's message, the line itself, and a hint for what is mistyped most."""
    said = str(error)[0].lower() + str(error)[1:]
    said = said.replace("cannot overwrite a value", "a key stands twice")
    if said.startswith("exceeds the limit"):  # Python's own, before any number can be looked at
        said = "a whole number has more than 64 bits"
    place = re.search(r"line (\d+)", said)
    if place is None:
        return f"{said}."
    line = text.split("\n")[int(place[1]) - 1].strip()
    hint = "; text stands in quotes, true and false in small letters" if "invalid value" in said else ""
    return f"{said}: {line[:80]}{hint}."


def no_such_file(path: Path) -> str:
    """That a recipe is not there, and which one was probably meant: beside it or under recipes/, by file or by name."""
    said = f"there is no {path.as_posix()}"
    beside = [entry for entry in sorted(path.parent.glob("*.toml")) if entry.name != "pyproject.toml"]
    shipped = sorted(RECIPES.rglob("*.toml"), key=lambda entry: (len(entry.parts), entry))
    meant = find_recipe_named(path.name)
    for places in (beside, shipped):
        near = nearest(path.stem, [entry.stem for entry in places])
        meant = meant or next((entry for entry in places if entry.stem == near), None)
    if meant:
        return f"{said}; did you mean {meant.as_posix()}?"
    known = ", ".join(entry.as_posix() for entry in (beside or shipped)[:12])
    return f"{said}; there are {known}." if known else f"{said}."


def find_recipe_named(name: str, folder: Path = RECIPES) -> Path | None:
    """The shipped or own recipe whose `name` this is."""
    for path in sorted(folder.rglob("*.toml")):
        try:
            if load_toml(path).get("name") == name:
                return path
        except UserError:
            # A broken file beside the one that is looked for is reported when it is run itself.
            continue
    return None
