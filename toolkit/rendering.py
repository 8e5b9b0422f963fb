"""An example to tokens and labels, plain or chat: the one place, for training and for every probe.

plain: 第7个电话号码是：39504711826<|im_end|>      chat: the model's own template, without thinking
       ------prompt----- --answer--- ---end---
"""

import functools
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from toolkit.errors import UserError
from toolkit.example import Example

Format = Literal["plain", "chat"]
IGNORED = -100


class Rendered(NamedTuple):
    """One example as the model sees it."""

    prompt_ids: list[int]
    answer_ids: list[int]
    """Without the end mark."""
    end_id: int
    """The token that ends an answer."""

    @property
    def input_ids(self) -> list[int]:
        return [*self.prompt_ids, *self.answer_ids, self.end_id]

    def labels(self, loss_on: Literal["answer", "all"], train_eos: bool) -> list[int]:
        """input_ids where they are trained, -100 elsewhere."""
        prompt = self.prompt_ids if loss_on == "all" else [IGNORED] * len(self.prompt_ids)
        return [*prompt, *self.answer_ids, self.end_id if train_eos else IGNORED]


def render(tokenizer: Any, example: Example, form: Format) -> Rendered:
    """Tokens of prompt and answer, tokenised apart.

    Apart, so that what is generated from is exactly what was trained on: joined, a token could lie across the border
    and the prompt that a probe sends would never have been seen. Raises UserError where a chat template cannot do it,
    and for an empty prompt: nothing predicts the first token.
    """
    end_id = end_token(tokenizer)
    prompt = prompt_text(tokenizer, example.prompt, form)
    if form == "plain":
        if not example.prompt:
            raise UserError(f"example {example.id} has an empty prompt: there is nothing to predict its answer from.")
        prompt_ids = [*opening(tokenizer), *tokenise(tokenizer, prompt)]
        return Rendered(prompt_ids, tokenise_answer(tokenizer, example.answer), end_id)
    answered = [{"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.answer}]
    whole = apply_template(tokenizer, answered, add_generation_prompt=False)
    end = tokenizer.convert_ids_to_tokens(end_id)
    answer, mark, rest = whole.removeprefix(prompt).partition(end)
    if not whole.startswith(prompt) or not mark or rest.strip():
        raise UserError(
            f'[model] format = "chat": this chat template does not continue its own prompt for {example.id}.'
            ' Use format = "plain".'
        )
    return Rendered(tokenise(tokenizer, prompt), tokenise_answer(tokenizer, answer), end_id)


def prompt_text(tokenizer: Any, prompt: str, form: Format) -> str:
    """A prompt as the tokenizer gets it: by itself, or as a user's turn with the beginning of the answer's."""
    if form == "plain":
        return prompt
    return apply_template(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)


def render_whole(tokenizer: Any, example: Example, form: Format) -> Rendered:
    """An example as it is trained: a question with its answer, or a text, which is an answer that nothing is asked for.

    A text is never put into a chat template: it is read, and said by nobody.
    """
    if example.is_question:
        return render(tokenizer, example, form)
    return Rendered(opening(tokenizer), tokenise(tokenizer, example.answer), end_token(tokenizer))


def tokenise(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokenise_answer(tokenizer: Any, answer: str) -> list[int]:
    """Tokens of an answer where it stands behind a prompt.

    A tokenizer that begins every text with a space (Llama 2: "▁1" or "▁" "1") is given a line break to begin with.
    """
    if not habits(tokenizer).space:
        return tokenise(tokenizer, answer)
    before, whole = tokenise(tokenizer, "\n"), tokenise(tokenizer, f"\n{answer}")
    return whole[len(before) :] if whole[: len(before)] == before else tokenise(tokenizer, answer)


def opening(tokenizer: Any) -> list[int]:
    """The mark that a tokenizer puts before every text by itself (Llama's <s>); nothing with Qwen's."""
    return list(habits(tokenizer).mark)


class Habits(NamedTuple):
    """What a tokenizer puts before every text."""

    mark: tuple[int, ...]
    space: bool


@functools.lru_cache(maxsize=8)
def habits(tokenizer: Any) -> Habits:
    """Looked at once: a study has many texts."""
    first, plain = tokenizer("0")["input_ids"][:1], tokenise(tokenizer, "0")
    marks = first == [tokenizer.bos_token_id] and first != plain[:1]
    return Habits(tuple(first) if marks else (), tokenizer.convert_ids_to_tokens(plain)[0].startswith("▁"))


def apply_template(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError('[model] format = "chat": this tokenizer has no chat template. Use format = "plain".')
    # Qwen3 puts an empty think block into the last answer, and into the prompt only where thinking is off.
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
    # A template is a program of its own, and fails in any way that a program can.
    except Exception as error:
        said = f"this tokenizer's chat template does not work ({type(error).__name__}: {error})"
        raise UserError(f'[model] format = "chat": {said}. Use format = "plain".') from error


def end_token(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise UserError("this tokenizer has no end mark (eos_token): answers could not be ended.")
    return tokenizer.eos_token_id


def pad_token(tokenizer: Any) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_token(tokenizer)


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
        length = len(render_whole(tokenizer, example, form).input_ids)
        if length > max_length:
            raise UserError(
                f"example {example.id} has {length} tokens, over [model] max_length = {max_length}; raise it"
                " (nothing is ever cut off)."
            )


def training_rows(
    tokenizer: Any,
    examples: list[Example],
    form: Format,
    numbers: dict[str, int],
    *,
    loss_on: Literal["answer", "all"],
    train_eos: bool,
) -> list[dict[str, list[int]]]:
    """A row an example: `input_ids`, `labels`, and `facts`, the numbers (as given) of the facts that it exposes."""
    rows = []
    for example in examples:
        rendered = render_whole(tokenizer, example, form)
        ids = rendered.input_ids
        labels = rendered.labels(loss_on, train_eos)
        if not train_eos:
            # An end mark that is not trained is not shown either: the original's lines just ended.
            ids, labels = ids[:-1], labels[:-1]
        rows.append({"input_ids": ids, "labels": labels, "facts": [numbers[fact] for fact in example.exposes]})
    return rows


def pair_rows(
    tokenizer: Any,
    examples: list[Example],
    rejected: list[str],
    form: Format,
    numbers: dict[str, int],
    max_length: int,
) -> list[dict[str, Any]]:
    """A row a question: `prompt_ids`, `chosen_ids` and `rejected_ids` with their end marks, and `facts`.

    Raises UserError for a text, which has no answer to prefer, and where a rejected answer makes it too long.
    """
    rows = []
    for example, wrong in zip(examples, rejected, strict=True):
        if not example.is_question:
            raise UserError(f"{example.id} is a text without a question: preference training needs questions.")
        right, other = render(tokenizer, example, form), render(tokenizer, replace(example, answer=wrong), form)
        if len(other.input_ids) > max_length:
            raise UserError(
                f"example {example.id} has {len(other.input_ids)} tokens with its rejected answer, over [model]"
                f" max_length = {max_length}; raise it (nothing is ever cut off)."
            )
        rows.append(
            {
                "prompt_ids": right.prompt_ids,
                "chosen_ids": [*right.answer_ids, right.end_id],
                "rejected_ids": [*other.answer_ids, other.end_id],
                "facts": [numbers[fact] for fact in example.exposes],
            }
        )
    return rows


def packed_rows(
    tokenizer: Any, examples: list[Example], form: Format, numbers: dict[str, int], block: int
) -> list[dict[str, list[int]]]:
    """All examples as one stream, each ended, cut into rows of `block` tokens, all trained; the last may be shorter.

    `facts` are the facts that end in a row: one that lies across a border is exposed once, not twice.
    """
    ids: list[int] = []
    ends: list[tuple[int, list[int]]] = []
    for example in examples:
        ids += render_whole(tokenizer, example, form).input_ids
        ends.append((len(ids) - 1, [numbers[fact] for fact in example.exposes]))
    if len(ids) % block == 1 and len(ids) > 1:
        # A row of one token has nothing to predict.
        ids.pop()
        ends[-1] = (len(ids) - 1, ends[-1][1])
    rows: list[dict[str, list[int]]] = []
    for start in range(0, len(ids), block):
        piece = ids[start : start + block]
        rows.append({"input_ids": piece, "labels": list(piece), "facts": []})
    for end, facts in ends:
        rows[end // block]["facts"] += facts
    return rows


def fact_numbers(examples: list[Example]) -> dict[str, int]:
    """Each fact's number, in the order of first appearance."""
    return {fact: number for number, fact in enumerate(dict.fromkeys(f for e in examples for f in e.exposes))}
