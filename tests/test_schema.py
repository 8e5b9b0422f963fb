"""The JSON Schema that editors complete from, and the recipes that are shipped."""

import json
from pathlib import Path

import pytest

from toolkit.recipe import Recipe, read_recipes
from toolkit.recipe.schema import recipe_schema
from toolkit.schema import PATH, schema_text
from toolkit.studies import STUDIES, build_data, check_data, data_model

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))


def schema():
    return recipe_schema({name: data_model(name) for name in STUDIES})


def test_the_schema_in_the_repository_is_current():
    assert (ROOT / PATH).read_text(encoding="utf-8") == schema_text(), "run: python -m toolkit.schema"


def undescribed(part, at=""):
    """Every property without a description, anywhere in a schema."""
    found = []
    if isinstance(part, dict):
        for name, entry in part.get("properties", {}).items():
            condition = at.endswith(("/if", "/then"))
            if not condition and not entry.get("description"):
                found.append(f"{at}/{name}")
        for name, entry in part.items():
            found += undescribed(entry, f"{at}/{name}")
    if isinstance(part, list):
        for index, entry in enumerate(part):
            found += undescribed(entry, f"{at}/{index}")
    return found


def test_every_field_is_described():
    assert undescribed(schema()) == []
    assert undescribed({"properties": {"a": {"type": "string"}}}) == ["/a"]


def test_the_schema_knows_what_a_file_may_say_and_a_recipe_may_not():
    properties = schema()["properties"]
    assert set(properties) == set(Recipe.model_fields) | {"extends", "grid"}
    assert {"const": False} in properties["lora"]["anyOf"]
    assert properties["study"]["enum"] == sorted(STUDIES)
    assert "null" not in str(schema())


def test_a_child_recipe_may_leave_out_what_its_parent_says():
    assert "'required'" not in str({key: value for key, value in schema().items() if key != "allOf"})


@pytest.mark.parametrize("study", STUDIES)
def test_each_study_has_its_own_data_table(study):
    rules = {
        rule["if"]["properties"]["study"]["const"]: rule["then"]["properties"]["data"] for rule in schema()["allOf"]
    }
    assert set(rules[study]["properties"]) == set(data_model(study).model_fields)
    assert rules[study]["additionalProperties"] is False
    assert "data_seed" not in rules[study]["properties"]


# --- the shipped recipes ---


def test_recipes_are_shipped():
    assert len(RECIPES) >= 10


def scratch_data(path, folder):
    """Stand-ins for what is on the hub, as changes of a recipe that is fed it."""
    if "tiny" in path.parts:
        return ()
    talks = [
        {"conversations": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": f"{n}."}]} for n in range(9)
    ]
    written = {
        "talks": talks,
        "texts": [{"text": "a text"}],
        "choices": [{"prompt": "1?", "chosen": "1.", "rejected": "2."}],
    }
    for name, rows in written.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    changes = (f"data.source={folder}/talks.jsonl", "data.sample=8", "data.validation=2")
    if "pretrain" not in path.stem or path.parent.name == "scratch":
        return changes
    return (*changes, f'data.text=["{folder}/texts.jsonl"]', f"data.preferences={folder}/choices.jsonl")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_shipped_recipe_is_read_and_builds_its_data(path, tmp_path):
    # The articles of recipes/news.toml and the texts of r8 are the user's, and those of sst2 are on the hub.
    given = (f"data.source={ROOT}/recipes/tiny/news_articles.csv",) if path.name == "news.toml" else ()
    if path.name.startswith(("sst2", "r8")):
        given = (f"data.source={ROOT}/recipes/tiny/surnames", 'data.test=""', "data.label_names=[]")
    if "mini_qwen" in path.name or path.parent.name == "scratch":
        given = scratch_data(path, tmp_path)
    if path.name.startswith("chinese"):
        given = (f"data.source={ROOT}/recipes/tiny/instructions.jsonl",)
    for recipe in read_recipes(path, given):
        check_data(recipe, path)
        assert build_data(recipe, recipe.seeds[0], path).examples


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_shipped_recipe_points_to_the_schema_and_says_what_it_is(path):
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("#:schema ")
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == ROOT / PATH
    assert second.startswith("# ")


def test_shipped_recipes_have_names_of_their_own():
    names = [(path, recipe.name) for path in RECIPES for recipe in read_recipes(path)]
    assert len({name for _, name in names}) == len(names)
    for path, name in names:
        folders = path.parent.relative_to(ROOT / "recipes").parts
        assert name.startswith("".join(f"{folder}-" for folder in folders))
