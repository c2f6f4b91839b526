"""The run of a training that still goes on: begun when it begins, filled while it runs, and the very run that is
registered at its end.

Until then nobody knows its key, which is of content; so it is found by what is trained where: the identity and place
of its checkpoint. A step is logged once, the first time it is taken: which step came last MLflow itself tells, so that
whoever goes on needs no memory of its own. Steps that a training takes anew behind a kill or a rollback are the same
steps on the same rows; those that a rollback left out stay to be seen, and the run's tags say which they are.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, fingerprint
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.registry.phase_record import KEY, parameters
from k2model.registry.runs import log_description, training_metrics
from k2model.registry.tracking import artifact_location, ensured
from k2model.settings import masked
from k2model.training.log import StepMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRAINING = "k2.training"  # tag of a run: what is trained, and where
ACTIVE = "active"  # stage of life of experiments and runs that are not in the trash
BATCH = 1000  # metrics a request: MLflow's own limit
_log = logging.getLogger(__name__)
_MARK = "train/loss"  # every step has it, and the metrics of a step are sent, and kept, in one piece


@dataclass(frozen=True)
class LiveRun:
    """What the run of a training is called and says of itself, before there is a checkpoint."""

    experiment: str
    name: str
    training: str
    tags: dict[str, str]
    parameters: dict[str, str]
    tokens_before: int

    @classmethod
    def of(cls, recipe: Recipe, phase: PhaseConfig, checkpoint: ArtifactRef) -> "LiveRun":
        """`checkpoint`: where the training makes it, under which identity."""
        tags = {
            "k2.recipe": recipe.name,
            "k2.phase": phase.name,
            "k2.phase_kind": phase.kind.value,
            "k2.checkpoint.uri": masked(checkpoint.uri),
            "k2.checkpoint.identity": checkpoint.identity,
        }
        described = parameters(recipe.model, phase)
        before = tokens_before(recipe, phase)
        return cls(f"k2/{recipe.name}", phase.name, training_tag(checkpoint), tags, described, before)

    def record(self) -> dict[str, Any]:
        """As JSON takes it; `LiveRun(**record)` reads it again."""
        return asdict(self)


def tokens_before(recipe: Recipe, phase: PhaseConfig) -> int:
    """Tokens of all phases that `phase` descends from."""
    parent = recipe.row(phase.parent) if phase.parent else None
    return tokens_before(recipe, parent) + parent.tokens if isinstance(parent, PhaseConfig) else 0


def training_tag(checkpoint: ArtifactRef) -> str:
    """64 hex digits for what is trained and the place where it is."""
    return fingerprint([checkpoint.identity, checkpoint.uri])


def ensured_experiment(client: "MlflowClient", tracking_uri: str, name: str) -> str:
    """The experiment's id; out of the trash again, with its runs, where somebody has deleted it."""
    experiment = ensured(
        lambda: client.get_experiment_by_name(name),
        lambda: client.create_experiment(name, artifact_location=artifact_location(tracking_uri, name)),
    )
    if experiment.lifecycle_stage != ACTIVE:
        _log.warning("MLflow's experiment %s was deleted: it is restored, with all of its runs", name)
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def begin_run(client: "MlflowClient", tracking_uri: str, live: LiveRun) -> "Run | None":
    """The run of a training that begins or goes on; None where it was registered before, so that it is complete."""
    experiment_id = ensured_experiment(client, tracking_uri, live.experiment)
    runs = runs_tagged(client, experiment_id, TRAINING, live.training)
    if any(KEY in run.data.tags for run in runs):
        return None
    if runs:
        client.update_run(restored(client, runs[0]).info.run_id, status="RUNNING")
        return runs[0]
    run = client.create_run(experiment_id, run_name=live.name, tags={TRAINING: live.training, **live.tags})
    log_description(client, run.info.run_id, live.parameters, {})
    return run


def claim_run(client: "MlflowClient", experiment_id: str, checkpoint: ArtifactRef, key: str) -> "Run | None":
    """The run that was filled while `checkpoint` was trained, which is that of the registration `key` from here on;
    None where there is none."""
    for run in runs_tagged(client, experiment_id, TRAINING, training_tag(checkpoint)):
        if KEY not in run.data.tags:
            client.set_tag(restored(client, run).info.run_id, KEY, key)
            return client.get_run(run.info.run_id)
    return None


def runs_tagged(client: "MlflowClient", experiment_id: str, tag: str, value: str) -> "list[Run]":
    """Those in the trash as well, behind the others; of each the finished ones first, then as they began."""
    from mlflow.entities import ViewType

    found = client.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", ViewType.ALL)
    return sorted(
        found, key=lambda run: (not is_active(run), run.info.status != "FINISHED", run.info.start_time, run.info.run_id)
    )


def is_active(run: "Run") -> bool:
    """Whether it is not in the trash."""
    return bool(run.info.lifecycle_stage == ACTIVE)


def restored(client: "MlflowClient", run: "Run") -> "Run":
    """The run, out of the trash again where somebody has deleted it: a second one would say the same."""
    if not is_active(run):
        _log.warning("run %s (%s) was deleted in MLflow: it is restored", run.info.run_id, run.info.run_name)
        client.restore_run(run.info.run_id)
    return run


def last_step(run: "Run") -> int:
    """The last step that the run has, as it was when `run` was asked for; -1 without any."""
    return next((metric.step for metric in run.data.to_proto().metrics if metric.key == _MARK), -1)


def log_steps(client: "MlflowClient", run_id: str, rows: Sequence[StepMetrics], tokens_before: int) -> None:
    """Send the metrics of `rows`, in as few requests as MLflow takes, a step never in two of them."""
    batch: list[Any] = []
    for row in rows:
        metrics = list(training_metrics(row, tokens_before))
        if len(batch) + len(metrics) > BATCH:
            client.log_batch(run_id, metrics=batch, synchronous=True)
            batch = []
        batch += metrics
    if batch:
        client.log_batch(run_id, metrics=batch, synchronous=True)
