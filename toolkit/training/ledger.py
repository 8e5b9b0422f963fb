"""What an exam's rounds asked, found missing and fed, fact by fact: ledger.jsonl in a run's folder, a line a round."""

import json
from typing import Annotated, Any

from pydantic import Field

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.run_folder import Run, run_for, write_whole
from toolkit.stored import Stored, checked

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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rounds.append(checked(json.loads(line), Round))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is damaged ({error}).") from None
    return [entry for entry in rounds if stage in (None, entry["stage"])]


def updates_in(run: Run, stage: str) -> int:
    return sum(entry["updates"] for entry in read_ledger(run, stage))


def yoke(group: str, seed: int, stage: str, examples: list[Example], epochs: int) -> list[dict[str, Any]]:
    """The rounds of the run that a yoked stage follows.

    Raises UserError where that run is not there or not finished, has no such stage, or other examples or rounds.
    """
    run = run_for(group, seed)
    where = f'[stage.{stage}] yoked_to = "{group}"'
    if not run.complete:
        raise UserError(f"{where}: {run.path} is not there or not finished. Run its recipe first, with seed {seed}.")
    rounds = read_ledger(run, stage)
    if not rounds:
        raise UserError(f"{where}: {run.path} had no exam in a stage called {stage}.")
    if len(rounds) != epochs:
        raise UserError(f"{where}: {run.label} had {len(rounds)} rounds, and here epochs = {epochs}.")
    known = {example.id for example in examples}
    if unknown := next((fact for entry in rounds for fact in entry["fed"] if fact not in known), None):
        raise UserError(
            f"{where}: {run.label} was fed {unknown}, which is none of the facts here; give both one [data]."
        )
    return rounds
