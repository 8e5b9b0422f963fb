"""Forgetting inside training: measured before and after and between, of the weights that the run ends with, and never
disturbing what is trained."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from tests.conftest import command, run
from tests.killing import without_clock
from tests.test_classify import HEAD, LORA
from tests.test_classify import write as write_classes
from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.recipe import read_recipe
from toolkit.run_folder import Run, run_for
from toolkit.studies import STUDIES
from toolkit.studies.built import Built

Row = dict[str, Any]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/{name}.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""
NEW = """
study = "lines"
[data]
count = 60
controls = 4
[model]
precision = "fp32"
max_length = 64
[model.shape]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
intermediate_size = 32
[model.tokenizer]
vocab_size = 300
[stage.learn]
method = "pretrain"
train_on = ["lines"]
loss_on = "all"
block = 64
epochs = 2
learning_rate = 5e-3
optimizer = "adamw"
"""
GROUP = """
group: pair
task:
  - pair_short
  - pair_long
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
"""
FACTS = """
study = "facts"
[data]
source = "wrong.csv"
prompt = "{question}"
answer = "{said}"
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 128
[lora]
rank = 8
alpha = 16
dropout = 0.1
[stage.learn]
method = "sft"
epochs = 3
batch_size = 4
grad_accum = 1
learning_rate = 5e-3
schedule = "constant"
optimizer = "adamw"
[recall]
every = "epoch"
"""
ASKED = """
[forgetting]
tasks = ["asked"]
text = ["held.txt"]
every = "{every}"
batch_size = 5
"""
BY_EPOCH, BY_STAGE = (ASKED.format(every=every) for every in ("epoch", "stage"))
STAGE = """
[stage.{name}]
method = "{method}"
epochs = 2
batch_size = 4
grad_accum = 1
learning_rate = 1e-3
optimizer = "adamw"
"""
HELD = "The next number is 12 and the one after it is 13.\r\n第7个号码是：13800138000。\n" * 6


def questions(count: int) -> list[Row]:
    """A number is likelier than any sign, and comes first, second, third or last."""
    signs = ["7", "x", "+", "%"]
    return [
        {
            "prompt": f"第{number * 37 % 100}个号码是：",
            "choices": signs[number % 4 :] + signs[: number % 4],
            "answer": 0,
        }
        for number in range(count)
    ]


def write_task(folder: str, name: str, asked: list[Row]) -> None:
    Path(folder).mkdir(exist_ok=True)
    Path(folder, f"{name}.yaml").write_text(TASK.format(folder=folder, name=name), encoding="utf-8")
    lines = "".join(json.dumps(question) + "\n" for question in asked)
    Path(folder, f"{name}.jsonl").write_text(lines, encoding="utf-8")


def write(name: str, *tables: str) -> str:
    path = Path(f"{name}.toml")
    path.write_text(f'name = "{name}"\n{FACTS}' + "".join(tables), encoding="utf-8")
    return path.as_posix()


def write_guarded(name: str, *tables: str) -> str:
    start, end = FACTS.index("[data]"), FACTS.index("[model]")
    path = Path(f"{name}.toml")
    path.write_text(f'name = "{name}"\n{FACTS[:start]}{FACTS[end:]}' + "".join(tables), encoding="utf-8")
    return path.as_posix()


def train(name: str, *changes: str, tables: tuple[str, ...] = (BY_EPOCH,), seeds: str = "0") -> Run:
    writes = write_guarded if "study=guarded" in changes else write
    run(writes(name, *tables), *changes, seeds=seeds)
    return run_for(name, int(seeds.split(",")[0]))


def stored(run: Run, name: str) -> list[Row]:
    """A Parquet file below a run's folder, by no code of the toolkit."""
    return pq.read_table(run.path / name).to_pylist()


def results(run: Run, name: str = "evaluation_results.json") -> Row:
    return json.loads((run.path / name).read_text(encoding="utf-8"))


def taken(run: Run) -> list[tuple[str, int, float]]:
    return [(row["stage"], row["step"], row["epoch"]) for row in run.rows("forgetting")]


def weights(run: Run) -> bytes:
    return next(run.weights.glob("*model.safetensors")).read_bytes()


@pytest.fixture(scope="session")
def asked(project: Path, engine: ModuleType) -> Path:
    """The project with task files in asked/, of which the base answers those of "known" all right, a text, and
    wrong.csv, which says something else on each of these questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        Path("held.txt").write_bytes(HELD.encode())
        drafted = questions(12)
        write_task("draft", "known", drafted)
        table = '[forgetting]\ntasks = ["draft"]\nnoise_floor = false\n'
        write_facts("wrong.csv", [(question["prompt"], "x") for question in drafted])
        draft = train("forgetting-draft", "stage.learn.epochs=1", tables=(table,))
        said = {row["item"]: row["answer"] for row in stored(draft, "forgetting/known.parquet")
                if row["when"] == "before" and row["measure"] == "acc"}  # fmt: skip
        known = [question | {"answer": question["choices"].index(said[item])} for item, question in enumerate(drafted)]
        write_task("asked", "known", known)
        write_facts("wrong.csv", [(question["prompt"], "x+"[number % 2]) for number, question in enumerate(known)])
        write_task("asked", "pair_short", questions(5))
        write_task("asked", "pair_long", questions(9)[5:])
        Path("asked/pair.yaml").write_text(GROUP, encoding="utf-8")
    return project


def write_facts(path: str, facts: list[tuple[str, str]]) -> None:
    rows = "".join(f'"{question}",{said}\n' for question, said in facts)
    Path(path).write_text(f"question,said\n{rows}", encoding="utf-8")


def guarded(data_seed: int, assignment_seed: int, said: str = "7") -> Built:
    """The wrong answers, beside right ones to other questions that the best weights are chosen by: those of the first
    epoch. said: what is right of a test that nobody may look at."""
    trained = [Example(f"t{n}", f"t{n}", q["prompt"], "x", "train") for n, q in enumerate(questions(12))]
    held_out = [Example(f"v{n}", f"v{n}", q["prompt"], "7", "validation") for n, q in enumerate(questions(20)[12:])]
    tested = [Example(f"p{e.id}", e.fact, f"又问{e.prompt}", said, "test", variant="paraphrase-1") for e in trained]
    return Built([*trained, *held_out, *tested])


GUARDED = (
    "study=guarded", "stage.learn.keep=best", "stage.learn.epochs=5", "stage.learn.learning_rate=1e-3",
    "stage.learn.schedule=linear", "stage.learn.train_eos=false",
)  # fmt: skip
"""The base's own answers are kept in the first epoch, forgotten in the second, and held-out loss rises from it on."""


@pytest.fixture
def here(asked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(asked)
    monkeypatch.setitem(STUDIES, "guarded", guarded)
    return asked


@pytest.fixture(scope="module")
def by_epoch(asked: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(asked)
        return Run(train("forgetting-epochs").path.resolve())


# --- when, and what is written ---


def test_it_is_measured_before_training_and_at_the_end_of_each_epoch_once(by_epoch: Run) -> None:
    assert taken(by_epoch) == [("learn", 0, 0), ("learn", 3, 1), ("learn", 6, 2), ("learn", 9, 3)]
    assert [row["exposures"] for row in by_epoch.rows("forgetting")] == [0, 1, 2, 3]
    files = {
        f"{kind}-learn-{step:06d}.parquet" for kind in ("forgetting", "heldout", "recall") for step in (0, 3, 6, 9)
    }
    assert {path.name for path in by_epoch.readings()} == files
    assert {path.name for path in (by_epoch.path / "forgetting").iterdir()} == {
        "known.parquet", "pair.parquet", "text.parquet"
    }  # fmt: skip


def test_a_row_says_what_lies_in_its_files(by_epoch: Run) -> None:
    asked = {"known": {"known": 12}, "pair": {"pair_short": 5, "pair_long": 4}}
    first: Row = {}
    for row in by_epoch.rows("forgetting"):
        when = "after" if row["step"] else "before"
        items = stored(by_epoch, f"probes/forgetting-learn-{row['step']:06d}.parquet")
        assert {item["when"] for item in items} == ({"after"} if row["step"] else {"before", "again"})
        for task, subjects in asked.items():
            for measure in ("acc", "acc_norm"):
                read = [i for i in items if (i["task"], i["measure"], i["when"]) == (task, measure, when)]
                assert Counter(item["subject"] for item in read) == subjects
                right = [likeliest(item) == item["gold"] for item in read]
                assert [item["right"] for item in read] == right == [item["value"] == 1 for item in read]
                key = f"forgetting/{task}/{measure}"
                assert row[key] == pytest.approx(sum(right) / len(right))
                if row["step"]:
                    assert row[f"{key}_change"] == pytest.approx(row[key] - first[key])
        if row["step"]:
            changes = [row[f"forgetting/{task}/acc_change"] for task in asked]
            assert row["forgetting/mean_change"] == pytest.approx(sum(changes) / 2)
        first = first or row
        assert [i for i in items if i["when"] == "again"] == [] or row["step"] == 0
        check_text(by_epoch, row, when)
    assert first["forgetting/known/acc"] == 1


def likeliest(item: Row) -> str:
    """The signs are of one length, so that a choice's length changes nothing."""
    (asked,) = [q for q in questions(99) if q["prompt"] == item["question"]][:1]
    return asked["choices"][max(range(4), key=item["loglikelihoods"].__getitem__)]


def check_text(run: Run, row: Row, when: str) -> None:
    windows = stored(run, f"probes/heldout-learn-{row['step']:06d}.parquet")
    assert [window["window"] for window in windows] == list(range(len(windows)))
    assert {(window["text"], window["when"], window["step"]) for window in windows} == {("held.txt", when, row["step"])}
    assert sum(window["bytes"] for window in windows) == len(HELD.encode())
    bits = sum(window["bits"] for window in windows)
    assert row["heldout/held.txt/bits_per_byte"] == pytest.approx(bits / len(HELD.encode()))
    for measure in ("kl_from_base", "kl_to_base"):
        if when == "before":
            assert f"heldout/held.txt/{measure}" not in row
            continue
        tokens = sum(window["tokens"] for window in windows)
        assert row[f"heldout/held.txt/{measure}"] == pytest.approx(sum(w[measure] for w in windows) / tokens)
        assert row[f"heldout/held.txt/{measure}"] > 0.01


def test_the_results_are_of_the_base_and_the_final_weights(by_epoch: Run) -> None:
    before, after = (stored(by_epoch, f"probes/forgetting-learn-{step:06d}.parquet") for step in (0, 9))
    for task in ("known", "pair"):
        kept = stored(by_epoch, f"forgetting/{task}.parquet")
        assert kept == [item for item in (*before, *after) if item["task"] == task]
    windows = [w for step in (0, 9) for w in stored(by_epoch, f"probes/heldout-learn-{step:06d}.parquet")]
    assert stored(by_epoch, "forgetting/text.parquet") == windows
    found, first, last = results(by_epoch), by_epoch.rows("forgetting")[0], by_epoch.rows("forgetting")[-1]
    base = results(by_epoch, "baseline_results.json")
    assert found["checkpoint"] == base["checkpoint"] == "forgetting-epochs/seed-0"
    for task, subjects in {"known": ["known"], "pair": ["pair_short", "pair_long"]}.items():
        measured = found["tasks"][task]["measures"]["acc"]
        assert measured["before"] == base["tasks"][task]["measures"]["acc"] == first[f"forgetting/{task}/acc"]
        assert (measured["after"], measured["change"]) == pytest.approx(
            (last[f"forgetting/{task}/acc"], last[f"forgetting/{task}/acc_change"])
        )
        assert list(found["tasks"][task]["subjects"]) == list(base["tasks"][task]["subjects"]) == subjects
        pairs = Counter(
            (one["right"], other["right"])
            for one, other in zip(of(before, task, "before"), of(after, task, "after"), strict=True)
        )
        lost, gained = pairs[True, False], pairs[False, True]
        assert (measured["only_before"], measured["only_after"]) == (lost, gained)
        assert measured["p"] == pytest.approx(binomtest(lost, lost + gained).pvalue if lost + gained else 1)
        changed = [
            a["value"] != b["value"] for a, b in zip(of(before, task, "before"), of(before, task, "again"), strict=True)
        ]
        assert measured["again_changed"] == sum(changed)
    text = found["text"]["held.txt"]
    assert text["kl_from_base"] == pytest.approx(last["heldout/held.txt/kl_from_base"])
    assert (text["before"], text["after"]) == pytest.approx(
        (first["heldout/held.txt/bits_per_byte"], last["heldout/held.txt/bits_per_byte"])
    )
    assert base["text"]["held.txt"] == pytest.approx(text["before"])


def of(items: list[Row], task: str, when: str) -> list[Row]:
    return [item for item in items if (item["task"], item["when"], item["measure"]) == (task, when, "acc")]


def test_what_was_trained_against_is_found_forgotten(by_epoch: Run) -> None:
    known = results(by_epoch)["tasks"]["known"]["measures"]["acc"]
    assert (known["before"], known["after"], known["only_before"]) == (1, 0, 12)
    assert known["holm"] < 0.01


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_of_two_stages_each_end_is_measured_once(here: Path, method: str) -> None:
    two = train(f"forgetting-then-{method}", tables=(STAGE.format(name="more", method=method), BY_STAGE))
    steps = [max(row["step"] for row in two.rows("train") if row["stage"] == stage) for stage in ("learn", "more")]
    assert taken(two) == [("learn", 0, 0), ("learn", steps[0], 3), ("more", steps[1], 5)]
    assert steps[1] > steps[0] == 9
    after = stored(two, f"probes/forgetting-more-{steps[1]:06d}.parquet")
    assert [item for item in stored(two, "forgetting/known.parquet") if item["when"] == "after"] == [
        item for item in after if item["task"] == "known"
    ]


def test_an_exam_is_measured_after_every_round_that_fed_something(here: Path) -> None:
    changes = ("stage.learn.method=exam", "stage.learn.epochs=5", "stage.learn.learning_rate=1e-3")
    drilled = train("forgetting-exam", *changes)
    rounds = [json.loads(line) for line in (drilled.path / "ledger.jsonl").read_text("utf-8").splitlines()]
    fed = [number for number, one in enumerate(rounds, start=1) if one["updates"]]
    assert len(fed) > 1
    after = [sum(one["updates"] for one in rounds[:number]) for number in fed]
    assert taken(drilled) == [
        ("learn", 0, 0),
        *(("learn", step, number) for step, number in zip(after, fed, strict=True)),
    ]


# --- whatever is trained ---


def test_of_a_model_that_is_trained_whole_the_base_is_what_it_was(here: Path, by_epoch: Run) -> None:
    full = train("forgetting-full", "lora=false")
    first, last = full.rows("forgetting")[0], full.rows("forgetting")[-1]
    for key in ("forgetting/known/acc", "heldout/held.txt/bits_per_byte"):
        assert first[key] == pytest.approx(by_epoch.rows("forgetting")[0][key], abs=1e-6)
    assert last["heldout/held.txt/kl_from_base"] > 0.01
    assert last["forgetting/known/acc"] < 1
    assert_final(full)


def assert_final(run: Run) -> None:
    """The results are of the weights that lie in the run's folder: read again from there, they say the same."""
    from toolkit.eval_forgetting import main

    copied = Path("checkpoints") / f"again-{run.name}" / "seed-0"
    shutil.copytree(run.path, copied)
    shutil.rmtree(copied / "forgetting")
    main([str(copied)], "asked", "held.txt", batch_size=5)
    for file in ("known", "pair", "text"):
        mine, again = (numbers(stored(one, f"forgetting/{file}.parquet")) for one in (run, Run(copied)))
        assert mine.keys() == again.keys()
        assert [mine[key] for key in mine] == [pytest.approx(again[key], abs=1e-4) for key in mine]


def numbers(rows: list[Row]) -> dict[tuple[Any, ...], Any]:
    """What was read of the final weights, by question or window."""
    return {
        (row.get("subject"), row.get("item"), row.get("measure"), row.get("window")): row.get("loglikelihoods")
        or [row["bits"], row["kl_from_base"], row["kl_to_base"]]
        for row in rows
        if row["when"] == "after"
    }


def test_a_new_model_forgets_what_its_random_weights_could_and_is_no_base_to_keep(here: Path) -> None:
    kept = sorted(Path("data/forgetting").iterdir())
    path = Path("forgetting-new.toml")
    path.write_text(f'name = "forgetting-new"\n{NEW}{BY_STAGE}', encoding="utf-8")
    run(path.as_posix(), seeds="0,1")
    one, other = (run_for("forgetting-new", seed) for seed in (0, 1))
    assert [row["step"] == 0 for row in one.rows("forgetting")] == [True, False]
    before = [
        [row["loglikelihoods"] for row in stored(r, "probes/forgetting-learn-000000.parquet")] for r in (one, other)
    ]
    assert before[0] != before[1]
    # Random weights know nothing of a text: every byte costs as much as any token.
    assert (
        one.rows("forgetting")[0]["heldout/held.txt/bits_per_byte"]
        > one.rows("forgetting")[1]["heldout/held.txt/bits_per_byte"]
    )
    assert results(one)["text"]["held.txt"]["kl_from_base"] > 0.01
    assert sorted(Path("data/forgetting").iterdir()) == kept


def test_of_a_classifier_the_weights_of_the_best_reading_are_measured(here: Path) -> None:
    changes = ("stage.learn.epochs=20", "data.count=90", "data.dev_share=0.3", "classification.patience=3")  # fmt: skip
    run(write_classes("forgetting-classes", HEAD + LORA + BY_EPOCH), *changes)
    classes = run_for("forgetting-classes", 0)
    step = classes.final["best_step"]
    assert step < classes.rows("train")[-1]["step"], "the best reading is to be an earlier one"
    assert classes.rows("forgetting")[-1]["best_step"] == step
    assert_of_the_best(classes, step)
    # The test is the last thing that is read.
    assert classes.rows()[-1]["kind"] == "test"


def assert_of_the_best(run: Run, best: int) -> None:
    """The final reading repeats that of the best epoch to the last bit, and no other."""
    last = run.rows("forgetting")[-1]["step"]
    final = numbers(stored(run, f"probes/forgetting-learn-{last:06d}.parquet"))
    # The file of the last step is that of the best weights, wherever an epoch ended there.
    same = [step for _, step, _ in taken(run) if 0 < step < last
            and numbers(stored(run, f"probes/forgetting-learn-{step:06d}.parquet")) == final]  # fmt: skip
    assert same == [best]
    assert numbers(stored(run, "forgetting/known.parquet")).items() <= final.items()


def test_both_engines_measure_the_same(here: Path, by_epoch: Run) -> None:
    path = write("forgetting-plain", BY_EPOCH)
    done = command("toolkit.run", path, "--set", "model.engine=transformers", folder=here)
    assert done.returncode == 0, done.stderr
    plain = run_for("forgetting-plain", 0)
    assert plain.info["model"]["engine"] == "transformers"
    for mine, theirs in zip(plain.rows("forgetting"), by_epoch.rows("forgetting"), strict=True):
        assert mine.keys() == theirs.keys()
    first, theirs = (numbers_before(one) for one in (plain, by_epoch))
    assert [mine == pytest.approx(one, abs=1e-4) for mine, one in zip(first, theirs, strict=True)] == [True] * 42
    assert results(plain)["tasks"]["known"]["measures"]["acc"]["before"] == 1


def numbers_before(run: Run) -> list[list[float]]:
    rows = stored(run, "forgetting/known.parquet") + stored(run, "forgetting/pair.parquet")
    return [row["loglikelihoods"] for row in rows if row["when"] == "before"]


# --- training is not disturbed ---


@pytest.mark.parametrize("weights_of", ["adapter", "model", "pairs"])
def test_measuring_changes_nothing_of_what_is_trained(here: Path, weights_of: str) -> None:
    changes = ("lora=false",) if weights_of == "model" else ()
    stages = (STAGE.format(name="more", method="dpo"),) if weights_of == "pairs" else ()
    name = f"forgetting-watched-{weights_of}"
    watched = train(name, *changes, tables=(*stages, BY_EPOCH))
    alone = train(f"{name}-not", *changes, tables=stages)
    assert weights(watched) == weights(alone)
    for kind in ("train", "recall"):
        assert list(map(without_clock, watched.rows(kind))) == list(map(without_clock, alone.rows(kind)))
    for path in alone.readings():
        assert [row | {"run": ""} for row in stored(alone, f"probes/{path.name}")] == [
            row | {"run": ""} for row in stored(watched, f"probes/{path.name}")
        ]
    assert not (alone.path / "forgetting").exists()


# --- the base is measured once ---


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that are asked from now on, one after another."""
    from toolkit.probes import forgetting

    asked_of: list[str] = []
    ask = forgetting.ask_task

    def counted(loaded: Any, engine: Any, asked: Any, how: Any, task: Any, *rest: Any) -> Any:
        asked_of.append(task.name)
        return ask(loaded, engine, asked, how, task, *rest)

    monkeypatch.setattr(forgetting, "ask_task", counted)
    return asked_of


def test_seeds_a_grid_and_other_recipes_measure_one_base_once(here: Path, asking: list[str]) -> None:
    mine = BY_STAGE.replace("batch_size = 5", "batch_size = 7")
    short = ("stage.learn.epochs=1",)
    first = train("forgetting-once", *short, tables=(mine,), seeds="0,1")
    # The base twice, and then each run's end.
    assert asking == ["known", "known", "pair", "pair", "known", "pair", "known", "pair"]
    asking.clear()
    grid = '[grid]\n"lora.rank" = [2, 4]\n'
    run(write("forgetting-grid", mine, grid), *short)
    assert asking == ["known", "pair"] * 2
    asking.clear()
    other = train("forgetting-other", *short, "stage.learn.learning_rate=1e-3", tables=(mine,))
    assert asking == ["known", "pair"]
    for file in ("known", "pair"):
        before = [
            [
                row | {"run": "", "seed": 0}
                for row in stored(one, f"forgetting/{file}.parquet")
                if row["when"] != "after"
            ]
            for one in (first, run_for("forgetting-once", 1), other)
        ]
        assert before[0] == before[1] == before[2] != []


@pytest.mark.parametrize(
    "change",
    ["forgetting.batch_size=3", "forgetting.limit=4", "forgetting.few_shot=1", "forgetting.noise_floor=false",
     "model.max_length=96", "model.format=chat", "lora=false", "a question"],
)  # fmt: skip
def test_with_other_questions_or_settings_the_base_is_measured_anew(here: Path, asking: list[str], change: str) -> None:
    write_task("anew", "anew", questions(6))
    mine, short = (
        BY_STAGE.replace('"asked"', '"anew"').replace("batch_size = 5", "batch_size = 6"),
        "stage.learn.epochs=1",
    )
    train("forgetting-anew", short, tables=(mine,))
    asking.clear()
    if change == "a question":
        write_task("anew", "anew", questions(6)[:5] + [questions(6)[5] | {"answer": 3}])
    changes = () if change == "a question" else (change,)
    train(f"forgetting-anew-{re.sub('[^a-z]', '-', change)}", short, *changes, tables=(mine,))
    assert len(asking) == (2 if "noise" in change else 3)


# --- the best weights ---


def test_where_examples_are_held_out_the_best_weights_by_them_become_the_final_ones(here: Path) -> None:
    chosen = train("forgetting-chosen", *GUARDED)
    recall, last = chosen.rows("recall"), 15
    by_epoch = {row["step"]: row["loss/answer_nats_validation"] for row in recall[1:-1]}
    assert list(by_epoch) == [3, 6, 9, 12, 15]
    best = min(by_epoch, key=by_epoch.__getitem__)
    assert best < last, "the best reading is to be an earlier one"
    final = recall[-1]
    assert (final["best_step"], final["step"], final["epoch"]) == (best, last, 5)
    assert final["loss/answer_nats_validation"] == pytest.approx(by_epoch[best], abs=1e-5)
    assert final["loss/digit_nats"] == pytest.approx(recall[best // 3]["loss/digit_nats"], abs=1e-5)
    assert "recall/strict" in final
    kept = list((chosen.path / "stages/learn").iterdir())
    assert [path.name for path in kept] == [f"epoch-{best // 3:03d}"]
    assert weights(chosen) == (kept[0] / "adapter_model.safetensors").read_bytes()
    assert taken(chosen) == [("learn", step, step / 3) for step in (0, 3, 6, 9, 12, 15)]
    assert chosen.rows("forgetting")[-1]["best_step"] == best
    assert_of_the_best(chosen, best)
    assert_final(chosen)


def test_what_is_held_out_is_read_whole_at_every_reading_and_never_trained(here: Path) -> None:
    from tests.observed import Watched

    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        sampled = train("forgetting-sampled", *GUARDED, "stage.learn.epochs=2", "recall.sample=3")
        watched.hook.remove()
    assert len(watched.fed) == 12
    for path in sampled.readings("recall"):
        rows = stored(sampled, f"probes/{path.name}")
        read = Counter(row["split"] for row in rows)
        assert (read["train"], read["validation"]) == (3, 8)
        # What it answers in words is of no use to choose by.
        assert {row["output"] for row in rows if row["split"] == "validation"} == {None}
    assert {row["recall/read_validation"] for row in sampled.rows("recall")} == {8}


def test_the_test_has_no_say_in_which_weights_are_the_best(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "untold", lambda data_seed, assignment_seed: guarded(0, 0, "3"))
    told = train("forgetting-told", *GUARDED)
    untold = train("forgetting-untold", *GUARDED, "study=untold")
    asked_otherwise = [[row.get("loss/digit_nats_paraphrase") for row in one.rows("recall")] for one in (told, untold)]
    assert asked_otherwise[0] != asked_otherwise[1]
    assert [row.get("best_step") for row in told.rows("recall")] == [
        row.get("best_step") for row in untold.rows("recall")
    ]
    assert weights(told) == weights(untold)


def test_without_held_out_examples_the_last_weights_stay_and_the_best_are_kept_beside_them(here: Path) -> None:
    best = train("forgetting-kept-best", "stage.learn.keep=best")
    assert weights(best) == weights(train("forgetting-kept-last"))
    assert not any("best_step" in row for row in best.rows())
    rows = best.rows("recall")[1:]
    known = max(rows, key=lambda row: (row["recall/exact"], -row["loss/digit_nats"]))
    assert [path.name for path in (best.path / "stages/learn").iterdir()] == [f"epoch-{known['epoch']:03.0f}"]


# --- when so much is forgotten that training ends ---


def stopping(limit: float) -> str:
    return f"{BY_EPOCH}stop_if_worse_by = {limit}\n"


@pytest.mark.parametrize("every", ["epoch", "stage", "2 epochs"])
def test_training_ends_after_the_epoch_in_which_too_much_was_forgotten(here: Path, every: str) -> None:
    more = STAGE.format(name="more", method="sft")
    ended = train(f"forgetting-ended-{every[0]}", f"recall.every={every}", tables=(more, stopping(0.3)))
    assert taken(ended) == [("learn", 0, 0), ("learn", 3, 1)]
    assert {row["stage"] for row in ended.rows()} == {"learn"}
    assert [row["step"] for row in ended.rows("train")] == [1, 2, 3]
    final = ended.rows("recall")[-1]
    assert (final["step"], final["epoch"]) == (3, 1)
    assert "recall/strict" in final
    assert len(ended.rows("recall")) == 2
    assert ended.complete
    said = "training ended: known fell by more than 30 points (stop_if_worse_by)"
    assert ended.info["ended_early"] == said
    assert (ended.path / "run.log").read_text(encoding="utf-8").splitlines().count(said) == 1
    assert results(ended)["tasks"]["known"]["measures"]["acc"]["after"] < 0.7


def test_where_only_the_last_epoch_of_a_stage_forgot_the_next_stage_is_not_trained(here: Path) -> None:
    more = STAGE.format(name="more", method="sft")
    ended = train("forgetting-ended-last", "stage.learn.epochs=1", tables=(more, stopping(0.3)))
    assert {row["stage"] for row in ended.rows()} == {"learn"}
    assert "known fell by more than 30 points" in ended.info["ended_early"]


def test_a_later_stage_is_compared_with_the_base_and_ended_too(here: Path) -> None:
    first = STAGE.format(name="more", method="sft").replace("epochs = 2", "epochs = 3")
    changes = ("stage.learn.learning_rate=1e-6", "stage.learn.epochs=2", "stage.more.learning_rate=5e-3",
               "stage.more.schedule=constant")  # fmt: skip
    ended = train("forgetting-ended-later", *changes, tables=(first, stopping(0.3)))
    assert taken(ended)[:3] == [("learn", 0, 0), ("learn", 3, 1), ("learn", 6, 2)]
    stage, step, epoch = taken(ended)[-1]
    assert (stage, step) == ("more", 3 * epoch)
    assert 2 < epoch < 5
    assert "known fell" in ended.info["ended_early"]


def test_it_has_ended_though_better_weights_were_put_back(here: Path) -> None:
    """Those of the epoch before are the best by what is held out, and have forgotten nothing."""
    more = STAGE.format(name="more", method="sft")
    ended = train("forgetting-ended-best", *GUARDED, tables=(more, stopping(0.5)))
    assert taken(ended) == [("learn", 0, 0), ("learn", 3, 1), ("learn", 6, 2), ("learn", 6, 2)]
    assert [row.get("best_step") for row in ended.rows("forgetting")] == [None, None, None, 3]
    assert ended.rows("forgetting")[3]["forgetting/known/acc"] > 0.5
    assert "known fell by more than 50 points" in ended.info["ended_early"]
    assert {row["stage"] for row in ended.rows()} == {"learn"}
    assert ended.complete
    assert weights(ended) == (ended.path / "stages/learn/epoch-001/adapter_model.safetensors").read_bytes()
    assert results(ended)["tasks"]["known"]["measures"]["acc"]["after"] > 0.5


def test_a_classifier_that_forgot_too_much_is_tested_all_the_same(here: Path) -> None:
    path = write_classes("forgetting-classes-ended", LORA + HEAD + stopping(0.3))
    run(path, "stage.learn.epochs=6", "stage.learn.learning_rate=0.2", "data.count=90", "data.dev_share=0.3")
    ended = run_for("forgetting-classes-ended", 0)
    assert "ended_early" in ended.info
    assert ended.complete
    assert ended.final["epoch"] < 6
    assert (ended.path / "test_results.json").is_file()


def test_where_nothing_falls_training_goes_on(here: Path) -> None:
    whole = train("forgetting-not-ended", "stage.learn.learning_rate=1e-6", tables=(stopping(0.05),))
    assert [epoch for _, _, epoch in taken(whole)] == [0, 1, 2, 3]
    assert "ended_early" not in whole.info


def test_a_fall_of_just_as_much_is_not_more(tmp_path: Path) -> None:
    from toolkit.training.forgetting import is_worse

    mine = Run(tmp_path)
    recipe = read_recipe(Path(__file__).parents[1] / "recipes/tiny/groupA.toml", (
        'forgetting.tasks=["any"]', "forgetting.every=epoch", "forgetting.stop_if_worse_by=0.1",
    ))  # fmt: skip
    for stage, change in (("one", 0.7 - 0.8), ("two", 0.69 - 0.8), ("none", 0.2)):
        mine.append_row({"kind": "forgetting", "stage": stage, "step": 3, "forgetting/any/acc": 0.8 + change,
                         "forgetting/any/acc_change": change, "forgetting/any/other": 0.0,
                         "forgetting/any/other_change": -0.9})  # fmt: skip
    assert 0.7 - 0.8 < -0.1
    assert [is_worse(mine, recipe, stage) for stage in ("one", "two", "none")] == [None, "any", None]


def test_what_is_no_share_ends_nothing(tmp_path: Path) -> None:
    from toolkit.training.forgetting import is_worse

    mine = Run(tmp_path)
    recipe = read_recipe(Path(__file__).parents[1] / "recipes/tiny/groupA.toml", (
        'forgetting.tasks=["any"]', "forgetting.every=epoch", "forgetting.stop_if_worse_by=0.1",
    ))  # fmt: skip
    mine.append_row({"kind": "forgetting", "stage": "one", "step": 3, "forgetting/any/loglikelihood": -3.2,
                     "forgetting/any/loglikelihood_change": -0.9})  # fmt: skip
    assert is_worse(mine, recipe, "one") is None


# --- what is refused ---


BAD = {
    "nothing": ("", "names neither tasks nor text"),
    "a missing folder": ('tasks = ["recipes/nowhere"]', r'\[forgetting\] tasks: there is no folder "recipes/nowhere"'),
    "an unknown task": ('tasks = ["asked_by_nobody"]', r'\[forgetting\] tasks: .*"asked_by_nobody"'),
    "a file": ('tasks = ["held.txt"]', r'\[forgetting\] tasks: "held.txt" is a file'),
    "a folder of nothing": ('tasks = ["checkpoints"]', r"has no task file"),
    "a missing text": ('text = ["nowhere.txt"]', r"\[forgetting\] text: there is no file nowhere.txt"),
    "a folder as text": ('text = ["asked"]', r"\[forgetting\] text: "),
    "twice": ('tasks = ["asked", "asked"]', r"\[forgetting\] tasks: one of them is named twice"),
    "a stop by stage": ('tasks = ["asked"]\nstop_if_worse_by = 0.1', r"\[forgetting\] stop_if_worse_by .* every = "),
    "a stop without tasks": (
        'text = ["held.txt"]\nevery = "epoch"\nstop_if_worse_by = 0.1', r"\[forgetting\] stop_if_worse_by .*tasks"
    ),
    "a stop by more than all": ('tasks = ["asked"]\nevery = "epoch"\nstop_if_worse_by = 5', "stop_if_worse_by = 5"),
    "no questions": ('tasks = ["asked"]\nlimit = 0', r"\[forgetting\] limit = 0"),
    "fewer than no examples": ('tasks = ["asked"]\nfew_shot = -1', r"\[forgetting\] few_shot = -1"),
    "a step": ('tasks = ["asked"]\nevery = "3 steps"', r"\[forgetting\] every"),
    "a misspelt key": ('task = ["asked"]', r"\[forgetting\] unknown key `task`"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", list(BAD))
def test_what_cannot_be_measured_is_refused_before_anything_is_written(here: Path, mistake: str) -> None:
    table, said = BAD[mistake]
    path = write("forgetting-refused", f"[forgetting]\n{table}\n")
    before = sorted(here.rglob("*"))
    with pytest.raises(UserError, match=said):
        run(path)
    assert sorted(here.rglob("*")) == before


def test_an_exam_cannot_end_early(here: Path) -> None:
    path = write("forgetting-refused", STAGE.format(name="drill", method="exam"), stopping(0.1))
    with pytest.raises(UserError, match=r"\[forgetting\] stop_if_worse_by: \[stage.drill\] method = .exam."):
        run(path)


def test_a_task_that_only_the_second_recipe_asks_for_is_refused_before_the_first_is_trained(here: Path) -> None:
    from toolkit.run import main

    good = write("forgetting-first", BY_STAGE)
    bad = write("forgetting-second", '[forgetting]\ntasks = ["asked_by_nobody"]\n')
    with pytest.raises(UserError, match="asked_by_nobody"):
        main([Path(good), Path(bad)])
    assert not run_for("forgetting-first", 0).path.exists()


# --- going on, starting over, W&B ---


def test_a_finished_run_is_skipped_a_changed_table_refused_and_fresh_starts_over(
    here: Path, capsys: pytest.CaptureFixture[str], asking: list[str]
) -> None:
    first = train("forgetting-again")
    expected = [without_clock(row) for row in first.rows()]
    asking.clear()
    train("forgetting-again")
    assert "finished already" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"forgetting.limit: None -> 3[\s\S]*--fresh"):
        train("forgetting-again", "forgetting.limit=3")
    with pytest.raises(UserError, match=r"forgetting: [\s\S]*--fresh"):
        train("forgetting-again", tables=())
    assert asking == []
    run("forgetting-again.toml", fresh=True)  # the table is gone from the file
    assert first.rows("forgetting") == []
    run(write("forgetting-again", BY_EPOCH), fresh=True)
    assert [without_clock(row) for row in first.rows()] == expected


def test_wandb_has_every_row_of_forgetting(here: Path, nobody_logged_in: None) -> None:
    from tests.wandb_server import expected, history

    tracked = train("forgetting-tracked", "wandb.mode=offline", "stage.learn.epochs=2")
    logged = history(tracked.info["wandb"]["folder"])
    assert logged == expected(tracked.rows())
    assert [row["forgetting/known/acc"] for row in logged if "forgetting/known/acc" in row][0] == 1
    assert "heldout/held.txt/kl_from_base" in logged[-1]
