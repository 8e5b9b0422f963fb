"""What an exam's rounds asked, found missing and fed, fact by fact: ledger.jsonl in a run's folder, a line a round."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field

from toolkit.errors import UserError
from toolkit.example import to_jsonl
from toolkit.recipe import Recipe, Stage
from toolkit.run_folder import Run, run_for, write_whole
from toolkit.stored import Stored, checked
from toolkit.studies.built import Built
from toolkit.training.rows import stage_examples, updates_an_epoch

FILE = "ledger.jsonl"
Count = Annotated[int, Field(ge=0)]


class Round(Stored):
    """A line of the ledger."""

    stage: str
    round: Count
    """From 0."""
    asked: Count
    """Questions of the exam."""
    missed: Count
    """… that were not answered exactly."""
    fed: list[str]
    """Ids of the examples that were trained, in their order."""
    updates: Count


def write_ledger(run: Run, rounds: list[dict[str, Any]]) -> None:
    write_whole(run.path / FILE, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rounds))


def read_ledger(run: Run, stage: str | None = None) -> list[dict[str, Any]]:
    """The rounds of a run, or of one stage of it; none where it has no ledger. Raises UserError for a damaged one."""
    path = run.path / FILE
    if not path.is_file():
        return []
    rounds = []
    # Not splitlines(): ids may hold line separators (U+2028, U+0085) that JSON leaves as they are.
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            rounds.append(checked(json.loads(line), Round))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is damaged ({error}).") from None
    return [entry for entry in rounds if stage in (None, entry["stage"])]


def updates_in(run: Run, stage: str) -> int:
    return sum(entry["updates"] for entry in read_ledger(run, stage))


def check_exams(recipe: Recipe, built: Built, seed: int) -> None:
    """Raises UserError for a stage of exams that cannot be done: with texts, which have no answer, or wrongly yoked."""
    for name, stage in recipe.stage.items():
        if stage.method != "exam":
            continue
        if text := next((example for example in stage_examples(built, stage) if not example.is_question), None):
            raise UserError(f"[stage.{name}] {text.id} is a text without a question: exams need questions.")
        if stage.yoked_to is not None:
            yoke(built, seed, name, stage)


def yoke(built: Built, seed: int, name: str, stage: Stage) -> list[dict[str, Any]]:
    """The rounds of the run that a yoked stage follows.

    Raises UserError where that run is not there or not finished, or where it is no pair of this one: it has no such
    stage, other data, or other rounds or batches.
    """
    run = run_for(str(stage.yoked_to), seed)
    where = f'[stage.{name}] yoked_to = "{stage.yoked_to}"'
    if not run.complete:
        raise UserError(f"{where}: {run.path} is not there or not finished. Run its recipe first, with seed {seed}.")
    rounds = read_ledger(run, name)
    if not rounds:
        raise UserError(f"{where}: {run.path} had no exam in a stage called {name}.")
    if len(rounds) != stage.epochs:
        raise UserError(f"{where}: {run.label} had {len(rounds)} rounds, and here epochs = {stage.epochs}.")
    # Not the ids that were fed: names are numbered alike in all data.
    digest = hashlib.sha256(to_jsonl(built.examples).encode()).hexdigest()
    theirs = run.recipe.get("stage", {}).get(name, {}).get("train_on")
    if run.info.get("data", {}).get("digest") != digest or theirs != stage.train_on:
        raise UserError(f"{where}: {run.label} was trained on other facts; give both one [data] and one train_on.")
    for entry in rounds:
        updates = updates_an_epoch(len(entry["fed"]), stage)
        if updates != entry["updates"]:
            raise UserError(
                f"{where}: {run.label} fed {len(entry['fed'])} facts of round {entry['round']} in {entry['updates']}"
                f" updates, and here they would be {updates}; give both one batch_size and one grad_accum."
            )
    return rounds
