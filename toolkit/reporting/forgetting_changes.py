"""Draws the change of each task, and of the subjects that changed most, with the floor of what rounding alone does."""

from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toolkit.reporting.figures import GREY, STYLE, Look, mark, new_figure, set_title
from toolkit.reporting.forgetting_figures import main_measures, wrapped
from toolkit.reporting.forgetting_tables import changed_most
from toolkit.reporting.groups import Group
from toolkit.reporting.verdict import ALPHA

Summary = dict[str, Any]


class Row(NamedTuple):
    """A task or subject, and its change in each group."""

    name: str
    changes: dict[str, tuple[Summary, bool]]
    """By group: the change, and whether it is shown in every run."""
    noise: float
    """The share of answers that rounding alone changed."""


def figure(groups: list[Group], said: Summary) -> Figure | None:
    """The paired change of each task, and of the subjects that changed most, with intervals and the noise floor."""
    tasks = list(dict.fromkeys(task for group in said["groups"].values() for task in main_measures(group)))
    if not tasks:
        return None
    of_tasks = [task_row(task, said["groups"]) for task in tasks]
    places = changed_most({name: only(group, tasks) for name, group in said["groups"].items()})
    several = len({task for task, _ in places}) > 1
    of_subjects = [subject_row(task, name, said["groups"], several) for task, name in places]
    how = "Whiskers: 95 %, over runs by t (strokes: two runs), of one run over its questions."
    how += "\nFilled: shown in every run, with Holm."
    floor = " Shaded: as many answers changed with the base measured twice." if any(r.noise for r in of_tasks) else ""
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        drawn, (panel,), looks = new_figure(groups, panels=1, said=how + floor)
        legend, rows = drawn.get_figheight() - 4.2, len(of_tasks) + len(of_subjects)
        drawn.set_figheight(1.5 + legend + 1.1 * bool(places) + rows * (0.22 + 0.11 * len(groups)))
        panel.remove()
        heights = [len(of_tasks), len(of_subjects)] if places else [1]
        panels = drawn.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        entitle(panels[0], "Change since before training", "by task; left: forgotten")
        draw_rows(panels[0], groups, looks, of_tasks)
        if places:
            of = "by subject" if several else f"of {places[0][0]}"
            entitle(panels[1], "What changed most", f"{of}; exploratory: chosen for the least p")
            draw_rows(panels[1], groups, looks, of_subjects)
        return drawn


def entitle(panel: Axes, text: str, below: str) -> None:
    """The panels are of any height: what stands below a title is set off from them in points, and not by a share."""
    set_title(panel, text, " ")
    said = panel.annotate(
        below, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points", fontsize=8.5, color=GREY
    )
    said.set_in_layout(False)


def only(group: Summary, tasks: list[str]) -> Summary:
    return {"tasks": {task: found for task, found in group["tasks"].items() if task in tasks}}


def task_row(task: str, groups: Summary) -> Row:
    there = {name: found for name, group in groups.items() if (found := main_measures(group).get(task))}
    noise = [m["again_changed"] / m["questions"] for m in there.values() if m["again_changed"] is not None]
    changed = {name: (m["change"], all(run["shown"] for run in m["per_run"])) for name, m in there.items()}
    return Row(task, changed, max(noise, default=0.0))


def subject_row(task: str, name: str, groups: Summary, several: bool) -> Row:
    there = {
        group: own
        for group, found in groups.items()
        if (own := found["tasks"].get(task, {}).get("subjects", {}).get(name))
    }
    short = name.removeprefix(f"{task}_")
    changed = {group: (own["change"], all(p <= ALPHA for p in own["holm"])) for group, own in there.items()}
    return Row(f"{task}: {short}" if several else short, changed, 0.0)


def limits(rows: list[Row]) -> tuple[float, float]:
    """From every run and interval, in points; not that over two runs, which is so wide that it would rule the axis."""
    spreads = [change for row in rows for change, _ in row.changes.values()]
    ends = [spread[end] for spread in spreads if spread["n"] != 2 for end in ("low", "high")]
    known = [0.0, *(value for spread in spreads for value in spread["per_run"]), *ends]
    low, high = (100 * end(value for value in known if value is not None) for end in (min, max))
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def draw_rows(panel: Axes, groups: list[Group], looks: dict[str, Look], rows: list[Row]) -> None:
    panel.axvline(0, color=GREY, linewidth=0.9, zorder=1.5)
    for y, row in enumerate(rows):
        if row.noise:
            panel.barh(y, 200 * row.noise, 0.84, -100 * row.noise, color=GREY, alpha=0.16, linewidth=0, zorder=1.2)
        for place, group in enumerate(groups):
            if group.name not in row.changes:
                continue
            change, shown = row.changes[group.name]
            look, gid = looks[group.name], mark(groups, group)
            at_y = y + 0.7 * ((place + 0.5) / len(groups) - 0.5)
            if change["n"] == 2:
                runs = [100 * value for value in change["per_run"] if value is not None]
                panel.plot(runs, [at_y] * 2, color=look.colour, marker="|", markersize=7, linewidth=0, gid=gid)
            elif change["low"] is not None:
                ends = 100 * change["low"], 100 * change["high"]
                panel.hlines(at_y, *ends, color=look.colour, linewidth=1.3, gid=gid, zorder=2)
            panel.plot(
                [100 * change["mean"]], [at_y], color=look.colour, marker=look.marker, markersize=5.5, linewidth=0,
                markerfacecolor=look.colour if shown else "white", gid=gid, zorder=3,
            )  # fmt: skip
    panel.set_yticks(range(len(rows)), [wrapped(row.name, 26, 2) for row in rows])
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(*limits(rows))
    panel.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    panel.set_xlabel("points")
