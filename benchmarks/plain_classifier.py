"""The script that a user would write with transformers and PEFT to train a classifier; nothing of the toolkit's."""

from pathlib import Path
from typing import Any

import torch
from torch import nn


class PlainClassifier(nn.Module):
    """A backbone, with LoRA in it, and a head at the last token."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        last = attention_mask.sum(dim=1) - 1
        logits = self.head(hidden[torch.arange(len(last), device=last.device), last])
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def plain_trainer(
    model: PlainClassifier,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    folder: Path,
    *,
    batch_size: int,
    reading_batch_size: int,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> Any:
    """transformers' trainer on rows of `input_ids` and `labels`: random order and its other defaults, but no bar."""
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    tokenizer.padding_side = "right"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=reading_batch_size,
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        ),
        train_dataset=dataset_of(rows),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=metrics,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def dataset_of(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([row | {"attention_mask": [1] * len(row["input_ids"])} for row in rows])


def metrics(predicted: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    classes = predicted.predictions.argmax(-1)
    return {
        "accuracy": float(accuracy_score(predicted.label_ids, classes)),
        "macro_f1": float(f1_score(predicted.label_ids, classes, average="macro", zero_division=0)),
    }
