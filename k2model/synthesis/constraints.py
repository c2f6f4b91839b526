"""The kinds of constraint: how one is drawn, how it is asked for, and how a reply is checked. Checks need no language
but whitespace, punctuation, case and common abbreviations; words are runs of non-blank characters.

Constraints of one `group` never meet in an instruction, nor do those whose groups are in each other's `excludes`.
"""

import json
import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

from k2model.documents.sentences import sentences

Parameters = Mapping[str, Any]
WORDS = ("river", "lantern", "harbour", "garden", "winter", "copper", "village", "morning", "window", "journey")
OPENINGS = ("To begin with,", "In short:", "Here is what matters:", "Let us see.")
ENDINGS = ("That is all.", "Any questions?", "And so it ends.", "Thank you for reading.")
KEYS = ("title", "summary", "place", "season", "reason", "detail", "source", "note")


class ConstraintKind(NamedTuple):
    draw: Callable[[Random], Parameters]
    ask: str  # the instruction, formatted with the parameters
    check: Callable[[Parameters, str], bool]
    group: str
    excludes: frozenset[str] = frozenset()


class Constraint(NamedTuple):
    kind: str
    parameters: Parameters

    @property
    def instruction(self) -> str:
        listed = {name: ", ".join(v) if isinstance(v, list) else v for name, v in self.parameters.items()}
        return KINDS[self.kind].ask.format(**listed)

    def holds(self, reply: str) -> bool:
        return KINDS[self.kind].check(self.parameters, reply)


def draw(rng: Random, names: tuple[str, ...], count: int) -> tuple[Constraint, ...]:
    """Up to `count` constraints of kinds `names` that can be met together."""
    taken: list[str] = []
    for name in rng.sample(names, len(names)):
        if len(taken) < count and all(compatible(name, other) for other in taken):
            taken.append(name)
    return tuple(Constraint(name, KINDS[name].draw(rng)) for name in taken)


def compatible(one: str, other: str) -> bool:
    first, second = KINDS[one], KINDS[other]
    return first.group != second.group and first.group not in second.excludes and second.group not in first.excludes


def parts(reply: str, border: str) -> list[str]:
    """What of the reply stands between matches of the pattern `border`."""
    return [part for part in re.split(border, reply.strip()) if part.strip()]


def _number(low: int, high: int) -> Callable[[Random], Parameters]:
    return lambda rng: {"n": rng.randint(low, high)}


def _one_of(options: tuple[str, ...]) -> Callable[[Random], Parameters]:
    return lambda rng: {"text": rng.choice(options)}


def _occurrences(word: str, reply: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", reply, re.IGNORECASE))


def _json_keys(p: Parameters, reply: str) -> bool:
    try:
        value = json.loads(reply)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(value, dict)
        and list(value) == list(p["keys"])
        and all(isinstance(v, str) and v for v in value.values())
    )


def _no_case(change: Callable[[str], str]) -> Callable[[Parameters, str], bool]:
    return lambda _, reply: any(c.isalpha() for c in reply) and reply == change(reply)


def _capital_words(p: Parameters, reply: str) -> bool:
    words = [word.strip(".,:;!?") for word in reply.split()]
    return sum(word.isupper() and len(word) > 1 for word in words) >= int(p["n"])


def _two_versions(p: Parameters, reply: str) -> bool:
    versions = [version.strip() for version in reply.split("******")]
    return len(versions) == 2 and all(versions) and versions[0] != versions[1]


_ALL_BUT_WORDS = frozenset(
    {"shape", "start", "end", "case", "length", "sentences", "marks", "punctuation", "digits", "capitals"}
)
KINDS: dict[str, ConstraintKind] = {
    "at-least-words": ConstraintKind(
        _number(20, 80), "Use at least {n} words.", lambda p, r: len(r.split()) >= p["n"], "length"
    ),
    "at-most-words": ConstraintKind(
        _number(60, 120), "Use at most {n} words.", lambda p, r: 0 < len(r.split()) <= p["n"], "length"
    ),
    "words-between": ConstraintKind(
        lambda rng: {"low": (low := rng.randint(30, 60)), "high": low + rng.randint(15, 30)},
        "Use between {low} and {high} words.",
        lambda p, r: p["low"] <= len(r.split()) <= p["high"],
        "length",
    ),
    "at-most-characters": ConstraintKind(
        lambda rng: {"n": rng.randrange(400, 800, 50)},
        "Stay within {n} characters.",
        lambda p, r: bool(r.strip()) and len(r) <= p["n"],
        "length",
    ),
    "sentences": ConstraintKind(
        _number(2, 6),
        "Write exactly {n} sentences.",
        lambda p, r: len(sentences(r)) == p["n"],
        "sentences",
        frozenset({"shape", "start", "end", "length", "marks"}),
    ),
    "paragraphs": ConstraintKind(
        _number(2, 4),
        "Write exactly {n} paragraphs, with a blank line between them.",
        lambda p, r: len(parts(r, r"\n[ \t]*\n")) == p["n"],
        "shape",
    ),
    "bullets": ConstraintKind(
        _number(3, 6),
        "Give exactly {n} bullet points, each on a line that begins with '- '.",
        lambda p, r: len(re.findall(r"^- \S", r, re.MULTILINE)) == p["n"],
        "shape",
    ),
    "numbered": ConstraintKind(
        _number(3, 6),
        "Give a numbered list of exactly {n} points, written '1. ', '2. ' and so on.",
        lambda p, r: re.findall(r"^(\d+)\. \S", r, re.MULTILINE) == [str(i) for i in range(1, p["n"] + 1)],
        "shape",
        frozenset({"digits"}),
    ),
    "sections": ConstraintKind(
        _number(2, 4),
        "Divide the text into {n} sections, each under a line 'SECTION' with its number.",
        lambda p, r: re.findall(r"^SECTION (\d+)[ \t]*$", r, re.MULTILINE) == [str(i) for i in range(1, p["n"] + 1)],
        "shape",
        frozenset({"digits", "case"}),
    ),
    "two-versions": ConstraintKind(
        lambda rng: {},
        "Write two different versions, with a line of six asterisks ****** between them.",
        _two_versions,
        "shape",
        frozenset({"end", "start", "quotes", "marks"}),
    ),
    "contains": ConstraintKind(
        _one_of(WORDS), "Use the word '{text}'.", lambda p, r: _occurrences(p["text"], r) >= 1, "word"
    ),
    "contains-exactly": ConstraintKind(
        lambda rng: {"text": rng.choice(WORDS), "n": rng.randint(2, 4)},
        "Use the word '{text}' exactly {n} times.",
        lambda p, r: _occurrences(p["text"], r) == p["n"],
        "word",
    ),
    "avoids": ConstraintKind(
        _one_of(("people", "small", "often", "water", "year")),
        "Do not use the word '{text}'.",
        lambda p, r: bool(r.strip()) and not _occurrences(p["text"], r),
        "avoided",
    ),
    "avoids-letter": ConstraintKind(
        _one_of(("z", "q", "x", "j")),
        "Do not use the letter '{text}' anywhere.",
        lambda p, r: bool(r.strip()) and p["text"] not in r.lower(),
        "letter",
        frozenset({"word", "start", "end", "json"}),
    ),
    "lower-case": ConstraintKind(
        lambda rng: {},
        "Write everything in lower case, without a capital letter.",
        _no_case(str.lower),
        "case",
        frozenset({"start", "end", "json", "capitals"}),
    ),
    "upper-case": ConstraintKind(
        lambda rng: {},
        "WRITE EVERYTHING IN CAPITAL LETTERS.",
        _no_case(str.upper),
        "case",
        frozenset({"start", "end", "json", "capitals"}),
    ),
    "capital-words": ConstraintKind(
        _number(1, 3),
        "Write at least {n} of the words in capital letters.",
        _capital_words,
        "capitals",
        frozenset({"case", "json", "start", "end"}),
    ),
    "starts-with": ConstraintKind(
        _one_of(OPENINGS),
        "Begin with exactly these words: {text}",
        lambda p, r: r.startswith(p["text"]),
        "start",
        frozenset({"punctuation"}),
    ),
    "title": ConstraintKind(
        lambda rng: {},
        "Begin with a title on a line of its own, in double angle brackets like <<title>>.",
        lambda _, r: bool(re.match(r"<<[^<>\n]+>>[ \t]*\n", r)),
        "start",
    ),
    "ends-with": ConstraintKind(
        _one_of(ENDINGS),
        "End with exactly these words and nothing after them: {text}",
        lambda p, r: r.rstrip().endswith(p["text"]),
        "end",
    ),
    "postscript": ConstraintKind(
        lambda rng: {},
        "Add a postscript at the end that begins with 'P.S.' on a line of its own.",
        lambda _, r: bool(re.search(r"^P\.S\. \S[^\n]*\s*\Z", r, re.MULTILINE)),
        "end",
        frozenset({"sentences"}),
    ),
    "quoted": ConstraintKind(
        lambda rng: {},
        "Put the whole reply in double quotation marks.",
        lambda _, r: len(r.strip()) > 2 and r.strip()[0] == r.strip()[-1] == '"' and '"' not in r.strip()[1:-1],
        "quotes",
        frozenset({"start", "end", "json", "shape", "sentences"}),
    ),
    "no-commas": ConstraintKind(
        lambda rng: {}, "Do not use any comma.", lambda _, r: bool(r.strip()) and "," not in r, "punctuation"
    ),
    "no-digits": ConstraintKind(
        lambda rng: {}, "Do not use any digit.", lambda _, r: bool(r.strip()) and not re.search(r"\d", r), "digits"
    ),
    "placeholders": ConstraintKind(
        _number(1, 3),
        "Leave at least {n} placeholders in square brackets, such as [name].",
        lambda p, r: len(re.findall(r"\[[^\[\]\n]+\]", r)) >= p["n"],
        "marks",
    ),
    "highlights": ConstraintKind(
        _number(1, 3),
        "Highlight at least {n} passages with single asterisks, like *this*.",
        lambda p, r: len(re.findall(r"(?<!\*)\*[^*\n]+\*(?!\*)", r)) >= p["n"],
        "marks",
    ),
    "json-keys": ConstraintKind(
        lambda rng: {"keys": rng.sample(KEYS, rng.randint(2, 4))},
        "Reply with one JSON object alone, with the keys {keys} in this order and texts as values.",
        _json_keys,
        "json",
        _ALL_BUT_WORDS,
    ),
}
