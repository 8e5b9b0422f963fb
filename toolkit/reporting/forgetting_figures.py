"""Draws abilities before training and after it: a radar chart of three tasks or more, bars of fewer."""

import math
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import PercentFormatter

from toolkit.reporting.figures import GREY, MOST_BANDS, STYLE, Look, mark, new_figure, set_title
from toolkit.reporting.groups import Group

Summary = dict[str, Any]
FEWEST_SPOKES = 3
NO_INTERVAL = {"low": None, "high": None}
LONGEST = 20
"""Letters of a name on one line."""
PAPER: dict[str, Any] = {"facecolor": "#FFFFFF", "edgecolor": "none", "pad": 0.6}


class Series(NamedTuple):
    """What is drawn of one group before training, or after it."""

    colour: str
    marker: str
    values: dict[str, Summary]
    """Mean and interval by task."""
    before: bool
    gid: str | None


def abilities(groups: list[Group], said: Summary) -> Figure | None:
    """Accuracy by task: a radar chart of three tasks or more, bars of fewer; None without a share of right answers."""
    found = {group.name: main_measures(said["groups"][group.name]) for group in groups}
    tasks = list(dict.fromkeys(task for measures in found.values() for task in measures))
    if not tasks:
        return None
    one = all(len({base_of(measures[t]) for measures in found.values() if t in measures}) == 1 for t in tasks)
    grey = "Grey, dashed: the base." if one else "Dashed: before training."
    chance = {task: next(m[task]["chance"] for m in found.values() if task in m) for task in tasks}
    how = (
        "\nWhiskers: 95 %, over three runs or more by t; of one model, such as the base, over its questions."
        if len(groups) <= MOST_BANDS
        else "\nIntervals: summary.json."
    )
    guessed = " Dotted: chance." if any(chance.values()) else ""
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, (panel,), looks = new_figure(groups, panels=1, said=f"{grey}{guessed}{how}")
        drawn = series_of(groups, found, looks, one)
        if len(tasks) >= FEWEST_SPOKES:
            figure.set_figheight(figure.get_figheight() + 1.3)
            set_title(panel, "What the model can do, before and after", "")
            radar(panel, tasks, drawn, chance)
        else:
            set_title(panel, "What the model can do, before and after", "")
            bars(panel, tasks, drawn, chance)
        return figure


def main_measures(found: Summary) -> Summary:
    """The main measure of each task of a group, where it is a share."""
    main = {task: own["measures"][own["main"]] for task, own in found["tasks"].items()}
    return {task: main[task] for task in found["mean_change"]["tasks"]}


def base_of(measure: Summary) -> tuple[str, float]:
    return measure["digest"], measure["before"]["mean"]


def series_of(groups: list[Group], found: Summary, looks: dict[str, Look], one: bool) -> list[Series]:
    """The base once where it is one, else beside every group."""

    def of(group: Group, when: str) -> Series:
        look, values = looks[group.name], {task: drawable(m[when]) for task, m in found[group.name].items()}
        if len(groups) > MOST_BANDS:
            values = {task: value | NO_INTERVAL for task, value in values.items()}
        return Series(look.colour, look.marker, values, when == "before", mark(groups, group, when))

    before = [of(group, "before") for group in groups]
    if one:
        together: dict[str, Summary] = {task: value for series in before[::-1] for task, value in series.values.items()}
        before = [Series(GREY, "o", together, True, None)]
    return [*before, *(of(group, "after") for group in groups)]


def drawable(spread: Summary) -> Summary:
    """Without the interval over two runs, which is so wide that it would rule the axis."""
    return spread | NO_INTERVAL if spread["over"] == "runs" and spread["n"] == 2 else spread


# --- radar ---


def radar(panel: Axes, tasks: list[str], drawn: list[Series], chance: dict[str, float]) -> None:
    """A spoke a task. Groups stand a little apart, so that whiskers do not hide one another."""
    angles = [math.pi / 2 - 2 * math.pi * place / len(tasks) for place in range(len(tasks))]
    highest = max(value["high"] or value["mean"] for series in drawn for value in series.values.values())
    step = next(step for step in (0.05, 0.1, 0.2, 0.25) if step * 5 >= min(highest, 1) or step == 0.25)
    top = step * math.ceil(min(highest, 1) / step - 1e-9)
    web(panel, tasks, angles, top, step)
    panel.add_patch(Polygon(
        [at(chance[task], angle) for task, angle in zip(tasks, angles, strict=True)], fill=False, edgecolor=GREY,
        linewidth=1.1, linestyle=(0, (1, 2)), zorder=2,
    ))  # fmt: skip
    apart = min(math.radians(3.2), 0.5 * math.pi / len(tasks) / len(drawn))
    for place, series in enumerate(drawn):
        turn = apart * (place - (len(drawn) - 1) / 2)
        there = [(series.values[task], angle - turn) for task, angle in zip(tasks, angles, strict=True)
                 if task in series.values]  # fmt: skip
        corners = [at(value["mean"], angle) for value, angle in there]
        panel.add_patch(Polygon(
            corners, closed=len(there) == len(tasks), fill=False, edgecolor=series.colour,
            linewidth=1.3 if series.before else 1.8, linestyle=(0, (4, 2)) if series.before else "-", gid=series.gid,
            zorder=3,
        ))  # fmt: skip
        panel.plot(
            *zip(*corners, strict=True), marker=series.marker, markersize=3.5 if series.before else 5, linewidth=0,
            color=series.colour, gid=series.gid, zorder=4,
        )  # fmt: skip
        whiskers = [
            (at(max(value["low"], 0), angle), at(min(value["high"], 1), angle))
            for value, angle in there
            if value["low"] is not None
        ]
        panel.add_collection(LineCollection(whiskers, colors=series.colour, linewidths=1.1, gid=series.gid, zorder=3))


def web(panel: Axes, tasks: list[str], angles: list[float], top: float, step: float) -> None:
    """Rings, spokes, and the names of the tasks around them."""
    panel.set_axis_off()
    panel.set_aspect("equal")
    for ring in range(1, round(top / step) + 1):
        corners = [at(ring * step, angle) for angle in angles]
        panel.add_patch(Polygon(corners, fill=False, edgecolor="#E6E6E6", linewidth=0.8, zorder=1))
        # In the middle of an edge, where no spoke is.
        x, y = ((a + b) / 2 for a, b in zip(corners[0], corners[-1], strict=True))
        panel.annotate(
            f"{100 * ring * step:.0f} %", (x, y), fontsize=7, color=GREY, ha="center", va="center", zorder=5, bbox=PAPER
        )
    for task, angle in zip(tasks, angles, strict=True):
        panel.add_collection(LineCollection([[(0, 0), at(top, angle)]], colors="#E6E6E6", linewidths=0.8, zorder=1))
        x, y = at(1.06 * top, angle)
        sideways = "center" if abs(x) < 0.1 * top else "left" if x > 0 else "right"
        upright = "center" if abs(y) < 0.4 * top else "bottom" if y > 0 else "top"
        panel.annotate(wrapped(task), (x, y), fontsize=9 if len(tasks) <= 10 else 7.5, ha=sideways, va=upright)
    # Wide enough for the names, and for the title to stand at the left.
    panel.set_xlim(-1.5 * top, 1.5 * top)
    panel.set_ylim(-1.12 * top, (1.1 + 0.1 * (1 + wrapped(tasks[0]).count("\n"))) * top)


def at(radius: float, angle: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def wrapped(name: str, longest: int = LONGEST, most: int = 3) -> str:
    """A long name in lines, broken where its words end."""
    lines = [""]
    for part in name.replace("_", "_\n").replace("-", "-\n").replace(" ", " \n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > longest:
            lines.append("")
        lines[-1] += part
    short = [line if len(line) <= longest + 4 else f"{line[: longest + 3]}…" for line in lines]
    return "\n".join(short if len(short) <= most else [*short[: most - 1], f"{short[most - 1]}…"])


# --- bars ---


def bars(panel: Axes, tasks: list[str], drawn: list[Series], chance: dict[str, float]) -> None:
    """A bar a group and task; the base's are empty."""
    width = min(0.8 / len(drawn), 0.24)
    for place, series in enumerate(drawn):
        for number, task in enumerate(tasks):
            if (value := series.values.get(task)) is None:
                continue
            x = number + width * (place - (len(drawn) - 1) / 2)
            panel.bar(
                x, value["mean"], 0.88 * width, facecolor="none" if series.before else series.colour,
                edgecolor=series.colour, linewidth=1.2, linestyle=(0, (4, 2)) if series.before else "-",
                gid=series.gid, zorder=2,
            )  # fmt: skip
            if value["low"] is not None:
                ends = max(value["low"], 0), min(value["high"], 1)
                panel.vlines(x, *ends, color="#000000", linewidth=1.1, gid=series.gid, zorder=3)
    for number, task in ((number, task) for number, task in enumerate(tasks) if chance[task]):
        panel.hlines(
            chance[task], number - 0.45, number + 0.45, color=GREY, linewidth=1.1, linestyle=(0, (1, 2)), zorder=3
        )
    panel.set_xticks(range(len(tasks)), [wrapped(task) for task in tasks])
    panel.set_xlim(-0.55, len(tasks) - 0.45)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylabel("right answers")
