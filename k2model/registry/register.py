"""The registration step: one trained and evaluated phase becomes an MLflow run and a model version.

A model version stands for its checkpoint by reference: nothing is uploaded. Every write is one that may be repeated,
and the run is marked finished last, so a registration that was cut short is completed by the next call.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.steps import PATIENCE_SECONDS
from k2model.evals.scores import ScoreRow, load_scores
from k2model.plain import NotPlain
from k2model.recipe.safety import SAFETY
from k2model.recipe.schema import AdoptedModel, GateConfig, ModelConfig, PhaseConfig
from k2model.registry.datasets import CORPUS, EVALUATION, TRAINING, DatasetOf
from k2model.registry.gates import Registration, judge
from k2model.registry.live import (
    BATCH,
    claim_run,
    ensured_experiment,
    is_active,
    last_step,
    log_steps,
    runs_tagged,
    training_tag,
)
from k2model.registry.live import TRAINING as TRAINING_TAG
from k2model.registry.model_page import retell
from k2model.registry.one_run import line_of, one_run
from k2model.registry.page import beside, describe
from k2model.registry.phase_record import (
    KEY,
    PhaseRecord,
    model_tags,
    parameters,
    place_tags,
    read_training,
    registration_key,
    run_tags,
)
from k2model.registry.runs import log_description, log_lineage, score_metrics
from k2model.registry.tracking import tracking
from k2model.registry.versions import RESULT, is_complete, made_alone, model_version, move_aliases, versions_of
from k2model.safety.judging import check_judge, read_safety
from k2model.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

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
    items: ArtifactRef | None = None,
    within: str = "",
) -> Registration:
    """Register a phase's checkpoint in MLflow; a second call with the same references does no work.

    Experiment `k2/<recipe>`, run named by phase and version (`sft@6`), registered model `k2-<recipe>` whose version
    points at the checkpoint in the store. Aliases: `candidate` is the last version of what was registered last,
    `<phase>` the phase's that was registered last; `champion` is moved by a promotion alone (`k2model.promotion`).
    Changed gates are judged anew. `origin` and `adopted` are the model from outside that the weights descend from, if
    any, and its adopted checkpoint: tags say where it came from. `safety`: its safety scores, logged and gated as
    others are. `scores`: None for a phase that was not scored. `decided_by`: a turn of continual training that this is
    of, so that of the aliases `candidate` alone moves; `tags`: further ones. `items`: what it was asked, where that is
    not of the corpus alone. `within`: the run of the lifecycle (`k2model.pages`).

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
        datasets={
            TRAINING: DatasetOf.read(store, f"{phase.name}/sequences", sequences),
            CORPUS: DatasetOf.read(store, "corpus_valid", corpus),
            **({EVALUATION: DatasetOf.read(store, "evaluation_items", items)} if items else {}),
            **({SAFETY: DatasetOf.read(store, f"{phase.name}/safety", safety)} if safety else {}),
        },
        within=within,
    )  # fmt: skip
    with tracking(tracking_uri) as client:
        done = _finished(client, tracking_uri, record)
        if done:
            return done
        with store.lease(line_of(record.model_name), PATIENCE_SECONDS) as lease:
            done = _finished(client, tracking_uri, record)
            return done or _complete(client, tracking_uri, record, lease.check)


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


def _finished(client: "MlflowClient", tracking_uri: str, record: PhaseRecord) -> Registration | None:
    """The registration that is there, if nothing has to be added, made again or judged anew."""
    experiment = client.get_experiment_by_name(record.experiment)
    runs = runs_tagged(client, experiment.experiment_id, KEY, record.key) if experiment else []
    active = [run for run in runs if is_active(run)]
    if len(active) != 1 or active[0].info.status != "FINISHED" or (registered := _result(active[0])) is None:
        return None
    # The same server may be reached by another address than when the run was made.
    registration = replace(registered, tracking_uri=masked(tracking_uri))
    decided = (registration.gates, registration.passed, registration.gates_so_far, registration.promotion)
    wanted = (record.gates, record.passed, record.gates_so_far, record.promotion)
    return registration if decided == wanted and is_complete(client, registration) else None


def _result(run: "Run") -> Registration | None:
    try:
        return Registration.from_json(run.data.tags[RESULT])
    except (KeyError, NotPlain):  # cut short; or another version of the project wrote it
        return None


def _the_run(client: "MlflowClient", tracking_uri: str, record: PhaseRecord, check: Callable[[], None]) -> "Run":
    """The one run of this registration: where an earlier attempt was cut short that one, else the one that was filled
    while the phase was trained."""
    experiment_id = ensured_experiment(client, tracking_uri, record.experiment)
    checkpoint, tags = record.references["checkpoint"], {TRAINING_TAG: training_tag(record.references["checkpoint"])}
    return one_run(
        client, check, experiment_id, record.key, record.run_name, record.training.started, tags,
        lambda: claim_run(client, experiment_id, checkpoint, record.key),
    )  # fmt: skip


def _complete(
    client: "MlflowClient", tracking_uri: str, record: PhaseRecord, check: Callable[[], None]
) -> Registration:
    """check: raises LeaseLost where another process registers the line."""
    run = _the_run(client, tracking_uri, record, check)
    run_id, training = run.info.run_id, record.training
    log_description(client, run_id, parameters(record.model, record.phase), run_tags(record))
    there = last_step(run)
    log_steps(client, run_id, [row for row in training.rows if row.step > there], record.tokens_before)
    model_id = _logged_model(client, run, record, check)
    log_lineage(client, run_id, model_id, record)
    measured = score_metrics(record, model_id)
    for start in range(0, len(measured), BATCH):
        client.log_batch(run_id, metrics=measured[start : start + BATCH], synchronous=True)
    version = model_version(client, check, _source(tracking_uri, model_id, record), run_id, model_id, record)
    seen = beside(client, record, version, versions_of(client, record.model_name))
    check()
    registration = Registration(
        key=record.key,
        phase=record.phase.name,
        tracking_uri=masked(tracking_uri),
        run_id=run_id,
        model_id=model_id,
        model_name=record.model_name,
        version=version,
        aliases=move_aliases(client, version, record),
        gates=record.gates,
        tokens_seen=record.tokens_seen,
        passed=record.passed,
        gates_so_far=record.gates_so_far,
        promotion=record.promotion,
    )
    _log.info("%s: registered as version %d of %s", record.phase.name, version, record.model_name)
    describe(client, record, registration, seen, run.info.experiment_id)
    retell(client, record.model_name)
    check()
    client.set_tag(run_id, RESULT, registration.to_json())
    client.set_terminated(run_id, "FINISHED", end_time=training.ended)
    return registration


def _logged_model(client: "MlflowClient", run: "Run", record: PhaseRecord, check: Callable[[], None]) -> str:
    """The id of the checkpoint's logged model: external, so that MLflow expects no files of it."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    experiment_id, run_id = run.info.experiment_id, run.info.run_id

    def there() -> "list[LoggedModel]":
        """Of this key, oldest first."""
        found = client.search_logged_models([experiment_id], f"tags.`{KEY}` = '{record.key}'")
        return sorted(found, key=lambda one: (one.creation_timestamp, one.model_id))

    def make() -> "LoggedModel":
        tags = {KEY: record.key, MLFLOW_MODEL_IS_EXTERNAL: "true"}
        name = f"{record.model_name}-{record.phase.name}"
        return client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=tags)

    def take_back(made: "LoggedModel") -> None:
        if len(there()) > 1:
            client.delete_logged_model(made.model_id)

    own = [one for one in there() if one.source_run_id == run_id]
    model_id = str((own[0] if own else made_alone(check, make, take_back)).model_id)
    for other in there():
        if other.model_id != model_id:  # made twice, or of a run that was deleted for good
            client.delete_logged_model(other.model_id)
    client.set_logged_model_tags(model_id, {**model_tags(record), **place_tags(record)})
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id


def _source(tracking_uri: str, model_id: str, record: PhaseRecord) -> str:
    """What a version says that it is of: the checkpoint's address. A server refuses a plain path, since it would be a
    path on its own machine."""
    uri = record.references["checkpoint"].uri
    return f"models:/{model_id}" if tracking_uri.startswith("http") and "://" not in uri else uri
