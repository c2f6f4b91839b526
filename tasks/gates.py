"""How the gates on data end: the results in the deck, and an error that stops the DAG when the data is not fit.

A gate is made part by part like any other step (`tasks.parts`), and a breach is only decided on here, when all
parts were looked at. The page of a gate that is not passed is also in `validation_failed.html` of `K2_HOME`.
"""

from k2model.artifacts import ArtifactRef
from k2model.planning import DataPlan, StoreRef
from k2model.settings import home
from tasks._platform import WITH_DECK, by_identity, data_task, show_deck
from tasks._types import Artifact
from tasks.parts import finish

DECK = "attachments/deck.html"


@data_task(cache=by_identity(), **WITH_DECK)
def publish_checked(
    step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str, made: list[str]
) -> Artifact:
    """Gives what the gate publishes of the data it has looked at."""
    return _finish(step, store, data, inputs, identity)


@data_task(cache=by_identity(), **WITH_DECK)
def pass_gate(
    step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str, made: list[str]
) -> Artifact:
    """Gives back what was looked at, the step's only input, so that what needs it waits for the gate."""
    _finish(step, store, data, inputs, identity)
    (looked_at,) = inputs
    return looked_at


def _finish(step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str) -> ArtifactRef:
    from k2model.validation import ValidationFailed

    try:
        found = finish(step, store, data, inputs, identity)
    except ValidationFailed as failed:
        home().mkdir(parents=True, exist_ok=True)
        (home() / "validation_failed.html").write_text(failed.html, encoding="utf-8")
        show_deck("Data Docs", failed.html)
        raise
    page = store.open().fetch(found, lambda path: path == DECK) / DECK
    show_deck("Data Docs", page.read_text(encoding="utf-8"))
    return found
