"""What is found in a folder: in all token shards, or in the packed rows of a phase, a bounded number at a time."""

import json
import tempfile
from pathlib import Path

import numpy as np

from k2model.errors import K2Error
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.tokens.rows import COMPOSITION_FILE, FOLDER, INDEX_FILE, RowsIndex
from k2model.tokens.shards import read_counts
from k2model.tokens.validation import frames, suites
from k2model.tokens.validation.group import gather_tokens, look_at_shards, token_groups
from k2model.validation import one_part
from k2model.validation.findings import Findings
from k2model.validation.parts import files_below
from k2model.validation.render import page_if_broken


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
