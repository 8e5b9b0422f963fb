"""Folders of lm-eval task files with local data, of questions that people wrote: MMLU's dev questions, which come with
lm-eval, and Chinese ones of chatterbot-corpus."""

import json
import random
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SUBJECTS = ("anatomy", "astronomy", "sociology")
LONGEST = 16
"""Characters of a Chinese answer: a tokenizer that has learned digits takes three tokens for each."""
QUESTION = re.compile(
    r"(.*?)\n\(A\) (.*?) \(B\) (.*?) \(C\) (.*?) \(D\) (.*?)\nA: Let's think step by step\..*The answer is \(([A-D])\)",
    re.DOTALL,
)
LETTERS = (
    '"{{question.strip()}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}\\nAnswer:"'
)
ACCURACY = """
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""
OF_SUMS = """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
num_fewshot: 2
generation_kwargs:
  until: ["\\n"]
  do_sample: false
  temperature: 0.0
  max_gen_toks: 12
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    regexes_to_ignore: [",", "(?s).*#### "]
filter_list:
  - name: strict-match
    filter:
      - function: regex
        regex_pattern: "^ ?(-?[0-9]+)$"
      - function: take_first
  - name: flexible-extract
    filter:
      - function: regex
        group_select: -1
        regex_pattern: "(-?[0-9]+)"
      - function: take_first
"""
"""A number alone is strict; the last number of any text is found by the flexible filter."""


@cache
def mmlu_questions() -> dict[str, list[dict[str, Any]]]:
    """MMLU's dev questions by subject, as far as their text says each choice: {question, choices, answer (0 to 3)}."""
    text = files("lm_eval").joinpath("tasks/mmlu/flan_cot_fewshot/_cot_prompts.json").read_text(encoding="utf-8")
    return {
        subject: [
            {"question": found[1], "choices": [found[i] for i in range(2, 6)], "answer": "ABCD".index(found[6])}
            for asked in told.split("\n\nQ: ")[1:]
            if (found := QUESTION.match(asked))
        ]
        for subject, told in json.loads(text).items()
    }


@cache
def chinese_questions(seed: int = 0) -> list[dict[str, Any]]:
    """Chinese questions with four answers, of which three are those of other questions: {question, choices, answer}."""
    folder = files("chatterbot_corpus").joinpath("data/chinese")
    pairs: dict[str, str] = {}
    for name in ("trivia", "science", "history", "literature"):
        for said in yaml.safe_load(folder.joinpath(f"{name}.yml").read_text(encoding="utf-8"))["conversations"]:
            if len(str(said[1])) <= LONGEST:
                pairs.setdefault(str(said[0]), str(said[1]))
    draw, rows = random.Random(seed), []
    answers = sorted(set(pairs.values()))
    for question, right in pairs.items():
        choices = [right, *draw.sample([other for other in answers if other != right], 3)]
        draw.shuffle(choices)
        rows.append({"question": question, "choices": choices, "answer": choices.index(right)})
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(folder: Path, name: str, more: str, **splits: list[dict[str, Any]]) -> Path:
    """NAME.yaml, and a JSON Lines file of each split: `test` is asked, and examples come from `dev`, if it is there."""
    paths = {split: str(write_rows(folder / f"{name}-{split}.jsonl", rows)) for split, rows in splits.items()}
    head = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": paths},
        "test_split": "test",
        "fewshot_split": "dev" if "dev" in splits else "test",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(head, sort_keys=False) + more, encoding="utf-8")
    return path


def write_choices(folder: Path, name: str, rows: list[dict[str, Any]], more: str = "", **splits: Any) -> Path:
    """Questions that are answered by a letter, as MMLU's are."""
    asked = f'output_type: multiple_choice\ndoc_to_text: {LETTERS}\ndoc_to_choice: ["A", "B", "C", "D"]\n'
    return write_task(folder, name, f"{asked}doc_to_target: answer\n{more or ACCURACY}", test=rows, **splits)


def write_answers(folder: Path, name: str, rows: list[dict[str, Any]], **splits: Any) -> Path:
    """Questions whose choices are answers of many characters, so that acc_norm is another measure than acc."""
    asked = 'output_type: multiple_choice\ndoc_to_text: "问：{{question}}\\n答："\ndoc_to_choice: choices\n'
    return write_task(
        folder, name, f'{asked}doc_to_target: answer\ntarget_delimiter: ""{ACCURACY}', test=rows, **splits
    )


def write_group(folder: Path, name: str, members: Iterable[str], measures: tuple[str, ...] = ("acc",)) -> Path:
    """_NAME.yaml: a group whose mean weighs each question alike."""
    group = {
        "group": name,
        "task": list(members),
        "aggregate_metric_list": [{"metric": measure, "weight_by_size": True} for measure in measures],
    }
    path = folder / f"_{name}.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False), encoding="utf-8")
    return path


def write_school(folder: Path, of_each: int = 5) -> Path:
    """A folder with a group of three subjects of MMLU, two of them in a group of their own, and a Chinese task."""
    for subject in SUBJECTS:
        write_choices(folder, f"school_{subject}", mmlu_questions()[subject][:of_each])
    write_group(folder, "school_nature", ["school_anatomy", "school_astronomy"])
    write_group(folder, "school", ["school_nature", "school_sociology"], ("acc", "acc_norm"))
    rows = chinese_questions()
    write_answers(folder, "trivia", rows[:12], dev=rows[12:20])
    return folder


def write_sums(folder: Path, answers: list[str]) -> Path:
    """sums.yaml: answers that are generated, and found by two filters as GSM8K's are. Returns the folder."""
    rows = [{"question": f"第{i}行：{i}+{i}=" if i % 3 else f"Sum {i}:", "answer": a} for i, a in enumerate(answers)]
    dev = [{"question": f"1+{i}=", "answer": f"{1 + i}"} for i in range(6)]
    write_task(folder, "sums", OF_SUMS, test=rows, dev=dev)
    return folder


def write_adapter(base: Path, folder: Path, spread: float, seed: int = 0) -> Path:
    """A PEFT folder on a base's attention; spread: of the numbers in its B matrices, and 0 makes an adapter of none."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], base_model_name_or_path=str(base)),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, spread)
        model.save_pretrained(str(folder))
    return folder
