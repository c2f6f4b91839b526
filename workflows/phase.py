"""One phase of a lifecycle: data -> train -> export -> evaluate -> register and gate.

A plain function that composes tasks: a DAG calls it once for each row of its recipe.
"""

from typing import Any, NamedTuple

from tasks.evaluation import evaluate, export
from tasks.registration import register
from tasks.tokens import pack, validate_sequences
from tasks.training import TRAINING_TASKS


class Data(NamedTuple):
    """What all phases share: promises of the corpus, its tokens and the tokenizer."""

    corpus: Any
    tokens: Any
    tokenizer: Any


class PhaseOutputs(NamedTuple):
    """Promises of what one phase leaves behind."""

    sequences: Any
    checkpoint: Any
    export: Any
    scores: Any
    registration: Any


def run_phase(
    plan: Any, name: str, data: Data, parent_name: str = "", parent: PhaseOutputs | None = None
) -> PhaseOutputs:
    """Compose the tasks of phase `name`; `parent` is the phase whose checkpoint it starts from.

    Every call reads its piece of the plan anew: a local run resolves a promise's attribute path in
    place, so that a piece can be handed to one task only.
    """
    packed = pack(
        store=plan.store, phase=plan.phases[name], tokens=data.tokens, max_epochs=plan.recipe.validation.max_epochs
    )
    sequences = validate_sequences(
        store=plan.store, config=plan.recipe.validation, phase=plan.phases[name], sequences=packed
    )
    checkpoint = TRAINING_TASKS[name](
        store=plan.store,
        model=plan.recipe.model,
        phase=plan.phases[name],
        sequences=sequences,
        parent=parent.checkpoint if parent else None,
    )
    exported = export(
        store=plan.store,
        model=plan.recipe.model,
        phase=plan.phases[name],
        trained_length=plan.trained_lengths[name],
        sequences=sequences,
        checkpoint=checkpoint,
        tokenizer=data.tokenizer,
    )
    scores = evaluate(
        store=plan.store,
        config=plan.recipe.evaluation,
        phase=plan.phases[name],
        lengths=plan.lengths,
        corpus=data.corpus,
        tokens=data.tokens,
        tokenizer=data.tokenizer,
        export=exported,
        parent_phase=plan.phases[parent_name] if parent else None,
        parent_export=parent.export if parent else None,
    )
    registration = register(
        store=plan.store,
        tracking_uri=plan.tracking_uri,
        recipe=plan.recipe,
        phase=plan.phases[name],
        corpus=data.corpus,
        sequences=sequences,
        checkpoint=checkpoint,
        export=exported,
        scores=scores,
        parent=parent.registration if parent else None,
    )
    return PhaseOutputs(sequences, checkpoint, exported, scores, registration)
