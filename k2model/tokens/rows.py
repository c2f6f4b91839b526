"""Packed rows as files: parts made of blocks, each of which can be fetched, verified and read by itself.

    sequences.json              the index: how many rows of which length, where each is; its size is constant
    sequences/<part>.arrow      an Arrow file whose record batches are the part's blocks, in training order
    sequences/<part>.json       where each block's bytes are in that file, and their sha256

A block has a fixed number of rows, a part a fixed number of blocks (the last ones fewer), so that a row's place
is arithmetic. Of each row a block holds ids, targets and which pieces it is made of; what belongs to single
positions (their document, their source) follows from the pieces and is not stored: 4.1 bytes a token.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.artifacts.content import MOST
from k2model.documents.tables import required
from k2model.errors import TokensError
from k2model.plain import NotPlain, read_as
from k2model.tokens.ragged import exclusive_sum, flat_positions

INDEX_FILE = "sequences.json"
COMPOSITION_FILE = "composition.json"
FOLDER = "sequences"
NO_SOURCE = 255  # of padding; also the largest number of sources a phase can have
BLOCK_TOKENS = 2**19  # about 2 MB: what a reader on an object store asks for at once
BLOCKS_PER_PART = 128


@dataclass(frozen=True)
class Rows:
    """`tokens` and `loss_mask` (is this token a target) [rows, T]; `pieces` [rows] says how many of the flat
    `length` and `source` (NO_SOURCE for padding) each row has. A row's pieces fill it, padding comes last."""

    tokens: NDArray[np.uint32]
    loss_mask: NDArray[np.bool_]
    pieces: NDArray[np.int64]
    length: NDArray[np.int32]
    source: NDArray[np.uint8]


@dataclass(frozen=True)
class RowsIndex:
    """`domains`: one for each of `sources`. `pad`: the id that fills rows. `fingerprint`: of all rows in order."""

    rows: int
    sequence_length: int
    rows_per_block: int
    blocks_per_part: int
    sources: list[str]
    domains: list[str]
    vocab_size: int
    pad: int
    fingerprint: str = ""

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.rows_per_block)

    @property
    def parts(self) -> int:
        return -(-self.blocks // self.blocks_per_part)

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "RowsIndex":
        """Raises TokensError naming `where` when `data` is no index."""
        try:
            index = read_as(cls, data)
            if min(index.rows, index.vocab_size, index.pad) < 0:
                raise NotPlain("rows, vocab_size and pad are numbers from 0 on")
            if min(index.sequence_length, index.rows_per_block, index.blocks_per_part) < 1:
                raise NotPlain("sequence_length, rows_per_block and blocks_per_part are numbers from 1 on")
            return index
        except NotPlain as error:
            raise TokensError(f"{where}/{INDEX_FILE}: not written by the pack step ({error}); pack again") from error


@dataclass(frozen=True)
class BlockRange:
    """Where a block is in its part's file, in bytes."""

    offset: int
    size: int
    sha256: str


def part_path(part: int) -> str:
    return f"{FOLDER}/{part:05d}.arrow"


def table_path(part: int) -> str:
    return f"{FOLDER}/{part:05d}.json"


def read_table(data: bytes, where: str) -> list[BlockRange]:
    """The blocks of a part. Raises TokensError naming `where` when `data` is no table of blocks."""
    try:
        return read_as(list[BlockRange], data, MOST)
    except NotPlain as error:
        raise TokensError(f"{where}: not written by the pack step ({error}); pack again") from error


def write_rows(folder: Path, blocks: Iterable[Rows], index: RowsIndex) -> RowsIndex:
    """Write `blocks`, which `index` describes, holding one at a time; returns the index with its fingerprint."""
    (folder / FOLDER).mkdir()
    coming = iter(blocks)
    digest = hashlib.sha256(index.to_json())
    for part in range(index.parts):
        count = min(index.blocks_per_part, index.blocks - part * index.blocks_per_part)
        table = _write_part(folder / part_path(part), itertools.islice(coming, count), index.sequence_length)
        (folder / table_path(part)).write_text(json.dumps([asdict(block) for block in table], indent=0) + "\n")
        for block in table:
            digest.update(block.sha256.encode())
    index = replace(index, fingerprint=digest.hexdigest())
    (folder / INDEX_FILE).write_bytes(index.to_json())
    return index


def read_block(block: pa.Buffer, sequence_length: int) -> Rows:
    """The rows of a block, of whose bytes nothing is copied but the targets."""
    return rows_of_batch(pa.ipc.read_record_batch(pa.ipc.read_message(block), _schema(sequence_length)))


def rows_of_batch(batch: pa.RecordBatch) -> Rows:
    """The rows of a record batch of a part's file."""
    shape = (batch.num_rows, batch.schema.field("tokens").type.list_size)
    lists = batch.column("length")
    return Rows(
        tokens=batch.column("tokens").flatten().to_numpy().reshape(shape),
        loss_mask=batch.column("loss_mask").flatten().to_numpy(zero_copy_only=False).reshape(shape),
        pieces=lists.value_lengths().to_numpy().astype(np.int64),
        length=lists.flatten().to_numpy(),
        source=batch.column("source").flatten().to_numpy(),
    )


def select(rows: Rows, which: NDArray[np.int64], into: dict[str, NDArray[Any]]) -> None:
    """Write rows `which` into `into`, each [n, T]: `tokens`, `loss_mask`, `source` and `document` (from 0 in each row,
    -1 for padding)."""
    pieces = rows.pieces[which]
    place = flat_positions(exclusive_sum(rows.pieces)[which], pieces)
    source, length = rows.source[place], rows.length[place]
    number = np.where(source == NO_SOURCE, -1, flat_positions(np.zeros_like(pieces), pieces))
    shape = into["tokens"].shape
    into["tokens"][:] = rows.tokens[which]
    into["loss_mask"][:] = rows.loss_mask[which]
    into["document"][:] = np.repeat(number, length).reshape(shape)
    into["source"][:] = np.repeat(source, length).reshape(shape)


def _write_part(path: Path, blocks: Iterable[Rows], sequence_length: int) -> list[BlockRange]:
    schema = _schema(sequence_length)
    table: list[BlockRange] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in blocks:
            batch = _batch(rows, schema)
            data = batch.serialize()
            writer.write_batch(batch)
            table.append(BlockRange(sink.tell() - data.size, data.size, hashlib.sha256(data).hexdigest()))
    return table


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    offsets = pa.array(np.concatenate([[0], np.cumsum(rows.pieces)]), pa.int32())
    bits = pa.py_buffer(np.packbits(rows.loss_mask, bitorder="little"))
    loss_mask = pa.BooleanArray.from_buffers(pa.bool_(), rows.loss_mask.size, [None, bits])
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(rows.tokens.reshape(-1)), type=schema.field("tokens").type),
        pa.FixedSizeListArray.from_arrays(loss_mask, type=schema.field("loss_mask").type),
        pa.ListArray.from_arrays(offsets, pa.array(rows.length), type=schema.field("length").type),
        pa.ListArray.from_arrays(offsets, pa.array(rows.source), type=schema.field("source").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(sequence_length: int) -> pa.Schema:
    def item(kind: pa.DataType) -> pa.Field:
        return pa.field("item", kind, nullable=False)

    return required(
        tokens=pa.list_(item(pa.uint32()), sequence_length),
        loss_mask=pa.list_(item(pa.bool_()), sequence_length),
        length=pa.list_(item(pa.int32())),
        source=pa.list_(item(pa.uint8())),
    )
