"""What a finished lifecycle says on the terminal: scores and gates as a table, and where everything is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from k2model.artifacts import Identity, Store
from k2model.artifacts.result import LifecycleResult
from k2model.curation.funnel import read_curation
from k2model.errors import visible
from k2model.evals.scores import ScoreRow, load_scores
from k2model.recipe.schema import GateConfig
from k2model.registry import Registration
from k2model.registry.gates import GateResult, gate_results, unpromoted
from k2model.reporting.kept import gate_warnings, kept_lines
from k2model.reporting.report import PAGE
from k2model.reporting.safety import gated_rows, tested_phases
from k2model.reporting.scores import parse, score_order
from k2model.reporting.terminal import safe_console
from k2model.settings import masked
from k2model.units import readable_size

if TYPE_CHECKING:
    from rich.table import Table


def print_summary(
    store: Store,
    tracking_uri: str,
    result: LifecycleResult,
    registrations: Sequence[Registration],
    gates: Mapping[str, Identity],
) -> str:
    """Print what was kept of each source, what `gates` warned of and the table of scores.

    Returns the places of report, release and tracking store, a line each, and what has become of the last phase, which
    is the last of `registrations`.
    """
    out = safe_console()
    out.print(data_summary(store, result, gates))
    out.print(lifecycle_summary(store, result))
    lines = [
        f"report    {store.fetch(result.artifacts['report']) / PAGE}",
        f"release   {store.fetch(result.artifacts['release'])}",
        f"tracking  {masked(tracking_uri)}",
    ]
    if registrations:
        last = registrations[-1]
        lines.append(f"promotion {last.promotion} ({last.model_name}, version {last.version})")
    return "\n".join(lines)


def data_summary(store: Store, result: LifecycleResult, gates: Mapping[str, Identity]) -> "Table":
    """Bytes read and kept of each source, the one that lost the most of itself first, and below it all warnings."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Training text per source", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("source")
    for column in ("read", "kept", "share"):
        table.add_column(column, justify="right")
    table.add_column("most lost to")
    for line in kept_lines(read_curation(store, result.corpus)):
        style = "yellow" if line.share < 0.5 else ""
        sizes = readable_size(line.read), readable_size(line.kept), f"{line.share:.1%}"
        table.add_row(visible(line.source), *sizes, visible(line.lost_to), style=style)
    together = Table.grid()
    together.add_row(table)
    for warning in gate_warnings(store, gates):
        together.add_row(Text.assemble(("!", "yellow"), f" {visible(warning.told)}\n  {visible(warning.remedy)}"))
    return together


def lifecycle_summary(store: Store, result: LifecycleResult) -> "Table":
    """`summary_table` of a whole lifecycle, columns in the recipe's order."""
    rows = load_scores(store, (phase.scores for phase in result.phases))
    phases = [phase.phase for phase in result.phases]
    safety = gated_rows(tested_phases(store, result.recipe, result.artifacts))
    headlines = [row for row in safety if row.score.count("/") == 1]
    table = summary_table([*rows, *headlines], [phase.name for phase in phases], result.recipe.gates, safety)
    if told := unpromoted(phases, result.recipe.gates):
        table.add_row(told)
    return table


def summary_table(
    rows: Sequence[ScoreRow], phases: Sequence[str] | None = None, gates: Sequence[GateConfig] = (),
    also: Sequence[ScoreRow] = (),
) -> "Table":  # fmt: skip
    """Scores x phases for the terminal, values only, with the results of `gates` below them, which are on these scores
    or on those of `also`.

    Scores taken before a phase's training (`...@new_theta`) are left to the report. `phases` fixes
    the order of the columns (default: order of first appearance in `rows`).
    """
    from rich.table import Table

    together = Table.grid()
    together.add_row(_score_table(rows, list(phases or dict.fromkeys(row.phase for row in rows))))
    if gates:
        together.add_row(_gate_table(gate_results(gates, [*rows, *also])))
    return together


def _score_table(rows: Sequence[ScoreRow], phases: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    values = {(row.phase, row.score): f"{row.value:.2f}" for row in rows}
    table = Table(title="Scores per phase", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("score")
    for phase in phases:
        table.add_column(phase, justify="right")
    before = None
    for score, group in score_order(row for row in rows if "@" not in row.score).items():
        title = parse(score, group).group
        if before not in (None, title):
            table.add_section()
        before = title
        table.add_row(score, *(values.get((phase, score), "") for phase in phases))
    return table


def _gate_table(results: Iterable[GateResult]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("phase", "gate", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("wanted", justify="right")
    table.add_column("measured", justify="right")
    for result in results:
        colour, mark = ("green", "✓") if result.passed else ("red", "✗")
        shown = "none" if result.value is None else f"{result.value:.2f}"
        wanted = result.gate.wanted
        table.add_row(result.gate.phase, result.title, wanted, Text(f"{mark} {shown}", colour))
    return table
