"""Invented people and news, so that a tiny base has seen what names and sentences look like: nobody's, and of nowhere.

What is the 10-digit number of Tavor Melkin? 6620915387
On 14 March 2019, Belmor Works opened a bridge in Ostrany.
"""

import random

ASKED = (
    "What is the {d}-digit number of {name}? ",
    "{name} can be reached under ",
    "The number that belongs to {name} is ",
    "The code of {name} is ",
)
"""The names study asks so too, of other names."""
NAMED = ("Who has the number {number}? ", "Whose number is {number}? ")

SYLLABLES = (
    "bel", "mor", "tav", "kin", "ost", "ran", "vel", "dar", "sil", "nor", "ham", "fen", "gar", "lis", "pol", "tur",
    "wes", "rik", "jan", "mel", "cor", "hal", "bri", "den", "san", "tol", "mar", "els",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
KINDS_OF_FIRM = ("Works", "Group", "Bank", "Foods")
DEEDS = ("opened", "closed", "bought", "sold", "built", "repaired", "named", "lost", "found", "moved")
THINGS = ("bridge", "school", "factory", "station", "harbour", "library", "market", "museum", "hospital", "road")
SENTENCES = (
    "On {day} {month} {year}, {firm} {deed} a {thing} in {place}.",
    "The {thing} in {place} cost {number} million and was paid for by {firm}.",
    "{name} of {firm} said that {number} people came to {place} in {month} {year}.",
    "In {year} the {thing} had {number} workers, {name} said.",
    "{firm} {deed} the {thing} on {day} {month} after {number} days.",
)


def invented(rng: random.Random, parts: int = 2) -> str:
    """A name that nobody has."""
    return " ".join("".join(rng.sample(SYLLABLES, rng.randint(1, 2))).capitalize() for _ in range(parts))


def draw_name_line(rng: random.Random) -> tuple[str, str]:
    """A question for somebody's number, and the number; one in ten asks the other way round."""
    digits = rng.randint(6, 12)
    name, number = invented(rng), "".join(rng.choice("0123456789") for _ in range(digits))
    if rng.random() < 0.1:
        return rng.choice(NAMED).replace("{number}", number), name
    return rng.choice(ASKED).replace("{d}", str(digits)).replace("{name}", name), number


def draw_sentence(rng: random.Random) -> tuple[str, str]:
    """A text, of which nothing is asked; one in three comes again with a blank in it, to be filled in."""
    values = {
        "day": str(rng.randint(1, 28)),
        "month": rng.choice(MONTHS),
        "year": str(rng.randint(1990, 2029)),
        "firm": f"{invented(rng, 1)} {rng.choice(KINDS_OF_FIRM)}",
        "deed": rng.choice(DEEDS),
        "thing": rng.choice(THINGS),
        "place": invented(rng, 1),
        "name": invented(rng),
        "number": str(rng.randint(2, 990)),
    }
    template = rng.choice(SENTENCES)
    sentence = template.format(**values)
    if rng.random() < 2 / 3:
        return "", sentence
    key = rng.choice([key for key in values if f"{{{key}}}" in template])
    blanked = template.format(**values | {key: "____"})
    return f"{sentence} Fill in the blank: {blanked} Answer: ", values[key]
