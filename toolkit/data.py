"""Builds a recipe's facts into data/, and fetches its model and its data set for a machine without network."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import MachineError, UserError
from toolkit.example import to_jsonl
from toolkit.models.base import FETCHED_NOTE, Fetched, fetched_folder, fetched_tokenizer, is_hub_name
from toolkit.probes.named import named_tasks
from toolkit.recipe import Forgetting, Recipe, read_recipes
from toolkit.run_folder import remove_folder, whole_folder, write_whole
from toolkit.stored import read_json
from toolkit.studies import build_data, resolve_data
from toolkit.studies.built import Built
from toolkit.studies.tables import READERS, hub_errors, named_on_hub
from toolkit.studies.tables import fetched_folder as fetched_set

WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
"""Weights in safetensors, tokenizer and configs: no pickles, and no code."""
WANTED_TOKENIZER = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "merges.txt",
]  # fmt: skip
"""Of a new model's tokenizer: no weights, and no config that would make its folder look like a model."""


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.")],
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Also fetch base, data set and tasks from the hub, into data/.")
    ] = False,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
) -> None:
    """Write the facts of every seed to data/<name>/seed-<seed>.jsonl, the same ones that a run would train.

    --fetch brings the base into data/models/, or a new model's tokenizer into data/tokenizers/, and a data set of the
    hub into data/sets/, where every command looks first: copy these folders to a machine without network. Data of
    lm-eval's tasks ([forgetting]) go where it looks for them, Hugging Face's own cache (HF_HOME). Gated ones take the
    hub's own token (`hf auth login`, or HF_TOKEN).
    """
    read = [(path, recipe) for path in recipes for recipe in read_recipes(path, tuple(change or ()))]
    asked = [(path, resolve_data(recipe, path)) for path, recipe in read]
    if fetch:
        refuse_two_revisions([recipe for _, recipe in asked])
        for source in dict.fromkeys(source for _, recipe in asked for source in tables_of(recipe)):
            fetch_set(source)
    # Built before any is written, so that bad input leaves nothing behind.
    facts = [(recipe.name, seed, build_data(recipe, seed, path)) for path, recipe in asked for seed in recipe.seeds]
    for name, seed, built in facts:
        target = Path("data") / name / f"seed-{seed}.jsonl"
        write_whole(target, to_jsonl(built.examples))
        print(f"{target}: {how_many(built)}")
    if fetch:
        for recipe in {recipe.model.base: recipe for _, recipe in asked if given_tokenizer(recipe) is None}.values():
            fetch_base(recipe)
        for recipe in {given_tokenizer(recipe): recipe for _, recipe in asked}.values():
            fetch_tokenizer(recipe)
        fetch_tasks([recipe.forgetting for _, recipe in asked if recipe.forgetting])


def how_many(built: Built) -> str:
    splits = Counter(example.split for example in built.examples)
    if built.labels:
        return f"{splits['train']} to train, {splits['validation']} to validate, {splits['test']} to test"
    others = f", {splits['test']} other questions" if splits["test"] else ""
    chosen_by = f", {splits['validation']} to choose the best weights by" if splits["validation"] else ""
    return f"{splits['train']} trained, {splits['control']} held out{others}{chosen_by}"


def refuse_two_revisions(recipes: list[Recipe]) -> None:
    """A base has one folder, whatever its revision, and so has a tokenizer."""
    revisions: dict[tuple[str, str | None], tuple[Recipe, str | None]] = {}
    for recipe in recipes:
        model, tokenizer = recipe.model, recipe.model.tokenizer
        asked = [("base", model.base, model.revision)]
        asked += [("tokenizer", tokenizer.base, tokenizer.revision)] if tokenizer else []
        for what, base, revision in asked:
            other, known = revisions.setdefault((what, base), (recipe, revision))
            if known != revision:
                raise UserError(
                    f"{other.name} and {recipe.name} ask for different revisions of {base}: fetch one of them."
                )


def given_tokenizer(recipe: Recipe) -> str | None:
    return recipe.model.tokenizer.base if recipe.model.tokenizer else None


def fetch_tokenizer(recipe: Recipe) -> None:
    """Fetch a new model's tokenizer without the weights that it came with; not where a whole fetched model has it."""
    said = recipe.model.tokenizer
    if said is None or said.base is None:
        return
    if not is_hub_name(said.base) or Path(said.base).is_dir():
        print(f"{recipe.name}: its tokenizer {said.base} is no hub name; there is nothing to fetch.", file=sys.stderr)
        return
    code = ["*.py"] if recipe.model.remote_code else []
    fetch_files(said.base, said.revision, fetched_tokenizer(said.base), WANTED_TOKENIZER + code, "tokenizer")


def fetch_base(recipe: Recipe) -> None:
    """Fetch a base; until it is whole it lies in a folder that no command takes for a model, and a new try goes on."""
    base, revision = recipe.model.base, recipe.model.revision
    if base is None or not is_hub_name(base) or Path(base).is_dir():
        said = "it is built from random weights" if base is None else f"its base {base} is no hub name"
        print(f"{recipe.name}: {said}; there is nothing to fetch.", file=sys.stderr)
        return
    code = ["*.py"] if recipe.model.remote_code else []
    fetch_files(base, revision, fetched_folder(base), WANTED + code, "model")


def fetch_files(base: str, revision: str | None, folder: Path, wanted: list[str], what: str) -> None:
    """Files of a hub's model into a folder, with a note of what they are; nothing where it is there already."""
    if folder.is_dir() and read_json(folder / FETCHED_NOTE, Fetched)["revision"] == revision:
        print(f"{folder}: there already (delete it to fetch it anew)")
        return
    part = folder.with_name(f".{folder.name}.part")
    table, needed = ("model", "config.json") if what == "model" else ("model.tokenizer", "tokenizer.json")
    download(base, revision, part, wanted, table)
    if not (part / needed).is_file():
        raise UserError(f'[{table}] base = "{base}": the hub has it, but without a {needed}: it is no {what}.')
    commit = commit_of(part, needed)
    # The hub's notes on what is still to be fetched.
    shutil.rmtree(part / ".cache", ignore_errors=True)
    write_whole(part / FETCHED_NOTE, json.dumps({"base": base, "revision": revision, "commit": commit}) + "\n")
    remove_folder(folder)
    part.replace(folder)
    print(f"{folder}: {base}")


def tables_of(recipe: Recipe) -> list[str]:
    """All that a recipe's [data] could name on the hub."""
    named = [recipe.data.get(key, "") for key in ("source", "facts", "preferences")]
    return [*named, *recipe.data.get("text", [])] if recipe.study == "scratch" else named[:1]


def fetch_set(source: str) -> None:
    """Fetch a data set of the hub, a Parquet file a split; whole or not at all. A file and a folder are left alone."""
    named = named_on_hub(source)
    if not named or Path(source).exists() or Path(source).suffix.lower() in READERS:
        return
    name, config = named[1], named[2]
    folder, named_so = fetched_set(name, config), [part for part in (name, config) if part]
    if folder.is_dir():
        print(f"{folder}: there already (delete it to fetch it anew)")
        return
    import datasets

    with hub_errors(name), whole_folder(folder) as part:
        # Never trust_remote_code: a table needs no program.
        splits = datasets.get_dataset_split_names
        for split in splits(name, config_name=config) if config else splits(name):
            datasets.load_dataset(*named_so, split=split).to_parquet(part / f"{split}.parquet")
    print(f"{folder}: {':'.join(named_so)}")


def fetch_tasks(asked: list[Forgetting]) -> None:
    """Have lm-eval load its tasks' data once, so that they lie in its cache."""
    named = {task: (named_tasks([task], code=how.task_code)[0], how.task_code) for how in asked for task in how.tasks}
    for name, (one, code) in named.items():
        from huggingface_hub.constants import HF_HOME

        from toolkit.probes.lm_tasks import load_tasks

        print(f"{name}: its data …", file=sys.stderr)
        tasks = load_tasks([one], code=code)
        print(f"{name}: {sum(len(task.subjects) for task in tasks)} subjects, in {HF_HOME}")


def commit_of(folder: Path, name: str) -> str | None:
    """The commit that a folder was fetched from, by the hub's own notes beside the files."""
    note = folder / f".cache/huggingface/download/{name}.metadata"
    return note.read_text(encoding="utf-8").split()[0] if note.is_file() else None


def download(base: str, revision: str | None, folder: Path, wanted: list[str], table: str) -> None:
    """Raises UserError or MachineError for what the hub says."""
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot_download(base, revision=revision, local_dir=folder, allow_patterns=wanted)
    except GatedRepoError:
        raise UserError(f"{base} is gated: accept its terms on the hub, then log in with `hf auth login`.") from None
    except RepositoryNotFoundError:
        raise UserError(
            f'[{table}] base = "{base}": the hub has no such model, or only for those who log in.'
        ) from None
    except RevisionNotFoundError:
        raise UserError(f'[{table}] revision = "{revision}": the hub has {base}, but no such revision of it.') from None
    except (HTTPError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise MachineError(
            f"{base} could not be fetched ({said[0].rstrip('.')}). What came so far is kept; the same command goes on."
        ) from None


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
