"""Gates that ask the artifacts themselves: what a model saw of its items, which code made it, whether files are whole.

What a model came of is read from the store's records, which know the checkpoint that each was trained from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.identity import artifact_name
from k2model.artifacts.record import ref_of
from k2model.continual.state import TUNED, Checked, Model
from k2model.continual.verdict.canary import damaged
from k2model.evals.cells import results_of
from k2model.evals.clean_scores import CleanScore, SeenItems, clean_scores
from k2model.evals.contamination import ITEMS_SEEN
from k2model.evals.scores import ScoreRow
from k2model.recipe import Recipe
from k2model.recipe.schema import GateConfig, PhaseConfig
from k2model.recipe.tasks import CHANCE
from k2model.registry.gates import GateResult, gate_results

Record = dict[str, Any]
SHOWN = 3  # of a list that a sentence names


@dataclass(frozen=True)
class Trained:
    """A phase that a checkpoint came of, and the record of it."""

    phase: str
    checkpoint: ArtifactRef
    record: Record


def ancestry(store: Store, checkpoint: ArtifactRef) -> list[Trained]:
    """The phases that a checkpoint came of, its own first, up to one that began at random or at an adopted model."""
    records = {artifact_name("checkpoint", record["identity"]): record for record in store.records("checkpoint")}
    found: list[Trained] = []
    name: str | None = checkpoint.name
    while name is not None and (record := records.get(name)) is not None:
        found.append(Trained(record["config"]["phase"]["name"], ref_of(record, store.uri), record))
        parent = record["inputs"].get("parent")
        name = parent["uri"] if parent else None
    return found


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
        return Checked("contamination", False, f"what {_some(unknown)} saw of the items is not known: no items_seen of "
                       "it is in the store; run the lifecycle again, which looks it up", measured=False)  # fmt: skip
    found = {one.phase: ref_of(seen[one.checkpoint.digest], store.uri) for one in trained}
    items = SeenItems.read(store, [recipe.phase(one.phase) for one in trained if one.phase in _names(recipe)], found)
    clean = clean_scores(results_of(store, model.made[f"{TUNED}/scores"]), items.at(phase.name))
    own = {score: one for score, one in clean.items() if score in gated}
    dirty = {score: one for score, one in own.items() if one.seen}
    untold = sorted(score for score, one in own.items() if one.untold)
    if untold:
        return Checked("contamination", False, f"some items of {_some(untold)} were never looked up", measured=False)
    adopted = items.unknown(phase.name)
    beside = f"; what {_some(adopted)} was trained on before it was adopted is not known" if adopted else ""
    if not dirty:
        said = f"no phase was trained on an item of its {len(own)} scores with gates"
        return Checked("contamination", True, said + beside)
    told = _some([f"{one.seen} of {one.n} items of {score}" for score, one in sorted(dirty.items())])
    failing = [one.name for one in gate_results(_own_gates(recipe, phase), list(_on_clean(rows, dirty)))
               if not one.passed]  # fmt: skip
    if failing:
        return Checked("contamination", False, f"it was trained on {told}; without them not passed: {_some(failing)}")
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


def provenance(store: Store, model: Model) -> Checked:
    """Whether all that the model came of was made by code as a commit has it."""
    made = [(one.phase, one.record) for one in ancestry(store, model.made[f"{TUNED}/checkpoint"])]
    made += [(part, store.record(model.made[f"{TUNED}/{part}"])) for part in ("export", "scores", "safety")
             if f"{TUNED}/{part}" in model.made]  # fmt: skip
    code = {name: record["provenance"].get("git") or {} for name, record in made}
    unknown = [name for name, git in code.items() if not git.get("commit")]
    dirty = [name for name, git in code.items() if git.get("commit") and git.get("dirty")]
    against = [f"{_some(unknown)}: made outside of a git checkout, so by no commit that is known"] if unknown else []
    against += [f"{_some(dirty)}: made by code that differs from its commit"] if dirty else []
    if against:
        said = (
            f"{'; '.join(against)}. What is there is not made again: let it pass by name (k2 promote REF --waive "
            "provenance --by NAME --why TEXT), and commit before the next one"
        )
        return Checked("provenance", False, said)
    commits = list(dict.fromkeys(git["commit"][:12] for git in code.values()))
    return Checked("provenance", True, f"made by commit{'s' if len(commits) > 1 else ''} {_some(commits)}")


def manifests(store: Store, model: Model) -> Checked:
    """Whether the files of checkpoint, export and scores are those of their manifests."""
    parts = [name for name in ("checkpoint", "export", "scores", "safety") if f"{TUNED}/{name}" in model.made]
    broken = [said for name in parts if (said := damaged(store, model.made[f"{TUNED}/{name}"]))]
    if broken:
        return Checked("manifests", False, f"{_some(broken)}. Bring the files back from a copy of the store")
    return Checked("manifests", True, f"{', '.join(parts)}: every file is that of its manifest")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
