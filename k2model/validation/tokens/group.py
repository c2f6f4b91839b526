"""The gate on token shards: a group of shards is looked at, and all groups are gathered.

A shard is read a bounded number of tokens at a time. That no two documents have one id shows only over all
shards: a group writes the hashes of its ids, 8 bytes a document, and DuckDB compares them in bounded memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from k2model.artifacts import Part
from k2model.artifacts.manifest import ATTACHMENTS
from k2model.documents.schema import source_file
from k2model.errors import K2Error
from k2model.recipe.schema import ValidationConfig
from k2model.tokens.shards import SPLITS, read_counts
from k2model.validation import Outcome, Suite, one_part
from k2model.validation.gate import Findings, Found, Sized, add_up, files_of, files_sql, group_files, open_database
from k2model.validation.render import Page, page_if_broken
from k2model.validation.suites import Located, Runner
from k2model.validation.tokens import frames, suites

IDS = f"{ATTACHMENTS}/ids"
IDS_SCHEMA = pa.schema([("source", pa.string()), ("hash", pa.uint64())])


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
    sources: dict[str, dict[str, int]] = {}
    for shard in shards:
        _add(sources.setdefault(shard.name, {}), shard.amounts)
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
    found: dict[str, dict[str, int]] = {}

    def add(part: Mapping[str, Any]) -> None:
        for name, amounts in part["sources"].items():
            _add(found.setdefault(name, {}), amounts)

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


def _add(sums: dict[str, int], amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0) + amount


def _ids_path(folder: Path, group: str) -> Path:
    return folder / IDS / f"{group}.parquet"
