"""Draws runs of several stages: recall and bits through them, of several kinds of facts, and by what a base knew."""

from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toolkit.reporting.figures import GREY, STYLE, Look, mark, new_figure, set_title, share_axis
from toolkit.reporting.groups import Group

DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
"""Of the main facts, and of each other kind in turn."""
PRIOR = "prior_"
NOT_PARTS = ("control", "paraphrase", "reversed", "continued")
"""Endings of a reading's names that are of other questions, and not of other facts."""


def through_stages(groups: list[Group]) -> Figure | None:
    """Exact recall and bits by epoch with the stages' borders, other parts dashed; None where all have one stage."""
    if not any(len(borders(group)) > 1 for group in groups):
        return None
    parts = kinds(groups, lambda ending: ending not in NOT_PARTS and not ending.startswith(PRIOR))
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2, said=said_of(parts, "facts"))
        agree = len({tuple(found.items()) for found in map(borders, groups) if len(found) > 1}) == 1
        set_title(panels[0], "Exact recall through the stages", "dotted upright: a stage begins" if agree else "")
        set_title(panels[1], "Bits that an answer costs", "rising: forgotten, or displaced by preferences")
        for panel, key in zip(panels, ("recall/exact", "recall/bits"), strict=True):
            draw(panel, groups, looks, key, parts, "epoch")
            if agree:
                draw_borders(panel, groups)
            panel.set_xlabel("epochs (of an exam: rounds)")
        share_axis(panels[0], "share of facts recalled exactly")
        panels[1].set_ylim(bottom=0)
        panels[1].set_ylabel("bits (right answer, mean)")
        return figure


def by_prior(groups: list[Group]) -> Figure | None:
    """Exact recall by exposures, a line a class of what the base knew; None where facts are of one class."""
    classes = kinds(groups, lambda ending: ending.startswith(PRIOR))
    if len(classes) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(groups, panels=1, said=said_of(classes, None))
        set_title(panel, "Does it matter what the base knew?", "exact recall of each class of facts")
        draw(panel, groups, looks, "recall/exact", classes, "exposures", main=False)
        panel.set_xlabel("exposures (presentations per fact, all classes)")
        share_axis(panel, "share of facts recalled exactly")
        return figure


def kinds(groups: list[Group], chosen: Callable[[str], bool]) -> list[str]:
    """Endings of the names of exact recall in the readings, those that are chosen, in their order."""
    keys = dict.fromkeys(key for group in groups for rows in group.readings for row in rows for key in row)
    found = [key.removeprefix("recall/exact_") for key in keys if key.startswith("recall/exact_")]
    return [ending for ending in found if chosen(ending)]


def said_of(endings: list[str], main: str | None) -> str:
    names = [main] * (main is not None) + [ending.removeprefix(PRIOR).replace("_", " ") for ending in endings]
    drawn = ("solid", "dashed", "dotted", "dash-dotted", "long-dashed")
    return f"{', '.join(f'{how}: {name}' for how, name in zip(drawn, names, strict=False))}. Means over runs."


def draw(
    panel: Axes,
    groups: list[Group],
    looks: dict[str, Look],
    key: str,
    endings: list[str],
    against: str,
    *,
    main: bool = True,
) -> None:
    """A line a group and kind, the group's colour, the kind's dashes."""
    names = [key] * main + [f"{key}_{ending}" for ending in endings]
    for group in groups:
        for name, dashes in zip(names, DASHES, strict=False):
            curve = group.curve(name)
            panel.plot(
                [getattr(point, against) for point in curve],
                [point.value.mean for point in curve],
                color=looks[group.name].colour,
                linestyle=dashes,
                linewidth=1.7 if name == key else 1.3,
                gid=mark(groups, group, name.removeprefix(key).strip("_")),
                zorder=3,
            )
    panel.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))


def borders(group: Group) -> dict[str, float]:
    """The epoch at which each stage of a group begins, by its first run."""
    found: dict[str, float] = {}
    before = 0.0
    for row in group.readings[0]:
        if (stage := str(row.get("stage"))) not in found:
            found[stage] = before
        before = row["epoch"]
    return found


def draw_borders(panel: Axes, groups: list[Group]) -> None:
    """Where stages begin, on which all groups of several stages agree."""
    several = next(found for found in map(borders, groups) if len(found) > 1)
    for number, (stage, epoch) in enumerate(several.items()):
        if epoch:
            panel.axvline(epoch, color=GREY, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5)
        # In turn higher and lower, as short stages stand close together.
        at = (epoch, 0.985 - 0.05 * (number % 2))
        panel.annotate(
            stage, at, xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points", fontsize=8,
            color=GREY, va="top",
        )  # fmt: skip
