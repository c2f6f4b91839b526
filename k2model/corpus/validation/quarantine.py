"""Publishes the good documents of a part and sets those that break a rule aside, with the reason.

A quarantined document keeps all it had, so that a person can look at it and the builder can be mended;
`row` is its place in the curated part. Parts without such documents keep their bytes.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA
from k2model.validation import Outcome

Reasons = dict[int, list[str]]
ASIDE_SCHEMA = pa.schema(
    [*(field.with_nullable(True) for field in DOCUMENT_SCHEMA), ("row", pa.int64()), ("reason", pa.string())]
)


def reasons_by_row(outcomes: Iterable[Outcome]) -> Reasons:
    """Row -> the reasons it is set aside for, in alphabetical order."""
    reasons: Reasons = {}
    for outcome in sorted((o for o in outcomes if o.reason), key=lambda o: o.reason):
        for row in outcome.rows:
            reasons.setdefault(row, []).append(outcome.reason)
    return dict(sorted(reasons.items()))


def count_reasons(reasons: Reasons) -> dict[str, int]:
    """Documents per reason; one that has two reasons is counted under both."""
    counts = Counter(reason for several in reasons.values() for reason in several)
    return dict(sorted(counts.items()))


def publish_part(path: Path, target: Path, stem: str, part: str, bad: Reasons, frames: Iterable[pa.Table]) -> None:
    """Write `train/<stem>/<part>.parquet` below `target`, and `quarantine/...` when `bad` names rows.

    `frames` are the rows of `path` in order; they are read only when there are bad ones.
    """
    name = f"{stem}/{part}.parquet"
    if not bad:
        link(path, target / "train" / name)
        return
    with (
        _writer(target / "train" / name, DOCUMENT_SCHEMA) as kept,
        _writer(target / "quarantine" / name, ASIDE_SCHEMA) as aside,
    ):
        start = 0
        for table in frames:
            rows = [row for row in bad if start <= row < start + len(table)]
            good = np.ones(len(table), dtype=bool)
            good[np.array(rows, dtype=np.int64) - start] = False
            kept.write_table(table.filter(pa.array(good)).replace_schema_metadata().cast(DOCUMENT_SCHEMA))
            if rows:
                aside.write_table(_aside(table, rows, start, bad))
            start += len(table)


def link(path: Path, target: Path) -> None:
    """Give a file, which nobody changes any more, another name; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _aside(table: pa.Table, rows: list[int], start: int, bad: Reasons) -> pa.Table:
    taken = table.take(pa.array([row - start for row in rows], pa.int64()))
    taken = taken.append_column("row", pa.array(rows, pa.int64()))
    names = pa.array([", ".join(bad[row]) for row in rows], pa.string())
    return taken.append_column("reason", names).replace_schema_metadata().cast(ASIDE_SCHEMA)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")
