"""Who made an artifact, when and with which code: what its record says beside its identity.

It never bears identity and never holds the environment, which may contain secrets. Heavy packages
are asked for their version without being imported.
"""

import functools
import hashlib
import platform
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from k2model import settings

PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "k2-lifecycle", "torch", "deepspeed", "flytekit", "mlflow", "great-expectations", "numpy", "pyarrow", "pandas",
    "tokenizers", "safetensors", "transformers", "py3langid", "reasoning-gym", "fsspec", "s3fs",
)  # fmt: skip
_LOCK_FILES = ("uv.lock", "requirements.lock", "requirements.txt", "constraints.txt")


def provenance(started: float) -> dict[str, Any]:
    """A readable account of this process. `started`: when the work began, seconds since the epoch."""
    ended = time.time()
    return {
        **_code(),
        "argv": [settings.masked_text(argument) for argument in sys.argv],
        "host": socket.gethostname(),
        "world_size": settings.world_size(),
        "started": _utc(started),
        "ended": _utc(ended),
        "seconds": round(ended - started, 3),
    }


@functools.cache
def _code() -> dict[str, Any]:
    return {
        "git": _git(),
        "lock_file": _lock_file(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
    }


def _git() -> dict[str, Any] | None:
    """Commit of the project's checkout and whether files differ from it; None outside a checkout."""
    top = _run_git("rev-parse", "--show-toplevel")
    commit = _run_git("rev-parse", "HEAD")
    # An installed copy below somebody else's checkout has nothing to do with that one's commits.
    if top is None or commit is None or Path(top) != PROJECT:
        return None
    return {"commit": commit, "dirty": bool(_run_git("status", "--porcelain"))}


def _run_git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PROJECT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _lock_file() -> dict[str, str] | None:
    for name in _LOCK_FILES:
        path = PROJECT / name
        if path.is_file():
            return {"path": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return None


def _versions() -> dict[str, str]:
    import importlib.metadata  # takes longer than all of this package

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
