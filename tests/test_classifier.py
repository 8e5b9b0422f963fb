"""A classifier on the real tiny base: where the head reads, what is cut, what is saved, and how replies are read."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from toolkit.classes import Classes, answers_of, example_of, prompts_of, read_classes, room_for, write_classes
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.models.classifier import Classifier, add_classes, build_head, last_real, load_head, save_classes
from toolkit.models.loaded import Loaded, remove_adapter
from toolkit.probes.classification import label_said, log_probabilities
from toolkit.recipe import Head, Lora, Model

HEAD = Head(layers=[16, 8], dropout=0.5)
LABELS = ("Dutch", "Finnish", "Old Norse")
PROMPT = 'Read:"{text}", of Dutch,Finnish,Old Norse it is:'


def classes(head: Head | None = HEAD, max_length: int = 64) -> Classes:
    return Classes(LABELS, PROMPT, "plain", max_length, head)


@pytest.fixture(scope="module")
def base(project: Path, engine: ModuleType) -> Loaded:
    asked = Model(base="checkpoints/tiny-base", precision="fp32")
    return engine.load_base(project / "checkpoints/tiny-base/seed-0/model", asked, full=False)


@pytest.fixture
def loaded(base: Loaded, engine: ModuleType) -> Any:
    """The base with LoRA and a head; both are taken off afterwards."""
    engine.add_lora(base, Lora(rank=4, alpha=8), Model(base="checkpoints/tiny-base", precision="fp32"), seed=1)
    add_classes(base, classes(), seed=5)
    base.model.eval()
    assert base.head is not None
    base.head.eval()
    yield base
    remove_adapter(base)


def asked(text: str) -> Example:
    return example_of("asked", text, "Dutch", classes())


def logits(loaded: Loaded, ids: list[list[int]], mask: list[list[int]]) -> torch.Tensor:
    assert loaded.head is not None
    with torch.no_grad():
        return Classifier(loaded.model, loaded.head)(torch.tensor(ids), torch.tensor(mask))


def test_the_last_real_token_is_found_on_whichever_side_the_padding_is() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    assert last_real(mask).tolist() == [2, 4, 4, 0]


def test_the_head_reads_the_last_real_token_whatever_the_padding_side(loaded: Loaded) -> None:
    ids = prompts_of(loaded.tokenizer, [asked("van der Berg")], classes())[0].ids
    alone = logits(loaded, [ids], [[1] * len(ids)])
    pad = [loaded.tokenizer.pad_token_id] * 7
    right = logits(loaded, [ids + pad], [[1] * len(ids) + [0] * 7])
    left = logits(loaded, [pad + ids], [[0] * 7 + [1] * len(ids)])
    assert torch.allclose(alone, right, atol=1e-5)
    assert torch.allclose(alone, left, atol=1e-4)
    # And it is not the last place of the row that is read: that one is padding, and says something else.
    assert not torch.allclose(alone, logits(loaded, [ids + pad], [[1] * (len(ids) + 7)]), atol=1e-3)


def test_the_head_gets_the_backbones_own_last_hidden_state(loaded: Loaded) -> None:
    ids = prompts_of(loaded.tokenizer, [asked("Aaltonen")], classes())[0].ids
    with torch.no_grad():
        hidden = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert loaded.head is not None
        expected = loaded.head(hidden)
    assert torch.allclose(logits(loaded, [ids], [[1] * len(ids)])[0], expected, atol=1e-5)


def test_texts_of_a_batch_do_not_change_one_another(loaded: Loaded) -> None:
    prompts = [p.ids for p in prompts_of(loaded.tokenizer, [asked("Bo"), asked("Mäkelä-Järvinen")], classes())]
    with torch.no_grad():
        together = log_probabilities(loaded, prompts, 2)
        apart = torch.cat([log_probabilities(loaded, [ids], 1) for ids in prompts])
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.allclose(together.exp().sum(1), torch.ones(2), atol=1e-6)


def test_the_head_is_xavier_uniform_from_the_seed_with_relu_and_dropout_and_no_softmax() -> None:
    head = build_head(32, HEAD, 3, seed=9)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    sizes = [tuple(layer.weight.shape) for layer in head if isinstance(layer, torch.nn.Linear)]
    assert sizes == [(16, 32), (8, 16), (3, 8)]
    for layer in head:
        if isinstance(layer, torch.nn.Linear):
            outer, inner = layer.weight.shape
            limit = (6 / (inner + outer)) ** 0.5
            assert layer.weight.abs().max() <= limit
            assert layer.weight.abs().max() > 0.8 * limit
            assert not layer.bias.any()
    again, other = build_head(32, HEAD, 3, seed=9), build_head(32, HEAD, 3, seed=10)
    assert torch.equal(next(head.parameters()), next(again.parameters()))
    assert not torch.equal(next(head.parameters()), next(other.parameters()))
    assert [type(layer).__name__ for layer in build_head(32, Head(layers=[]), 3, seed=9)] == ["Linear"]


def test_the_saved_head_comes_back_bit_for_bit(loaded: Loaded, tmp_path: Path) -> None:
    assert loaded.head is not None
    before = {name: value.clone() for name, value in loaded.head.state_dict().items()}
    save_classes(loaded, tmp_path)
    for parameter in loaded.head.parameters():
        torch.nn.init.zeros_(parameter)
    load_head(loaded, tmp_path)
    for name, value in loaded.head.state_dict().items():
        assert torch.equal(value, before[name])
    assert read_classes(tmp_path) == classes()


def test_a_missing_a_damaged_and_another_models_head_are_refused(loaded: Loaded, tmp_path: Path) -> None:
    write_classes(tmp_path, classes())
    with pytest.raises(UserError, match=r"has no head\.safetensors"):
        load_head(loaded, tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged, or another model's"):
        load_head(loaded, tmp_path)
    other = Loaded(loaded.model, loaded.tokenizer)
    add_classes(other, classes(Head(layers=[4])), seed=1)
    save_classes(other, tmp_path)
    with pytest.raises(UserError, match="damaged, or another model's"):
        load_head(loaded, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged"),
        ('{"labels": ["a"], "prompt": "{text}", "format": "plain", "max_length": 64}', "labels"),
        ('{"labels": ["a", "a"], "prompt": "{text}", "format": "plain", "max_length": 64}', "a label twice"),
        ('{"labels": ["a", "b"], "prompt": "no place", "format": "plain", "max_length": 64}', "no one place"),
        (
            '{"labels": ["a", "b"], "prompt": "{text}", "format": "plain", "max_length": 64, "head": {"layers": [0]}}',
            "at least one unit",
        ),
    ],
)
def test_a_damaged_description_of_classes_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "classes.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_classes(tmp_path)


# --- what is cut ---


def decoded(loaded: Loaded, ids: list[int]) -> str:
    return loaded.tokenizer.decode(ids)


@pytest.mark.parametrize("text", ["Vesterinen " * 40, "第七" * 60, "a", "😀" * 30 + "{text}"])
def test_a_long_text_is_cut_and_the_question_never(loaded: Loaded, text: str) -> None:
    prompt = prompts_of(loaded.tokenizer, [asked(text)], classes())[0]
    whole = len(loaded.tokenizer(asked(text).prompt)["input_ids"])
    said = decoded(loaded, prompt.ids)
    assert said.startswith('Read:"')
    assert said.endswith('", of Dutch,Finnish,Old Norse it is:')
    assert len(prompt.ids) <= 64
    if whole <= 64:
        assert prompt.cut == 0
        assert said == asked(text).prompt
    else:
        # As much of it as there is room for: a token may be lost where cutting makes the last one two.
        assert len(prompt.ids) > 64 - 4
        assert prompt.cut > 0
        kept = said.removeprefix('Read:"').removesuffix('", of Dutch,Finnish,Old Norse it is:')
        assert text.startswith(kept.rstrip("�"))


def test_in_a_chat_the_text_is_cut_and_neither_question_nor_turns(loaded: Loaded) -> None:
    chat = classes(max_length=72)._replace(format="chat")
    whole, cut = prompts_of(loaded.tokenizer, [asked("Bo"), asked("Vesterinen " * 40)], chat)
    assert whole.cut == 0
    assert cut.cut > 0
    assert len(cut.ids) <= 72
    for prompt in (whole, cut):
        said = decoded(loaded, prompt.ids)
        assert said.startswith('<|im_start|>user\nRead:"')
        assert said.endswith(
            '", of Dutch,Finnish,Old Norse it is:<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n'
        )
    answers = answers_of(loaded.tokenizer, chat._replace(head=None))
    assert [decoded(loaded, answer) for answer in answers] == list(LABELS)


def test_a_question_that_leaves_no_room_for_its_text_is_refused(loaded: Loaded) -> None:
    length = len(loaded.tokenizer(asked("").prompt)["input_ids"])
    assert len(prompts_of(loaded.tokenizer, [asked("x" * 50)], classes(max_length=length + 2))[0].ids) <= length + 2
    with pytest.raises(UserError, match="leaves no room for its text"):
        prompts_of(loaded.tokenizer, [asked("x" * 50)], classes(max_length=length - 1))


def test_in_words_there_is_room_for_the_longest_reply_and_its_end(loaded: Loaded) -> None:
    in_words = classes(head=None)
    answers = answers_of(loaded.tokenizer, in_words)
    assert [decoded(loaded, answer) for answer in answers] == list(LABELS)
    assert room_for(loaded.tokenizer, in_words) == 64 - max(map(len, answers)) - 1
    assert room_for(loaded.tokenizer, classes()) == 64


# --- in words ---


def test_in_words_a_class_has_the_probability_of_its_whole_reply(base: Loaded) -> None:
    add_classes(base, classes(head=None), seed=0)
    try:
        prompts = [p.ids for p in prompts_of(base.tokenizer, [asked("Bo"), asked("Mäkelä")], classes(head=None))]
        with torch.no_grad():
            found = log_probabilities(base, prompts, 2)
            for row, ids in enumerate(prompts):
                whole = []
                for answer in answers_of(base.tokenizer, classes(head=None)):
                    # One by one, token by token, by the model's own forward.
                    tokens, total = [*answer, base.tokenizer.eos_token_id], 0.0
                    for at, token in enumerate(tokens):
                        scores = base.model(input_ids=torch.tensor([ids + tokens[:at]])).logits[0, -1]
                        total += float(torch.log_softmax(scores.double(), -1)[token])
                    whole.append(total)
                expected = torch.log_softmax(torch.tensor(whole), -1)
                assert torch.allclose(found[row].double(), expected.double(), atol=1e-4)
    finally:
        base.classes = None


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Dutch", "Dutch"), (" dutch\n", "Dutch"), ("OLD NORSE", "Old Norse"), ("Dutch.", None), ("", None),
        ("Dutch Finnish", None), ("Swedish", None), ("Dutch…", None),
    ],
)  # fmt: skip
def test_a_reply_is_a_label_or_unreadable(reply: str, label: str | None) -> None:
    assert label_said(reply, LABELS) == label


def test_labels_that_differ_in_capitals_only_are_told_apart() -> None:
    assert label_said("us", ("us", "US")) == "us"
    assert label_said("US", ("us", "US")) == "US"
    assert label_said("Us", ("us", "US")) is None
