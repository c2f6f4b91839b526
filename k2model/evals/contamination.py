"""What of an evaluation a checkpoint had seen: items that share words or a key with documents it was trained on.

Two things are asked, and kept apart. Which documents of a corpus hold an item is a question to the corpus alone: every
part is looked through, in whatever process, for words in a row and keys as curation does it (`k2model.curation`), and
what is found is an artifact of its own, of kind `overlap`. Items that came later are looked up in the stored corpus the
same way. Which of those documents a checkpoint had seen at its step is a question to the rows of its phase and of the
phases before it. A score is then told beside the share of its items that had been seen, and once more without them.

A document counts as seen from the first step on that had any piece of it, be it not the piece that holds the item.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store, totals
from k2model.curation.clean import BATCH_BYTES
from k2model.curation.decontamination import Decontamination
from k2model.curation.overlap import EvaluationItem
from k2model.curation.parts import batches
from k2model.curation.texts import Ints, by_bytes
from k2model.documents.schema import source_file
from k2model.documents.tables import PartWriter, required, write_table
from k2model.errors import EvaluationError
from k2model.evals.items import Grade, ItemResult
from k2model.evals.scores import mean_interval, wilson
from k2model.recipe.curation import DecontaminationConfig
from k2model.recipe.schema import PhaseConfig
from k2model.training.log import read_interventions
from k2model.versions import STEP_VERSIONS

ITEMS = "evaluation_items.parquet"
PARTS = "parts.json"  # documents of every part
ITEM_SCHEMA = required(
    family=pa.string(), id=pa.string(), key=pa.string(), prompt=pa.string(), answer=pa.string(), worded=pa.bool_(),
    holds_out=pa.bool_(),
)  # fmt: skip
PAIR_SCHEMA = required(row=pa.int32(), item=pa.int32(), coverage=pa.float32())

Name = tuple[str, str]  # of an item: its family, its id


class Level(str, Enum):
    """How finely it is known what a checkpoint had seen."""

    ROWS = "rows"  # documents in the rows of the steps it has taken
    SOURCES = "sources"  # every document of the sources in its mixtures: no less than it saw


def evaluation_items_step(items: Iterable[EvaluationItem]) -> Step:
    """The items to look for as an artifact: kind `evaluation_items`, known by what they say."""
    rows = [item._asdict() for item in items]
    if not rows:
        raise EvaluationError("there are no items to look for; name families or benchmarks in the recipe's evaluation")
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True, ensure_ascii=True).encode()).hexdigest()

    def produce(folder: Path) -> dict[str, float]:
        write_table(folder / ITEMS, pa.Table.from_pylist(rows, schema=ITEM_SCHEMA))
        return {"items": len(rows)}

    return Step(Identity("evaluation_items", STEP_VERSIONS["evaluation_items"], {"items": digest}, {}), produce)


def read_evaluation_items(store: Store, ref: ArtifactRef) -> list[EvaluationItem]:
    """In their order, by which other tables number them."""
    return [EvaluationItem(**row) for row in pq.read_table(store.fetch(ref) / ITEMS).to_pylist()]


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
    identity = Identity("overlap", STEP_VERSIONS["overlap"], settings, {"items": items, "corpus": corpus})
    return PartedStep(lambda: identity, parts, partial(_look_up, store.uri, items, corpus, config), finish)


def _look_up(
    store_uri: str, items: ArtifactRef, corpus: ArtifactRef, config: DecontaminationConfig, part: Part, folder: Path
) -> dict[str, Any]:
    store, file = Store.open(store_uri), f"{part.name}.parquet"
    judge = _judge(store_uri, items, config)
    documents = pairs = 0
    with PartWriter(folder / file, PAIR_SCHEMA) as writer:
        for batch in batches(store.fetch(corpus, lambda path: path == file) / file, ["text", "key"]):
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


class Trained(NamedTuple):
    """What a phase was trained on: its row of the recipe, its packed rows, the tokens they hold, and the steps that
    interventions left out."""

    phase: PhaseConfig
    sequences: ArtifactRef
    tokens: ArtifactRef
    left_out: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, store: Store, phase: PhaseConfig, sequences: ArtifactRef, tokens: ArtifactRef, checkpoint: ArtifactRef
    ) -> "Trained":
        """Of a phase that has come to its end; what was left out is read from its last state."""
        undone = read_interventions(store.read(checkpoint, "final/state.json"))
        skipped = (step for step in range(phase.steps) if any(one.skips(step) for one in undone))
        return cls(phase, sequences, tokens, frozenset(skipped))


@dataclass(frozen=True)
class Sighting:
    """Where an item first stood in what a checkpoint was trained on: phase, step from 0 (None where only the sources
    are known)."""

    phase: str
    step: int | None


@dataclass
class SeenItems:
    """Which items of an `overlap` the checkpoints of a lifecycle had seen.

    phases: by name. max_epochs: as the rows were packed with. A phase is worked out when it is first asked for.
    """

    store: Store
    overlap: ArtifactRef
    items: Sequence[EvaluationItem]
    phases: Mapping[str, Trained]
    max_epochs: float
    level: Level = Level.ROWS
    _first: dict[str, Ints] = field(default_factory=dict)

    def unknown(self, phase: str) -> list[str]:
        """The models that a phase goes back to whose data nobody here has seen: an adopted one."""
        *_, oldest = self._ancestry(phase)
        parent = self.phases[oldest].phase.parent
        return [parent] if parent else []

    def seen(self, phase: str, step: int | None = None) -> dict[Name, Sighting | None]:
        """For every item, where a checkpoint after `step` steps of a phase (None: all of them) first saw it, or None.

        Raises EvaluationError for a phase that is not known, TokensError for rows of another version.
        """
        found: dict[Name, Sighting | None] = {(item.family, item.id): None for item in self.items}
        for name in self._ancestry(phase):
            limit = step if name == phase and step is not None else self.phases[name].phase.steps
            first = self._first_steps(name)
            for number in np.flatnonzero(first < limit).tolist():
                item = self.items[number]
                at = int(first[number]) if self.level is Level.ROWS else None
                found[item.family, item.id] = Sighting(name, at)  # the oldest comes last
        return found

    def _ancestry(self, phase: str) -> list[str]:
        """The phase and those before it, newest first."""
        if phase not in self.phases:
            raise EvaluationError(f"'{phase}' is none of the phases whose rows are here: {', '.join(self.phases)}")
        names = [phase]
        while (parent := self.phases[names[-1]].phase.parent) in self.phases:
            names.append(parent)
        return names

    def _first_steps(self, phase: str) -> Ints:
        """The first step of a phase that had a document with each item, [items]."""
        if phase not in self._first:
            trained = self.phases[phase]
            when = _sources_of(trained) if self.level is Level.SOURCES else self._documents_of(trained)
            self._first[phase] = _earliest(self.store, self.overlap, when, len(self.items))
        return self._first[phase]

    def _documents_of(self, trained: Trained) -> "dict[str, Ints | None]":
        from k2model.tokens.exposure import first_steps
        from k2model.tokens.reader import PackedSequences
        from k2model.tokens.steps import fetch_drawn

        folder = fetch_drawn(self.store, trained.phase, trained.tokens)
        stored = PackedSequences.open(self.store, trained.sequences)
        try:
            found = first_steps(folder, trained.phase, self.max_epochs, stored, trained.left_out)
        finally:
            stored.close()
        return {source_file(source): steps for source, steps in found.items()}


def _sources_of(trained: Trained) -> "dict[str, Ints | None]":
    drawn = (one.source for one in trained.phase.mixture if one.weight or one.epochs or one.copies)
    return {source_file(source): None for source in drawn}


def _earliest(store: Store, overlap: ArtifactRef, when: "Mapping[str, Ints | None]", items: int) -> Ints:
    """For each item the first step of any document that holds it, int64 [items]. `when`: by a source's folder the first
    step of its documents, None where all of them count from step 0; a part of the pairs is read at a time."""
    from k2model.tokens.exposure import NEVER

    first = np.full(items, NEVER)
    sizes: dict[str, int] = json.loads(store.read(overlap, PARTS))
    begins: dict[str, int] = {}
    for name, documents in sorted(sizes.items()):
        source = name.split("/")[1]
        begin = begins.get(source, 0)
        begins[source] = begin + documents
        if source in when:
            file = f"{name}.parquet"
            pairs = pq.read_table(store.fetch(overlap, lambda path, file=file: path == file) / file, partitioning=None)
            rows, found, steps = pairs["row"].to_numpy() + begin, pairs["item"].to_numpy(), when[source]
            np.minimum.at(first, found, np.zeros(len(rows), np.int64) if steps is None else steps[rows])
    for source, steps in when.items():
        if steps is not None and begins.get(source, 0) != len(steps):
            raise EvaluationError(
                f"{overlap.uri} was made of {begins.get(source, 0):,} documents of {source}, the tokens hold "
                f"{len(steps):,}: they are of different corpora. Look the items up in the corpus that was encoded"
            )
    return first


@dataclass(frozen=True)
class CleanScore:
    """A score beside what its model had seen of the items. `seen` of `n` items that have a verdict overlap with its
    training; `value`, `low` and `high` are the score and its 95% interval on the `clean_n` others, None where there
    are none; `seen_value` is the score on those that overlap. `untold` items were never looked up, and count for
    neither."""

    n: int
    seen: int
    untold: int
    clean_n: int
    value: float | None
    low: float | None
    high: float | None
    seen_value: float | None

    @property
    def overlap(self) -> float | None:
        """The share of the items looked up that were seen; None where none was looked up."""
        return self.seen / (self.n - self.untold) if self.n > self.untold else None


def clean_score(results: Iterable[ItemResult], family: str, seen: Mapping[Name, Sighting | None]) -> CleanScore:
    """Of one score's results, whose items are of `family` as they were looked up. What has no verdict is left out, as
    in the score itself."""
    judged = [one for one in results if one.grade is not Grade.UNSCORED]
    names = {one.item: (family, one.item) for one in judged}
    dirty = {item for item, name in names.items() if seen.get(name) is not None}
    untold = {item for item, name in names.items() if name not in seen}
    clean = [one for one in judged if one.item not in dirty | untold]
    value, low, high = _interval(clean) if clean else (None, None, None)
    overlapping = [one.value for one in judged if one.item in dirty]
    return CleanScore(
        len(names), len(dirty), len(untold), len({one.item for one in clean}), value, low, high,
        math.fsum(overlapping) / len(overlapping) if overlapping else None,
    )  # fmt: skip


def _interval(results: Sequence[ItemResult]) -> tuple[float, float, float]:
    """Mean and 95% interval: Wilson's where each item is right or wrong once and by itself, else over clusters."""
    alone = len({one.cluster for one in results}) == len(results)
    if alone and {one.value for one in results} <= {0.0, 1.0}:
        right = sum(one.value == 1.0 for one in results)
        return right / len(results), *wilson(right, len(results))
    sums: dict[str, list[float]] = {}
    for one in results:
        sums.setdefault(one.cluster, []).append(one.value)
    return mean_interval([math.fsum(values) for values in sums.values()], [len(values) for values in sums.values()])


def by_score(results: Iterable[ItemResult]) -> Iterator[tuple[str, list[ItemResult]]]:
    """The results of each score, in the order in which scores first appear."""
    found: dict[str, list[ItemResult]] = {}
    for one in results:
        found.setdefault(one.score, []).append(one)
    yield from found.items()
