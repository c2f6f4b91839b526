"""The labelled pairs of answers, and what is said of them."""

import json
from pathlib import Path
from typing import NamedTuple

from k2model.documents.answers import is_accepted

FILE = Path(__file__).with_name("pairs.tsv")


class Pair(NamedTuple):
    kind: str
    wanted: str
    answer: str
    equal: bool


def pairs() -> list[Pair]:
    """A field with what cannot be seen (line feeds, combining marks) is written as JSON."""
    rows = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("# ")]
    return [Pair(kind, _read(wanted), _read(answer), equal == "1") for kind, wanted, answer, equal in rows]


def _read(field: str) -> str:
    return str(json.loads(field)) if field.startswith('"') and ("\\u" in field or "\\n" in field) else field


def judged(pair: Pair) -> bool:
    """Whether they are called equal; what has no end is given less time."""
    return bool(is_accepted(pair.answer, [pair.wanted], seconds=0.2 if pair.kind == "hostile" else 3.0))
