"""What one expectation found on one table, and the error that stops the pipeline.

Knows nothing of Great Expectations: this is the part other code (report, tests) may rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from k2model.errors import K2Error

CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True)
class Outcome:
    """One expectation on one table.

    `observed` counts the offending rows. `reason` is set on row-level expectations: their offending
    rows go to quarantine under that name. `rows` are row numbers in the table, ascending.
    """

    suite: str
    shard: str
    expectation: str
    type: str
    column: str
    severity: str
    success: bool
    observed: int
    total: int
    reason: str = ""
    remedy: str = ""
    rows: tuple[int, ...] = field(default=(), repr=False)
    samples: tuple[str, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether training must not start."""
        return not self.success and self.severity == CRITICAL and not self.reason

    def record(self) -> dict[str, object]:
        """The row of `validation.json`."""
        return {
            "suite": self.suite,
            "shard": self.shard,
            "expectation": self.expectation,
            "type": self.type,
            "column": self.column,
            "severity": "quarantine" if self.reason else self.severity,
            "success": self.success,
            "observed": self.observed,
            "total": self.total,
            "samples": list(self.samples),
        }


class ValidationFailed(K2Error):
    """The corpus breaks critical expectations; nothing was published.

    `outcomes` are the broken ones, `html` is a page with every result (the Data Docs of a corpus that
    never became an artifact).
    """

    def __init__(self, outcomes: Sequence[Outcome], html: str = "") -> None:
        self.outcomes = tuple(outcomes)
        self.html = html
        noun = "expectation" if len(self.outcomes) == 1 else "expectations"
        head = f"The corpus breaks {len(self.outcomes)} critical {noun}; nothing was published."
        super().__init__("\n".join([head, *(_describe(outcome) for outcome in self.outcomes)]))

    def __reduce__(self) -> tuple[type, tuple[tuple[Outcome, ...], str]]:
        return (type(self), (self.outcomes, self.html))


def _describe(outcome: Outcome) -> str:
    lines = [
        f"- '{outcome.expectation}' ({outcome.type}) on column '{outcome.column}' of shard '{outcome.shard}': "
        f"{outcome.observed} of {outcome.total} rows.",
        *(f"    {sample}" for sample in outcome.samples),
    ]
    if outcome.remedy:
        lines.append(f"    What to do: {outcome.remedy}")
    return "\n".join(lines)
