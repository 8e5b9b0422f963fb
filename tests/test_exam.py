"""Exams on a small base: what is asked and fed, by whom it is fed, and that asking changes nothing."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.conftest import run as run_recipe
from toolkit.errors import status_of
from toolkit.example import Example, read_jsonl
from toolkit.run_folder import Run, run_for
from toolkit.training.ledger import read_ledger
from toolkit.training.schedules import rate_in

FACTS = """
study = "names"
[data]
count = 6
controls = 2
digits = 3
otherwise = false
"""
BASE = """
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 96
[stage.learn]
method = "sft"
epochs = 20
batch_size = 2
grad_accum = 1
learning_rate = 3e-3
schedule = "constant"
optimizer = "adamw"
[recall]
every = "stage"
"""
"""Trained whole, it knows one of the six."""
EXAM = """
[model]
base = "checkpoints/exam-base"
precision = "fp32"
max_length = 96
[lora]
rank = 16
alpha = 32
dropout = 0.1
[stage.drill]
method = "exam"
epochs = 9
batch_size = 2
grad_accum = 2
learning_rate = 5e-3
schedule = "linear"
warmup = 0.2
optimizer = "adamw"
"""
LEITNER = "stage.drill.review=leitner"
YOKED = "stage.drill.review=yoked"


class Fed(NamedTuple):
    """What the trainer of one round was fed, as its batches had it."""

    prompts: list[str]
    updates: int
    optimizer_steps: int
    """As the optimizer itself counts them, through all rounds."""


class Seen:
    """What a run asks and feeds, by looking at the trainer's batches and at the model around each exam."""

    def __init__(self, patch: pytest.MonkeyPatch, answer: Callable[[list[Example]], list[bool]] | None = None) -> None:
        from toolkit.training import exam, sft

        self.fed: list[Fed] = []
        self.asked: list[dict[str, bool]] = []
        make, ask = sft.make_trainer, exam.ask

        def make_trainer(engine: Any, loaded: Any, *rest: Any, **keywords: Any) -> Any:
            trainer = make(engine, loaded, *rest, **keywords)
            step, train, prompts = trainer.training_step, trainer.train, []

            def training_step(model: Any, inputs: dict[str, Any], *arguments: Any) -> Any:
                for ids, labels in zip(inputs["input_ids"], inputs["labels"], strict=True):
                    prompts.append(loaded.tokenizer.decode(ids[: int((labels != -100).nonzero()[0])]))
                return step(model, inputs, *arguments)

            def trained(*arguments: Any, **more: Any) -> Any:
                done = train(*arguments, **more)
                steps = {int(state["step"]) for state in trainer.optimizer.state_dict()["state"].values()}
                self.fed.append(Fed(prompts, trainer.state.global_step, *steps))
                return done

            trainer.training_step, trainer.train = training_step, trained
            return trainer

        def watched(training: Any, examples: list[Example]) -> list[bool]:
            before = state_of(training)
            right = answer(examples) if answer else ask(training, examples)
            assert state_of(training) == before
            self.asked.append({example.id: was for example, was in zip(examples, right, strict=True)})
            return right

        patch.setattr(sft, "make_trainer", make_trainer)
        patch.setattr(exam, "ask", watched)


def state_of(training: Any) -> tuple[Any, ...]:
    """All that an exam could disturb."""
    import random

    import numpy

    model = training.loaded.model
    weights = hash(b"".join(weight.numpy().tobytes() for weight in model.state_dict().values()))
    drawn = torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state())
    parts = tuple(module.training for module in model.modules())
    trainable = tuple(parameter.requires_grad for parameter in model.parameters())
    gradients = tuple(parameter.grad is None for parameter in model.parameters())
    counted = training.exposures.counts[:], training.exposures.last[:], training.exposures.clock
    return weights, drawn, parts, trainable, gradients, counted, training.loaded.tokenizer.padding_side


class Ran(NamedTuple):
    run: Run
    seen: Seen

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return read_ledger(self.run, "drill")

    @property
    def weights(self) -> bytes:
        return next(self.run.weights.glob("*model.safetensors")).read_bytes()


def write(name: str, text: str) -> str:
    Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}', encoding="utf-8")
    return f"{name}.toml"


def ran(name: str, *changes: str, text: str = FACTS + EXAM, answer: Any = None) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        seen = Seen(patch, answer)
        run_recipe(write(name, text), *changes)
    return Ran(run_for(name, 0), seen)


@pytest.fixture(scope="module")
def there(project: Path) -> Iterator[Path]:
    """The project, as current folder of all runs of this file, with a base that knows one of the facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        run_recipe(write("exam-base", FACTS + BASE), "lora=false")
        yield project


@pytest.fixture(scope="module")
def missed(there: Path) -> Ran:
    return ran("exam-missed")


@pytest.fixture(scope="module")
def leitner(there: Path) -> Ran:
    return ran("exam-leitner", LEITNER)


@pytest.fixture(scope="module")
def yoked(missed: Ran) -> Ran:
    return ran("exam-yoked", YOKED, "stage.drill.yoked_to=exam-missed")


@pytest.fixture(scope="module", params=["missed", "leitner", "yoked"])
def each(request: pytest.FixtureRequest) -> Ran:
    return request.getfixturevalue(request.param)


# --- the ledger ---


def test_the_ledger_is_what_the_trainer_was_fed_in_order(each: Ran) -> None:
    prompts = {example.id: example.prompt for example in read_jsonl(each.run.path / "examples.jsonl")}
    rounds = [entry for entry in each.rounds if entry["fed"]]
    assert [[prompts[fact] for fact in entry["fed"]] for entry in rounds] == [fed.prompts for fed in each.seen.fed]
    assert [entry["updates"] for entry in rounds] == [fed.updates for fed in each.seen.fed]
    assert [entry["round"] for entry in each.rounds] == list(range(9))
    # No round feeds a fact twice, and the order is not that of the facts.
    assert all(len(set(entry["fed"])) == len(entry["fed"]) for entry in rounds)
    assert any(entry["fed"] != sorted(entry["fed"]) for entry in rounds)


def test_each_facts_count_in_the_ledger_is_its_exposures_in_the_last_reading(each: Ran) -> None:
    from toolkit.probes.recall import read_reading

    counted = Counter(fact for entry in each.rounds for fact in entry["fed"])
    rows = read_reading(each.run.readings()[-1])
    assert {row["fact"]: row["exposures"] for row in rows} == {row["fact"]: counted[row["fact"]] for row in rows}
    assert sum(counted.values()) > 9
    assert each.run.rows("recall")[-1]["exposures"] == pytest.approx(sum(counted.values()) / 6)


def test_steps_and_epochs_are_those_of_updates_and_rounds(each: Ran) -> None:
    steps, rows = 0, each.run.rows("train")
    for entry in each.rounds:
        mine = [row for row in rows if steps < row["step"] <= steps + entry["updates"]]
        assert [row["step"] for row in mine] == list(range(steps + 1, steps + 1 + entry["updates"]))
        assert mine[-1]["epoch"] == entry["round"] + 1
        rate = 5e-3 * rate_in("linear", 0.2, entry["round"], 9)
        assert [row["train/learning_rate"] for row in mine] == pytest.approx([rate] * len(mine))
        steps += entry["updates"]
    assert len(rows) == steps
    last = each.run.rows("recall")[-1]
    assert (last["step"], last["epoch"]) == (steps, 9)
    assert [row["epoch"] for row in each.run.rows("recall")] == list(range(10))


def test_the_optimizer_goes_on_from_round_to_round(each: Ran) -> None:
    steps, expected = 0, []
    for fed in each.seen.fed:
        steps += fed.updates
        expected.append(steps)
    assert [fed.optimizer_steps for fed in each.seen.fed] == expected


# --- schedules ---


def test_missed_only_asks_everything_and_feeds_what_was_missed(missed: Ran) -> None:
    for entry, asked in zip(missed.rounds, missed.seen.asked, strict=True):
        wrong = {fact for fact, right in asked.items() if not right}
        assert (entry["asked"], entry["missed"], set(entry["fed"])) == (6, len(wrong), wrong)
    # Some are right and some are not, so that it is a schedule at all.
    assert 0 < sum(len(entry["fed"]) for entry in missed.rounds) < 6 * 9


def test_leitner_asks_what_is_due_and_feeds_what_was_missed_of_that(leitner: Ran) -> None:
    """Held against the rule in its own words: pauses of 1, 2, 4 … rounds, longer by one box each time it is right."""
    pause: dict[str, int] = {}
    due = dict.fromkeys((f"name-{number}" for number in range(1, 7)), 0)
    for entry, asked in zip(leitner.rounds, leitner.seen.asked, strict=True):
        assert set(asked) == {fact for fact, when in due.items() if when == entry["round"]}
        for fact, right in asked.items():
            pause[fact] = pause.get(fact, 1) * 2 if right else 1
            due[fact] = entry["round"] + pause[fact]
        wrong = {fact for fact, right in asked.items() if not right}
        assert (entry["asked"], entry["missed"], set(entry["fed"])) == (len(asked), len(wrong), wrong)
    assert {entry["asked"] for entry in leitner.rounds} > {6}


def test_a_yoked_run_asks_nothing_and_is_fed_as_many_in_as_many_updates(missed: Ran, yoked: Ran) -> None:
    assert yoked.seen.asked == []
    for mine, theirs in zip(yoked.rounds, missed.rounds, strict=True):
        assert (len(mine["fed"]), mine["updates"]) == (len(theirs["fed"]), theirs["updates"])
        assert (mine["asked"], mine["missed"]) == (0, 0)
    # Not the same ones, and not only those that the other missed.
    assert any(set(mine["fed"]) != set(theirs["fed"]) for mine, theirs in zip(yoked.rounds, missed.rounds, strict=True))
    assert yoked.weights != missed.weights


def test_an_exam_and_its_control_start_from_the_same(missed: Ran, yoked: Ran) -> None:
    assert (missed.run.path / "examples.jsonl").read_bytes() == (yoked.run.path / "examples.jsonl").read_bytes()
    before = [[row["bits_total"] for row in rows_of(ran.run, 0)] for ran in (missed, yoked)]
    assert before[0] == before[1]


def rows_of(run: Run, number: int) -> list[dict[str, Any]]:
    from toolkit.probes.recall import read_reading

    return read_reading(run.readings()[number])


# --- the exam itself ---


def test_asking_and_reading_change_nothing(missed: Ran) -> None:
    """The same answers said by nobody, with other readings: to the last bit the same weights."""
    told = iter(missed.seen.asked)

    def answer(examples: list[Example]) -> list[bool]:
        asked = next(told)
        return [asked[example.id] for example in examples]

    replayed = ran("exam-replayed", "recall.every=stage", answer=answer)
    assert replayed.rounds == missed.rounds
    assert len(replayed.run.rows("recall")) == 2
    assert replayed.weights == missed.weights


def test_what_is_right_in_an_exam_is_right_in_a_reading(missed: Ran) -> None:
    """A reading after a round, and the exam of the next one, are of the same weights."""
    for number in range(1, 9):
        read = {row["id"]: row["exact"] for row in rows_of(missed.run, number) if row["split"] == "train"}
        assert read == missed.seen.asked[number]


# --- nothing to feed ---


def always_right(examples: list[Example]) -> list[bool]:
    return [True] * len(examples)


def right_at_last(examples: list[Example]) -> list[bool]:
    right_at_last.calls += 1  # type: ignore[attr-defined]
    return [right_at_last.calls > 2] * len(examples)  # type: ignore[attr-defined]


def test_rounds_without_anything_missed_feed_nothing_and_the_run_ends(there: Path) -> None:
    right_at_last.calls = 0  # type: ignore[attr-defined]
    done = ran("exam-learned", "stage.drill.epochs=6", answer=right_at_last)
    assert [entry["updates"] for entry in done.rounds] == [2, 2, 0, 0, 0, 0]
    assert [len(entry["fed"]) for entry in done.rounds] == [6, 6, 0, 0, 0, 0]
    assert done.run.complete
    rows = done.run.rows("recall")
    assert [(row["step"], row["epoch"]) for row in rows] == [(0, 0), (2, 1), (4, 2), (4, 6)]
    # The last one asks for text, and is of the same weights as the one before it.
    assert ["recall/strict" in row for row in rows] == [True, False, False, True]
    assert rows[-1]["recall/bits"] == rows[-2]["recall/bits"]
    assert {row["epoch"] for row in rows_of(done.run, -1)} == {6}
    followed = ran("exam-learned-yoked", YOKED, "stage.drill.yoked_to=exam-learned", "stage.drill.epochs=6")
    assert [len(entry["fed"]) for entry in followed.rounds] == [6, 6, 0, 0, 0, 0]
    assert followed.run.rows("recall")[-1]["step"] == 4


def test_a_base_that_knows_everything_is_asked_and_never_trained(there: Path) -> None:
    """For real: a base that was trained on these two facts until it knew them."""
    facts = FACTS.replace("count = 6", "count = 2")
    run_recipe(write("exam-knowing", facts + BASE), "lora=false", "stage.learn.epochs=40")
    assert run_for("exam-knowing", 0).rows("recall")[-1]["recall/exact"] == 1
    known = ran("exam-known", "model.base=checkpoints/exam-knowing", "stage.drill.epochs=3", text=facts + EXAM)
    assert [(entry["asked"], entry["missed"], entry["updates"]) for entry in known.rounds] == [(2, 0, 0)] * 3
    assert known.run.complete
    assert known.run.rows("train") == []
    assert [(row["step"], row["epoch"], row["recall/exact"]) for row in known.run.rows("recall")] == [
        (0, 0, 1),
        (0, 3, 1),
    ]
    assert json.loads((known.run.path / "run.json").read_text("utf-8"))["state"] == "complete"
    # Leitner asks it after pauses only.
    boxes = ran("exam-boxes", "model.base=checkpoints/exam-knowing", "stage.drill.epochs=7", LEITNER, text=facts + EXAM)
    assert [entry["asked"] for entry in boxes.rounds] == [2, 0, 2, 0, 0, 0, 2]


def test_an_exam_between_other_stages_passes_its_weights_on(there: Path) -> None:
    """Learn, an exam in which nothing is missed, another in which everything is, and learn again."""
    stage = 'method = "sft"\nepochs = 1\nbatch_size = 2\ngrad_accum = 1\noptimizer = "adamw"\n'
    text = FACTS + EXAM.replace("[stage.drill]", f"[stage.learn]\n{stage}[stage.drill]")
    text = f'{text}[stage.again]\nmethod = "exam"\nepochs = 1\nbatch_size = 6\ngrad_accum = 1\n[stage.last]\n{stage}'
    plain = text.replace('[stage.drill]\nmethod = "exam"\nepochs = 9', '[stage.drill]\nmethod = "exam"\nepochs = 2')
    calls: list[int] = []

    def answer(examples: list[Example]) -> list[bool]:
        calls.append(len(examples))
        return [len(calls) <= 2] * len(examples)

    done = ran("exam-between", text=plain, answer=answer)
    assert [(row["stage"], row["step"]) for row in done.run.rows("train")] == [
        ("learn", 1), ("learn", 2), ("learn", 3), ("again", 4), ("last", 5), ("last", 6), ("last", 7)
    ]  # fmt: skip
    assert [entry["stage"] for entry in read_ledger(done.run)] == ["drill", "drill", "again"]
    assert [(row["stage"], row["step"], row["epoch"]) for row in done.run.rows("recall")] == [
        ("learn", 0, 0), ("learn", 3, 1), ("drill", 3, 3), ("again", 4, 4), ("last", 7, 5)
    ]  # fmt: skip
    assert {row["exposures"] for row in rows_of(done.run, -1) if row["split"] == "train"} == {3}


def test_weights_are_kept_by_rounds(there: Path) -> None:
    done = ran("exam-kept", "stage.drill.epochs=3", "stage.drill.keep=epochs")
    folders = sorted(path.name for path in (done.run.path / "stages/drill").iterdir())
    assert folders == ["epoch-001", "epoch-002", "epoch-003"]
    last = done.run.path / "stages/drill/epoch-003/adapter_model.safetensors"
    assert last.read_bytes() == done.weights


# --- what is refused before anything is written ---


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path("checkpoints").rglob("*") if path.is_file()}


def assert_refused(
    *changes: str, said: str, capsys: pytest.CaptureFixture[str], recipe: str = "exam-missed.toml"
) -> None:
    before = files()
    assert status_of(lambda: run_recipe(recipe, "name=exam-refused", *changes)) == 2
    error = capsys.readouterr().err.partition("error: ")[2]
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert files() == before
    assert not Path("checkpoints/exam-refused").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stage.drill.yoked_to=exam-nobody", "checkpoints/exam-nobody/seed-0 is not finished. No recipe is called so."),
        ("stage.drill.epochs=8", "exam-missed/seed-0 had 9 rounds, and here epochs = 8."),
        ("data.seed=5", "exam-missed/seed-0 was trained on other facts"),
        ("data.count=5", "exam-missed/seed-0 was trained on other facts"),
        ("stage.drill.batch_size=1", "give both one batch_size and one grad_accum"),
    ],
)
def test_a_yoke_that_is_none_is_refused(
    missed: Ran, change: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    yoke = (YOKED, "stage.drill.yoked_to=exam-missed", change)
    assert_refused(*yoke, said=said, capsys=capsys)


def test_a_run_that_is_not_finished_cannot_be_followed(missed: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    copy = run_for("exam-unfinished", 0)
    shutil.copytree(missed.run.path, copy.path)
    copy.update_info(state="running")
    yoke = (YOKED, "stage.drill.yoked_to=exam-unfinished")
    assert_refused(*yoke, said="checkpoints/exam-unfinished/seed-0 is not finished", capsys=capsys)


def test_with_fresh_a_wrong_yoke_deletes_nothing(yoked: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    changes = (YOKED, "stage.drill.yoked_to=exam-missed", "stage.drill.epochs=8")
    before = files()
    assert status_of(lambda: run_recipe("exam-yoked.toml", *changes, fresh=True)) == 2
    assert files() == before


def test_exams_of_texts_are_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("model.base=checkpoints/tiny-base", "model.max_length=512", "stage.read.method=exam")
    said = "is a text without a question: exams need questions"
    assert_refused(*changes, said=said, capsys=capsys, recipe="recipes/tiny/news.toml")


def test_both_engines_ask_and_feed_the_same(missed: Ran) -> None:
    other = ran("exam-plain", "model.engine=transformers", "lora.dropout=0", "stage.drill.epochs=3")
    ours = ran("exam-ours", "lora.dropout=0", "stage.drill.epochs=3")
    assert other.run.info["model"]["engine"] == "transformers"
    assert other.rounds == ours.rounds
    losses = [[row["train/loss"] for row in one.run.rows("train")] for one in (other, ours)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
