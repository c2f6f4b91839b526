"""A store with every kind of artifact one can look into, made of a small corpus."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.documents.schema import Item, part_path, write_items
from k2model.recipe.schema import TokenizerConfig
from k2model.tokens import sequences_step, tokenizer_step, tokens_step
from tests.tokens.conftest import write_corpus
from tests.tokens.phases import PHASE

QUARANTINED = [
    ("malformed_json", "a.jsonl", 7, "no closing brace", '{"text": "half'),
    ("encoding, over_long", "b.jsonl", 2, "not UTF-8", "caf\ufffd"),
    ("encoding", "a.jsonl", 9, "not UTF-8", "na\ufffdve"),
]
ITEMS: list[Item] = [
    {"id": f"sum-{n}", "family": "sums", "key": "", "prompt": f"What is {n} + {n}?", "answer": str(2 * n), "context": 0,
     "meta": "{}"} for n in range(7)
]  # fmt: skip
CURATION = {
    "train": {
        "prose": {"rejects": {"few_words": {"documents": 12, "samples": ["Too short.", "Shorter."]}}},
        "facts": {"rejects": {"exact_duplicate": {"documents": 3, "samples": ["The capital again."]}}},
    },
    "heldout": {"prose": {"rejects": {"few_words": {"documents": 1, "samples": ["Held short."]}}}},
}


def write_valid(folder: Path) -> dict[str, float]:
    """The corpus with small row groups, a quarantine, evaluation items and an account of what curation dropped."""
    write_corpus(folder)
    for path in folder.rglob("*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=16)
    columns = list(zip(*QUARANTINED, strict=True))
    path = part_path(folder, "quarantine", "prose")
    path.parent.mkdir(parents=True)
    names = ("reason", "file", "row", "detail", "text")
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path, row_group_size=2)
    write_items(folder, "sums", ITEMS)
    (folder / "curation.json").write_text(json.dumps(CURATION))
    return {}


@pytest.fixture(scope="session")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtifactRef]:
    """`corpus_valid`, `tokenizer`, `tokens` and `sequences`, in one store."""
    store = Store.open(tmp_path_factory.mktemp("looked") / "store")
    corpus = store.build(Identity("corpus_valid", "1", {}, {}), write_valid)
    tokenizer = make(store, tokenizer_step(store, TokenizerConfig(vocab_size=340, sample_bytes=60_000), corpus))
    tokens = make(store, tokens_step(store, corpus, tokenizer))
    return {
        "corpus_valid": corpus,
        "tokenizer": tokenizer,
        "tokens": tokens,
        "sequences": make(store, sequences_step(store, PHASE, tokens)),
    }


@pytest.fixture(scope="session")
def looked_store(looked: dict[str, ArtifactRef]) -> str:
    return str(Path(looked["tokens"].uri).parents[1])
