"""A corpus from the outcomes of its parts: parts in parallel, then the rules about the whole.

Parts go to other processes only when there is enough to do: each loads Great Expectations first, which
takes seconds. The order of outcomes is that of the parts, whoever finished first.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from k2model.artifacts.parts import map_in_processes
from k2model.corpus.documents import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.corpus.validation import suites, tables
from k2model.corpus.validation.counts import PartCounts
from k2model.corpus.validation.drift import drift
from k2model.corpus.validation.part import PartOutcome, parts_in, read_schema, validate_parts
from k2model.corpus.validation.quarantine import link
from k2model.corpus.validation.statistics import Statistics, corpus_statistics
from k2model.corpus.validation.suites import Bounds
from k2model.errors import K2Error
from k2model.recipe.expectations import Severity
from k2model.recipe.schema import MixtureEntry
from k2model.validation import Outcome
from k2model.validation.findings import Findings
from k2model.validation.render import deck, write_data_docs

Mixtures = Mapping[str, Sequence[MixtureEntry]]
#: Uncompressed bytes that pay for one more process.
BYTES_PER_WORKER = 200_000_000
GROUPS_PER_WORKER = 4  # of parts, so that workers end at about the same time
ON_PHASES = ("mixtures", "drift")  # what these find is no property of the corpus alone


def validate_corpus(
    source: Path,
    target: Path,
    bounds: Bounds,
    mixtures: Mixtures,
    phase_tokens: Mapping[str, int],
    previous: Mapping[str, Any] | None,
) -> dict[str, float]:
    """See `validate_folder`."""
    target.mkdir(exist_ok=True)
    findings = Findings()
    try:
        parts = _check_parts(findings, source, target, bounds)
        counts = _by_stem(parts)
        statistics = _statistics(target, counts, bounds.config.workers)
        _check_whole(findings, target, bounds, parts, statistics)
        findings.check(suites.mixtures_suite(bounds), tables.mixture_frame(mixtures, phase_tokens, counts))
        moved = drift(statistics, previous) if previous else []
        findings.check(suites.drift_suite(bounds), tables.drift_frame(moved))
        findings.raise_if_broken("corpus")
    except BaseException:
        for path in target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    _write_reports(target, findings, parts, statistics)
    return _stats(findings.outcomes, parts)


def raw_findings(folder: Path, bounds: Bounds) -> Findings:
    """Everything about the training parts of a raw corpus."""
    findings = Findings()
    _check_parts(findings, folder, None, bounds, "raw")
    return findings


def _check_parts(
    findings: Findings, source: Path, target: Path | None, bounds: Bounds, kind: str = "documents"
) -> list[PartOutcome]:
    """Outcomes of all training parts, by source; what is not a training part is linked into `target`."""
    files = parts_in(source, "train")
    if not files:
        raise K2Error(
            f"{source / 'train'} holds no <source>/<part>.parquet: this is not a corpus, or its build was cut short"
        )
    rows = []
    for path in [*sorted((source / "heldout").glob("*/*.parquet")), *sorted((source / "items").glob("*.parquet"))]:
        name = path.relative_to(source).with_suffix("").as_posix()
        expected = ITEM_SCHEMA if name.startswith("items/") else DOCUMENT_SCHEMA
        rows += list(tables.schema_rows(name, read_schema(path), expected))
        if target is not None:
            link(path, target / path.relative_to(source))
    workers = _workers([file.path for file in files], bounds.config.workers)
    several = partial(validate_parts, bounds=bounds, target=target, kind=kind)
    size = len(files) if workers == 1 else -(-len(files) // (GROUPS_PER_WORKER * workers))
    groups = [files[start : start + size] for start in range(0, len(files), size)]
    parts = [part for found in map_in_processes(several, groups, workers) for part in found]
    rows += [row for part in parts for row in part.schema]
    findings.check(suites.schema_suite(bounds), tables.schema_frame(rows))
    findings.raise_if_broken("corpus")  # the other suites would look for columns that are not there
    outcomes = [outcome for part in parts for outcome in part.outcomes]
    findings.add_parts(outcomes, [part.page for part in parts if part.page is not None])
    return parts


def _workers(paths: Sequence[Path], most: int) -> int:
    size = 0
    for path in paths:
        read_schema(path)  # names a file that is not Parquet
        metadata = pq.read_metadata(path)
        size += sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return max(1, min(most, size // BYTES_PER_WORKER))


def _check_whole(
    findings: Findings, folder: Path, bounds: Bounds, parts: Sequence[PartOutcome], statistics: Statistics
) -> None:
    read = _summed(parts, "read")
    findings.check(suites.identifiers_suite(bounds), tables.identifier_frame(statistics))
    findings.check(suites.heldout_suite(bounds), tables.heldout_frame(statistics))
    findings.check(suites.items_suite(bounds), tables.item_frame(folder / "items"))
    findings.check(suites.sources_suite(bounds), tables.source_frame(read, _summed(parts, "quarantined")))


def _statistics(folder: Path, counts: Mapping[str, PartCounts], threads: int) -> Statistics:
    with tempfile.TemporaryDirectory(dir=folder) as spill:
        return corpus_statistics(folder, Path(spill), counts, threads)


def _by_stem(parts: Sequence[PartOutcome]) -> dict[str, PartCounts]:
    counts: dict[str, PartCounts] = {}
    for part in parts:
        counts[part.stem] = counts.get(part.stem, PartCounts()) + part.counts
    return counts


def _summed(parts: Sequence[PartOutcome], name: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for part in parts:
        totals[part.stem] = totals.get(part.stem, 0) + int(getattr(part, name))
    return totals


def _write_reports(target: Path, findings: Findings, parts: Sequence[PartOutcome], statistics: Statistics) -> None:
    attachments = target / "attachments"
    attachments.mkdir()
    (attachments / "deck.html").write_text(deck(findings.pages, findings.outcomes, "corpus"), encoding="utf-8")
    write_data_docs(attachments / "data_docs", findings.pages, findings.outcomes, "corpus")
    on_phases = [outcome.record() for outcome in findings.outcomes if outcome.suite in ON_PHASES]
    _write_json(attachments / "mixtures.json", {"expectations": on_phases})
    _write_json(target / "statistics.json", statistics)
    read, quarantined = _summed(parts, "read"), _summed(parts, "quarantined")
    reasons: dict[str, dict[str, int]] = {}
    for part in parts:
        for name, count in part.reasons.items():
            of_source = reasons.setdefault(part.stem, {})
            of_source[name] = of_source.get(name, 0) + count
    report = {
        "documents": {stem: {"read": n, "published": n - quarantined[stem]} for stem, n in read.items()},
        "quarantine": {stem: dict(sorted(counts.items())) for stem, counts in reasons.items()},
        "expectations": [outcome.record() for outcome in findings.outcomes if outcome.suite not in ON_PHASES],
    }
    _write_json(target / "validation.json", report)


def _stats(outcomes: Sequence[Outcome], parts: Sequence[PartOutcome]) -> dict[str, float]:
    read, quarantined = sum(part.read for part in parts), sum(part.quarantined for part in parts)
    return {
        "sources": float(len({part.stem for part in parts})),
        "parts": float(len(parts)),
        "documents": float(read - quarantined),
        "quarantined": float(quarantined),
        "expectations": float(len(outcomes)),
        "warnings": float(sum(not one.success and one.severity is Severity.WARN for one in outcomes)),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
