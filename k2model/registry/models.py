"""A checkpoint in MLflow's model registry: logged model, version and aliases, all by reference.

What went into a run and what came out: data sets, the parent's model, its own model.
"""

import logging
import warnings
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef
from k2model.registry.subject import CHAMPION, KEY, Subject, model_tags
from k2model.registry.tracking import ensured

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

CANDIDATE = "candidate"

_log = logging.getLogger(__name__)


def logged_model(client: "MlflowClient", run: "Run", subject: Subject) -> str:
    """The id of the checkpoint's logged model: external, so that MLflow expects no files of it."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    experiment_id, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    if found:
        model_id = found[0].model_id
    else:
        tags = {KEY: subject.key, MLFLOW_MODEL_IS_EXTERNAL: "true"}
        name = f"{subject.model_name}-{subject.phase.name}"
        model_id = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=tags).model_id
    client.set_logged_model_tags(model_id, model_tags(subject))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id


def model_version(client: "MlflowClient", tracking_uri: str, run_id: str, model_id: str, subject: Subject) -> int:
    """The version of the line's registered model that stands for this run, its source the checkpoint's address."""
    name = subject.model_name
    ensured(
        lambda: next(iter(client.search_registered_models(f"name = '{name}'")), None),
        lambda: client.create_registered_model(
            name, description=f"Checkpoints of recipe '{subject.recipe_name}' by phase."
        ),
    )
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if found:
        version = found[0].version
    else:
        uri = subject.references["checkpoint"].uri
        # A server refuses a plain path as a source, since it would be a path on its own machine.
        refused = tracking_uri.startswith("http") and "://" not in uri
        source = f"models:/{model_id}" if refused else uri
        version = client.create_model_version(
            name,
            source,
            run_id=run_id,
            model_id=model_id,
            description=f"Phase {subject.phase.name}",
            await_creation_for=0,  # nothing is copied, so nothing has to be waited for
        ).version
    for tag, value in model_tags(subject).items():
        client.set_model_version_tag(name, str(version), tag, value)
    return int(version)


def move_aliases(client: "MlflowClient", version: int, subject: Subject) -> tuple[str, ...]:
    """Point the aliases that this version has earned at it, unless they are at a newer one."""
    name, phase = subject.model_name, subject.phase
    earned = [CANDIDATE, phase.name]
    if subject.promotion == CHAMPION:
        earned.append(CHAMPION)
    held = client.get_registered_model(name).aliases
    if int(held.get(CHAMPION, 0)) == version and CHAMPION not in earned:
        _log.warning(
            "version %d of %s has the alias champion from before, promotion now: %s. It stays, since somebody may "
            "serve it: set the alias to a version that you trust", version, name, subject.promotion,
        )  # fmt: skip
    for alias in earned:
        if int(held.get(alias, 0)) < version:
            client.set_registered_model_alias(name, alias, str(version))
    return tuple(earned)


MAX_DIGEST = 36  # characters of a data set's digest that MLflow keeps


def log_lineage(client: "MlflowClient", run_id: str, model_id: str, subject: Subject) -> None:
    """Data sets and the parent's model go into the run, its own model comes out of it."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    parents = [LoggedModelInput(subject.parent.model_id)] if subject.parent else []
    datasets = [_dataset(name, subject.references[name]) for name in ("sequences", "corpus")]
    client.log_inputs(run_id, datasets=datasets, models=parents)
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, subject.phase.steps)])


def _dataset(name: str, ref: ArtifactRef) -> "DatasetInput":
    """A data set by address and digest; its content is not read."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.entities import Dataset, DatasetInput, InputTag

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it knows two names for a local folder
        source = resolve_dataset_source(ref.uri)
    dataset = Dataset(ref.name, ref.digest[:MAX_DIGEST], source._get_source_type(), source.to_json())
    tags = [InputTag("mlflow.data.context", name), InputTag("k2.digest", ref.digest), InputTag("k2.uri", ref.uri)]
    return DatasetInput(dataset, tags)
