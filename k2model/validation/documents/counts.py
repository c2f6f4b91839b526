"""What is counted of a file and of its published documents, so that it can be summed over files and parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from k2model.recipe.mixtures import BUCKETS, bucket_range
from k2model.validation.documents.measures import string_bytes

#: Classes of characters whose shares are compared between versions of a corpus.
CLASSES = ("letter", "digit", "space", "punctuation", "control", "not_ascii")
#: Text bytes behind one token. Deliberately more than BPE reaches on small vocabularies (2.5), so that
#: the epochs estimated before there is a tokenizer err on the high side.
BYTES_PER_TOKEN = 3.0


@dataclass(frozen=True)
class Amount:
    """Documents of one bucket of duplicates: bytes of text in UTF-8, and special tokens."""

    documents: int = 0
    text_bytes: int = 0
    specials: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.documents + other.documents, self.text_bytes + other.text_bytes, self.specials + other.specials
        )

    @property
    def tokens(self) -> int:
        """Estimated before there is a tokenizer: specials one each, text by its bytes."""
        return int(self.text_bytes / BYTES_PER_TOKEN) + self.specials


@dataclass(frozen=True)
class PartCounts:
    """`buckets`: amounts by bucket of duplicates; `characters`: characters by class."""

    buckets: Mapping[str, Amount] = field(default_factory=dict)
    characters: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(texts: pa.ChunkedArray, frame: pd.DataFrame, kept: NDArray[np.bool_]) -> "PartCounts":
        """Of the `kept` rows of a `document_frame` and their texts."""
        if not kept.any():
            return PartCounts()
        rows = frame[kept]
        buckets = {}
        for name in BUCKETS:
            low, high = bucket_range(name)
            inside = rows[rows["duplicates"].between(low, high)]
            if len(inside):
                buckets[name] = Amount(
                    len(inside), int(inside["text_bytes"].sum()), int((inside["spans"] - inside["texts"]).sum())
                )
        return PartCounts(buckets, _classes(texts.filter(pa.array(kept))))

    def __add__(self, other: "PartCounts") -> "PartCounts":
        return PartCounts(
            _summed(self.buckets, other.buckets, BUCKETS), _summed(self.characters, other.characters, CLASSES)
        )

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "PartCounts":
        """From what `dataclasses.asdict` made of one."""
        buckets = {name: Amount(**amount) for name, amount in content["buckets"].items()}
        return PartCounts(buckets, content["characters"])

    def amount(self, bucket: str = "") -> Amount:
        """Of all documents that stand for so many copies (see `k2model.recipe.mixtures`)."""
        low, high = bucket_range(bucket)
        inside = [amount for name, amount in self.buckets.items() if low <= bucket_range(name)[0] <= high]
        return sum(inside, Amount())


@dataclass(frozen=True)
class Tally:
    """The training documents of a source: its `files`, documents `read` and set aside, why; counts of the others."""

    files: int = 0
    read: int = 0
    quarantined: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    counts: PartCounts = field(default_factory=PartCounts)

    def __add__(self, other: "Tally") -> "Tally":
        names = tuple(sorted(self.reasons.keys() | other.reasons.keys()))
        return Tally(
            self.files + other.files,
            self.read + other.read,
            self.quarantined + other.quarantined,
            _summed(self.reasons, other.reasons, names),
            self.counts + other.counts,
        )

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Tally":
        """From what `dataclasses.asdict` made of one."""
        return Tally(**{**content, "counts": PartCounts.from_json(content["counts"])})


def _summed(one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: one[name] + other[name] if name in one and name in other else one.get(name, other.get(name))
        for name in names
        if name in one or name in other
    }


def _classes(texts: pa.ChunkedArray) -> dict[str, int]:
    """Characters of each class. Bytes 0x80 to 0xBF continue a character and count nothing."""
    octets, _ = string_bytes(texts.combine_chunks())
    by_byte = np.bincount(octets, minlength=256)
    counts = np.bincount(_CLASS_OF_BYTE, weights=by_byte, minlength=len(CLASSES) + 1)
    return {name: int(count) for name, count in zip(CLASSES, counts, strict=False)}


def _class_of(octet: int) -> int:
    character = chr(octet)
    if octet >= 0x80:
        return CLASSES.index("not_ascii") if octet >= 0xC0 else len(CLASSES)
    if character.isalpha():
        return CLASSES.index("letter")
    if character.isdigit():
        return CLASSES.index("digit")
    if character.isspace():
        return CLASSES.index("space")
    return CLASSES.index("punctuation" if character.isprintable() else "control")


_CLASS_OF_BYTE = np.array([_class_of(octet) for octet in range(256)])
