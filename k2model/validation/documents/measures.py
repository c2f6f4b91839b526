"""What is measured of every document, as the flat table the suites look at.

Great Expectations cannot look into nested spans nor compare with the evaluation items; both are measured here with
Arrow. Nothing here decides pass or fail.

Evaluation items are looked for by their keys and by their prompts, word for word. A thousand prompts against megabytes
of text would take minutes with `prompt in text`, so a file is first reduced to the set of 8-byte windows that occur in
it: a prompt one of whose windows does not occur is nowhere, and only the few left are searched for. UTF-8 is
self-synchronising, so a match of bytes is a match of characters. Reworded copies are not found here: decontamination
and the `key` column are for those.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2model.documents.markup import SPECIAL_TOKENS
from k2model.documents.schema import source_file
from k2model.documents.spans import FlatSpans, joined_runs, spans_cover

WINDOW = 8  # bytes
TABLE_BITS = 24
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, spreads windows over the table


def find_prompts(texts: pa.ChunkedArray, prompts: Sequence[str]) -> dict[int, int]:
    """Row of `texts` -> index of the first of `prompts` that its text contains at word borders; null is empty."""
    found: dict[int, int] = {}
    start = 0
    for chunk in texts.chunks:
        for row, prompt in _find_in_chunk(chunk, prompts):
            found[start + row] = min(prompt, found.get(start + row, prompt))
        start += len(chunk)
    return found


def string_bytes(chunk: pa.StringArray) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The UTF-8 bytes of a string array and the offsets of its rows in them; null counts as empty."""
    chunk = pa.concat_arrays([chunk.fill_null("")])
    _, offsets, values = chunk.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    octets = np.frombuffer(values, dtype=np.uint8) if values is not None else np.zeros(0, dtype=np.uint8)
    return octets[starts[0] : starts[-1]], starts - starts[0]


def _find_in_chunk(chunk: pa.StringArray, prompts: Sequence[str]) -> Iterator[tuple[int, int]]:
    if not len(chunk):
        return
    octets, starts = string_bytes(chunk)
    occurs = np.zeros(1 << TABLE_BITS, dtype=bool)
    occurs[_window_hashes(octets)] = True
    haystack = octets.tobytes()
    for index, prompt in enumerate(prompts):
        needle = prompt.encode()
        if needle and occurs[_window_hashes(np.frombuffer(needle, dtype=np.uint8))].all():
            yield from ((row, index) for row in _rows_with(haystack, starts, needle))


def _window_hashes(octets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A table index for every window; empty when there are fewer bytes than one window."""
    count = max(0, len(octets) - WINDOW + 1)
    windows = np.ndarray((count,), dtype="<u8", buffer=np.ascontiguousarray(octets), strides=(1,)) if count else ()
    return (np.asarray(windows, dtype=np.uint64) * _MIX) >> np.uint64(64 - TABLE_BITS)


def _rows_with(haystack: bytes, starts: np.ndarray[Any, Any], needle: bytes) -> Iterator[int]:
    position = haystack.find(needle)
    while position >= 0:
        row = int(np.searchsorted(starts, position, side="right")) - 1
        end, row_start, row_end = position + len(needle), int(starts[row]), int(starts[row + 1])
        if end <= row_end and not (
            _joins(haystack, position, row_start, row_end) or _joins(haystack, end, row_start, row_end)
        ):
            yield row
        position = haystack.find(needle, position + 1)


def _joins(haystack: bytes, border: int, row_start: int, row_end: int) -> bool:
    """Whether the bytes on both sides of `border` belong to one word: `Niger` is not in `Nigeria`."""
    if not row_start < border < row_end:
        return False
    return all(octet >= 0x80 or chr(octet).isalnum() for octet in haystack[border - 1 : border + 1])


@dataclass(frozen=True)
class EvaluationItems:
    """Items that must not be trained on. `keys` and `prompts` run along `ids`.

    An item with an empty key holds nothing out (a fact asked in a wording that is trained).
    """

    ids: list[str]
    keys: list[str]
    prompts: list[str]

    @staticmethod
    def of(tables: Mapping[str, pa.Table]) -> "EvaluationItems":
        rows = [row for table in tables.values() for row in table.select(["id", "key", "prompt"]).to_pylist()]
        heldout = [row for row in rows if row["key"]]
        return EvaluationItems(*([str(row[column] or "") for row in heldout] for column in ("id", "key", "prompt")))


def document_frame(table: pa.Table, items: EvaluationItems, stem: str) -> pd.DataFrame:
    """Flat columns of a frame of documents (`spans` as their number) and measures, a row per document.

    `content` is the text without special tokens, `texts` counts the spans it is made of; `item_of_key` and
    `item_of_text` name the evaluation item whose key or prompt the document has. `source_file` is what `stem`
    should be; a missing source is another rule's matter. A document whose spans do not cover its text is `uncovered`
    and measured as if it were one text.
    """
    frame = table.drop_columns(["spans"]).to_pandas()
    text, spans = (table[name].combine_chunks() for name in ("text", "spans"))
    covered = spans_cover(text, spans)
    frame["spans"] = pc.list_value_length(spans).to_pandas()
    frame["uncovered"] = (~covered).astype(np.int64)
    frame["shard_file"] = stem
    frame["source_file"] = [source_file(source) if isinstance(source, str) else stem for source in frame["source"]]
    flat = FlatSpans.of(table.filter(pa.array(covered)).combine_chunks())
    is_text = pc.is_in(flat.kinds, value_set=pa.array(["text", "frame"])).to_numpy(zero_copy_only=False)
    known = pc.is_in(flat.texts, value_set=pa.array(SPECIAL_TOKENS))
    known = pc.and_(known, pc.equal(flat.kinds, "special")).to_numpy(zero_copy_only=False)
    targets = flat.loss_mask & pc.not_equal(flat.texts, "").to_numpy(zero_copy_only=False)
    of_one_text = {"texts": (is_text, 1), "targets": (targets, 1), "unknown_specials": (~is_text & ~known, 0)}
    for name, (flags, otherwise) in of_one_text.items():
        before = np.concatenate([[0], np.cumsum(flags)])
        frame[name] = np.full(len(covered), otherwise)
        frame.loc[covered, name] = np.diff(before[flat.bounds])
    before = np.concatenate([[0], np.cumsum(is_text)])
    written = joined_runs(flat.texts.filter(pa.array(is_text)), before[flat.bounds])
    content = pc.replace_with_mask(text.fill_null(""), pa.array(covered), written)
    frame["content"] = content.to_pandas()
    frame["text_bytes"] = pc.binary_length(content).to_numpy(zero_copy_only=False)
    frame["ascii_fraction"] = _ascii_fraction(content)
    owner = dict(zip(items.keys, items.ids, strict=True))
    frame["item_of_key"] = pd.Series([_item_of_key(key, owner) for key in frame["key"]], dtype="object")
    contained = find_prompts(table["text"], items.prompts)
    frame["item_of_text"] = pd.Series([None] * len(frame), dtype="object")
    for row, prompt in contained.items():
        frame.loc[row, "item_of_text"] = items.ids[prompt]
    return frame


def _ascii_fraction(texts: pa.StringArray) -> NDArray[np.float64]:
    """ASCII characters of each text over all its characters; 1 for an empty text."""
    octets, starts = string_bytes(texts)
    before = np.concatenate([[0], np.cumsum(octets < 0x80, dtype=np.int64)])
    characters = np.asarray(pc.utf8_length(texts.fill_null("")), dtype=np.int64)
    ascii_characters = before[starts[1:]] - before[starts[:-1]]
    return np.where(characters == 0, 1.0, ascii_characters / np.maximum(characters, 1))


def _item_of_key(key: object, owner: Mapping[str, str]) -> str | None:
    """The item that has one of a document's keys, which stand on lines of their own."""
    if not isinstance(key, str):
        return None
    return next((owner[one] for one in key.split("\n") if one in owner), None)
