"""The comparison of all documents as steps of a store, by their signatures and without any text.

    signature_ranges       a part is a group of neighbouring parts of the corpus: its hashes and keys, cut by slices
    signature_matches      a part is a slice of all hashes (pairs of equal texts) or of all keys (which several have)
    sketch_ranges          a part is such a group: sketches of look-alikes, cut by slices
    near_duplicate_pairs   a part is a slice of the keys that look-alikes share
    duplicates             in one go: the pairs of all slices make gone/ and standing/, cut by the numbers of documents

Groups and slices are of about equal memory, whatever the size of the corpus, and follow from the numbers of its
documents; a task is told the entries of the files that it reads, since a manifest of all parts is long.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from k2model.artifacts import (
    ArtifactRef,
    FileEntry,
    Identity,
    Part,
    PartedStep,
    PartRecord,
    Step,
    Store,
    local_parts,
    read_json,
    totals,
)
from k2model.curation.clean import natural_sources
from k2model.curation.decisions import decide
from k2model.curation.known import COPIES_FILE, KnownCopies
from k2model.curation.parts import NUMBERING_FILE, Numbering, numbering_of
from k2model.curation.ranges import CUTS, Ranges, write_index
from k2model.curation.shuffles import (
    COPIES,
    HASHES,
    KEYS,
    SHARED,
    SKETCHED,
    match_hashes,
    match_keys,
    match_sketches,
    shuffle_signatures,
    shuffle_sketches,
)
from k2model.curation.signatures import BANDS, SIGNATURES, SKETCHES, CorpusSignatures, band_columns, signatures_of
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

SIGNATURE_RANGES, SIGNATURE_MATCHES, SKETCH_RANGES = "signature_ranges", "signature_matches", "sketch_ranges"
NEAR_PAIRS, DUPLICATES = "near_duplicate_pairs", "duplicates"
SLICE_ROWS = 16_000_000  # hashes or keys in a slice: some 50 bytes each while they are sorted
SKETCH_ROWS = 4_000_000  # sketches in a slice: half a gigabyte
GROUP_ROWS = 4  # times a slice's, since a group is not sorted: fewer and longer ranges for a slice to fetch
RANGES_FILE, MATCHES_FILE = "ranges.json", "matches.json"


class _SignatureRanges(TypedDict):
    hashes: int
    keys: int
    bounds: list[int]


class _Plan(NamedTuple):
    """How many slices hashes and keys have, and the first document of each group, with the number of all at the end."""

    hashes: int
    keys: int
    bounds: list[int]

    @classmethod
    def of(cls, store: Store, ranges: ArtifactRef) -> "_Plan":
        said = read_json(_SignatureRanges, store, ranges, RANGES_FILE)
        return cls(said["hashes"], said["keys"], said["bounds"])


def signature_ranges_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, slice_rows: int = SLICE_ROWS
) -> PartedStep:
    """Hashes and keys for the slices that compare them, at most about `slice_rows` each."""
    natural, bands = natural_sources(config), len(band_columns(config))
    settings = {"natural": natural, **_sketched_by(config), "slice_rows": slice_rows}
    identity = Identity(SIGNATURE_RANGES, STEP_VERSIONS[SIGNATURE_RANGES], settings, {"clean": clean})

    def groups(numbering: Numbering) -> list[tuple[int, int]]:
        rows = [(end - start) * (bands if part.source in natural else 1) for part, start, end in numbering.spans()]
        return cut(rows, GROUP_ROWS * slice_rows) or [(0, 0)]

    def plan(numbering: Numbering) -> _Plan:
        near = sum(end - start for _, start, end in numbering.spans(natural))
        hashes, keys = (slices(rows, slice_rows) for rows in (numbering.documents, near * bands))
        starts = [int(numbering.bounds[begin]) for begin, _ in groups(numbering)]
        return _Plan(hashes, keys, [*starts, numbering.documents])

    def parts() -> list[Part]:
        numbering = numbering_of(store, clean)
        told = list(_groups(store, clean, numbering, groups(numbering), (SIGNATURES, BANDS)))
        ways = plan(numbering)
        return [Part(f"groups/{index:05d}", json.dumps([ways.hashes, ways.keys, one])) for index, one in told]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        _index(store, identity, records, folder, {HASHES: "groups", KEYS: "groups"})
        ways = plan(numbering_of(store, clean))
        (folder / RANGES_FILE).write_text(json.dumps(ways._asdict()) + "\n", encoding="utf-8")
        return {"groups": float(len(records)), "slices": float(ways.hashes + ways.keys)}

    return PartedStep(lambda: identity, parts, partial(_signature_ranges, store.uri, config, clean), finish)


def signature_matches_step(store: Store, ranges: ArtifactRef) -> PartedStep:
    """Pairs of a document and the first with equal text, and the bands' keys that several documents have."""
    identity = Identity(SIGNATURE_MATCHES, STEP_VERSIONS[SIGNATURE_MATCHES], {}, {"ranges": ranges})

    def parts() -> list[Part]:
        plan = _Plan.of(store, ranges)
        ways = [(HASHES, plan.hashes), (KEYS, plan.keys)]
        return [Part(f"{kind}/{index:05d}", json.dumps(index)) for kind, count in ways for index in range(count)]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        _index(store, identity, records, folder, {COPIES: HASHES, SHARED: KEYS})
        counts = totals(records)
        (folder / MATCHES_FILE).write_text(json.dumps(counts) + "\n", encoding="utf-8")
        return counts

    return PartedStep(lambda: identity, parts, partial(_signature_matches, store.uri, ranges), finish)


def sketch_ranges_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, ranges: ArtifactRef, matches: ArtifactRef,
    sketch_rows: int = SKETCH_ROWS,
) -> PartedStep:  # fmt: skip
    """The sketches of look-alikes that are no copies, for slices of about `sketch_rows` of the keys that they share."""
    settings = {**_sketched_by(config), "sketch_rows": sketch_rows}
    inputs = {"clean": clean, "ranges": ranges, "matches": matches}
    identity = Identity(SKETCH_RANGES, STEP_VERSIONS[SKETCH_RANGES], settings, inputs)

    def count() -> int:
        return slices(int(read_json(dict[str, float], store, matches, MATCHES_FILE)["shared_keys"]), sketch_rows)

    def parts() -> list[Part]:
        numbering, bounds = numbering_of(store, clean), _Plan.of(store, ranges).bounds
        places = np.searchsorted(numbering.bounds, bounds).tolist()
        told = _groups(store, clean, numbering, list(pairwise(places)), (SKETCHES,))
        ways = count()
        return [Part(f"groups/{index:05d}", json.dumps([index, ways, one])) for index, one in told]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        _index(store, identity, records, folder, {KEYS: "groups", SKETCHED: "groups"})
        (folder / RANGES_FILE).write_text(json.dumps({"slices": count()}) + "\n", encoding="utf-8")
        return totals(records)

    return PartedStep(lambda: identity, parts, partial(_sketch_ranges, store.uri, config, clean, matches), finish)


def near_pairs_step(store: Store, config: CorpusConfig, sketches: ArtifactRef) -> PartedStep:
    """Pairs of a document of natural text and an earlier one that is similar."""
    identity = Identity(NEAR_PAIRS, STEP_VERSIONS[NEAR_PAIRS], _sketched_by(config), {"sketches": sketches})

    def parts() -> list[Part]:
        count = read_json(dict[str, int], store, sketches, RANGES_FILE)["slices"]
        return [Part(f"{BANDS}/{index:05d}", json.dumps(index)) for index in range(count)]

    produce = partial(_near_pairs, store.uri, config, sketches)
    return PartedStep(lambda: identity, parts, produce, lambda found, _: totals(found))


def duplicates_step(
    store: Store, config: CorpusConfig, clean: ArtifactRef, matches: ArtifactRef, near: ArtifactRef,
    known: ArtifactRef | None = None,
) -> Step:  # fmt: skip
    """Which document stands for which, from the pairs of all slices, and which are copies of a `known` corpus' (kind
    `known_copies`): those go, whatever else is like them."""
    settings = {"near_duplicate_threshold": config.near_duplicate_threshold}
    inputs = {"clean": clean, "exact": matches, "bands": near}
    if known is not None:
        inputs["known"] = known

    def produce(folder: Path) -> dict[str, float]:
        signatures = signatures_of(store, clean)
        copies = None if known is None else KnownCopies.read(store.fetch(known, COPIES_FILE.__eq__))
        pairs = _pairs(store, matches, HASHES), _pairs(store, near, BANDS)
        counts = decide(signatures, config, *pairs, folder, copies)
        (folder / NUMBERING_FILE).write_text(signatures.numbering.to_json(), encoding="utf-8")
        return counts

    return Step(Identity(DUPLICATES, STEP_VERSIONS[DUPLICATES], settings, inputs), produce)


def slices(rows: int, slice_rows: int) -> int:
    """How many slices `rows` take, at least one."""
    return max(1, -(-rows // slice_rows))


def cut(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Runs [begin, end) of neighbours that make up at most `most`, or one alone."""
    cuts, held = [0], 0
    for index, size in enumerate(sizes):
        if held + size > most and index > cuts[-1]:
            cuts.append(index)
            held = 0
        held += size
    return list(pairwise([*cuts, len(sizes)])) if sizes else []


def _sketched_by(config: CorpusConfig) -> dict[str, Any]:
    names = ("near_duplicate_threshold", "minhash_permutations")
    return {name: getattr(config, name) for name in names}


def _groups(
    store: Store, clean: ArtifactRef, numbering: Numbering, groups: Sequence[tuple[int, int]], kinds: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, what its task is told) of each group of parts [begin, end): their numbers, and the entries of files."""
    entries = {entry.path: entry for entry in store.look_up(clean)[1].files}
    for index, (begin, end) in enumerate(groups):
        own = Numbering(numbering.parts[begin:end], numbering.bounds[begin : end + 1])
        paths = [f"{kind}/{part.name}.parquet" for kind in kinds for part in own.parts]
        files = [entries[path].to_json() for path in paths if path in entries]
        yield index, {"numbering": own.to_json(), "files": files}


def _group(store: Store, clean: ArtifactRef, told: dict[str, Any]) -> CorpusSignatures:
    entries = {entry["path"]: FileEntry(**entry) for entry in told["files"]}

    def fetch(paths: Iterable[str]) -> Path:
        return store.fetch_entries(clean, [entries[path] for path in paths])

    return CorpusSignatures(Numbering.from_json(told["numbering"]), fetch)


def _index(
    store: Store, identity: Identity, records: Sequence[PartRecord], folder: Path, kinds: dict[str, str]
) -> None:
    """The index of each kind of ranges, whose sources are the parts named `<its value>/<source>`."""
    found = local_parts(store, identity, records, lambda path: path.startswith(f"{CUTS}/"))
    names = [record.name.split("/") for record in records]
    for kind, of in kinds.items():
        write_index(found, folder, kind, [name for parts, name in names if parts == of])


def _signature_ranges(uri: str, config: CorpusConfig, clean: ArtifactRef, part: Part, folder: Path) -> dict[str, Any]:
    hashes, keys, told = json.loads(part.task)
    signatures = _group(Store.open(uri), clean, told)
    name = part.name.rpartition("/")[2]
    shuffle_signatures(signatures, natural_sources(config), config, hashes, keys, folder, name)
    return {}


def _signature_matches(uri: str, ranges: ArtifactRef, part: Part, folder: Path) -> dict[str, Any]:
    store, index = Store.open(uri), json.loads(part.task)
    (kind, name), bounds = part.name.split("/"), np.array(_Plan.of(store, ranges).bounds)
    if kind == KEYS:
        return {"shared_keys": match_keys(Ranges(store, ranges), index, bounds, folder, name)}
    out = folder / f"{part.name}.parquet"
    return {"pairs": match_hashes(Ranges(store, ranges), index, bounds, out, folder, name)}


def _sketch_ranges(
    uri: str, config: CorpusConfig, clean: ArtifactRef, matches: ArtifactRef, part: Part, folder: Path
) -> dict[str, Any]:
    store, (index, count, told) = Store.open(uri), json.loads(part.task)
    signatures, name = _group(store, clean, told), part.name.rpartition("/")[2]
    return {"keys": shuffle_sketches(Ranges(store, matches), index, signatures, config, count, folder, name)}


def _near_pairs(uri: str, config: CorpusConfig, sketches: ArtifactRef, part: Part, folder: Path) -> dict[str, Any]:
    ranges = Ranges(Store.open(uri), sketches)
    return {"pairs": match_sketches(ranges, json.loads(part.task), config, folder / f"{part.name}.parquet")}


def _pairs(store: Store, ref: ArtifactRef, kind: str) -> list[Path]:
    """The files of pairs of all slices, in their order."""
    _, manifest = store.look_up(ref)
    names = sorted(entry.path for entry in manifest.files if entry.path.startswith(f"{kind}/"))
    folder = store.fetch(ref, frozenset(names).__contains__)
    return [folder / name for name in names]
