"""One worker's part of a checkpoint: flat pieces of named tensors, and the safetensors file they are laid out in.

A piece lies in a whole tensor however the phase was laid over workers, so that any layout can read what another one
wrote. The snapshot of a worker's pieces is taken straight into the image of its file, so that a save copies the state
once. Each tensor of the file is a flat fp32 piece; the file's metadata says where in which whole tensor it lies. The
header is read as untrusted: every number in it is checked.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from k2model.artifacts import CorruptArtifact
from k2model.artifacts.files import Files
from k2model.artifacts.manifest import remedy
from k2model.model.parallel import Shard, tensor_dim

MODEL, OPTIMIZER = "model.", "optimizer."  # first words of a tensor's name
FORMAT = "k2-pieces-1"
SUFFIX = ".safetensors"
BLOCK = 2**23  # elements, 32 MiB in fp32: what is read, converted or written at once of a tensor of any size
_ITEM = 4  # bytes of an fp32 element
_LONGEST_HEADER = 100_000_000  # as in safetensors itself
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """The `index`-th of `count` equal parts of a matrix along its columns. Flat positions count within the part."""

    index: int = 0
    count: int = 1


ALL = Columns()


@dataclass(frozen=True)
class Placement:
    """Where a worker's whole tensor-parallel part of a tensor lies in it: `size` elements from flat position
    `start` of `columns` of the tensor of `shape`.

    A cut along the rows is a flat range of the whole; only a cut along the columns needs a word of its own.
    """

    shape: Shape
    columns: Columns
    start: int
    size: int

    @classmethod
    def of(cls, parameter: str, local: Sequence[int], tensor: Shard) -> "Placement":
        """`parameter`: its name; `local`: its shape on this worker, a place in the tensor-parallel group `tensor`."""
        size, dim = math.prod(local), tensor_dim(parameter)
        if tensor.size == 1 or dim is None:
            return cls(tuple(local), ALL, 0, size)
        shape = tuple(n * tensor.size if d == dim else n for d, n in enumerate(local))
        if dim == 0:
            return cls(shape, ALL, tensor.rank * size, size)
        assert dim == 1 and len(shape) == 2, f"{parameter} {list(shape)} is cut along dimension {dim}"
        return cls(shape, Columns(tensor.rank, tensor.size), 0, size)


@dataclass(frozen=True)
class Piece:
    """`tensor` [n] holds the elements `start`..`start + n` of `columns` of the flattened tensor `name`, whose
    whole shape is `shape`."""

    name: str
    shape: Shape
    columns: Columns
    start: int
    tensor: Tensor

    def between(self, begin: int, end: int) -> "Piece":
        """Its elements `begin`..`end`, a view."""
        return Piece(self.name, self.shape, self.columns, self.start + begin, self.tensor[begin:end])


def share(pieces: Sequence[Piece], index: int, count: int) -> Iterator[Piece]:
    """What the `index`-th of `count` workers writes of pieces that all of them hold alike.

    The pieces laid end to end are cut in equal ranges, so that shares differ by one element at most and few
    pieces are cut.
    """
    total = sum(piece.tensor.numel() for piece in pieces)
    first, last = total * index // count, total * (index + 1) // count
    at = 0
    for piece in pieces:
        size = piece.tensor.numel()
        begin, end = max(first - at, 0), min(last - at, size)
        if begin < end:
            yield piece.between(begin, end)
        at += size


@dataclass(frozen=True)
class StoredPiece:
    """A piece in a file: `length` elements from byte `offset` of `path` on. The rest as in `Piece`."""

    name: str
    shape: Shape
    columns: Columns
    start: int
    length: int
    path: str
    offset: int


class ShardImage:
    """The bytes of one worker's file. `pieces` fixes names, places and sizes; `fill` the values."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        header = header_of(pieces)
        size = len(header) + _ITEM * sum(piece.tensor.numel() for piece in pieces)
        self.header = header
        # Pinned, the copy from an accelerator runs at full speed. Zeroed, its pages are there before they are needed.
        self._bytes = torch.zeros(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        self._bytes[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        self._values = self._bytes[len(header) :].view(torch.float32)

    @property
    def data(self) -> memoryview:
        """The whole file, header and values; no copy."""
        return self._bytes.numpy().data

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Copy the values of pieces that are laid out as those the image was made for."""
        at = 0
        for piece in pieces:
            size = piece.tensor.numel()
            self._values[at : at + size].copy_(piece.tensor, non_blocking=True)
            at += size
        assert at == self._values.numel(), "the pieces are not those the image was made for"
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def header_of_whole(shapes: Mapping[str, Shape]) -> bytes:
    """The header of a file of whole tensors, whose fp32 values follow it in the order of `shapes`."""
    return header_of([Piece(n, tuple(s), ALL, 0, torch.empty(math.prod(s), device="meta")) for n, s in shapes.items()])


def header_of(pieces: Sequence[Piece]) -> bytes:
    """Length and JSON header of the file, padded such that the values after it are aligned."""
    metadata, tensors, at = {"format": FORMAT}, {}, 0
    for piece in pieces:
        assert piece.name not in tensors, f"two pieces of {piece.name} on one worker"
        columns = [piece.columns.index, piece.columns.count]
        metadata[piece.name] = json.dumps({"shape": piece.shape, "start": piece.start, "columns": columns})
        size = piece.tensor.numel()
        offsets = [at, at + size * _ITEM]
        tensors[piece.name] = {"dtype": "F32", "shape": [size], "data_offsets": offsets}
        at = offsets[1]
    content = json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return struct.pack("<Q", len(content)) + content


def read_header(files: Files, path: str, size: int) -> list[StoredPiece]:
    """The pieces in the file `path` of `size` bytes.

    Raises CorruptArtifact naming the file when it is no safetensors file or not one of a checkpoint.
    """
    try:
        (length,) = struct.unpack("<Q", files.read_range(path, 0, 8))
        if length > min(size - 8, _LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        content = json.loads(files.read_range(path, 8, length))
        metadata = content.pop("__metadata__")
        if metadata.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if content.keys() != metadata.keys():
            raise ValueError("tensors and places differ")
        return [_piece(name, metadata[name], content[name], path, 8 + length, size) for name in content]
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{files.uri}/{path} is missing. {remedy(files.uri)}") from error
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CorruptArtifact(
            f"{files.uri}/{path} is not a checkpoint's file ({error}), expected safetensors with places of format "
            f"{FORMAT}. {remedy(files.uri)}"
        ) from error


def _piece(name: str, place: str, tensor: dict, path: str, body: int, size: int) -> StoredPiece:
    where = json.loads(place)
    begin, end = tensor["data_offsets"]
    [length] = tensor["shape"]
    numbers = [begin, end, length, where["start"], *where["shape"], *where["columns"]]
    if not all(type(number) is int and number >= 0 for number in numbers) or tensor["dtype"] != "F32":
        raise ValueError(f"{name} is not fp32 at a sound place")
    if end - begin != length * _ITEM or body + end > size:
        raise ValueError(f"{name} lies at {begin}..{end} for {length} elements, in {size - body} bytes")
    columns = Columns(*where["columns"])
    return StoredPiece(name, tuple(where["shape"]), columns, where["start"], length, path, body + begin)


def read_values(files: Files, piece: StoredPiece, begin: int, into: Tensor) -> None:
    """Fill `into` [n] with the elements `begin`..`begin + n` of a stored piece, a block at a time: nothing beside it is
    as large. Raises CorruptArtifact."""
    for at in range(0, into.numel(), BLOCK):
        block = into[at : at + BLOCK]
        wanted = block.numel() * _ITEM
        data = files.read_range(piece.path, piece.offset + (begin + at) * _ITEM, wanted)
        if len(data) != wanted:
            raise CorruptArtifact(
                f"{files.uri}/{piece.path} ends within {piece.name}: {len(data)} bytes, expected {wanted}. "
                + remedy(files.uri)
            )
        block.numpy()[:] = np.frombuffer(data, np.float32)
