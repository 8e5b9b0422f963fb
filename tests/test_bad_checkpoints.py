"""Damaged runs, bases, readings and fact files: one message that names the file, nothing loaded, nothing written."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HALF_TRAINED, command, run
from toolkit import ask, compare, eval_recall
from toolkit import list as listing
from toolkit.errors import UserError
from toolkit.example import read_jsonl
from toolkit.probes.recall import read_reading
from toolkit.run_folder import Run

Damage = Callable[[Path], object]


def content(data: bytes | str) -> Damage:
    """The file holds something else."""
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(path: Path) -> None:
    path.unlink()


def said_otherwise(**values: Any) -> Damage:
    """A JSON object with other values; what is None is left out; `model__base` is a key in a table."""

    def damage(path: Path) -> None:
        whole = json.loads(path.read_text(encoding="utf-8"))
        for name, value in values.items():
            *above, key = name.split("__")
            place = whole
            for part in above:
                place = place[part]
            if value is None:
                del place[key]
            else:
                place[key] = value
        path.write_text(json.dumps(whole))

    return damage


def last_row(**values: Any) -> Damage:
    """The last reading of metrics.jsonl says something else; what is None is left out."""

    def damage(path: Path) -> None:
        lines = path.read_text().splitlines()
        number = max(i for i, line in enumerate(lines) if '"kind": "recall"' in line)
        row = json.loads(lines[number]) | values
        lines[number] = json.dumps({key: value for key, value in row.items() if value is not None})
        path.write_text("\n".join(lines) + "\n")

    return damage


def line(text: str) -> Damage:
    """A line more, at the start."""
    return lambda path: path.write_bytes(text.encode() + b"\n" + path.read_bytes())


NO_JSON: dict[str, Damage] = {
    "cut": cut,
    "empty": content(b""),
    "noise": content(bytes(range(256))),
    "a list": content("[1, 2]"),
    "a number": content("7"),
    "null": content("null"),
    "deep": content("[" * 100_000),
    "a long number": content('{"x": ' + "9" * 5000 + "}"),
}

RUN_JSON = NO_JSON | {
    "nothing in it": content("{}"),
    "no state": said_otherwise(state=None),
    "a state in numbers": said_otherwise(state=7),
    "model": said_otherwise(model="qwen3"),
    "data": said_otherwise(data=[1]),
    "base": said_otherwise(model__base=7),
    "digest": said_otherwise(data__digest={"a": 1}),
    "digits": said_otherwise(data__answer_digits=0),
    "entropy": said_otherwise(data__entropy_bits=float("nan")),
    "seconds": said_otherwise(seconds="long"),
    "seed": said_otherwise(seed=-1),
    "stages": said_otherwise(stages=[]),
    "started": said_otherwise(started=5),
    "resumed": said_otherwise(resumed={}),
}

METRICS: dict[str, Damage] = {
    "no row": line("7"),
    "a list": line("[]"),
    "half a row": line('{"kind": "rec'),
    "noise": line("\x00\x01"),
    "deep": line("[" * 100_000),
    "no kind": line('{"step": 1}'),
    "no step": line('{"kind": "recall"}'),
    "a step in words": line('{"kind": "train", "step": "one"}'),
    "a step before the first": line('{"kind": "train", "step": -1}'),
    "a loss in words": last_row(**{"loss/digit_nats": "low"}),
    "a share over one": last_row(**{"recall/exact": 7.0}),
    "a table": last_row(**{"recall/exact": {"a": 1}}),
    "endless exposures": last_row(exposures=float("inf")),
}

RECIPE: dict[str, Damage] = {
    "cut": cut,
    "noise": content(b"\xff\x00"),
    "stages in words": content('stage = "learn"'),
    "a stage in words": content('[stage]\nlearn = "x"'),
    "epochs in words": content('[stage.learn]\nepochs = "ten"'),
    "a model in words": content('model = "x"\n[stage.learn]\nepochs = 1'),
    "deep": content(f"x = {'[' * 5000}"),
    "a long number": content(f"x = {'9' * 5000}"),
}

ADAPTER_CONFIG = NO_JSON | {
    "another key of Megatron": said_otherwise(megatron_config={"a": 1}),
    "a base in numbers": said_otherwise(base_model_name_or_path=7),
}

WEIGHTS: dict[str, Damage] = {
    "cut": cut,
    "empty": content(b""),
    "noise": content(bytes(range(256))),
    "a header too long": content(b"\xff" * 8),
    "a header that is no JSON": content(b"\x04\x00\x00\x00\x00\x00\x00\x00{x: "),
    "no matrix": content(b"\x02\x00\x00\x00\x00\x00\x00\x00{}"),
    "a pickle": content(b"\x80\x04\x95\x0b\x00\x00\x00"),
    "gone": gone,
}

EXAMPLES: dict[str, Damage] = {
    "empty": content(b""),
    "noise": content(b"\xff\xfe"),
    "no JSON": line("x"),
    "a list": line("[]"),
    "deep": line("[" * 100_000),
    "no answer": line('{"prompt": "x"}'),
    "a number as answer": line('{"prompt": "x", "answer": 7}'),
    "an empty answer": line('{"prompt": "x", "answer": ""}'),
    "an unknown split": line('{"prompt": "x", "answer": "1", "split": "dev"}'),
    "a misspelt key": line('{"prompt": "x", "anwser": "1"}'),
    "half a character": line('{"prompt": "\\ud800", "answer": "1"}'),
    "half a character as foil": line('{"prompt": "x", "answer": "1", "foil": "\\udfff"}'),
    "gone": gone,
}

RUN_FILES: dict[str, tuple[dict[str, Damage], str]] = {
    "run.json": (RUN_JSON, "eval_recall ask compare run"),
    "metrics.jsonl": (METRICS, "compare run"),
    "recipe.toml": (RECIPE, "eval_recall ask run"),
    "adapter/adapter_config.json": (ADAPTER_CONFIG, "eval_recall ask"),
    "adapter/adapter_model.safetensors": (WEIGHTS, "eval_recall ask"),
    "examples.jsonl": (EXAMPLES, "eval_recall ask"),
}
"""Each file of a run, how it is damaged, and the commands that read it."""

COMMANDS: dict[str, Callable[[str], None]] = {
    "eval_recall": lambda path: measure([path]),
    "ask": lambda path: ask.main(path, "第1个电话号码是：", 4, None, None),
    "compare": lambda path: compare.main([path], None, False),
    "run": lambda path: run("recipes/tiny/groupA.toml", *HALF_TRAINED, f"name={Path(path).parent.name}", seeds="0"),
}


def measure(checkpoints: list[str], **changes: Any) -> None:
    options = {
        "given": None, "samples": 0, "temperature": 1.0, "seed": 0, "base": None, "format": None, "facts": None,
        "engine": None, "batch_size": 32, "as_json": False,
    } | changes  # fmt: skip
    eval_recall.main(checkpoints, **options)


@pytest.fixture
def damaged(half_trained: Path, in_project: Path) -> Iterator[Run]:
    """A copy of a finished run, of a name of its own, to be damaged."""
    folder = in_project / "checkpoints/damaged"
    shutil.copytree(half_trained / "seed-0", folder / "seed-0")
    recipe = folder / "seed-0/recipe.toml"
    recipe.write_text(recipe.read_text().replace('"half"', '"damaged"'))
    yield Run(Path("checkpoints/damaged/seed-0"))
    shutil.rmtree(folder)


@pytest.fixture
def base(project: Path, in_project: Path, tmp_path: Path) -> Path:
    """A copy of the small base, to be damaged."""
    return Path(shutil.copytree(project / "checkpoints/tiny-base/seed-0/model", tmp_path / "base"))


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("toolkit.models.open_engine", load)


def snapshot(*folders: Path) -> dict[Path, bytes]:
    """Every file of folders, but locks, which stay behind for the next process."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix != ".lock"}


def refusal(action: Callable[[], object]) -> str:
    """What is said: one message in plain words, within a second."""
    started = time.perf_counter()
    with pytest.raises(UserError) as caught:
        action()
    assert time.perf_counter() - started < 1
    said = str(caught.value)
    for jargon in ("Traceback", "type=", "pydantic", "http", "input_value"):
        assert jargon not in said
    return said


def complaint(action: Callable[[], object]) -> str | None:
    """What is said where something is wrong; None where nothing is. Any other error is our own bug."""
    try:
        action()
    except UserError as error:
        return str(error)
    return None


CASES = [(file, how, name) for file, (damages, names) in RUN_FILES.items() for how in damages for name in names.split()]


@pytest.mark.parametrize(("file", "how", "name"), CASES)
def test_a_damaged_file_of_a_run_is_named_by_every_command_that_reads_it(
    damaged: Run, nothing_loads: None, capsys: pytest.CaptureFixture[str], file: str, how: str, name: str
) -> None:
    RUN_FILES[file][0][how](damaged.path / file)
    before = snapshot(Path("checkpoints"), Path("reports"))
    said = refusal(lambda: COMMANDS[name](str(damaged.path)))
    assert str(damaged.path) in said
    assert snapshot(Path("checkpoints"), Path("reports")) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "how"), [(file, how) for file in ("run.json", "recipe.toml") for how in RUN_FILES[file][0]]
)
def test_a_damaged_run_hides_no_other_where_runs_are_listed(
    damaged: Run, half_trained: Path, capsys: pytest.CaptureFixture[str], file: str, how: str
) -> None:
    RUN_FILES[file][0][how](damaged.path / file)
    listing.main(Path("checkpoints"), False)
    listing.main(Path("checkpoints"), True)
    said = capsys.readouterr().out
    assert "half/seed-1" in said
    assert "damaged/seed-0" in said


@pytest.mark.parametrize("key", ["model", "data", "seconds", "seed", "stages", "resumed", "started"])
def test_a_run_json_that_lacks_a_key_is_no_traceback_in_any_command(
    damaged: Run, half_trained: Path, engine: Any, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    said_otherwise(**{key: None})(damaged.path / "run.json")
    listing.main(Path("checkpoints"), False)
    for name, do in COMMANDS.items():
        said = complaint(lambda do=do: do(str(damaged.path)))
        assert said is None or str(damaged.path) in said, name
    assert "half/seed-1" in capsys.readouterr().out


@pytest.mark.parametrize("lacking", ["epoch", "exposures", "loss/digit_nats"])
def test_a_reading_that_lacks_what_is_drawn_or_printed_is_named(
    damaged: Run, nothing_loads: None, lacking: str
) -> None:
    last_row(**{lacking: None})(damaged.path / "metrics.jsonl")
    name = "run" if lacking == "loss/digit_nats" else "compare"
    assert f"it lacks {lacking}" in refusal(lambda: COMMANDS[name](str(damaged.path)))


def test_a_finished_run_without_a_reading_is_refused_and_not_counted(damaged: Run, nothing_loads: None) -> None:
    (damaged.path / "metrics.jsonl").write_text("")
    assert "holds no reading" in refusal(lambda: COMMANDS["run"](str(damaged.path)))
    assert "no reading of recall lies there" in refusal(lambda: COMMANDS["compare"](str(damaged.path)))


def test_a_file_in_probes_that_is_no_reading_is_passed_over(damaged: Run) -> None:
    readings = damaged.readings()
    (damaged.path / "probes/notes-of-mine.parquet").write_text("x")
    assert damaged.readings() == readings


# --- bases ---

CONFIG = NO_JSON | {
    "no size": said_otherwise(hidden_size=None),
    "a size in words": said_otherwise(hidden_size="128"),
    "no head": said_otherwise(num_attention_heads=0),
    "another width": said_otherwise(hidden_size=64),
    "another vocabulary": said_otherwise(vocab_size=999),
    "a layer more": said_otherwise(num_hidden_layers=3),
    "a layer less": said_otherwise(num_hidden_layers=1),
    "untied": said_otherwise(tie_word_embeddings=False),
    "a type in numbers": said_otherwise(model_type=5),
    "a dtype in a list": said_otherwise(dtype=["float32"]),
    "quantised in a list": said_otherwise(quantization_config=[1]),
    "gone": gone,
}

BASE_FILES: dict[str, dict[str, Damage]] = {
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "tokenizer.json": NO_JSON | {"gone": gone},
    "tokenizer_config.json": NO_JSON,
    "generation_config.json": NO_JSON,
}

BASE_CASES = [(file, how) for file, damages in BASE_FILES.items() for how in damages]


@pytest.mark.parametrize(("file", "how"), BASE_CASES)
def test_a_damaged_base_is_refused_before_anything_is_loaded_or_written(
    base: Path, half_trained: Path, nothing_loads: None, file: str, how: str
) -> None:
    BASE_FILES[file][how](base / file)
    adapter = str(half_trained / "seed-0/adapter")
    facts = half_trained / "seed-0/examples.jsonl"
    for action in (
        lambda: measure([adapter], base=str(base), facts=facts),
        lambda: measure([str(base)], facts=facts),
        lambda: ask.main(adapter, "1", 4, str(base), None),
        lambda: run("recipes/tiny/groupA.toml", f"model.base={base}", "name=unwritten"),
    ):
        assert str(base) in refusal(action)
    assert not Path("checkpoints/unwritten").exists()


@pytest.mark.parametrize("weights", [{}, [], {"a": 7}, {"a": "../../model.safetensors"}, {"a": "/etc/passwd"}])
def test_an_index_of_weights_names_files_beside_it_and_no_others(base: Path, nothing_loads: None, weights: Any) -> None:
    (base / "model.safetensors").rename(base.parent / "model.safetensors")
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    said = refusal(lambda: run("recipes/tiny/groupA.toml", f"model.base={base}", "name=unwritten"))
    assert str(base) in said


def test_a_base_that_is_an_adapter_too_is_refused(base: Path, half_trained: Path, nothing_loads: None) -> None:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(half_trained / "seed-0/adapter" / file, base)
    said = refusal(lambda: run("recipes/tiny/groupA.toml", f"model.base={base}", "name=unwritten"))
    assert "it holds an adapter, and a whole model is needed" in said


@pytest.mark.parametrize("note", ["[]", "{}", '{"base": "a/b"}', "{", '{"base": "a/b", "revision": 7, "commit": null}'])
def test_a_damaged_note_of_a_fetched_base_is_named(folder: Path, nothing_loads: None, note: str) -> None:
    fetched = folder / "data/models/Qwen--Qwen3-1.7B"
    fetched.mkdir(parents=True)
    (fetched / "config.json").write_text("{}")
    (fetched / "fetched.json").write_text(note)
    assert "fetched.json is damaged" in refusal(lambda: run("recipes/groupA.toml"))


# --- what can only be seen while loading ---


def test_a_tokenizer_that_is_json_and_no_tokenizer_is_a_users_error(base: Path, half_trained: Path) -> None:
    (base / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(UserError, match="could not be loaded.*\n.*may be damaged"):
        measure([str(half_trained / "seed-0/adapter")], base=str(base), facts=half_trained / "seed-0/examples.jsonl")


@pytest.mark.parametrize("template", ["{{ loop", "{% for %}", "{{ 1 / 0 }}", "{{ x.y.z }}", "{% if %}"])
def test_a_chat_template_that_does_not_work_is_a_users_error(base: Path, half_trained: Path, template: str) -> None:
    (base / "chat_template.jinja").write_text(template)
    facts = half_trained / "seed-0/examples.jsonl"
    with pytest.raises(UserError, match="chat template"):
        measure([str(half_trained / "seed-0/adapter")], base=str(base), facts=facts, format="chat")


@pytest.mark.parametrize(
    "change", [{"r": 16}, {"r": "x"}, {"peft_type": "MAGIC"}, {"target_modules": "((("}, {"target_modules": 7}]
)
def test_an_adapter_config_that_its_weights_do_not_fit_is_a_users_error(damaged: Run, change: dict[str, Any]) -> None:
    said_otherwise(**change)(damaged.path / "adapter/adapter_config.json")
    with pytest.raises(UserError, match="does not fit its base checkpoints/tiny-base"):
        measure([str(damaged.path)])


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_of_which_half_is_missing_is_refused_where_peft_would_go_on(damaged: Run) -> None:
    from safetensors.numpy import load_file, save_file

    path = damaged.path / "adapter/adapter_model.safetensors"
    kept = {name: weight for name, weight in load_file(path).items() if "layers.0." in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"names base_model.*layers\.1\..*, which its weights lack"):
        measure([str(damaged.path)])


# --- readings and facts ---


READINGS: dict[str, Damage] = {
    "cut": cut,
    "empty": content(b""),
    "noise": content(bytes(range(256)) * 20),
    "only the marks": content(b"PAR1PAR1"),
    "a JSON file": content("{}"),
    "gone": gone,
}


@pytest.mark.parametrize("how", READINGS)
def test_a_damaged_reading_is_named(damaged: Run, how: str) -> None:
    path = damaged.readings()[-1]
    assert len(read_reading(path)) == 108
    READINGS[how](path)
    assert refusal(lambda: read_reading(path)).startswith(f"{path} is damaged or no Parquet file (")


def test_a_parquet_file_of_something_else_is_no_reading(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [1], "split": ["train"]}), tmp_path / "other.parquet")
    assert "it has no column run" in refusal(lambda: read_reading(tmp_path / "other.parquet"))


@pytest.mark.parametrize("place", range(0, 4000, 80))
def test_a_reading_with_a_byte_changed_is_read_or_named(half_trained: Path, tmp_path: Path, place: int) -> None:
    whole = bytearray(Run(half_trained / "seed-0").readings()[-1].read_bytes())
    whole[place % len(whole)] ^= 0xFF
    (tmp_path / "x.parquet").write_bytes(whole)
    said = complaint(lambda: read_reading(tmp_path / "x.parquet"))
    assert said is None or str(tmp_path / "x.parquet") in said


@pytest.mark.parametrize("how", EXAMPLES)
def test_a_broken_file_of_facts_is_named(half_trained: Path, in_project: Path, tmp_path: Path, how: str) -> None:
    facts = tmp_path / "facts.jsonl"
    shutil.copy(half_trained / "seed-0/examples.jsonl", facts)
    assert len(read_jsonl(facts)) == 108
    EXAMPLES[how](facts)
    said = refusal(lambda: measure(["checkpoints/half"], facts=facts))
    assert said.startswith(str(facts))


# --- the commands themselves ---


def test_the_commands_say_it_on_stderr_with_status_2(damaged: Run) -> None:
    content("[1]")(damaged.path / "run.json")
    for arguments in (["toolkit.eval_recall"], ["toolkit.ask"], ["toolkit.compare"]):
        done = command(*arguments, str(damaged.path), *(["x"] if "ask" in arguments[0] else []), folder=Path.cwd())
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: checkpoints/damaged/seed-0/run.json is damaged (")
        assert done.stderr.count("\n") == 1


def test_more_than_two_hundred_cases_are_damaged() -> None:
    assert len(CASES) + len(BASE_CASES) + len(EXAMPLES) + len(READINGS) > 200
