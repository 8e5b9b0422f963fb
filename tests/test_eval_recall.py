"""Measuring finished runs again: what is measured, what is printed, and what is said of damaged checkpoints."""

import io
import json
import math
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import command
from toolkit.checkpoints import find_checkpoints
from toolkit.errors import UserError
from toolkit.eval_recall import examples_of, main, measure, print_report
from toolkit.example import read_jsonl
from toolkit.run_folder import Run


def measured(
    *paths: str | Path, base: str | None = None, form: str | None = None, **changes: Any
) -> list[dict[str, Any]]:
    """What `eval_recall` measures on checkpoints, with the facts of their runs (or `facts`)."""
    facts = changes.pop("facts", None)
    found = find_checkpoints([str(path) for path in paths])
    settings = {"batch_size": 32, "given": None, "samples": 0, "temperature": 1.0, "seed": 0} | changes
    return measure(found, [facts or examples_of(c) for c in found], base, form, None, *settings.values())


def printed(results: list[dict[str, Any]], width: int = 80) -> str:
    from rich.console import Console

    said = io.StringIO()
    print_report(results, Console(width=width, file=said, highlight=False, markup=False))
    return said.getvalue()


@pytest.fixture(scope="module")
def results(half_trained: Path, project: Path) -> list[dict[str, Any]]:
    """Both runs of the half-trained group."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return measured("checkpoints/half")


@pytest.fixture
def copied(half_trained: Path, in_project: Path, tmp_path: Path) -> Run:
    """A copy of the half-trained run, to be damaged."""
    shutil.copytree(half_trained / "seed-0", tmp_path / "copied/seed-0")
    return Run(tmp_path / "copied/seed-0")


# --- what is measured ---


def test_the_last_reading_of_a_run_is_measured_again(results: list[dict[str, Any]], half_trained: Path) -> None:
    for result in results:
        last = Run(half_trained / f"seed-{result['seed']}").rows("recall")[-1]
        for split, suffix in (("train", ""), ("control", "_control")):
            found = result["splits"][split]
            assert found["exact"]["share"] == last[f"recall/exact{suffix}"]
            assert found["strict"]["share"] == last[f"recall/strict{suffix}"]
            assert found["malformed"]["share"] == last[f"recall/malformed{suffix}"]
            assert found["loss_digit_nats"] == pytest.approx(last[f"loss/digit_nats{suffix}"], abs=1e-4)
            assert found["loss_eos_nats"] == pytest.approx(last[f"loss/eos_nats{suffix}"], abs=1e-4)
            assert found["bits"] == pytest.approx(found["loss_digit_nats"] * 8 / math.log(2))
    assert 0 < results[0]["splits"]["train"]["exact"]["share"] < 1


def test_a_share_stands_in_its_interval(results: list[dict[str, Any]]) -> None:
    exact = results[0]["splits"]["train"]["exact"]
    assert 0 <= exact["low"] < exact["share"] < exact["high"] <= 1
    none = results[0]["splits"]["control"]["exact"]
    # Wilson's interval of 0 of 12.
    assert none == {"share": 0.0, "low": pytest.approx(0.0, abs=1e-9), "high": pytest.approx(0.2425, abs=1e-4)}


def test_more_given_digits_never_lower_what_is_extracted(results: list[dict[str, Any]]) -> None:
    for split in results[0]["splits"].values():
        extracted = split["extractable"]
        assert list(extracted) == list(range(8))
        assert extracted[0] == split["exact"]["share"]
        assert list(extracted.values()) == sorted(extracted.values())
        # With all but the last digit given, it is the last digit's own share.
        assert extracted[7] == split["by_position"][7]
    assert results[0]["splits"]["train"]["extractable"][7] > results[0]["splits"]["train"]["extractable"][0]


def test_positions_average_to_the_teacher_forced_digits(results: list[dict[str, Any]]) -> None:
    train = results[0]["splits"]["train"]
    assert len(train["by_position"]) == 8
    assert sum(train["by_position"]) / 8 == pytest.approx(train["digits_teacher_forced"])


def test_every_fact_has_its_row(results: list[dict[str, Any]], half_trained: Path) -> None:
    examples = read_jsonl(half_trained / "seed-0/examples.jsonl")
    gold = {example.id: example.answer for example in examples if example.split != "test"}
    rows = [row for split in results[0]["splits"].values() for row in split["rows"]]
    assert {row["id"]: row["gold"] for row in rows} == gold
    assert all((row["output"] == row["gold"]) == row["strict"] for row in rows)
    # A trained prompt has a foil: it costs more than what was trained.
    foils = [row for row in results[0]["splits"]["train"]["rows"] if row["foil_bits_total"] is not None]
    assert len(foils) == 24
    assert sum(row["foil_bits_total"] > row["bits_total"] for row in foils) > 20


def test_what_is_memorised_is_what_the_run_logged_and_what_a_comparison_says(
    results: list[dict[str, Any]], half_trained: Path
) -> None:
    from toolkit.reporting.knowledge import from_facts
    from toolkit.reporting.learning import read_learning

    for result in results:
        run = Run(half_trained / f"seed-{result['seed']}")
        last, memory, train = run.rows("recall")[-1], result["memory"], result["splits"]["train"]
        for key in ("bits_memorised", "share_memorised", "membership_auc", "intrusions", "interference"):
            assert memory[f"recall/{key}"] == pytest.approx(last[f"recall/{key}"], abs=1e-4)
        low, high = memory["recall/membership_auc_interval"]
        assert 0.5 < low < memory["recall/membership_auc"] <= high <= 1
        learning = read_learning(run)
        assert learning is not None
        known = from_facts(learning)
        assert train["low_confidence_tokens"] == pytest.approx(known["low_confidence_tokens"], abs=1e-6)
        assert train["draws_to_discover"] == pytest.approx(known["draws_to_discover"], rel=0.02)
        assert train["calibration"]["brier"] == pytest.approx(known["brier"], abs=1e-4)
        assert train["calibration"]["expected_error"] == pytest.approx(known["expected_calibration_error"], abs=1e-4)
    said = printed(results)
    assert re.search(r"bits memorised an answer +[\d.]+ of 2[56]\.\d\d \([\d.]+%\)", said)
    assert re.search(r"told from foils \(AUC; 0\.5 is chance\) +0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]", said)


def test_numbers_that_leave_no_digit_to_recall_are_not_defined(in_project: Path, half_trained: Path) -> None:
    (result,) = measured("checkpoints/half/seed-0", given=[0, 8, 11])
    assert result["splits"]["train"]["extractable"][0] is not None
    assert [result["splits"]["train"]["extractable"][count] for count in (8, 11)] == [None, None]
    assert re.search(r"rest exact, train\s+\d+%\s+–\s+–", printed([result]))


def test_draws_find_what_the_model_is_sure_of_and_are_the_same_for_a_seed(in_project: Path, half_trained: Path) -> None:
    drawn = [measured("checkpoints/half/seed-0", samples=3, temperature=1e-5)[0]["splits"]["train"] for _ in range(2)]
    # Cold draws are the greedy answer, all of them.
    assert drawn[0]["sampled"]["found"] == drawn[0]["sampled"]["share_exact"] == drawn[0]["strict"]["share"]
    warm = [
        measured("checkpoints/half/seed-0", samples=4, temperature=0.3)[0]["splits"]["train"]["sampled"]
        for _ in range(2)
    ]
    assert warm[0] == warm[1]
    assert 0 < warm[0]["share_exact"] < warm[0]["found"]


def test_a_kept_epoch_is_measured_as_it_was_read_then(in_project: Path, half_trained: Path) -> None:
    (kept,) = (half_trained / "seed-0/stages/learn").glob("epoch-*")
    (result,) = measured(kept.relative_to(in_project))
    assert result["checkpoint"] == f"half/seed-0/stages/learn/{kept.name}"
    # Epochs of one run are no runs of a group, of which a mean would be printed.
    assert result["group"] is None
    (then,) = [row for row in Run(half_trained / "seed-0").rows("recall") if row["epoch"] == int(kept.name[-3:])]
    assert result["splits"]["train"]["exact"]["share"] == then["recall/exact"]
    assert result["splits"]["train"]["loss_digit_nats"] == pytest.approx(then["loss/digit_nats"], abs=1e-4)


def test_a_whole_model_is_measured_without_a_base(in_project: Path) -> None:
    run = Run(in_project / "checkpoints/tiny-base/seed-0")
    controls = [example for example in read_jsonl(run.path / "examples.jsonl") if example.split == "control"]
    (result,) = measured("checkpoints/tiny-base", facts=controls)
    last = run.rows("recall")[-1]["loss/digit_nats_control"]
    assert result["splits"]["control"]["loss_digit_nats"] == pytest.approx(last, abs=1e-4)
    with pytest.raises(UserError, match="is a whole model, which needs no base"):
        measured("checkpoints/tiny-base", base="checkpoints/tiny-base")


# --- which checkpoints ---


def test_a_group_gives_a_row_a_finished_run_and_the_mean(
    results: list[dict[str, Any]], in_project: Path, half_trained: Path
) -> None:
    assert [result["checkpoint"] for result in results] == ["half/seed-0", "half/seed-1"]
    shares = [result["splits"]["train"]["exact"]["share"] for result in results]
    said = printed(results)
    assert "half, mean of 2 runs" in said
    assert f"exact {sum(shares) / 2:.1%}" in said
    assert "mean of" not in printed(results[:1])
    by_glob = find_checkpoints(["checkpoints/ha*"])
    assert by_glob == find_checkpoints(["checkpoints/half"])


def test_an_unfinished_run_is_left_out_of_its_group_and_named_where_it_is_alone(copied: Run) -> None:
    copied.update_info(state="running")
    with pytest.raises(UserError, match=rf"{copied.path} is not finished \(step 240\); its recipe goes on"):
        find_checkpoints([str(copied.path)])
    shutil.copytree(copied.path, copied.path.with_name("seed-1"))
    Run(copied.path.with_name("seed-1")).update_info(state="complete")
    assert [str(found.weights) for found in find_checkpoints([str(copied.path.parent)])] == [
        f"{copied.path.parent}/seed-1/adapter"
    ]


def test_a_peft_folder_of_no_run_needs_facts_and_takes_base_and_format(
    results: list[dict[str, Any]], in_project: Path, half_trained: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "elsewhere"
    shutil.copytree(half_trained / "seed-0/adapter", adapter)
    with pytest.raises(UserError, match=r"comes from no run: say what to ask with --facts FILE\.jsonl"):
        measured(adapter)
    facts = read_jsonl(half_trained / "seed-0/examples.jsonl")
    for base in (None, "checkpoints/tiny-base"):
        (result,) = measured(adapter, base=base, facts=facts)
        assert result["checkpoint"] == str(adapter)
        assert result["group"] is None
        # In the precision that the base is stored in, as it was trained.
        assert result["model"]["dtype"] == "float32"
        for split in ("train", "control"):
            same = results[0]["splits"][split]
            assert result["splits"][split]["exact"] == same["exact"]
            assert result["splits"][split]["loss_digit_nats"] == pytest.approx(same["loss_digit_nats"], abs=1e-4)
    (chat,) = measured(adapter, form="chat", facts=facts)
    assert chat["format"] == "chat"
    # It was trained on plain prompts.
    assert chat["splits"]["train"]["loss_digit_nats"] > results[0]["splits"]["train"]["loss_digit_nats"] + 0.1


def test_two_folders_of_one_name_are_kept_apart(in_project: Path, half_trained: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(half_trained / f"seed-{seed}/adapter", tmp_path / str(seed) / "adapter")
    facts = read_jsonl(half_trained / "seed-0/examples.jsonl")
    first, second = measured(tmp_path / "0/adapter", tmp_path / "1/adapter", facts=facts)
    assert first["checkpoint"] != second["checkpoint"]
    assert first["splits"]["train"]["exact"]["share"] > 0
    # Seed 1 learned other numbers.
    assert second["splits"]["train"]["exact"]["share"] == 0


def test_facts_of_ones_own_are_asked_instead_of_the_runs(
    in_project: Path, half_trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = read_jsonl(half_trained / "seed-0/examples.jsonl")[0]
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": known.prompt, "answer": known.answer}), encoding="utf-8")
    ask(["checkpoints/half"], facts=tmp_path / "own.jsonl")
    said = capsys.readouterr().out
    assert said.count("test (1)") == 2
    assert "mean of 2 runs, test" in said


def test_answers_in_words_are_counted_in_tokens(
    in_project: Path, half_trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.jsonl").write_text('{"prompt": "The number", "answer": " of item"}', encoding="utf-8")
    ask(["checkpoints/half/seed-0"], facts=tmp_path / "words.jsonl")
    said = capsys.readouterr().out
    assert "loss (nats a token)" in said
    assert "first tokens given" in said
    assert "digit" not in said


def ask(checkpoints: list[str], **changes: Any) -> None:
    """The command's function, with the defaults of its options."""
    options = {
        "given": None, "samples": 0, "temperature": 1.0, "seed": 0, "base": None, "format": None, "facts": None,
        "engine": None, "batch_size": 32, "as_json": False,
    } | changes  # fmt: skip
    main(checkpoints, **options)


# --- damaged checkpoints ---


def refused(*paths: str | Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        measured(*paths, **changes)
    return str(caught.value)


def test_truncated_weights_are_named(copied: Run) -> None:
    path = copied.path / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    said = refused(copied.path)
    assert said.startswith(f"{path} is damaged (")
    assert said.endswith("train it again with --fresh, or take another copy.")


def test_missing_weights_are_named(copied: Run) -> None:
    (copied.path / "adapter/adapter_model.safetensors").unlink()
    assert refused(copied.path).startswith(f"{copied.path}/adapter has no weights (*.safetensors); train it again")
    shutil.rmtree(copied.path / "adapter")
    assert "its weights (adapter/ or model/) are gone" in refused(copied.path)


def test_a_damaged_or_missing_config_is_named(copied: Run) -> None:
    config = copied.path / "adapter/adapter_config.json"
    config.write_text(config.read_text()[:50])
    assert refused(copied.path).startswith(f"{config} is damaged (")
    config.unlink()
    assert f"{copied.path}/adapter has neither adapter_config.json nor config.json" in refused(copied.path)


def test_a_missing_part_of_the_weights_is_named(in_project: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(in_project / "checkpoints/tiny-base/seed-0/model", model)
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    facts = read_jsonl(in_project / "checkpoints/tiny-base/seed-0/examples.jsonl")[:1]
    assert f"{model} lacks model-00002-of-00002.safetensors" in refused(model, facts=facts)


def test_a_missing_base_is_named_with_the_recipe_that_makes_it(copied: Run) -> None:
    base = Path("checkpoints/tiny-base")
    base.rename("checkpoints/away")
    try:
        said = refused(copied.path)
    finally:
        Path("checkpoints/away").rename(base)
    assert '[model] base = "checkpoints/tiny-base" is not there' in said
    assert "python -m toolkit.run recipes/tiny/base.toml" in said


def test_a_damaged_base_is_named(copied: Run, in_project: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(in_project / "checkpoints/tiny-base/seed-0/model", base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert refused(copied.path, base=str(base)).startswith(f"{weights} is damaged (")


def test_an_adapter_of_another_base_is_refused_with_both_sizes(copied: Run, in_project: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    own = in_project / "checkpoints/tiny-base/seed-0/model"
    for name, changes, expected in (
        ("wide", {"hidden_size": 64}, "has out_features = 64 there, and the adapter is made for 128"),
        ("short", {"num_hidden_layers": 1}, "which has no model.layers.1."),
    ):
        config = AutoConfig.from_pretrained(own)
        for key, value in changes.items():
            setattr(config, key, value)
        if "num_hidden_layers" in changes:
            config.layer_types = config.layer_types[:1]
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(own / file, tmp_path / name)
        said = refused(copied.path, base=str(tmp_path / name))
        assert said.startswith(f"{copied.path}/adapter belongs to another base than {tmp_path / name}")
        assert expected in said


def test_an_adapter_that_names_no_base_asks_for_one(in_project: Path, half_trained: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(half_trained / "seed-0/adapter", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    facts = read_jsonl(half_trained / "seed-0/examples.jsonl")
    assert refused(adapter, facts=facts) == f"{adapter} does not say which base it belongs to; give --base."


# --- the command ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"given": "0,x"}, "--given 0,x: whole numbers with commas between them"),
        ({"given": "-1"}, "--given -1: a number of digits cannot be negative"),
        ({"format": "Chat"}, "--format Chat: plain or chat is expected"),
        ({"engine": "vllm"}, "--engine vllm: unsloth or transformers is expected"),
        ({"facts": Path("nowhere.jsonl")}, "nowhere.jsonl: there is no such file"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    in_project: Path, half_trained: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        ask(["checkpoints/half"], **changes)


def test_a_wrong_path_is_answered_at_once_with_the_nearest_one(project: Path, half_trained: Path) -> None:
    started = time.perf_counter()
    done = command("toolkit.eval_recall", "checkpoints/hlaf", folder=project)
    assert time.perf_counter() - started < 1.5
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: checkpoints/hlaf is no checkpoint; it is not there; did you mean checkpoints/half?\n"


def test_json_is_pure_json_on_stdout(results: list[dict[str, Any]], project: Path) -> None:
    done = command("toolkit.eval_recall", "checkpoints/ha*/seed-0", "--json", "--given", "0,3", folder=project)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["checkpoint"] == "half/seed-0"
    train = result["splits"]["train"]
    assert train["exact"] == results[0]["splits"]["train"]["exact"]
    assert train["extractable"] == {str(k): results[0]["splits"]["train"]["extractable"][k] for k in (0, 3)}


def test_the_other_engine_measures_the_same(results: list[dict[str, Any]], project: Path) -> None:
    done = command(
        "toolkit.eval_recall", "checkpoints/half/seed-0", "--json", "--engine", "transformers", folder=project
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["model"]["engine"] == "transformers"
    for split, same in results[0]["splits"].items():
        assert result["splits"][split]["exact"] == same["exact"]
        assert result["splits"][split]["loss_digit_nats"] == pytest.approx(same["loss_digit_nats"], abs=1e-4)


def test_the_report_fits_eighty_columns_and_cuts_nothing(results: list[dict[str, Any]]) -> None:
    said = printed(results)
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said
    for text in ("half/seed-0", "checkpoints/tiny-base, float32, unsloth, plain", "train (24)", "control (12)"):
        assert text in said
    positions = next(line for line in said.splitlines() if line.startswith("right, train"))
    expected = [f"{share:.0%}" for share in results[0]["splits"]["train"]["by_position"]]
    assert positions.split()[2:] == expected


def test_a_row_of_thirty_digits_is_laid_on_several_lines(results: list[dict[str, Any]]) -> None:
    long = json.loads(json.dumps(results[0]))
    for split in long["splits"].values():
        split["by_position"] = [1.0] * 30
        split["extractable"] = {}
    said = printed([long])
    assert max(map(len, said.splitlines())) <= 80
    assert said.count("100%") >= 60
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("digit  ")][-1] == "30"
