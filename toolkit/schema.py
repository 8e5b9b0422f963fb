"""Writes recipes/schema.json, which gives editors completion: `python -m toolkit.schema`."""

import json
from pathlib import Path

from toolkit.errors import UserError, run_command
from toolkit.recipe.schema import recipe_schema
from toolkit.studies import STUDIES, data_model

PATH = Path("recipes/schema.json")


def schema_text() -> str:
    schema = recipe_schema({name: data_model(name) for name in STUDIES})
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the JSON Schema of recipes to recipes/schema.json."""
    if not PATH.parent.is_dir():
        raise UserError(f"there is no {PATH.parent}/ here: run this in the project's root.")
    PATH.write_text(schema_text(), encoding="utf-8", newline="\n")
    print(f"wrote {PATH.as_posix()}")


if __name__ == "__main__":
    run_command(main)
