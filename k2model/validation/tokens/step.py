"""What is found in a folder: in all token shards, or in the packed rows of a phase, a bounded number at a time.

The two gates: they publish what was found as a small artifact, or raise before anything is packed or trained.

That on tokens is made part by part; the packed rows of a phase are looked at in one go.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from k2model.errors import K2Error
from k2model.recipe.fields import without_places
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.tokens.rows import COMPOSITION_FILE, FOLDER, INDEX_FILE, RowsIndex
from k2model.tokens.shards import read_counts
from k2model.validation import one_part
from k2model.validation.gate import Findings, files_below
from k2model.validation.render import page_if_broken
from k2model.validation.tokens import frames, suites
from k2model.validation.tokens.group import gather_tokens, look_at_shards, token_groups
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Part, PartedStep, PartRecord, Step, Store


def token_findings(folder: Path, config: ValidationConfig) -> Findings:
    """Everything about the tokens artifact in `folder`. Raises K2Error when it is none."""
    groups = token_groups(files_below(folder), str(folder), config.part_bytes)
    with tempfile.TemporaryDirectory() as told:
        for group in groups:
            look_at_shards(folder, group, Path(told), config)
        return gather_tokens(Path(told), [group.name for group in groups], read_counts(folder), config, Path(told))


def sequence_findings(folder: Path, config: ValidationConfig, phase: PhaseConfig) -> Findings:
    """Everything about the packed rows of `phase` in `folder`. Raises K2Error when they are not there."""
    paths = sorted((folder / FOLDER).glob("*.arrow"))
    if not paths or not all((folder / name).is_file() for name in (COMPOSITION_FILE, INDEX_FILE)):
        raise K2Error(
            f"{folder} holds no rows, no {COMPOSITION_FILE} or no {INDEX_FILE}: this is no sequences artifact"
        )
    composition = json.loads((folder / COMPOSITION_FILE).read_text(encoding="utf-8"))
    index = RowsIndex.from_json((folder / INDEX_FILE).read_bytes(), str(folder))
    suite = suites.rows_suite(config, index.vocab_size)
    findings, total = Findings(), 0
    amounts = np.zeros((2, 256), dtype=np.int64)
    for path in paths:
        row, found = 0, []
        for rows in frames.rows_of(path):
            frame = frames.row_frame(rows, index.pad, len(index.sources))
            outcomes = findings.runner.run(suite, frame, phase.name, path.stem, row)
            if not findings.pages and (page := page_if_broken(findings.runner, suite.name, path.stem, outcomes)):
                findings.pages.append(page)
            found += outcomes
            amounts += frames.amounts_by_source(rows)
            row += len(rows.tokens)
        findings.add_parts(one_part(found), [])
        total += row
    table = frames.composition_frame(composition, index.sources, amounts)
    findings.check(suites.composition_suite(config, config.max_epochs), table)
    wanted = phase.steps * phase.global_batch
    findings.check(suites.phase_suite(config), frames.phase_frame(phase.name, composition, total, wanted))
    return findings


def tokens_checks_step(store: "Store", config: ValidationConfig, tokens: "ArtifactRef") -> "PartedStep":
    """Check every shard of a `tokens` artifact, a group of them at a time; leaves `validation.json` and a page.

    To finish it raises `ValidationFailed` naming part and row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity, PartedStep

    settings = {"validation": without_places(config)}
    identity = Identity("tokens_checks", STEP_VERSIONS["tokens_checks"], settings, {"tokens": tokens})

    def parts() -> "list[Part]":
        from k2model.validation.tokens.group import token_groups

        _, manifest = store.look_up(tokens)
        return token_groups(((entry.path, entry.size) for entry in manifest.files), tokens.uri, config.part_bytes)

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        from k2model.artifacts import local_parts
        from k2model.tokens.shards import COUNTS_FILE
        from k2model.validation.gate import FOUND, publish
        from k2model.validation.tokens.group import IDS, gather_tokens

        told = local_parts(store, identity, records, lambda path: path.startswith((FOUND, IDS)))
        counts = json.loads(store.read(tokens, COUNTS_FILE))
        with tempfile.TemporaryDirectory(dir=folder) as spill:
            findings = gather_tokens(told, [record.name for record in records], counts, config, Path(spill))
        return publish(findings, folder, "tokens")

    return PartedStep(lambda: identity, parts, partial(_look_at_shards, store.uri, tokens, config), finish)


def _look_at_shards(
    uri: str, tokens: "ArtifactRef", config: ValidationConfig, group: "Part", folder: Path
) -> dict[str, Any]:
    from k2model.artifacts import Store
    from k2model.tokens.shards import COUNTS_FILE
    from k2model.validation.gate import files_of
    from k2model.validation.tokens.group import look_at_shards

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
    pass  # HOUSE
    from k2model.validation.gate import publish

    return publish(token_findings(source, config), target, "tokens")


def check_sequences(source: Path, target: Path, config: ValidationConfig, phase: PhaseConfig) -> dict[str, float]:
    """Check the packed rows in folder `source`; writes `validation.json` and the pages into `target`."""
    pass  # HOUSE
    from k2model.validation.gate import publish

    return publish(sequence_findings(source, config, phase), target, f"sequences of {phase.name}")
