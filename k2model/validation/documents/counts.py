"""What is counted of a source's training documents, as `Counts` that add up over files and parts.

`files`, documents `read` and `quarantined`, and `reasons/<reason>` for which they are. Of the documents that are left:
`buckets/<bucket of duplicates>/` with `documents`, `text_bytes` (UTF-8) and `specials` (special tokens), and
`characters/<class>`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from k2model.documents.counts import Counts
from k2model.recipe.mixtures import BUCKETS, bucket_range
from k2model.validation.documents.measures import string_bytes

AMOUNTS = ("documents", "text_bytes", "specials")  # of a bucket
#: Classes of characters whose shares are compared between versions of a corpus.
CLASSES = ("letter", "digit", "space", "punctuation", "control", "not_ascii")
#: Text bytes behind one token. Deliberately more than BPE reaches on small vocabularies (2.5), so that
#: the epochs estimated before there is a tokenizer err on the high side.
BYTES_PER_TOKEN = 3.0


def count_documents(frame: pd.DataFrame, kept: NDArray[np.bool_]) -> Counts:
    """Buckets and characters of the `kept` rows of a `document_frame`."""
    counts, rows = Counts(), frame[kept]
    if not len(rows):
        return counts
    for bucket in BUCKETS:
        inside = rows[rows["duplicates"].between(*bucket_range(bucket))]
        if len(inside):
            amounts = (len(inside), inside["text_bytes"].sum(), (inside["spans"] - inside["texts"]).sum())
            counts.update({f"buckets/{bucket}/{name}": int(one) for name, one in zip(AMOUNTS, amounts, strict=True)})
    octets, _ = string_bytes(pa.array(rows["text"], pa.string()))
    characters = np.bincount(_CLASS_OF_BYTE, weights=np.bincount(octets, minlength=256), minlength=len(CLASSES) + 1)
    counts.update({f"characters/{name}": int(one) for name, one in zip(CLASSES, characters, strict=False)})
    return counts


def total(counts: Mapping[str, Counts]) -> Counts:
    """Of all sources."""
    summed = Counts()
    for one in counts.values():
        summed.update(one)
    return summed


def documents_and_tokens(counts: Mapping[str, int], bucket: str) -> tuple[int, int]:
    """Documents that stand for as many copies as `bucket` says (see `k2model.recipe.mixtures`), and their tokens.

    Tokens are estimated, before there is a tokenizer: special ones one each, text by its bytes.
    """
    low, high = bucket_range(bucket)
    inside = [name for name in BUCKETS if low <= bucket_range(name)[0] <= high]
    documents, octets, specials = (sum(counts.get(f"buckets/{n}/{amount}", 0) for n in inside) for amount in AMOUNTS)
    return documents, int(octets / BYTES_PER_TOKEN) + specials


def _class_of(octet: int) -> int:
    """Bytes 0x80 to 0xBF continue a character and are of no class."""
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
