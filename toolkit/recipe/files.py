"""Recipe files: found, read as TOML, and laid one over the other by `extends`."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import UserError, nearest

RECIPES = Path("recipes")


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
    seen: list[Path] = []
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
        seen.append(path.resolve())
        # normpath, not resolve: messages keep the path as the user knows it.
        parent_path = Path(os.path.normpath(path.parent / parent))
        if parent_path.resolve() in seen:
            raise UserError(f'{path.as_posix()}: extends = "{parent}" goes round in a circle.')
        if parent_path.is_dir():
            raise UserError(f'{path.as_posix()}: extends = "{parent}" is a folder, and a recipe is a .toml file.')
        if not parent_path.exists():
            raise UserError(f'{path.as_posix()}: extends = "{parent}": {no_such_file(parent_path)}')
        path = parent_path


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge; everything else replaces, lists and `lora = false` too."""
    merged = dict(below)
    for key, value in above.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def load_toml(path: Path) -> dict[str, Any]:
    if path.is_dir():
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
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path.as_posix()}: is not TOML: {what_is_no_toml(error, text)}") from None


def what_is_no_toml(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Python's message, the line itself, and a hint for what is mistyped most."""
    said = str(error)[0].lower() + str(error)[1:]
    said = said.replace("cannot overwrite a value", "a key stands twice")
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
            if tomllib.loads(path.read_text(encoding="utf-8-sig")).get("name") == name:
                return path
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            # A broken file beside the one that is looked for is reported when it is run itself.
            continue
    return None
