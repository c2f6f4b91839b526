"""Named tensors that are read when asked for, whole or just the range a worker needs.

A checkpoint written by any number of workers, at any ZeRO stage and tensor size, reads as a mapping of
whole tensors. Whether the bytes are the right ones is verified elsewhere.
"""

import math
from abc import abstractmethod
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from k2model.artifacts import CorruptArtifact
from k2model.artifacts.files import Files
from k2model.artifacts.manifest import remedy
from k2model.model.parallel import Shard, tensor_dim
from k2model.training.checkpoint.shard import ALL, BLOCK, Columns, Placement, StoredPiece, read_values


class NamedTensors(Mapping[str, Tensor]):
    """Whole fp32 tensors by name; `shapes` is known without reading one."""

    shapes: Mapping[str, torch.Size]

    @abstractmethod
    def read(self, name: str, start: int, length: int, columns: Columns = ALL) -> Tensor:
        """[length] fp32: the elements `start`..`start + length` of `columns` of the flattened tensor.

        Raises KeyError for an unknown name, CorruptArtifact when a file ends before them.
        """

    def local(self, name: str, parameter: str, tensor: Shard) -> Tensor:
        """A worker's tensor-parallel part of the tensor `name`, which is cut as the parameter `parameter` is."""
        dim = tensor_dim(parameter)
        local = [n // tensor.size if d == dim else n for d, n in enumerate(self.shapes[name])]
        place = Placement.of(parameter, local, tensor)
        return self.read(name, place.start, place.size, place.columns).view(local)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """The flattened tensor in order, `BLOCK` elements or fewer at a time, so that one of any size can be copied."""
        size = self.shapes[name].numel()
        yield from (self.read(name, start, min(BLOCK, size - start)) for start in range(0, size, BLOCK))

    def below(self, prefix: str) -> "NamedTensors":
        """Those whose names begin with `prefix`, without it."""
        return _Below(self, prefix)

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        return self.read(name, 0, shape.numel()).view(shape)

    def __contains__(self, name: object) -> bool:  # a Mapping's own would read the tensor
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class _Below(NamedTensors):
    def __init__(self, tensors: NamedTensors, prefix: str) -> None:
        self.tensors, self.prefix = tensors, prefix
        named = ((name, shape) for name, shape in tensors.shapes.items() if name.startswith(prefix))
        self.shapes = {name.removeprefix(prefix): shape for name, shape in named}

    def read(self, name: str, start: int, length: int, columns: Columns = ALL) -> Tensor:
        return self.tensors.read(self.prefix + name, start, length, columns)


class InMemory(NamedTensors):
    """Tensors that are there already."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def read(self, name: str, start: int, length: int, columns: Columns = ALL) -> Tensor:
        tensor = self.tensors[name]
        if columns.count > 1:
            tensor = Shard(columns.index, columns.count).cut(tensor, 1)
        return tensor.reshape(-1)[start : start + length]


class StoredTensors(NamedTensors):
    """The tensors of a checkpoint's files. Raises CorruptArtifact when a tensor is not there as a whole."""

    def __init__(self, files: Files, pieces: Iterable[StoredPiece]) -> None:
        self.files = files
        self.shapes = {}
        self._counts: dict[str, int] = {}
        self._parts: defaultdict[tuple[str, int], list[StoredPiece]] = defaultdict(list)
        for piece in sorted(pieces, key=lambda p: (p.name, p.columns.index, p.start)):
            shape = self.shapes.setdefault(piece.name, torch.Size(piece.shape))
            count = self._counts.setdefault(piece.name, piece.columns.count)
            if (piece.shape, piece.columns.count) != (tuple(shape), count):
                raise self._broken(piece.name, f"{piece.path} has {list(piece.shape)} in {piece.columns.count} parts")
            self._parts[piece.name, piece.columns.index].append(piece)
        for name, shape in self.shapes.items():
            self._check_complete(name, shape)

    def _check_complete(self, name: str, shape: torch.Size) -> None:
        count = self._counts[name]
        if not count or (count > 1 and (len(shape) != 2 or shape[1] % count)):
            raise self._broken(name, f"{list(shape)} cannot lie in {count} parts")
        for index in range(count):
            end = 0
            for piece in self._parts.get((name, index), []):
                if piece.start != end:
                    raise self._broken(name, f"{piece.path} goes on at element {piece.start}, expected {end}")
                end += piece.length
            if end != shape.numel() // count:
                raise self._broken(name, f"part {index} of {count} ends at {end} of {shape.numel() // count} elements")

    def _broken(self, name: str, what: str) -> CorruptArtifact:
        return CorruptArtifact(f"{self.files.uri} does not hold {name} as a whole: {what}. {remedy(self.files.uri)}")

    def read(self, name: str, start: int, length: int, columns: Columns = ALL) -> Tensor:
        if columns.count == self._counts[name]:
            return self._range(name, columns.index, start, length)
        return self._other_columns(name, start, length, columns)

    def _range(self, name: str, index: int, start: int, length: int) -> Tensor:
        """Elements `start`..`start + length` of the `index`-th stored part, put together from its pieces."""
        pieces = self._parts[name, index]
        values = torch.empty(length)
        at = bisect_right(pieces, start, key=lambda piece: piece.start) - 1
        done = 0
        while done < length:
            piece = pieces[at]
            begin = start + done - piece.start
            size = min(piece.length - begin, length - done)
            read_values(self.files, piece, begin, values[done : done + size])
            done += size
            at += 1
        return values

    def _other_columns(self, name: str, start: int, length: int, columns: Columns) -> Tensor:
        """The same of a tensor that was cut in another number of columns: by way of the rows concerned, some at a
        time."""
        count, width = self._counts[name], self.shapes[name][1]
        stored, wanted = width // count, width // columns.count
        last = math.ceil((start + length) / wanted)
        values = torch.empty(length)
        done = 0
        while done < length:
            first = (start + done) // wanted
            rows = min(last - first, max(BLOCK // width, 1))
            parts = [
                self._range(name, index, first * stored, rows * stored).view(rows, stored) for index in range(count)
            ]
            cut = Shard(columns.index, columns.count).cut(torch.cat(parts, dim=1), 1).reshape(-1)
            found = cut[start + done - first * wanted :][: length - done]
            values[done : done + len(found)] = found
            done += len(found)
        return values
