"""The segments of a batch of documents as flat arrays: their written texts are rewritten, special tokens never."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.corpus.documents import SEGMENT_TYPE


class Segments:
    """`strings` are the texts of all segments of kind `text`, of all documents in order; set them to rewrite them."""

    def __init__(self, column: pa.ListArray):
        flat = column.flatten()
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        self._kinds, self._loss = flat.field("kind"), flat.field("loss")
        self._all = flat.field("text").cast(pa.large_string())
        self._written = pc.equal(self._kinds, "text")
        self.strings: pa.LargeStringArray = self._all.filter(self._written)

    def joined(self) -> pa.LargeStringArray:
        """For each document the text of all its segments."""
        return _joined(self._offsets, self._whole())

    def bodies(self) -> pa.LargeStringArray:
        """For each document what is written in it, without special tokens."""
        before = np.concatenate([[0], np.cumsum(self._written.to_numpy(zero_copy_only=False))])
        return _joined(before[self._offsets].astype(np.int32), self.strings)

    def rebuilt(self) -> pa.ListArray:
        """The column with the strings as they are."""
        texts = self._whole().cast(pa.string())
        flat = pa.StructArray.from_arrays([self._kinds, texts, self._loss], fields=list(SEGMENT_TYPE))
        return pa.ListArray.from_arrays(pa.array(self._offsets), flat)

    def _whole(self) -> pa.LargeStringArray:
        return pc.replace_with_mask(self._all, self._written, self.strings)


def _joined(offsets: np.ndarray, strings: pa.LargeStringArray) -> pa.LargeStringArray:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets.astype(np.int64)), strings)
    return pc.binary_join(lists, pa.scalar("", pa.large_string()))
