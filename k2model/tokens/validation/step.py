"""The two gates: they publish what was found as a small artifact, or raise before anything is packed or trained.

That on tokens is made part by part; the packed rows of a phase are looked at in one go.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.recipe.fields import without_places
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Part, PartedStep, PartRecord, Step, Store


def tokens_checks_step(store: "Store", config: ValidationConfig, tokens: "ArtifactRef") -> "PartedStep":
    """Check every shard of a `tokens` artifact, a group of them at a time; leaves `validation.json` and a page.

    To finish it raises `ValidationFailed` naming part and row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity, PartedStep

    settings = {"validation": without_places(config)}
    identity = Identity("tokens_checks", STEP_VERSIONS["tokens_checks"], settings, {"tokens": tokens})

    def parts() -> "list[Part]":
        from k2model.tokens.validation.group import token_groups

        _, manifest = store.look_up(tokens)
        return token_groups(((entry.path, entry.size) for entry in manifest.files), tokens.uri, config.part_bytes)

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        from k2model.artifacts import local_parts
        from k2model.tokens.shards import COUNTS_FILE, read_counts
        from k2model.tokens.validation.group import IDS, gather_tokens
        from k2model.validation.parts import FOUND
        from k2model.validation.publish import publish

        told = local_parts(store, identity, records, lambda path: path.startswith((FOUND, IDS)))
        counts = read_counts(store.fetch(tokens, lambda path: path == COUNTS_FILE))
        with tempfile.TemporaryDirectory(dir=folder) as spill:
            findings = gather_tokens(told, [record.name for record in records], counts, config, Path(spill))
        return publish(findings, folder, "tokens")

    return PartedStep(lambda: identity, parts, partial(_look_at_shards, store.uri, tokens, config), finish)


def _look_at_shards(
    uri: str, tokens: "ArtifactRef", config: ValidationConfig, group: "Part", folder: Path
) -> dict[str, Any]:
    from k2model.artifacts import Store
    from k2model.tokens.shards import COUNTS_FILE
    from k2model.tokens.validation.group import look_at_shards
    from k2model.validation.parts import files_of

    wanted = {*files_of(group), COUNTS_FILE}
    return look_at_shards(Store.open(uri).fetch(tokens, wanted.__contains__), group, folder, config)


def sequences_checks_step(
    store: "Store", config: ValidationConfig, phase: PhaseConfig, sequences: "ArtifactRef"
) -> "Step":
    """Check every packed row of a phase, and its composition; kind `sequences_checks`.

    To make it raises `ValidationFailed` naming the row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity, Step

    settings = {"validation": without_places(config), "phase": phase.name, "rows": phase.steps * phase.global_batch}
    version = STEP_VERSIONS["sequences_checks"]
    identity = Identity("sequences_checks", version, settings, {"sequences": sequences})
    return Step(identity, lambda folder: check_sequences(store.fetch(sequences), folder, config, phase))


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
