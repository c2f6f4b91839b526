"""Safetensors files of weights: which tensors lie where in them, and whether they are those of the model.

Headers are read before any values, so that what is missing, too many or of another shape is told at once. Everything a
file says is checked; pickled weights are never read, since loading a pickle runs code.
"""

import math
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypedDict

from k2model.export.architecture import AdoptionError, Architecture
from k2model.export.hugging_face import llama_names
from k2model.plain import NotPlain, read_as
from k2model.recipe.schema import ModelConfig

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}  # bytes of an element, by the types that are read
LONGEST_HEADER = 100_000_000  # bytes, as in safetensors itself
# A buffer that old versions of transformers saved: theta says all that is in it.
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
_NAME = re.compile(r"[\w.-]+\.safetensors")
_REMEDIES = {
    ".bin": "its weights are pickled, and loading a pickle runs code. Have whoever trusts them save them as "
    "safetensors (`save_pretrained` of transformers does), and adopt that",
    ".pth": "its weights are pickled, and loading a pickle runs code. Convert them to Hugging Face's form",
    ".gguf": "GGUF is for inference. Adopt the weights it was made from, or load it with transformers (`gguf_file`) "
    "and save it as safetensors",
    "adapter_config.json": "it holds an adapter. Merge it into its base model, and adopt that",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its bytes `begin`..`end` behind the header. `dtype` in safetensors' words."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def derived(self) -> bool:
        """Whether it is a buffer that follows from the config."""
        return _DERIVED.fullmatch(self.name) is not None


@dataclass(frozen=True)
class WeightsFile:
    """One file, as its header says: tensors in the order of their bytes."""

    path: str
    header: bytes
    tensors: tuple[StoredTensor, ...]


class _Index(TypedDict):
    weight_map: dict[str, str]


def weights_files(paths: Collection[str], index: bytes | None, where: str) -> dict[str, set[str] | None]:
    """The files that hold the weights of a folder with these `paths`, each with the tensors that the `index` says are
    in it (None without an index). Raises AdoptionError."""
    if SINGLE in paths:
        return {SINGLE: None}
    if index is None:
        for ending, remedy in _REMEDIES.items():
            if found := sorted(path for path in paths if path.endswith(ending)):
                raise AdoptionError(f"{where} holds {found[0]} and no {SINGLE}: {remedy}")
        raise AdoptionError(f"{where} holds neither {SINGLE} nor {INDEX}, expected a model in Hugging Face's form")
    try:
        placed = read_as(_Index, index, LONGEST_HEADER)["weight_map"]
    except NotPlain as error:
        raise AdoptionError(f"{where}/{INDEX} is no index of weights ({error}); get the file again") from error
    files: dict[str, set[str] | None] = {}
    for name, path in placed.items():
        if not _NAME.fullmatch(path) or path not in paths:
            raise AdoptionError(f"{where}/{INDEX} says that {name} is in {path!r}, which is not there; get it as well")
        files[path] = (files.get(path) or set()) | {name}
    return dict(sorted(files.items()))


def read_header(file: BinaryIO, size: int, path: str, where: str) -> WeightsFile:
    """What the header of a file of `size` bytes says, which is left behind its header. Raises AdoptionError."""
    try:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = file.read(length)
        content = read_as(dict[str, Any], header, LONGEST_HEADER)
        content.pop("__metadata__", None)
        found = sorted((_tensor(name, told) for name, told in content.items()), key=lambda one: one.begin)
        at = 0
        for one in found:
            if one.begin != at:
                raise ValueError(f"{one.name} begins at byte {one.begin}, expected {at}")
            at = one.end
        if 8 + length + at != size:
            raise ValueError(f"it has {size} bytes, its header tells of {8 + length + at}")
        return WeightsFile(path, start + header, tuple(found))
    except (NotPlain, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise AdoptionError(f"{where}/{path} is no whole safetensors file ({error}); get it again") from error


def _tensor(name: str, told: Mapping[str, Any]) -> StoredTensor:
    begin, end = told["data_offsets"]
    shape = tuple(told["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise ValueError(f"{name} does not lie at whole numbers")
    if (width := WIDTHS.get(told["dtype"])) and end - begin != math.prod(shape) * width:
        raise ValueError(f"{name} {list(shape)} lies in {end - begin} bytes")
    return StoredTensor(name, str(told["dtype"]), shape, begin, end)


def llama_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Llama's name -> shape of every tensor of the model, the head included where it is tied."""
    hidden, ffn = model.hidden_size, model.ffn_size
    queries, keys = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
    sizes = {
        "embed_tokens": (model.vocab_size, hidden), "lm_head": (model.vocab_size, hidden),
        "q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden), "o_proj": (hidden, queries),
        "gate_proj": (ffn, hidden), "up_proj": (ffn, hidden), "down_proj": (hidden, ffn),
    }  # fmt: skip
    return {name: sizes.get(name.split(".")[-2], (hidden,)) for name in llama_names(model).values()}


def check_tensors(files: Collection[WeightsFile], listed: Mapping[str, set[str] | None], found: Architecture,
                  where: str) -> None:  # fmt: skip
    """Raises AdoptionError naming what is missing, too many, of another shape or of a type that is not read."""
    expected = llama_shapes(found.model)
    there = {one.name: (file.path, one) for file in files for one in file.tensors if not one.derived}
    twice = [one.name for file in files for one in file.tensors if not one.derived and there[one.name][0] != file.path]
    missing = sorted(expected.keys() - there.keys() - ({HEAD} if found.tied else set()))
    extra = sorted(there.keys() - expected.keys())
    wrong = [
        f"{one.name} is {list(one.shape)} in {path}, its config.json means {list(expected[one.name])}"
        for path, one in there.values()
        if one.name in expected and one.shape != expected[one.name]
    ]
    types = [f"{one.name} is {one.dtype}" for _, one in there.values() if one.dtype not in WIDTHS]
    moved = [
        name for file in files for name in sorted(listed[file.path] or ()) if name not in {t.name for t in file.tensors}
    ]
    for problem, names in (
        ("lacks tensors of the model", missing),
        ("holds tensors that the model has no place for", extra),
        ("holds a tensor in two files", twice),
        (f"has not the tensors where its {INDEX} says", moved),
        ("holds tensors of another shape", wrong),
        (f"holds tensors of a type that is not read ({', '.join(WIDTHS)} are): quantised weights have to be saved "
         "dequantised", types),
    ):  # fmt: skip
        if names:
            raise AdoptionError(f"{where} {problem}: {', '.join(names[:3])} ({len(names)} in all)")
