"""The canary: a promoted model beside the one that it replaced, on items that no decision was made on.

A challenger is promoted since it did well on certain items, which flatters it: of many, the lucky one is taken. So the
champion is asked the items behind those that phases are scored on, `canary.items` of each task, and so is the model
before it. It is rolled back when on any capability a loss of more than `canary.allowed` is beyond doubt, when its
weights are damaged, or when it fails a gate that the model before it does not.

Any one capability is enough, so each is tested at the level that is left for one of them (Bonferroni's, which is the
first step of Holm's, and the one that says whether there is any). Losses, long texts made to a length, and benchmarks
that are asked as a whole have no further items, which the evidence says.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

from k2model.artifacts import ArtifactRef, CorruptArtifact, Identity, MissingArtifact, Step, Store, make, read_json
from k2model.artifacts.files import LocalFiles
from k2model.continual.state import Model, State
from k2model.continual.verdict.capabilities import DIGITS, by_score, decides
from k2model.errors import EvaluationError
from k2model.evals.cells import Cell, results_of, rows_of
from k2model.evals.items import ItemResult
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, Measure, measure_of, retrieval, tool_dialogues
from k2model.evals.noninferiority import bounded
from k2model.evals.references import exported
from k2model.evals.scores import ScoreRow
from k2model.recipe import Recipe
from k2model.recipe.schema import GateConfig
from k2model.recipe.tasks import CHANCE, Method, Task, tasks_of
from k2model.versions import STEP_VERSIONS

RESULT = "canary.json"


@dataclass(frozen=True)
class CanaryRow:
    """A score on `n` fresh items: gain, of the champion over the model before it, is at most `at_most` at the corrected
    confidence; `failed`: that lies below what is allowed."""

    score: str
    n: int
    before: float
    champion: float
    gain: float
    at_most: float
    failed: bool


@dataclass(frozen=True)
class CanaryResult:
    """evidence: the artifact `canary` with every row; None where the weights are damaged and nothing was asked."""

    passed: bool
    reason: str
    rows: tuple[CanaryRow, ...] = ()
    evidence: ArtifactRef | None = None


def damage(store: Store, model: Model) -> str:
    """What is wrong with a model's exported weights, "" where nothing is: to be asked before anything is measured,
    which could not load them."""
    return damaged(store, model.made["tuned/export"])


def damaged(store: Store, ref: ArtifactRef) -> str:
    """What is wrong with the files of an artifact, "" where nothing is.

    On a disk every byte is verified. An object store verifies what it holds itself, so there the manifest must be the
    one that was made and each file must have its size; whoever loads the weights verifies the rest.
    """
    try:
        files, manifest = store.look_up(ref)
        if isinstance(files, LocalFiles):
            store.fetch(ref)
            return ""
        there = files.sizes()
    except (CorruptArtifact, MissingArtifact) as error:
        return str(error)
    wrong = [entry for entry in manifest.files if there.get(entry.path) != entry.size]
    return "; ".join(f"{files.uri}/{one.path} has {there.get(one.path, 0):,} bytes, not {one.size:,}" for one in wrong)


def canary_cells(store: Store, recipe: Recipe, state: State) -> list[Cell]:
    """What the champion and the model before it are asked, each once in their lives; none where there is no model
    before it. For `k2model.evals.step.measure_together`."""
    if state.model is None or not state.before or not recipe.continual.canary.items:
        return []
    pairs, _ = _pairs(store, recipe, state)
    return [cell for pair in pairs for cell in pair]


class _Stated(TypedDict):
    passed: bool
    reason: str
    rows: tuple[CanaryRow, ...]


def canary_result(store: Store, recipe: Recipe, state: State) -> CanaryResult:
    """What the canary says of the champion, from cells that are all there, kept as an artifact `canary`.

    Raises EvaluationError where a cell was not measured, or there is nothing to compare the champion with.
    """
    if state.model is None or not state.before:
        raise EvaluationError(f"line {state.line} has no champion that replaced another, so no canary watches it")
    if found := damage(store, state.model):
        return CanaryResult(False, f"its weights are damaged: {found}")
    ref = make(store, _canary_step(store, recipe, state))
    content = read_json(_Stated, store, ref, RESULT)
    return CanaryResult(content["passed"], content["reason"], content["rows"], ref)


def _canary_step(store: Store, recipe: Recipe, state: State) -> Step:
    config, (pairs, absent) = recipe.continual, _pairs(store, recipe, state)
    found = [tuple(_found(store, cell) for cell in pair) for pair in pairs]
    gates = tuple(gate for gate in recipe.gates if gate.phase == config.tuned)
    read = {"allowed": config.canary.allowed, "confidence": config.confidence, "gates": gates, "absent": absent}
    inputs = {f"{role}.{pair[0].measure.name.replace('/', '.')}": ref for pair, refs in zip(pairs, found, strict=True)
              for role, ref in zip(("before", "champion"), refs, strict=True)}  # fmt: skip

    def produce(folder: Path) -> dict[str, float]:
        before, champion = ([one for refs in found for one in results_of(store, refs[at])] for at in (0, 1))
        rows = _rows(before, champion, config.canary.allowed, config.confidence)
        scored = [[row for refs in found for row in rows_of(store, refs[at], config.tuned)] for at in (0, 1)]
        failing = [_lost(row, config.canary.allowed) for row in rows if row.failed]
        failing += [said for gate in gates if (said := _fails(gate, scored[1])) and not _fails(gate, scored[0])]
        content = {
            "passed": not failing,
            "reason": "; ".join(failing) or _good(rows),
            "rows": [_plain(r) for r in rows],
            "absent": absent,
        }
        (folder / RESULT).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {"rows": len(rows), "failed": len(failing)}

    return Step(Identity("canary", STEP_VERSIONS["canary"], read, inputs), produce)


def _lost(row: CanaryRow, allowed: float) -> str:
    return (
        f"{row.score} {row.before:.3f} → {row.champion:.3f} on {row.n} fresh items, at best {100 * row.at_most:+.1f} "
        f"points where {-100 * allowed:.1f} are allowed"
    )


def _good(rows: Sequence[CanaryRow]) -> str:
    if not rows:
        return (
            "nothing was asked: no task has items beyond those that phases are scored on (raise corpus.heldout_items)"
        )
    worst = min(rows, key=lambda row: row.gain)
    return (
        f"no loss beyond doubt on {len(rows)} scores of fresh items; the lowest is {worst.score}, "
        f"{worst.before:.3f} → {worst.champion:.3f}"
    )


def _rows(
    before: Sequence[ItemResult], champion: Sequence[ItemResult], allowed: float, confidence: float
) -> list[CanaryRow]:
    """Of items that both have a verdict on."""
    ours, theirs = by_score(before), by_score(champion)
    judged: dict[str, list[str]] = {}
    for score, own in ours.items():
        keys = [key for key, one in own.items() if not math.isnan(one.value + theirs[score][key].value)]
        if keys and decides(score, len(keys), allowed, confidence):
            judged[score] = keys
    level = 1 - (1 - confidence) / max(1, len(judged))
    rows = []
    for score, keys in judged.items():
        losses = [ours[score][key].value - theirs[score][key].value for key in keys]
        clusters = [ours[score][key].cluster for key in keys]
        found = bounded(losses, clusters, level, -allowed)  # at least so much is lost
        mine, their = (math.fsum(side[score][key].value for key in keys) / len(keys) for side in (ours, theirs))
        rows.append(CanaryRow(score, len(keys), mine, their, -found.gain, -found.low, found.passed))
    return rows


def _fails(gate: GateConfig, rows: Sequence[ScoreRow]) -> str:
    """How a gate is failed beyond doubt, the 95% interval outside of its bounds; "" where it is not, or was not
    asked."""
    measured = {row.score: row for row in rows}
    row, other = measured.get(gate.score), measured.get(gate.minus)
    if row is None or (gate.minus and other is None and gate.minus != CHANCE):
        return ""
    low, high = row.low, row.high
    if other is not None:
        low, high = row.low - other.high, row.high - other.low
    elif gate.minus == CHANCE:
        low, high = row.low - (row.chance or 0.0), row.high - (row.chance or 0.0)
    if gate.minimum <= high and low <= gate.maximum:
        return ""
    name = f"{gate.score} - {gate.minus}" if gate.minus else gate.score
    return f"gate {name} is failed on fresh items: {low:.3f} to {high:.3f}, asked {gate.minimum:g} to {gate.maximum:g}"


def _pairs(store: Store, recipe: Recipe, state: State) -> tuple[list[tuple[Cell, Cell]], dict[str, str]]:
    """Of the model before and the champion, a task each; and by name why a task has none."""
    assert state.model is not None and state.before
    window = recipe.phase(recipe.continual.tuned).sequence_length
    material = Material(store, state.model.made["corpus_valid"], state.model.made["tokens"])
    before, champion = (
        exported(model.made["tuned/export"], state.model.made["tokenizer"], store, model.name, window)
        for model in (state.models[state.before[-1]], state.model)
    )
    measures, absent = _fresh(recipe, material, champion.bounds)
    return [(Cell(before, measure), Cell(champion, measure)) for measure in measures], absent


def _fresh(recipe: Recipe, material: Material, bounds: Bounds) -> tuple[list[Measure], dict[str, str]]:
    """A measure of each task that has items left, and why the others have none."""
    config, wanted = recipe.evaluation, recipe.continual.canary.items
    documents = math.ceil(wanted / config.retrieval_queries)
    limited = tuple(replace(one, limit=wanted) for one in config.benchmarks)
    asked = replace(config, items_per_family=wanted, retrieval_documents=documents, benchmarks=limited)
    behind = {one.name: one.limit for one in config.benchmarks}
    found: list[Measure] = []
    told: dict[str, str] = {}
    for task in tasks_of(asked, recipe.phase(recipe.continual.tuned).kind):
        if task.method is Method.RECALL:
            lengths = sorted({phase.sequence_length for phase in recipe.phases})
            for length in lengths:
                if len(material.contexts(length)) > config.retrieval_documents:
                    found.append(retrieval(asked, material, bounds, length, config.retrieval_documents))
                else:
                    told[f"retrieval/{length}"] = "the corpus holds no further documents out"
        elif task.method is Method.DIALOGUE:
            found.append(tool_dialogues(task, asked, bounds, config.items_per_family))
        elif task.method in (Method.FITTED, Method.POSITIONS):
            told[task.name] = "its texts are made to a length, the same ones each time"
        elif task.benchmark is not None and not behind[task.benchmark.name]:
            told[task.name] = "it is asked as a whole"
        else:
            after = behind[task.benchmark.name] if task.benchmark else config.items_per_family
            if why := _exhausted(material, task, wanted, after):
                told[task.name] = why
            else:
                found.append(measure_of(task, asked, material, bounds, after))
    return found, told


def _exhausted(material: Material, task: Task, wanted: int, after: int) -> str:
    try:
        return "" if material.items(task, wanted, after) else f"it has no items beyond the first {after}"
    except EvaluationError as error:
        return str(error)


def _found(store: Store, cell: Cell) -> ArtifactRef:
    if (ref := store.find(cell.identity)) is None:
        raise EvaluationError(
            f"{cell.measure.name} of {cell.subject.name} was not measured on fresh items; measure canary_cells first"
        )
    return ref


def _plain(row: CanaryRow) -> Mapping[str, object]:
    return {name: round(one, DIGITS) if isinstance(one, float) else one for name, one in asdict(row).items()}
