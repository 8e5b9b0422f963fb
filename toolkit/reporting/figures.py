"""Draws what the groups learned: loss against epochs, and recall and bits memorised against exposures."""

import math
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from toolkit.reporting.groups import Group

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that paper swallows. Seven colours
# and eight markers: no pair comes twice before the 57th group.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#555555"
MOST_BANDS = 5
"""With more groups than this, bands hide one another and the lines."""
Against = Literal["epoch", "exposures"]
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
}


def colour_of(number: int) -> str:
    """A group's colour, by its place; in figures, on the page and at W&B."""
    return COLOURS[number % len(COLOURS)]


class Look(NamedTuple):
    """How a group is drawn, in every panel."""

    colour: str
    marker: str


def loss_curves(groups: list[Group]) -> Figure:
    """Loss in nats a digit by epoch, with each group's rule-only floor; a panel beside it for whole lines."""
    whole_lines = any(group.lines("loss/line_nats") for group in groups)
    unit = "digit" if all(group.data.get("answer_digits") for group in groups) else "token of the answer"
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2 if whole_lines else 1)
        floors = [(group.floor_digit_nats, looks[group.name].colour) for group in groups]
        known = any(value is not None for value, _ in floors)
        set_title(panels[0], f"Loss per {unit}", "dashed: a model that knows the rule and no number" if known else "")
        _draw(panels[0], groups, looks, "loss/digit_nats")
        _levels(panels[0], floors, "floor {:.3f}")
        panels[0].set_ylabel(f"nats per {unit}")
        if whole_lines:
            line_floors = [(group.floor_line_nats, looks[group.name].colour) for group in groups]
            known = any(value is not None for value, _ in line_floors)
            said = "dashed: a model that knows the rule and guesses the index" if known else ""
            set_title(panels[1], "Loss per token, whole line", said)
            _draw(panels[1], groups, looks, "loss/line_nats")
            _levels(panels[1], line_floors, "floor {:.3f}")
            panels[1].set_ylabel("nats per token")
        for panel in panels:
            panel.set_xlabel("epochs")
            # Floors are drawn without moving the axis; nothing of a curve may touch its edge.
            top = max(panel.get_ylim()[1], panel.dataLim.ymax)
            panel.set_ylim(-0.02 * top, 1.05 * top)
        return figure


def recall_curves(groups: list[Group]) -> Figure:
    """Exact recall and, where an entropy is known, bits memorised per number, by exposures."""
    bits_known = any(group.lines("recall/bits_memorised") for group in groups)
    with matplotlib.rc_context(STYLE):
        figure, panels, looks = new_figure(groups, panels=2 if bits_known else 1)
        controls = any(group.lines("recall/exact_control") for group in groups)
        set_title(panels[0], "Exact recall", "dotted: controls, never trained" if controls else "")
        _draw(panels[0], groups, looks, "recall/exact", against="exposures")
        if controls:
            _draw(panels[0], groups, looks, "recall/exact_control", against="exposures", dotted=True)
        share_axis(panels[0], "share of facts recalled exactly")
        if bits_known:
            kind = "number" if all(group.data.get("answer_digits") for group in groups) else "answer"
            set_title(panels[1], f"Bits memorised per {kind}", "dashed: H, all that there is to memorise")
            _draw(panels[1], groups, looks, "recall/bits_memorised", against="exposures")
            entropies = [(group.entropy_bits, looks[group.name].colour) for group in groups]
            _cut_start(panels[1], max((value for value, _ in entropies if value is not None), default=0))
            _levels(panels[1], entropies, "H {:.2f}")
            panels[1].set_ylabel("bits (0: the rule alone)")
        for panel in panels:
            panel.set_xlabel("exposures (presentations per fact)")
        return figure


def new_figure(groups: list[Group], panels: int, said: str | None = None) -> tuple[Figure, list[Axes], dict[str, Look]]:
    """A figure with its panels side by side, one legend over them, and a line on what is drawn below."""
    looks = {group.name: Look(colour_of(i), MARKERS[i % len(MARKERS)]) for i, group in enumerate(groups)}
    labels = [f"{group.name} ({len(group.runs)} run{'s' if len(group.runs) > 1 else ''})" for group in groups]
    width = 6.6 if panels == 1 else 10.8
    columns = max(1, int(width / (0.085 * max(map(len, labels)) + 0.65)))  # inches a letter, inches a line
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(width, 4.2 + 0.22 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.06)  # type: ignore[union-attr]
    axes = figure.subplots(1, panels, squeeze=False)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, linewidth=1.8) for look in looks.values()
    ]
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=2.6, columnspacing=1.8)
    figure.supxlabel(what_is_drawn(groups) if said is None else said, fontsize=8, color=GREY)
    return figure, list(axes[0]), looks


def what_is_drawn(groups: list[Group], *, single_runs: bool = True) -> str:
    """single_runs: whether those of a group of two are drawn too."""
    counts = [len(group.runs) for group in groups]
    said = ["Lines: mean over runs."] if max(counts) > 1 else []
    said += ["Thin lines: single runs, where a group has two."] if 2 in counts and single_runs else []
    if max(counts) > 2:
        said += ["Bands: 95 % t interval of the mean." if len(groups) <= MOST_BANDS else "Intervals: summary.json."]
    return " ".join(said)


def mark(groups: list[Group], group: Group, what: str = "") -> str:
    """What an artist is called in an SVG: the page hides and names a group's lines by it."""
    return f"group-{[other.name for other in groups].index(group.name)}{'-' if what else ''}{what}"


def set_title(panel: Axes, text: str, below: str) -> None:
    panel.set_title(text, loc="left", fontsize=11, fontweight="bold", pad=20 if below else 8)
    subtitle = panel.text(0, 1.02, below, transform=panel.transAxes, fontsize=8.5, color=GREY, va="bottom")
    subtitle.set_in_layout(False)  # else its length would narrow the panel


def share_axis(panel: Axes, text: str) -> None:
    """The vertical axis of a share: the whole of it, in per cent."""
    panel.set_ylim(-0.03, 1.03)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylabel(text)


def _draw(
    panel: Axes,
    groups: list[Group],
    looks: dict[str, Look],
    key: str,
    *,
    against: Against = "epoch",
    dotted: bool = False,
) -> None:
    """Every group's mean curve, and what is known of other runs: a band, or the runs themselves where they are two."""
    for group in groups:
        curve, look = group.curve(key), looks[group.name]
        x = [getattr(point, against) for point in curve]
        panel.plot(
            x,
            [point.value.mean for point in curve],
            gid=mark(groups, group, "controls" if dotted else ""),
            color=look.colour,
            linestyle=":" if dotted else "-",
            linewidth=1.3 if dotted else 1.8,
            marker=look.marker,
            markersize=3.5 if dotted else 5,
            markerfacecolor="white" if dotted else look.colour,
            markevery=max(1, len(curve) // 12),
            zorder=2.5 if dotted else 3,
        )
        if dotted:
            continue
        lines = group.lines(key)
        if len(lines) == 2:  # the t interval of two runs is so wide that it would hide the other groups
            for line in lines:
                x = [reading[0 if against == "epoch" else 1] for reading in line]
                panel.plot(
                    x,
                    [reading[2] for reading in line],
                    color=look.colour,
                    linewidth=0.7,
                    alpha=0.7,
                    zorder=2,
                    gid=mark(groups, group),
                )
    limits = panel.get_ylim()  # from the runs: a wide band shall not rule the axis
    if not dotted and len(groups) <= MOST_BANDS:
        for group in groups:
            _band(panel, group, key, against, looks[group.name].colour, mark(groups, group))
    panel.set_ylim(limits)
    last = max([line[-1][0 if against == "epoch" else 1] for group in groups for line in group.lines(key)], default=1)
    panel.set_xlim(-0.02 * (last or 1), 1.02 * (last or 1))
    panel.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))


def _band(panel: Axes, group: Group, key: str, against: Against, colour: str, gid: str) -> None:
    """The t interval of a group of three runs or more, as far as the measure can go."""
    if len(group.lines(key)) < 3:
        return
    lowest = -math.inf if key == "recall/bits_memorised" else 0.0
    highest = {"recall/exact": 1.0, "recall/bits_memorised": group.entropy_bits}.get(key) or math.inf
    curve = group.curve(key)
    panel.fill_between(
        [getattr(point, against) for point in curve],
        [max(point.value.low, lowest) for point in curve],
        [min(point.value.high, highest) for point in curve],
        color=colour,
        gid=gid,
        alpha=0.16,
        linewidth=0,
        zorder=2,
    )


def _cut_start(panel: Axes, entropy: float) -> None:
    """How far off a model is before training says little of memory, and would take most of the panel."""
    lowest, highest = panel.get_ylim()
    highest = max(highest, entropy)
    if lowest < -0.6 * highest:
        panel.set_ylim(-0.6 * highest, highest)
        panel.annotate(
            "some curves start below the axis",
            (0.985, 0.02),
            xycoords="axes fraction",
            fontsize=8,
            color=GREY,
            ha="right",
        )
    if lowest < 0:
        panel.axhline(0, color=GREY, linewidth=0.8, zorder=1.5)


def _levels(panel: Axes, values: list[tuple[float | None, str]], text: str) -> None:
    """Dashed lines (a value and its group's colour) labelled at the right; equal ones are drawn once, in grey."""
    colours: dict[float, str] = {}
    for value, colour in values:
        if value is not None:
            colours[round(value, 4)] = GREY if round(value, 4) in colours else colour
    if not colours:
        return
    low, high = panel.get_ylim()
    high = max(high, low + 1.06 * (max(colours) - low))
    panel.set_ylim(low, high)
    at = -math.inf
    for value in sorted(colours):
        panel.axhline(value, color=colours[value], linewidth=1.1, linestyle=(0, (5, 3)), zorder=1.8)
        at = max(value, at + 0.05 * (high - low))  # labels of neighbours stand apart
        panel.annotate(
            text.format(value),
            (1.015, at),
            xycoords=("axes fraction", "data"),
            color=colours[value],
            fontsize=8.5,
            va="center",
            annotation_clip=False,
        )
