"""The tables on repetition, from what summary.json says: at the end, against loss and frequency, and of the losses."""

from collections.abc import Iterator
from typing import Any

from toolkit.reporting.page import Section
from toolkit.reporting.repetition_prompts import COUNTS, DECODINGS, MAIN, MEASURES
from toolkit.reporting.repetition_rank import shown
from toolkit.reporting.repetition_read import HUMAN

Summary = dict[str, Any]
NBSP = "\u00a0"
"""Between the ends of an interval, which stay on one line."""
MOST_ROWS = 150
"""Checkpoints that are listed."""
AT_END: dict[str, tuple[str, str]] = {
    "seq_rep_4": ("4-grams repeated", "%"),
    "seq_rep_3": ("3-grams repeated", "%"),
    "seq_rep_2": ("2-grams repeated", "%"),
    "seq_rep_1": ("tokens repeated", "%"),
    "char_seq_rep_4": ("4-grams of characters repeated", "%"),
    "rep_w": ("tokens that occurred among the 16 before them", "%"),
    "distinct_1": ("different tokens, of all texts together", "%"),
    "distinct_2": ("different 2-grams, of all texts together", "%"),
    "longest_repeat": ("longest repeat, characters", ""),
    "loops": ("texts that end in a loop", "%"),
    "compression_ratio": ("compression, texts of 512 bytes or more", ""),
    "never_ended": ("texts that do not end by themselves", "%"),
    "undefined_4": ("texts shorter than four tokens", "%"),
    "tokens": ("tokens a text", ""),
}
"""What summary.json calls it, in words, and its unit."""
CORRELATION = (
    "Spearman's rank correlation with its 95 % interval: over runs by t through Fisher's z; of one run over its"
    " prompts (Bonett and Wright), which says nothing of other runs."
)


def sections(said: Summary) -> Iterator[Section]:
    """said: what summary.json holds of repetition."""
    groups = {name: group for name, group in said["groups"].items() if group["runs"]}
    names = list(groups)
    yield Section(
        "What is repeated at the end",
        "Means over the texts that are long enough for each measure, and over runs. Human: the reference answers, cut"
        " at the same length.",
        ["measure", "group", *DECODINGS, HUMAN],
        list(end_rows(groups)),
    )
    yield Section(
        "Does parroting go with loss?",
        f"{CORRELATION} Within a checkpoint: over prompts, of a text's repeated 4-grams and the loss of the prompt's"
        " reference answer; pooled: of each prompt's means over all readings after training began. Across checkpoints:"
        " over a run's readings, of the means of both; with the step held, what is left when both only change with"
        " time. Checkpoints of one run are no independent points, so that one run has no interval there.",
        ["group", "texts", "within the last checkpoint", "by characters", "within, pooled", "across checkpoints",
         "across, step held", "shown"],
        [loss_row(name, group, texts) for name, group in groups.items() for texts in DECODINGS],
    )  # fmt: skip
    rows = list(reading_rows(groups))
    if rows:
        yield Section(
            "Parroting and loss within each checkpoint",
            f"Greedy texts, by prompt. {CORRELATION}",
            ["epoch", "stage", *names],
            rows[:MOST_ROWS],
        )
    yield Section(
        "Does parroting go with frequency?",
        f"{CORRELATION} By prompt, of repeated 4-grams and what the training data hold of the prompt.",
        ["frequency", "group", "texts", "last checkpoint", "pooled", "pooled, loss held", "shown"],
        list(frequency_rows(groups)),
    )
    if any(group["decoding"] for group in groups.values()):
        yield Section(
            "Greedy against sampled",
            "Repeated 4-grams at the end, prompt by prompt; the difference in points with its 95 % interval by t, over"
            " runs, or of one run over its prompts.",
            ["group", "greedy", "sampled", "difference", "over"],
            [decoding_row(name, group["decoding"]) for name, group in groups.items() if group["decoding"]],
        )
    yield from of_losses(groups)


def of_losses(groups: Summary) -> Iterator[Section]:
    rows = list(step_rows(groups))
    if rows:
        yield Section(
            "Steps of the training loss at epoch boundaries",
            "Drop in nats: lines through half an epoch on each side, compared at the boundary, so that a loss that"
            " falls evenly has none. 95 % intervals over runs by t; of one run by the scatter of its updates, taken for"
            " independent.",
            ["stage", "boundary after epoch", *groups],
            rows,
        )
    known = {name: group["memorisation"] for name, group in groups.items() if group["memorisation"]}
    if known:
        yield Section(
            "Where memorising begins",
            "The gap is the loss of held-out examples less that of trained ones, less the same before training. It"
            " begins at the first reading from which on its 95 % interval over examples (Welch) stays above 0. Nats a"
            " token, the end mark included.",
            ["group", "run", "held out", "gap begins at epoch", "gap at the end", "lowest held-out loss", "at epoch",
             "held-out loss at the end", "examples"],
            [memory_row(name, run) for name, own in known.items() for run in own["per_run"]],
        )  # fmt: skip


def end_rows(groups: Summary) -> Iterator[list[str]]:
    """A row a measure and group; greedy, sampled and human texts side by side."""
    for measure, (words, unit) in AT_END.items():
        for name, group in groups.items():
            spreads = [group["final"].get(f"repetition/{texts}/{measure}") for texts in (*DECODINGS, HUMAN)]
            if any(spread and spread["mean"] is not None for spread in spreads):
                yield [words, name, *(value(spread, unit) for spread in spreads)]
    for name, group in groups.items():
        if spread := group["final"].get("repetition/reference_nats"):
            yield ["loss of the reference answers, nats a token", name, "–", "–", value(spread, "nats")]


def value(spread: Summary | None, unit: str) -> str:
    if not spread or spread["mean"] is None:
        return "–"
    form, times = ("{:.1f}", 100) if unit == "%" else ("{:.3f}", 1) if unit == "nats" else ("{:.3g}", 1)
    said = form.format(times * spread["mean"]) + (" %" if unit == "%" else "")
    if spread["low"] is None:
        return said
    low, high = max(spread["low"], 0), min(spread["high"], 1) if unit == "%" else spread["high"]
    return f"{said}\n[{form.format(times * low)},{NBSP}{form.format(times * high)}]"


def rho(found: Summary) -> str:
    """The correlation, and below it its interval or why there is none."""
    if found["rho"] is None:
        return f"not defined\n{found['why_not']}"
    said = f"{found['rho']:z.2f}"
    if found["low"] is None:
        return f"{said}\nno interval: {found['why_not']}"
    return f"{said}\n[{found['low']:z.2f},{NBSP}{found['high']:z.2f}]"


def conclusions(found: dict[str, Summary]) -> str:
    """Of each that has an interval whether it leaves 0 out."""
    yes = [f"{name}{'+' if one['rho'] > 0 else '−'}" for name, one in found.items() if shown(one)]
    return ", ".join(yes).replace("_", " ") or "none"


def loss_row(name: str, group: Summary, texts: str) -> list[str]:
    by_tokens, by_characters = (group["within"][f"{texts}/{measure}"] for measure in MEASURES)
    across = group["across"][texts]
    found = {"within": by_tokens["last"], "by_characters": by_characters["last"], "pooled": by_tokens["pooled"],
             "across": across["loss"], "step_held": across["loss_step_held"]}  # fmt: skip
    return [name, texts, *(rho(one) for one in found.values()), conclusions(found)]


def reading_rows(groups: Summary) -> Iterator[list[str]]:
    """A row a reading of any group, in the order of epochs."""
    by_group = {
        name: {(one["epoch"], one["stage"]): one for one in group["within"][f"greedy/{MAIN}"]["readings"]}
        for name, group in groups.items()
    }
    every = dict.fromkeys(when for readings in by_group.values() for when in readings)
    for when in sorted(every, key=lambda when: when[0]):
        cells = [rho(readings[when]) if when in readings else "–" for readings in by_group.values()]
        yield [f"{when[0]:g}", when[1], *cells]


def frequency_rows(groups: Summary) -> Iterator[list[str]]:
    """A row a count, group and decoding; one of a count that is defined nowhere."""
    for count, what in COUNTS.items():
        rows = {
            (name, texts): own for name, group in groups.items()
            for texts, own in group["frequency"].get(count, {}).items()
        }  # fmt: skip
        reasons = [own["last"]["why_not"] for own in rows.values()]
        if all(own["last"]["rho"] is None and own["pooled"]["rho"] is None for own in rows.values()):
            yield [what, "all", "all", f"not defined\n{reasons[0]}" if reasons else "–", "–", "–", "none"]
            continue
        for (name, texts), own in rows.items():
            found = {"last": own["last"], "pooled": own["pooled"], "loss_held": own["pooled_loss_held"]}
            yield [what, name, texts, *(rho(one) for one in found.values()), conclusions(found)]


def decoding_row(name: str, own: Summary) -> list[str]:
    change = own["difference"]
    ends = "" if change["low"] is None else f"\n[{100 * change['low']:z.1f},{NBSP}{100 * change['high']:z.1f}]"
    over = f"{change['n']} runs" if change["over"] == "runs" else f"{own['prompts'][0]:,} prompts of one run"
    return [name, value(own["greedy"], "%"), value(own["sampled"], "%"), f"{100 * change['mean']:z.1f}{ends}", over]


def step_rows(groups: Summary) -> Iterator[list[str]]:
    """A row a stage and boundary, and below a stage's own their sum and what it is of the fall."""
    stages = dict.fromkeys(stairs["stage"] for group in groups.values() for stairs in group["staircase"])
    for stage in stages:
        mine = {name: next((s for s in group["staircase"] if s["stage"] == stage), None)
                for name, group in groups.items()}  # fmt: skip
        every = {b["epoch"] for stairs in mine.values() if stairs for b in stairs["boundaries"]}
        for epoch in sorted(every):
            drops = [
                next((b["drop"] for b in (stairs or {"boundaries": []})["boundaries"] if b["epoch"] == epoch), None)
                for stairs in mine.values()
            ]
            yield [stage, f"{epoch:g}", *(step(drop) for drop in drops)]
        yield [stage, "all together", *(step(stairs and stairs["total"]) for stairs in mine.values())]
        shares = [None if stairs is None else stairs["share"] for stairs in mine.values()]
        yield [stage, "share of the loss's fall", *(of_fall(spread) for spread in shares)]


def step(spread: Summary | None) -> str:
    if spread is None:
        return "–"
    if spread["mean"] is None:
        return "too few updates"
    ends = "" if spread["low"] is None else f"\n[{spread['low']:z.3f},{NBSP}{spread['high']:z.3f}]"
    return f"{spread['mean']:z.3f}{ends}"


def of_fall(spread: Summary | None) -> str:
    """A share that may be above 1, where the loss rises within epochs."""
    if not spread or spread["mean"] is None:
        return "–"
    ends = "" if spread["low"] is None else f"\n[{100 * spread['low']:z.0f},{NBSP}{100 * spread['high']:z.0f}]"
    return f"{100 * spread['mean']:z.0f} %{ends}"


def memory_row(name: str, run: Summary) -> list[str]:
    gap, low, high = run["last_gap"]
    return [
        name, run["run"], "held-out examples" if run["held_out"] == "validation" else "controls",
        "not by the end" if run["begins"] is None else f"{run['begins']:g}",
        f"{gap:z.3f}\n[{low:z.3f},{NBSP}{high:z.3f}]", f"{run['lowest_loss']:.3f}", f"{run['lowest']:g}",
        f"{run['last_loss']:.3f}", "{:,} and {:,}".format(*run["examples"]),
    ]  # fmt: skip
