"""Links between documents by their numbers, (document, the earlier one it copies): their files, and what they join."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.curation.hashing import Ints

LINK_SCHEMA = pa.schema([pa.field("document", pa.int64(), nullable=False), pa.field("original", pa.int64(), False)])


def read_links(paths: Sequence[Path]) -> tuple[Ints, Ints]:
    """(documents, originals) of several files."""
    tables = [pq.read_table(path, schema=LINK_SCHEMA) for path in paths]
    table = pa.concat_tables(tables) if tables else LINK_SCHEMA.empty_table()
    return table["document"].to_numpy(), table["original"].to_numpy()


def write_links(path: Path, documents: Ints, originals: Ints) -> int:
    """Each link once, in order; returns how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.lexsort((originals, documents))
    documents, originals = documents[order], originals[order]
    fresh = np.ones(len(documents), dtype=bool)
    fresh[1:] = (documents[1:] != documents[:-1]) | (originals[1:] != originals[:-1])
    columns = [pa.array(side[fresh], type=pa.int64()) for side in (documents, originals)]
    pq.write_table(pa.table(columns, schema=LINK_SCHEMA), path, compression="zstd")
    return int(fresh.sum())


def components(root: Ints, one: Ints, other: Ints) -> Ints:
    """For each node the smallest node that edges join it with: hooking and pointer jumping.

    `root` is what this gave for earlier edges, or every node's own number.
    """
    root = root.copy()
    while len(one):
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        if (low == high).all():
            break
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]
    return root
