"""What happens between updates: readings, rows of metrics, saves that count only when whole, and a gentle stop."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from toolkit import processes
from toolkit.errors import MachineError
from toolkit.run_folder import write_whole
from toolkit.training.exposures import Exposures
from toolkit.training.saved import MARKER


@dataclass
class Every:
    """ "epoch", "5 epochs", "100 steps" or "stage"."""

    epochs: int | None
    steps: int | None

    @classmethod
    def parse(cls, text: str) -> "Every":
        if text == "stage":
            return cls(None, None)
        if text == "epoch":
            return cls(1, None)
        number, unit = text.split()
        return cls(int(number), None) if unit == "epochs" else cls(None, int(number))

    def due_after_step(self, step: int) -> bool:
        return self.steps is not None and step % self.steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        return self.epochs is not None and epoch % self.epochs == 0


def ended(state: TrainerState) -> bool:
    """Whether the last update was the last of its epoch."""
    return abs((state.epoch or 0.0) - round(state.epoch or 0.0)) < 1e-9


LOGGED = (
    "loss", "learning_rate", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
    "logps/chosen", "logps/rejected",
)  # fmt: skip
"""What is kept of the trainer's own rows; the last six are of preference training."""


def logged(logs: dict[str, float] | None, step: int) -> dict[str, float]:
    """What is kept of a row that the trainer logs; nothing of the one at its end, which has no loss.

    Raises MachineError for a loss that is no number.
    """
    if not logs or "loss" not in logs:
        return {}
    if not math.isfinite(logs["loss"]):
        raise MachineError(
            f"the loss is {logs['loss']} at step {step}: training diverged. A lower learning_rate or"
            ' precision = "bf16" or "fp32" may help; what was saved before is kept, and --fresh starts over.'
        )
    return {f"train/{name}": float(logs[name]) for name in LOGGED if name in logs}


@dataclass
class StageCallback(TrainerCallback):
    """Called by the trainer; steps here count from the start of the stage."""

    read: Callable[[int, float, bool], None]
    """Take a reading at (step, epoch, is it the stage's last)."""
    log_row: Callable[[int, float, dict[str, float]], None]
    """Keep what the trainer logged at (step, epoch)."""
    keep_epoch: Callable[[int], None]
    """Keep the weights of an epoch, where the recipe asks for it."""
    stop_asked: Callable[[], bool]
    """Whether the user wants to stop."""
    reading: Every
    saving: Every
    exposures: Exposures
    is_over: Callable[[], bool] = lambda: False
    """Whether the last readings say that training is to end."""
    after_epoch: Callable[[int, float], bool] = lambda step, epoch: False
    """Measure what else is measured at (step, epoch), the end of an epoch that is not the recipe's last; whether the
    stage is to end with it."""

    read_repetition: Callable[[int, float], None] = lambda step, epoch: None
    """Measure repetition at (step, epoch)."""
    repeating: Every | None = None
    """How often, besides at the stage's end; None where it is not measured."""
    begun: Callable[[], None] = lambda: None
    """Note what is really used, when everything is set up."""
    stopping: bool = False
    """Whether any process was asked to stop, as all of them know since the last update."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.begun()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.exposures.count_update()
        self.stopping = any(processes.gather(self.stop_asked()))
        last = state.global_step >= state.max_steps
        if self.reading.due_after_step(state.global_step) and not last:
            self.read(state.global_step, state.epoch or 0.0, False)
            control.should_training_stop = control.should_training_stop or self.is_over()
        if self.repeating and self.repeating.due_after_step(state.global_step) and not last:
            self.read_repetition(state.global_step, state.epoch or 0.0)
        # At the end of an epoch its reading comes first: resuming from a save without it would leave it out for ever.
        if self.saving.due_after_step(state.global_step) or self.stopping:
            control.should_save = not ended(state)
        if self.stopping:
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not ended(state):
            # Also called where training stops inside an epoch.
            return
        epoch = round(state.epoch or 0.0)
        # Before the reading, which has more to read where it is the stage's last.
        last = state.global_step >= state.max_steps or self.after_epoch(state.global_step, float(epoch))
        if last or self.reading.due_after_epoch(epoch):
            self.read(state.global_step, float(epoch), last)
        if self.repeating and (last or self.repeating.due_after_epoch(epoch)):
            self.read_repetition(state.global_step, float(epoch))
        control.should_training_stop = control.should_training_stop or self.is_over()
        self.keep_epoch(epoch)
        # At a stage's end too: what is read there takes long, and would be lost with the updates before it.
        if last or self.saving.due_after_epoch(epoch) or self.saving.due_after_step(state.global_step):
            control.should_save = True
        if self.stopping:
            control.should_training_stop = control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if values := logged(logs, state.global_step):
            self.log_row(state.global_step, state.epoch or 0.0, values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Finish a checkpoint: what the trainer does not know, the marker, and only then the older ones go."""
        folder = Path(args.output_dir or "")
        checkpoint = folder / f"checkpoint-{state.global_step}"
        # Each process saves what is its own; the marker comes after the last of them.
        self.exposures.save(checkpoint)
        write_whole(checkpoint / MARKER, "")
        with processes.one_writes() as mine:
            for older in folder.glob("checkpoint-*") if mine else ():
                if older != checkpoint:
                    shutil.rmtree(older)
