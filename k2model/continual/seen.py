"""What a model has seen and a batch holds, in tokens by source; and what the settings of a phase forget of it.

Counts come from artifacts: `counts.json` of tokens, licences from the statistics of the corpus, and what was really
drawn from `composition.json` of the rows. Which sources a phase can be given follows from how long their documents are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from k2model.artifacts import ArtifactRef, Store, read_json
from k2model.continual.state import Began, Corpus, State
from k2model.recipe.schedules import averaging_steps, kept_of_start
from k2model.recipe.schema import LongDocuments, OptimizerName, PhaseConfig, Recipe
from k2model.tokens.shards import counts_of
from k2model.units import readable_count

MOST = 0.5  # of a source's documents that must fit a row, for the source to be replayed in it


@dataclass(frozen=True)
class Counts:
    """What there is of a source to train on.

    lengths: documents by the power of two below their tokens, as `counts.json` has them. heldout: share of the
    documents that is held out. licence: of the documents of its corpus, all of them where there are several.
    """

    tokens: int
    documents: int = 0
    domain: str = ""
    lengths: Mapping[str, int] = field(default_factory=dict)
    heldout: float = 0.0
    licence: str = "unknown"


class _ByLicence(TypedDict):
    by_licence: dict[str, Any]


class _Statistics(TypedDict):
    train: _ByLicence


def read_counts(store: Store, corpus: Corpus) -> dict[str, Counts]:
    """What there is of each source of a corpus. Raises ArtifactError where it cannot be read."""
    counts = counts_of(store, corpus.tokens)
    licences = read_json(_Statistics, store, corpus.valid, "statistics.json")["train"]["by_licence"]
    licence = " AND ".join(sorted(licences))
    found = {}
    for source, entry in counts["train"].items():
        held = counts["heldout"][source]["documents"] if source in counts["heldout"] else 0
        share = held / (held + entry["documents"])
        found[source] = Counts(
            entry["tokens"], entry["documents"], entry["domain"], entry["lengths"], share, licence or "unknown"
        )
    return found


def realised(store: Store, sequences: ArtifactRef) -> dict[str, float]:
    """Tokens of each source in the rows that a phase was trained on, those of its buckets together."""
    from k2model.tokens import read_composition

    found: dict[str, float] = {}
    for name, entry in read_composition(store, sequences)["sources"].items():
        found = plus(found, {name.partition("[")[0]: float(entry["tokens"])})
    return found


def plus(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The sums by source, those of `one` first."""
    return {source: one.get(source, 0.0) + other.get(source, 0.0) for source in {**one, **other}}


def fits(row: PhaseConfig, counted: Counts | None, recipe: Recipe, source: str) -> bool:
    """Whether a phase can be trained on a source: its own sources, text that loses context alone where it is cut, and
    those most of whose documents are no longer than a row."""
    from k2model.tokens.mixture import NATURAL_DOMAINS

    if source in (entry.source for entry in row.mixture):
        return True
    if counted is None or not counted.lengths:
        aimed = next((one.context for one in recipe.corpus.sources if one.name == source), 0)
        return aimed <= row.sequence_length
    if counted.domain in NATURAL_DOMAINS and row.long_documents is LongDocuments.SPLIT:
        return True
    fitting = sum(number * _part(int(power), row.sequence_length) for power, number in counted.lengths.items())
    return fitting >= MOST * sum(counted.lengths.values())


def _part(power: int, length: int) -> float:
    """The part of the documents with `power` to 2 x `power` - 1 tokens that has at most `length`, were they spread
    evenly."""
    return min(1.0, max(0.0, (length - power + 1) / power))


@dataclass(frozen=True)
class Timescale:
    """Over how much training the weights are an average: steps, tokens, and the share that the weights a phase
    started from still have in the average at its end (`k2model.recipe.schedules`)."""

    phase: PhaseConfig
    steps: float
    tokens: float
    kept: float

    def sentence(self, new: float = 0.0, seen: float = 0.0) -> str:
        """All of it in words, beside so many tokens of new data and so many that the champion has seen."""
        phase = self.phase
        settings = f"lr {phase.optimizer.lr:.3g} x weight decay {phase.optimizer.weight_decay:.3g}"
        if math.isinf(self.steps):
            return f"phase '{phase.name}': {settings} average nothing: without decay all updates add up"
        times = [(new, "the new data"), (seen, "what the champion has seen")]
        beside = ", ".join(f"{_readable(self.tokens / amount)} times {what}" for amount, what in times if amount)
        matrices = "AdamW's matrices; norm gains have no decay"
        if phase.optimizer.name is OptimizerName.MUON:
            matrices = "Muon's matrices and AdamW's embedding and head alike; norm gains have no decay"
        return (
            f"phase '{phase.name}': {settings} average the weights over {self.steps:,.0f} steps, "
            f"{readable_count(self.tokens)} tokens{f' ({beside})' if beside else ''}; after its {phase.steps:,} steps "
            f"{self.kept:.2%} of that average is what it started from. This holds for {matrices}"
        )


def timescale(phase: PhaseConfig) -> Timescale:
    """What the rate, decay and schedule of a phase imply."""
    steps = averaging_steps(phase)
    return Timescale(phase, steps, steps * phase.tokens_per_step, kept_of_start(phase))


def timescales(recipe: Recipe, state: State, began: Began) -> tuple[str, ...]:
    """A sentence on each phase of a turn, whose challenger's recipe is `recipe`; the first goes on from the
    champion."""
    batches = [state.batches[name] for name in began.batches]
    new = sum(batch.tokens for batch in batches if batch.kind is began.kind)
    seen = sum(state.models[began.champion].seen.get(began.kind.value, {}).values())
    first, *again = recipe.phases
    return (timescale(first).sentence(new, seen), *(timescale(phase).sentence() for phase in again))


def _readable(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
