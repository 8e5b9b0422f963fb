"""Planted arms: one that repeats more on the way and not at the end, and some whose readings do not compare."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planted_repetition import Told, add_rows, parted, repeated
from tests.test_compare_repetition import here, run, summarised  # noqa: F401
from toolkit.run_folder import run_for

SEEDS = 6
END = "repetition/greedy/seq_rep_4"
THROUGH, DIFFERENT = f"{END}/through", "repetition/greedy/distinct_texts/through"


def arm(
    name: str, *, halved: float = 1.0, texts: int | None = None, uneven: tuple[int, ...] = (), **where: Any
) -> list[list[float]]:
    """Six runs that repeat .6 at first, and half as much after each so many epochs; how much at each of their eight
    readings after training began. texts: so many differ at the first of these; uneven: runs with an update more in
    each epoch.
    """
    found = []
    for seed in range(SEEDS):
        draw = random.Random(f"{name}{seed}")
        readings = []
        for epoch in range(9):
            level = 0.6 * 2 ** (-epoch / halved) + draw.uniform(0, 0.01)
            said = [str(number % texts) if texts and epoch == 1 else str(number) for number in range(10)]
            readings.append([Told(level, None, 4 - 0.1 * epoch + 0.01 * seed, text=text) for text in said])
        repeated(run(name, seed), readings, **where | {"every": where.get("every", 2) + (seed in uneven)})
        found.append([reading[0].greedy or 0 for reading in readings[1:]])
    return found


def contrast(summary: dict[str, Any], outcome: str) -> dict[str, Any]:
    (result,) = summary["outcomes"][outcome]["contrasts"]
    return result


def test_an_arm_that_repeats_more_on_the_way_is_shown_to_where_both_end_alike() -> None:
    fast, slow = arm("fast"), arm("slow", halved=1.4)
    summary, said = summarised("fast", "slow")
    result = contrast(summary, THROUGH)
    assert result["difference"] == pytest.approx(np.mean(slow) - np.mean(fast))
    assert result["p"] == pytest.approx(2 / 924)
    spread = summary["outcomes"][THROUGH]["groups"]["slow"]
    assert spread["per_run"] == pytest.approx([np.mean(levels) for levels in slow])
    assert "4-grams of greedy texts, mean of the readings on the way (8 readings) (exploratory): fast " in said
    assert "Difference shown: fast repeats itself less" in said
    assert contrast(summary, END)["difference"] < 0.02 < result["difference"]


def test_an_arm_that_says_the_same_to_all_is_shown_to_though_it_repeats_no_more() -> None:
    arm("many")
    arm("one", texts=1)
    summary, said = summarised("many", "one")
    # One of ten texts differs at one of eight readings.
    assert contrast(summary, DIFFERENT)["difference"] == pytest.approx(-0.9 / 8)
    assert "Difference shown: many says the same to fewer prompts" in said
    assert not contrast(summary, THROUGH)["shown"]


def test_arms_that_were_read_at_other_times_have_no_mean_on_the_way_and_spoil_no_other_contrast() -> None:
    arm("a")
    arm("b", halved=1.4)
    arm("c", every=7, each=3.5)
    summary, said = summarised("a", "b", "c")
    results = {(one["a"], one["b"]): one for one in summary["outcomes"][THROUGH]["contrasts"]}
    assert results["a", "b"]["shown"]
    for pair in (("a", "c"), ("b", "c")):
        assert results[pair]["p"] is None
        assert results[pair]["why_not"].startswith(
            "their texts were read at other epochs and updates (8 and 8 readings)"
        )
    assert "No test: their texts were read at other epochs and updates" in said
    assert all(one["p"] is not None for one in summary["outcomes"][END]["contrasts"])


def test_equal_updates_of_unequal_epochs_compare() -> None:
    arm("repeated", every=16)
    arm("diverse", every=16, each=0.1)
    assert contrast(summarised("repeated", "diverse")[0], THROUGH)["p"] is not None


def test_runs_of_unlike_many_updates_an_epoch_are_set_side_by_side_by_epochs() -> None:
    # As packing makes them: how many rows are filled depends on the order of the texts.
    levels = arm("packed", uneven=(1, 4))
    arm("plain")
    for seed in range(SEEDS):
        folder = Path("checkpoints/packed", f"seed-{seed}")
        parted(folder, [4.0 - 0.3 * n for n in range(11)], [4.0] * 11)
        for path in folder.glob("probes/recall-*.parquet") if seed == 1 else ():
            table = pq.read_table(path)
            more = pa.array([round(1.5 * step) for step in table["step"].to_pylist()], table.schema.field("step").type)
            pq.write_table(table.set_column(table.column_names.index("step"), "step", more), path)
    summary, _ = summarised("packed", "plain")
    assert contrast(summary, THROUGH)["p"] is not None
    assert summary["outcomes"][THROUGH]["groups"]["packed"]["per_run"] == pytest.approx([np.mean(of) for of in levels])
    own = summary["repetition"]["groups"]["packed"]
    assert own["across"]["greedy"]["between_runs"]["readings"] == 9
    gaps = own["memorisation"]["readings"]
    assert [one["gap"]["mean"] for one in gaps] == pytest.approx([0.3 * n for n in range(11)], abs=0.02)


def test_the_stage_that_counts_is_read_on_its_way_from_its_own_start() -> None:
    first = [[Told(0.9, None, 5.0)] * 4] * 2
    for seed in range(SEEDS):
        folder = run("before", seed, compare={"primary": "exposures_to_recall", "after": "learn"})
        repeated(folder, first, stage="read")
        later = [[Told(0.2 + 0.1 * seed + 0.02 * n, None, 3.0)] * 4 for n in range(3)]
        moved(folder, later, by=1, stage="learn")
        moved(folder, [[Told(0.0, None, 3.0)] * 4], by=4, stage="prefer")
    for seed in range(SEEDS):
        repeated(
            run("alone", seed), [first[0], *([Told(0.2 + 0.1 * seed + 0.02 * n, None, 3.0)] * 4 for n in range(3))]
        )
    summary, _ = summarised("before", "alone")
    result = contrast(summary, THROUGH)
    assert (result["difference"], summary["outcomes"][THROUGH]["readings"]) == (
        pytest.approx(0), {"before": 3, "alone": 3},
    )  # fmt: skip
    assert summary["outcomes"][THROUGH]["groups"]["before"]["per_run"][0] == pytest.approx(0.22)


def moved(folder: Path, readings: list[list[Told]], *, by: int, stage: str) -> None:
    """Rows of a later stage, whose first reading is `by` + 1 epochs of two updates after the start."""
    add_rows(folder, [
        {"kind": "repetition", "stage": stage, "step": 2 * (by + n), "epoch": float(by + n), "exposures": 0.0,
         END: reading[0].greedy} for n, reading in enumerate(readings, start=1)
    ])  # fmt: skip


def test_what_is_read_once_more_with_the_best_weights_is_no_reading_on_the_way() -> None:
    levels = arm("best")
    arm("other")
    for seed in range(SEEDS):
        path = Path("checkpoints/best", f"seed-{seed}", "metrics.jsonl")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        last = [row for row in rows if row["kind"] == "repetition"][-1]
        add_rows(path.parent, [last | {"best_step": 4, END: 0.9}])
    summary, _ = summarised("best", "other")
    spread = summary["outcomes"][THROUGH]["groups"]["best"]
    assert spread["per_run"] == pytest.approx([np.mean(of_run) for of_run in levels])
    assert summary["outcomes"][END]["groups"]["best"]["mean"] == pytest.approx(0.9)


def test_one_reading_after_training_began_is_the_end_and_no_mean() -> None:
    for seed in range(2):
        for name in ("a", "b"):
            repeated(run(name, seed), [[Told(0.3, None, 3.0)] * 4, [Told(0.2 + 0.1 * seed, None, 3.0)] * 4])
    summary, _ = summarised("a", "b")
    assert THROUGH not in summary["outcomes"]
    assert END in summary["outcomes"]


def test_other_tokenizers_and_fewer_prompts_than_asked_are_said() -> None:
    for name, digest in (("a", "1"), ("b", "2")):
        folder = run(name, repetition={"questions": ["who are you?"], "prompts": 100})
        repeated(folder, [[Told(0.3, None, 3.0)] * 41] * 2, questions=1)
        path = folder / "run.json"
        info = json.loads(path.read_text(encoding="utf-8"))
        info["model"]["tokenizer"] = {"digest": digest}
        path.write_text(json.dumps(info), encoding="utf-8")
    summary, _ = summarised("a", "b")
    assert "a: 40 prompts were drawn, not 100: the data have no more that differ" in summary["notes"]
    assert any(note.startswith("not all groups have the same tokenizer") for note in summary["notes"])
    assert not any("tokenizer" in note for note in summarised("a")[0]["notes"])


def test_the_table_at_the_end_of_a_call_says_what_its_runs_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    from toolkit.run import print_results

    repeated(run("writes"), [[Told(0.9, None, 3.0)] * 4, [Told(0.25, None, 3.0)] * 4])
    run("silent")
    plans = [
        SimpleNamespace(
            run=run_for(name, 0), label=f"{name}/seed-0", recipe=SimpleNamespace(classifies=False),
            built=SimpleNamespace(entropy_bits=13.0),
        )
        for name in ("writes", "silent")
    ]  # fmt: skip
    print_results(plans)  # pyright: ignore[reportArgumentType]
    head, writes, silent = capsys.readouterr().out.splitlines()
    place = head.index("repeated 4-grams") + len("repeated 4-grams")
    assert (writes[:place].split()[-1], silent[:place].split()[-1]) == ("25.0%", "–")
    print_results(plans[1:])  # pyright: ignore[reportArgumentType]
    assert "repeated" not in capsys.readouterr().out


def test_where_nothing_is_long_enough_to_repeat_the_verdict_says_so() -> None:
    for seed in range(2):
        repeated(run("short", seed), [[Told(None, None, 3.0)] * 4] * 3)
    said = summarised("short")[1]
    assert "short: 100.0 % in each run of greedy texts have fewer than four tokens: nothing can repeat" in said
