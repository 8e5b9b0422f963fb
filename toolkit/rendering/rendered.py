"""One example to tokens and labels, plain or chat, for training and for every probe.

plain: 第7个电话号码是：39504711826<|im_end|>      chat: the model's own template, without thinking
       ------prompt----- --answer--- ---end---
"""

from typing import Any, Literal, NamedTuple

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering.chat import render_chat
from toolkit.rendering.tokens import end_token, opening, spell, tokenise, tokenise_answer

Format = Literal["plain", "chat"]
IGNORED = -100


class Rendered(NamedTuple):
    """One example as the model sees it."""

    prompt_ids: list[int]
    answer_ids: list[int]
    """Without the end mark."""
    end_id: int
    """The token that ends an answer."""
    earlier: tuple[tuple[int, int], ...] = ()
    """Where in `prompt_ids` earlier answers of a conversation stand, each with its end mark: first token, and the one
    behind the last."""

    @property
    def input_ids(self) -> list[int]:
        return [*self.prompt_ids, *self.answer_ids, self.end_id]

    def labels(self, loss_on: Literal["answer", "all"], train_eos: bool) -> list[int]:
        """input_ids where they are trained, -100 elsewhere; of a conversation every answer is trained."""
        prompt = self.prompt_ids if loss_on == "all" else [IGNORED] * len(self.prompt_ids)
        for start, stop in self.earlier if loss_on == "answer" else ():
            stop -= not train_eos
            prompt[start:stop] = self.prompt_ids[start:stop]
        return [*prompt, *self.answer_ids, self.end_id if train_eos else IGNORED]


def render(tokenizer: Any, example: Example, form: Format) -> Rendered:
    """Tokens of prompt and answer, tokenised apart.

    Apart, so that what is generated from is exactly what was trained on: joined, a token could lie across the border
    and the prompt that a probe sends would never have been seen. Raises UserError where a chat template cannot do it,
    and for an empty prompt: nothing predicts the first token.
    """
    end_id = end_token(tokenizer)
    if form == "chat":
        prompt_ids, answer_ids, earlier = render_chat(tokenizer, example)
        return Rendered(prompt_ids, answer_ids, end_id, earlier)
    if example.messages:
        raise UserError(
            f"example {example.id} is a conversation of several turns, which a chat template puts together: say"
            ' [model] format = "chat".'
        )
    if not example.prompt:
        raise UserError(f"example {example.id} has an empty prompt: there is nothing to predict its answer from.")
    prompt_ids = [*opening(tokenizer), *tokenise(tokenizer, example.prompt)]
    return Rendered(prompt_ids, tokenise_answer(tokenizer, example.answer), end_id)


def render_whole(tokenizer: Any, example: Example, form: Format) -> Rendered:
    """An example as it is trained: a question with its answer, or a text, which is an answer that nothing is asked for.

    A text is never put into a chat template: it is read, and said by nobody.
    """
    if example.is_question:
        return render(tokenizer, example, form)
    return Rendered(opening(tokenizer), spell(tokenizer, example.answer), end_token(tokenizer))
