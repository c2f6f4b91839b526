"""The two gates behind the tokenizer: token shards before packing, part by part, and a phase's packed rows in one go.

Shards and rows are read a bounded number of tokens at a time. That no two documents have one id shows only over all
shards: a group writes the hashes of its ids, 8 bytes a document, and DuckDB compares them in bounded memory. What was
found is published as a small artifact, or raised before anything is packed or trained.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from k2model.artifacts import Part, read_json_file
from k2model.artifacts.entry import ATTACHMENTS
from k2model.documents.schema import source_file
from k2model.errors import K2Error
from k2model.recipe.fields import without_places
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.tokens.reader import Composition
from k2model.tokens.rows import COMPOSITION_FILE, FOLDER, INDEX_FILE, RowsIndex
from k2model.tokens.shards import COUNTS_FILE, SPLITS, counts_of, read_counts
from k2model.validation import Suite, one_part
from k2model.validation.gate import (
    FOUND,
    Findings,
    Found,
    LookedAt,
    Sized,
    files_of,
    group_files,
    look_together,
    publish,
    table_in_database,
)
from k2model.validation.render import page_if_broken
from k2model.validation.suites import Located, Runner
from k2model.validation.tokens import frames, suites
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, PartedStep, PartRecord, Step, Store

IDS = f"{ATTACHMENTS}/ids"
IDS_SCHEMA = pa.schema([("source", pa.string()), ("hash", pa.uint64())])


def tokens_checks_step(store: "Store", config: ValidationConfig, tokens: "ArtifactRef") -> "PartedStep":
    """Check every shard of a `tokens` artifact, a group of them at a time; leaves `validation.json` and a page.

    To finish it raises `ValidationFailed` naming part and row when an expectation of severity `stop` is not met.
    """
    from k2model.artifacts import Identity, PartedStep

    settings = {"validation": without_places(config)}
    identity = Identity("tokens_checks", STEP_VERSIONS["tokens_checks"], settings, {"tokens": tokens})

    def parts() -> "list[Part]":
        _, manifest = store.look_up(tokens)
        return token_groups(((entry.path, entry.size) for entry in manifest.files), tokens.uri, config.part_bytes)

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        from k2model.artifacts import local_parts

        parts_folder = local_parts(store, identity, records, lambda path: path.startswith((FOUND, IDS)))
        counts = counts_of(store, tokens)
        with tempfile.TemporaryDirectory(dir=folder) as spill:
            findings = gather_tokens(parts_folder, [record.name for record in records], counts, config, Path(spill))
        return publish(findings, folder, "tokens")

    return PartedStep(lambda: identity, parts, partial(_look_at_shards, store.uri, tokens, config), finish)


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

    def produce(folder: Path) -> dict[str, float]:
        found = sequence_findings(store.fetch(sequences), config, phase)
        return publish(found, folder, f"sequences of {phase.name}")

    return Step(identity, produce)


def sequence_findings(folder: Path, config: ValidationConfig, phase: PhaseConfig) -> Findings:
    """Everything about the packed rows of `phase` in `folder`. Raises K2Error when they are not there."""
    paths = sorted((folder / FOLDER).glob("*.arrow"))
    if not paths or not all((folder / name).is_file() for name in (COMPOSITION_FILE, INDEX_FILE)):
        raise K2Error(
            f"{folder} holds no rows, no {COMPOSITION_FILE} or no {INDEX_FILE}: this is no sequences artifact"
        )
    composition = read_json_file(Composition, folder, COMPOSITION_FILE)
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


def token_groups(files: Iterable[Sized], where: str, part_bytes: int) -> list[Part]:
    """The parts of the gate on the tokens artifact `where` that holds `files`. Raises K2Error when it has no shards."""
    sizes = {PurePosixPath(path): size for path, size in files if path.endswith(".arrow")}
    own = [path for path in sizes if len(path.parts) == 3 and path.parts[0] in SPLITS]
    if not own:
        raise K2Error(f"{where} holds no <split>/<source>/<part>.arrow: this is not a tokens artifact")
    own.sort(key=lambda path: (SPLITS.index(path.parts[0]), path))
    return group_files([(str(path), sizes[path]) for path in own], part_bytes)


def look_at_shards(source: Path, group: Part, target: Path, config: ValidationConfig) -> dict[str, Any]:
    """Look at a group of shards of the tokens in folder `source`; what is found is written below `target`."""
    counts = read_counts(source)
    shards = [Shard(source / path, path.rpartition("/")[0]) for path in files_of(group)]
    runner, suite = _runner(config, int(counts["vocab_size"]))
    for _ in look_together(runner, suite, _located(shards, int(counts["bos"]), int(counts["pad"]))):
        pass  # outcomes are kept by their shards
    Found.of(shards).write(target, group.name)
    path = _ids_path(target, group.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, IDS_SCHEMA, compression="none", use_dictionary=["source"]) as writer:
        for shard in shards:
            hashes = np.concatenate([np.empty(0, np.uint64), *shard.hashes])
            names = pa.repeat(shard.source, len(hashes))
            writer.write_table(pa.table([names, pa.array(hashes)], schema=IDS_SCHEMA))
    return {"documents": sum(shard.counts["documents"] for shard in shards)}


def gather_tokens(
    parts_folder: Path, groups: Sequence[str], counts: Mapping[str, Any], config: ValidationConfig, spill: Path
) -> Findings:
    """Everything about a tokens artifact, from what its groups left below `parts_folder` and from its `counts.json`.

    `spill` is a folder for what does not fit in memory.
    """
    found = Found.read(parts_folder, groups)
    findings = Findings()
    findings.add_parts(found.outcomes, found.pages)
    said = {f"{split}/{source_file(name)}": one for split in SPLITS for name, one in counts[split].items()}
    repeated = _repeated([_ids_path(parts_folder, name) for name in groups], spill, config.workers)
    findings.check(suites.token_sources_suite(config), frames.token_source_frame(said, found.counts, repeated))
    return findings


@dataclass
class Shard(LookedAt):
    """`hashes` of 8 bytes are of the ids of a frame's documents that have one."""

    hashes: list[NDArray[np.uint64]] = field(default_factory=list)


def _located(shards: Iterable[Shard], bos: int, pad: int) -> Iterator[tuple[Shard, Located]]:
    """The measured frames of shards, which are counted."""
    for shard in shards:
        for batch in frames.batches_of(shard.path):
            frame = frames.token_frame(batch, bos, pad)
            row, share = shard.counts["documents"], len(frame) / frames.ROWS_PER_FRAME
            yield shard, Located(frame, shard.source, shard.path.stem, row, share)
            ids = frame["id"].to_numpy(dtype=object, na_value="")  # missing ones: another rule's matter
            shard.hashes.append(pd.util.hash_array(ids[ids != ""], categorize=False))
            sums = {"tokens": frame["length"].sum(), "targets": frame["targets"].sum()}
            shard.counts.update({"documents": len(frame), **{name: int(total) for name, total in sums.items()}})


@cache
def _runner(config: ValidationConfig, vocab_size: int) -> tuple[Runner, Suite]:
    """One for all shards a process looks at."""
    return Runner(), suites.tokens_suite(config, vocab_size)


def _repeated(paths: list[Path], spill: Path, threads: int) -> dict[str, int]:
    """`split/stem` -> its documents whose id another document has too, for the sources that have any."""
    with table_in_database("ids", paths, IDS_SCHEMA, spill, threads) as connection:
        return dict(
            connection.execute(
                "SELECT source, count(*) FROM ids WHERE hash IN "
                "(SELECT hash FROM ids GROUP BY hash HAVING count(*) > 1) GROUP BY source"
            ).fetchall()
        )


def _ids_path(folder: Path, group: str) -> Path:
    return folder / IDS / f"{group}.parquet"


def _look_at_shards(
    uri: str, tokens: "ArtifactRef", config: ValidationConfig, group: "Part", folder: Path
) -> dict[str, Any]:
    from k2model.artifacts import Store

    wanted = {*files_of(group), COUNTS_FILE}
    return look_at_shards(Store.open(uri).fetch(tokens, wanted.__contains__), group, folder, config)
