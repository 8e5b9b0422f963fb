"""What a base could do and what became of it, by command: a planted loss is found, and none where there is none."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import command, run
from tests.task_files import (
    LETTERS,
    chinese_questions,
    mmlu_questions,
    write_adapter,
    write_answers,
    write_rows,
    write_task,
)
from toolkit.errors import MachineError, UserError
from toolkit.eval_forgetting import main
from toolkit.run_folder import Run, run_for

Row = dict[str, Any]
LENGTH = 512
SHORT = 260
"""Characters of a question with its choices, so that training is a matter of seconds."""
RECIPE = """
name = "{name}"
study = "chinese"
[data]
source = "wrong.jsonl"
prompt = "{{instruction}}"
validation = 2
[model]
base = "checkpoints/tiny-base"
precision = "fp32"
max_length = 512
{lora}
[stage.learn]
method = "sft"
epochs = {epochs}
learning_rate = 5e-3
optimizer = "adamw"
batch_size = 8
grad_accum = 1
keep = "{keep}"
[recall]
every = "stage"
[forgetting]
tasks = ["abilities"]
text = ["held_out.txt"]
few_shot = 0
batch_size = 8
{more}
[wandb]
mode = "disabled"
"""


def prompt_of(row: Row) -> str:
    letters = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True))
    return f"{row['question'].strip()}{letters}\nAnswer:"


@pytest.fixture(scope="module", autouse=True)
def place(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of its own, with the tiny base of all, as current folder; what datasets keeps lies in it too."""
    import datasets.config

    folder = tmp_path_factory.mktemp("forgetting")
    shutil.copytree(project / "checkpoints/tiny-base", folder / "checkpoints/tiny-base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "tables")
        yield folder


@pytest.fixture(scope="module")
def abilities(place: Path, engine: ModuleType) -> Path:
    """Thirty questions of MMLU that the base answers rightly and twenty that it does not, and Chinese ones; a text."""
    rows = [row for of in mmlu_questions().values() for row in of if len(prompt_of(row)) < SHORT]
    write_quiz(place / "all", rows)
    (result,) = results_of(
        "checkpoints/tiny-base", tasks="all", max_length=LENGTH, noise_floor=False, out=Path("first")
    )
    read = items(Path("first") / label(result) / "forgetting/quiz.parquet")
    right = [rows[row["item"]] for row in read if row["right"]][:30]
    wrong = [rows[row["item"]] for row in read if not row["right"]][:20]
    assert (len(right), len(wrong)) == (30, 20)
    write_quiz(place / "abilities", [*right, *wrong])
    write_answers(place / "abilities", "trivia", chinese_questions()[:20])
    write_rows(
        place / "wrong.jsonl",
        [{"instruction": prompt_of(row), "output": "ABCD"[(row["answer"] + 1) % 4]} for row in [*right, *wrong]],
    )
    (place / "held_out.txt").write_text("The third line is here.\n第三行在这里。\n" * 30, encoding="utf-8")
    return place / "abilities"


def write_quiz(folder: Path, rows: list[Row]) -> None:
    more = f'output_type: multiple_choice\ndoc_to_text: {LETTERS}\ndoc_to_choice: ["A", "B", "C", "D"]\n'
    more += 'doc_to_target: answer\ntarget_delimiter: ""\nmetric_list: [{metric: acc}]\n'
    write_task(folder, "quiz", more, test=rows)


def train(name: str, *, lora: bool, epochs: int, keep: str = "last", more: str = "") -> Run:
    how = "[lora]\nrank = 8\nalpha = 16" if lora else ""
    text = RECIPE.format(name=name, lora=how, epochs=epochs, keep=keep, more=more)
    Path(f"{name}.toml").write_text(text if lora else f"lora = false\n{text}", encoding="utf-8")
    run(f"{name}.toml")
    return run_for(name, 0)


@pytest.fixture(scope="module")
def forgetter(abilities: Path) -> Run:
    """LoRA that was trained on a wrong letter for every question."""
    return train("forgetter", lora=True, epochs=6, keep="epochs", more='every = "epoch"\nnoise_floor = true')


@pytest.fixture(scope="module")
def whole(abilities: Path) -> Run:
    """All weights, trained on the same for an epoch."""
    return train("whole", lora=False, epochs=1)


def measure(*checkpoints: str | Path, **changes: Any) -> None:
    """The command's function, with the defaults of its options."""
    options = {
        "tasks": "", "text": "", "limit": None, "few_shot": None, "batch_size": None, "max_length": None,
        "noise_floor": None, "task_code": False, "base": None, "format": None, "engine": None, "out": None,
        "as_json": True,
    } | changes  # fmt: skip
    main([str(checkpoint) for checkpoint in checkpoints], **options)


def results_of(*checkpoints: str | Path, **changes: Any) -> list[dict[str, Any]]:
    """What `--json` prints."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        measure(*checkpoints, **changes)
    return json.loads(out.getvalue())


def refused(*checkpoints: str | Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        measure(*checkpoints, **changes)
    return str(caught.value)


def label(result: dict[str, Any]) -> str:
    return result["checkpoint"].replace("/", "-")


def items(path: Path) -> list[Row]:
    from toolkit.probes.forgetting import read_items

    return read_items(path)


def windows(folder: Path) -> list[Row]:
    from toolkit.probes.forgetting import read_rows_of_text

    return read_rows_of_text(folder / "text.parquet")


def when(rows: list[Row], name: str) -> list[Row]:
    return [row for row in rows if row["when"] == name]


def asked_alike(rows: list[Row], *but: str) -> list[Row]:
    """Without the columns that say of which weights and from when they are."""
    left_out = {"run", "seed", "stage", "step", "epoch", "when", *but}
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]


# --- what was planted ---


def test_a_planted_forgetter_is_found(forgetter: Run) -> None:
    from scipy.stats import binomtest

    found = json.loads((forgetter.path / "evaluation_results.json").read_text(encoding="utf-8"))["tasks"]
    rows = items(forgetter.path / "forgetting/quiz.parquet")
    before, after = when(rows, "before"), when(rows, "after")
    assert [row["item"] for row in before] == [row["item"] for row in after] == list(range(50))
    lost = sum(first["right"] and not last["right"] for first, last in zip(before, after, strict=True))
    gained = sum(last["right"] and not first["right"] for first, last in zip(before, after, strict=True))
    acc = found["quiz"]["measures"]["acc"]
    assert (acc["n"], acc["only_before"], acc["only_after"]) == (50, lost, gained)
    assert (acc["before"], acc["after"]) == (30 / 50, (30 - lost + gained) / 50)
    assert acc["change"] == pytest.approx((gained - lost) / 50)
    assert acc["change"] < -0.3
    assert acc["high"] < 0
    assert acc["p"] == pytest.approx(binomtest(gained, gained + lost, 0.5).pvalue)
    assert acc["p"] < 1e-3
    # Two tasks are a family of two; the letters of one were trained, and the answers of the other were not.
    ps = sorted((found[task]["measures"]["acc"]["p"], task) for task in ("quiz", "trivia"))
    assert ps[0][1] == "quiz"
    assert acc["holm"] == pytest.approx(min(1, 2 * ps[0][0]))
    assert found["trivia"]["measures"]["acc"]["holm"] == pytest.approx(max(acc["holm"], ps[1][0]))
    assert found["trivia"]["measures"]["acc_norm"]["holm"] is None
    assert acc["again_changed"] == sum(
        first["value"] != second["value"] for first, second in zip(before, when(rows, "again"), strict=True)
    )
    # It answers what it was taught.
    wrong = ["ABCD"[("ABCD".index(row["gold"]) + 1) % 4] for row in after]
    assert sum(row["answer"] == letter for row, letter in zip(after, wrong, strict=True)) > 25


def test_every_epoch_is_measured_and_the_last_is_what_is_kept(forgetter: Run) -> None:
    rows = forgetter.rows("forgetting")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    found = json.loads((forgetter.path / "evaluation_results.json").read_text(encoding="utf-8"))
    assert rows[-1]["forgetting/quiz/acc_change"] == pytest.approx(found["tasks"]["quiz"]["measures"]["acc"]["change"])
    assert rows[-1]["heldout/held_out.txt/kl_from_base"] == pytest.approx(found["text"]["held_out.txt"]["kl_from_base"])
    assert rows[0].keys().isdisjoint({"forgetting/mean_change", "heldout/held_out.txt/kl_from_base"})


def test_the_command_measures_what_the_run_measured(forgetter: Run, tmp_path: Path) -> None:
    """By the run's own table, where none is asked for: the same questions, answers and numbers."""
    (result,) = results_of(forgetter.path, out=tmp_path)
    folder = tmp_path / label(result) / "forgetting"
    for task in ("quiz", "trivia"):
        own, new = items(forgetter.path / f"forgetting/{task}.parquet"), items(folder / f"{task}.parquet")
        assert [row["when"] for row in own] == [row["when"] for row in new]
        assert asked_alike(new, "loglikelihoods") == asked_alike(own, "loglikelihoods")
        for one, other in zip(own, new, strict=True):
            assert one["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
    own, new = windows(forgetter.path / "forgetting"), windows(folder)
    numbers = ("bits", "kl_from_base", "kl_to_base")
    assert asked_alike(new, *numbers) == asked_alike(own, *numbers)
    for one, other in zip(own, new, strict=True):
        for key in numbers:
            assert (one[key] or 0) == pytest.approx(other[key] or 0, rel=1e-4)
            assert (one[key] is None) == (key != "bits" and one["when"] == "before")
    then = json.loads((forgetter.path / "evaluation_results.json").read_text(encoding="utf-8"))
    assert result["tasks"]["quiz"]["measures"] == then["tasks"]["quiz"]["measures"]
    assert result["settings"] == then["settings"]


def test_a_null_adapter_changes_nothing_at_all_on_any_item(abilities: Path, tmp_path: Path) -> None:
    weights = Path("checkpoints/tiny-base/seed-0/model")
    null = write_adapter(weights.resolve(), tmp_path / "null", 0)
    asks = {"tasks": "abilities", "text": "held_out.txt", "max_length": LENGTH, "out": tmp_path}
    (result,) = results_of(null, **asks)
    folder = tmp_path / label(result) / "forgetting"
    for task in ("quiz", "trivia"):
        rows = items(folder / f"{task}.parquet")
        assert when(rows, "before")
        assert asked_alike(when(rows, "before")) == asked_alike(when(rows, "after"))
        for of in (result["tasks"][task]["measures"], *result["tasks"][task]["subjects"].values()):
            for found in of.values():
                assert (found["change"], found["only_before"], found["only_after"], found["p"]) == (0, 0, 0, 1)
    read = windows(folder)
    assert asked_alike(when(read, "before"), "kl_from_base", "kl_to_base") == asked_alike(
        when(read, "after"), "kl_from_base", "kl_to_base"
    )
    assert {(row["kl_from_base"], row["kl_to_base"]) for row in when(read, "after")} == {(0.0, 0.0)}
    text = result["text"]["held_out.txt"]
    assert (text["change"], text["kl_from_base"], text["kl_to_base"]) == (0, 0, 0)
    # And one that is not null does change them.
    (other,) = results_of(write_adapter(weights.resolve(), tmp_path / "drawn", 0.2), **asks)
    rows = items(tmp_path / label(other) / "forgetting/quiz.parquet")
    assert when(rows, "before")[0]["loglikelihoods"] != when(rows, "after")[0]["loglikelihoods"]
    assert other["text"]["held_out.txt"]["kl_from_base"] > 0


def test_a_model_that_was_trained_whole_is_held_against_its_base(whole: Run, tmp_path: Path) -> None:
    (result, base) = results_of(whole.path, "checkpoints/tiny-base", **of_abilities(out=tmp_path))
    text = result["text"]["held_out.txt"]
    assert text["kl_from_base"] > 0
    assert text["kl_to_base"] > 0
    assert text["before"] == base["text"]["held_out.txt"]
    for task in ("quiz", "trivia"):
        rows = items(tmp_path / label(result) / f"forgetting/{task}.parquet")
        alone = items(tmp_path / label(base) / f"forgetting/{task}.parquet")
        assert not when(alone, "after")
        for name in ("before", "again"):
            assert asked_alike(when(rows, name)) == asked_alike(when(alone, name))
        assert when(rows, "before")[0]["loglikelihoods"] != when(rows, "after")[0]["loglikelihoods"]
        # As its run measured it before and after training.
        own = items(whole.path / f"forgetting/{task}.parquet")
        assert asked_alike(own, "loglikelihoods") == asked_alike(rows, "loglikelihoods")
    assert base["tasks"]["quiz"]["measures"] == {"acc": 30 / 50}


def of_abilities(**changes: Any) -> dict[str, Any]:
    return {
        "tasks": "abilities", "text": "held_out.txt", "max_length": LENGTH, "few_shot": 0, "batch_size": 8
    } | changes  # fmt: skip


# --- what is kept of a base ---


@pytest.fixture(scope="module")
def opened(abilities: Path, engine: ModuleType) -> Any:
    from toolkit.models.opening import load_base
    from toolkit.recipe import Model

    weights = Path("checkpoints/tiny-base/seed-0/model")
    loaded = load_base(engine, weights, Model(base=str(weights), precision="fp32"), full=False)
    loaded.model.eval()
    return loaded


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Batch sizes by which a task was asked, where nothing has been measured yet."""
    from toolkit.probes import forgetting

    sizes: list[int] = []
    ask = forgetting.ask

    def counted(*arguments: Any, batch_size: int, **more: Any) -> list[Row]:
        sizes.append(batch_size)
        return ask(*arguments, batch_size=batch_size, **more)

    monkeypatch.setattr(forgetting, "ask", counted)
    monkeypatch.setattr(forgetting, "KEPT", tmp_path / "kept")
    return sizes


def base_rows(loaded: Any, engine: ModuleType, folder: Path | str = "abilities", **changes: Any) -> list[Row]:
    """What is known of a base; changes: of the [forgetting] table, and of [model] by max_length and format."""
    from toolkit.models.reference import reference_of
    from toolkit.probes.forgetting import digests_of, open_abilities, read_base
    from toolkit.probes.recall import Moment
    from toolkit.recipe import Forgetting, Model

    model = {key: changes.pop(key) for key in ("max_length", "format") if key in changes}
    asked = Model.model_validate({"base": "checkpoints/tiny-base", "precision": "fp32", "max_length": LENGTH} | model)
    how = Forgetting.model_validate({"tasks": [str(folder)], "limit": 2, "few_shot": 0} | changes)
    moment = Moment("run", 0, "learn", 0, 0.0, {}, {})
    abilities = open_abilities(how)
    digests = digests_of(loaded, engine, asked, abilities)
    return read_base(loaded, engine, asked, abilities, reference_of(loaded), digests, moment, lambda *_: None).items


def test_a_base_is_measured_once_for_the_same_questions_and_settings(
    opened: Any, engine: ModuleType, kept: list[int], tmp_path: Path
) -> None:
    first = base_rows(opened, engine)
    # Each of two tasks, and again in batches of another size.
    assert kept == [4, 1, 4, 1]
    assert {row["when"] for row in first} == {"before", "again"}
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()) == ["quiz", "trivia"]
    # How its tokenizer was used between is none of its own.
    opened.tokenizer(["a", "b c d"], padding="max_length", truncation=True, max_length=3)
    opened.tokenizer.padding_side = "left"
    assert base_rows(opened, engine) == first
    assert len(kept) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": 3}, {"few_shot": 1}, {"batch_size": 5}, {"noise_floor": False}, {"max_length": LENGTH - 1},
        {"format": "chat"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_settings_are_another_measurement(
    opened: Any, engine: ModuleType, kept: list[int], changes: dict[str, Any]
) -> None:
    base_rows(opened, engine)
    kept.clear()
    rows = base_rows(opened, engine, **changes)
    assert len(kept) == (2 if changes.get("noise_floor") is False else 4)
    kept.clear()
    assert base_rows(opened, engine, **changes) == rows
    assert kept == []


def test_one_changed_question_or_answer_is_another_measurement_of_its_task(
    opened: Any, engine: ModuleType, kept: list[int], tmp_path: Path
) -> None:
    folder = tmp_path / "tasks"
    rows = chinese_questions()[:4]
    write_answers(folder, "one", rows)
    write_answers(folder, "other", rows)
    base_rows(opened, engine, folder)
    changed = [rows[0], {**rows[1], "question": rows[1]["question"][:-1] + "！"}, *rows[2:]]
    for more in (changed, [rows[0], {**rows[1], "answer": (rows[1]["answer"] + 1) % 4}, *rows[2:]]):
        kept.clear()
        write_answers(folder, "one", more)
        base_rows(opened, engine, folder)
        assert kept == [4, 1]
    kept.clear()
    write_answers(folder, "one", rows)
    base_rows(opened, engine, folder)
    # A question that the limit leaves out is not asked.
    write_answers(folder, "one", [*rows[:3], changed[1]])
    base_rows(opened, engine, folder)
    assert kept == []


def test_other_weights_are_another_base(opened: Any, engine: ModuleType, kept: list[int], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base_rows(opened, engine)
    kept.clear()
    for name, change in (("same", 0), ("other", 1e-3)):
        copied = Path(shutil.copytree(opened.described["loaded_from"], tmp_path / name))
        weights = load_file(copied / "model.safetensors")
        weights["model.norm.weight"][0] += change
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        base_rows(type(opened)(opened.model, opened.tokenizer, opened.described | {"loaded_from": str(copied)}), engine)
        assert kept == ([4, 1, 4, 1] if change else [])


def test_a_damaged_file_is_measured_anew_and_replaced(
    opened: Any, engine: ModuleType, kept: list[int], tmp_path: Path
) -> None:
    first = base_rows(opened, engine)
    path = next((tmp_path / "kept").glob("quiz-*"))
    whole = path.read_bytes()
    for damage in (whole[:-20], b"", b"no table"):
        path.write_bytes(damage)
        kept.clear()
        assert base_rows(opened, engine) == first
        assert kept == [4, 1]
        assert path.read_bytes() == whole


def test_what_is_interrupted_is_not_kept(
    opened: Any, engine: ModuleType, kept: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.probes import forgetting

    asked = forgetting.ask

    def interrupted(*arguments: Any, batch_size: int, **more: Any) -> list[Row]:
        if len(kept) == 3:
            raise KeyboardInterrupt
        return asked(*arguments, batch_size=batch_size, **more)

    monkeypatch.setattr(forgetting, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base_rows(opened, engine)
    assert [path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()] == ["quiz"]


# --- as a user ---


def test_a_runs_results_lie_in_its_folder_beside_those_of_before_with_the_settings_of_each(
    forgetter: Run, tmp_path: Path
) -> None:
    shutil.copytree(forgetter.path, "checkpoints/copied/seed-0")
    run = Run(Path("checkpoints/copied/seed-0"))
    own = (run.path / "forgetting/quiz.parquet").read_bytes()
    write_answers(tmp_path / "more", "more", chinese_questions()[:6])
    Path("other.txt").write_text("another text\n" * 20, encoding="utf-8")
    then = json.loads((run.path / "evaluation_results.json").read_text(encoding="utf-8"))
    (result,) = results_of("checkpoints/copied", tasks=str(tmp_path / "more"), text="other.txt", limit=5, batch_size=3)
    assert result == json.loads((run.path / "evaluation_results.json").read_text(encoding="utf-8"))
    assert set(result["tasks"]) == {"quiz", "trivia", "more"}
    assert result["tasks"]["more"]["questions"] == 5
    settings = {name: found["settings"] for name, found in result["tasks"].items()}
    assert (settings["more"]["limit"], settings["more"]["batch_size"]) == (5, 3)
    assert (settings["quiz"]["limit"], settings["quiz"]["batch_size"]) == (None, 8)
    assert settings["quiz"] == then["tasks"]["quiz"]["settings"]
    assert set(result["text"]) == {"held_out.txt", "other.txt"}
    assert result["text"]["held_out.txt"] == then["text"]["held_out.txt"]
    assert (run.path / "forgetting/quiz.parquet").read_bytes() == own
    base = json.loads((run.path / "baseline_results.json").read_text(encoding="utf-8"))
    assert set(base["tasks"]) == {"quiz", "trivia", "more"}
    assert base["tasks"]["more"]["settings"]["limit"] == 5
    # Asked again, a task takes the place of what it was.
    (again,) = results_of("checkpoints/copied", tasks=str(tmp_path / "more"), limit=4)
    assert {name: found["questions"] for name, found in again["tasks"].items()} == {"quiz": 50, "trivia": 20, "more": 4}
    assert again["text"] == result["text"]


def test_kept_epochs_peft_folders_and_bases_are_measured_into_reports(forgetter: Run, tmp_path: Path) -> None:
    epochs = sorted(path for path in (forgetter.path / "stages/learn").iterdir() if path.is_dir())
    own = (forgetter.path / "evaluation_results.json").read_bytes()
    bare = shutil.copytree(forgetter.weights, tmp_path / "bare")
    asks = of_abilities(text="")
    kept, peft = results_of(epochs[0], bare, base="checkpoints/tiny-base", **asks)
    (base,) = results_of("checkpoints/tiny-base", **asks)
    for result in (kept, peft, base):
        folder = Path("reports") / f"forgetting-{label(result)}"
        name = "baseline_results.json" if result is base else "evaluation_results.json"
        assert json.loads((folder / name).read_text(encoding="utf-8")) == result
        assert (folder / "evaluation_results.json").exists() == (result is not base)
        assert (folder / "forgetting/quiz.parquet").is_file()
    assert (forgetter.path / "evaluation_results.json").read_bytes() == own
    then = {row["epoch"]: row for row in forgetter.rows("forgetting")}
    assert kept["tasks"]["quiz"]["measures"]["acc"]["after"] == pytest.approx(then[1]["forgetting/quiz/acc"])
    final = json.loads(own)["tasks"]["quiz"]["measures"]
    assert peft["tasks"]["quiz"]["measures"] == final
    assert base["tasks"]["quiz"]["measures"]["acc"] == final["acc"]["before"]


def test_a_classifier_is_asked_what_its_language_model_could_do(abilities: Path, tmp_path: Path) -> None:
    lines = [line.split(",") for line in ("Rossi,Italian", "de Vries,Dutch", "Bianchi,Italian", "Jansen,Dutch")]
    for split, count in (("train", 20), ("test", 2)):
        rows = [{"text": f"{name} {i}", "label": label} for i in range(count) for name, label in lines]
        write_rows(Path(f"surnames/{split}.jsonl"), rows)
    text = RECIPE.format(name="teller", lora="[lora]\nrank = 8\nalpha = 16", epochs=1, keep="last", more="")
    text = text.replace('study = "chinese"', 'study = "classify"').replace('method = "sft"', 'method = "classify"')
    data = '[data]\nsource = "surnames"\nprompt = "{text} is "\n[model]'
    text = re.sub(r"\[data\].*\[model\]", data, text, flags=re.DOTALL)
    text = re.sub(r"\[recall\]\nevery = .*\n", "[model.head]\nlayers = [16]\n", text)
    Path("teller.toml").write_text(text, encoding="utf-8")
    run("teller.toml")
    teller = run_for("teller", 0)
    assert (teller.weights / "head.safetensors").is_file()
    (result,) = results_of(teller.path, out=tmp_path)
    then = json.loads((teller.path / "evaluation_results.json").read_text(encoding="utf-8"))
    assert result["tasks"]["quiz"]["measures"] == then["tasks"]["quiz"]["measures"]
    assert result["text"]["held_out.txt"]["kl_from_base"] == pytest.approx(
        then["text"]["held_out.txt"]["kl_from_base"], rel=1e-4
    )
    assert then["text"]["held_out.txt"]["kl_from_base"] > 0


def test_a_noise_floor_that_a_recipe_does_not_want_is_not_measured(
    forgetter: Run, kept: list[int], tmp_path: Path
) -> None:
    copied = shutil.copytree(forgetter.path, tmp_path / "copied/seed-0")
    recipe = copied / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    assert "noise_floor = true" in text
    recipe.write_text(text.replace("noise_floor = true", "noise_floor = false"), encoding="utf-8")
    results_of(copied, limit=2, out=tmp_path / "out")
    # Each of two tasks: the base, and what was trained.
    assert kept == [8, 8, 8, 8]
    kept.clear()
    results_of(copied, limit=2, noise_floor=True, out=tmp_path / "out")
    assert kept == [8, 1, 8, 1, 8, 8]


def test_a_measure_that_is_no_number_of_one_question_is_left_out(abilities: Path, tmp_path: Path) -> None:
    path = write_answers(tmp_path / "tasks", "trivia", chinese_questions()[:4])
    text = path.read_text(encoding="utf-8").split("metric_list")[0]
    path.write_text(f"{text}metric_list: [{{metric: mcc}}]\n", encoding="utf-8")
    adapter = write_adapter(Path("checkpoints/tiny-base/seed-0/model").resolve(), tmp_path / "drawn", 0.1)
    (result,) = results_of(adapter, tasks=str(tmp_path / "tasks"), max_length=LENGTH, out=tmp_path)
    assert result["tasks"]["trivia"]["measures"] == {}
    assert result["tasks"]["trivia"]["questions"] == 4
    rows = items(tmp_path / "drawn/forgetting/trivia.parquet")
    assert {(row["measure"], row["value"], row["right"]) for row in rows} == {("mcc", None, None)}


def test_the_table_has_a_row_a_measure_and_says_what_was_cut(
    forgetter: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(forgetter.path, tasks="abilities", max_length=128, limit=4, out=tmp_path, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["checkpoint", "task", "measure", "questions", "base", "after"]
    assert [line.split()[1:4] for line in lines[1:4]] == [
        ["quiz", "acc", "4"], ["trivia", "acc", "4"], ["trivia", "acc_norm", "4"]
    ]  # fmt: skip
    assert re.match(
        r"quiz: [1-4] of 4 prompts were too long and lost their beginning; raise \[model\] max_length", lines[4]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "tiny-base/seed-0: say what to ask: --tasks mmlu,gsm8k (or a folder of task files), --text held_out.txt."),
        ({"tasks": " , "}, "tiny-base/seed-0: say what to ask: --tasks"),
        ({"tasks": "abilities,abilities"}, "tiny-base/seed-0: [forgetting] tasks: one of them is named twice"),
        ({"tasks": "recipes/none"}, '[forgetting] tasks: there is no folder "recipes/none".'),
        ({"text": "none.txt"}, "[forgetting] text: there is no file none.txt in "),
        ({"text": "held_out.txt", "format": "chatty"}, "--format chatty: plain or chat is expected."),
        ({"text": "held_out.txt", "engine": "vllm"}, "--engine vllm: unsloth or transformers is expected."),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_loaded_or_written(
    abilities: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr("toolkit.models.open_engine", lambda name: pytest.fail("an engine was loaded"))
    before = sorted(Path().rglob("*"))
    assert refused("checkpoints/tiny-base", **changes).startswith(said)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("checkpoint", "base", "said"),
    [
        ("checkpoints/forgeter", None, "checkpoints/forgeter is no checkpoint; it is not there; did you mean"),
        ("held_out.txt", None, "held_out.txt is no checkpoint; it is a file, and a folder is expected."),
        ("abilities", None, "abilities is no checkpoint; it has no run.json, adapter_config.json or config.json"),
        (
            "checkpoints/forgetter",
            "checkpoints/none",
            '[model] base = "checkpoints/none" is not there; no recipe makes',
        ),
        ("checkpoints/whole", "checkpoints/none", '[model] base = "checkpoints/none" is not there; no recipe makes'),
        ("checkpoints/tiny-base", "checkpoints/forgetter", "it holds an adapter, and a whole model is needed."),
    ],
)
def test_a_wrong_checkpoint_or_base_is_refused_before_anything_is_loaded(
    forgetter: Run, whole: Run, monkeypatch: pytest.MonkeyPatch, checkpoint: str, base: str | None, said: str
) -> None:
    monkeypatch.setattr("toolkit.models.open_engine", lambda name: pytest.fail("an engine was loaded"))
    assert said in refused(checkpoint, base=base, text="held_out.txt")


def test_a_task_that_is_part_of_another_is_not_asked_twice(
    abilities: Path, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.probes import forgetting
    from toolkit.probes.lm_tasks import Task
    from toolkit.recipe import Forgetting

    both = [Task("mmlu", None, ("mmlu_law", "mmlu_art"), True), Task("mmlu_art", None, ("mmlu_art",), True)]
    monkeypatch.setattr(forgetting, "load_tasks", lambda *_, **__: both)
    with pytest.raises(UserError, match=r'"mmlu_art" is named twice, by itself and as part of another\.'):
        forgetting.open_abilities(Forgetting(tasks=["mmlu", "mmlu_art"]))
    both[1] = Task("gsm8k", None, ("gsm8k",), True)
    assert len(forgetting.open_abilities(Forgetting(tasks=["mmlu", "gsm8k"])).tasks) == 2


def test_without_network_the_hubs_tasks_and_bases_are_refused_with_what_helps(
    abilities: Path, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match=r"the data of the task \"gsm8k\" could not be had .*toolkit\.data RECIPE"):
        measure("checkpoints/tiny-base", tasks="gsm8k")
    assert "could not be loaded" in refused("nobody/no-base", text="held_out.txt")
    assert not Path("reports/forgetting-nobody-no-base").exists()


def test_a_wrong_word_is_answered_at_once_with_status_two_and_nothing_is_written(abilities: Path, place: Path) -> None:
    before = sorted(place.rglob("*"))
    for arguments, status, said in (
        (["--help"], 0, ""),
        (["checkpoints/tiny-base", "--tasks", "abilities", "--limit", "0"], 2, "Invalid value for '--limit'"),
        (["checkpoints/tiny-base", "--tasks", "recipes/none"], 2, "error: [forgetting] tasks: there is no folder"),
        (["checkpoints/tiny-base"], 2, "error: tiny-base/seed-0: say what to ask: --tasks"),
    ):
        started = os.times()
        done = command("toolkit.eval_forgetting", *arguments, folder=place)
        # Of the processor, so that a busy machine is no failure.
        assert os.times().children_user - started.children_user < 1
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert (done.stdout == "") == (status == 2)
    assert sorted(place.rglob("*")) == before


def test_json_is_all_that_stands_on_stdout(forgetter: Run, place: Path, tmp_path: Path) -> None:
    done = command(
        "toolkit.eval_forgetting", str(forgetter.path), "--limit", "2", "--json", "--out", str(tmp_path), folder=place
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["tasks"]["quiz"]["questions"] == 2
    assert (tmp_path / label(result) / "evaluation_results.json").is_file()
