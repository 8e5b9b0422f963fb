"""TF-IDF and logistic regression, what a classifier of texts is held against, on the very rows of a run."""

import time
from typing import Any, NamedTuple

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""scikit-learn's C, of which the best on the validation texts is tested."""


class Tested(NamedTuple):
    """One classifier on the test texts."""

    what: str
    seed: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    validation: float | None
    """Accuracy on the validation texts."""
    seconds: float | None


def row_of(
    what: str, seed: int, right: int, n: int, macro_f1: float, validation: float | None, seconds: float | None
) -> Tested:
    """With the interval of `right` of n texts."""
    from toolkit.metrics.statistics import wilson

    return Tested(what, seed, right / n, *wilson(right, n), macro_f1, validation, seconds)


def by_words(run: Any) -> list[Tested]:
    """TF-IDF and logistic regression on a run's own rows; on the texts as the run cuts them; on train uncut by dev."""
    from toolkit.example import read_jsonl

    examples = read_jsonl(run.path / "examples.jsonl")
    labels = {split: [e.answer for e in examples if e.split == split] for split in ("train", "validation", "test")}
    whole = {split: [text_of(e) for e in examples if e.split == split] for split in labels}
    cut = dict(zip(whole, as_cut(run, examples, list(whole)), strict=True))
    name = "TF-IDF, logistic regression"
    own, strength = bag(name, run.seed, whole, labels, STRENGTHS)
    short, _ = bag(f"{name}, texts cut alike", run.seed, cut, labels, STRENGTHS)
    for texts in (whole, labels):
        texts["train"] = texts["train"] + texts["validation"]
    every, _ = bag(f"{name}, all of train", run.seed, whole, labels, (strength,))
    return [own, short, every._replace(validation=None)]


def text_of(example: Any) -> str:
    start, end = example.info["text"]
    return example.prompt[start:end]


def as_cut(run: Any, examples: list[Any], splits: list[str]) -> list[list[str]]:
    """The texts of each split as the model of a run sees them."""
    from transformers import AutoTokenizer

    from toolkit.classes import prompts_of, read_classes

    classes, tokenizer = read_classes(run.weights), AutoTokenizer.from_pretrained(run.weights)
    question = classes.prompt.split("{text}")[1]
    return [
        [tokenizer.decode(prompt.ids).removesuffix(question) for prompt in prompts_of(tokenizer, of_split, classes)]
        for of_split in ([e for e in examples if e.split == split] for split in splits)
    ]


def bag(
    what: str, seed: int, texts: dict[str, list[str]], labels: dict[str, list[str]], strengths: tuple[float, ...]
) -> tuple[Tested, float]:
    """A bag of words with the best C of some; the seconds are of fitting that one, and of the test."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from toolkit.metrics.classification import classification_scores

    tried = []
    for strength in strengths:
        started = time.perf_counter()
        model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=strength, max_iter=1000))
        model.fit(texts["train"], labels["train"])
        tried.append((model.score(texts["validation"], labels["validation"]), time.perf_counter() - started, model))
    best = max(range(len(tried)), key=lambda number: tried[number][0])
    validation, seconds, model = tried[best]
    started = time.perf_counter()
    given = list(model.predict(texts["test"]))
    scores = classification_scores(labels["test"], given, sorted(set(labels["train"])))
    seconds += time.perf_counter() - started
    right = round(scores.accuracy * scores.n)
    return row_of(what, seed, right, scores.n, scores.macro_f1, validation, seconds), strengths[best]
