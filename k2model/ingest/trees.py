"""Trees of plain text and of source code: a document is a file, or a paragraph of a text file.

The licence of a source file is what its own header says (an SPDX tag), else what the nearest licence file above it
is, else what the source declares. Only common licences are told apart by their wording. One that is not among them is
`unknown`, never what the source declares: a licence file that nobody has read grants nothing.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from k2model.ingest.batch import BATCH_BYTES, Batch, Reason, Reject, cut, strings
from k2model.ingest.inputs import FileSlice
from k2model.ingest.names import language
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


class _Row(NamedTuple):
    """A document, its place and what it says of itself."""

    place: str
    text: str
    licence: str | None = None
    language: str | None = None


def read_tree(source: SourceConfig, files: SourceFiles, slices: Sequence[FileSlice]) -> Iterator[Batch]:
    """The documents of text or source files in order, in batches of about `BATCH_BYTES` of text."""
    held, rejects, size, lost, read = list[_Row](), list[Reject](), 0, 0, 0
    for piece, raw in _contents(source, files, slices):
        if found := recognised(piece.path, raw[:HEAD_BYTES], piece.format):
            yield stand_in(piece, found, raw[:HEAD_BYTES])
            continue
        text, reject = _decoded(source, piece, raw)
        before = len(held)
        read += 1
        if reject:
            rejects.append(reject)
            lost += piece.bytes
        elif piece.format == SourceFormat.CODE.value:
            licence = licence_of_header(text) or piece.licence or None
            held.append(_Row(piece.path, text, licence, language(piece.path) or None))
        elif source.unit is TextUnit.PARAGRAPH:
            paragraphs = (part.strip("\r\n") for part in _BLANK_LINES.split(text) if part.strip())
            held += [_Row(f"{piece.path}#{number}", own) for number, own in enumerate(paragraphs, 1)]
            read += sum(not part.isspace() for part in _BLANK_LINES.split(text) if part) - 1
        else:
            held.append(_Row(piece.path, text))
        size += sum(len(row.text) for row in held[before:])
        if size > BATCH_BYTES:
            yield _batch(held, rejects, lost, read)
            held, rejects, size, lost, read = [], [], 0, 0, 0
    yield _batch(held, rejects, lost, read)


def _batch(held: list[_Row], rejects: list[Reject], lost: int, read: int) -> Batch:
    places, texts, licences, languages = ([row[column] for row in held] for column in range(4))
    extras = {"licence": strings(licences)}
    if any(languages):
        extras["language"] = strings(languages)
    return Batch(strings(places), strings(texts), None, extras, rejects, lost, read=read)


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
    reason, detail, text = Reason.BINARY, "the file holds zero bytes, so it is no text", "\0"
    if len(raw) > source.max_row_bytes:
        reason, detail = Reason.OVER_LONG, f"{piece.size} bytes, max_row_bytes is {source.max_row_bytes}"
    else:
        try:
            text = raw.decode(source.encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                reason = Reason.ENCODING
                detail = f"the file is UTF-16 by its byte order mark, not {source.encoding}; set encoding=utf-16"
            elif b"\0" not in raw[:_BINARY_BYTES]:
                reason = Reason.ENCODING
                detail = f"byte {error.start} of the file (0x{raw[error.start]:02x}) is not {source.encoding}"
    if "\0" in text[:_BINARY_BYTES]:
        return "", Reject(piece.path, 0, reason, detail, cut(raw))
    if not text.strip():
        return "", Reject(piece.path, 0, Reason.EMPTY_FIELD, "the file is empty")
    return text, None
