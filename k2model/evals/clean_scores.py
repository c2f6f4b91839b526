"""A score beside what its model had seen of the items, and once more without them.

A checkpoint had seen what its phase came to before its step, and all that the phases before came to. Results are joined
by the items' names; nothing of it is in the scores themselves, so that a score stands when more is found out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from k2model.artifacts import ArtifactRef, Step, Store, make
from k2model.curation.overlap import EvaluationItem
from k2model.documents.tables import read_table
from k2model.errors import EvaluationError
from k2model.evals.contamination import (
    PUBLIC,
    SEEN,
    SEEN_SCHEMA,
    Level,
    corpus_items_step,
    evaluation_items_step,
    items_seen_step,
    overlap_step,
)
from k2model.evals.items import Grade, ItemResult
from k2model.evals.references import Known
from k2model.evals.statistics import accuracy_interval
from k2model.recipe.repeats import repeated_of
from k2model.recipe.schema import PhaseConfig
from k2model.recipe.tasks import FAMILIES, LOSS, POSITION_LOSS, TASKS

Name = tuple[str, str]  # of an item: its family, its id


@dataclass(frozen=True)
class Sighting:
    """Where an item first stood in what a checkpoint was trained on: at which step (from 0) of which phase."""

    phase: str
    step: int


@dataclass(frozen=True)
class SeenItems:
    """Which items the checkpoints of a lifecycle had seen. `first`: by phase the step at which its training came to
    each item, None = never. `parents`: by phase the one it started from, "" = none."""

    parents: Mapping[str, str]
    first: Mapping[str, Mapping[Name, int | None]]

    @classmethod
    def read(cls, store: Store, phases: Sequence[PhaseConfig], seen: Mapping[str, ArtifactRef]) -> "SeenItems":
        """`seen`: the `items_seen` of each phase that has come to its end, by name."""
        parents = {phase.name: phase.parent for phase in phases}
        return cls(parents, {name: _read_seen(store, ref) for name, ref in seen.items()})

    def with_more(self, other: "SeenItems") -> "SeenItems":
        """With items that were looked up apart."""
        names = {**self.first, **other.first}
        return SeenItems(
            self.parents, {name: {**self.first.get(name, {}), **other.first.get(name, {})} for name in names}
        )

    def unknown(self, phase: str) -> list[str]:
        """The phases and adopted models that a phase goes back to, of which nobody here knows what they saw."""
        return [name for name in self._ancestry(phase) if name not in self.first]

    def at(self, phase: str, step: int | None = None) -> dict[Name, Sighting | None]:
        """For every item, where a checkpoint after `step` steps of a phase (None: all of them) first saw it, or None.

        Raises EvaluationError for a phase of which it is not known what it saw.
        """
        if phase not in self.first:
            raise EvaluationError(f"what '{phase}' saw is not known, only of {', '.join(self.first) or 'no phase'}")
        found: dict[Name, Sighting | None] = {}
        for name in self._ancestry(phase):  # the oldest comes last, and stays
            for item, first in self.first.get(name, {}).items():
                before = first is not None and (name != phase or step is None or first < step)
                found[item] = Sighting(name, first) if before and first is not None else found.get(item)
        return found

    def _ancestry(self, phase: str) -> list[str]:
        """The phase and all before it, newest first."""
        names = [phase]
        while parent := self.parents.get(names[-1], ""):
            names.append(parent)
        return names


def _read_seen(store: Store, ref: ArtifactRef) -> dict[Name, int | None]:
    rows = read_table(store.fetch(ref) / SEEN, SEEN_SCHEMA).to_pylist()
    return {(row["family"], row["id"]): row["step"] for row in rows}


def look_up(
    store: Store, known: Known, more: Sequence[EvaluationItem] = (), workers: int = 1, level: Level = Level.ROWS
) -> SeenItems:
    """What every phase that has come to its end had seen: of the corpus' items and those of the recipe's benchmarks, as
    the lifecycle looks them up, and of `more` items, in the stored corpus. Makes what is not there yet.

    Raises MissingArtifact when the corpus is not there.
    """
    recipe, corpus = known.recipe, known.of("", "corpus_valid")
    found = _looked_up(store, known, corpus_items_step(store, corpus, recipe.evaluation), workers, level)
    return found.with_more(_looked_up(store, known, evaluation_items_step(more), workers, level)) if more else found


def _looked_up(store: Store, known: Known, step: Step, workers: int, level: Level) -> SeenItems:
    recipe, corpus, items = known.recipe, known.of("", "corpus_valid"), make(store, step)
    overlap = make(store, overlap_step(store, items, corpus, recipe.corpus.decontamination), workers)
    seen = {}
    for phase in recipe.phases:
        if f"{phase.name}/checkpoint" in known.made:
            read = known.of(phase.name, "sequences"), known.of("", "tokens"), known.of(phase.name, "checkpoint")
            limit = recipe.validation.max_epochs
            seen[phase.name] = make(store, items_seen_step(store, phase, items, overlap, *read, limit, level))
    return SeenItems.read(store, recipe.phases, seen)


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
    """Of one score's results, whose items are of `family` as they were looked up, or of a public suite; a part of an
    item (a query of a document) is known by its cluster. What has no verdict is left out, as in the score itself."""
    judged = [one for one in results if one.grade is not Grade.UNSCORED]
    known = {one.item: _name(one, family, seen) for one in judged}
    dirty = {item for item, name in known.items() if seen.get(name) is not None}
    untold = {item for item, name in known.items() if name not in seen}
    clean = [one for one in judged if one.item not in dirty | untold]
    values = [one.value for one in clean]
    low, high = accuracy_interval(values, [one.cluster for one in clean]) if clean else (None, None)
    overlapping = [one.value for one in judged if one.item in dirty]
    return CleanScore(
        len(known), len(dirty), len(untold), len({one.item for one in clean}), _mean(values), low, high,
        _mean(overlapping),
    )  # fmt: skip


def _name(one: ItemResult, family: str, seen: Mapping[Name, Sighting | None]) -> Name:
    """Under which an item was looked up, if it was."""
    names = ((family, one.item), (family, one.cluster), (PUBLIC, one.cluster))
    return next((name for name in names if name in seen), names[0])


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def clean_scores(results: Iterable[ItemResult], seen: Mapping[Name, Sighting | None]) -> dict[str, CleanScore]:
    """Of every score among the results but losses, in the order in which scores first appear."""
    found: dict[str, list[ItemResult]] = {}
    for one in results:
        if one.score.partition("/")[0] not in (LOSS, POSITION_LOSS):
            found.setdefault(one.score, []).append(one)
    return {score: clean_score(own, family_of(score), seen) for score, own in found.items()}


def family_of(score: str) -> str:
    """Under which name the items of a score are looked up: that of its file of items, or of the benchmark."""
    named = repeated_of(score)
    plain = (named.of if named else score).partition("@")[0]
    family = plain.partition("/")[0]
    return _FAMILIES.get(plain, family if family in FAMILIES else plain)


#: The items that a score is measured on, by its name.
_FAMILIES = {score: task.items for task in TASKS for score in task.scores}
