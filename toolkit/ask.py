"""Talk to a checkpoint; every token of the answer with its probability: `python -m toolkit.ask checkpoints/GroupA`."""

import sys
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Console, Group
from rich.text import Text

from toolkit.checkpoints import find_checkpoints
from toolkit.classes import holds_classes, read_classes
from toolkit.errors import UserError, is_text
from toolkit.example import MAIN, Example, read_jsonl
from toolkit.models.opening import refuse_unknown

WHAT = {"train": "was trained", "test": "is of a trained fact, asked in a way that was not trained"}
SHADES = ((0.9, "green"), (0.5, "yellow"), (0.0, "red"))


def main(
    checkpoint: Annotated[str, typer.Argument(help="A run, a group (its lowest seed), a kept epoch or a PEFT folder.")],
    prompt: Annotated[str | None, typer.Argument(help="What to ask; asks again and again where left out.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 64,
    base: Annotated[str | None, typer.Option(help="The base of a PEFT folder that no run made.")] = None,
    format: Annotated[str | None, typer.Option(help="plain or chat (default: as it was trained).")] = None,
) -> None:
    """Ask a checkpoint, greedily, and show how sure it is of each digit.

    python -m toolkit.ask checkpoints/GroupA "第90个电话号码是："
    """
    found = find_checkpoints([checkpoint])
    console = Console(highlight=False, markup=False)
    remarks = Console(stderr=True, highlight=False, markup=False)
    if holds_classes(found[0].weights) and read_classes(found[0].weights).head:
        raise UserError(
            f"{found[0].label} is a classifier whose head gives classes, no text: python -m toolkit.eval_classification"
            f" {checkpoint} --predict FILE labels texts."
        )
    if len(found) > 1:
        remarks.print(f"{checkpoint} has {len(found)} runs; asking {found[0].label}.")
    refuse_unknown(format)
    from toolkit.models.opening import prepare

    asked = prepare(found[0], base, format)
    known = read_jsonl(found[0].run.path / "examples.jsonl") if found[0].run else []
    remarks.print(f"loading {asked.engine} …")
    from toolkit.models import open_engine

    engine = open_engine(asked.engine)
    from toolkit.models.opening import open_checkpoint

    opened = open_checkpoint(found[0], engine, asked, None)

    def reply(text: str) -> None:
        if not is_text(text):
            raise UserError(f"{text!r} is not UTF-8 text.")
        console.print(answer(opened, engine, text, max_new_tokens))
        if remark := remember(known, text):
            remarks.print(remark, style="dim")

    if prompt is not None:
        reply(prompt)
        return
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if line.strip():
                reply(line.rstrip("\r\n"))
        return
    remarks.print("ask (an empty line ends):")
    while text := console.input("> "):
        reply(text)


def remember(known: list[Example], prompt: str) -> str | None:
    """What the run's own examples say of a prompt: a wrong answer to a control is no failure of the model.

    A prompt that was taught a second answer has two lines.
    """
    lines = []
    for example in known:
        if example.prompt == prompt:
            said = WHAT.get(example.split, "is a control, never trained")
            part = f" (part {example.part})" if example.part != MAIN else ""
            lines.append(f"{example.id}{part} {said}; its answer is {example.answer}")
    return "\n".join(lines) or None


def answer(opened: Any, engine: Any, prompt: str, max_new_tokens: int) -> Group:
    """The answer in one line, and its tokens with their probabilities below it."""
    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate
    from toolkit.rendering import render

    example = Example("asked", "asked", prompt, "", "test")
    prompt_ids = render(opened.loaded.tokenizer, example, opened.asked.format).prompt_ids
    with undisturbed(opened.loaded, engine):
        said = generate(opened.loaded, engine, [prompt_ids], max_new_tokens, 1)[0]
    text = Text(said.text, style="bold")
    if not said.ended:
        text.append(f"  (cut at {max_new_tokens} tokens)", style="not bold dim")
    tokens = []
    # The end mark's probability, the last one, has no token to stand below.
    for token, probability in zip(said.ids, said.probabilities, strict=False):
        style = next((style for limit, style in SHADES if probability >= limit), "red")  # NaN is below all
        shown = opened.loaded.tokenizer.decode([token]).replace("\n", "⏎").replace(" ", "␣")
        tokens.append(Text.assemble((shown, style), " ", (f"{probability:.3f}", "dim")))
    return Group(text, Columns(tokens, padding=(0, 3)))


if __name__ == "__main__":
    from toolkit.errors import run_command

    run_command(main)
