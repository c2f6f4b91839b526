"""Which documents are copies of others, over all parts and both sides, as steps of a store.

    exact_links   a part is a slice of all hashes
    band_links    a part is a slice of all bands' keys, among documents that are no exact copies
    duplicates    one task: the links of all slices make gone/ and standing/, cut by the numbers of documents

The number of slices follows from the number of documents, so that a small corpus has one of each. A slice fetches
hashes or keys of every part of the corpus, and sketches only of those parts that hold a look-alike.
"""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.curation.clean import natural_sources
from k2model.curation.decisions import merge
from k2model.curation.duplicates import SLICE_ROWS, band_links, band_slices, exact_links, exact_slices, near_links
from k2model.curation.parts import NUMBERING_FILE, Numbering
from k2model.curation.signatures import Signed
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Part, PartedStep, PartRecord, Step, Store

EXACT_LINKS, BAND_LINKS, DUPLICATES = "exact_links", "band_links", "duplicates"
EXACT, BANDS = "exact", "bands"  # folders of their links: two kinds never have equal files


def exact_step(store: "Store", clean: "ArtifactRef", slice_rows: int = SLICE_ROWS) -> "PartedStep":
    """Links of documents to the first with equal text: slices of at most about `slice_rows` hashes."""
    from k2model.artifacts import Identity, PartedStep

    identity = Identity(EXACT_LINKS, STEP_VERSIONS[EXACT_LINKS], {"slice_rows": slice_rows}, {"clean": clean})
    parts = partial(_exact_parts, store, clean, slice_rows)
    return PartedStep(lambda: identity, parts, partial(_exact, store.uri, clean), _total)


def band_step(
    store: "Store", config: CorpusConfig, clean: "ArtifactRef", exact: "ArtifactRef", slice_rows: int = SLICE_ROWS
) -> "PartedStep":
    """Links of documents of natural text to earlier ones that are similar: slices of about `slice_rows` keys."""
    from k2model.artifacts import Identity, PartedStep

    settings = {
        "natural": natural_sources(config),
        "near_duplicate_threshold": config.near_duplicate_threshold,
        "minhash_permutations": config.minhash_permutations,
        "slice_rows": slice_rows,
    }
    identity = Identity(BAND_LINKS, STEP_VERSIONS[BAND_LINKS], settings, {"clean": clean, "exact": exact})
    parts = partial(_band_parts, store, config, clean, slice_rows)
    return PartedStep(lambda: identity, parts, partial(_bands, store.uri, config, clean, exact), _total)


def duplicates_step(
    store: "Store", config: CorpusConfig, clean: "ArtifactRef", exact: "ArtifactRef", bands: "ArtifactRef"
) -> "Step":
    """Which document stands for which: kind `duplicates`, from the links of all slices.

    Memory is bounded by the documents that have a link.
    """
    from k2model.artifacts import Identity, Step

    settings = {"near_duplicate_threshold": config.near_duplicate_threshold}
    inputs = {"clean": clean, "exact": exact, "bands": bands}
    identity = Identity(DUPLICATES, STEP_VERSIONS[DUPLICATES], settings, inputs)
    return Step(identity, lambda folder: _settle(store, config, clean, exact, bands, folder))


def _exact_parts(store: "Store", clean: "ArtifactRef", slice_rows: int) -> "list[Part]":
    return _slices(EXACT, exact_slices(_signed(store, clean).numbering, slice_rows))


def _band_parts(store: "Store", config: CorpusConfig, clean: "ArtifactRef", slice_rows: int) -> "list[Part]":
    return _slices(BANDS, band_slices(_signed(store, clean).numbering, natural_sources(config), config, slice_rows))


def _slices(folder: str, count: int) -> "list[Part]":
    from k2model.artifacts import Part

    return [Part(f"{folder}/{part:05d}", json.dumps([part, count])) for part in range(count)]


def _exact(uri: str, clean: "ArtifactRef", part: "Part", folder: Path) -> dict[str, Any]:
    from k2model.artifacts import Store

    return exact_links(_signed(Store.open(uri), clean), folder / f"{part.name}.parquet", *json.loads(part.task))


def _bands(
    uri: str, config: CorpusConfig, clean: "ArtifactRef", exact: "ArtifactRef", part: "Part", folder: Path
) -> dict[str, Any]:
    from k2model.artifacts import Store

    store = Store.open(uri)
    signed, copies, out = _signed(store, clean), _links(store, exact, EXACT), folder / f"{part.name}.parquet"
    return band_links(signed, natural_sources(config), config, copies, out, *json.loads(part.task))


def _settle(
    store: "Store", config: CorpusConfig, clean: "ArtifactRef", exact: "ArtifactRef", bands: "ArtifactRef",
    folder: Path,
) -> dict[str, float]:  # fmt: skip
    signed, near = _signed(store, clean), folder / "near.parquet"
    near_links(signed, config, _links(store, bands, BANDS), near)
    counts = merge(signed, _links(store, exact, EXACT), near, folder)
    near.unlink()
    (folder / NUMBERING_FILE).write_text(signed.numbering.to_json(), encoding="utf-8")
    return counts


def _signed(store: "Store", clean: "ArtifactRef") -> Signed:
    return Signed(Numbering.from_json(store.read(clean, NUMBERING_FILE).decode()), partial(_fetch, store, clean))


def _fetch(store: "Store", clean: "ArtifactRef", paths: Iterable[str]) -> Path:
    return store.fetch(clean, frozenset(paths).__contains__)


def _links(store: "Store", ref: "ArtifactRef", kind: str) -> list[Path]:
    """The links of all slices, in their order."""
    _, manifest = store.look_up(ref)
    names = sorted(entry.path for entry in manifest.files if entry.path.startswith(f"{kind}/"))
    folder = store.fetch(ref, frozenset(names).__contains__)
    return [folder / name for name in names]


def _total(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
    from k2model.artifacts import totals

    return totals(records)
