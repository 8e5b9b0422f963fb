"""Finished runs by hand, of which everything is known: when each fact was recalled, and what it costs."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from toolkit.example import main_part

BEFORE, AFTER = 3.0, 0.25
"""Bits a digit that is not known yet, and of one that is."""


def plant(
    name: str, seed: int, recalled_at: list[int], *, readings: int = 11, digits: int = 4, digest: str | None = None,
    entropy: float = 13.0, primary: str = "exposures_to_recall", **settings: Any,
) -> Path:  # fmt: skip
    """A run with a reading before training and after each of its epochs; fact i is recalled from recalled_at[i] on.

    The exposures are the epochs. A fact never recalled has a number over the last epoch.
    """
    settings = {
        "data": {"pattern": name, "count": len(recalled_at)}, "stage": {"learn": {"epochs": readings - 1}},
        "compare": {"primary": primary},
    } | settings  # fmt: skip
    folder = run_folder(name, seed, len(recalled_at), digits, digest, entropy, settings)
    summaries = [reading(folder, epoch, recalled_at, digits, epoch in (0, readings - 1)) for epoch in range(readings)]
    rows = [{"kind": "recall", "stage": "learn", "step": 2 * epoch, "epoch": float(epoch), "exposures": float(epoch)}
            | summary | {"recall/bits_memorised": entropy - summary["recall/bits"]}
            for epoch, summary in enumerate(summaries)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


class Told(NamedTuple):
    """What one reading says of one fact."""

    exposures: int
    exact: bool
    bits: float = 12.0
    part: str = "facts"
    split: str = "train"
    prior: str | None = None


Taken = tuple[str, dict[str, Told]]
"""A reading: the stage that it is of, and what it says of each fact by its name."""


def plant_stages(
    name: str, seed: int, readings: list[Taken], *, digest: str | None = None, entropy: float = 13.0, **settings: Any
) -> Path:
    """A run of several stages and parts, reading by reading, each after two updates and an epoch more."""
    first = readings[0][1]
    trained = {fact: told.part for fact, told in first.items() if told.split == "train"}
    main = [fact for fact, part in trained.items() if part == main_part(list(trained.values()))]
    folder = run_folder(name, seed, len(main), 4, digest, entropy, settings)
    rows = []
    for number, (stage, facts) in enumerate(readings):
        written = [told_row(folder, stage, number, fact, told) for fact, told in facts.items()]
        rows.append(
            {"kind": "recall", "stage": stage, "step": 2 * number, "epoch": float(number)}
            | {"exposures": sum(facts[fact].exposures for fact in main) / len(main)}
            | write(folder, stage, number, written)
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def told_row(folder: Path, stage: str, number: int, fact: str, told: Told) -> dict[str, Any]:
    planted = row(folder, number, fact, told.split, "0123", told.exact, 4, False, 0)
    return planted | {
        "stage": stage, "exposures": told.exposures, "part": told.part, "prior": told.prior,
        "bits": [told.bits / 4] * 4, "bits_total": told.bits,
    }  # fmt: skip


def run_folder(
    name: str, seed: int, facts: int, digits: int, digest: str | None, entropy: float, settings: dict[str, Any]
) -> Path:
    """A finished run's folder, in which no reading lies yet."""
    folder = Path("checkpoints") / name / f"seed-{seed}"
    (folder / "probes").mkdir(parents=True)
    recipe = {
        "name": name, "study": "phone", "seeds": [seed], "model": {"base": "checkpoints/tiny-base"},
        "stage": {"learn": {"method": "sft"}},
    } | settings  # fmt: skip
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    info = {
        "state": "complete", "seed": seed, "seconds": 12.0, "finished": "2026-01-01T00:00:00+0000",
        "model": {"base": "checkpoints/tiny-base", "dtype": "float32", "engine": "unsloth",
                  "trainable_parameters": 1000},
        "data": {"digest": digest or f"{name}/{seed}", "trained": facts, "controls": facts,
                 "entropy_bits": entropy, "rule_only_bits": entropy, "answer_digits": digits},
        "versions": {"torch": "2.13.0"}, "git_commit": "0123456789abcdef",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def reading(folder: Path, epoch: int, recalled_at: list[int], digits: int, with_text: bool) -> dict[str, float]:
    """One Parquet file, and its summary by the toolkit's own function."""
    rows = []
    for split in ("train", "control"):
        for number, start in enumerate(recalled_at):
            known = split == "train" and epoch >= start
            gold = f"{number:0{digits}d}"
            rows.append(row(folder, epoch, f"{split}-{number}", split, gold, known, digits, with_text, number))
    return write(folder, "learn", epoch, rows)


def write(folder: Path, stage: str, number: int, rows: list[dict[str, Any]]) -> dict[str, float]:
    from toolkit.probes.recall import summarise, write_reading

    write_reading(folder / "probes" / f"recall-{stage}-{2 * number:06d}.parquet", rows)
    return summarise(rows, None, whole_line=False)


def row(
    folder: Path, epoch: int, name: str, split: str, gold: str, known: bool, digits: int, with_text: bool, since: int
) -> dict[str, Any]:
    bits = [AFTER if known else BEFORE] * digits
    output = (gold if known else "9" * digits) if with_text else None
    return {
        "run": folder.parent.name, "seed": 0, "stage": "learn", "step": 2 * epoch, "epoch": float(epoch),
        "exposures": epoch if split == "train" else 0, "since": since if split == "train" and epoch else None,
        "id": name, "fact": name, "split": split, "variant": "plain", "part": "facts",
        "prior": None, "gold": gold, "output": output, "exact": known, "em": None, "f1": None,
        "strict": None if output is None else known, "lenient": None if output is None else known,
        "well_formed": None if output is None else True, "stopped": True,
        "digits_teacher_forced": 1.0 if known else 0.25, "digits_generated": None,
        "correct": [known] * digits if known else [True] + [False] * (digits - 1),
        "first_error": None if known else 1, "edit_distance": None if output is None else 0 if known else digits,
        "bits": bits, "bits_total": sum(bits), "eos_bits": 0.1, "prompt_bits_total": 5.0, "line_tokens": 9,
        "foil_bits_total": 20.0 if split == "train" else None, "min_p": 2.0 ** -max(bits),
        "confidence": None if output is None else (0.9 if known else 0.2),
    }  # fmt: skip
