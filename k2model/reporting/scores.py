"""Scores as rows, gates as verdicts, and both as a table for the terminal.

Reads `scores.json` of the evaluation artifacts and nothing else. Values are shown as measured; no
score is averaged, weighted or left out here.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from k2model.errors import K2Error
from k2model.recipe.schema import GateConfig
from k2model.registry import GateVerdict
from k2model.registry.gates import CHANCE, judge, unpromoted
from k2model.reporting.names import order_key

if TYPE_CHECKING:
    from rich.table import Table

    from k2model.artifacts import ArtifactRef, Store
    from k2model.artifacts.result import LifecycleResult


class ReportError(K2Error):
    """An artifact that the report or the release needs has not the agreed form."""


@dataclass(frozen=True)
class ScoreRow:
    """One measurement: `value` with its 95% interval over `n` items (accuracy) or documents (loss)."""

    phase: str
    score: str
    value: float
    n: int
    low: float
    high: float
    unit: str
    mean_tokens: float | None = None
    chance: float | None = None
    overlap: float | None = None  # share of the items that a training document overlaps with, see `overlaps`

    @property
    def is_accuracy(self) -> bool:
        return self.unit == "accuracy"


@dataclass(frozen=True)
class GateResult:
    """A gate and its verdict; None when it names a score that was not measured: it has not passed."""

    gate: GateConfig
    verdict: GateVerdict | None

    @property
    def value(self) -> float | None:
        return self.verdict.value if self.verdict else None

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.passed

    @property
    def title(self) -> str:
        return f"{self.gate.score} − {self.gate.minus}" if self.gate.minus else self.gate.score


def read_scores(path: Path) -> list[ScoreRow]:
    """The rows of one `scores.json`. Raises `ReportError` naming file, row and field."""
    known = {f.name for f in fields(ScoreRow)}
    required = known - {"mean_tokens", "chance", "overlap"}
    rows = []
    for number, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        missing = sorted(required - row.keys())
        if missing:
            raise ReportError(
                f"{path}: row {number} lacks {', '.join(missing)} (it has {', '.join(sorted(row))}); "
                "evaluate the phase again, its scores do not have the agreed fields"
            )
        rows.append(ScoreRow(**{name: row[name] for name in known & row.keys()}))
    return rows


def load_scores(store: "Store", refs: Iterable["ArtifactRef"]) -> list[ScoreRow]:
    """All rows of several `scores` artifacts, in the order of the references."""
    return [row for ref in refs for row in read_scores(store.fetch(ref) / "scores.json")]


def gate_results(gates: Sequence[GateConfig], rows: Sequence[ScoreRow]) -> list[GateResult]:
    """Every gate with the registry's verdict on it, in the recipe's order."""
    results = []
    for gate in gates:
        own = {row.score: asdict(row) for row in rows if row.phase == gate.phase}
        measured = gate.score in own and (gate.minus in ("", CHANCE) or gate.minus in own)
        results.append(GateResult(gate, judge(gate.phase, [gate], list(own.values()))[0] if measured else None))
    return results


class Scored(Protocol):
    """A row, or a sample, of a score."""

    @property
    def score(self) -> str: ...


def score_order(rows: Iterable[Scored]) -> list[str]:
    """The distinct score names in reading order."""
    return sorted({row.score for row in rows}, key=order_key)


def scores_csv(rows: Iterable[ScoreRow]) -> str:
    """The rows as CSV with a header, one line a measurement; empty cells for what does not apply."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=[f.name for f in fields(ScoreRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    return out.getvalue()


def summary_table(
    rows: Sequence[ScoreRow], phases: Sequence[str] | None = None, gates: Sequence[GateConfig] = ()
) -> "Table":
    """Scores x phases for the terminal, values only, with the gates' verdicts below them.

    Scores taken before a phase's training (`...@new_theta`) are left to the report. `phases` fixes
    the order of the columns (default: order of first appearance in `rows`).
    """
    from rich.table import Table

    together = Table.grid()
    together.add_row(_score_table(rows, list(phases or dict.fromkeys(row.phase for row in rows))))
    if gates:
        together.add_row(_gate_table(gate_results(gates, rows)))
    return together


def lifecycle_summary(store: "Store", result: "LifecycleResult") -> "Table":
    """`summary_table` of a whole lifecycle, columns in the recipe's order."""
    rows = load_scores(store, (phase.scores for phase in result.phases))
    phases = [phase.phase for phase in result.phases]
    table = summary_table(rows, [phase.name for phase in phases], result.recipe.gates)
    if told := unpromoted(phases, result.recipe.gates):
        table.add_row(told)
    return table


def _score_table(rows: Sequence[ScoreRow], phases: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    values = {(row.phase, row.score): f"{row.value:.2f}" for row in rows}
    table = Table(title="Scores per phase", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("score")
    for phase in phases:
        table.add_column(phase, justify="right")
    group = None
    for score in (name for name in score_order(rows) if "@" not in name):
        if group not in (None, order_key(score)[0]):
            table.add_section()
        group = order_key(score)[0]
        table.add_row(score, *(values.get((phase, score), "") for phase in phases))
    return table


def _gate_table(results: Sequence[GateResult]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table("phase", "gate", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("wanted", justify="right")
    table.add_column("measured", justify="right")
    for result in results:
        colour, mark = ("green", "✓") if result.passed else ("red", "✗")
        shown = "none" if result.value is None else f"{result.value:.2f}"
        wanted = result.gate.wanted
        table.add_row(result.gate.phase, result.title, wanted, f"[{colour}]{mark} {shown}[/]")
    return table
