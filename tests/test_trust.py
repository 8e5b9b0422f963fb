"""Nothing leaves the project's folders, no foreign code is run unasked, and no key is written anywhere."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Hostile, command, run
from tests.wandb_server import records
from toolkit.errors import UserError
from toolkit.run_folder import run_for

SMALL = ("data.count=8", "data.controls=4", "stage.learn.epochs=1", "recall.every=stage")
GROUP = "recipes/tiny/groupA.toml"

CODE = """
from pathlib import Path
Path("code-was-run").touch()
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
class OwnConfig(Qwen3Config):
    model_type = "own"
class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.fixture(scope="module")
def with_code(project: Path) -> Path:
    """A folder of bases that come with code of their own: a model that needs it, one that does not, a tokenizer."""
    folder = project / "with-code"
    for name in ("model", "known-model", "tokenizer"):
        shutil.copytree(project / "checkpoints/tiny-base/seed-0/model", folder / name)
        (folder / name / "own.py").write_text(CODE, encoding="utf-8")
    own_model = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    for name in ("model", "known-model"):
        change_json(folder / name / "config.json", auto_map=own_model)
    change_json(folder / "model/config.json", model_type="own", architectures=["OwnForCausalLM"])
    own_tokenizer = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
    change_json(folder / "tokenizer/tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=own_tokenizer)
    return folder


@pytest.fixture
def watched(in_project: Path) -> Path:
    """What the code of a base makes when it is run."""
    mark = in_project / "code-was-run"
    mark.unlink(missing_ok=True)
    return mark


@pytest.mark.parametrize("by", ["unsloth", "transformers"])
@pytest.mark.parametrize("base", ["model", "known-model", "tokenizer"])
def test_code_that_comes_with_a_base_runs_only_where_the_recipe_says_so(
    with_code: Path, watched: Path, by: str, base: str
) -> None:
    # A folder of its own: Python runs a module once only.
    shutil.copytree(with_code / base, f"{by}-{base}")
    changes = (*SMALL, f"model.engine={by}", f"model.base={by}-{base}")
    name = f"name=code-{by}-{base}"
    if base == "model":
        with pytest.raises(UserError, match="comes with code of its own, which has not been run.*remote_code = true"):
            run(GROUP, name, *changes)
        assert not run_for(name[5:], 0).path.exists()
    else:
        run(GROUP, name, *changes)
    assert not watched.exists()
    run(GROUP, f"{name}-allowed", *changes, "model.remote_code=true")
    assert watched.exists()


def test_a_dry_run_and_an_evaluation_run_no_code_either(with_code: Path, watched: Path) -> None:
    from toolkit.run import main

    for base in ("model", "known-model", "tokenizer"):
        changes = ["name=code-dry", *SMALL, f"model.base=with-code/{base}"]
        main([Path(GROUP)], changes, "", False, True, True, False)
    run(GROUP, "name=code-eval", *SMALL)
    adapter = str(run_for("code-eval", 0).weights)
    shutil.copytree(adapter, "with-code/adapter")
    for arguments in ((adapter,), ("with-code/adapter", "--base", "with-code/known-model", "--facts", "f.jsonl")):
        Path("f.jsonl").write_text('{"prompt": "1 ", "answer": "2"}\n', encoding="utf-8")
        done = command("toolkit.eval_recall", *arguments, folder=Path.cwd())
        assert done.returncode == 0, done.stderr
    assert not watched.exists()


def test_weights_in_a_pickle_are_never_loaded(in_project: Path, watched: Path) -> None:
    import torch

    base = Path("pickled-base")
    shutil.copytree("checkpoints/tiny-base/seed-0/model", base)
    (base / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Hostile()}, base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only pytorch_model.bin: a pickle can run code when it is loaded"):
        run(GROUP, "name=pickled", *SMALL, f"model.base={base}")
    assert not run_for("pickled", 0).path.exists()

    run(GROUP, "name=pickled-adapter", *SMALL)
    weights = run_for("pickled-adapter", 0).weights
    (weights / "adapter_model.safetensors").unlink()
    torch.save({"x": Hostile()}, weights / "adapter_model.bin")
    done = command("toolkit.eval_recall", "checkpoints/pickled-adapter", folder=in_project)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "adapter_model.bin: a pickle can run code" in done.stderr
    assert not watched.exists()


def test_a_pickle_beside_the_weights_is_left_alone(in_project: Path, watched: Path) -> None:
    import torch

    base = Path("pickle-beside")
    shutil.copytree("checkpoints/tiny-base/seed-0/model", base)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save({"model.norm.weight": Hostile()}, base / name)
    run(GROUP, "name=pickle-beside", *SMALL, f"model.base={base}")
    assert not watched.exists()


SECRETS = {
    "WANDB_API_KEY": "5ec4e7" * 6 + "abcd",
    "HF_TOKEN": "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",
    "HUGGING_FACE_HUB_TOKEN": "hf_OlderSentinelThatNobodyMayWrite",
    "OPENAI_API_KEY": "sk-SentinelOfAJudgeThatNobodyMayWrite",
    "NEWSAPI_KEY": "news-SentinelThatNobodyMayWrite",
}


def test_no_key_is_in_any_file_that_a_run_leaves_nor_in_what_it_says(in_project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    folder.mkdir()
    (folder / "recipes").symlink_to(in_project / "recipes")
    shutil.copytree(in_project / "checkpoints/tiny-base", folder / "checkpoints/tiny-base")
    homes = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    environment = SECRETS | homes | {"WANDB_MODE": "offline", "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    sets = [part for change in ("name=secrets", *SMALL) for part in ("--set", change)]
    done = command("toolkit.run", GROUP, *sets, "--compare", folder=folder, **environment)
    assert done.returncode == 0, done.stderr
    asked = command("toolkit.eval_recall", "checkpoints/secrets", folder=folder, **environment)
    assert asked.returncode == 0, asked.stderr
    written = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(folder / "recipes")]
    assert any(path.suffix == ".wandb" for path in written)
    assert any(path.name == "run.json" for path in written)
    for secret in SECRETS.values():
        assert [str(path) for path in written if secret.encode() in path.read_bytes()] == []
        assert secret not in done.stdout + done.stderr + asked.stdout + asked.stderr
    # What wandb stores may be compressed: read with its own reader too.
    offline = json.loads((folder / "checkpoints/secrets/seed-0/run.json").read_text("utf-8"))["wandb"]["folder"]
    kinds = ("run", "history", "summary", "config", "environment", "files", "telemetry")
    told = json.dumps([records(str(folder / offline), kind) for kind in kinds])
    assert "secrets" in told
    assert not any(secret in told for secret in SECRETS.values())


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "/tmp/out", "C:\\out", "a\\..\\b", "", ".", "con"])
def test_a_run_or_stage_cannot_be_named_out_of_its_folder(in_project: Path, name: str) -> None:
    before = sorted(path.name for path in in_project.parent.iterdir())
    with pytest.raises(UserError, match="name"):
        run(GROUP, *SMALL, f"name={json.dumps(name)}")
    with pytest.raises(UserError, match="name"):
        run(GROUP, *SMALL, "name=fine", f'stage={{{json.dumps(name)} = {{method = "sft"}}}}')
    assert sorted(path.name for path in in_project.parent.iterdir()) == before
    assert not Path("checkpoints/fine").exists()


def test_fresh_takes_a_link_away_and_not_what_it_leads_to(in_project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x", encoding="utf-8")
    link = run_for("linked", 0).path
    link.parent.mkdir()
    link.symlink_to(elsewhere, target_is_directory=True)
    run(GROUP, "name=linked", *SMALL, fresh=True)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert not link.is_symlink()
    assert run_for("linked", 0).complete
