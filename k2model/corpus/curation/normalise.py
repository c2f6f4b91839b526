"""One form for each text: Unicode NFC, `\\n` line ends, no control characters; tidy white space for natural pages.

Most texts have that form already, which one regular expression over the batch tells; the others are rewritten
one by one.
"""

import re
import unicodedata
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.corpus.curation.quality import matches
from k2model.corpus.curation.texts import Flags

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
    replacements = pa.array(made, type=pa.large_string())
    return pc.replace_with_mask(strings, pa.array(chosen), replacements)
