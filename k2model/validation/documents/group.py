"""A gate on a corpus: a group of files is looked at, and what all groups found is gathered into one.

Of a group's files those of training are looked into; held-out files and evaluation items need only have their columns,
and pass unchanged. What concerns two groups is found when they are gathered, and no text is read again for it: a group
leaves what it found, and of each published document a narrow row of facts, about 60 bytes. There a text is known by its
MD5, which only has to tell equal from different; nobody gains by forging one.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.artifacts import Part
from k2model.artifacts.manifest import ATTACHMENTS
from k2model.documents.schema import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.errors import K2Error
from k2model.recipe.expectations import Severity
from k2model.recipe.schema import MixtureEntry
from k2model.validation import Outcome
from k2model.validation.documents import suites, tables
from k2model.validation.documents.counts import PartCounts, Tally
from k2model.validation.documents.part import PartFile, PartOutcome, frames_of, link, read_schema, validate_parts
from k2model.validation.documents.statistics import Statistics, corpus_statistics
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import drift, schema_frame, schema_rows
from k2model.validation.gate import Findings, Found, Sized, add_up, files_of, group_files
from k2model.validation.render import deck, write_data_docs

READ = ["id", "domain", "licence", "text", "duplicates"]
FACTS = f"{ATTACHMENTS}/facts"

#: `n` are characters of the text, `bytes` those of its UTF-8; they and the `digest` are null where the text is.
FACTS_SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("stem", pa.string()),
        ("part", pa.string()),
        ("id", pa.string()),
        ("domain", pa.string()),
        ("licence", pa.string()),
        ("n", pa.int64()),
        ("bytes", pa.int64()),
        ("duplicates", pa.int64()),
        ("digest", pa.binary(16)),
    ]
)


def facts_path(folder: Path, part: str) -> Path:
    """Where the facts of a gate's part lie."""
    return folder / FACTS / f"{part}.parquet"


def write_facts(files: Iterable[PartFile], path: Path) -> None:
    """A row of `FACTS_SCHEMA` for each document of `files`, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, FACTS_SCHEMA, compression="zstd") as writer:
        for file in files:
            for table in frames_of(file.path, READ):
                writer.write_table(_facts(table, file))


def _facts(table: pa.Table, file: PartFile) -> pa.Table:
    texts = table["text"].combine_chunks()
    place = {name: pa.repeat(getattr(file, name), len(table)) for name in ("split", "stem", "part")}
    measured = {"n": pc.utf8_length(texts), "bytes": pc.binary_length(texts), "digest": _digests(texts)}
    kept = {name: table[name] for name in ("id", "domain", "licence", "duplicates")}
    return pa.table({**place, **kept, **measured}).select(FACTS_SCHEMA.names).cast(FACTS_SCHEMA)


def _digests(texts: pa.StringArray) -> pa.Array:
    octets = texts.cast(pa.binary()).to_pylist()
    found = (None if one is None else hashlib.md5(one, usedforsecurity=False).digest() for one in octets)
    return pa.array(found, pa.binary(16))


COLUMNS = {"train": DOCUMENT_SCHEMA, "heldout": DOCUMENT_SCHEMA, "items": ITEM_SCHEMA}  # of the files of each split
DEPTH = {"train": 3, "heldout": 3, "items": 2}
COMPRESSION = 3  # bytes of text that one byte of Parquet holds, about


def corpus_groups(files: Iterable[Sized], where: str, part_bytes: int) -> list[Part]:
    """The parts of a gate on the corpus `where` that holds `files`. Raises K2Error when it has nothing to train on."""
    sizes = {PurePosixPath(path): size for path, size in files if path.endswith(".parquet")}
    own = sorted(path for path in sizes if len(path.parts) == DEPTH.get(path.parts[0], 0))
    if not any(path.parts[0] == "train" for path in own):
        raise K2Error(
            f"{where}/train holds no <source>/<part>.parquet: this is not a corpus, or its build was cut short"
        )
    return group_files([(str(path), COMPRESSION * sizes[path]) for path in own], part_bytes)


def look_at_raw(source: Path, group: Part, target: Path, bounds: Bounds) -> dict[str, Any]:
    """Look at a group of files of the raw corpus in folder `source`; what is found is written below `target`."""
    found, outcomes = _look(source, group, None, bounds, "raw")
    found.write(target, group.name)
    return _counts(outcomes)


def look_at_documents(source: Path, group: Part, target: Path, bounds: Bounds) -> dict[str, Any]:
    """The same for a curated corpus; what may be trained on and what is set aside are written below `target`, too."""
    found, outcomes = _look(source, group, target, bounds, "documents")
    found.write(target, group.name)
    published = [PartFile.of(target, target / path) for path in files_of(group) if not path.startswith("items/")]
    # Of a file with other columns there are none, and nothing of the corpus will be published.
    if all(row["type"] == row["expected"] for row in found.told["schema"]):
        write_facts(published, facts_path(target, group.name))
    return _counts(outcomes)


def _look(
    source: Path, group: Part, target: Path | None, bounds: Bounds, kind: str
) -> tuple[Found, Sequence[PartOutcome]]:
    rows: list[dict[str, str]] = []
    training = []
    for path in map(PurePosixPath, files_of(group)):
        split = path.parts[0]
        if split == "train":
            training.append(PartFile.of(source, source / path))
            continue
        rows += schema_rows(str(path.with_suffix("")), read_schema(source / path), COLUMNS[split])
        if target is not None:
            link(source / path, target / path)
    outcomes = validate_parts(training, bounds, target, kind)
    rows += [row for one in outcomes for row in one.schema]
    tallies: dict[str, Tally] = {}
    for one in outcomes:
        tallies[one.stem] = tallies.get(one.stem, Tally()) + one.tally
    told = {
        "schema": schema_frame(rows).to_dict("records"),
        "sources": {stem: asdict(tally) for stem, tally in tallies.items()},
    }
    found = [outcome for one in outcomes for outcome in one.outcomes]
    return Found(found, [one.page for one in outcomes if one.page is not None], told), outcomes


def _counts(outcomes: Sequence[PartOutcome]) -> dict[str, Any]:
    tallies = [one.tally for one in outcomes]
    return {"documents": sum(one.read for one in tallies), "quarantined": sum(one.quarantined for one in tallies)}


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
