"""Runs suites with Great Expectations and turns its results into `Outcome`s.

The context lives in memory: nothing is written, nothing is sent, no progress bars.
"""

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from k2model.corpus.validation.outcome import Outcome

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult

SAMPLES = 3
CELL = 80  # characters of a value shown in a sample row
#: Columns that say which row a sample is, shown when the table has them.
NAMING = ("phase", "source", "shard", "id", "first", "last", "column")


@dataclass(frozen=True)
class Page:
    """One suite's results on one table, for the Data Docs."""

    suite: str
    shard: str
    result: "ExpectationSuiteValidationResult"


@dataclass
class Runner:
    """Collects the outcomes of every suite it runs, in order."""

    outcomes: list[Outcome] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Read by Great Expectations when it is imported.
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        self._context = _context()
        self._source = self._context.data_sources.add_pandas("corpus")

    def run(self, suite: "ExpectationSuite", shard: str, frame: pd.DataFrame) -> list[Outcome]:
        """Validate `frame` and remember the result. An empty frame breaks nothing and is skipped.

        Raises `RuntimeError` when a rule could not be evaluated: a mistake in a suite, not in the data.
        """
        import great_expectations as gx

        if frame.empty:
            return []
        name = f"{suite.name}/{shard}"
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        suite.name = name
        definition = gx.ValidationDefinition(data=batch, suite=self._context.suites.add(suite), name=name)
        definition = self._context.validation_definitions.add(definition)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = definition.run(batch_parameters={"dataframe": frame}, result_format={"result_format": "COMPLETE"})
        suite_name = name.split("/", 1)[0]
        outcomes = [_outcome(suite_name, shard, frame, one.to_json_dict()) for one in result.results]
        outcomes.sort(key=lambda outcome: (outcome.expectation, outcome.column))
        self.outcomes += outcomes
        self.pages.append(Page(suite_name, shard, result))
        return outcomes


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


def _outcome(suite: str, shard: str, frame: pd.DataFrame, one: dict[str, Any]) -> Outcome:
    config, result = one["expectation_config"], one["result"]
    if "element_count" not in result:
        raise RuntimeError(f"suite '{suite}' on '{shard}' could not be evaluated: {one['exception_info']}")
    meta, settings = config["meta"], config["kwargs"]
    rows = tuple(sorted(int(row) for row in result["unexpected_index_list"] or ()))
    columns = [settings[name] for name in ("column", "column_A", "column_B") if name in settings]
    return Outcome(
        suite=suite,
        shard=shard,
        expectation=meta["name"],
        type=config["type"],
        column=", ".join(columns),
        severity=str(config["severity"]),
        success=not rows,
        observed=len(rows),
        total=int(result["element_count"]),
        reason=meta.get("reason", ""),
        remedy=meta.get("remedy", ""),
        rows=rows,
        samples=tuple(_sample(frame, row, columns) for row in rows[:SAMPLES]),
    )


def _sample(frame: pd.DataFrame, row: int, columns: list[str]) -> str:
    shown = [name for name in NAMING if name in frame.columns and name not in columns] + columns
    return f"row {row}: " + ", ".join(f"{name}={_cell(frame.at[row, name])}" for name in shown)


def _cell(value: object) -> str:
    if value is None or value != value:
        return "null"
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= CELL else text[: CELL - 3] + "..."
