"""What a source is said to hold, compared with what is there before a row is read: shards that are numbered
`00003-of-00008`, lists of files and their checksums beside the data, the index of a MosaicML dataset.

A download that broke off leaves whole files behind, and nothing inside them tells that others are missing. Such a
source is an error. Whoever means a part of it names that part by a glob, or sets `max_quarantined` to 1, with which
whatever is there is taken. Rows that are stated are compared when all are read, by the same share as quarantined ones.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from k2model.errors import CorpusError
from k2model.ingest.names import format_of
from k2model.ingest.storage import Entry, SourceFiles, reading
from k2model.recipe.schema import SourceConfig

INDEX = "index.json"  # of MosaicML Streaming
_LIST_BYTES = 64_000_000
_SHOWN = 5
_NUMBERED = re.compile(r"^(.*?)(\d+)([-_]of[-_])(\d+)(.*)$")
_LIST = re.compile(
    r"(?:(?:sha\d+|md5|b2)[-_]?sums?|checksums?|manifest|file[-_]?list|files)(?:\.(?:txt|sha\d+|md5|lst))?",
    re.IGNORECASE,
)
_LINE = re.compile(r"(?:\\?(?P<digest>[0-9a-fA-F]{32,128})\s+\*?)?(?P<path>\S.*)")
_BSD_LINE = re.compile(r"[\w-]+ \((?P<path>.+)\) = (?P<digest>[0-9a-fA-F]{32,128})")
_DIGESTS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}


class Listed(NamedTuple):
    """A file that a list names: relative to the source's root; `digest` in hexadecimal, "" when none is stated."""

    path: str
    digest: str


def check_numbering(source: SourceConfig, files: SourceFiles, paths: Sequence[str]) -> None:
    """Raises `CorpusError` when of files named `...-00003-of-00008...` some are not among `paths`."""
    series: dict[tuple[str, ...], dict[int, int]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if found := _NUMBERED.match(name):
            before, number, between, total, behind = found.groups()
            series.setdefault((folder, before, between, total, behind), {})[int(number)] = len(number)
    takes = files.taking()
    for (folder, before, between, total, behind), numbers in series.items():
        # Counted from 0, as Hugging Face, TensorFlow and Beam do, or from 1.
        first = 1 if int(total) in numbers and 0 not in numbers else 0
        width = next(iter(numbers.values()))
        lost = [n for n in range(first, first + min(int(total), 10**7)) if n not in numbers]
        names = (f"{before}{n:0{width}d}{between}{total}{behind}" for n in lost)
        missing = [path for name in names if takes(path := f"{folder}/{name}" if folder else name)]
        _refuse_missing(source, missing, f"its files are numbered to {int(total)}")


def check_lists(source: SourceConfig, files: SourceFiles, entries: Sequence[Entry], digests: Mapping[str, str]) -> None:
    """Raises `CorpusError` when a list beside the data names files that are not there, or whose content differs.

    digests: what is known of the source's files, `sha256:<hex>` or another tag, by path. Checksums are compared on a
    disk; of an object store's files only the names are.
    """
    there, takes = {entry.path for entry in entries}, files.taking()
    for entry in entries:
        if _LIST.fullmatch(entry.path.rpartition("/")[2]) and entry.path not in digests:
            named = list(_listed(files, entry))
            if not any(one.path in there for one in named):
                continue  # of something else
            kinds = {format_of(path) for path in digests}
            missing = [
                one.path for one in named if one.path not in there and format_of(one.path) in kinds and takes(one.path)
            ]
            _refuse_missing(source, missing, f"{entry.path} lists {len(named)} files")
            if not files.remote:
                _refuse_changed(source, files, entry.path, [one for one in named if one.path in digests], digests)


def stated_rows(
    source: SourceConfig, files: SourceFiles, entries: Sequence[Entry], paths: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """(Path of a MosaicML index, rows that it states) for each that is beside files of the source.

    Raises `CorpusError` when a shard that it lists is not there, or of another size.
    """
    sizes, takes = {entry.path: entry.size for entry in entries}, files.taking()
    for path in (path for path in sizes if path.rpartition("/")[2] == INDEX):
        shards = _shards(files, path)
        folder = path.removesuffix(INDEX)
        rows, missing = 0, []
        for shard in shards:
            stored = [shard[kind] for kind in ("raw_data", "zip_data") if isinstance(shard.get(kind), dict)]
            names = [(f"{folder}{one.get('basename')}", one.get("bytes")) for one in stored]
            if not any(name in sizes for name, _ in names):
                missing += [name for name, _ in names[:1] if takes(name)]
                continue
            wrong = next(((n, size) for n, size in names if n in sizes and size not in (None, sizes[n])), None)
            if wrong and source.max_quarantined < 1:
                raise CorpusError(
                    f"corpus.sources.{source.name}: {wrong[0]} has {sizes[wrong[0]]:,} bytes, {path} states "
                    f"{wrong[1]:,}. Fetch it again"
                )
            rows += shard["samples"] if any(name in paths for name, _ in names) else 0
        _refuse_missing(source, missing, f"{path} lists {len(shards)} shards")
        if rows:
            yield path, rows


def is_index(files: SourceFiles, path: str) -> bool:
    """Whether a file is the index of a MosaicML dataset rather than data."""
    return path.rpartition("/")[2] == INDEX and bool(_shards(files, path))


def _shards(files: SourceFiles, path: str) -> list[dict[str, Any]]:
    """The shards of an index; none when the file is none."""
    try:
        content = json.loads(files.read(path, _LIST_BYTES))
    except (ValueError, RecursionError):
        return []
    shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(shards, list):
        return []
    return [shard for shard in shards if isinstance(shard, dict) and isinstance(shard.get("samples"), int)]


def _listed(files: SourceFiles, entry: Entry) -> Iterator[Listed]:
    """The files a list names; a URL counts by its last part."""
    folder = PurePosixPath(entry.path).parent
    for line in files.read(entry.path, _LIST_BYTES).decode("utf-8", "replace").splitlines():
        found = _BSD_LINE.fullmatch(line.strip()) or _LINE.fullmatch(line.strip())
        if found and not line.startswith("#"):
            path, digest = found["path"].split("\t")[0].strip(), (found["digest"] or "").lower()
            path = PurePosixPath(urlsplit(path).path).name if "://" in path else path.removeprefix("./")
            yield Listed(str(folder / path), digest)


def _refuse_missing(source: SourceConfig, missing: Sequence[str], said: str) -> None:
    if missing and source.max_quarantined < 1:
        raise CorpusError(
            f"corpus.sources.{source.name}: {said}, of which {len(missing)} are not there "
            f"({', '.join(missing[:_SHOWN])}{', ...' if len(missing) > _SHOWN else ''}). Fetch the rest; or, if a part "
            f"is meant, make the location a glob of it, or set corpus.sources.{source.name}.max_quarantined=1"
        )


def _refuse_changed(
    source: SourceConfig, files: SourceFiles, path: str, listed: Sequence[Listed], digests: Mapping[str, str]
) -> None:
    changed = [one.path for one in listed if one.digest and not _has_digest(files, one, digests[one.path])]
    if changed and source.max_quarantined < 1:
        raise CorpusError(
            f"corpus.sources.{source.name}: {len(changed)} files differ from their checksums in {path} "
            f"({', '.join(changed[:_SHOWN])}). Fetch them again, or mend the list if the change is meant"
        )


def _has_digest(files: SourceFiles, listed: Listed, known: str) -> bool:
    """Whether a file has the digest that is stated; one of unknown length is taken for none."""
    kind = _DIGESTS.get(len(listed.digest))
    if kind is None or known == f"{kind}:{listed.digest}":
        return True
    if known.startswith(f"{kind}:"):
        return False
    with reading(files.full(listed.path)), open(files.full(listed.path), "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == listed.digest
