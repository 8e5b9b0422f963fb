"""What a study's build function returns."""

from typing import NamedTuple

from toolkit.example import Example


class Built(NamedTuple):
    """Examples, and what is known of their information from the generator that made them."""

    examples: list[Example]
    entropy_bits: float | None = None
    """Bits an answer, from the generator, less the draws before it; None where answers are not drawn from one."""
    rule_only_bits: float | None = None
    """Bits an answer costs a model that knows the rule and no answer: log2 of the support."""
    rule_only_digits: float | None = None
    """Share of digits right, teacher-forced, for such a model."""
    answer_digits: int | None = None
    """Digits an answer, where every answer is that many digits."""
    prompt_choices: int | None = None
    """How many prompts of this kind there are (the indices 1 … N); whole-line floors pay log2 of it."""
    labels: tuple[str, ...] | None = None
    """The classes, in order, where the study has them."""
    notes: tuple[str, ...] = ()
    """What is to be said of the data before training, such as uneven classes."""
