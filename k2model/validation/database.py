"""DuckDB with bounded memory, for what only shows over all parts: what does not fit is spilled to a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "512MB"


def open_database(spill: Path, threads: int) -> "DuckDBPyConnection":
    """An empty one in memory, whose rows come in no order; close it, or use it as a context."""
    import duckdb

    limits: dict[str, str | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(spill),
        "threads": threads,
    }
    return duckdb.connect(config={**limits, "preserve_insertion_order": False})


def files_sql(paths: Sequence[Path]) -> str:
    """The table of all rows of some Parquet files, for a FROM."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{listed}], hive_partitioning=false)"
