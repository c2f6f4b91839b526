"""Small clean token shards, for tests to plant defects in."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2model.documents.tables import with_nulls
from k2model.recipe.schema import ValidationConfig
from k2model.tokens.shards import SCHEMA, read_counts
from k2model.validation.gate import Findings
from k2model.validation.tokens.step import gather_tokens, look_at_shards, token_groups

VOCABULARY, BOS, EOS, PAD = 400, 0, 1, 2

Row = dict[str, Any]
Rows = list[Row]


def document(name: str, number: int) -> Row:
    tokens = [BOS, *(20 + (number * 7 + i) % 350 for i in range(6 + number % 20)), EOS]
    return {
        "id": f"{name} {number}",
        "tokens": tokens,
        "loss_mask": [False] + [True] * (len(tokens) - 1),
        "duplicates": 1,
    }


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = with_nulls(SCHEMA) if any(None in row.values() for row in rows) else SCHEMA
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(rows), 25):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[start : start + 25], schema=schema))


def clean_shards() -> dict[str, Rows]:
    names = {"train/prose/00000": 40, "train/prose/00001": 60, "train/chat-tools/00000": 40, "heldout/prose/00000": 10}
    return {name: [document(name, i) for i in range(count)] for name, count in names.items()}


@pytest.fixture
def shards() -> dict[str, Rows]:
    return clean_shards()


def tokens_of(shards: dict[str, Rows], folder: Path, **changed: Any) -> Path:
    """A tokens artifact of `shards`, with counts that are true but for `changed` ones of prose."""
    counts: dict[str, Any] = {"vocab_size": VOCABULARY, "bos": BOS, "pad": PAD, "train": {}, "heldout": {}}
    for name, rows in shards.items():
        write(folder / f"{name}.arrow", rows)
        split, stem, _ = name.split("/")
        source = "chat/tools" if stem == "chat-tools" else stem
        one = counts[split].setdefault(source, {"documents": 0, "tokens": 0, "targets": 0, "bytes": 0, "domain": stem})
        one["documents"] += len(rows)
        one["tokens"] += sum(len(row["tokens"]) for row in rows)
        one["targets"] += sum(map(sum, (row["loss_mask"] for row in rows)))
        one["bytes"] += 3 * sum(len(row["tokens"]) for row in rows)
    counts["train"]["prose"] |= changed
    (folder / "counts.json").write_text(json.dumps(counts))
    return folder


def token_findings(folder: Path, config: ValidationConfig) -> Findings:
    """Everything that the gate finds in the tokens in `folder`, whatever its severity."""
    files = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in folder.rglob("*.arrow")]
    groups = token_groups(files, str(folder), config.part_bytes)
    with tempfile.TemporaryDirectory() as told:
        for group in groups:
            look_at_shards(folder, group, Path(told), config)
        return gather_tokens(Path(told), [group.name for group in groups], read_counts(folder), config, Path(told))
