"""Shared fixtures. The environment is fixed before any heavy import: one thread a process, loopback only."""

import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import S3Server, s3_server  # noqa: F401  one server for all tests

if TYPE_CHECKING:
    from tests.smoke import Finished

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


#: Rooms whose tests look at the one smoke lifecycle, or run it: one process has them all, so that it is made once.
OF_A_LIFECYCLE = {"workflows", "cli", "continual", "docs", "infra", "pages"}
LONGEST = ("workflows", "tasks", "training", "chaos")  # they begin, so that two processes end at about the same time


def _group(nodeid: str) -> str:
    """Of `tests/ROOM/...`: what is given to one process as a whole, since processes share no fixture."""
    room = nodeid.split("::")[0].split("/")[1]
    return "workflows" if room in OF_A_LIFECYCLE else room


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    groups = [_group(item.nodeid) for item in items]
    order = {group: place for place, group in enumerate(dict.fromkeys([*LONGEST, *groups]))}
    items.sort(key=lambda item: order[_group(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups of its own (`--dist loadgroup`) do nothing: xdist 3.8 writes them where pytest 9.2 does not read."""
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Rooms(config, log)


def pytest_unconfigure() -> None:
    """No process that a test left behind is waited for: a hanging one would keep the whole run from its end."""
    for child in multiprocessing.active_children():
        child.kill()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Finished]":
    """The home and the output of one `smoke` lifecycle, shared by all tests that only look at it."""
    from tests.smoke import lifecycle

    home = tmp_path_factory.mktemp("lifecycle")
    result = lifecycle(home)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return home, result


@pytest.fixture
def s3_uri(
    s3_server: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A place for one test on the real S3 server, whose credentials are in the environment."""
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{tmp_path.name}"


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny corpus for all that only look at it."""
    from tests import tiny_corpus

    folder = tmp_path_factory.mktemp("tiny")
    tiny_corpus.build(folder)
    return folder
