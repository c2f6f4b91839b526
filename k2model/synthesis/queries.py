"""Queries that a user brings: a JSONL or Parquet file with a column `query`, and `answer` where it can be checked.

Further columns are `domain`, `licence` and `origin`. Every row is used or the job is refused with its number: a
file of questions is small and the user's own, so nothing is put aside here.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from k2model.documents.schema import content_id, is_heldout
from k2model.errors import SynthesisError
from k2model.synthesis.config import SynthesisConfig
from k2model.synthesis.problems import Problem

COLUMNS = ("query", "answer", "domain", "licence", "origin")


class Queries:
    def __init__(self, rows: list[Mapping[str, str]], sha256: str):
        self._rows = rows
        self.sha256 = sha256

    def __len__(self) -> int:
        return len(self._rows)

    def problem(self, index: int) -> Problem:
        """Query `index`. Without an answer every reply of the right structure passes."""
        row = self._rows[index]
        key = f"query {content_id(row['query'])}"
        return Problem(
            family="queries",
            domain=row.get("domain") or "chat",
            key=key,
            question=row["query"],
            answer=row.get("answer") or "",
            check=partial(same_answer, row.get("answer") or ""),
            side="heldout" if is_heldout(key) else "train",
            licence=row.get("licence") or "LicenseRef-unknown",
            origin=row.get("origin") or f"queries {self.sha256[:12]}",
        )


def read_queries(path: str, sha256: str = "") -> Queries:
    """Raises `SynthesisError` naming the row, or when the file is not the one whose digest is given."""
    file = Path(path)
    if not file.is_file():
        raise SynthesisError(f"queries = '{path}': there is no such file")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 and found != sha256:
        raise SynthesisError(f"queries = '{path}' has the sha256 {found}, the job wants {sha256}; set queries_sha256")
    rows = [_checked(row, f"{path}, row {number}") for number, row in enumerate(_rows(file), 1)]
    if not rows:
        raise SynthesisError(f"queries = '{path}' holds no row")
    return Queries(rows, found)


def pinned(config: SynthesisConfig) -> SynthesisConfig:
    """The job with the digest of its queries, so that its identity tells one file from another."""
    if not config.queries or config.queries_sha256:
        return config
    return replace(config, queries_sha256=read_queries(config.queries).sha256)


def same_answer(wanted: str, answer: str) -> bool:
    """Equal as numbers, or as text without case, spaces and closing punctuation; true where nothing is wanted."""
    if not wanted:
        return True
    one, other = _normal(wanted), _normal(answer)
    try:
        return float(one.replace(",", "")) == float(other.replace(",", ""))
    except ValueError:
        return one == other


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .!?*`$").casefold()


def _rows(file: Path) -> Iterator[Any]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SynthesisError(f"{file}, row {number}: not JSON: {error}") from error


def _checked(row: Any, where: str) -> Mapping[str, str]:
    if not isinstance(row, dict) or not isinstance(row.get("query"), str) or not row["query"].strip():
        raise SynthesisError(f"{where}: expected an object with a text 'query', got {str(row)[:80]}")
    wrong = next((name for name in COLUMNS if not isinstance(row.get(name) or "", str)), None)
    if wrong:
        raise SynthesisError(
            f"{where}: '{wrong}' must be text, got {type(row[wrong]).__name__}; write numbers in quotes"
        )
    return {name: row.get(name) or "" for name in COLUMNS}
