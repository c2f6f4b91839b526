"""Reading packed rows: which sequences a rank sees at a step, as a pure function of step and world size.

There is no loader state to save: a run that resumes, with more or fewer workers, asks for the next step
and gets the rows every other layout would get. A local artifact is mapped into memory; from an object store
blocks are streamed (`k2model.tokens.streaming`), which is told what will be asked for next.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.artifacts import ArtifactRef, Store, read_json
from k2model.artifacts.files import LocalFiles
from k2model.errors import TokensError
from k2model.recipe.schema import Parallelism
from k2model.tokens.rows import (
    COMPOSITION_FILE,
    INDEX_FILE,
    BlockRange,
    Rows,
    RowsIndex,
    part_path,
    read_block,
    read_table,
    select,
    table_path,
)

if TYPE_CHECKING:
    import torch

    from k2model.tokens.streaming import StreamedBlocks

PARSED = 32  # blocks kept open for the batches to come, views of a file each
AHEAD = 8  # blocks asked for before they are needed


class PackedSequences:
    """The rows of one phase in training order. `where` names them in messages."""

    def __init__(self, folder: Path | str) -> None:
        """Of a local folder. Raises TokensError when it holds no packed sequences."""
        path = Path(folder) / INDEX_FILE
        if not path.is_file():
            raise TokensError(f"{path}: no such file; expected the folder of a sequences artifact")
        index = RowsIndex.from_json(path.read_bytes(), str(folder))
        self._take(str(folder), index, _MappedBlocks(Path(folder), index))

    @classmethod
    def open(cls, store: Store, ref: ArtifactRef, parallelism: Parallelism | None = None) -> "PackedSequences":
        """Of an artifact in a store: verified as a whole on a local one, block by block as they come from others.

        `parallelism` bounds the cache and how long an object store that does not answer is waited for. Raises
        what `Store.fetch` raises.
        """
        files, manifest = store.look_up(ref)
        if isinstance(files, LocalFiles):
            return cls(store.fetch(ref))
        from k2model.tokens.streaming import StreamedBlocks

        layout = parallelism or Parallelism()
        index = RowsIndex.from_json(store.read(ref, INDEX_FILE), files.uri)
        blocks = StreamedBlocks(
            files, manifest, index, int(layout.loader_cache_gb * 1e9), layout.loader_wait_seconds, AHEAD
        )
        self = cls.__new__(cls)
        self._take(files.uri, index, blocks)
        return self

    def _take(self, where: str, index: RowsIndex, blocks: "_MappedBlocks | StreamedBlocks") -> None:
        self.where, self.index = where, index
        self.rows, self.sequence_length, self.vocab_size = index.rows, index.sequence_length, index.vocab_size
        self.sources, self.domains, self.fingerprint = index.sources, index.domains, index.fingerprint
        self._blocks = blocks
        self._block = lru_cache(maxsize=PARSED)(self._parsed)
        self._planned: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.rows

    def close(self) -> None:
        """Ends what reads ahead. Rows cannot be read afterwards."""
        self._blocks.close()

    def block(self, number: int) -> Rows:
        """All rows of one block (from 0), as they are stored."""
        return self._block(number)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise TokensError when a model with `vocab_size` embeddings cannot read these rows."""
        if self.vocab_size > vocab_size:
            raise TokensError(
                f"{self.where}: packed with a vocabulary of {self.vocab_size} tokens, the model has {vocab_size}; "
                f"set model.vocab_size to at least {self.vocab_size}"
            )

    def batch(self, step: int, global_batch: int, rank: int = 0, world_size: int = 1) -> "dict[str, torch.Tensor]":
        """The share of `rank` in the `global_batch` rows of `step` (from 0): every `world_size`-th of them.

        Over the ranks each row comes exactly once; when `world_size` does not divide `global_batch` the
        first ranks get one row more, and b may be 0. Gives, each [b, T]: `tokens` int64, `loss_mask` bool (is
        this token a target), `document` int64 (from 0 in each row, -1 for padding) and `source` uint8
        (index into `sources`, 255 for padding). Raises TokensError for a step or rank out of range.
        """
        if global_batch < 1 or not 0 <= rank < world_size:
            raise TokensError(f"batch: got global_batch={global_batch}, rank={rank} of world_size={world_size}")
        steps = self.rows // global_batch
        if not 0 <= step < steps:
            raise TokensError(
                f"{self.where}: step {step} is out of range; {self.rows} rows make steps 0..{steps - 1} "
                f"of global_batch={global_batch}"
            )
        rows = np.arange(step * global_batch + rank, (step + 1) * global_batch, world_size)
        self._plan(rows, step, global_batch, rank, world_size)
        return self._select(rows)

    def _plan(self, rows: NDArray[np.int64], step: int, global_batch: int, rank: int, world_size: int) -> None:
        """Say which blocks this rank will read next, whenever it comes to others than before."""
        here = tuple(np.unique(rows // self.index.rows_per_block).tolist())
        if here == self._planned or not here:
            return
        self._planned = here
        per_step = max(global_batch // world_size, 1)
        steps = 1 + AHEAD * max(self.index.rows_per_block // global_batch, 1) + AHEAD // per_step
        first = np.arange(step + 1, min(step + 1 + steps, self.rows // global_batch)) * global_batch
        coming = np.unique((first[:, None] + np.arange(rank, global_batch, world_size)) // self.index.rows_per_block)
        self._blocks.expect(coming[coming > here[-1]][:AHEAD].tolist())

    def _select(self, rows: NDArray[np.int64]) -> "dict[str, torch.Tensor]":
        import torch

        per_block, shape = self.index.rows_per_block, (len(rows), self.sequence_length)
        kinds: dict[str, Any] = {"tokens": np.int64, "loss_mask": np.bool_, "document": np.int64, "source": np.uint8}
        found = {name: np.empty(shape, dtype=kind) for name, kind in kinds.items()}
        blocks, begin = np.unique(rows // per_block, return_index=True)
        ends = np.append(begin[1:], len(rows))[: len(blocks)]
        for block, first, end in zip(blocks.tolist(), begin.tolist(), ends.tolist(), strict=True):
            into = {name: values[first:end] for name, values in found.items()}
            select(self._block(block), rows[first:end] - block * per_block, into)
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def _parsed(self, block: int) -> Rows:
        return read_block(self._blocks.read(block), self.sequence_length)


class _MappedBlocks:
    """Of a local folder that was verified by whoever opened it."""

    def __init__(self, folder: Path, index: RowsIndex) -> None:
        self.folder, self.index = folder, index
        self._part = lru_cache(maxsize=None)(self._map)

    def read(self, block: int) -> pa.Buffer:
        part, number = divmod(block, self.index.blocks_per_part)
        table, mapped = self._part(part)
        return mapped.slice(table[number].offset, table[number].size)

    def expect(self, blocks: Sequence[int]) -> None:
        pass  # the system reads ahead

    def close(self) -> None:
        pass

    def _map(self, part: int) -> tuple[list[BlockRange], pa.Buffer]:
        table = self.folder / table_path(part)
        with pa.memory_map(str(self.folder / part_path(part))) as file:
            return read_table(table.read_bytes(), str(table)), file.read_buffer()


class _OfSource(TypedDict):
    domain: str
    share_wanted: float
    share: float
    tokens: int
    documents: int
    epochs: float


class _ShortContext(TypedDict):
    real: float


class Composition(TypedDict):
    """`composition.json`, what others read of it."""

    padding: float
    split: float
    truncated: float
    efforts: dict[str, int]
    short_context: _ShortContext | None
    sources: dict[str, _OfSource]


def read_composition(store: Store, ref: ArtifactRef) -> dict[str, Any]:
    """`composition.json` of a sequences artifact, without its rows: what they hold against what was wanted."""
    return cast(dict[str, Any], read_json(Composition, store, ref, COMPOSITION_FILE))
