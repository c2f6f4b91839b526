"""What has arrived since the ledger was last looked at: each batch judged in turn, and entered with what was found.

    new_batches       those of the inbox that the ledger does not know
    judge_arrivals    the gate of each, in the order of their names: a later one is compared with an earlier
    measure_arrivals  the loss of those that passed under the champion
    enter_arrivals    an entry each

A batch is judged by artifacts, so a run that is killed finds what it has judged. The ledger knows a batch when its
entry stands and not before, so none is lost and none is taken twice.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.batches import Broken, Manifest
from k2model.continual.entries import Arrival
from k2model.continual.gate.arrival import SIGNATURES, Finding, finding, judge_batch, measure_batch
from k2model.continual.gate.evidence import read_arrival
from k2model.continual.gate.plausible import planned
from k2model.continual.inbox import Inbox
from k2model.continual.ledger import Ledger, LedgerMoved
from k2model.continual.start import NoChampion
from k2model.continual.state import Batch, Standing, State
from k2model.continual.turn import opened
from k2model.errors import LeaseHeld
from k2model.lifecycle import LifecyclePlan

_log = logging.getLogger(__name__)
Judged = Mapping[str, ArtifactRef]  # by batch


def new_batches(line: LifecyclePlan) -> list[str]:
    """Names of batches that the ledger does not know, in order; none where there is no champion to judge them by."""
    try:
        return [*_new(line, opened(line).state())]
    except NoChampion:
        return []


def nothing_new(line: LifecyclePlan) -> str:
    """Why there was nothing to judge."""
    try:
        opened(line)
    except NoChampion as missing:
        waiting = Inbox.open(Store.open(line.store), line.recipe).look().all
        return f"{len(waiting)} batches of the inbox wait, and there is no champion to judge them by: {missing}"
    return "nothing has arrived"


def _new(line: LifecyclePlan, state: State) -> dict[str, Manifest | Broken]:
    inbox = Inbox.open(Store.open(line.store), line.recipe)
    return {one.name: one for one in inbox.look().new(state)}


def judge_arrivals(line: LifecyclePlan, names: Sequence[str]) -> dict[str, ArtifactRef]:
    """By name what the gate found of each that can be looked at, kind `arrival`; nothing is entered yet."""
    store, state = Store.open(line.store), opened(line).state()
    inbox, new = Inbox.open(store, line.recipe), _new(line, state)
    judged: dict[str, ArtifactRef] = {}
    for name in names:
        if isinstance(manifest := new.get(name), Manifest):
            try:
                judged[name] = judge_batch(store, line.recipe, state, manifest, inbox)
            except LeaseHeld as held:  # another run judges it; what comes after it is compared with what it finds
                _log.warning("%s and later ones are left to another run: %s", name, held)
                break
            state = _with(state, manifest, finding(store, judged[name]))
    return judged


def _with(state: State, manifest: Manifest, found: Finding) -> State:
    """The state if the batch were entered as it stands: what comes after it is compared with it."""
    corpora = {**state.corpora, manifest.name: found.corpus} if found.corpus else dict(state.corpora)
    return replace(state, batches={**state.batches, manifest.name: found.of(manifest)}, corpora=corpora)


def unmeasured(line: LifecyclePlan, judged: Judged) -> list[str]:
    """Names of those that passed and whose losses are not known: without any no node is asked for."""
    if not judged:
        return []
    store, state = Store.open(line.store), opened(line).state()
    steps = {name: planned(store, line.recipe, state, judged[name]) for name in _passed(store, judged)}
    return [name for name, step in steps.items() if step and store.find(step.identity) is None]


def measure_arrivals(line: LifecyclePlan, judged: Judged) -> dict[str, ArtifactRef]:
    """By name the losses of those that passed, kind `arrival_losses`."""
    if not judged:
        return {}
    store, state = Store.open(line.store), opened(line).state()
    measured: dict[str, ArtifactRef] = {}
    for name in _passed(store, judged):
        with contextlib.suppress(LeaseHeld):  # another run measures and enters it
            if (ref := measure_batch(store, line.recipe, state, judged[name])) is not None:
                measured[name] = ref
    return measured


def _passed(store: Store, judged: Judged) -> list[str]:
    return [name for name, ref in judged.items() if finding(store, ref).decision is Standing.WAITING]


def enter_arrivals(
    line: LifecyclePlan, kickoff: datetime, names: Sequence[str], judged: Judged, losses: Judged
) -> dict[str, str]:
    """An entry for each of `names` that the ledger does not know yet; another writer's are left as they are. Gives by
    name what became of it, or why it is left for the next run."""
    if not names:
        return {}
    store, ledger = Store.open(line.store), opened(line)
    left: dict[str, str] = {}
    for name in names:
        while isinstance(batch := _batch(line, store, ledger, name, judged, losses), Batch):
            with contextlib.suppress(LedgerMoved):  # another writer was first: look again
                ledger.append("arrival", Arrival(kickoff.isoformat(), batch), after=ledger.state())
        left[name] = batch
    known = ledger.state().batches
    told = {name: f"{known[name].standing.value}, {known[name].reason}" for name in names if name in known}
    return {name: left[name] or told.get(name, "it is in the inbox no more") for name in names}


def _batch(line: LifecyclePlan, store: Store, ledger: Ledger, name: str, judged: Judged, losses: Judged) -> Batch | str:
    """As it is to be entered; "" where it is, or is gone; else why it cannot be: the next run looks at it."""
    found, config = _new(line, ledger.state()).get(name), line.recipe.continual
    if found is None:
        return ""
    if isinstance(found, Broken):
        return found.batch
    if name not in judged:
        return "left to the next run, since another one is at it"
    seen = read_arrival(store, judged[name])
    if seen.digest != found.digest:
        return "left to the next run, since its manifest was written again meanwhile"
    if lost := next((one for one in seen.checks if one.name == SIGNATURES and not one.passed), None):
        return f"left until they are back: {lost.said}"  # which says nothing against the batch
    batch = finding(store, judged[name], losses.get(name)).of(found)
    if batch.standing is Standing.WAITING and name not in losses and config.arrival.measured_documents:
        return "left to the next run, since another one measures its losses"
    known = ledger.state().batches.get(name)
    if known is not None and known.digest == found.digest and known.accepted != batch.accepted:
        return "left to the next run, since a person has accepted more of it meanwhile"
    return batch
