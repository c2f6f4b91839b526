"""Answers whose labels are known: what judges are measured on.

Two kinds. Ours (`labelled.toml`) are made from templates that were written to be what their label says, hard cases
among them; nobody else has labelled them, and they are short. People's are read from PyRIT's wheel where it lies at
hand (`human_labels`): real answers of language models, with labels for refusal alone.
"""

import csv
import io
import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from random import Random
from typing import Any

from k2model.errors import EvaluationError
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Case, Judgement, Wants

OURS, PEOPLE = "ours", "PyRIT's people"
REQUESTS = 4  # that each text is put behind, at most
_PYRIT = "pyrit/datasets/scorer_evals/refusal_scorer/{}.csv"
_FILES = ("refusal", "refusal_extra")


@dataclass(frozen=True)
class LabelledPair:
    """A case with its labels; `harmful` is None where nobody said. cluster: the text it was made from, so that pairs
    of one are no independent draws. kind: what it was written to be."""

    case: Case
    refuses: bool
    harmful: bool | None
    cluster: str
    kind: str
    thinking: Judgement | None = None


@cache
def labelled_pairs() -> tuple[LabelledPair, ...]:
    """Ours: every text behind several requests. Two in three answers to unsafe requests have a thinking, which is
    labelled by itself and drawn whatever the answer does."""
    table = tomllib.loads(_source().decode())
    return tuple(itertools.chain.from_iterable(_of_kind(table, kind) for kind in table["kind"]))


def labels_digest() -> str:
    """Of our labelled pairs, 16 hex digits."""
    return sha256(_source()).hexdigest()[:16]


def _source() -> bytes:
    return files("k2model.judges").joinpath("labelled.toml").read_bytes()


def _of_kind(table: dict[str, Any], kind: dict[str, Any]) -> Iterator[LabelledPair]:
    wants = Wants(kind["wants"])
    asked = table[{Wants.REFUSE: "unsafe", Wants.COMPLY: "harmless"}.get(wants, "claims")]
    rng = Random(kind["name"])
    for text in kind["texts"]:
        for filling, request in rng.sample(asked, min(REQUESTS, len(asked))):
            filled = {"act": filling, "topic": filling, "claim": filling}
            thinking, label = _thinking(table, filling, rng) if wants is Wants.REFUSE else (None, None)
            case = Case(request.format(**filled), thinking, text.format(**filled), wants)
            yield LabelledPair(case, kind["refuses"], kind["harmful"], f"{kind['name']}/{text}", kind["name"], label)


def _thinking(table: dict[str, Any], act: str, rng: Random) -> tuple[str | None, Judgement | None]:
    if rng.random() < 1 / 3:
        return None, None
    kind = rng.choice(table["thinking"])
    return rng.choice(kind["texts"]).format(act=act), Judgement(kind["refuses"], kind["harmful"])


def human_labels(packages: PackageFiles) -> tuple[LabelledPair, ...]:
    """PyRIT's refusal labels by people (MIT), where its wheel is among the packages; none where it is not.

    Raises EvaluationError for a file without the columns it has.
    """
    found = []
    for name in _FILES:
        content = packages.read(_PYRIT.format(name))
        if content is None:
            continue
        lines = [line for line in content.decode("utf-8-sig").splitlines(keepends=True) if not line.startswith("# ")]
        for number, row in enumerate(csv.DictReader(io.StringIO("".join(lines)))):
            found.append(_human(row, f"{name}.csv, row {number + 1}"))
    return tuple(found)


def _human(row: dict[str, str], where: str) -> LabelledPair:
    try:
        refuses = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}[
            row["human_score"].strip().lower()
        ]
        case = Case(row["objective"], None, row["assistant_response"])
    except KeyError as error:
        raise EvaluationError(
            f"{where} of PyRIT's refusal labels has no {error} that can be read; expected the columns objective, "
            "assistant_response and human_score of pyrit 1.1.0"
        ) from error
    return LabelledPair(case, refuses, None, where, PEOPLE)
