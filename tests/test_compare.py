"""Comparing finished runs: what summary.json says, that the figures are there, and what is said of mistakes."""

import io
import json
import math
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from toolkit.compare import LONGEST, compare, report_name
from toolkit.errors import UserError
from toolkit.recipe.table import is_name

ROOT = Path(__file__).parents[1]
MIRRORED = {"entropy_bits": 19.9315, "rule_only_bits": 19.931569, "rule_only_digits": 0.509, "answer_digits": 11}
UNKNOWN = dict.fromkeys(MIRRORED)


def write_run(name, seed, exact, *, state="complete", data=MIRRORED, loss=None, line=None, root="checkpoints"):
    """A run read once an epoch; `exact` and `loss` have a value an epoch, from 0."""
    run = Path(root) / name / f"seed-{seed}"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(f'name = "{name}"\n[stage.learn]\nepochs = {len(exact) - 1}\n')
    info = {"name": name, "seed": seed, "state": state, "model": {"base": "tiny-base", "dtype": "fp32"}}
    (run / "run.json").write_text(json.dumps(info | {"data": {"trained": 100, "controls": 100, **data}}))
    with (run / "metrics.jsonl").open("w") as file:
        for epoch, share in enumerate(exact):
            place = {"stage": "learn", "step": 7 * epoch, "epoch": epoch, "exposures": epoch}
            row = {"kind": "recall", **place, "recall/exact": share, "recall/exact_control": 0.0, "recall/digits": 0.9}
            row |= {"recall/read": 100, "recall/read_control": 100}
            row["loss/digit_nats"] = (loss or [3 - 2 * share for share in exact])[epoch]
            if data["entropy_bits"] is not None:
                row["recall/bits_memorised"] = data["entropy_bits"] * share - 30 * (epoch == 0)
                row["recall/share_memorised"] = row["recall/bits_memorised"] / data["entropy_bits"]
            if line:
                row["loss/line_nats"] = line[epoch]
            file.write(json.dumps(row) + "\n")
            file.write(json.dumps({"kind": "train", **place, "train/loss": 1.0}) + "\n")
    return run


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def compared(*arguments, name=None, width=140):
    """The summary that comparing writes, its folder, and what is printed."""
    console = Console(width=width, record=True, file=io.StringIO())
    folder = compare(list(arguments), name, console)
    return json.loads((folder / "summary.json").read_text()), folder, console.export_text()


def png_size(path):
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">II", content[16:24])


def test_a_groups_values_are_means_of_its_runs_with_their_t_interval():
    for seed, last in enumerate([0.94, 0.95, 0.93]):
        write_run("GroupB", seed, [0, 0.5, last])
    summary, _, _ = compared("checkpoints/GroupB")
    (group,) = summary["groups"]
    exact = group["final"]["recall/exact"]
    # sd .01, t of two degrees of freedom 4.3027: half width 4.3027 * .01 / sqrt(3) = .02484
    assert exact == {
        "mean": pytest.approx(0.94),
        "low": pytest.approx(0.94 - 0.02484, abs=1e-5),
        "high": pytest.approx(0.94 + 0.02484, abs=1e-5),
        "n": 3,
        "per_run": [0.94, 0.95, 0.93],
    }
    assert group["seeds"] == [0, 1, 2]
    assert group["final"]["loss/digit_nats"]["mean"] == pytest.approx(3 - 2 * 0.94)


def test_the_floor_is_the_rules_share_of_a_digit_and_not_the_whole_alphabet():
    write_run("GroupB", 0, [0, 0.5])
    (group,) = compared("checkpoints/GroupB")[0]["groups"]
    assert group["floors"]["loss/digit_nats"] == pytest.approx(1.2560, abs=5e-5)
    assert group["floors"]["recall/digits"] == 0.509
    assert group["entropy_bits"] == 19.9315


@pytest.mark.parametrize(
    ("support", "tokens", "floor"),
    # (ln of the support + ln 200) / tokens of a line: 25.3284, 13.8155, 6.9078, each + 5.2983.
    [(10**11, 18, 1.7015), (10**6, 18, 1.0619), (10**3, 18, 0.6781)],
)
def test_the_floor_of_a_whole_line_has_the_index_in_it(support, tokens, floor):
    from toolkit.reporting.groups import Group

    run: Any = SimpleNamespace(recipe={}, info={"data": {"rule_only_bits": math.log2(support), "prompt_choices": 200}})
    group = Group("A", [run], [[{"loss/line_tokens": tokens}]], [])
    assert group.floor_line_nats == pytest.approx(floor, abs=5e-5)
    unknown: Any = SimpleNamespace(recipe={}, info={"data": {"rule_only_bits": math.log2(support)}})
    assert Group("A", [unknown], [[{"loss/line_tokens": tokens}]], []).floor_line_nats is None


def test_one_run_has_the_interval_of_its_items_and_none_over_runs():
    write_run("GroupB", 3, [0, 0.87])
    summary, _, printed = compared("checkpoints/GroupB/seed-3")
    (group,) = summary["groups"]
    exact = group["final"]["recall/exact"]
    assert (exact["low"], exact["high"], exact["n"]) == (None, None, 1)
    within = exact["wilson"]
    assert (within["successes"], within["of"], within["within"]) == (87, 100, "the run")
    assert (within["low"], within["high"]) == (pytest.approx(0.7902, abs=5e-5), pytest.approx(0.9224, abs=5e-5))
    assert "one seed: nothing is known about other runs" in group["notes"]
    assert "[79.0, 92.2]" in printed
    assert "within the run" in printed


def test_several_runs_have_no_interval_within_a_run():
    write_run("GroupB", 0, [0, 0.87])
    write_run("GroupB", 1, [0, 0.86])
    (group,) = compared("checkpoints/GroupB")[0]["groups"]
    assert "wilson" not in group["final"]["recall/exact"]


def test_exposures_to_a_share_are_those_of_the_first_reading_there_and_null_where_it_never_was():
    write_run("GroupB", 0, [0, 0.2, 0.5, 0.4, 0.95])
    write_run("GroupB", 1, [0, 0.1, 0.2, 0.6, 0.9499])
    (group,) = compared("checkpoints/GroupB")[0]["groups"]
    half, most = group["first_exposures"]["0.5"], group["first_exposures"]["0.95"]
    assert (half["per_run"], half["mean"]) == ([2, 3], 2.5)
    # A mean of the runs that got there would look faster than the group is.
    assert (most["per_run"], most["mean"], most["n"]) == ([4, None], None, 1)


def test_what_was_recalled_before_training_took_no_exposures():
    write_run("GroupB", 0, [0.6, 0.7])
    (group,) = compared("checkpoints/GroupB")[0]["groups"]
    assert group["first_exposures"]["0.5"]["per_run"] == [0]


def test_ninety_five_of_a_hundred_in_float32_is_ninety_five_per_cent():
    write_run("GroupB", 0, [0, 0.949999988079071])
    (group,) = compared("checkpoints/GroupB")[0]["groups"]
    assert group["first_exposures"]["0.95"]["per_run"] == [1]
    assert group["final"]["recall/exact"]["wilson"]["successes"] == 95


def test_unfinished_runs_are_left_out_and_named():
    write_run("GroupB", 0, [0, 0.5])
    write_run("GroupB", 1, [0, 0.9], state="running")
    summary, _, printed = compared("checkpoints/GroupB")
    (group,) = summary["groups"]
    assert group["seeds"] == [0]
    assert "seed-1 is not finished (step 7) and left out" in group["notes"]
    assert "seed-1 is not finished" in printed


def test_only_unfinished_runs_are_a_users_error():
    write_run("GroupB", 1, [0, 0.9], state="running")
    with pytest.raises(UserError, match="not finished"):
        compared("checkpoints/GroupB")


def test_runs_and_groups_of_different_lengths_are_compared_and_said_to_be():
    write_run("GroupA", 0, [0, 0.2, 0.3, 0.4])
    write_run("GroupA", 1, [0, 0.2])
    write_run("GroupB", 0, [0, 0.9])
    summary, folder, _ = compared("checkpoints/GroupA", "checkpoints/GroupB")
    first = summary["groups"][0]
    assert first["exposures"] == [3, 1]
    assert "its runs were last read after different numbers of exposures (3, 1)" in first["notes"]
    assert any("stage.learn.epochs: 3 -> 1" in note for note in first["notes"])
    assert summary["notes"] == [
        "the last readings were taken after different numbers of exposures: GroupA 3, GroupB 1",
        "unequal designs, updates: GroupA 21, GroupB 7",
    ]
    assert png_size(folder / "loss_curves.png")[0] > 1000


def test_a_curve_ends_where_the_first_run_ends_so_that_no_mean_jumps():
    from toolkit.reporting.groups import collect

    write_run("GroupA", 0, [0, 0.2, 0.9])
    write_run("GroupA", 1, [0, 0.4])
    (group,), _ = collect(["checkpoints/GroupA"])
    curve = group.curve("recall/exact")
    assert [(point.epoch, point.value.n) for point in curve] == [(0, 2), (1, 2)]
    assert curve[1].value.mean == pytest.approx(0.3)


def test_answers_without_an_entropy_have_no_floor_and_no_bits():
    write_run("news", 0, [0, 0.5], data=UNKNOWN)
    summary, folder, printed = compared("checkpoints/news")
    (group,) = summary["groups"]
    assert group["floors"] == {"loss/digit_nats": None, "recall/digits": None}
    assert "no rule-only floor is known for its answers" in group["notes"]
    assert "no floor" in printed
    assert png_size(folder / "recall_curves.png")[0] < 1600  # one panel


def test_figures_are_pngs_for_print_and_a_whole_line_loss_gets_a_panel_of_its_own():
    write_run("GroupA", 0, [0, 0.5])
    write_run("line-GroupA", 0, [0, 0.5], line=[3.0, 1.0])
    _, plain, _ = compared("checkpoints/GroupA")
    _, both, _ = compared("checkpoints/*", name="both")
    assert png_size(plain / "loss_curves.png")[0] == pytest.approx(1320, abs=20)
    for file in ("loss_curves.png", "recall_curves.png"):
        width, height = png_size(both / file)
        assert 2000 < width < 2400
        assert 800 < height < 1200
    assert not list(both.glob(".*")), "nothing half-written stays"


def test_figures_leave_matplotlibs_settings_and_backend_alone():
    write_run("GroupA", 0, [0, 0.5])
    script = (
        "import io, sys, matplotlib; from rich.console import Console; from toolkit.compare import compare\n"
        "keys = [key for key in matplotlib.rcParams if key != 'backend']\n"  # reading that one chooses a backend
        "before = [matplotlib.rcParams[key] for key in keys]\n"
        "compare(['checkpoints/GroupA'], None, Console(file=io.StringIO()))\n"
        "print([matplotlib.rcParams[key] for key in keys] == before, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_the_axis_of_bits_is_not_ruled_by_the_time_before_training_even_where_nothing_is_learned():
    write_run("GroupA", 0, [0, 0, 0])
    assert compared("checkpoints/GroupA")[1].is_dir()


def test_a_diverged_loss_is_null_in_json_and_said():
    write_run("GroupA", 0, [0, 0], loss=[3.0, float("nan")])
    (group,) = compared("checkpoints/GroupA")[0]["groups"]
    assert group["final"]["loss/digit_nats"]["mean"] is None
    assert "a run's loss is no number at the end: it diverged" in group["notes"]


def test_runs_that_all_agree_are_said_to_prove_no_certainty():
    write_run("GroupA", 0, [0, 1.0])
    write_run("GroupA", 1, [0, 1.0])
    (group,) = compared("checkpoints/GroupA")[0]["groups"]
    assert any(note.startswith("every run ended at 100.0 % exact recall") for note in group["notes"])


def test_a_run_named_twice_counts_once():
    write_run("GroupA", 0, [0, 0.5])
    (group,) = compared("checkpoints/GroupA", "./checkpoints/GroupA/seed-0", "checkpoints/../checkpoints/Group*")[0][
        "groups"
    ]
    assert group["runs"] == 1


def test_groups_of_one_name_in_two_places_stay_two_groups():
    write_run("GroupA", 0, [0, 0.5])
    write_run("GroupA", 0, [0, 0.9], root="old")
    summary, folder, _ = compared("checkpoints/GroupA", "old/GroupA")
    assert [group["group"] for group in summary["groups"]] == ["checkpoints/GroupA", "old/GroupA"]
    assert folder == Path("reports/checkpoints-GroupA-vs-old-GroupA")


def test_groups_without_a_reading_are_left_out_or_a_users_error():
    write_run("tiny-base", 0, [0])
    Path("checkpoints/tiny-base/seed-0/metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="tiny-base: no reading of recall"):
        compared("checkpoints/tiny-base")
    write_run("GroupA", 0, [0, 0.5])
    assert compared("checkpoints/*")[0]["notes"] == ["tiny-base: no reading of recall lies there; left out"]


def test_the_table_turns_where_the_console_is_narrow():
    write_run("GroupA", 0, [0, 0.5])
    wide, narrow = compared("checkpoints/GroupA")[2], compared("checkpoints/GroupA", width=80)[2]
    assert ["group", "runs"] in [line.split()[:2] for line in wide.splitlines()]
    assert ["group", "GroupA"] in [line.split() for line in narrow.splitlines()]
    assert "floor 1.256" in wide
    assert "floor 1.256" in narrow


def test_many_groups_stay_rows_in_a_narrow_console_in_the_order_of_their_numbers():
    for rank in (1, 2, 16, 32, 64, 128, 256):
        write_run(f"rank{rank}", 0, [0, 0.5])
    summary, _, printed = compared("checkpoints/rank*", width=80)
    assert [group["group"] for group in summary["groups"]] == [f"rank{r}" for r in (1, 2, 16, 32, 64, 128, 256)]
    assert ["rank2", "1"] in [line.split()[:2] for line in printed.splitlines()]
    assert "every group: one seed" in printed


def test_one_run_a_group_is_no_test_and_the_report_says_so():
    write_run("GroupA", 0, [0, 0.1])
    write_run("GroupB", 0, [0, 0.9])
    summary, _, printed = compared("checkpoints/Group*")
    assert summary["outcomes"]["recall/exact"]["contrasts"][0]["p"] is None
    assert (
        "No test: without a value: GroupA/seed-0, GroupB/seed-0." in printed
    )  # no reading's file, so no exposures to recall
    assert "GroupA has one run: nothing is known about its other seeds" in summary["limits"][0]


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        (["GroupA"], "GroupA"),
        (["GroupA", "GroupB", "GroupC"], "GroupA-vs-GroupB-vs-GroupC"),
        (["tiny-GroupA", "tiny-GroupB"], "tiny-GroupA-vs-GroupB"),
        (["A-rank8-count100", "A-rank16-count100"], "A-rank8-count100-vs-rank16-count100"),
        (["GroupA", "GroupA-rank8"], "GroupA-vs-GroupA-rank8"),
        (["tiny-GroupA", "original-GroupA"], "tiny-GroupA-vs-original-GroupA"),
    ],
)
def test_a_report_is_named_after_its_groups_and_says_their_prefix_once(groups, name):
    assert report_name(groups) == name


@pytest.mark.parametrize("groups", [["电话"], ["电话", "号码"], ["con"], ["GroupA", "…"]])
def test_names_of_which_no_folder_can_be_called_get_a_digest(groups):
    name = report_name(groups)
    assert is_name(name)
    assert name.startswith("report-")
    assert name != report_name(["другой"])


def test_a_long_name_is_cut_and_two_long_lists_do_not_share_a_folder():
    many = [f"sweep-rank{rank}-count100" for rank in range(40)]
    assert len(report_name(many)) <= LONGEST
    assert report_name(many).startswith("sweep-rank0-count100-vs-rank1-count100-")
    assert report_name(many) != report_name(many[:-1])
    assert report_name(many[:-1]) != report_name([*many[:-2], many[-1]])
    assert len(report_name(["x" * 100, "y" * 100])) <= LONGEST


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".", "..", ".hidden", "a..b", "C:\\x", "x" * 101, "a b"])
def test_a_name_that_is_a_path_is_refused_before_anything_is_written(name):
    write_run("GroupA", 0, [0, 0.5])
    with pytest.raises(UserError, match="--name"):
        compared("checkpoints/GroupA", name=name)
    assert not Path("reports").exists()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "toolkit.compare", *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_the_command_prints_the_table_and_where_the_figures_are():
    write_run("GroupA", 0, [0, 0.5])
    done = command("checkpoints/Group*", "--name", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert "reports/mine/" in done.stdout
    assert "floor 1.256" in done.stdout


def test_json_is_all_that_json_prints():
    write_run("GroupA", 0, [0, 0.5])
    assert json.loads(command("checkpoints/GroupA", "--json").stdout)["groups"][0]["group"] == "GroupA"


def test_what_is_no_run_is_said_in_one_line_with_the_nearest_one():
    write_run("GroupA", 0, [0, 0.5])
    done = command("checkpoints/GroupX")
    assert done.returncode == 2
    assert done.stderr.startswith("error: checkpoints/GroupX is no run or group")
    assert "did you mean checkpoints/GroupA?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("reports").exists()


def test_help_is_quick_and_loads_no_figure_or_statistics():
    script = (
        "import sys, toolkit.compare; print([m for m in ('scipy', 'matplotlib', 'torch', 'numpy') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert loaded.stdout.strip() == "[]"
    start = time.perf_counter()
    done = command("--help")
    assert time.perf_counter() - start < 2, "0.1 s on an idle machine"
    assert "reports/" in done.stdout
