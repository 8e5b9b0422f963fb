"""Figures as files: PNG and SVG for papers, and SVG with its data for the page."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from toolkit.reporting.figures import STYLE

DPI = 200
THEMED = {"#555555": "var(--muted)", "#e6e6e6": "var(--grid)", "#000000": "var(--ink)", "#ffffff": "var(--paper)"}
"""Colours of the figures' furniture, and what they are called on the page, which is light or dark."""


Drawn = tuple[str, str, Figure | None]
"""A figure's file, its caption, and itself; None where there is nothing to draw."""


class Inline(NamedTuple):
    """A figure as the page holds it."""

    svg: str
    series: list[dict[str, Any]]
    """Lines with their points, where they are drawn and what is said of them, for pointer and keyboard."""
    wide: bool
    """Whether it has panels side by side."""


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """A group may be called what the font has no letters for: boxes in the picture, names on the page and in text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), any_letters():
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def svg(figure: Figure, *, text: bool = False, name: str = "figure") -> str:
    """The figure as SVG; the same bytes every time. text: letters stay letters, in whatever font there is."""
    buffer = io.StringIO()
    settings: dict[Any, Any] = {**STYLE, "svg.hashsalt": name, "svg.fonttype": "none" if text else "path"}
    with matplotlib.rc_context(settings), any_letters():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def inline(figure: Figure, names: list[str], name: str) -> Inline:
    """The figure for the page: its own <svg> in the page's colours, and the points of every group's lines."""
    listed = series(figure, names)
    drawn = svg(figure, text=True, name=name)
    drawn = drawn[drawn.index("<svg") :]
    # The page sizes it; the view box keeps its proportions.
    drawn = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", drawn, count=1)
    drawn = re.sub(r'(<svg[^>]*?) width="[^"]*"([^>]*?) height="[^"]*"', r"\1\2", drawn, count=1)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    for colour, variable in THEMED.items():
        drawn = drawn.replace(colour, variable)
    # Groups' marks become classes: ids are unique on a page, and a group has many lines.
    drawn = re.sub(r'id="(group-\d+)(-\w+)?"', r'class="\1 \1\2"', drawn)
    # matplotlib counts from one in every figure, and a page has many; nothing refers to these.
    drawn = re.sub(r' id="([a-z]+_\d+)"', rf' id="{name}-\1"', drawn)
    return Inline(drawn, listed, wide=figure.get_figwidth() > 8)


def series(figure: Figure, names: list[str]) -> list[dict[str, Any]]:
    """Every line of a group: its points in the SVG's own units, and what is said at each."""
    # The resolution of SVG: with another one the layout would differ by a little.
    figure.set_dpi(72)
    with any_letters():
        figure.canvas.draw()
    # What is saved after this lies where its points were measured.
    figure.set_layout_engine("none")
    height = figure.get_figheight() * 72
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            gid = re.fullmatch(r"group-(\d+)(-\w+)?", line.get_gid() or "")
            if gid is None or line.get_linewidth() < 1:
                continue
            group, what = int(gid[1]), (gid[2] or "").strip("-")
            label = names[group] + (f", {what}" if what else "")
            found.append({"group": group, "label": label, "points": points(axes, line, height)})
    return found


def points(axes: Any, line: Line2D, height: float) -> list[list[Any]]:
    """[x, y, what is said] of each point."""
    said_x, said_y = axes.get_xlabel().split(" (")[0], axes.yaxis.get_major_formatter()
    data: Any = line.get_xydata()
    listed = []
    for (x, y), (at_x, at_y) in zip(data, axes.transData.transform(data), strict=True):
        value = said_y(y, 0) if hasattr(said_y, "xmax") else f"{y:.4g}"
        listed.append([round(at_x, 1), round(height - at_y, 1), f"{said_x} {x:g}: {value}"])
    return listed
