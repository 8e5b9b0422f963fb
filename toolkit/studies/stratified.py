"""Rows drawn by class: as large a share of every class, from a seed.

300 rows of a, 100 of b, and 15 % of them: 45 of a, 15 of b
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from toolkit.errors import UserError
from toolkit.studies.labelled import Labelled


def allot(total: int, bounds: dict[str, tuple[int, int]], sizes: Counter[str]) -> dict[str, int]:
    """`total` rows by class in proportion to their sizes, by largest remainder, within the least and most of a class.

    Where the bounds allow no such total, it is the nearest one that they do.
    """
    quotas = {label: total * size / sizes.total() for label, size in sizes.items()}
    parts = {label: min(max(int(quotas[label]), least), most) for label, (least, most) in bounds.items()}
    while (lacking := total - sum(parts.values())) != 0:
        step = 1 if lacking > 0 else -1
        open_to = [label for label, (least, most) in bounds.items() if least <= parts[label] + step <= most]
        if not open_to:
            break
        label = max(open_to, key=lambda label: step * (quotas[label] - parts[label]))
        parts[label] += step
    return parts


def draw_by_class(rows: list[Labelled], parts: dict[str, int], seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """So many rows of each class, and the others; both in their order."""
    rng = random.Random(seed)
    of_class: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        of_class[row.label].append(position)
    drawn = {position for label, part in parts.items() for position in rng.sample(of_class[label], part)}
    return (
        [row for position, row in enumerate(rows) if position in drawn],
        [row for position, row in enumerate(rows) if position not in drawn],
    )


def sizes_of(rows: list[Labelled], names: Iterable[str]) -> Counter[str]:
    """Rows of each class, in the order of the classes: draws must not depend on which row comes first."""
    found = Counter(row.label for row in rows)
    return Counter({label: found[label] for label in names})


def draw_count(rows: list[Labelled], count: int, names: dict[str, str], seed: int) -> list[Labelled]:
    """`count` rows, at least one of each class. Raises UserError where that are more."""
    if count < len(names):
        raise UserError(f"[data] count = {count}: train has {len(names)} classes, and a row of each is needed.")
    if count >= len(rows):
        return rows
    sizes = sizes_of(rows, names)
    parts = allot(count, {label: (1, size) for label, size in sizes.items()}, sizes)
    return draw_by_class(rows, parts, seed)[0]


def cut_off(
    rows: list[Labelled], share: float, names: dict[str, str], seed: int, source: str
) -> tuple[list[Labelled], list[Labelled]]:
    """Rows to train and rows to validate: of a class with two rows at least one each, of one with a single row none."""
    sizes = sizes_of(rows, names)
    bounds = {label: (min(1, size - 1), size - 1) for label, size in sizes.items()}
    parts = allot(round(share * len(rows)), bounds, sizes)
    if not sum(parts.values()):
        raise UserError(
            f"{source}: no row of train can be cut off to validate on, as every class has one only; raise [data] count"
            " or name a file as [data] dev."
        )
    validation, kept = draw_by_class(rows, parts, seed)
    return kept, validation
