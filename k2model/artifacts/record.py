"""The record `artifact.json`: what an artifact is, out of what, when and with which code it was made, for people.

The same record is kept in the store's ledger, which outlives the artifact's folder. It bears neither identity nor
digest: it holds times and hosts. It never holds the environment, which may contain secrets.
"""

import contextlib
import functools
import hashlib
import json
import numbers
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from k2model import settings
from k2model.artifacts.files import Files
from k2model.artifacts.identity import KEY, STEP_NAME, ArtifactRef, Identity, artifact_name
from k2model.artifacts.manifest import Manifest
from k2model.artifacts.outside import read_typed
from k2model.errors import CorruptArtifact
from k2model.recipe.fields import identity_fields

PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "k2-lifecycle", "torch", "deepspeed", "flytekit", "mlflow", "great-expectations", "numpy", "pyarrow", "pandas",
    "tokenizers", "safetensors", "transformers", "py3langid", "reasoning-gym", "fsspec", "s3fs",
)  # fmt: skip
_LOCK_FILES = ("uv.lock", "requirements.lock", "requirements.txt", "constraints.txt")


def provenance(started: float, before: float = 0.0) -> dict[str, Any]:
    """A readable account of this process.

    started: when it began to work, seconds since the epoch. before: seconds of work that others had done until then,
    on parts; side by side they took less than this sum.
    """
    ended = time.time()
    return {
        **_code(),
        "argv": settings.masked_arguments(sys.argv),
        "host": socket.gethostname(),
        "world_size": settings.world_size(),
        "started": _utc(started),
        "ended": _utc(ended),
        "seconds": round(before + max(ended - started, 0.0), 3),  # a clock may have been set back
    }


@functools.cache
def _code() -> dict[str, Any]:
    import importlib.metadata  # takes longer than all of this package

    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    lock = next((PROJECT / name for name in _LOCK_FILES if (PROJECT / name).is_file()), None)
    return {
        "git": _git(),
        "lock_file": {"path": lock.name, "sha256": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
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


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def readable(value: Any) -> Any:
    """A config value as plain JSON: what bears identity of it, enums by value."""
    if isinstance(value, Enum):
        return readable(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: readable(getattr(value, f.name)) for f in identity_fields(value)}
    if isinstance(value, dict):
        return {name: readable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(item) for item in value]
    return value


def described(identity: Identity, store_uri: str = "") -> dict[str, Any]:
    """All that an identity says, as plain JSON; places of inputs in the store at `store_uri` are relative to it."""
    return {
        "step": identity.step,
        "version": identity.version,
        "identity": identity.key,
        "config": readable(identity.config),
        "inputs": {
            name: {"kind": ref.kind, "digest": ref.digest, "uri": ref.uri.removeprefix(f"{store_uri}/")}
            for name, ref in identity.inputs.items()
        },
    }


def make_record(
    identity: Identity, manifest: Manifest, stats: dict[str, float], store_uri: str, started: float, before: float = 0.0
) -> dict[str, Any]:
    """The record of an artifact just made; `started` and `before` as `provenance` takes them."""
    return {
        **described(identity, store_uri),
        "digest": manifest.digest,
        "bytes": manifest.size,
        "files": len(manifest.files),
        "stats": stats,
        "provenance": provenance(started, before),
    }


def checked_stats(stats: Mapping[str, Any], step: str) -> dict[str, float]:
    """Stats as plain floats. Raises TypeError for anything that is not a number."""
    for name, value in stats.items():
        if not isinstance(name, str) or not isinstance(value, numbers.Real):
            raise TypeError(f"step {step}: stat {name!r} is {value!r}, expected a name and a number")
    return {name: float(value) for name, value in stats.items()}


def record_to_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


class _Source(TypedDict):
    kind: str
    digest: str


class _Provenance(TypedDict):
    started: NotRequired[str]
    ended: str
    seconds: float


class _Record(TypedDict):
    """What every version of the project has written; whatever else is there is kept."""

    step: str
    version: str
    identity: str
    config: dict[str, Any]
    inputs: dict[str, _Source]
    digest: str
    bytes: int
    files: int
    stats: dict[str, float]
    provenance: _Provenance


def read_record(files: Files, path: str, remedy: str) -> dict[str, Any]:
    """The record in a file. Raises FileNotFoundError, or CorruptArtifact naming the file and what to do."""
    record = cast(dict[str, Any], read_typed(_Record, files, path, "an artifact's record", remedy))
    try:
        _check_names(record["step"], record["identity"], record["digest"])
        for source in record["inputs"].values():
            _check_names(source["kind"], source["digest"])
        if record["bytes"] < 0 or record["files"] < 0 or record["provenance"]["seconds"] < 0:
            raise ValueError("bytes, files and seconds are numbers from 0 on")
        return record
    except ValueError as error:
        raise CorruptArtifact(f"{files.uri}/{path} is not an artifact's record ({error}). {remedy}") from error


def _check_names(step: str, *keys: str) -> None:
    """They become folders. Raises ValueError for what is no step's name or no key."""
    if not STEP_NAME.fullmatch(step):
        raise ValueError(f"{step!r} is not the name of a step")
    for key in keys:
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not 64 hex digits")


def ref_of(record: dict[str, Any], store_uri: str) -> ArtifactRef:
    """The reference of the artifact with this record in a store."""
    uri = f"{store_uri}/{artifact_name(record['step'], record['identity'])}"
    return ArtifactRef(record["step"], uri, record["digest"], record["identity"], record["stats"])
