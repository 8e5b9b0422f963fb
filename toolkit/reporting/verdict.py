"""Which difference between groups is real: one primary outcome, tested by runs, and what the design can show."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from toolkit.metrics.testing import contrasts_among, holm, permutation_test, seeds_needed, smallest_p
from toolkit.reporting.groups import Group
from toolkit.reporting.tested import unlike

ALPHA = 0.05
FEWEST_READINGS = 3
"""Before training, and two more, of which the second confirms the first."""
MOST_SENTENCES = 15
"""Contrasts that are said one by one: those of six groups."""
MOST_NAMED = 4
"""Pairs that are named in one sentence."""


class Outcome(NamedTuple):
    """One number a run, by which groups are compared."""

    name: str
    said: str
    form: Callable[[float], str]
    less_is_more: bool = False
    """Whether a smaller value means that more was learned."""
    ahead: str = "learned more"
    """What is said of the group with the better value."""

    def change(self, value: float) -> str:
        """A difference of two values, or an end of its interval: of shares in points, of which there are 100."""
        return f"{100 * min(max(value, -1), 1):.1f} points" if self.form is percent else self.form(value)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def in_points(value: float) -> str:
    """Of a change, whose intervals may lie on both sides of 0."""
    return f"{100 * value:z.1f} points"


def by_name(*outcomes: Outcome) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in outcomes}


LOWER = "has the lower loss"
OUTCOMES = by_name(
    Outcome("exposures_to_recall", "mean exposures to recall", "{:.2f}".format, True, "learned faster"),
    Outcome("recall/exact", "exact recall at the end", percent),
    Outcome("recall/bits_memorised", "bits memorised an answer at the end", "{:.2f}".format),
    Outcome("recall/share_memorised", "share of the entropy memorised at the end", percent),
    Outcome("loss/digit_nats", "loss in nats a digit at the end", "{:.4f}".format, True, LOWER),
)
"""Of runs that learned facts; the first where a recipe declares none."""
OF_CLASSIFIERS = by_name(
    Outcome("test/accuracy", "accuracy on the test texts", percent, ahead="is right more often"),
    Outcome("test/macro_f1", "macro F1 on the test texts", percent, ahead="has the higher macro F1"),
    Outcome("test/loss", "loss in nats a test text", "{:.4f}".format, True, LOWER),
)
OF_VALIDATION = by_name(
    Outcome(
        "loss/answer_nats_validation",
        "loss in nats a token of held-out answers at the end",
        "{:.4f}".format,
        True,
        LOWER,
    )
)
"""Of runs that hold examples out to choose by."""
MEAN_CHANGE = "forgetting/mean_change"
OF_FORGETTING = by_name(Outcome(MEAN_CHANGE, "mean change over tasks", in_points, ahead="forgot less"))
"""Of runs of both kinds, where forgetting was measured; never primary."""
LESS, REPEATED = "repeats itself less", "repeated 4-grams of greedy texts"
DIFFERENT = "different greedy texts, of all at a reading, mean of the readings on the way"
THROUGH = {f"repetition/greedy/{name}/through": f"repetition/greedy/{name}" for name in ("seq_rep_4", "distinct_texts")}
"""Means over a stage's readings, and the measure that each is of."""
OF_REPETITION = by_name(
    Outcome("repetition/greedy/seq_rep_4", f"{REPEATED} at the end", percent, True, LESS),
    Outcome("repetition/greedy/seq_rep_4/through", f"{REPEATED}, mean of the readings on the way", percent, True, LESS),
    Outcome("repetition/greedy/distinct_texts/through", DIFFERENT, percent, ahead="says the same to fewer prompts"),
    Outcome("repetition/greedy/loops", "greedy texts that end in a loop at the end", percent, True, "loops less often"),
    Outcome("repetition/greedy/never_ended", "greedy texts cut off at the end", percent, True, "ends more texts"),
)
"""Of runs whose texts were read for repetition; never primary."""
EVERY_OUTCOME = OUTCOMES | OF_VALIDATION | OF_CLASSIFIERS | OF_FORGETTING | OF_REPETITION


def primary_outcome(groups: list[Group]) -> tuple[str, str | None]:
    """The outcome that the recipes declare, and what is to be said where they do not agree on one."""
    declared = {group.name: declared_by(group) for group in groups}
    first = declared[groups[0].name]
    if len(set(declared.values())) == 1:
        return first, None
    listed = ", ".join(f"{name} {outcome}" for name, outcome in declared.items())
    return first, (
        f"The recipes declare different primary outcomes ({listed}), so that none is: all tests here are exploratory,"
        f" that of {groups[0].name}'s outcome too."
    )


def declared_by(group: Group) -> str:
    compare = group.runs[0].recipe.get("compare", {})
    name = compare.get("primary") if isinstance(compare, dict) else None
    known = OF_CLASSIFIERS if group.classifies else OUTCOMES | OF_VALIDATION
    return name if name in known else next(iter(known))


def values_of(group: Group, outcome: str, until: float | None) -> list[float | None]:
    """The outcome of each run; None where a run has none."""
    if outcome != "exposures_to_recall":
        return group.last(outcome)
    # A run that cannot be followed to its end has no value, and does not shorten what the others are followed for.
    return [
        None if until is None or learning is None or not learning.to_the_end else learning.restricted_mean(until)
        for learning in group.learning
    ]


def common_end(groups: list[Group]) -> float | None:
    """Exposures up to which every run of every group was followed; restricted means go so far."""
    ends = [learning.seen_until for group in groups for learning in group.learning if learning and learning.to_the_end]
    return min(ends) if ends and min(ends) > 0 else None


def contrasts(groups: list[Group], outcome: str, until: float | None) -> list[dict[str, Any]]:
    """Every pair of groups (of many groups: each with the first) on one outcome, p values corrected by Holm."""
    pairs = contrasts_among(groups)
    values = {group.name: values_of(group, outcome, until) for group in groups}
    results = [contrast(a, b, outcome, until, values[a.name], values[b.name]) for a, b in pairs]
    for result, corrected in zip(results, holm([result["p"] for result in results]), strict=True):
        result["holm"] = corrected
        result["shown"] = corrected is not None and corrected <= ALPHA
    return results


def contrast(
    a: Group, b: Group, outcome: str, until: float | None, first: list[float | None], second: list[float | None]
) -> dict[str, Any]:
    """Two groups on one outcome: b - a with its interval, and p; no p where these runs cannot say, and why not."""
    paired = are_paired(a, b)
    result: dict[str, Any] = {"a": a.name, "b": b.name, "paired": paired, "difference": None, "low": None, "high": None}
    result |= {"p": None, "exact": None, "smallest_p": smallest_p(len(first), len(second), paired)}
    # Of a loss, what a model gets for knowing the rule alone is no memory.
    floors = [group.floor_digit_nats for group in (a, b)]
    result["floors"] = floors if outcome.startswith("loss/") and floors[0] != floors[1] else None
    if a.classifies and (why_not := unlike(a.tested, b.tested)):
        return result | {"why_not": why_not}
    runs = [*a.runs, *b.runs]
    lacking = [run.label for run, value in zip(runs, (*first, *second), strict=True) if not is_number(value)]
    if lacking:
        return result | {"why_not": f"without a value: {', '.join(lacking)}"}
    if outcome == "exposures_to_recall" and (why_not := unresolved(a, b, until or 0)):
        return result | {"why_not": why_not}
    one, two = [float(value or 0) for value in first], [float(value or 0) for value in second]
    tested = permutation_test(one, two, paired)
    result["difference"] = tested.difference
    if min(len(one), len(two)) < 2:
        return result | {"why_not": "one run says nothing about others"}
    return result | {"low": tested.low, "high": tested.high, "p": tested.p, "exact": tested.exact}


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def unresolved(a: Group, b: Group, until: float) -> str | None:
    """Why exposures to recall of two groups do not compare: when facts were asked would be taken for learning."""
    runs = [learning for group in (a, b) for learning in group.learning if learning is not None]
    if any(learning.one_by_one and not learning.evenly for learning in runs):
        return "facts were not fed equally often, and how often depended on what was recalled"
    if not all(learning.evenly for learning in runs):
        return "facts were fed many times between two readings, which do not tell after how many they were recalled"
    asked = [learning.asked_after(until) for learning in runs]
    if any(len(after) < FEWEST_READINGS for after in asked):
        return "facts were asked too seldom for one reading to confirm another"
    if any(after != asked[0] for after in asked):
        return "facts were asked after other numbers of exposures in one run than in another"
    return None


def are_paired(a: Group, b: Group) -> bool:
    """Whether runs of one seed have the very same facts: then it is their differences that are tested.

    Groups of different patterns share only which index is trained, and other numbers: these runs are not pairs. That
    a seed's order and initialisation are shared makes the unpaired test, if anything, careful.
    """
    facts = [[run.info.get("data", {}).get("digest") for run in group.runs] for group in (a, b)]
    return a.seeds == b.seeds and None not in facts[0] and facts[0] == facts[1]


def limits(groups: list[Group], results: list[dict[str, Any]]) -> list[str]:
    """What this design cannot show, in words."""
    if not results:
        return ["one group: there is nothing to compare it with"]
    said = [
        f"{group.name} has one run: nothing is known about its other seeds, and no difference from it can be shown"
        for group in groups
        if len(group.runs) == 1
    ]
    alone = {group.name for group in groups if len(group.runs) == 1}
    able = [result for result in results if not alone & {result["a"], result["b"]} and "why_not" not in result]
    # What Holm would make of the smallest p values, all of them reached at once.
    least = holm([result["smallest_p"] for result in able])
    sizes = {group.name: len(group.runs) for group in groups}
    kinds: dict[tuple[bool, int, float], list[str]] = {}
    for result, p in zip(able, least, strict=True):
        if p is not None and p > ALPHA:
            fewest = min(sizes[result["a"]], sizes[result["b"]])
            kind = (result["paired"], fewest, result["smallest_p"])
            kinds.setdefault(kind, []).append(f"{result['a']} and {result['b']}")
    for (paired, fewest, p), pairs in kinds.items():
        of = "no difference" if len(pairs) == len(results) else f"no difference between {listed(pairs)}"
        said.append(
            f"{fewest} {'paired ' if paired else ''}runs a group: the smallest p that they can give is {p:.3g}, and"
            f" with Holm over {len(able)} contrast{'s' if len(able) > 1 else ''} {of} can be shown at 5 %;"
            f" {seeds_needed(len(able), paired)} seeds can"
        )
    return said


def listed(pairs: list[str]) -> str:
    few = pairs[:MOST_NAMED]
    return ", ".join(few) + (f" and {len(pairs) - len(few)} pairs more" if len(pairs) > len(few) else "")


def in_words(
    groups: list[Group], outcome: str, until: float | None, results: list[dict[str, Any]], spreads: dict[str, Any]
) -> list[str]:
    """The verdict: a sentence a contrast, with the values of both groups."""
    about = EVERY_OUTCOME[outcome]
    said = about.said[0].upper() + about.said[1:]
    if named := sorted({group.after for group in groups if group.after}):
        said += f" (of {', '.join(f'the stage {name}' for name in named)})"
    if outcome == "exposures_to_recall" and until:
        # A fact that is not recalled counts as so many: a mean of them all is not to be had.
        said += f" (up to {until:g})"
    if len(results) > MOST_SENTENCES:
        tested = [result for result in results if result["p"] is not None]
        shown = sum(result["shown"] for result in tested)
        untested = f"; {len(results) - len(tested)} could not be tested" if len(tested) < len(results) else ""
        first = groups[0].name
        return [
            f"{said}: of {len(tested)} tested groups {shown} are shown to differ from {first}, with Holm over all of"
            f" them{untested}; the table of tests has each."
        ]
    return [f"{said}: {sentence(about, result, spreads[result['a']], spreads[result['b']])}" for result in results]


def sentence(about: Outcome, result: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> str:
    values = f"{result['a']} {interval(about, a)}, {result['b']} {interval(about, b)}"
    if result["p"] is None:
        return f"{values}. No test: {result['why_not']}."
    p = f"p = {result['p']:.3g}, with Holm {result['holm']:.3g}"
    difference = f"difference {change(about, result)}; {p}"
    if not result["shown"]:
        return f"{values}. No difference shown ({difference})."
    ahead = result["b"] if (result["difference"] < 0) == about.less_is_more else result["a"]
    if result["floors"]:
        one, two = ("no known one" if floor is None else f"{floor:.3f}" for floor in result["floors"])
        rules = f"which is not memory: the rule alone gives {result['a']} {one} and {result['b']} {two}"
        return f"{values}. Difference shown: {ahead} has the lower loss, {rules} ({difference})."
    return f"{values}. Difference shown: {ahead} {about.ahead} ({difference})."


def interval(about: Outcome, spread: dict[str, Any]) -> str:
    """A group's mean and interval; what is shown of the interval of a share ends where shares do."""
    if spread["mean"] is None:
        return "–"
    low, high = spread["low"], spread["high"]
    if low is None:
        return about.form(spread["mean"])
    if agree(spread):
        return f"{about.form(spread['mean'])} in each run"
    if about.form is percent:
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{about.form(spread['mean'])} [{about.form(low)}, {about.form(high)}]"


def agree(ends: dict[str, Any]) -> bool:
    """Whether an interval has no width, up to rounding: its runs agree, which does not say that others would."""
    return math.isclose(ends["low"], ends["high"], rel_tol=1e-9, abs_tol=1e-12)


def change(about: Outcome, result: dict[str, Any]) -> str:
    """A difference with its interval."""
    said = about.change(result["difference"])
    return said if result["low"] is None else f"{said} [{about.change(result['low'])}, {about.change(result['high'])}]"
