"""What is registered of a phase, before anything is known about MLflow, and the tags it is found by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2model.artifacts import ArtifactRef
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import ModelConfig, PhaseConfig, PhaseKind
from k2model.registry.facts import Trained, reference_tags
from k2model.registry.gates import GateVerdict, Registration
from k2model.registry.metrics import allowed

CHAMPION = "champion"
KEY = "k2.key"  # tag of runs and logged models: what they register


@dataclass(frozen=True)
class Subject:
    """What is registered, before anything is known about MLflow."""

    key: str
    recipe_name: str
    model: ModelConfig
    phase: PhaseConfig
    references: Mapping[str, ArtifactRef]
    scores: Sequence[ScoreRow]
    trained: Trained
    verdicts: tuple[GateVerdict, ...]
    parent: Registration | None

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
        return len(self.verdicts) + (self.parent.gates_so_far if self.parent else 0)

    @property
    def passed(self) -> bool:
        """No gate so far has failed; with a parent that was never registered, nobody knows."""
        before = self.parent.passed if self.parent else not self.phase.parent
        return before and all(verdict.passed for verdict in self.verdicts)

    @property
    def promotion(self) -> str:
        """`champion`, or `none: ` and why not. It takes a gate of the phase's own, so that something was asked of this
        very checkpoint, and that all gates on the way to it were passed."""
        failed = [verdict.name for verdict in self.verdicts if not verdict.passed]
        if self.phase.kind is not PhaseKind.SFT:
            return f"none: phases of {self.phase.kind.value} are not promoted"
        if not self.verdicts:
            return f"none: no gate is declared on phase {self.phase.name}"
        if failed:
            return f"none: not passed: {', '.join(failed)}"
        if not self.passed:
            return f"none: a gate of a phase before was not passed, or {self.phase.parent} was never registered"
        return CHAMPION


def run_tags(subject: Subject) -> dict[str, str]:
    """What a run carries: every artifact it is about, its code, its parent, and what was undone on the way and why."""
    tags = {**reference_tags(subject.references), **model_tags(subject), "k2.recipe": subject.recipe_name}
    for number, intervention in enumerate(subject.trained.interventions, start=1):
        tags[f"k2.intervention.{number}"] = intervention.sentence
    if subject.trained.commit:
        tags["mlflow.source.git.commit"] = subject.trained.commit
    if subject.parent:
        tags["k2.parent.run_id"] = subject.parent.run_id
    return tags


def model_tags(subject: Subject) -> dict[str, str]:
    """What a model version carries, enough to find and judge it without its run."""
    phase, checkpoint, export = subject.phase, subject.references["checkpoint"], subject.references["export"]
    tags = {
        "k2.phase": phase.name,
        "k2.phase_kind": phase.kind.value,
        "k2.checkpoint.uri": checkpoint.uri,
        "k2.checkpoint.digest": checkpoint.digest,
        "k2.export.uri": export.uri,
        "k2.export.digest": export.digest,
        "k2.tokens_seen": str(subject.tokens_seen),
        "k2.rope_theta": str(phase.rope_theta),
        "k2.sequence_length": str(phase.sequence_length),
        "k2.gates_passed_so_far": json.dumps(subject.passed) if subject.gates_so_far else "none declared",
        "k2.promotion": subject.promotion,
        "k2.interventions": str(len(subject.trained.interventions)),
    }
    if subject.parent:
        tags["k2.parent.version"] = str(subject.parent.version)
    for verdict in subject.verdicts:
        outcome = "passed" if verdict.passed else "failed"
        bounds = f"at least {verdict.minimum}" if verdict.maximum >= 1.0 else f"at most {verdict.maximum}"
        tags[allowed(f"k2.gate.{verdict.name}")] = f"{outcome}: {verdict.value:.4f}, {bounds}"
    return tags
