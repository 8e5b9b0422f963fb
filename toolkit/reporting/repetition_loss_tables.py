"""The tables on losses: their steps at epoch boundaries, and where trained examples part from held-out ones."""

from collections.abc import Iterator
from typing import Any

from toolkit.reporting.page import NBSP, Section

Summary = dict[str, Any]


def of_losses(groups: Summary, axis: str) -> Iterator[Section]:
    """axis: "epochs" or "updates", by which boundaries of several groups stand in one row."""
    at = "step" if axis == "updates" else "epoch"
    rows = list(step_rows(groups, at))
    if rows:
        yield Section(
            "Steps of the training loss at epoch boundaries",
            "Drop in nats: a step at the boundary beside one curve of the third degree through half an epoch on each"
            " side, so that a loss that falls smoothly has none. 95 % intervals over runs by t; of one run by the"
            " scatter of its updates, taken for independent. A step says that the batches before it were remembered,"
            " not that early ones are learned by heart; the gap between held-out and trained examples at the end stands"
            " below it.",
            ["stage", f"boundary after {'update' if at == 'step' else at}", *groups],
            rows,
        )
    known = {name: group["memorisation"] for name, group in groups.items() if group["memorisation"]}
    if known:
        yield Section(
            "Where memorising begins",
            "The gap is the loss of held-out examples less that of trained ones, less the same before training. It"
            " begins at the first reading from which on its 95 % interval over examples (Welch) stays above 0. Nats a"
            " token, the end mark included.",
            ["group", "run", "held out", "gap begins at epoch", "gap at the end", "lowest held-out loss", "at epoch",
             "held-out loss at the end", "examples"],
            [memory_row(name, run) for name, own in known.items() for run in own["per_run"]],
        )  # fmt: skip


def step_rows(groups: Summary, at: str) -> Iterator[list[str]]:
    """A row a stage and boundary, and below a stage's own their sum and what it is of the fall.

    at: "epoch" or "step", which a row's boundaries share.
    """
    stages = dict.fromkeys(stairs["stage"] for group in groups.values() for stairs in group["staircase"])
    for stage in stages:
        mine = {name: next((s for s in group["staircase"] if s["stage"] == stage), None)
                for name, group in groups.items()}  # fmt: skip
        by_group = [{b[at]: b["drop"] for b in (stairs or {"boundaries": []})["boundaries"]}
                    for stairs in mine.values()]  # fmt: skip
        for place in sorted(set().union(*by_group)):
            yield [stage, f"{place:,g}", *(step(drops.get(place)) for drops in by_group)]
        yield [stage, "all together", *(step(stairs and stairs["total"]) for stairs in mine.values())]
        shares = [None if stairs is None else stairs["share"] for stairs in mine.values()]
        yield [stage, "share of the loss's fall", *(of_fall(spread) for spread in shares)]
    gaps = [(group["memorisation"] or {"readings": []})["readings"] for group in groups.values()]
    if stages and any(gaps):
        cells = (step(readings[-1]["gap"]) if readings else "–" for readings in gaps)
        yield ["at the end", "gap of held-out and trained examples", *cells]


def step(spread: Summary | None) -> str:
    if spread is None:
        return "–"
    if spread["mean"] is None:
        return "too few updates"
    ends = "" if spread["low"] is None else f"\n[{spread['low']:z.3f},{NBSP}{spread['high']:z.3f}]"
    return f"{spread['mean']:z.3f}{ends}"


def of_fall(spread: Summary | None) -> str:
    """A share that may be above 1, where the loss rises within epochs."""
    if not spread or spread["mean"] is None:
        return "–"
    ends = "" if spread["low"] is None else f"\n[{100 * spread['low']:z.0f},{NBSP}{100 * spread['high']:z.0f}]"
    return f"{100 * spread['mean']:z.0f} %{ends}"


def memory_row(name: str, run: Summary) -> list[str]:
    gap, low, high = run["last_gap"]
    return [
        name, run["run"], "held-out examples" if run["held_out"] == "validation" else "controls",
        "not by the end" if run["begins"] is None else f"{run['begins']:g}",
        f"{gap:z.3f}\n[{low:z.3f},{NBSP}{high:z.3f}]", f"{run['lowest_loss']:.3f}", f"{run['lowest']:g}",
        f"{run['last_loss']:.3f}", "{:,} and {:,}".format(*run["examples"]),
    ]  # fmt: skip
