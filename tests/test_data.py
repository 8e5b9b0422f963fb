"""Facts without training, and bases for a machine without network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import command
from toolkit import data
from toolkit.errors import MachineError, UserError
from toolkit.example import read_jsonl
from toolkit.models.base import find_base
from toolkit.run_folder import Run

BASE = "Qwen/Qwen3-1.7B"
FOLDER = Path("data/models/Qwen--Qwen3-1.7B")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub that has one small model; what was asked of it."""
    calls: list[dict[str, Any]] = []

    def download(base: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]) -> None:
        calls.append({"base": base, "revision": revision, "allow": allow_patterns, "had": sorted(local_dir.glob("*"))})
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / "config.json").write_text("{}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return calls


def fetch(*recipes: str, **changes: str) -> None:
    said = [f"{key}={value}" for key, value in changes.items()]
    data.main([Path(recipe) for recipe in recipes], True, said)


# --- facts ---


def test_the_facts_are_those_that_a_run_trains(half_trained: Path, in_project: Path) -> None:
    from tests.conftest import HALF_TRAINED

    data.main([Path("recipes/tiny/groupA.toml")], False, [*HALF_TRAINED, "seeds=[0, 1]"])
    for seed in (0, 1):
        run = Run(half_trained / f"seed-{seed}")
        written = Path(f"data/half/seed-{seed}.jsonl")
        assert written.read_bytes() == (run.path / "examples.jsonl").read_bytes()
        assert hashlib.sha256(written.read_bytes()).hexdigest() == run.info["data"]["digest"]


def test_every_seed_has_a_file_of_its_own_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.main([Path("recipes/groupA.toml"), Path("recipes/groupB.toml")], False, [])
    assert "data/GroupB/seed-4.jsonl: 100 trained, 100 held out, 300 other questions\n" in capsys.readouterr().out
    files = sorted(Path("data").rglob("*.jsonl"))
    assert [str(file) for file in files] == [f"data/Group{g}/seed-{s}.jsonl" for g in "AB" for s in range(5)]
    trained = [{example.answer for example in read_jsonl(file) if example.split == "train"} for file in files]
    assert len(set.union(*trained)) == 10 * 100


def test_a_fixed_data_seed_gives_every_run_the_same_facts(folder: Path) -> None:
    data.main([Path("recipes/groupA.toml")], False, ["data.seed=7"])
    assert len({file.read_bytes() for file in Path("data").rglob("*.jsonl")}) == 1


def test_a_mistake_in_one_recipe_writes_no_facts_of_another(folder: Path) -> None:
    (folder / "wrong.toml").write_text('extends = "recipes/groupA.toml"\nname = "wrong"\n[data]\ncuont = 3\n')
    with pytest.raises(UserError, match="cuont"):
        data.main([Path("recipes/groupA.toml"), Path("wrong.toml")], False, [])
    assert not Path("data").exists()


# --- bases ---


def test_a_base_that_is_no_hub_name_has_nothing_to_fetch(
    folder: Path, hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("recipes/tiny/groupA.toml", "recipes/tiny/base.toml")
    said = capsys.readouterr().err
    assert "tiny-GroupA: its base checkpoints/tiny-base is no hub name; there is nothing to fetch." in said
    assert "tiny-base: it is built from random weights; there is nothing to fetch." in said
    assert not hub


def test_a_base_that_groups_share_is_fetched_once_and_then_found(folder: Path, hub: list[dict[str, Any]]) -> None:
    assert find_base(BASE) == BASE
    fetch("recipes/groupA.toml", "recipes/groupB.toml")
    assert [call["base"] for call in hub] == [BASE]
    assert find_base(BASE) == FOLDER
    assert sorted(entry.name for entry in FOLDER.iterdir()) == ["config.json", "fetched.json"]
    # No pickles, and no code unless the recipe lets it run.
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in hub[0]["allow"])
    fetch("recipes/groupA.toml")
    assert len(hub) == 1


def test_another_revision_takes_the_place_of_the_one_before(folder: Path, hub: list[dict[str, Any]]) -> None:
    fetch("recipes/groupA.toml")
    (FOLDER / "old.json").touch()
    fetch("recipes/groupA.toml", **{"model.revision": '"v2"'})
    assert [call["revision"] for call in hub] == [None, "v2"]
    assert json.loads((FOLDER / "fetched.json").read_text()) == {"base": BASE, "revision": "v2", "commit": None}
    assert not (FOLDER / "old.json").exists()
    (folder / "v3.toml").write_text('extends = "recipes/groupB.toml"\n[model]\nrevision = "v3"\n')
    with pytest.raises(UserError, match=f"GroupA and GroupB ask for different revisions of {BASE}"):
        fetch("recipes/groupA.toml", "v3.toml")


def test_code_is_fetched_only_where_the_recipe_lets_it_run(folder: Path, hub: list[dict[str, Any]]) -> None:
    fetch("recipes/groupA.toml", **{"model.remote_code": "true"})
    assert "*.py" in hub[0]["allow"]


def test_a_fetch_that_breaks_off_leaves_no_folder_that_is_taken_for_a_model(
    folder: Path, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    whole = huggingface_hub.snapshot_download

    def broken(base: str, *, local_dir: Path, **options: Any) -> None:
        local_dir.mkdir(parents=True)
        (local_dir / "config.json").write_text("{}")
        raise ConnectionError("the line\nwent dead")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(MachineError, match=r"could not be fetched \(the line\)\. What came so far is kept"):
        fetch("recipes/groupA.toml")
    assert find_base(BASE) == BASE
    # The next try finds what came so far, and goes on.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", whole)
    fetch("recipes/groupA.toml")
    assert [path.name for path in hub[0]["had"]] == ["config.json"]
    assert find_base(BASE) == FOLDER
    assert [entry.name for entry in FOLDER.parent.iterdir()] == [FOLDER.name]


def test_a_model_without_a_config_is_none(
    folder: Path, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda base, *, local_dir, **_: local_dir.mkdir(parents=True)
    )
    with pytest.raises(UserError, match=r"without a config\.json: it is no model"):
        fetch("recipes/groupA.toml")
    assert find_base(BASE) == BASE


def test_what_the_hub_refuses_is_the_users_to_mend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import errors

    response = httpx.Response(404, request=httpx.Request("GET", "http://hub"))
    for kind, said in (
        (errors.GatedRepoError, "is gated"),
        (errors.RepositoryNotFoundError, "has no such model"),
        (errors.RevisionNotFoundError, 'revision = "v9"'),
    ):

        def refuse(*arguments: Any, kind: Any = kind, **options: Any) -> None:
            raise kind("no", response=response)

        monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
        with pytest.raises(UserError, match=said):
            fetch("recipes/groupA.toml", **{"model.revision": '"v9"'})


def test_a_hub_that_cannot_be_reached_is_one_message_and_the_facts_are_written(folder: Path) -> None:
    done = command(
        "toolkit.data", "recipes/groupA.toml", "--fetch", folder=folder, HF_ENDPOINT="http://127.0.0.1:9",
        HF_HUB_OFFLINE="0",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"failed: {BASE} could not be fetched (")
    assert done.stderr.count("\n") == 1
    assert len(list(Path("data/GroupA").iterdir())) == 5
    assert find_base(BASE) == BASE


# --- data sets of the hub ---

SENTENCES = {
    "train": [{"sentence": f"text {i}", "label": i % 2} for i in range(20)],
    "validation": [{"sentence": f"dev {i}", "label": i % 2} for i in range(4)],
}
CLASSIFY = """
name = "fetched"
study = "classify"
[data]
source = "organisation/sentences"
test = "validation"
[model]
base = "checkpoints/none"
[stage.learn]
method = "classify"
"""


def test_a_fetched_data_set_is_what_is_read_from_then_on_with_its_own_label_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    from toolkit.recipe import read_recipe
    from toolkit.studies import build_data, resolve_data

    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append(split)
        label = datasets.ClassLabel(names=["negative", "positive"])
        features = datasets.Features({"sentence": datasets.Value("string"), "label": label})
        return datasets.Dataset.from_list(SENTENCES[split], features=features)

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: list(SENTENCES))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    Path("fetched.toml").write_text(CLASSIFY, encoding="utf-8")
    data.main([Path("fetched.toml")], True, [])
    assert asked == ["train", "validation"]
    assert sorted(path.name for path in Path("data/sets/organisation--sentences").iterdir()) == [
        "train.parquet", "validation.parquet",
    ]  # fmt: skip
    data.main([Path("fetched.toml")], True, [])
    assert "there already" in capsys.readouterr().out
    # No network is asked for the rows, nor for the names of the labels.
    monkeypatch.setattr(datasets, "get_dataset_split_names", None)
    monkeypatch.setattr(datasets, "load_dataset_builder", None)
    recipe = resolve_data(read_recipe(Path("fetched.toml")), "fetched.toml")
    assert build_data(recipe, 0).labels == ("negative", "positive")
    assert len(asked) == 2


def test_all_that_a_new_model_is_fed_is_fetched_by_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    talk = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    other = talk | {"conversations": [talk["conversations"][0], {"from": "gpt", "value": "Good day"}]}
    rows = {
        "organisation/talks": [talk, other],
        "organisation/texts": [{"text": "a text"}],
        "organisation/choices": [{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}],
    }
    asked = []

    def load_dataset(name: str, config: str | None = None, *, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        return datasets.Dataset.from_list(rows[name])

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config_name=None: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    Path("new.toml").write_text(
        """extends = "recipes/tiny/base.toml"
name = "new"
study = "scratch"
[data]
source = "organisation/talks:7M:train"
validation = 1
text = ["organisation/texts"]
preferences = "organisation/choices"
[stage.pretrain]
train_on = ["text"]
""",
        encoding="utf-8",
    )
    data.main([Path("new.toml")], True, [])
    assert asked == [
        ("organisation/talks", "7M", "train"), ("organisation/choices", None, "train"),
        ("organisation/texts", None, "train"),
    ]  # fmt: skip
    assert Path("data/sets/organisation--talks--7M/train.parquet").is_file()
    assert "data/sets/organisation--talks--7M: organisation/talks:7M" in capsys.readouterr().out


def test_a_data_set_that_cannot_be_fetched_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    Path("fetched.toml").write_text(CLASSIFY, encoding="utf-8")
    with pytest.raises(MachineError, match="the line is dead"):
        data.main([Path("fetched.toml")], True, [])
    assert not list(Path("data").glob("**/*.parquet"))
    assert not list(Path("data/sets").iterdir())


def test_a_folder_of_the_project_that_is_not_there_is_no_data_set_to_fetch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets, "get_dataset_split_names", None)
    Path("fetched.toml").write_text(CLASSIFY.replace("organisation/sentences", "data/sentences"), encoding="utf-8")
    with pytest.raises(UserError, match=r'source = "data/sentences": there is no such folder'):
        data.main([Path("fetched.toml")], True, [])
