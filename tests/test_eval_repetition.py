"""Asking checkpoints again what they write: the last reading once more, kept epochs, folders, and what is said."""

import io
import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import command, run
from tests.test_repetition import talkers, write
from toolkit.errors import UserError
from toolkit.eval_repetition import main
from toolkit.probes.repetition_report import groups_of, marked, print_report, results_of
from toolkit.run_folder import run_for
from toolkit.studies import STUDIES

Row = dict[str, Any]
GROUP = "repetition-asked"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engine: ModuleType) -> Path:
    """A project with a group of two runs that kept their epochs."""
    folder = tmp_path_factory.mktemp("eval-repetition")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setitem(STUDIES, "talkers", talkers)
        run(write(GROUP), "stage.learn.keep=epochs", seeds="0,1")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    shutil.rmtree("reports", ignore_errors=True)
    return place


def asked(capsys: pytest.CaptureFixture[str], *paths: str, **options: Any) -> list[Row]:
    """What `eval_repetition --json` prints."""
    main(list(paths), **options, as_json=True)
    return json.loads(capsys.readouterr().out)


def texts(path: Path) -> list[Row]:
    return pq.read_table(path).to_pylist()


def test_a_runs_last_reading_is_read_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = asked(capsys, f"checkpoints/{GROUP}")
    assert [result["checkpoint"] for result in results] == [f"{GROUP}/seed-0", f"{GROUP}/seed-1"]
    for seed, result in enumerate(results):
        last = run_for(GROUP, seed).rows("repetition")[-1]
        assert texts(Path(f"reports/repetition-{GROUP}-seed-{seed}.parquet")) == texts(
            run_for(GROUP, seed).readings("repetition")[-1]
        )
        for decoding in ("greedy", "sampled", "human"):
            for name, value in result["measures"][decoding].items():
                if name != "reference_nats":
                    assert value["mean"] == pytest.approx(last[f"repetition/{decoding}/{name}"]), name
        assert result["measures"]["human"]["reference_nats"]["mean"] == pytest.approx(last["repetition/held_out_nats"])
        assert json.loads(Path(f"reports/repetition-{GROUP}-seed-{seed}.json").read_text(encoding="utf-8")) == result
    # The runs draw other prompts and texts.
    assert results[0]["texts"] != results[1]["texts"]


def test_a_kept_epoch_is_asked_later(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = asked(capsys, f"checkpoints/{GROUP}/seed-0/stages/learn/epoch-001")
    reading = run_for(GROUP, 0).readings("repetition")[1]
    assert reading.name == "repetition-learn-000003.parquet"
    assert texts(Path(f"reports/repetition-{GROUP}-seed-0-stages-learn-epoch-001.parquet")) == texts(reading)
    # A kept epoch is none of the group's runs.
    assert result["group"] is None


def test_what_the_command_line_says_comes_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"question": ["a?", "say 1"], "prompts": 1, "max_new_tokens": 5, "samples": 2, "seed": 7}
    (result,) = asked(capsys, f"checkpoints/{GROUP}/seed-0", **options)
    assert result["settings"]["questions"] == ["a?", "say 1"]
    assert (result["drawn"], result["source"]) == (1, "held_out")
    assert result["measures"]["sampled"]["tokens"]["n"] == 3
    assert [(row["prompt"], row["decoding"], row["draw"]) for row in result["texts"]] == [
        (question, decoding, draw)
        for question in ("a?", "say 1")
        for decoding, draw in (("greedy", 0), ("sampled", 0), ("sampled", 1))
    ]
    assert all(row["tokens"] <= 5 for row in result["texts"])
    assert {row["asked"] for row in result["texts"] if row["prompt"] == "say 1"} == {1}
    (again,) = asked(capsys, f"checkpoints/{GROUP}/seed-0", **options)
    assert again == result
    (other,) = asked(capsys, f"checkpoints/{GROUP}/seed-0", **(options | {"seed": 8}))
    greedy = [[row for row in of["texts"] if row["decoding"] == "greedy"] for of in (result, other)]
    assert greedy[0] == greedy[1]
    assert other["texts"] != result["texts"]


def test_other_questions_leave_the_held_out_prompts_as_the_run_asked_them(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    held = [row["prompt"] for row in texts(run_for(GROUP, 0).readings("repetition")[-1]) if row["source"] == "held_out"]
    (result,) = asked(
        capsys, f"checkpoints/{GROUP}/seed-0", question=[held[0]], max_new_tokens=4, out=tmp_path / "kept"
    )
    (file,) = (tmp_path / "kept").glob("*.parquet")
    rows = texts(file)
    assert {row["prompt"] for row in rows if row["source"] == "held_out"} == set(held)
    assert {row["prompt"] for row in rows if row["source"] == "question"} == {held[0]}
    assert result["drawn"] == len(set(held))


def test_a_folder_that_no_run_made_is_asked_questions_and_a_files_prompts(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(f"checkpoints/{GROUP}/seed-0/model", tmp_path / "found")
    file = tmp_path / "facts.jsonl"
    file.write_text('{"prompt": "say 5", "answer": "5 and 6, 7"}\n', encoding="utf-8")
    options = {"format": "chat", "max_new_tokens": 4, "out": tmp_path / "kept"}
    (result,) = asked(capsys, str(tmp_path / "found"), facts=file, **options)
    assert (result["drawn"], result["source"]) == (1, "held_out")
    assert result["measures"]["human"]["tokens"]["n"] == 1
    assert {row["asked"] for row in result["texts"]} == {None}
    assert len(result["texts"]) == 3 * 2
    assert len(list((tmp_path / "kept").iterdir())) == 2
    (result,) = asked(capsys, str(tmp_path / "found"), **options)
    assert result["drawn"] == 0
    assert "human" not in result["measures"]


def test_the_terminal_shows_tables_intervals_people_and_the_questions_texts(here: Path) -> None:
    done = command("toolkit.eval_repetition", f"checkpoints/{GROUP}", "--max-new-tokens", "8", folder=here)
    assert done.returncode == 0, done.stderr
    assert re.search(r"human \(3\) +greedy \(5\) +sampled \(5\)", done.stdout)
    assert re.search(r"repeated 4-grams \(seq-rep-4\) .*\d%", done.stdout)
    assert re.search(r"never end +– +\d+\.\d% \[\d", done.stdout)
    assert re.search(r"loss on these \(nats a token\) +\d", done.stdout)
    assert f"{GROUP}, mean of 2 runs" in done.stdout
    for question in ("who?", "谁？"):
        assert re.search(rf"{re.escape(question)}  \(asked \d times in training\)\n  greedy ", done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"question": [" "]}, "questions: one of them is empty"),
        ({"question": ["a", "a"]}, "named twice"),
        ({"format": "prose"}, "--format prose"),
        ({"engine": "steam"}, "--engine steam"),
        ({"facts": Path("nowhere.jsonl")}, "no such file"),
        ({"base": "x/y"}, "needs no base"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(here: Path, options: Row, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        main([f"checkpoints/{GROUP}/seed-0"], **options)
    assert not Path("reports").exists()


def test_a_classifier_is_refused(here: Path, tmp_path: Path) -> None:
    shutil.copytree(f"checkpoints/{GROUP}/seed-0/model", tmp_path / "labels")
    from toolkit.classes import FILE

    (tmp_path / "labels" / FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="classifier"):
        main([str(tmp_path / "labels")])


# --- results, from rows by hand ---


def row(prompt: str, decoding: str = "greedy", draw: int = 0, **values: Any) -> Row:
    measured = {f"{kind}seq_rep_{n}": 0.0 for kind in ("", "char_") for n in (1, 2, 3, 4)}
    return {
        "id": prompt, "source": "question", "prompt": prompt, "decoding": decoding, "draw": draw, "text": "abc",
        "ended": True, "tokens": 5, "rep_w": 0.0, "longest_repeat": 0, "compression_ratio": None, "ids": [1, 2],
        "loop_period": None, "loop_times": None, "loop_characters": None, "loop_start": None, "reference_nats": None,
        "asked": None, "mentioned": None, "familiarity": None, **measured,
    } | values  # fmt: skip


def test_intervals_are_over_prompts_and_draws_of_one_prompt_are_averaged_first() -> None:
    rows = [
        row("a", "sampled", draw, seq_rep_4=value) for draw, value in enumerate((0.0, 0.4))
    ] + [row("b", "sampled", 0, seq_rep_4=0.4), row("b", "sampled", 1, seq_rep_4=None)]  # fmt: skip
    found = results_of(rows)["sampled"]["seq_rep_4"]
    # Of .2 and .4 the mean is .3 and the standard error .1; t at 97.5 % with one degree of freedom is 12.7062.
    assert found == {
        "mean": pytest.approx(0.3), "low": pytest.approx(0.3 - 1.27062, abs=1e-4),
        "high": pytest.approx(0.3 + 1.27062, abs=1e-4), "n": 2,
    }  # fmt: skip


def test_a_share_of_single_texts_has_wilsons_interval() -> None:
    rows = [row(str(n), ended=n >= 12) for n in range(12)] + [row("x")]
    found = results_of(rows)["greedy"]
    assert found["never_ended"]["mean"] == pytest.approx(12 / 13)
    # By hand: centre (k + z²/2) / (n + z²), half width z √(k(n-k)/n + z²/4) / (n + z²), of k = 12, n = 13.
    z2 = 1.959964**2
    centre, half = (12 + z2 / 2) / (13 + z2), (z2 * (12 / 13 + z2 / 4)) ** 0.5 / (13 + z2)
    assert found["never_ended"]["low"] == pytest.approx(centre - half, abs=1e-5)
    assert found["never_ended"]["high"] == pytest.approx(centre + half, abs=1e-5)
    assert "compression_ratio" not in found


def test_a_group_is_the_mean_over_its_runs() -> None:
    def result(group: str | None, value: float) -> Row:
        return {"group": group, "measures": {"greedy": {"loops": {"mean": value, "low": 0, "high": 1, "n": 9}}}}

    groups = groups_of([result("g", 0.2), result("g", 0.4), result("single", 0.9), result(None, 0.9)])
    assert groups.keys() == {"g"}
    assert groups["g"]["greedy"]["loops"]["mean"] == pytest.approx(0.3)
    assert groups["g"]["greedy"]["loops"]["n"] == 2


def test_groups_come_last_and_what_is_said_of_single_checkpoints_before_them() -> None:
    from rich.console import Console

    def result(name: str, decoding: str) -> Row:
        return {
            "checkpoint": name, "settings": {"questions": ["a"], "max_new_tokens": 8, "temperature": 1.0},
            "format": "chat", "model": {"base": "b", "dtype": "d", "engine": "e"}, "drawn": 0, "source": None,
            "group": "g", "measures": results_of([row("a", decoding), row("b", decoding)]), "texts": [],
        }  # fmt: skip

    said = io.StringIO()
    # The trap: what both runs have is not of the greedy texts.
    print_report([result("x", "sampled"), result("y", "sampled")], Console(file=said, width=120, highlight=False))
    assert said.getvalue().index("they say nothing about other runs") < said.getvalue().index("g, mean of 2 runs")


def test_distinct_texts_are_counted_over_all_prompts_of_one_draw() -> None:
    rows = [row("a"), row("b"), row("c", text="other"), row("a", draw=1, text="more")]
    assert results_of(rows)["greedy"]["distinct_texts"] == {"mean": 2 / 3, "low": None, "high": None, "n": 3}


def test_a_table_says_of_how_many_texts_a_measure_is_that_not_all_have() -> None:
    from rich.console import Console

    from toolkit.probes.repetition_report import table_of

    said = io.StringIO()
    rows = [row("a", seq_rep_4=0.5), row("b", seq_rep_4=None), row("c", seq_rep_4=None)]
    Console(file=said, width=100).print(table_of(results_of(rows)))
    assert "greedy (3)" in said.getvalue()
    assert re.search(r"seq-rep-4\) +50\.0% \(of 1\)", said.getvalue())
    assert not re.search(r"seq-rep-3.*of", said.getvalue())


def test_the_loop_is_marked_where_it_is_and_named_for_terminals_without_colours() -> None:
    looping = row("a", text="李白" + "豪放不羁" * 3 + "�", loop_period=4, loop_times=3, loop_characters=12,
                  loop_start=2, ended=False, tokens=256)  # fmt: skip
    shown = marked(looping)
    (span,) = [span for span in shown.spans if span.style == "black on yellow"]
    assert shown.plain[span.start : span.end] == "豪放不羁" * 3
    assert shown.plain.endswith("[loop: 4 characters × 3, cut at 256 tokens]")
    assert marked(row("a")).plain == "greedy  abc"
    assert "nothing" in marked(row("a", text="")).plain


def test_a_text_with_what_looks_like_markup_is_printed_as_it_is(here: Path) -> None:
    from rich.console import Console

    said = io.StringIO()
    result = {
        "checkpoint": "x", "settings": {"questions": ["a"], "max_new_tokens": 8, "temperature": 1.0}, "format": "chat",
        "model": {"base": "b", "dtype": "d", "engine": "e"}, "drawn": 0, "source": None, "group": None,
        "measures": results_of([row("a")]), "texts": [row("a", text="[bold]x[/nothing]")],
    }  # fmt: skip
    print_report([result], Console(file=said, width=100, highlight=False, markup=False))
    assert "[bold]x[/nothing]" in said.getvalue()
