"""A conversation by the model's own chat template: which of its text is an answer, and which only leads there.

<|im_start|>user⏎Who are you?<|im_end|>⏎<|im_start|>assistant⏎A mill.<|im_end|>⏎<|im_start|>user⏎Where?<|im_end|>⏎…
                                                              ~~~~~~~~~~~~~~~~~ trained
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering.tokens import end_token, spells_mark, tokenise, tokenise_answer, tokenise_between

Turn = dict[str, str]


class Pieces(NamedTuple):
    """What a template puts around the contents: `around` has one text more than there are turns."""

    around: tuple[str, ...]

    def fill(self, contents: Sequence[str]) -> str:
        return "".join(piece + content for piece, content in zip(self.around, [*contents, ""], strict=True))


class Chat(NamedTuple):
    """A rendered conversation, in tokens."""

    prompt_ids: list[int]
    answer_ids: list[int]
    earlier: tuple[tuple[int, int], ...]


def render_chat(tokenizer: Any, example: Example) -> Chat:
    """Tokens of a conversation's prompt and last answer, and where earlier answers with their end marks stand in it.

    What a template puts between the end of its prompt and an answer, or between an answer and its end mark (Llama 2's
    spaces), is answered too. Raises UserError where the template changes a text, and where it does not continue its own
    prompt or does not end an answer: what is trained would not be what is said.
    """
    asked = [*example.messages, {"role": "user", "content": example.prompt}]
    turns = [*asked, {"role": "assistant", "content": example.answer}]
    prompt = apply_template(tokenizer, asked, add_generation_prompt=True)
    whole = apply_template(tokenizer, turns, add_generation_prompt=False)
    pieces = Pieces(skeleton(tokenizer, tokenizer.chat_template, tuple(turn["role"] for turn in turns)))
    refuse_changed(pieces, turns, whole, example.id)
    before = whole[: len(whole) - len(example.answer) - len(pieces.around[-1])]
    lead = before.removeprefix(prompt)
    tail, mark, rest = pieces.around[-1].partition(end_text(tokenizer))
    if not before.startswith(prompt) or lead.strip() or tail.strip() or not mark or rest.strip():
        raise no_continuation(example.id)
    ids: list[int] = []
    earlier = []
    stretch = [pieces.around[0]]
    for turn, piece in zip(turns, pieces.around[1:], strict=True):
        if turn["role"] != "assistant":
            stretch += [turn["content"], piece]
            continue
        if not stretch[-1].endswith(lead) or not piece.startswith(tail + mark):
            raise no_continuation(example.id)
        ids += tokens_of([*stretch[:-1], stretch[-1].removesuffix(lead)], tokenizer, first=not ids)
        start = len(ids)
        ids += [*tokenise_answer(tokenizer, lead + turn["content"] + tail), end_token(tokenizer)]
        earlier.append((start, len(ids)))
        stretch = [piece.removeprefix(tail + mark)]
    start, stop = earlier.pop()
    return Chat(ids[:start], ids[start : stop - 1], tuple(earlier))


def tokens_of(stretch: list[str], tokenizer: Any, *, first: bool) -> list[int]:
    """Tokens of a template's text and what others said in it, by turns, in one go.

    Piece by piece only where somebody speaks of a mark: there it is spelled.
    """
    between = tokenise if first else tokenise_between
    if not any(spells_mark(tokenizer, said) for said in stretch[1::2]):
        return between(tokenizer, "".join(stretch))
    ids = between(tokenizer, stretch[0])
    for said, piece in zip(stretch[1::2], stretch[2::2], strict=True):
        ids += [*tokenise_answer(tokenizer, said), *tokenise_between(tokenizer, piece)]
    return ids


@functools.lru_cache(maxsize=64)
def skeleton(tokenizer: Any, template: str, roles: tuple[str, ...]) -> tuple[str, ...]:
    """The texts around the contents of turns of these roles.

    Raises UserError where a content is not there, or out of order.
    """
    # Private-use characters, so that no template strips or splits them.
    places = [f"\ue000{number}\ue001" for number in range(len(roles))]
    turns = [{"role": role, "content": place} for role, place in zip(roles, places, strict=True)]
    rest = apply_template(tokenizer, turns, add_generation_prompt=False)
    around = []
    for place, role in zip(places, roles, strict=True):
        piece, found, rest = rest.partition(place)
        if not found or place in rest:
            raise UserError(
                f'[model] format = "chat": this chat template does not say each turn once and in order (a {role}\'s of'
                f" {', '.join(roles)}). Use another template, or conversations without it."
            )
        around.append(piece)
    return (*around, rest)


def refuse_changed(pieces: Pieces, turns: list[Turn], whole: str, name: str) -> None:
    """Raises UserError unless the template says every turn of an example as it is."""
    contents = [turn["content"] for turn in turns]
    if pieces.fill(contents) == whole:
        return
    changed = next(changed_turns(pieces, turns, whole), len(turns) - 1)
    said = turns[changed]["content"]
    shown = said if len(said) <= 60 else f"{said[:40]}…{said[-19:]}"
    raise UserError(
        f'[model] format = "chat": this chat template changes what {name} says, in turn {changed + 1}, {shown!r} (many'
        " strip white space at its ends, Qwen3's also what stands before </think>): change it in the data."
    )


def changed_turns(pieces: Pieces, turns: list[Turn], whole: str) -> Iterator[int]:
    """The turn up to which a rendered conversation is as it should be."""
    contents = [turn["content"] for turn in turns]
    for number in range(len(turns)):
        until = Pieces((*pieces.around[: number + 1], "")).fill(contents[: number + 1])
        if not whole.startswith(until + pieces.around[number + 1]):
            yield number


def end_text(tokenizer: Any) -> str:
    return tokenizer.convert_ids_to_tokens(end_token(tokenizer))


def no_continuation(name: str) -> UserError:
    return UserError(
        f'[model] format = "chat": this chat template does not continue its own prompt for {name}. Use format ='
        ' "plain".'
    )


def prompt_text(tokenizer: Any, prompt: str, form: str) -> str:
    """A prompt as the tokenizer gets it: by itself, or as a user's turn with the beginning of the answer's."""
    if form == "plain":
        return prompt
    return apply_template(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)


def apply_template(tokenizer: Any, messages: list[Turn], *, add_generation_prompt: bool) -> str:
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
