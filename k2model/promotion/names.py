"""Models of a line as people name them: a lifecycle's `sft@3` or `sft`, and the number of a turn.

`sft@3` is version 3 of the registered model, `sft` the model of that phase that was judged last. Both are told by the
line's ledger, so that no MLflow is needed to look at what was decided.
"""

from k2model.continual.state import TUNED, Judged, State
from k2model.errors import nearest
from k2model.promotion.gates import NotPromotable
from k2model.units import whole_number


def judged_called(state: State, reference: str) -> Judged:
    """The last judgement of a lifecycle's model. Raises NotPromotable for one that no gate has judged."""
    phase, at, version = reference.partition("@")
    fitting = [
        one for one in state.judged.values()
        if phase in ("", one.phase) and (not at or str(one.model.version) == version)
    ]  # fmt: skip
    if reference and fitting:
        return fitting[-1]
    known = [one.name for one in state.judged.values()]
    there = f"{nearest(reference, known)}; judged were {', '.join(known)}" if known else "nothing was judged yet"
    raise NotPromotable(
        f"'{reference}' is no fine-tuned model that the gates of line '{state.line}' have judged: {there}. A lifecycle "
        "judges its own when it registers them (make lifecycle)"
    )


def turn_called(state: State, reference: str) -> int:
    """The number under which a model was the champion, as a rollback goes to it. Raises NotPromotable."""
    if (turn := whole_number(reference)) is not None:
        return turn
    chain = [*state.before, *([] if state.champion is None else [state.champion])]
    digest = judged_called(state, reference).digest
    checkpoints = {turn: state.models[turn].made.get(f"{TUNED}/checkpoint") for turn in chain}
    found = [turn for turn, ref in checkpoints.items() if ref is not None and ref.digest == digest]
    if not found:
        champions = ", ".join(state.called(state.models[turn]) for turn in chain) or "none"
        raise NotPromotable(f"{reference} made no champion that can stand again; these can: {champions}")
    return found[-1]
