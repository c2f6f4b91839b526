"""What a worker holds of the training state: flat pieces of named tensors, and who of several holders writes them.

A piece lies in a whole tensor however the phase was laid over workers, so that any layout can read what
another one wrote. Nothing here knows an engine or a file.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from k2model.model.parallel import Shard, tensor_dim

MODEL, OPTIMIZER = "model.", "optimizer."
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """The `index`-th of `count` equal parts of a matrix along its columns. Flat positions count within the part."""

    index: int = 0
    count: int = 1


ALL = Columns()


@dataclass(frozen=True)
class Place:
    """Where a worker's whole tensor-parallel part of a tensor lies in it: `size` elements from flat position
    `start` of `columns` of the tensor of `shape`.

    A cut along the rows is a flat range of the whole; only a cut along the columns needs a word of its own.
    """

    shape: Shape
    columns: Columns
    start: int
    size: int

    @classmethod
    def of(cls, parameter: str, local: Sequence[int], tensor: Shard) -> "Place":
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

    def narrow(self, begin: int, end: int) -> "Piece":
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
            yield piece.narrow(begin, end)
        at += size
