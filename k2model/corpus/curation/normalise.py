"""One form for each text: Unicode NFC, `\\n` line ends, no control characters, tidy white space."""

import re
import unicodedata

from k2model.corpus.documents import Document
from k2model.corpus.markup import Segment, joined

# C0 and C1 controls but tab and line feed; lone surrogates; byte order mark and zero-width characters
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u200b-\u200d\u2060]")
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\U0010ffff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")


def is_clean(text: str) -> bool:
    """Whether `clean_characters` surely leaves the text as it is (plain ASCII without controls)."""
    return _SUSPECT.search(text) is None


def clean_characters(text: str) -> str:
    """NFC, line feeds, no control characters. Never touches spaces: generated answers start with one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", unicodedata.normalize("NFC", text))


def clean_page(text: str) -> str:
    """`clean_characters`, and for natural text no trailing blanks and at most two blank lines in a row."""
    text = _TRAILING.sub("", clean_characters(text))
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def normalise(document: Document, natural: bool) -> Document:
    """The document in its one form; special tokens are never touched."""
    clean = clean_page if natural else clean_characters
    segments: list[Segment] = [
        segment if segment["kind"] == "special" else {**segment, "text": clean(segment["text"])}
        for segment in document["segments"]
    ]
    return {**document, "segments": segments, "text": joined(segments)}
