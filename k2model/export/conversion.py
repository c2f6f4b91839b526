"""Foreign weights as a training state: block by block, under our names, in fp32, each gain less one.

Rows that the embedding lacks, for special tokens of K2's that its tokenizer lacks, are the mean of those there are, in
the head as well: a token that was never seen is then as likely as the average one, and the logits of all others are
what they were (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from k2model.export.architecture import AdoptionError, Architecture
from k2model.export.hugging_face import from_llama_tensor, llama_names
from k2model.export.shards import DTYPES
from k2model.export.source import PIECE, HashedFile, Source
from k2model.export.weights import EMBEDDING, HEAD, StoredTensor, WeightsFile
from k2model.recipe.schema import ModelConfig
from k2model.training.checkpoint import BLOCK, MODEL, SUFFIX, header_of_whole

ROWS = ("embedding.weight", "head.weight")  # ours that have a row for each token


def convert(
    source: Source, files: Sequence[WeightsFile], found: Architecture, model: ModelConfig, final: Path,
    read: dict[str, str],
) -> list[str]:  # fmt: skip
    """Write a checkpoint's file for each of `files` into `final`; their names. Enters the sha256 of each into `read`.

    Raises AdoptionError for a file that is not what was listed, a value that is not finite, and a tied head that is not
    the embedding.
    """
    names = {theirs: [ours] for ours, theirs in llama_names(model).items()}
    if found.tied:
        names |= {EMBEDDING: [*names[EMBEDDING], *names[HEAD]], HEAD: []}
    tied: set[str] = set()  # digests of what a tied model stores as its embedding and, beside it, as its head
    written = []
    for number, weights in enumerate(files):
        shapes = {
            MODEL + ours: (model.vocab_size, *one.shape[1:]) if ours in ROWS else one.shape
            for one in weights.tensors
            if not one.derived
            for ours in names[one.name]
        }
        written.append(f"rank-{number:05d}-of-{len(files):05d}{SUFFIX}")
        with source.checked(weights.path) as file, (final / written[-1]).open("w+b") as out:
            if bytes(file.read(len(weights.header))) != weights.header:
                raise AdoptionError(f"{source.where}: {weights.path} was written to; leave it alone, and run again")
            out.write(header_of_whole(shapes))
            for one in weights.tensors:
                if one.derived:
                    _pass_over(file, one.end - one.begin)
                    continue
                where, ours = f"{source.where}: {weights.path}", names[one.name]
                tied |= _convert(file, one, where, ours, model.vocab_size, out)
        read[weights.path] = file.sha256
    if len(tied) > 1:
        raise AdoptionError(
            f"{source.where}: its config.json says tie_word_embeddings, but {HEAD} is not {EMBEDDING}; correct the one "
            "that is wrong"
        )
    return written


def _convert(file: HashedFile, one: StoredTensor, where: str, ours: list[str], rows: int, out: BinaryIO) -> set[str]:
    """Write a tensor under each of our names; where that is not one name, the sha256 of its fp32 values."""
    begin, digest = out.tell(), hashlib.sha256() if len(ours) != 1 else None
    missing = rows - one.shape[0] if ours and ours[0] in ROWS else 0
    mean = _Mean(one.shape) if missing else None
    for block in blocks(file, one, where):
        if digest is not None:
            digest.update(block.numpy().data)
        if mean is not None:
            mean.add(block)
        if ours:
            out.write(from_llama_tensor(ours[0], block).contiguous().numpy().data)
    if mean is not None:
        out.writelines(repeat(mean.row, missing))
    end = out.tell()
    for _ in ours[1:]:
        _append(out, begin, end)
    return {digest.hexdigest()} if digest is not None else set()


def blocks(file: HashedFile, one: StoredTensor, where: str) -> Iterator[Tensor]:
    """A tensor in fp32, some of its rows at a time: `BLOCK` elements or one row. Raises AdoptionError behind the last
    when it is not finite everywhere."""
    dtype, row = DTYPES[one.dtype], one.shape[1:]
    size = int(np.prod(row))
    at_once, bad = max(BLOCK // size, 1), 0
    for first in range(0, one.shape[0], at_once):
        count = min(at_once, one.shape[0] - first)
        block = torch.frombuffer(file.read(count * size * dtype.itemsize), dtype=dtype).view(count, *row).float()
        bad += block.numel() - int(torch.isfinite(block).sum())
        yield block
    if bad:
        raise AdoptionError(
            f"{where}: {one.name} has {bad} values that are NaN or infinite, of {one.shape[0] * size}; get the file "
            "again, or adopt an earlier checkpoint of the model"
        )


class _Mean:
    """Of the rows of a tensor [V, D], summed row after row in fp64, so that it is the same on every machine, however
    many rows are read at once."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.sum = shape[0], np.zeros(shape[1:])

    def add(self, block: Tensor) -> None:
        for row in block.numpy():
            self.sum += row

    @property
    def row(self) -> bytes:
        return (self.sum / self.count).astype(np.float32).tobytes()


def _append(out: BinaryIO, begin: int, end: int) -> None:
    """Bytes `begin`..`end` of a file once more at its end."""
    for at in range(begin, end, PIECE):
        out.seek(at)
        data = out.read(min(PIECE, end - at))
        out.seek(0, 2)
        out.write(data)


def _pass_over(file: HashedFile, size: int) -> None:
    for at in range(0, size, PIECE):
        file.read(min(PIECE, size - at))
