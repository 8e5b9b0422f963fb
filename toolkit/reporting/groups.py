"""Collects runs into groups, and takes means over the runs of a group."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.checkpoints import expand, find_runs, runs_in
from toolkit.errors import UserError
from toolkit.metrics.information import rule_only_nats
from toolkit.metrics.statistics import Mean, t_interval
from toolkit.reporting.forgotten import Forgotten, read_forgotten
from toolkit.reporting.learning import Learning, end_stage, read_learning
from toolkit.reporting.repetition_read import Repeated, read_repeated
from toolkit.reporting.tested import Tested, read_tested
from toolkit.run_folder import Run, changed_keys


class Point(NamedTuple):
    """One point of a group's curve."""

    epoch: float
    exposures: float
    """Presentations a fact so far, the mean over runs."""
    value: Mean


@dataclass(frozen=True)
class Group:
    """The finished runs of one recipe, and what was read of them."""

    name: str
    runs: list[Run]
    readings: list[list[dict[str, Any]]]
    """The rows of each run's readings, first to last: of recall, or of a classifier's validation texts."""
    unfinished: list[Run]
    """Runs of the group that were named too and are left out."""
    tests: list[dict[str, Any]] = field(default_factory=list)
    """Of classifiers, the row of each run's test; of other runs none."""

    @property
    def classifies(self) -> bool:
        return bool(self.tests)

    @cached_property
    def learning(self) -> list[Learning | None]:
        """What each fact of each run did, read when it is asked for; None for a run of which nothing can be read."""
        return [read_learning(run) for run in self.runs]

    @cached_property
    def tested(self) -> list[Tested]:
        """What each classifier said of every text at its test, read when it is asked for."""
        return [read_tested(run, end) for run, end in zip(self.runs, self.tests, strict=True)]

    @cached_property
    def forgotten(self) -> list[Forgotten]:
        """What each run could do before training and after it, read when it is asked for."""
        return [read_forgotten(run) for run in self.runs]

    @cached_property
    def repeated(self) -> list[Repeated]:
        """What each run wrote at every reading of repetition, read when it is asked for."""
        return [read_repeated(run) for run in self.runs]

    @property
    def info(self) -> dict[str, Any]:
        """run.json of the first run; what it says of data and model holds for the recipe."""
        return self.runs[0].info

    @property
    def data(self) -> dict[str, Any]:
        """What the generator said of the group's answers."""
        return self.info.get("data", {})

    @property
    def seeds(self) -> list[int]:
        return [seed_of(run) for run in self.runs]

    @property
    def entropy_bits(self) -> float | None:
        return self.data.get("entropy_bits")

    @property
    def floor_digit_nats(self) -> float | None:
        """Loss in nats a digit of a model that knows the rule and no number; None where the rule is not known."""
        bits, digits = self.data.get("rule_only_bits"), self.data.get("answer_digits")
        return None if bits is None or not digits else rule_only_nats(bits, digits)

    @property
    def floor_line_nats(self) -> float | None:
        """The same a token of whole lines: the answer's entropy and ln of how many indices there are."""
        bits, choices = self.data.get("rule_only_bits"), self.data.get("prompt_choices")
        tokens = self.last("loss/line_tokens")[0]
        if bits is None or not choices or not tokens:
            return None
        return (rule_only_nats(bits, 1) + math.log(choices)) / tokens

    @property
    def after(self) -> str | None:
        """The stage after which outcomes are taken; None for the last one."""
        return None if self.classifies else end_stage(self.runs[0])

    @property
    def ends(self) -> list[dict[str, Any]]:
        """The row that outcomes are of, in each run."""
        if self.classifies:
            return self.tests
        cut = [[row for row in rows if row.get("stage") == self.after] for rows in self.readings]
        return [(of_stage or rows)[-1] for of_stage, rows in zip(cut, self.readings, strict=True)]

    def last(self, key: str) -> list[float | None]:
        """The value at the end in each run; None where it has none."""
        return [row.get(key) for row in self.ends]

    def lines(self, key: str) -> list[list[tuple[float, float, float]]]:
        """(epoch, exposures, value) of every reading, a list a run that has the key at all."""
        lines = [
            [(row["epoch"], row["exposures"], row[key]) for row in rows if row.get(key) is not None]
            for rows in self.readings
        ]
        return [line for line in lines if line]

    def curve(self, key: str) -> list[Point]:
        """Mean over runs at the epochs at which every run was read; over fewer it would jump where one drops out."""
        by_epoch = [{round(reading[0], 6): reading for reading in line} for line in self.lines(key)]
        common = set.intersection(*map(set, by_epoch)) if by_epoch else set()
        return [
            Point(
                epoch,
                math.fsum(line[epoch][1] for line in by_epoch) / len(by_epoch),
                t_interval([line[epoch][2] for line in by_epoch]),
            )
            for epoch in sorted(common)
        ]


def collect(arguments: list[str]) -> tuple[list[Group], list[str]]:
    """Groups that the command line's arguments name, in that order, and the names of those without a reading.

    Raises UserError for what is no run or group, for one without a finished run, when nothing was read at all, and
    for classifiers beside runs of facts.
    """
    found = dict.fromkeys(map(_absolute, find_runs(arguments)))
    named = dict.fromkeys(_absolute(run) for path in expand(arguments) for run in runs_in(path))
    names = _names([_folder(run) for run in found])
    groups, kinds = [], []
    for folder, name in names.items():
        runs = sorted((run for run in found if _folder(run) == folder), key=seed_of)
        read = [(run, rows, tests) for run, rows, tests in map(_read, runs) if (tests if run.classifies else rows)]
        kinds += [(name, run.classifies) for run, _, _ in read]
        left_out = [run for run in named if run not in found and _folder(run) == folder]
        if read:
            tests = [tests[-1] for _, _, tests in read if tests]
            groups.append(Group(name, [run for run, _, _ in read], [rows for _, rows, _ in read], left_out, tests))
    if not groups:
        what = "test of a classifier" if all(run.classifies for run in found) else "reading of recall"
        raise UserError(f"{', '.join(names.values())}: no {what} lies there, so there is nothing to compare.")
    refuse_mixed(kinds)
    return groups, [name for name in names.values() if name not in {group.name for group in groups}]


def _read(run: Run) -> tuple[Run, list[dict[str, Any]], list[dict[str, Any]]]:
    """A run, the rows of its readings, and those of its test, where it is a classifier."""
    when = ("epoch", "exposures")
    if run.classifies:
        return run, run.rows("classification", needed=when), run.rows("test", needed=("stage", *when, "test/accuracy"))
    return run, run.rows("recall", needed=when), []


def refuse_mixed(kinds: list[tuple[str, bool]]) -> None:
    """Raises UserError where some of these (a name, whether it classifies) are classifiers and others are not."""
    if len({classifies for _, classifies in kinds}) > 1:
        said = (
            f"{what}: {', '.join(dict.fromkeys(name for name, classifies in kinds if classifies == kind))}"
            for kind, what in ((True, "classes of texts"), (False, "recall of facts"))
        )
        raise UserError(f"what these learned cannot be compared ({'; '.join(said)}): compare each kind by itself.")


def seed_of(run: Run) -> int:
    return run.info.get("seed") or 0


def differing_keys(a: Group, b: Group) -> list[str]:
    """The keys in which two groups' recipes differ: data.pattern, lora.rank, …"""
    return [line.partition(": ")[0] for line in changed_keys(a.runs[0].recipe, b.runs[0].recipe)]


def setting(group: Group, key: str) -> Any:
    """What a group's recipe says under a key such as data.pattern; None where it says nothing."""
    place: Any = group.runs[0].recipe
    for part in key.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def first_exposures(rows: Sequence[dict[str, Any]], share: float) -> float | None:
    """Exposures at the first reading at which exact recall of one run was `share` (0 to 1) or more; None if never."""
    # Shares come from float32 means: 95 of 100 may be a little less than 0.95.
    reached = (row["exposures"] for row in rows if (row.get("recall/exact") or 0) >= share - 1e-6)
    return next(reached, None)


def _absolute(run: Run) -> Run:
    return Run(run.path.resolve())  # a run given as "." has no parent's name


def _folder(run: Run) -> Path:
    """The group's folder, or the run's own where it was copied out of one."""
    return run.path.parent if re.fullmatch(r"seed-\d+", run.path.name) else run.path


def _names(folders: list[Path]) -> dict[Path, str]:
    """A name for each folder: its own, or its path where two folders have the same."""
    folders = list(dict.fromkeys(folders))
    plain = [folder.name for folder in folders]
    return {
        folder: folder.name if plain.count(folder.name) == 1 else Path(os.path.relpath(folder)).as_posix()
        for folder in folders
    }
