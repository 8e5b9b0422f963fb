"""Rank correlations as summary.json has them: of one run over its points, or the mean over runs with its interval."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.metrics.association import FEWEST, Association, mean_association, partial_spearman, spearman

Summary = dict[str, Any]
Values = dict[Any, float]
"""A value a prompt, by its id, or a value a checkpoint, by its place."""
FEWEST_TEXTS = 10
"""Different texts: of fewer, points are copies of one another and no interval holds."""


class Ranked(NamedTuple):
    """One run's correlation, or why it has none."""

    found: Association | None
    why_not: str | None = None
    texts: int | None = None
    """How many of its points' texts are different, where points are texts."""


NOTHING = Ranked(None, "nothing was measured")


def ranked(x: Values, y: Values, held: Values | None = None, names: tuple[str, str, str] = ("", "", "")) -> Ranked:
    """Of the points that all of them have. names: what x, y and what is held are called where one is constant."""
    both = [key for key in x if key in y and (held is None or key in held)]
    one, other = ([float(values[key]) for key in both] for values in (x, y))
    if held is None:
        found = spearman(one, other)
        return Ranked(found, None if found else why_not(len(both), FEWEST, one, other, names))
    third = [float(held[key]) for key in both]
    found = partial_spearman(one, other, third)
    if found or len(both) < FEWEST + 1 or len(set(one)) < 2 or len(set(other)) < 2:
        return Ranked(found, None if found else why_not(len(both), FEWEST + 1, one, other, names))
    follows = names[1] if follows_ranks(other, third) else names[0]
    return Ranked(None, f"{follows} goes with {names[2]} rank for rank, so that they cannot be told apart")


def follows_ranks(values: list[float], held: list[float]) -> bool:
    """Whether nothing of a ranking is left beside another."""
    found = spearman(values, held)
    return found is not None and abs(found.rho) > 1 - 1e-9


def why_not(count: int, fewest: int, one: list[float], other: list[float], names: tuple[str, str, str]) -> str:
    if not count:
        return "nothing was measured"
    if count < fewest:
        return f"{count} points are too few"
    constant = names[0] if len(set(one)) < 2 else names[1]
    return f"{constant} is the same everywhere" if len(set(one)) < 2 or len(set(other)) < 2 else "nothing is left of it"


def over_runs(runs: Sequence[Ranked], points: str) -> Summary:
    """The mean over runs with its t interval; of one run its own over its `points` ("prompts"), if those are
    independent ("" where they are not, as checkpoints of one run).

    `why_not` says why there is nothing, or no interval.
    """
    points_of = [run.found.n if run.found else None for run in runs]
    mean = mean_association([run.found.rho if run.found else None for run in runs], points_of)
    found: Summary = {
        "rho": None, "low": None, "high": None, "runs": 0, "over": None, "why_not": None,
        "per_run": [run.found.rho if run.found else None for run in runs],
        "points": points_of, "texts": [run.texts if run.found else None for run in runs],
    }  # fmt: skip
    if mean is None:
        return found | {"why_not": next((run.why_not for run in runs if run.why_not), "nothing was measured")}
    found |= {"rho": mean.rho, "runs": mean.runs}
    alike = [run.texts for run in runs if run.found and run.texts is not None and run.texts < FEWEST_TEXTS]
    if alike:
        return found | {"why_not": f"{min(alike)} different texts" if min(alike) > 1 else "all texts are the same"}
    if mean.runs > 1:
        found |= {"low": mean.low, "high": mean.high, "over": "runs"}
        return found if mean.low is not None else found | {"why_not": "a run's is 1 or -1"}
    (only,) = (run.found for run in runs if run.found)
    if not points:
        return found | {"why_not": "one run" if len(runs) == 1 else f"defined in one of {len(runs)} runs only"}
    found |= {"low": only.low, "high": only.high, "over": points}
    return found if only.low is not None else found | {"why_not": "it is 1 or -1"}


def counted(found: Summary) -> str:
    """Of how many points it is, and how many of their texts are different, over the runs: n 40, 38 texts."""
    known, texts = ([n for n in found[name] if n is not None] for name in ("points", "texts"))
    return ", ".join(f"{what}{span(of)}{after}" for what, of, after in (("n ", known, ""), ("", texts, " texts")) if of)


def span(values: list[int]) -> str:
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def within_strata(values: Values, strata: dict[Any, str]) -> Values:
    """Each point's place among those of its stratum, from -½ to ½, ties in their middle: 0 is in the middle of all."""
    found: Values = {}
    for stratum in sorted({strata.get(key, "") for key in values}):
        own = {key: value for key, value in values.items() if strata.get(key, "") == stratum}
        found |= places_of(own)
    return found


def places_of(values: Values) -> Values:
    from bisect import bisect_left, bisect_right

    ordered = sorted(values.values())
    n = len(ordered)
    return {
        key: ((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 - n / 2) / n
        for key, value in values.items()
    }


def shown(found: Summary) -> bool | None:
    """Whether the interval leaves 0 out; None where there is none."""
    return None if found["low"] is None else found["low"] > 0 or found["high"] < 0


def rho_text(found: Summary) -> str:
    """0.42 [0.30, 0.52], or why it is not defined."""
    if found["rho"] is None:
        return f"not defined ({found['why_not']})"
    said = f"{found['rho']:z.2f}"
    return said if found["low"] is None else f"{said} [{found['low']:z.2f}, {found['high']:z.2f}]"
