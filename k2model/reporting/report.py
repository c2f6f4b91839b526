"""The report artifact: reads the content, draws the figures, renders the template.

`attachments/index.html`, with Great Expectations' Data Docs beside it, bears no digest, since it shows timings and
hosts; `scores.csv` does. What is shown is read in `content.py`, drawn in `figures_*.py`, tabulated in `sections_*.py`,
and laid out in `report.html.j2`.
"""

from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

from k2model.artifacts import Identity, Step, Store
from k2model.artifacts.result import LifecycleResult
from k2model.model import count_parameters
from k2model.recipe.fields import without_places
from k2model.registry.gates import gate_results, unpromoted
from k2model.reporting import figures_context, figures_scores, safety, sections_data, sections_run, sections_scores
from k2model.reporting.content import ReportContent, read_content
from k2model.reporting.figures_data import length_panels
from k2model.reporting.figures_training import dynamics_panels, training_figure
from k2model.reporting.kept import kept_lines
from k2model.reporting.lineage import legend, lineage_figure
from k2model.reporting.scores import scores_csv
from k2model.reporting.svg import short_number
from k2model.reporting.templates import HERE, filled, shortened
from k2model.reporting.timeline import Timeline
from k2model.units import readable_seconds, readable_size
from k2model.versions import STEP_VERSIONS

PAGE = "attachments/index.html"
DATA_DOCS = "attachments/data_docs/"


def report_step(store: Store, result: LifecycleResult, gates: Mapping[str, Identity]) -> Step:
    """The artifact `report`: `attachments/index.html` (one self-contained file) and `scores.csv`.

    `gates`: every gate that was passed on the way, by its name in the lifecycle.

    To make it raises the store's errors, naming the file, when an artifact lacks what the report shows.
    """

    def produce(folder: Path) -> dict[str, float]:
        content = read_content(store, result, gates)
        page = folder / PAGE
        page.parent.mkdir()
        page.write_text(render(content), encoding="utf-8")
        docs = store.fetch(result.corpus_valid, lambda path: path.startswith(DATA_DOCS)) / DATA_DOCS
        copytree(docs, folder / DATA_DOCS)
        (folder / "scores.csv").write_text(scores_csv(content.scores, content.clean), encoding="utf-8")
        passed = [gate.passed for gate in gate_results(result.recipe.gates, content.gated)]
        return {"scores": len(content.scores), "gates": len(passed), "gates_passed": sum(passed)}

    inputs = {name.replace("/", "."): ref for name, ref in result.artifacts.items()}
    shown = {
        "recipe": without_places(result.recipe),
        "unknown": result.recipe.unknown,
        # What was found of what they handed on, and of mixtures and drift, bears no digest that is an input here.
        "gates": {name: identity.key for name, identity in gates.items()},
    }
    return Step(Identity("report", STEP_VERSIONS["report"], shown, inputs), produce)


def render(content: ReportContent) -> str:
    """The page as HTML. All text is escaped by the template; only the figures are inserted as they are."""
    filters = {"short": short_number, "seconds": readable_seconds, "size": readable_size, "shortened": shortened}
    return filled(HERE / "report.html.j2", filters, _context(content))


def _context(content: ReportContent) -> dict[str, Any]:
    recipe = content.result.recipe
    phases = [one.phase for one in content.result.phases]
    names = [phase.name for phase in phases]
    timeline = Timeline.of(tuple(phases))
    gates = gate_results(recipe.gates, content.gated)
    compositions = [sections_data.composition(name, content.compositions[name]) for name in names]
    return {
        "recipe": recipe,
        "phases": phases,
        "timeline": timeline,
        "model_parameters": count_parameters(recipe.model),
        "model": sections_run.model_facts(recipe),
        "highlights": sections_scores.highlights(content.scores, phases),
        "clean": content.clean,
        "every_score": sections_scores.every_accuracy(content.scores),
        "gates": sections_scores.gate_lines(gates),
        "warnings": content.warnings,
        "kept": kept_lines(content.curation),
        "unpromoted": unpromoted(recipe.phases, recipe.gates),
        "headline": sections_scores.headline(content.scores, names),
        "losses": sections_scores.losses(content.scores, names),
        "capabilities": figures_scores.capability_panels(content.scores, timeline),
        "loss_panel": figures_scores.loss_panel(content.scores, timeline, _domain_colours()),
        "training_figure": training_figure(content.metrics, content.interventions, timeline),
        "dynamics": dynamics_panels(content.metrics, timeline),
        "undone": sections_run.undone_lines(content.interventions),
        "training": [sections_run.phase_line(phase, content.metrics[phase.name], timeline) for phase in phases],
        "extension": figures_scores.extension_panels(content.scores, phases, recipe.adopted),
        "extension_lines": sections_scores.extension_lines(content.scores, phases, recipe.adopted),
        "effort_lines": sections_scores.effort_lines(content.scores),
        "effort": figures_scores.effort_panels(content.scores),
        "long_context": figures_context.long_context_panels(content.samples, content.scores, recipe),
        "budgets": figures_context.budget_panels(content.samples[names[-1]]),
        "compositions": compositions,
        "domains": [d for d in sections_data.DOMAINS if d in {s["domain"] for c in compositions for s in c["shares"]}],
        "domain_class": sections_data.domain_class,
        "source_lines": sections_data.source_lines(compositions),
        "lengths": length_panels(content.counts, [phase.sequence_length for phase in phases]),
        "ingested": sections_data.ingested_lines(content.ingested),
        "curation": sections_data.curation(content.curation),
        "validation": sections_data.validation(content.validation, content.on_mixtures),
        "samples": {name: sections_scores.pick_samples(content.samples[name]) for name in names},
        "lineage": sections_run.lineage_lines(content),
        "figure": lineage_figure(content.lineage, content.groups),
        "legend": legend(content.groups),
        "timings": sections_run.timings(content),
        "total_seconds": sections_run.total_seconds(content),
        "adopted": content.adopted,
        "provenance": sections_run.provenance_lines(content.records),
        "safety": safety.context(content.safety, recipe, None) if content.safety else None,
    }


def _domain_colours() -> dict[str, str]:
    return {domain: sections_data.domain_class(domain) for domain in sections_data.DOMAINS}
