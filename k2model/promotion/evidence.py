"""Gates on a model's scores: what the recipe asks of them, and the same without the items that it was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k2model.artifacts import Store
from k2model.artifacts.record import ref_of
from k2model.continual.state import TUNED, Checked, Model
from k2model.continual.verdict.artifact_gates import ancestry, some
from k2model.evals.cells import results_of
from k2model.evals.clean_scores import CleanScore, SeenItems, clean_scores
from k2model.evals.contamination import ITEMS_SEEN
from k2model.evals.scores import ScoreRow
from k2model.recipe import Recipe
from k2model.recipe.schema import GateConfig, PhaseConfig
from k2model.recipe.tasks import CHANCE
from k2model.registry.gates import GateResult, gate_results


def scores_gates(gates: Sequence[GateConfig], phase: PhaseConfig, rows: Sequence[ScoreRow]) -> list[Checked]:
    """The recipe's gates on the scores of a phase; one that fails where it has none: nothing was asked of it then."""
    own = tuple(gate for gate in gates if gate.phase == phase.name)
    if not own:
        said = f"no gate is declared on phase {phase.name}: declare one in the recipe's gates"
        return [Checked("scores", False, said)]
    return [_of_score(one) for one in gate_results(own, rows)]


def _of_score(result: GateResult) -> Checked:
    gate, value = result.gate, result.value
    asked = f"at least {gate.minimum:g}" if gate.maximum >= 1.0 else f"{gate.minimum:g} to {gate.maximum:g}"
    if value is None:
        return Checked(result.name, False, f"it was not measured, {asked} is asked", measured=False)
    return Checked(result.name, result.passed, f"{value:.3f}, {asked} is asked", value, gate.minimum, gate.maximum)


def contamination(store: Store, recipe: Recipe, phase: PhaseConfig, model: Model, rows: Sequence[ScoreRow]) -> Checked:
    """Whether the recipe's gates on scores are passed on those items alone that no phase was trained on."""
    gated = {name for gate in recipe.gates if gate.phase == phase.name for name in (gate.score, gate.minus)} - {CHANCE}
    trained = ancestry(store, model.made[f"{TUNED}/checkpoint"])
    seen = {record["inputs"]["checkpoint"]["digest"]: record for record in store.records(ITEMS_SEEN)}
    if unknown := [one.phase for one in trained if one.checkpoint.digest not in seen]:
        return Checked("contamination", False, f"what {some(unknown)} saw of the items is not known: no items_seen of "
                       "it is in the store; run the lifecycle again, which looks it up", measured=False)  # fmt: skip
    found = {one.phase: ref_of(seen[one.checkpoint.digest], store.uri) for one in trained}
    items = SeenItems.read(store, [recipe.phase(one.phase) for one in trained if one.phase in _names(recipe)], found)
    clean = clean_scores(results_of(store, model.made[f"{TUNED}/scores"]), items.at(phase.name))
    own = {score: one for score, one in clean.items() if score in gated}
    dirty = {score: one for score, one in own.items() if one.seen}
    untold = sorted(score for score, one in own.items() if one.untold)
    if untold:
        return Checked("contamination", False, f"some items of {some(untold)} were never looked up", measured=False)
    adopted = items.unknown(phase.name)
    beside = f"; what {some(adopted)} was trained on before it was adopted is not known" if adopted else ""
    if not dirty:
        said = f"no phase was trained on an item of its {len(own)} scores with gates"
        return Checked("contamination", True, said + beside)
    told = some([f"{one.seen} of {one.n} items of {score}" for score, one in sorted(dirty.items())])
    failing = [one.name for one in gate_results(_own_gates(recipe, phase), list(_on_clean(rows, dirty)))
               if not one.passed]  # fmt: skip
    if failing:
        return Checked("contamination", False, f"it was trained on {told}; without them not passed: {some(failing)}")
    return Checked("contamination", True, f"it was trained on {told}; the gates are passed without them{beside}")


def _own_gates(recipe: Recipe, phase: PhaseConfig) -> tuple[GateConfig, ...]:
    return tuple(gate for gate in recipe.gates if gate.phase == phase.name)


def _names(recipe: Recipe) -> set[str]:
    return {phase.name for phase in recipe.phases}


def _on_clean(rows: Sequence[ScoreRow], clean: dict[str, CleanScore]) -> Iterator[ScoreRow]:
    """Rows as they are on clean items; one that has none of these is left out, so that its gate is not passed."""
    for row in rows:
        if (one := clean.get(row.score)) is None:
            yield row
        elif one.value is not None:
            yield replace(row, value=one.value)
