"""Exams: rounds in which the model is asked without being trained, and is then fed what it missed.

Each round is a small training of its own by the same trainer as `sft`, on the facts that the schedule names; the
optimizer goes on from round to round. A round is the unit of saving: a killed run goes on with the round it was in.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from toolkit.example import Example
from toolkit.models.loaded import load_weights, save_weights, undisturbed
from toolkit.models.scoring import score
from toolkit.recipe import Stage
from toolkit.rendering import render
from toolkit.run_folder import remove_folder, whole_folder
from toolkit.seeds import sub_seed
from toolkit.stored import read_json
from toolkit.training import sft
from toolkit.training.callback import Every, logged
from toolkit.training.forgetting import forgetting_after_epoch
from toolkit.training.ledger import read_ledger, write_ledger, yoke
from toolkit.training.readings import Training, keep_row, keep_weights, take_reading
from toolkit.training.repetition import repetition_every, take_repetition
from toolkit.training.rows import Rows, stage_examples
from toolkit.training.saved import EXAM, MARKER, OPTIMIZER, StoredExam, latest_checkpoint
from toolkit.training.schedules import Boxes, after_exam, asked_in, drawn_at_random, in_order_of, rate_in
from toolkit.training.used import forward_of, note_what_is_used, restore_forward


@dataclass
class Exam:
    """Where an exam stands between two rounds."""

    boxes: Boxes
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """What the ledger says of the rounds that are done."""
    updates: int = 0
    optimizer: dict[str, Any] | None = None
    """Its state; None before the first update."""


def train_exam(training: Training, name: str, stage: Stage, rows: Rows) -> bool:
    """Train one stage by exams, from its last saved round where there is one; False where the user stopped it."""
    run, examples = training.run, stage_examples(training.built, stage)
    followed = None
    if stage.yoked_to is not None:
        followed = yoke(training.built, training.seed, name, stage)
    stages = list(training.recipe.stage)
    done_before = stages[: stages.index(name)]
    # Not what else is in the file: it may be of a recipe that this folder had before its run.json was lost.
    earlier = [entry for entry in read_ledger(run) if entry["stage"] in done_before]
    exam = go_on(training, name, len(rows))
    reading, saving = Every.parse(training.recipe.recall.every), Every.parse(stage.save)
    repeating = repetition_every(training)
    for number in range(len(exam.rounds), stage.epochs):
        fed, asked, missed = choose(training, stage, exam, number, examples, followed)
        before = exam.updates
        if fed:
            feed(training, name, stage, exam, number, [rows[fact] for fact in fed])
        exam.rounds.append(
            {"stage": name, "round": number, "asked": asked, "missed": missed,
             "fed": [examples[fact].id for fact in fed], "updates": exam.updates - before}
        )  # fmt: skip
        write_ledger(run, earlier + exam.rounds)
        done = number + 1
        due = reading.steps is not None or reading.due_after_epoch(done)
        if done == stage.epochs:
            read_at_end(training, name, exam.updates, float(done))
        elif fed and due:
            # Without an update there is nothing new to read.
            take_reading(training, name, exam.updates, float(done), with_text=False)
        if repeating and (done == stage.epochs or (fed and (repeating.steps or repeating.due_after_epoch(done)))):
            take_repetition(training, name, exam.updates, float(done))
        if done < stage.epochs and fed:
            forgetting_after_epoch(training, name, exam.updates, float(done))
        keep_weights(training, name, stage, done)
        if done < stage.epochs and (saving.steps is not None or saving.due_after_epoch(done) or training.stop_asked()):
            save(training, name, exam)
            if training.stop_asked():
                return False
    if followed is not None:
        refuse_unequal(exam.rounds, followed)
    return True


def read_at_end(training: Training, name: str, step: int, epoch: float) -> None:
    """The stage's last reading. Its step may be that of a save before it, where rounds had nothing to feed: then a run
    that was killed right after it has it already."""
    taken = [row for row in training.run.rows("recall") if row["stage"] == name]
    if not taken or taken[-1]["epoch"] != round(training.epoch + epoch, 6):
        take_reading(training, name, step, epoch, with_text=True)


def choose(
    training: Training,
    stage: Stage,
    exam: Exam,
    number: int,
    examples: list[Example],
    followed: list[dict[str, Any]] | None,
) -> tuple[list[int], int, int]:
    """The facts that a round feeds, in order; how many were asked, and how many of these missed."""
    seed = sub_seed(training.seed, "exam")
    if followed is not None:
        return drawn_at_random(len(examples), len(followed[number]["fed"]), seed, number), 0, 0
    asked = asked_in(stage.review, exam.boxes, number)
    right = ask(training, [examples[fact] for fact in asked])
    exam.boxes = after_exam(exam.boxes, number, dict(zip(asked, right, strict=True)))
    missed = [fact for fact, was_right in zip(asked, right, strict=True) if not was_right]
    return in_order_of(missed, seed, number), len(asked), len(missed)


def ask(training: Training, examples: list[Example]) -> list[bool]:
    """Whether each question is answered exactly, by one pass without gradients."""
    rendered = [render(training.loaded.tokenizer, example, training.recipe.model.format) for example in examples]
    with undisturbed(training.loaded, training.engine):
        scores = score(training.loaded, rendered, training.recipe.recall.batch_size)
    return [all(scored.correct) for scored in scores]


def feed(training: Training, name: str, stage: Stage, exam: Exam, number: int, rows: Rows) -> None:
    """One round's training: every row once, in order, with the optimizer that the round before left."""
    rate = stage.learning_rate * rate_in(stage.schedule, stage.warmup, number, stage.epochs)
    one = stage.model_copy(update={"epochs": 1, "learning_rate": rate, "schedule": "constant", "warmup": 0.0})
    callback = RoundCallback(training, name, exam.updates, number)
    own_forward = forward_of(training.loaded.model)
    folder = training.run.state_folder / name / "checkpoints"
    trainer = sft.make_trainer(
        training.engine, training.loaded, rows, training.recipe, one,
        sub_seed(training.seed, "training") + number, folder, training.exposures, callback,
        sampler=lambda done: SequentialSampler(rows),
    )  # fmt: skip
    note_what_is_used(training.run, name, stage, trainer)
    training.engine.for_training(training.loaded.model)
    if exam.optimizer is not None:
        trainer.create_optimizer()
        trainer.optimizer.load_state_dict(exam.optimizer)
        for group in trainer.optimizer.param_groups:
            # The rate of this round, and not of the one that the state comes from.
            group["lr"] = group["initial_lr"] = rate
    trainer.train()
    exam.optimizer = trainer.optimizer.state_dict()
    exam.updates += trainer.state.global_step
    restore_forward(training.loaded.model, own_forward)


class RoundCallback(TrainerCallback):
    """Keeps what the trainer logs in a round, under the steps of the stage."""

    def __init__(self, training: Training, stage: str, before: int, number: int) -> None:
        self.training, self.stage, self.before, self.number = training, stage, before, number

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.training.exposures.count_update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if values := logged(logs, self.before + state.global_step):
            epoch = self.number + (state.epoch or 0.0)
            keep_row(self.training, "train", self.stage, self.before + state.global_step, epoch, values)


def save(training: Training, name: str, exam: Exam) -> None:
    """Save what the next round goes on from; older saves go only when this one is whole."""
    folder = training.run.state_folder / name / "checkpoints"
    target = folder / f"checkpoint-{len(exam.rounds)}"
    with whole_folder(target) as temporary:
        save_weights(training.loaded, temporary)
        training.exposures.save(temporary)
        if exam.optimizer is not None:
            torch.save(exam.optimizer, temporary / OPTIMIZER)
        state = {"box": exam.boxes.box, "due": exam.boxes.due, "updates": exam.updates, "rounds": exam.rounds}
        (temporary / EXAM).write_text(json.dumps(state), encoding="utf-8")
        (temporary / MARKER).touch()
    for older in folder.glob("checkpoint-*"):
        if older != target:
            remove_folder(older)


def go_on(training: Training, name: str, facts: int) -> Exam:
    """The exam as it was saved last, with weights and exposures put back; a new one where nothing was saved."""
    folder = latest_checkpoint(training.run.state_folder / name / "checkpoints")
    if folder is None:
        return Exam(Boxes.of(facts))
    saved = read_json(folder / EXAM, StoredExam)
    load_weights(training.loaded, folder)
    training.exposures.load(folder)
    optimizer = load_optimizer(folder / OPTIMIZER)
    return Exam(Boxes(tuple(saved["box"]), tuple(saved["due"])), saved["rounds"], saved["updates"], optimizer)


def load_optimizer(path: Path) -> dict[str, Any] | None:
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def refuse_unequal(rounds: list[dict[str, Any]], followed: list[dict[str, Any]]) -> None:
    """A control that was fed more, or in other batches, would be none. Raises RuntimeError: that is a bug."""
    for mine, theirs in zip(rounds, followed, strict=True):
        if len(mine["fed"]) != len(theirs["fed"]) or mine["updates"] != theirs["updates"]:
            raise RuntimeError(
                f"round {mine['round']}: {len(mine['fed'])} facts in {mine['updates']} updates, and"
                f" {len(theirs['fed'])} in {theirs['updates']} in the run that it is yoked to."
            )
