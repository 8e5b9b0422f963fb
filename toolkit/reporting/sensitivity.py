"""Does the answer depend on a setting? The primary outcome by the one setting of which a grid has several values."""

from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from toolkit.reporting.figures import MARKERS, STYLE, colour_of, set_title
from toolkit.reporting.verdict import EVERY_OUTCOME, interval, percent

FEWEST = 3
"""Values that make a line."""
CAPTION = "The primary outcome by the setting that the grid varies."
Settings = dict[str, dict[str, Any]]


def arms(differing: Settings) -> tuple[str, dict[str, list[tuple[float, str]]]] | None:
    """The setting, and for each arm (its other settings, in words) the setting's values with the group that has it.

    None where no setting, or more than one, has several numbers. differing: every setting in which groups differ, with
    each group's value.
    """
    numbers = [key for key, values in differing.items() if is_scale(list(values.values()))]
    if not numbers:
        return None
    key, *more = numbers
    # Rank and alpha may go together: then they are one setting.
    if any(not go_together(list(differing[key].values()), list(differing[other].values())) for other in more):
        return None
    found: dict[str, list[tuple[float, str]]] = {}
    for group, value in differing[key].items():
        said = ", ".join(str(values[group]) for other, values in differing.items() if other not in numbers)
        found.setdefault(said, []).append((value, group))
    lines = {said: sorted(points) for said, points in found.items()}
    return (key, lines) if all(len(points) >= FEWEST for points in lines.values()) else None


def is_scale(values: list[Any]) -> bool:
    """Whether these are positive numbers, of which there are enough for a line."""
    return all(type(value) in (int, float) and value > 0 for value in values) and len(set(values)) >= FEWEST


def go_together(one: list[Any], other: list[Any]) -> bool:
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


def in_words(differing: Settings, outcome: str, spreads: dict[str, Any]) -> list[str]:
    """The value at which each arm did best; it is chosen by these runs, so that it is to be judged on other seeds."""
    found, about = arms(differing), EVERY_OUTCOME[outcome]
    if found is None:
        return []
    key, lines = found
    best = []
    for said, points in lines.items():
        known = [
            (spreads[group]["mean"], value, group) for value, group in points if spreads[group]["mean"] is not None
        ]
        if not known:
            continue
        most = (min if about.less_is_more else max)(mean for mean, _, _ in known)
        first = [(value, group) for mean, value, group in known if mean == most]
        alike = len(first) == len(known) > 1
        values = "all alike" if alike else " and ".join(f"{value:g}" for value, _ in first)
        best.append(f"{said}{': ' if said else ''}{values} ({interval(about, spreads[first[0][1]])})")
    if not best:
        return []
    return [f"Best {key} of these by {about.said}: {', '.join(best)}. Judge it on other seeds than it was chosen on."]


def figure(differing: Settings, outcome: str, spreads: dict[str, Any]) -> Figure | None:
    """The primary outcome against the setting, a line an arm, with t intervals over runs."""
    found, about = arms(differing), EVERY_OUTCOME[outcome]
    if found is None:
        return None
    key, lines = found
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(6.6, 4.2), layout="constrained")
        panel = drawn.subplots()
        for number, (said, points) in enumerate(lines.items()):
            known = [(value, spreads[group]) for value, group in points if spreads[group]["mean"] is not None]
            look: dict[str, Any] = {"color": colour_of(number), "marker": MARKERS[number % len(MARKERS)]}
            panel.plot([value for value, _ in known], [s["mean"] for _, s in known], label=said or "all", **look)
            for value, spread in known:
                if spread["low"] is not None:
                    panel.vlines(value, spread["low"], spread["high"], color=colour_of(number), linewidth=1.2)
        values = sorted({value for points in lines.values() for value, _ in points})
        panel.set_xscale("log")
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.xaxis.set_minor_locator(NullLocator())
        if about.form is percent:
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_xlabel(key)
        panel.set_ylabel(about.said)
        set_title(panel, f"Does it depend on {key.rpartition('.')[2].replace('_', ' ')}?", "95 % t interval over runs")
        panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return drawn
