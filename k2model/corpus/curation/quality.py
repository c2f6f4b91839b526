"""Quality rules for natural text, each with a name under which its rejects are counted.

After Gopher (Rae et al. 2021, table A1: mean word length, symbols, repeated lines, stop words) and C4
(Raffel et al. 2020: boiler-plate). The bounds are for pages of a technical manual and of Python
code, which have more symbols and repetition than the web pages those papers filter.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

WORDS = re.compile(r"\w+")
_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with", "a", "is", "in", "for"))
_BOILERPLATE = re.compile(r"lorem ipsum|all rights reserved|without warranty of any kind", re.IGNORECASE)


class Page(NamedTuple):
    text: str
    words: list[str]
    lines: list[str]  # non-blank, stripped


Rule = Callable[[Page], bool]


def page(text: str) -> Page:
    return Page(text, WORDS.findall(text), [line.strip() for line in text.splitlines() if line.strip()])


def rejecting_rule(text: str, rules: Mapping[str, Rule]) -> str | None:
    """The name of the first rule that rejects the text; None when it is good."""
    read = page(text)
    return next((name for name, rejects in rules.items() if rejects(read)), None)


def fraction(text: str, wanted: Callable[[str], bool]) -> float:
    """The share of the non-blank characters that are wanted."""
    visible = [character for character in text if not character.isspace()]
    return sum(map(wanted, visible)) / max(1, len(visible))


def mean_word_length(read: Page) -> float:
    return sum(map(len, read.words)) / max(1, len(read.words))


def repeated_lines(read: Page) -> float:
    """The share of lines that have been seen before on the page."""
    return 1 - len(set(read.lines)) / max(1, len(read.lines))


PROSE_RULES: dict[str, Rule] = {
    "few_words": lambda read: len(read.words) < 8,
    "mean_word_length": lambda read: not 3 <= mean_word_length(read) <= 10,
    "symbols": lambda read: fraction(read.text, lambda c: not c.isalnum()) > 0.35,
    "digits": lambda read: fraction(read.text, str.isdigit) > 0.2,
    "repeated_lines": lambda read: len(read.lines) > 3 and repeated_lines(read) > 0.3,
    "no_stop_words": lambda read: len({w.lower() for w in read.words} & _STOP_WORDS) < 2,
    "boilerplate": lambda read: bool(_BOILERPLATE.search(read.text)),
}
CODE_RULES: dict[str, Rule] = {
    "few_words": lambda read: len(read.words) < 8,
    "mean_word_length": lambda read: not 2 <= mean_word_length(read) <= 12,
    "symbols": lambda read: fraction(read.text, lambda c: not c.isalnum()) > 0.5,
    "digits": lambda read: fraction(read.text, str.isdigit) > 0.3,
    "repeated_lines": lambda read: len(read.lines) > 3 and repeated_lines(read) > 0.4,
    "boilerplate": lambda read: bool(_BOILERPLATE.search(read.text)),
}
RULES: dict[str, dict[str, Rule]] = {"prose": PROSE_RULES, "code": CODE_RULES}
