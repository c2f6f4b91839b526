"""The weights of an export: Hugging Face's safetensors files and their index, written and read block by block.

A model that fits one file is `model.safetensors`, a larger one `model-00001-of-000NN.safetensors` and
`model.safetensors.index.json`, as transformers saves and loads them. A file's header is written first, since it
follows from the shapes; then every tensor in turn, `BLOCK` elements at a time. So writing takes the memory of a block,
and reading that of the model and a block, whatever the size of a tensor, a file or the model.
"""

import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from k2model.export.architecture import AdoptionError, Architecture
from k2model.export.hugging_face import ExportError, from_llama_tensor, llama_names, to_llama_tensor
from k2model.export.weights import (
    EMBEDDING,
    HEAD,
    INDEX,
    SINGLE,
    check_tensors,
    llama_shapes,
    read_header,
    weights_files,
)
from k2model.model.parallel import WHOLE, Shard, tensor_dim
from k2model.recipe.schema import ExportConfig, ModelConfig
from k2model.training.checkpoint import BLOCK, NamedTensors

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # by safetensors' words


def write_weights(folder: Path, state: NamedTensors, model: ModelConfig, form: ExportConfig) -> None:
    """Write `state` (our names, fp32) as the weights of an export. bf16 is rounded to nearest, ties to even.

    Raises ExportError when it is the state of another model than `model`.
    """
    names = {theirs: ours for ours, theirs in llama_names(model).items()}
    shapes = llama_shapes(model)
    _require_same(state, {ours: shapes[theirs] for theirs, ours in names.items()})
    width = 2 if form.bf16 else 4
    sizes = {theirs: width * state.shapes[names[theirs]].numel() for theirs in _in_reading_order(names)}
    shards = share_out(sizes, form.shard_bytes)
    files = {SINGLE: shards[0]} if len(shards) == 1 else {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard for number, shard in enumerate(shards, 1)
    }  # fmt: skip
    for path, shard in files.items():
        with (folder / path).open("wb") as out:
            # In the library's own order: by name, where all are of one type.
            out.write(_header({name: shapes[name] for name in sorted(shard)}, sizes, "BF16" if form.bf16 else "F32"))
            for name in sorted(shard):
                for block in state.blocks(names[name]):
                    out.write(_bytes(to_llama_tensor(names[name], block), form.bf16))
    if len(files) > 1:
        total = {"total_parameters": sum(sizes.values()) // width, "total_size": sum(sizes.values())}
        index = {"metadata": total, "weight_map": {name: path for path, shard in files.items() for name in shard}}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def share_out(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in files of `limit` bytes of tensors at most, in their order; one that is larger has a file to itself."""
    shards: list[list[str]] = []
    held = 0
    for name, size in sizes.items():
        if not shards or held + size > limit:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def read_weights(
    folder: Path,
    found: Architecture,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    tensor: Shard = WHOLE,
) -> dict[str, Tensor]:
    """The weights of an export folder under our names, on `device`: those of matrix products in `dtype`, converted on
    the way, embedding and gains, which no product rounds, in fp32; a tied head is the embedding once more. Over
    `tensor` this worker's parts, of which alone the bytes are read. Raises ExportError when files are missing, damaged,
    or not of the model `found`."""
    names = {theirs: [ours] for ours, theirs in llama_names(found.model).items()}
    index = (folder / INDEX).read_bytes() if (folder / INDEX).is_file() else None
    if index is None and not (folder / SINGLE).is_file():
        raise ExportError(f"{folder / SINGLE} is missing; expected the folder of an exported model")
    tensors: dict[str, Tensor] = {}
    try:
        listed = weights_files({path.name for path in folder.iterdir()}, index, str(folder))
        files = []
        for path in listed:
            with (folder / path).open("rb") as file:
                files.append(read_header(file, (folder / path).stat().st_size, path, str(folder)))
        check_tensors(files, listed, found, str(folder))
    except AdoptionError as error:
        raise ExportError(f"{error}. Was it made with another `model` row?") from error
    if found.tied:
        if any(each.name == HEAD for weights in files for each in weights.tensors):
            raise ExportError(f"{folder} says tie_word_embeddings and holds {HEAD}; leave out the one that is wrong")
        names[EMBEDDING] += names[HEAD]
    for weights in files:
        with (folder / weights.path).open("rb") as file:
            read = (each for each in weights.tensors if not each.derived)
            for one, name in ((each, name) for each in read for name in names[each.name]):
                multiplied = len(one.shape) > 1 and name != names[EMBEDDING][0]
                shape, runs = part_of(one.shape, tensor_dim(name), tensor)
                part = torch.empty(shape, dtype=dtype if multiplied else torch.float32, device=device)
                flat, source, at = part.view(-1), DTYPES[one.dtype], 0
                for first, last in runs:
                    file.seek(len(weights.header) + one.begin + first * source.itemsize)
                    for start in range(first, last, BLOCK):
                        into = flat[at : at + min(BLOCK, last - start)]
                        data = bytearray(into.numel() * source.itemsize)
                        if file.readinto(data) != len(data):
                            raise ExportError(
                                f"{folder / weights.path} ends within {one.name}; export the checkpoint again"
                            )
                        into.copy_(from_llama_tensor(name, torch.frombuffer(data, dtype=source).float()))
                        at += into.numel()
                tensors[name] = part
    return tensors


def part_of(
    shape: tuple[int, ...], dim: int | None, tensor: Shard
) -> tuple[tuple[int, ...], Iterator[tuple[int, int]]]:
    """The shape of a worker's part of a tensor that is cut along `dim`, and the runs of elements, first and last
    (exclusive) of the whole, that are its: one of rows (0), of columns (1) one in each row."""
    if dim is None or tensor.size == 1:
        return shape, iter([(0, math.prod(shape))])
    mine = shape[dim] // tensor.size
    own = tuple(mine if place == dim else size for place, size in enumerate(shape))
    if dim == 0:
        return own, iter([(tensor.rank * math.prod(own), (tensor.rank + 1) * math.prod(own))])
    starts = range(tensor.rank * mine, math.prod(shape), shape[1])
    return own, ((start, start + mine) for start in starts)


def _in_reading_order(names: Collection[str]) -> Iterator[str]:
    """The embedding, the layers one after the other, and what follows them, so that a file holds neighbours."""
    last = [name for name in names if name in ("model.norm.weight", "lm_head.weight")]
    yield from (name for name in names if name not in last)
    yield from last


def _require_same(state: NamedTensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} is {list(state.shapes[name])} instead of {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in state and tuple(state.shapes[name]) != shape
    ]
    if missing or extra or wrong:
        raise ExportError(
            f"the checkpoint does not hold this recipe's model: missing {missing[:3]} ({len(missing)} in all), "
            f"not expected {extra[:3]} ({len(extra)} in all), of another shape {wrong[:3]} ({len(wrong)} in all). "
            "Was it made with another `model` row?"
        )


def _header(shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], dtype: str) -> bytes:
    """Length and JSON header, byte for byte as `safetensors.torch.save_file` writes it."""
    content: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + sizes[name]]}
        at += sizes[name]
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _bytes(block: Tensor, bf16: bool) -> memoryview:
    block = block.contiguous()
    return (block.to(torch.bfloat16).view(torch.int16) if bf16 else block).numpy().data
