"""What a whole corpus is, in small numbers: `statistics.json`, made by DuckDB in bounded memory.

DuckDB streams the summaries of all parts (`summaries`) and spills what it groups to disk, so memory is not a
function of the corpus. Only sums of whole numbers are taken, so the numbers do not depend on the order in
which rows come. What parts count of themselves (characters, buckets) is in `counts`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from k2model.documents.counts import Counts
from k2model.recipe.mixtures import BUCKETS
from k2model.validation.documents.counts import AMOUNTS, CLASSES, total
from k2model.validation.gate import table_in_database

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
EXAMPLES = 100  # repeated ids and texts that are kept by name
Statistics = dict[str, Any]

#: `n` are characters of the text, `bytes` those of its UTF-8; they and the `digest` are null where the text is.
SUMMARY_SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("stem", pa.string()),
        ("part", pa.string()),
        ("id", pa.string()),
        ("domain", pa.string()),
        ("licence", pa.string()),
        ("n", pa.int64()),
        ("bytes", pa.int64()),
        ("duplicates", pa.int64()),
        ("digest", pa.binary(16)),
    ]
)


def corpus_statistics(
    summaries: Sequence[Path], spill: Path, counts: Mapping[str, Counts], threads: int = 2
) -> Statistics:
    """Statistics of the documents of `summaries` files; `spill` is a folder for what does not fit in memory.

    `counts`: of the training documents, by stem of source. For each split: `documents`, `bytes` (UTF-8),
    `characters` and `copies` (sum of `duplicates`), in all and `by_source`, `by_domain`, `by_licence`;
    `lengths` in characters as `histogram` (bins of powers of two, named by their lower end) and `quantiles`.
    `train` also has `by_duplicates` and `character_classes`. `repeated_ids` and `trained_on` (held-out texts
    that are training texts) count documents by `split/stem`, with examples.
    """
    with table_in_database("documents", summaries, SUMMARY_SCHEMA, spill, threads) as connection:
        found: Statistics = {split: _of_split(rows) for split, rows in _groups(connection).items()}
        found["repeated_ids"] = _repeated_ids(connection)
        found["trained_on"] = _trained_on(connection)
        found["null"] = _nulls(connection)
    summed = total(counts)
    found["train"]["by_duplicates"] = {
        bucket: {name: summed[f"buckets/{bucket}/{name}"] for name in AMOUNTS}
        for bucket in BUCKETS
        if summed[f"buckets/{bucket}/documents"]
    }
    characters = summed.below("characters")
    found["train"]["character_classes"] = {name: characters[name] for name in CLASSES if name in characters}
    return found


def _groups(connection: "DuckDBPyConnection") -> dict[str, list[tuple[Any, ...]]]:
    """Split -> rows of (source, domain, licence, length, documents, bytes, characters, copies); one scan.

    Three of the first four are null but in the row of totals, where all are.
    """
    rows = connection.execute(
        """
        SELECT split, stem, domain, licence, n, grouping(stem, domain, licence, n),
               count(*), coalesce(sum(bytes), 0)::BIGINT, coalesce(sum(n), 0)::BIGINT,
               coalesce(sum(duplicates), 0)::BIGINT
        FROM documents
        GROUP BY GROUPING SETS ((split), (split, stem), (split, domain), (split, licence), (split, n))
        """
    ).fetchall()
    splits: dict[str, list[tuple[Any, ...]]] = {"train": [], "heldout": []}
    for split, *row in rows:
        splits[split].append(tuple(row))
    return splits


#: `grouping()` of the five sets: a bit for each column that is summed over.
_TOTAL, _SETS = 0b1111, {"by_source": (0b0111, 0), "by_domain": (0b1011, 1), "by_licence": (0b1101, 2)}
_BY_LENGTH = 0b1110


def _of_split(rows: Sequence[tuple[Any, ...]]) -> Statistics:
    totals = [row[5:] for row in rows if row[4] == _TOTAL]
    found: Statistics = _amounts(totals[0]) if totals else _amounts((0, 0, 0, 0))
    for name, (grouped, column) in _SETS.items():
        found[name] = {
            str(row[column]): _amounts(row[5:])
            for row in sorted((row for row in rows if row[4] == grouped), key=lambda row: str(row[column]))
        }
    lengths = sorted((int(row[3]), int(row[5])) for row in rows if row[4] == _BY_LENGTH and row[3] is not None)
    found["lengths"] = {"histogram": _histogram(lengths), "quantiles": _quantiles(lengths)}
    return found


def _amounts(numbers: Sequence[Any]) -> dict[str, int]:
    return dict(zip(("documents", "bytes", "characters", "copies"), map(int, numbers), strict=True))


def _histogram(lengths: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Bins [2^k, 2^(k+1)) by their lower end; an empty text is in bin 0."""
    bins: defaultdict[int, int] = defaultdict(int)
    for length, count in lengths:
        bins[1 << (length.bit_length() - 1) if length else 0] += count
    return {str(low): bins[low] for low in sorted(bins)}


def _quantiles(lengths: Sequence[tuple[int, int]]) -> dict[str, int]:
    """The smallest length that at least the fraction q of the documents do not exceed."""
    total, found = sum(count for _, count in lengths), {}
    for q in QUANTILES:
        below = 0
        for length, count in lengths:
            below += count
            if below >= q * total:
                found[str(q)] = length
                break
    return found


def _repeated_ids(connection: "DuckDBPyConnection") -> Statistics:
    """First by a hash of 8 bytes, so that what is grouped over the whole corpus is small."""
    connection.execute(
        "CREATE TEMP TABLE suspects AS SELECT hash(id) AS h FROM documents WHERE id IS NOT NULL "
        "GROUP BY h HAVING count(*) > 1"
    )
    connection.execute(
        "CREATE TEMP TABLE repeated AS WITH rows AS (SELECT id, split, stem, part FROM documents "
        "WHERE hash(id) IN (SELECT h FROM suspects)) "
        "SELECT *, min(split || '/' || stem || '/' || part) OVER same AS first, "
        "max(split || '/' || stem || '/' || part) OVER same AS last FROM rows "
        "WINDOW same AS (PARTITION BY id) QUALIFY count(*) OVER same > 1"
    )
    return _by_file(connection, "repeated")


def _trained_on(connection: "DuckDBPyConnection") -> Statistics:
    """Held-out documents whose text is a training text, by its md5; only held-out hashes are kept in memory."""
    connection.execute(
        "CREATE TEMP TABLE held AS SELECT id, split, stem, part, digest AS h FROM documents WHERE split = 'heldout'"
    )
    connection.execute(
        "CREATE TEMP TABLE leaked AS WITH seen AS (SELECT digest AS h, min(stem || '/' || part) AS place "
        "FROM documents WHERE split = 'train' AND digest IN (SELECT h FROM held) GROUP BY ALL) "
        "SELECT id, split, stem, part, split || '/' || stem || '/' || part AS first, 'train/' || place AS last "
        "FROM held JOIN seen USING (h)"
    )
    return _by_file(connection, "leaked")


def _by_file(connection: "DuckDBPyConnection", table: str) -> Statistics:
    counted = connection.execute(
        f"SELECT split || '/' || stem AS name, count(*) FROM {table} GROUP BY name ORDER BY name"
    ).fetchall()
    examples = connection.execute(
        f"SELECT split || '/' || stem, id, first, last FROM {table} ORDER BY ALL LIMIT {EXAMPLES}"
    ).fetchall()
    names = ("source", "id", "first", "last")
    return {"by_source": dict(counted), "examples": [dict(zip(names, row, strict=True)) for row in examples]}


def _nulls(connection: "DuckDBPyConnection") -> dict[str, dict[str, int]]:
    """`split/stem` -> documents without id and without text, for the sources that have any."""
    rows = connection.execute(
        "SELECT split || '/' || stem AS name, count(*) FILTER (id IS NULL), count(*) FILTER (n IS NULL) "
        "FROM documents GROUP BY name HAVING count(*) FILTER (id IS NULL OR n IS NULL) > 0 ORDER BY name"
    ).fetchall()
    return {name: {"id": ids, "text": texts} for name, ids, texts in rows}
