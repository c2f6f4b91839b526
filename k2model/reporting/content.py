"""What the report shows: read from the artifacts of one lifecycle into plain rows.

This is the only place of the report that knows file names and formats of other stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Store, read_json
from k2model.artifacts.result import LifecycleResult
from k2model.curation.funnel import CurationReport, read_curation
from k2model.errors import ArtifactError
from k2model.evals.cells import results_of
from k2model.evals.clean_scores import CleanScore, SeenItems, clean_scores
from k2model.evals.items import ItemResult
from k2model.evals.scores import ScoreRow, load_scores
from k2model.export import read_record
from k2model.ingest.raw import INGEST_FILE, Ingested
from k2model.reporting.kept import WarningLine, gate_warnings
from k2model.reporting.lineage import Groups, Lineage, grouped, reading
from k2model.reporting.lineage.graph import Key, key_of
from k2model.reporting.safety import Tested, gated_rows, tested_phases
from k2model.settings import masked
from k2model.tokens import read_composition
from k2model.tokens.shards import TokenCounts, counts_of
from k2model.training.log import Intervention, StepMetrics, read_interventions, read_log
from k2model.validation.outcome import Recorded, ValidationReport

Clean = dict[tuple[str, str], CleanScore]  # by phase and score


@dataclass(frozen=True)
class ReportContent:
    """`scores` are of all phases, with their overlap, and `clean` without the items that overlap. `metrics`,
    `interventions`, `compositions` and `samples` are by phase, `ingested` by source that is read from files, `records`
    by the artifact's name in the lifecycle, `lineage` of them and of what else they were made from, in `groups`;
    `safety` of the phases that were tested."""

    result: LifecycleResult
    scores: list[ScoreRow]
    clean: Clean
    metrics: dict[str, list[StepMetrics]]
    interventions: dict[str, list[Intervention]]
    compositions: dict[str, dict[str, Any]]
    samples: dict[str, list[ItemResult]]
    ingested: Mapping[str, Ingested]
    curation: CurationReport
    validation: ValidationReport
    warnings: list[WarningLine]
    on_mixtures: Recorded
    counts: TokenCounts
    records: dict[str, dict[str, Any]]
    lineage: Lineage
    groups: Groups
    adopted: list[dict[str, Any]]
    safety: list[Tested]

    @property
    def gated(self) -> list[ScoreRow]:
        """All rows that gates are on."""
        return [*self.scores, *gated_rows(self.safety)]


def read_content(store: Store, result: LifecycleResult, gates: Mapping[str, Identity]) -> ReportContent:
    """Read all of it. Raises the store's errors, naming the file, and EvaluationError for scores of another form."""

    by_phase = {one.phase.name: one for one in result.phases}
    records = read_records(store, result)
    lineage = read_lineage(store, result, records)
    clean = read_clean_scores(store, result)
    return ReportContent(
        result=result,
        scores=scores_with_overlap(store, result, clean),
        clean=clean,
        metrics={name: read_metrics(store, one.checkpoint) for name, one in by_phase.items()},
        interventions={name: read_undone(store, one.checkpoint) for name, one in by_phase.items()},
        compositions={name: read_composition(store, one.sequences) for name, one in by_phase.items()},
        samples={name: results_of(store, one.scores) for name, one in by_phase.items()},
        ingested=_ingested(store, result.artifacts["corpus_raw"]),
        curation=read_curation(store, result.corpus),
        validation=read_json(ValidationReport, store, result.artifacts["corpus_valid"], "validation.json"),
        warnings=gate_warnings(store, gates),
        on_mixtures=read_json(Recorded, store, result.artifacts["corpus_valid"], "attachments/mixtures.json"),
        counts=counts_of(store, result.artifacts["tokens"]),
        records=records,
        lineage=lineage,
        groups=grouped(lineage, reading(store)),
        adopted=read_adopted(store, result),
        safety=tested_phases(store, result.recipe, result.artifacts),
    )


def read_adopted(store: Store, result: LifecycleResult) -> list[dict[str, Any]]:
    """The record (`k2model.export.adoption`) of each model that the recipe adopts, with `origin`, where it is from as
    the recipe says; `location`, where it was read; and the `digest` of its checkpoint."""
    found = []
    for one in result.recipe.adopted:
        ref = result.artifacts[f"{one.name}/checkpoint"]
        found.append({**read_record(store, ref), "origin": masked(one.origin), "digest": ref.digest})
    return found


def scores_with_overlap(store: Store, result: LifecycleResult, clean: Clean) -> list[ScoreRow]:
    """The scores of all phases, each beside the share of its items that the phase had seen in training."""
    rows = load_scores(store, (one.scores for one in result.phases))
    return [replace(row, overlap=_overlap(clean.get((row.phase, row.score)))) for row in rows]


def _overlap(clean: CleanScore | None) -> float | None:
    return None if clean is None or clean.overlap is None else round(clean.overlap, 4)


def read_clean_scores(store: Store, result: LifecycleResult) -> Clean:
    """Every accuracy of every phase without the items that the phase had seen, by phase and score."""
    phases = result.recipe.phases
    seen = SeenItems.read(store, phases, {one.name: result.artifacts[f"{one.name}/items_seen"] for one in phases})
    found: Clean = {}
    for one in result.phases:
        scores = clean_scores(results_of(store, one.scores), seen.at(one.phase.name))
        found |= {(one.phase.name, score): clean for score, clean in scores.items()}
    return found


def read_records(store: Store, result: LifecycleResult) -> dict[str, dict[str, Any]]:
    """The store's record (see `k2model.artifacts.record`) of every artifact, by its name in the lifecycle."""
    return {name: store.record(ref) for name, ref in result.artifacts.items()}


def read_lineage(store: Store, result: LifecycleResult, records: Mapping[str, dict[str, Any]]) -> Lineage:
    """Of all artifacts of a lifecycle and of what these were made from beside it, such as the corpora of batches; what
    of that is gone is told as missing."""
    called = {(ref.kind, ref.digest): name for name, ref in result.artifacts.items()}
    found: dict[Key, dict[str, Any]] = {}
    front = [*records.values()]
    while front:
        found |= {key_of(record): record for record in front}
        sources = {(one["kind"], one["digest"]): one for record in front for one in record["inputs"].values()}
        front = [made for key, one in sources.items() if key not in found and (made := _record_of(store, one))]
    names = Lineage(found).names | called
    return Lineage(found, called=names)


def _record_of(store: Store, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of what an input names; None where it is gone."""
    uri = source["uri"] if "://" in source["uri"] or source["uri"].startswith("/") else f"{store.uri}/{source['uri']}"
    try:
        return store.record(ArtifactRef(source["kind"], uri, source["digest"], uri.rpartition("/")[2]))
    except ArtifactError:
        return None


def read_metrics(store: Store, checkpoint: ArtifactRef) -> list[StepMetrics]:
    """The training log of a phase, a row for every step that no intervention left out."""
    return read_log(store, checkpoint)


def read_undone(store: Store, checkpoint: ArtifactRef) -> list[Intervention]:
    """The interventions of a phase."""
    return read_interventions(store, checkpoint)


def _ingested(store: Store, raw: ArtifactRef) -> Mapping[str, Ingested]:
    """`ingest.json` of the raw corpus; there is none where the project builds every source itself."""
    _, manifest = store.look_up(raw)
    there = any(entry.path == INGEST_FILE for entry in manifest.files)
    return read_json(dict[str, Ingested], store, raw, INGEST_FILE) if there else {}
