"""Training a classifier: a head on the backbone by transformers' own trainer, or replies in words by TRL's.

{"input_ids": [… "answer:"], "class": 1, "facts": [17]}      with a head: the class is no token
{"input_ids": [… "answer:" "Positive" <end>], "labels": …}   in words: as any other answer
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

from toolkit.models.classifier import Classifier
from toolkit.models.loaded import Loaded, load_weights, save_weights
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import pad_token
from toolkit.seeds import sub_seed
from toolkit.training import sft
from toolkit.training.collator import ClassCollator
from toolkit.training.exposures import Exposures
from toolkit.training.order import ByLength
from toolkit.training.rows import Rows


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
) -> Any:
    """A trainer that feeds `rows`, neighbours in length together, and tells `exposures` what it really fed."""
    lengths, drawn_from = [len(row["input_ids"]) for row in rows], sub_seed(seed, "order")

    def sampler(done: Any) -> ByLength:
        return ByLength(lengths, stage.batch_size, drawn_from, done)

    if loaded.head is None:
        return sft.make_trainer(
            engine, loaded, rows, recipe, stage, seed, folder, exposures, callback, sampler=sampler
        )  # fmt: skip
    trainer_class = sft.ordering(sft.counting(classifying(Trainer, loaded), exposures), sampler)
    config = TrainingArguments(**sft.arguments(recipe, stage, seed, len(rows), folder))
    whole = Loaded(Classifier(loaded.model, loaded.head), loaded.tokenizer)
    trainer = sft.built(trainer_class, whole, config, rows, ClassCollator(pad_token(loaded.tokenizer)), callback)
    # It would divide the loss by the number of batches of an update; below, by the number of its texts.
    trainer.model_accepts_loss_kwargs = True
    return trainer


def classifying(base: type, loaded: Loaded) -> type:
    """The trainer with a classifier's loss and files."""

    class ClassifyingTrainer(base):
        def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
            # What is counted by default are tokens of labels.
            batches, _ = super().get_batch_samples(*args, **kwargs)
            return batches, torch.tensor(sum(len(batch["class"]) for batch in batches))

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            gold = inputs.pop("class")
            logits = model(**inputs)
            # Of logits, which cross-entropy puts through its own log-softmax; every text of an update weighs the same.
            loss = cross_entropy(logits, gold, reduction="sum") / num_items_in_batch.to(logits.device)
            return (loss, {"logits": logits}) if return_outputs else loss

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            save_weights(loaded, Path(output_dir or self.args.output_dir))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            load_weights(loaded, Path(resume_from_checkpoint))

    return ClassifyingTrainer
