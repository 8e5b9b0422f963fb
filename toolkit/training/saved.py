"""What a run saved to go on from: found, and looked at before anything is changed or loaded from it."""

import pickle
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from toolkit import processes
from toolkit.classes import HEAD, holds_classes, read_classes
from toolkit.errors import UserError
from toolkit.models.files import holds_adapter, model_files, stored_weights
from toolkit.recipe import Recipe, Stage
from toolkit.run_folder import Run, run_for
from toolkit.stored import Stored, read_json
from toolkit.training.exposures import FILE, StoredExposures
from toolkit.training.ledger import FILE as LEDGER
from toolkit.training.ledger import Round, read_ledger, updates_in

MARKER = "complete"
"""Written last: a checkpoint without it is one that a kill cut short."""


EXAM = "exam.json"
OPTIMIZER = "optimizer.pt"
"""What a stage of exams goes on from, besides weights and exposures."""
Count = Annotated[int, Field(ge=0)]


class StoredExam(Stored):
    """exam.json."""

    box: list[Annotated[int, Field(ge=1)]]
    due: list[Count]
    updates: Count
    rounds: list[Round]


class TrainerState(Stored):
    """trainer_state.json, as far as a run depends on it."""

    global_step: int
    epoch: float


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of a stage; those that were cut short are removed."""
    with processes.one_writes() as mine:
        for checkpoint in folder.glob("checkpoint-*") if mine else ():
            if not (checkpoint / MARKER).is_file():
                shutil.rmtree(checkpoint)
    return max(folder.glob("checkpoint-*"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def resume_step(run: Run, recipe: Recipe) -> int:
    """The step that a run goes on from: its rows after that step are of work that will be done again. Steps count
    through all stages."""
    step = 0
    for name, stage in recipe.stage.items():
        if not (run.state_folder / name / "after" / MARKER).is_file():
            checkpoint = latest_checkpoint(run.state_folder / name / "checkpoints")
            return step + (updates_at(checkpoint) if checkpoint else 0)
        step += updates_done(run, name, stage)
    return step


def updates_done(run: Run, name: str, stage: Stage) -> int:
    """Updates of a stage that is done; of an exam, and of a stage that may end early, they are known only then."""
    return updates_in(run, name) if stage.method == "exam" else sum(row["stage"] == name for row in run.rows("train"))


def updates_at(checkpoint: Path) -> int:
    """Updates of the stage until a checkpoint, which an exam numbers by its rounds."""
    if (checkpoint / EXAM).is_file():
        return read_json(checkpoint / EXAM, StoredExam)["updates"]
    return step_of(checkpoint)


def check_saved(run: Run, recipe: Recipe) -> None:
    """Raises UserError where something is damaged that the run would go on from, or could run code when it is read."""
    if not run.exists:
        return
    try:
        read_ledger(run)
        for name, stage in recipe.stage.items():
            after = run.state_folder / name / "after"
            if (after / MARKER).is_file():
                check_folder(after)
                if stage.method == "exam" and len(read_ledger(run, name)) != stage.epochs:
                    raise UserError(f"{run.path / LEDGER} lacks rounds of [stage.{name}], which is done.")
                continue
            if holds_classes(best := run.state_folder / name / "best"):
                check_weights(best)
            checkpoint = latest_checkpoint(run.state_folder / name / "checkpoints")
            if checkpoint:
                check_checkpoint(checkpoint, stage)
                refuse_other_rounds(run, name, stage, checkpoint)
            return
    except UserError as error:
        raise UserError(f"{run.label} cannot go on: {error} --fresh starts it over.") from None


def refuse_other_count(run: Run) -> None:
    """Raises UserError where other processes began a run than are to go on with it: their states are not for these."""
    before, now = run.info.get("processes", {}).get("count", 1), processes.count()
    if before != now:
        begun = "1 process" if before == 1 else f"{before} processes"
        raise UserError(
            f"{run.label} was begun by {begun} and cannot go on with {now}: start as many as before, or start over with"
            " --fresh."
        )


def refuse_other_rounds(run: Run, name: str, stage: Stage, checkpoint: Path) -> None:
    """Raises UserError where the run that a yoked one follows was trained anew since this one began to follow it."""
    if stage.yoked_to is None:
        return
    followed = run_for(stage.yoked_to, run.seed)
    mine = [len(entry["fed"]) for entry in read_json(checkpoint / EXAM, StoredExam)["rounds"]]
    if mine != [len(entry["fed"]) for entry in read_ledger(followed, name)[: len(mine)]]:
        raise UserError(f"{followed.label}, which it is yoked to, was trained anew since, and fed other numbers.")


def check_checkpoint(folder: Path, stage: Stage) -> None:
    check_folder(folder)
    if stage.method == "exam":
        exam = read_json(folder / EXAM, StoredExam)
        updates = sum(entry["updates"] for entry in exam["rounds"])
        if (updates, len(exam["rounds"]), len(exam["box"])) != (exam["updates"], step_of(folder), len(exam["due"])):
            raise UserError(f"{folder / EXAM} is damaged (its rounds, updates and boxes do not agree).")
        if exam["updates"]:
            check_state(folder / OPTIMIZER)
        return
    read_json(folder / "trainer_state.json", TrainerState)
    for path in state_files(folder):
        check_state(path)


def state_files(folder: Path) -> list[Path]:
    """What PyTorch saved besides weights: of one process or, of several, a file each; DeepSpeed's lie in a folder."""
    random = sorted(folder.glob("rng_state_*.pth")) or [folder / "rng_state.pth"]
    # FSDP's is called otherwise.
    optimizer = folder / ("optimizer.bin" if (folder / "optimizer.bin").is_file() else "optimizer.pt")
    return [*(deepspeed_files(folder) or [optimizer]), folder / "scheduler.pt", *random]


def deepspeed_files(folder: Path) -> list[Path]:
    """None where DeepSpeed had no part in it."""
    if not (folder / "latest").is_file():
        return []
    try:
        named = (folder / "latest").read_text(encoding="utf-8").strip()
    except ValueError as error:
        raise UserError(f"{folder / 'latest'} is damaged ({error}).") from None
    # The name of a folder in this one, and no way out of it.
    return sorted((folder / Path(named).name).glob("*.pt"))


def check_folder(folder: Path) -> None:
    """Weights by their headers, and exposures."""
    check_weights(folder)
    read_json(folder / FILE, StoredExposures)


def check_weights(folder: Path) -> None:
    stored_weights(folder, ["adapter_model.safetensors"] if holds_adapter(folder) else model_files(folder))
    if holds_classes(folder) and read_classes(folder).head:
        stored_weights(folder, [HEAD])


def of_deepspeed(path: Path) -> list[Any]:
    """The classes that DeepSpeed's own state is made of, which hold numbers; none for anybody else's."""
    if not re.fullmatch(r".*_optim_states\.pt", path.name):
        return []
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def check_state(path: Path) -> None:
    """Read what PyTorch saved as the trainer will, with tensors and numbers allowed and no code; weights stay on disk.

    Raises UserError where that fails.
    """
    import torch
    from transformers.trainer_pt_utils import safe_globals

    try:
        with safe_globals(), torch.serialization.safe_globals(of_deepspeed(path)):
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        said = "holds more than numbers, and was not loaded: it could run code"
        raise UserError(f"{path} {said}.") from None
    # PyTorch raises RuntimeError for what is no file of its own, and an end of file is an EOFError.
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}).") from None
