"""A person's word on a batch that the gate turned away: what it fails is accepted, for just these data.

It is said to the ledger and never in a manifest: whoever writes a batch cannot wave it through. The next arrivals judge
the batch again; what was accepted is measured and kept as evidence all the same, and everything else decides as ever.
"""

from collections.abc import Sequence

from k2model.artifacts import Store
from k2model.continual.entries import BINDING, TURNED_AWAY, Accept
from k2model.continual.gate.evidence import read_arrival
from k2model.continual.gate.plausible import plausible
from k2model.continual.inbox import Inbox, InboxError
from k2model.continual.ledger import Ledger
from k2model.continual.state import Batch, State
from k2model.errors import K2Error, nearest


class NotAcceptable(K2Error):
    """What a person would accept of a batch is not there to be accepted."""


def failing(store: Store, batch: Batch) -> list[str]:
    """Names of the checks that speak against a batch, in the order of the gate; none where it was not looked at."""
    if batch.arrival is None:
        return []
    rows = [*read_arrival(store, batch.arrival).checks, *(plausible(store, batch.losses) if batch.losses else ())]
    return [one.name for one in rows if one.stands and one.name not in batch.accepted]


def accept(
    store: Store, inbox: Inbox, ledger: Ledger, name: str, checks: Sequence[str], reason: str, who: str
) -> tuple[State, list[str]]:
    """The state with the entry, and the names of failing checks that were not accepted: while there are some, the batch
    stays out.

    Raises NotAcceptable where the batch was not turned away, its data are no longer those that were judged, or a check
    does not fail or cannot be accepted; LedgerMoved where another process was first.
    """
    state = ledger.state()
    batch = state.batches.get(name)
    away = [one.name for one in state.batches.values() if one.standing in TURNED_AWAY]
    if batch is None or batch.standing not in TURNED_AWAY:
        found = "not in the ledger" if batch is None else batch.standing.value
        raise NotAcceptable(f"batch '{name}' is {found}, not refused or quarantined; {nearest(name, away)}")
    try:
        lying = inbox.manifest(name)
    except InboxError as error:
        raise NotAcceptable(f"batch '{name}' cannot be judged again: {error}") from error
    if lying.digest != batch.digest:
        raise NotAcceptable(
            f"batch '{name}' was written again since it was judged: look at what the next arrivals find of it"
        )
    failed = failing(store, batch)
    for one in checks:
        if one in BINDING:
            raise NotAcceptable(
                f"'{one}' of batch '{name}' cannot be accepted, since without it there is nothing to train on, or "
                "nobody knows what it is; add what it should be as another batch"
            )
        if one not in failed:
            raise NotAcceptable(f"'{one}' does not speak against batch '{name}'; {nearest(one, failed)}")
    state = ledger.append("accept", Accept(name, tuple(checks), reason, who), after=state)
    return state, [one for one in failed if one not in checks]
