"""Listing runs: what state each is in, and how far it came."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.list import find, how_far, main, reached, when
from toolkit.run_folder import Run, locked

ROOT = Path(__file__).parents[1]


def write_run(name="GroupA", seed=0, *, state="complete", exact=(0.0, 0.4, 0.9), trained_to=None, base="tiny-base"):
    """A run of ten epochs, read at each, and trained on to `trained_to` since."""
    run = Path("checkpoints") / name / f"seed-{seed}"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(f'name = "{name}"\n[stage.learn]\nepochs = 6\n[stage.more]\nepochs = 4\n')
    finished = "2025-11-22T13:30:00+00:00" if state == "complete" else None
    info = {"state": state, "started": "2025-11-22T13:00:00+00:00", "finished": finished, "model": {"base": base}}
    (run / "run.json").write_text(json.dumps(info))
    rows = [
        {"kind": "recall", "stage": "learn", "step": 7 * epoch, "epoch": float(epoch), "exposures": float(epoch)}
        | {"recall/exact": share}
        for epoch, share in enumerate(exact)
    ]
    if trained_to is not None:
        place = {"step": round(7 * trained_to), "epoch": trained_to, "exposures": trained_to}
        rows.append({"kind": "train", "stage": "more", **place, "train/loss": 1.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Run(run)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_finished_run_is_complete_with_its_last_recall():
    known = how_far(write_run())
    assert (known["state"], known["epoch"], known["recall_exact"], known["base"]) == ("complete", 2.0, 0.9, "tiny-base")
    assert known["run"] == "GroupA/seed-0"


def test_how_far_is_the_last_row_and_recall_the_last_reading_before_it():
    known = how_far(write_run(state="running", trained_to=6.5))
    assert (known["stage"], known["step"], known["recall_exact"]) == ("more", 46, 0.9)
    assert reached(known) == "more, epoch 6.5 of 10"


def test_an_unfinished_run_whose_process_is_gone_is_stopped():
    run = write_run(state="running")
    assert how_far(run)["state"] == "stopped"
    with locked(run):
        pass  # its lock file stays behind, and nobody holds it
    assert how_far(run)["state"] == "stopped"


def test_an_unfinished_run_whose_lock_another_process_holds_is_running_until_that_ends():
    run = write_run(state="running")
    script = (
        "import sys; from pathlib import Path; from toolkit.run_folder import Run, locked\n"
        "with locked(Run(Path('checkpoints/GroupA/seed-0'))): print('held', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == b"held"
    assert how_far(run)["state"] == "running"
    assert how_far(run)["state"] == "running"  # looking takes no lock away
    holder.stdin.close()
    holder.wait(timeout=30)
    holder.stdout.close()
    assert how_far(run)["state"] == "stopped"


def test_looking_leaves_no_lock_file():
    run = write_run(state="running")
    how_far(run)
    assert [path.name for path in run.path.parent.iterdir()] == ["seed-0"]


def test_a_half_written_last_row_is_passed_over():
    run = write_run(state="running")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "recall", "step": 21, "ep')
    assert how_far(run)["step"] == 14


def test_a_damaged_run_is_listed_as_such_and_hides_no_other(capsys):
    write_run(seed=0)
    (write_run(seed=1).path / "run.json").write_text("{")
    main(None)
    printed = capsys.readouterr().out
    assert "damaged" in printed
    assert "90.0 %" in printed


def test_runs_are_listed_by_group_and_by_number_of_seed():
    for seed in (10, 2, 0):
        write_run(seed=seed)
    write_run("Another")
    (Path("checkpoints") / "README.md").write_text("no run")
    (Path("checkpoints") / ".GroupA.part" / "seed-0").mkdir(parents=True)
    (Path("checkpoints") / ".GroupA.part" / "seed-0" / "run.json").write_text("{}")
    labels = [run.label for run in find(Path("checkpoints"))]
    assert labels == ["Another/seed-0", "GroupA/seed-0", "GroupA/seed-2", "GroupA/seed-10"]
    assert len(find(Path("checkpoints/GroupA"))) == 3
    assert len(find(Path("checkpoints/GroupA/seed-2"))) == 1


def test_a_run_before_its_first_step_says_so():
    run = write_run(state="running", exact=(0.0,))
    assert reached(how_far(run)) == "before training"
    (run.path / "metrics.jsonl").unlink()
    assert reached(how_far(run)) == "before training"
    assert how_far(run)["recall_exact"] is None


@pytest.mark.parametrize("exists", [True, False])
def test_no_run_yet_is_a_friendly_sentence_and_an_empty_list_in_json(exists, capsys):
    if exists:
        Path("checkpoints").mkdir()
    main(None)
    assert "There is no run in checkpoints/ yet." in capsys.readouterr().out
    main(None, as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_a_folder_that_is_not_there_is_a_users_error():
    with pytest.raises(UserError, match="elsewhere is no folder"):
        main(Path("elsewhere"))


def test_json_has_what_the_table_has(capsys):
    write_run()
    main(None, as_json=True)
    (known,) = json.loads(capsys.readouterr().out)
    assert known["path"] == "checkpoints/GroupA/seed-0"
    assert (known["finished"], known["epochs"]) == ("2025-11-22T13:30:00+00:00", 10)


def test_when_is_the_end_or_else_the_start_and_survives_a_strange_time():
    assert when({"started": "2025-11-22T13:00:00+00:00", "finished": None}).startswith("2025-11-2")
    assert when({"started": "yesterday"}) == "yesterday"
    assert when({}) == "–"


def test_the_command_is_quick_and_loads_nothing_heavy():
    for seed in range(50):
        write_run(seed=seed, state="running" if seed % 5 == 0 else "complete")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "toolkit.list"], capture_output=True, encoding="utf-8", env=environment, check=True
    )
    assert time.perf_counter() - start < 3, "0.3 s on an idle machine"
    assert done.stdout.count("GroupA/seed-") == 50
    script = "import sys, toolkit.list; print([m for m in ('scipy', 'numpy', 'torch', 'pyarrow') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert loaded.stdout.strip() == "[]"
