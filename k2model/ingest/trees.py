"""Trees of plain text and of source code: a document is a file, or a paragraph of a text file.

The licence of a source file is what its own header says (an SPDX tag), else what the nearest licence file above it
is, else what the source declares. Only common licences are told apart by their wording. One that is not among them is
`unknown`, never what the source declares: a licence file that nobody has read grants nothing.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from k2model.ingest.batch import BATCH_BYTES, Batch, Reason, Reject, cut, strings
from k2model.ingest.inputs import FileSlice, language
from k2model.ingest.recognise import HEAD_BYTES, recognised, stand_in
from k2model.ingest.storage import SourceFiles
from k2model.recipe.schema import SourceConfig, SourceFormat, TextUnit

UNKNOWN_LICENCE = "unknown"
READERS = 16  # requests at once to an object store
LICENCE_BYTES = 40_000  # of a licence file that are read
HEADER_CHARACTERS = 4_000  # in which a licence tag is looked for
_BINARY_BYTES = 8_192  # in which a zero byte tells that a file is no text
_BLANK_LINES = re.compile(r"\r?\n(?:[ \t]*\r?\n)+")
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+()\- ]*[A-Za-z0-9.+)])")
#: Licence -> words that its text has, tried in order; the first whose words all occur is it.
LICENCE_WORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1-only", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("BSL-1.0", ("boost software license",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
    ("MIT", ("permission is hereby granted, free of charge",)),
    ("Unlicense", ("this is free and unencumbered software",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
)


def licence_of_header(text: str) -> str:
    """The SPDX expression that a source file's header names; "" when it names none."""
    found = _SPDX.search(text, 0, HEADER_CHARACTERS)
    return found.group(1) if found else ""


def licence_of_text(text: str) -> str:
    """The SPDX id of a licence by its wording; "" when it is none of `LICENCE_WORDINGS`."""
    if header := licence_of_header(text):
        return header
    words = " ".join(text.lower().split())
    return next((name for name, wording in LICENCE_WORDINGS if all(part in words for part in wording)), "")


def read_tree(source: SourceConfig, files: SourceFiles, slices: Sequence[FileSlice]) -> Iterator[Batch]:
    """The documents of text or source files in order, in batches of about `BATCH_BYTES` of text."""
    held = _Held()
    for piece, raw in _contents(source, files, slices):
        if found := recognised(piece.path, raw[:HEAD_BYTES], piece.format):
            yield stand_in(piece, found, raw[:HEAD_BYTES])
            continue
        text, reject = _decoded(source, piece, raw)
        if reject:
            held.reject(reject, piece)
        elif source.unit is TextUnit.PARAGRAPH and piece.format == SourceFormat.TEXT.value:
            paragraphs = (part.strip("\r\n") for part in _BLANK_LINES.split(text) if part.strip())
            for number, paragraph in enumerate(paragraphs, 1):
                held.add(f"{piece.path}#{number}", paragraph, piece, "")
        else:
            held.add(piece.path, text, piece, licence_of_header(text))
        if held.size > BATCH_BYTES:
            yield held.batch()
            held = _Held()
    yield held.batch()


class _Held:
    """Documents until they are a batch."""

    def __init__(self) -> None:
        self.size = 0
        self._rejects: list[Reject] = []
        self._lost = 0
        self._places: list[str] = []
        self._texts: list[str] = []
        self._licences: list[str | None] = []
        self._languages: list[str | None] = []

    def add(self, place: str, text: str, piece: FileSlice, header: str) -> None:
        self.size += len(text)
        self._places.append(place)
        self._texts.append(text)
        code = piece.format == SourceFormat.CODE.value
        self._licences.append((header or piece.licence or None) if code else None)
        self._languages.append((language(piece.path) or None) if code else None)

    def reject(self, reject: Reject, piece: FileSlice) -> None:
        self._rejects.append(reject)
        self._lost += piece.bytes

    def batch(self) -> Batch:
        extras = {"licence": strings(self._licences)}
        if any(self._languages):
            extras["language"] = strings(self._languages)
        return Batch(strings(self._places), strings(self._texts), None, extras, self._rejects, self._lost)


def _contents(
    source: SourceConfig, files: SourceFiles, slices: Sequence[FileSlice]
) -> Iterator[tuple[FileSlice, bytes]]:
    """Each file with its bytes, at most one above `max_row_bytes`; from an object store several at once."""
    pieces = iter(slices)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(pieces, READERS if files.remote else 1)):
            yield from zip(some, pool.map(lambda piece: _read(source, files, piece), some), strict=True)


def _read(source: SourceConfig, files: SourceFiles, piece: FileSlice) -> bytes:
    raw = files.read(piece.path, source.max_row_bytes + 1)
    files.check(piece.listed)
    return raw


def _decoded(source: SourceConfig, piece: FileSlice, raw: bytes) -> tuple[str, Reject | None]:
    """The text of a file, or why it is quarantined."""
    if len(raw) > source.max_row_bytes:
        detail = f"{piece.size} bytes, max_row_bytes is {source.max_row_bytes}"
        return "", Reject(piece.path, 0, Reason.OVER_LONG, detail, cut(raw))
    try:
        text = raw.decode(source.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if b"\0" in raw[:_BINARY_BYTES]:
            return "", Reject(piece.path, 0, Reason.BINARY, "the file holds zero bytes, so it is no text", cut(raw))
        detail = f"byte {error.start} of the file (0x{raw[error.start]:02x}) is not {source.encoding}"
        return "", Reject(piece.path, 0, Reason.ENCODING, detail, cut(raw))
    if "\0" in text[:_BINARY_BYTES]:
        return "", Reject(piece.path, 0, Reason.BINARY, "the file holds zero bytes, so it is no text", cut(raw))
    if not text.strip():
        return "", Reject(piece.path, 0, Reason.EMPTY_FIELD, "the file is empty")
    return text, None
