"""The matrix: every checkpoint of a lifecycle x every task, from the cells that there are; what is missing is told.

A row of checkpoints is that of the recipe's phases in their order, each phase's kept intermediate checkpoints before
its last. What a cell is follows from its identity alone, so whoever measured it, a phase's step, a command or a pod,
it is found here; and what a recipe asks anew is missing here until it is filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.files import files_at
from k2model.errors import CorruptArtifact, EvaluationError, MissingArtifact, nearest
from k2model.evals.cells import Cell, CellFailure, rows_of
from k2model.evals.choice import Questions
from k2model.evals.references import Known, subject_of
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import PhaseConfig


@dataclass(frozen=True, order=True)
class Checkpoint:
    """Weights at a moment of a lifecycle: `order` among all of it, after `step` steps of `phase`, when `tokens` had
    been seen since random initialisation along its parents; `reference` is what it is called."""

    order: int
    phase: str
    step: int
    tokens: int
    reference: str
    last: bool = True  # of its phase


@dataclass(frozen=True)
class Entry:
    """One cell of the matrix: `ref` and `rows` (of the checkpoint's phase) are there where it was measured."""

    checkpoint: Checkpoint
    cell: Cell
    ref: ArtifactRef | None
    rows: tuple[ScoreRow, ...] = ()


def checkpoints_of(known: Known, intermediate: bool = True) -> list[Checkpoint]:
    """Those that are there, in the order of the recipe and of training."""
    found: list[Checkpoint] = []
    before: dict[str, int] = {}
    for phase in known.recipe.phases:
        seen = before.get(phase.parent, 0)
        before[phase.name] = seen + phase.tokens
        steps = _kept(known, phase) if intermediate else []
        for step in steps:
            tokens = seen + step * phase.tokens_per_step
            found.append(Checkpoint(len(found), phase.name, step, tokens, f"{phase.name}@{step}", last=False))
        if f"{phase.name}/export" in known.made:
            found.append(Checkpoint(len(found), phase.name, phase.steps, before[phase.name], phase.name))
    return found


def _kept(known: Known, phase: PhaseConfig) -> list[int]:
    """Steps of the kept checkpoints before the last."""
    from k2model.training.checkpoint import is_kept_for_good, list_checkpoints

    planned = known.planned.get(f"{phase.name}/checkpoint")
    if planned is None or not phase.checkpoints.keep_every:
        return []
    steps = (step for step, _ in list_checkpoints(files_at(planned.uri)))
    return [step for step in steps if step < phase.steps and is_kept_for_good(step, phase.checkpoints)]


def chosen_checkpoints(known: Known, chosen: Sequence[str] = (), intermediate: bool = True) -> list[Checkpoint]:
    """Those of the names, of all that are there. Raises EvaluationError for a name that is none of them."""
    there = {one.reference: one for one in checkpoints_of(known, intermediate or bool(chosen))}
    for name in chosen:
        if name not in there:
            raise EvaluationError(f"there is no checkpoint '{name}' of {known.recipe.name}; {nearest(name, there)}")
    return [there[name] for name in chosen] or list(there.values())


def entries(
    store: Store, questions: Questions, checkpoints: Sequence[Checkpoint]
) -> tuple[list[Entry], list[CellFailure]]:
    """Every cell of the checkpoints, in their order and that of scores; and what is wrong with checkpoints that cannot
    be read, as one that is damaged, or that its training has removed meanwhile: they hide no other."""
    found, failed = [], []
    for one in checkpoints:
        try:
            subject = subject_of(one.reference, store, questions.known)
        except (CorruptArtifact, MissingArtifact) as error:
            failed.append(CellFailure(one.reference, "(all tasks)", type(error).__name__, str(error)))
            continue
        for measure in questions.of(subject, one.reference):
            cell = Cell(subject, measure)
            ref = store.find(cell.identity)
            rows = tuple(rows_of(store, ref, one.phase)) if ref else ()
            found.append(Entry(one, cell, ref, rows))
    return found, failed
