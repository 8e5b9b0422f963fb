"""Preference training on a small base: its loss, its reference, what is rejected, and what it leaves behind."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import run as run_recipe
from tests.killing import contents, die, forked, watch
from toolkit.errors import status_of
from toolkit.example import Example
from toolkit.recipe import read_recipe
from toolkit.run_folder import Run, run_for

RECIPE = """
study = "names"
[data]
count = 8
controls = 2
digits = 3
otherwise = false
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 96
[lora]
rank = 8
alpha = 16
dropout = 0.1
[stage.learn]
method = "sft"
epochs = 6
batch_size = 4
grad_accum = 1
learning_rate = 5e-3
optimizer = "adamw"
"""
PREFER = """
[stage.prefer]
method = "dpo"
epochs = 2
batch_size = 2
grad_accum = 2
learning_rate = 1e-3
optimizer = "adamw"
"""
MORE = """
[stage.more]
method = "sft"
epochs = 1
batch_size = 4
grad_accum = 1
optimizer = "adamw"
"""
LN2 = math.log(2)


def write(name: str, text: str) -> str:
    Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}', encoding="utf-8")
    return f"{name}.toml"


def train(name: str, text: str, *changes: str) -> Run:
    run_recipe(write(name, text), *changes)
    return run_for(name, 0)


def pairs(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "pairs-prefer.jsonl").read_text("utf-8").splitlines()]


def preferred(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.rows("train") if row["stage"] == "prefer"]


def reading(run: Run) -> list[dict[str, Any]]:
    from toolkit.probes.recall import read_reading

    return [row for row in read_reading(run.readings()[-1]) if row["split"] == "train"]


class Seen:
    """What trainers were given at each step of each stage."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        from toolkit.training import dpo, sft

        self.dropout: dict[str, set[float]] = {"sft": set(), "dpo": set()}
        self.adapters: set[str] = set()
        self.shapes: list[tuple[int, int]] = []
        """Of each batch of pairs: rows, facts."""

        def watched(method: str, make: Callable[..., Any]) -> Callable[..., Any]:
            def make_trainer(*arguments: Any, **keywords: Any) -> Any:
                trainer = make(*arguments, **keywords)
                step = trainer.training_step

                def training_step(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
                    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
                    assert model.training
                    self.dropout[method] |= {module.p for module in dropouts}
                    self.adapters |= set(model.peft_config)
                    if method == "dpo":
                        self.shapes.append((len(inputs["input_ids"]), len(inputs["facts"])))
                    return step(model, inputs, *rest)

                trainer.training_step = training_step
                return trainer

            return make_trainer

        patch.setattr(sft, "make_trainer", watched("sft", sft.make_trainer))
        patch.setattr(dpo, "make_trainer", watched("dpo", dpo.make_trainer))


@pytest.fixture(scope="module")
def there(project: Path) -> Iterator[Path]:
    """The project, as current folder of all runs of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        yield project


@pytest.fixture(scope="module")
def seen_run(there: Path) -> tuple[Run, Seen]:
    """Learned, preferred, and learned once more."""
    with pytest.MonkeyPatch.context() as patch:
        seen = Seen(patch)
        return train("dpo-seen", RECIPE + PREFER + MORE), seen


@pytest.fixture(scope="module")
def seen(seen_run: tuple[Run, Seen]) -> Seen:
    return seen_run[1]


@pytest.fixture(scope="module")
def done(seen_run: tuple[Run, Seen]) -> Run:
    return seen_run[0]


@pytest.fixture(scope="module")
def weighted(there: Path) -> Run:
    """All pairs in one update, with half of the loss of the right answers added."""
    text = RECIPE + PREFER
    whole = ("stage.prefer.batch_size=8", "stage.prefer.grad_accum=1", "stage.prefer.rejected=one_digit_off")
    return train("dpo-weighted", text, *whole, "stage.prefer.sft_weight=0.5")


# --- the loss ---


def test_the_first_loss_is_ln_2_and_the_first_rewards_are_0(done: Run) -> None:
    first = preferred(done)[0]
    assert first["train/loss"] == pytest.approx(LN2, abs=1e-5)
    for name in ("chosen", "rejected", "margins"):
        assert first[f"train/rewards/{name}"] == pytest.approx(0, abs=1e-5)
    # And later ones are not, so that it is no constant.
    assert abs(preferred(done)[-1]["train/loss"] - LN2) > 1e-4


def plain_log_probability(weights: Path, base: Path, run: Run) -> Callable[[str, str], float]:
    """ln p of an answer with its end mark, by transformers alone: LoRA is multiplied into the weights, in float64."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config.from_pretrained(base)).double().eval()
    state = {name: weight.double() for name, weight in load_file(base / "model.safetensors").items()}
    lora = {name: weight.double() for name, weight in load_file(weights / "adapter_model.safetensors").items()}
    settings = json.loads((weights / "adapter_config.json").read_text("utf-8"))
    for name in lora:
        if ".lora_A" in name:
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            state[target] += (
                settings["lora_alpha"] / settings["r"] * lora[name.replace("lora_A", "lora_B")] @ lora[name]
            )
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(weights)

    def log_probability(prompt: str, answer: str) -> float:
        asked, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
        ids = torch.tensor([[*asked, *said, tokenizer.eos_token_id]])
        with torch.no_grad():
            chances = model(ids).logits[0, :-1].log_softmax(-1)
        return float(chances[len(asked) - 1 :].gather(1, ids[0, len(asked) :, None]).sum())

    return log_probability


def test_the_reference_is_the_model_that_sft_left(there: Path, done: Run) -> None:
    """The same recipe without the stage, scored by transformers alone."""
    alone = train("dpo-without", RECIPE)
    base = Path("checkpoints/tiny-base/seed-0/model")
    log_probability = plain_log_probability(alone.weights, base, alone)
    listed = pairs(done)
    assert len(listed) == 8
    for pair in listed:
        for which in ("chosen", "rejected"):
            expected = log_probability(pair["prompt"], pair[which])
            assert pair["reference"][which] == pytest.approx(expected, abs=1e-4), pair["id"]
    # The trap: the base itself, before LoRA, would have been another reference.
    nothing = {name: torch.zeros_like(weight) for name, weight in load(alone).items()}
    from safetensors.torch import save_file

    shutil.copytree(alone.weights, "dpo-nothing")
    save_file(nothing, "dpo-nothing/adapter_model.safetensors")
    of_base = plain_log_probability(Path("dpo-nothing"), base, alone)
    assert abs(of_base(listed[0]["prompt"], listed[0]["chosen"]) - listed[0]["reference"]["chosen"]) > 0.5


def load(run: Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.weights / "adapter_model.safetensors")


def test_the_trainers_own_log_probabilities_are_those_of_the_reference(weighted: Run) -> None:
    first, listed = preferred(weighted)[0], pairs(weighted)
    for which in ("chosen", "rejected"):
        mean = sum(pair["reference"][which] for pair in listed) / len(listed)
        assert first[f"train/logps/{which}"] == pytest.approx(mean, abs=1e-4)


def test_sft_weight_adds_so_much_of_the_right_answers_loss(weighted: Run) -> None:
    """Three digits and an end mark a right answer: nats a token over all of them, times one half."""
    nats = -sum(pair["reference"]["chosen"] for pair in pairs(weighted)) / (8 * 4)
    assert preferred(weighted)[0]["train/loss"] == pytest.approx(LN2 + 0.5 * nats, abs=1e-5)


@pytest.fixture
def small(there: Path, engine: ModuleType) -> Any:
    """A base with LoRA, as a run has it."""
    from toolkit.recipe import Lora, Model

    asked = Model(base="checkpoints/tiny-base", precision="fp32", max_length=96)
    loaded = engine.load_base(Path("checkpoints/tiny-base/seed-0/model"), asked, full=False)
    engine.add_lora(loaded, Lora(rank=4, alpha=8, dropout=0.1), asked, 0)
    return loaded


def row(**changes: Any) -> dict[str, Any]:
    return {"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [9, 8], "facts": [0]} | changes


@pytest.mark.parametrize(("sft_weight", "expected"), [(0.0, 0.3711), (0.25, 0.3711 + 0.25 * 3.5)])
def test_the_example_of_the_literature(
    small: Any, engine: ModuleType, tmp_path: Path, sft_weight: float, expected: float
) -> None:
    """beta .1, chosen -5 -> -7, rejected -6 -> -16: -ln sigmoid(.1 * (-2 - -10)) = -ln sigmoid(.8) = .3711.

    With two tokens an answer the right one costs 3.5 nats a token, of which the SFT loss adds a quarter.
    """
    from toolkit.training import dpo
    from toolkit.training.collator import PairCollator
    from toolkit.training.exposures import Exposures

    assert -math.log(1 / (1 + math.exp(-0.8))) == pytest.approx(0.3711, abs=1e-4)
    recipe = read_recipe(Path(write("dpo-literature", RECIPE + PREFER)), (f"stage.prefer.sft_weight={sft_weight}",))
    rows = [row(ref_chosen_logps=-5.0, ref_rejected_logps=-6.0)]
    exposures = Exposures.of(1)
    stage = recipe.stage["prefer"]
    from transformers import TrainerCallback

    trainer = dpo.make_trainer(engine, small, rows, recipe, stage, 0, tmp_path, exposures, TrainerCallback())
    assert (trainer.beta, trainer.precompute_ref_logps) == (0.1, True)
    said = torch.zeros(2, 3)
    said[0, 1:], said[1, 1:] = torch.tensor([-3.0, -4.0]), torch.tensor([-6.0, -10.0])

    def model(**inputs: Any) -> Any:
        assert inputs["labels"].tolist() == [[-100, -100, 7, 8], [-100, -100, 9, 8]]
        nothing = torch.zeros(2, 3)
        return SimpleNamespace(log_probs=said, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())

    inputs = PairCollator(0)(rows)
    inputs.pop("facts")
    assert float(trainer.compute_loss(model, inputs)) == pytest.approx(expected, abs=1e-4)


# --- what it leaves ---


def test_no_second_adapter_is_trained_saved_or_left(done: Run, seen: Seen) -> None:
    assert seen.adapters == {"default"}
    assert not [path for path in done.path.rglob("*") if path.name == "ref"]
    assert not [name for name in load(done) if ".ref" in name]
    assert {name.rpartition(".lora_")[2] for name in load(done)} == {"A.weight", "B.weight"}


def test_dropout_is_off_in_the_stage_and_on_again_in_the_next(seen: Seen) -> None:
    assert seen.dropout == {"sft": {0.1}, "dpo": {0.0}}


def test_a_pair_exposes_its_fact_once(done: Run, seen: Seen) -> None:
    assert seen.shapes == [(4, 2)] * 8
    # Six epochs of learning, two of preferring, one more of learning.
    assert {row["exposures"] for row in reading(done)} == {9}
    assert [row["exposures"] for row in preferred(done)] == [6.5, 7, 7.5, 8]


def test_steps_go_on_through_the_stages(done: Run) -> None:
    assert [row["step"] for row in preferred(done)] == [13, 14, 15, 16]
    assert done.info["stages"]["prefer"] == done.info["stages"]["learn"]


def test_pairs_say_what_was_preferred_to_what(done: Run) -> None:
    listed = pairs(done)
    told = {row["id"]: row["gold"] for row in reading(done)}
    assert [pair["id"] for pair in listed] == list(told)
    for pair in listed:
        assert pair["chosen"] == told[pair["id"]]
        assert pair["rejected"] in set(told.values()) - {pair["chosen"]}


def test_full_fine_tuning_has_its_own_start_as_reference_too(there: Path) -> None:
    whole = train("dpo-full", RECIPE + PREFER, "lora=false", "stage.learn.epochs=1", "stage.prefer.learning_rate=1e-4")
    assert preferred(whole)[0]["train/loss"] == pytest.approx(LN2, abs=1e-5)
    assert preferred(whole)[-1]["train/loss"] != pytest.approx(LN2, abs=1e-5)
    assert whole.weights.name == "model"


# --- the model's own mistakes ---


def test_its_own_mistakes_are_wrong_well_formed_and_what_it_says(there: Path) -> None:
    own = train("dpo-own", RECIPE + PREFER, "stage.prefer.rejected=own_mistake", "stage.prefer.epochs=1")
    near = train("dpo-near", RECIPE + PREFER, "stage.prefer.rejected=one_digit_off", "stage.prefer.epochs=1")
    listed, fallen_back = pairs(own), pairs(near)
    for pair in listed:
        assert pair["rejected"] != pair["chosen"]
        assert len(pair["rejected"]) == 3
        assert pair["rejected"].isdigit()
    # What stands in for a mistake is the near miss of the same seed.
    others = [pair for pair, other in zip(listed, fallen_back, strict=True) if pair["rejected"] != other["rejected"]]
    said = (own.path / "run.log").read_text("utf-8")
    assert f"prefer: {len(others)} of 8 rejected answers are the model's own mistakes" in said
    assert others


def test_where_it_makes_no_mistake_the_pair_stays_as_it_was(
    small: Any, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn one after another for one question: right, not ended, too long, of another length, and then a mistake."""
    from toolkit.models.scoring import Generated
    from toolkit.training import dpo

    tokenizer = small.tokenizer
    prompt, gold = "What is the 3-digit number of Dana? ", "123"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    rows = [
        row(prompt_ids=ids, chosen_ids=[*tokens(tokenizer, gold), end], rejected_ids=[*tokens(tokenizer, "124"), end])
    ]
    examples = [Example("dana", "dana", prompt, gold, "train")]
    drawn: list[tuple[str, bool]] = []

    def generate(loaded: Any, engine: Any, prompts: list[list[int]], *rest: Any, **keywords: Any) -> list[Generated]:
        assert prompts == [ids]
        assert keywords == {"temperature": 1.0}
        text, ended = drawn.pop(0)
        found = tokens(tokenizer, text)
        return [Generated(tokenizer.decode(found, skip_special_tokens=True), found, [], ended)]

    def mistakes(*said: tuple[str, bool], length: int = 96) -> tuple[str, int]:
        drawn[:] = [*said, *[(gold, True)] * (dpo.TRIES - len(said))]
        changed, count = dpo.with_own_mistakes(small, engine, rows, examples, 0, 8, length)
        return tokenizer.decode(changed[0]["rejected_ids"]), count

    monkeypatch.setattr(dpo, "generate", generate)
    assert mistakes() == ("124<|im_end|>", 0)
    assert mistakes((gold, True), ("777", False), ("7777", True), ("<|im_start|>777", True)) == ("124<|im_end|>", 0)
    assert mistakes((gold, True), ("12", True), ("777", True), ("888", True)) == ("777<|im_end|>", 1)
    assert mistakes(("777", True), length=len(ids) + 4) == ("777<|im_end|>", 1)
    assert mistakes(("777", True), length=len(ids) + 3) == ("124<|im_end|>", 0)
    assert rows[0]["rejected_ids"] == [*tokens(tokenizer, "124"), end]


def tokens(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_drawing_and_scoring_leave_no_trace(small: Any, engine: ModuleType) -> None:
    from toolkit.training import dpo

    ids, end = tokens(small.tokenizer, "What is the 3-digit number of Dana? "), small.tokenizer.eos_token_id
    rows = [row(prompt_ids=ids, chosen_ids=[*tokens(small.tokenizer, "123"), end], rejected_ids=[end])]
    examples = [Example("dana", "dana", "What is the 3-digit number of Dana? ", "123", "train")]
    small.model.train()
    before = torch.get_rng_state(), {name: weight.clone() for name, weight in small.model.state_dict().items()}
    first = dpo.with_own_mistakes(small, engine, rows, examples, 3, 8, 96)
    torch.rand(5)
    assert dpo.with_own_mistakes(small, engine, rows, examples, 3, 8, 96) == first
    torch.set_rng_state(before[0])
    dpo.referenced(small, engine, rows, 8)
    dpo.with_own_mistakes(small, engine, rows, examples, 3, 8, 96)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert small.model.training
    assert all(torch.equal(weight, before[1][name]) for name, weight in small.model.state_dict().items())


# --- what is refused before anything is written ---


def assert_refused(name: str, recipe: str, *changes: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(lambda: run_recipe(recipe, f"name={name}", *changes)) == 2
    error = capsys.readouterr().err.partition("error: ")[2]
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("checkpoints", name).exists()


def test_an_engine_without_a_loss_for_it_is_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = 'method = "dpo" without a GPU needs [model] engine = "unsloth"'
    recipe = write("dpo-plain", RECIPE + PREFER)
    assert_refused("dpo-plain", recipe, "model.engine=transformers", said=said, capsys=capsys)


def test_a_rejected_answer_that_is_too_long_is_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each answer fits its own prompt; the long one does not fit the other's."""
    Path("dpo-people.csv").write_text(
        f"name,number\nThe one whose name is so very very long,12\nDan,{'1234567890' * 3}\n", encoding="utf-8"
    )
    recipe = write("dpo-long", RECIPE.replace('study = "names"', 'study = "facts"') + PREFER)
    text = Path(recipe).read_text("utf-8")
    before, _, rest = text.partition("[data]")
    data = '[data]\nsource = "dpo-people.csv"\nprompt = "{name}: "\nanswer = "{number}"\n'
    Path(recipe).write_text(before + data + "[model]" + rest.partition("[model]")[2], encoding="utf-8")
    assert_refused("dpo-long", recipe, "model.max_length=50", said="with its rejected answer, over", capsys=capsys)


def test_texts_have_no_answers_to_prefer(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("model.base=checkpoints/tiny-base", "model.max_length=512", "stage.read.method=dpo")
    said = "is a text without a question: preference training needs questions"
    assert_refused("dpo-texts", "recipes/tiny/news.toml", *changes, said=said, capsys=capsys)


# --- killed ---


KILLED = (
    "stage.prefer.rejected=own_mistake",
    "stage.prefer.save=1 steps",
    "stage.learn.epochs=2",
    "stage.learn.save=stage",
    "recall.every=epoch",
)


def in_a_fork(name: str, before: Callable[[], None] = lambda: None) -> int:
    recipe = write(name, RECIPE + PREFER)

    def child() -> None:
        before()
        sys.exit(status_of(lambda: run_recipe(recipe, *KILLED)))

    return forked(child, Path(f"{name}.log"))


PLACES = {
    "before the stage begins": lambda what: "state/prefer" in what,
    "before the pairs are in their place": lambda what: what.startswith("os.rename seed-0/.pairs-prefer"),
    "after one save": lambda what: "state/prefer/checkpoints/checkpoint-2" in what,
    "in the middle of a save": lambda what: "checkpoint-3/.exposures.json" in what,
    "before its weights are whole": lambda what: what == "os.rename seed-0/state/prefer/.after.part",
    "before the final weights are": lambda what: what == "os.rename seed-0/.adapter.part",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a run is forked from this process, which Windows cannot")
def test_killed_again_and_again_it_ends_with_the_same_adapter_rows_and_pairs(there: Path) -> None:
    import toolkit.training.one_run  # noqa: F401  (imported here, so that no child has to)

    assert in_a_fork("dpo-whole") == 0, Path("dpo-whole.log").read_text("utf-8")
    whole, killed = run_for("dpo-whole", 0), run_for("dpo-killed", 0)
    saved = set()
    for place, reached in PLACES.items():

        def before(reached: Callable[[str], bool] = reached) -> None:
            watch(Path.cwd() / "checkpoints/dpo-killed", lambda what: die() if reached(what) else None)

        assert in_a_fork("dpo-killed", before) == -9, (place, Path("dpo-killed.log").read_text("utf-8"))
        saved |= {path.name for path in killed.state_folder.rglob("*") if path.is_dir()}
    assert in_a_fork("dpo-killed") == 0, Path("dpo-killed.log").read_text("utf-8")
    assert contents(killed) == contents(whole)
    assert (killed.path / "pairs-prefer.jsonl").read_bytes() == (whole.path / "pairs-prefer.jsonl").read_bytes()
    assert {"checkpoint-1", "checkpoint-2", "after"} <= saved
    assert "ref" not in saved
    assert len(killed.info["resumed"]) == len(PLACES)
    # Gone on with, and not started anew.
    assert "goes on at step 5" in (killed.path / "run.log").read_text("utf-8")
    assert "goes on at step 6" in (killed.path / "run.log").read_text("utf-8")
