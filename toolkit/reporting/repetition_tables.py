"""The tables on repetition, from what summary.json says: at the end, against loss, frequency and decoding."""

from collections.abc import Callable, Iterator
from typing import Any

from toolkit.reporting.page import NBSP, Section
from toolkit.reporting.repetition_loss_tables import of_losses
from toolkit.reporting.repetition_prompts import COUNTS, DECODINGS, MAIN, MEASURES
from toolkit.reporting.repetition_rank import counted, shown
from toolkit.reporting.repetition_read import HUMAN
from toolkit.reporting.verdict import ALPHA, agree

Summary = dict[str, Any]
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
    "distinct_texts": ("different texts, of all texts", "%"),
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
        "Means over the texts that are long enough for each measure, and over runs, with 95 % intervals over"
        " runs by t; of"
        " one run over its prompts, which is said (within the run). Human: the reference answers, cut at the same"
        " length; distinct tokens and 2-grams are of prompts with such an answer only, each text as long as it.",
        ["measure", "group", *DECODINGS, HUMAN],
        list(end_rows(groups)),
    )
    yield Section(
        "Does parroting go with loss?",
        f"{CORRELATION} Within a checkpoint: over prompts, of a text's repeated 4-grams and the loss of the prompt's"
        " reference answer; pooled: of each prompt's mean rank over all readings after training began; texts:"
        " how many are different, and of"
        " fewer than ten there is no interval. Across checkpoints: over a run's readings, of the means of both, which"
        " whatever changes with time shows; a straight line in the step's rank taken out, a bend that both share is"
        " still in it. Between runs: the runs ranked at each reading, so that nothing that all share is in it; p by"
        " orders of whole runs, from five on.",
        ["group", "texts", "within the last checkpoint", "by characters", "within, pooled", "across checkpoints",
         "across, line taken out", "between runs", "shown"],
        [loss_row(name, group, texts) for name, group in groups.items() for texts in DECODINGS],
    )  # fmt: skip
    axis = said["axis"]
    rows = list(reading_rows(groups, axis))
    if rows:
        yield Section(
            "Parroting and loss within each checkpoint",
            f"Greedy texts, by prompt. {CORRELATION}",
            [axis, "stage", *names],
            rows[:MOST_ROWS],
        )
    yield Section(
        "Does parroting go with frequency?",
        f"{CORRELATION} By prompt, of repeated 4-grams and what the training data hold of the prompt;"
        " only prompts that begin a conversation, ranked among those of their script (Chinese and Japanese, or others)."
        " Pooled: of mean ranks over all readings after training began.",
        ["frequency", "group", "texts", "last checkpoint", "pooled", "pooled, loss held", "shown"],
        list(frequency_rows(groups)),
    )
    if any(group["decoding"] for group in groups.values()):
        yield Section(
            "Greedy against sampled",
            "Repeated 4-grams, prompt by prompt, at the last reading and as the mean over all after training began; the"
            " difference in points with its 95 % interval by t, over runs, or of one run over its prompts.",
            ["group", "reading", "greedy", "sampled", "difference", "over"],
            [
                row
                for name, group in groups.items()
                if group["decoding"]
                for row in decoding_rows(name, group["decoding"])
            ],
        )
        yield Section(
            "Greedy and sampled by reading",
            "Repeated 4-grams of greedy and of sampled texts of the same prompts, means over runs, and the difference"
            " in points.",
            [axis, "stage", *names],
            list(both_rows(groups, axis))[:MOST_ROWS],
        )
    yield from of_losses(groups, axis)


def end_rows(groups: Summary) -> Iterator[list[str]]:
    """A row a measure and group; greedy, sampled and human texts side by side."""
    for measure, (words, unit) in AT_END.items():
        said = ""
        for name, group in groups.items():
            spreads = [group["final"].get(f"repetition/{texts}/{measure}") for texts in (*DECODINGS, HUMAN)]
            if any(spread and spread["mean"] is not None for spread in spreads):
                # Said once, at the first of the groups.
                yield ["" if said == words else words, name, *(value(spread, unit) for spread in spreads)]
                said = words
    for name, group in groups.items():
        if spread := group["final"].get("repetition/reference_nats"):
            yield ["loss of the reference answers, nats a token", name, "–", "–", value(spread, "nats")]


def value(spread: Summary | None, unit: str) -> str:
    if not spread or spread["mean"] is None:
        return "–"
    form, times = ("{:.1f}", 100) if unit == "%" else ("{:.3f}", 1) if unit == "nats" else ("{:.3g}", 1)
    said = form.format(times * spread["mean"]) + (" %" if unit == "%" else "")
    inside = spread.get("within_run")
    ends = inside or spread
    if ends["low"] is None:
        return said
    if agree(ends):
        return said if inside else f"{said}\nin each run"
    low, high = max(ends["low"], 0), min(ends["high"], 1) if unit == "%" else ends["high"]
    said += f"\n[{form.format(times * low)},{NBSP}{form.format(times * high)}]"
    return f"{said}\nwithin the run" if inside else said


def rho(found: Summary) -> str:
    """The correlation, and below it its interval or why there is none."""
    if found["rho"] is None:
        return f"not defined\n{found['why_not']}"
    said = f"{found['rho']:z.2f}"
    many = f"\n{counted(found)}" if counted(found) else ""
    if found["low"] is None:
        return f"{said}\nno interval: {found['why_not']}{many}"
    return f"{said}\n[{found['low']:z.2f},{NBSP}{found['high']:z.2f}]{many}"


def conclusions(found: dict[str, Summary]) -> str:
    """Of each that has an interval whether it leaves 0 out."""
    yes = [f"{name}{'+' if one['rho'] > 0 else '−'}" for name, one in found.items() if shown(one)]
    return ", ".join(yes).replace("_", " ") or "none"


def loss_row(name: str, group: Summary, texts: str) -> list[str]:
    by_tokens, by_characters = (group["within"][f"{texts}/{measure}"] for measure in MEASURES)
    across = group["across"][texts]
    found = {"within": by_tokens["last"], "by_characters": by_characters["last"], "pooled": by_tokens["pooled"],
             "across": across["loss"]}  # fmt: skip
    of_runs = across["between_runs"]
    yes = conclusions(found)
    if of_runs["rho"] is not None and of_runs["p"] <= ALPHA:
        yes = f"{'' if yes == 'none' else yes + ', '}between runs{'+' if of_runs['rho'] > 0 else '−'}"
    return [name, texts, *(rho(one) for one in found.values()), rho(across["loss_step_held"]), between(of_runs), yes]


def between(found: Summary) -> str:
    if found["rho"] is None:
        return f"not defined\n{found['why_not']}"
    return f"{found['rho']:z.2f}\np {found['p']:.3f}\n{found['runs']} runs, {found['readings']} readings"


def reading_rows(groups: Summary, axis: str) -> Iterator[list[str]]:
    return by_place({name: group["within"][f"greedy/{MAIN}"]["readings"] for name, group in groups.items()}, axis, rho)


def both_rows(groups: Summary, axis: str) -> Iterator[list[str]]:
    return by_place(
        {name: (group["decoding"] or {"readings": []})["readings"] for name, group in groups.items()}, axis, both
    )


def both(own: Summary) -> str:
    change = own["difference"]["mean"]
    return f"{100 * own['greedy']['mean']:.1f} and {100 * own['sampled']['mean']:.1f} %\n{100 * change:z.1f} points"


def by_place(groups: dict[str, list[Summary]], axis: str, cell: Callable[[Summary], str]) -> Iterator[list[str]]:
    """A row a reading of any group, in the order of epochs or updates."""
    name = "step" if axis == "updates" else "epoch"
    by_group = [{(one[name], one["stage"], one["nth"]): one for one in readings} for readings in groups.values()]
    every = dict.fromkeys(when for readings in by_group for when in readings)
    for when in sorted(every, key=lambda when: (when[0], when[2])):
        cells = [cell(readings[when]) if when in readings else "–" for readings in by_group]
        yield [f"{when[0]:g}" + (f", reading {when[2] + 1}" if when[2] else ""), when[1], *cells]


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
            first = next(iter(rows)) == (name, texts)
            yield [what if first else "", name, texts, *(rho(one) for one in found.values()), conclusions(found)]


def decoding_rows(name: str, own: Summary) -> Iterator[list[str]]:
    for reading, found in (("the last", own), ("mean of all", own["all"])):
        if found is not None:
            change = found["difference"]
            ends = "" if change["low"] is None else f"\n[{100 * change['low']:z.1f},{NBSP}{100 * change['high']:z.1f}]"
            over = f"{change['n']} runs" if change["over"] == "runs" else f"{found['prompts'][0]:,} prompts of one run"
            values = value(found["greedy"], "%"), value(found["sampled"], "%")
            yield [name, reading, *values, f"{100 * change['mean']:z.1f}{ends}", over]
