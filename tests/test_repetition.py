"""The repetition probe: what is asked and how often it was trained, what is written and measured, and when."""

import math
import os
import random
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import run
from tests.killing import contents, die, forked, watch, without_clock
from toolkit.errors import UserError, status_of
from toolkit.example import Example
from toolkit.probes.repetition_prompts import (
    Frequency,
    Prompt,
    describe,
    draw_prompts,
    normalised,
    trained_texts,
    units_of,
    with_frequency,
)
from toolkit.recipe import Repetition, read_recipe
from toolkit.run_folder import Run, run_for
from toolkit.seeds import sub_seed
from toolkit.studies import STUDIES, build_data
from toolkit.studies.built import Built

Row = dict[str, Any]


def talk(number: int, split: Any = "train", part: str = "conversations", **more: Any) -> Example:
    return Example(f"{split}-{part}-{number}", f"{part}-{number}", f"问题{number}？", "答", split, part=part, **more)


def ids_of(prompts: list[Prompt]) -> list[str]:
    return [prompt.id for prompt in prompts]


# --- what is asked ---


def test_questions_come_first_and_then_held_out_conversations() -> None:
    examples = [talk(n) for n in range(5)] + [talk(n, "validation") for n in range(5, 9)]
    prompts = draw_prompts(examples, Repetition(questions=["a", "b"], prompts=9), 0)
    assert ids_of(prompts) == ["question-1", "question-2", *(f"validation-conversations-{n}" for n in range(5, 9))]
    assert [prompt.source for prompt in prompts] == ["question"] * 2 + ["held_out"] * 4
    assert [prompt.has_reference for prompt in prompts] == [False] * 2 + [True] * 4
    assert describe(prompts, 5) == {"prompts": 6, "held_out": 4, "source": "held_out", "training_texts": 5}


def test_the_same_prompts_are_drawn_every_time_and_others_for_another_seed() -> None:
    examples = [talk(n, "validation") for n in range(200)]
    how = Repetition(prompts=20)
    first = ids_of(draw_prompts(examples, how, 0))
    assert first == ids_of(draw_prompts(examples, how, 0))
    assert len(set(first)) == 23
    assert first != ids_of(draw_prompts(examples, how, 1))


def test_controls_are_asked_where_nothing_is_held_out_and_then_trained_ones_and_rows_say_so() -> None:
    trained, controls = [talk(n) for n in range(3)], [talk(n, "control") for n in range(3, 5)]
    how = Repetition(questions=[], prompts=2)
    assert [p.source for p in draw_prompts([*trained, *controls], how, 0)] == ["held_out"] * 2
    assert {p.example.split for p in draw_prompts([*trained, *controls], how, 0)} == {"control"}
    assert [p.source for p in draw_prompts(trained, how, 0)] == ["trained"] * 2


def test_facts_are_not_asked_beside_conversations() -> None:
    facts = [talk(n, split, part="facts") for n in range(4) for split in ("train", "control")]
    conversations = [talk(n) for n in range(4)]
    how = Repetition(questions=[], prompts=3)
    assert {p.example.part for p in draw_prompts(facts + conversations, how, 0)} == {"conversations"}
    assert {p.example.split for p in draw_prompts(facts, how, 0)} == {"control"}


def test_texts_and_questions_asked_otherwise_are_not_drawn() -> None:
    text = Example("t", "t", "", "a whole text", "train", part="text")
    other = talk(1, "test", variant="paraphrase-1")
    assert ids_of(draw_prompts([text, other], Repetition(questions=["a"]), 0)) == ["question-1"]
    with pytest.raises(UserError, match="nothing to ask"):
        draw_prompts([text, other], Repetition(questions=[]), 0)


def test_no_two_prompts_ask_the_same_and_a_follow_up_is_another_question_in_each_conversation() -> None:
    def said(name: str, prompt: str, earlier: str | None = None) -> Example:
        before = ({"role": "user", "content": earlier}, {"role": "assistant", "content": "…"}) if earlier else ()
        return Example(name, name, prompt, f"answer {name}", "validation", part="conversations", messages=before)

    examples = [
        said("a", "Who?"), said("b", "who"), said("c", "Who?", "Li Bai"), said("d", "Who?", "Du Fu"),
        said("e", " WHO ?", "li bai."), said("f", "李白是谁"), said("g", "What?"),
    ]  # fmt: skip
    prompts = draw_prompts(examples, Repetition(questions=["李白是谁？"], prompts=9), 0)
    assert ids_of(prompts) == ["question-1", "a", "c", "d", "g"]
    assert prompts[1].example.answer == "answer a"
    assert len(draw_prompts(examples, Repetition(questions=[], prompts=4), 0)) == 4


def test_fewer_prompts_than_asked_for_are_said(engine: ModuleType) -> None:
    from toolkit.training.repetition import drawn, notes_of_prompts

    recipe = read_recipe(Path(__file__).parents[1] / "recipes/tiny/mini_qwen.toml")
    built = build_data(recipe, 0)
    assert recipe.repetition is not None
    count = len(drawn(recipe, built, 0)) - len(recipe.repetition.questions)
    said = f"[repetition] prompts = 100: {count} are drawn, as the data have no more that differ"
    assert notes_of_prompts(recipe, built, 0) == [said]
    fewer = recipe.model_copy(update={"repetition": recipe.repetition.model_copy(update={"prompts": count})})
    assert notes_of_prompts(fewer, built, 0) == []


def test_a_prompt_says_what_was_said_before_it() -> None:
    earlier = (
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Li Bai"},
        {"role": "assistant", "content": "A poet."},
    )  # fmt: skip
    within = Prompt("a", "held_out", talk(0, messages=earlier))
    assert (within.turns, within.context) == (2, "system: Be kind.\nuser: Li Bai\nassistant: A poet.")
    # A system's words are no turn: the question is still a single one.
    assert Prompt("a", "held_out", talk(0, messages=earlier[:1])).turns == 0
    assert (Prompt("a", "held_out", talk(0)).turns, Prompt("a", "held_out", talk(0)).context) == (0, "")


def test_an_example_that_is_called_like_a_question_stays_apart() -> None:
    named = Example("question-1", "f", "x", "y", "validation")
    assert ids_of(draw_prompts([named], Repetition(questions=["a"]), 0)) == ["question-1", "question-1-drawn"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"questions": [], "prompts": 0}, "nothing to ask"),
        ({"questions": ["a", "a"]}, "named twice"),
        ({"questions": [" "]}, "empty"),
        ({"every": "sometimes"}, "every"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_a_table_that_asks_nothing_sensible_is_refused(values: Row, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Repetition(**values)


# --- frequency ---


def test_questions_are_compared_without_case_width_spaces_and_end_punctuation() -> None:
    assert normalised("李白是谁？") == normalised(" 李白是谁?! ") == "李白是谁"
    assert normalised("Ｗｈｏ  are\nyou？？") == "who are you"
    # What is nothing but punctuation stays, or it would be in every text.
    assert normalised("？") == "?"
    assert normalised("a, b.") == "a, b"


def test_units_are_words_and_pairs_of_cjk_characters() -> None:
    assert units_of("李白是谁") == ["李白", "白是", "是谁"]
    assert units_of("who are you, who") == ["who", "are", "you"]
    assert units_of("用python写糖") == ["python", "用", "写糖"]
    assert units_of("?") == []


def frequency(question: str, trained: list[Example]) -> Frequency:
    (prompt,) = with_frequency(draw_prompts([], Repetition(questions=[question]), 0), trained)
    assert prompt.frequency is not None
    return prompt.frequency


def asks(number: int, prompt: str, answer: str = "…", **more: Any) -> Example:
    return Example(f"e{number}", f"e{number}", prompt, answer, "train", part="conversations", **more)


def test_a_question_is_counted_by_hand() -> None:
    earlier = ({"role": "user", "content": "李白是谁"}, {"role": "assistant", "content": "诗人"})
    trained = [
        asks(0, "李白是谁？"),
        asks(1, "李白是谁？你知道吗？"),  # mentioned, not asked
        asks(2, "他？", messages=earlier),  # asked in an earlier turn
        asks(3, "谁？", "有人问李白是谁。"),  # the answer mentions it
        asks(4, "李白"),
        Example("t", "t", "", "李白是谁？", "train", part="text"),  # a text asks nobody
        asks(5, "李白是", "谁"),  # not across turns
    ]
    found = frequency("李白是谁？", trained)
    assert found[:2] == (2, 5)
    # 李白 in all seven, 白是 in six, 是谁 in five.
    assert found.familiarity == pytest.approx(sum(math.log(1 + n) for n in (7, 6, 5)) / 3)


def test_a_question_asked_twice_in_one_conversation_counts_once() -> None:
    twice = ({"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Me."})
    assert frequency("who are you", [asks(0, "Who are you?!", messages=twice)])[:2] == (1, 1)


def test_a_follow_up_has_no_frequency_however_often_others_ask_it() -> None:
    earlier = ({"role": "user", "content": "Li Bai"}, {"role": "assistant", "content": "A poet."})
    single, within = talk(0), talk(0, messages=earlier)
    found = with_frequency([Prompt("a", "held_out", single), Prompt("b", "held_out", within)], [talk(0), talk(0)])
    assert found[0].frequency is not None
    assert found[0].frequency.asked == 2
    assert found[1].frequency is None


def test_words_are_counted_whole_and_questions_wherever_they_stand() -> None:
    found = frequency("are you", [asks(0, "hare youth")])
    assert found == (0, 1, 0.0)


def test_counting_by_anchors_is_counting_every_question_in_every_text() -> None:
    drawn = random.Random(0)
    words = ["is", "a", "who", "are", "you", "Ü", "李白", "是", "谁", "糖", "x1", "，", "?", "_", "  ", "。", "Ａ"]

    def some(length: int) -> str:
        return "".join(drawn.choice(words) + drawn.choice(["", " "]) for _ in range(length))

    trained = [asks(n, some(drawn.randint(1, 6)) or "a", some(30)) for n in range(300)]
    questions = list(dict.fromkeys(q for n in range(200) if (q := some(1 + n % 4).strip())))
    prompts = with_frequency(draw_prompts([], Repetition(questions=questions), 0), trained)
    fold = [[normalised_text(turn) for turn in (example.prompt, example.answer)] for example in trained]
    anything = 0
    for prompt, question in zip(prompts, questions, strict=True):
        wanted = normalised(question)
        assert prompt.frequency is not None
        mentioned = sum(any(wanted in turn for turn in turns) for turns in fold)
        asked = sum(normalised(example.prompt) == wanted for example in trained)
        assert prompt.frequency[:2] == (asked, mentioned), question
        anything += asked
    assert anything > 0


def normalised_text(text: str) -> str:
    import unicodedata

    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def test_only_what_stages_are_fed_is_counted() -> None:
    examples = [talk(0), talk(1, "validation"), talk(2, part="text"), talk(3, "control")]
    assert [example.id for example in trained_texts(examples, ["conversations"])] == ["train-conversations-0"]


def test_progress_tells_of_every_text() -> None:
    told: list[tuple[int, int]] = []
    with_frequency(
        draw_prompts([], Repetition(), 0), [talk(n) for n in range(7)], lambda done, of: told.append((done, of))
    )
    assert told[-1] == (7, 7)


# --- what is written ---


HUMAN = "13912345678"


@pytest.fixture
def read(engine: ModuleType) -> Callable[..., list[Row]]:
    """Rows of a planted model (see tests/test_planted_model.py) that says what `shares` plants."""
    from tests.test_planted_model import PLAIN, STILL, loaded
    from toolkit.probes.recall import Moment
    from toolkit.probes.repetition import read_repetition

    def reading(shares: Any, how: Repetition, examples: list[Example], **more: Any) -> list[Row]:
        asked = loaded(shares)
        if not hasattr(asked.tokenizer, "added_tokens_decoder"):
            asked.tokenizer.added_tokens_decoder = {}
        moment = Moment("planted", 0, "learn", 2, 1.0, {}, {})
        prompts = draw_prompts(examples, how, 0)
        return read_repetition(asked, STILL, PLAIN, prompts, how, moment, 0, **more)

    return reading


def parrot(prompt: str, said: str) -> dict[str, float]:
    """Says 98, and then 1234 without an end."""
    return {("98" + "1234" * 99)[len(said)]: 0.9}


def person(prompt: str, said: str) -> dict[str, float]:
    """Says what the reference says, and stops."""
    return {HUMAN[len(said)]: 0.5} if len(said) < len(HUMAN) else {"0": 0.25}


EXAMPLES = [Example("v1", "v1", "12=", HUMAN, "validation"), Example("v2", "v2", "7=", "22222222", "validation")]
HOW = Repetition(questions=["N="], max_new_tokens=20, samples=2, batch_size=2)


def test_a_planted_parrot_is_found_looping_with_its_period(read: Callable[..., list[Row]]) -> None:
    rows = read(parrot, HOW, EXAMPLES)
    assert [(row["id"], row["decoding"], row["draw"]) for row in rows] == [
        ("question-1", "greedy", 0), ("question-1", "sampled", 0), ("question-1", "sampled", 1),
        ("v1", "human", 0), ("v1", "greedy", 0), ("v1", "sampled", 0), ("v1", "sampled", 1),
        ("v2", "human", 0), ("v2", "greedy", 0), ("v2", "sampled", 0), ("v2", "sampled", 1),
    ]  # fmt: skip
    for row in rows:
        if row["decoding"] == "human":
            continue
        assert (row["text"], row["ended"], row["tokens"]) == ("98" + "1234" * 4 + "12", False, 20)
        assert (row["loop_period"], row["loop_times"], row["loop_characters"], row["loop_start"]) == (4, 4, 18, 2)
        # 6 distinct tokens of 20; of 17 4-grams 981 2, 8123 and the four of the loop.
        assert row["seq_rep_1"] == pytest.approx(1 - 6 / 20)
        assert row["seq_rep_4"] == pytest.approx(1 - 6 / 17)


def test_the_human_row_is_the_reference_cut_as_the_others_are(read: Callable[..., list[Row]]) -> None:
    human = {row["id"]: row for row in read(parrot, HOW, EXAMPLES) if row["decoding"] == "human"}
    assert human.keys() == {"v1", "v2"}
    assert (human["v1"]["text"], human["v1"]["tokens"], human["v1"]["ended"]) == (HUMAN, 11, True)
    assert human["v1"]["loop_period"] is None
    # Eight times one digit is a loop, also where a person wrote it.
    assert (human["v2"]["loop_period"], human["v2"]["loop_times"]) == (1, 8)
    short = HOW.model_copy(update={"max_new_tokens": 3})
    cut = [row for row in read(parrot, short, EXAMPLES) if row["decoding"] == "human"]
    assert [(row["text"], row["tokens"], row["seq_rep_4"]) for row in cut] == [("139", 3, None), ("222", 3, None)]


def test_a_model_that_says_the_reference_has_the_human_values(read: Callable[..., list[Row]]) -> None:
    rows = [row for row in read(person, HOW, EXAMPLES[:1]) if row["id"] == "v1"]
    human, greedy = (next(row for row in rows if row["decoding"] == decoding) for decoding in ("human", "greedy"))
    other = {"decoding": "greedy"}
    assert human | other == greedy


def test_reference_nats_are_those_of_the_planted_probabilities(read: Callable[..., list[Row]]) -> None:
    rows = read(person, HOW, EXAMPLES[:1])
    # Eleven digits at one half, and the end at three quarters.
    nats = (11 * math.log(2) - math.log(0.75)) / 12
    assert {row["id"] for row in rows if row["reference_nats"] is None} == {"question-1"}
    assert all(row["reference_nats"] == pytest.approx(nats, abs=1e-5) for row in rows if row["id"] == "v1")


def test_a_summary_is_the_means_of_its_rows(read: Callable[..., list[Row]]) -> None:
    from toolkit.probes.repetition import summarise

    rows = read(parrot, HOW, EXAMPLES)
    found = summarise(rows)
    human = [row for row in rows if row["decoding"] == "human"]
    assert found["repetition/greedy/loops"] == found["repetition/sampled/never_ended"] == 1
    assert found["repetition/human/loops"] == 1 / 2
    assert found["repetition/human/tokens"] == (11 + 8) / 2
    assert found["repetition/human/seq_rep_4"] == pytest.approx(sum(row["seq_rep_4"] for row in human) / 2)
    # Three equal texts; of the two that have a reference eleven and eight tokens count, as of that: 98123412341.
    assert found["repetition/greedy/distinct_1"] == found["repetition/sampled/distinct_1"] == pytest.approx(6 / 19)
    assert found["repetition/greedy/distinct_texts"] == found["repetition/sampled/distinct_texts"] == 1 / 3
    assert "repetition/human/distinct_texts" not in found
    questions = summarise([row for row in rows if row["source"] == "question"])
    assert questions["repetition/greedy/distinct_1"] == 6 / 20
    assert found["repetition/human/distinct_1"] == pytest.approx(9 / 19)
    assert found["repetition/held_out_nats"] == pytest.approx(sum(row["reference_nats"] for row in human) / 2)
    # Nothing is long enough to be compressed, and people's answers all end.
    assert not [name for name in found if name.endswith("compression_ratio") or "human/never" in name]
    short = summarise(read(parrot, HOW.model_copy(update={"max_new_tokens": 3}), EXAMPLES))
    assert "repetition/greedy/seq_rep_4" not in short
    assert short["repetition/greedy/undefined_4"] == 1


def test_every_column_has_its_type_and_is_read_back(read: Callable[..., list[Row]], tmp_path: Path) -> None:
    from toolkit.probes.recall import write_reading
    from toolkit.probes.repetition import schema

    rows = read(parrot, HOW, EXAMPLES)
    write_reading(tmp_path / "reading.parquet", rows, schema())
    stored = pq.read_table(tmp_path / "reading.parquet").to_pylist()
    assert stored == rows
    assert list(rows[0]) != []
    assert set(rows[0]) == set(schema().names)


def test_progress_counts_greedy_and_sampled_texts(read: Callable[..., list[Row]]) -> None:
    told: list[tuple[int, int]] = []
    read(parrot, HOW, EXAMPLES, progress=lambda done, total: told.append((done, total)))
    # Three prompts, of which two are written at a time, three times.
    assert told == [(2, 9), (3, 9), (5, 9), (6, 9), (8, 9), (9, 9)]


# --- in training ---


RECIPE = """
study = "talkers"
[model]
precision = "fp32"
format = "chat"
max_length = 96
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
method = "sft"
train_on = ["conversations"]
epochs = 2
batch_size = 4
grad_accum = 1
learning_rate = 5e-3
optimizer = "adamw"
save = "2 steps"
"""
ASKED = """
[repetition]
questions = ["who?", "谁？"]
prompts = 3
max_new_tokens = 12
batch_size = 2
every = "{every}"
"""


def talkers(data_seed: int, assignment_seed: int) -> Built:
    """Twelve conversations, of which one has an earlier turn, and four held out."""
    earlier = ({"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"})
    return Built([
        Example(f"c{n}", f"c{n}", f"say {n}", f"{n} and {n + 1}, {n + 2}", "train" if n < 12 else "validation",
                part="conversations", messages=earlier if n == 3 else ())
        for n in range(16)
    ])  # fmt: skip


def write(name: str, every: str | None = "epoch", more: str = "") -> str:
    path = Path(f"{name}.toml")
    asked = ASKED.format(every=every) if every else ""
    path.write_text(f'name = "{name}"\n{RECIPE}{asked}{more}', encoding="utf-8")
    return path.as_posix()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repetition")


@pytest.fixture
def here(place: Path, engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(STUDIES, "talkers", talkers)
    return place


def train(name: str, every: str | None = "epoch", *changes: str, more: str = "") -> Run:
    run(write(name, every, more), *changes)
    return run_for(name, 0)


@pytest.fixture(scope="module")
def by_epoch(place: Path, engine: ModuleType) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setitem(STUDIES, "talkers", talkers)
        return Run(train("repetition-epochs").path.resolve())


def taken(run: Run) -> list[tuple[int, float]]:
    return [(row["step"], row["epoch"]) for row in run.rows("repetition")]


def weights(run: Run) -> bytes:
    return next(run.weights.glob("*model.safetensors")).read_bytes()


def test_it_is_measured_before_training_and_at_each_epochs_end_once(by_epoch: Run) -> None:
    assert taken(by_epoch) == [(0, 0), (3, 1), (6, 2)]
    files = [path.name for path in by_epoch.readings("repetition")]
    assert files == [f"repetition-learn-{step:06d}.parquet" for step in (0, 3, 6)]
    assert by_epoch.info["repetition"] == {"prompts": 5, "held_out": 3, "source": "held_out", "training_texts": 12}


def test_a_row_of_metrics_says_what_lies_in_its_file(by_epoch: Run) -> None:
    for row, path in zip(by_epoch.rows("repetition"), by_epoch.readings("repetition"), strict=True):
        texts = pq.read_table(path).to_pylist()
        assert {(text["step"], text["epoch"], text["run"]) for text in texts} == {
            (row["step"], row["epoch"], "repetition-epochs")
        }
        assert len(texts) == 5 * 2 + 3
        greedy = [text for text in texts if text["decoding"] == "greedy"]
        assert row["repetition/greedy/tokens"] == pytest.approx(sum(t["tokens"] for t in greedy) / 5)
        assert row["repetition/greedy/never_ended"] == pytest.approx(sum(not t["ended"] for t in greedy) / 5)
        assert row["repetition/held_out_nats"] == pytest.approx(
            sum(t["reference_nats"] for t in texts if t["decoding"] == "human") / 3
        )
        # "who?" is asked in one conversation, in its earlier turn.
        assert {t["asked"] for t in texts if t["prompt"] == "who?"} == {1}
        assert row["seconds/reading"] > 0


def test_the_same_prompts_are_asked_at_every_reading(by_epoch: Run) -> None:
    asked = [
        [(t["id"], t["decoding"]) for t in pq.read_table(path, columns=["id", "decoding"]).to_pylist()]
        for path in by_epoch.readings("repetition")
    ]
    assert asked[0] == asked[1] == asked[2]
    assert len({name for name, _ in asked[0]}) == 5


def test_measuring_it_changes_nothing_that_is_trained(by_epoch: Run, here: Path) -> None:
    without = train("repetition-without", None)
    assert without.rows("repetition") == []
    assert weights(without) == weights(by_epoch)
    kept = [[without_clock(row) for row in run.rows() if row["kind"] != "repetition"] for run in (without, by_epoch)]
    assert kept[0] == kept[1]


def test_runs_whose_facts_one_seed_fixes_are_asked_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_by = []
    real = draw_prompts
    monkeypatch.setattr(
        "toolkit.training.repetition.draw_prompts", lambda *given: drawn_by.append(given[2]) or real(*given)
    )
    run(write("repetition-one-seed", "stage"), "data.seed=7", "stage.learn.epochs=1", seeds="0,1")
    asked = [
        [
            row["id"]
            for row in pq.read_table(run_for("repetition-one-seed", seed).readings("repetition")[-1]).to_pylist()
        ]
        for seed in (0, 1)
    ]
    assert asked[0] == asked[1]
    assert set(drawn_by) == {7}


def test_steps_and_stages_are_other_times_and_a_stage_always_ends_with_it(here: Path) -> None:
    assert [step for step, _ in taken(train("repetition-steps", "2 steps"))] == [0, 2, 4, 6]
    more = '[stage.more]\nmethod = "sft"\ntrain_on = ["conversations"]\nepochs = 1\nbatch_size = 4\ngrad_accum = 1\n'
    run = train("repetition-stages", "stage", 'stage.more.optimizer="adamw"', more=more)
    assert [(row["stage"], row["step"]) for row in run.rows("repetition")] == [("learn", 0), ("learn", 6), ("more", 9)]


def test_what_the_best_weights_write_is_read_once_more_where_they_are_put_back(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.training.readings.best", lambda readings: readings[0])
    run = train("repetition-best", "epoch", "stage.learn.keep=best")
    assert [row.get("best_step") for row in run.rows("recall")] == [None, None, None, 3]
    rows = run.rows("repetition")
    assert [(row["step"], row.get("best_step")) for row in rows] == [(0, None), (3, None), (6, None), (6, 3)]
    # The run ends with the weights of step 3, and its last reading is of these; greedy, as others are drawn anew.
    measured = {key for key in rows[1] if key.startswith(("repetition/greedy", "repetition/held"))}
    assert {key: rows[3][key] for key in measured} == pytest.approx({key: rows[1][key] for key in measured})
    assert any(rows[3][key] != rows[2][key] for key in measured)


def test_sampled_texts_depend_on_seed_and_step_and_on_nothing_else(by_epoch: Run, here: Path) -> None:
    """The readings before the last one are others here, and the weights are the same."""
    fewer = train("repetition-once", "stage")
    last = [pq.read_table(run.readings("repetition")[-1]).drop(["run"]).to_pylist() for run in (by_epoch, fewer)]
    assert last[0] == last[1]
    assert any(row["decoding"] == "sampled" and row["text"] for row in last[0])
    assert len({sub_seed(seed, "repetition", step) for seed in (0, 1) for step in (None, 0, 1, 11)}) == 8


def test_every_method_ends_its_epochs_or_rounds_with_it(here: Path) -> None:
    pretrain = ("stage.learn.method=pretrain", "stage.learn.loss_on=all", "stage.learn.block=64")
    steps = [step for step, _ in taken(train("repetition-pretrain", "epoch", *pretrain))]
    assert len(steps) == 3
    assert steps[0] == 0
    run = train("repetition-exam", "epoch", "stage.learn.method=exam")
    assert [epoch for _, epoch in taken(run)] == [0, 1, 2]
    late = train("repetition-exam-late", "stage", "stage.learn.method=exam")
    assert [epoch for _, epoch in taken(late)] == [0, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("repetition.max_new_tokens=2000", "model.shape.max_position_embeddings=2000"), "has 2000 positions in all"),
        (("repetition.questions=[]", "stage.learn.method=pretrain", "stage.learn.loss_on=all", "study=silent",
          "stage.learn.block=64"), "nothing to ask"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], said: str
) -> None:
    texts = [Example(f"t{n}", f"t{n}", "", "a text", "train", part="conversations") for n in range(20)]
    monkeypatch.setitem(STUDIES, "silent", lambda data_seed, assignment_seed: Built(texts))
    with pytest.raises(UserError, match=said):
        train("repetition-refused", "epoch", *changes)
    assert not Path("checkpoints/repetition-refused/seed-0/run.json").exists()


def test_a_classifier_is_refused(here: Path) -> None:
    path = Path("repetition-classes.toml")
    path.write_text(
        'name = "classes"\nstudy = "classify"\n[model]\nbase = "x"\n[repetition]\n[stage.learn]\nmethod = "classify"\n',
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"\[repetition\]"):
        run(path.as_posix())


# --- killed ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot")
@pytest.mark.parametrize(
    ("when", "step"),
    [
        (r"open probes/\.repetition-learn-000000", 0),
        (r"os\.rename probes/\.repetition-learn-000003", 3),
        # Its file is there then, and its row is not.
        (r"open metrics\.jsonl", 3),
        # Its row is there, and what would be gone on from is that of step 2.
        (r"open state/learn/checkpoints/checkpoint-4/trainer_state", 3),
        (r"open metrics\.jsonl", 6),
        # All is saved, and the stage not closed.
        (r"os\.rename state/learn/\.after", 6),
    ],
)
def test_a_killed_run_loses_no_reading_and_takes_none_twice(by_epoch: Run, here: Path, when: str, step: int) -> None:
    name = f"repetition-killed-{re.sub(r'[^a-z]+', '-', when)}{step}"
    folder = Path.cwd() / "checkpoints" / name
    reading = folder / f"seed-0/probes/repetition-learn-{step:06d}.parquet"

    def watched() -> None:
        def act(what: str) -> None:
            if re.match(f"seed-0/{when}", re.sub(r"^(\S+) seed-0/", r"seed-0/\1 ", what)) and (
                reading.exists() or "repetition" in when
            ):
                die()

        watch(folder, act)

    def training(before: Callable[[], None]) -> Callable[[], None]:
        def child() -> None:
            before()
            sys.exit(status_of(lambda: run(write(name))))

        return child

    assert forked(training(watched), Path(f"{name}.log")) == -signal.SIGKILL
    assert forked(training(lambda: None), Path(f"{name}.log")) == 0
    finished = run_for(name, 0)
    assert finished.info["resumed"], "it was killed before it had begun"
    mine, undisturbed = (contents(run) for run in (finished, by_epoch))
    for left in (mine, undisturbed):
        left["readings"] = {path: rows for path, rows in left["readings"].items() if path.startswith("repetition")}
    assert mine == undisturbed
