"""The comparison as steps of a store: slices that resume on their own, and read no more than they need."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, Part, PartedStep, Store, make
from k2model.curation import clean_step, exact_pairs_step, near_pairs_step
from k2model.curation.parts import Numbering, parts_in
from k2model.curation.signatures import BANDS, SIGNATURES, SKETCHES
from k2model.recipe.curation import GENERATED, CurationProfile
from k2model.recipe.schema import CorpusConfig
from tests.curation import planted
from tests.curation.chain import compare
from tests.curation.planted import distinct_words, edited, prose, tool_document, write_raw
from tests.validation.gates import as_artifact

CONFIG = replace(planted.CONFIG, profiles=(CurationProfile("anything", ("prose",), overlap=False), GENERATED))
SLICE_ROWS = 12


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Near copies over the first two parts of prose, an exact one in the second; the third has none."""
    rng, folder = Random(7), tmp_path_factory.mktemp("raw")
    bases = [distinct_words(rng, 120) for _ in range(6)]
    other = [" ".join(distinct_words(rng, 120)) for _ in range(6)]
    texts = [[" ".join(words) for words in bases], [" ".join(edited(rng, words, 1)) for words in bases], other]
    texts[1].append(texts[0][0])
    parts = {("train", "prose", part): [prose(text, f"{part} {i}") for i, text in enumerate(own)]
             for part, own in enumerate(texts)}  # fmt: skip
    parts[("heldout", "prose", 0)] = []
    parts[("train", "chat/tools", 0)] = [tool_document("1+1"), tool_document("1+2"), tool_document("1+1")]
    write_raw(folder, parts)
    return folder


def cleaned(store: Store, raw: Path, config: CorpusConfig = CONFIG) -> ArtifactRef:
    return make(store, clean_step(store, config, as_artifact(store, "corpus_raw", raw)))


def logged(produce: Callable[..., Any], log: Path, bad: str, part: Part, folder: Path) -> dict[str, Any]:
    with log.open("a") as file:
        file.write(f"{part.name}\n")
    if part.name == bad:
        raise RuntimeError(f"cannot make {bad}")
    return produce(part, folder)


def watched(step: PartedStep, log: Path, bad: str = "") -> PartedStep:
    log.unlink(missing_ok=True)
    return replace(step, produce=partial(logged, step.produce, log, bad))


def test_what_is_found_does_not_depend_on_slices_or_workers(raw: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    clean = cleaned(store, raw)
    whole = compare(store, CONFIG, clean)
    sliced = compare(store, CONFIG, clean, workers=2, slice_rows=SLICE_ROWS)
    assert whole.identity != sliced.identity and whole.digest == sliced.digest
    assert whole.stats == sliced.stats == {"exact_duplicate": 2.0, "near_duplicate": 6.0}
    slices = {kind: sorted(record["stats"]["pairs"] for record in store.records(kind))
              for kind in ("exact_duplicate_pairs", "near_duplicate_pairs")}  # fmt: skip
    assert slices["exact_duplicate_pairs"] == [2.0, 2.0] and slices["near_duplicate_pairs"][0] == 6.0


def test_the_numbers_of_documents_are_those_of_the_signatures(raw: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    clean = cleaned(store, raw)
    parts = parts_in(raw, [source.name for source in CONFIG.sources])
    rows = [pq.read_metadata(part.file(Path(clean.uri) / SIGNATURES)).num_rows for part in parts]
    counted = Numbering.counted(parts, rows)
    assert (Path(clean.uri) / "numbering.json").read_text() == counted.to_json()
    assert counted.documents == 6 + 7 + 6 + 3


@pytest.mark.parametrize("kind", ["exact_duplicate_pairs", "near_duplicate_pairs"])
def test_a_failed_slice_alone_is_made_again(raw: Path, tmp_path: Path, kind: str) -> None:
    store, log = Store.open(tmp_path / "store"), tmp_path / "log"
    clean = cleaned(store, raw)
    step = exact_pairs_step(store, clean, 4)
    if kind == "near_duplicate_pairs":
        step = near_pairs_step(store, CONFIG, clean, make(store, step), 60)
    names = [part.name for part in step.parts()]  # of 22 hashes, or 14 bands of 19 documents
    assert len(names) == {"exact_duplicate_pairs": 6, "near_duplicate_pairs": 5}[kind]
    with pytest.raises(RuntimeError, match=f"cannot make {names[2]}"):
        make(store, watched(step, log, bad=names[2]))
    assert log.read_text().split() == names[:3]
    made = make(store, watched(step, log))
    assert log.read_text().split() == names[2:]
    shutil.rmtree(made.uri)
    assert make(store, step).digest == made.digest


def test_a_slice_reads_the_sketches_of_look_alikes_and_no_text(raw: Path, tmp_path: Path) -> None:
    """What no slice needs is damaged, and nobody notices; then what one needs."""
    store = Store.open(tmp_path / "store")
    clean = cleaned(store, raw)
    folder = Path(clean.uri)
    needless = [*(folder / "clean").rglob("*.parquet"), folder / SKETCHES / "train/prose/00002.parquet"]
    for path in needless:
        path.write_bytes(b"damaged")
    exact = make(store, exact_pairs_step(store, clean))
    compare(store, CONFIG, clean)
    assert not (folder / BANDS / "train/chat-tools").exists()
    (folder / SKETCHES / "train/prose/00001.parquet").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"sketches/train/prose/00001\.parquet"):
        make(store, near_pairs_step(store, CONFIG, clean, exact, SLICE_ROWS))


def test_a_corpus_without_natural_text_has_no_near_copies(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", {("train", "chat/tools", 0): [tool_document("1+1"), tool_document("1+1")]})
    store, config = Store.open(tmp_path / "store"), replace(CONFIG, sources=CONFIG.sources[1:])
    found = compare(store, config, cleaned(store, tmp_path / "raw", config))
    assert found.stats == {"exact_duplicate": 1.0, "near_duplicate": 0.0}


def test_a_corpus_on_an_object_store_is_compared_alike(raw: Path, tmp_path: Path, s3_uri: str) -> None:
    local, remote = Store.open(tmp_path / "store"), Store.open(s3_uri)
    found = [compare(store, CONFIG, cleaned(store, raw), slice_rows=SLICE_ROWS) for store in (local, remote)]
    assert found[0].digest == found[1].digest
