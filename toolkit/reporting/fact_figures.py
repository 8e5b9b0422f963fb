"""Draws what single facts did: when they were recalled, where their digits fail, and how sure a model is of them."""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from toolkit.metrics import extraction, survival
from toolkit.metrics.statistics import t_interval
from toolkit.reporting.figures import GREY, MOST_BANDS, STYLE, Look, mark, new_figure, set_title, share_axis
from toolkit.reporting.groups import Group
from toolkit.reporting.knowledge import FIFTHS, by_recency


def survival_curves(groups: list[Group]) -> Figure | None:
    """Facts not yet recalled, by exposures: every run's Kaplan-Meier curve, with the band of each group's first run."""
    known = [group for group in groups if any(group.learning)]
    if not known:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(groups, panels=1, said="A line a run; bands: 95 %, within the first run.")
        set_title(panel, "Facts not yet recalled", "two readings in a row count; marks: the last reading")
        for group in known:
            draw_survival(panel, groups, group, looks[group.name])
        panel.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))
        panel.set_xlabel("exposures (presentations per fact)")
        share_axis(panel, "share of facts not yet recalled")
        return figure


def draw_survival(panel: Axes, groups: list[Group], group: Group, look: Look) -> None:
    for number, learning in enumerate(group.learning):
        if learning is None:
            continue
        curve = survival.kaplan_meier(learning.durations)
        x = [0.0, *curve.times]
        first = number == 0
        panel.step(
            x, [1.0, *curve.survival], where="post", color=look.colour, linewidth=1.8 if first else 0.7,
            alpha=1 if first else 0.7, marker=look.marker if first else None, markevery=[len(x) - 1],
            gid=mark(groups, group), zorder=3,
        )  # fmt: skip
        if first and len(groups) <= MOST_BANDS:
            panel.fill_between(
                x, [1.0, *curve.low], [1.0, *curve.high], step="post", color=look.colour, alpha=0.14, linewidth=0,
                gid=mark(groups, group), zorder=2,
            )  # fmt: skip


def position_map(summaries: list[dict[str, Any]]) -> Figure | None:
    """Digits right at each position, a row a group; everything before a digit is given."""
    rows = [(summary["group"], summary["by_position"]) for summary in summaries if summary["by_position"]]
    if not rows:
        return None
    longest = max(len(values) for _, values in rows)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(max(4.2, 1.6 + 0.52 * longest), 1.4 + 0.42 * len(rows)), layout="constrained")
        panel = figure.subplots()
        cells = [[*values, *[math.nan] * (longest - len(values))] for _, values in rows]
        panel.imshow(cells, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for y, (_, values) in enumerate(rows):
            for x, value in enumerate(values):
                ink = "#fdfdfd" if value < 0.55 else "#111111"  # in the dark, too: it stands on the cell's own colour
                panel.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color=ink, fontsize=8.5)
        panel.set_xticks(range(longest), [str(x + 1) for x in range(longest)])
        panel.set_yticks(range(len(rows)), [name for name, _ in rows])
        panel.set_xlabel("position of the digit")
        set_title(panel, "Digits right by position, per cent", "at the end, those before it given; mean over runs")
        return figure


def recency_curves(groups: list[Group]) -> Figure | None:
    """Bits that answers still cost, by how long ago they were fed last: what the order of facts did."""
    runs = {group.name: [by_recency(learning) for learning in group.learning if learning] for group in groups}
    known = [group for group in groups if runs[group.name] and all(runs[group.name])]
    if not known:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(groups, panels=1)
        set_title(panel, "Does it matter when a fact was fed last?", "flat: no; rising: those fed last are known best")
        for group in known:
            look, x = looks[group.name], range(1, FIFTHS + 1)
            means = [t_interval(values) for values in zip(*runs[group.name], strict=True)]
            panel.plot(
                x, [mean.mean for mean in means], color=look.colour, marker=look.marker, markersize=5, linewidth=1.8,
                gid=mark(groups, group), zorder=3,
            )  # fmt: skip
            if len(runs[group.name]) > 2 and len(groups) <= MOST_BANDS:
                panel.fill_between(
                    x, [max(mean.low, 0) for mean in means], [mean.high for mean in means], color=look.colour,
                    alpha=0.16, linewidth=0, gid=mark(groups, group), zorder=2,
                )  # fmt: skip
        panel.set_ylim(bottom=0)
        panel.set_xticks(range(1, FIFTHS + 1))
        panel.set_xlabel("fifth of the facts (1: fed last)")
        panel.set_ylabel("bits that an answer still costs")
        return figure


def calibration_curves(groups: list[Group]) -> Figure | None:
    """How often a model's own answer is right, by the probability that it gave to it; all runs of a group together."""
    drawn: list[tuple[Group, extraction.Calibration]] = []
    for group in groups:
        rows = [
            row
            for learning in group.learning
            if learning
            for row in learning.last
            if row["confidence"] is not None and math.isfinite(row["confidence"])
        ]
        if rows:
            sure = [row["confidence"] for row in rows]
            drawn.append((group, extraction.calibration(sure, [bool(row["strict"]) for row in rows])))
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(
            groups, panels=1, said="Trained facts and controls of all runs, in ten bins."
        )
        set_title(panel, "Is it right when it is sure?", "on the line: as often as it says")
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (5, 3)))
        for group, own in drawn:
            look = looks[group.name]
            panel.plot(
                [part.confidence for part in own.bins], [part.right for part in own.bins], color=look.colour,
                marker=look.marker, markersize=5, linewidth=1.4, gid=mark(groups, group),
            )  # fmt: skip
        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_xlim(-0.03, 1.03)
        panel.set_xlabel("probability that the model gave its own answer")
        share_axis(panel, "share of these answers that are right")
        return figure


ASKED = {
    "recall/exact": "trained\nprompt", "recall/exact_paraphrase": "para-\nphrases",
    "recall/exact_reversed": "reversed\nquestion", "recall/exact_continued": "text read,\ncontinued",
    "recall/exact_control": "controls,\nexact", "recall/interference": "controls,\ntrained answer",
    "recall/intrusions": "trained, another\nfact's answer",
}  # fmt: skip
"""Shares of questions, by what was asked and what counts."""


def asked_otherwise(groups: list[Group], summaries: list[dict[str, Any]]) -> Figure | None:
    """What trained facts give when asked otherwise, and what controls give, at the end."""
    keys = [key for key in ASKED if any(key in summary["final"] for summary in summaries)]
    if not keys:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (panel,), looks = new_figure(groups, panels=1, said="Marks: means over runs. Lines: 95 % t interval.")
        set_title(panel, "Trained facts and controls, at the end", "exact recall; of controls it is chance")
        for number, summary in enumerate(summaries):
            look = looks[summary["group"]]
            spreads = [(x, summary["final"][key]) for x, key in enumerate(keys) if key in summary["final"]]
            spreads = [(x, spread) for x, spread in spreads if spread["mean"] is not None]
            x = [at + 0.7 * ((number + 0.5) / len(summaries) - 0.5) for at, _ in spreads]
            panel.plot(
                x, [spread["mean"] for _, spread in spreads], color=look.colour, marker=look.marker, markersize=6,
                linestyle="none", gid=mark(groups, groups[number]),
            )  # fmt: skip
            for place, (_, spread) in zip(x, spreads, strict=True):
                if spread["low"] is not None:
                    low, high = max(spread["low"], 0.0), min(spread["high"], 1.0)
                    panel.vlines(place, low, high, color=look.colour, linewidth=1.4, gid=mark(groups, groups[number]))
        panel.set_xticks(range(len(keys)), [ASKED[key] for key in keys])
        share_axis(panel, "share of questions")
        return figure
