"""Exact recall: which answers a model gives digit for digit, how many bits the rest costs, from one forward pass.

Greedy decoding emits an answer's tokens exactly when, teacher-forced on it, every argmax is the answer's token. So one
pass gives loss, bits, exact recall and the first wrong position together; text is generated only where it is wanted.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from toolkit import stored
from toolkit.example import Example, main_part
from toolkit.metrics import answers, digits, information
from toolkit.metrics.extraction import membership_auc
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import Generated, Score, generate, score
from toolkit.recipe import Model
from toolkit.rendering import Rendered, render
from toolkit.run_folder import write_whole

LN2 = 0.6931471805599453
EXTRA_TOKENS = 8
"""Generated beyond the longest answer, so that what follows an answer is seen."""
OF_OTHERS = (
    "recall/read", "loss/digit_nats", "recall/exact", "recall/strict", "recall/bits", "recall/em", "recall/f1",
)  # fmt: skip
"""What is said of questions that are not the main ones."""

Row = dict[str, Any]


class Moment(NamedTuple):
    """When a reading was taken."""

    run: str
    seed: int
    stage: str
    step: int
    epoch: float
    exposures: dict[str, int]
    """Presentations of each fact until then."""
    since: dict[str, int]
    """Presentations of any fact since each fact's latest one: how far back in the order it stands."""


def read_recall(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    examples: list[Example],
    moment: Moment,
    *,
    batch_size: int,
    with_text: bool,
) -> list[Row]:
    """One row an example, columns as in measures.md 0. Leaves no trace in model, tokenizer and random states.

    `with_text` also generates greedily; the columns of generated text are None otherwise, and of examples that are
    held out to choose by, which is done by their loss.
    """
    rendered = [render(loaded.tokenizer, example, asked.format) for example in examples]
    worded = [i for i, example in enumerate(examples) if with_text and example.split != "validation"]
    texts: dict[int, Generated] = {}
    with undisturbed(loaded, engine):
        scores = score(loaded, rendered, batch_size)
        foils = score_foils(loaded, asked, examples, batch_size)
        if worded:
            longest = max(len(rendered[i].answer_ids) for i in worded)
            prompts = [rendered[i].prompt_ids for i in worded]
            said = generate(loaded, engine, prompts, longest + EXTRA_TOKENS, batch_size)
            texts = dict(zip(worded, said, strict=True))
    return [
        row_of(moment, example, item, scored, texts.get(i), foils.get(i))
        for i, (example, item, scored) in enumerate(zip(examples, rendered, scores, strict=True))
    ]


def score_foils(loaded: Loaded, asked: Model, examples: list[Example], batch_size: int) -> dict[int, float]:
    """Bits of each example's foil, a never-trained answer to the same prompt, by the example's number."""
    having = [(i, example) for i, example in enumerate(examples) if example.foil is not None]
    swapped = [
        Example(example.id, example.fact, example.prompt, str(example.foil), example.split) for _, example in having
    ]
    scores = score(loaded, [render(loaded.tokenizer, example, asked.format) for example in swapped], batch_size)
    return {i: sum(scored.bits) for (i, _), scored in zip(having, scores, strict=True)}


def row_of(
    moment: Moment,
    example: Example,
    rendered: Rendered,
    scored: Score,
    text: Generated | None,
    foil_bits: float | None,
) -> Row:
    gold = example.answer
    is_number = gold.isascii() and gold.isdigit()
    output = None if text is None else text.text
    return {
        "run": moment.run,
        "seed": moment.seed,
        "stage": moment.stage,
        "step": moment.step,
        "epoch": moment.epoch,
        "exposures": moment.exposures.get(example.fact, 0),
        "since": moment.since.get(example.fact),
        "id": example.id,
        "fact": example.fact,
        "split": example.split,
        "variant": example.variant,
        "part": example.part,
        "prior": None,
        "gold": gold,
        "output": output,
        "exact": all(scored.correct),
        "strict": None if output is None else digits.strict_match(output, gold),
        "lenient": digits.lenient_match(output, gold) if output is not None and is_number else None,
        "well_formed": digits.well_formed(output, len(gold)) if output is not None and is_number else None,
        "em": None if output is None else answers.exact_match(output, gold),
        "f1": None if output is None else answers.f1(output, gold),
        "stopped": scored.stopped,
        "digits_teacher_forced": sum(scored.correct) / len(scored.correct),
        "digits_generated": None if output is None else digits.digit_accuracy(output, gold),
        "correct": list(scored.correct),
        "first_error": digits.first_error(scored.correct),
        "edit_distance": None if output is None else digits.edit_distance(output, gold),
        "bits": list(scored.bits),
        "bits_total": sum(scored.bits),
        "eos_bits": scored.end_bits,
        "prompt_bits_total": sum(scored.prompt_bits),
        "line_tokens": len(rendered.prompt_ids) - 1 + len(rendered.answer_ids),
        "foil_bits_total": foil_bits,
        "min_p": min(2.0**-bits for bits in scored.bits),
        "confidence": None if text is None else math.prod(text.probabilities),
    }


def schema() -> Any:
    """Columns of probes/recall-*.parquet, with their types."""
    import pyarrow as pa

    text, number, whole, flag = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    return pa.schema(
        [
            ("run", text), ("seed", whole), ("stage", text), ("step", whole), ("epoch", number), ("exposures", whole),
            ("since", whole),
            ("id", text), ("fact", text), ("split", text), ("variant", text), ("part", text),
            ("prior", text), ("gold", text), ("output", text),
            ("exact", flag), ("strict", flag), ("lenient", flag), ("well_formed", flag), ("em", flag),
            ("f1", number), ("stopped", flag),
            ("digits_teacher_forced", number), ("digits_generated", number), ("correct", pa.list_(flag)),
            ("first_error", whole), ("edit_distance", whole), ("bits", pa.list_(number)), ("bits_total", number),
            ("eos_bits", number), ("prompt_bits_total", number), ("line_tokens", whole), ("foil_bits_total", number),
            ("min_p", number), ("confidence", number),
        ]
    )  # fmt: skip


def write_reading(path: Path, rows: list[Row], columns: Any = None) -> None:
    """One reading as a Parquet file, whole or absent; columns: its Arrow schema, where it is not one of recall."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=columns or schema()), buffer)
    write_whole(path, buffer.getvalue())


def read_reading(path: Path) -> list[Row]:
    """The rows of a reading. Raises UserError where the file is damaged or has not the columns of one."""
    return stored.read_reading(path, schema(), "recall")


def summarise(rows: list[Row], entropy_bits: float | None, *, whole_line: bool) -> dict[str, float]:
    """Means over a reading's rows, under the names that metrics.jsonl and W&B use.

    Losses are nats a token, averaged over all tokens of their kind; bits are bits an answer, averaged over examples.
    Names without an ending are of the main part's trained facts. Controls end in `_control`, examples held out to
    choose by in `_validation`, trained facts asked otherwise in `_paraphrase`, `_reversed` and `_continued` (the text
    that states one, up to it), trained questions of another part in its name (`_new`), and where facts differ in what
    the base knew of them, those of a class in its name (`_prior_unknown`).
    """
    main, trained, control = main_rows(rows)
    summary: dict[str, float] = {}
    for chosen, suffix in ((trained, ""), (control, "_control")):
        if chosen:
            summary |= {f"{name}{suffix}": value for name, value in of_split(chosen, whole_line).items()}
    others = {
        kind: [row for row in rows if row["variant"].startswith(kind) and row["part"] == main]
        for kind in ("paraphrase", "reversed", "continued")
    } | {
        part: [row for row in rows if row["split"] == "train" and row["part"] == part]
        for part in dict.fromkeys(row["part"] for row in rows)
        if part != main
    }
    # Answers that are held out to choose by, and never trained.
    if held_out := [row for row in rows if row["split"] == "validation"]:
        summary |= {f"{name}_validation": value for name, value in of_split(held_out, whole_line=False).items()}
    classes = dict.fromkeys(row["prior"] for row in trained if row["prior"])
    if len(classes) > 1:
        others |= {f"prior_{name}": [row for row in trained if row["prior"] == name] for name in classes}
    for kind, chosen in others.items():
        if chosen:
            values = of_split(chosen, whole_line=False)
            summary |= {f"{name}_{kind}": values[name] for name in OF_OTHERS if name in values}
    if entropy_bits and trained:
        summary |= memorised(trained, entropy_bits)
    return summary | against_others(trained, control)


def main_rows(rows: list[Row]) -> tuple[str, list[Row], list[Row]]:
    """The main part of what is trained, its rows, and those of controls."""
    every = [row for row in rows if row["split"] == "train"]
    main = main_part([row["part"] for row in every or rows])
    return main, [row for row in every if row["part"] == main], [row for row in rows if row["split"] == "control"]


def against_others(trained: list[Row], control: list[Row]) -> dict[str, float]:
    """Gold against what was never trained for the same prompt (foils), and answers that belong to another fact.

    Intrusions are trained prompts answered with another trained answer, interference never-trained ones.
    """
    values: dict[str, float] = {}
    foils = [row["foil_bits_total"] for row in trained if row["foil_bits_total"] is not None]
    if foils:
        values["recall/bits_foil"] = mean(foils)
        gold = [-row["bits_total"] for row in trained]
        if all(map(math.isfinite, (*gold, *foils))):
            values["recall/membership_auc"] = membership_auc(gold, [-bits for bits in foils])
    known = {row["gold"] for row in trained}
    for name, chosen in (("intrusions", trained), ("interference", control)):
        if chosen and known and chosen[0]["output"] is not None:
            values[f"recall/{name}"] = mean(digits.is_another(row["output"], row["gold"], known) for row in chosen)
    return values


def of_split(rows: list[Row], whole_line: bool) -> dict[str, float]:
    tokens = sum(len(row["bits"]) for row in rows)
    answer_bits = sum(row["bits_total"] for row in rows)
    eos_bits = sum(row["eos_bits"] for row in rows)
    values = {
        "recall/read": len(rows),
        "loss/digit_nats": answer_bits * LN2 / tokens,
        "loss/eos_nats": eos_bits * LN2 / len(rows),
        "loss/answer_nats": (answer_bits + eos_bits) * LN2 / (tokens + len(rows)),
        "recall/exact": mean(row["exact"] for row in rows),
        "recall/stopped": mean(row["stopped"] for row in rows),
        "recall/digits": mean(row["digits_teacher_forced"] for row in rows),
        "recall/bits": answer_bits / len(rows),
    }
    if whole_line:
        line_bits = answer_bits + sum(row["prompt_bits_total"] for row in rows)
        values["loss/line_nats"] = line_bits * LN2 / sum(row["line_tokens"] for row in rows)
        values["loss/line_tokens"] = sum(row["line_tokens"] for row in rows) / len(rows)
    if rows[0]["output"] is not None:
        values["recall/strict"] = mean(row["strict"] for row in rows)
        values["recall/edit_distance"] = mean(row["edit_distance"] for row in rows)
        if any(row["lenient"] is None for row in rows):
            # Not of numbers alone.
            values["recall/em"] = mean(row["em"] for row in rows)
            values["recall/f1"] = mean(row["f1"] for row in rows)
        if all(row["lenient"] is not None for row in rows):
            values["recall/lenient"] = mean(row["lenient"] for row in rows)
            values["recall/malformed"] = mean(not row["well_formed"] for row in rows)
    return values


def memorised(rows: list[Row], entropy_bits: float) -> dict[str, float]:
    """Bits memorised an answer (Morris 2025): the generator's entropy less what the answer still costs."""
    kept = [information.bits_memorised(entropy_bits, row["bits_total"]) for row in rows]
    return {
        "recall/bits_memorised": mean(kept),
        "recall/bits_memorised_clipped": mean(max(0.0, bits) for bits in kept),
        "recall/share_memorised": information.share_memorised(entropy_bits, entropy_bits - mean(kept)),
    }


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
