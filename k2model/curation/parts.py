"""Parts of a corpus by name, their files in any folder of the curation, and the one order of all documents.

The order decides which of several copies stays: held-out documents first, so that the training document is the
one to go; then sources as the recipe lists them (curated before crawled, newer before older); then parts and rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.curation.hashing import Ints
from k2model.documents.schema import part_path, parts_of, source_file

SIDES = ("heldout", "train")
NUMBERING_FILE = "numbering.json"
ROW_GROUP_ROWS, ROW_GROUP_BYTES = 16_384, 32 << 20


class Place(NamedTuple):
    """One part of a source."""

    side: str
    source: str
    part: int

    @property
    def name(self) -> str:
        """`train/arithmetic-think/00000`."""
        return str(part_path(Path(), *self).with_suffix(""))

    def file(self, folder: Path, suffix: str = ".parquet") -> Path:
        return part_path(folder, *self).with_suffix(suffix)


#: A place with the numbers [start, end) of its documents.
Span = tuple[Place, int, int]


def places_of(paths: Iterable[str], sources: Sequence[str]) -> list[Place]:
    """Every part among the paths of a corpus's files, in the order of priority."""
    stems = {source_file(source): source for source in sources}
    found = [path.removesuffix(".parquet").split("/") for path in paths if path.split("/")[0] in SIDES]
    places = [Place(side, stems[stem], int(part)) for side, stem, part in found]
    return sorted(places, key=lambda place: (SIDES.index(place.side), sources.index(place.source), place.part))


def places_in(corpus: Path, sources: Sequence[str]) -> list[Place]:
    """Every part of a corpus folder, in the order of priority."""
    return [
        Place(side, source, int(path.stem))
        for side in SIDES
        for source in sources
        for path in parts_of(corpus, side, source)
    ]


@dataclass(frozen=True)
class Numbering:
    """A number for every document that has a signature: its rank in the order of priority."""

    places: tuple[Place, ...]
    bounds: Ints

    @classmethod
    def of(cls, signatures: Path, places: Sequence[Place]) -> "Numbering":
        return cls.counted(places, [pq.read_metadata(place.file(signatures)).num_rows for place in places])

    @classmethod
    def counted(cls, places: Sequence[Place], rows: Sequence[int]) -> "Numbering":
        """Of places in the order of priority and the documents of each."""
        return cls(tuple(places), np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64))

    def to_json(self) -> str:
        return json.dumps({"places": self.places, "bounds": self.bounds.tolist()}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Numbering":
        content = json.loads(text)
        return cls(tuple(Place(*place) for place in content["places"]), np.array(content["bounds"], dtype=np.int64))

    @property
    def documents(self) -> int:
        return int(self.bounds[-1])

    def name(self, number: int) -> str:
        """`train/prose/00000:17`, the row being that of the signature."""
        place = int(np.searchsorted(self.bounds, number, side="right")) - 1
        return f"{self.places[place].name}:{number - self.bounds[place]}"

    def spans(self) -> Iterator[Span]:
        """Every place with the numbers [start, end) of its documents."""
        yield from zip(self.places, self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)

    def span(self, place: Place) -> tuple[int, int]:
        index = self.places.index(place)
        return int(self.bounds[index]), int(self.bounds[index + 1])


class PartWriter:
    """Writes a part from batches of any size, in row groups of bounded rows and bytes.

    dictionary: of the values of every column; for hashes, of which no two are equal, it is 15% of the file.
    """

    def __init__(self, path: Path, schema: pa.Schema, dictionary: bool = True):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema, self._waiting, self._rows, self._bytes = schema, list[pa.Table](), 0, 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionary)

    def write(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.append(rows.cast(self._schema))
            self._rows, self._bytes = self._rows + rows.num_rows, self._bytes + rows.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._waiting, self._rows, self._bytes = [], 0, 0

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self._flush()
        self._writer.close()


def batches(path: Path, columns: Sequence[str] | None = None, rows: int = 1_024) -> Iterator[pa.RecordBatch]:
    """The rows of a part, a batch at a time: at most `rows`, fewer where rows are long."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        longest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
        fitting = max(1, ROW_GROUP_BYTES // max(1, longest))
        yield from file.iter_batches(batch_size=min(rows, fitting), columns=columns)
