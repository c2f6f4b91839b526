"""Pages that quality rules disagree about: sound text made worse in one way each, by as much as makes it doubtful.

Each kind of page straddles the bound of a rule of Gopher, C4 or FineWeb, so that of every rule both verdicts occur. A
function of the seed alone.
"""

from collections.abc import Callable
from random import Random

from benchmarks.peers.raw_text import Language

SENTENCE = (8, 22)  # words


def write_pages(language: Language, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(kind, text) of `count` pages, all kinds in turn."""
    import numpy as np

    stream = language.words.take(language.walk(np.random.default_rng(seed), 64, 4_000).reshape(-1)).to_pylist()
    rng = Random(seed)
    return [_page(KINDS[number % len(KINDS)], rng, stream) for number in range(count)]


def _page(kind: str, rng: Random, stream: list[str]) -> tuple[str, str]:
    lines = [_sentence(rng, stream) for _ in range(rng.randrange(8, 24))]
    if kind in _WHOLE:
        return kind, _WHOLE[kind](rng, lines)
    low, high, change = _LINES[kind]
    share = rng.uniform(low, high)  # of the lines
    return kind, "\n".join(change(rng, line) if rng.random() < share else line for line in lines)


def _sentence(rng: Random, stream: list[str]) -> str:
    length = rng.randint(*SENTENCE)
    start = rng.randrange(len(stream) - length)
    return " ".join(stream[start : start + length]).rstrip(".,:;") + "."


def _again(rng: Random, lines: list[str], joint: str) -> str:
    """With lines that were there before."""
    share = rng.uniform(0.05, 0.5)
    return joint.join([*lines, *(rng.choice(lines) for _ in range(int(share / (1 - share) * len(lines))))])


def _phrases(rng: Random, lines: list[str]) -> str:
    """A phrase of some words that comes again and again."""
    phrase = " ".join(rng.choice(lines).rstrip(".").split()[: rng.randint(2, 12)])
    share = rng.uniform(0.05, 0.5)
    return "\n".join(f"{line[:-1]} {phrase}." if rng.random() < share else line for line in lines)


def _hashed(rng: Random, lines: list[str]) -> str:
    share = 0.2 * rng.random()
    return "\n".join(" ".join(f"#{word}" if rng.random() < share else word for word in line.split()) for line in lines)


def _first(words: int, line: str) -> str:
    return " ".join(line.split()[:words])


def _cut(rng: Random, line: str) -> str:
    """As lines of a few words each."""
    words, step = line.split(), rng.randint(2, 3)
    return "\n".join(" ".join(words[start : start + step]) for start in range(0, len(words), step))


def _glued(line: str) -> str:
    words = line.split()
    return " ".join("".join(words[start : start + 2]) for start in range(0, len(words), 2))


def _row(rng: Random) -> str:
    cells = (rng.choice(["12.5", "3%", "=", "-", "$4", "2019", "n/a", "ok", "&", "+1"]) for _ in range(8))
    return "| " + " | ".join(cells) + " |"


def _plain_words(rng: Random, line: str) -> str:
    return " ".join(word for word in line.split() if word.lower() not in _STOP or rng.random() < 0.01)


_STOP = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_ENDS, _MARKS = ["...", "…", " ..", "....", " [...]"], ["", ",", "!", '"', ")", ";"]
_POLICY = ["javascript", "our privacy policy", "Terms of Use", "we use cookies", "myJavaScript"]
_BRACES = ["{", "lorem ipsum", "Lorem Ipsum"]
#: The share of lines, from and to, and what becomes of them.
_LINES: dict[str, tuple[float, float, Callable[[Random, str], str]]] = {
    "sound": (0, 0, lambda rng, line: line),
    "bullets": (0.75, 1, lambda rng, line: f"{rng.choice(['-', '•', '*', '  -'])} {line}"),
    "ellipses": (0.1, 0.6, lambda rng, line: line[:-1] + rng.choice(_ENDS)),
    "long words": (0, 0.9, lambda rng, line: _glued(line)),
    "table": (0.02, 0.6, lambda rng, line: _row(rng)),
    "navigation": (0.4, 0.95, lambda rng, line: _first(3, line)),
    "no full stops": (0.6, 1, lambda rng, line: line.rstrip(".") + rng.choice(_MARKS)),
    "short lines": (0.2, 0.9, _cut),
    "policy": (0.1, 0.5, lambda rng, line: f"{line[:-1]} {rng.choice(_POLICY)}."),
    "braces": (0, 0.1, lambda rng, line: f"{line} {rng.choice(_BRACES)}"),
    "no stop words": (1, 1, _plain_words),
}
_WHOLE: dict[str, Callable[[Random, list[str]], str]] = {
    "few words": lambda rng, lines: "\n".join(_first(6, line) for line in lines[: rng.randint(5, 14)]),
    "hashes": _hashed,
    "repeated lines": lambda rng, lines: _again(rng, lines, "\n"),
    "repeated paragraphs": lambda rng, lines: _again(rng, lines, "\n\n"),
    "phrases": _phrases,
}
KINDS = (*_LINES, *_WHOLE)
