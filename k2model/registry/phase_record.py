"""What is registered of a trained phase, gathered from the store and the recipe before anything is known of MLflow.

Only small files are read: of a checkpoint its record, its log and its state, never its tensors.
"""

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.evals.scores import ScoreRow
from k2model.recipe.fields import identity_fields
from k2model.recipe.schema import AdoptedModel, MixtureEntry, ModelConfig, PhaseConfig, PhaseKind
from k2model.registry.datasets import DatasetOf
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
PARENT_RUN = "mlflow.parentRunId"  # by which MLflow nests runs
NOTE = "mlflow.note.content"  # by which it describes them
NAME_CHARACTERS = 250
COMMAND_CHARACTERS = 200


@dataclass(frozen=True)
class TrainingHistory:
    """How a checkpoint came to be: its log, what was undone on the way, the commit of the code.

    Each of `rows` has a timestamp. `dirty`: whether the code differed from that commit. `command` is what was called,
    `started` and `ended` are milliseconds since the epoch.
    """

    rows: list[StepMetrics]
    interventions: list[Intervention]
    commit: str
    dirty: bool
    started: int
    ended: int
    command: str = ""


@dataclass(frozen=True)
class PhaseRecord:
    """The phase to register: its settings, artifacts, scores and gate results, and what its parent was registered as.

    `references` are by role: checkpoint, export, scores, sequences, corpus, and adopted where the weights descend from
    the model `origin`; `datasets` are what was trained on and asked, by context. Tokens count from random
    initialisation, or from that model. `within`: the run of the lifecycle that this phase is of, "" = none.
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
    datasets: Mapping[str, DatasetOf] = field(default_factory=dict)
    within: str = ""

    @property
    def run_name(self) -> str:
        """Until there is a version, see `title`."""
        return f"{self.phase.name}, {self.decided_by}" if self.decided_by else self.phase.name

    def title(self, version: int) -> str:
        """What tells this run and version from all others of the line: `sft@7`."""
        return versioned(self.phase.name, version) + (f", {self.decided_by}" if self.decided_by else "")

    @property
    def experiment(self) -> str:
        return experiment_of(self.recipe_name)

    @property
    def model_name(self) -> str:
        return model_of(self.recipe_name)

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


def experiment_of(recipe_name: str) -> str:
    return f"k2/{recipe_name}"


def model_of(recipe_name: str) -> str:
    """The registered model of a recipe's checkpoints."""
    return f"k2-{recipe_name}"


def versioned(phase: str, version: int | str) -> str:
    """A phase's version by name, as `k2 compare` takes it: `sft@7`."""
    return f"{phase}@{version}"


def registration_key(checkpoint: ArtifactRef, *scores: ArtifactRef) -> str:
    """The same for the same checkpoint with the same scores: 64 hex digits."""
    return fingerprint([ref_part for ref in (checkpoint, *scores) for ref_part in (ref.identity, ref.digest)])


def read_training(store: Store, checkpoint: ArtifactRef) -> TrainingHistory:
    """The history of a checkpoint artifact.

    Raises MissingArtifact or CorruptArtifact, naming the file, when log or state are not there or not as written.
    """
    provenance = store.record(checkpoint)["provenance"]
    git = provenance.get("git") or {}
    started = milliseconds(provenance["started"])
    rows = read_log(store, checkpoint)
    return TrainingHistory(
        rows=list(with_timestamps(rows, started / 1000)),
        interventions=read_interventions(store, checkpoint),
        commit=git.get("commit", ""),
        dirty=git.get("dirty", False),
        started=started,
        ended=milliseconds(provenance["ended"]),
        command=command_of(provenance),
    )


def parameters(model: ModelConfig, phase: PhaseConfig) -> dict[str, str]:
    """Everything of a phase that bears identity, flat: `optimizer.lr`, `mixture.prose`, `model.n_layers`."""
    return {allowed(name): value for name, value in {**flat(phase), **flat(model, "model.")}.items()}


def flat(config: Any, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for one in identity_fields(config):
        value, name = getattr(config, one.name), f"{prefix}{one.name}"
        if is_dataclass(value):
            found |= flat(value, f"{name}.")
        elif isinstance(value, tuple) and all(isinstance(entry, MixtureEntry) for entry in value):
            found |= {f"{name}.{entry.name}": _amount(entry) for entry in value}
        elif one.type is float:
            found[name] = str(float(value))  # a recipe may write 35 where an orchestrator hands on 35.0
        else:
            found[name] = str(value.value if isinstance(value, Enum) else value)
    return found


def _amount(entry: MixtureEntry) -> str:
    if entry.copies:
        return f"{entry.copies} copies"
    return f"{float(entry.epochs)} epochs" if entry.epochs else str(float(entry.weight))


def run_tags(record: PhaseRecord) -> dict[str, str]:
    """What a run carries: what it registers, its code, who ran it, and the run it is part of. All else that is long
    stands in its description, its parameters and its datasets."""
    tags = {
        KEY: record.key,
        "k2.phase": record.phase.name,
        "k2.recipe": record.recipe_name,
        **dict(record.tags),
        **code_tags(record.training.commit, record.training.dirty, record.training.command),
    }
    return tags | ({PARENT_RUN: record.within} if record.within else {})


def code_tags(commit: str, dirty: bool, command: str) -> dict[str, str]:
    """By which code and by whom, under MLflow's own names."""
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": command} if command else {}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": str(dirty).lower()}
    return tags | {"mlflow.user": user()}


def command_of(provenance: Mapping[str, Any]) -> str:
    """What was called to make an artifact, without the folder of the program: `pyflyte run workflows/lifecycle.py`."""
    program, *arguments = provenance.get("argv") or [""]
    return " ".join([os.path.basename(program), *arguments])[:COMMAND_CHARACTERS]


def user() -> str:
    """Who runs this process, as MLflow's own client would say; by number where the machine knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def place_tags(record: PhaseRecord) -> dict[str, str]:
    """Where the weights of a logged model lie: what its version's `source` may be another name of."""
    return {f"k2.{part}.uri": record.references[part].uri for part in ("checkpoint", "export")}


def model_tags(record: PhaseRecord) -> dict[str, str]:
    """What a model version carries, and its logged model, enough to find it without its run. What it says to a person
    is its description."""
    tags = {
        KEY: record.key,
        TRAINED: datetime.fromtimestamp(record.training.ended / 1000, UTC).isoformat(timespec="milliseconds"),
        "k2.phase": record.phase.name,
        "k2.checkpoint.digest": record.references["checkpoint"].digest,
        "k2.tokens_seen": str(record.tokens_seen),
        PROMOTION: record.promotion,
    }
    if record.origin:
        tags |= {"k2.adopted.name": record.origin.name, "k2.adopted.from": masked(record.origin.origin)}
        tags |= {"k2.adopted.licence": record.origin.licence, "k2.adopted.digest": record.references["adopted"].digest}
    tags |= dict(record.tags)
    if record.parent:
        tags |= {"k2.parent.version": str(record.parent.version), PARENT: record.parent.key}
    return tags


def allowed(name: str) -> str:
    """A name in the characters that MLflow takes for metrics, parameters and tags, and no longer than it takes.
    What had others ends with a few digits of its own, so that two names do not become one."""
    plain = re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))
    plain = "/".join(part for part in plain.split("/") if part.strip(".")) or "_"
    if plain == name.replace("@", "_at_") and len(plain) <= NAME_CHARACTERS:
        return plain
    return f"{plain[: NAME_CHARACTERS - 5]}-{fingerprint(name)[:4]}"


def milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
