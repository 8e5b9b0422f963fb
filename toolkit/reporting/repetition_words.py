"""Says what parroting goes with, and what it is not shown to: a few sentences a group, each with its interval."""

from collections.abc import Callable
from typing import Any

from toolkit.reporting.repetition_counted import LOSS, TALLIES, counted
from toolkit.reporting.repetition_prompts import COUNTS, MAIN
from toolkit.reporting.repetition_rank import counted as how_many
from toolkit.reporting.repetition_rank import rho_text, shown
from toolkit.reporting.repetition_read import GREEDY, SAMPLED
from toolkit.reporting.verdict import ALPHA, EVERY_OUTCOME, OF_REPETITION, THROUGH, agree
from toolkit.reporting.verdict import sentence as between_groups

Summary = dict[str, Any]
MOST_GROUPS = 2
"""That are said one by one; of more there are counts, and the tables have each."""
MOST_CONTRASTS = 3
"""Contrasts of groups that are said one by one: those of three groups."""
UNCORRECTED = (
    "These correlations are exploratory, each interval for itself, and so are the outcomes of repetition, each with"
    " Holm over its own contrasts: of twenty where nothing is, one leaves 0 out by chance."
)


def in_words(found: Summary, outcomes: Summary, primary: str) -> list[str]:
    """The verdict: a line a question, with every group's answer. found: what was repeated, by group; outcomes: those
    of the whole report, with their contrasts; primary: the one that is said without this.
    """
    known = {name: group for name, group in found.items() if group["runs"]}
    if len(known) > MOST_GROUPS:
        own = [line for question, tally in TALLIES if (line := counted(question, tally, known))]
        return [*own[:1], *contrasted(outcomes, known, primary), *own[1:], UNCORRECTED]
    lines = [answered(question, of_group, known) for question, of_group in QUESTIONS]
    return [*filter(None, [*lines[:1], *contrasted(outcomes, known, primary), *lines[1:]]), UNCORRECTED]


def answered(question: str, of_group: Callable[[Summary], str], known: Summary) -> str:
    """Several answers stand in a line each; empty where no group has one."""
    answers = {name: answer for name, group in known.items() if (answer := of_group(group))}
    if len(answers) > 1 and len(set(answers.values())) == 1:
        return f"{question} All groups: {next(iter(answers.values()))}."
    said = [f"{name}: {answer}." for name, answer in answers.items()]
    return ("\n" if len(said) > 1 else " ").join([question, *said]) if said else ""


def contrasted(outcomes: Summary, known: Summary, primary: str) -> list[str]:
    """The groups against each other: by repeated 4-grams one by one, by the others only counted."""
    lines = []
    others = ["loss/answer_nats_validation", *["recall/exact"] * any(group["injected"] for group in known.values())]
    for name in (name for name in (*OF_REPETITION, *others) if name in outcomes and name != primary):
        about, spreads, results = EVERY_OUTCOME[name], outcomes[name]["groups"], outcomes[name]["contrasts"]
        values = {value for spread in spreads.values() for value in spread["per_run"]}
        if len(values) == 1 and None not in values:
            # As where no text loops any more: the line on the end says it.
            continue
        counts = sorted(set(outcomes[name].get("readings", {}).values()))
        of = f" ({counts[0]} readings)" if len(counts) == 1 else ""
        said = f"{about.said[0].upper()}{about.said[1:]}{of} (exploratory):"
        tested = [result for result in results if result["p"] is not None]
        if len(results) <= (MOST_CONTRASTS if MAIN in name or name in THROUGH else 1):
            lines += [f"{said} {between_groups(about, r, spreads[r['a']], spreads[r['b']])}" for r in results]
        elif tested:
            count = sum(result["shown"] for result in tested)
            differ = f"{count or 'none'} of {len(tested)} contrasts {'is' if count < 2 else 'are'} shown to differ"
            lines.append(f"{said} {differ}, with Holm over all of them; the table of tests has each.")
    return lines


def ending(group: Summary) -> str:
    """How much its texts repeat at the end, beside what people wrote."""
    final = group["final"]
    greedy, sampled, human = (final.get(f"repetition/{name}/{MAIN}") for name in (GREEDY, SAMPLED, "human"))
    if greedy is None or greedy["mean"] is None:
        short = final.get(f"repetition/{GREEDY}/undefined_4")
        return f"{share(short)} of greedy texts have fewer than four tokens: nothing can repeat" if short else ""
    before = group["before"].get(f"repetition/{GREEDY}/{MAIN}")
    others = (("before training", before), ("sampled texts", sampled), ("human answers", human))
    beside = [f"{name} {share(spread)}" for name, spread in others if spread and spread["mean"] is not None]
    loops, endless = (final.get(f"repetition/{GREEDY}/{name}") for name in ("loops", "never_ended"))
    more = [f"{share(spread)} {what}" for spread, what in ((loops, "end in a loop"), (endless, "never end")) if spread]
    said = f"{share(greedy)} of a greedy text's 4-grams" + (f" ({', '.join(beside)})" if beside else "")
    return f"{said}; {' and '.join(more)}" if more else said


def across(group: Summary) -> str:
    own = group["across"][GREEDY]
    if own["loss"]["rho"] is None and not any(own["loss"]["points"]):
        return ""
    plain = claim(own["loss"], "they fall together", "one rises as the other falls")
    return f"{plain}, which whatever changes with time does too; between runs at the same reading {between_runs(own)}"


def between_runs(own: Summary) -> str:
    found = own["between_runs"]
    if found["rho"] is None:
        return f"nothing can be said ({found['why_not']})"
    verdict = "not shown" if found["p"] > ALPHA else (
        "runs of a higher loss repeat more" if found["rho"] > 0 else "runs of a higher loss repeat less"
    )  # fmt: skip
    said = (
        f"rho {found['rho']:z.2f} (p {found['p']:.3f} by orders of {found['runs']} runs, {found['readings']} readings)"
    )
    return f"{said}, {verdict}"


def within(group: Summary) -> str:
    own = group["within"][f"{GREEDY}/{MAIN}"]
    if not any(own["last"]["points"]):
        return ""
    words = "more is repeated on prompts whose answers cost more", "less is repeated on prompts whose answers cost more"
    last = claim(own["last"], *words)
    pooled = claim(own["pooled"], *words)
    return f"at the last reading {last}; in mean ranks over all readings after training began {pooled}"


def by_frequency(count: str) -> Callable[[Summary], str]:
    """A count of frequency in the training data: at the last reading, in means over readings, with the loss held."""

    def of_group(group: Summary) -> str:
        own = group["frequency"].get(count, {}).get(GREEDY)
        if own is None or not own["last"]["per_run"]:
            return ""
        last, held = (claim(own[key], "more is repeated", "less is repeated") for key in ("last", "pooled_loss_held"))
        if own["last"]["rho"] is None:
            return last
        pooled = (
            f"in mean ranks over readings rho {rho_text(own['pooled'])}" if own["pooled"]["rho"] is not None else ""
        )
        return "; ".join(filter(None, [f"at the last reading {last}", pooled, f"with the loss held {held}"]))

    return of_group


def decoding(group: Summary) -> str:
    own = group["decoding"]
    if own is None:
        return ""
    last, every = difference(own), own["all"]
    return f"at the last reading {last}" + (
        f"; mean of all readings after training began {difference(every)}" if every is not None else ""
    )


def difference(own: Summary) -> str:
    change = own["difference"]
    value, low, high = (None if change[key] is None else points(change[key]) for key in ("mean", "low", "high"))
    if change["low"] is None or change["low"] == change["high"]:
        return f"{value} points"
    over = f"{change['n']} runs" if change["over"] == "runs" else f"{own['prompts'][0]:,} prompts of one run"
    is_shown = change["low"] > 0 or change["high"] < 0
    verdict = f"greedy texts repeat {'more' if change['mean'] > 0 else 'less'}" if is_shown else "no difference shown"
    return f"{value} points [{low}, {high}] over {over}: {verdict}"


def steps(group: Summary) -> str:
    """The stairs of the training loss."""
    said = []
    for stage in (stage for stage in group["staircase"] if stage["total"]["mean"] is not None):
        total, of_fall, count = stage["total"], stage["share"]["mean"], len(stage["boundaries"])
        over = f"over {total['n']} runs" if total["over"] == "runs" else "by the scatter of one run's updates"
        line = f"in stage {stage['stage']} {nats(total)} nats at {count} boundar{'ies' if count > 1 else 'y'} together"
        line += f" ({over})"
        if total["low"] is not None and total["low"] <= 0:
            line += ": steps down are not shown"
        elif of_fall is not None:
            line += f", {100 * of_fall:.0f} % of the loss's fall from the first epoch to the last"
        said.append(line)
    return "; ".join(said)


def injected(group: Summary) -> str:
    own = group["injected"]
    if own is None or own["trained"]["mean"] is None or own["control"]["mean"] is None:
        return ""
    trained, control = (share(own[key] | (own[key].get("wilson") or {})) for key in ("trained", "control"))
    said, change = f"{trained} of those trained, {control} of controls", own["difference"]
    if len(own["trained"]["per_run"]) == 1:
        return f"{said} (Wilson's intervals, of one run's items)"
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return said
    verdict = "knowledge was injected" if low > 0 else "that knowledge was injected is not shown"
    return (
        f"{said}; difference {points(change['mean'])} points [{points(low)}, {points(high)}] over {change['n']} runs:"
        f" {verdict}"
    )


def memorised(group: Summary) -> str:
    own = group["memorisation"]
    if own is None:
        return ""
    runs = own["per_run"]
    known = [run["begins"] for run in runs if run["begins"] is not None]
    held = "held-out ones" if own["held_out"] == "validation" else "controls"
    few = "" if len(known) == len(runs) else f" in {len(known)} of {len(runs)} runs"
    said = f"trained examples stay ahead of {held} from epoch {span(known)} on{few}" if known else (
        f"trained examples are not shown to part from {held}"
    )  # fmt: skip
    lowest = span([run["lowest"] for run in runs])
    return (
        f"{said}; the loss of {held} is lowest at epoch {lowest} ({nats(own['lowest_loss'])} nats a token, at the end"
        f" {nats(own['last_loss'])})"
    )


def claim(found: Summary, above: str, below: str) -> str:
    """An association, and what its interval shows."""
    if found["rho"] is None:
        return f"not defined ({found['why_not']})"
    all_runs = len(found["per_run"])
    of_all = "" if found["runs"] == all_runs else f" of {all_runs}"
    over = {"runs": f" over {found['runs']}{of_all} runs", "prompts": " over one run's prompts"}.get(found["over"], "")
    said = f"rho {rho_text(found)}{over}"
    if many := how_many(found):
        said += f" ({many})"
    if (is_shown := shown(found)) is None:
        return f"{said} (no interval: {found['why_not']})"
    return f"{said}, {(above if found['rho'] > 0 else below) if is_shown else 'not shown'}"


QUESTIONS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("Repetition at the end:", ending),
    (f"Does parroting fade as {LOSS} falls? Across checkpoints:", across),
    (f"Does parroting go with {LOSS}, prompt by prompt within one checkpoint?", within),
    *((f"Does parroting go with {what}?", by_frequency(count)) for count, what in COUNTS.items()),
    ("Greedy less sampled, on the same prompts:", decoding),
    ("Steps down of the training loss at epoch boundaries:", steps),
    ("Exact recall of facts that only this training holds:", injected),
    ("Where memorising begins:", memorised),
)


# --- numbers ---


def span(values: list[float]) -> str:
    least, most = f"{min(values):g}", f"{max(values):g}"
    return least if least == most else f"{least} to {most}"


def share(spread: Summary) -> str:
    """In per cent, with its interval; what is shown of it ends where shares do."""
    if spread["mean"] is None:
        return "–"
    said = f"{100 * spread['mean']:.1f} %"
    if spread["low"] is None:
        return said
    if agree(spread):
        return f"{said} in each run"
    return f"{said} [{100 * max(spread['low'], 0):.1f}, {100 * min(spread['high'], 1):.1f}]"


def points(change: float) -> str:
    """Of a difference of shares, or an end of its interval: there are 100."""
    return f"{100 * min(max(change, -1), 1):z.1f}"


def nats(spread: Summary) -> str:
    if spread["low"] is None:
        return f"{spread['mean']:z.3f}"
    return f"{spread['mean']:z.3f} [{spread['low']:z.3f}, {spread['high']:z.3f}]"
