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

from k2model.artifacts import ArtifactRef, CorruptArtifact, Part, PartedStep, Store, make, make_part
from k2model.artifacts.places import PARTS
from k2model.curation import (
    clean_step,
    near_pairs_step,
    signature_matches_step,
    signature_ranges_step,
    sketch_ranges_step,
)
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
    pairs = {kind: [record["stats"]["pairs"] for record in store.records(kind)]
             for kind in ("signature_matches", "near_duplicate_pairs")}  # fmt: skip
    assert pairs["signature_matches"] == [2.0, 2.0] and pairs["near_duplicate_pairs"][0] == 6.0


def test_the_numbers_of_documents_are_those_of_the_signatures(raw: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    clean = cleaned(store, raw)
    parts = parts_in(raw, [source.name for source in CONFIG.sources])
    rows = [pq.read_metadata(part.file(Path(clean.uri) / SIGNATURES)).num_rows for part in parts]
    counted = Numbering.counted(parts, rows)
    assert (Path(clean.uri) / "numbering.json").read_text() == counted.to_json()
    assert counted.documents == 6 + 7 + 6 + 3


KINDS = ("signature_ranges", "signature_matches", "sketch_ranges", "near_duplicate_pairs")


def steps(store: Store, clean: ArtifactRef, until: str, slice_rows: int, sketch_rows: int) -> PartedStep:
    """The step of that kind, after those before it."""
    step = signature_ranges_step(store, CONFIG, clean, slice_rows)
    if until == KINDS[0]:
        return step
    ranges = make(store, step)
    step = signature_matches_step(store, ranges)
    if until == KINDS[1]:
        return step
    step = sketch_ranges_step(store, CONFIG, clean, ranges, make(store, step), sketch_rows)
    return step if until == KINDS[2] else near_pairs_step(store, CONFIG, make(store, step))


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_part_alone_is_made_again(raw: Path, tmp_path: Path, kind: str) -> None:
    store, log = Store.open(tmp_path / "store"), tmp_path / "log"
    step = steps(store, cleaned(store, raw), kind, 20, 40)
    names = [part.name for part in step.parts()]
    # Parts of 0, 84, 98, 84 keys and one of 3 hashes; 22 hashes and 19 x 14 keys, 101 of which several documents have.
    assert len(names) == dict(zip(KINDS, (5, 2 + 14, 5, 3), strict=True))[kind]
    with pytest.raises(RuntimeError, match=f"cannot make {names[2]}"):
        make(store, watched(step, log, bad=names[2]))
    assert log.read_text().split() == names[:3]
    made = make(store, watched(step, log))
    assert log.read_text().split() == names[2:]
    shutil.rmtree(made.uri)
    assert make(store, step).digest == made.digest


def test_sketches_of_look_alikes_are_read_and_no_text(raw: Path, tmp_path: Path) -> None:
    """What no part needs is damaged, and nobody notices; then what one needs."""
    store = Store.open(tmp_path / "store")
    clean = cleaned(store, raw)
    folder = Path(clean.uri)
    needless = [*(folder / "clean").rglob("*.parquet"), folder / SKETCHES / "train/prose/00002.parquet"]
    for path in needless:
        path.write_bytes(b"damaged")
    compare(store, CONFIG, clean)
    assert not (folder / BANDS / "train/chat-tools").exists()
    step = steps(store, clean, "sketch_ranges", SLICE_ROWS, 10)
    (folder / SKETCHES / "train/prose/00001.parquet").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"sketches/train/prose/00001\.parquet"):
        make(store, step)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_slice_is_told_of_a_damaged_range_of_its_own_and_reads_no_other(raw: Path, tmp_path: Path, kind: str) -> None:
    store = Store.open(tmp_path / "store")
    step = steps(store, cleaned(store, raw), kind, 20, 40)
    calm = {part.name: make_part(store, step, part).files for part in step.parts()}
    shutil.rmtree(Path(store.uri, PARTS, step.identity.name))
    (source,) = [ref for name, ref in step.identity.inputs.items() if name in ("ranges", "matches", "sketches")][-1:]
    damaged = next(path for path in sorted(Path(source.uri).rglob("*.ranges")) if path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[0] ^= 1  # of the first range alone
    damaged.write_bytes(content)
    told = 0
    for part in step.parts():
        try:
            assert make_part(store, step, part).files == calm[part.name]
        except CorruptArtifact as error:
            assert f"bytes 0..{error.args[0].split('..')[1].split()[0]} of {damaged}" in str(error)
            told += 1
    assert told == 1


def test_a_corpus_without_natural_text_has_no_near_copies(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", {("train", "chat/tools", 0): [tool_document("1+1"), tool_document("1+1")]})
    store, config = Store.open(tmp_path / "store"), replace(CONFIG, sources=CONFIG.sources[1:])
    found = compare(store, config, cleaned(store, tmp_path / "raw", config))
    assert found.stats == {"exact_duplicate": 1.0, "near_duplicate": 0.0}


def test_a_corpus_on_an_object_store_is_compared_alike(raw: Path, tmp_path: Path, s3_uri: str) -> None:
    local, remote = Store.open(tmp_path / "store"), Store.open(s3_uri)
    found = [compare(store, CONFIG, cleaned(store, raw), slice_rows=SLICE_ROWS) for store in (local, remote)]
    assert found[0].digest == found[1].digest
