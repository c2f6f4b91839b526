"""Evaluation items as decontamination sees them: the registered ones of a corpus, and files of further benchmarks.

A further file is JSONL or Parquet with a prompt and an answer a row (fields named in `DecontaminationConfig`; a missing
answer counts as empty); its family is its name without ending. Rows may have an `id`, else their number serves.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import read_items
from k2model.corpus.errors import CorpusError
from k2model.recipe.curation import DecontaminationConfig

#: Families made of natural words; the others' prompts are formulas, matched by key.
WORDED = ("facts_seen", "facts_heldout", "facts_chat_seen", "facts_chat_heldout", "code", "retrieval")


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


def external(paths: Iterable[str], config: DecontaminationConfig) -> Iterator[EvaluationItem]:
    """Of further files. Raises CorpusError naming file, row and field."""
    for path in map(Path, paths):
        for number, row in enumerate(_rows(path)):
            prompt = row.get(config.prompt_field)
            if not isinstance(prompt, str):
                raise CorpusError(
                    f"{path}: row {number} has no text in '{config.prompt_field}'; it has {', '.join(sorted(row))}. "
                    "Name the field that holds it in corpus.decontamination.prompt_field"
                )
            answer = row.get(config.answer_field)
            tail = "" if answer is None else f"\n{answer}"
            yield EvaluationItem(path.stem, str(row.get("id", number)), "", prompt, tail, True, True)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.exists():
        raise CorpusError(f"corpus.decontamination.external: there is no file {path}")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if line.strip():
                yield _parsed(path, number, line)


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({error}); get the file again") from error


def _parsed(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise CorpusError(
            f"{path}: line {number + 1} is not JSON in UTF-8 ({error}); expected one object a line"
        ) from error
    if not isinstance(row, dict):
        raise CorpusError(f"{path}: line {number + 1} is a {type(row).__name__}; expected one object a line")
    return row
