"""Shards hold what the tokenizer says of each document, mapped from disk."""

import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from k2model.artifacts import Identity, Store, make
from k2model.documents import markup
from k2model.documents.schema import DOCUMENT_SCHEMA, make_document, part_path, read_documents, write_documents
from k2model.documents.spans import FlatSpans, segments_of
from k2model.tokens import K2Tokenizer, TokensError, open_shard, read_counts, shard_writer, tokens_step
from k2model.tokens.encoder import Encoder
from k2model.tokens.shard_writer import encode_documents, learned_replies
from k2model.tokens.shards import SCHEMA, read_runs
from tests.tokens.folders import tokenize_folder


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
        ids, loss = tokenizer.encode_segments(segments_of(document))
        found_ids, found_loss = shard.document(index)
        assert found_ids.tolist() == ids and found_loss.tolist() == loss
    counts = read_counts(tokens)[split][source]
    assert counts["documents"] == len(documents)
    assert counts["tokens"] == sum(len(tokenizer.encode_segments(segments_of(d))[0]) for d in documents)
    assert counts["targets"] == int(shard.targets.sum())
    sizes = [len(tokenizer.encode_segments(segments_of(d))[0]) for d in documents]
    assert {int(n): k for n, k in counts["lengths"].items()} == Counter(1 << (s.bit_length() - 1) for s in sizes)
    assert counts["duplicates"] == {"1-1": {"documents": len(documents), "tokens": sum(sizes)}}
    opened = Counter(s["text"] for d in documents for s in segments_of(d) if source.startswith("chat/"))
    assert counts.get("efforts", {}) == {e: opened[tag] for e, (tag, _) in markup.EFFORTS.items() if opened[tag]}
    text = "".join(s["text"] for d in documents for s in segments_of(d) if s["kind"] != "special")
    assert counts["bytes"] == len(text.encode("utf-8"))


def test_replies_count_by_their_effort_where_they_are_learned() -> None:
    """Not earlier turns that are only shown, nor thinking outside of chat, nor tags that a text holds."""
    asked = [{"role": "user", "content": "<think>?"}, {"role": "assistant", "content": "4", "trace": "2+2"}]
    documents = [
        markup.chat([*asked, *asked], "high"),
        markup.last_turn([*asked, *asked], "medium"),
        markup.chat(asked[:1], "low"),
        markup.chat_prompt(asked, "low"),
        markup.reasoning("2+2=", "2+2=4", "4"),
        markup.plain("a"),
    ]
    table = _documents([documents[0], *documents, []])
    found = [learned_replies(FlatSpans.of(part)) for part in (table.slice(1), table.slice(5), table.slice(0, 0))]
    assert found == [{"medium": 1, "high": 2}, {}, {}]


def test_odd_documents_are_encoded_alike(tokenizer: K2Tokenizer) -> None:
    documents = [
        [markup.text("the capi"), markup.text("tal", loss_mask=False), markup.text(" of", loss_mask=True)],
        [markup.text(" of", loss_mask=True)],  # the neighbour of an equal segment in the document before
        [markup.text("", loss_mask=True), markup.text("", loss_mask=True), markup.special(markup.EOS, loss_mask=True)],
        [markup.special(markup.BOS), markup.special("<think>", loss_mask=True), markup.text("<think>")],
    ]
    table = _documents([[markup.text("é")], *documents, []]).slice(1, len(documents))
    encoded = encode_documents(FlatSpans.of(table), Encoder(tokenizer))
    ends = np.cumsum(encoded.lengths)
    for document, start, end in zip(documents, ends - encoded.lengths, ends, strict=True):
        assert (encoded.tokens[start:end].tolist(), encoded.loss_mask[start:end].tolist()) == tokenizer.encode_segments(
            document
        )


def test_tokens_are_read_in_place(tokens: Path) -> None:
    before = pa.total_allocated_bytes()
    shard = open_shard(tokens, "train", "prose")
    size = int(shard.lengths.sum())
    assert pa.ipc.open_file(str(shard.paths[0])).schema == SCHEMA
    assert pa.total_allocated_bytes() - before < 4 * size


def _cut_up(corpus: Path, folder: Path, sizes: list[int]) -> Path:
    """The training documents of prose over parts of `sizes`, with duplicates counted up."""
    rows = read_documents(corpus / "train" / "prose" / "00000.parquet")
    for index, row in enumerate(rows):
        row["duplicates"] = index + 1
    for part, (end, size) in enumerate(zip(np.cumsum(sizes), sizes, strict=True)):
        write_documents(part_path(folder, "train", "prose", part), rows[end - size : end])
    return folder


def test_parts_of_a_source_are_read_as_one(
    corpus: Path, tokenizer: K2Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize_folder(_cut_up(corpus, tmp_path / "whole", [108]), tokenizer, tmp_path / "one")
    monkeypatch.setattr(shard_writer, "DOCUMENTS_PER_READ", 7)
    monkeypatch.setattr(shard_writer, "TOKENS_PER_BATCH", 900)
    tokenize_folder(_cut_up(corpus, tmp_path / "parts", [50, 0, 1, 57]), tokenizer, tmp_path / "many")
    one, many = (open_shard(tmp_path / name, "train", "prose") for name in ("one", "many"))
    assert pa.ipc.open_file(str(many.paths[0])).num_record_batches > 3
    assert read_counts(tmp_path / "one") == read_counts(tmp_path / "many")
    assert read_counts(tmp_path / "one")["train"]["prose"]["duplicates"]["11-100"]["documents"] == 90
    assert many.ids == one.ids and len(many.paths) == 4
    for name in ("lengths", "duplicates", "targets"):
        assert getattr(many, name).tolist() == getattr(one, name).tolist(), name
    for index in range(len(one)):
        for found, expected in zip(many.document(index), one.document(index), strict=True):
            assert found.tolist() == expected.tolist()


def test_runs_of_any_documents_are_read_in_the_order_asked_for(tokens: Path) -> None:
    """Of one token and more, from anywhere in a document, some of them twice."""
    shards = [open_shard(tokens, "train", name) for name in ("prose", "facts", "arithmetic/think")]
    rng = np.random.default_rng(0)
    which = rng.integers(0, 3, size=300)
    documents = rng.integers(0, 50, size=300)
    whole = [shards[shard].document(document) for shard, document in zip(which, documents, strict=True)]
    sizes = np.array([len(ids) for ids, _ in whole])
    starts = rng.integers(0, sizes)
    lengths = np.maximum(1, rng.integers(1, 30, size=300) * (sizes - starts) // 30)
    batches = [batch for shard in shards for batch in shard.batches]
    places = np.array([shards[w].locate(np.array([d]), np.array([s]))[1][0]
                       for w, d, s in zip(which, documents, starts, strict=True)])  # fmt: skip
    for number, found in enumerate(read_runs(batches, which, places, lengths)):
        expected = [one[number][s : s + n] for one, s, n in zip(whole, starts, lengths, strict=True)]
        assert found.tolist() == np.concatenate(expected).tolist()


def _copy(origin: Path, folder: Path) -> dict[str, float]:
    shutil.copytree(origin, folder, dirs_exist_ok=True)
    return {}


def test_files_are_the_same_for_any_number_of_workers(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    cut = _cut_up(corpus, tmp_path / "corpus", [60, 48])
    shutil.copytree(corpus / "heldout", cut / "heldout")
    made = {}
    for workers in (1, 2):
        store = Store.open(tmp_path / f"store{workers}")
        origins = {"corpus_valid": cut, "tokenizer": tokenizer_folder}
        inputs = [store.build(Identity(kind, "1", {}, {}), partial(_copy, place)) for kind, place in origins.items()]
        step = tokens_step(store, *inputs)
        assert [part.name for part in step.parts() if part.name.startswith("train")] == [
            "train/prose/00000",
            "train/prose/00001",
        ]
        made[workers] = make(store, tokens_step(store, *inputs), workers)
        assert made[workers].stats["documents"] == 108
    assert made[1].digest == made[2].digest


def _documents(documents: list[list[markup.Segment]]) -> pa.RecordBatch:
    made = [make_document("odd", "prose", "CC0-1.0", "test", segments) for segments in documents]
    return pa.RecordBatch.from_pylist(made, DOCUMENT_SCHEMA)


def _corpus_with(folder: Path, segments: list[markup.Segment]) -> Path:
    write_documents(
        folder / "train" / "odd" / "00000.parquet", [make_document("odd", "prose", "CC0-1.0", "test", segments)]
    )
    return folder


def test_unusable_documents_are_named(corpus: Path, tokenizer: K2Tokenizer, tmp_path: Path) -> None:
    empty = _corpus_with(tmp_path / "empty", [markup.text("")])
    with pytest.raises(TokensError, match=r"odd/00000\.parquet: document '[0-9a-f]{24}' has no tokens"):
        tokenize_folder(empty, tokenizer, tmp_path / "a")
    unknown = _corpus_with(tmp_path / "unknown", [{"kind": "special", "text": "<tink>", "loss_mask": False}])
    with pytest.raises(TokensError, match="'<tink>' is not a special token"):
        tokenize_folder(unknown, tokenizer, tmp_path / "b")
    kind = _corpus_with(tmp_path / "kind", [{"kind": "image", "text": "x", "loss_mask": False}])
    with pytest.raises(TokensError, match="image"):
        tokenize_folder(kind, tokenizer, tmp_path / "c")
    with pytest.raises(TokensError, match=r"no train/<source>/<part>\.parquet"):
        tokenize_folder(tmp_path / "nowhere", tokenizer, tmp_path / "d")
    mixed = tmp_path / "mixed"
    rows = [read_documents(corpus / "train" / name / "00000.parquet")[0] for name in ("prose", "facts")]
    write_documents(mixed / "train" / "prose" / "00000.parquet", rows)
    with pytest.raises(TokensError, match="expected one of each"):
        tokenize_folder(mixed, tokenizer, tmp_path / "e")


def test_missing_shards_are_named(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"train/poetry: no such token shard"):
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
