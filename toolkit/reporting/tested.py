"""What a classifier said of each text at its test, and whether two classifiers were tested on the same texts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toolkit.errors import UserError
from toolkit.metrics.classification import Scores
from toolkit.run_folder import Run

Row = dict[str, Any]
KEPT = ("id", "gold", "predicted", "right", "p", "cut", "reply", "said")
"""Columns of a reading that are reported."""


@dataclass(frozen=True)
class Tested:
    """The final weights of one run, text by text; no rows where they could not be read."""

    run: str
    labels: tuple[str, ...]
    """The classes, in the run's order."""
    rows: list[Row] = field(default_factory=list)
    """Of the test texts, by id."""
    chosen: list[Row] = field(default_factory=list)
    """Of the validation texts."""
    texts: dict[str, str] = field(default_factory=dict)
    """The test texts by id; none where the run did not keep them."""
    trouble: str | None = None
    """Why there are no rows."""

    @cached_property
    def gold(self) -> dict[str, str]:
        """The class of each test text, by its id."""
        return {row["id"]: row["gold"] for row in self.rows}

    @property
    def right(self) -> list[bool]:
        return [row["right"] for row in self.rows]

    @cached_property
    def scores(self) -> Scores:
        """Of the class that each text was taken for."""
        from toolkit.probes.classification import scores_of

        return scores_of(self.rows, self.labels)

    @cached_property
    def said(self) -> Scores | None:
        """Of a classifier's own replies, where it answers in words."""
        from toolkit.probes.classification import said_scores

        return said_scores(self.rows, self.labels) if self.rows[0]["reply"] is not None else None

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent class of the test texts, and the accuracy of always answering it."""
        return most_frequent(self.rows, self.labels)

    @property
    def majority_chosen(self) -> tuple[str, float]:
        """The same of the validation texts."""
        return most_frequent(self.chosen, self.labels)


def most_frequent(rows: Sequence[Row], labels: Sequence[str]) -> tuple[str, float]:
    counts = Counter(row["gold"] for row in rows)
    label = max(labels, key=counts.__getitem__)
    return label, counts[label] / len(rows)


def read_tested(run: Run, end: Row) -> Tested:
    """The rows of a run's test; `end` is its row in metrics.jsonl."""
    from toolkit.probes.classification import read_rows

    labels = tuple(run.info.get("data", {}).get("labels") or ())
    path = run.path / "probes" / f"test-{end['stage']}-{end['step']:06d}.parquet"
    try:
        rows = sorted(read_rows(path), key=lambda row: row["id"])
        if strangers := {row[column] for row in rows for column in ("gold", "predicted")} - set(labels):
            raise UserError(f"{path}: {sorted(strangers, key=str)[0]} is no class that run.json names.")
        tested, chosen = (
            [{column: row[column] for column in KEPT} for row in rows if row["split"] == split]
            for split in ("test", "validation")
        )
        if not tested:
            raise UserError(f"{path} holds no test text.")
    except UserError as error:
        return Tested(run.label, labels, trouble=str(error))
    return Tested(run.label, labels, tested, chosen, texts_of(run))


def texts_of(run: Run) -> dict[str, str]:
    """The test texts by id, without the question around them; none where examples.jsonl is not there or damaged."""
    found = {}
    try:
        with (run.path / "examples.jsonl").open(encoding="utf-8") as lines:
            # Those trained on are the most, and of no interest here.
            for example in (json.loads(line) for line in lines if '"split": "test"' in line):
                if example["split"] == "test":
                    start, end = example.get("info", {}).get("text", (0, None))
                    found[example["id"]] = example["prompt"][start:end]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found


def unlike(first: Sequence[Tested], second: Sequence[Tested]) -> str | None:
    """Why results of these runs do not compare; None where all were tested on the same texts, in the same classes."""
    runs = [*first, *second]
    if unread := [tested.run for tested in runs if not tested.rows]:
        return f"what they were tested on cannot be read: {', '.join(unread)}"
    if any(set(tested.labels) != set(runs[0].labels) for tested in runs):
        return "their classes differ"
    if not all(same_texts(runs[0], tested) for tested in runs):
        return "they were tested on other texts"
    return None


def same_texts(one: Tested, other: Tested) -> bool:
    """Whether ids and classes are the same; ids are often only numbers, so the texts too, where both kept them."""
    texts_differ = bool(one.texts and other.texts) and one.texts != other.texts
    return one.gold == other.gold and not texts_differ
