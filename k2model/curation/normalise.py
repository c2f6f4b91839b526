r"""One form for the text of documents, a batch at a time: NFC, `\n` line ends, no control characters, clean lines.

What is written in a document (`Written`) is changed, its frame and special tokens never. White space says something in
a document of several texts: where a prompt ends, how the code of a reply is indented. So only a `page`, a document that
is one text, has its white space tidied, and its unwanted lines dropped: navigation, cookie notices and the like go, the
rest of the page stays (C4, section 2.2). Most texts have their form already, which one regular expression over the
batch tells; the others are rewritten one by one.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.filters import matches
from k2model.curation.texts import Flags
from k2model.documents.spans import FlatSpans, joined_runs, spans_column
from k2model.recipe.curation import LineCleaning

_TURN = "\n\n"  # between the texts of a document that is judged: neither a word nor a line is of two of them


class Written:
    """What is written in a batch of documents: `strings`, the spans of kind `text` in order; set them to rewrite them.

    `pages` [strings] says which of them is all that its document holds besides special tokens.
    """

    def __init__(self, documents: pa.RecordBatch | pa.Table):
        """Of the columns `text` and `spans`. Raises CorpusError for a document whose spans do not cover its text."""
        self._spans = FlatSpans.of(documents)
        self._all = self._spans.texts.cast(pa.large_string())
        self._written = pc.equal(self._spans.kinds, "text")
        self.strings: pa.LargeStringArray = self._all.filter(self._written)
        self._places = np.flatnonzero(self._written.to_numpy(zero_copy_only=False))
        parts = pc.not_equal(self._spans.kinds, "special").to_numpy(zero_copy_only=False)
        before = np.concatenate([[0], np.cumsum(parts)])
        alone = np.diff(before[self._spans.bounds]) == 1
        self.pages: Flags = np.repeat(alone, np.diff(self._spans.bounds))[self._places]

    def documents(self) -> tuple[pa.LargeStringArray, pa.ListArray]:
        """The columns `text` and `spans` with the strings as they are."""
        texts, bounds = self._whole(), self._spans.bounds
        return joined_runs(texts, bounds), spans_column(texts, self._spans.kinds, self._spans.loss_mask, bounds)

    def texts(self) -> pa.LargeStringArray:
        """For each document its text."""
        return joined_runs(self._whole(), self._spans.bounds)

    def bodies(self) -> pa.LargeStringArray:
        """For each document what is written in it, a paragraph for each text that stands apart from the one before."""
        bounds = np.searchsorted(self._places, self._spans.bounds)
        apart = np.diff(self._places, prepend=-1) > 1
        apart[bounds[:-1][np.diff(bounds) > 0]] = False
        strings = self.strings
        if apart.any():
            between = pa.array(np.where(apart, _TURN, ""), pa.large_string())
            strings = pc.binary_join_element_wise(between, strings, pa.scalar("", pa.large_string()))
        return joined_runs(strings, bounds)

    def _whole(self) -> pa.LargeStringArray:
        return pc.replace_with_mask(self._all, self._written, self.strings)


# C0 and C1 controls but tab and line feed; lone surrogates; byte order mark and zero-width characters
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u200b-\u200d\u2060]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")
_SUSPECT_CHARACTERS = r"[^\n\t -~]"
_SUSPECT_PAGE = rf"{_SUSPECT_CHARACTERS}|[ \t]\n|[ \t]\z|\n\n\n\n|\A\n|\n\z"


def clean_characters(text: str) -> str:
    """NFC, line feeds, no control characters. Never touches spaces: generated answers start with one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", _UNWANTED.sub("", text))


def clean_page(text: str) -> str:
    """`clean_characters`, no trailing blanks, at most two blank lines in a row and none at the edges."""
    text = _TRAILING.sub("", clean_characters(text))
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def normalise(strings: pa.LargeStringArray, pages: Flags) -> pa.LargeStringArray:
    """Every string in its one form; `pages` [strings] says which have their white space tidied."""
    suspect = matches(strings, _SUSPECT_PAGE if pages.any() else _SUSPECT_CHARACTERS)
    strings = rewritten(strings, suspect & pages, clean_page)
    return rewritten(strings, suspect & ~pages, clean_characters)


def rewritten(strings: pa.LargeStringArray, chosen: Flags, function: Callable[[str], str]) -> pa.LargeStringArray:
    """The strings with `function` applied to the chosen ones."""
    if not chosen.any():
        return strings
    made = [function(strings[row].as_py()) for row in np.flatnonzero(chosen)]
    return pc.replace_with_mask(strings, pa.array(chosen), pa.array(made, type=pa.large_string()))


_ENDINGS = tuple('.!?"”’。！？؟…')
_WORDS = re.compile(r"\w+")
_compiled = lru_cache(maxsize=64)(re.compile)


def clean_lines(strings: pa.LargeStringArray, pages: Flags, cleaning: LineCleaning) -> pa.LargeStringArray:
    """The strings, those that are `pages` [strings] without the lines that are not wanted."""
    judged_by_form = cleaning.terminal_punctuation or cleaning.least_words > 0
    suspect = np.full(len(strings), judged_by_form)
    if cleaning.drop and not judged_by_form:
        suspect = matches(strings, "|".join(f"(?:{pattern})" for pattern in cleaning.drop))

    def cleaned(text: str) -> str:
        return "\n".join(line for line in text.split("\n") if not line.strip() or _stays(line, cleaning))

    return rewritten(strings, suspect & pages, cleaned)


def _stays(line: str, cleaning: LineCleaning) -> bool:
    if any(_compiled(pattern).search(line) for pattern in cleaning.drop):
        return False
    if cleaning.terminal_punctuation and not line.rstrip().endswith(_ENDINGS):
        return False
    return len(_WORDS.findall(line)) >= cleaning.least_words
