"""Draws classifiers: the validation texts by epoch, how well each class is told apart, and how sure they may be."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from toolkit.reporting.figures import GREY, MOST_BANDS, STYLE, Look, mark, new_figure, set_title, share_axis
from toolkit.reporting.groups import Group
from toolkit.reporting.tested import Tested

CURVES = {"validation/accuracy": "Accuracy", "validation/macro_f1": "Macro F1", "validation/loss": "Loss"}
MOST_CLASSES = 40
"""Classes that are drawn one by one."""


def validation_curves(groups: list[Group]) -> Figure | None:
    """Accuracy, macro F1 and loss by epoch: means over runs, thin lines a run, and the weights that were tested."""
    if not any(group.lines(key) for group in groups for key in CURVES):
        return None
    said = "Validation texts. Lines: mean over runs; thin: single runs. Stars: the weights that were tested."
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=len(CURVES), said=said)
        chance = {run.majority_chosen[1] for group in groups for run in group.tested if run.chosen}
        for panel, (key, title) in zip(panels, CURVES.items(), strict=True):
            always = key == "validation/accuracy" and len(chance) == 1
            # A blank, so that the three titles stand in one line.
            set_title(panel, title, "dashed: always the most frequent class" if always else " ")
            for group in groups:
                draw_curve(panel, groups, group, looks[group.name], key)
            if always:
                panel.axhline(min(chance), color=GREY, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.8)
            panel.set_xlabel("epochs")
            panel.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            if key == "validation/loss":
                panel.set_ylabel("nats a text")
                cut_loss(panel, groups)
            else:
                low, high = panel.get_ylim()
                panel.set_ylim(max(low, -0.03), min(high, 1.03))
                panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        return figure


def cut_loss(panel: Axes, groups: list[Group]) -> None:
    """How far off a model is before training says little, and would take most of the panel."""
    lines = [line for group in groups for line in group.lines("validation/loss")]
    later = [loss for line in lines for epoch, _, loss in line if epoch > 0 and math.isfinite(loss)]
    highest, top = panel.get_ylim()[1], 1.1 * max(later, default=0)
    cut = 0 < top < highest / 1.5
    panel.set_ylim(0, top if cut else highest)
    if cut:
        panel.annotate(
            "some curves start above the axis", (0.985, 0.97), xycoords="axes fraction", fontsize=8, color=GREY,
            ha="right", va="top",
        )  # fmt: skip


def draw_curve(panel: Axes, groups: list[Group], group: Group, look: Look, key: str) -> None:
    curve, several = group.curve(key), len(group.runs) > 1
    panel.plot(
        [point.epoch for point in curve], [point.value.mean for point in curve], color=look.colour, linewidth=1.8,
        marker=look.marker, markersize=4, markevery=max(1, len(curve) // 8), gid=mark(groups, group), zorder=3,
    )  # fmt: skip
    for rows, test in zip(group.readings, group.tests, strict=True):
        read = [row for row in rows if row.get(key) is not None]
        if several and len(groups) <= MOST_BANDS:
            panel.plot(
                [row["epoch"] for row in read], [row[key] for row in read], color=look.colour, linewidth=0.7,
                alpha=0.6, gid=mark(groups, group), zorder=2,
            )  # fmt: skip
        kept = [(row["epoch"], row[key]) for row in read if row["step"] == test.get("best_step")][-1:]
        for epoch, value in kept:
            panel.plot(
                [epoch], [value], color=look.colour, marker="*", markersize=10, markeredgecolor="white",
                markeredgewidth=0.7, linestyle="none", gid=mark(groups, group, "tested"), zorder=4,
            )  # fmt: skip


def class_scores(groups: list[Group], summaries: list[dict[str, Any]]) -> Figure | None:
    """F1 of each class, a dot a group, with the standard deviation over its runs."""
    classes = list(dict.fromkeys(label for summary in summaries for label in summary["classes"]))
    if not 0 < len(classes) <= MOST_CLASSES:
        return None
    with matplotlib.rc_context(STYLE):
        said = "Marks: mean over runs. Lines: ± standard deviation of runs."
        figure, (panel,), looks = new_figure(groups, panels=1, said=said)
        figure.set_figheight(max(2.6, 1.9 + len(classes) * (0.2 + 0.13 * len(groups))))
        set_title(panel, "How well is each class told apart?", "F1 on the test texts")
        for number, summary in enumerate(summaries):
            look, gid = looks[summary["group"]], mark(groups, groups[number])
            shift = 0.7 * ((number + 0.5) / len(summaries) - 0.5)
            for y, label in enumerate(classes):
                f1 = summary["classes"].get(label, {}).get("f1")
                if not f1 or f1["mean"] is None:
                    continue
                # No line, so that the page reads out no point of it: its table has each number.
                panel.plot(
                    [f1["mean"]], [y + shift], color=look.colour, marker=look.marker, markersize=6, linewidth=0, gid=gid
                )
                if f1["sd"] is not None:
                    ends = max(f1["mean"] - f1["sd"], 0), min(f1["mean"] + f1["sd"], 1)
                    panel.hlines(y + shift, *ends, color=look.colour, linewidth=1.4, gid=gid)
        panel.set_yticks(range(len(classes)), classes)
        panel.set_ylim(len(classes) - 0.4, -0.6)
        panel.set_xlim(-0.03, 1.03)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_xlabel("F1")
        return figure


def sure_of(known: Sequence[Tested]) -> list[dict[str, Any]]:
    """The test texts of all runs whose class has a probability."""
    return [row for tested in known for row in tested.rows if row["p"] is not None and math.isfinite(row["p"])]


def reliability(groups: list[Group], summaries: list[dict[str, Any]]) -> Figure | None:
    """How often a class that was given is right, by its probability; the texts of all runs of a group together."""
    found = [(group, summary["calibration"]) for group, summary in zip(groups, summaries, strict=True)]
    drawn = [(group, own) for group, own in found if own]
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        said = "Test texts of all runs, in ten bins; the larger a mark, the more texts."
        figure, (panel,), looks = new_figure(groups, panels=1, said=said)
        set_title(panel, "Is it right when it is sure?", "on the line: as often as it says")
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (5, 3)))
        for number, (group, own) in enumerate(drawn):
            look, gid = looks[group.name], mark(groups, group)
            x, y = ([part[key] for part in own["bins"]] for key in ("confidence", "right"))
            texts = sum(part["answers"] for part in own["bins"])
            panel.plot(x, y, color=look.colour, linewidth=1.3, gid=gid)
            sizes = [8 + 130 * part["answers"] / texts for part in own["bins"]]
            panel.scatter(x, y, s=sizes, color=look.colour, marker=look.marker, gid=gid, zorder=3)
            if len(drawn) <= MOST_BANDS:
                error = f"{group.name}: expected calibration error {own['expected_error']:.3f}"
                at = (0.985, 0.03 + 0.05 * (len(drawn) - 1 - number))
                panel.annotate(error, at, xycoords="axes fraction", ha="right", color=look.colour, fontsize=8, gid=gid)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_xlim(-0.03, 1.03)
        panel.set_xlabel("probability that it gave to the class")
        share_axis(panel, "share of these texts that are of it")
        return figure
