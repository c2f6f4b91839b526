"""What a lifecycle would do on a store, and why, without doing it.

The steps are called as the DAG calls them, on a store that answers what it has and notes what it
lacks instead of building it. An artifact that is not there yet gets a digest that cannot be any
other's, so everything downstream of it is reported as to be run, too.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from k2model.artifacts import ArtifactRef, Identity, PartedStep, Store, explain
from k2model.artifacts.explain import differences
from k2model.planning.plan import LifecyclePlan
from k2model.recipe import Recipe

PENDING = "pending-"  # begins the digest of what is not there yet

# Config fields that only decide a step's attachments: whatever they are, the digest stays the same.
ATTACHMENTS_ONLY = {"corpus_valid": ("mixtures", "phase_tokens", "previous")}


@dataclass(frozen=True)
class Decision:
    """One step of a lifecycle: `action` is "cached", "resume" or "run"; `reason` says why."""

    step: str
    name: str
    action: str
    reason: str
    uri: str


class PlanningStore(Store):
    """A store that finds artifacts but never makes one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.decisions: list[Decision] = []
        self.phase = ""

    def build(
        self, identity: Identity, produce: Callable[[Path], dict[str, float]], wait_seconds: float = 0.0
    ) -> ArtifactRef:
        return self.decide(identity)

    def build_parts(self, step: PartedStep, workers: int = 1) -> ArtifactRef:
        return self.decide(step.identity)

    def decide(self, identity: Identity) -> ArtifactRef:
        """Note what would happen to this artifact; its reference, or one that stands for it."""
        found = self.find(identity)
        name = f"{self.phase}/{identity.step}" if self.phase else identity.step
        if found:
            self.decisions.append(Decision(identity.step, name, "cached", "", found.uri))
            return found
        action, reason = self._why(identity)
        self.decisions.append(Decision(identity.step, name, action, reason, self.location(identity)))
        digest = self._known_digest(identity) or f"{PENDING}{identity.key}"
        return ArtifactRef(identity.step, self.location(identity), digest, identity.key, {})

    def _known_digest(self, identity: Identity) -> str | None:
        """The digest of a step that differs from an earlier one in fields of its attachments alone."""
        free = ATTACHMENTS_ONLY.get(identity.step, ())
        if not free:
            return None
        for record in reversed(self.records(identity.step)):
            changed = [field.split(".")[0].split("[")[0] for field, _, _ in differences(identity, record)]
            if set(changed) <= set(free):
                return str(record["digest"])
        return None

    def _why(self, identity: Identity) -> tuple[str, str]:
        step = _last_checkpoint(self.location(identity))
        if step is not None:
            return "resume", f"from step {step}"
        if any(record["identity"] == identity.key for record in self.records(identity.step)):
            return "run", "made before, but its artifact is gone"
        remade = [name for name, ref in identity.inputs.items() if ref.digest.startswith(PENDING)]
        changed = [
            f"{field} {_short(old)} -> {_short(new)}"
            for field, old, new in explain(identity, self)
            if not str(new).startswith(PENDING) and (not remade or not field.startswith("inputs."))
        ]
        reasons = [f"{name} is made anew" for name in remade] + changed
        return "run", "because " + ", ".join(reasons) if reasons else "never made here"


class DataReferences(NamedTuple):
    """What every phase of a recipe is made from; made or not."""

    corpus: ArtifactRef
    tokenizer: ArtifactRef
    tokens: ArtifactRef


def data_references(store: PlanningStore, recipe: Recipe) -> DataReferences:
    """The steps from sources to tokens, decided in the order of the DAG."""
    from k2model.corpus import build_corpus, curate
    from k2model.corpus.validation import validate, validate_raw
    from k2model.tokens import tokenize, train_tokenizer
    from k2model.tokens.validation import validate_tokens

    raw = build_corpus(store, recipe.corpus)
    validate_raw(store, recipe.validation, raw)
    curated = curate(store, recipe.corpus, raw)
    corpus = validate(
        store,
        recipe.validation,
        {phase.name: phase.mixture for phase in recipe.phases},
        curated,
        phase_tokens={phase.name: phase.tokens for phase in recipe.phases},
        min_characters=recipe.corpus.min_characters,
        max_characters=recipe.corpus.max_characters,
    )
    tokenizer = train_tokenizer(store, recipe.tokenizer, corpus)
    tokens = tokenize(store, corpus, tokenizer)
    validate_tokens(store, recipe.validation, tokens)
    return DataReferences(corpus, tokenizer, tokens)


def dry_run(plan: LifecyclePlan) -> list[Decision]:
    """The decision for each step of the plan, in the order of the DAG."""
    from k2model.evals import evaluation_identity
    from k2model.model import export_hugging_face
    from k2model.tokens import pack
    from k2model.tokens.validation import validate_sequences
    from k2model.training import train_identity

    store = PlanningStore.open(plan.store.uri)
    recipe = plan.recipe
    corpus, tokenizer, tokens = data_references(store, recipe)
    checkpoints: dict[str, ArtifactRef] = {}
    exports: dict[str, ArtifactRef] = {}
    for phase in recipe.phases:
        store.phase = phase.name
        parent = plan.phases.get(phase.parent)
        sequences = pack(store, phase, tokens, recipe.validation.max_epochs)
        validate_sequences(store, recipe.validation, phase, sequences)
        identity = train_identity(recipe.model, phase, sequences, checkpoints.get(phase.parent))
        checkpoints[phase.name] = store.decide(identity)
        exports[phase.name] = export_hugging_face(
            store, recipe.model, phase, checkpoints[phase.name], tokenizer,
            trained_length=plan.trained_lengths[phase.name], sequences=sequences,
        )  # fmt: skip
        evaluation = evaluation_identity(
            store, recipe.evaluation, phase, corpus, tokens, tokenizer, exports[phase.name],
            parent_export=exports.get(phase.parent), parent_phase=parent, lengths=tuple(plan.lengths),
        )  # fmt: skip
        store.decide(evaluation)
    return store.decisions


def _last_checkpoint(location: str) -> int | None:
    """The last published checkpoint below a training artifact that is not finished; local stores only."""
    steps = [
        int(path.parent.name.removeprefix("step-")) for path in Path(location).glob("checkpoints/step-*/manifest.json")
    ]
    return max(steps, default=None)


def _short(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."
