"""Examples to tokens: what is trained, what is asked, and what is refused."""

import dataclasses
from types import ModuleType
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.rendering import (
    IGNORED,
    end_token,
    fact_numbers,
    packed_rows,
    pad_token,
    refuse_merged_digits,
    refuse_too_long,
    render,
    training_rows,
)

PHONE = Example("phone-7", "phone-7", "第7个电话号码是：", "39504711826", "train")
OTHER = Example("phone-12", "phone-12", "第12个电话号码是：", "00134445789", "train")
THINKING = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"第{i}个电话号码是：{i * 7919:011d}" for i in range(1000, 1200)]


@pytest.fixture(scope="module")
def trained_tokenizer(engine: ModuleType, texts: list[str]) -> Any:
    from toolkit.models.from_scratch import train_tokenizer

    return train_tokenizer(texts, 330)


@pytest.fixture
def tokenizer(trained_tokenizer: Any) -> Any:
    """A copy, as tests change it."""
    import copy

    return copy.deepcopy(trained_tokenizer)


def rows(tokenizer: Any, examples: list[Example], **changes: Any) -> list[dict[str, list[int]]]:
    settings = {"loss_on": "answer", "train_eos": True} | changes
    form = settings.pop("form", "plain")
    return training_rows(tokenizer, examples, form, fact_numbers(examples), **settings)


def trained_text(tokenizer: Any, row: dict[str, list[int]]) -> str:
    """What the loss is on, as text. Labels are the tokens themselves: the model shifts them."""
    assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


# --- plain ---


def test_plain_trains_the_answer_and_the_end_mark_and_nothing_of_the_prompt(tokenizer: Any) -> None:
    (row,) = rows(tokenizer, [PHONE])
    assert tokenizer.decode(row["input_ids"]) == "第7个电话号码是：39504711826<|im_end|>"
    assert trained_text(tokenizer, row) == "39504711826<|im_end|>"


def test_loss_on_all_trains_the_whole_line(tokenizer: Any) -> None:
    (row,) = rows(tokenizer, [PHONE], loss_on="all")
    assert row["labels"] == row["input_ids"]
    assert trained_text(tokenizer, row) == "第7个电话号码是：39504711826<|im_end|>"


@pytest.mark.parametrize(("loss_on", "trained"), [("answer", "39504711826"), ("all", "第7个电话号码是：39504711826")])
def test_an_end_mark_that_is_not_trained_is_not_shown_either(tokenizer: Any, loss_on: str, trained: str) -> None:
    (row,) = rows(tokenizer, [PHONE], loss_on=loss_on, train_eos=False)
    assert tokenizer.decode(row["input_ids"]) == "第7个电话号码是：39504711826"
    assert trained_text(tokenizer, row) == trained


def test_the_whole_line_tokenised_at_once_is_prompt_and_answer_apart(tokenizer: Any, texts: list[str]) -> None:
    for line in texts:
        prompt, answer = line[:-11], line[-11:]
        rendered = render(tokenizer, Example("x", "x", prompt, answer, "train"), "plain")
        joined = tokenizer(line, add_special_tokens=False)["input_ids"]
        assert joined == rendered.prompt_ids + rendered.answer_ids
        assert len(rendered.answer_ids) == 11


def test_rows_carry_the_numbers_of_the_facts_that_they_expose(tokenizer: Any) -> None:
    both = Example("list", "list", "1 ", "2", "train", facts=("phone-12", "phone-7"))
    given = rows(tokenizer, [PHONE, OTHER, both])
    assert fact_numbers([PHONE, OTHER, both]) == {"phone-7": 0, "phone-12": 1}
    assert [row["facts"] for row in given] == [[0], [1], [1, 0]]


# --- chat ---


def test_chat_puts_an_empty_think_block_into_the_prompt(tokenizer: Any) -> None:
    rendered = render(tokenizer, PHONE, "chat")
    said = f"<|im_start|>user\n第7个电话号码是：<|im_end|>\n<|im_start|>assistant\n{THINKING}"
    assert tokenizer.decode(rendered.prompt_ids) == said
    # The turns and thinking are marked by tokens of their own, not spelled.
    for mark in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"):
        assert tokenizer.convert_tokens_to_ids(mark) in rendered.prompt_ids


def test_chat_trains_the_answer_and_the_end_mark_and_no_line_break_after_it(tokenizer: Any) -> None:
    (row,) = rows(tokenizer, [PHONE], form="chat")
    assert trained_text(tokenizer, row) == "39504711826<|im_end|>"
    assert row["input_ids"][-1] == end_token(tokenizer)


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_the_prompt_of_training_is_that_of_asking_token_for_token(tokenizer: Any, form: Any) -> None:
    (row,) = rows(tokenizer, [PHONE], form=form)
    prompt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED]
    unknown = dataclasses.replace(PHONE, answer="")
    assert render(tokenizer, unknown, form).prompt_ids == prompt
    if form == "chat":
        # And that of anyone who asks by the template.
        asked = [{"role": "user", "content": PHONE.prompt}]
        by_template = tokenizer.apply_chat_template(asked, add_generation_prompt=True, enable_thinking=False)
        assert by_template["input_ids"] == prompt


@pytest.mark.parametrize(
    "template",
    [
        # Thinking in the last answer, and not in the prompt.
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{{ 'Answer: ' }}{% endif %}",
        # No end mark after the answer.
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        # More text after the end mark.
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{{ 'over' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    ],
    ids=["prompt and answer differ", "no end mark", "text after the end mark"],
)
def test_a_template_that_does_not_continue_its_own_prompt_is_refused(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=r'does not continue its own prompt for phone-7.*format = "plain"'):
        render(tokenizer, PHONE, "chat")


def test_chat_without_a_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r'no chat template\. Use format = "plain"'):
        render(tokenizer, PHONE, "chat")
    assert render(tokenizer, PHONE, "plain").answer_ids


# --- what cannot be trained or asked ---


def test_a_tokenizer_without_an_end_mark_is_refused(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end mark"):
        render(tokenizer, PHONE, "plain")


def test_padding_is_the_pad_token_and_without_one_the_end_mark(tokenizer: Any) -> None:
    assert tokenizer.decode([pad_token(tokenizer)]) == "<|endoftext|>"
    tokenizer.pad_token = None
    assert pad_token(tokenizer) == end_token(tokenizer)


def test_an_empty_prompt_is_refused_as_nothing_predicts_the_first_token(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="phone-7 has an empty prompt"):
        render(tokenizer, dataclasses.replace(PHONE, prompt=""), "plain")


def merging_tokenizer() -> Any:
    """A tokenizer that makes one token of two digits, as many do."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.train_from_iterator(
        ["11"] * 50, trainers.BpeTrainer(vocab_size=20, initial_alphabet=list("0123456789"), show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def test_a_tokenizer_that_merges_digits_is_refused_with_the_number(engine: ModuleType, tokenizer: Any) -> None:
    merging = merging_tokenizer()
    split = dataclasses.replace(PHONE, answer="12345678900")
    merged = dataclasses.replace(PHONE, answer="12345678911")
    assert len(merging(merged.answer, add_special_tokens=False)["input_ids"]) == 10
    refuse_merged_digits(merging, [split])
    with pytest.raises(UserError, match="each digit of 12345678911 a token of its own"):
        refuse_merged_digits(merging, [split, merged])
    refuse_merged_digits(tokenizer, [split, merged])
    # Words may be merged: no digits are counted in them.
    refuse_merged_digits(merging, [dataclasses.replace(PHONE, answer="11 and 11")])


def test_what_is_too_long_is_refused_with_its_length_and_never_cut(tokenizer: Any) -> None:
    length = len(rows(tokenizer, [PHONE])[0]["input_ids"])
    refuse_too_long(tokenizer, [PHONE], "plain", length)
    with pytest.raises(UserError, match=rf"phone-7 has {length} tokens, over \[model\] max_length = {length - 1}"):
        refuse_too_long(tokenizer, [PHONE], "plain", length - 1)


# --- packed ---


def test_packed_rows_are_one_stream_in_blocks_all_trained_and_nothing_dropped(tokenizer: Any, texts: list[str]) -> None:
    examples = [Example(f"x{i}", f"x{i}", line[:-11], line[-11:], "train") for i, line in enumerate(texts[:20])]
    stream = [token for example in examples for token in render(tokenizer, example, "plain").input_ids]
    packed = packed_rows(tokenizer, examples, "plain", fact_numbers(examples), 32)
    assert {len(row["input_ids"]) for row in packed[:-1]} == {32}
    assert all(row["labels"] == row["input_ids"] for row in packed)
    assert [token for row in packed for token in row["input_ids"]] == stream


def test_a_fact_that_lies_across_a_border_is_exposed_once_where_it_ends(tokenizer: Any) -> None:
    examples = [PHONE, OTHER, dataclasses.replace(PHONE, id="last", fact="last")]
    lengths = [len(render(tokenizer, example, "plain").input_ids) for example in examples]
    # The second row starts with the last token of the second example.
    block = lengths[0] + lengths[1] - 1
    packed = packed_rows(tokenizer, examples, "plain", fact_numbers(examples), block)
    assert [row["facts"] for row in packed] == [[0], [1, 2]]
    packed = packed_rows(tokenizer, examples, "plain", fact_numbers(examples), lengths[0])
    assert sorted(number for row in packed for number in row["facts"]) == [0, 1, 2]


def test_a_stream_that_fills_its_blocks_has_no_short_row(tokenizer: Any) -> None:
    length = len(render(tokenizer, PHONE, "plain").input_ids)
    packed = packed_rows(tokenizer, [PHONE, PHONE], "plain", fact_numbers([PHONE]), length)
    assert [tokenizer.decode(row["input_ids"]) for row in packed] == ["第7个电话号码是：39504711826<|im_end|>"] * 2


def test_a_row_of_one_token_which_has_nothing_to_predict_is_left_out_and_its_fact_still_counted(tokenizer: Any) -> None:
    length = len(render(tokenizer, PHONE, "plain").input_ids)
    (row,) = packed_rows(tokenizer, [PHONE], "plain", fact_numbers([PHONE]), length - 1)
    assert len(row["input_ids"]) == length - 1
    assert row["facts"] == [0]


# --- tokenizers of other families ---


@pytest.fixture(scope="module")
def llama() -> Any:
    """A tokenizer built as Llama 2's is: a mark before each text, a space before its first word, bytes for the rest."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"0123456789abcdefgh是码："]
    inner = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate([*pieces, "▁a", "▁1"])}, [("▁", "a"), ("▁", "1")],
                   unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )  # fmt: skip
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_a_mark_before_every_text_stands_before_prompts_and_texts(llama: Any, tokenizer: Any) -> None:
    rendered = render(llama, PHONE, "plain")
    assert rendered.prompt_ids == llama(PHONE.prompt)["input_ids"]
    assert rendered.prompt_ids[0] == llama.bos_token_id
    assert llama.bos_token_id not in rendered.answer_ids
    text = Example("t", "t", "", "abc", "train")
    (packed,) = packed_rows(llama, [text], "plain", fact_numbers([text]), 64)
    assert packed["input_ids"] == [*llama("abc")["input_ids"], llama.eos_token_id]
    assert (
        render(tokenizer, PHONE, "plain").prompt_ids == tokenizer(PHONE.prompt, add_special_tokens=False)["input_ids"]
    )


def test_no_space_comes_between_a_prompt_and_its_answer(llama: Any) -> None:
    for answer in ("39504711826", "1", "abc 12", "码a"):
        example = dataclasses.replace(PHONE, answer=answer)
        rendered = render(llama, example, "plain")
        assert llama.decode([*rendered.prompt_ids[1:], *rendered.answer_ids]).lstrip(" ") == PHONE.prompt + answer


def test_digits_are_tokens_of_their_own_behind_a_prompt(llama: Any) -> None:
    assert llama.convert_ids_to_tokens(llama("12", add_special_tokens=False)["input_ids"]) == ["▁1", "2"]
    refuse_merged_digits(llama, [PHONE, OTHER])
    assert llama.convert_ids_to_tokens(render(llama, PHONE, "plain").answer_ids) == list(PHONE.answer)


def test_merged_digits_are_refused_where_all_answers_are_numbers_only() -> None:
    merging = _merging()
    with pytest.raises(UserError, match="39504711826"):
        refuse_merged_digits(merging, [PHONE, OTHER])
    words = dataclasses.replace(OTHER, answer="many of them")
    refuse_merged_digits(merging, [PHONE, words])


def _merging() -> Any:
    """A tokenizer that makes one token of two digits."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "</s>", *"0123456789", *(f"{i:02d}" for i in range(100))]
    merges = [(f"{i:02d}"[0], f"{i:02d}"[1]) for i in range(100)]
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")
