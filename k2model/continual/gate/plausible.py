"""How likely a batch's documents are under the champion, beside documents that it has never seen.

Measured are bits per byte of what is learned (a special token counts as a byte): of some of the batch's documents, and
once for each champion of its own held-out documents of the same kind, dialogues or text. Those are far from a bell:
most short answers cost next to nothing, some cost whole bits a byte, so a ratio to their median tells nothing. The
bounds are their own quantiles: a document is implausible when it is less likely than all but `implausible_quantile` of
the held-out ones of every source of its domain, or more likely than all but as many, by `CERTAIN` at least: a champion
that is sure of its own answers is surer yet of some. A batch that is like any one of
the sources has about that share outside on each side, and one that is a part of a source, its hardest, some times that;
`max_implausible` is allowed.

Seen is what most of a batch has in common: noise, shuffled characters, random words, another language, answers that
belong to other questions. What is no less likely than held-out documents are is not seen: wrong answers that look like
right ones, text that was learned by heart where held-out documents are as likely, some gibberish in good company. Of a
domain that the champion has not seen everything is unlikely, so that only what is too likely counts, beside the sources
of all domains: gibberish that comes under a new name is not seen here. Measured on the champion of the laptop's
lifecycle by `benchmarks/plausible.py`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Step, Store, make, read_json
from k2model.continual.gate.evidence import EXAMPLES, Check, read_arrival
from k2model.continual.gate.reading import EXCERPT, Read, sampled
from k2model.continual.state import Model, Standing, State
from k2model.errors import EvaluationError
from k2model.plain import canonical, to_plain
from k2model.recipe import Recipe
from k2model.recipe.continual import ArrivalConfig, BatchKind
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.evals.backend import Backend
    from k2model.evals.cells import Subject

LOSSES = "losses.json"
HELDOUT = 128  # held-out documents of each source of the champion that are measured
LEAST = 8  # of a source or domain, from which on it has quantiles of its own
CERTAIN = 0.01  # bits per byte: of two documents that cost less, neither is the likelier in any way that tells
AT_ONCE = 32  # documents that a backend is given at once


@dataclass(frozen=True)
class Measured:
    """A document's loss: `bits` per byte of what is learned, over `size` bytes."""

    document: str
    source: str
    origin: str
    domain: str
    bits: float
    size: int
    text: str


def measure_batch(store: Store, recipe: Recipe, state: State, arrival: ArtifactRef) -> ArtifactRef | None:
    """The losses of an accepted batch under the champion; kind `arrival_losses`. None where `measured_documents` is 0.

    By one process, or by every worker of an evaluation's job, of which one team measures: it holds the model together.
    Raises what `planned` does.
    """
    from k2model.evals.step import joined_workers
    from k2model.evals.team import team_of

    if (step := planned(store, recipe, state, arrival)) is None:
        return None
    with joined_workers() as world:
        found = world.broadcast(lambda: store.find(step.identity))
        if found is not None:
            return found
        team = team_of(world, recipe.evaluation.tensor)
        world.all_gather(lambda: bool(team.together(lambda: None if team.number else make(store, step))))
        return world.broadcast(lambda: make(store, step))


def planned(store: Store, recipe: Recipe, state: State, arrival: ArtifactRef) -> Step | None:
    """The step of an accepted batch's losses, None where `measured_documents` is 0: nothing is read or loaded yet.

    Raises EvaluationError where the line has no champion, or the batch has no valid corpus.
    """
    config, told = recipe.continual.arrival, read_arrival(store, arrival)
    if not config.measured_documents:
        return None
    if state.model is None:
        raise EvaluationError(
            f"line '{state.line}' has no champion to measure batch '{told.batch}' with; start it first"
        )
    if "corpus_valid" not in told.made:
        raise EvaluationError(f"batch '{told.batch}' has no valid corpus ({told.reason}): there is nothing to measure")
    subject, window = champion(store, recipe, state.model, told.kind)
    reference = reference_step(store, subject, state.model.made["corpus_valid"], told.kind, window)
    return losses_step(store, subject, told.made["corpus_valid"], reference, config, window)


def champion(store: Store, recipe: Recipe, model: Model, kind: BatchKind) -> "tuple[Subject, int]":
    """The champion's model of that kind, and the tokens of a row that it was trained with."""
    from k2model.evals.references import exported

    phase = recipe.phase(recipe.continual.tuned if kind is BatchKind.TUNED else recipe.continual.base)
    export, tokenizer = model.made[f"{kind.value}/export"], model.made["tokenizer"]
    return exported(
        export, tokenizer, store, f"{model.name} {kind.value}", phase.sequence_length
    ), phase.sequence_length


def reference_step(store: Store, subject: "Subject", corpus: ArtifactRef, kind: BatchKind, window: int) -> Step:
    """Losses of a champion's held-out documents: dialogues for fine-tuning, else text. Kind `reference_losses`."""

    def produce(folder: Path) -> dict[str, float]:
        wanted = kind is BatchKind.TUNED
        documents = [one for one in sampled(store, corpus, HELDOUT, "heldout") if one.dialogue is wanted]
        return _write(folder, measured(subject.open(window), documents, window) if documents else [])

    config = {"kind": kind, "window": window, "documents": HELDOUT, "model": dict(subject.identity)}
    inputs = {**subject.inputs, "corpus": corpus}
    return Step(Identity("reference_losses", STEP_VERSIONS["reference_losses"], config, inputs), produce)


def losses_step(
    store: Store, subject: "Subject", corpus: ArtifactRef, reference: Step, config: ArrivalConfig, window: int
) -> Step:
    """Losses of a seeded choice of a batch's training documents, and the check of them; kind `arrival_losses`. What
    they are compared with follows from the inputs that `reference` has."""

    def produce(folder: Path) -> dict[str, float]:
        known = read_losses(store, make(store, reference))
        documents = sampled(store, corpus, config.measured_documents)
        found = measured(subject.open(window), documents, window) if documents else []
        return _write(folder, found, checks_of(found, known, config))

    names = ("measured_documents", "max_implausible", "implausible_quantile")
    settings = {name: getattr(config, name) for name in names} | {"reference": reference.identity.key, "window": window}
    inputs = {**subject.inputs, "corpus": corpus}
    settings["model"] = dict(subject.identity)
    return Step(Identity("arrival_losses", STEP_VERSIONS["arrival_losses"], settings, inputs), produce)


def measured(backend: "Backend", documents: Sequence[Read], window: int) -> list[Measured]:
    """Of documents that have something to learn, in their order."""
    found: list[Measured] = []
    wanted = [one for one in documents if one.target_bytes]
    for first in range(0, len(wanted), AT_ONCE):
        batch = wanted[first : first + AT_ONCE]
        for one, said in zip(batch, backend.rolling([one.segments for one in batch], window), strict=True):
            bits = -said.nats / math.log(2) / one.target_bytes
            text = one.text[:EXCERPT]
            found.append(Measured(one.id, one.source, one.origin, one.domain, round(bits, 6), one.target_bytes, text))
    return found


def checks_of(found: Sequence[Measured], known: Sequence[Measured], config: ArrivalConfig) -> list[Check]:
    """How many documents are implausible beside the `known` ones, which are the champion's held-out."""
    if not known or not found:
        which = "the champion has no held-out documents of this kind" if found else "the batch has nothing to learn"
        return [Check("plausible", 0, config.max_implausible, True, f"{which}: implausible losses are not looked for")]
    usual = _Usual(known, config.implausible_quantile)
    low, high = ([one for one in found if usual.outside(one) == side] for side in (-1, 1))
    share = (len(low) + len(high)) / len(found)
    said = (
        f"{len(low)} of {len(found)} documents are implausibly likely under the champion and {len(high)} implausibly "
        f"unlikely ({share:.1%}), beside its own held-out ones, of which {config.implausible_quantile:.1%} are on "
        f"either side; at most {config.max_implausible:.0%} may be"
    )
    worst: list[Measured] = []
    if share > config.max_implausible:
        worst = [*sorted(high, key=lambda one: -one.bits), *sorted(low, key=lambda one: one.bits)][:EXAMPLES]
    examples = tuple({**to_plain(one), "usual": [*usual.of(one)]} for one in worst)
    return [
        Check.at_most("plausible", share, config.max_implausible, said, failing=Standing.QUARANTINED, examples=examples)
    ]


class _Usual:
    """Bounds of bits per byte: of the sources of each domain that has enough held-out documents, and of all."""

    def __init__(self, known: Sequence[Measured], quantile: float):
        sources: dict[tuple[str, str], list[float]] = {}
        for one in known:
            sources.setdefault((one.domain, one.source), []).append(one.bits)
        self.domains: dict[str, tuple[float, float]] = {}
        for domain in {domain for domain, _ in sources}:
            own = [bits for (of, _), bits in sources.items() if of == domain]
            if sum(map(len, own)) >= LEAST:
                self.domains[domain] = _bounds(own, quantile)
        self.all = _bounds([*sources.values()], quantile)

    def of(self, one: Measured) -> tuple[float, float | None]:
        """The lower and the upper bound; none of what is unlikely in a domain that is not known."""
        return self.domains.get(one.domain, (self.all[0], None))

    def outside(self, one: Measured) -> int:
        """-1 below the bounds by what tells anything, 1 above them, 0 within."""
        low, high = self.of(one)
        return -1 if one.bits < low - CERTAIN else int(high is not None and one.bits > high)


def _bounds(sources: Sequence[Sequence[float]], quantile: float) -> tuple[float, float]:
    """The widest of the sources that have enough documents, of all together where none has."""
    own = [bits for bits in sources if len(bits) >= LEAST] or [[one for bits in sources for one in bits]]
    low, high = ([float(np.quantile(bits, at)) for bits in own] for at in (quantile, 1 - quantile))
    return round(min(low), 6), round(max(high), 6)


def _write(folder: Path, found: Iterable[Measured], checks: Sequence[Check] = ()) -> dict[str, float]:
    documents = [*found]
    (folder / LOSSES).write_bytes(canonical({"documents": to_plain(documents), "checks": to_plain(checks)}))
    return {"documents": len(documents), "median": median(one.bits for one in documents) if documents else 0.0}


class _Losses(TypedDict):
    documents: list[Measured]
    checks: list[Check]


def _read(store: Store, ref: ArtifactRef) -> _Losses:
    return read_json(_Losses, store, ref, LOSSES)


def read_losses(store: Store, ref: ArtifactRef) -> list[Measured]:
    """Of an artifact `reference_losses` or `arrival_losses`."""
    return _read(store, ref)["documents"]


def plausible(store: Store, ref: ArtifactRef) -> list[Check]:
    """The rows of the gate that an artifact `arrival_losses` holds."""
    return _read(store, ref)["checks"]
