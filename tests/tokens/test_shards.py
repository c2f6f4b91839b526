"""Shards hold what the tokenizer says of each document, mapped from disk."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from k2model.corpus import markup
from k2model.corpus.documents import SEGMENT_TYPE, make_document, read_documents, write_documents
from k2model.tokens import K2Tokenizer, TokensError, TokenShard, open_shard, read_counts
from k2model.tokens.shards import SCHEMA, encode_documents, tokenize_folder


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("source", ["prose", "facts", "arithmetic/think", "chat/tools"])
def test_shard_equals_the_documents_encoded_one_by_one(
    corpus: Path, tokenizer: K2Tokenizer, tokens: Path, split: str, source: str
) -> None:
    documents = read_documents(corpus / split / source.replace("/", "-") / "00000.parquet")
    shard = open_shard(tokens, split, source)
    assert shard.ids == [document["id"] for document in documents]
    assert shard.duplicates.tolist() == [document["duplicates"] for document in documents]
    assert shard.targets.tolist() == [int(shard.document(index)[1].sum()) for index in range(len(shard))]
    for index, document in enumerate(documents):
        ids, loss = tokenizer.encode_segments(document["segments"])
        found_ids, found_loss = shard.document(index)
        assert found_ids.tolist() == ids and found_loss.tolist() == loss
    counts = read_counts(tokens)[split][source]
    assert counts["documents"] == len(documents)
    assert counts["tokens"] == sum(len(tokenizer.encode_segments(d["segments"])[0]) for d in documents)
    assert counts["targets"] == int(shard.loss.sum())
    text = "".join(s["text"] for d in documents for s in d["segments"] if s["kind"] == "text")
    assert counts["bytes"] == len(text.encode("utf-8"))


def test_odd_documents_are_encoded_alike(tokenizer: K2Tokenizer) -> None:
    documents = [
        [markup.text("the capi"), markup.text("tal", loss=False), markup.text(" of", loss=True)],
        [markup.text(" of", loss=True)],  # the neighbour of an equal segment in the document before
        [markup.text("", loss=True), markup.text("", loss=True), markup.special(markup.EOS, loss=True)],
        [markup.special(markup.BOS), markup.special("<think>", loss=True), markup.text("<think>")],
    ]
    column = pa.array([[], *documents, []], pa.list_(SEGMENT_TYPE)).slice(1, len(documents))
    encoded = encode_documents(column, tokenizer)
    ends = np.cumsum(encoded.lengths)
    for document, start, end in zip(documents, ends - encoded.lengths, ends, strict=True):
        assert (encoded.tokens[start:end].tolist(), encoded.loss[start:end].tolist()) == tokenizer.encode_segments(
            document
        )


def test_tokens_are_read_in_place(tokens: Path) -> None:
    path = tokens / "train" / "prose" / "00000.arrow"
    before = pa.total_allocated_bytes()
    shard = TokenShard(path)
    assert pa.ipc.open_file(str(path)).schema == SCHEMA
    assert not shard.tokens.flags.owndata and not shard.tokens.flags.writeable
    assert pa.total_allocated_bytes() - before < shard.tokens.nbytes


def test_shards_are_byte_identical_when_made_again(
    corpus: Path, tokenizer: K2Tokenizer, tokens: Path, tmp_path: Path
) -> None:
    tokenize_folder(corpus, tokenizer, tmp_path)
    files = sorted(path.relative_to(tokens) for path in tokens.rglob("*") if path.is_file())
    assert len(files) == 9
    for name in files:
        assert (tmp_path / name).read_bytes() == (tokens / name).read_bytes(), name


def _corpus_with(folder: Path, segments: list[markup.Segment]) -> Path:
    write_documents(
        folder / "train" / "odd" / "00000.parquet", [make_document("odd", "prose", "CC0-1.0", "test", segments)]
    )
    return folder


def test_unusable_documents_are_named(corpus: Path, tokenizer: K2Tokenizer, tmp_path: Path) -> None:
    empty = _corpus_with(tmp_path / "empty", [markup.text("")])
    with pytest.raises(TokensError, match=r"odd/00000\.parquet: document '[0-9a-f]{24}' has no tokens"):
        tokenize_folder(empty, tokenizer, tmp_path / "a")
    unknown = _corpus_with(tmp_path / "unknown", [{"kind": "special", "text": "<tink>", "loss": False}])
    with pytest.raises(TokensError, match="'<tink>' is not a special token"):
        tokenize_folder(unknown, tokenizer, tmp_path / "b")
    kind = _corpus_with(tmp_path / "kind", [{"kind": "image", "text": "x", "loss": False}])
    with pytest.raises(TokensError, match="image"):
        tokenize_folder(kind, tokenizer, tmp_path / "c")
    with pytest.raises(TokensError, match=r"no <source>/<part>\.parquet"):
        tokenize_folder(tmp_path / "nowhere", tokenizer, tmp_path / "d")
    mixed = tmp_path / "mixed"
    rows = [read_documents(corpus / "train" / name / "00000.parquet")[0] for name in ("prose", "facts")]
    write_documents(mixed / "train" / "prose" / "00000.parquet", rows)
    with pytest.raises(TokensError, match="expected one of each"):
        tokenize_folder(mixed, tokenizer, tmp_path / "e")


def test_missing_shards_are_named(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"train/poetry/00000\.arrow: no such token shard"):
        open_shard(tokens, "train", "poetry")
    with pytest.raises(TokensError, match=r"counts\.json"):
        read_counts(tmp_path)


def test_an_empty_held_out_file_is_kept(corpus: Path, tokenizer: K2Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    write_documents(folder / "heldout" / "facts" / "00000.parquet", [])
    tokenize_folder(folder, tokenizer, tmp_path / "tokens")
    assert len(open_shard(tmp_path / "tokens", "heldout", "facts")) == 0
    assert read_counts(tmp_path / "tokens")["heldout"]["facts"]["tokens"] == 0


def test_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, k2model.tokens; print(sorted({'torch', 'numpy', 'pyarrow', 'tokenizers', 'transformers'}"
        " & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
