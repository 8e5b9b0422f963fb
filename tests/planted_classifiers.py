"""Finished classifiers by hand, of which everything is known: what each text was taken for, and how surely."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

SENTIMENT = ("Negative", "Positive")
FIFTY_FIFTY = ["Negative"] * 50 + ["Positive"] * 50


def wrong_at(places: Sequence[int], gold: Sequence[str] = FIFTY_FIFTY) -> list[str]:
    """What a classifier of two classes says that is wrong in these places."""
    other = {"Negative": "Positive", "Positive": "Negative"}
    return [other[label] if number in set(places) else label for number, label in enumerate(gold)]


def right_for(share: float) -> list[str]:
    """What a classifier says that is right for so many of the hundred texts, wrong in the first ones."""
    return wrong_at(range(round(100 * (1 - share))))


def classifier(
    name: str,
    seed: int,
    predicted: Sequence[str],
    *,
    gold: Sequence[str] = FIFTY_FIFTY,
    labels: Sequence[str] = SENTIMENT,
    sure: Sequence[float] | None = None,
    said: Sequence[str | None] | None = None,
    validation: Sequence[float] = (0.5, 0.8, 0.7),
    best: int = 1,
    state: str = "complete",
    digest: str | None = None,
    ids: str = "test",
    texts: Sequence[str] | None = None,
    train: int = 400,
    primary: str | None = "test/accuracy",
    **settings: Any,
) -> Path:
    """A finished classifier that was read before training and after each of its epochs of ten updates.

    predicted: of each test text; sure: with what probability; said: its own replies, where it answers in words.
    validation: accuracy at each reading; best: the epoch whose weights were tested.
    """
    folder = Path("checkpoints") / name / f"seed-{seed}"
    (folder / "probes").mkdir(parents=True)
    recipe = {"name": name, "study": "classify", "seeds": [seed], "stage": {"learn": {"method": "classify"}}}
    recipe |= {"compare": {"primary": primary}} if primary else {}
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe | settings), encoding="utf-8")
    info = {
        "state": state, "study": "classify", "seed": seed, "seconds": 12.0, "finished": "2026-01-01T00:00:00+0000",
        "model": {"base": "tiny", "dtype": "float32", "engine": "unsloth", "trainable_parameters": 673797},
        "data": {"digest": digest or f"{name}/{seed}", "labels": list(labels), "trained": train,
                 "splits": {"train": train, "validation": 10, "test": len(gold)}},
        "versions": {"torch": "2.13.0"}, "git_commit": None,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    kept = [text_row(number, gold, predicted, labels, sure, said, ids) for number in range(len(gold))]
    chosen = [kept[0] | {"id": f"validation-{number}", "split": "validation", "said": None, "reply": None,
                         "gold": labels[0], "predicted": labels[0], "right": True} for number in range(10)]  # fmt: skip
    write(folder, kept, chosen, labels, validation, best)
    if texts is not None:
        lines = [{"id": f"{ids}-{number:06d}", "fact": "", "prompt": f"The film was {text}:", "answer": label,
                  "split": "test", "info": {"text": [13, 13 + len(text)]}}
                 for number, (text, label) in enumerate(zip(texts, gold, strict=True))]  # fmt: skip
        (folder / "examples.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return folder


def text_row(
    number: int,
    gold: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    sure: Sequence[float] | None,
    said: Sequence[str | None] | None,
    ids: str,
) -> dict[str, Any]:
    p, right = (sure[number] if sure else 0.9), predicted[number] == gold[number]
    others = (1 - p) / (len(labels) - 1)
    reply = None if said is None else said[number] or "Er…"
    return {
        "run": "", "seed": 0, "stage": "learn", "step": 20, "epoch": 2.0, "exposures": 0,
        "id": f"{ids}-{number:06d}", "split": "test", "gold": gold[number], "predicted": predicted[number],
        "right": right, "p": p, "p_gold": p if right else others, "nats": -math.log(p if right else others),
        "probabilities": [p if label == predicted[number] else others for label in labels], "cut": int(number < 5),
        "reply": reply, "said": None if said is None else said[number],
    }  # fmt: skip


def write(
    folder: Path,
    kept: list[dict[str, Any]],
    chosen: list[dict[str, Any]],
    labels: Sequence[str],
    validation: Sequence[float],
    best: int,
) -> None:
    """The test's Parquet file, and metrics.jsonl."""
    from toolkit.probes.classification import summarise, write_rows

    write_rows(folder / f"probes/test-learn-{10 * (len(validation) - 1):06d}.parquet", [*chosen, *kept])
    rows = [
        {"kind": "classification", "stage": "learn", "step": 10 * epoch, "epoch": float(epoch), "exposures": epoch,
         "validation/read": 10, "validation/accuracy": share, "validation/macro_f1": share - 0.01,
         "validation/loss": 2.0 - share}
        for epoch, share in enumerate(validation)
    ]  # fmt: skip
    summary = summarise(kept, tuple(labels)) | {"validation/read": 10, "validation/accuracy": validation[best]}
    rows.append(rows[-1] | {"kind": "test", "best_step": 10 * best} | summary)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def changed(folder: Path, **values: float | None) -> None:
    """The test's row with other values."""
    path = folder / "metrics.jsonl"
    *rows, last = path.read_text(encoding="utf-8").splitlines()
    last = json.dumps(json.loads(last) | {key.replace("__", "/"): value for key, value in values.items()})
    path.write_text("\n".join([*rows, last]) + "\n", encoding="utf-8")
