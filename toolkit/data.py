"""Builds a recipe's facts into data/, and fetches its model for a machine without network."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import MachineError, UserError
from toolkit.example import to_jsonl
from toolkit.models.base import fetched_folder, is_hub_name
from toolkit.recipe import Recipe, read_recipe
from toolkit.run_folder import write_whole
from toolkit.studies import build_data, check_data

WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
"""Weights in safetensors, tokenizer and configs: no pickles, and no code."""


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.")],
    fetch: Annotated[bool, typer.Option("--fetch", help="Also fetch the base from the hub into data/models/.")] = False,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
) -> None:
    """Write the facts of every seed to data/<name>/seed-<seed>.jsonl, the same ones that a run would train.

    --fetch brings the base into data/models/, where every command looks first: copy that folder to a machine without
    network. Gated models take the hub's own token (`hf auth login`, or HF_TOKEN).
    """
    asked = [(path, read_recipe(path, tuple(change or ()))) for path in recipes]
    for path, recipe in asked:
        check_data(recipe, path)
    for _, recipe in asked:
        for seed in recipe.seeds:
            built = build_data(recipe, seed)
            target = Path("data") / recipe.name / f"seed-{seed}.jsonl"
            write_whole(target, to_jsonl(built.examples))
            trained = sum(example.split == "train" for example in built.examples)
            print(f"{target}: {trained} trained, {len(built.examples) - trained} held out")
    if fetch:
        for _, recipe in asked:
            fetch_base(recipe)


def fetch_base(recipe: Recipe) -> None:
    base = recipe.model.base
    if base is None or not is_hub_name(base):
        print(f"{recipe.name}: its base is no hub name; there is nothing to fetch.", file=sys.stderr)
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    folder = fetched_folder(base)
    code = ["*.py"] if recipe.model.remote_code else []
    try:
        snapshot_download(base, revision=recipe.model.revision, local_dir=folder, allow_patterns=WANTED + code)
    except GatedRepoError:
        raise UserError(f"{base} is gated: accept its terms on the hub, then log in with `hf auth login`.") from None
    except RepositoryNotFoundError:
        raise UserError(f'[model] base = "{base}": the hub has no such model, or only for those who log in.') from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MachineError(f"{base} could not be fetched: {str(error).strip().splitlines()[0]}") from None
    print(f"{folder}: {base}")


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
