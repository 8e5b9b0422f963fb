"""Makes what recipes/tiny/chinese.toml trains on and measures: instructions, questions for lm-eval, a held-out text.

recipes/tiny/instructions.jsonl:
{"instruction": "把下面的姓名倒过来写。", "input": "Tavor Melkin", "output": "Melkin Tavor"}

recipes/tiny/abilities/rules_english.jsonl, of which rules_english.yaml makes a task:
{"prompt": "4812 over and over: ", "choices": ["48124812481", "48124182481", …], "answer": 0}

The questions are about what the tiny base was pretrained on (recipes/tiny/words_base.toml), in lines of other draws.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import run_command
from toolkit.recipe import read_recipe
from toolkit.run_folder import write_whole
from toolkit.studies import build_data
from toolkit.studies.invented import draw_name_line, draw_sentence, invented
from toolkit.studies.lines import DRAW, RULED

BASE = Path(__file__).parents[1] / "recipes/tiny/words_base.toml"
INSTRUCTIONS = 300
QUESTIONS = {"rules_chinese": 150, "rules_english": 150, "names": 150, "news": 150}
LINES_HELD_OUT = 240

Question = dict[str, Any]


def main(
    to: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("recipes/tiny"),
    seed: Annotated[int, typer.Option(help="What everything is drawn from.")] = 2026,
) -> None:
    """Write instructions.jsonl, held_out.txt and abilities/*.jsonl; the same seed writes the same files."""
    (to / "abilities").mkdir(parents=True, exist_ok=True)
    seen = lines_of_the_base()
    write_jsonl(to / "instructions.jsonl", instructions(random.Random(f"{seed} instructions"), INSTRUCTIONS))
    write_whole(to / "held_out.txt", held_out_text(random.Random(f"{seed} text"), LINES_HELD_OUT, seen))
    for name, count in QUESTIONS.items():
        rng = random.Random(f"{seed} {name}")
        write_jsonl(to / f"abilities/{name}.jsonl", distinct(ASK[name], rng, count, seen))
    print(f"written: {to}/instructions.jsonl, {to}/held_out.txt, {to}/abilities/ ({', '.join(QUESTIONS)})")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def lines_of_the_base() -> set[str]:
    """What the tiny base was pretrained on, and nothing here may repeat."""
    recipe = read_recipe(BASE)
    built = build_data(recipe, recipe.seeds[0])
    return {example.prompt + example.answer for example in built.examples if example.split == "train"}


def distinct(
    draw: Callable[[random.Random], Question], rng: random.Random, count: int, seen: set[str]
) -> list[Question]:
    """So many draws, each prompt once, and none that the base has seen answered."""
    found: dict[str, Question] = {}
    while len(found) < count:
        question = draw(rng)
        if question["prompt"] + question["choices"][question["answer"]] not in seen:
            found.setdefault(question["prompt"], question)
    return list(found.values())


def held_out_text(rng: random.Random, count: int, seen: set[str]) -> str:
    """Lines of every kind that the base has seen, and none of those lines."""
    kinds = list(DRAW.values())
    lines: list[str] = []
    while len(lines) < count:
        line = "".join(kinds[len(lines) % len(kinds)](rng))
        if line not in seen:
            lines.append(line + "\n")
    return "".join(lines)


# --- questions: four choices, one of them right ---


def of_choices(prompt: str, right: str, wrong: list[str], rng: random.Random) -> Question:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return {"prompt": prompt, "choices": choices, "answer": choices.index(right)}


def ask_rule(rng: random.Random, templates: list[str], damage: Callable[[str, random.Random], str]) -> Question:
    """Which digits follow from an index? The wrong ones are the right ones, damaged."""
    template = rng.choice(templates)
    # Of a number of few different digits too little could be damaged, and the base has seen nearly all of two digits.
    index = "".join(rng.sample("123456789", rng.randint(3, 4)))
    right = RULED[template](index)
    wrong: list[str] = []
    while len(wrong) < 3:
        damaged = damage(right, rng)
        if damaged not in (right, *wrong):
            wrong.append(damaged)
    return of_choices(template.replace("{i}", index), right, wrong, rng)


def two_others(digits: str, rng: random.Random) -> str:
    """48124812 → 48154892"""
    places = rng.sample(range(len(digits)), 2)
    return "".join(rng.choice("0123456789") if place in places else digit for place, digit in enumerate(digits))


def two_swapped(digits: str, rng: random.Random) -> str:
    """48124812 → 48142812"""
    place = rng.randrange(len(digits) - 1)
    return digits[:place] + digits[place + 1] + digits[place] + digits[place + 2 :]


def ask_word(rng: random.Random, draw: Callable[[random.Random], str]) -> Question:
    """Which word comes next in a line? The wrong ones come from other lines of the kind."""
    words = draw(rng).split(" ")
    place = rng.randrange(2, len(words))
    wrong: list[str] = []
    while len(wrong) < 3:
        other = rng.choice(draw(rng).split(" ")[1:])
        if other not in (words[place], *wrong):
            wrong.append(other)
    return of_choices(" ".join(words[:place]), f" {words[place]}", [f" {word}" for word in wrong], rng)


def sentence(rng: random.Random) -> str:
    """A sentence of the news, without a blank in it."""
    while True:
        prompt, text = draw_sentence(rng)
        if not prompt:
            return text


def name_line(rng: random.Random) -> str:
    """A question for somebody's number, or for whose it is; without the answer."""
    return draw_name_line(rng)[0].strip()


ENGLISH = [template for template in RULED if template.isascii()]
CHINESE = [template for template in RULED if not template.isascii()]
ASK: dict[str, Callable[[random.Random], Question]] = {
    "rules_chinese": lambda rng: ask_rule(rng, CHINESE, two_others),
    "rules_english": lambda rng: ask_rule(rng, ENGLISH, two_swapped),
    "names": lambda rng: ask_word(rng, name_line),
    "news": lambda rng: ask_word(rng, sentence),
}


# --- instructions ---
# Asked in Chinese and answered in digits and names: the tiny base has seen hardly any Chinese characters, and LoRA
# leaves the embeddings of the others untrained, so that it could not say them.

ON_NUMBERS: dict[str, Callable[[str], str]] = {
    "把下面的数字倒过来写。": lambda number: number[::-1],
    "把下面的数字重复一遍。": lambda number: number * 2,
    "下面的数字加一是多少？": lambda number: str(int(number) + 1),
    "下面的数字有几位？": lambda number: str(len(number)),
    "写出下面数字的最后一位。": lambda number: number[-1],
}
ON_NAMES: dict[str, Callable[[str], str]] = {
    "把下面的姓名倒过来写。": lambda name: " ".join(reversed(name.split())),
    "重复下面的姓名。": lambda name: name,
    "写出下面姓名里的姓。": lambda name: name.split()[1],
    "写出下面姓名里的名。": lambda name: name.split()[0],
    "下面的姓名有几个字母？": lambda name: str(len(name) - 1),
}
WITHOUT_INPUT: dict[str, Callable[[int], str]] = {
    "从{n}数到{end}。": lambda n: ", ".join(str(n + step) for step in range(5)),
    "写出{n}后面的三个数。": lambda n: ", ".join(str(n + step) for step in range(1, 4)),
    "请把{n}说三遍。": lambda n: ", ".join([str(n)] * 3),
}


def instruction(rng: random.Random, number: int) -> dict[str, str]:
    """Of three in turn, one is about a number, one about a name, and one has no input."""
    if number % 3 == 2:
        template, n = rng.choice(list(WITHOUT_INPUT)), rng.randint(11, 990)
        asked = template.replace("{n}", str(n)).replace("{end}", str(n + 4))
        return {"instruction": asked, "input": "", "output": WITHOUT_INPUT[template](n)}
    table = ON_NAMES if number % 3 else ON_NUMBERS
    asked, given = rng.choice(list(table)), invented(rng) if number % 3 else str(rng.randint(101, 99999))
    return {"instruction": asked, "input": given, "output": table[asked](given)}


def instructions(rng: random.Random, count: int) -> list[dict[str, str]]:
    """So many, each once."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    while len(found) < count:
        drawn = instruction(rng, len(found))
        found.setdefault((drawn["instruction"], drawn["input"]), drawn)
    return list(found.values())


if __name__ == "__main__":
    run_command(main)
