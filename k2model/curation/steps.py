"""Curation as steps of a store, from the raw corpus to the curated one.

    corpus_clean    clean/, signatures/, bands/, sketches/, rejects/, account/ of every part; numbering.json
    ...             how all documents are compared, up to `duplicates`: `k2model.curation.comparison`
    known_copies    of a corpus that others came before: a part is a slice of the documents of one of these
    corpus          the curated parts, their rejects, curation.json, contamination.parquet, items/

A part reads its own files of the steps before it, and of what is known of all documents the piece that speaks of its
own, so any machine can make it.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, FileEntry, Identity, Part, PartedStep, PartRecord, Store, local_parts, totals
from k2model.curation.clean import ACCOUNT, CLEAN, KEPT, REJECTS, clean_part, natural_sources, profile_of
from k2model.curation.comparison import SLICE_ROWS, cut
from k2model.curation.decisions import KNOWN, decision_files
from k2model.curation.funnel import summarise
from k2model.curation.known import COUNTS_FILE, SIGNED_BY, KnownPart, check_comparable, copies_in, gather_copies
from k2model.curation.overlap import STORED_ITEMS, Items, item_files
from k2model.curation.parts import NUMBERING_FILE, CorpusPart, Numbering, numbering_of, parts_among
from k2model.curation.selection import CONTAMINATION, select_part
from k2model.curation.signatures import BANDS, SIGNATURES, signatures_of
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.fields import without_places
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

CLEANED, CURATED = "corpus_clean", "corpus"
KNOWN_COPIES = "known_copies"
ITEMS = "items/"


def clean_step(store: Store, config: CorpusConfig, raw: ArtifactRef) -> PartedStep:
    """Every part of the raw corpus by itself."""
    names = ("min_characters", "max_characters", "minhash_permutations", "near_duplicate_threshold", "shingle_words")
    settings = {"sources": _sources(config), "profiles": list(config.profiles), **_fields(config, *names)}
    identity = Identity(CLEANED, STEP_VERSIONS[CLEANED], settings, {"raw": raw})

    def parts() -> list[Part]:
        entries = _entries(store, raw)
        own = _corpus_parts(entries, config)
        return [Part(part.name, json.dumps([part, _told(entries, [f"{part.name}.parquet"])])) for part in own]

    produce = partial(_clean, store.uri, raw, config)
    return PartedStep(lambda: identity, parts, produce, partial(_number, _sources(config)))


def known_copies_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, known: Mapping[str, ArtifactRef] | Sequence[ArtifactRef],
    slice_rows: int = SLICE_ROWS,
) -> PartedStep:  # fmt: skip
    """Which documents of `clean` are copies of one of a known corpus, kind `corpus_clean` each; kind `known_copies`.

    known: by the names that originals are told with, else they have those of the artifacts. Of all only signatures are
    read; a part is some of a known corpus' own parts, of about `slice_rows` documents. The stats are `documents`,
    `exact` and `near`; `known_copies.json` has the same, and copies by known corpus.

    To make it, and to ask its identity, raises CorpusError when a known corpus was signed with other settings.
    """
    corpora = dict(known) if isinstance(known, Mapping) else {ref.name: ref for ref in known}
    natural = natural_sources(config)

    @cache
    def identify() -> Identity:
        for name, ref in corpora.items():
            check_comparable(
                store.record(ref), f"the known corpus '{name}' ({ref.uri})", config, STEP_VERSIONS[CLEANED]
            )
        settings = {"natural": natural, **_fields(config, *SIGNED_BY), "known": list(corpora), "slice_rows": slice_rows}
        inputs = {"clean": clean, **{f"known_{number}": ref for number, ref in enumerate(corpora.values())}}
        return Identity(KNOWN_COPIES, STEP_VERSIONS[KNOWN_COPIES], settings, inputs)

    def parts() -> list[Part]:
        spans = {name: list(numbering_of(store, ref).spans()) for name, ref in corpora.items()}
        cuts = {name: cut([end - start for _, start, end in own], slice_rows) for name, own in spans.items()}
        return [
            Part(f"{KNOWN}/{number:04d}/{begin:07d}-{end:07d}", json.dumps([name, begin, end]))
            for number, (name, own) in enumerate(cuts.items())
            for begin, end in own
        ]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        found = local_parts(store, identify(), records, lambda path: path.startswith(f"{KNOWN}/"))
        names = list(corpora)
        slices = [(names[int(record.name.split("/")[1])], found / f"{record.name}.parquet") for record in records]
        numberings = {name: numbering_of(store, ref) for name, ref in corpora.items()}
        counts = gather_copies(slices, numberings, numbering_of(store, clean).documents, folder)
        (folder / COUNTS_FILE).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        return {name: float(counts[name]) for name in ("documents", "exact", "near")}

    return PartedStep(identify, parts, partial(_known_copies, store.uri, config, clean, corpora), finish)


def curated_step(
    store: Store, config: CorpusConfig, raw: ArtifactRef, clean: ArtifactRef, duplicates: ArtifactRef,
    benchmarks: Sequence[BenchmarkConfig] = (), items: Sequence[ArtifactRef] = (),
) -> PartedStep:  # fmt: skip
    """Every part by itself, once it is known which documents are copies; without those that hold an evaluation item,
    of the recipe's own `benchmarks` too, and of `items` (kind `evaluation_items`) of other corpora.

    Raises `CorpusError` when a source has nothing left.
    """
    files = cache(partial(item_files, config.decontamination.external, benchmarks))

    @cache
    def identify() -> Identity:
        # Further items count by what their files hold, and by the name of their family.
        settings = {
            "sources": _sources(config),
            "compared": [source for source in _sources(config) if profile_of(source, config).overlap],
            "decontamination": without_places(config.decontamination),
            "external_items": [one.read for one in files()],
        }
        inputs = {"raw": raw, "clean": clean, "duplicates": duplicates}
        inputs |= {f"items_{number}": ref for number, ref in enumerate(items)}
        return Identity(CURATED, STEP_VERSIONS[CURATED], settings, inputs)

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        told = local_parts(store, identify(), records, lambda path: path.split("/")[0] in (ACCOUNT, CONTAMINATION))
        corpus = store.fetch(raw, lambda path: path.startswith(ITEMS))
        if (corpus / ITEMS).is_dir():  # new data alone may have none
            shutil.copytree(corpus / ITEMS, folder / ITEMS)
        stored = _stored_items(store, items)
        return summarise(corpus, told, folder, _corpus_parts(_entries(store, raw), config), config, files(), stored)

    def parts() -> list[Part]:
        all_raw, cleaned, decided = (_entries(store, ref) for ref in (raw, clean, duplicates))
        judged = [path for path in sorted(all_raw) if path.startswith(ITEMS)]
        further = [[one.file, one.benchmark and asdict(one.benchmark)] for one in files()]
        found = []
        for part, start, _ in numbering_of(store, duplicates).spans():
            own = [f"{kind}/{part.name}.parquet" for kind in (CLEAN, SIGNATURES, REJECTS)]
            own.append(f"{ACCOUNT}/{part.name}.json")
            told = _told(all_raw, judged), _told(cleaned, own), _told(decided, decision_files(start))
            found.append(Part(part.name, json.dumps([part, start, told, further])))
        return found

    produce = partial(_select, store.uri, config, raw, clean, duplicates, tuple(items))
    return PartedStep(identify, parts, produce, finish)


def _sources(config: CorpusConfig) -> list[str]:
    return [source.name for source in config.sources]


def _fields(config: CorpusConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _entries(store: Store, ref: ArtifactRef) -> dict[str, FileEntry]:
    return {entry.path: entry for entry in store.look_up(ref)[1].files}


def _told(entries: Mapping[str, FileEntry], paths: Iterable[str]) -> list[dict[str, Any]]:
    """The entries of those files that there are, for a task that then needs no manifest of all parts."""
    return [entries[path].to_json() for path in paths if path in entries]


def _fetched(store: Store, ref: ArtifactRef, told: Iterable[dict[str, Any]]) -> Path:
    return store.fetch_entries(ref, [FileEntry(**entry) for entry in told])


def _corpus_parts(paths: Iterable[str], config: CorpusConfig) -> list[CorpusPart]:
    return parts_among(paths, _sources(config))


def _clean(uri: str, raw: ArtifactRef, config: CorpusConfig, part: Part, folder: Path) -> dict[str, Any]:
    own, told = json.loads(part.task)
    return clean_part(_fetched(Store.open(uri), raw, told), folder, CorpusPart(*own), config)


def _number(sources: Sequence[str], records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    """Number the documents that have a signature, for all that compare them."""
    rows = {record.name: int(record.counts[KEPT]) for record in records}
    parts = parts_among((f"{name}.parquet" for name in rows), sources)
    numbering = Numbering.counted(parts, [rows[part.name] for part in parts])
    (folder / NUMBERING_FILE).write_text(numbering.to_json(), encoding="utf-8")
    return {name: count for name, count in totals(records).items() if "/" not in name}


def _select(
    uri: str, config: CorpusConfig, raw: ArtifactRef, clean: ArtifactRef, duplicates: ArtifactRef,
    further: tuple[ArtifactRef, ...], part: Part, folder: Path,
) -> dict[str, Any]:  # fmt: skip
    store, (own, start, told, items) = Store.open(uri), json.loads(part.task)
    corpus, cleaned, decided = map(partial(_fetched, store), (raw, clean, duplicates), told)
    judged_by = tuple(Items.restored(*one) for one in items)
    stored = _stored_items(store, further)
    return select_part(corpus, cleaned, decided, start, folder, CorpusPart(*own), config, judged_by, stored)


def _stored_items(store: Store, further: Sequence[ArtifactRef]) -> tuple[Path, ...]:
    """The files of artifacts of items."""
    return tuple(store.fetch(ref, STORED_ITEMS.__eq__) / STORED_ITEMS for ref in further)


def _known_copies(
    uri: str, config: CorpusConfig, clean: ArtifactRef, known: Mapping[str, ArtifactRef], part: Part, folder: Path
) -> dict[str, Any]:
    store = Store.open(uri)
    name, begin, end = json.loads(part.task)
    signatures = signatures_of(store, known[name])
    spans = list(signatures.numbering.spans())[begin:end]
    paths = {entry.path for entry in store.look_up(known[name])[1].files}
    natural = frozenset(own for own, _, _ in spans if f"{BANDS}/{own.name}.parquet" in paths)
    sliced = KnownPart(signatures, spans, natural)
    return copies_in(
        signatures_of(store, clean), natural_sources(config), config, sliced, folder / f"{part.name}.parquet"
    )
