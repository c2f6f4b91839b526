"""The registration step: one trained and evaluated phase becomes an MLflow run and a model version.

A model version stands for its checkpoint by reference: nothing is uploaded. Every write is one that may be repeated,
and the run is marked finished last, so a registration that was cut short is completed by the next call.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.artifacts.steps import PATIENCE_SECONDS
from k2model.evals.scores import ScoreRow, load_scores
from k2model.recipe.safety import SAFETY
from k2model.recipe.schema import AdoptedModel, GateConfig, ModelConfig, PhaseConfig, PhaseKind
from k2model.registry.gates import Registration, judge, record_decision
from k2model.registry.live import BATCH, TRAINING, claim_run, ensured_experiment, last_step, log_steps, training_tag
from k2model.registry.phase_record import (
    CHAMPION,
    KEY,
    PhaseRecord,
    model_tags,
    parameters,
    read_training,
    registration_key,
    run_tags,
)
from k2model.registry.runs import log_description, log_lineage, score_metrics
from k2model.registry.tracking import ensured, tracking
from k2model.safety.judging import check_judge, read_safety
from k2model.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE = "candidate"
RESULT = "k2.registration"  # tag of a finished run: the registration as JSON

_log = logging.getLogger(__name__)


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
    scores: ArtifactRef | None,
    parent: Registration | None,
    origin: AdoptedModel | None = None,
    adopted: ArtifactRef | None = None,
    safety: ArtifactRef | None = None,
    decided_by: str = "",
    tags: Mapping[str, str] | None = None,
) -> Registration:
    """Register a phase's checkpoint in MLflow; a second call with the same references does no work.

    Experiment `k2/<recipe>`, run named by the phase, registered model `k2-<recipe>` whose version points
    at the checkpoint in the store. Aliases: `candidate` is the line's newest version, `<phase>` the
    phase's newest, `champion` moves to a version of supervised fine-tuning which has a gate of its own,
    when all gates of it and of the phases before it were passed, and stays where it was otherwise.
    Changed gates are judged anew. `origin` and `adopted` are the model from outside that the weights descend from, if
    any, and its adopted checkpoint: tags say where it came from. `safety`: its safety scores, logged and gated as
    others are. `scores`: None for a phase that was not scored. `decided_by`: a turn of continual training that decides
    on its own whether this is promoted, so that of the aliases `candidate` alone moves; `tags`: further ones.

    Raises `RegistryError` when MLflow cannot be used or a gate names an unknown score, and the
    store's errors when an artifact is missing or damaged.
    """
    rows = [*load_scores(store, [scores] if scores else []), *safety_scores(store, phase.name, safety, gates)]
    record = PhaseRecord(
        key=registration_key(checkpoint, *(ref for ref in (scores, safety) if ref)),
        recipe_name=recipe_name,
        model=model,
        phase=phase,
        references={
            "checkpoint": checkpoint, "export": export, "sequences": sequences, "corpus": corpus,
            **({"scores": scores} if scores else {}),
            **({"adopted": adopted} if adopted else {}), **({"safety": safety} if safety else {}),
        },
        scores=rows,
        training=read_training(store, checkpoint),
        gates=judge(phase.name, gates, rows),
        parent=parent,
        origin=origin if adopted else None,
        decided_by=decided_by,
        tags=tuple((tags or {}).items()),
    )  # fmt: skip
    with tracking(tracking_uri) as client:
        done = _finished(client, tracking_uri, record)
        if done:
            return done
        with store.lease(_line(record), PATIENCE_SECONDS):
            return _finished(client, tracking_uri, record) or _complete(client, tracking_uri, store, record)


def safety_scores(
    store: Store, phase: str, safety: ArtifactRef | None, gates: Iterable[GateConfig]
) -> list[ScoreRow]:  # fmt: skip
    """The safety scores of a phase, none where it has not been tested. Raises EvaluationError where a gate of its is on
    one and the judge that gave it agrees too little with labelled answers."""
    if safety is None:
        return []
    result = read_safety(store, safety)
    named = [name for gate in gates if gate.phase == phase for name in (gate.score, gate.minus)]
    if any(name.startswith(f"{SAFETY}/") for name in named):
        check_judge(phase, result)
    return [row.as_score(phase) for row in result.rows]


def registered(client: "MlflowClient", name: str) -> dict[str, "ModelVersion"]:
    """The versions of a registered model by the digest of the checkpoint that each stands for, the newest of several.
    Empty where there is no such model."""
    found: dict[str, ModelVersion] = {}
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for version in page:
            digest = version.tags.get("k2.checkpoint.digest", "")
            if digest not in found or int(version.version) > int(found[digest].version):
                found[digest] = version
        token = page.token
        if not token:
            return found


def registration_of(client: "MlflowClient", version: "ModelVersion") -> Registration | None:
    """What a version was registered as; None where that was cut short, or another version of the project did it."""
    try:
        return Registration.from_json(client.get_run(version.run_id or "").data.tags[RESULT])
    except (KeyError, TypeError, ValueError):
        return None


def _line(record: PhaseRecord) -> Identity:
    """What one process at a time registers: of two that register the same checkpoint the second finds it done, and
    aliases are moved in the order of versions."""
    return Identity("registration", "1", {"model": record.model_name})


def _finished(client: "MlflowClient", tracking_uri: str, record: PhaseRecord) -> Registration | None:
    """The registration that is there, if nothing has to be added or judged anew."""
    experiment = client.get_experiment_by_name(record.experiment)
    run = _find_run(client, experiment.experiment_id, record) if experiment else None
    if run is None or run.info.status != "FINISHED" or RESULT not in run.data.tags:
        return None
    try:
        registered = Registration.from_json(run.data.tags[RESULT])
    except (KeyError, TypeError, ValueError):  # another version of the project wrote it: it is written anew
        return None
    # The same server may be reached by another address than when the run was made.
    registration = replace(registered, tracking_uri=masked(tracking_uri))
    decided = (registration.gates, registration.passed, registration.gates_so_far, registration.promotion)
    wanted = (record.gates, record.passed, record.gates_so_far, record.promotion)
    return registration if decided == wanted else None


def _find_run(client: "MlflowClient", experiment_id: str, record: PhaseRecord) -> "Run | None":
    runs = client.search_runs([experiment_id], f"tags.`{KEY}` = '{record.key}'", order_by=["attributes.start_time"])
    return runs[0] if runs else None


def _start_run(client: "MlflowClient", tracking_uri: str, record: PhaseRecord) -> "Run":
    """The run of this registration: where an earlier attempt was cut short that one, else the one that was filled
    while the phase was trained."""
    experiment_id = ensured_experiment(client, tracking_uri, record.experiment)
    checkpoint = record.references["checkpoint"]
    return (
        _find_run(client, experiment_id, record)
        or claim_run(client, experiment_id, checkpoint, record.key)
        or client.create_run(
            experiment_id,
            start_time=record.training.started,
            tags={KEY: record.key, TRAINING: training_tag(checkpoint)},
            run_name=record.run_name,
        )
    )


def _complete(client: "MlflowClient", tracking_uri: str, store: Store, record: PhaseRecord) -> Registration:
    run = _start_run(client, tracking_uri, record)
    run_id, training = run.info.run_id, record.training
    if run.info.run_name != record.run_name:  # it was made while the phase was trained
        client.update_run(run_id, name=record.run_name)
    log_description(client, run_id, parameters(record.model, record.phase), run_tags(record))
    there = last_step(run)
    log_steps(client, run_id, [row for row in training.rows if row.step > there], record.tokens_before)
    model_id = _logged_model(client, run, record)
    measured = score_metrics(record.scores, model_id, training.ended, record.phase.steps)
    for start in range(0, len(measured), BATCH):
        client.log_batch(run_id, metrics=measured[start : start + BATCH], synchronous=True)
    log_lineage(client, run_id, model_id, record)
    version = _model_version(client, tracking_uri, run_id, model_id, record)
    registration = Registration(
        key=record.key,
        phase=record.phase.name,
        tracking_uri=masked(tracking_uri),
        run_id=run_id,
        model_id=model_id,
        model_name=record.model_name,
        version=version,
        aliases=_move_aliases(client, version, record),
        gates=record.gates,
        tokens_seen=record.tokens_seen,
        passed=record.passed,
        gates_so_far=record.gates_so_far,
        promotion=record.promotion,
    )
    told = f"; promotion: {record.promotion}" if record.phase.kind is PhaseKind.SFT else ""
    _log.info("%s: registered as version %d of %s%s", record.phase.name, version, record.model_name, told)
    record_decision(store.uri, registration, record.references["checkpoint"].digest)
    client.set_tag(run_id, RESULT, registration.to_json())
    client.set_terminated(run_id, "FINISHED", end_time=training.ended)
    return registration


def _logged_model(client: "MlflowClient", run: "Run", record: PhaseRecord) -> str:
    """The id of the checkpoint's logged model: external, so that MLflow expects no files of it."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    experiment_id, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    if found:
        model_id = found[0].model_id
    else:
        tags = {KEY: record.key, MLFLOW_MODEL_IS_EXTERNAL: "true"}
        name = f"{record.model_name}-{record.phase.name}"
        model_id = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=tags).model_id
    client.set_logged_model_tags(model_id, model_tags(record))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id


def _model_version(client: "MlflowClient", tracking_uri: str, run_id: str, model_id: str, record: PhaseRecord) -> int:
    """The version of the line's registered model that stands for this run, its source the checkpoint's address."""
    name = record.model_name
    ensured(
        lambda: next(iter(client.search_registered_models(f"name = '{name}'")), None),
        lambda: client.create_registered_model(
            name, description=f"Checkpoints of recipe '{record.recipe_name}' by phase."
        ),
    )
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if found:
        version = found[0].version
    else:
        uri = record.references["checkpoint"].uri
        # A server refuses a plain path as a source, since it would be a path on its own machine.
        refused = tracking_uri.startswith("http") and "://" not in uri
        source = f"models:/{model_id}" if refused else uri
        version = client.create_model_version(
            name,
            source,
            run_id=run_id,
            model_id=model_id,
            description=f"Phase {record.run_name}",
            await_creation_for=0,  # nothing is copied, so nothing has to be waited for
        ).version
    for tag, value in model_tags(record).items():
        client.set_model_version_tag(name, str(version), tag, value)
    return int(version)


def _move_aliases(client: "MlflowClient", version: int, record: PhaseRecord) -> tuple[str, ...]:
    """Point the aliases that this version has earned at it, unless they are at a newer one."""
    name, phase = record.model_name, record.phase
    earned = [CANDIDATE] if record.decided_by else [CANDIDATE, phase.name]
    if record.promotion == CHAMPION:
        earned.append(CHAMPION)
    held = client.get_registered_model(name).aliases
    if int(held.get(CHAMPION, 0)) == version and CHAMPION not in earned and not record.decided_by:
        _log.warning(
            "version %d of %s has the alias champion from before, promotion now: %s. It stays, since somebody may "
            "serve it: set the alias to a version that you trust", version, name, record.promotion,
        )  # fmt: skip
    for alias in earned:
        if int(held.get(alias, 0)) < version:
            client.set_registered_model_alias(name, alias, str(version))
    return tuple(earned)
