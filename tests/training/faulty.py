"""A store that fails at its border, and a state without an engine, for the tests of saving."""

import errno
import threading
from collections.abc import Mapping
from typing import Any

import torch

from k2model.artifacts.files import Files, writing
from k2model.training.checkpoint import ALL, Piece, Progress, share


class FaultyFiles:
    """`files`, but the first `failures` writes of a path that contains `part` fail as a full disk does;
    while `open` is not set all writes wait."""

    def __init__(self, files: Files, part: str = "", failures: float = 0) -> None:
        self.files, self.part, self.failures = files, part, failures
        self.open = threading.Event()
        self.open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def write(self, path: str, data: Any) -> None:
        self.open.wait()
        with writing(self.files.uri, path):
            if self.part in path and self.failures > 0:
                self.failures -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
        self.files.write(path, data)


class Values:
    """The state of one of `size` workers that hold every tensor alike."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], rank: int = 0, size: int = 1) -> None:
        self.tensors, self.rank, self.size = tensors, rank, size

    def pieces(self) -> list[Piece]:
        whole = [Piece(name, tuple(t.shape), ALL, 0, t.view(-1)) for name, t in sorted(self.tensors.items())]
        return list(share(whole, self.rank, self.size))


def progress(step: int) -> Progress:
    return Progress("pretrain", step, 10 * step, 1, step, "identity", "rows")
