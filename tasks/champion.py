"""The tasks of a line's champion between turns: asked everything, annealed and released; and telling people when a
workflow of the line fails.

A small pod asks the store first what is missing, so a node with accelerators starts for nothing but work.
"""

import os
from datetime import datetime
from typing import NamedTuple

from flytekit.types.error.error import FlyteError

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.candidate import Candidate
from k2model.continual.turn import Turn
from k2model.lifecycle import LifecyclePlan
from k2model.settings import masked_text, store_uri, tracking_uri
from tasks._platform import EVAL_IMAGE, RECIPE, data_task, evaluation_task, show_deck
from tasks.continual import Begun
from tasks.pods import Kind, check_gpus, evaluation_pod


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def is_unmeasured(line: LifecyclePlan) -> bool:
    """Whether there is something that the champion has not been asked."""
    from k2model.continual import champion

    return champion.is_unmeasured(line)


@evaluation_task()
def measure_champion(line: LifecyclePlan) -> str:
    """Asks the champion what is missing, by all workers of a node."""
    from k2model.continual import champion

    check_gpus(evaluation_pod(RECIPE))
    return champion.measure(line)


@data_task(Kind.ASK)
def measured_before(line: LifecyclePlan) -> str:
    """All is there: no node is asked for."""
    return ""


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def tell_evaluation(line: LifecyclePlan, kickoff: datetime, measured: str) -> str:
    """Gives MLflow the champion's scores; `measured` is what it waits for."""
    from k2model.continual import champion

    return champion.tell(line, kickoff, tracking_uri())


class Frozen(NamedTuple):
    """candidate: what is released. lacking: whether a phase of it has to be asked something first. The others are the
    candidate's own, by which the workflow looks for evaluation items in its corpus part by part."""

    candidate: Candidate
    lacking: bool
    plan: LifecyclePlan
    evaluation_items: ArtifactRef
    corpus_valid: ArtifactRef


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE)
def begin_anneal(line: LifecyclePlan, kickoff: datetime) -> Begun:
    """Looks whether the champion is to be annealed; whatever is promoted meanwhile is the next candidate's."""
    from k2model.continual.anneal import begin

    found, made = begin(line, kickoff)
    return Begun(found.go, found, made)


@data_task(Kind.ASK)
def enter_anneal(turn: Turn, made: dict[str, ArtifactRef]) -> str:
    """Enters the verdict on what was annealed into the ledger, tells MLflow and people."""
    from k2model.continual.anneal import enter

    return enter(turn, made, tracking_uri())


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE)
def begin_release(line: LifecyclePlan, turn: Turn, annealed: str) -> Frozen:
    """What is released of the champion that `turn` is the anneal of; `annealed` is what it waits for."""
    from k2model.continual import candidate as candidates

    found = candidates.candidate(line, turn.number, turn.reason)
    made = found.made
    return Frozen(found, candidates.unscored(found), found.plan, made["evaluation_items"], made["corpus_valid"])


@evaluation_task()
def score_phases(candidate: Candidate) -> dict[str, ArtifactRef]:
    """Scores of the phases of turns, by name."""
    from k2model.continual import candidate as candidates

    check_gpus(evaluation_pod(RECIPE))
    return candidates.score(candidate)


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE)
def scored_before(candidate: Candidate) -> dict[str, ArtifactRef]:
    """The same where each answer is in the store: no node is asked for."""
    from k2model.continual import candidate as candidates

    return candidates.score(candidate)


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE, enable_deck=True)
def release(line: LifecyclePlan, candidate: Candidate, scores: dict[str, ArtifactRef], overlap: ArtifactRef) -> str:
    """The release, with its model card; says where it is."""
    from k2model.continual import candidate as candidates

    made = candidates.complete(line, candidate, scores, overlap)
    card = Store.open(line.store).read(made, "MODEL_CARD.md").decode()
    show_deck("card", f"<pre>{card.replace('&', '&amp;').replace('<', '&lt;')}</pre>")
    return f"{made.uri}: check it with `k2 verify {made.uri}`"


@data_task(Kind.ASK)
def tell_failed(kickoff: datetime, overrides: dict, err: FlyteError | None = None) -> None:
    """Tells people that a workflow of the line has failed, and why. It reads nothing of the run but its inputs, and
    what goes wrong in telling is in the log alone: it must not hide what failed."""
    from k2model.continual.notify import tell_failure

    workflow = os.environ.get("FLYTE_INTERNAL_EXECUTION_WORKFLOW", "").rpartition(".")[2] or "a workflow of the line"
    said = masked_text(err.message if err else "Flyte gave no reason")
    if execution := os.environ.get("FLYTE_INTERNAL_EXECUTION_ID"):
        said = f"{said} (execution {execution})"
    tell_failure(Store.open(store_uri()), RECIPE, kickoff.isoformat(), workflow, said)
