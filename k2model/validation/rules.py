"""How suites are written down: rules by name, each with the severity the recipe or the table gives it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from k2model.recipe.expectations import SEVERITIES, Severity, severity_of
from k2model.recipe.schema import SeverityOverride

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation


@dataclass(frozen=True)
class Suite:
    """All rules about one kind of table."""

    name: str
    rules: "tuple[Expectation, ...]"


class Rules:
    """Makes the expectations of one suite.

    Each method takes the expectation's name in `k2model.recipe.expectations` and what a person can do
    about a breach. Values that are null break `not_null` alone.
    """

    def __init__(self, suite: str, overrides: Iterable[SeverityOverride] = ()) -> None:
        self.suite = suite
        self._changed: Mapping[str, Severity] = {one.expectation: Severity(one.severity) for one in overrides}

    def between(self, name: str, remedy: str, column: str, low: float | None = None, high: float | None = None) -> Any:
        return self._make("ExpectColumnValuesToBeBetween", name, remedy, column=column, min_value=low, max_value=high)

    def not_null(self, name: str, remedy: str, column: str) -> Any:
        return self._make("ExpectColumnValuesToNotBeNull", name, remedy, column=column)

    def null(self, name: str, remedy: str, column: str) -> Any:
        return self._make("ExpectColumnValuesToBeNull", name, remedy, column=column)

    def matches(self, name: str, remedy: str, column: str, regex: str) -> Any:
        return self._make("ExpectColumnValuesToMatchRegex", name, remedy, column=column, regex=regex)

    def matches_not(self, name: str, remedy: str, column: str, regex: str) -> Any:
        return self._make("ExpectColumnValuesToNotMatchRegex", name, remedy, column=column, regex=regex)

    def length(self, name: str, remedy: str, column: str, low: int, high: int) -> Any:
        return self._make(
            "ExpectColumnValueLengthsToBeBetween", name, remedy, column=column, min_value=low, max_value=high
        )

    def not_in(self, name: str, remedy: str, column: str, values: list[str]) -> Any:
        return self._make("ExpectColumnValuesToNotBeInSet", name, remedy, column=column, value_set=values)

    def equal(self, name: str, remedy: str, column: str, other: str) -> Any:
        return self._make("ExpectColumnPairValuesToBeEqual", name, remedy, column_A=column, column_B=other)

    def made(self, *rules: "Expectation") -> Suite:
        """The suite. Raises RuntimeError when its rules are not those of the table of severities."""
        there, known = {(rule.meta or {})["name"] for rule in rules}, set(SEVERITIES[self.suite])
        if there != known:
            raise RuntimeError(f"suite '{self.suite}' and its severities differ in {sorted(there ^ known)}")
        return Suite(self.suite, rules)

    def _make(self, kind: str, name: str, remedy: str, **settings: Any) -> Any:
        import great_expectations.expectations as expectations

        severity = severity_of(self.suite, name, self._changed)
        return getattr(expectations, kind)(
            severity="critical" if severity is Severity.STOP else "warning",
            meta={"name": name, "severity": severity.value, "remedy": remedy},
            **settings,
        )
