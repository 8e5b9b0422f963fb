"""Examples that cannot be measured or trained as they are, refused before anything is written."""

from typing import Any

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering.rendered import Format, Rendered, render_whole
from toolkit.rendering.tokens import tokenise_answer


def refuse_merged_digits(tokenizer: Any, examples: list[Example]) -> None:
    """Raises UserError unless each digit of every number is a token of its own, where all trained answers are numbers.

    Digit measures count tokens; a tokenizer that merges digits would be measured wrongly without a word. Of answers in
    words, among which are numbers, a token is what it is.
    """
    numbers = [example.answer for example in examples if example.answer.isascii() and example.answer.isdigit()]
    trained = [example.answer for example in examples if example.split == "train" and example.is_question]
    if any(not (answer.isascii() and answer.isdigit()) for answer in trained):
        return
    for answer in numbers:
        if tokenizer.convert_ids_to_tokens(tokenise_answer(tokenizer, answer)) != list(answer):
            raise UserError(
                f"this tokenizer does not give each digit of {answer} a token of its own, which exact-digit recall"
                " needs. Qwen's tokenizers do."
            )


def refuse_too_long(tokenizer: Any, examples: list[Example], form: Format, max_length: int) -> None:
    """Raises UserError for an example over `max_length` tokens, trained or only read: nothing is ever cut off."""
    for example in examples:
        refuse_length(example, render_whole(tokenizer, example, form), max_length)


def refuse_length(example: Example, rendered: Rendered, max_length: int) -> None:
    length = len(rendered.input_ids)
    if length > max_length:
        raise UserError(
            f"example {example.id} has {length} tokens, over [model] max_length = {max_length}; raise it"
            " (nothing is ever cut off), or say [model] leave_out_long = true."
        )
