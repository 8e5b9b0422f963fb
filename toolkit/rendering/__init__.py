"""An example to tokens and labels, plain or chat: the one place, for training and for every probe."""

from toolkit.rendering.chat import apply_template, prompt_text
from toolkit.rendering.refused import refuse_merged_digits, refuse_too_long
from toolkit.rendering.rendered import IGNORED, Format, Rendered, render, render_whole
from toolkit.rendering.rows import fact_numbers, pack, packed_rows, pair_rows, training_rows
from toolkit.rendering.tokens import end_token, opening, pad_token, tokenise, tokenise_answer

__all__ = [
    "IGNORED",
    "Format",
    "Rendered",
    "apply_template",
    "end_token",
    "fact_numbers",
    "opening",
    "pack",
    "packed_rows",
    "pad_token",
    "pair_rows",
    "prompt_text",
    "refuse_merged_digits",
    "refuse_too_long",
    "render",
    "render_whole",
    "tokenise",
    "tokenise_answer",
    "training_rows",
]
