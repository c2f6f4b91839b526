"""Evaluation items as decontamination sees them: the registered ones of a corpus, and files of further benchmarks.

A further file is JSONL or Parquet with a prompt and an answer a row (fields named in `DecontaminationConfig`; a missing
answer counts as empty); its family is its name without ending. Rows may have an `id`, else their number serves.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import read_items
from k2model.corpus.errors import CorpusError
from k2model.recipe.curation import DecontaminationConfig

#: Families made of natural words; the others' prompts are formulas, matched by key.
WORDED = ("facts_seen", "facts_heldout", "facts_chat_seen", "facts_chat_heldout", "code", "retrieval")


class ItemFile(NamedTuple):
    """A file of further items (a path or URI) and the sha256 of what is in it."""

    path: str
    digest: str

    @property
    def family(self) -> str:
        return PurePosixPath(self.path).stem


class EvaluationItem(NamedTuple):
    """`holds_out`: documents with it leave training. Items of trained wordings hold nothing out, they are counted."""

    family: str
    id: str
    key: str
    prompt: str
    answer: str
    worded: bool
    holds_out: bool

    @property
    def text(self) -> str:
        return self.prompt + self.answer


def registered(corpus: Path) -> Iterator[EvaluationItem]:
    """Of every family in `items/` of a corpus folder."""
    for path in sorted((corpus / "items").glob("*.parquet")):
        for item in read_items(corpus, path.stem):
            family, worded = item["family"], item["family"] in WORDED
            yield EvaluationItem(
                family, item["id"], item["key"], item["prompt"], item["answer"], worded, bool(item["key"])
            )


def item_files(paths: Iterable[str]) -> tuple[ItemFile, ...]:
    """Files of further items as they are now. Raises CorpusError naming one that cannot be read."""
    return tuple(ItemFile(path, hashlib.sha256(_read(path)).hexdigest()) for path in paths)


def external(files: Iterable[ItemFile], config: DecontaminationConfig) -> Iterator[EvaluationItem]:
    """Of further files. Raises CorpusError naming file, row and field, or a file that is not what it was."""
    for file in files:
        path, content = file.path, _read(file.path)
        if hashlib.sha256(content).hexdigest() != file.digest:
            raise CorpusError(
                f"{path} has changed since the run began: sha256 {hashlib.sha256(content).hexdigest()}, expected "
                f"{file.digest}. Leave the files of corpus.decontamination.external alone while a run reads them, and "
                "run again"
            )
        for number, row in enumerate(_rows(path, content)):
            prompt = row.get(config.prompt_field)
            if not isinstance(prompt, str):
                raise CorpusError(
                    f"{path}: row {number} has no text in '{config.prompt_field}'; it has {', '.join(sorted(row))}. "
                    "Name the field that holds it in corpus.decontamination.prompt_field"
                )
            answer = row.get(config.answer_field)
            tail = "" if answer is None else f"\n{answer}"
            yield EvaluationItem(file.family, str(row.get("id", number)), "", prompt, tail, True, True)


def _read(path: str) -> bytes:
    """The whole file, so that what is hashed is what is read."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise CorpusError(f"corpus.decontamination.external: there is no file {path}") from error
    except OSError as error:
        raise CorpusError(f"corpus.decontamination.external: {path} cannot be read ({error})") from error


def _rows(path: str, content: bytes) -> Iterator[Mapping[str, Any]]:
    if path.endswith(".parquet"):
        yield from _parquet_rows(path, content)
        return
    for number, line in enumerate(io.BytesIO(content)):
        if line.strip():
            yield _parsed(path, number, line)


def _parquet_rows(path: str, content: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        for batch in pq.ParquetFile(pa.BufferReader(content)).iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({error}); get the file again") from error


def _parsed(path: str, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise CorpusError(
            f"{path}: line {number + 1} is not JSON in UTF-8 ({error}); expected one object a line"
        ) from error
    if not isinstance(row, dict):
        raise CorpusError(f"{path}: line {number + 1} is a {type(row).__name__}; expected one object a line")
    return row
