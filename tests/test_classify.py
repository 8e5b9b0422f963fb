"""Classifiers trained for real on a small base: each way learns a real task, and what a run does and leaves behind."""

import json
import random
from collections import Counter
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.conftest import ROOT, command, run
from toolkit.classes import read_classes
from toolkit.errors import UserError
from toolkit.probes.classification import read_rows, results, summarise
from toolkit.recipe import read_recipe
from toolkit.run_folder import Run, run_for
from toolkit.training.order import ByLength

SURNAMES = "recipes/tiny/surnames"
RECIPE = """
name = "{name}"
study = "classify"
[data]
source = "{source}"
prompt = "{prompt}"
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 48
[classification]
batch_size = 64
[stage.learn]
method = "classify"
batch_size = 16
grad_accum = 1
optimizer = "adamw"
keep = "best"
"""
HEAD = "\n[model.head]\nlayers = [64, 32]\n"
LINEAR = "\n[model.head]\nlayers = []\ndropout = 0.0\n"
LORA = "\n[lora]\nrank = 8\nalpha = 16\ndropout = 0.1\n"


def write(name: str, more: str = HEAD + LORA, source: str = SURNAMES, prompt: str = "{text} is ") -> str:
    path = Path(f"{name}.toml")
    path.write_text(RECIPE.format(name=name, source=source, prompt=prompt) + more, encoding="utf-8")
    return path.as_posix()


def train(name: str, *changes: str, more: str = HEAD + LORA, seeds: str = "0") -> Run:
    run(write(name, more), *changes, seeds=seeds)
    return run_for(name, int(seeds.split(",")[0]))


def weights(run: Run) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.weights.glob("*.safetensors"))]


def of_the_test(run: Run) -> list[dict[str, Any]]:
    return [row for row in read_rows(run.readings()[-1]) if row["split"] == "test"]


LENGTH = ("stage.learn.epochs=6", "stage.learn.learning_rate=3e-3")


@pytest.fixture(scope="module")
def lora(project: Path, engine: ModuleType) -> Run:
    """LoRA and a head of three layers, two seeds; the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        first = train("classify-lora", *LENGTH, seeds="0,1")
        return Run(first.path.resolve())


@pytest.fixture(scope="module")
def words(project: Path, engine: ModuleType) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        changes = ("stage.learn.epochs=6", "stage.learn.learning_rate=1e-3")
        return Run(train("classify-words", *changes, more="").path.resolve())


def clearly_better(run: Run) -> bool:
    """The held-out accuracy's interval lies above what always answering the commonest class gives."""
    found = json.loads((run.path / "test_results.json").read_text(encoding="utf-8"))
    assert found["n"] == 500
    assert found["majority"]["accuracy"] == pytest.approx(110 / 500)
    return found["accuracy_interval_within_the_run"][0] > found["majority"]["accuracy"] + 0.1


def test_lora_with_a_head_of_three_layers_learns_from_which_language_a_name_is(lora: Run) -> None:
    assert clearly_better(lora)
    assert lora.info["model"]["trainable_parameters"] < 150_000


def test_every_weight_with_a_linear_head_learns_it(in_project: Path) -> None:
    full = train("classify-full", "stage.learn.epochs=4", "stage.learn.learning_rate=1e-3", more=LINEAR)
    assert clearly_better(full)
    assert (full.path / "model/head.safetensors").is_file()


def test_answers_in_words_learn_it(words: Run) -> None:
    assert clearly_better(words)
    assert not (words.weights / "head.safetensors").exists()


# --- the test, once ---


def test_the_test_is_read_once_and_at_the_end(lora: Run) -> None:
    rows = lora.rows()
    assert [row["kind"] for row in rows if any(key.startswith("test/") for key in row)] == ["test"]
    assert rows[-1]["kind"] == "test"
    for path in lora.readings()[:-1]:
        assert {row["split"] for row in read_rows(path)} == {"validation"}


def test_every_text_is_counted_once(lora: Run) -> None:
    rows = read_rows(lora.readings()[-1])
    examples = [json.loads(line) for line in (lora.path / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = {e["id"]: (e["split"], e["answer"]) for e in examples if e["split"] in ("validation", "test")}
    assert {row["id"]: (row["split"], row["gold"]) for row in rows} == held_out
    assert len(rows) == len(held_out) == 500 + 210
    # And each training text once an epoch.
    assert lora.rows("test")[-1]["exposures"] == 6


def test_the_reported_numbers_are_those_of_the_rows(lora: Run) -> None:
    rows, final = of_the_test(lora), lora.final
    right = [row["gold"] == row["predicted"] for row in rows]
    assert final["test/accuracy"] == pytest.approx(fmean(right))
    assert [row["right"] for row in rows] == right
    labels = lora.info["data"]["labels"]
    assert labels == ["Dutch", "English", "Finnish", "Italian", "Spanish"]
    for row in rows:
        assert sum(row["probabilities"]) == pytest.approx(1)
        assert row["p_gold"] == pytest.approx(row["probabilities"][labels.index(row["gold"])])
        assert row["p"] == pytest.approx(max(row["probabilities"]))
    found = json.loads((lora.path / "test_results.json").read_text(encoding="utf-8"))
    assert found["accuracy"] == final["test/accuracy"]
    pairs = Counter((row["gold"], row["predicted"]) for row in rows)
    assert [row[: len(labels)] for row in found["confusion"]] == [[pairs[a, b] for b in labels] for a in labels]
    text = (lora.path / "test_summary.txt").read_text(encoding="utf-8")
    assert f"{final['test/accuracy']:.4f}" in text
    assert "Finnish" in text
    assert (lora.path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_tested_are_the_weights_of_the_best_reading(in_project: Path, lora: Run) -> None:
    readings = [row for row in lora.rows("classification") if row["step"]]
    best = max(readings, key=lambda row: (row["validation/accuracy"], -row["step"]))
    assert lora.final["best_step"] == best["step"]
    assert lora.final["validation/accuracy"] == best["validation/accuracy"]
    assert lora.final["validation/loss"] == best["validation/loss"]


def test_with_keep_last_the_last_weights_are_tested(in_project: Path) -> None:
    last = train("classify-last", "stage.learn.epochs=2", 'stage.learn.keep="last"')
    assert last.final["best_step"] == last.final["step"] == last.rows("train")[-1]["step"]
    assert last.final["validation/loss"] == last.rows("classification")[-1]["validation/loss"]


# --- the loss ---


def test_logits_go_into_cross_entropy_as_they_are(lora: Run, engine: ModuleType, in_project: Path) -> None:
    # A softmax before cross-entropy could not get below ln(1 + 4/e) = 0.90 for five classes; here it falls far below.
    losses = [row["train/loss"] for row in lora.rows("train")]
    assert losses[0] == pytest.approx(torch.tensor(5.0).log().item(), abs=1.5)
    assert min(losses) < 0.7


def test_the_first_loss_is_the_mean_over_the_texts_of_the_update_however_it_is_split(in_project: Path) -> None:
    # Without dropout, the same 17 texts in one batch, and in batches of 5, 5, 5 and 2.
    more = "\n[model.head]\nlayers = [64]\ndropout = 0.0\n[lora]\nrank = 8\nalpha = 16\n"
    short = ("data.count=24", "stage.learn.epochs=1", 'stage.learn.keep="last"', "data.dev_share=0.3")
    whole = train("classify-whole", *short, "stage.learn.batch_size=17", more=more)
    split = train("classify-split", *short, "stage.learn.batch_size=5", "stage.learn.grad_accum=4", more=more)
    assert len(whole.rows("train")) == len(split.rows("train")) == 1
    assert whole.info["data"]["trained"] == 17
    first, second = whole.rows("train")[0], split.rows("train")[0]
    assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-4)
    assert second["train/grad_norm"] == pytest.approx(first["train/grad_norm"], rel=1e-3)


def test_gradient_checkpointing_changes_no_number(in_project: Path) -> None:
    short = ("data.count=40", "data.dev_share=0.3", "stage.learn.epochs=2", "stage.learn.batch_size=7")
    plain = train("classify-plain", *short)
    saving = train("classify-checkpointing", *short, "model.gradient_checkpointing=true")
    assert [row["train/loss"] for row in saving.rows("train")] == [row["train/loss"] for row in plain.rows("train")]
    assert weights(saving) == weights(plain)


def test_without_unsloth_a_classifier_is_trained_to_the_same_numbers_but_for_rounding(in_project: Path) -> None:
    short = ("data.count=40", "data.dev_share=0.3", "stage.learn.epochs=2", "stage.learn.batch_size=7")
    done = command("toolkit.run", write("classify-transformers"), "--seeds", "0", *(
        argument for change in (*short, "model.engine=transformers") for argument in ("--set", change)
    ), folder=in_project)  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = train("classify-plain", *short), run_for("classify-transformers", 0)
    for one, other in zip(ours.rows("train"), theirs.rows("train"), strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], abs=1e-4)


# --- seeds ---


def test_the_same_seed_gives_the_same_classifier_to_the_last_bit(in_project: Path, lora: Run) -> None:
    again = train("classify-again", *LENGTH)
    assert weights(again) == weights(lora)
    assert of_the_test(again) == [row | {"run": "classify-again"} for row in of_the_test(lora)]


def test_a_seed_reaches_the_validation_cut_the_order_and_the_head(in_project: Path, lora: Run) -> None:
    other = run_for("classify-lora", 1)
    chosen = [{row["id"] for row in read_rows(r.readings()[0])} for r in (lora, other)]
    assert chosen[0] != chosen[1]
    assert weights(lora) != weights(other)
    assert {row["id"] for row in of_the_test(lora)} == {row["id"] for row in of_the_test(other)}


# --- words ---


def test_replies_that_are_no_label_are_wrong_and_counted(words: Run) -> None:
    rows, final = of_the_test(words), words.final
    assert all(row["reply"] is not None for row in rows)
    unreadable = [row for row in rows if row["said"] is None]
    assert final["test/unreadable"] == pytest.approx(len(unreadable) / 500)
    assert final["test/said_accuracy"] == pytest.approx(fmean(row["said"] == row["gold"] for row in rows))
    found = json.loads((words.path / "test_results.json").read_text(encoding="utf-8"))
    assert found["said"]["unreadable"] == len(unreadable)
    assert sum(map(sum, found["said"]["confusion"])) == 500


def test_an_unreadable_reply_is_never_right() -> None:
    base = {"split": "test", "p": 0.6, "nats": 0.5, "probabilities": [0.6, 0.4], "cut": 0, "predicted": "a"}
    rows = [
        base | {"gold": gold, "right": gold == "a", "reply": reply, "said": said}
        for gold, reply, said in (("a", "a", "a"), ("a", "what?", None), ("b", "", None), ("b", "b", "b"))
    ]
    summary = summarise(rows, ("a", "b"))
    assert summary["test/said_accuracy"] == 0.5
    assert summary["test/unreadable"] == 0.5
    assert results(rows, ("a", "b"))["said"]["confusion"] == [[1, 0, 1], [0, 1, 1]]


def test_a_reply_agrees_with_the_likeliest_label_where_it_is_one(words: Run) -> None:
    # Greedy decoding follows the likeliest first token, and nearly always ends at the likeliest whole label.
    readable = [row for row in of_the_test(words) if row["said"] is not None]
    assert len(readable) > 400
    assert fmean(row["said"] == row["predicted"] for row in readable) > 0.95


# --- stopping early ---


def test_training_ends_when_readings_are_no_better_for_long_enough(in_project: Path) -> None:
    # The rate is far too high after a while for anything to become better.
    ended = train(
        "classify-early", "stage.learn.epochs=40", "stage.learn.learning_rate=2e-3", "data.count=200",
        "classification.patience=2", 'stage.learn.schedule="constant"',
    )  # fmt: skip
    readings = [row for row in ended.rows("classification") if row["step"]]
    values = [row["validation/accuracy"] for row in readings]
    first_best = values.index(max(values))
    assert len(readings) < 40
    assert len(readings) == first_best + 1 + 2
    assert ended.final["step"] == readings[-1]["step"] == ended.rows("train")[-1]["step"]
    assert ended.final["best_step"] == readings[first_best]["step"]


# --- order and padding ---


def test_batches_are_of_one_length_and_new_every_epoch() -> None:
    rng = random.Random(2)
    lengths = [int(rng.lognormvariate(4, 0.8)) + 1 for _ in range(1003)]
    done = [0.0]
    sampler = ByLength(lengths, 8, seed=3, epochs_done=lambda: done[0])
    first = list(sampler)
    assert sorted(first) == list(range(1003))
    assert first == list(sampler)
    done[0] = 1.0
    assert list(sampler) != first
    assert sorted(sampler) == list(range(1003))
    done[0] = 0.4
    assert list(sampler) == first
    batches = [first[at : at + 8] for at in range(0, 1003, 8)]
    fed = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    # In the order that they come in, nearly a half would be padding.
    assert 1 - sum(lengths) / fed < 0.1
    # Not from long to short: what is fed first is no longer than what is fed last.
    means = [fmean(lengths[i] for i in batch) for batch in batches]
    assert abs(fmean(means[:60]) - fmean(means[60:])) < 0.35 * fmean(means)


# --- what lies there, and what is said ---


def test_a_checkpoint_says_what_it_tells_apart_and_how_it_is_asked(lora: Run) -> None:
    classes = read_classes(lora.weights)
    assert classes.labels == ("Dutch", "English", "Finnish", "Italian", "Spanish")
    assert classes.prompt == "{text} is "
    assert classes.head is not None
    assert classes.head.layers == [64, 32]
    assert not (lora.path / "state").exists()


def test_a_finished_run_is_skipped_and_a_changed_one_refused(
    in_project: Path, lora: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    train("classify-lora", *LENGTH)
    assert "finished already" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"model\.head\.layers"):
        train("classify-lora", *LENGTH, "model.head.layers=[64]")


def test_the_table_of_a_call_has_mean_standard_deviation_and_interval(
    in_project: Path, lora: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    train("classify-lora", *LENGTH, seeds="0,1")
    said = capsys.readouterr().out
    values = [run_for("classify-lora", seed).final["test/accuracy"] for seed in (0, 1)]
    assert f"{fmean(values):.4f} ± {abs(values[0] - values[1]) / 2**0.5:.4f}" in said
    assert "95 % interval over 2 runs" in said


def test_uneven_classes_are_warned_of_before_training(in_project: Path, tmp_path: Path) -> None:
    rows = [("Aaltonen", "Finnish")] * 3 + [("Rossi", "Italian")] * 30
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"{a}{i},{b}\n" for i, (a, b) in enumerate(rows)))
    (tmp_path / "test.csv").write_text("text,label\nVirtanen,Finnish\nBianchi,Italian\n")
    path = write("classify-uneven", source=tmp_path.as_posix())
    run(path, "stage.learn.epochs=1")
    assert "classes are uneven: Italian 2" in (run_for("classify-uneven", 0).path / "run.log").read_text()


def test_a_dry_run_shows_classes_tokens_and_the_head(in_project: Path) -> None:
    said = command("toolkit.run", write("classify-dry"), "--dry-run", folder=in_project).stdout
    assert "1,190 train, 210 validation, 500 test texts; 5 classes" in said
    assert "read at the last token" in said
    assert "a head of [64, 32] units" in said
    assert "classify-dry/seed-0: new" in said
    assert not Path("checkpoints/classify-dry").exists()


# --- recipes ---


def test_published_settings_stand_in_the_recipes(in_project: Path) -> None:
    lora, full = (read_recipe(ROOT / f"recipes/sst2_{which}.toml") for which in ("lora", "full"))
    assert lora.seeds == full.seeds == [0, 42, 123]
    assert lora.lora is not None
    assert (lora.lora.rank, lora.lora.alpha, lora.lora.dropout, len(lora.lora.targets)) == (64, 16, 0.1, 7)
    head = lora.model.head
    assert head is not None
    assert (head.layers, head.dropout) == ([512, 256], 0.1)
    for recipe, rate, batch, epochs, every, save in (
        (lora, 5e-4, 8, 8, "100 steps", "200 steps"), (full, 2e-5, 4, 5, "50 steps", "100 steps"),
        (read_recipe(ROOT / "recipes/r8_lora.toml"), 5e-4, 8, 8, "100 steps", "200 steps"),
        (read_recipe(ROOT / "recipes/r8_full.toml"), 2e-5, 4, 5, "50 steps", "100 steps"),
    ):  # fmt: skip
        stage = recipe.stage["learn"]
        assert (stage.learning_rate, stage.batch_size, stage.epochs, stage.save) == (rate, batch, epochs, save)
        assert recipe.classification is not None
        assert recipe.classification.every == every
        assert stage.keep == "best"
    assert full.lora is None
    assert read_recipe(ROOT / "recipes/tiny/classify_words.toml").model.head is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("study=phone", "data={}"), "do not go together"),
        (("stage.learn.method=sft",), r"\[model\.head\] is for a stage"),
        (("model.head=false", "stage.learn.method=sft", "classification={}"), r"\[classification\] is for a stage"),
        (("compare.primary=recall/exact",), "of a classifier it is test/accuracy"),
        (("recall.every=stage",), r"\[recall\] is of facts"),
        (("stage.learn.loss_on=all",), "trains classes"),
        (("model.head=true",), r"model\.head is a table"),
        (("data.text=headline",), "no column `headline`"),
        (("data.source=recipes/tiny",), "nothing called train"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_written(
    in_project: Path, changes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train("classify-refused", *changes)
    assert not Path("checkpoints/classify-refused").exists()


def test_facts_cannot_be_classified_by_their_answers(in_project: Path) -> None:
    recipe = Path(write("classify-sft", more=LORA))
    text = recipe.read_text(encoding="utf-8").replace('"classify"\nbatch', '"sft"\nbatch')
    recipe.write_text(text.replace("[classification]\nbatch_size = 64\n", ""), encoding="utf-8")
    with pytest.raises(UserError, match=r"without \[model.head\] it is answered in words"):
        run(recipe.as_posix())
