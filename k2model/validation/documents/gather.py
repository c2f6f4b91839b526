"""What all parts of a gate found, as one: the rules about a whole corpus, its statistics, and the reports.

Texts are not read again. What a part found is small (`k2model.validation.gate`), and of each document there
is a narrow row of facts for what only shows over the whole corpus.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k2model.recipe.expectations import Severity
from k2model.recipe.schema import MixtureEntry
from k2model.validation import Outcome
from k2model.validation.documents import suites, tables
from k2model.validation.documents.counts import PartCounts, Tally
from k2model.validation.documents.group import facts_path
from k2model.validation.documents.statistics import Statistics, corpus_statistics
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import drift
from k2model.validation.gate import Findings, add_up
from k2model.validation.render import deck, write_data_docs

Mixtures = Mapping[str, Sequence[MixtureEntry]]
Tallies = Mapping[str, Tally]
ON_PHASES = ("mixtures", "drift")  # what these find is no property of the corpus alone


def gather_raw(told: Path, groups: Sequence[str], bounds: Bounds) -> Findings:
    """Everything about a raw corpus, from what its groups left below folder `told`."""
    return _of_parts(told, groups, bounds, "raw corpus")[0]


def gather_corpus(
    told: Path,
    groups: Sequence[str],
    target: Path,
    bounds: Bounds,
    mixtures: Mixtures,
    phase_tokens: Mapping[str, int],
    previous: Mapping[str, Any] | None,
) -> dict[str, float]:
    """Write what is there once for a whole corpus into `target`: statistics and reports. Returns counts.

    `told`: a folder with what the groups left, and the items. `previous` is the `statistics.json` of the version to
    compare with. Raises `ValidationFailed` when an expectation of severity `stop` is not met.
    """
    findings, sources = _of_parts(told, groups, bounds, "corpus")
    counts = {stem: tally.counts for stem, tally in sources.items()}
    statistics = _statistics([facts_path(told, name) for name in groups], target, counts, bounds.config.workers)
    findings.check(suites.identifiers_suite(bounds), tables.identifier_frame(statistics))
    findings.check(suites.heldout_suite(bounds), tables.heldout_frame(statistics))
    findings.check(suites.items_suite(bounds), tables.item_frame(told / "items"))
    findings.check(suites.sources_suite(bounds), tables.source_frame(sources))
    findings.check(suites.mixtures_suite(bounds), tables.mixture_frame(mixtures, phase_tokens, counts))
    moved = drift(statistics, previous) if previous else []
    findings.check(suites.drift_suite(bounds), tables.drift_frame(moved))
    findings.raise_if_broken("corpus")
    _write_reports(target, findings, sources, statistics)
    return _stats(findings.outcomes, sources)


def _of_parts(told: Path, groups: Sequence[str], bounds: Bounds, what: str) -> tuple[Findings, Tallies]:
    """What was found in single files, and the tally of each source in the order of the files."""
    schema: dict[tuple[str, ...], Mapping[str, str]] = {}
    sources: dict[str, Tally] = {}

    def add(part: Mapping[str, Any]) -> None:
        for row in part["schema"]:
            schema.setdefault((row["shard"], row["column"], row["type"], row["expected"]), row)
        for stem, tally in part["sources"].items():
            sources[stem] = sources.get(stem, Tally()) + Tally.from_json(tally)

    findings = Findings()
    outcomes, pages = add_up(told, groups, add)
    findings.check(suites.schema_suite(bounds), tables.schema_frame(schema.values()))
    findings.raise_if_broken(what)  # the other suites would look for columns that are not there
    findings.add_parts(outcomes, pages)
    return findings, sources


def _statistics(facts: Sequence[Path], folder: Path, counts: Mapping[str, PartCounts], threads: int) -> Statistics:
    with tempfile.TemporaryDirectory(dir=folder) as spill:
        return corpus_statistics(facts, Path(spill), counts, threads)


def _write_reports(target: Path, findings: Findings, sources: Tallies, statistics: Statistics) -> None:
    attachments = target / "attachments"
    attachments.mkdir(exist_ok=True)
    (attachments / "deck.html").write_text(deck(findings.pages, findings.outcomes, "corpus"), encoding="utf-8")
    write_data_docs(attachments / "data_docs", findings.pages, findings.outcomes, "corpus")
    on_phases = [outcome.record() for outcome in findings.outcomes if outcome.suite in ON_PHASES]
    _write_json(attachments / "mixtures.json", {"expectations": on_phases})
    _write_json(target / "statistics.json", statistics)
    published = {stem: {"read": one.read, "published": one.read - one.quarantined} for stem, one in sources.items()}
    report = {
        "documents": published,
        "quarantine": {stem: dict(one.reasons) for stem, one in sources.items() if one.reasons},
        "expectations": [outcome.record() for outcome in findings.outcomes if outcome.suite not in ON_PHASES],
    }
    _write_json(target / "validation.json", report)


def _stats(outcomes: Sequence[Outcome], sources: Tallies) -> dict[str, float]:
    total = sum(sources.values(), Tally())
    return {
        "sources": float(len(sources)),
        "parts": float(total.files),
        "documents": float(total.read - total.quarantined),
        "quarantined": float(total.quarantined),
        "expectations": float(len(outcomes)),
        "warnings": float(sum(not one.success and one.severity is Severity.WARN for one in outcomes)),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
