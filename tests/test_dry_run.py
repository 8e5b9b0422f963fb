"""A dry run: what is known of a recipe before it is run, and nothing written."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT, command
from toolkit.errors import MachineError, UserError
from toolkit.run import main

RECIPES = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*.toml"))


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):
    """What `run RECIPE --dry-run` prints, its lines unwrapped."""

    def show(recipe: str | Path, *changes: str, tokens: bool = False, unwrapped: bool = True) -> str:
        capsys.readouterr()
        main([Path(recipe)], list(changes), "", False, True, tokens, False)
        said = capsys.readouterr().out
        return " ".join(said.split()) if unwrapped else said

    return show


def contents(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*"))


def test_the_baseline_in_numbers(folder: Path, shown) -> None:
    said = shown("recipes/groupA.toml")
    assert "34,865,152 trainable parameters of 1,720,574,976 in the base" in said
    assert "learn: 100 rows, 4 × 4 an update: 7 updates an epoch, 70 in all" in said
    assert "10 exposures a fact" in said
    assert "entropy 36.5412 bits an answer, 3654.1 bits in all" in said
    assert "loss 2.3026 nats a digit, 10.0% of digits right" in said
    assert "100 trained examples, 100 controls" in said
    assert "runs: 5, seeds 0, 1, 2, 3, 4 checkpoints/GroupA/seed-0: new" in said
    assert contents(folder) == [folder / "recipes"]


def test_the_floor_is_that_of_the_rule_and_the_entropy_that_of_distinct_draws(folder: Path, shown) -> None:
    said = shown("recipes/groupC.toml")
    assert "entropy 9.8919 bits an answer, 989.2 bits in all" in said
    assert "loss 0.6280 nats a digit, 75.5% of digits right" in said


@pytest.mark.parametrize(
    ("recipe", "seeds", "parts"),
    [
        ("groupA.toml", "[0]", ["one run says nothing about other seeds"]),
        (
            "groupA.toml", "[0, 1, 2]",
            ["compared with a group of 3 runs: the smallest p is 0.1 ", "say at least 4 (5 for three groups)"],
        ),
        ("groupA.toml", "[0, 1, 2, 3, 4]", ["the smallest p is 0.00794 a difference of 2.", "with about 80 % power"]),
        ("spacing.toml", "[0, 1, 2, 3, 4]", ["5 pairs of runs: the smallest p is 0.0625 5 seeds can never", "least 6"]),
        ("spacing.toml", "[0, 1, 2, 3, 4, 5]", ["6 pairs of runs: the smallest p is 0.0312 a difference of 1."]),
        # A grid over pattern and rate: rates of one pattern are pairs, patterns are none.
        (
            "tiny/sensitivity.toml", "[0, 1, 2, 3, 4, 5, 6, 7]",
            ["group of 8 runs: the smallest p is 0.000155, and Holm takes it up to 8 times",
             "8 pairs of runs: the smallest p is 0.00781, and Holm takes it up to 8 times 8 seeds can never"],
        ),
    ],
)  # fmt: skip
def test_what_so_many_seeds_can_show_is_said_of_pairs_and_of_runs(
    folder: Path, shown, recipe: str, seeds: str, parts: list[str]
) -> None:
    said = shown(f"recipes/{recipe}", f"seeds={seeds}")
    for part in parts:
        assert part in said


@pytest.mark.parametrize(("count", "batch", "accum", "left"), [(100, 4, 4, 4), (100, 16, 1, 4), (90, 8, 2, 10)])
def test_an_uneven_last_update_is_named_with_a_divisor_that_works(
    folder: Path, shown, count: int, batch: int, accum: int, left: int
) -> None:
    changes = (f"data.count={count}", f"stage.learn.batch_size={batch}", f"stage.learn.grad_accum={accum}")
    said = shown("recipes/groupA.toml", *changes)
    assert f"the last update of an epoch has {left} rows, not 16: each weighs {16 / left:.3g} times as much" in said
    advised = re.search(r"batch_size = (\d+), grad_accum = (\d+) \((\d+) an update\) divides (\d+) evenly", said)
    assert advised is not None
    new_batch, new_accum, whole, rows = map(int, advised.groups())
    assert new_batch * new_accum == whole
    assert rows == count
    assert rows % whole == 0
    # As large a batch as was asked for fits in memory, and a larger one may not.
    assert new_batch <= batch
    again = shown(
        "recipes/groupA.toml", f"data.count={count}", f"stage.learn.batch_size={new_batch}",
        f"stage.learn.grad_accum={new_accum}",
    )  # fmt: skip
    assert "the last update" not in again


def test_no_number_of_rows_far_from_what_was_asked_is_advised(folder: Path, shown) -> None:
    said = shown("recipes/groupA.toml", "data.count=97", "stage.learn.batch_size=4", "stage.learn.grad_accum=4")
    assert "each weighs 16 times as much No number of rows near 16 divides 97 evenly." in said


FORGETTING = """
[forgetting]
tasks = ["recipes/tiny/abilities", "mmlu"]
text = ["held.txt"]
"""


def test_what_is_asked_to_measure_forgetting_is_counted_and_when_it_is(folder: Path, shown) -> None:
    Path("mine.toml").write_text(f'extends = "recipes/groupA.toml"\n{FORGETTING}', encoding="utf-8")
    Path("held.txt").write_text("第1个号码", encoding="utf-8")
    said = shown("mine.toml")
    assert "tasks of lm-eval: mmlu tasks in recipes/tiny/abilities: " in said
    assert "tiny_names, 150 questions; tiny_news, 150 questions; tiny_rules, 300 questions" in said
    assert "text: held.txt, 13 bytes" in said
    assert "read before training, questions twice (noise_floor); what a base answers is kept" in said
    assert "read after each stage, once a run, in batches of 4" in said
    assert "training ends" not in said
    changes = ("forgetting.every=epoch", "forgetting.stop_if_worse_by=0.05", "forgetting.limit=40",
               "forgetting.few_shot=3", "forgetting.noise_floor=false", "forgetting.batch_size=8")  # fmt: skip
    often = shown("mine.toml", *changes)
    assert "tiny_names, 40 questions; tiny_news, 40 questions; tiny_rules, 80 questions" in often
    assert "at most 40 questions of each subject, 3 examples before each question" in often
    assert "read before training; what" in often
    assert "read after each epoch, at most 10 times a run, in batches of 8" in often
    assert "a task has fallen by over 5 points" in often
    assert sorted(path.name for path in contents(folder)) == ["held.txt", "mine.toml", "recipes"]


def test_what_is_not_there_to_measure_forgetting_by_is_said(folder: Path, shown) -> None:
    Path("mine.toml").write_text(f'extends = "recipes/groupA.toml"\n{FORGETTING}', encoding="utf-8")
    said = shown("mine.toml")
    assert "before it can run: [forgetting] text: there is no file held.txt" in said
    # What does not need it is shown all the same.
    assert "34,865,152 trainable parameters" in said
    said = shown("mine.toml", 'forgetting.tasks=["recipes/abilities"]', "forgetting.text=[]")
    assert 'before it can run: [forgetting] tasks: there is no folder "recipes/abilities"' in said


def test_full_training_counts_every_weight(folder: Path, shown) -> None:
    said = shown("recipes/groupA.toml", "lora=false")
    assert "1,720,574,976 trainable parameters of 1,720,574,976 in the model" in said


def test_forgetting_is_shown_without_anything_that_takes_seconds_to_import(folder: Path) -> None:
    Path("mine.toml").write_text(f'extends = "recipes/groupA.toml"\n{FORGETTING}', encoding="utf-8")
    Path("held.txt").write_text("a text", encoding="utf-8")
    program = """
import sys
from pathlib import Path
from toolkit.run import main
main([Path("mine.toml")], dry_run=True, tokens=False)
assert not {"torch", "transformers", "datasets", "lm_eval"} & sys.modules.keys()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "tiny_rules, 300 questions" in done.stdout


def test_without_tokens_it_answers_in_less_than_a_second(folder: Path) -> None:
    started = time.perf_counter()
    done = command("toolkit.run", "recipes/groupA.toml", "--dry-run", "--no-tokens", folder=folder)
    assert time.perf_counter() - started < 1
    assert done.returncode == 0, done.stderr
    assert "34,865,152" in done.stdout


def test_tokens_are_shown_and_the_trained_ones_are_the_answer_and_its_end(
    project: Path, in_project: Path, shown, engine: ModuleType
) -> None:
    before = contents(project)
    said = shown("recipes/tiny/groupA.toml", "name=unseen", tokens=True, unwrapped=False)
    facts = re.findall(r"^  (第\d+个电话号码是：)(\d{11})$", said, flags=re.MULTILINE)
    lines = re.findall(r"^learn, 12 of (\d+) trained: (.*)$", said, flags=re.MULTILINE)
    assert len(facts) == len(lines) == 3
    for (prompt, answer), (length, line) in zip(facts, lines, strict=True):
        # Without colours the trained tokens stand in brackets.
        assert "".join(re.findall(r"\[([^]]*)\]", line)) == f"{answer}<|im_end|>"
        untrained = line.split("[")[0]
        assert untrained.replace("|", "") == prompt
        assert untrained.count("|") + 12 == int(length)
    assert contents(project) == before


def test_tokens_of_a_whole_line_are_all_trained(in_project: Path, shown, engine: ModuleType) -> None:
    changes = ("stage.learn.loss_on=all", "stage.learn.train_eos=false")
    said = shown("recipes/tiny/groupA.toml", *changes, tokens=True, unwrapped=False)
    line = re.search(r"^learn, (\d+) of (\d+) trained: (.*)$", said, flags=re.MULTILINE)
    assert line is not None
    assert line[1] == line[2]
    assert "|" not in line[3]


def test_a_new_tokenizer_is_trained_to_show_tokens_and_count_blocks(folder: Path, shown, engine: ModuleType) -> None:
    said = shown("recipes/tiny/base.toml", "data.count=500", tokens=True)
    assert "pretrain, 128 of 128 trained:" in said
    found = re.search(r"pretrain: (\d+) rows, 8 × 1 an update: (\d+) updates an epoch", said)
    assert found is not None
    assert int(found[2]) == -(-int(found[1]) // 8)
    assert contents(folder) == [folder / "recipes"]
    assert "2 epochs of all texts in blocks of 128 tokens" in shown("recipes/tiny/base.toml", "data.count=500")


def test_a_missing_base_is_named_with_the_recipe_that_makes_it(folder: Path, shown) -> None:
    said = shown("recipes/tiny/groupA.toml", tokens=True)
    assert 'before it can run: [model] base = "checkpoints/tiny-base" is not there' in said
    assert "python -m toolkit.run recipes/tiny/base.toml" in said
    # What does not need the base is shown all the same.
    assert "7 updates an epoch, 420 in all" in said


def test_a_tokenizer_on_the_hub_is_not_fetched(folder: Path, shown, engine: ModuleType) -> None:
    said = shown("recipes/groupA.toml", "model.base='nobody/nothing'", tokens=True)
    assert "tokens are not shown: the tokenizer of nobody/nothing is not on this machine" in said
    assert "size not known: the base is not on this machine, or no Qwen3" in said


def test_runs_that_are_there_are_told_apart(in_project: Path, half_trained: Path, shown) -> None:
    from tests.conftest import HALF_TRAINED

    said = shown("recipes/tiny/groupA.toml", *HALF_TRAINED, "seeds=[0, 5]")
    assert "half/seed-0: finished already" in said
    assert "half/seed-5: new" in said
    assert re.search(r"about \d+ s a run, as \S+ took \d\.\d+ s an update with readings", said)
    changed = shown("recipes/tiny/groupA.toml", *HALF_TRAINED, "stage.learn.epochs=41")
    assert "half/seed-0: made by another version of this recipe" in changed


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_shipped_recipe_can_be_run_dry_and_fits_eighty_columns(folder: Path, shown, recipe: Path) -> None:
    # The articles of recipes/news.toml and the texts of r8 are the user's, and those of sst2 are on the hub.
    given = ["data.source=recipes/tiny/news_articles.csv"] if recipe.name == "news.toml" else []
    if recipe.name.startswith(("sst2", "r8")):
        given = ["data.source=recipes/tiny/surnames", 'data.test=""', "data.label_names=[]"]
    if recipe.name.startswith("chinese"):
        given = ["data.source=recipes/tiny/instructions.jsonl"]
    said = shown(recipe, *given, unwrapped=False)
    prose = said[said.index("\ndata\n") :]
    assert max(map(len, prose.splitlines())) <= 80
    if "before it can run" not in said:
        # Sizes of Qwen3 are known without its files.
        assert ("trainable parameters" in said) == ('"Qwen/Qwen3' in said or "[model.shape]" in said)
    # Lists stand on one line, and the recipe is still TOML.
    import tomllib

    resolved = tomllib.loads(said[: said.index("\ndata\n")])
    assert resolved["name"]
    assert not re.search(r"= \[$", said, flags=re.MULTILINE)
    assert contents(folder) == [folder / "recipes"]


# --- a new model on much data ---

UNREACHED = "the hub's data set BAAI/Infinity-Instruct could not be read (no network)."


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.studies import tables

    def read_hub(*asked: str) -> None:
        raise MachineError(UNREACHED)

    monkeypatch.setattr(tables, "read_hub", read_hub)


def test_what_is_known_without_the_data_is_shown_and_what_is_missing_is_said(
    folder: Path, shown, no_network: None, engine: ModuleType
) -> None:
    said = shown("recipes/mini_qwen.toml", tokens=True)
    assert "data not known: the data set is not on this machine" in said
    assert "the tokenizer of Qwen/Qwen3-0.6B is not on this machine (a run fetches it)" in said
    assert "learn: 10 epochs of all examples, 12 × 96 rows an update" in said
    # 151,669 tokens and eleven spare rows; ten epochs of 4 GB are kept besides the last.
    assert "998,480,896 trainable parameters of 998,480,896 in the model" in said
    disk = re.search(r"disk about (\d+) MiB a run when finished", said)
    assert disk is not None
    assert int(disk[1]) == round(11 * 4 * 998_480_896 / 2**20)
    assert f"before it can run: {UNREACHED} python -m toolkit.data RECIPE --fetch does so" in said
    assert contents(folder) == [folder / "recipes"]


def test_a_given_tokenizer_that_is_missing_is_named(folder: Path, shown) -> None:
    said = shown("recipes/mini_qwen.toml", "data.source=talks.jsonl", "model.tokenizer.base=checkpoints/none", *talks())
    assert 'before it can run: [model.tokenizer] base = "checkpoints/none" is not there' in said
    assert "size not known: the tokenizer is not on this machine" in said
    # What does not need it is shown all the same.
    assert "12 trained examples, 2 held out" in said


def talks() -> tuple[str, ...]:
    """Stand-ins: conversations of two turns, of which the last is too long for a row of 64 tokens."""
    said = [[("human", f"{n}?"), ("gpt", f"{n}1."), ("human", "And?"), ("gpt", f"{n}2.")] for n in range(13)]
    said.append([("human", "long?"), ("gpt", "3 " * 200)])
    rows = [{"conversations": [{"from": who, "value": text} for who, text in turns]} for turns in said]
    Path("talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ("data.sample=14", "data.validation=2", "data.invented_facts=0", "data.fact_controls=0",
            'stage.learn.train_on=["conversations"]', "model.max_length=128")  # fmt: skip


@pytest.fixture
def words(folder: Path) -> str:
    """A given tokenizer."""
    from toolkit.models.from_scratch import train_tokenizer

    train_tokenizer(["0? 1! 2. And? 3 "] * 9, 300).save_pretrained(folder / "words")
    return "model.tokenizer.base=words"


def test_of_a_conversation_every_answer_is_trained_and_what_is_too_long_is_counted(
    folder: Path, shown, words: str, engine: ModuleType
) -> None:
    said = shown("recipes/mini_qwen.toml", "data.source=talks.jsonl", words, *talks(), tokens=True, unwrapped=False)
    lines = re.findall(r"^learn, (\d+) of \d+ trained: (.*)$", said, flags=re.MULTILINE)
    assert len(lines) == 3
    for _, line in lines:
        answers = "".join(re.findall(r"\[([^]]*)\]", line)).split("<|im_end|>")
        number = answers[0].removesuffix("1.")
        assert answers == [f"{number}1.", f"{number}2.", ""]
    assert "1 of 14 examples left out for having over 128 tokens" in said
    assert "user: " in said
    # Without the flag it is refused.
    with pytest.raises(UserError, match="over .model. max_length = 128"):
        shown("recipes/mini_qwen.toml", "data.source=talks.jsonl", words, *talks(), "model.leave_out_long=false",
              tokens=True)  # fmt: skip


def test_packed_rows_are_counted(folder: Path, shown, words: str, engine: ModuleType) -> None:
    said = shown("recipes/scratch/packed.toml", "data.source=talks.jsonl", words, *talks(), tokens=True)
    found = re.search(r"packed: 1[12] examples in (\d+) rows of 128, (\d+)% full", said)
    assert found is not None
    assert int(found[1]) < 11
    assert 50 < int(found[2]) <= 100
