"""Foreign weights as a training state: tensor by tensor, under our names, in fp32, each gain less one.

Rows that the embedding lacks, for special tokens of K2's that its tokenizer lacks, are the mean of those there are, in
the head as well: a token that was never seen is then as likely as the average one, and the logits of all others are
what they were (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from k2model.export.architecture import AdoptionError, Architecture
from k2model.export.hugging_face import from_llama_tensor, llama_names
from k2model.export.source import HashedFile, Source
from k2model.export.weights import EMBEDDING, HEAD, WeightsFile, values
from k2model.recipe.schema import ModelConfig
from k2model.training.checkpoint import MODEL, SUFFIX, write_whole

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
    tied: dict[str, str] = {}  # digests of what a tied model stores as its embedding and, beside it, as its head
    written = []
    for number, weights in enumerate(files):
        shapes = {
            MODEL + ours: (model.vocab_size, *one.shape[1:]) if ours in ROWS else one.shape
            for one in weights.tensors
            if not one.derived
            for ours in names[one.name]
        }
        written.append(f"rank-{number:05d}-of-{len(files):05d}{SUFFIX}")
        with source.checked(weights.path) as file, (final / written[-1]).open("wb") as out:
            if bytes(file.read(len(weights.header))) != weights.header:
                raise AdoptionError(f"{source.where}: {weights.path} was written to; leave it alone, and run again")
            write_whole(out, shapes, _converted(file, weights, source.where, names, model.vocab_size, tied))
        read[weights.path] = file.sha256
    if len({*tied.values()}) > 1:
        raise AdoptionError(
            f"{source.where}: its config.json says tie_word_embeddings, but {HEAD} is not {EMBEDDING}; correct the one "
            "that is wrong"
        )
    return written


def _converted(
    file: HashedFile, weights: WeightsFile, where: str, names: dict[str, list[str]], rows: int, tied: dict[str, str]
) -> Iterator[tuple[str, Tensor]]:
    for one, tensor in values(file, weights.tensors, f"{where}: {weights.path}"):
        if len(names[one.name]) != 1:
            tied[one.name] = hashlib.sha256(tensor.numpy().data).hexdigest()
        for ours in names[one.name]:
            yield MODEL + ours, with_rows(tensor, rows) if ours in ROWS else from_llama_tensor(ours, tensor)


def with_rows(tensor: Tensor, rows: int) -> Tensor:
    """[V, D] -> [rows, D], rows behind the last the mean of those that are there. Summed row after row in fp64, so that
    the mean is the same on every machine."""
    added = rows - len(tensor)
    if not added:
        return tensor
    mean = torch.from_numpy(tensor.numpy().sum(axis=0, dtype="float64") / len(tensor)).float()
    return torch.cat([tensor, mean.expand(added, -1)])
