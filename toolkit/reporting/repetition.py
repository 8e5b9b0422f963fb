"""What runs repeat while they learn, in every kind of report: parroting against loss, frequency and decoding.

Texts are read one by one (`repetition_read`). Within a checkpoint prompts are the points of a correlation, across
checkpoints a run's readings; the run is the unit of what is said of a recipe.
"""

from collections.abc import Iterator
from typing import Any

from toolkit.reporting import repetition_arms as arms
from toolkit.reporting import repetition_figures as draw
from toolkit.reporting import repetition_groups as numbers
from toolkit.reporting import repetition_stairs as losses
from toolkit.reporting import repetition_tables as tables
from toolkit.reporting import repetition_texts as texts
from toolkit.reporting import repetition_words as words
from toolkit.reporting.groups import Group, setting
from toolkit.reporting.page import Parts
from toolkit.reporting.repetition_losses import recipe_stages
from toolkit.reporting.saving import Drawn

Summary = dict[str, Any]


def added(said: Summary, groups: list[Group]) -> Summary:
    """The summary with what was repeated; as it is where no run was read."""
    through = numbers.with_readings(groups)
    if not any(group.readings != [[] for _ in group.runs] for group in through) and not any(
        read.readings or read.trouble for group in groups for read in group.repeated
    ):
        return said
    found = {group.name: numbers.of_group(group, rows) for group, rows in zip(groups, through, strict=True)}
    between = arms.outcomes(groups, through)
    outcomes = said["outcomes"] | between
    return said | {
        "repeated": words.in_words(found, outcomes, said["primary"]),
        "outcomes": outcomes,
        "repetition": {
            "interval": "95 %: over runs t (of correlations through Fisher's z), of one run over its prompts",
            "axis": numbers.axis_of(through),
            "groups": found,
        },
        "notes": [*said["notes"], *notes(groups, found)],
    }


def notes(groups: list[Group], found: Summary) -> list[str]:
    """Runs and files left out, and what is not alike between groups."""
    said = [line for group in groups for read in group.repeated for line in read.trouble]
    for group in groups:
        own = found[group.name]
        if own["without"]:
            where = ", ".join(own["without"]) if own["runs"] else "any of its runs"
            said.append(f"{group.name}: repetition was not read in {where}")
        lost = [read.run for read, run in zip(group.repeated, group.runs, strict=True)
                if not read.readings and run.label in own["runs"]]  # fmt: skip
        if lost:
            said.append(f"{group.name}: the texts of {', '.join(lost)} are not there; only their means are")
        if own["source"] == "trained":
            said.append(f"{group.name}: nothing is held out, so that its prompts and reference answers were trained on")
    asked = {group.name: prompts_of(group) for group in groups if any(read.readings for read in group.repeated)}
    if len(set(asked.values())) > 1:
        said.append(f"not all groups were asked the same prompts: {', '.join(asked)}")
    if len({tokenizer_of(group) for group in groups if group.name in asked}) > 1:
        said.append(
            "not all groups have the same tokenizer: losses a token, and repeated tokens, are of other units, which"
            " 4-grams of characters are not"
        )
    fewer = {group.name: wanting(group) for group in groups if group.name in asked}
    for name, counts in fewer.items():
        if counts:
            drawn, wanted = counts
            said.append(f"{name}: {drawn:,} prompts were drawn, not {wanted:,}: the data have no more that differ")
    stairs = [group for group in groups if found[group.name]["staircase"]]
    for key in ("loss_on", "method", "packing"):
        values = {group.name: [stage.get(key) for stage in recipe_stages(group)] for group in stairs}
        if len(set(map(str, values.values()))) > 1:
            listed = ", ".join(f"{name} {' then '.join(map(str, of))}" for name, of in values.items())
            said.append(f"training losses are of different tokens ({key}: {listed})")
    temperatures = {group.name: setting(group, "repetition.temperature") for group in groups if group.name in asked}
    if len(set(temperatures.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in temperatures.items())
        said.append(f"sampled texts were drawn at different temperatures: {listed}")
    return said


def tokenizer_of(group: Group) -> str | None:
    """The digest of the tokenizer that a group trained or was given; None of one that came with its base."""
    known = group.info.get("model", {}).get("tokenizer")
    return known.get("digest") if isinstance(known, dict) else None


def wanting(group: Group) -> tuple[int, int] | None:
    """How many prompts were drawn from the data, and how many were asked for, where these are fewer."""
    known = group.info.get("repetition")
    counted = known.get("prompts") if isinstance(known, dict) else None
    questions, asked = (setting(group, f"repetition.{key}") for key in ("questions", "prompts"))
    if not isinstance(counted, int) or not isinstance(questions, list) or not isinstance(asked, int):
        return None
    return (counted - len(questions), asked) if counted - len(questions) < asked else None


def prompts_of(group: Group) -> frozenset[str]:
    """All prompts that any run of a group was asked at its last reading."""
    return frozenset(row["prompt"] for read in group.repeated if read.readings for row in read.readings[-1].rows)


def figures(groups: list[Group], said: Summary) -> Iterator[Drawn]:
    """Every figure, in the order of the page; none where nothing was read."""
    found = said.get("repetition")
    if found is None:
        return
    own, axis = found["groups"], found["axis"]
    through = numbers.with_readings(groups)
    through = numbers.by_updates(through) if axis == "updates" else through
    draw_on = "update" if axis == "updates" else "epoch"
    yield (
        "repetition",
        f"Repeated 4-grams and the loss of the reference answers, by {draw_on}.",
        draw.by_epoch(through, axis),
    )
    yield (
        "loops",
        f"Texts that end in a loop, and texts that do not end, by {draw_on}.",
        draw.shares(through, axis, draw.LOOPS),
    )
    yield (
        "alike",
        f"How different the texts of one reading are from each other, by {draw_on}.",
        draw.shares(through, axis, draw.ALIKE),
    )
    yield "parroting", "Repetition and loss, within checkpoints and across them.", draw.against_loss(through, own, axis)
    yield "staircase", "Training loss, and its steps at epoch boundaries.", losses.stairs(groups, own, axis)
    yield "memorisation", "Trained against held-out examples, by reading.", losses.memorised(groups, own, axis)


def with_sections(parts: Parts, said: Summary, groups: list[Group]) -> Parts:
    """The parts of a page, with the tables on repetition below its own, and the texts side by side."""
    found = said.get("repetition")
    if found is None:
        return parts
    return parts._replace(
        sections=[*parts.sections, *tables.sections(found)], texts=texts.on_page(groups, found["axis"])
    )


def files(groups: list[Group], said: Summary) -> Iterator[tuple[str, str]]:
    """Pages beside the report's own, each with all texts of a run: name and content."""
    if "repetition" in said:
        yield from texts.files(groups)


def measured(said: Summary) -> Iterator[tuple[str, str, Summary]]:
    """Group, measure and its values over runs, for summary.csv."""
    for name, group in said.get("repetition", {}).get("groups", {}).items():
        for key, spread in group["final"].items():
            yield name, key, spread
        for key, own in group["within"].items():
            for when in ("last", "pooled"):
                yield name, f"repetition/{key}/rho_loss/{when}", of_rho(own[when])
        for decoding, own in group["across"].items():
            for key, rho in own.items():
                if key == "between_runs":
                    # It has a p and no interval: summary.json has it.
                    continue
                yield name, f"repetition/{decoding}/seq_rep_4/rho_across/{key}", of_rho(rho)
        for count, by_decoding in group["frequency"].items():
            for decoding, own in by_decoding.items():
                for key, rho in own.items():
                    yield name, f"repetition/{decoding}/seq_rep_4/rho_{count}/{key}", of_rho(rho)
        if group["decoding"]:
            yield name, "repetition/greedy_less_sampled/seq_rep_4", over_runs(group["decoding"]["difference"])
        for stairs in group["staircase"]:
            yield name, f"staircase/{stairs['stage']}/total", over_runs(stairs["total"])
            yield name, f"staircase/{stairs['stage']}/share", stairs["share"]
        if group["memorisation"]:
            for key in ("begins", "lowest", "lowest_loss", "last_loss"):
                yield name, f"memorisation/{key}", group["memorisation"][key]


def of_rho(found: Summary) -> Summary:
    return over_runs({**found, "mean": found["rho"], "n": found["runs"]})


def over_runs(values: Summary) -> Summary:
    """As in the other rows, no interval where it is not one over runs."""
    return values if values["over"] == "runs" else values | {"low": None, "high": None}
