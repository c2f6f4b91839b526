"""The report of a lifecycle: what was learned, from what, at which cost, as one HTML file.

`LifecycleResult` is what the pipeline hands over; `build_report` makes the artifact; `summary_table`
and `print_summary` are for the terminal. Numbers are read from artifacts, none is computed anew
except differences named by the recipe's gates. Imports nothing heavy until something is built.
"""

from typing import Any

from k2model.reporting.run import LifecycleResult, PhaseResult
from k2model.reporting.scores import (
    GateResult,
    ReportError,
    ScoreRow,
    gate_results,
    lifecycle_summary,
    load_scores,
    summary_table,
)

__all__ = [
    "GateResult",
    "LifecycleResult",
    "PhaseResult",
    "ReportError",
    "ScoreRow",
    "build_report",
    "gate_results",
    "lifecycle_summary",
    "load_scores",
    "print_summary",
    "summary_table",
]

_LATER = {"build_report": "k2model.reporting.report", "print_summary": "k2model.reporting.summary"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
