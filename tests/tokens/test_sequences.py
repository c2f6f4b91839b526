"""Packed phases: rows are exact, documents arrive as they were, and any number of workers sees the same rows."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from k2model.artifacts import Identity, Store, make
from k2model.artifacts.manifest import hash_file
from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS
from k2model.recipe.schema import (
    LongDocuments,
    MixtureEntry,
    OptimizerConfig,
    OptimizerName,
    Packing,
    PhaseConfig,
    TokenizerConfig,
)
from k2model.tokens import (
    K2Tokenizer,
    MixtureError,
    PackedSequences,
    TokensError,
    open_shard,
    pack_folder,
    read_composition,
    sequences_step,
    tokenizer_step,
    tokens_step,
)
from tests.tokens.phases import PHASE, WEIGHTS

STREAM = replace(PHASE, packing=Packing.CONCATENATE)


@pytest.fixture(scope="module")
def packed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    folder = tmp_path_factory.mktemp("sequences")
    pack_folder(tokens, PHASE, folder, 60.0)
    return PackedSequences(folder)


@pytest.fixture(scope="module")
def stream(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    folder = tmp_path_factory.mktemp("stream")
    pack_folder(tokens, STREAM, folder, 60.0)
    return PackedSequences(folder)


@pytest.fixture(scope="module")
def in_parts(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    """The same rows as `packed` in blocks of 7 and parts of 3 blocks."""
    folder = tmp_path_factory.mktemp("parts")
    pack_folder(tokens, PHASE, folder, 60.0, block_tokens=7 * 128 + 5, blocks_per_part=3)
    return PackedSequences(folder)


def composition(sequences: PackedSequences) -> dict[str, Any]:
    return json.loads(Path(sequences.where, "composition.json").read_text())


def all_rows(sequences: PackedSequences) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in sequences.batch(0, len(sequences)).items()}


def test_replies_of_the_rows_are_told_by_effort(tokens: Path, packed: PackedSequences, tmp_path: Path) -> None:
    """As they lie in the sources on average: the rows themselves hold as many opening tags, to within a tenth."""
    said = composition(packed)["efforts"]
    ids, source = all_rows(packed)["tokens"], all_rows(packed)["source"]
    chat = ids[source == list(WEIGHTS).index("chat/tools")]
    tags = {effort: SPECIAL_TOKENS.index(opening) for effort, (opening, _) in EFFORTS.items()}
    assert said == {effort: pytest.approx((chat == tag).sum(), rel=0.1) for effort, tag in tags.items()}
    without = replace(PHASE, mixture=(MixtureEntry("prose", 1.0), MixtureEntry("arithmetic/think", 1.0)))
    pack_folder(tokens, without, tmp_path, 60.0)
    assert json.loads((tmp_path / "composition.json").read_text())["efforts"] == {}


def known_documents(tokens: Path) -> dict[str, list[tuple[list[int], list[bool]]]]:
    shards = {name: open_shard(tokens, "train", name) for name in WEIGHTS}
    return {
        name: [tuple(part.tolist() for part in shard.document(i)) for i in range(len(shard))]  # type: ignore[misc]
        for name, shard in shards.items()
    }


def test_rows_are_exact_and_padding_is_marked(packed: PackedSequences, tokenizer: K2Tokenizer) -> None:
    rows = all_rows(packed)
    assert rows["tokens"].shape == (PHASE.steps * PHASE.global_batch, PHASE.sequence_length)
    padding = rows["document"] == -1
    assert (rows["tokens"][padding] == tokenizer.pad).all() and not (rows["tokens"][~padding] == tokenizer.pad).any()
    assert not rows["loss_mask"][padding].any() and (rows["source"][padding] == 255).all()
    assert padding.mean() == pytest.approx(composition(packed)["padding"], abs=1e-12)
    assert padding.mean() < 0.01


def test_documents_arrive_whole_and_as_they_were(packed: PackedSequences, tokens: Path) -> None:
    """Each run of one document id is a document of its source, or a part of a long or natural one."""
    rows, known = all_rows(packed), known_documents(tokens)
    whole = {name: {tuple(ids): loss for ids, loss in documents} for name, documents in known.items()}
    prose = [(bytes(np.array(ids, dtype=">u4")), loss) for ids, loss in known["prose"]]
    cut = 0
    for ids, loss, document, source in zip(
        *(rows[n] for n in ("tokens", "loss_mask", "document", "source")), strict=True
    ):
        borders = np.flatnonzero(np.diff(document, prepend=-2))
        used = document[borders][document[borders] >= 0]
        assert used.tolist() == list(range(len(used))), "documents are numbered in order, each in one place"
        for start, end in zip(borders, [*borders[1:], len(document)], strict=True):
            if document[start] < 0:
                continue
            assert len(set(source[start:end].tolist())) == 1
            name = packed.sources[source[start]]
            found = (tuple(ids[start:end].tolist()), loss[start:end].tolist())
            if found[0] in whole[name]:
                assert found[1] == whole[name][found[0]]
                continue
            assert name == "prose"
            cut += 1
            needle = bytes(ids[start:end].astype(">u4"))
            places = [(text.find(needle) // 4, marks) for text, marks in prose if needle in text]
            assert any(marks[at + 1 : at + end - start] == found[1][1:] for at, marks in places)
            assert found[1][0] is False
    assert cut > 0


def test_the_first_token_of_a_document_is_never_a_target(packed: PackedSequences, stream: PackedSequences) -> None:
    for sequences in (packed, stream):
        rows = all_rows(sequences)
        first = np.diff(rows["document"], prepend=-2, axis=1) != 0
        assert not rows["loss_mask"][first].any()
        assert rows["loss_mask"].sum() == composition(sequences)["targets"] > 0


def test_concatenation_is_one_stream(stream: PackedSequences, tokens: Path) -> None:
    rows = all_rows(stream)
    assert (rows["document"] >= 0).all() and composition(stream)["padding"] == 0
    flat = rows["tokens"].reshape(-1).tolist()
    begins = [i for i, token in enumerate(flat) if token == 0]
    known = {tuple(ids) for documents in known_documents(tokens).values() for ids, _ in documents}
    assert all(tuple(flat[a:b]) in known for a, b in itertools.pairwise(begins))


@pytest.mark.parametrize("phase", [PHASE, STREAM, replace(PHASE, sequence_length=512, global_batch=2, steps=80)])
def test_shares_are_what_the_mixture_wants(tokens: Path, tmp_path: Path, phase: PhaseConfig) -> None:
    pack_folder(tokens, phase, tmp_path, 60.0)
    sequences = PackedSequences(tmp_path)
    rows, facts = all_rows(sequences), composition(sequences)
    assert list(facts["sources"]) == sequences.sources
    assert facts["tokens"] == (rows["source"] != 255).sum()
    for index, name in enumerate(sequences.sources):
        one = facts["sources"][name]
        assert one["tokens"] == (rows["source"] == index).sum()
        assert one["share_wanted"] == pytest.approx(WEIGHTS[name] / 100)
        assert one["share"] == pytest.approx(one["share_wanted"], abs=0.02)
        assert one["epochs"] == one["tokens"] / int(open_shard(tokens, "train", name).lengths.sum())


def test_a_tiny_family_is_not_starved(tokens: Path, tmp_path: Path) -> None:
    weights = {"prose": 50.0, "chat/tools": 47.0, "facts": 3.0}
    mixture = tuple(MixtureEntry(name, weight) for name, weight in weights.items())
    phase = replace(PHASE, sequence_length=512, global_batch=2, steps=60, mixture=mixture)
    pack_folder(tokens, phase, tmp_path, 60.0)
    assert composition(PackedSequences(tmp_path))["sources"]["facts"]["share"] == pytest.approx(0.03, abs=0.004)


def test_copies_and_buckets_arrive_whole_beside_weights(tokens: Path, tmp_path: Path) -> None:
    """Every fact three times, of sums only the bucket that there is, and the rest prose."""
    mixture = (
        MixtureEntry("facts", copies=3),
        MixtureEntry("arithmetic/think", epochs=1, bucket="1-1"),
        MixtureEntry("prose", 1),
    )
    phase = replace(PHASE, mixture=mixture, steps=20, mixing=replace(PHASE.mixing, short_tokens=128))
    pack_folder(tokens, phase, tmp_path, 60.0)
    sequences = PackedSequences(tmp_path)
    assert sequences.sources == ["facts", "arithmetic/think[1-1]", "prose"]
    assert sequences.domains == ["knowledge", "mathematics", "prose"]
    facts = composition(sequences)["sources"]["facts"]
    assert facts["documents"] == pytest.approx(3 * len(open_shard(tokens, "train", "facts")), rel=0.02)
    assert facts["epochs"] == pytest.approx(3, rel=0.02)
    assert composition(sequences)["sources"]["arithmetic/think[1-1]"]["epochs"] == pytest.approx(1, rel=0.02)
    short = composition(sequences)["short_context"]
    lengths = {name: open_shard(tokens, "train", name).lengths for name in ("facts", "arithmetic/think", "prose")}
    wanted = sum(
        composition(sequences)["sources"][key]["share_wanted"] * lengths[name][lengths[name] <= 128].sum()
        / lengths[name].sum()
        for key, name in zip(sequences.sources, lengths, strict=True)
    )  # fmt: skip
    assert (short["tokens"], short["wanted"]) == (128, pytest.approx(wanted))
    assert short["real"] == pytest.approx(wanted, abs=0.05)


def test_too_little_short_context_stops_the_pack(tokens: Path, tmp_path: Path) -> None:
    only_prose = replace(PHASE, mixture=(MixtureEntry("prose", 1),), mixing=replace(PHASE.mixing, short_tokens=20))
    with pytest.raises(MixtureError, match=r"phases\.mid_1\.mixture: \d\.\d\d% .* points short of the 30%"):
        pack_folder(tokens, only_prose, tmp_path, 60.0)


def test_rows_mix_sources_at_every_stage(packed: PackedSequences) -> None:
    """The first and the last quarter of the phase see the same mixture."""
    source = all_rows(packed)["source"]
    quarter = len(source) // 4
    early, late = (np.bincount(part.reshape(-1), minlength=4)[:4] for part in (source[:quarter], source[-quarter:]))
    assert np.abs(early / early.sum() - late / late.sum()).max() < 0.12


@pytest.mark.parametrize("global_batch", [1, 5, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_any_world_size_sees_the_same_rows(packed: PackedSequences, global_batch: int, world_size: int) -> None:
    everything = packed.batch(0, len(packed))
    for step in (0, 3, len(packed) // global_batch - 1):
        parts = [packed.batch(step, global_batch, rank, world_size) for rank in range(world_size)]
        for name, expected in everything.items():
            rows = torch.empty_like(expected[:global_batch])
            seen = 0
            for rank, part in enumerate(parts):
                rows[rank::world_size] = part[name]
                seen += len(part[name])
            assert seen == global_batch
            assert torch.equal(rows, expected[step * global_batch : (step + 1) * global_batch])


def test_batches_are_tensors_of_the_promised_types(packed: PackedSequences) -> None:
    batch = packed.batch(2, PHASE.global_batch, 1, 2)
    types = {name: tensor.dtype for name, tensor in batch.items()}
    assert types == {"tokens": torch.int64, "loss_mask": torch.bool, "document": torch.int64, "source": torch.uint8}
    assert {tensor.shape for tensor in batch.values()} == {(4, 128)}
    batch["tokens"].zero_()
    assert not torch.equal(packed.batch(2, PHASE.global_batch, 1, 2)["tokens"], batch["tokens"])


def test_loss_bits_of_rows_that_begin_inside_a_byte(tokens: Path, tmp_path: Path) -> None:
    pack_folder(tokens, replace(PHASE, sequence_length=61), tmp_path, 60.0)
    sequences = PackedSequences(tmp_path)
    rows = all_rows(sequences)
    assert rows["loss_mask"].sum() == composition(sequences)["targets"]
    first = np.diff(rows["document"], prepend=-2, axis=1) != 0
    assert not rows["loss_mask"][first].any()
    one = sequences.batch(7, 1)
    assert torch.equal(one["loss_mask"][0], torch.from_numpy(rows["loss_mask"][7]))


def test_bad_requests_are_refused(packed: PackedSequences, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"step 40 is out of range; 320 rows make steps 0\.\.39"):
        packed.batch(40, 8)
    for arguments in ((-1, 8), (0, 0), (0, 8, 2, 2), (0, 8, -1, 2)):
        with pytest.raises(TokensError):
            packed.batch(*arguments)
    packed.check_vocabulary(340)
    with pytest.raises(TokensError, match="vocabulary of 340 tokens, the model has 256"):
        packed.check_vocabulary(256)
    with pytest.raises(TokensError, match=r"sequences\.json: no such file"):
        PackedSequences(tmp_path)


def test_mixtures_that_cannot_be_met_are_refused(tokens: Path, tmp_path: Path) -> None:
    unknown = replace(PHASE, mixture=(MixtureEntry("chat/tool", 1.0),))
    with pytest.raises(MixtureError, match="did you mean 'chat/tools'"):
        pack_folder(tokens, unknown, tmp_path, 60.0)
    with pytest.raises(MixtureError, match=r"mixture\.facts: .* times the 2 allowed"):
        pack_folder(tokens, PHASE, tmp_path, 2.0)


def test_tokens_beyond_the_vocabulary_are_refused(tokens: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens, folder)
    counts = json.loads((folder / "counts.json").read_text())
    (folder / "counts.json").write_text(json.dumps(counts | {"vocab_size": 280}))
    with pytest.raises(TokensError, match="the vocabulary ends at 280"):
        pack_folder(folder, PHASE, tmp_path, 60.0)


AGAIN = """
import sys
from pathlib import Path
from typing import Any
from tests.tokens.phases import PHASE
from k2model.tokens import pack_folder
pack_folder(Path(sys.argv[1]), PHASE, Path(sys.argv[2]), 60.0)
"""


def test_rows_are_byte_identical_when_packed_again(packed: PackedSequences, tokens: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    subprocess.run([sys.executable, "-c", AGAIN, str(tokens), str(tmp_path)], env=environment, check=True)
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(name) for name in names} == {
        "composition.json", "sequences.json", "sequences/00000.arrow", "sequences/00000.json"
    }  # fmt: skip
    for name in names:
        assert (tmp_path / name).read_bytes() == Path(packed.where, name).read_bytes()


def test_rows_are_the_same_in_any_blocks_and_parts(packed: PackedSequences, in_parts: PackedSequences) -> None:
    assert (in_parts.index.blocks, in_parts.index.parts) == (46, 16)
    assert len(list(Path(in_parts.where, "sequences").glob("*.arrow"))) == 16
    ours, whole = all_rows(in_parts), all_rows(packed)
    assert all(np.array_equal(ours[name], whole[name]) for name in whole)
    for step in (0, 1, 39):
        for rank in range(3):
            one, other = (rows.batch(step, 8, rank, 3) for rows in (in_parts, packed))
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert in_parts.batch(5, 1, 2, 3)["tokens"].shape == (0, 128)


def test_a_part_is_an_arrow_file_whose_batches_are_the_blocks(in_parts: PackedSequences) -> None:
    """Anyone may read the rows; the table beside a part says where each block is and what it must be."""
    path = Path(in_parts.where, "sequences/00004.arrow")
    data, table = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    with pa.ipc.open_file(path) as reader:
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    assert [batch.num_rows for batch in batches] == [7, 7, 7] and len(table) == 3
    rows = all_rows(in_parts)["tokens"][4 * 21 :]
    for number, (batch, entry) in enumerate(zip(batches, table, strict=True)):
        block = data[entry["offset"] : entry["offset"] + entry["size"]]
        assert hashlib.sha256(block).hexdigest() == entry["sha256"]
        assert batch["tokens"].to_pylist() == rows[7 * number : 7 * number + 7].tolist()
        assert pa.ipc.read_record_batch(pa.ipc.read_message(block), batch.schema).equals(batch)


def test_long_documents_are_skipped_and_counted_where_the_phase_says_so(tokens: Path, tmp_path: Path) -> None:
    mixture = tuple(MixtureEntry(name, 1.0) for name in ("facts", "arithmetic/think", "chat/tools"))
    known = known_documents(tokens)
    length = int(np.median([len(ids) for ids, _ in known["chat/tools"]]))
    phase = replace(PHASE, sequence_length=length, mixture=mixture, long_documents=LongDocuments.SKIP)
    pack_folder(tokens, phase, tmp_path, 60.0)
    facts = composition(PackedSequences(tmp_path))
    too_long = {name: sum(len(ids) > length for ids, _ in known[name]) for name in facts["sources"]}
    assert {name: one["documents_skipped"] for name, one in facts["sources"].items()} == too_long
    assert facts["skipped"] == sum(too_long.values()) / sum(len(known[name]) for name in too_long) > 0
    assert facts["split"] == facts["truncated"] == 0
    rows = all_rows(PackedSequences(tmp_path))
    whole = {tuple(ids) for name in too_long for ids, _ in known[name]}
    for ids, document in zip(rows["tokens"], rows["document"], strict=True):
        for number in range(document.max() + 1):
            assert tuple(ids[document == number].tolist()) in whole
    (tmp_path / "split").mkdir()
    pack_folder(tokens, replace(phase, long_documents=LongDocuments.SPLIT), tmp_path / "split", 60.0)
    facts = composition(PackedSequences(tmp_path / "split"))
    assert facts["skipped"] == 0 and facts["split"] > 0
    with pytest.raises(MixtureError, match="all 135 documents are longer than a row of 16 tokens"):
        pack_folder(tokens, replace(phase, sequence_length=16, mixture=mixture[2:]), tmp_path, 60.0)


def test_fingerprint_tells_rows_apart(packed: PackedSequences, tokens: Path, tmp_path: Path) -> None:
    pack_folder(tokens, replace(PHASE, seed=4), tmp_path, 60.0)
    other = PackedSequences(tmp_path)
    assert other.fingerprint != packed.fingerprint
    assert not np.array_equal(all_rows(other)["tokens"], all_rows(packed)["tokens"])
    assert PackedSequences(packed.where).fingerprint == packed.fingerprint


def test_steps_in_a_store(corpus: Path, packed: PackedSequences, tmp_path: Path) -> None:
    """From a corpus artifact to rows; a changed learning rate packs nothing, a changed seed does."""
    store = Store.open(str(tmp_path / "store"))

    def produce(folder: Path) -> dict[str, float]:
        shutil.copytree(corpus, folder, dirs_exist_ok=True)
        return {}

    source = store.build(Identity(step="corpus", version="1", config={}), produce)
    tokenizer = make(store, tokenizer_step(store, TokenizerConfig(vocab_size=340, sample_bytes=60_000), source))
    tokens = make(store, tokens_step(store, source, tokenizer))
    rows = make(store, sequences_step(store, PHASE, tokens))
    assert (tokenizer.kind, tokens.kind, rows.kind) == ("tokenizer", "tokens", "sequences")
    assert PackedSequences(store.fetch(rows)).fingerprint == packed.fingerprint
    assert rows.stats["tokens"] == composition(packed)["tokens"]
    assert read_composition(store, rows) == composition(packed)
    faster = replace(PHASE, name="other", optimizer=OptimizerConfig(OptimizerName.ADAMW, lr=1.0), rope_theta=5.0)
    assert make(store, sequences_step(store, faster, tokens)).uri == rows.uri
    assert make(store, sequences_step(store, replace(PHASE, seed=9), tokens)).digest != rows.digest
    part = "sequences/00000.arrow"
    assert hash_file(store.fetch(rows) / part) == hash_file(Path(packed.where, part))
