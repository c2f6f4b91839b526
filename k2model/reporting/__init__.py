"""The report of a lifecycle: what was learned, from what, at which cost, as one HTML file.

`report_step` makes the artifact of a `LifecycleResult`; `summary_table` and `print_summary` are for the
terminal. Numbers are read from artifacts, none is computed anew except differences named by the recipe's
gates. Imports nothing heavy until something is built.
"""

from typing import Any

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
    "ReportError",
    "ScoreRow",
    "gate_results",
    "lifecycle_summary",
    "load_scores",
    "print_summary",
    "report_step",
    "summary_table",
]

_LATER = {"report_step": "k2model.reporting.report", "print_summary": "k2model.reporting.summary"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
