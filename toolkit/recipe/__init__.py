"""What a recipe may say, how it is read and merged, what is said when it is wrong, and its JSON Schema."""

from toolkit.recipe.fields import Classification, Compare, Judge, Recall, Recipe, Wandb
from toolkit.recipe.files import find_recipe_named
from toolkit.recipe.forgetting import Forgetting
from toolkit.recipe.model import Head, Lora, Model, Shape, Tokenizer
from toolkit.recipe.reading import read_recipe, read_recipes, to_toml
from toolkit.recipe.repetition import Repetition
from toolkit.recipe.stage import Stage

__all__ = [
    "Classification",
    "Compare",
    "Forgetting",
    "Head",
    "Judge",
    "Lora",
    "Model",
    "Recall",
    "Recipe",
    "Repetition",
    "Shape",
    "Stage",
    "Tokenizer",
    "Wandb",
    "find_recipe_named",
    "read_recipe",
    "read_recipes",
    "to_toml",
]
