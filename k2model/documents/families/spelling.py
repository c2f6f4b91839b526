"""Words spelled backwards: `Reverse planet:` is answered ` t e n a l p`, the trace spells the word.

Words are those of reasoning-gym's word list with 3 to 7 lower-case letters.
"""

from random import Random

from k2model.documents.families.task import Task, gym_module
from k2model.documents.schema import Item

ORIGIN, LICENCE = "reasoning-gym words3to10.txt", "Apache-2.0"


def pool(rng: Random, size: int) -> list[Task]:
    """Up to `size` distinct words in random order."""
    text = gym_module("data").read_data_file("words3to10.txt")
    words = {word.strip() for word in text.splitlines()}
    usable = sorted(w for w in words if 3 <= len(w) <= 7 and w.isascii() and w.isalpha() and w.islower())
    rng.shuffle(usable)
    return [solve(word) for word in usable[:size]]


def solve(word: str) -> Task:
    spelled = "".join(f" {letter}" for letter in word)
    backwards = "".join(f" {letter}" for letter in reversed(word))
    return Task(word, f"Reverse {word}:", backwards, spelled, spelled)


def check(item: Item, answer: str) -> bool:
    """Right letters in the right order; spaces between them may differ."""
    return answer.split() == item["answer"].split()
