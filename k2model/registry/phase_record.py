"""What is registered of a trained phase, gathered from the store and the recipe before anything is known of MLflow.

Only small files are read: of a checkpoint its record, its log and its state, never its tensors.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.evals.scores import ScoreRow
from k2model.recipe.fields import identity_fields
from k2model.recipe.schema import AdoptedModel, MixtureEntry, ModelConfig, PhaseConfig, PhaseKind
from k2model.registry.gates import GateResult, Registration
from k2model.settings import masked
from k2model.training.log import (
    Intervention,
    StepMetrics,
    read_interventions,
    read_log,
    with_timestamps,
)

CHAMPION = "champion"
PROMOTION = "k2.promotion"  # tag of versions: `champion`, or why not
UNJUDGED = "none: it was not held to its gates yet"
KEY = "k2.key"  # tag of runs, logged models and versions: what they register
PARENT = "k2.parent.key"  # tag of versions: the key of the one that it was trained from
TRAINED = "k2.trained_until"  # tag of versions: when the last step was taken, which tells what is newer
STATE = "final/state.json"


@dataclass(frozen=True)
class TrainingHistory:
    """How a checkpoint came to be: its log, what was undone on the way, the commit of the code.

    Each of `rows` has a timestamp. `dirty`: whether the code differed from that commit. `started` and `ended` are
    milliseconds since the epoch.
    """

    rows: list[StepMetrics]
    interventions: list[Intervention]
    commit: str
    dirty: bool
    started: int
    ended: int


@dataclass(frozen=True)
class PhaseRecord:
    """The phase to register: its settings, artifacts, scores and gate results, and what its parent was registered as.

    `references` are by role: checkpoint, export, scores, sequences, corpus, and adopted where the weights descend from
    the model `origin`. Tokens count from random initialisation, or from that model.
    """

    key: str
    recipe_name: str
    model: ModelConfig
    phase: PhaseConfig
    references: Mapping[str, ArtifactRef]
    scores: Sequence[ScoreRow]
    training: TrainingHistory
    gates: tuple[GateResult, ...]
    parent: Registration | None
    origin: AdoptedModel | None = None
    decided_by: str = ""  # what decides on a promotion instead of the gates: `turn 3` of continual training
    tags: tuple[tuple[str, str], ...] = ()  # of run and version, beside those of every phase

    @property
    def run_name(self) -> str:
        return f"{self.phase.name}, {self.decided_by}" if self.decided_by else self.phase.name

    @property
    def experiment(self) -> str:
        return f"k2/{self.recipe_name}"

    @property
    def model_name(self) -> str:
        return f"k2-{self.recipe_name}"

    @property
    def tokens_before(self) -> int:
        return self.parent.tokens_seen if self.parent else 0

    @property
    def tokens_seen(self) -> int:
        return self.tokens_before + self.phase.tokens

    @property
    def gates_so_far(self) -> int:
        """How many gates this phase and those it was trained from have."""
        return len(self.gates) + (self.parent.gates_so_far if self.parent else 0)

    @property
    def passed(self) -> bool:
        """No gate so far has failed; with a parent that was never registered, nobody knows."""
        adopted = self.origin is not None and self.phase.parent == self.origin.name  # nothing was asked of it
        before = self.parent.passed if self.parent else adopted or not self.phase.parent
        return before and all(result.passed for result in self.gates)

    @property
    def promotion(self) -> str:
        """`none: ` and why nothing decides here whether it is the champion: that is said when it was held to its gates
        (`k2model.promotion`)."""
        if self.phase.kind is not PhaseKind.SFT:
            return f"none: phases of {self.phase.kind.value} are not promoted"
        return f"none: {self.decided_by} decides" if self.decided_by else UNJUDGED


def registration_key(checkpoint: ArtifactRef, *scores: ArtifactRef) -> str:
    """The same for the same checkpoint with the same scores: 64 hex digits."""
    return fingerprint([ref_part for ref in (checkpoint, *scores) for ref_part in (ref.identity, ref.digest)])


def read_training(store: Store, checkpoint: ArtifactRef) -> TrainingHistory:
    """The history of a checkpoint artifact.

    Raises MissingArtifact or CorruptArtifact, naming the file, when log or state are not there or not as written.
    """
    provenance = store.record(checkpoint)["provenance"]
    git = provenance.get("git") or {}
    started = _milliseconds(provenance["started"])
    rows = read_log(store, checkpoint)
    return TrainingHistory(
        rows=list(with_timestamps(rows, started / 1000)),
        interventions=read_interventions(store, checkpoint),
        commit=git.get("commit", ""),
        dirty=git.get("dirty", False),
        started=started,
        ended=_milliseconds(provenance["ended"]),
    )


def parameters(model: ModelConfig, phase: PhaseConfig) -> dict[str, str]:
    """Everything of a phase that bears identity, flat: `optimizer.lr`, `mixture.prose`, `model.n_layers`."""
    return {**_flat(phase), **_flat(model, "model.")}


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for field in identity_fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, tuple) and all(isinstance(entry, MixtureEntry) for entry in value):
            flat |= {f"{name}.{entry.name}": _amount(entry) for entry in value}
        elif field.type is float:
            flat[name] = str(float(value))  # a recipe may write 35 where an orchestrator hands on 35.0
        else:
            flat[name] = str(value.value if isinstance(value, Enum) else value)
    return flat


def _amount(entry: MixtureEntry) -> str:
    if entry.copies:
        return f"{entry.copies} copies"
    return f"{float(entry.epochs)} epochs" if entry.epochs else str(float(entry.weight))


def reference_tags(references: Mapping[str, ArtifactRef]) -> dict[str, str]:
    """Three tags for each artifact: where it is, what it is, what it was made for."""
    tags: dict[str, str] = {}
    for name, ref in references.items():
        tags |= {f"k2.{name}.uri": ref.uri, f"k2.{name}.digest": ref.digest, f"k2.{name}.identity": ref.identity}
    return tags


def run_tags(record: PhaseRecord) -> dict[str, str]:
    """What a run carries: every artifact it is about, its code, its parent, and what was undone on the way and why."""
    tags = {**reference_tags(record.references), **model_tags(record), "k2.recipe": record.recipe_name}
    for number, intervention in enumerate(record.training.interventions, start=1):
        tags[f"k2.intervention.{number}"] = intervention.sentence
    if record.training.commit:
        tags["mlflow.source.git.commit"] = record.training.commit
        tags["mlflow.source.git.dirty"] = str(record.training.dirty).lower()
    if record.parent:
        tags["k2.parent.run_id"] = record.parent.run_id
    return tags


def model_tags(record: PhaseRecord) -> dict[str, str]:
    """What a model version carries, enough to find and judge it without its run."""
    phase, checkpoint, export = record.phase, record.references["checkpoint"], record.references["export"]
    tags = {
        KEY: record.key,
        TRAINED: datetime.fromtimestamp(record.training.ended / 1000, UTC).isoformat(timespec="milliseconds"),
        "k2.phase": phase.name,
        "k2.phase_kind": phase.kind.value,
        "k2.checkpoint.uri": checkpoint.uri,
        "k2.checkpoint.digest": checkpoint.digest,
        "k2.export.uri": export.uri,
        "k2.export.digest": export.digest,
        "k2.tokens_seen": str(record.tokens_seen),
        "k2.rope_theta": str(phase.rope_theta),
        "k2.sequence_length": str(phase.sequence_length),
        "k2.gates_passed_so_far": json.dumps(record.passed) if record.gates_so_far else "none declared",
        PROMOTION: record.promotion,
        "k2.interventions": str(len(record.training.interventions)),
    }
    if record.origin:
        tags |= {"k2.adopted.name": record.origin.name, "k2.adopted.from": masked(record.origin.origin)}
        tags |= {"k2.adopted.licence": record.origin.licence, "k2.adopted.digest": record.references["adopted"].digest}
    tags |= dict(record.tags)
    if record.parent:
        tags |= {"k2.parent.version": str(record.parent.version), PARENT: record.parent.key}
    for result in record.gates:
        outcome = "passed" if result.passed else "failed"
        gate = result.gate
        bounds = f"at least {gate.minimum}" if gate.maximum >= 1.0 else f"at most {gate.maximum}"
        tags[allowed(f"k2.gate.{result.name}")] = f"{outcome}: {result.value:.4f}, {bounds}"
    return tags


def allowed(name: str) -> str:
    """A name in the characters that MLflow takes for metrics and tags."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
