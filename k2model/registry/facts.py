"""What is known about a trained phase, gathered from the store and the recipe for MLflow.

Only small files are read: of a checkpoint its record and its log, never its tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from k2model.artifacts import ArtifactRef, CorruptArtifact, Store, fingerprint, read_manifest
from k2model.artifacts.files import files_at
from k2model.recipe.fields import identity_fields
from k2model.recipe.schema import MixtureEntry, ModelConfig, PhaseConfig
from k2model.registry.gates import RegistryError
from k2model.training.log import METRICS, Intervention, StepMetrics, parse_row, read_interventions

STATE = "final/state.json"
RECORD = "artifact.json"


@dataclass(frozen=True)
class Trained:
    """A checkpoint's log, what was undone on the way, and its provenance.

    `started` and `ended` are milliseconds since the epoch."""

    rows: list[StepMetrics]
    interventions: list[Intervention]
    commit: str
    started: int
    ended: int


def registration_key(checkpoint: ArtifactRef, scores: ArtifactRef) -> str:
    """The same for the same checkpoint with the same scores: 64 hex digits."""
    return fingerprint([ref_part for ref in (checkpoint, scores) for ref_part in (ref.identity, ref.digest)])


def read_training(store: Store, checkpoint: ArtifactRef) -> Trained:
    """Raises `CorruptArtifact` when a file is not the one its manifest lists, `RegistryError` when there is none."""
    location = f"{store.uri}/{checkpoint.name}"
    record = json.loads(files_at(location).read(RECORD))
    provenance = record["provenance"]
    return Trained(
        rows=[parse_row(line) for line in _read_listed(location, METRICS).decode().splitlines()],
        interventions=read_interventions(_read_listed(location, STATE)),
        commit=(provenance.get("git") or {}).get("commit", ""),
        started=_milliseconds(provenance["started"]),
        ended=_milliseconds(provenance["ended"]),
    )


def parameters(model: ModelConfig, phase: PhaseConfig) -> dict[str, str]:
    """Everything of a phase that bears identity, flat: `optimizer.lr`, `mixture.prose`, `model.n_layers`."""
    return {**_flat(phase), **_flat(model, "model.")}


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for field in identity_fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, tuple) and all(isinstance(entry, MixtureEntry) for entry in value):
            flat |= {f"{name}.{entry.name}": _amount(entry) for entry in value}
        elif field.type is float:
            flat[name] = str(float(value))  # a recipe may write 35 where an orchestrator hands on 35.0
        else:
            flat[name] = str(value.value if isinstance(value, Enum) else value)
    return flat


def _amount(entry: MixtureEntry) -> str:
    if entry.copies:
        return f"{entry.copies} copies"
    return f"{float(entry.epochs)} epochs" if entry.epochs else str(float(entry.weight))


def reference_tags(references: Mapping[str, ArtifactRef]) -> dict[str, str]:
    """Three tags for each artifact: where it is, what it is, what it was made for."""
    tags: dict[str, str] = {}
    for name, ref in references.items():
        tags |= {f"k2.{name}.uri": ref.uri, f"k2.{name}.digest": ref.digest, f"k2.{name}.identity": ref.identity}
    return tags


def _read_listed(location: str, path: str) -> bytes:
    """One file of an artifact, compared with the manifest."""
    entry = next((entry for entry in read_manifest(location).files if entry.path == path), None)
    if entry is None:
        raise RegistryError(f"{location} has no {path}; train the phase again with this version of the pipeline")
    content = files_at(location).read(path)
    if (len(content), hashlib.sha256(content).hexdigest()) != (entry.size, entry.sha256):
        raise CorruptArtifact(
            f"{location}/{path} is not the file its manifest lists ({entry.size} bytes, sha256 {entry.sha256}); "
            f"delete {location} and run again"
        )
    return content


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
