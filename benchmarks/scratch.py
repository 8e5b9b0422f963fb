"""Does parroting fade as the loss falls? The tiny study from random weights and its arms, six seeds each.

`python -m benchmarks.scratch` trains what is not trained yet (thirty runs, some three hours on one core), compares it,
and keeps the page's top and its numbers in benchmarks/. Started again with the same --folder it goes on.
"""

import json
from pathlib import Path

from benchmarks.forgetting import toolkit
from benchmarks.measuring import machine, rounded
from benchmarks.pretrained import WIDTH
from benchmarks.project import ROOT, Folder, Quick, changing, project
from tests.conftest import BROWSER

STUDY, ARMS = "tiny-mini-qwen", ("packed", "pretrained", "repeated", "diverse")
REPORT = Path("reports/scratch")
PAGE = ROOT / "benchmarks/scratch.png"
NUMBERS = ROOT / "benchmarks/results/scratch.json"
FIGURES = 4
SMALL = ("data.invented=200", "data.validation=20", "repetition.prompts=4", "repetition.max_new_tokens=16")


def main(folder: Folder = None, quick: Quick = False) -> None:
    """Train the study and its arms from random weights, and keep what comes out, whatever it is."""
    recipes = ["recipes/tiny/mini_qwen.toml", *(f"recipes/tiny/scratch/{arm}.toml" for arm in ARMS)]
    groups = [STUDY, *(f"tiny-scratch-{arm}" for arm in ARMS)]
    with project(folder):
        if quick:
            small = changing(*SMALL, "data.invented_facts=4", "data.fact_controls=2", "stage.learn.epochs=1")
            toolkit("toolkit.run", recipes[0], "--seeds", "0", *small)
            groups = groups[:1]
        else:
            for recipe in recipes:
                toolkit("toolkit.run", recipe)
        toolkit("toolkit.compare", *(f"checkpoints/{group}" for group in groups), "--name", REPORT.name)
        if not quick:
            keep()


def keep() -> None:
    """The top of the page as a picture, and its summary."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        tab.goto((REPORT / "index.html").resolve().as_uri())
        end = tab.locator("figure").nth(FIGURES).bounding_box()
        assert end is not None
        tab.screenshot(path=PAGE, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"]})
        browser.close()
    summary = json.loads((REPORT / "summary.json").read_text(encoding="utf-8"))
    kept = rounded({"repeated": summary["repeated"], "repetition": summary["repetition"], "machine": machine()})
    NUMBERS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(summary["repeated"]))


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
