"""Canary exposure: how high a number ranks among all that it could have been, by the probability a model gives them.

Rank 1 of 1000 is an exposure of log2 1000 = 9.966 bits, rank 3 of 1000 one of 8.381. (The word "exposure" alone means
a presentation to the optimiser in this toolkit; this one is always called canary exposure.)

What is ranked are the leaves of a tree: a prefix has the digits that its group's rule allows next as children, and no
number is likelier than any of its prefixes. So a branch is followed only while it is likelier than the whole of gold.
"""

import heapq
import math
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Allowed = Callable[[str], str]
"""The digits, such as "0123456789", that may follow a prefix ("" at first) of a number of the group."""
Rows = list[list[float]]
"""For each prefix the log-probabilities (natural) of the digits 0 … 9 next; other tokens have the rest of the mass."""
NextDigits = Callable[[list[str]], Rows]
Option = tuple[float, str]
"""A prefix's log-probability (natural), and its text."""


class Exposure(NamedTuple):
    """Where a number stands in its group's support."""

    bits: float
    """log2 of the support, less log2 of the rank."""
    rank: float
    """1 and the number of strictly likelier numbers; a whole number where it is no estimate."""
    support: int
    """How many numbers the group's rule allows."""
    method: Literal["enumerated", "exact", "estimate"]
    """All numbers scored; every likelier one found; or those that were not found estimated from draws."""
    nodes: int
    """Prefixes that the model was asked about; one that the rule alone continues counts once with what follows."""
    error: float
    """Standard error of bits, 0 where they are no estimate; where no draw was likelier, how far off the rank can be."""
    least_rank: int
    """The rank is this at least: so many were found."""
    most_rank: int
    """The rank is this at most: the rest has not the probability for more."""


Asking = Generator[list[str], Rows, Exposure]
"""A search: it yields prefixes, is sent the row of each, and returns its result."""


class Found(NamedTuple):
    """What was found within a budget."""

    better: int
    """Numbers likelier than gold."""
    frontier: list[Option]
    """Prefixes likelier than gold that were not followed; none where every likelier number was found."""


class Drawn(NamedTuple):
    """Numbers below the frontier, drawn."""

    weights: list[float]
    """One a draw: 1 / its probability of being drawn if it is likelier than gold, else 0. Their mean counts those."""
    better: set[str]
    """The likelier ones among them."""


class Tree:
    """The prefixes of a group's numbers, as far as the model was asked about them."""

    def __init__(self, allowed: Allowed, digits: int) -> None:
        self.allowed = allowed
        self.digits = digits
        self.rows: dict[str, list[float]] = {}
        self.nodes = 0

    def ask(self, prefixes: Iterable[str]) -> Generator[list[str], Rows, None]:
        """Gets the rows of prefixes, and of what follows them for as long as the rule leaves one digit only.

        Both in one question, as a model that reads a text says what follows each of its parts at no further cost.
        """
        wanted: dict[str, None] = {}
        for prefix in dict.fromkeys(prefixes):
            if prefix in self.rows:
                continue
            self.nodes += 1
            wanted[prefix] = None
            while len(digit := self.allowed(prefix)) == 1 and len(prefix) + 1 < self.digits:
                prefix += digit
                wanted[prefix] = None
        if wanted:
            rows = yield list(wanted)
            if any(math.isnan(value) for row in rows for value in row):
                raise ValueError("the model gives a digit no probability (nan): there is nothing to rank")
            self.rows.update(zip(wanted, rows, strict=True))

    def children(self, log_p: float, prefix: str, above: float) -> list[Option]:
        """What continues a prefix and is still likelier than `above`."""
        row = self.rows[prefix]
        options = [(log_p + row[int(digit)], prefix + digit) for digit in self.allowed(prefix)]
        return [option for option in options if option[0] > above]


def rank_among(gold: str, candidates: Sequence[str], log_likelihoods: Sequence[float]) -> Exposure:
    """Exposure of gold among all numbers of its support, each with its log-likelihood (any base).

    Raises ValueError when gold is no candidate, or the two differ in length.

    Source: Carlini et al. 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
    Networks". A number as likely as gold counts against it there, and not here.
    """
    scores = dict(zip(candidates, log_likelihoods, strict=True))
    if gold not in scores:
        raise ValueError(f"{gold} is not among the {len(scores)} candidates")
    rank = 1 + sum(score > scores[gold] for score in scores.values())
    return Exposure(_bits(len(scores), rank), rank, len(scores), "enumerated", len(scores), 0.0, rank, rank)


def canary_exposure(next_digits: NextDigits, search: Asking) -> Exposure:
    """Runs one `search_rank` to its end."""
    try:
        wanted = next(search)
        while True:
            wanted = search.send(next_digits(wanted))
    except StopIteration as done:
        return done.value


def search_rank(
    gold: str, allowed: Allowed, support: int, *, nodes: float, samples: int, rng: random.Random, batch: int = 32
) -> Asking:
    """Exposure of gold in a support too large to score: exact by branch and bound, or an estimate beyond the budget.

    After `nodes` prefixes, numbers below those not yet followed are drawn, `samples` of them, in at most as many
    times the number's digits of further prefixes. `batch` prefixes are asked about at a time.

    Raises ValueError when gold is no number of the rule, samples are fewer than two, or a row holds nan.

    Source: Carlini et al. 2019, "The Secret Sharer" (its shortest-path search finds the likeliest; here it goes on to
    gold); for the estimate, Dell'Amico and Filippone 2015, "Monte Carlo Strength Evaluation: Fast and Reliable
    Password Checking".
    """
    if not gold or any(digit not in allowed(gold[:i]) for i, digit in enumerate(gold)):
        raise ValueError(f"{gold!r} is no number of this rule")
    if samples < 2:
        raise ValueError(f"an estimate with an error needs two draws, not {samples}")
    tree = Tree(allowed, len(gold))
    yield from tree.ask(gold[:i] for i in range(len(gold)))
    tree.nodes = 1
    gold_log_p = 0.0
    for i, digit in enumerate(gold):
        gold_log_p += tree.rows[gold[:i]][int(digit)]
    found = yield from _explore(tree, gold_log_p, nodes, batch)
    if not found.frontier:
        rank = 1 + found.better
        return Exposure(_bits(support, rank), rank, support, "exact", tree.nodes, 0.0, rank, rank)
    drawn = yield from _draw(tree, gold_log_p, found.frontier, samples, rng)
    return _estimated(found, drawn, gold_log_p, support, tree.nodes)


def _bits(support: int, rank: float) -> float:
    return math.log2(support) - math.log2(rank)


def _explore(tree: Tree, gold_log_p: float, nodes: float, batch: int) -> Generator[list[str], Rows, Found]:
    """Follows the likeliest prefixes first, until none is likelier than gold or `nodes` were asked about."""
    better, heap = 0, [(-0.0, "")]
    while heap and tree.nodes < nodes:
        taken = [heapq.heappop(heap) for _ in range(int(min(batch, len(heap), nodes - tree.nodes)))]
        yield from tree.ask(prefix for _, prefix in taken)
        for cost, prefix in taken:
            for log_p, child in tree.children(-cost, prefix, gold_log_p):
                if len(child) == tree.digits:
                    better += 1
                else:
                    heapq.heappush(heap, (-log_p, child))
    return Found(better, [(-cost, prefix) for cost, prefix in heap])


@dataclass
class _Path:
    """A number on its way to being drawn."""

    way: int
    log_q: list[float]
    """Log-probability of having come here, by each way of drawing."""
    log_p: float = 0.0
    prefix: str = ""

    def go(self, options: list[Option], chances: list[list[float]], rng: random.Random) -> None:
        (chosen,) = rng.choices(range(len(options)), chances[self.way])
        self.log_p, self.prefix = options[chosen]
        self.log_q = [
            before + math.log(max(way[chosen], 1e-300)) for before, way in zip(self.log_q, chances, strict=True)
        ]


def _draw(
    tree: Tree, gold_log_p: float, frontier: list[Option], samples: int, rng: random.Random
) -> Generator[list[str], Rows, Drawn]:
    """Draws numbers below the frontier, half of them each way; a branch that falls below gold is never taken."""
    chances = _chances(tree, gold_log_p)
    at_frontier = chances(frontier)
    going = [_Path(i % len(at_frontier), [0.0] * len(at_frontier)) for i in range(samples)]
    for path in going:
        path.go(frontier, at_frontier, rng)
    weights: list[float] = []
    better: set[str] = set()
    while going:
        yield from tree.ask(path.prefix for path in going)
        still = []
        for path in going:
            options = tree.children(path.log_p, path.prefix, gold_log_p)
            if not options:
                weights.append(0.0)
                continue
            path.go(options, chances(options), rng)
            if len(path.prefix) < tree.digits:
                still.append(path)
                continue
            # One number could have come by either way, and weighs by both (a deterministic mixture).
            weights.append(len(path.log_q) / sum(map(math.exp, path.log_q)))
            better.add(path.prefix)
        going = still
    return Drawn(weights, better)


def _chances(tree: Tree, gold_log_p: float) -> Callable[[list[Option]], list[list[float]]]:
    """Two ways of choosing among prefixes: by how many likelier numbers each may lead to, and by the model.

    The model goes where a few likely numbers are, and misses the many less likely ones that make up a high rank. How
    many there are is guessed, and the model's share bounds what a wrong guess can cost.
    """
    from scipy.special import log_ndtr

    tails = _tails(tree)

    def log_count(log_p: float, prefix: str) -> float:
        log_size, mean, variance = tails[len(prefix)]
        slack = log_p - gold_log_p + mean
        return log_size + (float(log_ndtr(slack / math.sqrt(variance))) if variance > 0 else 0.0)

    def chances(options: list[Option]) -> list[list[float]]:
        return [_normalised([log_count(*option) for option in options]), _normalised([log_p for log_p, _ in options])]

    return chances


def _tails(tree: Tree) -> list[tuple[float, float, float]]:
    """Of the digits after a prefix of each length, from the rows known so far and as if digits were independent:

    the logarithm of how many ways to go on the rule leaves, and mean and variance of what a blind choice among them
    adds to the log-probability.
    """
    columns: list[list[list[float]]] = [[] for _ in range(tree.digits)]
    for prefix, row in tree.rows.items():
        columns[len(prefix)].append([row[int(digit)] for digit in tree.allowed(prefix)])
    tails = [(0.0, 0.0, 0.0)]
    for column in reversed(columns):
        values = [value for choices in column for value in choices if math.isfinite(value)] or [0.0]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        ways = math.fsum(math.log(len(choices)) for choices in column) / len(column)
        tails.append((tails[-1][0] + ways, tails[-1][1] + mean, tails[-1][2] + variance))
    return tails[::-1]


def _normalised(log_weights: list[float]) -> list[float]:
    most = max(log_weights)
    weights = [math.exp(value - most) for value in log_weights]
    total = sum(weights)
    return [weight / total for weight in weights]


def _estimated(found: Found, drawn: Drawn, gold_log_p: float, support: int, nodes: int) -> Exposure:
    """The rank from what was found and what was drawn, between what is certain on both sides."""
    n = len(drawn.weights)
    mean = math.fsum(drawn.weights) / n
    deviation = math.sqrt(math.fsum((weight - mean) ** 2 for weight in drawn.weights) / (n - 1) / n)
    least = 1 + found.better + len(drawn.better)
    # Each likelier number takes more than gold's probability out of what the frontier has.
    log_mass = max(log_p for log_p, _ in found.frontier)
    log_mass += math.log(math.fsum(math.exp(log_p - log_mass) for log_p, _ in found.frontier))
    log_most = min(log_mass - gold_log_p, math.log(support))
    most = max(least, min(support, 1 + found.better + math.floor(math.exp(log_most) * (1 + 1e-9))))
    rank = min(max(1 + found.better + mean, least), most)
    # That no draw was likelier than gold is no proof that no number is.
    error = deviation / (rank * math.log(2)) if mean else math.log2(most / least)
    return Exposure(_bits(support, rank), rank, support, "estimate", nodes, error, least, most)
