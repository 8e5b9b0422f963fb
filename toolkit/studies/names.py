"""People and their numbers: names from Faker, random digits, and what a second stage changes about them.

{"id": "name-007", "prompt": "What is the 10-digit number of Dana Whitfield? ", "answer": "0139475562",
 "split": "train", "foil": "7731094425"}

Parts: `facts`, the names whose numbers stay as they are; `old` and `new`, the first and second number of names that
change; `added`, names that a later stage may teach instead of new numbers; `filler`, other names, to train something
else between learning and a later test.
"""

import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from toolkit.errors import UserError
from toolkit.example import Example
from toolkit.metrics.information import entropy_bits, entropy_of_distinct
from toolkit.studies.built import Built

Locale = Literal["en_US", "zh_CN"]
PROMPTS: dict[Locale, str] = {
    "en_US": "What is the {digits}-digit number of {name}? ",
    "zh_CN": "{name}的{digits}位号码是：",
}
PARAPHRASES: dict[Locale, list[str]] = {
    "en_US": ["{name} can be reached under ", "The number that belongs to {name} is "],
    "zh_CN": ["要找{name}，请拨打", "属于{name}的号码是"],
}
REVERSES: dict[Locale, str] = {"en_US": "Whose number is {number}? ", "zh_CN": "{number}是谁的号码？"}
TRIES = 200
"""Names drawn for each that is wanted, before it is said that there are not so many."""
TITLE = re.compile(r"^(Mr|Mrs|Ms|Miss|Dr)\.? | (Jr\.|MD|DDS|DVM|PhD)$")
"""What Faker puts before or after one English name in twenty."""


def draw_names(locale: Locale, count: int, seed: int) -> list[str]:
    """`count` different names, also without their titles: Dr. Dana Whitfield and Dana Whitfield would be one person.

    Raises UserError where Faker has not so many.
    """
    from faker import Faker

    faker = Faker(locale)
    faker.seed_instance(seed)
    names: dict[str, str] = {}
    for _ in range(TRIES * count):
        if len(names) == count:
            break
        name = faker.name()
        names.setdefault(TITLE.sub("", name), name)
    if len(names) < count:
        raise UserError(f"[data] Faker has only {len(names)} {locale} names or a few more, and {count} are wanted.")
    return list(names.values())


def draw_numbers(count: int, digits: int, rng: random.Random) -> list[str]:
    """`count` different numbers, leading zeros kept."""
    support = 10**digits
    if count > support:
        raise UserError(f"[data] there are {support} numbers of {digits} digits, and {count} are wanted.")
    if support <= sys.maxsize:
        drawn = rng.sample(range(support), count)
    else:
        # Python cannot sample from a longer range. One of so many is hardly ever drawn twice.
        drawn = []
        while len(drawn) < count:
            drawn = list(dict.fromkeys([*drawn, *(rng.randrange(support) for _ in range(count - len(drawn)))]))
    return [f"{number:0{digits}d}" for number in drawn]


def ask(template: str, digits: int, name: str = "", number: str = "") -> str:
    return template.replace("{digits}", str(digits)).replace("{name}", name).replace("{number}", number)


def refuse_template(key: str, template: str, place: str) -> None:
    bare = template.replace(place, "").replace("{digits}", "")
    if place not in template or "{" in bare or "}" in bare:
        raise UserError(f'[data] {key} = "{template}": it must contain {place}, may contain {{digits}}, and no others.')


def build(
    data_seed: int,
    assignment_seed: int,
    count: Annotated[int, Field(ge=1, le=100_000, description="How many names are trained.")] = 100,
    controls: Annotated[int, Field(ge=0, le=100_000, description="How many names are never trained.")] = 100,
    changed: Annotated[
        int, Field(ge=0, description="How many of the trained names get a second number, in the parts old and new.")
    ] = 0,
    added: Annotated[
        int, Field(ge=0, description="How many other names are in the part added, which contradict nothing.")
    ] = 0,
    fillers: Annotated[
        int, Field(ge=0, description="How many other names are in the part filler, to be trained in between.")
    ] = 0,
    digits: Annotated[int, Field(ge=1, le=30, description="Digits a number.")] = 10,
    locale: Annotated[Locale, Field(description="Whose names: English or Chinese ones.")] = "en_US",
    prompt: Annotated[
        str, Field(description='The question, with {name}, and {digits} if wanted; "" for the language\'s own.')
    ] = "",
    otherwise: Annotated[
        bool, Field(description="Whether trained names are also asked in other words, and the other way round.")
    ] = True,
    paraphrases: Annotated[
        list[str], Field(description="Other words for the question, never trained; [] for the language's own.")
    ] = [],  # noqa: B006  (read only)
    reverse: Annotated[
        str, Field(description='Asks for the name of {number}, never trained; "" for the language\'s own.')
    ] = "",
) -> Built:
    """Names with numbers, each drawn once. Raises UserError where there are too few names or numbers."""
    prompt = prompt or PROMPTS[locale]
    paraphrases = paraphrases or PARAPHRASES[locale]
    reverse = reverse or REVERSES[locale]
    for key, template in (("prompt", prompt), *(("paraphrases", other) for other in paraphrases)):
        refuse_template(key, template, "{name}")
    refuse_template("reverse", reverse, "{number}")
    for position, other in enumerate(paraphrases):
        if other in (prompt, *paraphrases[:position]):
            what = "the trained prompt itself" if other == prompt else "there twice"
            raise UserError(f'[data] paraphrases: "{other}" is {what}.')
    if changed > count:
        raise UserError(f"[data] changed = {changed} of count = {count} names: it cannot be more than all of them.")
    people = count + controls + added + fillers
    names = draw_names(locale, people, data_seed)
    random.Random(assignment_seed).shuffle(names)
    rng = random.Random(f"{data_seed}/numbers")
    numbers = draw_numbers(people + changed, digits, rng)
    facts = list(told(names, numbers, [count, controls, added, fillers], changed, prompt, digits))
    others = [
        question
        for fact in facts
        if otherwise and fact.split == "train" and fact.part in ("facts", "old")
        for question in variants(fact, paraphrases, reverse, digits)
    ]
    support = 10**digits
    return Built(
        examples=facts + others,
        # Of the names whose numbers stay: outcomes are theirs.
        entropy_bits=entropy_of_distinct(support, count - changed or count),
        rule_only_bits=entropy_bits(support),
        rule_only_digits=0.1,
        answer_digits=digits,
        prompt_choices=None,
    )


def told(
    names: list[str], numbers: list[str], sizes: list[int], changed: int, prompt: str, digits: int
) -> Iterator[Example]:
    """An example a name and number. sizes: of the trained, control, added and filler names, in this order."""
    count, controls, added, _ = sizes
    width = len(str(len(names)))
    held_out = numbers[count : count + controls]
    for position, (name, number) in enumerate(zip(names, numbers, strict=False)):
        split, part = "train", "facts"
        if position < changed:
            part = "old"
        elif count <= position < count + controls:
            split = "control"
        elif position >= count + controls:
            part = "added" if position < count + controls + added else "filler"
        trained = position < count
        identity = f"name-{position + 1:0{width}d}"
        example = Example(
            id=identity,
            fact=identity,
            prompt=ask(prompt, digits, name),
            answer=number,
            split=split,
            part=part,
            foil=held_out[position % controls] if trained and held_out else None,
            info={"name": name},
        )
        yield example
        if part == "old":
            second = numbers[len(names) + position]
            # The same name with another number is another fact; the first number is what it is held against.
            yield replace(
                example, id=f"{identity}-new", fact=f"{identity}-new", answer=second, part="new", wrong=(number,)
            )


def variants(fact: Example, paraphrases: list[str], reverse: str, digits: int) -> Iterator[Example]:
    """A trained name asked for in other words, and its number asked for its name."""
    name = fact.info["name"]
    questions = [(f"paraphrase-{i}", ask(other, digits, name), fact.answer)
                 for i, other in enumerate(paraphrases, start=1)]  # fmt: skip
    questions.append(("reversed", ask(reverse, digits, number=fact.answer), name))
    for variant, question, answer in questions:
        yield Example(f"{fact.id}-{variant}", fact.fact, question, answer, "test", variant, fact.part, info=fact.info)
