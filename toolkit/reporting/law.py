"""A law over a grid: how much loss is saved, by the rank of LoRA and the number of facts, fitted and drawn."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from toolkit.reporting.figures import MARKERS, STYLE, colour_of, set_title
from toolkit.reporting.groups import Group

RANK, COUNT = "lora.rank", "data.count"
WORDS = "ΔL = C r^α ℓ^−β + b, ΔL in nats a digit saved by training, r the rank, ℓ the number of facts"
FEWEST = 8
"""Runs; fewer would leave four parameters nearly free."""

NOT_FITTED = f"{WORDS}: not fitted, as it takes {FEWEST} runs of several ranks and numbers of facts that determine it"


class Parameter(NamedTuple):
    value: float
    low: float
    high: float


class Law(NamedTuple):
    """A fit by least squares over runs."""

    c: Parameter
    alpha: Parameter
    beta: Parameter
    b: Parameter
    r_squared: float
    """Of the runs' variance."""
    runs: int

    def at(self, rank: float, count: float) -> float:
        return law(rank, count, self.c.value, self.alpha.value, self.beta.value, self.b.value)


def law(rank: Any, count: Any, c: float, alpha: float, beta: float, b: float) -> Any:
    return c * rank**alpha * count**-beta + b


def fit(ranks: Sequence[float], counts: Sequence[float], saved: Sequence[float]) -> Law | None:
    """Fit of the law to runs; None for fewer than FEWEST of them, and where they do not determine its parameters.

    Intervals are t intervals at 95 % by the covariance at the minimum: runs are taken as independent, and the law as
    right. Source of the law: "parametric memory law" (2026).
    """
    if len(saved) < FEWEST or len(set(ranks)) < 2 or len(set(counts)) < 2:
        return None
    import numpy as np
    from scipy.optimize import OptimizeWarning, curve_fit
    from scipy.stats import t

    r, n, y = (np.asarray(values, float) for values in (ranks, counts, saved))
    if np.ptp(y) == 0:
        return None
    best: tuple[float, Any, Any] | None = None
    # The surface is flat in places: from several starts, the best minimum.
    for alpha, beta in ((0.1, 0.1), (0.5, 0.5), (0.3, 1.0), (1.0, 0.3)):
        start = [max(float(np.ptp(y)), 1e-3) * float(np.median(n)) ** beta, alpha, beta, float(y.min())]
        try:
            with warnings.catch_warnings():
                # What it warns of: a covariance that is not known.
                warnings.simplefilter("error", OptimizeWarning)
                found, covariance = curve_fit(lambda x, *p: law(x[0], x[1], *p), (r, n), y, p0=start, maxfev=20_000)
        except (RuntimeError, OptimizeWarning):
            continue
        error = float(((law(r, n, *found) - y) ** 2).sum())
        if math.isfinite(error) and np.isfinite(covariance).all() and (best is None or error < best[0]):
            best = (error, found, covariance)
    if best is None:
        return None
    error, found, covariance = best
    half = t.ppf(0.975, len(y) - 4) * np.sqrt(np.diag(covariance))
    bounds = [Parameter(float(p), float(p - h), float(p + h)) for p, h in zip(found, half, strict=True)]
    total = float(((y - y.mean()) ** 2).sum())
    return Law(*bounds, r_squared=1 - error / total, runs=len(y))


def points(groups: list[Group], differing: dict[str, Any]) -> list[tuple[float, float, float]]:
    """(rank, facts, loss saved) of every run, where groups differ in rank (and alpha) and facts alone; else none."""
    if not {RANK, COUNT} <= set(differing) <= {RANK, "lora.alpha", COUNT}:
        return []
    found = []
    for group in groups:
        for rows in group.readings:
            first, last = rows[0].get("loss/digit_nats"), rows[-1].get("loss/digit_nats")
            if first is not None and last is not None and math.isfinite(first - last):
                found.append((differing[RANK][group.name], differing[COUNT][group.name], first - last))
    return found


def summary(law: Law) -> dict[str, Any]:
    """For summary.json."""
    parameters = {"C": law.c, "alpha": law.alpha, "beta": law.beta, "b": law.b}
    return {
        "law": WORDS, "r_squared": law.r_squared, "runs": law.runs,
        "parameters": {name: value._asdict() for name, value in parameters.items()},
    }  # fmt: skip


def in_words(law: Law) -> str:
    named = (("C", law.c), ("α", law.alpha), ("β", law.beta), ("b", law.b))
    listed = ", ".join(f"{name} {p.value:.3g} [{p.low:.3g}, {p.high:.3g}]" for name, p in named)
    return f"{WORDS}: {listed}; R² {law.r_squared:.3f} over {law.runs} runs."


def figure(law: Law, found: list[tuple[float, float, float]]) -> Figure:
    """Loss saved by rank, a colour a number of facts: runs as marks, the fitted law as lines."""
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(6.6, 4.6), layout="constrained")
        panel = drawn.subplots()
        ranks = sorted({rank for rank, _, _ in found})
        for number, count in enumerate(sorted({count for _, count, _ in found})):
            colour, marker = colour_of(number), MARKERS[number % len(MARKERS)]
            mine = [(rank, saved) for rank, facts, saved in found if facts == count]
            panel.plot([r for r, _ in mine], [s for _, s in mine], marker, color=colour, label=f"{count:g} facts")
            panel.plot(ranks, [law.at(rank, count) for rank in ranks], color=colour, linewidth=1.2)
        panel.set_xscale("log", base=2)
        panel.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
        panel.set_xlabel("rank of LoRA")
        panel.set_ylabel("nats a digit saved by training")
        set_title(
            panel, "Loss saved by rank and number of facts", f"marks: runs; lines: the law, R² {law.r_squared:.3f}"
        )
        panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return drawn
