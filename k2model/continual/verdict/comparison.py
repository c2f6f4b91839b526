"""The verdict on a challenger: better where it should be, and not worse anywhere else; kind `verdict`.

Two families of tests on the same items of both models (`k2model.continual.verdict.capabilities` has each):

- *No worse*, of every capability: the lower bound of the paired gain lies above minus what the recipe allows. All of
  them must pass for a promotion, so each is tested at the full level without a correction, and the chance to promote a
  model that is truly worse than allowed in any of them is at most 1 - confidence (intersection-union test: Berger,
  Technometrics 24, 1982, 295-300). The price is power: of 20 capabilities an equal model must pass all.
- *Better*, of at least one target: the loss on the held-out documents of the very batches (`loss/<domain>@new`), and
  the scores that the recipe or a batch names. Any one of them is enough, so they are corrected for their number (Holm,
  1979). Not asked of a champion that was annealed for a release, nor of a lifecycle's model: to be no worse is enough.

Measured, by going through every table that can come (`tests/continual/test_comparison.py` repeats it): a model whose
true loss is what is allowed passes a capability of 128 items with at most 4.9%. One that is equal and differs on a
tenth of the items passes with 51%, 95% and 99.9% where 0.05, 0.1 and 0.15 are allowed; of 160 items 61%, 98%, 100%.
Of 20 such capabilities of 128 items, were they independent, it passes all with 34% at 0.1 and with 98% at 0.15: what is
allowed and how many items are asked belong together.

What is missing or damaged of either model is an error, never a pass. The recipe's gates on the tuned phase hold too.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Step, Store, read_json
from k2model.artifacts.outside import remedy
from k2model.continual.state import Began, Outcome, State
from k2model.continual.verdict.capabilities import (
    BETTER,
    NEW,
    Row,
    allowed_loss,
    by_score,
    row_of,
    safety_results,
)
from k2model.continual.verdict.verdict import Gate, Verdict, reason_of
from k2model.errors import CorruptArtifact, EvaluationError
from k2model.evals.cells import Cell, results_of
from k2model.evals.choice import named
from k2model.evals.items import ItemResult
from k2model.evals.material import Material
from k2model.evals.measures import losses_of
from k2model.evals.noninferiority import holm
from k2model.evals.references import exported
from k2model.evals.scores import ScoreRow, load_scores
from k2model.plain import NotPlain, from_plain
from k2model.recipe import Recipe
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.schema import GateConfig
from k2model.recipe.tasks import LOSS
from k2model.registry.gates import gate_results
from k2model.safety.judging import read_safety
from k2model.versions import STEP_VERSIONS

RESULT, PAGE = "verdict.json", "attachments/verdict.html"


@dataclass(frozen=True)
class Side:
    """What is known of one of the two. scores: its scores, kind `scores`. losses: cells (kind `score`) of its losses by
    the score's name and the corpus, which stand instead of the losses in `scores`. safety: where it was tested."""

    name: str
    scores: ArtifactRef
    losses: Mapping[tuple[str, str], ArtifactRef]
    safety: ArtifactRef | None = None

    @property
    def inputs(self) -> dict[str, ArtifactRef]:
        losses = {".".join(filter(None, key)).replace("/", "."): ref for key, ref in self.losses.items()}
        return {"scores": self.scores, **losses, **({"safety": self.safety} if self.safety else {})}


def measures_both(
    store: Store, recipe: Recipe, state: State, began: Began, made: Mapping[str, ArtifactRef]
) -> list[Cell]:
    """The losses that a comparison needs beside the scores of both: on what the champion was trained on, where no new
    document hides what is lost, and on each batch alone. For `k2model.evals.step.measure_together`; those that are
    there are found."""
    return [cell for side in _loss_cells(store, recipe, state, began, made) for cell in side.values()]


def _loss_cells(
    store: Store, recipe: Recipe, state: State, began: Began, made: Mapping[str, ArtifactRef]
) -> list[dict[tuple[str, str], Cell]]:
    """Of champion and challenger, by score and corpus."""
    champion, phase = state.models[began.champion], recipe.phase(recipe.continual.tuned)
    corpora = {"": (champion.made["corpus_valid"], champion.made["tokens"])}
    for name in began.batches:
        if (corpus := state.batches[name].corpus) is not None:
            corpora[name] = (corpus.valid, corpus.tokens)
    sides = []
    for name, export in (
        (champion.name, champion.made["tuned/export"]), (began.challenger, made[f"{phase.name}/export"]),
    ):  # fmt: skip
        subject = exported(export, champion.made["tokenizer"], store, name, phase.sequence_length)
        sides.append({
            (f"{measure.name}{NEW if corpus else ''}", corpus): Cell(subject, measure)
            for corpus, (valid, tokens) in corpora.items()
            for measure in losses_of(recipe.evaluation, Material(store, valid, tokens), subject.bounds)
        })  # fmt: skip
    return sides


def verdict_step(
    store: Store,
    recipe: Recipe,
    state: State,
    began: Began,
    made: Mapping[str, ArtifactRef],
    training: Sequence[str] = (),
) -> Step:
    """The verdict of a turn from what is made by then: `champion/scores` and `challenger/scores` on the same items, the
    cells of `measures_both`, and `champion/safety` and `challenger/safety` where they were tested. training: what is
    told beside it of how the challenger was trained. Raises EvaluationError where one of these was not measured."""
    champion, cells = state.models[began.champion], _loss_cells(store, recipe, state, began, made)
    tested = {"champion": made.get("champion/safety", champion.made.get("tuned/safety"))}
    tested["challenger"] = made.get("challenger/safety")
    ours, theirs = (
        Side(name, made[f"{role}/scores"], {key: _found(store, cell) for key, cell in own.items()}, tested[role])
        for role, name, own in zip(tested, (champion.name, began.challenger), cells, strict=True)
    )
    improves = [score for batch in began.batches for score in state.batches[batch].improves]
    return compared_step(
        store, ours, theirs, recipe.continual, recipe.gates, improves, training, annealed=not began.batches
    )


def _found(store: Store, cell: Cell) -> ArtifactRef:
    if (ref := store.find(cell.identity)) is None:
        raise EvaluationError(
            f"{cell.measure.name} of {cell.subject.name} was not measured, so the two cannot be compared; measure the "
            "cells of measures_both first (the turn's evaluation does)"
        )
    return ref


def compared_step(
    store: Store,
    champion: Side,
    challenger: Side,
    config: ContinualConfig,
    gates: Sequence[GateConfig] = (),
    improves: Iterable[str] = (),
    training: Sequence[str] = (),
    annealed: bool = False,
    lifecycle: bool = False,
) -> Step:
    """Compares two models; `improves`: scores or families that are to rise beside those of the config; `training`: as
    of `verdict_step`; `annealed`, `lifecycle`: as of a `Verdict`.

    To make it raises EvaluationError where results are missing or were not asked alike, and the store's errors for what
    is damaged.
    """
    targets = [] if annealed or lifecycle else sorted({*config.targets, *improves})
    own = tuple(gate for gate in gates if gate.phase == config.tuned)
    read = {
        "champion": champion.name, "challenger": challenger.name, "targets": targets, "gates": own,
        "allowed_loss": config.allowed_loss, "default_loss": config.default_loss, "confidence": config.confidence,
        "approve": config.approve, "training": [*training], **({"annealed": True} if annealed else {}),
        **({"lifecycle": True} if lifecycle else {}),
    }  # fmt: skip
    inputs = {f"{role}.{name}": ref for role, side in (("champion", champion), ("challenger", challenger))
              for name, ref in side.inputs.items()}  # fmt: skip

    def produce(folder: Path) -> dict[str, float]:
        from k2model.continual.verdict.page import render

        found = verdict_of(store, champion, challenger, config, own, targets, annealed, lifecycle)
        found = replace(found, training=tuple(training))
        (folder / RESULT).write_text(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / PAGE).parent.mkdir()
        (folder / PAGE).write_text(render(found), encoding="utf-8")
        deciding = [row for row in found.rows if row.decides]
        better = [row for row in found.rows if row.outcome == BETTER]
        return {"capabilities": len(deciding), "failing": len(found.failing), "better": len(better)}

    return Step(Identity("verdict", STEP_VERSIONS["verdict"], read, inputs), produce)


def read_verdict(store: Store, ref: ArtifactRef) -> Verdict:
    """Of an artifact `verdict`. Raises the store's errors."""
    said = read_json(dict[str, Any], store, ref, RESULT)
    try:
        return from_plain(Verdict, {one.name: said[one.name] for one in fields(Verdict) if one.name in said})
    except NotPlain as error:
        raise CorruptArtifact(f"{ref.uri}/{RESULT} is no verdict ({error}). {remedy(ref.uri)}") from error


def verdict_of(
    store: Store,
    champion: Side,
    challenger: Side,
    config: ContinualConfig,
    gates: Sequence[GateConfig] = (),
    targets: Sequence[str] = (),
    annealed: bool = False,
    lifecycle: bool = False,
) -> Verdict:
    """The same without making anything of it."""
    _check_judges(store, champion, challenger)
    ours, theirs = (by_score(_results(store, side)) for side in (champion, challenger))
    if ours.keys() != theirs.keys():
        lacking = ", ".join(sorted(ours.keys() ^ theirs.keys()))
        raise EvaluationError(
            f"{champion.name} and {challenger.name} cannot be compared: only one of them has {lacking}; measure both "
            "with one recipe on one corpus, and test both for safety"
        )
    rows = [row_of(score, ours[score], theirs[score], allowed_loss(config, score), config.confidence) for score in ours]
    rows = _corrected(rows, targets, 1 - config.confidence)
    unmeasured = tuple(target for target in targets if not any(_named(row.score, target) for row in rows))
    measured = _gates(gates, load_scores(store, [challenger.scores]), _safety_rows(store, challenger, config.tuned))
    found = Verdict(
        Outcome.REFUSED, "", champion.name, challenger.name, config.confidence, tuple(rows), measured, unmeasured,
        annealed=annealed, lifecycle=lifecycle,
    )  # fmt: skip
    return replace(found, outcome=_outcome(found, config.approve), reason=reason_of(found))


def _check_judges(store: Store, champion: Side, challenger: Side) -> None:
    """Raises EvaluationError where other judges said what the two did."""
    judges = [dict(read_safety(store, side.safety).judge) for side in (champion, challenger) if side.safety]
    if len(judges) == 2 and judges[0] != judges[1]:
        raise EvaluationError(
            f"the answers of {champion.name} were judged by {judges[0]}, those of {challenger.name} by {judges[1]}; "
            "judge the champion's anew (k2 safety), nothing is asked of it again"
        )


def _results(store: Store, side: Side) -> list[ItemResult]:
    """Every result of one model; losses are those of `losses`, batches of one domain together."""
    found = [one for one in results_of(store, side.scores) if not one.score.startswith(f"{LOSS}/")]
    for (score, _), ref in sorted(side.losses.items()):
        found += [replace(one, score=score) for one in results_of(store, ref)]
    return found + (safety_results(store, side.safety) if side.safety else [])


def _corrected(rows: Sequence[Row], targets: Sequence[str], level: float) -> list[Row]:
    """The rows with corrected probabilities, and which targets are better."""
    rows = [replace(row, p_all=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]
    aimed = [row for row in rows if row.score.endswith(NEW) or any(_named(row.score, one) for one in targets)]
    corrected = dict(zip([row.score for row in aimed], holm([row.p_better for row in aimed]), strict=True))
    return [_aimed(row, corrected[row.score], level) if row.score in corrected else row for row in rows]


def _aimed(row: Row, p: float, level: float) -> Row:
    return replace(row, target=True, p_targets=p, outcome=BETTER if p <= level and row.passed else row.outcome)


def _named(score: str, target: str) -> bool:
    return not score.endswith(NEW) and named(score, target)


def _safety_rows(store: Store, side: Side, phase: str) -> list[ScoreRow]:
    return [row.as_score(phase) for row in read_safety(store, side.safety).rows] if side.safety else []


def _gates(gates: Sequence[GateConfig], scores: Sequence[ScoreRow], safety: Sequence[ScoreRow]) -> tuple[Gate, ...]:
    results = gate_results(gates, [*scores, *safety])
    return tuple(Gate(one.name, one.value, one.gate.minimum, one.gate.maximum, one.passed) for one in results)


def _outcome(found: Verdict, approve: bool) -> Outcome:
    good = not found.failing and all(gate.passed for gate in found.gates)
    if good and found.annealed:
        return Outcome.ANNEALED
    if good and found.lifecycle:
        return Outcome.PROMOTED
    if not good or not any(row.outcome == BETTER for row in found.targets):
        return Outcome.REFUSED
    return Outcome.HELD if approve else Outcome.PROMOTED
