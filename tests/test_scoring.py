"""One forward pass says what generation would: on a model that knows some of its numbers and not the others."""

import dataclasses
import math
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from toolkit.checkpoints import find_checkpoints
from toolkit.example import Example, read_jsonl

LN2 = math.log(2)


@dataclasses.dataclass
class Asked:
    """The half-trained run, opened, with its examples as tokens."""

    engine: ModuleType
    opened: Any
    examples: list[Example]
    rendered: list[Any]

    @property
    def model(self) -> Any:
        return self.opened.loaded.model

    def score(self, batch_size: int = 32, items: list[Any] | None = None) -> list[Any]:
        from toolkit.models.loaded import undisturbed
        from toolkit.models.scoring import score

        with undisturbed(self.opened.loaded, self.engine):
            return score(self.opened.loaded, self.rendered if items is None else items, batch_size)

    def generate(self, new: int = 16, batch_size: int = 32, **settings: Any) -> list[Any]:
        from toolkit.models.loaded import undisturbed
        from toolkit.models.scoring import generate

        prompts = [item.prompt_ids for item in self.rendered]
        with undisturbed(self.opened.loaded, self.engine):
            return generate(self.opened.loaded, self.engine, prompts, new, batch_size, **settings)


@pytest.fixture(scope="module")
def asked(half_trained: Path, project: Path, engine: ModuleType) -> Asked:
    from toolkit.models.opening import open_checkpoint, prepare
    from toolkit.rendering import render

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        (checkpoint,) = find_checkpoints([str(half_trained / "seed-0")])
        opened = open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None)
    examples = read_jsonl(half_trained / "seed-0/examples.jsonl")
    return Asked(engine, opened, examples, [render(opened.loaded.tokenizer, e, "plain") for e in examples])


def close(one: Any, other: Any) -> bool:
    """Whether two scores are the same, bits to within 1e-4."""
    numbers = [[*each.bits, each.end_bits, *each.prompt_bits] for each in (one, other)]
    return numbers[0] == pytest.approx(numbers[1], abs=1e-4) and one.correct == other.correct


def test_the_model_is_half_trained(asked: Asked) -> None:
    """Or else the tests below would show nothing."""
    trained = [example.split == "train" for example in asked.examples]
    exact = [all(score.correct) for score, of_train in zip(asked.score(), trained, strict=True) if of_train]
    assert 0 < sum(exact) < len(exact)


def test_generation_and_the_one_pass_agree_token_by_token(asked: Asked) -> None:
    for item, score, said in zip(asked.rendered, asked.score(), asked.generate(), strict=True):
        gold = item.answer_ids
        agreed = next((i for i, right in enumerate(score.correct) if not right), len(gold))
        assert said.ids[:agreed] == gold[:agreed]
        if agreed < len(gold):
            # The first wrong token too, which may be the end mark: it is not among the ids.
            ended = [item.end_id] if said.ended else []
            assert [*said.ids, *ended][agreed] == score.predicted[agreed] != gold[agreed]
        assert all(score.correct) == (said.ids[: len(gold)] == gold)
        if all(score.correct):
            assert score.stopped == (said.ended and len(said.ids) == len(gold))
        assert said.probabilities[:agreed] == pytest.approx([2**-bits for bits in score.bits[:agreed]], abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_scores_do_not_depend_on_the_batch(asked: Asked, batch_size: int) -> None:
    assert all(close(one, other) for one, other in zip(asked.score(), asked.score(batch_size), strict=True))


def test_scores_do_not_depend_on_the_neighbours(asked: Asked) -> None:
    longer = [item._replace(prompt_ids=item.prompt_ids * 3) for item in asked.rendered]
    mixed = [item for pair in zip(asked.rendered, longer, strict=True) for item in pair]
    assert all(close(one, other) for one, other in zip(asked.score(), asked.score(7, mixed)[::2], strict=True))
    backwards = asked.score(items=asked.rendered[::-1])[::-1]
    assert all(close(one, other) for one, other in zip(asked.score(), backwards, strict=True))


def test_texts_do_not_depend_on_the_batch(asked: Asked) -> None:
    # Indices of one and of two digits: prompts of several lengths stand in one batch.
    assert len({len(item.prompt_ids) for item in asked.rendered}) > 1
    assert [said.ids for said in asked.generate(batch_size=1)] == [said.ids for said in asked.generate()]


def test_sorted_batches_give_each_prompt_what_it_gets_alone_in_the_order_given(asked: Asked) -> None:
    """Prompts of many lengths, shuffled: token by token the same."""
    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate

    prompts = [item.prompt_ids[:1] * (n % 7) + item.prompt_ids for n, item in enumerate(asked.rendered)]
    random.Random(0).shuffle(prompts)
    assert len({len(prompt) for prompt in prompts}) > 6
    loaded = asked.opened.loaded
    with undisturbed(loaded, asked.engine):
        together = generate(loaded, asked.engine, prompts, 16, 5)
        alone = [generate(loaded, asked.engine, [prompt], 16, 1)[0] for prompt in prompts]
    assert [(said.ids, said.text, said.ended) for said in together] == [
        (said.ids, said.text, said.ended) for said in alone
    ]
    assert len({tuple(said.ids) for said in together}) > 1
    for said, other in zip(together, alone, strict=True):
        assert said.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_the_longest_prompts_are_written_to_first_and_progress_is_told(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    told: list[tuple[int, int]] = []
    own = asked.model.generate

    def watched(*given: Any, **more: Any) -> Any:
        widths.append(more["input_ids"].shape[1])
        return own(*given, **more)

    monkeypatch.setattr(asked.model, "generate", watched)
    asked.generate(batch_size=8, progress=lambda done, total: told.append((done, total)))
    count = len(asked.rendered)
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) > 1
    assert told == [(min(done, count), count) for done in range(8, count + 8, 8)]


def test_without_probabilities_the_texts_are_the_same_and_no_logits_are_kept(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_them = asked.generate()
    kept: list[Any] = []
    own = asked.model.generate

    def watched(*given: Any, **more: Any) -> Any:
        output = own(*given, **more)
        kept.append((output.logits, output.scores))
        return output

    monkeypatch.setattr(asked.model, "generate", watched)
    without = asked.generate(with_probabilities=False)
    assert without == [said._replace(probabilities=[]) for said in with_them]
    assert all(said.probabilities for said in with_them)
    assert kept == [(None, None)] * len(kept) != []


def test_nothing_is_scored_and_written_of_nothing(asked: Asked) -> None:
    from toolkit.models.scoring import generate

    assert asked.score(items=[]) == []
    assert generate(asked.opened.loaded, asked.engine, [], 4, 2) == []


def test_bits_are_the_cross_entropy_of_single_sequences_in_plain_torch(asked: Asked) -> None:
    import torch

    asked.model.eval()
    for item, score in zip(asked.rendered, asked.score(), strict=True):
        ids = torch.tensor([[*item.prompt_ids, *item.answer_ids, item.end_id]])
        with torch.no_grad():
            logits = asked.model(input_ids=ids).logits[0].float()
        nats = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        expected = (nats / LN2).tolist()
        assert [*score.prompt_bits, *score.bits, score.end_bits] == pytest.approx(expected, abs=1e-4)
        start = len(item.prompt_ids) - 1
        assert score.predicted == logits.argmax(-1)[start : start + len(item.answer_ids)].tolist()


def test_the_checkpoints_own_sampling_defaults_change_nothing(asked: Asked) -> None:
    from transformers import GenerationConfig

    before = asked.generate()
    base = asked.model.get_base_model()
    own = base.generation_config
    # As a base brings them: PEFT's wrapper has none of its own.
    asked.model.__dict__.pop("generation_config", None)
    base.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=3.0, top_k=3, max_new_tokens=2, min_new_tokens=2
    )
    try:
        assert asked.model.generation_config.repetition_penalty == 3.0
        assert asked.generate() == before
        kept = asked.model.generation_config
        assert (kept.do_sample, kept.temperature, kept.repetition_penalty) == (True, 5.0, 3.0)
    finally:
        asked.model.generation_config = base.generation_config = own


def test_drawn_answers_follow_the_temperature(asked: Asked) -> None:
    import torch

    greedy = [said.ids for said in asked.generate()]
    torch.manual_seed(0)
    assert [said.ids for said in asked.generate(temperature=1e-5)] == greedy
    drawn = [[said.ids for said in asked.generate(temperature=1.0)] for _ in range(2)]
    assert drawn[0] != greedy
    # Each reading leaves the random state as it was, so that a second one draws the same.
    assert drawn[0] == drawn[1]


# --- a reading leaves no trace ---


@pytest.mark.parametrize("training", [True, False])
def test_a_reading_leaves_random_states_mode_cache_and_padding_as_they_were(asked: Asked, training: bool) -> None:
    import numpy
    import torch

    from toolkit.probes.recall import Moment, read_recall
    from toolkit.probes.repetition import read_repetition
    from toolkit.probes.repetition_prompts import draw_prompts
    from toolkit.recipe import Repetition

    loaded = asked.opened.loaded
    model, tokenizer = loaded.model, loaded.tokenizer
    model.train(training)
    tokenizer.padding_side, model.config.use_cache = "right", False

    def state() -> list[Any]:
        modes = {module.training for module in model.modules()}
        checkpointing = [getattr(module, "gradient_checkpointing", None) for module in model.modules()]
        trained = [parameter.requires_grad for parameter in model.parameters()]
        return [
            random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(), modes,
            model.config.use_cache, tokenizer.padding_side, torch.is_grad_enabled(), str(model.generation_config),
            checkpointing, trained,
        ]  # fmt: skip

    before = state()
    assert before[3] == {training}
    now = Moment("half", 0, "learn", 0, 0.0, {}, {})
    read_recall(loaded, asked.engine, asked.opened.asked, asked.examples, now, batch_size=5, with_text=True)
    assert state() == before
    how = Repetition(prompts=4, max_new_tokens=8, samples=2, batch_size=3)
    prompts = draw_prompts(asked.examples, how, 0)
    read_repetition(loaded, asked.engine, asked.opened.asked, prompts, how, now, 0)
    assert state() == before
    model.eval()


def test_a_reading_leaves_no_trace_when_it_fails(asked: Asked) -> None:
    from toolkit.models.loaded import undisturbed

    asked.model.train()
    with pytest.raises(KeyError), undisturbed(asked.opened.loaded, asked.engine):
        raise KeyError
    assert asked.model.training
    asked.model.eval()


# --- summaries ---


def row(split: str, bits: list[float], correct: list[bool], **values: Any) -> dict[str, Any]:
    """A row of a reading, by hand: an answer of two tokens after a prompt of four."""
    return {
        "split": split, "bits": bits, "bits_total": sum(bits), "correct": correct, "exact": all(correct),
        "digits_teacher_forced": sum(correct) / len(correct), "eos_bits": 1.0, "stopped": True,
        "prompt_bits_total": 6.0, "line_tokens": 5, "output": None, "variant": "plain", "part": "facts",
            "prior": None, "em": False, "f1": 0.0, "gold": "12",
        "foil_bits_total": None,
    } | values  # fmt: skip


ROWS = [
    row("train", [0.0, 1.0], [True, True], eos_bits=0.0),
    row("train", [3.0, 8.0], [True, False], eos_bits=2.0, stopped=False),
    row("control", [4.0, 4.0], [False, False], eos_bits=4.0),
]


def test_summaries_are_those_computed_by_hand(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    # Numbers of two digits: log2 100 = 6.64 bits each.
    summary = summarise(ROWS, 6.64, whole_line=False)
    expected = {
        "recall/read": 2,
        "recall/read_control": 1,
        "loss/digit_nats": 12 / 4 * LN2,
        "loss/eos_nats": 1.0 * LN2,
        # Four digits and two end marks.
        "loss/answer_nats": (12 + 2) / 6 * LN2,
        "recall/exact": 0.5,
        "recall/stopped": 0.5,
        "recall/digits": 0.75,
        "recall/bits": 6.0,
        # 5.64 and -4.36 bits: the plain mean keeps the sign, the clipped one does not.
        "recall/bits_memorised": 0.64,
        "recall/bits_memorised_clipped": 2.82,
        "recall/share_memorised": 0.64 / 6.64,
        "loss/digit_nats_control": 4 * LN2,
        "loss/eos_nats_control": 4 * LN2,
        "loss/answer_nats_control": (8 + 4) / 3 * LN2,
        "recall/exact_control": 0.0,
        "recall/stopped_control": 1.0,
        "recall/digits_control": 0.0,
        "recall/bits_control": 8.0,
    }
    assert summary == pytest.approx(expected)


def test_what_was_asked_otherwise_and_what_belongs_to_others_is_summarised_by_hand(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    said = {"strict": False, "lenient": False, "well_formed": True, "edit_distance": 2}
    rows = [
        row("train", [1.0], [True], gold="12", output="12", foil_bits_total=3.0, **said),
        row("train", [2.0], [False], gold="34", output="12", foil_bits_total=2.5, **said),  # an intrusion
        row("train", [9.0], [False], gold="56", output="99", foil_bits_total=8.0, **said),  # wrong, and nobody's
        row("control", [5.0], [False], gold="78", output=" 34。", **said),  # interference
        row("control", [5.0], [False], gold="90", output="00", **said),
        row("test", [4.0], [True], gold="12", variant="paraphrase-1", output="12", **said),
        row("test", [2.0], [False], gold="34", variant="paraphrase-2", output="12", **said),
        row("test", [6.0], [False], gold="7", variant="reversed", output="8", **said),
    ]
    summary = summarise(rows, None, whole_line=False)
    expected = {
        "recall/intrusions": 1 / 3,
        "recall/interference": 1 / 2,
        "recall/bits_foil": 4.5,
        # Of nine pairs of a trained answer and a foil, gold is likelier in six.
        "recall/membership_auc": 6 / 9,
        "recall/exact_paraphrase": 0.5,
        "recall/bits_paraphrase": 3.0,
        "recall/exact_reversed": 0.0,
        "recall/read_reversed": 1,
    }
    assert {key: summary[key] for key in expected} == pytest.approx(expected)
    assert summary["recall/read"] == 3


def test_losses_are_averaged_over_tokens_and_not_over_answers(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    rows = [row("train", [1.0], [True]), row("train", [4.0, 4.0, 4.0], [True] * 3)]
    summary = summarise(rows, None, whole_line=False)
    assert summary["loss/digit_nats"] == pytest.approx(13 / 4 * LN2)
    assert summary["recall/bits"] == pytest.approx(6.5)
    assert "recall/bits_memorised" not in summary


def test_the_loss_of_the_whole_line_has_prompt_and_answer_in_it(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    summary = summarise(ROWS, None, whole_line=True)
    assert summary["loss/line_nats"] == pytest.approx((12 + 12) / 10 * LN2)


def test_generated_text_is_summarised_where_there_is_some(engine: ModuleType) -> None:
    from toolkit.probes.recall import summarise

    texts = [
        row("train", [0.0], [True], output="12", strict=True, lenient=True, well_formed=True, edit_distance=0),
        row("train", [1.0], [False], output="x", strict=False, lenient=False, well_formed=False, edit_distance=2),
    ]
    summary = summarise(texts, None, whole_line=False)
    found = [summary[f"recall/{name}"] for name in ("strict", "lenient", "malformed", "edit_distance")]
    assert found == [0.5, 0.5, 0.5, 1.0]
    # Words have no digits to be lenient with.
    words = [entry | {"lenient": None, "well_formed": None} for entry in texts]
    assert "recall/lenient" not in summarise(words, None, whole_line=False)
