"""Held-out text: bits a byte and KL to the base, against a slow reference in float64 and against lm-eval."""

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from toolkit.errors import MachineError, UserError
from toolkit.recipe import Lora, Model, Shape

LENGTH = 16
"""Tokens of a window."""
TEXTS = {
    "lines.txt": "第7个电话号码是：39504711826\r\nThe number of line 12 is 4711.\r\nEnde – schön! 👩‍🚀\n" * 2,
    "other.txt": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 and <|im_end|> inside, naïve cafés.",
}
ALPHABET = [
    *"abc 123\n\t.,", "\r\n", "第", "号码", "：", "é", "e\u0301", "ß", "👩‍🚀", "🇨🇳", "👍🏽", "𝔘", "\u00a0", "  ",
    "<|im_end|>", "<think>", "\ufeff", "한", "\u0645",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, engine: ModuleType) -> Path:
    """A Qwen3 of random weights, of which the tokens are not all equally likely."""
    from safetensors.torch import load_file, save_file

    from toolkit.models.from_scratch import build, train_tokenizer

    folder = tmp_path_factory.mktemp("random-base")
    shape = Shape(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=24,
        intermediate_size=96, max_position_embeddings=64,
    )  # fmt: skip
    build(shape, train_tokenizer(list(TEXTS.values()), 300), 300, folder, seed=3)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 8
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def asked(base: Path) -> Model:
    return Model(base=str(base), precision="fp32", max_length=64)


@pytest.fixture(scope="module")
def whole(base: Path, engine: ModuleType) -> Any:
    """Loaded to be trained whole; tests that change its weights change a copy."""
    return engine.load_base(base, asked(base), full=True)


@pytest.fixture(scope="module")
def adapted(base: Path, engine: ModuleType) -> Any:
    """The base with an adapter of random weights, that moves it by more than rounding."""
    import torch

    loaded = engine.load_base(base, asked(base), full=False)
    engine.add_lora(loaded, Lora(rank=4, alpha=8, dropout=0.1), asked(base), 1)
    torch.manual_seed(5)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return loaded


@pytest.fixture
def trained(whole: Any) -> Any:
    """A model that is trained whole, with its reference; some steps away from the base."""
    import torch

    from toolkit.models.reference import reference_of

    loaded = copy.copy(whole)
    loaded.model = copy.deepcopy(whole.model)
    reference = reference_of(loaded)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-2)
    for _ in range(2):
        step(loaded, optimizer)
    return loaded, reference, optimizer


def step(loaded: Any, optimizer: Any) -> None:
    import torch

    ids = torch.arange(12)[None] + 40
    logits = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, ids[0, 1:]).backward()
    optimizer.step()
    optimizer.zero_grad()


def read(loaded: Any, engine: ModuleType, reference: Any = None, length: int = LENGTH, **settings: Any) -> Any:
    from toolkit.probes.held_out import Text, read_held_out
    from toolkit.probes.recall import Moment

    texts = [Text(name, text) for name, text in TEXTS.items()]
    moment = Moment("run", 3, "learn", 40, 2.0, {}, {})
    when = "after" if reference else "before"
    return read_held_out(loaded, engine, reference, texts, moment, when, length=length, **settings)


def logits_of(model: Any) -> Any:
    import torch

    ids = torch.arange(20)[None] + 30
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.clone()


# --- a slow reference ---


def plain(base: Path, loaded: Any = None) -> Any:
    """transformers' own model in float64, with the adapter of `loaded` added to its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64).eval()
    if loaded is not None:
        layers = dict(model.named_modules())
        found = [(name, layer) for name, layer in loaded.model.named_modules() if hasattr(layer, "lora_A")]
        assert len(found) == 14
        for name, layer in found:
            product = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
            layers[name.removeprefix("base_model.model.")].weight.data += 2.0 * product.detach()
    return model


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def slow_log_p(model: Any, given: list[int]) -> Any:
    """ln p of the next token, in numpy."""
    import numpy as np
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([given])).logits[0, -1].double().numpy()
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def slow_reading(tokenizer: Any, before: Any, after: Any, text: str) -> tuple[float, float, float]:
    """Bits, KL(base || model) and KL(model || base) of a text, in bits, a forward pass a token."""
    import numpy as np

    tokens = tokens_of(tokenizer, text)
    stream = [tokenizer.eos_token_id, *tokens]
    sums = np.zeros(3)
    for place in range(len(tokens)):
        first = place // LENGTH * LENGTH
        # The last window is filled up with what stands before it.
        start = max(0, len(tokens) - LENGTH) if first + LENGTH > len(tokens) else first
        p, q = (slow_log_p(model, stream[start : place + 1]) for model in (before, after))
        sums += [-q[tokens[place]], (np.exp(p) * (p - q)).sum(), (np.exp(q) * (q - p)).sum()]
    return tuple(sums / math.log(2))


def test_bits_and_both_divergences_are_those_of_float64_token_by_token(
    adapted: Any, base: Path, engine: ModuleType
) -> None:
    from toolkit.models.reference import reference_of

    rows = read(adapted, engine, reference_of(adapted))
    before, after = plain(base), plain(base, adapted)
    for name, text in TEXTS.items():
        found = [sum(row[key] for row in rows if row["text"] == name) for key in ("bits", "kl_from_base", "kl_to_base")]
        expected = slow_reading(adapted.tokenizer, before, after, text)
        assert found == pytest.approx(expected, rel=1e-6)
        # Far apart, and not the same in both directions: or else this would show little.
        assert min(expected) > 1
        assert abs(expected[1] - expected[2]) > 1


def test_two_coins() -> None:
    import torch

    from toolkit.probes.held_out import divergences, log_softmax

    fair, biased = (log_softmax(torch.tensor([row]).log()) for row in ([0.5, 0.5], [0.9, 0.1]))
    forth, back = ((values / math.log(2)).tolist() for values in divergences(fair, biased))
    assert forth == pytest.approx([0.7370], abs=5e-5)
    assert back == pytest.approx([0.5310], abs=5e-5)


def test_small_divergences_do_not_drown_in_rounding() -> None:
    """KL of 5e-7 over a large vocabulary: the plain sum of p ln(p/q) in float32 is wrong by 17 to 69 % here."""
    import torch

    from toolkit.probes.held_out import divergences, log_softmax

    torch.manual_seed(0)
    one = torch.randn(4, 150_000) * 3
    other = one + torch.randn_like(one) * 1e-3
    p, q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    exact = (p.exp() * (p - q)).sum(-1)
    assert exact.max() < 1e-6
    assert divergences(log_softmax(one), log_softmax(other))[0].tolist() == pytest.approx(exact.tolist(), rel=0.02)


def test_what_both_models_rule_out_adds_nothing() -> None:
    import torch

    from toolkit.probes.held_out import divergences, log_softmax

    rows = [[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]]
    forth, back = divergences(*(log_softmax(torch.tensor([row]).log()) for row in rows))
    assert (forth / math.log(2)).item() == pytest.approx(0.7370, abs=5e-5)
    assert (back / math.log(2)).item() == pytest.approx(0.5310, abs=5e-5)


def test_bits_are_lm_evals(adapted: Any, engine: ModuleType) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    # lm-eval reads special tokens in a text as such; here there are none.
    text = TEXTS["lines.txt"]
    rows = [row for row in read(adapted, engine) if row["text"] == "lines.txt"]
    assert rows[-1]["tokens"] < LENGTH < len(rows) * LENGTH
    adapted.model.eval()
    # Its arguments are hidden from pyright by its class.
    harness = cast(Any, HFLM)(pretrained=adapted.model, tokenizer=adapted.tokenizer, max_length=LENGTH, batch_size=1)
    (nats,) = harness.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True)
    assert sum(row["bits"] for row in rows) == pytest.approx(-nats / math.log(2), rel=1e-6)


# --- windows ---


def test_windows_cover_every_token_once_and_all_bytes(whole: Any) -> None:
    from toolkit.probes.held_out import windows_of

    tokenizer, draw = whole.tokenizer, random.Random(1)
    cut_inside_a_character = 0
    for length in (1, 2, 3, 7, 16, 64):
        for _ in range(40):
            text = "".join(draw.choices(ALPHABET, k=draw.randint(1, 30)))
            tokens = tokens_of(tokenizer, text)
            stream = [tokenizer.eos_token_id, *tokens]
            windows = windows_of(tokenizer, text, length)
            assert [token for window in windows for token in window.ids[-window.scored :]] == tokens
            assert sum(window.bytes for window in windows) == len(text.encode())
            reached = 0
            for window in windows:
                reached += window.scored
                # All that it sees stands right before what it scores, and the model is given `length` at most.
                assert stream[reached + 1 - len(window.ids) : reached + 1] == window.ids
                assert window.scored < len(window.ids) <= length + 1
            assert all(window.scored == length for window in windows[:-1])
            cut_inside_a_character += any(window.bytes == 0 for window in windows)
    assert cut_inside_a_character > 40


def test_bytes_are_those_of_the_windows_own_text(whole: Any) -> None:
    from toolkit.probes.held_out import windows_of

    # One token a digit, three an emoji's bytes and more: it lies across two windows and counts for the later one.
    sizes = [window.bytes for window in windows_of(whole.tokenizer, "123👍45", 4)]
    tokens = len(whole.tokenizer("👍")["input_ids"])
    assert 1 < tokens <= 4
    assert sizes == [3, 6]


def test_special_tokens_in_a_text_are_characters_and_stay_special_elsewhere(whole: Any) -> None:
    from toolkit.probes.held_out import windows_of

    (window,) = windows_of(whole.tokenizer, "a<|im_end|>", 64)
    assert window.ids[0] == whole.tokenizer.eos_token_id
    assert whole.tokenizer.eos_token_id not in window.ids[1:]
    assert whole.tokenizer("<|im_end|>")["input_ids"] == [whole.tokenizer.eos_token_id]


def test_a_mark_of_a_beginning_stands_before_a_text_where_there_is_one(whole: Any) -> None:
    from toolkit.probes.held_out import windows_of

    tokenizer = copy.deepcopy(whole.tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    (window,) = windows_of(tokenizer, "a", 64)
    assert window.ids[0] == tokenizer.bos_token_id != tokenizer.eos_token_id


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from toolkit.probes.held_out import windows_of

    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="bytes cannot be counted"):
        windows_of(Slow(), "a", 8)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no file"), (b"", "is empty"), (b" \r\n", "is empty"), (b"a\xff", "byte 1")]
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    from toolkit.probes.named import read_texts

    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("held.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"held.txt.*{said}|{said}.*held.txt"):
        read_texts(["held.txt"])
    with pytest.raises(UserError, match=r"text: \. cannot be read"):
        read_texts(["."])


def test_texts_are_read_byte_for_byte(tmp_path: Path) -> None:
    from toolkit.probes.named import read_texts

    content = "\ufeffone\r\ntwo\rthree\n".encode()
    (tmp_path / "held.txt").write_bytes(content)
    (text,) = read_texts([str(tmp_path / "held.txt")])
    assert text.text.encode() == content


# --- the base ---


def test_a_null_adapter_changes_nothing(base: Path, engine: ModuleType, whole: Any) -> None:
    from toolkit.models.reference import reference_of

    loaded = engine.load_base(base, asked(base), full=False)
    bare = read(loaded, engine)
    engine.add_lora(loaded, Lora(rank=4, alpha=8), asked(base), 1)
    rows = read(loaded, engine, reference_of(loaded))
    assert {row["kl_from_base"] for row in rows} == {row["kl_to_base"] for row in rows} == {0.0}
    assert [row["bits"] for row in rows] == [row["bits"] for row in bare]
    assert {row["kl_from_base"] for row in bare} == {None}


def test_a_model_with_an_adapter_is_its_base_for_a_while(adapted: Any, whole: Any) -> None:
    import torch

    from toolkit.models.reference import as_base, reference_of

    adapted.model.eval()
    whole.model.eval()
    own = logits_of(adapted.model)
    for trains in (True, False):
        for name, parameter in adapted.model.named_parameters():
            parameter.requires_grad_(trains and "lora_" in name)
        before = [parameter.requires_grad for parameter in adapted.model.parameters()]
        with as_base(adapted, reference_of(adapted)):
            assert torch.equal(logits_of(adapted.model), logits_of(whole.model))
        with pytest.raises(KeyError), as_base(adapted, reference_of(adapted)):
            raise KeyError
        assert torch.equal(logits_of(adapted.model), own)
        assert [parameter.requires_grad for parameter in adapted.model.parameters()] == before
    assert not torch.equal(own, logits_of(whole.model))


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_trained_whole_is_its_base_for_a_while(trained: Any, whole: Any, fails: bool) -> None:
    import torch

    from toolkit.models.reference import as_base

    loaded, reference, _ = trained
    loaded.model.eval()
    whole.model.eval()
    own, weights = logits_of(loaded.model), copy.deepcopy(loaded.model.state_dict())
    places = [parameter.data_ptr() for parameter in loaded.model.parameters()]
    try:
        with as_base(loaded, reference):
            assert torch.equal(logits_of(loaded.model), logits_of(whole.model))
            assert not torch.equal(logits_of(loaded.model), own)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert torch.equal(logits_of(loaded.model), own)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())
    assert [parameter.data_ptr() for parameter in loaded.model.parameters()] == places


def test_tied_weights_are_kept_once(whole: Any) -> None:
    from toolkit.models.reference import reference_of

    weights = reference_of(whole).weights
    assert weights is not None
    assert weights["lm_head.weight"] is weights["model.embed_tokens.weight"]
    assert len({value.data_ptr() for value in weights.values()}) == len(list(whole.model.parameters()))


def test_training_goes_on_as_if_nothing_had_been_read(trained: Any, engine: ModuleType) -> None:
    import torch

    loaded, reference, optimizer = trained
    other = copy.copy(loaded)
    other.model = copy.deepcopy(loaded.model)
    others = torch.optim.AdamW(other.model.parameters(), lr=1e-2)
    others.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (loaded, other):
        each.model.train()
    read(loaded, engine, reference)
    step(loaded, optimizer)
    step(other, others)
    weights = other.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())


def test_autocast_does_not_remember_the_other_weights(trained: Any, whole: Any) -> None:
    """It keeps 16-bit copies of what may be trained, as on a GPU, until it ends."""
    import torch

    from toolkit.models.reference import as_base

    loaded, reference, _ = trained
    loaded.model.eval()
    whole.model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        base = logits_of(whole.model)
    with torch.autocast("cpu", torch.bfloat16):
        own = logits_of(loaded.model)
        with as_base(loaded, reference):
            assert torch.equal(logits_of(loaded.model), base)
        assert torch.equal(logits_of(loaded.model), own)
    assert not torch.equal(own, base)


def test_a_reference_serves_a_checkpoint_that_is_opened_later_in_another_dtype(trained: Any, base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from toolkit.models.loaded import Loaded
    from toolkit.models.reference import as_base, beside, reference_of

    later = Loaded(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval(), trained[0].tokenizer)
    expected = logits_of(later.model)
    reference = reference_of(Loaded(AutoModelForCausalLM.from_pretrained(base), later.tokenizer))
    with torch.no_grad():
        later.model.model.embed_tokens.weight.mul_(1.5)
    near = beside(later, reference)
    assert near.weights is not None
    assert near.weights["lm_head.weight"] is near.weights["model.embed_tokens.weight"]
    for each in (reference, near):
        with as_base(later, each):
            assert torch.equal(logits_of(later.model), expected)
        assert not torch.equal(logits_of(later.model), expected)


@pytest.mark.parametrize("change", ["shape", "name", "untied"])
def test_a_base_of_another_shape_is_refused(whole: Any, change: str) -> None:
    from toolkit.models.reference import Reference, as_base, reference_of

    weights = dict(reference_of(whole).weights or {})
    if change == "shape":
        weights["model.norm.weight"] = weights["model.norm.weight"][:40]
        said = "model.norm.weight is 40 there, and 48 here"
    elif change == "name":
        del weights["model.norm.weight"]
        said = "the base has no model.norm.weight"
    else:
        weights["lm_head.weight"] = weights["lm_head.weight"].clone()
        said = "one weight here, and two there"
    with pytest.raises(UserError, match=said), as_base(whole, Reference(weights)):
        pass


# --- a reading ---


def test_rows_are_summarised_and_written(adapted: Any, engine: ModuleType, tmp_path: Path) -> None:
    from toolkit.models.reference import reference_of
    from toolkit.probes.held_out import schema, summarise
    from toolkit.probes.recall import write_reading
    from toolkit.stored import read_parquet

    told: list[tuple[int, int]] = []
    rows = read(adapted, engine, reference_of(adapted), progress=lambda done, total: told.append((done, total)))
    assert told == [(done, len(rows)) for done in range(1, len(rows) + 1)]
    write_reading(tmp_path / "heldout.parquet", rows, schema())
    found, again = read_parquet(tmp_path / "heldout.parquet")
    assert again == rows
    assert found.names == schema().names == list(rows[0])
    assert {(row["run"], row["seed"], row["stage"], row["step"], row["epoch"], row["when"]) for row in rows} == {
        ("run", 3, "learn", 40, 2.0, "after")
    }
    for name, text in TEXTS.items():
        of_text = [row for row in rows if row["text"] == name]
        assert [row["window"] for row in of_text] == list(range(len(of_text)))
        tokens = sum(row["tokens"] for row in of_text)
        summary = summarise(rows)
        bits = sum(row["bits"] for row in of_text)
        assert summary[f"heldout/{name}/bits_per_byte"] == pytest.approx(bits / len(text.encode()))
        for key in ("kl_from_base", "kl_to_base"):
            assert summary[f"heldout/{name}/{key}"] == pytest.approx(sum(row[key] for row in of_text) / tokens)
    assert set(summarise(read(adapted, engine))) == {f"heldout/{name}/bits_per_byte" for name in TEXTS}


@pytest.mark.parametrize("kind", ["adapter", "whole"])
@pytest.mark.parametrize("training", [True, False])
def test_a_reading_leaves_no_trace(adapted: Any, trained: Any, engine: ModuleType, kind: str, training: bool) -> None:
    import numpy
    import torch

    from toolkit.models.reference import reference_of

    loaded, reference = (adapted, reference_of(adapted)) if kind == "adapter" else trained[:2]
    model, tokenizer = loaded.model, loaded.tokenizer
    model.train(training)
    tokenizer.padding_side, model.config.use_cache = "right", False

    def state() -> list[Any]:
        return [
            random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(),
            {module.training for module in model.modules()}, model.config.use_cache, tokenizer.padding_side,
            torch.is_grad_enabled(), [parameter.requires_grad for parameter in model.parameters()],
            [parameter.grad is None for parameter in model.parameters()], tokenizer("<|im_end|>")["input_ids"],
        ]  # fmt: skip

    before = state()
    assert before[3] == {training}
    first = read(loaded, engine, reference)
    assert state() == before
    # Nothing was drawn, and dropout was off: a second reading is the same.
    assert read(loaded, engine, reference) == first
    model.eval()


def test_chunks_of_positions_change_nothing(adapted: Any, engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.models.reference import reference_of
    from toolkit.probes import held_out

    whole = read(adapted, engine, reference_of(adapted))
    monkeypatch.setattr(held_out, "AT_ONCE", 5)
    for one, other in zip(whole, read(adapted, engine, reference_of(adapted)), strict=True):
        for key in ("bits", "kl_from_base", "kl_to_base"):
            assert other[key] == pytest.approx(one[key], rel=1e-9)


def test_a_model_that_gives_no_numbers_is_said_to_have_diverged(trained: Any, engine: ModuleType) -> None:
    loaded, reference, _ = trained
    loaded.model.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(MachineError, match="diverged"):
        read(loaded, engine, reference)


def test_memory_is_flat_over_twenty_readings(trained: Any, engine: ModuleType) -> None:
    psutil = pytest.importorskip("psutil")
    loaded, reference, _ = trained
    used: Callable[[], int] = lambda: psutil.Process().memory_info().rss  # noqa: E731
    for _ in range(3):
        read(loaded, engine, reference)
    before = used()
    for _ in range(20):
        read(loaded, engine, reference)
    assert used() - before < 3e6
