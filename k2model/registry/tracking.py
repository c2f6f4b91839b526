"""The connection to MLflow: prepared so that it fails soon and clearly, and sends nothing elsewhere."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from k2model.registry.database import database_file, prepare
from k2model.registry.registration import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

#: MLflow would try seven times with growing pauses, and wait two minutes for each answer.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@contextlib.contextmanager
def tracking(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of the tracking server or file; a SQLite file is made, with its folder, when there is none.

    Raises `RegistryError` naming the URI for whatever goes wrong with MLflow inside the block.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        if file := database_file(tracking_uri):
            prepare(file)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except (OSError, ImportError, sqlite3.Error, MlflowException, SQLAlchemyError) as error:
        raise _unusable(tracking_uri, error) from error
    try:
        yield client
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise _unusable(tracking_uri, error) from error


def artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """Where MLflow may keep files of an experiment's runs; None lets a server decide.

    Without it MLflow would make `./mlruns` wherever the command happens to be run.
    """
    file = database_file(tracking_uri)
    return (file.parent / "mlflow_artifacts" / experiment).as_uri() if file else None


def ensured(find: Callable[[], T | None], create: Callable[[], object]) -> T:
    """What `find` gives, after `create` if it gives None. Another process may create it in between; that is as good."""
    from mlflow.exceptions import MlflowException

    found = find()
    if found is None:
        try:
            create()
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = find()
    assert found is not None
    return found


def _unusable(tracking_uri: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"MLflow at {tracking_uri} did not take the registration: {type(error).__name__}: "
        f"{str(error)[:500]}. Checkpoints and scores are safe in the store. Check MLFLOW_TRACKING_URI and "
        "that the server runs and takes your login (or that the file can be written, or that the database's driver is "
        "installed), then run again: finished phases are not trained again, only registered."
    )
