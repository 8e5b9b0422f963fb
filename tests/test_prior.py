"""What a base answers before training: every class by hand, draws that are seeded, and what a run keeps of them."""

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from toolkit.checkpoints import find_checkpoints
from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl
from toolkit.recipe import Recipe


@pytest.mark.parametrize(
    ("greedy", "sampled", "sure", "expected"),
    [
        ([True], False, 0.0, "highly_known"),
        ([True, True, True], True, 1.0, "highly_known"),
        ([True, False], False, 0.9, "maybe_known"),
        ([False, False, True], True, 0.9, "maybe_known"),
        # A right draw rules out that the base believes something else, however sure it is.
        ([False, False], True, 0.99, "weakly_known"),
        ([False], False, 0.5, "believes_otherwise"),
        ([False], False, 0.4999999, "unknown"),
        ([False, False], False, 0.0, "unknown"),
    ],
)
def test_every_class_by_hand_and_a_half_is_a_belief(
    engine: ModuleType, greedy: list[bool], sampled: bool, sure: float, expected: str
) -> None:
    from toolkit.probes.prior import class_of

    assert class_of(greedy, sampled, sure) == expected


def test_classes_are_named_on_the_page(engine: ModuleType) -> None:
    from toolkit.probes.prior import CLASSES
    from toolkit.reporting.page import FROM_FINAL, PRIOR

    assert tuple(PRIOR) == CLASSES
    assert {f"recall/exact_prior_{name}" for name in CLASSES} <= FROM_FINAL.keys()


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("00123", "00123", True),
        (" 00123. And", "00123", True),
        ("001234", "00123", False),
        ("0012", "00123", False),
        ("123", "00123", False),
        ("１２３", "123", True),
        ("Moscow. The city", " Moscow", True),
        ("Moscowite", "Moscow", False),
        ("Moscow", "Mos", False),
        # A unit right after a number is none of its digits.
        ("42个", "42", True),
        ("42nd", "42", True),
        # Chinese has no borders between words.
        ("北京是首都", "北京", True),
        ("It is Moscow", "Moscow", False),
        ("", "Moscow", False),
    ],
)
def test_a_draw_is_right_where_it_begins_with_the_answer(engine: ModuleType, said: str, gold: str, right: bool) -> None:
    from toolkit.probes.prior import begins_with

    assert begins_with(said, gold) is right


# --- facts of several questions ---


def question(fact: str, variant: str = "plain") -> Example:
    return Example(f"{fact}-{variant}", fact, f"{fact} {variant}?", "12", "train", variant)


def recipe(samples: int = 0) -> Recipe:
    return Recipe.model_validate(
        {"name": "prior", "study": "names", "model": {"base": "x"}, "stage": {"learn": {"method": "sft"}},
         "recall": {"prior_samples": samples}}
    )  # fmt: skip


def test_a_facts_class_is_of_its_prompt_and_paraphrases_alone(
    engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.probes import prior

    asked = {
        # Whether each question is answered rightly, greedily and in a draw.
        "known": {"plain": (True, False), "paraphrase-1": (True, False), "reversed": (False, False)},
        "other words": {"plain": (False, False), "paraphrase-1": (True, False)},
        "drawn in other words": {"plain": (False, False), "paraphrase-1": (False, True)},
        # The reversed question and the text that was read ask for something else.
        "read": {"plain": (False, False), "continued": (True, True), "reversed": (True, True)},
        "believed": {"plain": (False, False), "paraphrase-1": (False, False)},
    }
    pairs = [
        (question(fact, variant), *right) for fact, variants in asked.items() for variant, right in variants.items()
    ]
    chances = {"believed": 0.7, "read": 0.3}
    looked_at = []

    def own_chances(loaded: Any, engine: Any, recipe: Any, examples: list[Example]) -> list[float]:
        looked_at.extend(example.fact for example in examples)
        return [chances[example.fact] for example in examples]

    monkeypatch.setattr(prior, "draw", lambda *_: [drawn for _, _, drawn in pairs])
    monkeypatch.setattr(prior, "own_chances", own_chances)
    rows = [{"exact": greedy, "confidence": 1.0} for _, greedy, _ in pairs]
    examples = [example for example, _, _ in pairs]
    none: Any = None
    found = prior.classes_of(none, engine, recipe(samples=8), 0, examples, rows)
    assert found == {
        "samples": 8,
        "temperature": 0.5,
        "classes": {
            "known": "highly_known",
            "other words": "maybe_known",
            "drawn in other words": "weakly_known",
            "read": "unknown",
            "believed": "believes_otherwise",
        },
    }
    # How sure a base is matters only of what it does not know.
    assert looked_at == ["read", "believed"]
    # Without draws nothing is weakly known.
    assert prior.classes_of(none, engine, recipe(), 0, [question("believed")], rows[-1:])["classes"] == {
        "believed": "believes_otherwise"
    }


# --- on a real model that knows some of its facts ---


@pytest.fixture(scope="module")
def opened(half_trained: Path, project: Path, engine: ModuleType) -> tuple[Any, list[Example]]:
    from toolkit.models.opening import open_checkpoint, prepare

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        (checkpoint,) = find_checkpoints([str(half_trained / "seed-0")])
        found = open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None)
    return found.loaded, read_jsonl(half_trained / "seed-0/examples.jsonl")


def test_draws_are_seeded_and_leave_no_trace(opened: tuple[Any, list[Example]], engine: ModuleType) -> None:
    import numpy
    import torch

    from toolkit.probes.prior import draw

    loaded, examples = opened

    def state() -> list[Any]:
        return [random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(),
                loaded.model.training, loaded.tokenizer.padding_side, loaded.model.config.use_cache]  # fmt: skip

    before = state()
    first = draw(loaded, engine, recipe(), 0, examples, 4)
    assert state() == before
    torch.manual_seed(99)
    assert draw(loaded, engine, recipe(), 0, examples, 4) == first
    others = [draw(loaded, engine, recipe(), seed, examples, 4) for seed in (1, 2)]
    assert any(other != first for other in others)
    # More draws find what fewer found, and perhaps more.
    more = draw(loaded, engine, recipe(), 0, examples, 8)
    assert all(now for was, now in zip(first, more, strict=True) if was)


def test_how_sure_a_base_is_does_not_depend_on_what_it_says_after_its_answer(
    opened: tuple[Any, list[Example]], engine: ModuleType
) -> None:
    from dataclasses import replace

    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate, score
    from toolkit.probes.prior import begins_with, own_chances
    from toolkit.rendering import render

    loaded, examples = opened
    some = [example for example in examples if example.variant == "plain"][:12]
    whole = own_chances(loaded, engine, recipe(), some)
    # By other means: what it says greedily, scored in one pass.
    for example, chance in zip(some, whole, strict=True):
        item = render(loaded.tokenizer, example, "plain")
        with undisturbed(loaded, engine):
            (said,) = generate(loaded, engine, [item.prompt_ids], len(item.answer_ids), 1)
            own = item._replace(answer_ids=said.ids[: len(item.answer_ids)])
            (scored,) = score(loaded, [own], 1)
        bits = sum(scored.bits) + (scored.end_bits if said.ended else 0.0)
        # Who says nothing believes nothing, and who says the right answer does not believe otherwise.
        other = said.text.strip() and not begins_with(said.text, example.answer)
        assert chance == pytest.approx(2**-bits if other else 0.0, rel=1e-3)
    assert any(chance > 0 for chance in whole)
    # Of a shorter answer only as much is looked at, also beside longer ones.
    short = [replace(example, answer=example.answer[:1]) for example in some]
    mixed = own_chances(loaded, engine, recipe(), [*short, *some])
    assert mixed == pytest.approx(own_chances(loaded, engine, recipe(), short) + whole, rel=1e-3)
    # One that begins rightly is no other belief.
    assert all(first >= both or first == 0 for first, both in zip(mixed, whole, strict=False))


BELIEVING = """
name = "{name}"
study = "phone"
[data]
count = 24
controls = 12
digits = 8
seed = 0
[model]
base = "{base}"
precision = "fp32"
[lora]
rank = 4
alpha = 8
[stage.learn]
method = "sft"
epochs = 1
batch_size = 12
grad_accum = 1
optimizer = "adamw"
learning_rate = 1e-5
[recall]
prior_samples = 2
"""


def test_a_run_keeps_classes_and_reports_recall_by_class(in_project: Path, half_trained: Path) -> None:
    """The base is a run that knows some of these very numbers."""
    from tests.conftest import run
    from toolkit.probes.prior import read_prior
    from toolkit.probes.recall import read_reading
    from toolkit.run_folder import Run

    merged = in_project / "checkpoints/prior-known-base"
    if not merged.exists():
        merge(half_trained / "seed-0", merged)
    path = Path("prior-classes.toml")
    path.write_text(BELIEVING.format(name="prior-classes", base=merged.as_posix()), encoding="utf-8")
    run(path.as_posix())
    done = Run(Path("checkpoints/prior-classes/seed-0"))
    kept = json.loads((done.path / "probes/prior.json").read_text("utf-8"))
    assert (kept["samples"], kept["temperature"]) == (2, 0.5)
    classes = read_prior(done)
    first, *_, last = [read_reading(path) for path in done.readings()]
    assert len(classes) == 36
    # Every row carries the class of its fact, at every reading, other questions for it too.
    for rows in (first, last):
        assert all(row["prior"] == classes[row["fact"]] for row in rows)
    exact = {fact: [row["exact"] for row in first if row["fact"] == fact and row["variant"] != "reversed"]
             for fact in classes}  # fmt: skip
    assert all((classes[fact] == "highly_known") == all(answers) for fact, answers in exact.items())
    assert all(
        (classes[fact] == "maybe_known") == (any(answers) and not all(answers)) for fact, answers in exact.items()
    )
    trained = {row["id"]: row for row in last if row["split"] == "train"}
    found = {classes[fact] for fact in trained}
    assert len(found) > 1
    summary = done.rows("recall")[-1]
    assert {key for key in summary if key.startswith("recall/exact_prior_")} == {
        f"recall/exact_prior_{name}" for name in found
    }
    for name in found:
        of_class = [row for fact, row in trained.items() if classes[fact] == name]
        right = sum(row["exact"] for row in of_class)
        assert summary[f"recall/exact_prior_{name}"] == pytest.approx(right / len(of_class))
        assert summary[f"recall/read_prior_{name}"] == len(of_class)
    assert sum(summary[f"recall/read_prior_{name}"] for name in found) == 24


def merge(run: Path, target: Path) -> None:
    """A run's adapter put into its base, as a base of its own."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained("checkpoints/tiny-base/seed-0/model")
    model = PeftModel.from_pretrained(base, str(run / "adapter")).merge_and_unload()  # pyright: ignore
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(run / "adapter").save_pretrained(target)


def test_a_damaged_prior_is_refused_and_an_absent_one_is_none(tmp_path: Path, engine: ModuleType) -> None:
    from toolkit.probes.prior import FILE, read_prior
    from toolkit.run_folder import Run

    run = Run(tmp_path)
    assert read_prior(run) == {}
    path = tmp_path / FILE
    path.parent.mkdir()
    whole = {"samples": 0, "temperature": 0.5, "classes": {"a": "unknown"}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    assert read_prior(run) == {"a": "unknown"}
    for damaged in ('{"samples": 0', json.dumps(whole | {"classes": {"a": "known"}}), json.dumps({"classes": {}})):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match="prior.json"):
            read_prior(run)
