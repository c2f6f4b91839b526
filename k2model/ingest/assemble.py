"""Rows become documents: spans, ids, the held-out split, licence and origin, in whole columns.

For plain text no Python object is made of a row but its digest.
"""

import hashlib
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.documents.chats import read_dialogue
from k2model.documents.json_text import BadMessages
from k2model.documents.markup import chat, joined, plain
from k2model.documents.schema import DOCUMENT_SCHEMA, content_id
from k2model.documents.spans import SPAN_TYPE, SPANS_TYPE, joined_runs, spans_column, string_bytes, to_spans
from k2model.ingest.batch import Batch, Reason, Reject, cut, row_of
from k2model.ingest.trees import UNKNOWN_LICENCE
from k2model.recipe.schema import SourceConfig


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
    deciding = digests = _digests(contents)
    if keys is not None:
        pairs = zip(keys.to_pylist(), digests, strict=True)
        deciding = [digest if key is None else hashlib.sha256(key.encode()) for key, digest in pairs]
    shares = np.array([int.from_bytes(digest.digest()[:8], "big") for digest in deciding], np.uint64)
    draws = np.array([int.from_bytes(digest.digest()[8:16], "big") for digest in deciding], np.uint64)
    names = pc.coalesce(batch.extras["id"], batch.places) if "id" in batch.extras else batch.places
    bodies = zip(names.to_pylist(), digests if batch.messages is None else _digests(text), strict=True)
    ids = pa.array([content_id(source.name, name, body.hexdigest()) for name, body in bodies], pa.string())
    count = len(ids)
    columns = {
        "id": ids,
        "source": _repeated(source.name, count),
        "domain": _repeated(source.domain, count),
        "licence": _or_default(batch.extras.get("licence"), _repeated(source.licence or UNKNOWN_LICENCE, count)),
        "origin": _or_default(batch.extras.get("origin"), batch.places),
        "text": text,
        "spans": spans,
        "key": _repeated("", count) if keys is None else keys.fill_null(""),
        "duplicates": pa.array(np.ones(count, np.int32)),
    }
    table, heldout = pa.table(columns, schema=DOCUMENT_SCHEMA), _below(shares, source.heldout)
    languages = batch.extras.get("language")
    if source.sample < 1.0:
        keep = _below(draws, source.sample)
        table, heldout = table.filter(keep), heldout.filter(keep)
        languages = None if languages is None else languages.filter(keep)
    return Documents(table, heldout, count - table.num_rows, languages, rejects)


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
    texts: list[str] = []
    kinds: list[str] = []
    targets: list[bool] = []
    bounds = [0]
    users: list[str] = []
    rejects: list[Reject] = []
    kept: list[bool] = []
    places = batch.places.to_pylist()
    named = ("tools", "system", "effort")
    beside = [batch.extras[name].to_pylist() if name in batch.extras else [None] * len(places) for name in named]
    for place, messages, *said in zip(places, batch.messages, *beside, strict=True):
        try:
            read = read_dialogue(
                messages, **dict(zip(named, said, strict=True)), default=source.effort, ignored=source.fields.ignored
            )
        except BadMessages as error:
            rejects.append(Reject(*row_of(place), Reason.BAD_MESSAGES, str(error), cut(_shown(messages))))
            kept.append(False)
            continue
        segments = chat(read.messages, read.effort)
        texts += [segment["text"] for segment in segments]
        kinds += [segment["kind"] for segment in segments]
        targets += [segment["loss_mask"] for segment in segments]
        bounds.append(len(texts))
        users.append(read.user)
        kept.append(True)
    keep = pa.array(kept, pa.bool_())
    left = Batch(
        batch.places.filter(keep),
        messages=[messages for messages, good in zip(batch.messages, kept, strict=True) if good],
        extras={name: values.filter(keep) for name, values in batch.extras.items()},
    )
    written, borders = pa.array(texts, pa.string()), np.array(bounds)
    spans = spans_column(written, pa.array(kinds, pa.string()), targets, borders)
    return left, pa.array(users, pa.string()), joined_runs(written, borders), spans, rejects


def _shown(messages: Any) -> str:
    try:
        return str(messages)
    except RecursionError:
        return ""


def _digests(strings: pa.Array) -> list[Any]:
    """The sha256 of each string's UTF-8."""
    starts, data = string_bytes(strings)
    whole = memoryview(data)
    return [hashlib.sha256(whole[start:end]) for start, end in pairwise(starts.tolist())]


def _below(numbers: np.ndarray, share: float) -> pa.Array:
    """Which of the numbers, even over 64 bits, lie in the first `share` of them."""
    if share >= 1.0:
        return pa.array(np.ones(len(numbers), bool))
    return pa.array(numbers < np.uint64(int(share * 2**64)))


def _or_default(values: pa.Array | None, otherwise: pa.Array) -> pa.Array:
    """The values of a column; `otherwise` where they are null or empty."""
    if values is None:
        return otherwise
    return pc.if_else(pc.equal(values, "").fill_null(True), otherwise, values)


def _repeated(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)
