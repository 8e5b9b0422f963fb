"""Says of many groups how many show what, a line a question; the tables have each group."""

from collections.abc import Callable
from typing import Any

from toolkit.reporting.repetition_prompts import COUNTS, MAIN
from toolkit.reporting.repetition_read import GREEDY
from toolkit.reporting.verdict import ALPHA

Summary = dict[str, Any]
LOSS = "the loss of the prompts' reference answers"


def counted(question: str, tally: Callable[[Summary], str | None], known: Summary) -> str:
    """Of many groups how many have each answer; None: it has none. Empty where no group has one."""
    answers = [answer for group in known.values() if (answer := tally(group)) is not None]
    if not answers:
        return ""
    counts = ", ".join(f"{answer} in {answers.count(answer)}" for answer in sorted(set(answers)))
    return f"{question} Of {len(answers)} groups: {counts}; the table has each."


def sign(found: Summary | None, above: str, below: str) -> str | None:
    """What an interval shows, for a count."""
    if found is None or found.get("rho", found.get("mean")) is None:
        return None
    if found["low"] is None:
        return "no interval"
    return above if found["low"] > 0 else below if found["high"] < 0 else "not shown"


def tally_of_ending(group: Summary) -> str | None:
    own, human = (group["final"].get(f"repetition/{name}/{MAIN}") for name in (GREEDY, "human"))
    if own is None or human is None or own["mean"] is None or human["mean"] is None:
        return None
    return "more than in people's answers" if own["mean"] > human["mean"] else "no more than in people's answers"


def tally_between(group: Summary) -> str | None:
    found = group["across"][GREEDY]["between_runs"]
    if found["rho"] is None:
        return "nothing can be said" if any(group["across"][GREEDY]["loss"]["points"]) else None
    return "not shown" if found["p"] > ALPHA else "shown" if found["rho"] > 0 else "shown the other way"


def tally_of_steps(group: Summary) -> str | None:
    found = [stage["total"] for stage in group["staircase"] if stage["total"]["mean"] is not None]
    return None if not found else "shown" if any((one["low"] or 0) > 0 for one in found) else "not shown"


def tally_of_memory(group: Summary) -> str | None:
    own = group["memorisation"]
    if own is None:
        return None
    return "begun" if all(run["begins"] is not None for run in own["per_run"]) else "not shown in every run"


MORE, LESS = "more is repeated", "less is repeated"
TALLIES: tuple[tuple[str, Callable[[Summary], str | None]], ...] = (
    ("Repeated 4-grams of greedy texts at the end:", tally_of_ending),
    (f"Does parroting fade as {LOSS} falls? Between runs at the same reading:", tally_between),
    (f"On prompts of a higher {LOSS.removeprefix('the ')}, at the last reading:",
     lambda group: sign(group["within"][f"{GREEDY}/{MAIN}"]["last"], MORE, LESS)),
    *((f"The higher {what}, at the last reading:",
       lambda group, count=count: sign(group["frequency"].get(count, {}).get(GREEDY, {}).get("last"), MORE, LESS))
      for count, what in COUNTS.items()),
    ("Greedy less sampled, mean of all readings after training began:",
     lambda group: sign(((group["decoding"] or {}).get("all") or {}).get("difference"), MORE, LESS)),
    ("Steps down of the training loss at epoch boundaries:", tally_of_steps),
    ("Knowledge injected (trained facts above controls):",
     lambda group: sign((group["injected"] or {}).get("difference"), "shown", "the other way")),
    ("Memorising, trained examples ahead of held-out ones to the end:", tally_of_memory),
)  # fmt: skip
"""For many groups: each question, and a group's answer in a word."""
