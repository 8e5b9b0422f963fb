"""Supervised fine-tuning: one example a row, by TRL's SFTTrainer on the model that Unsloth patched."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from toolkit import processes
from toolkit.models.loaded import Loaded, mixed_precision
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import pad_token
from toolkit.seeds import sub_seed
from toolkit.training.collator import Collator
from toolkit.training.exposures import Exposures
from toolkit.training.order import Massed
from toolkit.training.rows import Rows, updates_an_epoch
from toolkit.training.shares import Filled, blank_row, blanks_needed, new_every_epoch, share_of_batch

OPTIMIZERS = {
    "adamw_8bit": "adamw_8bit",
    "adamw": "adamw_torch",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "sgd": "sgd",
}


def arguments(recipe: Recipe, stage: Stage, seed: int, rows: int, folder: Path) -> dict[str, Any]:
    """Training arguments, each said: Unsloth changes many defaults."""
    updates = updates_an_epoch(rows, stage) * stage.epochs
    on_gpu = torch.cuda.is_available()
    batch_size, grad_accum = share_of_batch(stage, processes.count())
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": grad_accum,
        "num_train_epochs": stage.epochs,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.schedule,
        "warmup_steps": round(updates * stage.warmup),
        "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.max_grad_norm,
        "optim": OPTIMIZERS[stage.optimizer],
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "bf16": mixed_precision(recipe.model.precision) == "bf16",
        "fp16": mixed_precision(recipe.model.precision) == "fp16",
        "gradient_checkpointing": recipe.model.gradient_checkpointing,
        "seed": sub_seed(seed, "training"),
        "data_seed": sub_seed(seed, "order"),
        "logging_strategy": "steps",
        "logging_steps": 1,
        # It would replace a NaN by the mean of the losses before.
        "logging_nan_inf_filter": False,
        # Our callback says when to save and reads by itself.
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_drop_last": False,
        "disable_tqdm": True,
        "use_cpu": not on_gpu,
        "ddp_find_unused_parameters": False,
        # Each token of an update weighs the same, whichever process has it.
        "average_tokens_across_devices": True,
    }


def make_trainer(
    engine: ModuleType,
    loaded: Loaded,
    rows: Rows,
    recipe: Recipe,
    stage: Stage,
    seed: int,
    folder: Path,
    exposures: Exposures,
    callback: Any,
    *,
    sampler: "Sampling | None" = None,
) -> Any:
    """A trainer that feeds `rows` as they are and tells `exposures` what it really fed.

    sampler: another order of the rows than a new one every epoch.
    """
    base_trainer, base_config = engine.trainer_and_config()
    config = base_config(
        **arguments(recipe, stage, seed, len(rows), folder),
        **engine.config_extras(recipe.model),
    )
    trainer_class = counting(base_trainer, exposures)
    if sampler is None and stage.order == "massed":
        sampler = massed(len(rows), stage, seed)
    if processes.count() > 1:
        sampler = filled(sampler, len(rows), stage, seed)
        rows = [*rows, blank_row(pad_token(loaded.tokenizer), rows[0])]
    if sampler:
        trainer_class = ordering(trainer_class, sampler)
    with engine.precision_kept(recipe.model):
        return built(trainer_class, loaded, config, rows, Collator(pad_token(loaded.tokenizer)), callback)


def built(trainer_class: type, loaded: Loaded, config: Any, rows: Rows, collator: Any, callback: Any) -> Any:
    """The trainer, after a look at whether it kept every row; what is said meanwhile is our own callback's business."""
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback

    if config.n_gpu > 1:
        # One process with several GPUs would split batches among them, and an update would have more rows.
        config._n_gpu = 1
    trainer = trainer_class(
        model=loaded.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        data_collator=collator,
        processing_class=loaded.tokenizer,
        callbacks=[callback],
    )
    if len(trainer.train_dataset) != len(rows):
        raise RuntimeError(f"{len(rows)} examples went into the trainer and {len(trainer.train_dataset)} came out.")
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def counting(base: type, exposures: Exposures) -> type:
    """The engine's trainer, counting presentations by fact, as batches are fed and not as steps suggest."""

    class CountingTrainer(base):
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
            facts = inputs.pop("facts")
            loss = super().training_step(model, inputs, *args, **kwargs)
            exposures.fed.append(facts[facts >= 0].tolist())
            return loss

    return CountingTrainer


def massed(rows: int, stage: Stage, seed: int) -> "Sampling":
    block, drawn_from = stage.batch_size * stage.grad_accum, sub_seed(seed, "order")
    return lambda done: Massed(rows, block, stage.epochs, drawn_from, done)


def filled(sampler: "Sampling | None", rows: int, stage: Stage, seed: int) -> "Sampling":
    """The same order, with as many blank rows at its end as several processes need to have equally many."""
    count = processes.count()
    blanks, drawn_from = blanks_needed(rows, share_of_batch(stage, count), count), sub_seed(seed, "order")
    order = sampler or (lambda done: new_every_epoch(rows, drawn_from))
    return lambda done: Filled(order(done), rows, blanks, done)


Sampling = Callable[[Callable[[], float]], Any]
"""A sampler, from a function that says how many epochs are done."""


def ordering(base: type, sampler: Sampling) -> type:
    """The trainer with another order of rows than its own, which is a new one every epoch."""

    class OrderingTrainer(base):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return sampler(lambda: self.state.epoch or 0.0)

    return OrderingTrainer
