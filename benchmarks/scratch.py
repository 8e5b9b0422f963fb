"""Does parroting fade as the loss falls? The tiny study from random weights and its arms, six seeds each.

`python -m benchmarks.scratch` trains what is not trained yet (thirty runs, some three hours on one core), compares it,
and keeps the page's top and its numbers in benchmarks/. Started again with the same --folder it goes on.
"""

import json
from pathlib import Path

from benchmarks.forgetting import toolkit, verdict_and_figures
from benchmarks.measuring import machine, rounded
from benchmarks.project import ROOT, Folder, Quick, changing, project

STUDY = "tiny-mini-qwen"
ARMS = {
    "packing": (STUDY, "tiny-scratch-packed"),
    "objective": (STUDY, "tiny-scratch-pretrained"),
    "diversity": ("tiny-scratch-repeated", "tiny-scratch-diverse"),
}
"""What two groups of runs differ in. Two at a time: of six pairs of runs one difference can be shown, and no more."""
PAGE = ROOT / "benchmarks/scratch.png"
NUMBERS = ROOT / "benchmarks/results/scratch.json"
KEPT = ("repetition/greedy/seq_rep_4", "repetition/sampled/seq_rep_4", "repetition/human/seq_rep_4",
        "repetition/greedy/loops", "repetition/greedy/never_ended", "repetition/greedy/distinct_texts",
        "repetition/held_out_nats")  # fmt: skip
SMALL = ("data.invented=200", "data.validation=20", "repetition.prompts=4", "repetition.max_new_tokens=16",
         "data.invented_facts=4", "data.fact_controls=2", "stage.learn.epochs=1")  # fmt: skip


def main(folder: Folder = None, quick: Quick = False) -> None:
    """Train the study and its arms from random weights, and keep what comes out, whatever it is."""
    with project(folder):
        toolkit("toolkit.run", recipe_of(STUDY), *(["--seeds", "0", *changing(*SMALL)] if quick else []))
        compare("scratch", (STUDY,))
        if quick:
            return
        for name, groups in ARMS.items():
            for group in groups:
                toolkit("toolkit.run", recipe_of(group))
            compare(name, groups)
        verdict_and_figures(Path("reports/scratch/index.html"), PAGE)
        keep()


def recipe_of(group: str) -> str:
    arm = group.removeprefix("tiny-scratch-")
    return "recipes/tiny/mini_qwen.toml" if group == STUDY else f"recipes/tiny/scratch/{arm}.toml"


def compare(name: str, groups: tuple[str, ...]) -> None:
    toolkit("toolkit.compare", *(f"checkpoints/{group}" for group in groups), "--name", name)


def keep() -> None:
    """What each report says, and what it has by reading and by group."""
    found = {}
    for name in ("scratch", *ARMS):
        summary = json.loads(Path("reports", name, "summary.json").read_text(encoding="utf-8"))
        found[name] = {key: summary[key] for key in ("verdict", "repeated", "outcomes")}
        found[name]["by_reading"] = {group: by_reading(group) for group in summary["repetition"]["groups"]}
        print("", name, *summary["verdict"], *summary["repeated"], sep="\n")
    kept = json.dumps(rounded({"reports": found, "machine": machine()}), indent=1, ensure_ascii=False)
    NUMBERS.write_text(kept + "\n", encoding="utf-8")


def by_reading(group: str) -> list[dict[str, float]]:
    """Means over a group's runs at each reading: what is repeated, and what held-out answers cost."""
    rows: dict[float, list[dict[str, float]]] = {}
    for path in sorted(Path("checkpoints", group).glob("seed-*/metrics.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if row["kind"] == "repetition":
                rows.setdefault(row["step"], []).append(row)
    return [
        {"step": step, "epoch": of_step[0]["epoch"], "runs": len(of_step)}
        | {name: sum(row[name] for row in of_step) / len(of_step) for name in KEPT}
        for step, of_step in sorted(rows.items())
    ]


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
