"""Every mistake in a recipe is one message with file, table, key, the nearest fix; nothing is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.recipe import read_recipe
from toolkit.studies import build_data, check_data

ROOT = Path(__file__).parents[1]

GOOD = """
name = "mine"
study = "phone"
seeds = [0, 1]
[data]
pattern = "mirrored"
count = 10
controls = 5
[model]
base = "Qwen/Qwen3-1.7B"
[lora]
rank = 8
[stage.learn]
method = "sft"
epochs = 3
[recall]
every = "epoch"
[wandb]
project = "phone-memory"
"""

NEW_MODEL = """
name = "tiny"
study = "lines"
[model]
precision = "fp32"
[model.shape]
hidden_size = 192
[model.tokenizer]
vocab_size = 512
[stage.pretrain]
method = "pretrain"
train_on = ["lines"]
loss_on = "all"
"""


def read_and_build(path, changes, seeds):
    recipe = read_recipe(path, changes, seeds)
    check_data(recipe, path)
    build_data(recipe, 0, path)


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """What is said of a recipe; fails where it is accepted or where anything is written."""
    monkeypatch.chdir(tmp_path)

    def refusal(text, *changes, seeds=None, name="recipe.toml"):
        path = Path(name)
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, encoding="utf-8")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError) as refused:
            read_and_build(path, changes, seeds)
        assert sorted(tmp_path.rglob("*")) == before
        said = str(refused.value)
        assert "pydantic" not in said.lower()
        assert "http" not in said
        assert max(map(len, said.split("\n"))) <= 300
        return said

    return refusal


def replaced(text, line, by):
    """The recipe with the line that starts with `line` replaced; in a table of its own where `line` is one."""
    changed, times = re.subn(rf"^{re.escape(line)}.*$", lambda _: by, text, count=1, flags=re.MULTILINE)
    assert times == 1
    return changed


UNKNOWN_KEYS = [
    # table, key, and what must be said
    ("", "nme = 1", ["at the top", "`nme`", "`name`"]),
    ("", "Seeds = [1]", ["`seeds`"]),
    ("", "epochs = 3", ["belongs in [stage.<name>]"]),
    ("", "rank = 3", ["belongs in [lora]"]),
    ("", "batch_size = 3", ["[stage.<name>] or in [recall]"]),
    ("", "shape = {}", ["a table of its own, [model.shape]"]),
    ("", "count = 3", ["[data]", "known are name, study, seeds"]),
    ("[data]", "patern = 1", ["[data]", "`pattern`"]),
    ("[data]", "epochs = 1", ["[data]", "belongs in [stage.<name>]"]),
    ("[data]", "seeds = [1]", ["at the top, above the first [table]"]),
    ("[data]", "zzz = 1", ["known are seed, pattern, count, controls"]),
    ("[model]", "dtype = 'bf16'", ["[model]", "called `precision`"]),
    ("[model]", "every = 'epoch'", ["belongs in [recall]"]),
    ("[model]", "lora = true", ["a table of its own, [lora]"]),
    ("[lora]", "ranks = 3", ["[lora]", "`rank`"]),
    ("[lora]", "r = 3", ["called `rank`"]),
    ("[lora]", "lora_alpha = 3", ["called `alpha`"]),
    ("[lora]", "bias = 'none'", ["known are rank, alpha, dropout, targets"]),
    ("[stage.learn]", "lern_rate = 3", ["[stage.learn]", "`learning_rate`"]),
    ("[stage.learn]", "lr = 1e-4", ["called `learning_rate`"]),
    ("[stage.learn]", "study = 'lines'", ["at the top"]),
    ("[stage.learn]", "sub = {a = 1}", ["[stage.learn]", "known are method, train_on"]),
    ("[recall]", "evry = 'epoch'", ["[recall]", "`every`"]),
    ("[wandb]", "api_key = 'x'", ["known are project, entity, mode"]),
]


@pytest.mark.parametrize(("table", "line", "said"), UNKNOWN_KEYS)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(refusal, table, line, said):
    text = replaced(GOOD, table, f"{table}\n{line}") if table else f"{line}\n{GOOD}"
    message = refusal(text)
    assert message.startswith("recipe.toml: ")
    assert "\n" not in message
    for part in ["unknown key", *said]:
        assert part in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hiden_size = 64", ["[model.shape]", "`hidden_size`"]),
        ("vocab_size = 300", ["[model.shape]", "belongs in [model.tokenizer]"]),
    ],
)
def test_an_unknown_key_of_a_new_models_shape_too(refusal, line, said):
    message = refusal(replaced(NEW_MODEL, "hidden_size", line))
    assert all(part in message for part in said)


WRONG_VALUES = [
    # the line replaced, by what, and what must be said
    ("epochs", 'epochs = "10"', ['[stage.learn] epochs = "10": a whole number']),
    ("epochs", "epochs = true", ["[stage.learn] epochs = true: a whole number"]),
    ("epochs", "epochs = 2.0", ["epochs = 2.0: a whole number"]),
    ("epochs", "epochs = {a = 1}", ["epochs = {…}: a whole number"]),
    ("epochs", "epochs = 2026-01-01", ["epochs = 2026-01-01: a whole number"]),
    ("epochs", "epochs = 0", ["epochs = 0: must be at least 1"]),
    ("epochs", "learning_rate = true", ["learning_rate = true: a number"]),
    ("epochs", "learning_rate = 0", ["must be over 0"]),
    ("epochs", "learning_rate = nan", ["a finite number"]),
    ("epochs", "max_grad_norm = inf", ["a finite number"]),
    ("epochs", "train_eos = 'no'", ["true or false"]),
    ("epochs", "schedule = 'liner'", ['"linear", "cosine", "constant"; did you mean "linear"?']),
    ("epochs", "schedule = 3", ["schedule = 3: allowed are"]),
    ("epochs", "train_on = 'facts'", ['train_on = "facts": a list', "square brackets"]),
    ("epochs", "train_on = []", ["train_on = []: must not be empty"]),
    ("epochs", "train_on = ['facts', 3]", ["train_on, entry 2 = 3: text in quotes"]),
    ("epochs", "train_on = ['facts', 'facts']", ["named twice"]),
    ("epochs", "train_on = ['fact']", ['[stage.learn] train_on: no trained example is of the part "fact"', '"facts"?']),
    ("epochs", "save = '7'", ['save = "7"', '"100 steps"']),
    ("epochs", "block = 64", ["[stage.learn] block = 64", '"pretrain"', '"sft"']),
    ("method", "method = 'spt'", ['allowed are "sft"', 'did you mean "sft"?']),
    ("method", "", ["[stage.learn] `method` is missing (one of sft"]),
    ("method", "method = 'pretrain'", ["[stage.learn] method", 'loss_on = "all"']),
    ("every", "every = 'epochs'", ["[recall] every", '"epoch", "5 epochs"']),
    ("every", "every = 5", ["text in quotes"]),
    ("project", "project = 'a b'", ["[wandb] project"]),
    ("project", "mode = 'of'", ['"auto", "online", "offline", "disabled"']),
    ("rank", "rank = 0", ["[lora] rank = 0: must be at least 1"]),
    ("rank", "dropout = 1", ["must be under 1"]),
    ("rank", "targets = ['q_proj', 'qproj']", ["[lora] targets", '"qproj"', "known are q_proj"]),
    ("rank", "targets = ['q_proj', 'q_proj']", ["named twice"]),
    ("base", "", ["[model] says neither base = … nor [model.shape]"]),
    ("base", "base = ' '", ["[model] base", "empty"]),
    ("base", "base = 'x'\nprecision = 'int4'", ["[model] precision", '"nf4"']),
    ("base", "base = 'x'\nprecision = 'fp8'\nengine = 'transformers'", ["[model] precision", '"unsloth"']),
    ("base", "base = 'x'\nshape = 3", ["[model] shape = 3: a table is expected, [model.shape]"]),
    ("name", "", ["`name` is missing"]),
    ("name", "name = 3", ["name = 3: text in quotes"]),
    ("name", "name = ''", ['name = ""', "folder's name"]),
    ("name", "name = '..'", ['name = ".."', "folder's name"]),
    ("name", "name = '../x'", ["folder's name"]),
    ("name", "name = 'a/b'", ["folder's name"]),
    ("name", "name = 'C:\\x'", ["folder's name"]),
    ("name", 'name = "a\\n"', ["folder's name"]),
    ("study", "study = 'phones'", ['study = "phones"', 'did you mean "phone"?']),
    ("study", "study = 'zzz'", ["known are phone, facts, names, news, lines"]),
    ("study", "", ["`study` is missing"]),
    ("seeds", "seeds = []", ["must not be empty"]),
    ("seeds", "seeds = 3", ["a list"]),
    ("seeds", "seeds = [0, -1]", ["seeds, entry 2 = -1: must be at least 0"]),
    ("seeds", "seeds = [0, 0]", ["named twice"]),
    ("seeds", "seeds = [true]", ["entry 1 = true: a whole number"]),
    ("pattern", "pattern = 'mirror'", ["[data] pattern", 'did you mean "mirrored"?']),
    ("count", "count = '10'", ["[data] count", "a whole number"]),
    ("count", "count = 0", ["must be at least 1"]),
    ("pattern", "digits = 1", ["[data] 10 trained and 5 control numbers", "10 different numbers"]),
    ("pattern", "prefix = 13", ["[data] prefix = 13: text in quotes"]),
    ("pattern", "prefix = 'x'", ['[data] prefix = "x"']),
    ("pattern", "prefix = '[9-1]'", ["allows no digit"]),
    ("pattern", "prefix = '123456789012'", ["longer than 11 digits"]),
    ("pattern", "pattern = 'repeated'\nprefix = '1[3-9]'", ["digit 2", "free are 1, 4, 8"]),
    ("pattern", "prompt = 'number'", ["[data] prompt", "{index}"]),
    ("pattern", "prompt = '{index} {name}'", ["[data] prompt", "no other braces"]),
    ("pattern", "seed = 'x'", ["[data] seed", "a whole number"]),
]


@pytest.mark.parametrize(("line", "by", "said"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_what_is_allowed(refusal, line, by, said):
    message = refusal(replaced(GOOD, line, by))
    assert message.startswith("recipe.toml: ")
    assert "\n" not in message
    for part in said:
        assert part in message


WRONG_TABLES = [
    ("[lora]", "[loras]", ["`loras`: did you mean `lora`?"]),
    ("[lora]", "[stage.lora]", ["[stage.lora] `method` is missing", "belongs in [lora]"]),
    ("[stage.learn]", "[stages.learn]", ["no stage is said", "did you mean `stage`?"]),
    ("[stage.learn]", "[learn]", ["a stage is written [stage.learn]"]),
    ("[stage.learn]", "[stage]", ["a stage has a name: write [stage.learn]"]),
    ("[stage.learn]", "[[stage]]", ["a stage has a name: write [stage.learn]", "single brackets"]),
    ("[stage.learn]", "[[stage.learn]]", ["[stage] learn = [{…}]: a table is expected, [stage.learn]"]),
    ("[stage.learn]", "[stage.'a b']", ["[stage.a b]", "folder's name"]),
    ("[stage.learn]", "[stage.'../x']", ["folder's name"]),
    ("[model]", "[modle]", ["the table [model] is missing", "did you mean `model`?"]),
    ("[wandb]", "[recall.wandb]", ["a table of its own, [wandb]"]),
]


@pytest.mark.parametrize(("line", "by", "said"), WRONG_TABLES)
def test_a_wrong_table_is_named(refusal, line, by, said):
    message = refusal(replaced(GOOD, line, by))
    for part in said:
        assert part in message


@pytest.mark.parametrize("value", ["true", "3", '"no"', "[]"])
def test_lora_is_a_table_or_false(refusal, value):
    text = replaced(replaced(GOOD, "[lora]", ""), "rank", "")
    assert "write a [lora] table, or lora = false" in refusal(f"lora = {value}\n{text}")


def test_a_missing_and_an_empty_stage_are_said(refusal):
    before = GOOD[: GOOD.index("[stage")]
    assert "no stage is said: write at least one, such as [stage.learn]" in refusal(before)
    assert "no stage is said" in refusal(before + "[stage]\n")
    assert "[stage.learn] `method` is missing" in refusal(before + "[stage.learn]\n")


def test_an_empty_recipe_is_told_all_that_is_missing(refusal):
    message = refusal("")
    assert all(part in message for part in ("`name`", "`study`", "[model]", "no stage"))


def test_combinations_that_cannot_be_trained_are_refused(refusal):
    without_lora = replaced(replaced(GOOD, "[lora]", ""), "rank", "")
    for precision in ("nf4", "fp8"):
        text = replaced(without_lora, "base", f'base = "x"\nprecision = "{precision}"')
        assert f'[model] precision = "{precision}"' in refusal(text)
        assert "needs a [lora] table" in refusal(text)
    assert "[lora] on random weights" in refusal(NEW_MODEL + "[lora]\n")
    for precision in ("nf4", "fp8"):
        message = refusal(replaced(NEW_MODEL, "precision", f'precision = "{precision}"'))
        assert f'precision = "{precision}": new weights are all trained' in message
        assert 'say precision = "bf16", "fp16" or "fp32"' in message
    assert "[model.tokenizer] is missing" in refusal(NEW_MODEL.replace("[model.tokenizer]\nvocab_size = 512", ""))
    assert "[model.shape] is missing" in refusal(NEW_MODEL.replace("[model.shape]\nhidden_size = 192", "base = 'x'"))
    assert "both base and [model.shape]" in refusal(replaced(NEW_MODEL, "precision", 'base = "x"\nprecision = "fp32"'))
    assert "must be a multiple of" in refusal(replaced(NEW_MODEL, "hidden_size", "num_attention_heads = 5"))
    assert "[stage.pretrain] block = 1024 is over" in refusal(NEW_MODEL + "block = 1024\n")
    assert "max_position_embeddings = 64" in refusal(replaced(NEW_MODEL, "hidden_size", "max_position_embeddings = 64"))
    assert "leave train_eos = false out" in refusal(NEW_MODEL + "train_eos = false\n")


def test_a_new_models_tokenizer_is_a_given_or_a_new_one_and_not_both(refusal):
    said = replaced(NEW_MODEL, "vocab_size", 'base = "Qwen/Qwen3-0.6B"\nvocab_size = 512')
    assert "[model.tokenizer] takes base, a given tokenizer, or vocab_size" in refusal(said)
    assert "base is missing" in refusal(replaced(NEW_MODEL, "vocab_size", 'revision = "main"'))
    assert 'base = "" is empty' in refusal(replaced(NEW_MODEL, "vocab_size", 'base = " "'))
    assert "is no branch, tag or commit" in refusal(replaced(NEW_MODEL, "vocab_size", 'base = "x"\nrevision = "../x"'))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_new_weights_may_be_computed_with_in_16_bits(tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(replaced(NEW_MODEL, "precision", f'precision = "{precision}"'), encoding="utf-8")
    assert read_recipe(Path("recipe.toml")).model.precision == precision


def test_a_new_tokenizer_has_512_tokens_where_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line, tokens in (("", 512), ("vocab_size = 300", 300), ('base = "x"', None)):
        Path("recipe.toml").write_text(replaced(NEW_MODEL, "vocab_size", line), encoding="utf-8")
        tokenizer = read_recipe(Path("recipe.toml")).model.tokenizer
        assert tokenizer is not None
        assert tokenizer.vocab_size == tokens


def test_two_mistakes_are_both_said(refusal):
    message = refusal(replaced(replaced(GOOD, "epochs", 'epochs = "10"'), "rank", "rnk = 3"))
    assert message.startswith("recipe.toml:\n  ")
    assert '[stage.learn] epochs = "10"' in message
    assert "did you mean `rank`?" in message


def test_two_impossible_combinations_are_both_said(refusal):
    message = refusal(replaced(NEW_MODEL, "precision", 'revision = "main"\nprecision = "nf4"') + "block = 1024\n")
    assert "revision belongs to a hub base" in message
    assert 'precision = "nf4"' in message


# --- the file itself ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (replaced(GOOD, "pattern", "pattern = random"), ["not TOML", "line 6", "pattern = random", "in quotes"]),
        (replaced(GOOD, "epochs", "train_eos = True"), ["not TOML", "train_eos = True", "small letters"]),
        (replaced(GOOD, "epochs", "epochs = 3\nepochs = 4"), ["a key stands twice", "epochs = 4"]),
        (GOOD + "[lora]\n", ["twice", "[lora]"]),
        ("name", ["not TOML"]),
        (b"\x00\x01", ["not TOML"]),
        (GOOD.encode("utf-16"), ["not UTF-8"]),
        (GOOD.replace("mine", "\xe9").encode("latin-1"), ["not UTF-8"]),
    ],
)
def test_what_is_no_toml_is_said_with_its_line(refusal, text, said):
    message = refusal(text)
    assert message.startswith("recipe.toml: ")
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ('extends = "child.toml"\n' + GOOD, ["parent.toml", 'extends = "child.toml"', "circle"]),
        ("name = ", ["parent.toml: is not TOML"]),
        (replaced(GOOD, "epochs", "epoch = 3"), ["child.toml", "`epochs`", "(from parent.toml)"]),
        (replaced(GOOD, "pattern", "pattern = 'rndom'"), ["child.toml", '"random"', "(from parent.toml)"]),
    ],
)
def test_a_mistake_in_an_extended_recipe_names_that_file(refusal, parent, said):
    Path("parent.toml").write_text(parent)
    message = refusal('extends = "parent.toml"\nname = "child"\n', name="child.toml")
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('extends = "parnt.toml"', ["there is no parnt.toml; did you mean parent.toml?"]),
        ('extends = "recipe.toml"', ["circle"]),
        ('extends = "."', ["is a folder"]),
        ("extends = 3", ["in quotes"]),
        ('extends = ["parent.toml"]', ["one recipe"]),
    ],
)
def test_a_wrong_extends_is_said(refusal, line, said):
    Path("parent.toml").write_text(GOOD)
    message = refusal(f"{line}\n")
    assert message.startswith("recipe.toml: extends")
    for part in said:
        assert part in message


# --- --set and --seeds ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name", ["--set name", "key=value"]),
        ("=3", ["key=value"]),
        ("stage..epochs=3", ["key=value"]),
        ("name=", ["value is missing"]),
        ("name.x=1", ["--set name.x=1", 'name = "mine" is no table']),
        ("lora.rank.x=1", ["lora.rank = 8 is no table"]),
        ("stage.learn=3", ["stage.learn is a table", "stage.learn.method"]),
        ("data=3", ["data is a table"]),
        ("lora=true", ["lora is a table"]),
        ("stage.lern.epochs=3", ["there is no stage.lern; did you mean stage.learn?"]),
        ("stage.zzz.epochs=3", ["there are learn"]),
        ("stage.learn.epoch=3", ["[stage.learn]", "`epochs`", "(from --set stage.learn.epoch=3)"]),
        ("stage.learn.epochs=ten", ['epochs = "ten": a whole number', "(from --set"]),
        ("stage.learn.train_on=[facts]", ["[facts] is no TOML", "single quotes"]),
        ("seeds=0,1", ["seeds", "a list"]),
        ("data.pattern=mirror", ["[data] pattern", '"mirrored"?']),
        ("data.duplicates=True", ['duplicates = "True": true or false']),
        ("a.b.c=1", ["unknown key `a`"]),
        ("extends=other.toml", ["in the file itself"]),
    ],
)
def test_a_wrong_set_is_said(refusal, change, said):
    message = refusal(GOOD, change)
    assert "\n" not in message
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("seeds", "said"), [([0, 0], "named twice"), ([-1], "must be at least 0"), ([], "must not be empty")]
)
def test_wrong_seeds_of_the_call_are_said(refusal, seeds, said):
    message = refusal(GOOD, seeds=seeds)
    assert said in message
    assert message.endswith("(from --seeds)")


def test_the_command_says_it_in_one_message_with_status_2(tmp_path):
    (tmp_path / "recipe.toml").write_text(replaced(GOOD, "epochs", "epoch = 3"))
    command = [sys.executable, "-m", "toolkit.run", "recipe.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == ("error: recipe.toml: [stage.learn] unknown key `epoch`: did you mean `epochs`?\n")
    assert done.stdout == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.toml"]
