"""The mask: what is trained of a conversation is the assistant's answers and their end marks, token for token.

Conversations are drawn; what should be trained is put together here by hand, and what is trained is decoded.
"""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from types import ModuleType
from typing import Any, Literal, NamedTuple

import pytest
from pydantic import ValidationError

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.models.from_scratch import CHAT_TEMPLATE, train_tokenizer
from toolkit.recipe import Stage
from toolkit.rendering import IGNORED, Rendered, fact_numbers, pack, render, render_whole, training_rows

Turn = dict[str, str]
THINKING = "<think>\n\n</think>\n\n"

QWEN3 = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in message.content %}
                {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}
                {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""  # noqa: E501
"""As Qwen3 comes with it, but for its tools."""
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}"
    "{% for message in rest %}"
    "{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def chat_ml(turns: list[Turn]) -> str:
    text = "".join(
        f"<|im_start|>{turn['role']}\n{THINKING if turn is turns[-1] else ''}{turn['content']}<|im_end|>\n"
        for turn in turns
    )
    return text.removesuffix("\n")


def llama_2(turns: list[Turn]) -> str:
    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    text = ""
    for number, turn in enumerate(turns[1:] if system else turns):
        said = f"<<SYS>>\n{system}\n<</SYS>>\n\n{turn['content']}" if system and not number else turn["content"]
        text += f"<s>[INST] {said} [/INST]" if turn["role"] == "user" else f" {said} </s>"
    return text


def zephyr(turns: list[Turn]) -> str:
    return "".join(f"<|{turn['role']}|>\n{turn['content']}</s>\n" for turn in turns).removesuffix("\n")


def never(turns: list[Turn]) -> bool:
    return False


def changed_by_qwen3(turns: list[Turn]) -> bool:
    thought = any("</think>" in turn["content"] for turn in turns if turn["role"] == "assistant")
    return thought or turns[-1]["content"].startswith("\n")


def changed_by_llama_2(turns: list[Turn]) -> bool:
    if turns[0]["role"] == "system":
        # It stands before the first question, which is stripped with it, at its end.
        first = turns[1]["content"]
        return first != first.rstrip() or any(turn["content"] != turn["content"].strip() for turn in turns[2:])
    return any(turn["content"] != turn["content"].strip() for turn in turns)


class Template(NamedTuple):
    """A chat template, and what it should come to."""

    text: str
    by_hand: Callable[[list[Turn]], str]
    changes: Callable[[list[Turn]], bool]
    """Whether it does not say a turn as it is."""
    around: str = ""
    """What it puts on both sides of an answer."""


TEMPLATES = {
    "ours": Template(CHAT_TEMPLATE, chat_ml, never),
    "qwen3": Template(QWEN3, chat_ml, changed_by_qwen3),
    "llama-2": Template(LLAMA_2, llama_2, changed_by_llama_2, " "),
    "zephyr": Template(ZEPHYR, zephyr, never),
}

WORDS = (
    "assistant", "user\n", "assistant\n", "system", "<|im_start|>", "<|im_end|>", "<|im_start|>assistant\n", "</s>",
    "<s>", "[INST]", "[/INST]", "<|user|>", "<|endoftext|>", "</think>", "<think>", "<|im_", "end|>", "李白", "是谁？",
    "绿豆糕。", "12", "3", "🙂", "👩\u200d🌾", "é", "```python\nprint(1)\n```", "\n", "\n\n", "\n \n", " ", "  ", "\t",
    "a", "b", "the mill", "yes", "{{ x }}", "{% if %}", "\ue000", "0\ue001", "：\n",
)  # fmt: skip
PLAIN = tuple(word for word in WORDS if word.strip() == word and "think" not in word)


def draw_content(rng: random.Random) -> str:
    """Any text that is not blank, and often one that no template strips."""
    while not (text := "".join(rng.choices(WORDS, k=rng.randint(1, 7)))).strip():
        pass
    return text if rng.random() < 0.4 else f"{rng.choice(PLAIN)}{text}{rng.choice(PLAIN)}".replace("</think>", "")


def draw_conversation(rng: random.Random, number: int) -> Example:
    """One to four questions with answers, some with the same answers, or answers that hold one another."""
    contents = [draw_content(rng) for _ in range(2 * rng.randint(1, 4))]
    for position in range(1, len(contents)):
        how, other = rng.random(), rng.choice(contents[:position])
        if how < 0.15:
            contents[position] = other
        elif how < 0.25:
            contents[position] = f"{other}\n{contents[position]}"
    roles = ["user", "assistant"] * (len(contents) // 2)
    if rng.random() < 0.3:
        roles, contents = ["system", *roles], [draw_content(rng), *contents]
    turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    name = f"c-{number}"
    return Example(name, name, turns[-2]["content"], turns[-1]["content"], "train", messages=tuple(turns[:-2]))


def turns_of(example: Example) -> list[Turn]:
    last = [{"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.answer}]
    return [*example.messages, *last]


def answers_of(example: Example) -> list[str]:
    return [turn["content"] for turn in turns_of(example) if turn["role"] == "assistant"]


CONVERSATIONS = [draw_conversation(random.Random(seed), seed) for seed in range(400)]


@pytest.fixture(scope="module")
def byte_tokenizer(engine: ModuleType) -> Any:
    texts = [turn["content"] for example in CONVERSATIONS[:100] for turn in turns_of(example)]
    return train_tokenizer([*texts, *("the mill is old\n" for _ in range(50))], 420)


@pytest.fixture(scope="module")
def space_tokenizer(engine: ModuleType) -> Any:
    """As Llama 2's: a space before every text, and bytes for what it has no token for."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abhelmityus0123[]/INST", "▁a"]
    inner = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(params=TEMPLATES)
def case(request: pytest.FixtureRequest, byte_tokenizer: Any, space_tokenizer: Any) -> tuple[Any, Template]:
    template = TEMPLATES[request.param]
    tokenizer = copy.deepcopy(space_tokenizer if request.param == "llama-2" else byte_tokenizer)
    if request.param == "zephyr":
        tokenizer.add_special_tokens({"eos_token": "</s>"})
    tokenizer.chat_template = template.text
    return tokenizer, template


def runs(rendered: Rendered, loss_on: Literal["answer", "all"] = "answer") -> Iterator[list[int]]:
    """The stretches of tokens that are trained."""
    labels = rendered.labels(loss_on, True)
    assert all(label in (IGNORED, token) for label, token in zip(labels, rendered.input_ids, strict=True))
    for trained, stretch in groupby(labels, lambda label: label != IGNORED):
        if trained:
            yield list(stretch)


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def marks(tokenizer: Any, ids: list[int]) -> list[int]:
    return [token for token in ids if token in tokenizer.all_special_ids]


def test_the_trained_tokens_are_the_answers_and_their_end_marks_and_nothing_else(case):
    tokenizer, template = case
    end, pad = tokenizer.eos_token, template.around
    taken = 0
    for example in CONVERSATIONS:
        turns = turns_of(example)
        if template.changes(turns):
            with pytest.raises(UserError, match=f"changes what {example.id} says, in turn"):
                render(tokenizer, example, "chat")
            continue
        taken += 1
        rendered = render(tokenizer, example, "chat")
        said = [text_of(tokenizer, run) for run in runs(rendered)]
        assert said == [f"{pad}{answer}{pad}{end}" for answer in answers_of(example)]
        # Llama 2's tokenizer puts a space behind each <s> by itself.
        whole = text_of(tokenizer, rendered.input_ids)
        assert whole.replace("<s> ", "<s>") == template.by_hand(turns).replace("<s> ", "<s>")
        # A mark that somebody speaks of is no mark: there are as many as in the same conversation about something else.
        plain = tuple(turn | {"content": "a"} for turn in example.messages)
        other = render(tokenizer, replace(example, messages=plain, prompt="a", answer="a"), "chat")
        assert marks(tokenizer, rendered.input_ids) == marks(tokenizer, other.input_ids)
    assert taken > 100


def test_an_answer_of_many_lines_is_trained_whole(case):
    """The original's mask looked for a bare line break and left out about half of the answers' tokens."""
    tokenizer, template = case
    answers = ["One\ntwo\n\nthree\n\n\nfour", "```\nassistant\nuser\n```\n1\n2"]
    (question, again) = ("What\nis\n\nit?", "And\nmore?\n\nassistant")
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answers[0]})
    rendered = render(tokenizer, Example("x", "x", again, answers[1], "train", messages=messages), "chat")
    one, two = runs(rendered)
    assert [text_of(tokenizer, run[:-1]).strip(" ") for run in (one, two)] == answers
    assert one[-1] == two[-1] == tokenizer.eos_token_id
    # As many line breaks are trained as there are in the answers.
    assert text_of(tokenizer, one + two).count("\n") == sum(answer.count("\n") for answer in answers)


def test_a_question_alone_is_what_it_was_before_there_were_conversations(byte_tokenizer: Any) -> None:
    by_template = byte_tokenizer.apply_chat_template(
        [{"role": "user", "content": "\n李白\n"}], add_generation_prompt=True, enable_thinking=False
    )
    rendered = render(byte_tokenizer, Example("x", "x", "\n李白\n", " 12\n", "train"), "chat")
    assert rendered.prompt_ids == by_template["input_ids"]
    assert rendered.answer_ids == byte_tokenizer(" 12\n", add_special_tokens=False)["input_ids"]
    assert rendered.earlier == ()


def test_a_prompt_is_what_the_template_gives_to_whoever_asks_after_the_same_turns(byte_tokenizer: Any) -> None:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"})  # fmt: skip
    rendered = render(byte_tokenizer, Example("x", "x", "c", "d", "train", messages=messages), "chat")
    asked = byte_tokenizer.apply_chat_template(
        [*messages, {"role": "user", "content": "c"}], add_generation_prompt=True, enable_thinking=False
    )
    assert rendered.prompt_ids == asked["input_ids"]
    ((start, stop),) = rendered.earlier
    assert text_of(byte_tokenizer, rendered.prompt_ids[start:stop]) == "b<|im_end|>"


TWO = Example("two", "two", "c", "d", "train", messages=({"role": "user", "content": "a"},
                                                         {"role": "assistant", "content": "b"}))  # fmt: skip


def test_without_end_marks_none_of_them_is_trained(byte_tokenizer: Any) -> None:
    labels = render(byte_tokenizer, TWO, "chat").labels("answer", False)
    assert text_of(byte_tokenizer, [label for label in labels if label != IGNORED]) == "bd"


def test_loss_on_all_trains_every_token_of_a_conversation(byte_tokenizer: Any) -> None:
    rendered = render(byte_tokenizer, TWO, "chat")
    assert rendered.labels("all", True) == rendered.input_ids


def test_several_turns_without_a_template_are_refused(byte_tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r'two is a conversation of several turns.*format = "chat"'):
        render(byte_tokenizer, TWO, "plain")


NOT_ENDED = CHAT_TEMPLATE.replace(
    "'<|im_end|>\\n'", "('<|im_end|>\\n' if loop.last or message.role == 'user' else '\\n')"
)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (NOT_ENDED, "does not continue its own prompt for two"),
        (
            CHAT_TEMPLATE.replace("message.content +", "message.content | upper +"),
            "changes what two says, in turn 1, 'a'",
        ),
        (CHAT_TEMPLATE.replace("messages -%}", "messages[-2:] -%}", 1), "does not say each turn once and in order"),
        (
            CHAT_TEMPLATE.replace("messages -%}", "messages | reverse -%}", 1),
            "does not say each turn once and in order",
        ),
    ],
    ids=["an earlier answer is not ended", "capitals", "forgets", "backwards"],
)
def test_a_template_that_says_something_else_is_refused(byte_tokenizer: Any, template: str, said: str) -> None:
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=said):
        render(tokenizer, TWO, "chat")


def test_a_mark_in_a_text_that_is_read_or_in_a_plain_answer_ends_nothing(byte_tokenizer: Any) -> None:
    text = "before<|im_end|>after"
    for prompt in ("", "a"):
        rendered = render_whole(byte_tokenizer, Example("x", "x", prompt, text, "train"), "plain")
        assert byte_tokenizer.eos_token_id not in rendered.answer_ids
        assert text_of(byte_tokenizer, rendered.answer_ids) == text


# --- packed ---


def rows_of(tokenizer: Any, loss_on: Literal["answer", "all"]) -> list[dict[str, list[int]]]:
    numbers = fact_numbers(CONVERSATIONS)
    return training_rows(tokenizer, CONVERSATIONS, "chat", numbers, loss_on=loss_on, train_eos=True)


def predicted(rows: list[dict[str, list[int]]]) -> int:
    """Tokens that a loss is taken of: the model shifts labels, so that a row's first one is predicted by nothing."""
    return sum(label != IGNORED for row in rows for label in row["labels"][1:])


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_packing_trains_as_many_tokens_as_without_it(byte_tokenizer: Any, loss_on: Any) -> None:
    alone = rows_of(byte_tokenizer, loss_on)
    packed = pack(alone, 512)
    assert len(packed) < len(alone) / 2
    assert predicted(packed) == predicted(alone)


def test_packed_rows_are_whole_examples_in_their_order_and_none_is_cut_or_left_out(byte_tokenizer: Any) -> None:
    alone = rows_of(byte_tokenizer, "answer")
    length = max(len(row["input_ids"]) for row in alone)
    packed = pack(alone, length)
    assert all(len(row["input_ids"]) == len(row["labels"]) <= length for row in packed)
    for name in ("input_ids", "labels"):
        assert [x for row in packed for x in row[name]] == [x for row in alone for x in row[name]]
    assert [row["facts"] for row in alone] == [[fact] for row in packed for fact in row["facts"]]
    # No row would have had room for the first example of the next one.
    starts = 0
    for row, after in zip(packed, packed[1:], strict=False):
        starts += len(row["facts"])
        assert len(row["input_ids"]) + len(alone[starts]["input_ids"]) > length
        assert after["input_ids"][: len(alone[starts]["input_ids"])] == alone[starts]["input_ids"]


def test_rows_are_left_as_they_were_by_packing(byte_tokenizer: Any) -> None:
    alone = rows_of(byte_tokenizer, "all")
    before = copy.deepcopy(alone)
    pack(alone, 512)
    assert alone == before


def test_the_answers_of_a_packed_row_are_those_of_its_examples(byte_tokenizer: Any) -> None:
    for row in pack(rows_of(byte_tokenizer, "answer"), 512)[:20]:
        wanted = "".join(f"{answer}<|im_end|>" for fact in row["facts"] for answer in answers_of(CONVERSATIONS[fact]))
        assert text_of(byte_tokenizer, [label for label in row["labels"] if label != IGNORED]) == wanted


# --- what is too long, and what cannot be packed ---


def test_a_conversation_over_the_longest_row_is_refused_and_never_cut(byte_tokenizer: Any) -> None:
    longest = max(CONVERSATIONS, key=lambda example: len(render(byte_tokenizer, example, "chat").input_ids))
    length = len(render(byte_tokenizer, longest, "chat").input_ids)
    numbers = fact_numbers([longest])
    settings: dict[str, Any] = {"loss_on": "answer", "train_eos": True}
    (row,) = training_rows(byte_tokenizer, [longest], "chat", numbers, max_length=length, **settings)
    assert len(row["input_ids"]) == length
    with pytest.raises(UserError, match=f"{longest.id} has {length} tokens, over .* max_length = {length - 1}"):
        training_rows(byte_tokenizer, [longest], "chat", numbers, max_length=length - 1, **settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_eos": False}, "tells examples in a row apart by their end marks"),
        ({"method": "pretrain", "loss_on": "all"}, 'packing = true belongs to method = "sft"'),
        ({"method": "dpo"}, 'packing = true belongs to method = "sft"'),
    ],
)
def test_packing_belongs_to_sft_and_needs_end_marks(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Stage.model_validate({"method": "sft", "packing": True} | changes)
