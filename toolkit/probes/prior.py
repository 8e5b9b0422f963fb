"""What a base answers already, before anything is trained: every fact's class, kept in probes/prior.json.

highly_known        every question for the fact (its prompt and its paraphrases) is answered rightly, greedily
maybe_known         some of them are
weakly_known        none is, but a sampled answer is right
believes_otherwise  no answer is right, and the base begins another one with a probability of a half or more
unknown             no answer is right, and the base is sure of none
"""

import json
import math
import unicodedata
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from toolkit.example import Example
from toolkit.models.loaded import Loaded, undisturbed
from toolkit.models.scoring import generate
from toolkit.recipe import Recipe
from toolkit.rendering import render
from toolkit.run_folder import Run, write_whole
from toolkit.seeds import sub_seed
from toolkit.stored import Stored, read_json

FILE = "probes/prior.json"
TEMPERATURE = 0.5
"""Of the sampled answers, as in Gekhman 2024."""
SURE = 0.5
Class = Literal["highly_known", "maybe_known", "weakly_known", "believes_otherwise", "unknown"]
CLASSES: tuple[Class, ...] = get_args(Class)

Row = dict[str, Any]


class Prior(Stored):
    """prior.json."""

    samples: int
    temperature: float
    classes: dict[str, Class]


def classes_of(
    loaded: Loaded, engine: ModuleType, recipe: Recipe, seed: int, examples: list[Example], rows: list[Row]
) -> dict[str, Any]:
    """The class of each fact, from the reading before training (`rows`, one an example) and as many draws as asked for.

    Source: the classes are those of Gekhman et al. 2024, "Does Fine-Tuning LLMs on New Knowledge Encourage
    Hallucinations?", with its unknown facts split by whether the base believes something else; questions for one fact
    are our paraphrases instead of its few-shot prompts.
    """
    samples = recipe.recall.prior_samples
    drawn = draw(loaded, engine, recipe, seed, examples, samples) if samples else [False] * len(examples)
    greedy: dict[str, list[bool]] = {}
    sampled: dict[str, bool] = {}
    plain: dict[str, Example] = {}
    for example, row, found in zip(examples, rows, drawn, strict=True):
        if example.variant in ("reversed", "continued"):
            # They ask for something else, or say more.
            continue
        greedy.setdefault(example.fact, []).append(row["exact"])
        sampled[example.fact] = sampled.get(example.fact, False) or found
        if example.variant == "plain":
            plain[example.fact] = example
    open_ones = [fact for fact in plain if not any(greedy[fact]) and not sampled[fact]]
    sure = dict(zip(open_ones, own_chances(loaded, engine, recipe, [plain[fact] for fact in open_ones]), strict=True))
    classes = {fact: class_of(answers, sampled[fact], sure.get(fact, 0.0)) for fact, answers in greedy.items()}
    return {"samples": samples, "temperature": TEMPERATURE, "classes": classes}


def class_of(greedy: list[bool], sampled: bool, sure: float) -> Class:
    """greedy: whether each question is answered rightly; sampled: whether a draw is right; sure: the probability that
    the base begins its answer as it greedily does."""
    if all(greedy):
        return "highly_known"
    if any(greedy):
        return "maybe_known"
    if sampled:
        return "weakly_known"
    return "believes_otherwise" if sure >= SURE else "unknown"


def own_chances(loaded: Loaded, engine: ModuleType, recipe: Recipe, examples: list[Example]) -> list[float]:
    """The probability of each question's greedy answer, as far as the right one is long; 0 where that is none or right.

    A base does not stop after an answer ("Moscow. The city is"), and what it goes on with would make any of them look
    unsure: the right answer is not held to that either.
    """
    if not examples:
        return []
    rendered = [render(loaded.tokenizer, example, recipe.model.format) for example in examples]
    longest = max(len(item.answer_ids) for item in rendered)
    with undisturbed(loaded, engine):
        said = generate(loaded, engine, [item.prompt_ids for item in rendered], longest, recipe.recall.batch_size)
    chances = []
    for one, item, example in zip(said, rendered, examples, strict=True):
        length = len(item.answer_ids)
        text = loaded.tokenizer.decode(one.ids[:length], skip_special_tokens=True)
        # Who says nothing believes nothing, and who says the right answer in other tokens does not believe otherwise.
        otherwise = text.strip() and not begins_with(text, example.answer)
        chances.append(math.prod(one.probabilities[:length]) if otherwise else 0.0)
    return chances


def draw(
    loaded: Loaded, engine: ModuleType, recipe: Recipe, seed: int, examples: list[Example], samples: int
) -> list[bool]:
    """Whether one of `samples` drawn answers is right, for each example."""
    rendered = [render(loaded.tokenizer, example, recipe.model.format) for example in examples]
    longest = max(len(item.answer_ids) for item in rendered) + 1
    found = [False] * len(examples)
    with undisturbed(loaded, engine):
        torch.manual_seed(sub_seed(seed, "sampling"))
        for _ in range(samples):
            said = generate(
                loaded, engine, [item.prompt_ids for item in rendered], longest, recipe.recall.batch_size,
                temperature=TEMPERATURE,
            )  # fmt: skip
            found = [
                was or begins_with(one.text, example.answer)
                for was, one, example in zip(found, said, examples, strict=True)
            ]
    return found


def begins_with(said: str, gold: str) -> bool:
    """Whether a text begins with the answer, and not with a longer word or number that begins with it."""
    text, wanted = (unicodedata.normalize("NFKC", part).strip() for part in (said, gold))
    last, following = wanted[-1:], text.removeprefix(wanted)[:1]
    # Letters may stand right after a number (42nd, 42个), and Chinese has no borders between words.
    goes_on = following.isdigit() if last.isdigit() else last.isascii() and last.isalnum() and following.isalnum()
    return text.startswith(wanted) and not goes_on


def write_prior(run: Run, prior: dict[str, Any]) -> None:
    write_whole(run.path / FILE, json.dumps(prior, ensure_ascii=False, indent=1) + "\n")


def read_prior(run: Run) -> dict[str, Class]:
    """Each fact's class; none of a run from before there were any. Raises UserError where the file is damaged."""
    path = run.path / FILE
    return read_json(path, Prior)["classes"] if path.is_file() else {}
