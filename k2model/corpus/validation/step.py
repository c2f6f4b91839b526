"""The validation steps: a corpus in, validated parts out, or an error before any training."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.corpus.validation.suites import Bounds
from k2model.errors import K2Error
from k2model.recipe.schema import MixtureEntry, ValidationConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store
    from k2model.corpus.validation.gather import Mixtures


def validate(
    store: "Store",
    config: ValidationConfig,
    mixtures: Mapping[str, tuple[MixtureEntry, ...]],
    corpus: "ArtifactRef",
    *,
    phase_tokens: Mapping[str, int] | None = None,
    min_characters: int = 1,
    max_characters: int = 20_000,
) -> "ArtifactRef":
    """The validated corpus (kind `corpus_valid`): the same layout without the quarantined documents.

    `mixtures` maps a phase's name to its mixture, `phase_tokens` to the tokens it trains on; without
    the latter, epochs are not checked. What depends on the mixtures or on the previous version is kept in
    `attachments/`, so that changing them gives an artifact of the same digest and nothing after it runs again.

    Raises `ValidationFailed` when an expectation of severity `stop` is not met; then nothing is published.
    """
    from k2model.artifacts import Identity

    bounds = Bounds(config, min_characters, max_characters)
    previous = read_previous(config.previous_statistics)
    settings = {
        "validation": config,
        "previous": hashlib.sha256(previous).hexdigest() if previous else "",
        "mixtures": {phase: list(mixture) for phase, mixture in mixtures.items()},
        "phase_tokens": dict(phase_tokens or {}),
        "characters": [min_characters, max_characters],
    }
    identity = Identity("corpus_valid", STEP_VERSIONS["corpus_valid"], settings, {"corpus": corpus})
    earlier = json.loads(previous) if previous else None
    return store.build(
        identity, lambda folder: validate_folder(store.fetch(corpus), folder, bounds, mixtures, phase_tokens, earlier)
    )


def validate_folder(
    source: Path,
    target: Path,
    bounds: Bounds,
    mixtures: "Mixtures",
    phase_tokens: Mapping[str, int] | None = None,
    previous: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Validate corpus folder `source` and write the validated one into the empty folder `target`.

    `previous` is the `statistics.json` of the version to compare with. Returns counts. Raises
    `ValidationFailed`, leaving nothing, and `K2Error` when `source` is not a corpus.
    """
    from k2model.corpus.validation.gather import validate_corpus

    return validate_corpus(source, target, bounds, mixtures, phase_tokens or {}, previous)


def validate_raw(store: "Store", config: ValidationConfig, raw: "ArtifactRef") -> "ArtifactRef":
    """Check every training part of a raw corpus before curation; gives kind `raw_checks` with `validation.json`.

    Raises `ValidationFailed` when an expectation of severity `stop` is not met; what curation mends is warned of.
    """
    from k2model.artifacts import Identity

    identity = Identity("raw_checks", STEP_VERSIONS["raw_checks"], {"validation": config}, {"raw": raw})
    return store.build(identity, lambda folder: check_raw(store.fetch(raw), folder, Bounds(config)))


def check_raw(source: Path, target: Path, bounds: Bounds) -> dict[str, float]:
    """Check the raw corpus in folder `source`; writes `validation.json` and the pages into `target`."""
    from k2model.corpus.validation.gather import raw_findings
    from k2model.validation.publish import publish

    return publish(raw_findings(source, bounds), target, "raw corpus")


def read_previous(address: str) -> bytes:
    """The bytes of a `statistics.json`, nothing for "". Raises K2Error when it is not there."""
    import fsspec

    if not address:
        return b""
    try:
        with fsspec.open(address, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise K2Error(
            f"validation.previous_statistics: {address} cannot be read ({error}); name the statistics.json of a "
            'corpus_valid artifact, or "" to compare with none'
        ) from error
