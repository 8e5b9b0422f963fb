"""What takes longer than a reading: canary exposure, and knowing the set of answers against knowing their binding."""

from types import ModuleType
from typing import Any

from toolkit.example import Example, main_part
from toolkit.metrics import extraction
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import score
from toolkit.probes.canary_exposure import Rule, canary_exposures, summarise
from toolkit.probes.recall import LN2
from toolkit.recipe import Model
from toolkit.rendering import render

MOST = 200
"""Facts of which every pairing with every answer is scored: 40,000 answers. Of more, the first so many."""


def measure(
    loaded: Loaded,
    engine: ModuleType,
    asked: Model,
    examples: list[Example],
    data: dict[str, Any],
    entropy_bits: float | None,
    batch_size: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Values by name, of trained facts, ready for JSON. data: the [data] of the run's recipe.

    Canary exposures only where the numbers' rule is known (the phone study), a row a fact beside their means.
    """
    questions = [example for example in examples if example.split == "train" and example.is_question]
    main = main_part([example.part for example in questions])
    trained = [example for example in questions if example.part == main]
    values: dict[str, Any] = set_and_binding(loaded, engine, asked, trained[:MOST], entropy_bits, batch_size)
    if "pattern" in data:
        exposures = canary_exposures(loaded, engine, asked, trained, Rule.of(data), batch_size=batch_size, seed=seed)
        values |= summarise(exposures)
        values["canary"] = [
            {"id": example.id, **exposure._asdict()} for example, exposure in zip(trained, exposures, strict=True)
        ]
    return values


def set_and_binding(
    loaded: Loaded, engine: ModuleType, asked: Model, trained: list[Example], entropy_bits: float | None, batch: int
) -> dict[str, float]:
    """Each prompt with every trained answer: bits known of the set of answers, and of which prompt has which."""
    answers = list(dict.fromkeys(example.answer for example in trained))
    if len(answers) < 2 or entropy_bits is None:
        return {}
    pairs = [
        Example(f"{example.id}/{number}", example.fact, example.prompt, answer, "test")
        for example in trained
        for number, answer in enumerate(answers)
    ]
    with undisturbed(loaded, engine):
        scores = score(loaded, [render(loaded.tokenizer, pair, asked.format) for pair in pairs], batch)
    flat = [-sum(scored.bits) * LN2 for scored in scores]
    table = [flat[start : start + len(answers)] for start in range(0, len(flat), len(answers))]
    own = [answers.index(example.answer) for example in trained]
    known = extraction.set_and_binding(table, entropy_bits, own)
    return {
        "binding/set_known": known.set_known,
        "binding/binding_known": known.binding_known,
        "binding/most_likely": known.most_likely,
        "binding/facts": len(trained),
    }
