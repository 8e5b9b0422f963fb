"""Reading recipes: what they resolve to, how `extends`, `--set` and `--seeds` change them, and writing them again."""

from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.metrics.information import PROJECTIONS
from toolkit.recipe import find_recipe_named, read_recipe, to_toml
from toolkit.seeds import sub_seed
from toolkit.studies import build_data, check_data

ROOT = Path(__file__).parents[1]

RECIPE = """
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
alpha = 16
[stage.learn]
method = "sft"
epochs = 3
"""

NEW_MODEL = """
name = "tiny"
study = "lines"
[model]
precision = "fp32"
[model.shape]
hidden_size = 192
num_hidden_layers = 4
[model.tokenizer]
vocab_size = 512
[stage.pretrain]
method = "pretrain"
train_on = ["lines"]
loss_on = "all"
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_baseline_is_the_study_as_designed():
    recipe = read_recipe(ROOT / "recipes/groupA.toml")
    stage = recipe.stage["learn"]
    assert (recipe.name, recipe.study, recipe.seeds) == ("GroupA", "phone", [0, 1, 2, 3, 4])
    assert recipe.data == {"pattern": "random", "count": 100, "controls": 100}
    assert (recipe.model.base, recipe.model.precision) == ("Qwen/Qwen3-1.7B", "bf16")
    assert (recipe.model.engine, recipe.model.format) == ("unsloth", "plain")
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (32, 64, 0.0)
    assert recipe.lora.targets == list(PROJECTIONS)
    assert (stage.method, stage.train_on, stage.loss_on, stage.train_eos) == ("sft", ["facts"], "answer", True)
    assert (stage.epochs, stage.batch_size, stage.grad_accum) == (10, 4, 4)
    assert (stage.learning_rate, stage.schedule, stage.warmup, stage.weight_decay) == (2e-4, "linear", 0, 0)
    assert (stage.optimizer, stage.keep, recipe.recall.every) == ("adamw_8bit", "last", "epoch")
    assert (recipe.wandb.project, recipe.wandb.mode) == ("phone-memory", "auto")


@pytest.mark.parametrize(("file", "name", "pattern"), [("B", "GroupB", "mirrored"), ("C", "GroupC", "repeated")])
def test_the_other_groups_differ_in_name_and_pattern_only(file, name, pattern):
    for folder, prefix in (("recipes", ""), ("recipes/original", "original-")):
        baseline = read_recipe(ROOT / folder / "groupA.toml")
        group = read_recipe(ROOT / folder / f"group{file}.toml")
        expected = baseline.model_copy(update={"name": prefix + name, "data": baseline.data | {"pattern": pattern}})
        assert group == expected


def test_the_original_is_the_published_set_up():
    recipe = read_recipe(ROOT / "recipes/original/groupA.toml")
    stage = recipe.stage["learn"]
    assert recipe.name == "original-GroupA"
    assert (recipe.model.base, recipe.model.precision) == ("Qwen/Qwen3-1.7B-FP8", "fp16")
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (32, 64, 0.1)
    assert (stage.loss_on, stage.train_eos, stage.epochs, stage.schedule) == ("all", False, 10, "linear")
    assert recipe.data["duplicates"] is True
    assert recipe.data["shuffle_indices"] is False
    assert recipe.seeds == [0]


def test_a_new_model_needs_no_base(write):
    recipe = read_recipe(write(NEW_MODEL))
    assert recipe.model.base is None
    assert recipe.lora is None
    assert recipe.model.shape is not None
    assert recipe.model.shape.hidden_size == 192
    assert recipe.model.tokenizer is not None
    assert recipe.model.tokenizer.vocab_size == 512
    assert build_data(recipe, 0).examples[0].part == "lines"


@pytest.mark.parametrize("text", [RECIPE, NEW_MODEL, "lora = false\n" + NEW_MODEL])
def test_the_resolved_recipe_is_a_recipe_again(write, text):
    recipe = read_recipe(write(text))
    assert read_recipe(write(to_toml(recipe), "resolved.toml")) == recipe


def test_a_recipe_from_a_windows_editor_is_read(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    assert read_recipe(path).name == "mine"


# --- extends ---


def test_extends_merges_tables_and_replaces_lists(write):
    write(RECIPE, "parent.toml")
    child = write('extends = "parent.toml"\nname = "child"\nseeds = [7]\n[stage.learn]\nepochs = 5\n', "child.toml")
    recipe = read_recipe(child)
    assert (recipe.name, recipe.seeds, recipe.stage["learn"].epochs) == ("child", [7], 5)
    assert recipe.data["pattern"] == "mirrored"
    assert recipe.stage["learn"].method == "sft"


def test_a_new_stage_is_appended(write):
    write(RECIPE, "parent.toml")
    child = write('extends = "parent.toml"\n[stage.again]\nmethod = "sft"\n[stage.learn]\nepochs = 5\n', "child.toml")
    assert list(read_recipe(child).stage) == ["learn", "again"]


def test_extends_is_relative_to_the_file_that_says_it(write, tmp_path, monkeypatch):
    write(RECIPE, "parent.toml")
    write('extends = "../parent.toml"\nname = "middle"\n', "inner/middle.toml")
    child = write('extends = "inner/middle.toml"\n', "child.toml")
    monkeypatch.chdir("/")
    assert read_recipe(child).name == "middle"


def test_false_takes_out_the_parents_lora(write):
    write(RECIPE, "parent.toml")
    assert read_recipe(write('extends = "parent.toml"\nlora = false\n', "child.toml")).lora is None


def test_a_lora_table_after_false_starts_from_the_defaults(write):
    write(RECIPE, "parent.toml")
    write('extends = "parent.toml"\nlora = false\n', "child.toml")
    lora = read_recipe(write('extends = "child.toml"\n[lora]\nrank = 4\n', "grandchild.toml")).lora
    assert lora is not None
    # Neither rank 8 nor alpha 16 of the grandparent, which were taken out.
    assert (lora.rank, lora.alpha) == (4, 64)


# --- --set and --seeds ---


def read_with(write, *changes):
    return read_recipe(write(RECIPE), changes)


def test_set_changes_one_value_of_its_type(write):
    recipe = read_with(
        write,
        "stage.learn.learning_rate=1e-3",
        "name=mine-too",
        'stage.learn.train_on=["facts"]',
        "stage.learn.train_eos=false",
        "seeds=[3, 4]",
        "lora.rank=2",
        "data.prefix=1[3-9]",
        "wandb.mode=disabled",
        "model.base=checkpoints/tiny-base",
    )
    stage = recipe.stage["learn"]
    assert (stage.learning_rate, stage.train_on, stage.train_eos, stage.epochs) == (1e-3, ["facts"], False, 3)
    assert (recipe.name, recipe.seeds) == ("mine-too", [3, 4])
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha) == (2, 16)
    assert (recipe.data["prefix"], recipe.data["count"]) == ("1[3-9]", 10)
    assert (recipe.wandb.mode, recipe.model.base) == ("disabled", "checkpoints/tiny-base")


def test_set_takes_lora_out_and_puts_it_in_again(write):
    assert read_with(write, "lora=false").lora is None
    lora = read_with(write, "lora=false", "lora.rank=4").lora
    assert lora is not None
    assert (lora.rank, lora.alpha) == (4, 64)


def test_set_may_add_a_whole_stage(write):
    assert list(read_with(write, 'stage.again={method = "sft"}').stage) == ["learn", "again"]


def test_seeds_of_the_call_take_the_place_of_the_recipes(write):
    assert read_recipe(write(RECIPE), (), [5, 6, 7]).seeds == [5, 6, 7]


def test_the_file_is_read_anew_each_time(write):
    path = write(RECIPE)
    read_recipe(path, ("data.count=3",))
    assert read_recipe(path).data["count"] == 10


# --- data ---


def test_checked_data_has_every_argument_but_the_seed(write):
    recipe = read_with(write, "data.seed=3")
    data = check_data(recipe, "recipe.toml")
    assert (data["pattern"], data["count"], data["digits"], data["duplicates"]) == ("mirrored", 10, 11, False)
    assert "seed" not in data


def test_a_run_has_facts_of_its_own_seed(write):
    recipe = read_with(write)
    assert build_data(recipe, 0) == build_data(recipe, 0)
    assert build_data(recipe, 0).examples != build_data(recipe, 1).examples


def test_a_data_seed_fixes_facts_and_assignment_across_runs(write):
    fixed = read_with(write, "data.seed=1")
    assert build_data(fixed, 0) == build_data(fixed, 1) == build_data(read_with(write), 1)


def test_a_data_seed_of_zero_is_a_seed(write):
    assert build_data(read_with(write, "data.seed=0"), 5) == build_data(read_with(write), 0)


def test_sub_seeds_differ_by_seed_and_by_purpose():
    seeds = {sub_seed(seed, purpose) for seed in range(100) for purpose in ("data", "assignment", "order", "lora")}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_sub_seed_is_the_same_on_every_machine():
    # By hand: half of 0x1473caea, the first eight digits of `printf 0/data | sha256sum`.
    assert sub_seed(0, "data") == 171566453


# --- finding ---


def test_a_recipe_is_found_by_its_name_and_not_by_its_file(write, tmp_path):
    write(RECIPE, "recipes/other.toml")
    write("name = ", "recipes/broken.toml")
    assert find_recipe_named("mine", tmp_path / "recipes") == tmp_path / "recipes/other.toml"
    assert find_recipe_named("other", tmp_path / "recipes") is None


def test_a_missing_recipe_is_named_with_the_one_that_was_meant(write, tmp_path, monkeypatch):
    write(RECIPE, "recipes/groupA.toml")
    monkeypatch.chdir(tmp_path)
    for asked in ("recipes/grupA.toml", "groupA.toml", "recipes/groupA", "mine"):
        with pytest.raises(UserError, match=r"did you mean recipes/groupA\.toml\?"):
            read_recipe(Path(asked))
    with pytest.raises(UserError, match=r"there are recipes/groupA\.toml"):
        read_recipe(Path("recipes/xyzzy.toml"))
    with pytest.raises(UserError, match=r"recipes is a folder.*recipes/groupA\.toml"):
        read_recipe(Path("recipes"))
