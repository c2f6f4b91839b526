"""The rows of `scores.json`: every score computed from what came of its items, written and read again.

A score is given three ways: over all items that have a verdict (what was cut off or had no room counts as wrong), over
the completed ones, and with how many of the others there are.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.errors import EvaluationError
from k2model.evals.items import Grade, ItemResult
from k2model.evals.statistics import accuracy_interval, mean_interval
from k2model.plain import NotPlain, from_plain, read_as

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store

SCORES = "scores.json"  # of an artifact of kind `scores` or `score`
AGAIN = "Delete the folder of this artifact and evaluate again"
DIGITS = 6  # of the numbers written; far below their intervals, and the same on every platform
ACCURACY, NATS = "accuracy", "nats/token"


@dataclass(frozen=True)
class ScoreRow:
    """One measurement: `value` with its 95% interval `low` to `high`, in `unit` ("accuracy" or "nats/token").

    `n` counts what was asked (items, each as often as it was repeated) or read (documents). `cut_off` of them had not
    ended, `too_long` had no room and were not asked, `unscored` have no verdict; `completed` is the value over the
    others, None where there are none. `value` is over all but the unscored. `mean_tokens` is the mean length of what
    was generated, `chance` what a guesser gets, `group` where tables show it. `overlap`, the share of the items that a
    training document overlaps with, is counted by curation and put beside a score when it is reported: it is not in the
    `scores.json` of a phase.
    """

    phase: str
    score: str
    value: float
    n: int
    low: float
    high: float
    unit: str
    mean_tokens: float | None = None
    chance: float | None = None
    overlap: float | None = None
    group: str | None = None
    completed: float | None = None
    cut_off: int = 0
    too_long: int = 0
    unscored: int = 0

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of right answers, or a mean of marks, 0 to 1, and not a loss."""
        return self.unit == ACCURACY

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def row_of(
    phase: str, score: str, results: Sequence[ItemResult], group: str, unit: str = ACCURACY, chance: float | None = None
) -> ScoreRow:
    """The row of one score from all of its results.

    Raises EvaluationError where there are none, or none of them has a verdict.
    """
    judged = [one for one in results if one.grade is not Grade.UNSCORED]
    if not judged:
        raise EvaluationError(
            f"score '{score}' has no verdict on any of its {len(results)} items, so there is nothing to take a mean of"
        )
    if unit == NATS:
        value, low, high = mean_interval([one.value for one in judged], [one.tokens for one in judged])
        completed = tokens = None
    else:
        value = sum(one.value for one in judged) / len(judged)
        low, high = accuracy_interval([one.value for one in judged], [one.cluster for one in judged])
        ended = [one.value for one in judged if one.grade not in (Grade.CUT_OFF, Grade.TOO_LONG)]
        completed = sum(ended) / len(ended) if ended else None
        written = [one.tokens for one in results if one.tokens]
        tokens = sum(written) / len(written) if written else None
    grades = [one.grade for one in results]
    return ScoreRow(
        phase, score, round(value, DIGITS), len(results), round(low, DIGITS), round(high, DIGITS), unit,
        mean_tokens=rounded(tokens),
        chance=rounded(chance),
        group=group,
        completed=rounded(completed),
        cut_off=grades.count(Grade.CUT_OFF),
        too_long=grades.count(Grade.TOO_LONG),
        unscored=grades.count(Grade.UNSCORED),
    )  # fmt: skip


def rounded(value: float | None) -> float | None:
    """As it is written; None stays None."""
    return None if value is None else round(value, DIGITS)


def by_score(results: Iterable[ItemResult]) -> dict[str, list[ItemResult]]:
    """In the order in which scores first appear."""
    found: dict[str, list[ItemResult]] = {}
    for one in results:
        found.setdefault(one.score, []).append(one)
    return found


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """`scores.json`, without the overlap."""
    written = [{name: value for name, value in row.to_dict().items() if name != "overlap"} for row in rows]
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def read_scores(content: bytes, where: str) -> list[ScoreRow]:
    """The rows of one `scores.json`, `where` it lies; fields that are not known are left out.

    Raises EvaluationError naming file, row and field.
    """
    known = {f.name for f in fields(ScoreRow)}
    required = {f.name for f in fields(ScoreRow) if f.default is MISSING}
    rows = []
    try:
        for number, row in enumerate(read_as(list[dict[str, Any]], content)):
            missing = sorted(required - row.keys())
            if missing:
                raise EvaluationError(
                    f"{where}: row {number} lacks {', '.join(missing)} (it has {', '.join(sorted(row))}); "
                    "evaluate the phase again, its scores do not have the agreed fields"
                )
            rows.append(from_plain(ScoreRow, {name: row[name] for name in known & row.keys()}, where=f"row {number}"))
    except NotPlain as error:
        raise EvaluationError(f"{where} holds no scores ({error}). {AGAIN}") from error
    return rows


def load_scores(store: "Store", refs: "Iterable[ArtifactRef]") -> list[ScoreRow]:
    """All rows of several `scores` artifacts, in the order of the references. Raises the store's errors as well."""
    return [row for ref in refs for row in read_scores(store.read(ref, SCORES), f"{ref.uri}/{SCORES}")]
