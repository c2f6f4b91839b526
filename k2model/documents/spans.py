"""The spans of a document's text: its segments as they are stored, and whole columns of them as flat arrays.

A document has its text once. A span says where a segment ends in it, in bytes of UTF-8: so the texts of all spans of a
column are Arrow's own buffer with other borders, and neither reading, joining nor writing them copies a character.
Segments (`k2model.documents.markup`) are what builders write; everything that works on columns works on spans.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2model.documents.markup import Segment
from k2model.errors import CorpusError

SPAN_TYPE = pa.struct(
    [
        pa.field("end", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("loss_mask", pa.bool_(), nullable=False),
    ]
)
SPANS_TYPE = pa.list_(SPAN_TYPE)

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Span(TypedDict):
    """`end`: the first byte of the document's text in UTF-8 that is no longer of this span; the next begins there."""

    end: int
    kind: str
    loss_mask: bool


def to_spans(segments: Iterable[Segment]) -> list[Span]:
    """The spans of segments over their joined text."""
    spans: list[Span] = []
    end = 0
    for segment in segments:
        end += len(segment["text"].encode("utf-8", "surrogatepass"))
        spans.append({"end": end, "kind": segment["kind"], "loss_mask": segment["loss_mask"]})
    return spans


def segments_of(document: Mapping[str, Any]) -> list[Segment]:
    """The segments of a document, from its `text` and `spans`. Raises CorpusError when these do not cover it."""
    octets, start = document["text"].encode("utf-8", "surrogatepass"), 0
    segments: list[Segment] = []
    for span in document["spans"]:
        try:
            said = octets[start : span["end"]].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise _uncovered(document.get("id")) from error
        segments.append({"kind": span["kind"], "text": said, "loss_mask": span["loss_mask"]})
        if span["end"] < start:
            raise _uncovered(document.get("id"))
        start = span["end"]
    if start != len(octets):
        raise _uncovered(document.get("id"))
    return segments


class FlatSpans(NamedTuple):
    """All spans of some documents in order: `texts`, `kinds`, `loss_mask` [spans]; `bounds` [documents + 1] says which
    are whose. The texts follow each other in one buffer without gaps."""

    texts: pa.StringArray
    kinds: pa.StringArray
    loss_mask: Flags
    bounds: Ints

    @classmethod
    def of(cls, documents: pa.RecordBatch | pa.Table) -> "FlatSpans":
        """Of the columns `text` and `spans`. Raises CorpusError for a document whose spans do not cover its text."""
        text, spans = (_whole(documents[name]) for name in ("text", "spans"))
        covered = spans_cover(text, spans)
        if not covered.all():
            row = int(np.flatnonzero(~covered)[0])
            raise _uncovered(documents["id"][row].as_py() if "id" in documents.schema.names else None)
        flat, counts = spans.flatten(), pc.list_value_length(spans).to_numpy(zero_copy_only=False)
        starts, data = string_bytes(text)
        ends = np.repeat(starts[:-1], counts) + flat.field("end").to_numpy()
        borders = pa.py_buffer(np.concatenate([starts[:1], ends]).astype(np.int32))
        texts = pa.StringArray.from_buffers(len(flat), borders, data)
        loss_mask = flat.field("loss_mask").to_numpy(zero_copy_only=False)
        return cls(texts, flat.field("kind"), loss_mask, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def encoded_together(self) -> "FlatSpans":
        """With neighbours in a document that are text or frame and alike in `loss_mask` as one, of kind `text`."""
        special = pc.equal(self.kinds, "special").to_numpy(zero_copy_only=False)
        first = np.ones(len(special), dtype=bool)
        first[1:] = special[1:] | special[:-1] | (self.loss_mask[1:] != self.loss_mask[:-1])
        first[self.bounds[:-1][np.diff(self.bounds) > 0]] = True
        places = np.flatnonzero(first)
        kinds = pa.array(np.where(special[places], "special", "text").tolist(), pa.string())
        texts = joined_runs(self.texts, np.append(places, len(special)))
        return FlatSpans(texts, kinds, self.loss_mask[places], np.searchsorted(places, self.bounds))


def spans_column(texts: pa.Array, kinds: pa.Array, loss_mask: Any, bounds: Ints) -> pa.ListArray:
    """The column `spans` of documents: texts, kinds and targets [spans], and `bounds` [documents + 1] of whose they
    are."""
    sizes = np.concatenate([[0], np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False), dtype=np.int64)])
    ends = sizes[1:] - np.repeat(sizes[bounds[:-1]], np.diff(bounds))
    arrays = [pa.array(ends.astype(np.int32)), kinds, pa.array(loss_mask, pa.bool_())]
    flat = pa.StructArray.from_arrays(arrays, fields=list(SPAN_TYPE))
    return pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), flat, type=SPANS_TYPE)


def spans_cover(text: pa.StringArray, spans: pa.ListArray) -> Flags:
    """Whether the spans of each document cover its text: ends that rise, lie between characters, and end with it."""
    text, known = text.fill_null(""), pc.and_(text.is_valid(), spans.is_valid()).to_numpy(zero_copy_only=False)
    counts = pc.fill_null(pc.list_value_length(spans), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts, data = string_bytes(text)
    sizes, owner, last = np.diff(starts), np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - 1
    ends = pc.fill_null(spans.flatten().field("end"), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    begins[(last - counts + 1)[counts > 0]] = 0
    octets = np.append(np.frombuffer(data, dtype=np.uint8), np.uint8(0))
    inside = (ends >= begins) & (ends <= sizes[owner])
    at = np.where(inside, starts[owner] + ends, len(octets) - 1)
    split = (ends < sizes[owner]) & (octets[at] & 0xC0 == 0x80)
    covered = known & (np.bincount(owner, weights=~inside | split, minlength=len(counts)) == 0)
    reached = np.zeros(len(counts), dtype=np.int64)
    reached[counts > 0] = ends[last[counts > 0]]
    return covered & (reached == sizes)


def joined_runs(strings: pa.Array, bounds: Ints) -> pa.Array:
    """The strings [bounds[i], bounds[i + 1]) as one each, for all i: the same bytes with fewer borders. No nulls."""
    offsets, data = string_bytes(strings)
    width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    borders = pa.py_buffer(offsets[bounds].astype(width))
    return type(strings).from_buffers(len(bounds) - 1, borders, data)


def _uncovered(name: str | None) -> CorpusError:
    return CorpusError(
        f"document {'without an id' if name is None else repr(name)}: its spans do not cover its text; expected ends "
        "in bytes of UTF-8 that never fall, lie between characters, and end with the text. Look at what wrote it"
    )


def string_bytes(strings: pa.Array) -> tuple[Ints, pa.Buffer]:
    """Where each string begins in the bytes (UTF-8) of the array and the last ends [strings + 1]; and these bytes."""
    _, offsets, data = strings.buffers()
    data = pa.py_buffer(b"") if data is None else data
    if not len(strings):
        return np.zeros(1, dtype=np.int64), data
    width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    places = np.frombuffer(offsets, dtype=width)[strings.offset : strings.offset + len(strings) + 1]
    return places.astype(np.int64), data


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
