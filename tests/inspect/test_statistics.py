"""Lengths and composition add up to what the files hold."""

from pathlib import Path

import numpy as np
import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.documents.schema import parts_of, read_documents
from k2model.inspect.artifact import LookingError, view_of
from k2model.inspect.statistics import statistics_of
from k2model.tokens import open_shard, read_composition
from tests.tokens.conftest import SOURCES


def test_a_corpus_is_measured_in_bytes(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    found = statistics_of(view_of("corpus_valid", looked_store))
    documents = [
        document
        for source in SOURCES
        for path in parts_of(Path(looked["corpus_valid"].uri), "train", source)
        for document in read_documents(path)
    ]
    sizes = [len(document["text"].encode()) for document in documents]
    assert (found.unit, found.documents, found.amount) == ("bytes", len(sizes), sum(sizes))
    for bar in found.lengths:
        inside = [size for size in sizes if bar.low <= size <= bar.high]
        assert (bar.documents, bar.amount) == (len(inside), sum(inside))
    assert sum(bar.documents for bar in found.lengths) == len(sizes)
    assert found.by["licence"] == {"CC0-1.0": (len(sizes), sum(sizes))}
    prose = [size for size, document in zip(sizes, documents, strict=True) if document["source"] == "prose"]
    assert found.by["domain"]["prose"] == found.by["source"]["prose"] == (len(prose), sum(prose))
    assert next(iter(found.by["source"])) == max(found.by["source"], key=lambda name: found.by["source"][name][1])


def test_token_shards_are_measured_in_tokens(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    found = statistics_of(view_of("tokens", looked_store))
    lengths = {name: open_shard(Path(looked["tokens"].uri), "train", name).lengths for name in SOURCES}
    assert found.unit == "tokens"
    assert found.by["source"] == {name: (len(own), own.sum()) for name, own in lengths.items()}
    assert found.by["domain"]["mathematics"] == found.by["source"]["arithmetic/think"]
    together = np.concatenate(list(lengths.values()))
    for bar in found.lengths:
        assert bar.documents == ((together >= bar.low) & (together <= bar.high)).sum()
        assert bar.high == 2 * bar.low - 1


def test_rows_are_measured_by_the_pieces_that_stand_in_them(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    found = statistics_of(view_of("sequences", looked_store))
    composition = read_composition(Store.open(looked_store), looked["sequences"])
    assert found.amount == composition["tokens"]
    assert {name: tokens for name, (_, tokens) in found.by["source"].items()} == {
        name: entry["tokens"] for name, entry in composition["sources"].items()
    }
    assert found.documents >= composition["documents"]


def test_files_without_documents_are_refused(looked_store: str, looked: dict[str, ArtifactRef]) -> None:
    with pytest.raises(LookingError, match=r"no \.parquet or \.arrow file"):
        statistics_of(view_of("tokenizer", looked_store))
