"""Draws confusion matrices: of the texts of each class, which share was taken for which."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from toolkit.metrics.classification import Scores
from toolkit.reporting.figures import GREY, STYLE

MOST_PANELS = 8
MOST_KEPT = 100
"""Classes up to which matrices are added up and reported; each run's test_results.json has its own."""
MOST_COUNTED = 12
"""Classes up to which counts stand in the cells."""
MOST_NAMED = 40
"""Classes up to which they are named at the axes."""
LONGEST = 18
"""Letters of a class at the axes."""
Matrix = Sequence[Sequence[int]]
"""Texts: a row a gold class, a column a predicted one, in one order; a last column of those that could not be read."""


def added(scores: Sequence[Scores]) -> list[list[int]] | None:
    """The matrices of runs with the same classes, added up; None where there is none, or classes are too many."""
    if not scores or len(scores[0].confusion) > MOST_KEPT:
        return None
    return [[sum(cells) for cells in zip(*rows, strict=True)]
            for rows in zip(*(found.confusion for found in scores), strict=True)]  # fmt: skip


def confusion_figure(confusion: Matrix, labels: Sequence[str], title: str) -> Figure:
    """The matrix of one run. confusion: counts as `Scores.confusion` has them, a row a gold class."""
    return panels([(title, labels, confusion)])


def by_group(summaries: list[dict[str, Any]]) -> Figure | None:
    """A panel a group, its runs added up; beside it one of its own replies, where some of them are no class."""
    drawn = []
    for summary in summaries:
        if not summary["confusion"] or not summary["labels"]:
            continue
        runs = f" ({summary['runs']} runs)" if summary["runs"] > 1 else ""
        drawn.append((summary["group"] + runs, summary["labels"], summary["confusion"]))
        replies = summary["replies_confusion"]
        if replies and any(row[-1] for row in replies):
            drawn.append((f"{summary['group']}, own replies", summary["labels"], replies))
    return panels(drawn) if 0 < len(drawn) <= MOST_PANELS else None


def panels(drawn: Sequence[tuple[str, Sequence[str], Matrix]]) -> Figure:
    """drawn: of each panel its title, its classes and its matrix."""
    most = max(len(labels) for _, labels, _ in drawn)
    side = min(6.5, max(2.0, 0.46 * min(most, MOST_COUNTED) + 0.06 * max(0, most - MOST_COUNTED)))
    names = 0.075 * min(LONGEST, max(len(label) for _, labels, _ in drawn for label in labels)) + 0.5
    across = max(1, min(len(drawn), int(13 / (side + names))))
    down = math.ceil(len(drawn) / across)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = across * (side + names) + 0.3, down * (side + names + 0.5) + 0.3
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
        for panel, (title, labels, matrix) in zip(axes, drawn, strict=False):
            draw(panel, matrix, labels, title)
        for panel in axes[len(drawn) :]:
            panel.remove()
        figure.supxlabel("Colour: share of the texts of a class; numbers: texts.", fontsize=8, color=GREY)
        return figure


def draw(panel: Axes, matrix: Matrix, labels: Sequence[str], title: str) -> None:
    """One matrix, its rows as shares; the column of unreadable replies only where there are any."""
    unreadable = any(row[-1] for row in matrix)
    rows = [list(row if unreadable else row[:-1]) for row in matrix]
    shares = [[count / (sum(row) or 1) for count in row] for row in rows]
    panel.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if len(labels) <= MOST_COUNTED:
        for y, row in enumerate(rows):
            for x, count in enumerate(row):
                # In the dark, too: it stands on the cell's own colour.
                ink = "#fdfdfd" if shares[y][x] < 0.55 else "#111111"
                panel.text(x, y, f"{count:,}", ha="center", va="center", color=ink, fontsize=8)
    if len(labels) <= MOST_NAMED:
        said = [label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…" for label in labels]
        panel.set_xticks(range(len(rows[0])), [*said, "unreadable"][: len(rows[0])], rotation=40, ha="right")
        panel.set_yticks(range(len(labels)), said)
    else:
        panel.set_xticks([])
        panel.set_yticks([])
    panel.set_xlabel("taken for")
    panel.set_ylabel("is")
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold")
