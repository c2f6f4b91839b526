"""What corpus sources must say, above all those that are read from files, told before anything is read."""

import codecs
import math
import unicodedata
from collections.abc import Iterable
from dataclasses import fields

from k2model.recipe.schema import SourceConfig, SourceFormat
from k2model.recipe.synthesis import SynthesisConfig, job_problem
from k2model.settings import holds_secret, masked

_OF_ALL_SOURCES = ("name", "documents", "context", "location", "job")
_NAME_BYTES = 200  # file systems allow 255
_EFFORTS = ("low", "medium", "high")
_LINED = (SourceFormat.AUTO, SourceFormat.JSONL, SourceFormat.HUGGING_FACE)


def names_problem(sources: Iterable[SourceConfig]) -> str | None:
    """The first two sources whose documents would lie in one folder, or the first name that can be no folder's; None
    when there are none."""
    seen: dict[str, str] = {}
    alike: dict[str, str] = {}  # where a file system knows neither case nor the normal forms of Unicode
    for source in sources:
        folder = source_file(source.name)
        if not folder.strip(".") or not folder.isprintable() or len(folder.encode()) > _NAME_BYTES:
            said = f"corpus.sources: a source is named {source.name[:_NAME_BYTES]!r}, which is no name of a folder"
            return f"{said} (of characters that are seen, at most {_NAME_BYTES} bytes); give it another"
        if folder in seen:
            both = f"'{seen[folder]}' and '{source.name}'"
            said = "are one name" if seen[folder] == source.name else f"share the folder '{folder}' ('/' becomes '-')"
            return f"corpus.sources: the sources {both} {said}, so that the second would never be read; rename one"
        seen[folder] = source.name
        other = alike.setdefault(_unfolded(folder), source.name)
        if other != source.name:
            return (
                f"corpus.sources: the names '{other}' and '{source.name}' differ only in case, in the form of their "
                "accents or by a dot at the end, which some file systems take for one folder; rename one"
            )
    return None


def _unfolded(folder: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", folder).casefold()).rstrip(". ")


def source_file(source: str) -> str:
    """The folder of a source's documents, by its name: `arithmetic/think` -> `arithmetic-think`."""
    return source.replace("/", "-")


def source_problem(source: SourceConfig) -> str | None:
    """The first thing that is wrong with a source's settings, field and remedy named; None when nothing is."""
    where = f"corpus.sources.{source.name}"
    if source.job:
        return _job_problem(source, source.job, where)
    if not source.location:
        return _idle_setting(source, where)
    if problem := secret_problem(f"{where}.location", source.location):
        return problem
    if source.documents:
        return (
            f"{where}.documents={source.documents} caps what the project builds itself; of a source with a location "
            "set sample to a share of its documents"
        )
    if not source.domain:
        return f"{where}.domain is empty; name what the documents are about, e.g. prose, code, mathematics or chat"
    if not source.licence and not source.fields.licence and source.format is not SourceFormat.CODE:
        return f"{where}.licence is empty; set it to an SPDX id or 'unknown', or map fields.licence to a column"
    if not source.fields.text and not source.fields.messages:
        return f"{where}.fields names neither text nor messages; name the column that holds the content"
    if source.effort not in _EFFORTS:
        return f"{where}.effort='{source.effort}' must be one of {', '.join(_EFFORTS)}"
    return _encoding_problem(source, where) or _range_problem(source, where)


def _job_problem(source: SourceConfig, job: SynthesisConfig, where: str) -> str | None:
    if problem := job_problem(job):
        return f"{where}.job: {problem}"
    if source.location:
        return f"{where} has a location and a job; leave one out: documents are read or written"
    if source.documents:
        return f"{where}.documents={source.documents} caps what the project builds itself; set {where}.job.count"
    if source.name != job.source:
        return f"{where}: the documents of job '{job.name}' are of the source '{job.source}'; name the source so"
    address = secret_problem(f"{where}.job.endpoint.base_url", job.endpoint.base_url)
    return address or _idle_setting(source, where)


def secret_problem(field: str, text: str) -> str | None:
    """What is wrong with a text of a recipe that holds a secret: recipes are recorded and released."""
    if not holds_secret(text):
        return None
    return (
        f"{field}='{masked(text)}' holds a user, password, key or signature, which would be recorded and released. "
        "Give credentials by the environment (for s3://: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE), "
        "or copy what lies there to a place that needs none"
    )


def _idle_setting(source: SourceConfig, where: str) -> str | None:
    plain = SourceConfig(source.name)
    for field in fields(source):
        if field.name not in _OF_ALL_SOURCES and getattr(source, field.name) != getattr(plain, field.name):
            return f"{where}.{field.name} has no effect without a location; set {where}.location, or drop it"
    return None


def _encoding_problem(source: SourceConfig, where: str) -> str | None:
    try:
        codecs.lookup(source.encoding)
        line_end = "\n".encode(source.encoding)
    except (LookupError, UnicodeError):
        return f"{where}.encoding='{source.encoding}' is not a text encoding of Python, e.g. utf-8, latin-1, gb18030"
    if source.format in _LINED and line_end != b"\n":
        return f"{where}.encoding='{source.encoding}' has no lines of bytes; convert JSONL to UTF-8, e.g. with iconv"
    return None


def _range_problem(source: SourceConfig, where: str) -> str | None:
    for name in ("heldout", "sample", "max_quarantined"):
        value = getattr(source, name)
        if not (math.isfinite(value) and 0 <= value <= 1):
            return f"{where}.{name}={value} must be a share between 0 and 1"
    if not source.sample or source.heldout == 1:
        return f"{where}: sample={source.sample} and heldout={source.heldout} leave nothing to train on"
    if source.max_row_bytes < 1:
        return f"{where}.max_row_bytes={source.max_row_bytes} must be at least 1"
    return None
