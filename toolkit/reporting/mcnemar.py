"""Whether two trained classifiers differ on the texts that both were tested on: McNemar's test, run against run."""

from collections.abc import Iterator
from typing import Any

from toolkit.metrics.classification import mcnemar
from toolkit.metrics.testing import contrasts_among, holm
from toolkit.reporting.groups import Group
from toolkit.reporting.tested import Tested, unlike
from toolkit.reporting.verdict import ALPHA, MOST_SENTENCES

ABOUT = (
    "McNemar's test is about two trained models and these test texts; it says nothing of other seeds. Whether the"
    " groups differ is for the test over runs to say."
)
Result = dict[str, Any]


def between_runs(groups: list[Group]) -> tuple[list[Result], list[str]]:
    """A test of each two groups and seed that both have, corrected by Holm over all of them; and what is left out."""
    results: list[Result] = []
    left_out: list[str] = []
    for a, b in contrasts_among(groups):
        models, others = by_seed(a), by_seed(b)
        shared = [seed for seed in models if seed in others]
        why_nots: dict[str, list[int]] = {} if shared else {"they have no seed in common": []}
        for seed in shared:
            if why_not := why_no_pair(models[seed], others[seed]):
                why_nots.setdefault(why_not, []).append(seed)
            else:
                results.append(between(a.name, b.name, seed, models[seed], others[seed]))
        for why_not, seeds in why_nots.items():
            of = f" of seed {', '.join(map(str, seeds))}" if len(seeds) < len(shared) else ""
            left_out.append(f"{a.name} and {b.name}: no McNemar test{of}, as {why_not}")
    for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
        result["holm"], result["shown"] = corrected, corrected is not None and corrected <= ALPHA
    return results, left_out


def by_seed(group: Group) -> dict[int, Tested]:
    return dict(zip(group.seeds, group.tested, strict=True))


def why_no_pair(one: Tested, other: Tested) -> str | None:
    # Which runs cannot be read is said elsewhere.
    return unlike([one], [other]) if one.rows and other.rows else "a run's test cannot be read"


def between(a: str, b: str, seed: int, first: Tested, second: Tested) -> Result:
    """Two models on the same texts, which both have in the order of their ids."""
    return {"a": a, "b": b, "seed": seed, **mcnemar(first.right, second.right)._asdict()}


def in_words(results: list[Result]) -> list[str]:
    """A sentence each two groups, and what it is about; nothing where nothing was tested."""
    if not results:
        return []
    pairs: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        pairs.setdefault((result["a"], result["b"]), []).append(result)
    if len(pairs) > MOST_SENTENCES:
        shown = sum(result["shown"] for result in results)
        said = [
            f"Of {len(results)} pairs of models of one seed, {shown} are shown to differ on these texts (McNemar,"
            " with Holm over all of them); the table has each."
        ]
    else:
        said = [sentence(of_pair, len(results)) for of_pair in pairs.values()]
    return [*said, ABOUT]


def sentence(results: list[Result], tests: int) -> str:
    """results: of two groups, one a seed that both have; tests: over how many Holm is."""
    first = results[0]
    if len(results) == 1:
        start = "These two models differ on" if first["shown"] else "No difference shown between these two models on"
        return (
            f"{start} these texts: {first['a']}/seed-{first['seed']} and {first['b']}/seed-{first['seed']}:"
            f" {first['only_first']:,} texts only the first got right, {first['only_second']:,} only the second"
            f" (difference {change(first)}, McNemar p = {first['p']:.3g}, with Holm {first['holm']:.3g})."
        )
    shown = [result for result in results if result["shown"]]
    how = f"McNemar, with Holm over {tests} tests"
    models = f"{first['a']} and {first['b']}: on these texts the two models of a seed"
    if not shown:
        return f"{models} are shown to differ in none of {len(results)} seeds ({how})."
    return f"{models} are shown to differ in {len(shown)} of {len(results)} seeds ({ahead(shown)}; {how})."


def ahead(shown: list[Result]) -> str:
    """Which one was right more often, and in how many of the seeds where a difference is shown."""
    counts = {
        shown[0]["a"]: sum(result["difference"] < 0 for result in shown),
        shown[0]["b"]: sum(result["difference"] > 0 for result in shown),
    }
    known = [f"{name} right more often in {count}" for name, count in counts.items() if count]
    return ", ".join(known)


def change(result: Result) -> str:
    """The difference of accuracy, second less first, with its interval, in points."""
    value, low, high = (f"{100 * result[key]:.1f}" for key in ("difference", "low", "high"))
    return f"{value} points [{low}, {high}]"


HEAD = [
    "first", "second", "seed", "texts", "only the first right", "only the second right", "difference",
    "95 % interval", "p", "Holm", "conclusion",
]  # fmt: skip


def rows(results: list[Result]) -> Iterator[list[str]]:
    """The table: a row a test."""
    for result in results:
        value, interval = change(result).split(" [")
        yield [
            result["a"], result["b"], str(result["seed"]), f"{result['n']:,}", f"{result['only_first']:,}",
            f"{result['only_second']:,}", value, f"[{interval}", f"{result['p']:.3g}", f"{result['holm']:.3g}",
            "these two models differ" if result["shown"] else "no difference shown",
        ]  # fmt: skip
