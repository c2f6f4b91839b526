"""The two gates behind the tokenizer: token shards before packing, part by part, and a phase's packed rows in one go.

Shards and rows are read a bounded number of tokens at a time. That no two documents have one id shows only over all
shards: a group writes the hashes of its ids, 8 bytes a document, and DuckDB compares them in bounded memory. What was
found is published as a small artifact, or raised before anything is packed or trained.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from k2model.artifacts import Part
from k2model.artifacts.manifest import ATTACHMENTS
from k2model.documents.counts import Counts
from k2model.documents.schema import source_file
from k2model.errors import K2Error
from k2model.recipe.fields import without_places
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.tokens.rows import COMPOSITION_FILE, FOLDER, INDEX_FILE, RowsIndex
from k2model.tokens.shards import COUNTS_FILE, SPLITS, read_counts
from k2model.validation import Outcome, Suite, one_part
from k2model.validation.gate import (
    FOUND,
    Findings,
    Found,
    Sized,
    add_up,
    files_of,
    files_sql,
    group_files,
    open_database,
    publish,
)
from k2model.validation.render import Page, page_if_broken
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

        told = local_parts(store, identity, records, lambda path: path.startswith((FOUND, IDS)))
        counts = json.loads(store.read(tokens, COUNTS_FILE))
        with tempfile.TemporaryDirectory(dir=folder) as spill:
            findings = gather_tokens(told, [record.name for record in records], counts, config, Path(spill))
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


@dataclass(frozen=True)
class ShardFound:
    """What was found in one shard; `hashes` of 8 bytes are of its ids, [documents that have one]."""

    name: str
    outcomes: tuple[Outcome, ...]
    amounts: Mapping[str, int]
    hashes: NDArray[np.uint64]
    page: Page | None


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
    shards = _look([source / path for path in files_of(group)], source, config, read_counts(source))
    sources: defaultdict[str, Counts] = defaultdict(Counts)
    for shard in shards:
        sources[shard.name].update(shard.amounts)
    outcomes = [outcome for shard in shards for outcome in shard.outcomes]
    pages = [shard.page for shard in shards if shard.page is not None]
    Found(outcomes, pages, {"sources": sources}).write(target, group.name)
    path = _ids_path(target, group.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, IDS_SCHEMA, compression="none", use_dictionary=["source"]) as writer:
        for shard in shards:
            names = pa.repeat(shard.name, len(shard.hashes))
            writer.write_table(pa.table([names, pa.array(shard.hashes)], schema=IDS_SCHEMA))
    return {"documents": sum(shard.amounts["documents"] for shard in shards)}


def gather_tokens(
    told: Path, groups: Sequence[str], counts: Mapping[str, Any], config: ValidationConfig, spill: Path
) -> Findings:
    """Everything about a tokens artifact, from what its groups left below `told` and from its `counts.json`.

    `spill` is a folder for what does not fit in memory.
    """
    found: defaultdict[str, Counts] = defaultdict(Counts)

    def add(part: Mapping[str, Any]) -> None:
        for name, amounts in part["sources"].items():
            found[name].update(amounts)

    findings = Findings()
    findings.add_parts(*add_up(told, groups, add))
    said = {f"{split}/{source_file(name)}": one for split in SPLITS for name, one in counts[split].items()}
    repeated = _repeated([_ids_path(told, name) for name in groups], spill, config.workers)
    findings.check(suites.token_sources_suite(config), frames.token_source_frame(said, found, repeated))
    return findings


def _look(paths: Sequence[Path], folder: Path, config: ValidationConfig, counts: Mapping[str, Any]) -> list[ShardFound]:
    """What is in each of some shards below `folder`, small ones looked at together."""
    runner, suite = _runner(config, int(counts["vocab_size"]))
    shards = [_Shard(path, "/".join(path.relative_to(folder).parts[:2])) for path in paths]
    waiting: list[tuple[_Shard, Located]] = []

    def look() -> None:
        outcomes = runner.run_together(suite, [place for _, place in waiting])
        for (shard, place), found in zip(waiting, outcomes, strict=True):
            shard.page = shard.page or page_if_broken(runner, suite.name, f"{place.shard}/{place.part}", found)
            shard.outcomes += found
        waiting.clear()

    for shard in shards:
        for batch in frames.batches_of(shard.path):
            frame = frames.token_frame(batch, int(counts["bos"]), int(counts["pad"]))
            waiting.append((shard, Located(frame, shard.name, shard.path.stem, shard.amounts["documents"])))
            shard.add(frame)
            if sum(len(place.frame) for _, place in waiting) >= frames.ROWS_PER_FRAME:
                look()
    if waiting:
        look()
    return [shard.found() for shard in shards]


class _Shard:
    """What is found in a shard while its frames are looked at."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.amounts = {"documents": 0, "tokens": 0, "targets": 0}
        self.outcomes: list[Outcome] = []
        self.page: Page | None = None
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, frame: pd.DataFrame) -> None:
        ids = frame["id"].to_numpy(dtype=object, na_value="")
        self._hashes.append(pd.util.hash_array(ids[ids != ""], categorize=False))  # missing ones: another rule's matter
        self.amounts["documents"] += len(frame)
        self.amounts["tokens"] += int(frame["length"].sum())
        self.amounts["targets"] += int(frame["targets"].sum())

    def found(self) -> ShardFound:
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        return ShardFound(self.name, tuple(one_part(self.outcomes)), self.amounts, hashes, self.page)


@cache
def _runner(config: ValidationConfig, vocab_size: int) -> tuple[Runner, Suite]:
    """One for all shards a process looks at."""
    return Runner(), suites.tokens_suite(config, vocab_size)


def _repeated(paths: list[Path], spill: Path, threads: int) -> dict[str, int]:
    """`split/stem` -> its documents whose id another document has too, for the sources that have any."""
    with open_database(spill, threads) as connection:
        connection.execute(f"CREATE TEMP VIEW ids AS SELECT * FROM {files_sql(paths)}")
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
