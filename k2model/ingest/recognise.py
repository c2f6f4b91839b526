"""What a file really is, by its first bytes: stand-ins and other formats under a data file's name.

Half a dataset is often lost without a broken byte: pointers of a large-file store that were never resolved, error
pages that a download saved under the file's name, archives nobody unpacked. Each is named, with what to do about it.
Formats with a structure of their own are asked about only when they cannot be read; JSON lines and text take anything.
"""

import re
from typing import NamedTuple

from k2model.ingest.batch import Batch, Reason, Reject, cut, no_rows
from k2model.ingest.inputs import FileSlice
from k2model.ingest.names import COMPRESSED, compression, packed, suffix_of, unfinished
from k2model.recipe.schema import SourceFormat

HEAD_BYTES = 4_096
_NAMES = {
    "jsonl": "JSON lines", "parquet": "Parquet", "arrow": "Arrow IPC", "text": "text", "code": "source code",
    "gzip": "gzip", "zstd": "Zstandard", "bz2": "bzip2", "xz": "xz",
}  # fmt: skip
_SUFFIXES = {kind: suffix for suffix, kind in COMPRESSED.items()}
_AGAIN = "fetch or write it again"
_UNPACK, _DECOMPRESS, _CONVERT = "unpack it", "decompress it", "convert it"
#: (offset, first bytes, the format they tell, its name, what to do); those of letters alone count in no text.
_SIGNATURES: tuple[tuple[int, bytes, str, str, str], ...] = (
    (0, b"PK\x03\x04", "zip", "a ZIP archive", _UNPACK),
    (0, b"PK\x05\x06", "zip", "an empty ZIP archive", _AGAIN),
    (257, b"ustar", "tar", "a tar archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "rar", "a RAR archive", _UNPACK),
    (0, b"\x1f\x8b", "gzip", "a gzip stream", _DECOMPRESS),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "a Zstandard stream", _DECOMPRESS),
    (0, b"BZh", "bz2", "a bzip2 stream", _DECOMPRESS),
    (0, b"\xfd7zXZ\0", "xz", "an xz stream", _DECOMPRESS),
    (0, b"\x04\x22\x4d\x18", "lz4", "an LZ4 stream", _DECOMPRESS),
    (0, b"PAR1", "parquet", "a Parquet file", "let its name end in .parquet"),
    (0, b"ARROW1", "arrow", "an Arrow file", "let its name end in .arrow"),
    (0, b"FEA1", "feather", "a Feather file of version 1", _CONVERT),
    (0, b"ORC", "orc", "an ORC file", _CONVERT),
    (0, b"Obj\x01", "avro", "an Avro file", _CONVERT),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file", _CONVERT),
    (0, b"\x93NUMPY", "numpy", "a NumPy file", _CONVERT),
    (0, b"SQLite format 3\0", "sqlite", "a SQLite database", _CONVERT),
    (0, b"%PDF-", "pdf", "a PDF file", _CONVERT),
)
#: What a pointer begins with, the size it states, whose it is, and the command that gets the data.
_POINTERS = tuple(
    (re.compile(begins), re.compile(size, re.MULTILINE), store, command)
    for begins, size, store, command in (
        (
            rb"version https?://[\w.-]+/spec/v\d+\s+(?:ext-.*\s+)*oid \w+:",
            rb"^size (\d{1,18})\r?$",
            "Git LFS",
            "git lfs pull",
        ),
        (rb"# xet version \d+\s", rb"^filesize = (\d{1,18})\r?$", "Git Xet", "git xet pull"),
        (rb"(?:\.\./)*/?(?:\.git/)?annex/objects/\S+\s*$", rb"-s(\d{1,18})-", "git-annex", "git annex get ."),
    )
)
_POINTER_BYTES = 1_024  # no pointer is longer
_PAGE = re.compile(
    rb"(?:\s|<!--.*?-->|<\?xml[^>]*\?>)*<(?:!doctype\s+html|html|head|body|title)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title", re.IGNORECASE | re.DOTALL)
_ANSWER = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error>.*?<Code>\s*(\w+)", re.DOTALL)
#: What a server says in place of a file: the title of its page, or all that it sent.
_REFUSAL = re.compile(
    r"(?:(?:http |error )*[45]\d\d\b[\s:.–-]*)?"
    r"(?:(?:page |file |entry |repository )?not found|forbidden|access ?denied|unauthorized|bad (?:request|gateway)|"
    r"(?:service|site) (?:temporarily )?unavailable|gateway time-?out|internal server error|too many requests|"
    r"rate limit exceeded|just a moment|attention required|invalid username or password|"
    r"access to (?:dataset|model) \S+ is restricted)(?:\s*[|–—:.!-].*)?",
    re.IGNORECASE | re.DOTALL,
)
_ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")
_OVER_LINES = re.compile(rb"\s*\{[ \t]*\r?\n\s*(?:\"|\})")  # an object that does not end on its line
_CARRIAGE_RETURNS = re.compile(rb"[^\r\n]*\r(?!\n)[^\n]*")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{", b"[\0", b"\0[")
#: Keys of an object of which all others are such, too, when a server answers.
_ANSWER_KEYS = frozenset(
    ("error", "errors", "error_description", "detail", "details", "message", "msg", "status", "status_code", "code",
     "title", "type", "documentation_url", "request_id", "requestId", "timestamp", "path", "success", "reason")
)  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_REFUSAL_BYTES = 200  # of an answer without markup
_PAGES = (".html", ".htm", ".php", ".vue")  # source code in which a page is no surprise


class Finding(NamedTuple):
    """`absent_bytes` are those that a pointer stands for, beyond its own."""

    reason: Reason
    detail: str
    absent_bytes: int = 0


def by_name(path: str) -> Finding | None:
    """What a file's name says of it that makes its content useless."""
    if not unfinished(path):
        return None
    remedy = f"{_AGAIN} under its own name, or remove it"
    return Finding(Reason.UNFINISHED, f"the file's name says that whoever wrote it was not done; {remedy}")


def recognised(path: str, head: bytes, expected: str, content: str = "") -> Finding | None:
    """What the file `path` holds in place of `expected`; None when nothing else is known of it.

    head: its first `HEAD_BYTES` (all of a shorter file), decompressed where the file is read so. expected: a value of
    `SourceFormat`, or the compression that the file's name promises. content: the field that holds a row's content; an
    object that has it is no answer of a server.
    """
    tree = expected in (SourceFormat.TEXT.value, SourceFormat.CODE.value)
    if found := by_name(path):
        return found
    if not head:
        # An empty source file (a package's __init__.py) is no accident.
        empty = Finding(Reason.EMPTY_FILE, f"the file holds no bytes; {_AGAIN}, or remove it")
        return None if expected == SourceFormat.CODE.value else empty
    if not tree and not head.strip(b"\0"):
        return Finding(Reason.EMPTY_FILE, f"the file begins with {len(head):,} zero bytes, never written to; {_AGAIN}")
    head = head.removeprefix(b"\xef\xbb\xbf")
    if expected == SourceFormat.JSONL.value and head.startswith(_UTF_16):
        return _wrong("text in UTF-16", expected, "convert it to UTF-8 (`iconv -f UTF-16 -t UTF-8`)")
    text = _is_text(head)
    found = _pointer(head) or _signature(path, head, expected, text) or _answer(path, head, tree, content)
    if not found and expected == SourceFormat.JSONL.value:
        found = _not_lines(head)
    if not found and packed(path):
        return _wrong(f"compressed or packed as {suffix_of(path)}", expected, "unpack it")
    if found or not text or tree or expected == SourceFormat.JSONL.value:
        return found
    suffix = _SUFFIXES.get(expected)
    remedy = f"take {suffix} off its name" if suffix else "let its name end in that of its format, such as .jsonl"
    return _wrong(f"text that begins {head[:40].decode('utf-8', 'replace')!r}", expected, remedy)


def stand_in(piece: FileSlice, found: Finding, head: bytes) -> Batch:
    """The one reject that a file is which holds something else."""
    shown = cut(head) if _is_text(head) else ""
    return no_rows(Reject(piece.path, 0, found.reason, found.detail, shown), piece.bytes, found.absent_bytes)


def _pointer(head: bytes) -> Finding | None:
    if len(head) > _POINTER_BYTES:
        return None
    for pattern, size, store, command in _POINTERS:
        if pattern.match(head):
            stated = size.search(head)
            whole = int(stated.group(1)) if stated else 0
            of = f" to {whole:,} bytes" if stated else ""
            detail = (
                f"the file is a {store} pointer{of}, not the data; run `{command}` in its clone, or download the file"
            )
            return Finding(Reason.POINTER, detail, max(0, whole - len(head)))
    return None


def _not_lines(head: bytes) -> Finding | None:
    """JSON that is not one object a line."""
    expected = SourceFormat.JSONL.value
    if _ARRAY.match(head):
        return _wrong("one JSON array", expected, "write each of its objects on a line of its own (`jq -c '.[]'`)")
    if _OVER_LINES.match(head):
        return _wrong("JSON of objects over several lines", expected, "write each on one line (`jq -c .`)")
    if head.startswith(b"{") and _CARRIAGE_RETURNS.fullmatch(head) and b"}\r{" in head:
        return _wrong("text whose lines end in carriage returns", expected, "convert it (`tr '\\r' '\\n'`)")
    return None


def _signature(path: str, head: bytes, expected: str, text: bool) -> Finding | None:
    for offset, first, kind, name, remedy in _SIGNATURES:
        if (
            head[offset:].startswith(first)
            and kind != expected
            and not (text and first.decode("latin-1").isprintable())
        ):
            if kind == "zip" and len(head) > 6 and head[6] & 1:
                name = "a ZIP archive under a password"
            if kind in _SUFFIXES and expected == SourceFormat.JSONL.value:
                remedy = f"{_DECOMPRESS} once" if compression(path) else f"let its name end in .jsonl{_SUFFIXES[kind]}"
            return _wrong(name, expected, remedy)
    return None


def _answer(path: str, head: bytes, tree: bool, content: str) -> Finding | None:
    """What a server said in place of the file. Text and code may be pages themselves: there only a refusal counts."""
    said = ""
    if code := _ANSWER.match(head):
        said = f"the answer of a server ({code.group(1).decode()})"
    elif _PAGE.match(head):
        found = _TITLE.search(head)
        title = " ".join(found.group(1).decode("utf-8", "replace").split())[:80] if found else ""
        if not tree or (_REFUSAL.fullmatch(title) and not path.lower().endswith(_PAGES)):
            said = "a web page" + (f" ('{title}')" if title else "")
    elif not tree and (answer := _json_answer(head, content)):
        said = f"the answer of a server ('{answer}')"
    elif len(head) <= _REFUSAL_BYTES:
        words = " ".join(head.decode("utf-8", "replace").split())
        said = f"the answer of a server ('{words[:80]}')" if _REFUSAL.fullmatch(words) else ""
    if not said:
        return None
    remedy = "check its address and your access, and fetch it again"
    return Finding(Reason.ERROR_PAGE, f"the file is {said}, saved in place of the data; {remedy}")


def _json_answer(head: bytes, field: str) -> str:
    """What a server says in a JSON object that is all of a file; "" when it is none."""
    import orjson

    if not head.startswith(b"{") or len(head) >= HEAD_BYTES:
        return ""
    try:
        content = orjson.loads(head)
    except orjson.JSONDecodeError:
        return ""
    keys = content.keys()
    told = next((key for key in ("error", "message", "detail", "errors") if key in keys), None)
    if told is None or field in keys or not keys <= _ANSWER_KEYS:
        return ""
    said = content[told]
    return str(said.get("message") or said if isinstance(said, dict) else said)[:80]


def _wrong(name: str, expected: str, remedy: str) -> Finding:
    return Finding(Reason.WRONG_FORMAT, f"the file is {name}, not {_NAMES[expected]}; {remedy}, or {_AGAIN}")


def _is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8, as far as they go, without control characters of binary formats."""
    if _CONTROL.search(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return "unexpected end" in error.reason
    return True
