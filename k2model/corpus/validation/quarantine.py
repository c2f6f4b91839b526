"""Sets documents that break a row-level rule aside, with the reason.

A quarantined document keeps all it had, so that a person can look at it and the builder can be mended;
`row` is its place in the curated shard. Shards without such documents are copied byte for byte.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA, part_path
from k2model.corpus.validation.outcome import Outcome

Reasons = dict[int, list[str]]


def reasons_by_row(outcomes: Iterable[Outcome]) -> Reasons:
    """Row -> the reasons it is set aside for, in alphabetical order."""
    reasons: defaultdict[int, list[str]] = defaultdict(list)
    for outcome in sorted((o for o in outcomes if o.reason), key=lambda o: o.reason):
        for row in outcome.rows:
            reasons[row].append(outcome.reason)
    return dict(sorted(reasons.items()))


def count_reasons(reasons: Reasons) -> dict[str, int]:
    """Documents per reason; one that has two reasons is counted under both."""
    counts = Counter(reason for several in reasons.values() for reason in several)
    return dict(sorted(counts.items()))


def publish(source: Path, target: Path, train: Mapping[str, pa.Table], bad: Mapping[str, Reasons]) -> None:
    """Write `train/`, `heldout/`, `items/` and `quarantine/` of the validated corpus into folder `target`."""
    for part in ("heldout", "items"):
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part)
    (target / "train").mkdir(parents=True, exist_ok=True)
    for stem, table in train.items():
        reasons = bad.get(stem, {})
        if not reasons:
            shutil.copytree(source / "train" / stem, target / "train" / stem)
            continue
        rows = np.fromiter(reasons, dtype=np.int64)
        kept = np.ones(len(table), dtype=bool)
        kept[rows] = False
        _write(part_path(target, "train", stem), table.filter(pa.array(kept)).cast(DOCUMENT_SCHEMA))
        aside = table.take(pa.array(rows)).append_column("row", pa.array(rows, pa.int64()))
        names = pa.array([", ".join(several) for several in reasons.values()], pa.string())
        _write(part_path(target, "quarantine", stem), aside.append_column("reason", names))


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # As `corpus.documents` writes: equal rows give equal bytes.
    pq.write_table(table.replace_schema_metadata(), path, compression="zstd", row_group_size=16_384)
