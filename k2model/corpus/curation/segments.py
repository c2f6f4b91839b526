"""The segments of a batch of documents as flat arrays: what is written is changed, frame and special tokens never.

White space says something in a document of several texts: where a prompt ends, how the code of a reply is indented.
So only a `page`, a document that is one text, has its white space tidied and its lines dropped.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.corpus.curation.texts import Flags
from k2model.corpus.documents import SEGMENT_TYPE

_TURN = "\n\n"  # between the texts of a document that is judged: neither a word nor a line is of two of them


class Segments:
    """`strings` are the texts of all segments of kind `text`, of all documents in order; set them to rewrite them.

    `pages` [strings] says which of them is all that its document holds besides special tokens.
    """

    def __init__(self, column: pa.ListArray):
        flat = column.flatten()
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        self._kinds, self._loss = flat.field("kind"), flat.field("loss")
        self._all = flat.field("text").cast(pa.large_string())
        self._written = pc.equal(self._kinds, "text")
        self.strings: pa.LargeStringArray = self._all.filter(self._written)
        self._places = np.flatnonzero(self._written.to_numpy(zero_copy_only=False))
        parts = pc.not_equal(self._kinds, "special").to_numpy(zero_copy_only=False)
        before = np.concatenate([[0], np.cumsum(parts)])
        alone = np.diff(before[self._offsets]) == 1
        self.pages: Flags = np.repeat(alone, lengths)[self._places]

    def joined(self) -> pa.LargeStringArray:
        """For each document the text of all its segments."""
        return _joined(self._offsets, self._whole())

    def bodies(self) -> pa.LargeStringArray:
        """For each document what is written in it, a paragraph for each text that stands apart from the one before."""
        bounds = np.searchsorted(self._places, self._offsets)
        apart = np.diff(self._places, prepend=-1) > 1
        apart[bounds[:-1][np.diff(bounds) > 0]] = False
        strings = self.strings
        if apart.any():
            between = pa.array(np.where(apart, _TURN, ""), pa.large_string())
            strings = pc.binary_join_element_wise(between, strings, pa.scalar("", pa.large_string()))
        return _joined(bounds, strings)

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
