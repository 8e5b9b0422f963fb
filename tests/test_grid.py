"""[grid]: a group for every combination, with a name of its own; a wrong one is a message."""

import re
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.recipe import read_recipe, read_recipes
from toolkit.studies import resolve_data

GROUP = Path("recipes/tiny/groupA.toml").resolve()


@pytest.fixture
def grid(tmp_path: Path):
    """Writes a recipe that has a grid."""

    def write(text: str) -> Path:
        path = tmp_path / "grid.toml"
        path.write_text(f'extends = "{GROUP.as_posix()}"\nname = "sweep"\n[grid]\n{text}\n', encoding="utf-8")
        return path

    return write


def test_every_combination_is_a_group(grid):
    recipes = read_recipes(grid('"lora.rank" = [1, 8]\n"data.count" = [10, 100, 400]'))
    assert [recipe.name for recipe in recipes] == [
        f"sweep-rank{rank}-count{count}" for rank in (1, 8) for count in (10, 100, 400)
    ]
    assert [(recipe.lora.rank, recipe.data["count"]) for recipe in recipes if recipe.lora] == [
        (rank, count) for rank in (1, 8) for count in (10, 100, 400)
    ]
    # The rest is the recipe's, and nothing of the grid is left in it.
    assert {recipe.stage["learn"].epochs for recipe in recipes} == {60}
    assert "grid" not in recipes[0].model_dump()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"stage.learn.learning_rate" = [1e-3, 0.002]', ["sweep-learning_rate0.001", "sweep-learning_rate0.002"]),
        ('"data.pattern" = ["random", "mirrored"]', ["sweep-pattern-random", "sweep-pattern-mirrored"]),
        ('"stage.learn.train_eos" = [true, false]', ["sweep-train_eos-true", "sweep-train_eos-false"]),
        ("lora.rank = [1, 2]", ["sweep-rank1", "sweep-rank2"]),
        (
            '"recall.batch_size" = [1]\n"stage.learn.batch_size" = [2]',
            ["sweep-recall-batch_size1-stage-learn-batch_size2"],
        ),
    ],
)  # fmt: skip
def test_a_group_is_named_after_its_values(grid, text, names):
    assert [recipe.name for recipe in read_recipes(grid(text))] == names


def test_values_in_other_letters_make_groups_of_their_own(grid):
    names = [recipe.name for recipe in read_recipes(grid('"wandb.project" = ["电话", "号码"]'))]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"sweep-project-[0-9a-f]{6}", name) for name in names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"lora.rank" = 4', r"\[grid\] lora.rank: a list of values is expected"),
        ('"lora.rank" = []', r"\[grid\] lora.rank: a list of values is expected"),
        ('"lora.rank" = [4, 4]', "makes two groups called rank4"),
        ("lora = [{ rank = 1 }, {}]", r"\[grid\] lora: a list of values is expected"),
        ('lora = [{ rank = 1 }]\n"lora.alpha" = [1, 2]', r"\[grid\] lora.alpha is changed by lora too"),
        ('"name" = ["a", "b"]', "a grid cannot change it"),
        ('"seeds" = [[0], [1]]', "a grid cannot change it"),
        ('"lora.rank" = [0, 1]', r"\[lora\] rank = 0: must be at least 1"),
        ('"lora.ranks" = [1]', r"unknown key `ranks`: did you mean `rank`"),
        ('"data.count" = [' + ", ".join(map(str, range(1, 1002))) + "]", "makes 1001 groups, over 1000"),
    ],
)
def test_a_wrong_grid_is_one_message(grid, text, said):
    with pytest.raises(UserError, match=said):
        read_recipes(grid(text))


def test_what_the_study_refuses_is_refused_for_every_group(grid):
    recipes = read_recipes(grid('"data.patern" = ["random"]'))
    with pytest.raises(UserError, match="patern"):
        resolve_data(recipes[0], GROUP)


def test_a_recipe_with_a_grid_is_not_one_recipe(grid):
    with pytest.raises(UserError, match="a .grid. of 2 groups"):
        read_recipe(grid('"lora.rank" = [1, 2]'))


def test_the_command_runs_and_lists_every_group(grid, in_project: Path, capsys: pytest.CaptureFixture[str]):
    from tests.conftest import run
    from toolkit.run import main

    path = grid('"lora.rank" = [1, 2]\n"lora.alpha" = [4]')
    small = ["data.count=8", "data.controls=4", "stage.learn.epochs=1"]
    main([path], small, "", False, True, False, False)
    said = capsys.readouterr().out
    assert "grid: 2 groups, 2 runs" in said
    for rank in (1, 2):
        assert f"sweep-rank{rank}-alpha4: 0 of 1 finished" in said
    run(path.as_posix(), *small)
    for rank in (1, 2):
        assert (in_project / f"checkpoints/sweep-rank{rank}-alpha4/seed-0/adapter/adapter_model.safetensors").is_file()
