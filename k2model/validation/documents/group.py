"""A gate on a corpus: a group of files is looked at, and what all groups found is gathered into one.

Of a group's files those of training are looked into; held-out files and evaluation items need only have their columns,
and pass unchanged. What concerns two groups is found when they are gathered, and no text is read again for it: a group
leaves what it found, and of each published document a narrow summary row, about 60 bytes. There a text is known by its
MD5, which only has to tell equal from different; nobody gains by forging one.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.artifacts import Part
from k2model.artifacts.entry import ATTACHMENTS
from k2model.documents.counts import Counts
from k2model.documents.schema import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.documents.tables import rows_of, selected
from k2model.errors import K2Error
from k2model.ingest.part import QUARANTINE_SCHEMA
from k2model.recipe.schema import MixtureEntry
from k2model.validation.documents import suites, tables
from k2model.validation.documents.counts import total
from k2model.validation.documents.part import AS_READ, as_expected, frames_of, link, look_at_files, read_schema
from k2model.validation.documents.statistics import SUMMARY_SCHEMA, Statistics, corpus_statistics
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import drift, schema_rows
from k2model.validation.gate import Findings, Found, LookedAt, Sized, files_of, group_files
from k2model.validation.render import deck, write_data_docs

READ = selected(AS_READ, "id", "domain", "licence", "text", "duplicates")
SUMMARIES = f"{ATTACHMENTS}/summaries"


def summaries_path(folder: Path, part: str) -> Path:
    """Where the summaries of a gate's part lie."""
    return folder / SUMMARIES / f"{part}.parquet"


def write_summaries(files: Iterable[Path], path: Path) -> None:
    """A row of `SUMMARY_SCHEMA` for each document of files `<split>/<stem>/<part>.parquet`, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, SUMMARY_SCHEMA, compression="zstd") as writer:
        for file in files:
            for table in frames_of(file, READ):
                writer.write_table(_summaries(table, file))


def _summaries(table: pa.Table, file: Path) -> pa.Table:
    texts = table["text"].combine_chunks()
    named = zip(("split", "stem", "part"), file.with_suffix("").parts[-3:], strict=True)
    place = {name: pa.repeat(value, len(table)) for name, value in named}
    octets = texts.cast(pa.binary()).to_pylist()
    digests = (None if one is None else hashlib.md5(one, usedforsecurity=False).digest() for one in octets)
    measured = {
        "n": pc.utf8_length(texts),
        "bytes": pc.binary_length(texts),
        "digest": pa.array(digests, pa.binary(16)),
    }
    kept = {name: table[name] for name in ("id", "domain", "licence", "duplicates")}
    return pa.table({**place, **kept, **measured}).select(SUMMARY_SCHEMA.names).cast(SUMMARY_SCHEMA)


#: Of the files of each split; what is set aside of a raw corpus is counted, in a curated one it is another table.
COLUMNS = {
    "train": DOCUMENT_SCHEMA, "heldout": DOCUMENT_SCHEMA, "items": ITEM_SCHEMA, "quarantine": QUARANTINE_SCHEMA,
}  # fmt: skip
DEPTH = {"train": 3, "heldout": 3, "items": 2}
RAW_DEPTH = {**DEPTH, "quarantine": 3}
COMPRESSION = 3  # bytes of text that one byte of Parquet holds, about


def corpus_groups(files: Iterable[Sized], where: str, part_bytes: int, raw: bool = False) -> list[Part]:
    """The parts of a gate on the corpus `where` that holds `files`. Raises K2Error when it has nothing to train on."""
    sizes = {PurePosixPath(path): size for path, size in files if path.endswith(".parquet")}
    depth = RAW_DEPTH if raw else DEPTH
    own = sorted(path for path in sizes if len(path.parts) == depth.get(path.parts[0], 0))
    if not any(path.parts[0] == "train" for path in own):
        raise K2Error(
            f"{where}/train holds no <source>/<part>.parquet: this is not a corpus, or its build was cut short"
        )
    return group_files([(str(path), COMPRESSION * sizes[path]) for path in own], part_bytes)


def look_at(source: Path, group: Part, target: Path, bounds: Bounds, kind: str) -> dict[str, Any]:
    """Look at a group of files of the corpus in folder `source`; what is found is written below `target`.

    `kind` is the suite: `raw`, or `documents` of a curated corpus, of which also what may be trained on and what is set
    aside is written. Returns counts.
    """
    publishes = kind == "documents"
    columns: list[dict[str, str]] = []
    training = []
    for path in map(PurePosixPath, files_of(group)):
        if path.parts[0] == "train":
            training.append(source / path)
            continue
        columns += schema_rows(str(path.with_suffix("")), read_schema(source / path), COLUMNS[path.parts[0]])
        if publishes:
            link(source / path, target / path)
    files = look_at_files(training, bounds, target if publishes else None, kind)
    rows = [] if publishes else [row_counts(source, path) for path in files_of(group) if not path.startswith("items/")]
    found = Found.of([*files, *rows], [*columns, *(row for file in files for row in file.columns)])
    found.write(target, group.name)
    # Of a file with other columns there are no summaries, and nothing of the corpus will be published.
    if publishes and as_expected(found.columns):
        documents = [target / path for path in files_of(group) if not path.startswith("items/")]
        write_summaries(documents, summaries_path(target, group.name))
    summed = total(found.counts)
    return {"documents": summed["read"], "quarantined": summed["quarantined"]}


def row_counts(source: Path, path: str) -> LookedAt:
    """Counts `rows/<split>/<part>` of a file of the raw corpus in folder `source`, by its own directory."""
    split, stem, part = PurePosixPath(path).with_suffix("").parts
    counts = Counts({f"rows/{split}/{part}": rows_of(source / path)})
    return LookedAt(source / path, stem, counts=counts)


Mixtures = Mapping[str, Sequence[MixtureEntry]]
ON_PHASES = ("mixtures", "drift")  # what these find is no property of the corpus alone


def gather_corpus(
    parts_folder: Path,
    groups: Sequence[str],
    target: Path,
    bounds: Bounds,
    mixtures: Mixtures,
    phase_tokens: Mapping[str, int],
    previous: Mapping[str, Any] | None,
) -> dict[str, float]:
    """Write what is there once for a whole corpus into `target`: statistics and reports. Returns counts.

    `parts_folder`: with what the groups left, and the items. `previous` is the `statistics.json` of the version to
    compare with. Raises `ValidationFailed` when an expectation of severity `stop` is not met.
    """
    findings, counts = gather_files(parts_folder, groups, bounds, "corpus")
    with tempfile.TemporaryDirectory(dir=target) as spill:
        summaries = [summaries_path(parts_folder, name) for name in groups]
        statistics = corpus_statistics(summaries, Path(spill), counts, bounds.config.workers)
    findings.check(suites.identifiers_suite(bounds), tables.identifier_frame(statistics))
    findings.check(suites.heldout_suite(bounds), tables.heldout_frame(statistics))
    findings.check(suites.items_suite(bounds), tables.item_frame(parts_folder / "items"))
    findings.check(suites.sources_suite(bounds), tables.source_frame(counts))
    findings.check(suites.mixtures_suite(bounds), tables.mixture_frame(mixtures, phase_tokens, counts))
    moved = drift(statistics, previous) if previous else []
    findings.check(suites.drift_suite(bounds), pd.DataFrame(moved))
    findings.raise_if_broken("corpus")
    _write_reports(target, findings, counts, statistics)
    summed = total(counts)
    return {
        "sources": len(counts),
        "parts": summed["files"],
        "documents": summed["read"] - summed["quarantined"],
        "quarantined": summed["quarantined"],
        **findings.stats(),
    }


def gather_files(
    parts_folder: Path, groups: Sequence[str], bounds: Bounds, what: str
) -> tuple[Findings, Mapping[str, Counts]]:
    """What was found in single files, from what the groups left below `parts_folder`, and the counts of each source.

    Raises `ValidationFailed` when a file has other columns than its table: other suites would look for them.
    """
    found = Found.read(parts_folder, groups)
    findings = Findings()
    findings.check(suites.schema_suite(bounds), pd.DataFrame(found.columns))
    findings.raise_if_broken(what)
    findings.add_parts(found.outcomes, found.pages)
    return findings, found.counts


def _write_reports(target: Path, findings: Findings, counts: Mapping[str, Counts], statistics: Statistics) -> None:
    attachments = target / "attachments"
    attachments.mkdir(exist_ok=True)
    (attachments / "deck.html").write_text(deck(findings.pages, findings.outcomes, "corpus"), encoding="utf-8")
    write_data_docs(attachments / "data_docs", findings.pages, findings.outcomes, "corpus")
    on_phases = [outcome.record() for outcome in findings.outcomes if outcome.suite in ON_PHASES]
    _write_json(attachments / "mixtures.json", {"expectations": on_phases})
    _write_json(target / "statistics.json", statistics)
    report = {
        "documents": {
            stem: {"read": one["read"], "published": one["read"] - one["quarantined"]} for stem, one in counts.items()
        },
        "quarantine": {stem: reasons for stem, one in counts.items() if (reasons := one.below("reasons"))},
        "expectations": [outcome.record() for outcome in findings.outcomes if outcome.suite not in ON_PHASES],
    }
    _write_json(target / "validation.json", report)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
