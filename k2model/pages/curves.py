"""What a lifecycle's run shows over tokens, and the files that go with it.

MLflow's step is the number of tokens seen since random initialisation, so that its charts show all phases one after the
other, loss by domain and scores alike. Phases beside the way to the last one have their name in their metrics'.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copytree
from statistics import fmean
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.result import LifecycleResult
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import Recipe
from k2model.recipe.writing import recipe_as_python
from k2model.registry.page import RECIPE_FILE
from k2model.registry.phase_record import allowed
from k2model.reporting.content import read_metrics, read_undone
from k2model.reporting.figures_training import dynamics_panels, training_figure
from k2model.reporting.report import DATA_DOCS, PAGE
from k2model.reporting.templates import HERE, filled
from k2model.reporting.timeline import Timeline
from k2model.training.log import StepMetrics

if TYPE_CHECKING:
    from mlflow.entities import Metric

POINTS = 200  # of a phase's curve
PREFIX = "over_tokens"


def main_line(recipe: Recipe) -> list[str]:
    """The phases on the way to the last one, that one among them."""
    line, name = [], recipe.phases[-1].name
    rows = {phase.name: phase for phase in recipe.phases}
    while name in rows:
        line.append(name)
        name = rows[name].parent
    return line[::-1]


def curves(
    recipe: Recipe, logs: Mapping[str, Sequence[StepMetrics]], scores: Sequence[ScoreRow], moment: int
) -> "Iterator[Metric]":
    """`over_tokens/loss`, `/loss/<domain>`, `/lr` and `/score/<name>`; `moment` in milliseconds since the epoch."""
    from mlflow.entities import Metric

    line, spans = set(main_line(recipe)), Timeline.of(recipe.phases).spans
    for phase, rows in logs.items():
        begin = PREFIX if phase in line else f"{PREFIX}/{phase}"
        for some in _buckets(rows):
            tokens = spans[phase][0] + some[-1].tokens
            domains = {domain: None for row in some for domain in row.domains}
            values = {"loss": fmean(row.loss for row in some), "lr": some[-1].lr} | {
                f"loss/{domain}": fmean(row.domains[domain] for row in some if domain in row.domains)
                for domain in domains
            }
            yield from (Metric(allowed(f"{begin}/{name}"), value, moment, tokens) for name, value in values.items())
    for row in scores:
        if "@" not in row.score:  # measured at the end of its phase
            begin = PREFIX if row.phase in line else f"{PREFIX}/{row.phase}"
            yield Metric(allowed(f"{begin}/score/{row.score}"), row.value, moment, spans[row.phase][1])


def _buckets(rows: Sequence[StepMetrics]) -> Iterator[Sequence[StepMetrics]]:
    size = max(1, -(-len(rows) // POINTS))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def write_files(store: Store, result: LifecycleResult, report: ArtifactRef, folder: Path) -> None:
    """The report with its data docs and table of scores, plots, and the recipe, as files below `folder`."""
    place = store.fetch(report, lambda path: path in (PAGE, "scores.csv") or path.startswith(DATA_DOCS))
    (folder / "report").mkdir()
    copytree((place / PAGE).parent, folder / "report", dirs_exist_ok=True)
    (folder / "report" / "scores.csv").write_bytes((place / "scores.csv").read_bytes())
    (folder / RECIPE_FILE).write_text(recipe_as_python(result.recipe, RECIPE_FILE, result.recipe.name, None))
    (folder / "plots").mkdir()
    for name, image in _plots(store, result):
        (folder / "plots" / f"{name}.svg").write_text(image, encoding="utf-8")


def _plots(store: Store, result: LifecycleResult) -> Iterator[tuple[str, str]]:
    """The report's figures of training, each a file by itself."""
    logs = {one.phase.name: read_metrics(store, one.checkpoint) for one in result.phases}
    undone = {one.phase.name: read_undone(store, one.checkpoint) for one in result.phases}
    timeline = Timeline.of(result.recipe.phases)
    yield "training", _alone(str(training_figure(logs, undone, timeline)))
    for panel in dynamics_panels(logs, timeline):
        name = "".join(one if one.isalnum() else "_" for one in panel.title.lower())
        yield name, _alone(str(panel.image))


def _alone(image: str) -> str:
    """A figure of the report as a file of its own, with the style that its classes are of."""
    opening, rest = image.split(">", 1)
    style = filled(HERE / "report.css.j2", {}, {})
    return f"{opening} xmlns='http://www.w3.org/2000/svg'><style>{style}svg{{background:var(--ground)}}</style>{rest}"
