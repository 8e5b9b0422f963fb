"""Which class a model gives each text, and with what probability: by its head, or by how likely each reply is.

In words a text's class is the label whose whole reply, end mark included, is the likeliest. What the model says when it
is let go on by itself is read too, where that is asked for: a reply that is no label is wrong, and counted.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from toolkit import stored
from toolkit.classes import Prompt, answers_of, prompts_of
from toolkit.errors import MachineError
from toolkit.example import Example
from toolkit.metrics.classification import Scores, classification_scores
from toolkit.metrics.extraction import calibration
from toolkit.metrics.statistics import wilson
from toolkit.models.classifier import Classifier
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import chunks, generate, score
from toolkit.probes.recall import LN2, Moment, write_reading
from toolkit.rendering import Rendered, end_token, pad_token

Row = dict[str, Any]
SPLITS = ("validation", "test")
Tick = Callable[[int], None]
"""Told how many texts more are done."""


def read_classes(
    loaded: Loaded,
    engine: ModuleType,
    examples: list[Example],
    moment: Moment,
    *,
    batch_size: int,
    with_text: bool,
    tick: Tick = lambda texts: None,
) -> list[Row]:
    """One row a text: gold and predicted class, and the probability of every class, in the order of the labels.

    Leaves no trace in model, tokenizer and random states. `with_text` also lets a classifier in words reply by itself;
    the columns `reply` and `said` (the label it is, if it is one) are None otherwise. Raises MachineError where the
    model gives no numbers.
    """
    assert loaded.classes is not None
    labels = loaded.classes.labels
    prompts = prompts_of(loaded.tokenizer, examples, loaded.classes)
    with undisturbed(loaded, engine):
        log_p = log_probabilities(loaded, [prompt.ids for prompt in prompts], batch_size, tick)
        replies = reply(loaded, engine, prompts, batch_size) if with_text and loaded.head is None else None
    rows = []
    found = zip(examples, prompts, log_p.tolist(), log_p.exp().tolist(), strict=True)
    for number, (example, prompt, row, probabilities) in enumerate(found):
        best, own = max(range(len(labels)), key=row.__getitem__), labels.index(example.answer)
        said = None if replies is None else replies[number]
        rows.append(
            {
                "run": moment.run,
                "seed": moment.seed,
                "stage": moment.stage,
                "step": moment.step,
                "epoch": moment.epoch,
                "exposures": moment.exposures.get(example.fact, 0),
                "id": example.id,
                "split": example.split,
                "gold": example.answer,
                "predicted": labels[best],
                "right": best == own,
                "p": probabilities[best],
                "p_gold": probabilities[own],
                "nats": -row[own],
                "probabilities": probabilities,
                "cut": prompt.cut,
                "reply": said,
                "said": None if said is None else label_said(said, labels),
            }
        )
    return rows


def log_probabilities(
    loaded: Loaded, prompts: list[list[int]], batch_size: int, tick: Tick = lambda texts: None
) -> torch.Tensor:
    """ln p of every class (texts × classes, float32), the classes of a text adding up to one.

    Neighbours of one length share a batch: what is padded is computed too. Raises MachineError for what is no number.
    """
    assert loaded.classes is not None
    scores = torch.empty(len(prompts), len(loaded.classes.labels))
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    score_batch = by_replies if loaded.head is None else by_head
    for numbers in chunks(order, batch_size):
        scores[numbers] = score_batch(loaded, [prompts[number] for number in numbers], batch_size)
        tick(len(numbers))
    log_p = torch.log_softmax(scores, dim=-1)
    if log_p.isnan().any():
        raise MachineError("the classifier gives no probabilities but NaN: training diverged. A lower rate may help.")
    return log_p


def by_replies(loaded: Loaded, prompts: list[list[int]], batch_size: int) -> torch.Tensor:
    """ln of the likelihood of each label as the whole reply, end mark included (texts × classes, float32)."""
    assert loaded.classes is not None
    answers, end = answers_of(loaded.tokenizer, loaded.classes), end_token(loaded.tokenizer)
    items = [Rendered(prompt, answer, end) for prompt in prompts for answer in answers]
    bits = [sum(scored.bits) + scored.end_bits for scored in score(loaded, items, batch_size)]
    return -torch.tensor(bits).view(len(prompts), len(answers)) * LN2


def by_head(loaded: Loaded, prompts: list[list[int]], batch_size: int) -> torch.Tensor:
    """The head's logits of one batch (texts × classes, float32), padded on the right."""
    assert loaded.head is not None
    device = loaded.model.device
    ids = [torch.tensor(prompt) for prompt in prompts]
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    padded = pad_sequence(ids, batch_first=True, padding_value=pad_token(loaded.tokenizer))
    classifier = Classifier(loaded.model, loaded.head)
    return classifier(input_ids=padded.to(device), attention_mask=mask.to(device)).float().cpu()


def reply(loaded: Loaded, engine: ModuleType, prompts: list[Prompt], batch_size: int) -> list[str]:
    """What the model says by itself, greedily: as many tokens as the longest label has, and its end."""
    assert loaded.classes is not None
    longest = max(map(len, answers_of(loaded.tokenizer, loaded.classes)))
    said = generate(loaded, engine, [prompt.ids for prompt in prompts], longest + 1, batch_size)
    return [text.text if text.ended else text.text + "…" for text in said]


def label_said(reply: str, labels: tuple[str, ...]) -> str | None:
    """The label that a reply is, white space around it and capitals apart; None where it is none, and so unreadable."""
    if reply in labels:
        return reply
    plain = [label for label in labels if label.casefold().strip() == reply.casefold().strip()]
    return plain[0] if len(plain) == 1 else None


def summarise(rows: Iterable[Row], labels: tuple[str, ...]) -> dict[str, float]:
    """What metrics.jsonl says of a reading, for each split that it read."""
    summary: dict[str, float] = {}
    for split in SPLITS:
        read = [row for row in rows if row["split"] == split]
        if not read:
            continue
        scores, calibrated = scores_of(read, labels), calibration([r["p"] for r in read], [r["right"] for r in read])
        values = {
            "read": scores.n,
            "accuracy": scores.accuracy,
            "macro_f1": scores.macro_f1,
            "macro_precision": scores.macro_precision,
            "macro_recall": scores.macro_recall,
            "loss": sum(row["nats"] for row in read) / len(read),
            "brier": calibrated.brier,
            "expected_calibration_error": calibrated.expected_error,
        }
        if read[0]["reply"] is not None:
            said = said_scores(read, labels)
            values |= {"said_accuracy": said.accuracy, "unreadable": said.unreadable / said.n}
        summary |= {f"{split}/{name}": value for name, value in values.items()}
    return summary


def scores_of(rows: list[Row], labels: tuple[str, ...]) -> Scores:
    return classification_scores([row["gold"] for row in rows], [row["predicted"] for row in rows], labels)


def said_scores(rows: list[Row], labels: tuple[str, ...]) -> Scores:
    """Of the model's own replies."""
    return classification_scores([row["gold"] for row in rows], [row["said"] for row in rows], labels)


def results(rows: list[Row], labels: tuple[str, ...]) -> dict[str, Any]:
    """Everything that test_results.json says of the rows of one split."""
    scores = scores_of(rows, labels)
    calibrated = calibration([row["p"] for row in rows], [row["right"] for row in rows])
    counts = {label: scores.per_class[label].support for label in labels}
    majority = max(labels, key=counts.__getitem__)
    low, high = wilson(sum(row["right"] for row in rows), scores.n)
    return {
        "split": rows[0]["split"],
        **described(scores, labels),
        "accuracy_interval_within_the_run": [low, high],
        "majority": {"label": majority, "accuracy": counts[majority] / scores.n},
        "loss": sum(row["nats"] for row in rows) / len(rows),
        "brier": calibrated.brier,
        "expected_calibration_error": calibrated.expected_error,
        "calibration": [bin._asdict() for bin in calibrated.bins],
        "texts_cut": sum(row["cut"] > 0 for row in rows),
        "said": None if rows[0]["reply"] is None else described(said_scores(rows, labels), labels),
    }


def described(scores: Scores, labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "n": scores.n,
        "labels": list(labels),
        "accuracy": scores.accuracy,
        "macro_precision": scores.macro_precision,
        "macro_recall": scores.macro_recall,
        "macro_f1": scores.macro_f1,
        "unreadable": scores.unreadable,
        "per_class": {label: score._asdict() for label, score in scores.per_class.items()},
        "confusion": scores.confusion,
    }


def write_rows(path: Path, rows: list[Row]) -> None:
    """One reading as a Parquet file, whole or absent."""
    write_reading(path, rows, columns())


def read_rows(path: Path) -> list[Row]:
    """The rows of a reading. Raises UserError where the file is damaged or has not the columns of one."""
    return stored.read_reading(path, columns(), "a classifier")


def columns() -> Any:
    """The Arrow schema of a reading."""
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    return pa.schema(
        [
            ("run", text), ("seed", whole), ("stage", text), ("step", whole), ("epoch", real), ("exposures", whole),
            ("id", text), ("split", text), ("gold", text), ("predicted", text), ("right", pa.bool_()), ("p", real),
            ("p_gold", real), ("nats", real), ("probabilities", pa.list_(real)), ("cut", whole), ("reply", text),
            ("said", text),
        ]
    )  # fmt: skip
