"""What tests of gates share: folders as artifacts, and steps that note which of their parts were made."""

import functools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, Store


def as_artifact(store: Store, kind: str, folder: Path) -> ArtifactRef:
    def copy(target: Path) -> dict[str, float]:
        own = shutil.ignore_patterns("artifact.json", "manifest.json")  # it may be a finished one
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=own)
        return {}

    return store.build(Identity(kind, "1", {"made": str(folder)}), copy)


def noting(step: PartedStep, log: list[str], fails: str = "") -> PartedStep:
    """The step, whose parts are written into `log` when they are made; the part `fails` cannot be."""
    return replace(step, produce=functools.partial(_note, step, log, fails))


def _note(step: PartedStep, log: list[str], fails: str, part: Part, folder: Path) -> dict[str, Any]:
    log.append(part.name)
    if part.name == fails:
        raise OSError("the machine is gone")
    return step.produce(part, folder)
