"""A checkpoint in MLflow's model registry: logged model, version and aliases, all by reference."""

import logging
from typing import TYPE_CHECKING

from k2model.registry.subject import CHAMPION, KEY, Subject, model_tags
from k2model.registry.tracking import ensured

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

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
