"""What a release says of its data: sources with licences and counts, and the mixture of each phase."""

import csv
import io
from pathlib import Path
from typing import Any


def sources(corpus: Path) -> list[dict[str, Any]]:
    """Documents and characters by split, source, licence and origin, from a validated corpus folder."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys = ["source", "domain", "licence", "origin"]
    rows: list[dict[str, Any]] = []
    for split in ("train", "heldout"):
        for path in sorted((corpus / split).glob("*/*.parquet")):
            table = pq.read_table(path, columns=[*keys, "text"], partitioning=None)
            table = table.append_column("characters", pc.cast(pc.utf8_length(table["text"]), pa.int64()))
            counted = table.group_by(keys).aggregate([("characters", "count"), ("characters", "sum")])
            for row in counted.to_pylist():
                rows.append(
                    {"split": split}
                    | {key: row[key] for key in keys}
                    | {"documents": row["characters_count"], "characters": row["characters_sum"]}
                )
    return sorted(rows, key=lambda row: tuple(str(row[key]) for key in ("split", *keys)))


def licences(rows: list[dict[str, Any]]) -> list[tuple[str, int, list[str]]]:
    """(licence, training documents, sources) in the order of their names."""
    found: dict[str, tuple[int, set[str]]] = {}
    for row in rows:
        if row["split"] == "train":
            documents, names = found.get(row["licence"], (0, set()))
            found[row["licence"]] = (documents + row["documents"], names | {row["source"]})
    return [(licence, documents, sorted(names)) for licence, (documents, names) in sorted(found.items())]


def composition_csv(composition: dict[str, Any]) -> str:
    """One phase's `composition.json` as a table, a source per line."""
    out = io.StringIO()
    entries = composition["sources"]
    columns = list(dict.fromkeys(name for entry in entries.values() for name in entry))
    writer = csv.DictWriter(out, fieldnames=["source", *columns], lineterminator="\n")
    writer.writeheader()
    for source, entry in entries.items():
        writer.writerow({"source": source, **entry})
    return out.getvalue()
