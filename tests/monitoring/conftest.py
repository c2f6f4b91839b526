"""One MLflow server for all tests of the folder: making its database and loading it takes seconds."""

from collections.abc import Iterator

import pytest

from tests.monitoring.mlflow_server import MlflowServer


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Up when a test begins; one that ends it starts it again."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        yield server
    finally:
        server.kill()
