"""Curation as steps of a store, from the raw corpus to the curated one.

    corpus_clean            clean/, signatures/, bands/, sketches/, rejects/, account/ of every part; numbering.json
    exact_duplicate_pairs   a part is a slice of all hashes
    near_duplicate_pairs    a part is a slice of all bands' keys, among documents that are no exact copies
    known_copies            of a corpus that others came before: a part is a slice of the documents of one of these
    duplicates              in one go: the pairs of all slices make gone/ and standing/, cut by the numbers of documents
    corpus                  the curated parts, their rejects, curation.json, contamination.parquet, items/

A part reads its own files of the steps before it, and of what is known of all documents the piece that speaks of its
own, so any machine can make it. A slice fetches hashes or keys of every part of the corpus, and sketches only of those
parts that hold a look-alike; how many slices there are follows from the number of documents.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store, local_parts, totals
from k2model.curation.clean import ACCOUNT, CLEAN, KEPT, REJECTS, clean_part, natural_sources, profile_of
from k2model.curation.decisions import KNOWN, decide, decision_files
from k2model.curation.duplicates import exact_duplicate_pairs, near_duplicate_pairs
from k2model.curation.funnel import summarise
from k2model.curation.known import (
    COPIES_FILE,
    COUNTS_FILE,
    SIGNED_BY,
    KnownCopies,
    KnownPart,
    check_comparable,
    copies_in,
    gather_copies,
)
from k2model.curation.overlap import STORED_ITEMS, Items, item_files
from k2model.curation.parts import NUMBERING_FILE, CorpusPart, Numbering, parts_among
from k2model.curation.selection import CONTAMINATION, select_part
from k2model.curation.signatures import SIGNATURES, CorpusSignatures, band_columns
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.fields import without_places
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

CLEANED, CURATED = "corpus_clean", "corpus"
SLICE_ROWS = 16_000_000  # hashes or keys in a slice: some 50 bytes each while they are sorted
KNOWN_COPIES = "known_copies"
EXACT_PAIRS, NEAR_PAIRS, DUPLICATES = "exact_duplicate_pairs", "near_duplicate_pairs", "duplicates"
EXACT, BANDS = "exact", "bands"  # folders of their pairs: two kinds never have equal files
ITEMS = "items/"


def clean_step(store: Store, config: CorpusConfig, raw: ArtifactRef) -> PartedStep:
    """Every part of the raw corpus by itself."""
    names = ("min_characters", "max_characters", "minhash_permutations", "near_duplicate_threshold", "shingle_words")
    settings = {"sources": _sources(config), "profiles": list(config.profiles), **_fields(config, *names)}
    identity = Identity(CLEANED, STEP_VERSIONS[CLEANED], settings, {"raw": raw})
    produce = partial(_clean, store.uri, raw, config)
    return PartedStep(lambda: identity, lambda: _parts(store, raw, config), produce, partial(_number, _sources(config)))


def exact_pairs_step(store: Store, clean: ArtifactRef, slice_rows: int = SLICE_ROWS) -> PartedStep:
    """Pairs of a document and the first with equal text: slices of at most about `slice_rows` hashes."""
    identity = Identity(EXACT_PAIRS, STEP_VERSIONS[EXACT_PAIRS], {"slice_rows": slice_rows}, {"clean": clean})

    def parts() -> list[Part]:
        return _slices(EXACT, _numbering(store, clean).documents, slice_rows)

    return PartedStep(lambda: identity, parts, partial(_exact_pairs, store.uri, clean), lambda found, _: totals(found))


def near_pairs_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, exact: ArtifactRef, slice_rows: int = SLICE_ROWS
) -> PartedStep:
    """Pairs of a document of natural text and an earlier one that is similar: slices of about `slice_rows` keys."""
    natural = natural_sources(config)
    read = _fields(config, "near_duplicate_threshold", "minhash_permutations")
    settings = {"natural": natural, **read, "slice_rows": slice_rows}
    identity = Identity(NEAR_PAIRS, STEP_VERSIONS[NEAR_PAIRS], settings, {"clean": clean, "exact": exact})

    def parts() -> list[Part]:
        documents = sum(end - start for _, start, end in _numbering(store, clean).spans(natural))
        return _slices(BANDS, documents * len(band_columns(config)), slice_rows)

    produce = partial(_near_pairs, store.uri, config, clean, exact)
    return PartedStep(lambda: identity, parts, produce, lambda found, _: totals(found))


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
        spans = {name: list(_numbering(store, ref).spans()) for name, ref in corpora.items()}
        cuts = {name: _cut([end - start for _, start, end in own], slice_rows) for name, own in spans.items()}
        return [
            Part(f"{KNOWN}/{number:04d}/{begin:07d}-{end:07d}", json.dumps([name, begin, end]))
            for number, (name, own) in enumerate(cuts.items())
            for begin, end in own
        ]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        found = local_parts(store, identify(), records, lambda path: path.startswith(f"{KNOWN}/"))
        names = list(corpora)
        slices = [(names[int(record.name.split("/")[1])], found / f"{record.name}.parquet") for record in records]
        numberings = {name: _numbering(store, ref) for name, ref in corpora.items()}
        counts = gather_copies(slices, numberings, _numbering(store, clean).documents, folder)
        (folder / COUNTS_FILE).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        return {name: float(counts[name]) for name in ("documents", "exact", "near")}

    return PartedStep(identify, parts, partial(_known_copies, store.uri, config, clean, corpora), finish)


def duplicates_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, exact: ArtifactRef, near: ArtifactRef,
    known: ArtifactRef | None = None,
) -> Step:  # fmt: skip
    """Which document stands for which, from the pairs of all slices, and which are copies of a `known` corpus' (kind
    `known_copies`): those go, whatever else is like them."""
    settings, inputs = _fields(config, "near_duplicate_threshold"), {"clean": clean, "exact": exact, "bands": near}
    if known is not None:
        inputs["known"] = known

    def produce(folder: Path) -> dict[str, float]:
        signatures = _signatures(store, clean)
        copies = None if known is None else KnownCopies.read(store.fetch(known, COPIES_FILE.__eq__))
        pairs = _pairs(store, exact, EXACT), _pairs(store, near, BANDS)
        counts = decide(signatures, config, *pairs, folder, copies)
        (folder / NUMBERING_FILE).write_text(signatures.numbering.to_json(), encoding="utf-8")
        return counts

    return Step(Identity(DUPLICATES, STEP_VERSIONS[DUPLICATES], settings, inputs), produce)


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
        return summarise(corpus, told, folder, _corpus_parts(store, raw, config), config, files(), stored)

    produce = partial(_select, store.uri, config, raw, clean, duplicates, tuple(items))
    return PartedStep(identify, lambda: _parts(store, raw, config, files()), produce, finish)


def _sources(config: CorpusConfig) -> list[str]:
    return [source.name for source in config.sources]


def _fields(config: CorpusConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _corpus_parts(store: Store, raw: ArtifactRef, config: CorpusConfig) -> list[CorpusPart]:
    _, manifest = store.look_up(raw)
    return parts_among((entry.path for entry in manifest.files), _sources(config))


def _parts(store: Store, raw: ArtifactRef, config: CorpusConfig, items: tuple[Items, ...] = ()) -> list[Part]:
    """Each is told which files of further items it is judged by, and what was in them."""
    judged_by = [[one.file, one.benchmark and asdict(one.benchmark)] for one in items]
    return [Part(part.name, json.dumps([part, judged_by])) for part in _corpus_parts(store, raw, config)]


def _task(part: Part) -> tuple[CorpusPart, tuple[Items, ...]]:
    own, items = json.loads(part.task)
    return CorpusPart(*own), tuple(Items.restored(*one) for one in items)


def _slices(folder: str, rows: int, slice_rows: int) -> list[Part]:
    """As many as `rows` hashes or keys take, at least one."""
    count = max(1, -(-rows // slice_rows))
    return [Part(f"{folder}/{index:05d}", json.dumps([index, count])) for index in range(count)]


def _clean(uri: str, raw: ArtifactRef, config: CorpusConfig, part: Part, folder: Path) -> dict[str, Any]:
    corpus = Store.open(uri).fetch(raw, lambda path: path == f"{part.name}.parquet")
    return clean_part(corpus, folder, _task(part)[0], config)


def _number(sources: Sequence[str], records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    """Number the documents that have a signature, for all that compare them."""
    rows = {record.name: int(record.counts[KEPT]) for record in records}
    parts = parts_among((f"{name}.parquet" for name in rows), sources)
    numbering = Numbering.counted(parts, [rows[part.name] for part in parts])
    (folder / NUMBERING_FILE).write_text(numbering.to_json(), encoding="utf-8")
    return {name: count for name, count in totals(records).items() if "/" not in name}


def _exact_pairs(uri: str, clean: ArtifactRef, part: Part, folder: Path) -> dict[str, Any]:
    signatures = _signatures(Store.open(uri), clean)
    return exact_duplicate_pairs(signatures, folder / f"{part.name}.parquet", *json.loads(part.task))


def _near_pairs(
    uri: str, config: CorpusConfig, clean: ArtifactRef, exact: ArtifactRef, part: Part, folder: Path
) -> dict[str, Any]:
    store, out = Store.open(uri), folder / f"{part.name}.parquet"
    signatures, copies = _signatures(store, clean), _pairs(store, exact, EXACT)
    return near_duplicate_pairs(signatures, natural_sources(config), config, copies, out, *json.loads(part.task))


def _select(
    uri: str, config: CorpusConfig, raw: ArtifactRef, clean: ArtifactRef, duplicates: ArtifactRef,
    further: tuple[ArtifactRef, ...], part: Part, folder: Path,
) -> dict[str, Any]:  # fmt: skip
    store, (own, items) = Store.open(uri), _task(part)
    corpus = store.fetch(raw, lambda path: path.startswith(ITEMS))
    files = {f"{kind}/{part.name}" for kind in (CLEAN, SIGNATURES, REJECTS, ACCOUNT)}
    cleaned = store.fetch(clean, lambda path: path.rpartition(".")[0] in files)
    numbering = _numbering(store, duplicates)
    decided = store.fetch(duplicates, frozenset(decision_files(numbering, own)).__contains__)
    return select_part(
        corpus, cleaned, decided, numbering, folder, own, config, items, _stored_items(store, further)
    )  # fmt: skip


def _stored_items(store: Store, further: Sequence[ArtifactRef]) -> tuple[Path, ...]:
    """The files of artifacts of items."""
    return tuple(store.fetch(ref, STORED_ITEMS.__eq__) / STORED_ITEMS for ref in further)


def _known_copies(
    uri: str, config: CorpusConfig, clean: ArtifactRef, known: Mapping[str, ArtifactRef], part: Part, folder: Path
) -> dict[str, Any]:
    store = Store.open(uri)
    name, begin, end = json.loads(part.task)
    signatures = _signatures(store, known[name])
    spans = list(signatures.numbering.spans())[begin:end]
    paths = {entry.path for entry in store.look_up(known[name])[1].files}
    natural = frozenset(own for own, _, _ in spans if f"{BANDS}/{own.name}.parquet" in paths)
    sliced = KnownPart(signatures, spans, natural)
    return copies_in(
        _signatures(store, clean), natural_sources(config), config, sliced, folder / f"{part.name}.parquet"
    )


def _cut(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Runs [begin, end) of neighbours that make up at most `most`, or one alone."""
    cuts, held = [0], 0
    for index, size in enumerate(sizes):
        if held + size > most and index > cuts[-1]:
            cuts.append(index)
            held = 0
        held += size
    return list(pairwise([*cuts, len(sizes)])) if sizes else []


def _signatures(store: Store, clean: ArtifactRef) -> CorpusSignatures:
    def fetch(paths: Iterable[str]) -> Path:
        return store.fetch(clean, frozenset(paths).__contains__)

    return CorpusSignatures(_numbering(store, clean), fetch)


def _numbering(store: Store, ref: ArtifactRef) -> Numbering:
    return Numbering.from_json(store.read(ref, NUMBERING_FILE).decode())


def _pairs(store: Store, ref: ArtifactRef, kind: str) -> list[Path]:
    """The files of pairs of all slices, in their order."""
    _, manifest = store.look_up(ref)
    names = sorted(entry.path for entry in manifest.files if entry.path.startswith(f"{kind}/"))
    folder = store.fetch(ref, frozenset(names).__contains__)
    return [folder / name for name in names]
