"""The report as one HTML file without network: verdict in words, figures, numbers, how it was made."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.reporting.figures import colour_of
from toolkit.reporting.groups import Group
from toolkit.reporting.saving import THEMED, Inline
from toolkit.reporting.summary import SAID
from toolkit.reporting.verdict import EVERY_OUTCOME

KNOWLEDGE: dict[str, tuple[str, str]] = {
    "median_exposures": ("exposures until half of the facts are recalled", "{:.3g}"),
    "recalled_by_7": ("facts recalled after seven exposures", "{:.1%}"),
    "recalled_before_delay": ("recalled before a stage that fed none of these facts", "{:.1%}"),
    "recalled_after_delay": ("… and after it", "{:.1%}"),
    "still_recalled": ("… of the facts that were recalled before it", "{:.1%}"),
    "retention": ("retention: what is left of learning's effect on log-probability, the median fact", "{:.2f}"),
    "savings": ("savings: exposures that learning anew needs less, of facts recalled both times", "{:.1%}"),
    "relearned": ("… which are so many of those recalled at first", "{:.1%}"),
    "dpo_displaced": ("right answers less likely after preference training than before it", "{:.1%}"),
    "dpo_bits_change": ("bits that a right answer costs more after preference training", "{:.2f}"),
    "overwritten": ("changed names whose new number is recalled", "{:.1%}"),
    "old_still_recalled": ("changed names whose old number is still recalled", "{:.1%}"),
    "old_likelier": ("changed names whose old number is likelier than the new one (resistance)", "{:.1%}"),
    "collateral": ("recall of untouched facts lost since the first stage (collateral damage), points", "{:.1%}"),
    "exposures_of_unknown": ("mean exposures to recall of facts unknown before training", "{:.2f}"),
    "exposures_of_believed_otherwise": ("… of facts of which the base believed something else", "{:.2f}"),
    "belief_costs": ("… the difference within runs (facts are not assigned to classes: an association)", "{:.2f}"),
    "judge/score": ("judge's score of generated answers, 0 to 100", "{:.1f}"),
    "judge/unparseable": ("… replies of the judge that could not be read, and are in no mean", "{:.1%}"),
    "judge/kappa": ("… its agreement with exact match, at a score of 50 (Cohen's kappa)", "{:.2f}"),
    "judge/auc": ("… how well its score tells exact answers from others (AUC)", "{:.2f}"),
    "bits_per_exposure": ("bits memorised an answer and exposure, until half are recalled", "{:.2f}"),
    "bits_per_parameter": ("bits memorised a trainable parameter, all answers", "{:.3g}"),
    "explained_by_rule": ("bits saved that the rule explains (before, less the floor)", "{:.2f}"),
    "beyond_rule": ("bits saved beyond the rule", "{:.2f}"),
    "structure_by_controls": ("bits saved on never-trained prompts too", "{:.2f}"),
    "memory_by_controls": ("bits saved on trained ones only (negative structure: interference)", "{:.2f}"),
    "binding/facts": ("answers scored against one another (at most so many)", "{:.0f}"),
    "binding/set_known": ("bits known of the set of answers", "{:.2f}"),
    "binding/binding_known": ("bits known of which prompt has which of them", "{:.2f}"),
    "canary/bits": ("canary exposure, bits", "{:.2f}"),
    "canary/exact": ("… ranks that are exact, not estimated", "{:.0%}"),
    "canary/first": ("… numbers likelier than every other of their kind", "{:.0%}"),
    "low_confidence_tokens": ("tokens of trained answers under p = 0.5", "{:.1%}"),
    "draws_to_discover": ("draws that find half of the answers, the median fact", "{:.3g}"),
    "recency": ("correlation of how long ago a fact was fed and its bits", "{:.2f}"),
    "brier": ("Brier score of its own answers' probability", "{:.3f}"),
    "expected_calibration_error": ("expected calibration error", "{:.3f}"),
}
"""What `summary.json` calls it, in words, and how it is written."""
NBSP = "\u00a0"
"""Between the ends of an interval, which stay on one line."""
SIGNED = ("savings", "collateral")
"""Shares that may be negative."""
PRIOR = {
    "highly_known": "known in all words",
    "maybe_known": "known in some words",
    "weakly_known": "known in draws only",
    "believes_otherwise": "believed otherwise",
    "unknown": "unknown",
}
"""Classes of what a base knows, in words."""
NOT_NEGATIVE = ("median_exposures", "draws_to_discover", "brier", "expected_calibration_error")
FROM_FINAL: dict[str, tuple[str, str]] = {
    "recall/membership_auc": ("trained answers told from foils (area under ROC, 0.5 is chance)", "{:.3f}"),
    "recall/interference": ("never-trained prompts answered with a trained answer", "{:.1%}"),
    "recall/intrusions": ("trained prompts answered with another fact's answer", "{:.1%}"),
    "recall/exact_paraphrase": ("exact recall when asked in other words", "{:.1%}"),
    "recall/exact_reversed": ("exact recall of the reversed question", "{:.1%}"),
    "recall/exact_continued": ("exact recall when the text that was read is to be continued", "{:.1%}"),
    "recall/em": ("exact match of generated answers in words (SQuAD)", "{:.1%}"),
    "recall/f1": ("F1 of generated answers in words (SQuAD)", "{:.3f}"),
    "recall/em_control": ("… exact match of controls, never trained", "{:.1%}"),
    "recall/f1_control": ("… F1 of controls, never trained", "{:.3f}"),
    **{
        f"recall/exact_prior_{name}": (f"exact recall of facts that were {words} before training", "{:.1%}")
        for name, words in PRIOR.items()
    },
}
"""The same, of the last reading's summary."""


class Section(NamedTuple):
    """A table of the page, below the tests."""

    title: str
    said: str
    """What is to be known of it; may be empty."""
    head: list[str]
    rows: list[list[str]]
    """Texts; of several lines, those below the first are small."""


class Texts(NamedTuple):
    """What runs wrote, prompt by prompt, below the tables."""

    said: str
    links: list[tuple[str, str]]
    """What each file beside the page is called in words, and its name: all texts of a run."""
    prompts: list[dict[str, Any]]
    """Each prompt with its texts, as repetition_texts.html shows them."""


class Parts(NamedTuple):
    """What is not the same in every kind of report."""

    about: str
    """What the report is on, in a few words."""
    columns: list[dict[str, str]]
    """The table's cells of each group, by their heads."""
    below: str
    """What else is to be said of that table."""
    sections: list[Section]
    texts: Texts | None = None


def environment() -> Any:
    """The templates; what comes from names, recipes and models is text, whatever it holds."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )


def ink_of(number: int) -> str:
    """A group's colour, black as the page's own ink, light or dark, as in the figures."""
    return THEMED.get(colour_of(number), colour_of(number))


def page(
    summary: dict[str, Any], groups: list[Group], figures: list[tuple[str, Inline]], parts: Parts, command: str
) -> str:
    """The page. figures: a caption and the figure, in the order of the page."""
    coloured = [{"group": group["group"], "colour": ink_of(number)} for number, group in enumerate(summary["groups"])]
    return (
        environment()
        .get_template("page.html")
        .render(
            name=summary["name"],
            about=parts.about,
            groups=coloured,
            runs=sum(group["runs"] for group in summary["groups"]),
            declared=summary["declared"],
            primary_said=EVERY_OUTCOME[summary["primary"]].said,
            until=summary["until_exposures"] if summary["primary"] == "exposures_to_recall" else None,
            verdict=summary["verdict"],
            stored=[line for part in SAID[1:] for line in summary.get(part, [])],
            limits=summary["limits"],
            figures=[{"caption": caption, **figure._asdict()} for caption, figure in figures],
            series=[figure.series for _, figure in figures],
            table=[list(parts.columns[0]), *(list(cells.values()) for cells in parts.columns)],
            tests=tests(summary),
            below=parts.below,
            sections=parts.sections,
            texts=parts.texts,
            settings=summary["settings_that_differ"],
            notes=[f"{group['group']}: {note}" for group in summary["groups"] for note in group["notes"]]
            + summary["notes"],
            made=made(groups, command),
        )
    )


def tests(summary: dict[str, Any]) -> list[list[str]]:
    """A row a contrast, the primary outcome's first."""
    rows = []
    for name, outcome in summary["outcomes"].items():
        form = EVERY_OUTCOME[name].change
        for result in outcome["contrasts"]:
            said = "primary" if name == summary["primary"] and summary["declared"] else "exploratory"
            known = result["p"] is not None
            rows.append(
                [
                    f"{outcome['said']} ({said})",
                    f"{result['b']} − {result['a']}" + (" (pairs)" if result["paired"] else ""),
                    form(result["difference"]) if result["difference"] is not None else "–",
                    f"[{form(result['low'])}, {form(result['high'])}]" if known and result["low"] is not None else "–",
                    f"{result['p']:.3g}" + ("" if result["exact"] else " (sampled)") if known else "–",
                    f"{result['holm']:.3g}" if known else "–",
                    conclusion(result),
                ]
            )
    return rows


def conclusion(result: dict[str, Any]) -> str:
    if result["p"] is None:
        return result["why_not"]
    if not result["shown"]:
        return "no difference shown"
    return "difference shown" + (", which is not memory: the rules' floors differ" if result["floors"] else "")


def knowledge_rows(summary: dict[str, Any]) -> list[list[str]]:
    """A row a measure that any group has; a column a group."""
    rows = []
    for table, place in ((FROM_FINAL, "final"), (KNOWLEDGE, "knowledge")):
        for key, (words, form) in table.items():
            spreads = [group[place].get(key) for group in summary["groups"]]
            if any(spread and spread["mean"] is not None for spread in spreads):
                never_negative = key in NOT_NEGATIVE or (form.endswith("%}") and key not in SIGNED)
                lowest = 0.0 if never_negative else -math.inf
                rows.append([words, *(spread_text(spread, form, lowest) for spread in spreads)])
    words = "answers exact when the first 0, 1, … digits are given, %"
    rows.append([words, *(" ".join(f"{100 * v:.0f}" for v in group["extractable"]) for group in summary["groups"])])
    words = "half recalled after seven exposures (90 % interval within 6 to 8)"
    rows.append([words, *(seven(group["median_90"]) for group in summary["groups"])])
    return [[row[0], *(cell or "–" for cell in row[1:])] for row in rows if any(row[1:])]


def seven(median: dict[str, Any] | None) -> str:
    if median is None:
        return ""
    low, high = ("?" if end is None else f"{end:.3g}" for end in (median["low"], median["high"]))
    return f"{'yes' if median['equal_to_seven'] else 'not shown'} [{low}, {high}]"


def spread_text(spread: dict[str, Any] | None, form: str, lowest: float) -> str:
    """Mean and interval; what is shown of the interval ends where the measure does."""
    if not spread or spread["mean"] is None:
        return "–"
    if spread["low"] is None or not math.isfinite(spread["low"]):
        return form.format(spread["mean"])
    low, high = max(spread["low"], lowest), spread["high"]
    if form.endswith("%}"):
        high = min(high, 1.0)
    return f"{form.format(spread['mean'])} [{form.format(low)}, {form.format(high)}]"


def made(groups: list[Group], command: str) -> str:
    """Command, versions, and what identifies the runs and their facts."""
    lines = [command, ""]
    for group in groups:
        info = group.info
        model, versions = info.get("model", {}), info.get("versions", {})
        lines.append(
            f"{group.name}: {model.get('base') or 'random weights'}, {model.get('dtype')}, {model.get('engine')}"
        )
        for run in group.runs:
            about = run.info
            data = f"{'texts' if group.classifies else 'facts'} {str(about.get('data', {}).get('digest'))[:12]}"
            lines.append(
                f"  seed {about.get('seed')}: {data}, {about.get('seconds', 0):.0f} s, {about.get('finished')}"
            )
        lines.append("  " + ", ".join(f"{name} {version}" for name, version in versions.items()))
        if commit := info.get("git_commit"):
            lines.append(f"  git {str(commit)[:12]}")
    return "\n".join(lines)
