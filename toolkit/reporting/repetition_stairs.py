"""Draws the losses of runs: their stairs at epoch boundaries, and where trained examples part from held-out ones."""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from toolkit.metrics.staircase import SAME
from toolkit.metrics.statistics import Mean
from toolkit.reporting.figures import GREY, STYLE, Look, mark, new_figure, set_title, what_is_drawn
from toolkit.reporting.groups import Group
from toolkit.reporting.repetition_figures import DOTTED, FEWEST_FOR_T, epochs, line
from toolkit.reporting.repetition_losses import Update, recipe_stages, training_loss

Summary = dict[str, Any]
MOST_POINTS = 400
"""Of a run's training loss."""
APART = 3.5
"""Points between groups at one boundary."""


def stairs(groups: list[Group], found: Summary, axis: str) -> Figure | None:
    """The training loss of each group's first run with its boundaries, and the drop at each boundary, over runs.

    axis: "epochs" or "updates".
    """
    drawn = [group for group in groups if found[group.name]["staircase"]]
    if not drawn:
        return None
    how = "Left: each group's first run; marks: loss of held-out examples, the mean over runs,"
    how += "\nwhere training is on answers alone.\n"
    how += "Bars: 95 %, over runs by t; of one run by the scatter of its updates."
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2, said=how)
        set_title(panels[0], "Training loss", "vertical lines: epoch boundaries")
        for group in drawn:
            training(panels[0], groups, group, looks[group.name], found[group.name], axis)
        panels[0].set_ylabel("nats a token")
        epochs(panels[0], axis)
        set_title(panels[1], "Drop at each epoch boundary", "above 0: a step down")
        panels[1].axhline(0, color=GREY, linewidth=0.8, zorder=1.5)
        for place, group in enumerate(drawn):
            aside = APART * (place - (len(drawn) - 1) / 2)
            drops(panels[1], groups, group, looks[group.name], found[group.name], aside, place_on(axis))
        panels[1].set_ylabel("nats")
        panels[1].set_xlabel(f"boundary after {'update' if axis == 'updates' else 'epoch'}")
        panels[1].xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))
        return figure


def place_on(axis: str) -> str:
    """The name under which readings, updates and boundaries hold their place."""
    return "step" if axis == "updates" else "epoch"


def training(panel: Axes, groups: list[Group], group: Group, look: Look, found: Summary, axis: str) -> None:
    gid, place = mark(groups, group), place_on(axis)
    for stage in training_loss(group.runs[0]).values():
        points = [mean_point(updates, place) for updates in thinned(stage)]
        panel.plot(*zip(*points, strict=True), color=look.colour, linewidth=1.0, alpha=0.75, gid=gid, zorder=2)
    for at in sorted({boundary[place] for stage in found["staircase"] for boundary in stage["boundaries"]}):
        panel.axvline(at, color=GREY, linewidth=0.6, linestyle=DOTTED, zorder=1)
    # Held-out losses are of answers' tokens.
    if found["memorisation"] and all((stage.get("loss_on") or "answer") == "answer" for stage in recipe_stages(group)):
        means = [(one[place], one["held_out"]["mean"]) for one in found["memorisation"]["readings"]]
        panel.plot(
            *zip(*means, strict=True), color=look.colour, marker=look.marker, markersize=6, linewidth=0, gid=gid,
            markeredgecolor="white", markeredgewidth=0.7, zorder=3,
        )  # fmt: skip


def thinned(updates: list[Update]) -> list[list[Update]]:
    """Neighbours together, none across the end of an epoch, where there are more points than can be seen."""
    size = math.ceil(len(updates) / MOST_POINTS)
    bins: list[list[Update]] = [[]]
    for update in updates:
        # The last update of an epoch has its number: 1.0 is of the first.
        if bins[-1] and (len(bins[-1]) >= size or epoch_of(update) > epoch_of(bins[-1][0])):
            bins.append([])
        bins[-1].append(update)
    return bins


def epoch_of(update: Update) -> int:
    return math.ceil(update.epoch - SAME)


def mean_point(updates: list[Update], place: str) -> tuple[float, float]:
    x, y = (math.fsum(getattr(update, name) for update in updates) / len(updates) for name in (place, "loss"))
    return x, y


def drops(
    panel: Axes, groups: list[Group], group: Group, look: Look, found: Summary, points_aside: float, place: str
) -> None:
    """Groups stand a little apart; what the page reads out is the boundary itself."""
    aside = panel.transData + ScaledTranslation(points_aside / 72, 0, panel.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
    known = [
        (boundary[place], boundary["drop"])
        for stage in found["staircase"]
        for boundary in stage["boundaries"]
        if boundary["drop"]["mean"] is not None
    ]
    style: dict[str, Any] = {"color": look.colour, "gid": mark(groups, group), "transform": aside}
    panel.plot(
        [x for x, _ in known], [drop["mean"] for _, drop in known], marker=look.marker, markersize=5.5,
        linestyle="none", linewidth=1, zorder=3, **style,
    )  # fmt: skip
    for x, drop in known:
        if drop["low"] is not None and (drop["over"] != "runs" or drop["n"] >= FEWEST_FOR_T):
            # Thinner than what is read out point by point.
            panel.plot([x, x], [drop["low"], drop["high"]], linewidth=0.95, zorder=2.5, **style)
            panel.update_datalim([(x, drop["low"]), (x, drop["high"])])
    # What is moved aside does not count by itself.
    panel.update_datalim([(x, drop["mean"]) for x, drop in known])
    panel.autoscale_view()


def memorised(groups: list[Group], found: Summary, axis: str) -> Figure | None:
    """Losses of trained and of held-out examples by reading, and the gap between them since the first."""
    drawn = [group for group in groups if found[group.name]["memorisation"]]
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        how = f"{what_is_drawn(groups, single_runs=False)} Gap of one run: 95 % over its examples (Welch)."
        figure, panels, looks = new_figure(groups, panels=2, said=how.strip())
        controls = any(found[group.name]["memorisation"]["held_out"] != "validation" for group in drawn)
        other = "controls" if controls else "held-out"
        set_title(panels[0], "Loss of answers", f"solid: trained examples; dotted: {other}")
        set_title(panels[1], "Gap", f"{other} less trained, since the first reading")
        panels[1].axhline(0, color=GREY, linewidth=0.8, zorder=1.5)
        for group in drawn:
            readings = found[group.name]["memorisation"]["readings"]
            of = {name: [(one[place_on(axis)], mean_of(one[name])) for one in readings]
                  for name in ("trained", "held_out", "gap")}  # fmt: skip
            look = looks[group.name]
            line(panels[0], groups, group, look, of["trained"], "-")
            line(panels[0], groups, group, look, of["held_out"], DOTTED, what="held-out")
            fewest = 1 if len(group.runs) == 1 else FEWEST_FOR_T
            line(panels[1], groups, group, look, of["gap"], "-", lowest=-math.inf, fewest=fewest)
        panels[0].set_ylim(bottom=0)
        for panel in panels:
            panel.set_ylabel("nats a token")
            epochs(panel, axis)
        return figure


def mean_of(spread: Summary) -> Mean:
    low, high = (math.nan if spread[end] is None else spread[end] for end in ("low", "high"))
    return Mean(spread["mean"], low, high, spread["n"])
