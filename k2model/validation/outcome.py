"""What one expectation found, summed over frames and parts, and the error that stops the pipeline.

Knows nothing of Great Expectations: this is the part other code (report, tests) may rely on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypedDict

from k2model.errors import K2Error
from k2model.recipe.expectations import Severity

SAMPLES = 3
RECORDED = (
    "suite", "shard", "expectation", "type", "column", "severity", "success", "observed", "total", "parts",
    "parts_failed", "samples", "remedy",
)  # fmt: skip


class RecordedOutcome(TypedDict):
    """A row of `validation.json`: what is in `RECORDED`."""

    suite: str
    shard: str
    expectation: str
    type: str
    column: str
    severity: str
    success: bool
    observed: int
    total: int
    parts: int
    parts_failed: int
    samples: list[str]
    remedy: str


class Recorded(TypedDict):
    """What every file of outcomes has."""

    expectations: list[RecordedOutcome]


class ValidationReport(Recorded):
    """`validation.json` of a corpus; the counts are by source."""

    documents: dict[str, dict[str, int]]
    quarantine: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Outcome:
    """One expectation on one table: a source's parts, or a table over all of them (`shard` is then `all`).

    `observed` counts the offending rows of `total`, `parts_failed` the files they are in. `rows` are the
    row numbers in the part, ascending, known of a single part only. `samples` are the first offenders.
    """

    suite: str
    shard: str
    expectation: str
    type: str
    column: str
    severity: Severity
    observed: int
    total: int
    parts: int = 1
    parts_failed: int = 0
    remedy: str = ""
    rows: tuple[int, ...] = field(default=(), repr=False)
    samples: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How a recipe addresses the expectation."""
        return f"{self.suite}/{self.expectation}"

    @property
    def success(self) -> bool:
        return self.observed == 0

    @property
    def stops(self) -> bool:
        """Whether nothing may be published."""
        return not self.success and self.severity is Severity.STOP

    @property
    def reason(self) -> str:
        """Under which name the offending rows are set aside, "" when they are not."""
        return self.expectation if self.severity is Severity.QUARANTINE else ""

    def to_json(self) -> dict[str, Any]:
        """Everything but `rows`, for another process."""
        content = asdict(self) | {"severity": self.severity.value}
        del content["rows"]
        return content

    def record(self) -> dict[str, object]:
        """The row of `validation.json`."""
        named = {name: getattr(self, name) for name in RECORDED}
        return named | {"severity": self.severity.value, "samples": list(self.samples)}


def merge_parts(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome for each expectation and shard, in the order of their first: counts and parts are summed.

    Runs of outcomes may be merged first and then what came of them; that gives the same. `outcomes` is gone
    through once, and only what is given back is held.
    """
    merged: dict[tuple[str, str, str, str], Outcome] = {}
    for outcome in outcomes:
        key = (outcome.suite, outcome.shard, outcome.expectation, outcome.column)
        merged[key] = _sum(merged[key], outcome) if key in merged else replace(outcome, rows=())
    return list(merged.values())


def one_part(frames: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of a part from those of its frames; what was found in each frame is kept as rows of the part."""
    frames = list(frames)
    rows: dict[tuple[str, str], list[int]] = {}
    for outcome in frames:
        rows.setdefault((outcome.expectation, outcome.column), []).extend(outcome.rows)
    return [
        replace(
            outcome,
            parts=1,
            parts_failed=int(outcome.observed > 0),
            rows=tuple(rows[outcome.expectation, outcome.column]),
        )
        for outcome in merge_parts(frames)
    ]


def _sum(one: Outcome, other: Outcome) -> Outcome:
    return replace(
        one,
        observed=one.observed + other.observed,
        total=one.total + other.total,
        parts=one.parts + other.parts,
        parts_failed=one.parts_failed + other.parts_failed,
        samples=(*one.samples, *other.samples)[:SAMPLES],
    )


class ValidationFailed(K2Error):
    """The data breaks expectations of severity `stop`; nothing was published.

    `outcomes` are the broken ones, `html` is a page with every result (the Data Docs of data that
    never became an artifact).
    """

    def __init__(self, outcomes: Sequence[Outcome], html: str = "", what: str = "corpus") -> None:
        self.outcomes = tuple(outcomes)
        self.html = html
        self.what = what
        noun = "expectation" if len(self.outcomes) == 1 else "expectations"
        head = f"The {what} breaks {len(self.outcomes)} {noun} of severity 'stop'; nothing was published."
        super().__init__("\n".join([head, *(_describe(outcome) for outcome in self.outcomes)]))

    def __reduce__(self) -> tuple[type, tuple[tuple[Outcome, ...], str, str]]:
        return (type(self), (self.outcomes, self.html, self.what))


def _describe(outcome: Outcome) -> str:
    lines = [
        f"- '{outcome.name}' ({outcome.type}) on column '{outcome.column}' of '{outcome.shard}': "
        f"{outcome.observed} of {outcome.total} rows, in {outcome.parts_failed} of {outcome.parts} parts.",
        *(f"    {sample}" for sample in outcome.samples),
    ]
    if outcome.remedy:
        lines.append(f"    What to do: {outcome.remedy}")
    return "\n".join(lines)
