"""What repetition costs: the longest repeat and the loop of a million characters, and of a quarter of them."""

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable

from benchmarks.measuring import Result, Table, Target, alternate, finish, ratio, spread, timed
from benchmarks.project import Quick
from toolkit.metrics.repeated_substring import Repeats, longest_repeats
from toolkit.metrics.repetition import loop, measure

SHORT, LONG = 250_000, 1_000_000
"""Characters; --quick takes a tenth of both."""
ROUNDS = 3
REPLIES = 100
"""Outputs of a reading: as many prompts as a study has, 256 tokens each."""


def main(quick: Quick = False) -> None:
    """Texts that are easy, and those that are the worst for quadratic methods, at two lengths in turn."""
    started = time.perf_counter()
    short, long = (SHORT // 10, LONG // 10) if quick else (SHORT, LONG)
    actions: dict[str, Callable[[], float]] = {}
    found: dict[tuple[str, int], Repeats] = {}
    for name, make in TEXTS.items():
        for length in (short, long):
            actions[f"{name} {length}"] = seconds_of(make(length), found, name)
    measured = alternate(actions, ROUNDS, warm=0)
    rows, growth, slowest = [], {}, 0.0
    for name in TEXTS:
        growth[name] = ratio(measured, f"{name} {long}", f"{name} {short}")
        seconds = [statistics.median(measured[f"{name} {length}"]) for length in (short, long)]
        slowest = max(slowest, seconds[1])
        repeats = found[name, long]
        rows.append(
            [
                name,
                *(f"{value:.2f}" for value in seconds),
                spread(measured[f"{name} {long}"]),
                f"{growth[name]:.2f}",
                f"{repeats.overlapping:,}",
                f"{repeats.apart:,}",
            ]
        )
    memory, reading = memory_of(TEXTS["Fibonacci"](long)), reading_seconds()
    columns = ["text", f"s, {short:,}", f"s, {long:,}", "(range)", "ratio", "longest repeat", "apart"]
    targets = [
        Target(f"slowest text of {long:,} characters, seconds", "<=", 10, slowest),
        Target("most seconds of four times the text, over the shorter one", "<=", 6, max(growth.values())),
        Target(f"most memory besides the text, {long:,} characters, GB", "<=", 1, memory),
        Target(f"all measures of {REPLIES} outputs of 256 tokens, seconds", "<=", 2, reading),
    ]
    values = {"seconds": measured, "ratio": growth, "memory_gb": memory, "reading_seconds": reading}
    result = Result("repetition_speed", [Table(columns, rows)], targets, values)
    finish(result, started, quick=quick)


def letters(length: int) -> str:
    return "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=length))


def fibonacci(length: int) -> str:
    """Each begins with the two before it, so that the text repeats at every scale."""
    last, text = "a", "ab"
    while len(text) < length:
        last, text = text, text + last
    return text[:length]


TEXTS: dict[str, Callable[[int], str]] = {
    "random letters": letters,
    "one letter": lambda length: "a" * length,
    "Fibonacci": fibonacci,
    "豪放不羁、": lambda length: "豪放不羁、" * (length // 5),
}


def seconds_of(text: str, found: dict[tuple[str, int], Repeats], name: str) -> Callable[[], float]:
    def both() -> None:
        found[name, len(text)] = longest_repeats(text)
        loop(text)

    return lambda: timed(both)


def memory_of(text: str) -> float:
    """GB that the longest repeat of a text takes at most, besides the text."""
    tracemalloc.start()
    longest_repeats(text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**30


def reading_seconds() -> float:
    """Of all measures of a reading's outputs: 256 tokens, 600 characters each."""
    draw = random.Random(1)
    outputs = [(draw.choices(range(3000), k=256), letters(600 + number)) for number in range(REPLIES)]
    return timed(lambda: [measure(tokens, text) for tokens, text in outputs])


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
