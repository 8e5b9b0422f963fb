"""A corpus that is too large to be copied into every run: what is held in memory, and what a run's folder keeps."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from tests.conftest import command, run
from toolkit.example import Example, read_jsonl
from toolkit.rendering import rows as rendered_rows
from toolkit.rendering import training_rows
from toolkit.training import one_run
from toolkit.training.collator import Collator

CHANGES = (
    "data.count=24",
    "data.controls=6",
    "stage.learn.epochs=1",
    "stage.learn.batch_size=8",
    "recall.sample=4",
    "recall.every=stage",
)


def test_token_ids_of_many_rows_take_four_bytes_and_are_fed_as_the_same(
    in_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("checkpoints/tiny-base/seed-0/model")
    examples = [Example(f"e-{i}", f"e-{i}", f"第{i}个：", "12345", "train") for i in range(8)]
    numbers = {example.id: place for place, example in enumerate(examples)}
    few = training_rows(tokenizer, examples, "plain", numbers, loss_on="answer", train_eos=True)
    monkeypatch.setattr(rendered_rows, "MANY", 7)
    many = training_rows(tokenizer, examples, "plain", numbers, loss_on="answer", train_eos=True)
    assert many[0]["input_ids"].itemsize == 4  # pyright: ignore[reportAttributeAccessIssue]
    batches = [Collator(0)([dict(row) for row in Dataset.from_list(rows)]) for rows in (few, many)]  # pyright: ignore[reportArgumentType]
    for name, values in batches[0].items():
        assert torch.equal(values, batches[1][name]), name


def test_a_run_keeps_of_a_large_corpus_what_is_asked_and_the_digest_of_all(
    in_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("recipes/tiny/groupA.toml", "name=kept-all", *CHANGES)
    monkeypatch.setattr(one_run, "MOST_KEPT", 20)
    run("recipes/tiny/groupA.toml", "name=kept-asked", *CHANGES)
    whole, part = (Path("checkpoints") / name / "seed-0" for name in ("kept-all", "kept-asked"))
    about = [json.loads((folder / "run.json").read_text())["data"] for folder in (whole, part)]
    assert about[0]["digest"] == about[1]["digest"]
    assert "kept" not in about[0]
    kept = read_jsonl(part / "examples.jsonl")
    assert about[1]["kept"] == len(kept) < len(read_jsonl(whole / "examples.jsonl"))
    plain = [example for example in kept if example.variant == "plain"]
    assert {split: sum(e.split == split for e in plain) for split in ("train", "control")} == {"train": 4, "control": 4}
    # Nothing else of the run is another.
    assert (whole / "adapter/adapter_model.safetensors").read_bytes() == (
        part / "adapter/adapter_model.safetensors"
    ).read_bytes()
    run("recipes/tiny/groupA.toml", "name=kept-asked", *CHANGES)
    measured = command("toolkit.eval_recall", "checkpoints/kept-asked", "--json", folder=in_project)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)[0]["splits"]["train"]["facts"] == 4
