"""What has arrived since the ledger was last looked at: each batch judged in turn, and entered with what was found.

    new_batches       those of the inbox that the ledger does not know
    judge_arrivals    the gate of each, in the order of their names: a later one is compared with an earlier
    measure_arrivals  the loss of those that passed under the champion
    enter_arrivals    an entry each

A batch is judged by artifacts, so a run that is killed finds what it has judged. The ledger knows a batch when its
entry stands and not before, so none is lost and none is taken twice.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.arrival import finding, judge_batch, measure_batch, wants_measuring
from k2model.continual.entries import Arrival
from k2model.continual.inbox import Inbox, Manifest
from k2model.continual.ledger import LedgerMoved
from k2model.continual.state import Batch, Standing, State
from k2model.continual.turn import opened
from k2model.lifecycle import LifecyclePlan


def new_batches(line: LifecyclePlan) -> list[str]:
    """Names of whole batches that the ledger does not know, in order; those before the line has a champion wait.

    Raises NoChampion where there is none to judge them by.
    """
    state = opened(line).state()
    inbox = Inbox.open(Store.open(line.store), line.recipe)
    return sorted(batch.name for batch in inbox.batches() if batch.name not in state.batches)


def judge_arrivals(line: LifecyclePlan, names: Sequence[str]) -> dict[str, ArtifactRef]:
    """By name what the gate found of each, kind `arrival`; nothing is entered yet."""
    store, state = Store.open(line.store), opened(line).state()
    inbox = Inbox.open(store, line.recipe)
    judged: dict[str, ArtifactRef] = {}
    for name in names:
        manifest = inbox.manifest(name)
        judged[name] = judge_batch(store, line.recipe, state, manifest, inbox)
        state = _with(store, state, manifest, judged[name])
    return judged


def _with(store: Store, state: State, manifest: Manifest, arrival: ArtifactRef) -> State:
    """The state if the batch were entered as it stands: what comes after it is compared with it."""
    found = finding(store, arrival, None)
    batch = Batch(manifest.name, manifest.kind, manifest.digest, found.decision, found.reason, corpus=found.corpus)
    corpora = {**state.corpora, manifest.name: found.corpus} if found.corpus else dict(state.corpora)
    return replace(state, batches={**state.batches, manifest.name: batch}, corpora=corpora)


def unmeasured(line: LifecyclePlan, judged: dict[str, ArtifactRef]) -> list[str]:
    """Names of those whose loss under the champion is wanted and not known: nothing of a node is asked without any."""
    store, state = Store.open(line.store), opened(line).state()
    return [name for name, ref in judged.items() if wants_measuring(store, line.recipe, state, ref)]


def measure_arrivals(line: LifecyclePlan, judged: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """By name the losses of those that passed, kind `arrival_losses`."""
    store, state = Store.open(line.store), opened(line).state()
    passed = {name: ref for name, ref in judged.items() if finding(store, ref, None).decision is Standing.WAITING}
    return {name: measure_batch(store, line.recipe, state, ref) for name, ref in passed.items()}


def enter_arrivals(
    line: LifecyclePlan, kickoff: datetime, judged: dict[str, ArtifactRef], losses: dict[str, ArtifactRef]
) -> State:
    """An entry for each that the ledger does not know yet; another writer's are left as they are."""
    store, ledger = Store.open(line.store), opened(line)
    inbox = Inbox.open(store, line.recipe)
    for name, arrival in judged.items():
        while name not in (state := ledger.state()).batches:
            manifest, found = inbox.manifest(name), finding(store, arrival, losses.get(name))
            batch = Batch(
                name, manifest.kind, manifest.digest, found.decision, found.reason, late=found.late,
                tokens=found.tokens, corpus=found.corpus, arrival=arrival, improves=manifest.improves,
            )  # fmt: skip
            with contextlib.suppress(LedgerMoved):  # another writer was first: look again
                ledger.append("arrival", Arrival(kickoff.isoformat(), batch), after=state)
    return ledger.state()
