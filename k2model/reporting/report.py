"""The report artifact: gathers the facts, draws the figures, renders the template.

`attachments/index.html`, with Great Expectations' Data Docs beside it, bears no digest, since it shows
timings and hosts; `scores.csv` does. Where to look: facts are read in `facts.py`, drawn in
`figures_*.py`, tabulated in `sections_*.py`, and laid out in `report.html.j2`.
"""

from pathlib import Path
from shutil import copytree
from typing import Any

from k2model.artifacts import Identity, Step, Store
from k2model.artifacts.result import LifecycleResult
from k2model.recipe.fields import without_places
from k2model.registry.gates import unpromoted
from k2model.reporting import figures_scores, sections_data, sections_run, sections_scores
from k2model.reporting.facts import Facts, gather
from k2model.reporting.figures_data import length_panels
from k2model.reporting.figures_training import dynamics_panels, training_figure
from k2model.reporting.highlights import highlights
from k2model.reporting.scores import gate_results, scores_csv
from k2model.reporting.svg import short_number
from k2model.reporting.timeline import Timeline
from k2model.units import readable_seconds, readable_size
from k2model.versions import STEP_VERSIONS

PAGE = "attachments/index.html"


def report_step(store: Store, result: LifecycleResult) -> Step:
    """The artifact `report`: `attachments/index.html` (one self-contained file) and `scores.csv`.

    To make it raises `ReportError` when an artifact lacks what the report shows, or the store's errors.
    """

    def produce(folder: Path) -> dict[str, float]:
        facts = gather(store, result)
        page = folder / PAGE
        page.parent.mkdir()
        page.write_text(render(facts), encoding="utf-8")
        copytree(store.fetch(result.corpus_valid) / "attachments" / "data_docs", page.parent / "data_docs")
        (folder / "scores.csv").write_text(scores_csv(facts.rows), encoding="utf-8")
        gates = gate_results(result.recipe.gates, facts.rows)
        return {
            "scores": len(facts.rows),
            "gates": len(gates),
            "gates_passed": sum(gate.passed for gate in gates),
        }

    inputs = {name.replace("/", "."): ref for name, ref in result.artifacts.items()}
    shown = {
        "recipe": without_places(result.recipe),
        "unknown": result.recipe.unknown,
        # What it found on mixtures and drift is in attachments, which bear no digest.
        "checked": result.corpus_valid.identity,
    }
    return Step(Identity("report", STEP_VERSIONS["report"], shown, inputs), produce)


def render(facts: Facts) -> str:
    """The page as HTML. All text is escaped by the template; only the figures are inserted as they are."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        short=short_number,
        seconds=readable_seconds,
        size=readable_size,
    )
    return environment.get_template("report.html.j2").render(_context(facts))


def _context(facts: Facts) -> dict[str, Any]:
    recipe = facts.result.recipe
    phases = [one.phase for one in facts.result.phases]
    names = [phase.name for phase in phases]
    timeline = Timeline.of(tuple(phases))
    gates = gate_results(recipe.gates, facts.rows)
    compositions = [sections_data.composition(name, facts.compositions[name]) for name in names]
    return {
        "recipe": recipe,
        "phases": phases,
        "timeline": timeline,
        "model_parameters": sections_run.parameters(recipe),
        "model": sections_run.model_facts(recipe),
        "highlights": highlights(facts.rows, phases),
        "gates": sections_scores.gate_lines(gates),
        "unpromoted": unpromoted(recipe.phases, recipe.gates),
        "headline": sections_scores.headline(facts.rows, names),
        "losses": sections_scores.losses(facts.rows, names),
        "capabilities": figures_scores.capability_panels(facts.rows, timeline),
        "loss_panel": figures_scores.loss_panel(facts.rows, timeline, _domain_colours()),
        "training_figure": training_figure(facts.metrics, facts.interventions, timeline),
        "dynamics": dynamics_panels(facts.metrics, timeline, _domain_colours()),
        "undone": sections_run.undone_lines(facts.interventions),
        "training": [sections_run.phase_line(phase, facts.metrics[phase.name], timeline) for phase in phases],
        "extension": figures_scores.extension_panels(facts.rows, phases),
        "extension_lines": sections_scores.extension_lines(facts.rows, phases),
        "effort_lines": sections_scores.effort_lines(facts.rows),
        "effort": figures_scores.effort_panels(facts.rows),
        "compositions": compositions,
        "domains": [d for d in sections_data.DOMAINS if d in {s.domain for c in compositions for s in c.shares}],
        "domain_class": sections_data.domain_class,
        "source_lines": sections_data.source_lines(compositions),
        "lengths": length_panels(facts.counts, [phase.sequence_length for phase in phases], _domain_colours()),
        "ingested": sections_data.ingested_lines(facts.ingested),
        "curation": sections_data.curation(facts.curation),
        "validation": sections_data.validation(facts.validation, facts.on_mixtures),
        "samples": {name: sections_scores.pick_samples(facts.samples[name]) for name in names},
        "lineage": sections_run.lineage_lines(facts),
        "timings": sections_run.timings(facts),
        "total_seconds": sections_run.total_seconds(facts),
        "provenance": sections_run.provenance_lines(facts.records),
    }


def _domain_colours() -> dict[str, str]:
    return {domain: sections_data.domain_class(domain) for domain in sections_data.DOMAINS}
