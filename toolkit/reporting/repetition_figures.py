"""Draws what was repeated: by epoch, greedy and sampled beside what people wrote, and against the loss."""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from toolkit.metrics.statistics import Mean
from toolkit.reporting.figures import GREY, MOST_BANDS, STYLE, Look, mark, new_figure, set_title, what_is_drawn
from toolkit.reporting.groups import Group
from toolkit.reporting.repetition_groups import LOSS
from toolkit.reporting.repetition_prompts import MAIN
from toolkit.reporting.repetition_read import GREEDY, HUMAN, SAMPLED

Summary = dict[str, Any]
Point = tuple[float, Mean]
"""An epoch, and a mean over runs there."""
LOOPS = (
    ("loops", "Texts that end in a loop", "share of texts"),
    ("never_ended", "Texts that do not end by themselves", "share of texts"),
)
ALIKE = (
    ("distinct_texts", "Different texts", "share of all texts"),
    ("distinct_2", "Different 2-grams", "share of all texts' 2-grams"),
)
"""Measure, title and axis."""
DASHED, DOTTED = (0, (5, 2)), (0, (1, 1.6))
FEWEST_FOR_T = 3
"""The t interval of two runs is so wide that it would rule the axis."""


def by_epoch(groups: list[Group], axis: str) -> Figure | None:
    """Repeated 4-grams of greedy and sampled texts with people's own, and the loss of the reference answers."""
    known = [group for group in groups if points(group, f"repetition/{GREEDY}/{MAIN}")]
    if not known:
        return None
    losses = any(points(group, LOSS) for group in known)
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=1 + losses, said=what_is_drawn(groups, single_runs=False))
        set_title(panels[0], "Repeated 4-grams", "solid: greedy; dotted: sampled; dashed: human answers")
        for group in known:
            for texts, style in ((GREEDY, "-"), (SAMPLED, DOTTED), (HUMAN, DASHED)):
                line(panels[0], groups, group, looks[group.name], points(group, f"repetition/{texts}/{MAIN}"), style,
                     what="" if texts == GREEDY else texts, highest=1.0)  # fmt: skip
        in_per_cent(panels[0], "share of the text")
        if losses:
            set_title(panels[1], "Loss of the reference answers", "of the same prompts")
            for group in known:
                line(panels[1], groups, group, looks[group.name], points(group, LOSS), "-")
            panels[1].set_ylabel("nats a token")
            panels[1].set_ylim(bottom=0)
        for panel in panels:
            epochs(panel, axis)
        return figure


def shares(groups: list[Group], axis: str, kinds: tuple[tuple[str, str, str], ...]) -> Figure | None:
    """Two shares of each reading's greedy and sampled texts side by side: LOOPS, or ALIKE."""
    if not any(points(group, f"repetition/{GREEDY}/{key}") for group in groups for key, *_ in kinds):
        return None
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2, said=what_is_drawn(groups, single_runs=False))
        for panel, (key, title, label) in zip(panels, kinds, strict=True):
            set_title(panel, title, "solid: greedy; dotted: sampled; dashed: human answers")
            for group in groups:
                for texts, style in ((GREEDY, "-"), (SAMPLED, DOTTED), (HUMAN, DASHED)):
                    line(panel, groups, group, looks[group.name], points(group, f"repetition/{texts}/{key}"), style,
                         what="" if texts == GREEDY else texts, highest=1.0)  # fmt: skip
            in_per_cent(panel, label)
            epochs(panel, axis)
        return figure


def against_loss(groups: list[Group], found: Summary, axis: str) -> Figure | None:
    """By epoch the correlation over prompts within a checkpoint; and each group's path of repetition against loss.

    groups: with their readings of repetition.
    """
    within = {group.name: rhos(found[group.name], axis) for group in groups}
    paths = {group.name: path(group) for group in groups}
    if not any(within.values()) and not any(paths.values()):
        return None
    how = "Bands: 95 %, over runs by t; of one run over its prompts." if len(groups) <= MOST_BANDS else ""
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2, said=how)
        set_title(panels[0], "Within a checkpoint, by prompt", "Spearman: repeated 4-grams and loss, greedy")
        panels[0].axhline(0, color=GREY, linewidth=0.8, zorder=1.5)
        for group in groups:
            line(panels[0], groups, group, looks[group.name], within[group.name], "-", fewest=1, lowest=-1, highest=1)
        panels[0].set_ylim(-1.03, 1.03)
        panels[0].set_ylabel("rank correlation")
        epochs(panels[0], axis)
        set_title(panels[1], "Across checkpoints", "a point a reading, the mean over runs; large: the last")
        for group in groups:
            x, y = ([place[axis] for place in paths[group.name]] for axis in (0, 1))
            look, gid = looks[group.name], mark(groups, group)
            panels[1].plot(x, y, color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.2, gid=gid)
            panels[1].plot(x[-1:], y[-1:], color=look.colour, marker=look.marker, markersize=9, linewidth=0, gid=gid)
        in_per_cent(panels[1], "repeated 4-grams of greedy texts")
        panels[1].set_xlabel("loss of the reference answers (nats a token)")
        return figure


def rhos(found: Summary, axis: str) -> list[Point]:
    """Of one run too: its interval is that over prompts."""
    readings = found["within"][f"{GREEDY}/{MAIN}"]["readings"]
    ends = [[math.nan if one[end] is None else one[end] for end in ("low", "high")] for one in readings]
    return [
        (one["step" if axis == "updates" else "epoch"], Mean(one["rho"], low, high, one["runs"]))
        for one, (low, high) in zip(readings, ends, strict=True)
        if one["rho"] is not None and (one["runs"] != 2 or one["over"] != "runs")
    ]


def path(group: Group) -> list[tuple[float, float]]:
    """Loss and repetition at each epoch at which every run was read."""
    loss, repeated = (dict(points(group, key)) for key in (LOSS, f"repetition/{GREEDY}/{MAIN}"))
    return [(loss[epoch].mean, repeated[epoch].mean) for epoch in loss if epoch in repeated]


# --- parts ---


def points(group: Group, key: str) -> list[Point]:
    return [(point.epoch, point.value) for point in group.curve(key)]


def line(
    panel: Axes, groups: list[Group], group: Group, look: Look, drawn: list[Point], style: Any, *, what: str = "",
    fewest: int = FEWEST_FOR_T, lowest: float = 0.0, highest: float = math.inf,
) -> None:  # fmt: skip
    """A group's means, and where it is its main line, a band of so many runs or more, as far as the measure goes."""
    main, gid = style == "-", mark(groups, group, what)
    panel.plot(
        [x for x, _ in drawn], [mean.mean for _, mean in drawn], color=look.colour, linestyle=style,
        linewidth=1.8 if main else 1.2, marker=look.marker if what != HUMAN else None, markersize=5 if main else 3.5,
        markerfacecolor=look.colour if main else "white", markevery=max(1, len(drawn) // 12), gid=gid,
        zorder=3 if main else 2.5,
    )  # fmt: skip
    banded = [(x, mean) for x, mean in drawn if math.isfinite(mean.low) and mean.n >= fewest]
    if main and banded and len(groups) <= MOST_BANDS:
        limits = panel.get_ylim()
        panel.fill_between(
            [x for x, _ in banded], [max(mean.low, lowest) for _, mean in banded],
            [min(mean.high, highest) for _, mean in banded], color=look.colour, alpha=0.16, linewidth=0, gid=gid,
            zorder=2,
        )  # fmt: skip
        panel.set_ylim(limits)
        panel.autoscale(enable=True, axis="y")


def in_per_cent(panel: Axes, text: str) -> None:
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    top = min(1.03, max(panel.get_ylim()[1], 0.05))
    # Marks at 0 are whole.
    panel.set_ylim(-0.03 * top, top)
    panel.set_ylabel(text)


def epochs(panel: Axes, axis: str = "epochs") -> None:
    panel.set_xlabel(axis)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))
