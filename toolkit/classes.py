"""What a classifier tells apart and how it is asked, in prompts whose text is cut where it is too long.

classes.json beside a classifier's weights:
{"labels": ["Negative", "Positive"], "prompt": "… {text} …", "format": "plain", "max_length": 512, "head": {…}}
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Head
from toolkit.rendering import Format, opening, prompt_text, render, tokenise
from toolkit.run_folder import write_whole
from toolkit.stored import Stored, read_json

FILE = "classes.json"
HEAD = "head.safetensors"
"""A head's weights, in float32."""


class Classes(NamedTuple):
    """What a classifier tells apart, and how it is asked."""

    labels: tuple[str, ...]
    prompt: str
    """With {text} in it."""
    format: Format
    max_length: int
    """Tokens, of the question, the text and the longest reply."""
    head: Head | None
    """None where classes are answered in words."""


class StoredClasses(Stored):
    """classes.json."""

    labels: Annotated[list[str], Field(min_length=2)]
    prompt: str
    format: Format
    max_length: Annotated[int, Field(ge=8)]
    head: dict[str, Any] | None = None


def write_classes(folder: Path, classes: Classes) -> None:
    said = classes._asdict() | {"head": classes.head.model_dump() if classes.head else None}
    write_whole(folder / FILE, json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def holds_classes(folder: Path) -> bool:
    return (folder / FILE).is_file()


def read_classes(folder: Path) -> Classes:
    """What classes.json says. Raises UserError where it is damaged."""
    values = read_json(folder / FILE, StoredClasses)
    try:
        head = Head.model_validate(values["head"]) if values.get("head") else None
    except ValidationError as error:
        raise UserError(f"{folder / FILE} is damaged (head: {error.errors()[0]['msg']}).") from None
    if len(set(values["labels"])) < len(values["labels"]) or values["prompt"].count("{text}") != 1:
        raise UserError(f"{folder / FILE} is damaged (a label twice, or no one place for the text in its prompt).")
    return Classes(tuple(values["labels"]), values["prompt"], values["format"], values["max_length"], head)


def example_of(identity: str, text: str, label: str, classes: Classes) -> Example:
    """A text to be classified, asked as the classifier was trained."""
    before, _, after = classes.prompt.partition("{text}")
    place = {"text": [len(before), len(before) + len(text)]}
    return Example(identity, identity, before + text + after, label, "test", info=place)


# --- tokens ---


class Prompt(NamedTuple):
    """A prompt whose text was cut where it was too long."""

    ids: list[int]
    cut: int
    """Tokens of the text that were cut off."""


def prompts_of(tokenizer: Any, examples: list[Example], classes: Classes) -> list[Prompt]:
    """What the model sees of each text, in training and in every reading, with room for the longest reply.

    Where a prompt is too long its text ends earlier, and the question stays whole. Where the text stands in the
    prompt, `info["text"]` says: [start, end].
    """
    form, longest = classes.format, room_for(tokenizer, classes)
    # A chat template begins by itself.
    begin = opening(tokenizer) if form == "plain" else []
    longest -= len(begin)
    whole = [prompt_text(tokenizer, example.prompt, form) for example in examples]
    # All at once: the tokenizer takes many texts in parallel.
    # Not verbose: what is too long is cut right here.
    ids = tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"] if whole else []
    prompts = [
        Prompt(found, 0) if len(found) <= longest else shortened(tokenizer, example, form, longest, len(found))
        for example, found in zip(examples, ids, strict=True)
    ]
    return [Prompt([*begin, *prompt.ids], prompt.cut) for prompt in prompts]


def shortened(tokenizer: Any, example: Example, form: Format, longest: int, length: int) -> Prompt:
    """The prompt with as many tokens of its text, from the first on, as there is room for."""
    start, end = example.info["text"]
    text = example.prompt[start:end]
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    kept, ids = len(offsets), []
    while length > longest:
        kept -= length - longest
        if kept < 1:
            raise UserError(
                f"example {example.id}: the question alone leaves no room for its text in {longest} tokens; raise"
                " [model] max_length, or shorten [data] prompt."
            )
        prompt = example.prompt[:start] + text[: offsets[kept - 1][1]] + example.prompt[end:]
        ids = tokenise(tokenizer, prompt_text(tokenizer, prompt, form))
        # Cut elsewhere, the text's last token may become two.
        length = len(ids)
    return Prompt(ids, len(offsets) - kept)


def room_for(tokenizer: Any, classes: Classes) -> int:
    """Tokens that a prompt may have."""
    longest = 0 if classes.head else 1 + max(map(len, answers_of(tokenizer, classes)))
    return classes.max_length - longest


def answers_of(tokenizer: Any, classes: Classes) -> list[list[int]]:
    """The tokens of each label as a reply, without the end mark."""
    asked = [Example("", "", classes.prompt, label, "test") for label in classes.labels]
    return [render(tokenizer, example, classes.format).answer_ids for example in asked]
