"""Preference training: right answers preferred to wrong ones, by TRL's DPOTrainer, against the model it starts from.

The reference is that model itself: its log-probabilities are computed once, before the first update, so that no second
copy of the weights is kept, and a run that goes on after a kill goes on against the same reference.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from toolkit.example import Example
from toolkit.metrics.digits import strict_match, well_formed
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import generate, score
from toolkit.probes.recall import LN2
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import Rendered, pad_token
from toolkit.run_folder import write_whole
from toolkit.seeds import sub_seed
from toolkit.stored import Stored
from toolkit.training.collator import PairCollator
from toolkit.training.exposures import Exposures
from toolkit.training.rows import Rows
from toolkit.training.sft import arguments, built, counting


class StoredPairs(Stored):
    """pairs.json in a stage's state."""

    rows: list[dict[str, list[int] | float]]


TRIES = 16
"""Answers drawn for each question until one is a mistake of the model's own."""


def check_preferences(recipe: Recipe, engine: ModuleType) -> None:
    """Raises UserError where a stage prefers answers, and the engine has no loss for that on this machine."""
    if any(stage.method == "dpo" for stage in recipe.stage.values()):
        engine.preference_trainer_and_config()


def make_trainer(
    engine: ModuleType,
    loaded: Loaded,
    rows: Rows,
    recipe: Recipe,
    stage: Stage,
    seed: int,
    folder: Path,
    exposures: Exposures,
    callback: Any,
) -> Any:
    """A trainer that feeds pairs as they are, with the reference's log-probabilities, as `referenced` adds them."""
    base_trainer, base_config = engine.preference_trainer_and_config()
    weighted = {"loss_type": ["sigmoid"], "loss_weights": None}
    if stage.sft_weight:
        weighted = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, stage.sft_weight]}
    config = base_config(
        **arguments(recipe, stage, seed, len(rows), folder),
        **weighted,
        beta=stage.beta,
        max_length=recipe.model.max_length,
        padding_free=False,
        # Dropout would make policy and reference differ before the first update.
        disable_dropout=True,
        precompute_ref_log_probs=True,
    )
    collator = PairCollator(pad_token(loaded.tokenizer))
    with engine.precision_kept(recipe.model):
        trainer = built(counting(referencing(base_trainer), exposures), loaded, config, rows, collator, callback)
    if "ref" in getattr(loaded.model, "peft_config", {}):
        # TRL's copy of the adapter: the rows have the reference already, and a checkpoint with it in a folder of its
        # own is gone on from without the adapter that was trained.
        loaded.model.delete_adapter("ref")
    return trainer


def referencing(base: type) -> type:
    """TRL's trainer, which takes tokens and reference of our own making instead of making them itself."""

    class ReferencingTrainer(base):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return ReferencingTrainer


def referenced(loaded: Loaded, engine: ModuleType, rows: Rows, batch_size: int) -> Rows:
    """Pairs with what the model says of them now: `ref_chosen_logps`, `ref_rejected_logps`, in nats, with end marks."""
    found: dict[str, list[float]] = {}
    with undisturbed(loaded, engine):
        for which in ("chosen", "rejected"):
            items = [Rendered(row["prompt_ids"], row[f"{which}_ids"][:-1], row[f"{which}_ids"][-1]) for row in rows]
            scores = score(loaded, items, batch_size)
            found[which] = [-(sum(scored.bits) + scored.end_bits) * LN2 for scored in scores]
    return [
        row | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        for row, chosen, rejected in zip(rows, found["chosen"], found["rejected"], strict=True)
    ]


def with_own_mistakes(
    loaded: Loaded,
    engine: ModuleType,
    rows: Rows,
    examples: list[Example],
    seed: int,
    batch_size: int,
    max_length: int,
) -> tuple[Rows, int]:
    """Pairs whose rejected answer is one that the model itself draws, wrong and well-formed; how many have one.

    Where none of TRIES draws is (it knows the answer), the pair stays as it was.
    """
    end = rows[0]["chosen_ids"][-1]
    longest = max(len(row["chosen_ids"]) for row in rows)
    mistakes: dict[int, list[int]] = {}
    with undisturbed(loaded, engine):
        torch.manual_seed(sub_seed(seed, "rejected"))
        for _ in range(TRIES):
            lacking = [number for number in range(len(rows)) if number not in mistakes]
            if not lacking:
                break
            prompts = [rows[number]["prompt_ids"] for number in lacking]
            drawn = generate(loaded, engine, prompts, longest, batch_size, temperature=1.0)
            for number, said in zip(lacking, drawn, strict=True):
                fits = len(rows[number]["prompt_ids"]) + len(said.ids) < max_length
                # Not `said.text`: it leaves special tokens out, and they would be trained too.
                text = loaded.tokenizer.decode(said.ids)
                if said.ended and fits and is_mistake(text, examples[number].answer):
                    mistakes[number] = [*said.ids, end]
    return [
        row | ({"rejected_ids": mistakes[number]} if number in mistakes else {}) for number, row in enumerate(rows)
    ], len(mistakes)


def is_mistake(said: str, gold: str) -> bool:
    """Whether an answer is of the right answer's kind (as many digits, or words) and is not it."""
    text = said.strip()
    if not text or strict_match(text, gold):
        # Full-width digits are the right answer too.
        return False
    return not (gold.isascii() and gold.isdigit()) or (len(text) == len(gold) and well_formed(text, len(gold)))


def write_pairs(path: Path, rows: Rows, examples: list[Example], tokenizer: Any) -> None:
    """What was preferred to what, a line a pair, with the reference's log-probabilities in nats."""
    lines = []
    for row, example in zip(rows, examples, strict=True):
        rejected = tokenizer.decode(row["rejected_ids"][:-1])
        reference = {which: row[f"ref_{which}_logps"] for which in ("chosen", "rejected")}
        line = {"id": example.id, "prompt": example.prompt, "chosen": example.answer, "rejected": rejected}
        lines.append(json.dumps(line | {"reference": reference}, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines))


@contextmanager
def dropout_kept(model: Any) -> Iterator[None]:
    """TRL switches dropout off in the model itself; a later stage trains with it as the recipe says."""
    before = [(module, module.p) for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    try:
        yield
    finally:
        for module, p in before:
            module.p = p
