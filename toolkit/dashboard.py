"""A W&B workspace that compares groups with the report's panels (`python -m toolkit.dashboard CHECKPOINT...`)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.compare import REPORTS, report_name
from toolkit.errors import MachineError, UserError
from toolkit.recipe.table import NAME_RULE, is_name

if TYPE_CHECKING:
    from toolkit.reporting.groups import Group

SECTIONS: dict[str, dict[str, str]] = {
    "Recall by exposures": {
        "recall/exact": "Exact recall",
        "recall/exact_control": "Exact recall of controls (chance)",
        "recall/bits_memorised": "Bits memorised an answer",
        "recall/share_memorised": "Share of the entropy memorised",
    },
    "Loss by exposures": {
        "loss/digit_nats": "Loss, nats a digit",
        "loss/digit_nats_control": "Loss of controls",
        "train/loss": "Training loss",
    },
    "Controls": {
        "recall/membership_auc": "Trained answers told from foils (AUC)",
        "recall/exact_paraphrase": "Exact recall in other words",
        "recall/exact_reversed": "The reversed question",
        "recall/exact_continued": "Text that was read, continued",
        "recall/intrusions": "Answered with another fact's answer",
        "recall/interference": "Controls answered with a trained answer",
    },
    "Answers in words, preferences, second answers": {
        "recall/em": "Exact match (SQuAD)",
        "recall/f1": "F1 (SQuAD)",
        "train/rewards/margins": "Reward of the right answer over the wrong one (DPO)",
        "train/logps/chosen": "Log-probability of the right answer (DPO)",
        "recall/exact_old": "First numbers of changed names",
        "recall/exact_new": "Their new numbers",
    },
}
"""Panels, by section: the metric that each shows against exposures, and its title."""
OF_CLASSIFIERS: dict[str, dict[str, str]] = {
    "Validation texts by update": {
        "validation/accuracy": "Accuracy on the validation texts",
        "validation/macro_f1": "Macro F1 on the validation texts",
        "validation/loss": "Loss on the validation texts, nats a text",
    },
    "Training by update": {"train/loss": "Training loss"},
    "Test texts": {"test/accuracy": "Accuracy on the test texts"},
}
"""The same of classifiers, against updates; a test is one number, and so a bar."""
FORGOTTEN = "What was forgotten, by update"
REPEATED = "What was repeated, by update"
OF_REPETITION = {
    "repetition/greedy/seq_rep_4": "Repeated 4-grams of greedy texts",
    "repetition/sampled/seq_rep_4": "Repeated 4-grams of sampled texts",
    "repetition/greedy/loops": "Greedy texts that end in a loop",
    "repetition/greedy/never_ended": "Greedy texts that do not end by themselves",
    "repetition/held_out_nats": "Loss of held-out reference answers, nats a token",
    "repetition/trained_nats": "Loss of trained reference answers, nats a token",
}
"""Panels of runs whose texts were read for repetition, as far as they have them."""
STEP = "train/global_step"


def main(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT", help="Runs or groups, as for compare.")],
    entity: Annotated[str | None, typer.Option(help="Account or team; that of the recipe, else your default.")] = None,
    project: Annotated[str | None, typer.Option(help="The project at W&B (default: the recipe's).")] = None,
    name: Annotated[str | None, typer.Option(help="The workspace's name (default: the groups' names).")] = None,
) -> None:
    """Create a W&B workspace with the report's panels, runs grouped and coloured as in the report.

    Where no key is configured, or W&B does not answer, its specification is written to reports/<name>/dashboard.json.
    """
    if name is not None and not is_name(name):
        raise UserError(f"--name {name!r}: {NAME_RULE}.")
    from toolkit.reporting.groups import collect

    groups, _ = collect(checkpoints)
    name = name or report_name([group.name for group in groups])
    project = project or one_of(groups, "project") or "toolkit"
    entity = entity or one_of(groups, "entity")
    publish(groups, name, entity, project)


def one_of(groups: list["Group"], key: str) -> str | None:
    """What every recipe's [wandb] says. Raises UserError where they differ: a workspace is in one project."""
    said = {group.runs[0].recipe.get("wandb", {}).get(key) for group in groups}
    if len(said) > 1:
        raise UserError(
            f"these groups are in different places at W&B ({key}: {', '.join(map(str, said))}): say --{key}."
        )
    return said.pop()


def publish(groups: list["Group"], name: str, entity: str | None, project: str) -> None:
    """Save the workspace at W&B, or write down what would be saved."""
    import wandb

    from toolkit.tracking import said

    names, classify = [group.name for group in groups], groups[0].classifies
    more = {FORGOTTEN: forgetting_metrics(groups), REPEATED: repetition_metrics(groups)}
    path = REPORTS / name / "dashboard.json"
    try:
        key = wandb.login(prompt=False, verify=False)
        entity = entity or (wandb.Api().default_entity if key else None)
        view = workspace(names, name, entity or "ENTITY", project, classify=classify, more=more)
        if key:
            view.save()
            print(f"the workspace: {view.url}")
            return
    # wandb raises classes of its own from anywhere, and requests' and urllib's beside them.
    except Exception as error:
        view = workspace(names, name, entity or "ENTITY", project, classify=classify, more=more)
        keep(path, view)
        raise MachineError(
            f"W&B: {said(error)}. The specification is in {path}; the same command publishes it."
        ) from error
    keep(path, view)
    known = "no key is configured (`wandb login`)"
    print(f"{known}: the specification is in {path}; the same command publishes it once there is one.")


def keep(path: Path, view: Any) -> None:
    from toolkit.run_folder import write_whole

    specification = view._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")
    write_whole(path, json.dumps(specification, indent=1, ensure_ascii=False) + "\n")


def forgetting_metrics(groups: list["Group"]) -> dict[str, str]:
    """Each task's measures and each text's, with their titles, as the groups' rows have them; none where nothing was
    measured before and after."""
    found: dict[str, str] = {}
    for row in (row for group in groups for run in group.runs for row in run.rows("forgetting")):
        for key in row:
            kind, _, rest = key.partition("/")
            if kind == "forgetting" and not key.endswith("_change"):
                found[key] = f"Accuracy, {rest}"
            elif kind == "heldout":
                text, _, measure = rest.rpartition("/")
                found[key] = f"{text}: {OF_TEXTS.get(measure, measure)}"
    return ({"forgetting/mean_change": "Mean change over tasks"} if found else {}) | found


def repetition_metrics(groups: list["Group"]) -> dict[str, str]:
    """What the groups' rows have of repetition, with its titles; none where no text was read."""
    found = {key for group in groups for run in group.runs for row in run.rows("repetition") for key in row}
    return {key: title for key, title in OF_REPETITION.items() if key in found}


OF_TEXTS = {
    "bits_per_byte": "bits a byte",
    "kl_from_base": "KL of the model from the base, bits a token",
    "kl_to_base": "KL of the base from the model, bits a token",
}


def panel(metric: str, title: str, *, classify: bool) -> Any:
    """How a metric is shown."""
    import wandb_workspaces.reports.v2 as panels

    if metric.startswith("test/"):
        return panels.BarPlot(title=title, metrics=[metric], orientation="v", groupby_rangefunc="minmax")
    by_update = classify or metric.startswith(("forgetting/", "heldout/", "repetition/"))
    x, said = (STEP, "updates") if by_update else ("exposures", "exposures")
    return panels.LinePlot(title=title, x=x, y=[metric], title_x=said, groupby_rangefunc="minmax")


def workspace(
    groups: list[str],
    name: str,
    entity: str,
    project: str,
    *,
    classify: bool,
    more: dict[str, dict[str, str]] | None = None,
) -> Any:
    """The workspace: a panel a metric, runs grouped by recipe and coloured as in the report.

    more: further sections, as `SECTIONS` has them; those without a panel are left out.
    """
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import Metric

    from toolkit.reporting.figures import colour_of

    own = OF_CLASSIFIERS if classify else SECTIONS
    shown = own | {section: panels for section, panels in (more or {}).items() if panels}
    sections = [
        workspaces.Section(
            name=title,
            is_open=True,
            panels=[panel(metric, said, classify=classify) for metric, said in metrics.items()],
        )
        for title, metrics in shown.items()
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        runset_settings=workspaces.RunsetSettings(
            filters=[Metric("Group").isin(groups)],
            groupby=[Metric("Group")],
            group_colors={group: colour_of(number) for number, group in enumerate(groups)},
        ),
    )


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
