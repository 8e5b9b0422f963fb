"""One run from its first reading to its final weights: stages in order, on the same weights, resumable anywhere."""

import json
from pathlib import Path
from typing import Any

from toolkit.models.loaded import load_weights, save_weights
from toolkit.recipe import Stage
from toolkit.run_folder import Run, remove_folder, whole_folder, write_whole
from toolkit.stored import read_json
from toolkit.training import dpo, exam, sft
from toolkit.training.callback import Every, StageCallback
from toolkit.training.ledger import updates_in
from toolkit.training.readings import Training, keep_row, keep_weights, take_reading
from toolkit.training.rows import Rows, stage_examples, updates_an_epoch
from toolkit.training.saved import MARKER, latest_checkpoint
from toolkit.training.used import forward_of, note_what_is_used, restore_forward


def train(training: Training, rows: dict[str, Rows]) -> bool:
    """Train all stages; returns False where the user stopped it (what resuming needs is then saved)."""
    run, recipe = training.run, training.recipe
    if not run.rows("recall"):
        take_reading(training, next(iter(recipe.stage)), 0, 0.0, with_text=True, before_training=True)
    for name, stage in recipe.stage.items():
        after = run.state_folder / name / "after"
        if (after / MARKER).is_file():
            load_weights(training.loaded.model, after)
            training.exposures.load(after)
        else:
            method = exam.train_exam if stage.method == "exam" else train_stage
            if not method(training, name, stage, rows[name]):
                return False
            with whole_folder(after) as folder:
                save_weights(training.loaded.model, training.loaded.tokenizer, folder)
                training.exposures.save(folder)
                (folder / MARKER).touch()
            remove_folder(run.state_folder / name / "checkpoints")
        training.step += updates_of(run, name, stage, len(rows[name]))
        training.epoch += stage.epochs
    final = run.path / ("adapter" if recipe.lora else "model")
    with whole_folder(final) as folder:
        save_weights(training.loaded.model, training.loaded.tokenizer, folder)
    return True


def updates_of(run: Run, name: str, stage: Stage, rows: int) -> int:
    """Updates of a stage that is done; how many an exam needs is known only then."""
    return updates_in(run, name) if stage.method == "exam" else updates_an_epoch(rows, stage) * stage.epochs


def train_stage(training: Training, name: str, stage: Stage, rows: Rows) -> bool:
    """Train one stage, from its last whole checkpoint where there is one; False where the user stopped it."""
    run = training.run
    folder = run.state_folder / name / "checkpoints"
    checkpoint = latest_checkpoint(folder)
    if checkpoint:
        training.exposures.load(checkpoint)
    callback = StageCallback(
        read=lambda step, epoch, last: take_reading(training, name, step, epoch, with_text=last),
        log_row=lambda step, epoch, values: keep_row(training, "train", name, step, epoch, values),
        keep_epoch=lambda epoch: keep_weights(training, name, stage, epoch),
        stop_asked=training.stop_asked,
        reading=Every.parse(training.recipe.recall.every),
        saving=Every.parse(stage.save),
        exposures=training.exposures,
    )
    own_forward = forward_of(training.loaded.model)
    with dpo.dropout_kept(training.loaded.model):
        trainer = trainer_for(training, name, stage, rows, folder, callback)
        note_what_is_used(run, name, trainer.args)
        training.engine.for_training(training.loaded.model)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finished = trainer.state.global_step >= trainer.state.max_steps
    restore_forward(training.loaded.model, own_forward)
    return finished


def trainer_for(training: Training, name: str, stage: Stage, rows: Rows, folder: Path, callback: StageCallback) -> Any:
    """The trainer of a stage's method. Called with the weights that the stage starts from: DPO's are its reference."""
    engine, loaded, recipe, seed = training.engine, training.loaded, training.recipe, training.seed
    make_trainer = sft.make_trainer
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
