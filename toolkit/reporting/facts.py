"""What a report on runs that learned facts consists of: summary, figures, table, and what else is on its page."""

from collections.abc import Iterator
from typing import Any

from toolkit.reporting import fact_figures, law, sensitivity, stage_figures, summary
from toolkit.reporting.figures import loss_curves, recall_curves
from toolkit.reporting.groups import Group
from toolkit.reporting.page import Parts, Section, knowledge_rows
from toolkit.reporting.saving import Drawn
from toolkit.reporting.table import cells

Summary = dict[str, Any]


def summarise(groups: list[Group], unread: list[str]) -> Summary:
    """What summary.json holds; with the law where the groups are a grid over rank and number of facts."""
    said = summary.summarise(groups, unread)
    found, fitted = fitted_law(groups, said)
    said["law"] = law.summary(fitted) if fitted else None
    if fitted:
        said["verdict"] = [law.in_words(fitted), *said["verdict"]]
    elif found:
        said["notes"].append(law.NOT_FITTED)
    return said


def fitted_law(groups: list[Group], said: Summary) -> tuple[list[tuple[float, float, float]], law.Law | None]:
    """The points of a grid over rank and number of facts, and the law through them; none of other groups."""
    found = law.points(groups, said["settings_that_differ"])
    return found, law.fit(*zip(*found, strict=True)) if found else None


def figures(groups: list[Group], said: Summary) -> Iterator[Drawn]:
    """Every figure, in the order of the page."""
    found, fitted = fitted_law(groups, said)
    if fitted:
        # What the grid was made for comes first.
        yield "law", "Loss saved by rank and number of facts, with the fitted law.", law.figure(fitted, found)
    differ, primary = said["settings_that_differ"], said["primary"]
    by_setting = sensitivity.figure(differ, primary, said["outcomes"][primary]["groups"])
    yield "sensitivity", sensitivity.CAPTION, by_setting
    yield "loss_curves", "Loss by epoch, with the floor of a model that knows the rule only.", loss_curves(groups)
    yield "recall_curves", "Exact recall and bits memorised by exposures.", recall_curves(groups)
    yield (
        "stages",
        "Recall and bits through the stages, also of other facts than the main ones.",
        stage_figures.through_stages(groups),
    )
    yield "prior", "Recall by what the base knew before training.", stage_figures.by_prior(groups)
    yield "survival", "Facts not yet recalled, by exposures.", fact_figures.survival_curves(groups)
    asked = fact_figures.asked_otherwise(groups, said["groups"])
    yield "controls", "Trained facts asked in several ways, and controls.", asked
    yield "positions", "Digits right by position.", fact_figures.position_map(said["groups"])
    yield "recency", "Bits still missing, by how long ago a fact was fed last.", fact_figures.recency_curves(groups)
    yield (
        "calibration",
        "How often a model's own answer is right, by its probability.",
        fact_figures.calibration_curves(groups),
    )


def parts(said: Summary) -> Parts:
    """What table and page hold besides what every report has."""
    names = [group["group"] for group in said["groups"]]
    known = Section("What is known at the end", "", ["measure", *names], knowledge_rows(said))
    return Parts("what was memorised", [cells(group) for group in said["groups"]], "", [known])


def measured(said: Summary) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, measure and its values, for summary.csv."""
    for group in said["groups"]:
        outcome = said["outcomes"]["exposures_to_recall"]["groups"][group["group"]]
        for measure, spread in ({"exposures_to_recall": outcome} | group["final"] | group["knowledge"]).items():
            yield group["group"], measure, spread
