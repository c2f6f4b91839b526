"""A small clean corpus, written through the corpus's own writers, for tests to plant defects in."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.artifacts import Store, make
from k2model.documents.markup import chat, plain, reasoning
from k2model.documents.schema import (
    DOCUMENT_SCHEMA,
    Document,
    content_id,
    make_document,
    make_item,
    write_documents,
    write_items,
)
from k2model.recipe.schema import MixtureEntry, ValidationConfig
from k2model.validation.documents import valid_step
from k2model.validation.documents.suites import Bounds
from tests.validation.gates import as_artifact

ROWS = 120

MIXTURES = {
    "pretrain": (MixtureEntry("prose", 3.0), MixtureEntry("sums/think", 1.0)),
    "sft": (MixtureEntry("chat", 1),),
}

Edit = Callable[[list[dict]], None]


@pytest.fixture
def bounds() -> Bounds:
    return Bounds(ValidationConfig(min_documents_per_source=50, max_quarantined_fraction=0.2), max_characters=400)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """`train/` with three sources of 120 documents, `heldout/` with one, and 5 evaluation items."""
    folder = tmp_path / "corpus"
    prose = [_prose(i) for i in range(ROWS + 3)]
    write_documents(folder / "train" / "prose" / "00000.parquet", prose[:ROWS])
    write_documents(folder / "heldout" / "prose" / "00000.parquet", prose[ROWS:])
    sums = [_sum(i) for i in range(ROWS)]
    write_documents(folder / "train" / "sums-think" / "00000.parquet", sums)
    write_documents(folder / "train" / "chat" / "00000.parquet", [_chat(i) for i in range(ROWS)])
    write_items(folder, "sums", [make_item("sums", f"held {i}", f"Compute {i}+{i}*7=", str(8 * i)) for i in range(5)])
    return folder


def validated(
    corpus: Path, home: Path, bounds: Bounds, mixtures: dict[str, tuple[MixtureEntry, ...]] = MIXTURES,
    phase_tokens: dict[str, int] | None = None,
) -> tuple[Path, dict[str, float]]:  # fmt: skip
    """The folder that the gate publishes of a corpus folder on a new store in `home`, and its counts."""
    store = Store.open(home)
    step = valid_step(
        store, bounds.config, mixtures, as_artifact(store, "corpus", corpus), phase_tokens=phase_tokens,
        min_characters=bounds.min_characters, max_characters=bounds.max_characters,
    )  # fmt: skip
    made = make(store, step)
    return Path(made.uri), made.stats


def edit(corpus: Path, stem: str, change: Edit, part: str = "train") -> None:
    """Rewrite a shard after `change` was applied to its rows; anything that fits the types may be planted."""
    path = corpus / part / stem / "00000.parquet"
    rows = pq.read_table(path, partitioning=None).to_pylist()
    change(rows)
    nullable = pa.schema([field.with_nullable(True) for field in DOCUMENT_SCHEMA])
    pq.write_table(pa.Table.from_pylist(rows, schema=nullable), path)


def retext(row: dict, text: str) -> None:
    """Give a plain document another text, its segments and id included."""
    row.update(make_document(row["source"], row["domain"], row["licence"], row["origin"], plain(text)))
    row["id"] = content_id(row["id"], text)


def leak_heldout_text(corpus: Path) -> None:
    held = pq.read_table(corpus / "heldout" / "prose" / "00000.parquet", partitioning=None).to_pylist()[0]
    edit(corpus, "prose", lambda rows: rows[3].update(text=held["text"], spans=held["spans"]))


def repeat_id_in_other_shard(corpus: Path) -> None:
    taken = pq.read_table(corpus / "train" / "chat" / "00000.parquet", partitioning=None)["id"][40].as_py()
    edit(corpus, "prose", lambda rows: rows[3].update(id=taken))


def _prose(i: int) -> Document:
    return make_document("prose", "prose", "PSF-2.0", f"page {i}", plain(f"Page {i} tells of the number {i}, naïvely."))


def _sum(i: int) -> Document:
    segments = reasoning(f"Compute {i}+1=", f"{i}+1={i + 1}", str(i + 1))
    return make_document("sums/think", "mathematics", "Apache-2.0", "sums", segments, key=f"{i}+1")


def _chat(i: int) -> Document:
    turns = [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": str(i)}]
    return make_document("chat", "chat", "Apache-2.0", "chat", chat(turns, "low"), key=f"say {i}\nanswer {i}")
