"""Parts of a corpus by name, their files in any folder of the curation, and the one order of all documents.

The order decides which of several copies stays: held-out documents first, so that the training document is the
one to go; then sources as the recipe lists them (curated before crawled, newer before older); then parts and rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.content import MOST
from k2model.artifacts.outside import remedy
from k2model.curation.texts import Ints
from k2model.documents.schema import part_path, parts_of, source_file
from k2model.errors import CorruptArtifact
from k2model.plain import NotPlain, read_as

SPLITS = ("heldout", "train")
NUMBERING_FILE = "numbering.json"


class CorpusPart(NamedTuple):
    """A part file of a source in one split."""

    split: str
    source: str
    number: int

    @property
    def name(self) -> str:
        """`train/arithmetic-think/00000`."""
        return str(part_path(Path(), *self).with_suffix(""))

    def file(self, folder: Path, suffix: str = ".parquet") -> Path:
        """Its file below `folder`, which is a corpus or one folder of the curation."""
        return part_path(folder, *self).with_suffix(suffix)


#: A part with the numbers [start, end) of its documents.
Span = tuple[CorpusPart, int, int]


def parts_among(paths: Iterable[str], sources: Sequence[str]) -> list[CorpusPart]:
    """Every part among the paths of a corpus's files, in the order of priority; `sources` are in the recipe's order."""
    stems = {source_file(source): source for source in sources}
    found = [path.removesuffix(".parquet").split("/") for path in paths if path.split("/")[0] in SPLITS]
    parts = [CorpusPart(split, stems[stem], int(number)) for split, stem, number in found]
    return sorted(parts, key=lambda part: (SPLITS.index(part.split), sources.index(part.source), part.number))


def parts_in(corpus: Path, sources: Sequence[str]) -> list[CorpusPart]:
    """Every part of these sources in a corpus folder, in the order of priority."""
    return [
        CorpusPart(split, source, int(path.stem))
        for split in SPLITS
        for source in sources
        for path in parts_of(corpus, split, source)
    ]


class _Numbers(TypedDict):
    places: list[tuple[str, str, int]]
    bounds: list[int]


@dataclass(frozen=True)
class Numbering:
    """A number for every document that has a signature: its rank in the order of priority.

    bounds: the number of the first document of each of `parts`, and the number of all, int64 [parts + 1].
    """

    parts: tuple[CorpusPart, ...]
    bounds: Ints

    @classmethod
    def counted(cls, parts: Sequence[CorpusPart], rows: Sequence[int]) -> "Numbering":
        """Of parts in the order of priority and the documents of each."""
        return cls(tuple(parts), np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64))

    def to_json(self) -> str:
        return json.dumps({"places": self.parts, "bounds": self.bounds.tolist()}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Numbering":
        """Raises NotPlain for what `to_json` has not written."""
        content = read_as(_Numbers, text.encode(), MOST)
        bounds = np.array(content["bounds"], dtype=object)
        if len(bounds) != len(content["places"]) + 1 or bounds[0] < 0 or (np.diff(bounds) < 0).any():
            raise NotPlain("bounds are one number more than places, ascending")
        return cls(tuple(CorpusPart(*part) for part in content["places"]), bounds.astype(np.int64))

    @property
    def documents(self) -> int:
        return int(self.bounds[-1])

    def name(self, number: int) -> str:
        """`train/prose/00000:17`, the row being that of the signature."""
        return str(self.names(np.array([number]))[0].as_py())

    def names(self, numbers: Ints) -> pa.Array:
        """The names of documents, [numbers]."""
        part = np.searchsorted(self.bounds, numbers, side="right") - 1
        parts = pa.array([one.name for one in self.parts], pa.string()).take(pa.array(part))
        rows = pa.array(numbers - self.bounds[part]).cast(pa.string())
        return pc.binary_join_element_wise(parts, rows, ":")

    def spans(self, sources: Sequence[str] | None = None) -> Iterator[Span]:
        """Every part (of these sources) with the numbers [start, end) of its documents."""
        for part, start, end in zip(self.parts, self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            if sources is None or part.source in sources:
                yield part, start, end


def numbering_of(store: Store, ref: ArtifactRef) -> Numbering:
    """Of the documents of a `corpus_clean`, or of those that `duplicates` decided on."""
    try:
        found = Numbering.from_json(store.read(ref, NUMBERING_FILE).decode("utf-8", "replace"))
        if found.bounds[0] != 0:  # that of some parts goes on from those before
            raise NotPlain("the first of its documents is not number 0")
        return found
    except (NotPlain, OverflowError) as error:
        raise CorruptArtifact(
            f"{ref.uri}/{NUMBERING_FILE} is no numbering of documents ({error}). {remedy(ref.uri)}"
        ) from error
