"""The registration step: one trained and evaluated phase becomes an MLflow run and a model version.

Every write is one that may be repeated, and the run is marked finished last: a registration that was
cut short is completed by the next call, never made twice.
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.artifacts.steps import PATIENCE_SECONDS
from k2model.evals.scores import load_scores
from k2model.recipe.schema import GateConfig, ModelConfig, PhaseConfig, PhaseKind
from k2model.registry.facts import parameters, read_training, registration_key
from k2model.registry.gates import Registration, judge, record_decision
from k2model.registry.metrics import log_metrics, score_metrics, training_metrics
from k2model.registry.models import log_lineage, logged_model, model_version, move_aliases
from k2model.registry.subject import KEY, Subject, run_tags
from k2model.registry.tracking import artifact_location, ensured, tracking
from k2model.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)

RESULT = "k2.registration"  # tag of a finished run: the registration as JSON
MAX_BATCH = 100  # parameters or tags a request


def register_phase(
    tracking_uri: str,
    store: Store,
    recipe_name: str,
    model: ModelConfig,
    phase: PhaseConfig,
    gates: tuple[GateConfig, ...],
    sequences: ArtifactRef,
    corpus: ArtifactRef,
    checkpoint: ArtifactRef,
    export: ArtifactRef,
    scores: ArtifactRef,
    parent: Registration | None,
) -> Registration:
    """Register a phase's checkpoint in MLflow; a second call with the same references does no work.

    Experiment `k2/<recipe>`, run named by the phase, registered model `k2-<recipe>` whose version points
    at the checkpoint in the store. Aliases: `candidate` is the line's newest version, `<phase>` the
    phase's newest, `champion` moves to a version of supervised fine-tuning which has a gate of its own,
    when all gates of it and of the phases before it were passed, and stays where it was otherwise.
    Changed gates are judged anew.

    Raises `RegistryError` when MLflow cannot be used or a gate names an unknown score, and the
    store's errors when an artifact is missing or damaged.
    """
    rows = load_scores(store, [scores])
    subject = Subject(
        key=registration_key(checkpoint, scores),
        recipe_name=recipe_name,
        model=model,
        phase=phase,
        references={
            "checkpoint": checkpoint, "export": export, "scores": scores, "sequences": sequences, "corpus": corpus,
        },
        scores=rows,
        trained=read_training(store, checkpoint),
        verdicts=judge(phase.name, gates, rows),
        parent=parent,
    )  # fmt: skip
    with tracking(tracking_uri) as client:
        done = _finished(client, tracking_uri, subject)
        if done:
            return done
        with store.lease(_line(subject), PATIENCE_SECONDS):
            return _finished(client, tracking_uri, subject) or _complete(client, tracking_uri, store, subject)


def _line(subject: Subject) -> Identity:
    """What one process at a time registers: of two that register the same checkpoint the second finds it done, and
    aliases are moved in the order of versions."""
    return Identity("registration", "1", {"model": subject.model_name})


def _finished(client: "MlflowClient", tracking_uri: str, subject: Subject) -> Registration | None:
    """The registration that is there, if nothing has to be added or judged anew."""
    experiment = client.get_experiment_by_name(subject.experiment)
    run = _find_run(client, experiment.experiment_id, subject) if experiment else None
    if run is None or run.info.status != "FINISHED" or RESULT not in run.data.tags:
        return None
    # The same server may be reached by another address than when the run was made.
    registration = replace(Registration.from_json(run.data.tags[RESULT]), tracking_uri=masked(tracking_uri))
    decided = (registration.gates, registration.passed, registration.gates_so_far, registration.promotion)
    wanted = (subject.verdicts, subject.passed, subject.gates_so_far, subject.promotion)
    return registration if decided == wanted else None


def _find_run(client: "MlflowClient", experiment_id: str, subject: Subject) -> "Run | None":
    runs = client.search_runs([experiment_id], f"tags.`{KEY}` = '{subject.key}'", order_by=["attributes.start_time"])
    return runs[0] if runs else None


def _start_run(client: "MlflowClient", tracking_uri: str, subject: Subject) -> "Run":
    """The run of this registration, found where an earlier attempt was cut short."""
    experiment_id = ensured(
        lambda: client.get_experiment_by_name(subject.experiment),
        lambda: client.create_experiment(
            subject.experiment, artifact_location=artifact_location(tracking_uri, subject.experiment)
        ),
    ).experiment_id
    return _find_run(client, experiment_id, subject) or client.create_run(
        experiment_id, start_time=subject.trained.started, tags={KEY: subject.key}, run_name=subject.phase.name
    )


def _complete(client: "MlflowClient", tracking_uri: str, store: Store, subject: Subject) -> Registration:
    run = _start_run(client, tracking_uri, subject)
    run_id, trained = run.info.run_id, subject.trained
    _log_description(client, run_id, subject)
    log_metrics(client, run_id, training_metrics(trained, subject.tokens_before))
    model_id = logged_model(client, run, subject)
    log_metrics(client, run_id, score_metrics(subject.scores, model_id, trained.ended, subject.phase.steps))
    log_lineage(client, run_id, model_id, subject)
    version = model_version(client, tracking_uri, run_id, model_id, subject)
    registration = Registration(
        key=subject.key,
        phase=subject.phase.name,
        tracking_uri=masked(tracking_uri),
        run_id=run_id,
        model_id=model_id,
        model_name=subject.model_name,
        version=version,
        aliases=move_aliases(client, version, subject),
        gates=subject.verdicts,
        tokens_seen=subject.tokens_seen,
        passed=subject.passed,
        gates_so_far=subject.gates_so_far,
        promotion=subject.promotion,
    )
    told = f"; promotion: {subject.promotion}" if subject.phase.kind is PhaseKind.SFT else ""
    _log.info("%s: registered as version %d of %s%s", subject.phase.name, version, subject.model_name, told)
    record_decision(store.uri, registration, subject.references["checkpoint"].digest)
    client.set_tag(run_id, RESULT, registration.to_json())
    client.set_terminated(run_id, "FINISHED", end_time=trained.ended)
    return registration


def _log_description(client: "MlflowClient", run_id: str, subject: Subject) -> None:
    from mlflow.entities import Param, RunTag

    params = [Param(name, value) for name, value in parameters(subject.model, subject.phase).items()]
    tags = [RunTag(name, value) for name, value in run_tags(subject).items()]
    for start in range(0, max(len(params), len(tags)), MAX_BATCH):
        end = start + MAX_BATCH
        client.log_batch(run_id, params=params[start:end])
        client.log_batch(run_id, tags=tags[start:end])
