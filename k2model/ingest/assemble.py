"""Rows become documents: spans, ids, the held-out split, licence and origin, in whole columns.

For plain text no Python object is made of a row but its digest.
"""

import hashlib
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.documents.markup import joined, plain
from k2model.documents.schema import DOCUMENT_SCHEMA, content_id
from k2model.documents.spans import SPAN_TYPE, SPANS_TYPE, Span, to_spans
from k2model.ingest.batch import Batch, Reason, Reject, cut, row_of
from k2model.ingest.chat import BadMessages, dialogue
from k2model.ingest.trees import UNKNOWN_LICENCE
from k2model.recipe.schema import SourceConfig

_SHARES = 2**64


class Documents(NamedTuple):
    """`table` in `DOCUMENT_SCHEMA`; `heldout` [n] whether never trained on; `sampled_out` rows were left out by
    `SourceConfig.sample`; `languages` [n] strings or null, None when the source has none; `rejects` of chat rows."""

    table: pa.Table
    heldout: pa.Array
    sampled_out: int
    languages: pa.Array | None
    rejects: list[Reject]


def assemble(source: SourceConfig, batch: Batch) -> Documents:
    """The documents of a batch, in its order.

    A document's id is a function of the source's name, its place (`path#row`, or the mapped id) and its text. It is
    held out, or sampled, by a digest of its key, else of its text or of a dialogue's first user turn.
    """
    batch, contents, text, spans, rejects = _written(source, batch)
    keys = batch.extras.get("key")
    digests = [hashlib.sha256(raw) for raw in _values(contents)]
    deciding = digests if keys is None else _deciding(keys, digests)
    shares = np.array([int.from_bytes(digest.digest()[:8], "big") for digest in deciding], np.uint64)
    draws = np.array([int.from_bytes(digest.digest()[8:16], "big") for digest in deciding], np.uint64)
    names = pc.coalesce(batch.extras["id"], batch.places) if "id" in batch.extras else batch.places
    bodies = digests if batch.messages is None else [hashlib.sha256(raw) for raw in _values(text)]
    pairs = zip(names.to_pylist(), bodies, strict=True)
    ids = pa.array([content_id(source.name, name, body.hexdigest()) for name, body in pairs], pa.string())
    count = len(ids)
    columns = {
        "id": ids,
        "source": _repeated(source.name, count),
        "domain": _repeated(source.domain, count),
        "licence": _said(batch.extras.get("licence"), _repeated(source.licence or UNKNOWN_LICENCE, count)),
        "origin": _said(batch.extras.get("origin"), batch.places),
        "text": text,
        "spans": spans,
        "key": _repeated("", count) if keys is None else keys.fill_null(""),
        "duplicates": pa.array(np.ones(count, np.int32)),
    }
    table = pa.table([columns[name] for name in DOCUMENT_SCHEMA.names], schema=DOCUMENT_SCHEMA)
    documents = Documents(table, _below(shares, source.heldout), 0, batch.extras.get("language"), rejects)
    return documents if source.sample >= 1.0 else _sampled(documents, _below(draws, source.sample))


def plain_documents(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(text [n], spans [n]) of documents as `markup.plain` writes them, made of whole columns."""
    template = plain("")
    width, count = len(template), len(texts)
    slot = next(i for i, segment in enumerate(template) if segment["kind"] == "text")
    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    ends = np.tile(np.array([span["end"] for span in to_spans(template)], np.int32), (count, 1))
    ends[:, slot:] += sizes[:, None]
    wanted = pa.array(np.tile(np.arange(width), count))
    kinds, masks = (pa.array([segment[name] for segment in template]).take(wanted) for name in ("kind", "loss_mask"))
    flat = pa.StructArray.from_arrays([pa.array(ends.reshape(-1)), kinds, masks], fields=list(SPAN_TYPE))
    offsets = pa.array(np.arange(0, (count + 1) * width, width, dtype=np.int32))
    front, back = joined(template[:slot]), joined(template[slot + 1 :])
    text = pc.binary_join_element_wise(front, texts, back, "")
    return text, pa.ListArray.from_arrays(offsets, flat, type=SPANS_TYPE)


def _written(source: SourceConfig, batch: Batch) -> tuple[Batch, pa.Array, pa.Array, pa.Array, list[Reject]]:
    """(Batch without the rows whose turns cannot be written, what decides the split, text, spans, rejects)."""
    if batch.messages is None:
        assert batch.text is not None
        return batch, batch.text, *plain_documents(batch.text), []
    written: list[str] = []
    spans: list[list[Span]] = []
    users: list[str] = []
    rejects: list[Reject] = []
    kept: list[bool] = []
    places = batch.places.to_pylist()
    tools, efforts = (
        batch.extras[name].to_pylist() if name in batch.extras else [None] * len(places) for name in ("tools", "effort")
    )
    for place, messages, defined, effort in zip(places, batch.messages, tools, efforts, strict=True):
        try:
            segments, user = dialogue(messages, defined, effort, source.effort)
        except BadMessages as error:
            rejects.append(Reject(*row_of(place), Reason.BAD_MESSAGES, str(error), cut(str(messages))))
            kept.append(False)
            continue
        written.append(joined(segments))
        spans.append(to_spans(segments))
        users.append(user)
        kept.append(True)
    keep = pa.array(kept, pa.bool_())
    left = Batch(
        batch.places.filter(keep),
        messages=[messages for messages, good in zip(batch.messages, kept, strict=True) if good],
        extras={name: values.filter(keep) for name, values in batch.extras.items()},
    )
    return left, pa.array(users, pa.string()), pa.array(written, pa.string()), pa.array(spans, SPANS_TYPE), rejects


def _deciding(keys: pa.Array, digests: list) -> list:
    """Digests of the keys, of the content where a row has none."""
    return [
        digest if key is None else hashlib.sha256(key.encode())
        for key, digest in zip(keys.to_pylist(), digests, strict=True)
    ]


def _values(strings: pa.Array) -> list[memoryview]:
    """The UTF-8 bytes of each string, not copied."""
    _, offsets, data = strings.buffers()
    if not len(strings) or data is None:
        return [memoryview(b"")] * len(strings)
    borders = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1].tolist()
    whole = memoryview(data)
    return [whole[start:end] for start, end in pairwise(borders)]


def _below(numbers: np.ndarray, share: float) -> pa.Array:
    """Which of the numbers, even over 64 bits, lie in the first `share` of them."""
    if share >= 1.0:
        return pa.array(np.ones(len(numbers), bool))
    return pa.array(numbers < np.uint64(int(share * _SHARES)))


def _said(values: pa.Array | None, otherwise: pa.Array) -> pa.Array:
    """What a column says; `otherwise` where it says nothing."""
    if values is None:
        return otherwise
    return pc.if_else(pc.equal(values, "").fill_null(True), otherwise, values)


def _sampled(documents: Documents, keep: pa.Array) -> Documents:
    table = documents.table.filter(keep)
    languages = None if documents.languages is None else documents.languages.filter(keep)
    left_out = documents.table.num_rows - table.num_rows
    return documents._replace(
        table=table, heldout=documents.heldout.filter(keep), sampled_out=left_out, languages=languages
    )


def _repeated(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)
