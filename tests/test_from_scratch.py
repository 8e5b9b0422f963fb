"""A new model: its tokenizer, a given or a trained one, its sizes, and what is recorded of it."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT, run
from toolkit import data
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.metrics.information import parameters
from toolkit.models.base import check_base, find_base, find_tokenizer, shape_of, vocabulary_of
from toolkit.models.from_scratch import CHAT_TEMPLATE, rows_for, tokenizer_of, train_tokenizer, training_texts
from toolkit.models.tokenizer_files import embedding_rows, token_count
from toolkit.recipe import Model, Recipe, read_recipe
from toolkit.run_folder import run_for

TEXTS = ["第1个电话号码是：39504711826", "Who was it? It was somebody else, of whom nobody had heard.", "绿豆糕"]
RECIPE = """
name = "new"
study = "lines"
[data]
count = 40
controls = 4
[model]
precision = "bf16"
max_length = 64
[model.shape]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
intermediate_size = 32
[model.tokenizer]
base = "given"
[stage.learn]
method = "sft"
train_on = ["lines"]
loss_on = "all"
epochs = 1
optimizer = "adamw"
[recall]
every = "stage"
sample = 4
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's files, as a hub would have them."""
    folder = tmp_path_factory.mktemp("given")
    train_tokenizer(TEXTS * 3, 310).save_pretrained(folder)
    return folder


@pytest.fixture
def new(folder: Path, given: Path) -> Path:
    """A project with a recipe of a new model, and its given tokenizer in given/."""
    shutil.copytree(given, "given")
    Path("new.toml").write_text(RECIPE, encoding="utf-8")
    return Path("new.toml")


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def asked(base: str, **more: Any) -> Model:
    return Model.model_validate({"shape": {}, "tokenizer": {"base": base}, "precision": "fp32"} | more)


# --- a given tokenizer ---


def test_a_new_model_takes_a_given_tokenizer_as_it_is(new: Path, engine: ModuleType) -> None:
    from transformers import AutoTokenizer

    run(str(new))
    made = run_for("new", 0)
    config = json.loads((made.weights / "config.json").read_text(encoding="utf-8"))
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in ("given", made.weights))
    assert len(before) == 310
    assert config["vocab_size"] == 384 == 3 * 128
    assert config["eos_token_id"] == before.convert_tokens_to_ids("<|im_end|>")
    assert config["pad_token_id"] == before.convert_tokens_to_ids("<|endoftext|>")
    assert after.get_vocab() == before.get_vocab()
    assert after.chat_template == before.chat_template == CHAT_TEMPLATE
    said = made.info["model"]
    assert said["loaded_from"] == "random weights"
    assert (said["tokenizer"]["base"], said["tokenizer"]["loaded_from"]) == ("given", "given")
    assert len(said["tokenizer"]["digest"]) == 64


def test_new_weights_of_16_bits_stay_in_float32_where_there_is_no_gpu_and_that_is_recorded(
    new: Path, engine: ModuleType
) -> None:
    from safetensors import safe_open

    run(str(new), "model.engine=transformers")
    said = run_for("new", 0).info["model"]
    assert (said["precision_asked"], said["dtype"]) == ("bf16", "float32")
    # Torch's own attention: FlashAttention 2 is for GPUs.
    assert said["attention"] == "sdpa"
    with safe_open(run_for("new", 0).weights / "model.safetensors", framework="np") as file:
        assert file.get_slice("model.norm.weight").get_dtype() == "F32"


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 151_669])
def test_spare_rows_fill_a_multiple_of_128_up(rows: int) -> None:
    padded = embedding_rows(rows)
    assert padded % 128 == 0
    assert rows <= padded < rows + 128


def test_the_largest_number_counts_and_not_how_many_tokens_there_are(new: Path, given: Path) -> None:
    path = Path("given/tokenizer.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    values["added_tokens"][-1]["id"] = 700
    path.write_text(json.dumps(values), encoding="utf-8")
    assert token_count(Path("given")) == 701
    assert vocabulary_of(asked("given")) == 768
    assert token_count(given) == 310


def test_what_is_read_from_the_file_is_what_the_opened_tokenizer_needs(given: Path) -> None:
    model = asked(str(given))
    tokenizer = tokenizer_of(model, [])
    assert rows_for(model, tokenizer) == vocabulary_of(model) == 384


def test_a_given_tokenizer_without_a_chat_template_keeps_none(new: Path, engine: ModuleType) -> None:
    (Path("given") / "chat_template.jinja").unlink()
    assert tokenizer_of(asked("given"), []).chat_template is None
    with pytest.raises(UserError, match="chat"):
        run(str(new), "model.format=chat")
    assert not run_for("new", 0).path.exists()
    run(str(new))


def test_a_checkpoints_tokenizer_can_be_given(in_project: Path) -> None:
    found = find_tokenizer("checkpoints/tiny-base")
    assert found == Path("checkpoints/tiny-base/seed-0/model")
    vocabulary = json.loads((Path(found) / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = vocabulary["model"]["vocab"] | {token["content"]: token["id"] for token in vocabulary["added_tokens"]}
    assert vocabulary_of(asked("checkpoints/tiny-base")) == 128 * math.ceil(len(tokens) / 128)


# --- what is refused ---


def damage(folder: Path) -> None:
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[: len(whole) // 2])


def forget_the_tokens(folder: Path) -> None:
    change_json(folder / "tokenizer.json", model={"type": "BPE"})


def forget_the_end(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", eos_token=None)


def name_another_end(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", eos_token="</s>")


def forget_the_file(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "vocab.json")


def leave_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("{}", encoding="utf-8")


BAD = [
    (damage, "tokenizer.json is damaged"),
    (forget_the_tokens, "tokenizer.json is damaged (model.vocab"),
    (forget_the_end, "names no eos_token"),
    (name_another_end, "its eos_token </s> is not in its tokenizer.json"),
    (forget_the_file, "has no tokenizer.json, and is no checkpoint"),
    (leave_a_file, "is a file: name the folder that it is in"),
    (shutil.rmtree, '[model.tokenizer] base = "given" is not there; no recipe makes it'),
]


@pytest.mark.parametrize(("break_it", "said"), BAD, ids=[case[0].__name__ for case in BAD])
def test_a_tokenizer_that_cannot_be_used_is_refused_before_anything_heavy(new: Path, break_it: Any, said: str) -> None:
    break_it(Path("given"))
    with pytest.raises(UserError) as refused:
        check_base(read_recipe(new))
    assert said in str(refused.value)
    program = f"""
import sys
from pathlib import Path
from toolkit.errors import UserError
from toolkit.run import main
try:
    main([Path({str(new)!r})])
except UserError:
    assert not {{"torch", "transformers", "tokenizers"}} & sys.modules.keys()
    sys.exit(2)
"""
    assert subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, check=False).returncode == 2
    assert not Path("checkpoints").exists()


def test_code_beside_a_tokenizer_is_not_run_unless_the_recipe_says_so(new: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(Path.cwd() / "modules"))
    Path("given/own.py").write_text(
        "from pathlib import Path\nPath('code-was-run').touch()\n"
        "from transformers import PreTrainedTokenizerFast\nclass OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n",
        encoding="utf-8",
    )
    own = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
    change_json(Path("given/tokenizer_config.json"), tokenizer_class="OwnTokenizer", auto_map=own)
    with pytest.raises(UserError, match="comes with code of its own, which has not been run.*remote_code = true"):
        tokenizer_of(asked("given"), [])
    assert not Path("code-was-run").exists()
    shutil.copytree("given", "given-again")
    tokenizer_of(asked("given-again", remote_code=True), [])
    assert Path("code-was-run").exists()


# --- the hub's ---


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, given: Path) -> list[dict[str, Any]]:
    """A hub that has one tokenizer; what was asked of it."""
    calls: list[dict[str, Any]] = []

    def download(base: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]) -> None:
        calls.append({"base": base, "revision": revision, "allow": allow_patterns})
        shutil.copytree(given, local_dir)
        notes = local_dir / ".cache/huggingface/download"
        notes.mkdir(parents=True)
        (notes / "tokenizer.json.metadata").write_text("0123abc\netag\n", encoding="utf-8")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return calls


def test_only_the_tokenizers_files_are_fetched_and_their_folder_is_no_model(
    new: Path, hub: list[dict[str, Any]], engine: ModuleType
) -> None:
    name, change = "some-body/words", "model.tokenizer.base=some-body/words"
    assert find_tokenizer(name) == name
    data.main([new], True, [change])
    folder = Path("data/tokenizers/some-body--words")
    assert find_tokenizer(name) == folder
    assert find_base(name) == name
    assert hub[0]["base"] == name
    assert not [pattern for pattern in hub[0]["allow"] if pattern.endswith((".safetensors", ".py", ".bin"))]
    assert "config.json" not in hub[0]["allow"]
    assert not any("*" in pattern for pattern in hub[0]["allow"])
    data.main([new], True, [change])
    assert len(hub) == 1
    run(str(new), change)
    said = run_for("new", 0).info["model"]["tokenizer"]
    assert (said["base"], said["loaded_from"], said["revision"]) == (name, str(folder), "0123abc")


def test_a_tokenizer_fetched_as_another_revision_is_refused(new: Path, hub: list[dict[str, Any]]) -> None:
    data.main([new], True, ["model.tokenizer.base=some-body/words", "model.tokenizer.revision=v1"])
    changes = ("model.tokenizer.base=some-body/words", "model.tokenizer.revision=v2")
    with pytest.raises(UserError, match=r'\[model.tokenizer\] revision = "v2": .* was fetched as v1 \(0123abc\)'):
        check_base(read_recipe(new, changes))
    check_base(read_recipe(new, (changes[0], "model.tokenizer.revision=0123abc")))


def test_code_is_fetched_with_a_tokenizer_only_where_it_may_run(new: Path, hub: list[dict[str, Any]]) -> None:
    data.main([new], True, ["model.tokenizer.base=some-body/words", "model.remote_code=true"])
    assert "*.py" in hub[0]["allow"]


def test_a_tokenizer_that_is_a_folder_has_nothing_to_fetch(
    new: Path, hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data.main([new], True, [])
    assert "new: its tokenizer given is no hub name; there is nothing to fetch." in capsys.readouterr().err
    assert not hub


def test_a_hubs_tokenizer_that_is_not_on_the_machine_is_said_with_the_way_to_get_it(
    new: Path, engine: ModuleType
) -> None:
    with pytest.raises(UserError, match=r"is not on this machine and could not be fetched.*--fetch"):
        tokenizer_of(asked("nobody/nothing"), [], local_only=True)


# --- a tokenizer that is trained ---


def example(split: Any, prompt: str, answer: str, **more: Any) -> Example:
    return Example(f"{split} {prompt}", prompt, prompt, answer, split, **more)


def test_a_tokenizer_is_trained_on_all_that_training_sees_and_on_nothing_else() -> None:
    turns = ({"role": "user", "content": "earlier question"}, {"role": "assistant", "content": "earlier answer"})
    examples = [
        example("train", "last question", "last answer", messages=turns),
        example("train", "", "a text", part="text"),
        example("train", "preferred", "right", wrong=("rejected one",)),
        example("control", "untrained", "secret"),
        example("validation", "held out", "secret"),
    ]
    seen = " ".join(training_texts(examples, "plain"))
    for text in ("earlier question", "earlier answer", "last question", "last answer", "a text", "rejected one"):
        assert text in seen
    assert "secret" not in seen
    assert "untrained" not in seen
    assert "assistant" not in seen
    # A template's own words are spelled as often as there are turns: of two questions with answers, one after another.
    assert training_texts(examples, "chat").count("assistant\n") == 3
    # A word that only stands in an earlier turn becomes one token.
    model = Model.model_validate({"shape": {}, "tokenizer": {"vocab_size": 400}, "precision": "fp32"})
    words = tokenizer_of(model, examples * 20)
    assert words.tokenize("earlier") == ["earlier"]
    assert len(words.tokenize("secret")) > 1


# --- sizes ---


def published(**tokenizer: Any) -> Recipe:
    shape = {"hidden_size": 1024, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 4}
    shape |= {"head_dim": 64, "intermediate_size": 4864}
    return Recipe.model_validate({
        "name": "x", "study": "lines", "model": {"shape": shape, "tokenizer": tokenizer, "precision": "bf16"},
        "stage": {"learn": {"method": "sft"}},
    })  # fmt: skip


def test_a_new_models_parameters_are_those_that_transformers_counts(engine: ModuleType) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    recipe = published(base="Qwen/Qwen3-0.6B")
    shape = shape_of(recipe, None)
    assert shape is not None
    assert shape.vocabulary == 151_680
    assert recipe.model.shape is not None
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**recipe.model.shape.model_dump(), vocab_size=151_680))
    assert parameters(shape) == model.num_parameters()
    assert 0.99e9 < parameters(shape) < 1.01e9


def test_a_hubs_tokenizer_of_unknown_size_is_not_guessed(folder: Path) -> None:
    assert shape_of(published(base="somebody/words"), None) is None
    assert shape_of(published(base="Qwen/Qwen3-4B"), None) is not None


# --- attention ---


@pytest.mark.parametrize(
    ("mixed", "there", "expected"),
    [("bf16", True, "flash_attention_2"), ("fp16", True, "flash_attention_2"), ("bf16", False, "sdpa"),
     (None, True, "sdpa")],
)  # fmt: skip
def test_flash_attention_is_used_where_a_gpu_16_bits_and_its_package_are_there(
    monkeypatch: pytest.MonkeyPatch, engine: ModuleType, mixed: str | None, there: bool, expected: str
) -> None:
    from toolkit.models import with_transformers

    monkeypatch.setattr(with_transformers, "mixed_precision", lambda precision: mixed)
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: there)
    assert with_transformers.attention_for("bf16") == expected


@pytest.mark.parametrize(
    ("backend", "said"), [("flash_dense", "flash_attention_2"), ("xformers", "xformers"), ("sdpa", "sdpa")]
)
def test_on_a_gpu_it_is_said_what_unsloths_own_layers_choose(
    monkeypatch: pytest.MonkeyPatch, engine: ModuleType, backend: str, said: str
) -> None:
    import torch

    class Qwen3Attention(torch.nn.Module):
        def forward(self) -> None: ...

    attention_of: Any = engine.attention_of
    model = torch.nn.ModuleList([Qwen3Attention()])
    theirs: Any = ModuleType("unsloth.models.fast")
    theirs.select_attention_backend = lambda: backend
    monkeypatch.setitem(sys.modules, theirs.__name__, theirs)
    assert attention_of(model) is None
    Qwen3Attention.forward.__module__ = theirs.__name__
    assert attention_of(model) == said
