"""A recipe with its overrides, resolved for one run on one store, and what would run there and why.

For a plan every step is built as the DAG builds it, and none is made: the store is asked what it has. An artifact
that is not there yet gets a digest that cannot be any other's, so everything downstream of it is to be made, too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Store, explain
from k2model.artifacts.explain import differences
from k2model.lifecycle.steps import StepRow, Work, full_name, inputs_of, rows
from k2model.recipe import PhaseConfig, Recipe, load_recipe

PENDING = "pending-"  # begins the digest of what is not there yet

# Config fields that only decide a step's attachments: whatever they are, the digest stays the same.
ATTACHMENTS_ONLY = {"corpus_valid": ("mixtures", "phase_tokens", "previous")}


@dataclass(frozen=True)
class LifecyclePlan:
    """Everything the tasks of one run need: what is made, and where it is kept.

    Where MLflow is may hold a password, and what passes through an orchestrator is shown: tasks read
    `k2model.settings.tracking_uri` where they run.
    """

    recipe: Recipe
    store: str

    def phase(self, name: str) -> PhaseConfig | None:
        """A phase by its name; None for "", which steps outside of phases have."""
        return self.recipe.phase(name) if name else None


@dataclass(frozen=True)
class Decision:
    """One step of a lifecycle: `action` is "cached", "resume" or "run"; `reason` says why."""

    step: str
    name: str
    action: str
    reason: str
    uri: str


def resolve(recipe_name: str, overrides: Mapping[str, Any], store_uri: str) -> LifecyclePlan:
    """Load and check the recipe, open the store. Raises K2Error for anything a user has to mend."""
    recipe = load_recipe(recipe_name, overrides)
    return LifecyclePlan(recipe, Store.open(store_uri).uri)


def dry_run(plan: LifecyclePlan) -> list[Decision]:
    """The decision for each step of the plan, in the order of the DAG."""
    store = Store.open(plan.store)
    return [decision for decision, _ in decide(store, plan.recipe, list(rows(plan.recipe)))]


def decide(
    store: Store, recipe: Recipe, steps: list[tuple[StepRow, PhaseConfig | None]]
) -> list[tuple[Decision, ArtifactRef]]:
    """For each of `steps`, which hold what they read, the decision and a reference to what is or would be made."""
    made: dict[str, ArtifactRef] = {}
    decided = []
    for row, phase in steps:
        identity = row.build(Work(store, recipe, phase, inputs_of(row, phase, made))).identity
        decision, reference = _decide(store, identity, full_name(row, phase))
        if not row.guards:
            made[decision.name] = reference
        decided.append((decision, reference))
    return decided


def _decide(store: Store, identity: Identity, name: str) -> tuple[Decision, ArtifactRef]:
    found = store.find(identity)
    if found:
        return Decision(identity.step, name, "cached", "", found.uri), found
    action, reason = _why(store, identity)
    location = store.location(identity)
    digest = _known_digest(store, identity) or f"{PENDING}{identity.key}"
    reference = ArtifactRef(identity.step, location, digest, identity.key, {})
    return Decision(identity.step, name, action, reason, location), reference


def _known_digest(store: Store, identity: Identity) -> str | None:
    """The digest of a step that differs from an earlier one in fields of its attachments alone."""
    free = ATTACHMENTS_ONLY.get(identity.step, ())
    if not free:
        return None
    for record in reversed(store.records(identity.step)):
        changed = [field.split(".")[0].split("[")[0] for field, _, _ in differences(identity, record)]
        if set(changed) <= set(free):
            return str(record["digest"])
    return None


def _why(store: Store, identity: Identity) -> tuple[str, str]:
    step = _last_checkpoint(store.location(identity))
    if step is not None:
        return "resume", f"from step {step}"
    if any(record["identity"] == identity.key for record in store.records(identity.step)):
        return "run", "made before, but its artifact is gone"
    remade = [name for name, ref in identity.inputs.items() if ref.digest.startswith(PENDING)]
    changed = [
        f"{field} {_short(old)} -> {_short(new)}"
        for field, old, new in explain(identity, store)
        if not str(new).startswith(PENDING) and (not remade or not field.startswith("inputs."))
    ]
    reasons = [f"{name} is made anew" for name in remade] + changed
    return "run", "because " + ", ".join(reasons) if reasons else "never made here"


def _last_checkpoint(location: str) -> int | None:
    """The last published checkpoint below a training artifact that is not finished; local stores only."""
    steps = [
        int(path.parent.name.removeprefix("step-")) for path in Path(location).glob("checkpoints/step-*/manifest.json")
    ]
    return max(steps, default=None)


def _short(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."
