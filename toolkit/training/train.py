"""One run from its first reading to its final weights: stages in order, on the same weights, resumable anywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.models.loaded import load_weights, save_weights
from toolkit.recipe import Stage
from toolkit.run_folder import remove_folder, whole_folder, write_whole
from toolkit.stored import read_json
from toolkit.training import classify, dpo, exam, sft
from toolkit.training.callback import Every, StageCallback
from toolkit.training.class_readings import is_over, put_best_class_back, take_class_reading, take_test
from toolkit.training.forgetting import forgetting_after_epoch, is_worse, measure_base, take_forgetting
from toolkit.training.readings import Training, keep_row, keep_weights, put_best_back, take_reading
from toolkit.training.repetition import repetition_every, take_repetition
from toolkit.training.rows import Rows, stage_examples
from toolkit.training.saved import MARKER, latest_checkpoint, updates_done
from toolkit.training.used import forward_of, note_what_is_used, restore_forward


def train(training: Training, rows: dict[str, Rows]) -> bool:
    """Train all stages; returns False where the user stopped it (what resuming needs is then saved)."""
    run, recipe = training.run, training.recipe
    if not run.rows("classification" if recipe.classifies else "recall"):
        read_before_training(training)
    measure_base(training)
    take_repetition(training, next(iter(recipe.stage)), 0, 0.0)
    for name, stage in recipe.stage.items():
        after = run.state_folder / name / "after"
        if (after / MARKER).is_file():
            load_weights(training.loaded, after)
            training.exposures.load(after)
        else:
            method = exam.train_exam if stage.method == "exam" else train_stage
            if not method(training, name, stage, rows[name]):
                return False
            finish_stage(training, name, stage)
            with whole_folder(after) as folder:
                save_weights(training.loaded, folder)
                training.exposures.save(folder)
                write_whole(folder / MARKER, "")
            remove_folder(run.state_folder / name / "checkpoints")
        training.step += updates_done(run, name, stage)
        training.epoch += stage.epochs
        if is_worse(run, recipe, name):
            break
    final = run.path / ("adapter" if recipe.lora else "model")
    with whole_folder(final) as folder:
        save_weights(training.loaded, folder)
    return True


def finish_stage(training: Training, name: str, stage: Stage) -> None:
    """After a stage's last update: its best weights where those are wanted, and what is read of those it ends with.

    A run that was killed in here finds the rows of what was read already, and reads only the rest.
    """
    run, done = training.run, updates_done(training.run, name, stage)
    trained = [row["epoch"] - training.epoch for row in run.rows("train") if row["stage"] == name]
    epoch = float(stage.epochs) if stage.method == "exam" or not trained else trained[-1]
    best = (put_best_class_back if stage.method == "classify" else put_best_back)(training, name, stage)
    more = {"best_step": best["step"]} if best and best["step"] < training.step + done else {}
    if more and stage.method != "classify" and "best_step" not in run.rows("recall")[-1]:
        take_reading(training, name, done, epoch, with_text=True, more=more)
        take_repetition(training, name, done, epoch, more)
    taken = [row for row in run.rows("forgetting") if (row["stage"], row["step"]) == (name, training.step + done)]
    if not taken or (more and "best_step" not in taken[-1]):
        take_forgetting(training, name, done, epoch, more)
    worse, is_last = is_worse(run, training.recipe, name), name == list(training.recipe.stage)[-1]
    if stage.method == "classify" and (is_last or worse):
        take_test(training, name, best)
    if worse and (epoch < stage.epochs or not is_last):
        say_worse(training, worse)


def say_worse(training: Training, task: str) -> None:
    """Why training ended before its recipe's last epoch."""
    how = training.recipe.forgetting
    assert how is not None
    assert how.stop_if_worse_by is not None
    said = f"training ended: {task} fell by more than {100 * how.stop_if_worse_by:g} points (stop_if_worse_by)"
    training.run.update_info(ended_early=said)
    training.run.log(said)


def read_before_training(training: Training) -> None:
    name, stage = next(iter(training.recipe.stage.items()))
    if stage.method == "classify":
        take_class_reading(training, name, stage, 0, 0.0)
    else:
        take_reading(training, name, 0, 0.0, with_text=True, before_training=True)


def reader_of(training: Training, name: str, stage: Stage) -> tuple[Callable[[int, float, bool], None], str]:
    """What takes a reading at (step, epoch, is it the stage's last), and how often."""
    if training.recipe.classification:
        every = training.recipe.classification.every
        return lambda step, epoch, last: take_class_reading(training, name, stage, step, epoch), every
    every = training.recipe.recall.every
    return lambda step, epoch, last: take_reading(training, name, step, epoch, with_text=last), every


def train_stage(training: Training, name: str, stage: Stage, rows: Rows) -> bool:
    """Train one stage, from its last whole checkpoint where there is one; False where the user stopped it."""
    run = training.run
    folder = run.state_folder / name / "checkpoints"
    checkpoint = latest_checkpoint(folder)
    if checkpoint:
        training.exposures.load(checkpoint)
    if checkpoint and has_ended(training, name):
        # Killed after the reading that ended the stage, and before that was noted.
        load_weights(training.loaded, checkpoint)
        return True
    read, every = reader_of(training, name, stage)
    callback = StageCallback(
        read=read,
        log_row=lambda step, epoch, values: keep_row(training, "train", name, step, epoch, values),
        keep_epoch=lambda epoch: keep_weights(training, name, stage, epoch),
        stop_asked=training.stop_asked,
        reading=Every.parse(every),
        saving=Every.parse(stage.save),
        exposures=training.exposures,
        is_over=lambda: has_ended(training, name),
        after_epoch=lambda step, epoch: forgetting_after_epoch(training, name, step, epoch),
        read_repetition=lambda step, epoch: take_repetition(training, name, step, epoch),
        repeating=repetition_every(training),
    )
    own_forward = forward_of(training.loaded.model)
    with dpo.dropout_kept(training.loaded.model):
        trainer = trainer_for(training, name, stage, rows, folder, callback)
        callback.begun = lambda: note_what_is_used(run, name, stage, trainer)
        training.engine.for_training(training.loaded.model)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finished = trainer.state.global_step >= trainer.state.max_steps or callback.is_over()
    restore_forward(training.loaded.model, own_forward)
    return finished


def has_ended(training: Training, name: str) -> bool:
    """Whether the last readings say that the stage is to end before its last epoch."""
    run, recipe = training.run, training.recipe
    return is_over(run, recipe, name) or is_worse(run, recipe, name) is not None


def trainer_for(training: Training, name: str, stage: Stage, rows: Rows, folder: Path, callback: StageCallback) -> Any:
    """The trainer of a stage's method. Called with the weights that the stage starts from: DPO's are its reference."""
    engine, loaded, recipe, seed = training.engine, training.loaded, training.recipe, training.seed
    make_trainer = sft.make_trainer
    if stage.method == "classify":
        make_trainer = classify.make_trainer
    if stage.method == "dpo":
        make_trainer = dpo.make_trainer
        rows = pairs_for(training, name, stage, rows)
    return make_trainer(engine, loaded, rows, recipe, stage, seed, folder, training.exposures, callback)


def pairs_for(training: Training, name: str, stage: Stage, rows: Rows) -> Rows:
    """The pairs of a stage with their reference, made once: on a GPU, drawing again after a kill may give others."""
    engine, loaded, recipe, run = training.engine, training.loaded, training.recipe, training.run
    made = run.state_folder / name / "pairs.json"
    if made.is_file():
        return read_json(made, dpo.StoredPairs)["rows"]
    examples, batch = stage_examples(training.built, stage), recipe.recall.batch_size
    if stage.rejected == "own_mistake":
        longest = recipe.model.max_length
        rows, own = dpo.with_own_mistakes(loaded, engine, rows, examples, training.seed, batch, longest)
        run.log(f"{name}: {own} of {len(rows)} rejected answers are the model's own mistakes")
    rows = dpo.referenced(loaded, engine, rows, batch)
    dpo.write_pairs(run.path / f"pairs-{name}.jsonl", rows, examples, loaded.tokenizer)
    write_whole(made, json.dumps({"rows": rows}))
    return rows
