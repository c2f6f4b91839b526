"""Curation as steps of a store: `corpus_clean` and `corpus`, a part of the corpus each; between them the comparison.

    corpus_clean   clean/, signatures/, bands/, sketches/, rejects/, account/ of every part; numbering.json
    comparison     `exact_links`, `band_links`, `duplicates`: which documents are copies, and of what
    corpus         the curated parts, their rejects, curation.json, contamination.parquet, items/

A part reads its own files of the steps before it, and of what is known of all documents the piece that speaks of its
own, so any machine can make it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.curation.clean import ACCOUNT, CLEAN, KEPT, REJECTS, clean_part, profile_of
from k2model.curation.decisions import verdict_files, write_verdict
from k2model.curation.funnel import summarise
from k2model.curation.overlap import ItemFile, item_files
from k2model.curation.parts import NUMBERING_FILE, Numbering, Place, places_of
from k2model.curation.selection import CONTAMINATION, select_part
from k2model.curation.signatures import SIGNATURES
from k2model.recipe.fields import without_places
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Store

CLEANED, CURATED = "corpus_clean", "corpus"
ITEMS = "items/"


def clean_step(store: "Store", config: CorpusConfig, raw: "ArtifactRef") -> "PartedStep":
    """Every part of the raw corpus by itself."""
    from k2model.artifacts import Identity, PartedStep

    identity = Identity(CLEANED, STEP_VERSIONS[CLEANED], _cleaning(config), {"raw": raw})
    parts = partial(_parts, store, raw, config)
    produce = partial(_clean, store.uri, raw, config)
    return PartedStep(lambda: identity, parts, produce, partial(_number, _sources(config)))


def curated_step(
    store: "Store", config: CorpusConfig, raw: "ArtifactRef", clean: "ArtifactRef", duplicates: "ArtifactRef"
) -> "PartedStep":
    """Every part by itself, once it is known which documents are copies.

    Raises `CorpusError` when a source has nothing left.
    """
    from k2model.artifacts import Identity, PartedStep

    inputs = {"raw": raw, "clean": clean, "duplicates": duplicates}
    items = cache(partial(item_files, config.decontamination.external))

    @cache
    def identify() -> Identity:
        return Identity(CURATED, STEP_VERSIONS[CURATED], _selecting(config, items()), inputs)

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        return _finish(store, identify(), config, raw, items(), records, folder)

    parts = partial(_parts_with_items, store, raw, config, items)
    return PartedStep(identify, parts, partial(_select, store.uri, config, raw, clean, duplicates), finish)


def _sources(config: CorpusConfig) -> list[str]:
    return [source.name for source in config.sources]


def _cleaning(config: CorpusConfig) -> dict[str, Any]:
    return {
        "sources": _sources(config),
        "profiles": list(config.profiles),
        "min_characters": config.min_characters,
        "max_characters": config.max_characters,
        "minhash_permutations": config.minhash_permutations,
        "near_duplicate_threshold": config.near_duplicate_threshold,
        "shingle_words": config.shingle_words,
    }


def _selecting(config: CorpusConfig, items: Sequence[ItemFile]) -> dict[str, Any]:
    """Further items count by what their files hold, and by the name of their family."""
    return {
        "sources": _sources(config),
        "compared": [source for source in _sources(config) if profile_of(source, config).overlap],
        "decontamination": without_places(config.decontamination),
        "external_items": [{"family": file.family, "digest": file.digest} for file in items],
    }


def _places(store: "Store", raw: "ArtifactRef", config: CorpusConfig) -> list[Place]:
    _, manifest = store.look_up(raw)
    return places_of((entry.path for entry in manifest.files), _sources(config))


def _parts(store: "Store", raw: "ArtifactRef", config: CorpusConfig) -> "list[Part]":
    from k2model.artifacts import Part

    return [Part(place.name, json.dumps(place)) for place in _places(store, raw, config)]


def _parts_with_items(
    store: "Store", raw: "ArtifactRef", config: CorpusConfig, items: Callable[[], tuple[ItemFile, ...]]
) -> "list[Part]":
    """Each is told which files of further items it is judged by, and what was in them."""
    from k2model.artifacts import Part

    return [Part(place.name, json.dumps([place, items()])) for place in _places(store, raw, config)]


def _clean(uri: str, raw: "ArtifactRef", config: CorpusConfig, part: "Part", folder: Path) -> dict[str, Any]:
    from k2model.artifacts import Store

    corpus = Store.open(uri).fetch(raw, lambda path: path == f"{part.name}.parquet")
    return clean_part(corpus, folder, Place(*json.loads(part.task)), config)


def _number(sources: "Sequence[str]", records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
    """Number the documents that have a signature, for all that compare them."""
    from k2model.artifacts import totals

    rows = {record.name: int(record.counts[KEPT]) for record in records}
    places = places_of((f"{name}.parquet" for name in rows), sources)
    numbering = Numbering.counted(places, [rows[place.name] for place in places])
    (folder / NUMBERING_FILE).write_text(numbering.to_json(), encoding="utf-8")
    return {name: count for name, count in totals(records).items() if "/" not in name}


def _select(
    uri: str, config: CorpusConfig, raw: "ArtifactRef", clean: "ArtifactRef", duplicates: "ArtifactRef", part: "Part",
    folder: Path,
) -> dict[str, Any]:  # fmt: skip
    from k2model.artifacts import Store

    store, (its_place, its_items) = Store.open(uri), json.loads(part.task)
    place, items = Place(*its_place), tuple(ItemFile(*file) for file in its_items)
    corpus = store.fetch(raw, lambda path: path.startswith(ITEMS))
    own = {f"{kind}/{part.name}" for kind in (CLEAN, SIGNATURES, REJECTS, ACCOUNT)}
    cleaned = store.fetch(clean, lambda path: path.rpartition(".")[0] in own)
    numbering, verdicts = Numbering.from_json(store.read(duplicates, NUMBERING_FILE).decode()), folder / "verdicts"
    copies = store.fetch(duplicates, frozenset(verdict_files(numbering, place)).__contains__)
    write_verdict(cleaned, numbering, copies, verdicts, place)
    counts = select_part(corpus, cleaned, verdicts, folder, place, config, items)
    shutil.rmtree(verdicts)
    return counts


def _finish(
    store: "Store", identity: "Identity", config: CorpusConfig, raw: "ArtifactRef", items: tuple[ItemFile, ...],
    records: "Sequence[PartRecord]", folder: Path,
) -> dict[str, float]:  # fmt: skip
    from k2model.artifacts import local_parts

    told = local_parts(store, identity, records, lambda path: path.split("/")[0] in (ACCOUNT, CONTAMINATION))
    corpus = store.fetch(raw, lambda path: path.startswith(ITEMS))
    shutil.copytree(corpus / ITEMS, folder / ITEMS)
    return summarise(corpus, told, folder, _places(store, raw, config), config, items)
