"""Examples of more tokens than a row may have: left out and counted, where the recipe says so. Nothing is ever cut."""

from dataclasses import replace
from typing import Any

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import Recipe
from toolkit.rendering import render_whole
from toolkit.studies.built import Built

TEMPLATE = 32
"""More tokens a turn than a chat template adds."""


def without_long(tokenizer: Any, recipe: Recipe, built: Built) -> Built:
    """What fits into [model] max_length, with a note of how many did not; all of it where leave_out_long is not said.

    Texts that are only pretrained on are kept, as they are cut into blocks. Raises UserError where nothing is left to
    train in a part.
    """
    if not recipe.model.leave_out_long:
        return built
    blocks = {part for stage in recipe.stage.values() if stage.method == "pretrain" for part in stage.train_on}
    whole = {part for stage in recipe.stage.values() if stage.method != "pretrain" for part in stage.train_on}
    kept = [
        example
        for example in built.examples
        if (not example.is_question and example.part in blocks - whole) or fits(tokenizer, recipe, example)
    ]
    for part in blocks | whole:
        if not any(example.part == part and example.split == "train" for example in kept):
            raise UserError(
                f'[model] leave_out_long: no trained example of the part "{part}" has at most max_length ='
                f" {recipe.model.max_length} tokens."
            )
    left_out = len(built.examples) - len(kept)
    said = (
        f"{left_out:,} of {len(built.examples):,} examples left out for having over {recipe.model.max_length} tokens,"
        " or words that the chat template takes for marks of its own"
    )
    return built._replace(examples=kept, notes=(*built.notes, said))


def fits(tokenizer: Any, recipe: Recipe, example: Example) -> bool:
    """Whether an example, and what a preference rejects in its place, is short enough."""
    longest = recipe.model.max_length
    for answer in (example.answer, *example.wrong):
        said = replace(example, answer=answer)
        # A byte is a token at most, and most rows are so short that counting bytes is enough; what a template may read
        # as marks of its own (</think>) begins with a bracket.
        short = len(said.said.encode()) + TEMPLATE * (2 + len(said.messages)) <= longest
        if short and "<" not in said.said:
            continue
        try:
            rendered = render_whole(tokenizer, said, recipe.model.format)
        except UserError:
            # The template changes what is said, so that it cannot be told what would be trained.
            return False
        if len(rendered.input_ids) > longest:
            return False
    return True
