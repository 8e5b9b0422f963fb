"""The workspace at W&B: what it would be, where it goes, and what is said where it cannot go there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planted import plant
from tests.planted_classifiers import classifier
from toolkit import dashboard
from toolkit.errors import MachineError, UserError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody_logged_in: None) -> None:
    monkeypatch.chdir(tmp_path)
    for group in ("GroupA", "GroupB"):
        plant(group, 0, [1, 2], readings=3, wandb={"project": "phone-memory"})


def test_without_a_key_the_specification_is_kept_and_how_to_go_on_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    dashboard.main(["checkpoints/Group*"], None, None, None)
    said = capsys.readouterr().out
    assert (
        "no key is configured (`wandb login`): the specification is in reports/GroupA-vs-GroupB/dashboard.json" in said
    )
    view = json.loads(Path("reports/GroupA-vs-GroupB/dashboard.json").read_text(encoding="utf-8"))
    assert (view["entity"], view["project"], view["displayName"]) == ("ENTITY", "phone-memory", "GroupA-vs-GroupB")
    text = json.dumps(view)
    for metrics in dashboard.SECTIONS.values():
        for metric in metrics:
            assert f'"metrics": ["{metric}"]' in text
    assert text.count('"xAxis": "exposures"') == sum(map(len, dashboard.SECTIONS.values()))
    assert '"op": "IN", "value": ["GroupA", "GroupB"]' in text
    assert "#0072B2" in text


def test_every_panels_metric_is_one_that_runs_log() -> None:
    from toolkit.probes.recall import summarise
    from toolkit.training.callback import LOGGED

    row = {
        "split": "train", "variant": "plain", "part": "facts",
            "prior": None, "em": True, "f1": 1.0, "gold": "12", "bits": [1.0], "bits_total": 1.0, "correct": [True],
        "exact": True, "digits_teacher_forced": 1.0, "eos_bits": 1.0, "stopped": True, "output": "12", "strict": True,
        "edit_distance": 0, "lenient": True, "well_formed": True, "foil_bits_total": 2.0,
    }  # fmt: skip
    rows = [row, row | {"split": "control"}]
    rows += [row | {"split": "test", "variant": variant} for variant in ("paraphrase-1", "reversed", "continued")]
    rows += [row | {"part": part} for part in ("old", "new")]
    in_words = [entry | {"lenient": None, "well_formed": None} for entry in rows]
    logged = set(summarise(rows, 5.0, whole_line=False)) | set(summarise(in_words, 5.0, whole_line=False))
    logged |= {f"train/{name}" for name in LOGGED}
    assert {metric for metrics in dashboard.SECTIONS.values() for metric in metrics} <= logged


def test_classifiers_have_panels_of_their_own_against_updates(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("lora", "full"):
        classifier(group, 0, ["Negative"] * 100, wandb={"project": "classification"})
    dashboard.main(["checkpoints/lora", "checkpoints/full"], None, None, "classes")
    assert "reports/classes/dashboard.json" in capsys.readouterr().out
    view = json.loads(Path("reports/classes/dashboard.json").read_text(encoding="utf-8"))
    assert view["project"] == "classification"
    text = json.dumps(view)
    metrics = [metric for section in dashboard.OF_CLASSIFIERS.values() for metric in section]
    assert set(metrics) == {
        "validation/accuracy", "validation/macro_f1", "validation/loss", "train/loss", "test/accuracy",
    }  # fmt: skip
    for metric in metrics:
        assert f'"metrics": ["{metric}"]' in text
    assert text.count('"xAxis": "train/global_step"') == len(metrics) - 1
    assert text.count('"viewType": "Bar Chart"') == 1
    assert "exposures" not in text
    assert "recall/" not in text


def test_every_panels_metric_of_classifiers_is_one_that_they_log() -> None:
    from toolkit.run_folder import Run
    from toolkit.tracking import STEP

    run = Run(classifier("lora", 0, ["Negative"] * 100))
    logged = {key for row in run.rows() for key in row}
    metrics = {metric for section in dashboard.OF_CLASSIFIERS.values() for metric in section}
    assert metrics - logged == {"train/loss"}
    assert dashboard.STEP == STEP


def test_with_a_key_it_is_saved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The server is stood in for at wandb-workspaces' last step, which sends the view."""
    import wandb
    from wandb_workspaces.workspaces import interface, internal

    sent: list[Any] = []

    class Api:
        default_entity = "me"

    def upsert(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(internal, "upsert_view2", upsert)
    monkeypatch.setattr(interface, "get_app_url", lambda api: "https://wandb.example")
    dashboard.main(["checkpoints/GroupA", "checkpoints/GroupB"], None, None, "both")
    (view,) = sent
    assert (view.entity, view.project, view.display_name) == ("me", "phone-memory", "both")
    assert "the workspace: https://wandb.example/me/phone-memory" in capsys.readouterr().out


def test_where_wandb_fails_the_specification_is_kept_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def fail(**_: Any) -> bool:
        raise RuntimeError("no answer\nmore")

    monkeypatch.setattr(wandb, "login", fail)
    with pytest.raises(MachineError, match=r"W&B: no answer. The specification is in reports/both/dashboard.json"):
        dashboard.main(["checkpoints/Group*"], None, None, "both")
    assert Path("reports/both/dashboard.json").is_file()


def test_groups_of_two_projects_need_one_said() -> None:
    plant("GroupC", 0, [1, 2], readings=3, wandb={"project": "other"})
    with pytest.raises(UserError, match=r"project: .*: say --project"):
        dashboard.main(["checkpoints/Group*"], None, None, None)
    dashboard.main(["checkpoints/Group*"], None, "mine", "three")
    assert json.loads(Path("reports/three/dashboard.json").read_text(encoding="utf-8"))["project"] == "mine"
