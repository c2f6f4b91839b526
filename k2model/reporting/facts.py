"""Everything the report shows, read from the artifacts of one lifecycle into plain rows.

This is the only place of the report that knows file names and formats of other stages. A file that
an artifact must have and has not is an error that names it; the optional parts of a file (a rejected
document, a failed expectation) may be empty.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2model.artifacts import Store
from k2model.artifacts.result import LifecycleResult
from k2model.evals.scores import ScoreRow, load_scores
from k2model.reporting.overlaps import with_overlap
from k2model.reporting.scores import ReportError
from k2model.training.log import METRICS, Intervention, StepMetrics, parse_row, read_interventions


@dataclass(frozen=True)
class Sample:
    """One evaluated item: what was asked, what the model wrote, whether it was right."""

    score: str
    prompt: str
    generation: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Facts:
    """`metrics`, `interventions`, `compositions` and `samples` are by phase, `ingested` by source that is read from
    files."""

    result: LifecycleResult
    rows: list[ScoreRow]
    metrics: dict[str, list[StepMetrics]]
    interventions: dict[str, list[Intervention]]
    compositions: dict[str, dict[str, Any]]
    samples: dict[str, list[Sample]]
    ingested: dict[str, Any]
    curation: dict[str, Any]
    validation: dict[str, Any]
    on_mixtures: dict[str, Any]
    counts: dict[str, Any]
    records: dict[str, dict[str, Any]]


def _is_account(path: str) -> bool:
    """Whether a file tells of the data or the model rather than holding it."""
    return not path.endswith((".parquet", ".arrow", ".safetensors"))


def gather(store: Store, result: LifecycleResult) -> Facts:
    """Read all of it. Raises `ReportError` (what is missing where) or the store's errors."""
    folders = {name: store.fetch(ref, _is_account) for name, ref in result.artifacts.items()}
    rows = load_scores(store, (one.scores for one in result.phases))
    metrics, interventions, compositions, samples = {}, {}, {}, {}
    for phase in (one.phase.name for one in result.phases):
        metrics[phase] = read_metrics(folders[f"{phase}/checkpoint"] / METRICS)
        interventions[phase] = read_undone(folders[f"{phase}/checkpoint"])
        compositions[phase] = read_json(folders[f"{phase}/sequences"] / "composition.json")
        samples[phase] = read_samples(folders[f"{phase}/scores"] / "attachments" / "samples.jsonl")
    curation = read_json(folders["corpus"] / "curation.json")
    ingested = folders["corpus_raw"] / "ingest.json"  # there is none where the project builds every source itself
    return Facts(
        result=result,
        rows=with_overlap(rows, curation),
        metrics=metrics,
        interventions=interventions,
        compositions=compositions,
        samples=samples,
        ingested=read_json(ingested) if ingested.is_file() else {},
        curation=curation,
        validation=read_json(folders["corpus_valid"] / "validation.json"),
        on_mixtures=read_json(folders["corpus_valid"] / "attachments" / "mixtures.json"),
        counts=read_json(folders["tokens"] / "counts.json"),
        records=read_records(store, result),
    )


def read_records(store: Store, result: LifecycleResult) -> dict[str, dict[str, Any]]:
    """The store's record (see `k2model.artifacts.record`) of every artifact, by its name in the lifecycle."""
    ledgers = {ref.kind: {r["identity"]: r for r in store.records(ref.kind)} for _, ref in result.artifacts.items()}
    records = {}
    for name, ref in result.artifacts.items():
        if ref.identity not in ledgers[ref.kind]:
            raise ReportError(
                f"the ledger of {store.uri} has no record of {ref.name} ({name}); "
                "was its folder _ledger removed? Delete the artifact and run again"
            )
        records[name] = ledgers[ref.kind][ref.identity]
    return records


def read_json(path: Path) -> Any:
    return json.loads(_read(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON object per line."""
    return [json.loads(line) for line in _read(path).splitlines() if line.strip()]


def read_metrics(path: Path) -> list[StepMetrics]:
    """The training log, a row for every step that no intervention left out."""
    return [parse_row(line) for line in _read(path).splitlines() if line.strip()]


def read_undone(checkpoint: Path) -> list[Intervention]:
    """The interventions of a phase, from the folder of its checkpoint artifact."""
    return read_interventions(_read(checkpoint / "final" / "state.json"))


def read_samples(path: Path) -> list[Sample]:
    return [
        Sample(
            score=str(row["score"]),
            prompt=str(row["prompt"]),
            generation=str(row["generation"]),
            answer=str(row.get("answer", "")),
            right=bool(row["verdict"]),
        )
        for row in read_lines(path)
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ReportError(
            f"{path} is missing: the step '{path.parent.parent.name}' did not write what the report needs; "
            "make that artifact again"
        ) from error
