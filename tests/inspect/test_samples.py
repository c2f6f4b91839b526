"""Pages show what is stored, each sample once, in order or drawn; what is not there is said by name."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.artifacts import ArtifactRef, Identity, MissingArtifact, Store
from k2model.documents.schema import parts_of, read_documents
from k2model.documents.spans import segments_of
from k2model.inspect.artifact import ArtifactView, LookingError, TableFile, view_of
from k2model.inspect.rejects import Reason, reasons_of
from k2model.inspect.samples import Query, Sample, samples_of
from k2model.tokens import K2Tokenizer, PackedSequences, open_shard
from tests.inspect.conftest import ITEMS
from tests.servers import S3Server


def stored(corpus: str, source: str, split: str = "train") -> list[Any]:
    return [document for path in parts_of(Path(corpus), split, source) for document in read_documents(path)]


def pages(view: ArtifactView, **query: Any) -> list[Sample]:
    """All pages of 50 one after another, until one is empty."""
    turned = (samples_of(view, Query(page=page, n=50, **query)) for page in count(1))
    return [one for page in takewhile(bool, turned) for one in page]


def test_pages_go_through_a_source_in_order(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    view = view_of("corpus_valid", looked_store)
    for split in ("train", "heldout"):
        documents = stored(looked["corpus_valid"].uri, "chat/tools", split)
        found = pages(view, source="chat/tools", split=split)
        assert [one.fields["id"] for one in found] == [document["id"] for document in documents]
        assert [one.text for one in found] == [document["text"] for document in documents]
    first = found[0]
    wanted = {"licence": "CC0-1.0", "origin": "test 0", "duplicates": 1}
    assert {name: first.fields[name] for name in wanted} == wanted
    segments = segments_of(stored(looked["corpus_valid"].uri, "chat/tools", "heldout")[0])
    assert [(s.text, s.target, s.special) for s in first.spans] == [
        (s["text"], s["loss_mask"], s["kind"] == "special") for s in segments
    ]


def test_evaluation_items_are_a_side(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    view = view_of("corpus_valid", looked_store)
    found = pages(view, split="items", source="sums")
    assert [(one.fields["id"], one.text) for one in found] == [
        (item["id"], f"{item['prompt']}\n{item['answer']}") for item in ITEMS
    ]
    assert [span.target for span in found[0].spans] == [False, True]  # the answer is what an item asks for
    assert [one.fields["id"] for one in pages(view, split="items", search="IS 3 ")] == ["sum-3"]
    with pytest.raises(LookingError, match=r"tokens/\w+ has no items; it has heldout, train"):
        samples_of(view_of("tokens", looked_store), Query(split="items"))


@pytest.mark.parametrize("query", [{}, {"domain": "mathematics"}, {"search": "RIVERS"}])
def test_a_seed_draws_every_match_once(
    looked: dict[str, ArtifactRef], looked_store: str, query: dict[str, str]
) -> None:
    view = view_of("corpus_valid", looked_store)
    in_order = [one.fields["id"] for one in pages(view, **query)]
    drawn = [one.fields["id"] for one in pages(view, seed=4, **query)]
    assert sorted(drawn) == sorted(in_order) and drawn != in_order
    assert [one.fields["id"] for one in pages(view, seed=4, **query)] == drawn
    assert [one.fields["id"] for one in pages(view, seed=5, **query)] != drawn
    everything = [d for name in ("arithmetic/think", "chat/tools", "facts", "prose")
                  for d in stored(looked["corpus_valid"].uri, name)]  # fmt: skip
    wanted = [
        document["id"]
        for document in everything
        if query.get("domain", document["domain"]) == document["domain"]
        and query.get("search", "").lower() in document["text"].lower()
    ]
    assert sorted(in_order) == sorted(wanted) and len(in_order) > 50


def test_only_the_groups_of_the_page_are_read_whole(looked_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    original = TableFile.read

    def counted(self: TableFile, group: int, columns: list[str] | None = None) -> Any:
        if columns is None:
            read.append((self.path, group))
        return original(self, group, columns)

    monkeypatch.setattr(TableFile, "read", counted)
    samples_of(view_of("corpus_valid", looked_store), Query(source="arithmetic/think", n=3, page=10))  # rows 27 to 29
    assert set(read) == {("train/arithmetic-think/00000.parquet", 1)}


def test_token_shards_are_shown_as_text_with_their_targets(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    shard = open_shard(Path(looked["tokens"].uri), "train", "arithmetic/think")
    tokenizer = K2Tokenizer.load(looked["tokenizer"].uri)
    found = samples_of(view_of("tokens", looked_store), Query(domain="mathematics", n=2))
    for index, one in enumerate(found):
        ids, loss = shard.document(index)
        assert one.text == tokenizer.decode(ids.tolist())
        learned = "".join(span.text for span in one.spans if span.target)
        assert learned == tokenizer.decode(ids[loss].tolist()) and 0 < len(learned) < len(one.text)
        assert one.fields["source"] == "arithmetic/think"
        assert (one.fields["tokens"], one.fields["targets"]) == (len(ids), loss.sum())
    hits = pages(view_of("tokens", looked_store), source="facts", search="capital of RIVERS")
    wanted = [d["id"] for d in stored(looked["corpus_valid"].uri, "facts") if "capital of rivers" in d["text"].lower()]
    assert [one.fields["id"] for one in hits] == wanted and wanted


def test_a_packed_row_shows_borders_targets_and_padding(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    sequences, tokenizer = PackedSequences(looked["sequences"].uri), K2Tokenizer.load(looked["tokenizer"].uri)
    found = samples_of(view_of("sequences", looked_store), Query(n=40))
    assert [one.fields["row"] for one in found] == list(range(40))
    for row, one in enumerate(found):
        values = {name: tensor[0].numpy() for name, tensor in sequences.batch(row, 1).items()}
        numbers = [span.document for span in one.spans]
        assert sorted(set(numbers)) == sorted(set(values["document"].tolist()))
        assert one.fields["targets"] == values["loss_mask"].sum()
        assert one.fields["padding"] == (values["document"] < 0).sum() == 128 - one.fields["tokens"]
        for number, source in enumerate(one.fields["documents"]):
            inside = values["document"] == number
            assert sequences.sources.index(source) == values["source"][inside][0]
            text = "".join(span.text for span in one.spans if span.document == number and span.target)
            assert text == "".join(_runs(tokenizer, values["tokens"], values["loss_mask"] & inside))


def _runs(tokenizer: K2Tokenizer, ids: np.ndarray, chosen: np.ndarray) -> list[str]:
    borders = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return [tokenizer.decode(ids[a:b].tolist()) for a, b in zip(borders[::2], borders[1::2], strict=True)]


def test_rows_are_found_by_source_and_text(looked_store: str) -> None:
    view = view_of("sequences", looked_store)
    found = samples_of(view, Query(source="facts", search="capital of the", n=3, seed=1))
    assert len(found) == 3
    assert all("facts" in one.fields["documents"] and "capital of the" in one.text for one in found)
    with pytest.raises(LookingError, match="has no 'fakts'; there are arithmetic/think, chat/tools, facts, prose"):
        samples_of(view, Query(source="fakts"))


def test_quarantined_rows_come_with_reason_file_and_row(looked_store: str) -> None:
    view = view_of("corpus_valid", looked_store)
    assert reasons_of(view) == [
        Reason("few_words", 13, "samples"),
        Reason("exact_duplicate", 3, "samples"),
        Reason("encoding", 2, "rows"),
        Reason("malformed_json", 1, "rows"),
        Reason("over_long", 1, "rows"),
    ]
    found = samples_of(view, Query(reason="encoding"))
    assert [(one.fields["file"], one.fields["row"], one.text) for one in found] == [
        ("b.jsonl", 2, "caf\ufffd"),
        ("a.jsonl", 9, "na\ufffdve"),
    ]
    assert len(samples_of(view, Query(reason="quarantined"))) == 3
    assert [one.text for one in samples_of(view, Query(reason="few_words", search="SHORTER"))] == ["Shorter."]
    with pytest.raises(LookingError, match="nothing was set aside as 'encodng'; did you mean 'encoding'"):
        samples_of(view, Query(reason="encodng"))


def test_an_object_store_is_looked_into_where_it_is(
    looked: dict[str, ArtifactRef], s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    store = Store.open(f"s3://{s3_server.bucket}/{tmp_path.name}-{time.time_ns()}")

    def copy(reference: ArtifactRef) -> Callable[[Path], dict[str, float]]:
        return lambda folder: shutil.copytree(reference.uri, folder, dirs_exist_ok=True) and {}

    for kind in ("corpus_valid", "tokens"):
        store.build(Identity(kind, "1", {}, {}), copy(looked[kind]))
    monkeypatch.setenv("K2_HOME", str(tmp_path / "elsewhere"))
    near, far = (view_of(uri, store.uri) for uri in (looked["corpus_valid"].uri, "corpus_valid"))
    for query in (Query(page=3), Query(seed=1), Query(search="rivers"), Query(reason="quarantined")):
        assert samples_of(far, query) == samples_of(near, query) != []
    tokenizer = looked["tokenizer"].uri
    nearby = samples_of(view_of(looked["tokens"].uri, store.uri), Query(n=3), tokenizer)
    assert samples_of(view_of("tokens", store.uri), Query(n=3), tokenizer) == nearby
    assert not (tmp_path / "elsewhere").exists(), "files are read where they lie"


def test_a_file_and_a_folder_are_looked_into_like_an_artifact(looked: dict[str, ArtifactRef], tmp_path: Path) -> None:
    documents = stored(looked["corpus_valid"].uri, "facts")
    path = parts_of(Path(looked["corpus_valid"].uri), "train", "facts")[0]
    for reference in (path, path.parent):
        found = samples_of(view_of(str(reference), str(tmp_path)), Query(n=2))
        assert [one.fields["id"] for one in found] == [document["id"] for document in documents[:2]]
    shards = view_of(str(Path(looked["tokens"].uri) / "train" / "facts"), str(tmp_path))
    with pytest.raises(LookingError, match="name its folder by --tokenizer"):
        samples_of(shards, Query(n=1))
    assert samples_of(shards, Query(n=1), looked["tokenizer"].uri)[0].text == documents[0]["text"]


def test_a_file_of_other_columns_is_shown_as_it_is(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "completion": "Because."}, {"prompt": None, "completion": "None."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    found = samples_of(view_of(str(tmp_path / "pairs.parquet"), str(tmp_path)), Query())
    assert [one.text for one in found] == [str(row) for row in rows]
    pq.write_table(pa.Table.from_pylist([{"text": "A river.", "prompt": "Write."}]), tmp_path / "texts.parquet")
    texts = view_of(str(tmp_path / "texts.parquet"), str(tmp_path))
    assert [one.text for one in samples_of(texts, Query(search="river"))] == ["A river."]


def test_what_is_not_there_is_said(looked: dict[str, ArtifactRef], looked_store: str, tmp_path: Path) -> None:
    view = view_of("corpus_valid", looked_store)
    with pytest.raises(LookingError, match="has no source 'chat/tool'; did you mean 'chat-tools'"):
        samples_of(view, Query(source="chat/tool"))
    with pytest.raises(LookingError, match="has no domain 'maths'; there are knowledge, mathematics, prose, tools"):
        samples_of(view_of("tokens", looked_store), Query(domain="maths"))
    with pytest.raises(MissingArtifact, match="no artifact matches 'corpus_vald'"):
        view_of("corpus_vald", looked_store)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(LookingError, match=r"broken\.parquet cannot be read as parquet"):
        samples_of(view_of(str(tmp_path), looked_store), Query())


def test_domains_of_the_pages_are_those_of_the_sources(looked_store: str) -> None:
    found = Counter(one.fields["domain"] for one in pages(view_of("tokens", looked_store)))
    assert found == {"knowledge": 54, "mathematics": 360, "prose": 108, "tools": 135}
