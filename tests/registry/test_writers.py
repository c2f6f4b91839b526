"""Several writers of one MLflow, killed at random: on a file that is not there yet, and on an empty PostgreSQL.

The whole form is run by hand (`tests/registry/writers.py`).
"""

from pathlib import Path

import pytest

from infra.stack.postgres import programs
from k2model.artifacts import Store
from tests.registry.writers import check_line, killed_writers, postgresql


def test_one_run_and_one_version_a_phase_whoever_is_killed(store: Store, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert killed_writers(uri, store, ["line"], writers=3, kills=3, seed=1, folder=tmp_path) == 3
    check_line(uri, "line")
    assert [path.name for path in tmp_path.glob("*mlflow.db*")] == ["mlflow.db"]


@pytest.mark.skipif(not programs(), reason="PostgreSQL is not installed")
def test_one_run_and_one_version_a_phase_on_postgresql(store: Store, tmp_path: Path) -> None:
    with postgresql() as uri:
        assert killed_writers(uri, store, ["line"], writers=2, kills=1, seed=2, folder=tmp_path) == 1
        check_line(uri, "line")
