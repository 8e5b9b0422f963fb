"""The tables of a report on classifiers, from what summary.json says: one row a group, a measure, a class, a test."""

from typing import Any

from toolkit.reporting import mcnemar
from toolkit.reporting.page import Section

Summary = dict[str, Any]
BELOW = (
    "±: standard deviation over runs. Majority: always answering the most frequent class of the test texts. Validation:"
    " the same weights on the texts by which the best ones are chosen, which flatters them."
)
MOST_CLASSES = 60
"""Classes that the page lists."""
SHARES = ("{:.1f}", 100.0, " %")
NUMBERS = ("{:.3f}", 1.0, "")
Form = tuple[str, float, str]
"""How a value is written: its digits, what it is multiplied by, its unit."""

MEASURES: dict[str, tuple[str, Form]] = {
    "test/accuracy": ("accuracy on the test texts", SHARES),
    "test/majority": ("… of always answering their most frequent class", SHARES),
    "validation/accuracy": ("… of the same weights on the validation texts, by which the best are chosen", SHARES),
    "test/macro_f1": ("macro F1", SHARES),
    "test/macro_precision": ("macro precision", SHARES),
    "test/macro_recall": ("macro recall", SHARES),
    "validation/macro_f1": ("macro F1 on the validation texts", SHARES),
    "test/loss": ("loss, nats a text", NUMBERS),
    "validation/loss": ("… on the validation texts", NUMBERS),
    "test/brier": ("Brier score of the probability of the class that was given", NUMBERS),
    "test/expected_calibration_error": ("expected calibration error", NUMBERS),
    "test/said_accuracy": ("accuracy of its own replies, unreadable ones wrong", SHARES),
    "test/unreadable": ("… replies that could not be read", SHARES),
    "test/cut": ("test texts that were cut to fit", SHARES),
}
"""What `summary.json` calls it, in words, and how it is written."""
OF_TEXTS = ("test/majority",)
"""What is a property of the texts, and has no spread over runs."""


def value(spread: Summary | None, form: Form, interval: bool = True) -> str:
    """94.0 ± 1.0 %, and below it the t interval, or that within the run of a single one, as far as the measure goes."""
    if not spread or spread["mean"] is None:
        return "–"
    said = mean_and_sd(spread, form)
    within = spread.get("wilson")
    low, high = (within or spread)["low"], (within or spread)["high"]
    if not interval or low is None:
        return said
    digits, times, _ = form
    # None of them can be negative, and shares end at 1.
    low, high = max(low, 0.0), min(high, 1.0) if form == SHARES else high
    ends = f"[{digits.format(times * low)}, {digits.format(times * high)}]"
    return "\n".join([said, ends, *(["within the run"] if within else [])])


def mean_and_sd(spread: Summary, form: Form) -> str:
    digits, times, unit = form
    said = digits.format(times * spread["mean"])
    if spread["sd"] is not None:
        said += f" ± {digits.format(times * spread['sd'])}"
    return said + unit


def alone(spread: Summary, form: Form) -> str:
    """The mean alone, of what is the same for all runs."""
    return "–" if spread["mean"] is None else mean_and_sd(spread | {"sd": None}, form)


def cells(group: Summary, *, replies: bool) -> dict[str, str]:
    """A group's line of the table: head and text, an interval on a line of its own below the value.

    replies: whether some group answers in words.
    """
    final = group["final"]
    own = value(final.get("test/unreadable"), SHARES, interval=False)
    if own != "–":
        own += f"\n{value(final['test/said_accuracy'], SHARES, interval=False)} right"
    return {
        "group": group["group"],
        "runs": str(group["runs"]),
        "accuracy": value(final.get("test/accuracy"), SHARES),
        "majority": alone(final["test/majority"], SHARES) + (f"\n{group['majority']}" if group["majority"] else ""),
        "validation": value(final.get("validation/accuracy"), SHARES, interval=False),
        "macro F1": value(final.get("test/macro_f1"), SHARES),
        "loss": value(final.get("test/loss"), NUMBERS),
        "calibration error": value(final.get("test/expected_calibration_error"), NUMBERS, interval=False),
        **({"unreadable": own} if replies else {}),
        "trained weights": trained_weights(group),
    }


def trained_weights(group: Summary) -> str:
    count = group["trainable_parameters"]
    return f"{count:,}" if count else "–"


def sections(said: Summary) -> list[Section]:
    """The tables of the page, below the tests."""
    found = [Section("What came out", "", ["measure", *names(said)], measures(said))]
    if said["mcnemar_tests"]:
        note = f"{mcnemar.ABOUT} Two-sided, exact; Holm is over all of these tests; intervals are Newcombe's."
        rows = list(mcnemar.rows(said["mcnemar_tests"]))
        found.insert(0, Section("Model against model", note, mcnemar.HEAD, rows))
    rows = classes(said)
    if rows:
        more = f" The first {MOST_CLASSES} classes; all are in summary.json." if len(rows) > MOST_CLASSES else ""
        note = f"Means over runs, ± their standard deviation.{more}"
        found.append(Section("Classes", note, ["class", "test texts", *names(said)], rows[:MOST_CLASSES]))
    return found


def names(said: Summary) -> list[str]:
    return [group["group"] for group in said["groups"]]


def measures(said: Summary) -> list[list[str]]:
    """A row a measure that any group has; a column a group."""
    rows = []
    for key, (words, form) in MEASURES.items():
        spreads = [group["final"].get(key) for group in said["groups"]]
        row = [alone(spread, form) if key in OF_TEXTS and spread else value(spread, form) for spread in spreads]
        if any(cell != "–" for cell in row):
            rows.append([words, *row])
    steps = [
        ", ".join("–" if step is None else f"{step:.0f}" for step in group["weights_of_steps"])
        for group in said["groups"]
    ]
    weights = [trained_weights(group) for group in said["groups"]]
    return [*rows, ["the weights that were tested are of update", *steps], ["trained weights", *weights]]


def classes(said: Summary) -> list[list[str]]:
    """A row a class of any group: F1, and below it precision and recall."""
    labels = dict.fromkeys(label for group in said["groups"] for label in group["classes"])
    rows = []
    for label in labels:
        scores = [group["classes"].get(label) for group in said["groups"]]
        texts = dict.fromkeys(f"{score['texts']:,}" for score in scores if score)
        rows.append([label, " / ".join(texts), *(class_cell(score) for score in scores)])
    return rows


def class_cell(score: Summary | None) -> str:
    if score is None or score["f1"]["mean"] is None:
        return "–"
    said = {key: mean_and_sd(score[key], SHARES) for key in ("f1", "precision", "recall")}
    return f"F1 {said['f1']}\nprecision {said['precision']}\nrecall {said['recall']}"
