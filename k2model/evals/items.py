"""What came of each item that was asked: a row of `items.parquet`, from which every score is computed again.

Of items that are asked several times pass@k and maj@k have a row for each item as well, without texts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.tables import read_table
from k2model.errors import CorruptArtifact

ITEMS = "items.parquet"
_MAY_LACK = ("answer", "trace", "seed")
SCHEMA = pa.schema(
    [
        ("score", pa.string()),
        ("item", pa.string()),
        ("cluster", pa.string()),
        ("repeat", pa.int32()),
        ("seed", pa.int64()),
        ("prompt_digest", pa.string()),
        ("prompt", pa.string()),
        ("generation", pa.string()),
        ("trace", pa.string()),
        ("answer", pa.string()),
        ("wanted", pa.string()),
        ("grade", pa.string()),
        ("value", pa.float64()),
        ("tokens", pa.int32()),
        ("thinking_tokens", pa.int32()),
    ]
)


class Grade(str, Enum):
    RIGHT = "right"
    WRONG = "wrong"
    CUT_OFF = "cut off"  # the model had not come to an end when it had written as much as it may
    TOO_LONG = "too long"  # not asked: the model has no room for prompt and answer
    UNSCORED = "unscored"  # there is no verdict: a judge said nothing that can be read
    MEASURED = "measured"  # neither right nor wrong: `value` is a mark between 0 and 1, or of a text its nats


@dataclass(frozen=True)
class ItemResult:
    """One item asked once.

    item: its id. cluster: what it shares with others (a document, a source), so that they are no independent draws; its
    id where nothing. repeat: 0 for the first time an item is asked, with the `seed` of that request. prompt: what the
    model saw; generation: what it wrote, its trace included. trace: None where there is none; answer: what was read as
    its answer, None where nothing could be. wanted: a right answer. value: 1.0 where it is right, or its mark; 0.0 for
    one that was cut off or not asked; NaN where it is unscored.
    """

    score: str
    item: str
    cluster: str
    prompt: str
    generation: str
    answer: str | None
    wanted: str
    grade: Grade
    value: float
    trace: str | None = None
    repeat: int = 0
    seed: int | None = None
    tokens: int = 0
    thinking_tokens: int = 0

    @property
    def right(self) -> bool:
        return self.grade is Grade.RIGHT

    @property
    def prompt_digest(self) -> str:
        """The first 16 hex digits of the prompt's sha256."""
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def write_items(path: Path, results: Iterable[ItemResult]) -> None:
    """One Parquet file, in the order given."""
    rows = [asdict(one) | {"grade": one.grade.value, "prompt_digest": one.prompt_digest} for one in results]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def read_items(source: Path | bytes, place: str = "") -> Sequence[ItemResult]:
    """The rows of one `items.parquet` or of its content, in its order; `place`: of the file, where its content is
    given. Raises CorruptArtifact for what `write_items` has not written."""
    place = place or str(source)
    table = read_table(source, SCHEMA, place).drop_columns(["prompt_digest"])
    lacking = [name for name in table.column_names if name not in _MAY_LACK and table[name].null_count]
    rows = table.to_pylist()
    odd = {row["grade"] for row in rows} - {grade.value for grade in Grade}
    if lacking or odd:
        told = f"values of {', '.join(lacking)} are missing" if lacking else f"a grade is {odd.pop()!r}"
        raise CorruptArtifact(f"{place} is no table of results: {told}. Delete the folder and evaluate again")
    return [ItemResult(**row | {"grade": Grade(row["grade"])}) for row in rows]
