"""A recipe with its overrides, resolved for one run on one store, and what would run there and why.

Every step is built as the DAG builds it, and none is made: the store is asked what it has. An artifact that is not
there yet gets a digest that cannot be any other's, so everything downstream of it is to be made, too.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2model.artifacts import (
    ArtifactRef,
    CorruptArtifact,
    Difference,
    Identity,
    Store,
    differences,
    nearest_record,
)
from k2model.documents.benchmarks import benchmark_files, read_benchmark
from k2model.evals.references import Known
from k2model.lifecycle.steps import AnyStep, Owner, StepRow, Work, full_name, inputs_of, row_called, rows
from k2model.recipe import Recipe, chosen_recipe

PENDING = "pending-"  # begins the digest of what is not there yet

# Config fields that only decide a step's attachments: whatever they are, the digest stays the same.
ATTACHMENTS_ONLY = {"corpus_valid": ("mixtures", "phase_tokens", "previous")}

UNLIKE = 8  # sources that differ in more fields than a person changes at once are another recipe's
SHOWN = 4  # fields, or inputs, that a reason names


@dataclass(frozen=True)
class LifecyclePlan:
    """Everything the tasks of one run need: what is made, and where it is kept.

    Where MLflow is may hold a password, and what passes through an orchestrator is shown: tasks read
    `k2model.settings.tracking_uri` where they run.
    """

    recipe: Recipe
    store: str

    def build(self, step: str, phase: str, inputs: Mapping[str, ArtifactRef]) -> tuple[Store, AnyStep]:
        """The store, and the row `step` of the table of steps on its inputs; `phase`: name of its phase, adopted
        model or synthesised source, "" of none."""
        store = Store.open(self.store)
        owner = self.recipe.owner(phase) if phase else None
        return store, row_called(step, owner).build(Work(store, self.recipe, owner, inputs))


@dataclass(frozen=True)
class Decision:
    """One step of a lifecycle: `action` is "cached", "resume", "run", or "damaged" where a run would stop; `reason`
    says why."""

    step: str
    name: str
    action: str
    reason: str
    uri: str


def resolve(recipe_name: str, overrides: Mapping[str, Any], store_uri: str) -> LifecyclePlan:
    """Load and check the recipe and what its benchmarks hold, open the store.

    Raises K2Error for anything a user has to mend.
    """
    recipe = chosen_recipe(recipe_name, overrides)
    for benchmark in recipe.evaluation.benchmarks:
        read_benchmark(benchmark, benchmark_files(benchmark))
    return LifecyclePlan(recipe, Store.open(store_uri).uri)


def dry_run(plan: LifecyclePlan) -> list[Decision]:
    """The decision for each step of the plan, in the order of the DAG."""
    store = Store.open(plan.store)
    return [decision for decision, _ in decide(store, plan.recipe, list(rows(plan.recipe)))]


def known_artifacts(store: Store, recipe: Recipe) -> Known:
    """What of a recipe's lifecycle is in the store, and where the rest will be: for whoever asks its models."""
    steps = [(row, owner) for row, owner in rows(recipe) if not row.guards and row.name not in ("report", "release")]
    decided = decide(store, recipe, steps)
    planned = {decision.name: ref for decision, ref in decided}
    return Known(recipe, {d.name: ref for d, ref in decided if d.action == "cached"}, planned)


@dataclass(frozen=True)
class _Pending:
    """A step that is to be made: its name in the lifecycle, and the digest of what it takes the place of, if any."""

    name: str
    earlier: str | None


def decide(store: Store, recipe: Recipe, steps: list[tuple[StepRow, Owner]]) -> list[tuple[Decision, ArtifactRef]]:
    """For each of `steps`, which hold what they read, the decision and a reference to what is or would be made."""
    made: dict[str, ArtifactRef] = {}
    pending: dict[str, _Pending] = {}  # by digest
    decided = []
    for row, phase in steps:
        identity = row.build(Work(store, recipe, phase, inputs_of(row, phase, made))).identity
        decision, reference = _decide(store, identity, full_name(row, phase), pending)
        if not row.guards:
            made[decision.name] = reference
        decided.append((decision, reference))
    return decided


def _decide(store: Store, identity: Identity, name: str, pending: dict[str, _Pending]) -> tuple[Decision, ArtifactRef]:
    try:
        found = store.find(identity)
    except CorruptArtifact as error:
        action, reason, earlier = "damaged", str(error), None
    else:
        if found:
            return Decision(identity.step, name, "cached", "", found.uri), found
        action, reason, earlier = _why(store, identity, pending)
    location = store.location(identity)
    digest = _known_digest(store, identity)
    if digest is None:
        digest = f"{PENDING}{identity.key}"
        pending[digest] = _Pending(name, earlier)
    reference = ArtifactRef(identity.step, location, digest, identity.key, {})
    return Decision(identity.step, name, action, reason, location), reference


def _known_digest(store: Store, identity: Identity) -> str | None:
    """The digest of a step that differs from an earlier one in fields of its attachments alone."""
    free = ATTACHMENTS_ONLY.get(identity.step, ())
    if not free:
        return None
    for record in reversed(store.records(identity.step)):
        changed = [field.removeprefix("the order of ").split(".")[0] for field, _, _ in differences(identity, record)]
        if set(changed) <= set(free):
            return str(record["digest"])
    return None


def _why(store: Store, identity: Identity, pending: Mapping[str, _Pending]) -> tuple[str, str, str | None]:
    """Action, reason, and the digest of the artifact that this one takes the place of, None where there is none.

    Fields are compared only along one line: with an artifact made of what this one's inputs take the place of. Where
    the inputs take the place of nothing, the store holds other recipes, which are no news field by field.
    """
    records = store.records(identity.step)
    remade = {name: pending[ref.digest] for name, ref in identity.inputs.items() if ref.digest in pending}
    stand_ins = {name: step.earlier for name, step in remade.items() if step.earlier}
    near = nearest_record(identity, records, stand_ins) if len(stand_ins) == len(remade) else None
    changed = differences(identity, near, stand_ins) if near else []
    earlier = str(near["digest"]) if near else None
    step = _last_checkpoint(store.location(identity))
    if step is not None:
        return "resume", f"from step {step}", earlier
    for record in records:
        if record["identity"] == identity.key:
            return "run", "made before, but its artifact is gone", str(record["digest"])
    begins = all(ref.kind == "synthesis" for ref in identity.inputs.values())  # with sources, and not with artifacts
    if begins and near and len(changed) > UNLIKE:
        name = f"{near['step']}/{near['identity'][:16]}"
        return "run", f"nothing of this recipe is here ({len(changed)} fields differ from {name})", None
    because = [_listed(map(_told, changed))] if changed else []
    if remade:
        is_made = "is made anew" if len(remade) == 1 else "are made anew"
        because.insert(0, f"{_listed(one.name for one in remade.values())} {is_made}")
    return "run", f"because {', '.join(because)}" if because else "never made here", earlier


def _listed(reasons: Iterable[str]) -> str:
    """The first of them, and how many there are more."""
    named = [*reasons]
    more = len(named) - SHOWN
    return ", ".join(named) if more <= 1 else f"{', '.join(named[:SHOWN])} and {more} more"


def _told(difference: Difference) -> str:
    field, old, new = difference
    if old is None and isinstance(new, dict):
        return f"{field} is new"
    if new is None and isinstance(old, dict):
        return f"{field} is left out"
    return f"{field} {_short(old)} -> {_short(new)}"


def _last_checkpoint(location: str) -> int | None:
    """The last published checkpoint below a training artifact that is not finished; local stores only."""
    steps = [
        int(path.parent.name.removeprefix("step-")) for path in Path(location).glob("checkpoints/step-*/manifest.json")
    ]
    return max(steps, default=None)


def _short(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text[:12]
    return text if len(text) <= 40 else f"{text[:37]}..."
