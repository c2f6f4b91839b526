"""The two gates: they publish what was found as a small artifact, or raise before anything is packed or trained."""

from pathlib import Path
from typing import TYPE_CHECKING

from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store


def validate_tokens(store: "Store", config: ValidationConfig, tokens: "ArtifactRef") -> "ArtifactRef":
    """Check every shard of a `tokens` artifact; gives kind `tokens_checks` with `validation.json`.

    Raises `ValidationFailed` naming part and row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity

    identity = Identity("tokens_checks", STEP_VERSIONS["tokens_checks"], {"validation": config}, {"tokens": tokens})
    return store.build(identity, lambda folder: check_tokens(store.fetch(tokens), folder, config))


def validate_sequences(
    store: "Store", config: ValidationConfig, phase: PhaseConfig, sequences: "ArtifactRef"
) -> "ArtifactRef":
    """Check every packed row of a phase, and its composition; gives kind `sequences_checks`.

    Raises `ValidationFailed` naming the row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity

    settings = {"validation": config, "phase": phase.name, "rows": phase.steps * phase.global_batch}
    version = STEP_VERSIONS["sequences_checks"]
    identity = Identity("sequences_checks", version, settings, {"sequences": sequences})
    return store.build(identity, lambda folder: check_sequences(store.fetch(sequences), folder, config, phase))


def check_tokens(source: Path, target: Path, config: ValidationConfig) -> dict[str, float]:
    """Check the tokens in folder `source`; writes `validation.json` and the pages into `target`."""
    from k2model.tokens.validation.check import token_findings
    from k2model.validation.publish import publish

    return publish(token_findings(source, config), target, "tokens")


def check_sequences(source: Path, target: Path, config: ValidationConfig, phase: PhaseConfig) -> dict[str, float]:
    """Check the packed rows in folder `source`; writes `validation.json` and the pages into `target`."""
    from k2model.tokens.validation.check import sequence_findings
    from k2model.validation.publish import publish

    return publish(sequence_findings(source, config, phase), target, f"sequences of {phase.name}")
