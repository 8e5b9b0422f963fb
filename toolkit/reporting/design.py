"""Says how groups and their runs differ beside what was measured: in settings, seeds, data, and what is left out."""

import itertools
from typing import Any

from toolkit.reporting.groups import Group, differing_keys, setting
from toolkit.run_folder import changed_keys


def differing(groups: list[Group]) -> dict[str, dict[str, Any]]:
    """Every setting in which the groups' recipes differ, with each group's value."""
    keys = dict.fromkeys(key for group in groups[1:] for key in differing_keys(groups[0], group))
    return {
        key: {group.name: setting(group, key) for group in groups}
        for key in keys
        if key.partition(".")[0] not in ("name", "compare")
    }


def unequal(**values: dict[str, Any]) -> list[str]:
    """What differs between groups, by what it is and each group's value, beside what they are about."""
    return [
        f"unequal designs, {what.replace('_', ' ')}: "
        + ", ".join(f"{name} {value}" for name, value in by_group.items())
        for what, by_group in values.items()
        if len(set(by_group.values())) > 1
    ]


def unlike_seeds(groups: list[Group], what: str) -> list[str]:
    return [
        f"{a.name} and {b.name} share {what} but not all seeds: they are tested as if they were no pairs"
        for a, b in itertools.combinations(groups, 2)
        if a.seeds != b.seeds and set(digests(a)) & set(digests(b))
    ]


def digests(group: Group) -> list[str]:
    """What identifies each run's facts."""
    found = (run.info.get("data", {}).get("digest") for run in group.runs)
    return [digest for digest in found if digest]


def notes_on_runs(group: Group) -> list[str]:
    """What is to be known of a group's runs, whatever they learned."""
    notes = []
    if len(group.runs) == 1:
        notes.append("one seed: nothing is known about other runs")
    for run in group.unfinished:
        step = max((row["step"] for row in run.rows()), default=0)
        notes.append(f"{run.path.name} is not finished (step {step}) and left out")
    first = group.runs[0]
    for run in group.runs[1:]:
        if changes := changed_keys(first.recipe, run.recipe):
            notes.append(f"{run.path.name} was made by another recipe than {first.path.name}: {'; '.join(changes)}")
    return notes
