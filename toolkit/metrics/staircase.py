"""Measures the step of the loss at each epoch boundary, and where trained examples part from held-out ones.

A model that learns its examples by heart meets each again at the boundary: the loss falls there at once, from 2.0 to
1.5, say, and is level in between. One that learns what they share falls smoothly, and has steps near 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

WINDOW = 0.5
"""Epochs on each side of a boundary: half of one, so that no update belongs to two boundaries."""
DEGREE = 3
"""Of the curve through both sides: less takes a fall that is steepest at a boundary for a step there."""
FEWEST = 4
"""Updates on each side: eight leave three degrees of freedom beside the curve and the step."""
SAME = 1e-6
"""Epochs: fractions of an epoch are off by rounding, and less than an update."""


class Step(NamedTuple):
    """The fall of the loss at one epoch boundary, in nats a token."""

    epoch: int
    "The boundary after so many epochs."
    drop: float | None
    "Above 0 where the loss falls; None with fewer than four updates on a side."
    error: float | None
    "Its standard error."
    low: float | None
    "95 % interval."
    high: float | None
    updates: tuple[int, int]
    "In the window before and after it."
    freedom: int | None
    "Degrees of freedom of the interval; None where there is none."


class Staircase(NamedTuple):
    """All steps of one stage, and what they are of its fall."""

    steps: list[Step]
    "One a boundary, those without a drop included."
    total: float | None
    "Sum of the drops; None where there is no boundary, or one has none."
    error: float | None
    fall: float | None
    "Mean loss of the first epoch less that of the last one."
    share: float | None
    "total / fall; None where the loss did not fall. Above 1 where the loss rises within epochs."


class Gap(NamedTuple):
    """Held-out less trained loss at one reading, less the same at the first one, in nats a token."""

    gap: float
    low: float
    "95 % interval by Welch over examples."
    high: float
    trained: float
    "Mean loss a token of the trained examples, nothing subtracted."
    held_out: float


class Onset(NamedTuple):
    """Where memorisation begins, as places among the readings, from 0."""

    gaps: list[Gap]
    "One a reading."
    begins: int | None
    "The first reading from which on every interval is above 0; None where the last one is not."
    lowest: int
    "The reading of the lowest held-out loss, the first of equals."


def staircase(epochs: Sequence[float], losses: Sequence[float], window: float = WINDOW) -> Staircase:
    """The step of the training loss at each epoch boundary, and the part of its fall that they are together.

    epochs: one an update, how many epochs are over after it, ascending (4.25; the last update of an epoch is whole).
    losses: of the same updates, each of its own batch before it was learned, in nats a token.

    One polynomial of degree 3 through both sides, and a step between them, are fitted by least squares to the updates
    `window` epochs or less from the boundary; the drop is that step. A loss that only bends has none, also where it is
    steepest at a boundary, of which a line on each side makes a step: of a logistic fall by 2 nats of which half takes
    .44 epochs the drop is .02, and .16 by two lines. A fall much sharper than that is a step for updates of half an
    epoch: half of it in .22 epochs, .2. The interval is by t with the scatter about the fit, degrees of freedom the
    updates less five. It takes batches for independent, and their scatter for even: similar batches in a row make it
    too narrow.

    At a scatter of .12 with 35 updates an epoch, the interval had the truth in 94 % of simulations of that logistic
    fall, 95 of level stairs of .5, 95 of an exponential fall, and 94 of the logistic fall with a step of .3.

    The share is of the fall between the means of the first and the last epoch, since what is learned within the first
    epoch cannot be remembered: it is 1 for level stairs.

    Raises ValueError for sequences of different lengths, values that are not finite, epochs that do not ascend, and a
    window that is not in 0 … 0.5.
    """
    _check_updates(epochs, losses, window)
    # The epoch in which an update was made, from 1: the last of it says that one is over.
    within = [max(1, math.ceil(epoch - SAME)) for epoch in epochs]
    steps = [_step(boundary, epochs, losses, window) for boundary in range(1, max(within, default=1))]
    fall = (
        _mean_of(losses, within, min(within)) - _mean_of(losses, within, max(within)) if len(set(within)) > 1 else None
    )
    drops = [step.drop for step in steps if step.drop is not None]
    if not drops or len(drops) < len(steps):
        return Staircase(steps, None, None, fall, None)
    total = math.fsum(drops)
    error = math.sqrt(math.fsum(step.error**2 for step in steps if step.error is not None))
    return Staircase(steps, total, error, fall, total / fall if fall is not None and fall > 0 else None)


def onset(
    trained: Sequence[Sequence[float]],
    held_out: Sequence[Sequence[float]],
    trained_tokens: Sequence[int] | None = None,
    held_out_tokens: Sequence[int] | None = None,
) -> Onset:
    """Where memorisation begins: from where on trained examples stay ahead of held-out ones.

    trained, held_out: a row a reading, in order, and in it each example's loss in nats a token, the same examples in
    the same order in every row. The first reading is the one before training: examples differ in difficulty, so that
    a gap may be there from the start, and each example's change since then is what is compared. Its own gap is 0.

    trained_tokens, held_out_tokens: how many tokens each example has; means are then of tokens. Without them each
    example counts alike. The example is the unit either way, and intervals say nothing about other runs. There is one
    a reading and no correction for their number; that all later ones agree is asked instead, of which the last
    reading has none.

    Raises ValueError where there is no reading or the number of rows, examples or token counts differs, with fewer
    than two examples on a side, and for losses that are not finite.

    Source: Welch 1938, "The Significance of the Difference between Two Means When the Population Variances Are
    Unequal"; with tokens, each mean is a ratio: Cochran 1977, "Sampling Techniques", chapter 6.
    """
    if not trained or len(trained) != len(held_out):
        raise ValueError(f"each reading has both kinds of examples: {len(trained)} and {len(held_out)} readings")
    weights = [_weights(trained, trained_tokens), _weights(held_out, held_out_tokens)]
    gaps = [_gap((trained[0], held_out[0]), now, weights) for now in zip(trained, held_out, strict=True)]
    # The first reading, which is compared with itself, is always among them.
    begins = max(place for place, gap in enumerate(gaps) if not gap.low > 0) + 1
    lowest = min(range(len(gaps)), key=lambda place: gaps[place].held_out)
    return Onset(gaps, begins if begins < len(gaps) else None, lowest)


def _step(boundary: int, epochs: Sequence[float], losses: Sequence[float], window: float) -> Step:
    distances = [(epoch - boundary, loss) for epoch, loss in zip(epochs, losses, strict=True)]
    before = [(at, loss) for at, loss in distances if -window + SAME < at <= SAME]
    after = [(at, loss) for at, loss in distances if SAME < at <= window + SAME]
    updates = len(before), len(after)
    if min(updates) < FEWEST:
        return Step(boundary, None, None, None, None, updates, None)
    import numpy as np
    from scipy.special import stdtrit

    places, values = np.array([*before, *after]).T
    curve = np.vander(places / window, DEGREE + 1, increasing=True)
    # Last, so that what the curve explains is taken out of it.
    basis, triangle = np.linalg.qr(np.column_stack([curve, places <= SAME]))
    fitted = basis.T @ values
    freedom = len(values) - DEGREE - 2
    drop, size = float(fitted[-1] / triangle[-1, -1]), abs(float(triangle[-1, -1]))
    error = float(np.linalg.norm(values - basis @ fitted)) / math.sqrt(freedom) / size
    half = float(stdtrit(freedom, 0.975)) * error
    return Step(boundary, drop, error, drop - half, drop + half, updates, freedom)


def _gap(
    first: tuple[Sequence[float], Sequence[float]],
    now: tuple[Sequence[float], Sequence[float]],
    weights: list[list[float]],
) -> Gap:
    from scipy.special import stdtrit

    changes, errors = [], []
    for before, after, weight in zip(first, now, weights, strict=True):
        changed = [new - old for old, new in zip(before, after, strict=True)]
        mean = math.fsum(w * value for w, value in zip(weight, changed, strict=True))
        n = len(changed)
        squares = math.fsum((w * (value - mean)) ** 2 for w, value in zip(weight, changed, strict=True))
        changes.append(mean)
        errors.append((squares * n / (n - 1), n - 1))
    gap, variance = changes[1] - changes[0], errors[0][0] + errors[1][0]
    half = 0.0
    if variance > 0:
        degrees = variance**2 / math.fsum(part**2 / freedom for part, freedom in errors)
        half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    means = [
        math.fsum(w * value for w, value in zip(weight, row, strict=True))
        for weight, row in zip(weights, now, strict=True)
    ]
    return Gap(gap, gap - half, gap + half, *means)


def _weights(readings: Sequence[Sequence[float]], tokens: Sequence[int] | None) -> list[float]:
    n = len(readings[0])
    counts = [1] * n if tokens is None else list(tokens)
    if n < 2 or len(counts) != n or any(len(row) != n for row in readings):
        sizes = sorted({len(row) for row in readings})
        raise ValueError(f"each reading has the same examples, two or more: {sizes} losses, {len(counts)} token counts")
    if min(counts) < 1 or not all(math.isfinite(value) for row in readings for value in row):
        raise ValueError("an example has a token or more, and a finite loss at every reading")
    return [count / sum(counts) for count in counts]


def _mean_of(losses: Sequence[float], within: list[int], epoch: int) -> float:
    chosen = [loss for loss, of in zip(losses, within, strict=True) if of == epoch]
    return math.fsum(chosen) / len(chosen)


def _check_updates(epochs: Sequence[float], losses: Sequence[float], window: float) -> None:
    if len(epochs) != len(losses):
        raise ValueError(f"each update has a loss: {len(epochs)} updates and {len(losses)} losses")
    if not all(math.isfinite(value) for value in [*epochs, *losses]):
        raise ValueError("an update without a loss cannot be fitted: nan or infinite values among the updates")
    if any(later <= earlier for earlier, later in zip(epochs, epochs[1:], strict=False)):
        raise ValueError("updates come in order, and each once: their epochs do not ascend")
    if not 0 < window <= WINDOW:
        raise ValueError(f"a window of more than half an epoch gives an update to two boundaries: {window}")
