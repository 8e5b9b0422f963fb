"""Draws what memory cost: memory gained against ability lost, and ability through training."""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toolkit.reporting.figures import GREY, MOST_BANDS, STYLE, Look, mark, new_figure, set_title, what_is_drawn
from toolkit.reporting.forgetting_frontier import with_readings
from toolkit.reporting.groups import Group
from toolkit.reporting.verdict import MEAN_CHANGE

Summary = dict[str, Any]
NEAR, APART = 0.22, 0.05
"""Shares of the panel: labels of which the first is nearer than that stand the second apart."""
FEWEST_FOR_T = 3
"""The t interval of two runs is so wide that it would rule the axis."""


def frontier(groups: list[Group], said: Summary) -> Figure | None:
    """A small mark a run, a large one a group, and its line through training from the origin."""
    found = said["frontier"]
    if found is None:
        return None
    several = any(len(own["runs"]) > 1 for own in found["groups"].values())
    how = "Large: mean over runs; small: each run. " if several else ""
    how += "Lines: through training, where it was read.\nWhiskers: 95 %, over runs by t; of one run over its questions."
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(groups, panels=1, said=how)
        figure.set_figheight(figure.get_figheight() + 0.5)
        set_title(panel, "What memory cost", "right: more memory; down: less forgotten")
        panel.axhline(0, color=GREY, linewidth=0.8, zorder=1.5)
        for group in groups:
            if group.name in found["groups"]:
                draw_group(panel, looks[group.name], found["groups"][group.name], mark(groups, group))
        panel.set_xlabel(found["said"])
        panel.set_ylabel("ability lost (points, mean over tasks)")
        name_points(panel, groups, looks, found["groups"])
        return figure


def draw_group(panel: Axes, look: Look, found: Summary, gid: str) -> None:
    x, y = found["gained"], found["lost"]
    line = found["line"] if len(found["line"]) > 1 else [[0.0, 0.0, 0.0], [1.0, x["mean"], y["mean"]]]
    panel.plot(
        [point[1] for point in line], [point[2] for point in line], color=look.colour, linewidth=1.4, gid=gid, zorder=2,
        marker=look.marker if len(line) > 2 else None, markersize=3,
    )  # fmt: skip
    if len(found["runs"]) > 1:
        panel.plot(
            [run["gained"] for run in found["runs"]], [run["lost"] for run in found["runs"]], color=look.colour,
            marker=look.marker, markersize=4.5, alpha=0.55, linewidth=0, gid=gid, zorder=3,
        )  # fmt: skip
    panel.plot(
        [x["mean"]], [y["mean"]], color=look.colour, marker=look.marker, markersize=9, markeredgecolor="white",
        markeredgewidth=0.8, linewidth=0, gid=gid, zorder=4,
    )  # fmt: skip
    if y["low"] is not None and (y["over"] != "runs" or x["n"] >= FEWEST_FOR_T):
        panel.vlines(x["mean"], y["low"], y["high"], color=look.colour, linewidth=1.2, gid=gid, zorder=2.5)
    if x["low"] is not None and x["n"] >= FEWEST_FOR_T:
        panel.hlines(y["mean"], x["low"], x["high"], color=look.colour, linewidth=1.2, gid=gid, zorder=2.5)


def name_points(panel: Axes, groups: list[Group], looks: dict[str, Look], found: Summary) -> None:
    """Each group's name beside its large mark, in what distinguishes it; neighbours stand apart."""
    low, high = panel.get_xlim()
    panel.set_xlim(low, high + 0.16 * (high - low))
    width, height = (end - start for start, end in (panel.get_xlim(), panel.get_ylim()))
    names = dict(zip(found, short_names(list(found)), strict=True))
    placed: list[tuple[float, float]] = []
    for name in sorted(found, key=lambda name: found[name]["lost"]["mean"]):
        x, y = found[name]["gained"]["mean"], found[name]["lost"]["mean"]
        label = y
        for other_x, other_y in placed:
            if abs(other_x - x) < NEAR * width:
                label = max(label, other_y + APART * height)
        placed.append((x, label))
        group = next(group for group in groups if group.name == name)
        panel.annotate(
            names[name], (x, label), xytext=(8, 0), textcoords="offset points", fontsize=8.5, va="center",
            color=looks[name].colour, gid=mark(groups, group), zorder=5,
        )  # fmt: skip


def short_names(names: list[str]) -> list[str]:
    """Without what all begin with: chinese-rank8 and chinese-rank64 are rank8 and rank64."""
    parts = [name.split("-") for name in names]
    shared = 0
    if len(parts) > 1:
        while shared < min(map(len, parts)) - 1 and len({part[shared] for part in parts}) == 1:
            shared += 1
    return ["-".join(part[shared:]) for part in parts]


def through_training(groups: list[Group]) -> Figure | None:
    """The mean change over tasks by epoch, and beside it how far the model moved on held-out text; None without."""
    others = with_readings(groups)
    keys = {key for group in others for rows in group.readings for row in rows for key in row}
    moved = sorted(key for key in keys if key.endswith("/kl_from_base"))
    drawn = [key for key in (MEAN_CHANGE, *moved[:1]) if any(group.curve(key) for group in others)]
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(others, panels=len(drawn), said=what_is_drawn(others))
        for panel, key in zip(panels, drawn, strict=True):
            points = key == MEAN_CHANGE
            if points:
                set_title(panel, "Ability through training", "mean change over tasks; down: forgotten")
                panel.axhline(0, color=GREY, linewidth=0.8, zorder=1.5)
            else:
                text = key.removeprefix("heldout/").removesuffix("/kl_from_base")
                set_title(panel, "Distance from the base", f"KL(base || model) on {text}")
            for group in others:
                draw_curve(panel, others, group, looks[group.name], key, 100 if points else 1)
            panel.set_ylabel("points" if points else "bits a token")
            panel.set_xlabel("epochs")
            panel.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))
        return figure


def draw_curve(panel: Axes, groups: list[Group], group: Group, look: Look, key: str, times: float) -> None:
    """The mean over runs, with a band of three runs or more, and the runs themselves where they are two."""
    curve, gid = group.curve(key), mark(groups, group)
    x = [point.epoch for point in curve]
    panel.plot(
        x, [times * point.value.mean for point in curve], color=look.colour, linewidth=1.8, marker=look.marker,
        markersize=4.5, gid=gid, zorder=3,
    )  # fmt: skip
    lines = group.lines(key)
    if len(lines) == 2:
        for line in lines:
            ends = [point[0] for point in line], [times * point[2] for point in line]
            panel.plot(*ends, color=look.colour, linewidth=0.7, alpha=0.7, gid=gid, zorder=2)
    if len(lines) > 2 and len(groups) <= MOST_BANDS:
        low, high = ([times * getattr(point.value, end) for point in curve] for end in ("low", "high"))
        lowest = -math.inf if key == MEAN_CHANGE else 0.0
        panel.fill_between(
            x, [max(value, lowest) for value in low], high, color=look.colour, alpha=0.16, linewidth=0, gid=gid,
            zorder=2,
        )  # fmt: skip
