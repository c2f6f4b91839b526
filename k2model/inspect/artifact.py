"""A store as one looks at it: what was made and what is gone, and the files that an artifact holds.

An artifact is named by a step, step/key or the beginning of a digest. What is looked into may also be a plain folder or
file. Files are opened where they lie, on disk or an object store, and read a
row group at a time; nothing is fetched as a whole. Trainings have a table of their own (`trainings`).
"""

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.artifacts import MissingArtifact, Store, artifact_name
from k2model.artifacts.content import MOST
from k2model.artifacts.files import Files, LocalFiles, files_at
from k2model.artifacts.outside import read_typed, remedy
from k2model.artifacts.record import ref_of
from k2model.documents.schema import source_file
from k2model.errors import K2Error, nearest
from k2model.inspect.inventory import Inventory, readable, take_inventory
from k2model.tokens.shards import TokenCounts

if TYPE_CHECKING:
    from k2model.tokens import K2Tokenizer

_log = logging.getLogger(__name__)


def list_artifacts(inventory: Inventory) -> list[tuple[Any, ...]]:
    """Rows (artifact, state, ended, seconds of work, megabytes), oldest first. `damaged`: what the store says of it
    does not agree, see `Inventory.faults`; no byte is read for that."""
    rows = []
    for name, one in inventory.known.items():
        if not one.finished and not one.entry_path:
            continue  # nobody has finished it yet
        told = one.told or {"provenance": {"ended": "", "seconds": 0.0}, "bytes": one.bytes}
        made = told["provenance"]
        state = "damaged" if one.faults else "done" if one.finished else "lost"
        rows.append((name, state, made["ended"], round(float(made["seconds"]), 2), round(told["bytes"] / 1e6, 1)))
    return sorted(rows, key=lambda row: str(row[2]))


def open_existing(store_uri: str) -> Store:
    """The store at `store_uri`. Raises MissingArtifact where there is none: looking must not make one."""
    if not files_at(store_uri).exists("store.json"):
        raise MissingArtifact(f"there is no store at {store_uri}; check K2_STORE or --store, or run `make lifecycle`")
    return Store.open(store_uri)


def all_records(store: Store) -> list[dict[str, Any]]:
    """The records of every artifact that is or was in the store; what does not agree there is logged as a warning."""
    inventory = take_inventory(store)
    for line in readable(inventory.faults):
        _log.warning("%s", line)
    return inventory.records()


def find_record(records: list[dict[str, Any]], reference: str) -> dict[str, Any]:
    """The newest record whose step, `step/key` or digest begins with `reference`. Raises MissingArtifact."""
    for record in sorted(records, key=lambda r: str(r["provenance"]["ended"]), reverse=True):
        name = f"{record['step']}/{record['identity']}"
        if record["step"] == reference or ("/" in reference and name.startswith(reference)):
            return record
        if len(reference) >= 6 and record["digest"].startswith(reference):
            return record
    steps = sorted({record["step"] for record in records})
    raise MissingArtifact(
        f"no artifact matches '{reference}'; name a step ({', '.join(steps) or 'the store is empty'}), step/key or the "
        "first six characters of a digest; `k2 status` lists them"
    )


ITEMS = "items"  # the split of evaluation items, by family
SEQUENCES = "sequences.json"
TOKENIZER = "tokenizer.json"


class LookingError(K2Error):
    """A reference holds nothing of the kind that was asked for."""


@dataclass(frozen=True)
class ArtifactView:
    """The files behind a reference. `record` is its entry in the ledger, None for a plain folder."""

    name: str
    files: Files
    store: Store | None = None
    record: dict[str, Any] | None = None
    only: str = ""  # the one file that was named

    def tables(self, split: str, source: str = "") -> list[str]:
        """Paths of the Parquet or Arrow files of `split` (and of one source), in order; a plain folder has no splits.

        Raises LookingError for a split or source that is not there.
        """
        listed = [self.only] if self.only else sorted(self.files.sizes())
        paths = [path for path in listed if path.endswith((".parquet", ".arrow"))]
        splits = {path.partition("/")[0] for path in paths if "/" in path}
        if split and splits & {"train", "heldout", "quarantine", ITEMS}:
            if split not in splits:
                raise LookingError(f"{self.name} has no {split}; it has {', '.join(sorted(splits))}")
            paths = [path for path in paths if path.startswith(f"{split}/")]
        if not paths:
            raise LookingError(f"{self.name}: no .parquet or .arrow file to look into")
        if not source:
            return paths
        known = sorted({stem(path) for path in paths})
        wanted = source_file(source)
        if wanted not in known:
            raise LookingError(f"{self.name} has no source '{source}'; {nearest(wanted, known)}")
        return [path for path in paths if stem(path) == wanted]

    def shard_sources(self, split: str) -> dict[str, dict[str, str]]:
        """Source and domain by stem, from the `counts.json` of token shards; empty for anything else."""
        if self.only or not self.files.exists("counts.json"):
            return {}
        advice = remedy(self.files.uri)
        said = read_typed(TokenCounts, self.files, "counts.json", "counts of tokens", advice, MOST)
        counts = {"train": said["train"], "heldout": said["heldout"]}.get(split, {})
        return {source_file(name): {"source": name, "domain": entry["domain"]} for name, entry in counts.items()}

    @property
    def sequences(self) -> bool:
        """Whether these are packed rows and not documents."""
        return not self.only and self.files.exists(SEQUENCES)

    def folder(self) -> Path:
        """A local folder with all files, verified; for what has to be mapped."""
        if self.store is None or self.record is None:
            return Path(self.files.uri)
        return self.store.fetch(ref_of(self.record, self.store.uri))

    def own_tokenizer(self) -> "K2Tokenizer":
        """The tokenizer that this is. Raises LookingError when it is none."""
        from k2model.tokens import K2Tokenizer

        name = self.only or TOKENIZER
        if not self.files.exists(name):
            raise LookingError(f"{self.name} holds no {TOKENIZER}; expected a tokenizer, or an exported model's folder")
        return K2Tokenizer(self.files.read(name).decode("utf-8"), self.name)

    def tokenizer(self, folder: str = "") -> "K2Tokenizer":
        """The tokenizer in `folder`, or the one that the ledger says these tokens were made with."""
        from k2model.tokens import K2Tokenizer

        if folder:
            return K2Tokenizer.load(folder)
        if self.store is None or self.record is None:
            raise LookingError(f"{self.name}: ids of a plain folder need its tokenizer; name its folder by --tokenizer")
        records = {(r["step"], r["digest"]): r for r in all_records(self.store)}
        record: dict[str, Any] | None = self.record
        while record is not None and "tokenizer" not in record["inputs"]:
            tokens = record["inputs"].get("tokens", {})
            record = records.get((tokens.get("kind"), tokens.get("digest")))
        found = records.get(("tokenizer", record["inputs"]["tokenizer"]["digest"])) if record else None
        if found is None:
            raise LookingError(f"{self.name}: the ledger does not have its tokenizer; name its folder by --tokenizer")
        specification = self.store.read(ref_of(found, self.store.uri), TOKENIZER)
        return K2Tokenizer(specification.decode("utf-8"), f"{self.store.uri}/tokenizer")


def view_of(reference: str, store_uri: str) -> ArtifactView:
    """What `reference` names: a path, or an artifact of the store at `store_uri`. Raises MissingArtifact."""
    path = Path(reference)
    if path.is_file():
        return ArtifactView(reference, files_at(path.parent), only=path.name)
    if path.is_dir():
        return ArtifactView(reference, files_at(path))
    store = open_existing(store_uri)
    record = find_record(all_records(store), reference)
    if not store.files_of(_name(record)).exists("manifest.json"):
        raise MissingArtifact(f"{store.uri}/{_name(record)} was made, but is gone; run the recipe again")
    return ArtifactView(_name(record), store.look_up(ref_of(record, store.uri))[0], store, record)


class TableFile:
    """One Parquet or Arrow file as a sequence of groups of rows, each read only when asked for."""

    def __init__(self, files: Files, path: str) -> None:
        self.path = path
        self._place = f"{files.uri}/{path}"
        local = isinstance(files, LocalFiles)
        if local and not stat.S_ISREG(os.lstat(self._place).st_mode):
            raise LookingError(f"{self._place} is a link, a pipe or a folder, expected a file")
        with self._reading():
            source = pa.memory_map(self._place) if local else pa.PythonFile(files.open(path), "r")
            self._file = pq.ParquetFile(source) if path.endswith(".parquet") else pa.ipc.open_file(source)
        self._parquet = isinstance(self._file, pq.ParquetFile)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            kind = Path(self.path).suffix[1:]
            raise LookingError(f"{self._place} cannot be read as {kind}: {error}") from error

    @property
    def groups(self) -> int:
        return int(self._file.num_row_groups if self._parquet else self._file.num_record_batches)

    @property
    def names(self) -> list[str]:
        return list((self._file.schema_arrow if self._parquet else self._file.schema).names)

    def read(self, group: int, columns: list[str] | None = None) -> pa.Table:
        """One group of rows; only `columns` where they are given. Raises LookingError for one that is not there, or
        cannot be read."""
        if lacking := [name for name in columns or () if name not in self.names]:
            raise LookingError(f"{self._place} has no column '{lacking[0]}'; {nearest(lacking[0], self.names)}")
        with self._reading():
            if self._parquet:
                table = self._file.read_row_group(group, columns=columns)
            else:
                table = pa.Table.from_batches([self._file.get_batch(group)])
                table = table if columns is None else table.select(columns)
            table.validate(full=True)
        return table

    def rows(self, group: int) -> int:
        """How many rows a group has; from the footer where the format says it there."""
        if self._parquet:
            return int(self._file.metadata.row_group(group).num_rows)
        with self._reading():
            return int(self._file.get_batch(group).num_rows)


def stem(path: str) -> str:
    """The source that a file belongs to: the folder of a part, or the file's own name."""
    parts = Path(path).parts
    return parts[-2] if len(parts) > 2 else Path(path).stem


def _name(record: dict[str, Any]) -> str:
    return artifact_name(record["step"], record["identity"])
