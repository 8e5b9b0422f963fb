"""What a comparison says of the losses of planted runs: steps at epoch boundaries, memorising, and injected facts."""

import json
import math
import random
import re
import statistics

import pytest
from scipy import stats

from tests.planted_repetition import add_rows, by_loss, parted, repeated, stepped
from tests.test_compare_repetition import T_OF_39, compared, here, html, of, run, runs, summarised  # noqa: F401
from toolkit.metrics.staircase import staircase
from toolkit.reporting import repetition_stairs
from toolkit.reporting.groups import collect


def test_a_staircase_is_the_drop_at_each_boundary_and_a_level_loss_has_none() -> None:
    for seed in range(3):
        for name, drop in (("stairs", 0.3), ("level", 0.0)):
            folder = run(name, seed)
            repeated(folder, by_loss(seed))
            stepped(folder, drop, seed=seed)
    summary, said = summarised("stairs", "level")
    (stage,) = of(summary, "stairs")["staircase"]
    assert [boundary["epoch"] for boundary in stage["boundaries"]] == [1, 2, 3]
    assert [boundary["drop"]["mean"] for boundary in stage["boundaries"]] == pytest.approx([0.3] * 3, abs=0.02)
    assert stage["total"]["mean"] == pytest.approx(0.9, abs=0.05)
    assert stage["share"]["mean"] == pytest.approx(1, abs=0.05)
    assert "nats at 3 boundaries together (over 3 runs), " in said
    assert "nats at 3 boundaries together (over 3 runs): steps down are not shown." in said


def test_boundaries_of_a_second_stage_are_counted_from_its_own_start() -> None:
    folder = run("two")
    repeated(folder, by_loss(0))
    stepped(folder, 0.3, epochs=2)
    draw = random.Random(5)
    add_rows(folder, [
        {"kind": "train", "stage": "tune", "step": 40 + step, "epoch": 2 + step / 20, "exposures": 1.0,
         "train/loss": 2 - 0.5 * ((step - 1) // 20) + draw.gauss(0, 0.01)} for step in range(1, 41)
    ])  # fmt: skip
    summary, _ = summarised("two")
    learn, tune = of(summary, "two")["staircase"]
    assert [boundary["epoch"] for boundary in (*learn["boundaries"], *tune["boundaries"])] == [1, 3]
    assert tune["boundaries"][0]["drop"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert tune["boundaries"][0]["drop"]["over"] == "updates"


def test_memorising_begins_where_held_out_answers_stay_behind_trained_ones() -> None:
    for seed in range(2):
        folder = run("lora", seed)
        repeated(folder, by_loss(seed))
        together = [4 - 0.3 * epoch for epoch in range(11)]
        parted(folder, together, [*together[:5], *(together[4] + 0.1 * n for n in range(1, 7))])
    summary, said = summarised("lora")
    found = of(summary, "lora")["memorisation"]
    assert [run["begins"] for run in found["per_run"]] == [5, 5]
    assert (found["lowest"]["mean"], found["held_out"]) == (4, "validation")
    # The twenty examples' difficulties have a mean of .475; they cost as much more at every reading.
    assert found["readings"][-1]["gap"]["mean"] == pytest.approx(2.8 + 0.6 - 1.0, abs=0.01)
    assert "trained examples stay ahead of held-out ones from epoch 5 on; the loss of held-out ones is lowest" in said


@pytest.mark.parametrize("seeds", [1, 3])
def test_facts_that_only_training_holds_are_set_against_controls(seeds: int) -> None:
    for seed in range(seeds):
        folder = run("lora", seed)
        repeated(folder, by_loss(seed))
        path = folder / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [row | {"recall/read_conversations": 10, "recall/exact": 0.4 + 0.1 * seed} if row["kind"] == "recall"
                else row for row in rows]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    summary, said = summarised("lora")
    if seeds == 1:
        # Wilson's interval of .4 of 4 facts, rounded to two, and of none, from a table.
        assert "40.0 % [15.0, 85.0] of those trained, 0.0 % [0.0, 49.0] of controls (Wilson's intervals" in said
        return
    assert of(summary, "lora")["injected"]["difference"]["mean"] == pytest.approx(0.5)
    assert "difference 50.0 points [25.2, 74.8] over 3 runs: knowledge was injected" in said
    runs("loss", seeds=1)
    assert of(summarised("loss")[0], "loss")["injected"] is None


def test_the_sum_of_one_runs_steps_has_the_interval_of_its_updates_scatter() -> None:
    folder = run("lora")
    repeated(folder, by_loss(0))
    stepped(folder, 0.3, epochs=3, updates=12, noise=0.1, seed=4)
    (stage,) = of(summarised("lora")[0], "lora")["staircase"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    steps = staircase([row["epoch"] for row in rows], [row["train/loss"] for row in rows]).steps
    # Twelve updates around each boundary less five parameters: seven degrees of freedom each, of errors that differ.
    first, second = (step.error or math.nan for step in steps)
    degrees = (first**2 + second**2) ** 2 / ((first**4 + second**4) / 7)
    half = stats.t.ppf(0.975, degrees) * math.hypot(first, second)
    total = stage["total"]
    assert [total["mean"] - total["low"], total["high"] - total["mean"]] == pytest.approx([half, half], abs=1e-5)
    assert 7 < degrees < 14
    assert total["over"] == "updates"


def test_losses_of_other_tokens_than_answers_have_no_held_out_marks_beside_them() -> None:
    for name, on in (("answers", "answer"), ("all", "all")):
        stage = {"learn": {"method": "sft", "epochs": 10, "loss_on": on}}
        folder = run(name, stage=stage)
        repeated(folder, by_loss(0))
        stepped(folder, 0.3, epochs=10)
        parted(folder, [4 - 0.3 * epoch for epoch in range(11)], [4 - 0.2 * epoch for epoch in range(11)])
    summary, said = summarised("answers", "all")
    assert "training losses are of different tokens (loss_on: answers answer, all all)" in said
    found, _ = collect(["checkpoints/answers", "checkpoints/all"])
    figure = repetition_stairs.stairs(found, summary["repetition"]["groups"], "epochs")
    assert figure is not None
    marked = [line.get_gid() for line in figure.axes[0].lines if line.get_linewidth() == 0]
    assert marked == ["group-0"]


def test_what_one_run_repeats_at_the_end_has_its_interval_over_prompts_and_says_so() -> None:
    (readings,) = runs("loss", seeds=1)
    compared("loss")
    values = [one.greedy or 0 for one in readings[-1]]
    mean = statistics.mean(values)
    half = T_OF_39 * statistics.stdev(values) / math.sqrt(40)
    low, high = (f"{100 * (mean + way):.1f}" for way in (-half, half))
    cell = f"<td>{100 * mean:.1f}\u00a0%<small>[{low},\u00a0{high}]</small><small>within the run</small></td>"
    assert f'<th scope="row">4-grams repeated</th><td>loss</td>{cell}' in html()


def test_groups_of_equal_updates_and_unequal_epochs_stand_side_by_side_by_updates() -> None:
    for seed in range(2):
        for name, each in (("repeated", 1.0), ("diverse", 0.1)):
            folder = run(name, seed)
            repeated(folder, by_loss(seed), every=20, each=each)
            if each == 1.0:
                stepped(folder, 0.3, epochs=10)
    summary, _ = compared("repeated", "diverse")
    assert summary["repetition"]["axis"] == "updates"
    (stage,) = of(summary, "repeated")["staircase"]
    assert [boundary["step"] for boundary in stage["boundaries"]] == [20 * epoch for epoch in range(1, 10)]
    assert "boundary after update" in html()
    found, _ = collect(["checkpoints/repeated", "checkpoints/diverse"])
    figure = repetition_stairs.stairs(found, summary["repetition"]["groups"], "updates")
    assert figure is not None
    loss, drops = figure.axes
    assert (loss.get_xlabel(), drops.get_xlabel()) == ("updates", "boundary after update")
    trained, *lines = (list(line.get_xdata()) for line in loss.lines if line.get_linewidth())  # pyright: ignore[reportArgumentType]
    assert trained[-1] == 200
    assert lines == [[20 * epoch] * 2 for epoch in range(1, 10)]
    # The table by reading has both groups in each row.
    (section,) = (part for part in html().split("<h2") if "Parroting and loss within each checkpoint" in part)
    rows = re.findall(r'<th scope="row">(.*?)</th><td>learn</td>(.*?)</tr>', section)
    assert [place for place, _ in rows] == [f"{20 * reading}" for reading in range(11)]
    assert not any("<td>–</td>" in cells for _, cells in rows)
