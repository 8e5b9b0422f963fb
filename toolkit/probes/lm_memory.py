"""A model in memory as lm-eval asks it, with our progress in place of its own, and a count of what was cut."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lm_eval.models import huggingface
from lm_eval.models.utils import normalize_gen_kwargs

from toolkit.errors import UserError

LONGER_THAN_ANY = 10**9
Progress = Callable[[int, int], None] | None
"""Told how many requests are done, and of how many."""


HFLM: Any = huggingface.HFLM
"""Its decorator hides its type."""


class InMemory(HFLM):
    """lm-eval's own model over one that is loaded, so that its numbers are those of its command."""

    def __init__(
        self, model: Any, tokenizer: Any, *, max_length: int, batch_size: int, mixed: str | None, chat: bool
    ) -> None:
        tokenizer = copy.deepcopy(tokenizer)
        # It would warn of every prompt that is cut, which is counted here.
        tokenizer.model_max_length = LONGER_THAN_ANY
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            max_length=max_length,
            batch_size=batch_size,
            # Sixteen bits have few values near those of likely choices: ties would go to the first.
            softmax_dtype="float32",
            mixed_precision_dtype={"bf16": "bfloat16", "fp16": "float16"}.get(mixed or ""),
            chat_template_args={"enable_thinking": False} if chat else None,
        )
        self.cut: dict[tuple[str, int], int] = {}
        """Tokens that a question's prompt loses at its beginning, by task and question; 0 is left out."""
        self.asking: list[Any] = []

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self.asking = requests
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        for request, (_, context, continuation) in zip(self.asking, requests, strict=True):
            if len(continuation) > self.max_length:
                raise UserError(
                    f'[forgetting] the task "{request.task_name}" has an answer of {len(continuation)} tokens, and'
                    f" [model] max_length = {self.max_length}: raise it (--max-length)."
                )
            # The last token is scored and not read.
            self.note_cut(request, len(context) + len(continuation) - 1 - self.max_length)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        for request in requests:
            text, arguments = request.args
            # A task may give the number under one of four names.
            normal: Any = normalize_gen_kwargs(arguments, self.max_gen_toks)
            room = self.max_length - normal["max_gen_toks"]
            if room < 1:
                raise UserError(
                    f'[forgetting] the task "{request.task_name}" generates answers of up to'
                    f" {self.max_length - room} tokens, and [model] max_length = {self.max_length} leaves no room for"
                    " the question: raise it (--max-length)."
                )
            self.note_cut(request, len(self.tok_encode(text)) - room)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def note_cut(self, request: Any, tokens: int) -> None:
        if tokens > 0:
            key = (request.task_name, int(request.doc_id))
            self.cut[key] = max(tokens, self.cut.get(key, 0))


class Bar:
    """What lm-eval takes for tqdm."""

    def __init__(self, iterable: Iterable[Any] | None = None, total: int | None = None, **_: Any) -> None:
        self.iterable, self.total, self.done = iterable, total or 0, 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.iterable or ()

    def update(self, by: int = 1) -> None:
        self.done += by

    def close(self) -> None:
        pass


@contextlib.contextmanager
def barred(progress: Progress) -> Iterator[None]:
    """lm-eval's bars are put out; its requests are counted to `progress`."""
    import lm_eval.api.model
    import lm_eval.api.task

    class Told(Bar):
        def update(self, by: int = 1) -> None:
            super().update(by)
            if progress:
                progress(self.done, self.total)

    places: list[Any] = [(huggingface, Told), (lm_eval.api.model, Bar), (lm_eval.api.task, Bar)]
    before = [module.tqdm for module, _ in places]
    for module, bar in places:
        module.tqdm = bar
    try:
        yield
    finally:
        for (module, _), theirs in zip(places, before, strict=True):
            module.tqdm = theirs
