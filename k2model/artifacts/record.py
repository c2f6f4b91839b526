"""The record `artifact.json`: what an artifact is, out of what and how it was made, for people.

The same record is kept in the store's ledger, which outlives the artifact's folder. It bears no
digest: it holds times and hosts.
"""

import json
import numbers
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

from k2model.artifacts.errors import CorruptArtifact
from k2model.artifacts.identity import STEP_NAME, ArtifactRef, Identity
from k2model.artifacts.manifest import Manifest
from k2model.artifacts.provenance import provenance
from k2model.recipe.fields import identity_fields

_KEY = re.compile(r"[0-9a-f]{64}")


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
    identity: Identity, manifest: Manifest, stats: dict[str, float], started: float, store_uri: str
) -> dict[str, Any]:
    """The record of an artifact just made. `started`: seconds since the epoch."""
    return {
        **described(identity, store_uri),
        "digest": manifest.digest,
        "bytes": manifest.size,
        "files": len(manifest.files),
        "stats": stats,
        "provenance": provenance(started),
    }


def checked_stats(stats: Mapping[str, Any], step: str) -> dict[str, float]:
    """Stats as plain floats. Raises TypeError for anything that is not a number."""
    for name, value in stats.items():
        if not isinstance(name, str) or not isinstance(value, numbers.Real):
            raise TypeError(f"step {step}: stat {name!r} is {value!r}, expected a name and a number")
    return {name: float(value) for name, value in stats.items()}


def record_to_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def record_from_json(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Raises CorruptArtifact naming the file `where` and what to do."""
    try:
        record = dict(json.loads(data))
        record["stats"], record["config"]
        _check_names(record["step"], record["identity"], record["digest"])
        for source in record["inputs"].values():
            _check_names(source["kind"], source["digest"])
        return record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(
            f"{where} is not an artifact's record ({type(error).__name__}: {error}). {remedy}"
        ) from error


def _check_names(step: str, *keys: str) -> None:
    """They become folders. Raises ValueError for what is no step's name or no key, TypeError for what is no text."""
    if not STEP_NAME.fullmatch(step):
        raise ValueError(f"{step!r} is not the name of a step")
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not 64 hex digits")


def ref_of(record: dict[str, Any], store_uri: str) -> ArtifactRef:
    """The reference of the artifact with this record in a store."""
    uri = f"{store_uri}/{record['step']}/{record['identity'][:16]}"
    return ArtifactRef(record["step"], uri, record["digest"], record["identity"], record["stats"])
