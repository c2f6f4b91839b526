"""How suites are written down and run: rules by name, each with the severity the recipe or the table gives it.

Great Expectations runs them, and its results become `Outcome`s. Its context lives in memory: nothing is written,
nothing is sent, no progress bars. A suite is registered once and run on frame after frame, so memory does not grow with
their number.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from k2model.recipe.expectations import SEVERITIES, Severity, severity_of
from k2model.recipe.schema import SeverityOverride
from k2model.validation.outcome import SAMPLES, Outcome

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
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


CELL = 80  # characters of a value shown in a sample row
#: Columns that say which row a sample is, shown when the table has them.
NAMING = ("phase", "source", "shard", "part", "id", "first", "last", "column", "feature")


class Runner:
    """Great Expectations with nothing around it; `result` is what it last returned, for a page."""

    def __init__(self) -> None:
        # Read by Great Expectations when it is imported.
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        self._context = _context()
        self._source = self._context.data_sources.add_pandas("frames")
        self._definitions: dict[str, Any] = {}
        self.result: ExpectationSuiteValidationResult | None = None

    def run(
        self, suite: Suite, frame: pd.DataFrame, shard: str = "all", part: str = "", first_row: int = 0
    ) -> list[Outcome]:
        """What `frame` is, by each expectation; an empty frame breaks nothing and gives nothing.

        `part` and `first_row` say where the frame's rows are, for samples and `Outcome.rows`.
        Raises `RuntimeError` when a rule could not be evaluated: a mistake in a suite, not in the data.
        """
        return self.run_together(suite, [Located(frame, shard, part, first_row)])[0]

    def run_together(self, suite: Suite, frames: "Sequence[Located]") -> list[list[Outcome]]:
        """The outcomes of each of several frames, looked at as one: a run costs Great Expectations half a second."""
        together = pd.concat([one.frame for one in frames], ignore_index=True)
        if together.empty:
            return [[] for _ in frames]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = self._definition(suite).run(
                batch_parameters={"dataframe": together}, result_format={"result_format": "COMPLETE"}
            )
        self.result = result
        found = sorted((one.to_json_dict() for one in result.results), key=_name)
        ends = np.cumsum([len(one.frame) for one in frames])
        made: list[list[Outcome]] = [[] for _ in frames]
        for one in found:
            if "element_count" not in one["result"]:
                raise RuntimeError(f"suite '{suite.name}' could not be evaluated: {one['exception_info']}")
            bad = np.sort(np.array(one["result"]["unexpected_index_list"] or (), dtype=np.int64))
            for place, end, outcomes in zip(frames, ends.tolist(), made, strict=True):
                start = end - len(place.frame)
                if len(place.frame):
                    own = bad[np.searchsorted(bad, start) : np.searchsorted(bad, end)] - start
                    outcomes.append(_outcome(suite.name, place, own.tolist(), one["expectation_config"]))
        return made

    def _definition(self, suite: Suite) -> Any:
        import great_expectations as gx

        if suite.name not in self._definitions:
            batch = self._source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("whole")
            rules = gx.ExpectationSuite(name=suite.name, expectations=list(suite.rules))
            definition = gx.ValidationDefinition(data=batch, suite=self._context.suites.add(rules), name=suite.name)
            self._definitions[suite.name] = self._context.validation_definitions.add(definition)
        return self._definitions[suite.name]


@dataclass(frozen=True)
class Located:
    """A frame and where its rows come from. `share`: what it makes up of all that may be looked at together."""

    frame: pd.DataFrame
    shard: str
    part: str = ""
    first_row: int = 0
    share: float = 1.0


def _name(one: Mapping[str, Any]) -> tuple[str, str]:
    config = one["expectation_config"]
    return config["meta"]["name"], ", ".join(_columns(config["kwargs"]))


def _columns(settings: Mapping[str, Any]) -> list[str]:
    return [settings[name] for name in ("column", "column_A", "column_B") if name in settings]


def _context() -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _outcome(suite: str, place: Located, rows: list[int], config: Mapping[str, Any]) -> Outcome:
    """`rows`: the offending ones, ascending, from 0 in the frame."""
    meta, columns = config["meta"], _columns(config["kwargs"])
    return Outcome(
        suite=suite,
        shard=place.shard,
        expectation=meta["name"],
        type=config["type"],
        column=", ".join(columns),
        severity=Severity(meta["severity"]),
        observed=len(rows),
        total=len(place.frame),
        parts_failed=int(bool(rows)),
        remedy=meta.get("remedy", ""),
        rows=tuple(place.first_row + row for row in rows),
        samples=tuple(_sample(place, row, columns) for row in rows[:SAMPLES]),
    )


def _sample(place: Located, row: int, columns: list[str]) -> str:
    frame = place.frame
    shown = [name for name in NAMING if name in frame.columns and name not in columns] + columns
    where = f"part {place.part} " if place.part else ""
    cells = ", ".join(f"{name}={_cell(frame[name].iloc[row])}" for name in shown)
    return f"{where}row {place.first_row + row}: {cells}"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "null"
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= CELL else text[: CELL - 3] + "..."
