"""Runs suites with Great Expectations and turns its results into `Outcome`s.

The context lives in memory: nothing is written, nothing is sent, no progress bars. A suite is
registered once and run on frame after frame, so memory does not grow with their number.
"""

import os
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from k2model.recipe.expectations import Severity
from k2model.validation.outcome import SAMPLES, Outcome
from k2model.validation.rules import Suite

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

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
        if frame.empty:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = self._definition(suite).run(
                batch_parameters={"dataframe": frame}, result_format={"result_format": "COMPLETE"}
            )
        self.result = result
        place = _Place(suite.name, shard, part, first_row)
        outcomes = [_outcome(place, frame, one.to_json_dict()) for one in result.results]
        return sorted(outcomes, key=lambda outcome: (outcome.expectation, outcome.column))

    def _definition(self, suite: Suite) -> Any:
        import great_expectations as gx

        if suite.name not in self._definitions:
            batch = self._source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("whole")
            rules = gx.ExpectationSuite(name=suite.name, expectations=list(suite.rules))
            definition = gx.ValidationDefinition(data=batch, suite=self._context.suites.add(rules), name=suite.name)
            self._definitions[suite.name] = self._context.validation_definitions.add(definition)
        return self._definitions[suite.name]


class _Place:
    """Where a frame comes from."""

    def __init__(self, suite: str, shard: str, part: str, first_row: int) -> None:
        self.suite, self.shard, self.part, self.first_row = suite, shard, part, first_row


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


def _outcome(place: _Place, frame: pd.DataFrame, one: dict[str, Any]) -> Outcome:
    config, result = one["expectation_config"], one["result"]
    if "element_count" not in result:
        raise RuntimeError(f"suite '{place.suite}' on '{place.shard}' could not be evaluated: {one['exception_info']}")
    meta, settings = config["meta"], config["kwargs"]
    rows = sorted(int(row) for row in result["unexpected_index_list"] or ())
    columns = [settings[name] for name in ("column", "column_A", "column_B") if name in settings]
    return Outcome(
        suite=place.suite,
        shard=place.shard,
        expectation=meta["name"],
        type=config["type"],
        column=", ".join(columns),
        severity=Severity(meta["severity"]),
        observed=len(rows),
        total=int(result["element_count"]),
        parts_failed=int(bool(rows)),
        remedy=meta.get("remedy", ""),
        rows=tuple(place.first_row + row for row in rows),
        samples=tuple(_sample(place, frame, row, columns) for row in rows[:SAMPLES]),
    )


def _sample(place: _Place, frame: pd.DataFrame, row: int, columns: list[str]) -> str:
    shown = [name for name in NAMING if name in frame.columns and name not in columns] + columns
    where = f"part {place.part} " if place.part else ""
    cells = ", ".join(f"{name}={_cell(frame.at[row, name])}" for name in shown)
    return f"{where}row {place.first_row + row}: {cells}"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "null"
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= CELL else text[: CELL - 3] + "..."
