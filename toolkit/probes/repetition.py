"""Repetition: what a model writes freely, greedily and sampled, and how much of it was there before, beside people's.

A row a text: the greedy one of each prompt, its sampled ones, and the reference answer where there is one ("human").
"""

import math
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import torch

from toolkit.errors import UserError
from toolkit.metrics.repetition import measure
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import Generated, generate, score
from toolkit.probes.recall import LN2, Moment
from toolkit.probes.repetition_pooled import pooled
from toolkit.probes.repetition_prompts import Prompt
from toolkit.recipe import Model, Repetition
from toolkit.rendering import Rendered, render
from toolkit.seeds import sub_seed

Row = dict[str, Any]
Tell = Callable[[int, int], None]
SHORTEST = 4
"""Tokens of the shortest text that has every measure: a shorter one has no 4-gram."""
DECODINGS = ("greedy", "sampled", "human")
MEANS = ("seq_rep_1", "seq_rep_2", "seq_rep_3", "seq_rep_4", "char_seq_rep_4", "rep_w", "longest_repeat",
         "compression_ratio", "tokens")  # fmt: skip
"""Columns whose means a summary has; texts for which one is not defined are left out of it."""


def read_repetition(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    prompts: list[Prompt],
    how: Repetition,
    moment: Moment,
    seed: int,
    progress: Tell = lambda done, total: None,
) -> list[Row]:
    """A row a text, columns as `schema` has them. Leaves no trace in model, tokenizer and random states.

    Sampled texts depend on the seed, the moment's step, the prompts and the batch size, and on nothing before them.
    progress: told how many texts of how many are written, greedy and sampled together.
    """
    rendered = render_prompts(loaded, asked, prompts, how)
    with undisturbed(loaded, engine):
        answered = [i for i, prompt in enumerate(prompts) if prompt.has_reference]
        scores = score(loaded, [rendered[i] for i in answered], how.batch_size)
        nats = {
            i: (sum(of.bits) + of.end_bits) * LN2 / (len(of.bits) + 1) for i, of in zip(answered, scores, strict=True)
        }
        texts = write(
            loaded,
            engine,
            [item.prompt_ids for item in rendered],
            how,
            sub_seed(seed, "repetition", moment.step),
            progress,
        )
    rows = []
    for i, (prompt, item) in enumerate(zip(prompts, rendered, strict=True)):
        said = [("greedy", 0, texts[0][i])] + [("sampled", draw, of[i]) for draw, of in enumerate(texts[1:])]
        if prompt.has_reference:
            said.insert(0, ("human", 0, reference(loaded.tokenizer, prompt, item, how.max_new_tokens)))
        rows += [row_of(moment, prompt, decoding, draw, text, nats.get(i)) for decoding, draw, text in said]
    return rows


def render_prompts(loaded: Loaded, asked: Model, prompts: list[Prompt], how: Repetition) -> list[Rendered]:
    """The prompts as they are asked. Raises UserError where one cannot be rendered, or leaves too little room."""
    rendered = [render(loaded.tokenizer, prompt.example, asked.format) for prompt in prompts]
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    for prompt, item in zip(prompts, rendered, strict=True):
        if positions and len(item.prompt_ids) + how.max_new_tokens > positions:
            raise UserError(
                f"[repetition] max_new_tokens = {how.max_new_tokens}: {prompt.id} has {len(item.prompt_ids)} tokens,"
                f" and the model has {positions} positions in all; ask for fewer new tokens."
            )
    return rendered


def write(
    loaded: Loaded, engine: ModuleType, prompts: list[list[int]], how: Repetition, seed: int, progress: Tell
) -> list[list[Generated]]:
    """A text a prompt, greedy and then each of the sampled ones."""
    total = len(prompts) * (1 + how.samples)
    texts: list[list[Generated]] = []
    torch.manual_seed(seed)
    for temperature in (None, *[how.temperature] * how.samples):
        before = len(prompts) * len(texts)
        texts.append(
            generate(
                loaded, engine, prompts, how.max_new_tokens, how.batch_size,
                temperature=temperature, with_probabilities=False,
                progress=lambda done, _, before=before: progress(before + done, total),
            )
        )  # fmt: skip
    return texts


def reference(tokenizer: Any, prompt: Prompt, rendered: Rendered, longest: int) -> Generated:
    """The reference answer as if it had been written: cut where a generated text is."""
    ids = rendered.answer_ids[:longest]
    cut = len(ids) < len(rendered.answer_ids)
    text = tokenizer.decode(ids, skip_special_tokens=True) if cut else prompt.example.answer
    return Generated(text, ids, [], True)


def row_of(moment: Moment, prompt: Prompt, decoding: str, draw: int, said: Generated, nats: float | None) -> Row:
    frequency = prompt.frequency
    return {
        "run": moment.run,
        "seed": moment.seed,
        "stage": moment.stage,
        "step": moment.step,
        "epoch": moment.epoch,
        "id": prompt.id,
        "source": prompt.source,
        "decoding": decoding,
        "draw": draw,
        "prompt": prompt.example.prompt,
        "turns": prompt.turns,
        "context": prompt.context,
        "text": said.text,
        "ended": said.ended,
        "tokens": len(said.ids),
        "characters": len(said.text),
        **measure(said.ids, said.text),
        "reference_nats": nats,
        "asked": frequency.asked if frequency else None,
        "mentioned": frequency.mentioned if frequency else None,
        "familiarity": frequency.familiarity if frequency else None,
        "ids": said.ids,
    }


def schema() -> Any:
    """Columns of probes/repetition-*.parquet, with their types. `ids` are the text's tokens, `tokens` their number;
    `turns` are those before the prompt, `context` what was said in them."""
    import pyarrow as pa

    text, number, whole, flag = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    shares = [f"{kind}seq_rep_{n}" for kind in ("", "char_") for n in (1, 2, 3, 4)] + ["rep_w", "char_rep_w"]
    counts = [f"longest_repeat{kind}" for kind in ("", "_apart", "_tokens", "_apart_tokens")]
    loops = [f"loop_{what}" for what in ("period", "times", "characters", "start")]
    return pa.schema(
        [
            ("run", text), ("seed", whole), ("stage", text), ("step", whole), ("epoch", number), ("id", text),
            ("source", text), ("decoding", text), ("draw", whole), ("prompt", text), ("turns", whole),
            ("context", text), ("text", text), ("ended", flag), ("tokens", whole), ("characters", whole),
            *((name, number) for name in shares), *((name, whole) for name in (*counts, *loops)),
            ("compression_ratio", number), ("reference_nats", number),
            ("asked", whole), ("mentioned", whole), ("familiarity", number), ("ids", pa.list_(pa.int32())),
        ]
    )  # fmt: skip


def summarise(rows: list[Row]) -> dict[str, float]:
    """Over a reading's texts by decoding, under the names that metrics.jsonl and W&B use, all as repetition/greedy/….

    Shares: `loops` of texts that end in a loop, `never_ended` of those that were cut, `undefined_4` of those under
    four tokens. distinct_1, distinct_2 and distinct_texts are of all texts together (`pooled`); all others are means
    over those that have a value, and left out where none has. repetition/held_out_nats (trained_nats, where the prompts
    are trained ones) is the mean over reference answers of nats a token, end mark included.
    """
    summary: dict[str, float] = {}
    for decoding in DECODINGS:
        chosen = [row for row in rows if row["decoding"] == decoding]
        values = of_texts(chosen) | {name: value for name, (value, _) in pooled(rows, decoding).items()}
        summary |= {f"repetition/{decoding}/{name}": value for name, value in values.items()}
    if human := [row for row in rows if row["decoding"] == "human"]:
        summary[f"repetition/{human[0]['source']}_nats"] = mean(row["reference_nats"] for row in human)
    return summary


def of_texts(rows: list[Row]) -> dict[str, float]:
    """What is said of some texts; nothing of none."""
    if not rows:
        return {}
    values = {name: mean(given) for name in MEANS if (given := [row[name] for row in rows if row[name] is not None])}
    values["loops"] = mean(row["loop_period"] is not None for row in rows)
    values["undefined_4"] = mean(row["tokens"] < SHORTEST for row in rows)
    if rows[0]["decoding"] != "human":
        values["never_ended"] = mean(not row["ended"] for row in rows)
    return values


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
