"""Tasks asked of a model in memory: as lm-eval's own command asks the saved one, item by item, and without a trace."""

import contextlib
import copy
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.task_files import (
    SUBJECTS,
    chinese_questions,
    write_adapter,
    write_answers,
    write_choices,
    write_school,
    write_sums,
)
from toolkit.errors import UserError
from toolkit.models.loaded import Loaded
from toolkit.recipe import Model

Row = dict[str, Any]
LENGTH = 1024


@pytest.fixture(scope="module", autouse=True)
def tables(engine: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What datasets keeps of the tables that it reads lies in a folder of the tests."""
    import datasets.config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("tables"))
        yield


@pytest.fixture(scope="module")
def weights(project: Path, engine: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with as many embeddings as its tokenizer has tokens.

    lm-eval's command cuts off what is more where an adapter is named, and so moves every log-likelihood a little.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own, folder = project / "checkpoints/tiny-base/seed-0/model", tmp_path_factory.mktemp("base") / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(own), AutoModelForCausalLM.from_pretrained(own)
    assert model.config.vocab_size > len(tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked(**changes: Any) -> Model:
    return Model.model_validate({"base": "checkpoints/tiny-base", "precision": "fp32", "max_length": LENGTH} | changes)


@pytest.fixture(scope="module")
def base(weights: Path, engine: ModuleType) -> Loaded:
    loaded = engine.load_base(weights, asked(), full=False)
    loaded.model.eval()
    return loaded


@pytest.fixture(scope="module")
def adapter(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT folder whose matrices are drawn: the base says other things with it."""
    return write_adapter(weights, tmp_path_factory.mktemp("adapters") / "drawn", 0.05)


@pytest.fixture(scope="module")
def school(base: Loaded, engine: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups of English subjects, a Chinese task, and sums, of which the base gets every other one right."""
    folder = write_school(tmp_path_factory.mktemp("school"))
    said = iter(ask_folder(base, engine, write_sums(tmp_path_factory.mktemp("sums"), [""] * 8), tasks=("sums",)))
    last = [row["answer"] for row in said if row["measure"] == "exact_match,flexible-extract"]
    return write_sums(folder, [number if i % 2 else "no" for i, number in enumerate(last)])


def with_adapter(loaded: Loaded, adapter: Path) -> Loaded:
    """A copy of the base with an adapter of PEFT's on it."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(copy.deepcopy(loaded.model), str(adapter)).eval()
    return Loaded(model, loaded.tokenizer, dict(loaded.described))


def ask_folder(
    loaded: Loaded, engine: ModuleType, folder: Path, *, tasks: tuple[str, ...] = (), model: Model | None = None,
    limit: int | None = None, few_shot: int | None = None, batch_size: int = 8, code: bool = False,
) -> list[Row]:  # fmt: skip
    """The rows of a folder's tasks; `tasks`: of these alone."""
    from toolkit.probes.lm_tasks import ask, load_tasks
    from toolkit.probes.named import named_tasks

    return [
        row
        for task in load_tasks(named_tasks([str(folder)], code=code), code=code)
        if task.name in tasks or not tasks
        for row in ask(
            loaded, engine, task, model or asked(), limit=limit, few_shot=few_shot, batch_size=batch_size, progress=None
        )
    ]  # fmt: skip


class Said:
    """What lm-eval's command wrote."""

    def __init__(self, out: Path) -> None:
        (found,) = out.rglob("results_*.json")
        self.results = json.loads(found.read_text(encoding="utf-8"))
        self.samples = {
            path.name.removeprefix("samples_").rsplit("_", 1)[0]: [
                json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
            ]
            for path in out.rglob("samples_*.jsonl")
        }


def lm_eval(out: Path, model: Path, folder: Path, tasks: str, batch_size: int, *more: str, **arguments: Any) -> Said:
    """`python -m lm_eval run` on a saved model, without network."""
    given = {"pretrained": model, "dtype": "float32", "softmax_dtype": "float32", "max_length": LENGTH} | arguments
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", tasks, "--include_path", str(folder),
            "--model_args", ",".join(f"{key}={value}" for key, value in given.items()), "--device", "cpu",
            "--batch_size", str(batch_size), "--log_samples", "--output_path", str(out), *more,
        ],
        cwd=out.parent, env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out.parent / "tables")},
        capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Said(out)


def same(rows: list[Row], said: Said) -> None:
    """Every question, measure and number that the command logged, and none besides."""
    ours = {(row["subject"], row["item"], row["measure"]): row for row in rows}
    assert len(ours) == len(rows)
    theirs = 0
    for subject, samples in said.samples.items():
        several = len({sample["filter"] for sample in samples}) > 1
        for sample in samples:
            for metric in sample["metrics"]:
                measure = f"{metric},{sample['filter']}" if several else metric
                row, theirs = ours[subject, sample["doc_id"], measure], theirs + 1
                assert row["value"] == float(sample[metric])
                assert row["right"] == (sample[metric] == 1)
                assert row["prompt_hash"] == sample["prompt_hash"]
                first = sample["arguments"]["gen_args_0"]["arg_0"]
                assert first.endswith(row["question"])
                if row["loglikelihoods"] is None:
                    assert row["answer"] == sample["filtered_resps"][0]
                else:
                    found = [float(answer[0]) for answer in sample["filtered_resps"]]
                    assert row["loglikelihoods"] == pytest.approx(found, abs=1e-4)
    assert theirs == len(rows)


def same_means(rows: list[Row], said: Said) -> None:
    """Means of subjects and of groups, which the command tells by measure and filter."""
    from toolkit.probes.forgetting import means

    by_name = {subject: [row for row in rows if row["subject"] == subject] for subject in said.samples}
    by_name |= {task: of for task in {row["task"] for row in rows} if (of := [r for r in rows if r["task"] == task])}
    seen = 0
    for name, of in by_name.items():
        (found,) = means([{"when": "after"} | row for row in of], "after").values()
        for measure, value in found.items():
            key = measure if "," in measure else f"{measure},none"
            if key in said.results["results"][name]:
                assert said.results["results"][name][key] == pytest.approx(value, abs=1e-12), (name, measure)
                seen += 1
    # Three subjects and their group by two measures, and a task by two measures, or two filters.
    assert seen == 12


def test_our_rows_are_those_of_lm_evals_command_item_by_item(
    base: Loaded, engine: ModuleType, weights: Path, school: Path, tmp_path: Path
) -> None:
    rows = ask_folder(base, engine, school)
    said = lm_eval(tmp_path / "out", weights, school, "school,trivia,sums", 8)
    same(rows, said)
    same_means(rows, said)
    # None of it by chance: of each measure some are right and some are wrong, and the two filters differ.
    for measure in {row["measure"] for row in rows}:
        assert {row["value"] for row in rows if row["measure"] == measure} == {0.0, 1.0}, measure
    strict, flexible = (
        [row["right"] for row in rows if row["measure"] == f"exact_match,{name}"]
        for name in ("strict-match", "flexible-extract")
    )
    assert (len(strict), sum(strict), sum(flexible)) == (8, 1, 4)
    assert {row["cut"] for row in rows} == {0}


def test_an_adapter_few_shot_a_limit_and_prompts_that_are_cut_give_the_commands_rows(
    adapter: Path, engine: ModuleType, weights: Path, base: Loaded, school: Path, tmp_path: Path
) -> None:
    """What a prompt loses is counted by hand from what the command logged."""
    opened, cut_at = with_adapter(base, adapter), 192
    rows = ask_folder(opened, engine, school, model=asked(max_length=cut_at), limit=4, few_shot=3, batch_size=3)
    said = lm_eval(
        tmp_path / "out", weights, school, "school,trivia,sums", 3, "--limit", "4", "--num_fewshot", "3",
        peft=adapter, max_length=cut_at,
    )  # fmt: skip
    same(rows, said)
    same_means(rows, said)
    assert {name: len(samples) for name, samples in said.samples.items()} == {
        **{f"school_{subject}": 4 for subject in SUBJECTS}, "trivia": 4, "sums": 8
    }  # fmt: skip
    lost: dict[tuple[str, int], int] = {}
    for subject, samples in said.samples.items():
        for sample in samples:
            for given in sample["arguments"].values():
                asks, rest = given["arg_0"], given["arg_1"]
                whole = len(base.tokenizer.encode(asks + rest if isinstance(rest, str) else asks))
                # The last token of an answer is not read; twelve are kept for one that is generated.
                room = cut_at + 1 if isinstance(rest, str) else cut_at - 12
                key = subject, sample["doc_id"]
                lost[key] = max(lost.get(key, 0), whole - room)
    assert {(row["subject"], row["item"]): row["cut"] for row in rows} == {
        key: max(0, tokens) for key, tokens in lost.items()
    }
    assert {row["cut"] > 0 for row in rows} == {True, False}
    assert max(row["cut"] for row in rows) > 1000


def test_chat_gives_the_commands_rows_with_thinking_off_and_where_a_template_takes_no_system_message(
    base: Loaded, engine: ModuleType, weights: Path, school: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(weights, tmp_path / "chatting")
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    refuse = "{%- if messages[0].role == 'system' -%}{{- raise_exception('no system message') -}}{%- endif -%}"
    (model / "chat_template.jinja").write_text(refuse + template, encoding="utf-8")
    folder = shutil.copytree(school, tmp_path / "school")
    path = folder / "trivia.yaml"
    path.write_text(f'{path.read_text(encoding="utf-8")}description: "回答。"\n', encoding="utf-8")
    chat, loaded = asked(format="chat"), engine.load_base(model, asked(), full=False)
    rows = ask_folder(loaded, engine, folder, model=chat, limit=3, few_shot=1)
    said = lm_eval(
        tmp_path / "out", model, folder, "school,trivia,sums", 8, "--limit", "3", "--num_fewshot", "1",
        "--apply_chat_template", enable_thinking=False,
    )  # fmt: skip
    same(rows, said)
    same_means(rows, said)
    first = said.samples["trivia"][0]["arguments"]["gen_args_0"]["arg_0"]
    assert first.count("<|im_start|>user") == 2
    assert first.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    # What is kept of a base is named by the same prompts.
    from toolkit.probes.lm_tasks import load_tasks, prompts_digest
    from toolkit.probes.named import named_tasks

    digests = {
        prompts_digest(task, one, 3, 1, loaded.tokenizer)
        for task in load_tasks(named_tasks([str(folder)], code=False), code=False)
        for one in (chat, asked())
    }
    assert len(digests) == 6


def test_an_answer_is_the_gold_one_exactly_where_it_is_right(base: Loaded, engine: ModuleType, school: Path) -> None:
    rows = ask_folder(base, engine, school)
    for row in rows:
        if row["measure"] in ("acc", "acc_norm"):
            assert (row["answer"] == row["gold"]) == row["right"], row
            assert row["chance"] == 0.25
        else:
            assert (row["chance"], row["loglikelihoods"]) == (0.0, None)
    # The likeliest choice and the likeliest for its length are not always one.
    taken = {
        measure: [row["answer"] for row in rows if row["task"] == "trivia" and row["measure"] == measure]
        for measure in ("acc", "acc_norm")
    }
    assert taken["acc"] != taken["acc_norm"]


def test_choices_are_counted_once_where_each_is_also_asked_without_its_question(
    base: Loaded, engine: ModuleType, tmp_path: Path
) -> None:
    path = write_answers(tmp_path, "trivia", chinese_questions()[:4])
    path.write_text(path.read_text(encoding="utf-8").replace("acc_norm", "acc_mutual_info"), encoding="utf-8")
    rows = ask_folder(base, engine, tmp_path)
    assert [row["measure"] for row in rows[:2]] == ["acc", "acc_mutual_info"]
    assert all(row["chance"] == 0.25 and len(row["loglikelihoods"]) == 4 for row in rows)


# --- no trace ---


def trace(loaded: Loaded) -> dict[str, Any]:
    """All that a reading could leave changed."""
    import datasets
    import lm_eval.api.model
    import lm_eval.api.task
    import lm_eval.utils
    import numpy
    import torch
    from lm_eval.models import huggingface

    model, tokenizer = loaded.model, loaded.tokenizer
    kind, keys, *rest = numpy.random.get_state(legacy=True)
    return {
        "random": random.getstate(),
        "numpy": (kind, list(keys), *rest),
        "torch": torch.get_rng_state().tolist(),
        "modes": [module.training for module in model.modules()],
        "trained": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": torch.is_grad_enabled(),
        "weights": [parameter.sum().item() for parameter in model.parameters()],
        "cache": (model.config.use_cache, model.generation_config.to_dict()),
        "tokenizer": (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.pad_token, repr(tokenizer)),
        "backend": tokenizer.backend_tokenizer.to_str(),
        "template": tokenizer.chat_template,
        "levels": {name: logging.getLogger(name).level for name in ("", "lm_eval", "lm-eval", "datasets", "jinja2")},
        "bars": [module.tqdm for module in (huggingface, lm_eval.api.model, lm_eval.api.task)],
        "datasets": datasets.utils.logging.is_progress_bar_enabled(),
        "lm_eval": (lm_eval.utils.env, lm_eval.api.task.get_metric),
    }


@pytest.fixture
def in_training(base: Loaded, adapter: Path, school: Path) -> Loaded:
    """A model as in the midst of training, its dice thrown, and its tokenizer used."""
    import numpy
    import torch

    loaded = with_adapter(base, adapter)
    loaded.tokenizer = copy.deepcopy(base.tokenizer)
    loaded.tokenizer.padding_side = "left"
    loaded.model.train()
    loaded.model.config.use_cache = False
    for name, parameter in loaded.model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    for seed, draw in ((random.seed, random.random), (numpy.random.seed, numpy.random.rand), (torch.manual_seed, None)):
        seed(5)
        (draw or (lambda: torch.rand(1)))()
    return loaded


def one_task(folder: Path, name: str) -> Any:
    from toolkit.probes.lm_tasks import load_tasks
    from toolkit.probes.named import named_tasks

    return next(task for task in load_tasks(named_tasks([str(folder)], code=False), code=False) if task.name == name)


@pytest.mark.parametrize("name", ["school", "sums"])
def test_a_reading_leaves_no_trace(in_training: Loaded, engine: ModuleType, school: Path, name: str) -> None:
    from toolkit.probes.forgetting import Abilities, digests_of
    from toolkit.probes.lm_tasks import ask
    from toolkit.recipe import Forgetting

    task, before = one_task(school, name), trace(in_training)
    rows = ask(
        in_training, engine, task, asked(format="chat"), limit=2, few_shot=1, batch_size=2, progress=lambda *_: None
    )  # fmt: skip
    assert rows
    assert trace(in_training) == before
    how = Forgetting(tasks=["school"], few_shot=1)
    assert digests_of(in_training, engine, asked(), Abilities(how, [task], []))
    assert trace(in_training) == before


@pytest.mark.parametrize("name", ["school", "sums"])
@pytest.mark.parametrize("where", ["model", "progress", "prompts"])
def test_a_reading_that_fails_leaves_no_trace_either(
    in_training: Loaded, engine: ModuleType, school: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    from toolkit.probes.forgetting import Abilities, digests_of
    from toolkit.probes.lm_memory import InMemory
    from toolkit.probes.lm_tasks import ask
    from toolkit.recipe import Forgetting

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    task, before = one_task(school, name), trace(in_training)
    if where == "model":
        monkeypatch.setattr(InMemory, "_model_call", fail)
        monkeypatch.setattr(InMemory, "_model_generate", fail)
    if where == "prompts":
        monkeypatch.setattr(
            type(task.built.get_all_tasks()[0] if name == "school" else task.built), "doc_to_text", fail
        )
    options = {"limit": 2, "few_shot": 1, "batch_size": 2, "progress": fail if where == "progress" else None}
    with pytest.raises(KeyboardInterrupt):
        ask(in_training, engine, task, asked(), **options)
    assert trace(in_training) == before
    if where == "prompts":
        how = Forgetting(tasks=["school"], few_shot=1)
        with pytest.raises(KeyboardInterrupt):
            digests_of(in_training, engine, asked(), Abilities(how, [task], []))
        assert trace(in_training) == before


def test_progress_is_told_to_the_last_request(base: Loaded, engine: ModuleType, school: Path) -> None:
    from toolkit.probes.lm_tasks import ask

    for name, total in (("school", 3 * 5 * 4), ("sums", 8)):
        told: list[tuple[int, int]] = []
        ask(
            base, engine, one_task(school, name), asked(), limit=None, few_shot=None, batch_size=4,
            progress=lambda done, of, told=told: told.append((done, of)),
        )  # fmt: skip
        assert told == [(done, total) for done in range(1, total + 1)]


def test_memory_is_flat_over_twenty_readings(base: Loaded, engine: ModuleType, school: Path) -> None:
    import gc
    import tracemalloc

    from toolkit.probes.lm_memory import InMemory
    from toolkit.probes.lm_tasks import ask, leaves_of

    tasks = [one_task(school, name) for name in ("school", "sums")]

    def reading() -> int:
        for task in tasks:
            ask(base, engine, task, asked(), limit=1, few_shot=None, batch_size=4, progress=None)
        return sum(len(leaf.instances) for task in tasks for leaf in leaves_of(task))

    tracemalloc.start()
    held = [reading() for _ in range(4)]
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    held += [reading() for _ in range(16)]
    gc.collect()
    last = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert set(held) == {3 * 4 + 1}
    assert not [one for one in gc.get_objects() if isinstance(one, InMemory)]
    # The rows of sixteen readings alone are more.
    assert last - first < 100_000


# --- what a folder may do, and what is wrong with it ---

MARK = "code-was-run"
OWN = f"""
from pathlib import Path
Path("{MARK}").mkdir()
def first_two(rows):
    return rows.select(range(2))
"""


def load(folder: Path, *, code: bool = False) -> list[Any]:
    from toolkit.probes.lm_tasks import load_tasks
    from toolkit.probes.named import named_tasks

    return load_tasks(named_tasks([str(folder)], code=code), code=code)


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(folder)
    return str(caught.value)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, where code that is run makes another."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_beside_a_task_file_runs_only_where_it_may(base: Loaded, engine: ModuleType, watched: Path) -> None:
    path = write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    path.write_text(path.read_text(encoding="utf-8") + "process_docs: !function own.first_two\n", encoding="utf-8")
    (watched / "tasks/own.py").write_text(OWN, encoding="utf-8")
    assert f"{path.relative_to(watched)} asks for Python code beside it (!function)" in refused(Path("tasks"))
    assert not (watched / MARK).exists()
    assert len(ask_folder(base, engine, Path("tasks"), code=True)) == 2 * 2
    assert (watched / MARK).is_dir()


@pytest.mark.parametrize("key", ["doc_to_text", "doc_to_choice", "description", "gen_prefix", "doc_to_target"])
def test_a_template_reaches_pythons_insides_only_where_code_may_run(
    watched: Path, engine: ModuleType, key: str
) -> None:
    evil = f"{{{{ cycler.__init__.__globals__.os.makedirs('{MARK}', 511, True) or 0 }}}}"
    path = write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*lines, f'{key}: "{evil}"\n']), encoding="utf-8")
    from toolkit.probes.lm_tasks import prompts_digest

    with pytest.raises(UserError, match=r'"trivia" cannot be used: SecurityError: access to attribute .__init__.'):
        prompts_digest(load(Path("tasks"))[0], asked(), None, None, None)
    assert not (watched / MARK).exists()
    with contextlib.suppress(UserError):
        prompts_digest(load(Path("tasks"), code=True)[0], asked(), None, None, None)
    assert (watched / MARK).is_dir()


def test_harmless_templates_are_read_as_before(base: Loaded, engine: ModuleType, watched: Path) -> None:
    path = write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    text = path.read_text(encoding="utf-8").replace(
        '"问：{{question}}\\n答："',
        "\"{% for c in choices %}{{loop.index}}. {{c|trim|regex_replace('。$', '')}}{% endfor %}{{question.strip()}}\"",
    )
    path.write_text(text, encoding="utf-8")
    rows = ask_folder(base, engine, Path("tasks"))
    assert rows == ask_folder(base, engine, Path("tasks"), code=True)
    assert rows[0]["question"].startswith("1. 我知道山洞的柏拉图的寓言2. ")


def test_a_measure_that_comes_with_code_of_its_own_is_refused(watched: Path, engine: ModuleType) -> None:
    path = write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    text = path.read_text(encoding="utf-8")
    (watched / "metric").mkdir()
    (watched / "metric/metric.py").write_text(OWN, encoding="utf-8")
    for more in ("", "\n    hf_evaluate: true"):
        path.write_text(text.replace("metric: acc_norm", f"metric: metric{more}"), encoding="utf-8")
        assert 'the measure "metric" is none of lm-eval\'s own, and its code has not been run' in refused(Path("tasks"))
    assert not (watched / MARK).exists()


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("test_split: test", "test_split: tset", "\"trivia\" cannot be used: KeyError: 'tset'"),
        ("doc_to_choice: choices", "doc_to_choice: '{{chocies}}'", "UndefinedError: 'chocies' is undefined"),
        ("{{question}}", "{{qeustion}}", "UndefinedError: 'qeustion' is undefined"),
        ("trivia-test.jsonl", "missing.jsonl", "missing.jsonl"),
        ("multiple_choice", "multiple_choices", "Got invalid output_type 'multiple_choices'"),
        ("output_type: multiple_choice", "output_type: loglikelihood_rolling", '"trivia" is a text; name a file of it'),
        ("task: trivia", "task: trivia\nunsafe_code: true", '"trivia" runs code that the model writes'),
        ("task: trivia", "task: trivia\ndoc_to_image: choices", '"trivia" shows pictures or sound'),
        ("metric: acc_norm", "metirc: acc_norm", "'metric' key not provided"),
    ],
)
def test_a_task_file_that_cannot_be_used_is_named_with_what_is_wrong(
    watched: Path, engine: ModuleType, was: str, becomes: str, said: str
) -> None:
    path = write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    text = path.read_text(encoding="utf-8")
    assert was in text
    path.write_text(text.replace(was, becomes), encoding="utf-8")
    message = refused(Path("tasks"))
    assert message.startswith('[forgetting] tasks: "trivia"')
    assert said in message
    assert "\n" not in message


def test_a_damaged_line_of_a_table_is_said_by_its_place(watched: Path, engine: ModuleType) -> None:
    write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    path = watched / "tasks/trivia-test.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"question": "a", "choices"\n', encoding="utf-8")
    assert re.search(r'"trivia" cannot be used: \w+: .*(line|row) \d', refused(Path("tasks")))


def test_a_later_question_that_cannot_be_made_is_said_before_the_model_is_asked(
    base: Loaded, engine: ModuleType, watched: Path
) -> None:
    from toolkit.probes.forgetting import Abilities, digests_of
    from toolkit.recipe import Forgetting

    rows = chinese_questions()[:4]
    write_choices(watched / "tasks", "trivia", [*rows[:3], {**rows[3], "choices": ["one"]}])
    (task,) = load(Path("tasks"))
    with pytest.raises(UserError, match=r'"trivia" cannot be used: UndefinedError: .* has no element 1'):
        digests_of(base, engine, asked(), Abilities(Forgetting(tasks=["tasks"]), [task], []))


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
def test_generated_answers_leave_room_for_a_question(
    base: Loaded, engine: ModuleType, watched: Path, name: str
) -> None:
    path = write_sums(watched / "tasks", ["1"]) / "sums.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("max_gen_toks: 12", f"{name}: 40"), encoding="utf-8")
    assert ask_folder(base, engine, Path("tasks"), model=asked(max_length=41))[0]["cut"] > 0
    with pytest.raises(UserError, match=r'"sums" generates answers of up to 40 tokens, and \[model\] max_length = 40'):
        ask_folder(base, engine, Path("tasks"), model=asked(max_length=40))


def test_a_choice_longer_than_max_length_is_refused(base: Loaded, engine: ModuleType, watched: Path) -> None:
    write_answers(watched / "tasks", "trivia", chinese_questions()[:4])
    with pytest.raises(UserError, match=r'"trivia" has an answer of \d+ tokens, and \[model\] max_length = 8: raise'):
        ask_folder(base, engine, Path("tasks"), model=asked(max_length=8))


def test_a_folder_is_read_as_it_is_now(base: Loaded, engine: ModuleType, watched: Path) -> None:
    """The same path in another project, or after a change, is another folder."""
    for count in (2, 3):
        write_answers(watched / "tasks", f"trivia{count}", chinese_questions()[:count])
        assert {row["subject"] for row in ask_folder(base, engine, Path("tasks"))} == {
            f"trivia{number}" for number in range(2, count + 1)
        }


# --- the hub's tasks, with small tables in the place of the hub's ---

LETTER = "ABCD"
HUB = {
    "ceval-valid": ("ceval/ceval-exam", 52, {"dev": 5, "val": 2}),
    "cmmlu": ("haonan-li/cmmlu", 67, {"dev": 5, "test": 2}),
    "mmlu": ("cais/mmlu", 57, {"dev": 5, "validation": 1, "test": 2}),
    "gsm8k": ("openai/gsm8k", 1, {"train": 7, "test": 2}),
}
"""Tasks as the recipe names them: the data set, its subjects, and rows of each split of the stand-in."""


def hub_row(task: str, number: int) -> dict[str, Any]:
    """A row with the columns that the data set has."""
    choices = [f"{number}{letter}" for letter in "wxyz"]
    right = number % 4
    if task == "gsm8k":
        return {"question": f"Add {number}.", "answer": f"It is so.\n#### {number}"}
    if task == "mmlu":
        return {"question": f" Which is {number}? ", "subject": "any", "choices": choices, "answer": right}
    lettered = dict(zip(LETTER, choices, strict=True))
    if task == "cmmlu":
        return {"Question": f"{number}？ ", **lettered, "Answer": LETTER[right]}
    return {"id": number, "question": f"{number}？", **lettered, "answer": LETTER[right], "explanation": ""}


def hub_prompt(task: str, numbers: list[int], mark: str) -> str:
    """Five answered questions and one that is not, as published, without what stands before them."""
    texts = []
    for number in numbers:
        choices = "".join(f"{letter}. {number}{x}\n" for letter, x in zip(LETTER, "wxyz", strict=True))
        text = f"Which is {number}?" if task == "mmlu" else f"{number}？"
        texts.append(f"{text}\n{choices}{mark} {LETTER[number % 4]}")
    return "\n\n".join(texts).removesuffix(f" {LETTER[numbers[-1] % 4]}")


def own_files(task: str) -> list[dict[str, Any]]:
    """lm-eval's own files of a task's subjects, with the keys of the file that each includes."""
    import lm_eval.tasks

    place = {"ceval-valid": "ceval/ceval-valid_*", "cmmlu": "cmmlu/cmmlu_*", "mmlu": "mmlu/default/mmlu_*"}
    folder = Path(lm_eval.tasks.__file__).parent
    found = []
    for path in sorted(folder.glob(f"{place.get(task, 'gsm8k/gsm8k')}.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "include" in config:
            config = yaml.safe_load((path.parent / config["include"]).read_text(encoding="utf-8")) | config
        found.append(config)
    return found


@pytest.mark.parametrize("task", HUB)
def test_tasks_of_the_hub_are_asked_with_their_own_data_splits_and_five_examples(
    base: Loaded, engine: ModuleType, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from toolkit.probes.lm_tasks import ask, leaves_of, load_tasks
    from toolkit.probes.named import named_tasks

    data_set, subjects, splits = HUB[task]
    files, fetched = own_files(task), []
    assert len(files) == subjects
    tested = {"ceval-valid": ("val", "dev"), "gsm8k": ("test", "train")}.get(task, ("test", "dev"))
    for config in files:
        assert config["dataset_path"] == data_set
        assert (config.get("test_split") or config["validation_split"], config["fewshot_split"]) == tested

    def stand_in(path: str, name: str | None = None, **more: Any) -> Any:
        fetched.append((path, name, more))
        rows = {split: [hub_row(task, number) for number in range(count)] for split, count in splits.items()}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(of) for split, of in rows.items()})

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    (loaded,) = load_tasks(named_tasks([task], code=False), code=False)
    assert (loaded.name, len(loaded.subjects)) == (task, subjects)
    assert sorted(loaded.subjects) == sorted(config["task"] for config in files)
    assert sorted(fetched, key=str) == sorted(((data_set, config.get("dataset_name"), {}) for config in files), key=str)
    rows = ask(base, engine, loaded, asked(), limit=1, few_shot=5, batch_size=16, progress=None)
    measures = {
        "mmlu": ["acc"], "gsm8k": ["exact_match,strict-match", "exact_match,flexible-extract"]
    }.get(task, ["acc", "acc_norm"])  # fmt: skip
    assert [row["measure"] for row in rows] == [measure for _ in files for measure in measures] or task == "gsm8k"
    assert {(row["subject"], row["item"], row["measure"]) for row in rows} == {
        (config["task"], 0, measure) for config in files for measure in measures
    }
    assert {row["chance"] for row in rows} == {0.0 if task == "gsm8k" else 0.25}
    described = {config["task"]: config.get("description", "") for config in files}
    for leaf in leaves_of(loaded):
        prompt = leaf.instances[0].args[0]
        if task == "gsm8k":
            *examples, last = prompt.split("\n\n")
            known = {f"Question: Add {number}.\nAnswer: It is so.\n#### {number}" for number in range(7)}
            assert (len(set(examples)), set(examples) - known) == (5, set())
            assert last == "Question: Add 0.\nAnswer:"
        else:
            mark = "Answer:" if task == "mmlu" else "答案："
            assert prompt == described[leaf.task_name] + hub_prompt(task, [0, 1, 2, 3, 4, 0], mark)
            assert [one.args[1] for one in leaf.instances] == [f" {letter}" for letter in LETTER]


def test_templates_of_lm_evals_own_tasks_may_do_what_those_of_a_folder_may_not(
    base: Loaded, engine: ModuleType, school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a folder's tasks take the place of none of lm-eval's own."""
    import datasets
    import lm_eval.utils
    from jinja2.sandbox import SandboxedEnvironment

    from toolkit.probes import lm_tasks
    from toolkit.probes.named import named_tasks

    rows = [hub_row("gsm8k", number) for number in range(7)]
    table, own = datasets.Dataset.from_list(rows), datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset",
        lambda path, *args, **more: {"train": table, "test": table} if "gsm8k" in path else own(path, *args, **more),
    )  # fmt: skip
    tasks = lm_tasks.load_tasks(named_tasks(["gsm8k", str(school)], code=False), code=False)
    assert {task.name: task.code for task in tasks} == {"gsm8k": True, "school": False, "sums": False, "trivia": False}
    kinds = []
    apply = lm_eval.utils.apply_template
    monkeypatch.setattr(
        lm_eval.utils, "apply_template",
        lambda *args: kinds.append(isinstance(lm_eval.utils.env, SandboxedEnvironment)) or apply(*args),
    )  # fmt: skip
    for task in tasks:
        kinds.clear()
        lm_tasks.ask(base, engine, task, asked(), limit=1, few_shot=None, batch_size=8, progress=None)
        assert set(kinds) == {not task.code}, task.name


def test_a_name_that_lm_eval_does_not_know_is_answered_with_the_nearest_one(engine: ModuleType) -> None:
    from toolkit.probes.lm_tasks import load_tasks
    from toolkit.probes.named import named_tasks

    for name, said in (
        ("ceval_valid", 'did you mean "ceval-valid"?'),
        ("gsm8", 'did you mean "gsm8k"?'),
        ("完全", "python -m lm_eval ls tasks lists them."),
    ):
        with pytest.raises(UserError) as caught:
            load_tasks(named_tasks([name], code=False), code=False)
        assert str(caught.value) == f'[forgetting] tasks: lm-eval has no task called "{name}"; {said}'
