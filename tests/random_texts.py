"""Short texts that repeat by chance, and one that repeats at every scale."""

import random


def random_texts(number: int, longest: int = 30, seed: int = 0) -> list[str]:
    """Short texts of one to four different characters, half of them with a repeated end."""
    draw = random.Random(seed)
    texts = []
    for _ in range(number):
        letters = "abcd"[: draw.randint(1, 4)]
        text = "".join(draw.choices(letters, k=draw.randint(0, longest)))
        texts.append(text if draw.random() < 0.5 else text + draw.randint(0, 4) * text[-draw.randint(1, 5) :])
    return texts


def fibonacci(length: int) -> str:
    last, text = "a", "ab"
    while len(text) < length:
        last, text = text, text + last
    return text[:length]
