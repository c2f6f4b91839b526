"""The connection to MLflow: prepared so that it fails soon and clearly, and sends nothing elsewhere."""

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from k2model import settings
from k2model.errors import showable
from k2model.registry.database import database_file, prepare, prepare_postgresql
from k2model.registry.gates import RegistryError
from k2model.settings import MASK, holds_secret, masked, masked_text, whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_SERVERS = ("http", "https")
_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
}  # of drivers that are called otherwise
_DATABASES = ("postgresql", "mysql", "mssql")

#: MLflow would try seven times with growing pauses, and wait two minutes for each answer.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@contextlib.contextmanager
def tracking(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of the tracking server or file; a SQLite file is made, with its folder, when there is none.

    Raises `RegistryError` naming the URI, without its secrets, for whatever goes wrong with MLflow inside the block.
    """
    address_and_login = whole(tracking_uri)
    _check_address(address_and_login)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it shows the traceback of what it raises
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _login_apart(address_and_login) as address:
        try:
            if file := database_file(address):
                prepare(file)
            elif address.partition(":")[0].partition("+")[0] == "postgresql":
                prepare_postgresql(address)
            client = MlflowClient(tracking_uri=address, registry_uri=address)
        except (ImportError, NoSuchModuleError) as error:
            raise _without_driver(tracking_uri, error) from showable(error)
        except (OSError, sqlite3.Error, MlflowException, SQLAlchemyError) as error:
            raise _unusable(tracking_uri, error) from showable(error)
        try:
            yield client
        except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
            raise _unusable(tracking_uri, error) from showable(error)


def _check_address(tracking_uri: str) -> None:
    """Raises RegistryError for an address that clients would take apart in another way than it was meant: they would
    then tell a part of the password as a host that is not there."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme, separator, _ = tracking_uri.partition("://")
    kind = scheme.partition("+")[0].lower()
    try:
        if kind in _SERVERS:
            parts = urlsplit(tracking_uri)
            rest = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            # To ask for the port raises ValueError where it is no number.
            sound = bool(parts.hostname and parts.port != 0) and not (parts.query or "@" in rest or holds_secret(rest))
        elif kind in _DATABASES:
            url = make_url(tracking_uri)
            sound = "@" not in f"{url.host}{url.database}"
        else:
            sound = bool(separator) or not ("@" in tracking_uri or holds_secret(tracking_uri))
    except (ValueError, ArgumentError):
        sound = False
    if not sound:
        shown = f"{scheme}://{MASK}" if separator else MASK
        raise RegistryError(
            f"MLFLOW_TRACKING_URI={shown} is no address of a tracking server or database: expected "
            "https://host:5000 or postgresql+psycopg2://host/database, the latter with user:password@ in front of the "
            "host and its special characters percent-encoded (%40 for @, %2F for /, %3A for :). A server's has no "
            "parameters; its login is given by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN"
        )


@contextlib.contextmanager
def _login_apart(tracking_uri: str) -> Iterator[str]:
    """The address without its login, which the environment has instead meanwhile: MLflow prints a server's address."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in _SERVERS or "@" not in parts.netloc:
        yield tracking_uri
        return
    login = {
        "MLFLOW_TRACKING_USERNAME": unquote(parts.username or ""),
        "MLFLOW_TRACKING_PASSWORD": unquote(parts.password or ""),
    }
    before = {name: os.environ.get(name) for name in login}
    os.environ.update(login)
    try:
        yield parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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


def _without_driver(tracking_uri: str, error: Exception) -> RegistryError:
    module = getattr(error, "name", None)
    install = f"uv pip install '{_PACKAGES.get(module, module)}'" if module else "install its package"
    if module == "psycopg" and find_spec("psycopg2"):  # SQLAlchemy's choice where an address names none
        install = "write postgresql+psycopg2:// for the one that is there"
    return RegistryError(
        f"MLflow at {masked(tracking_uri)} needs a database driver that {sys.prefix} lacks "
        f"({masked_text(str(error))[:200]}): {install}, or set MLFLOW_TRACKING_URI to the address of an MLflow server, "
        "which needs none here; then run again: nothing is trained again."
    )


def _unusable(tracking_uri: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"MLflow at {masked(tracking_uri)} did not take the registration: {type(error).__name__}: "
        f"{masked_text(str(error))[:500]}. Checkpoints and scores are safe in the store. Check MLFLOW_TRACKING_URI and "
        "that the server runs and takes your login (or that the file can be written), then run again: finished phases "
        "are not trained again, only registered."
    )


def _make_database() -> None:
    """For `make ui`: MLflow's server would fill a fresh file in place."""
    try:
        with tracking(settings.tracking_uri()):
            pass
    except RegistryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _make_database()
