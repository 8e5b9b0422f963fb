"""Log-probabilities of given answers in one forward pass, and generated text."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch

from toolkit.models.loaded import Loaded
from toolkit.models.shards import spread
from toolkit.rendering import Rendered, end_token, pad_token


class Score(NamedTuple):
    """What one teacher-forced pass says of one answer; lists have an entry a token of the answer."""

    bits: list[float]
    """-log2 p of each token, from a float32 log-softmax."""
    correct: list[bool]
    """Whether greedy decoding would emit the token here, everything before it given."""
    end_bits: float
    """-log2 p of the end mark after the answer."""
    stopped: bool
    """Whether greedy decoding would end there."""
    prompt_bits: list[float]
    """-log2 p of the prompt's tokens from the second on."""
    predicted: list[int]
    """The greedy token at each position of the answer."""


def score(loaded: Loaded, items: list[Rendered], batch_size: int) -> list[Score]:
    """Scores of answers, in the order given. The model must be in evaluation mode, without gradients.

    Items of like length share a batch. Batches are padded on the right: Unsloth's GPU path drops the attention mask of
    training-like passes, and padding after the last token cannot reach the tokens before it.
    """
    batches = list(batches_by_length([len(item.input_ids) for item in items], batch_size))

    def score_some(some: list[list[int]]) -> list[list[Score]]:
        return [score_batch(loaded, [items[number] for number in numbers]) for numbers in some]

    return in_order(batches, spread(loaded.model, batches, score_some))


def score_batch(loaded: Loaded, batch: list[Rendered]) -> list[Score]:
    """Scores of what fits into one forward pass."""
    scores = []
    rows = [torch.tensor(item.input_ids) for item in batch]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_token(loaded.tokenizer))
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    ids, mask = ids.to(loaded.model.device), mask.to(loaded.model.device)
    logits = loaded.model(input_ids=ids, attention_mask=mask).logits
    for row, item in enumerate(batch):
        length = len(item.input_ids)
        # In float32 a row at a time: a batch of a large vocabulary would not fit.
        log_p = torch.log_softmax(logits[row, : length - 1].float(), dim=-1)
        targets = ids[row, 1:length]
        bits = (-log_p.gather(1, targets[:, None])[:, 0] / torch.log(torch.tensor(2.0))).tolist()
        greedy = log_p.argmax(dim=-1)
        correct = (greedy == targets).tolist()
        start = len(item.prompt_ids) - 1
        end = start + len(item.answer_ids)
        scores.append(
            Score(
                bits=bits[start:end],
                correct=correct[start:end],
                end_bits=bits[end],
                stopped=correct[end],
                prompt_bits=bits[:start],
                predicted=greedy[start:end].tolist(),
            )
        )
    return scores


class Generated(NamedTuple):
    """What the model says by itself."""

    text: str
    ids: list[int]
    """Without the end mark."""
    probabilities: list[float]
    """Of each token, under the plain softmax; the end mark's comes last where it ended by itself. Empty where they
    were not asked for."""
    ended: bool
    """Whether it ended by itself, and not at the limit."""


def generate(
    loaded: Loaded,
    engine: ModuleType,
    prompts: list[list[int]],
    max_new_tokens: int,
    batch_size: int,
    *,
    temperature: float | None = None,
    with_probabilities: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Generated]:
    """Greedy continuations, or sampled ones at a temperature, in the order given; the checkpoint's own sampling
    defaults are all off.

    Prompts of like length share a batch, the longest ones the first: what does not fit into memory fails at once.
    Where texts are sampled the caller seeds torch, and what is drawn for a prompt depends on its neighbours in the
    batch: the same only for the same prompts and batch size, on however many processes.

    with_probabilities: holds the logits of a batch's every step, which for long texts and a large vocabulary is
    gigabytes. progress: told how many texts of how many are done, after each batch.
    """
    from transformers import GenerationConfig

    model, tokenizer = loaded.model, loaded.tokenizer
    own_defaults = model.generation_config
    # transformers fills what is not said from the checkpoint's own file (Qwen3 samples by default).
    model.generation_config = GenerationConfig(eos_token_id=end_token(tokenizer), pad_token_id=pad_token(tokenizer))
    engine.for_inference(model)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
    if temperature is not None:
        settings |= {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    batches = list(batches_by_length([len(prompt) for prompt in prompts], batch_size))

    # Drawn once, so that a batch's texts depend neither on those before it nor on which process writes it.
    drawn = int(torch.randint(2**31, ())) if temperature is not None else None

    def write_some(some: list[tuple[int, list[int]]]) -> list[list[Generated]]:
        said, done = [], 0
        for place, numbers in some:
            if drawn is not None:
                torch.manual_seed((drawn + place) % 2**31)
            batch = [prompts[number] for number in numbers]
            said.append(generate_batch(loaded, batch, settings, with_probabilities))
            done += len(batch)
            progress(done * len(prompts) // max(1, sum(len(own) for _, own in some)), len(prompts))
        return said

    try:
        return in_order(batches, spread(model, list(enumerate(batches)), write_some))
    finally:
        model.generation_config = own_defaults


def generate_batch(
    loaded: Loaded, batch: list[list[int]], settings: dict[str, Any], with_probabilities: bool
) -> list[Generated]:
    """Continuations of what is written at a time, padded on the left."""
    model, tokenizer = loaded.model, loaded.tokenizer
    end, pad = end_token(tokenizer), pad_token(tokenizer)
    width = max(len(prompt) for prompt in batch)
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in batch], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch], device=model.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        eos_token_id=end,
        pad_token_id=pad,
        use_cache=True,
        return_dict_in_generate=True,
        output_logits=with_probabilities,
        **settings,
    )
    new, logits = output.sequences[:, width:], output.logits if with_probabilities else None
    # Its cache of keys and values would stay while the next batch makes one.
    del output
    probabilities = None
    if logits is not None:
        log_p = [step.float().log_softmax(-1).gather(1, new[:, [i]])[:, 0] for i, step in enumerate(logits)]
        del logits
        probabilities = torch.stack(log_p, dim=1).exp()
    results = []
    for row, tokens in enumerate(new.tolist()):
        length = tokens.index(end) if end in tokens else len(tokens)
        chances = [] if probabilities is None else probabilities[row, : length + 1].tolist()
        text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
        results.append(Generated(text, tokens[:length], chances, length < len(tokens)))
    return results


def in_order(batches: list[list[int]], done: list[list[Any]]) -> list[Any]:
    """What was made of each item, by the items' numbers."""
    by_number = {
        number: each
        for numbers, made in zip(batches, done, strict=True)
        for number, each in zip(numbers, made, strict=True)
    }
    return [by_number[number] for number in range(len(by_number))]


def batches_by_length(lengths: list[int], size: int) -> Iterator[list[int]]:
    """The numbers of items, the longest first and in their order among equals, so many at a time."""
    yield from chunks(sorted(range(len(lengths)), key=lambda number: -lengths[number]), size)


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
