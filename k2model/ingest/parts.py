"""A source divided into parts that can be read on their own, by any number of workers.

Parts are a function of the inputs and the wanted size alone. A row belongs to exactly one part: a JSONL file is cut at
byte positions and a row goes with the part in which its first byte lies; Parquet and Arrow are cut between row
groups or record batches. Compressed JSONL, JSONL in another encoding, Arrow streams on an object store and text are
not cut. Small files are put together until a part is full. So that rows keep their numbers in the whole file, a plain
JSONL file above the wanted size is read once here, for its line ends alone.

A mapped field that is not there is told before any work is done: a mistyped name would otherwise quarantine a whole
source row by row, or leave a licence empty without a word.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from k2model.errors import CorpusError
from k2model.ingest import columnar
from k2model.ingest.batch import absent, content_field, mapped_fields
from k2model.ingest.columns import check_unique, dotted_names
from k2model.ingest.inputs import LICENCE, MANIFEST, FileSlice, InputFile, InputPart
from k2model.ingest.lines import first_lines
from k2model.ingest.names import compression
from k2model.ingest.recognise import HEAD_BYTES, by_name, recognised
from k2model.ingest.storage import SourceFiles, open_source
from k2model.ingest.trees import LICENCE_BYTES, UNKNOWN_LICENCE, licence_of_text
from k2model.recipe.schema import SourceConfig, SourceFormat

MAX_FILES = 10_000  # in a part, which travels between tasks as JSON
COUNT_BYTES = 4_000_000  # read at once for line ends
COUNTING_THREADS = 8  # an object store answers several requests faster than one


def check_fields(source: SourceConfig, files: SourceFiles, inputs: Sequence[InputFile]) -> None:
    """Raises `CorpusError` when a mapped field is in no row at the beginning of the first input that has any.

    The message names the fields there are. Several columns of a mapped name are an error, too; inputs that cannot be
    read are left to the quarantine.
    """
    for file in inputs:
        if names := _names(source, files, file):
            for field, name in {"text": content_field(source.fields), **mapped_fields(source.fields)}.items():
                if name not in names:
                    field = "messages" if field == "text" and source.fields.messages else field
                    raise CorpusError(f"corpus.sources.{source.name}.fields.{field}: {absent(name, names, file.path)}")
            return


def _names(source: SourceConfig, files: SourceFiles, file: InputFile) -> set[str]:
    """The fields at the beginning of an input of rows; none when it cannot be read."""
    if by_name(file.path):
        return set()
    if file.format in (SourceFormat.PARQUET.value, SourceFormat.ARROW.value):
        schema = columnar.schema_of(files, file.path, file.format)
        if schema is None:
            return set()
        check_unique(source, file.path, schema)
        return set(dotted_names(schema))
    if file.format == SourceFormat.JSONL.value:
        return {name for row in first_lines(files, file.path, source) for name in _dotted(row)}
    return set()


def _dotted(row: Mapping[str, Any], above: str = "") -> Iterable[str]:
    for name, value in row.items():
        yield above + name
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")


def split_inputs(source: SourceConfig, inputs: Sequence[InputFile], part_bytes: int) -> tuple[InputPart, ...]:
    """The parts of about `part_bytes` bytes of input (as stored) each, in the order of the inputs.

    Raises `CorpusError` when a mapped field is not in the first input, before any work is done.
    """
    if part_bytes < 1:
        raise CorpusError(f"corpus.sources.{source.name}: parts of {part_bytes} bytes; expected at least 1")
    files = open_source(source.location)
    check_fields(source, files, inputs)
    licences = _licences(files, inputs)
    slices = (
        replace(piece, licence=_nearest(licences, file.path))
        for file in inputs
        if file.format not in (LICENCE, MANIFEST)
        for piece in _slices(source, files, file, part_bytes)
    )
    stated = sum(file.size for file in inputs if file.format == MANIFEST)
    groups = enumerate(_grouped(slices, part_bytes))
    return tuple(InputPart(index, group, 0 if index else stated) for index, group in groups)


def _slices(source: SourceConfig, files: SourceFiles, file: InputFile, part_bytes: int) -> list[FileSlice]:
    whole = FileSlice(file.path, file.format, file.size, file.tag, file.size)
    if file.size <= part_bytes or by_name(file.path):
        return [whole]
    if file.format in (SourceFormat.PARQUET.value, SourceFormat.ARROW.value):
        return _columnar(files, whole, part_bytes)
    plain = not compression(file.path) and source.encoding.lower() in ("utf-8", "utf8")
    if file.format != SourceFormat.JSONL.value or not plain:
        return [whole]
    # What is no JSONL has no lines to be cut at, and is told whole.
    foreign = recognised(file.path, files.read(file.path, HEAD_BYTES), file.format)
    return [whole] if foreign else _byte_ranges(files, whole, part_bytes)


def _columnar(files: SourceFiles, whole: FileSlice, part_bytes: int) -> list[FileSlice]:
    """Runs of row groups or batches, each of at most `part_bytes` unless one alone is more."""
    made, rows_before = list[FileSlice](), 0
    for index, (rows, size) in enumerate(columnar.pieces(files, whole.path, whole.format)):
        if made and made[-1].bytes + size <= part_bytes:
            made[-1] = replace(made[-1], end=index + 1, bytes=made[-1].bytes + size)
        else:
            made.append(replace(whole, start=index, end=index + 1, bytes=size, rows_before=rows_before))
        rows_before += rows
    return made or [whole]


def _byte_ranges(files: SourceFiles, whole: FileSlice, part_bytes: int) -> list[FileSlice]:
    ranges = list(pairwise([*range(0, whole.size, part_bytes), whole.size]))
    with ThreadPoolExecutor(COUNTING_THREADS if files.remote else 1) as pool:
        # A row starts behind a line end, so those in front of a border are counted up to the byte before it.
        counts = list(pool.map(lambda r: _line_ends(files, whole.path, max(0, r[0] - 1), r[1] - 1), ranges))
    rows_before = [0, *(1 + ends for ends in accumulate(counts[:-1]))]
    return [
        replace(whole, start=start, end=end, bytes=end - start, rows_before=before)
        for (start, end), before in zip(ranges, rows_before, strict=True)
    ]


def _line_ends(files: SourceFiles, path: str, start: int, end: int) -> int:
    found = 0
    with files.open(path) as file:
        file.seek(start)
        while start < end and (chunk := file.read(min(COUNT_BYTES, end - start))):
            found += chunk.count(b"\n")
            start += len(chunk)
    return found


def _grouped(slices: Iterable[FileSlice], part_bytes: int) -> Iterator[tuple[FileSlice, ...]]:
    group: list[FileSlice] = []
    size = 0
    for piece in slices:
        if group and (size + piece.bytes > part_bytes or len(group) == MAX_FILES):
            yield tuple(group)
            group, size = [], 0
        group.append(piece)
        size += piece.bytes
    if group:
        yield tuple(group)


def _licences(files: SourceFiles, inputs: Sequence[InputFile]) -> dict[str, str]:
    """Folder -> licence by the wording of its first licence file; `unknown` when nobody knows the wording."""
    found: dict[str, str] = {}
    for file in inputs:
        folder = file.path.rpartition("/")[0]
        if file.format == LICENCE and folder not in found:
            text = files.read(file.path, LICENCE_BYTES).decode("utf-8", "replace")
            found[folder] = licence_of_text(text) or UNKNOWN_LICENCE
    return found


def _nearest(licences: Mapping[str, str], path: str) -> str:
    """The licence of the nearest folder above `path` that has one."""
    while path:
        path = path.rpartition("/")[0]
        if path in licences:
            return licences[path]
    return ""
