"""A recipe's own files through the steps: raw corpus in parts, curated with counts, refused when mostly bad."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from k2model.artifacts import Store, make
from k2model.documents import read_documents
from k2model.documents.schema import parts_of
from k2model.documents.spans import segments_of
from k2model.errors import CorpusError
from k2model.ingest import raw_step
from k2model.inspect.artifact import view_of
from k2model.inspect.rejects import Reason, reasons_of
from k2model.recipe.schema import CorpusConfig, SourceConfig
from tests.curation.chain import curate

WORDS = ("the", "of", "and", "that", "have", "with", "to", "file", "module", "path", "error", "value", "reader")


def write(folder: Path, pages: list[str], broken: int = 0, files: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(files):
        lines = [json.dumps({"text": page, "url": f"u{i}"}) for i, page in enumerate(pages) if i % files == number]
        (folder / f"{number}.jsonl").write_text("\n".join(lines + ['{"text": "cut'] * broken) + "\n")
    return folder


def pages(count: int) -> list[str]:
    rng = Random(3)
    return [
        " ".join(f"{rng.choice(WORDS)} {rng.choice(WORDS)}{rng.randrange(9_000)}" for _ in range(40))
        for _ in range(count)
    ]


def config(folder: Path, part_bytes: int = 20_000) -> CorpusConfig:
    source = SourceConfig("web", location=str(folder), domain="prose", licence="CC0-1.0", heldout=0.0)
    return CorpusConfig(sources=(source,), heldout_items=8, part_bytes=part_bytes)


def test_a_source_named_like_the_part_that_is_built_is_counted_once(tmp_path: Path) -> None:
    wanted = config(write(tmp_path / "web", pages(20)))
    named = replace(wanted, sources=tuple(replace(source, name="built") for source in wanted.sources))
    made = [make(Store.open(tmp_path / name), raw_step(one)) for name, one in (("a", wanted), ("b", named))]
    assert made[0].stats == made[1].stats and made[0].stats["documents"] == 20


def test_files_become_parts_and_copies_over_parts_are_counted(tmp_path: Path) -> None:
    texts = pages(150)
    wanted = config(write(tmp_path / "web", [*texts, *texts[:30], *texts[:10]], broken=2))
    store = Store.open(tmp_path / "store")
    raw = make(store, raw_step(wanted), 2)
    account = json.loads((store.fetch(raw) / "ingest.json").read_text())["web"]
    assert (account["documents"], account["quarantined"]) == (190, {"malformed_json": 4})
    assert len(parts_of(store.fetch(raw), "train", "web")) > 4
    made = store.fetch(curate(store, wanted, raw))
    kept = [document for path in parts_of(made, "train", "web") for document in read_documents(path)]
    assert {segments_of(d)[1]["text"]: d["duplicates"] for d in kept} == {
        text: 3 if i < 10 else 2 if i < 30 else 1 for i, text in enumerate(texts)
    }
    assert all(d["origin"].split("#")[0] in ("0.jsonl", "1.jsonl") for d in kept)


def test_where_files_lie_is_no_identity_what_they_hold_is(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    first = make(store, raw_step(config(write(tmp_path / "here", pages(20)))))
    assert make(store, raw_step(config(write(tmp_path / "there", pages(20))))) == first
    write(tmp_path / "there", pages(21))
    assert make(store, raw_step(config(tmp_path / "there"))).digest != first.digest


def test_a_source_that_is_mostly_bad_stops_the_run_with_samples(tmp_path: Path) -> None:
    bad = config(write(tmp_path / "web", pages(8), broken=9))
    store = Store.open(tmp_path / "store")
    with pytest.raises(CorpusError, match=r"'web' is mostly bad: 18 of 26 rows") as failure:
        make(store, raw_step(bad))
    assert "malformed_json (18): 0.jsonl row 5" in str(failure.value)
    lenient = replace(bad, sources=(replace(bad.sources[0], max_quarantined=0.8),))
    assert make(store, raw_step(lenient)).stats["quarantined"] == 18.0


def test_shards_that_are_lost_stop_the_run_whoever_read_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "web", pages(60), files=10)
    for number in (1, 4, 8):
        (folder / f"{number}.jsonl").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9000\n"
        )
    store = Store.open(tmp_path / "store")
    with pytest.raises(CorpusError, match=r"3 of 10 files \(30\.0%\) are damaged(.|\n)*git lfs pull"):
        make(store, raw_step(config(folder, part_bytes=2_000)), 2)
    lenient = config(folder, part_bytes=2_000)
    lenient = replace(lenient, sources=(replace(lenient.sources[0], max_quarantined=0.9),))
    raw = make(store, raw_step(lenient))
    account = json.loads((store.fetch(raw) / "ingest.json").read_text())["web"]
    assert (account["files"], account["damaged_files"], account["quarantined"]) == (10, 3, {"pointer": 3})
    assert len(parts_of(store.fetch(raw), "train", "web")) > 4
    assert Reason("pointer", 3, "rows") in reasons_of(view_of("corpus_raw", str(tmp_path / "store")))
