"""Which line comes next? Four candidates after a few lines of a held-out module, one of them true.

The three wrong lines come from other held-out modules and have the true line's indentation and about
its length, so that neither gives it away. The model picks by likelihood; chance is 1 in 4.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from k2model.documents.schema import Item, make_item
from k2model.documents.standard_library import Module

MAX_PROMPT = 200  # characters; prompt and line fit 128 tokens
MIN_WORDS = 10  # of a prompt; fewer would be found in many modules
MIN_LINE, MAX_LINE = 15, 60
CHOICES = 4


class Line(NamedTuple):
    origin: str
    number: int
    text: str


def items(rng: Random, modules: Sequence[Module], count: int) -> list[Item]:
    """Up to `count` items; `meta` holds `choices` and the `index` of the true one."""
    sources = {module.name: module.text.splitlines() for module in modules}
    lines = [Line(name, i, text) for name, own in sources.items() for i, text in enumerate(own) if _is_usable(text)]
    by_indent: dict[int, list[Line]] = {}
    for line in lines:
        by_indent.setdefault(_indent(line.text), []).append(line)
    made: dict[str, Item] = {}
    for line in rng.sample(lines, len(lines)):
        if len(made) >= count:
            break
        wrong = _distractors(rng, line, by_indent[_indent(line.text)])
        prompt = prompt_before(sources[line.origin], line.number)
        if len(wrong) == CHOICES - 1 and len(re.findall(r"\w+", prompt)) >= MIN_WORDS and line.text not in prompt:
            made.setdefault(prompt + line.text, _item(rng, line, prompt, wrong))
    return list(made.values())


def prompt_before(lines: Sequence[str], number: int) -> str:
    """As many whole lines before line `number` as fit, ending in a line break."""
    prompt = ""
    for line in reversed(lines[:number]):
        if len(line) + 1 + len(prompt) > MAX_PROMPT:
            break
        prompt = f"{line}\n{prompt}"
    return prompt.lstrip("\n")


def check(item: Item, answer: str) -> bool:
    """Whether `answer` is the true line (the likeliest of the choices)."""
    return answer == item["answer"]


def _item(rng: Random, line: Line, prompt: str, wrong: list[str]) -> Item:
    choices = [line.text, *wrong]
    rng.shuffle(choices)
    meta = {"choices": choices, "index": choices.index(line.text), "module": line.origin}
    return make_item("code", f"{line.origin}:{line.number + 1}", prompt, line.text, meta=meta)


def _distractors(rng: Random, line: Line, pool: Sequence[Line]) -> list[str]:
    similar = {
        other.text: None
        for other in pool
        if other.origin != line.origin
        and other.text != line.text
        and abs(len(other.text) - len(line.text)) <= max(3, len(line.text) // 10)
    }
    return rng.sample(list(similar), min(CHOICES - 1, len(similar)))


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _is_usable(text: str) -> bool:
    """Whether a line says something: it is not blank, a comment, or a lone bracket."""
    stripped = text.strip()
    letters = sum(map(str.isalpha, stripped))
    return len(stripped) >= MIN_LINE and len(text) <= MAX_LINE and letters >= 8 and not stripped.startswith(("#", '"'))
