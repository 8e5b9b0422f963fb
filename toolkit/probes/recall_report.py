"""A checkpoint's recall in depth: every measure of a reading, by split, with intervals, given digits and draws."""

import math
import statistics
from types import ModuleType
from typing import Any

from toolkit.checkpoints import Checkpoint
from toolkit.example import Example, main_part
from toolkit.metrics import digits, extraction
from toolkit.metrics.statistics import wilson
from toolkit.models.loaded import undisturbed
from toolkit.models.opening import Opened
from toolkit.models.scoring import generate
from toolkit.probes.recall import EXTRA_TOKENS, LN2, Moment, against_others, main_rows, mean, memorised, read_recall
from toolkit.rendering import refuse_merged_digits, render

Row = dict[str, Any]


def report(
    checkpoint: Checkpoint,
    opened: Opened,
    engine: ModuleType,
    examples: list[Example],
    batch_size: int,
    given: list[int] | None,
    samples: int,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    """Plain data, ready for JSON: what was measured on one checkpoint. Shares come with Wilson's interval over facts.

    given: how many digits are given before the rest must be exact, in turn; None for every number of them.
    """
    examples = [example for example in examples if example.is_question]
    trained = [example.part for example in examples if example.split == "train"]
    main = main_part(trained or [example.part for example in examples])
    refuse_merged_digits(opened.loaded.tokenizer, examples)
    moment = Moment(checkpoint.label, -1, "", 0, 0.0, {}, {})
    rows = read_recall(opened.loaded, engine, opened.asked, examples, moment, batch_size=batch_size, with_text=True)
    hits = draw(opened, engine, examples, batch_size, samples, temperature, seed) if samples else None
    splits = {}
    variants = {}
    labels = [label_of(example, main) for example in examples]
    for label in dict.fromkeys(labels):
        chosen = [i for i, own in enumerate(labels) if own == label]
        sampled = None if hits is None else [hits[i] for i in chosen]
        if examples[chosen[0]].variant == "plain":
            splits[label] = of_split([rows[i] for i in chosen], given, sampled, samples)
        else:
            variants[label] = of_variant([rows[i] for i in chosen])
    return {
        **whose(checkpoint, opened),
        "temperature": temperature if samples else None,
        "samples": samples,
        "splits": splits,
        "asked_otherwise": variants,
        "memory": memory(checkpoint, rows),
    }


def whose(checkpoint: Checkpoint, opened: Opened) -> dict[str, Any]:
    """Which checkpoint a result is of, and how it was loaded."""
    return {
        "checkpoint": checkpoint.label if checkpoint.run else str(checkpoint.weights),
        # A kept epoch is none of the group's runs.
        "group": checkpoint.run.name if checkpoint.run and checkpoint.weights == checkpoint.run.weights else None,
        "seed": checkpoint.run.seed if checkpoint.run else None,
        "model": opened.loaded.described,
        "format": opened.asked.format,
    }


def memory(checkpoint: Checkpoint, rows: list[Row]) -> dict[str, Any]:
    """Bits memorised, where the entropy of the run's answers is known, and trained facts against what never was.

    Keys are those of metrics.jsonl; the interval of the area under ROC is one over facts.
    """
    _, trained, control = main_rows(rows)
    entropy = checkpoint.run.info.get("data", {}).get("entropy_bits") if checkpoint.run else None
    values: dict[str, Any] = {"entropy_bits": entropy}
    if entropy and trained:
        values |= memorised(trained, entropy)
    values |= against_others(trained, control)
    if "recall/membership_auc" in values:
        foils = sum(row["foil_bits_total"] is not None for row in trained)
        interval = extraction.membership_interval(values["recall/membership_auc"], len(trained), foils)
        values["recall/membership_auc_interval"] = list(interval)
    return values


def label_of(example: Example, main: str) -> str:
    """What an example is reported under: its split, how a fact was asked otherwise, and its part where it is not the
    main one (`new`, `old, paraphrase-1`)."""
    if example.variant != "plain":
        return example.variant if example.part == main else f"{example.part}, {example.variant}"
    return example.split if example.part == main or example.split != "train" else example.part


def of_split(rows: list[Row], given: list[int] | None, hits: list[int] | None, samples: int) -> dict[str, Any]:
    tokens = sum(len(row["bits"]) for row in rows)
    numbers = all(row["lenient"] is not None for row in rows)
    errors = [row["first_error"] for row in rows if row["first_error"] is not None]
    shortest = min(len(row["correct"]) for row in rows)
    lengths = {len(row["correct"]) for row in rows}
    return {
        "facts": len(rows),
        "loss_digit_nats": sum(row["bits_total"] for row in rows) * LN2 / tokens,
        "loss_eos_nats": mean(row["eos_bits"] for row in rows) * LN2,
        "bits": mean(row["bits_total"] for row in rows),
        "exact": share(row["exact"] for row in rows),
        "strict": share(row["strict"] for row in rows),
        "lenient": share(row["lenient"] for row in rows) if numbers else None,
        "em": share(row["em"] for row in rows) if not numbers else None,
        "f1": mean(row["f1"] for row in rows) if not numbers else None,
        "malformed": share(not row["well_formed"] for row in rows) if numbers else None,
        "stopped": share(row["stopped"] for row in rows),
        "digits_teacher_forced": mean(row["digits_teacher_forced"] for row in rows),
        "digits_generated": mean(row["digits_generated"] for row in rows),
        "first_error": mean(errors) if errors else None,
        "edit_distance": mean(row["edit_distance"] for row in rows),
        "low_confidence_tokens": extraction.low_confidence_tokens([row["bits"] for row in rows]),
        "draws_to_discover": draws_to_discover(rows),
        "calibration": calibration(rows),
        "by_position": [mean(row["correct"][i] for row in rows) for i in range(shortest)] if len(lengths) == 1 else [],
        "extractable": {
            # None where an answer has no digit left to be recalled.
            count: mean(digits.extractable(row["correct"], count) for row in rows) if count < shortest else None
            for count in (range(shortest) if given is None else given)
        },
        "sampled": None
        if hits is None
        else {"found": mean(hit > 0 for hit in hits), "share_exact": sum(hits) / (samples * len(rows))},
        "rows": [
            {key: row[key] for key in ("id", "gold", "output", "exact", "strict", "bits_total", "foil_bits_total")}
            for row in rows
        ],
    }


def draws_to_discover(rows: list[Row]) -> float | None:
    """How many draws find an answer with probability one half (Hayes 2024), the median; None: more than a float has."""
    draws = [extraction.draws_to_discover(extraction.sequence_probability(row["bits"]), 0.5) for row in rows]
    median = statistics.median(draws)
    return median if math.isfinite(median) else None


def calibration(rows: list[Row]) -> dict[str, float] | None:
    """Of the model's own answers: their probability against their being right. None where one has no probability."""
    if any(row["confidence"] is None for row in rows):
        return None
    own = extraction.calibration([row["confidence"] for row in rows], [bool(row["strict"]) for row in rows])
    return {"brier": own.brier, "expected_error": own.expected_error}


def of_variant(rows: list[Row]) -> dict[str, Any]:
    """Trained facts asked in other words, or the other way round."""
    return {
        "facts": len(rows),
        "loss_digit_nats": sum(row["bits_total"] for row in rows) * LN2 / sum(len(row["bits"]) for row in rows),
        "bits": mean(row["bits_total"] for row in rows),
        "exact": share(row["exact"] for row in rows),
        "strict": share(row["strict"] for row in rows),
    }


def share(values: Any) -> dict[str, float]:
    listed = [bool(value) for value in values]
    low, high = wilson(sum(listed), len(listed))
    return {"share": sum(listed) / len(listed), "low": low, "high": high}


def draw(
    opened: Opened,
    engine: ModuleType,
    examples: list[Example],
    batch_size: int,
    samples: int,
    temperature: float,
    seed: int,
) -> list[int]:
    """How many of `samples` drawn answers are exact (strict), for each example."""
    import torch

    rendered = [render(opened.loaded.tokenizer, example, opened.asked.format) for example in examples]
    longest = max(len(item.answer_ids) for item in rendered)
    hits = [0] * len(examples)
    with undisturbed(opened.loaded, engine):
        torch.manual_seed(seed)
        for _ in range(samples):
            drawn = generate(
                opened.loaded, engine, [item.prompt_ids for item in rendered], longest + EXTRA_TOKENS, batch_size,
                temperature=temperature,
            )  # fmt: skip
            for i, (said, example) in enumerate(zip(drawn, examples, strict=True)):
                hits[i] += digits.strict_match(said.text, example.answer)
    return hits
