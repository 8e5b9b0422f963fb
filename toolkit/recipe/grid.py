"""[grid]: one recipe becomes a group for every combination of the values that some of its keys take.

[grid]
"lora.rank"  = [1, 4]          # GroupA-rank1-count100, GroupA-rank1-count400, GroupA-rank4-count100, …
"data.count" = [100, 400]

Keys that change together stand in one: lora = [{rank = 1, alpha = 2}, {rank = 4, alpha = 8}].
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from toolkit.errors import UserError
from toolkit.recipe.files import merge, nest

MOST = 1000
"""Groups of one grid."""


def expand_grid(values: dict[str, Any], source: str) -> list[tuple[str, dict[str, Any]]]:
    """(what is added to the name, the changed keys as tables) for every combination; one without changes for no grid.

    Raises UserError for a grid that is no table of lists, names a value twice, or changes the name or the grid itself.
    """
    grid = flat(values.get("grid", {}), source)
    if not grid:
        return [("", {})]
    last = [key.rpartition(".")[2] for key in grid]
    # Two keys may end alike (stage.learn.epochs, stage.more.epochs): then the whole key is said.
    short = {
        key: name if last.count(name) == 1 else key.replace(".", "-") for key, name in zip(grid, last, strict=True)
    }
    size = 1
    for key, choices in grid.items():
        if key.partition(".")[0] in ("name", "grid", "seeds", "extends"):
            raise UserError(f"{source}: [grid] {key}: a grid cannot change it.")
        if whole := next((other for other in grid if key.startswith(f"{other}.")), None):
            raise UserError(f"{source}: [grid] {key} is changed by {whole} too: say it in one of them.")
        if not isinstance(choices, list) or not choices or {} in choices:
            raise UserError(f"{source}: [grid] {key}: a list of values is expected, such as [1, 2, 4].")
        size *= len(choices)
    if size > MOST:
        raise UserError(f"{source}: [grid] makes {size} groups, over {MOST}.")
    groups = []
    for combination in itertools.product(*grid.values()):
        suffix = "".join(f"-{named(short[key], value)}" for key, value in zip(grid, combination, strict=True))
        groups.append((suffix, nested(zip(grid, combination, strict=True))))
    suffixes = [suffix for suffix, _ in groups]
    if twice := next((suffix for suffix in suffixes if suffixes.count(suffix) > 1), None):
        raise UserError(f"{source}: [grid] makes two groups called {twice[1:]}: a value is named twice, or too alike.")
    return groups


def flat(table: Any, source: str, at: str = "") -> dict[str, Any]:
    """`lora.rank` as key, whether it is written quoted or as a table in a table."""
    if not isinstance(table, dict):
        raise UserError(f'{source}: [grid] is a table of lists, such as "lora.rank" = [1, 2, 4].')
    keys: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{at}.{key}" if at else key
        keys |= flat(value, source, name) if isinstance(value, dict) else {name: value}
    return keys


def nested(changes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The changes as tables in tables."""
    tables: dict[str, Any] = {}
    for key, value in changes:
        tables = merge(tables, nest(key.split("."), value))
    return tables


def named(key: str, value: Any) -> str:
    """rank8; of several keys that change together ({rank = 8, alpha = 16}) rank8-alpha16."""
    if isinstance(value, dict):
        return "-".join(named(inside, entry) for inside, entry in value.items())
    return f"{key}{said(value)}"


def said(value: Any) -> str:
    """A value as part of a folder's name: 8, 0.001, -mirrored."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = value if isinstance(value, str) else json.dumps(value)
    short = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
    # A prompt in Chinese leaves nothing that a folder may be called.
    return f"-{short or hashlib.sha256(text.encode()).hexdigest()[:6]}"
