"""The connection to MLflow: prepared so that it fails soon and clearly, and sends nothing elsewhere."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.registry.registration import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
#: MLflow would try seven times with growing pauses, and wait two minutes for each answer.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@contextlib.contextmanager
def tracking(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of the tracking server or file. The folder of a SQLite file is made.

    Raises `RegistryError` naming the URI for whatever goes wrong with MLflow inside the block.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    if tracking_uri.startswith(SQLITE):
        _prepare_sqlite(tracking_uri)
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        yield MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise _unusable(tracking_uri, error) from error


def artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """Where MLflow may keep files of an experiment's runs; None lets a server decide.

    Without it MLflow would make `./mlruns` wherever the command happens to be run.
    """
    if not tracking_uri.startswith(SQLITE):
        return None
    return (_sqlite_path(tracking_uri).parent / "mlflow_artifacts" / experiment).as_uri()


def _prepare_sqlite(tracking_uri: str) -> None:
    """Find out in milliseconds what MLflow would retry for a minute and a half."""
    path = _sqlite_path(tracking_uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise _unusable(tracking_uri, error) from error


def _sqlite_path(tracking_uri: str) -> Path:
    return Path(tracking_uri.removeprefix(SQLITE).partition("?")[0]).absolute()


def _unusable(tracking_uri: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"MLflow at {tracking_uri} did not take the registration: {type(error).__name__}: {str(error)[:500]}. "
        "Checkpoints and scores are safe in the store. Check MLFLOW_TRACKING_URI and that the server runs (or that "
        "the file can be written), then run again: finished phases are not trained again, only registered."
    )
