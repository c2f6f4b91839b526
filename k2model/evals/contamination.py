"""What of an evaluation a checkpoint had seen: items that share words or a key with documents it was trained on.

Three steps, each with an artifact of its own, so that a benchmark which came later is looked up in what is stored.

    evaluation_items    the items to look for
    overlap             which training documents of a corpus hold which of them: every part is looked through by itself,
                        for words in a row and keys as curation does it (`k2model.curation`)
    items_seen          of a phase: at which step its training first came to a document with each item, from the rows it
                        was trained on

A document counts as seen from the first step on that had any piece of it, be it not the piece that holds the item. What
that makes of scores is `k2model.evals.clean_scores`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store, read_json, totals
from k2model.curation.clean import BATCH_BYTES
from k2model.curation.decontamination import Decontamination
from k2model.curation.overlap import (
    STORED_ITEMS,
    STORED_SCHEMA,
    EvaluationItem,
    Items,
    external,
    registered,
    stored_items,
)
from k2model.curation.texts import Ints, by_bytes
from k2model.documents.benchmarks import benchmark_files
from k2model.documents.families.generated import GENERATED, VERSION, generate
from k2model.documents.schema import DOCUMENT_SCHEMA, source_file
from k2model.documents.tables import PartWriter, read_batches, read_table, required, selected, write_table
from k2model.errors import EvaluationError
from k2model.recipe.curation import DecontaminationConfig
from k2model.recipe.evaluation import BenchmarkConfig, EvaluationConfig
from k2model.recipe.schema import PhaseConfig
from k2model.tokens.steps import MAX_EPOCHS
from k2model.training.log import read_interventions
from k2model.versions import STEP_VERSIONS

EVALUATION_ITEMS, OVERLAP, ITEMS_SEEN = "evaluation_items", "overlap", "items_seen"  # kinds of artifacts
ITEMS, PARTS, SEEN = STORED_ITEMS, "parts.json", "items_seen.parquet"  # their files
PUBLIC = "public"  # the family of all items of public suites: their names (`gsm8k/17`) tell them apart
PAIR_SCHEMA = required(row=pa.int32(), item=pa.int32(), coverage=pa.float32())
SEEN_SCHEMA = pa.schema([("family", pa.string()), ("id", pa.string()), ("step", pa.int64())])


class Level(str, Enum):
    """How finely it is known what a checkpoint had seen."""

    ROWS = "rows"  # documents in the rows of the steps it has taken
    SOURCES = "sources"  # every document of the sources in its mixtures: no less than it saw


def corpus_items_step(store: Store, corpus: ArtifactRef, evaluation: EvaluationConfig) -> Step:
    """The registered items of a corpus, those of a recipe's own benchmarks, and those of its families that are made
    when they are asked, which are known by their keys; kind `evaluation_items`.

    Raises CorpusError for a benchmark's file that cannot be read.
    """
    files, count = benchmark_items(evaluation.benchmarks), evaluation.items_per_family
    made = [name for name in evaluation.families if name in GENERATED]

    def produce(folder: Path) -> dict[str, float]:
        known = registered(store.fetch(corpus, lambda path: path.startswith("items/")))
        asked = (item for name in made for item in generate(name, count))
        keyed = (
            EvaluationItem(one["family"], one["id"], one["key"], one["prompt"], one["answer"], False, True)
            for one in asked
        )
        return _write_items(folder, [*known, *external(files, DecontaminationConfig()), *keyed])

    read: dict[str, Any] = {"benchmarks": [one.read for one in files]}
    if made:
        read["generated"] = {"families": made, "items": count, "version": VERSION}
    return Step(Identity(EVALUATION_ITEMS, STEP_VERSIONS[EVALUATION_ITEMS], read, {"corpus": corpus}), produce)


def evaluation_items_step(items: Sequence[EvaluationItem]) -> Step:
    """Items that came later, known by what they say; of the same kind."""
    rows = [item._asdict() for item in items]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    identity = Identity(EVALUATION_ITEMS, STEP_VERSIONS[EVALUATION_ITEMS], {"items": digest}, {})
    return Step(identity, lambda folder: _write_items(folder, items))


def benchmark_items(benchmarks: Sequence[BenchmarkConfig]) -> tuple[Items, ...]:
    """Their files as they are now, whether or not curation looked for them. Raises CorpusError for one that cannot be
    read."""
    return tuple(Items(benchmark_files(one)[0], one) for one in benchmarks)


def _write_items(folder: Path, items: Sequence[EvaluationItem]) -> dict[str, float]:
    rows = [item._asdict() for item in items]
    write_table(folder / ITEMS, pa.Table.from_pylist(rows, schema=STORED_SCHEMA))
    return {"items": len(rows)}


def read_evaluation_items(store: Store, ref: ArtifactRef) -> list[EvaluationItem]:
    """In their order, by which other tables number them."""
    return [*stored_items([store.fetch(ref) / ITEMS])]


def overlap_step(store: Store, items: ArtifactRef, corpus: ArtifactRef, config: DecontaminationConfig) -> PartedStep:
    """Which training documents of `corpus` hold which of `items`; kind `overlap`, one part for each of the corpus.

    Every source is looked through, generated ones too. Of each part there is a table of pairs (the document's row, the
    item's number, how much of the item's words it covers); memory is bounded by a batch and the pairs of a part.
    """

    def parts() -> list[Part]:
        _, manifest = store.look_up(corpus)
        paths = (PurePosixPath(entry.path) for entry in manifest.files)
        found = (path for path in paths if path.suffix == ".parquet" and len(path.parts) == 3)
        return [Part(name) for name in sorted(str(path.with_suffix("")) for path in found if path.parts[0] == "train")]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        documents = {record.name: record.counts["documents"] for record in records}
        (folder / PARTS).write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
        return totals(records)

    settings = {"words": config.words, "least_prompt_words": config.least_prompt_words}
    identity = Identity(OVERLAP, STEP_VERSIONS[OVERLAP], settings, {"items": items, "corpus": corpus})
    return PartedStep(lambda: identity, parts, partial(_look_up, store.uri, items, corpus, config), finish)


def _look_up(
    store_uri: str, items: ArtifactRef, corpus: ArtifactRef, config: DecontaminationConfig, part: Part, folder: Path
) -> dict[str, Any]:
    store, file = Store.open(store_uri), f"{part.name}.parquet"
    judge = _judge(store_uri, items, config)
    documents = pairs = 0
    with PartWriter(folder / file, PAIR_SCHEMA) as writer:
        for batch in read_batches(store.fetch(corpus, file.__eq__) / file, selected(DOCUMENT_SCHEMA, "text", "key")):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                rows, found, coverage = judge.pairs(pa.Table.from_batches([piece]))
                columns = [pa.array(rows + documents, pa.int32()), pa.array(found, pa.int32()), pa.array(coverage)]
                writer.write(pa.table(columns, names=PAIR_SCHEMA.names).cast(PAIR_SCHEMA))
                documents, pairs = documents + piece.num_rows, pairs + len(rows)
    return {"documents": documents, "pairs": pairs}


@lru_cache(maxsize=1)
def _judge(store_uri: str, items: ArtifactRef, config: DecontaminationConfig) -> Decontamination:
    """One for all parts that a process looks through."""
    return Decontamination(read_evaluation_items(Store.open(store_uri), items), config)


def items_seen_step(
    store: Store,
    phase: PhaseConfig,
    items: ArtifactRef,
    overlap: ArtifactRef,
    sequences: ArtifactRef,
    tokens: ArtifactRef,
    checkpoint: ArtifactRef,
    max_epochs: float = MAX_EPOCHS,
    level: Level = Level.ROWS,
) -> Step:
    """When a phase came to see each item first; kind `items_seen` (a row an item: family, id, step or null).

    Steps that an intervention left out were not seen; `checkpoint` tells them. To make it raises TokensError for rows
    that another version packed, EvaluationError when `overlap` is of another corpus than `tokens`.
    """

    def produce(folder: Path) -> dict[str, float]:
        known = read_evaluation_items(store, items)
        first = _earliest(store, overlap, documents(), len(known))
        steps = pa.array(first, pa.int64(), mask=first >= phase.steps)
        names = ([getattr(item, name) for item in known] for name in ("family", "id"))
        write_table(folder / SEEN, pa.table([*map(pa.array, names), steps], names=SEEN_SCHEMA.names).cast(SEEN_SCHEMA))
        return {"items": len(known), "seen": len(known) - steps.null_count}

    def documents() -> "dict[str, Ints | None]":
        if level is Level.SOURCES:
            drawn = (one.source for one in phase.mixture if one.weight or one.epochs or one.copies)
            return {source_file(source): None for source in drawn}
        return _documents_of(store, phase, sequences, tokens, checkpoint, max_epochs)

    inputs = {"items": items, "overlap": overlap, "sequences": sequences, "tokens": tokens, "checkpoint": checkpoint}
    config = {"phase": phase.name, "max_epochs": max_epochs, "level": level.value}
    return Step(Identity(ITEMS_SEEN, STEP_VERSIONS[ITEMS_SEEN], config, inputs), produce)


def _documents_of(
    store: Store, phase: PhaseConfig, sequences: ArtifactRef, tokens: ArtifactRef, checkpoint: ArtifactRef,
    max_epochs: float,
) -> "dict[str, Ints | None]":  # fmt: skip
    """By a source's folder the first step of its documents, in the order of the token shard."""
    from k2model.tokens.exposure import first_steps
    from k2model.tokens.reader import PackedSequences
    from k2model.tokens.steps import fetch_drawn

    undone = read_interventions(store, checkpoint)
    left_out = [step for step in range(phase.steps) if any(one.skips(step) for one in undone)]
    stored = PackedSequences.open(store, sequences)
    try:
        found = first_steps(fetch_drawn(store, phase, tokens), phase, max_epochs, stored, left_out)
    finally:
        stored.close()
    return {source_file(source): steps for source, steps in found.items()}


def _earliest(store: Store, overlap: ArtifactRef, when: "Mapping[str, Ints | None]", items: int) -> Ints:
    """For each item the first step of any document that holds it, int64 [items]. `when`: by a source's folder the first
    step of its documents, None where all of them count from step 0; a part of the pairs is read at a time."""
    from k2model.tokens.exposure import NEVER

    first = np.full(items, NEVER)
    sizes = read_json(dict[str, int], store, overlap, PARTS)
    begins: dict[str, int] = {}
    for name, documents in sorted(sizes.items()):
        source = name.split("/")[1]
        begin = begins.get(source, 0)
        begins[source] = begin + documents
        if source in when:
            pairs = _pairs(store, overlap, f"{name}.parquet")
            rows, found, steps = pairs["row"].to_numpy() + begin, pairs["item"].to_numpy(), when[source]
            np.minimum.at(first, found, np.zeros(len(rows), np.int64) if steps is None else steps[rows])
    for source, steps in when.items():
        if steps is not None and begins.get(source, 0) != len(steps):
            raise EvaluationError(
                f"{overlap.uri} was made of {begins.get(source, 0):,} documents of {source}, the tokens hold "
                f"{len(steps):,}: they are of different corpora. Look the items up in the corpus that was encoded"
            )
    return first


def _pairs(store: Store, overlap: ArtifactRef, file: str) -> pa.Table:
    return read_table(store.fetch(overlap, file.__eq__) / file, PAIR_SCHEMA)
