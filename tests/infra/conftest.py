"""One stack of real servers for all tests of this folder, and the commands that start, use and end it."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack.config import Config, load, load_or_choose, write_private
from infra.stack.control import end
from infra.stack.processes import running
from tests.smoke import ROOT

CANARY = f"canary{secrets.token_hex(8)}"


def stack(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.stack", *arguments], cwd=ROOT, env={**os.environ, "K2_HOME": str(home)},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip


def ok(home: Path, *arguments: str) -> str:
    done = stack(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="package")
def place() -> Iterator[Path]:
    """Not below pytest's own folder, which only root may enter: PostgreSQL does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="k2-stack-"))
    folder.chmod(0o711)
    yield folder.resolve()
    for home in folder.iterdir():  # of a test that failed
        end(home / "stack")
    shutil.rmtree(folder)


@pytest.fixture(scope="package")
def home(place: Path) -> Iterator[Path]:
    """A running stack, every secret of which holds `CANARY`. When the tests are done nothing of it is left."""
    home = place / "home"
    (home / "stack").mkdir(parents=True)
    chosen = load_or_choose(home / "stack")
    marked = {name: f"{CANARY}{value}" for name, value in chosen.secrets.items()}
    write_private(home / "stack" / "stack.json", json.dumps({"ports": chosen.ports, "secrets": marked}))
    try:
        first = ok(home, "up")
        assert [line for line in first.splitlines() if "is started" in line][2].startswith("mlflow")
        everything = [process for found in running(home / "stack").values() for process in found.all]
        yield home
    finally:
        said = ok(home, "down", "--purge")
    assert "ended: mlflow, seaweedfs, postgres" in said
    assert not running(home / "stack") and not [one for one in everything if one.is_running()]
    assert not (home / "stack").exists()
    assert "there is no stack" in ok(home, "down")


@pytest.fixture(scope="package")
def config(home: Path) -> Config:
    found = load(home / "stack")
    assert found
    return found
