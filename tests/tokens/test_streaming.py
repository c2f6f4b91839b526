"""Rows from a real S3 service at a distance: the same batches as from a local folder, whatever happens on the way."""

import contextlib
import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactError, ArtifactRef, CorruptArtifact, Identity, Store
from k2model.artifacts.files import Files, files_at
from k2model.recipe.schema import Parallelism
from k2model.tokens import PackedSequences, pack_folder, read_composition
from k2model.tokens.rows import read_table
from k2model.tokens.streaming import StreamedBlocks
from tests.proxy import Proxy, proxied
from tests.servers import S3Server
from tests.tokens.phases import PHASE

LATENCY = 0.05
BATCH = PHASE.global_batch
#: 46 blocks of 7 rows in parts of 9 blocks.
SHAPE = {"block_tokens": 7 * 128, "blocks_per_part": 9}


@pytest.fixture(scope="module")
def local(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    folder = tmp_path_factory.mktemp("rows")
    pack_folder(tokens, PHASE, folder, 60.0, **SHAPE)
    return PackedSequences(folder)


@pytest.fixture(scope="module")
def ref(s3_server: S3Server, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """The same rows in the object store."""

    def produce(folder: Path) -> dict[str, float]:
        return pack_folder(tokens, PHASE, folder, 60.0, **SHAPE)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_server.environment, "K2_HOME": str(tmp_path_factory.mktemp("home"))}.items():
            patch.setenv(name, value)
        store = Store.open(f"s3://{s3_server.bucket}/streaming")
        return store.build(Identity(step="sequences", version="1", config={}), produce)


@pytest.fixture
def far(s3_server: S3Server) -> Iterator[Proxy]:
    with proxied(s3_server.endpoint, LATENCY) as proxy:
        yield proxy


@pytest.fixture
def store(s3_server: S3Server, ref: ArtifactRef, far: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store behind the proxy, with an empty cache."""
    for name, value in {**s3_server.environment, "AWS_ENDPOINT_URL": far.endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setattr("k2model.artifacts.files._clients", {})  # other tests' reach the server directly
    return Store.open(f"s3://{s3_server.bucket}/streaming")


def opened(store: Store, ref: ArtifactRef, **layout: Any) -> PackedSequences:
    return PackedSequences.open(store, ref, replace(Parallelism(), **layout))


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def cache(store: Store) -> dict[str, int]:
    [folder] = Path(os.environ["K2_HOME"]).glob("cache/*/blocks")
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # removed to make room
            if path.is_file():
                found[path.name] = path.stat().st_size
    return found


def block_ranges(local: PackedSequences) -> dict[tuple[str, int, int], int]:
    """Part file, first and last byte of each block -> its number."""
    found = {}
    for part in range(local.index.parts):
        path = Path(local.where, f"sequences/{part:05d}.json")
        for number, entry in enumerate(read_table(path.read_bytes(), str(path))):
            place = (f"{part:05d}.arrow", entry.offset, entry.offset + entry.size - 1)
            found[place] = part * local.index.blocks_per_part + number
    return found


def blocks_asked_for(far: Proxy, local: PackedSequences) -> list[int]:
    known = block_ranges(local)
    blocks = [one for one in far.ranges if one[0].endswith(".arrow")]
    return [known[path.rpartition("/")[2], first, last] for path, first, last in blocks]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_world_gets_the_rows_a_local_store_gives(store: Store, ref: ArtifactRef, local: PackedSequences) -> None:
    for world in (1, 3):
        ranks = [opened(store, ref) for _ in range(world)]
        for step in range(PHASE.steps):
            for rank, rows in enumerate(ranks):
                assert same(rows.batch(step, BATCH, rank, world), local.batch(step, BATCH, rank, world))
        for rows in ranks:
            assert (rows.fingerprint, rows.sources, len(rows)) == (local.fingerprint, local.sources, len(local))
            rows.close()
    assert read_composition(store, ref)["rows"] == len(local)


def test_a_rank_fetches_what_its_rows_need_and_nothing_of_the_steps_before(
    store: Store, ref: ArtifactRef, local: PackedSequences, far: Proxy
) -> None:
    """Steps of 32 rows for 16 ranks: each has two rows a step, in blocks of its own."""
    rows = opened(store, ref)
    far.ranges.clear()
    for step in (5, 6):
        assert same(rows.batch(step, 32, 3, 16), local.batch(step, 32, 3, 16))
    needed = {row // 7 for step in range(5, 10) for row in (32 * step + 3, 32 * step + 19)}
    wait_until(lambda: set(blocks_asked_for(far, local)) == needed)
    rows.close()
    assert min(needed) == 23 and len(needed) == 10
    assert max(Counter(blocks_asked_for(far, local)).values()) == 1


def test_blocks_come_before_they_are_needed_over_the_border_of_parts(
    store: Store, ref: ArtifactRef, local: PackedSequences, far: Proxy
) -> None:
    rows = opened(store, ref)
    far.ranges.clear()
    rows.batch(6, BATCH)  # rows 48..55, blocks 6 and 7 of a part of 9
    wait_until(lambda: set(blocks_asked_for(far, local)) == set(range(6, 16)))
    wait_until(lambda: len(cache(store)) == 10)
    far.cut()  # all that comes is here
    for step in range(7, 13):
        assert same(rows.batch(step, BATCH), local.batch(step, BATCH))
    far.mend()
    rows.close()


def test_the_cache_stays_below_its_bound(store: Store, ref: ArtifactRef, local: PackedSequences) -> None:
    block = max(last - first + 1 for _, first, last in block_ranges(local))
    bound = 6 * block
    rows = opened(store, ref, loader_cache_gb=bound / 1e9)
    for step in range(PHASE.steps):
        assert same(rows.batch(step, BATCH), local.batch(step, BATCH))
        assert sum(cache(store).values()) <= bound
    rows.close()
    again = opened(store, ref)
    assert same(again.batch(0, BATCH), local.batch(0, BATCH)), "what was removed comes again"
    again.close()


READ_ALL = """
import sys
from k2model.artifacts import ArtifactRef, Store
from k2model.tokens.rows import RowsIndex
from k2model.tokens.streaming import StreamedBlocks
root, uri, digest = sys.argv[1:]
store, ref = Store.open(root), ArtifactRef("sequences", uri, digest, "", {})
files, manifest = store.look_up(ref)
index = RowsIndex.from_json(store.read(ref, "sequences.json"), uri)
blocks = StreamedBlocks(files, manifest, index, 10**9, 60.0, 4)
for block in range(20):
    blocks.expect(list(range(block + 1, min(block + 5, 20))))
    blocks.read(block)
blocks.close()
"""


def test_processes_of_a_machine_share_one_download(
    store: Store, ref: ArtifactRef, local: PackedSequences, far: Proxy
) -> None:
    far.ranges.clear()
    command = [sys.executable, "-c", READ_ALL, store.uri, ref.uri, ref.digest]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert Counter(blocks_asked_for(far, local)) == Counter(range(20))


def test_a_damaged_cache_is_fetched_again(store: Store, ref: ArtifactRef, local: PackedSequences) -> None:
    rows = opened(store, ref)
    rows.batch(0, BATCH)
    wait_until(lambda: len(cache(store)) == 10)
    rows.close()
    [folder] = Path(os.environ["K2_HOME"]).glob("cache/*/blocks")
    for path in folder.glob("*-0000000?"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    again = opened(store, ref)
    for step in range(10):
        assert same(again.batch(step, BATCH), local.batch(step, BATCH))
    again.close()


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_part_is_named_when_its_rows_are_needed(
    store: Store, ref: ArtifactRef, local: PackedSequences, damage: str
) -> None:
    files = files_at(ref.uri)
    path = next(one.stored for one in store.look_up(ref)[1].files if one.path == "sequences/00001.arrow")
    data = files.read(path)
    where = next(first for name, first, _ in block_ranges(local) if name == "00001.arrow" and first > len(data) // 2)
    if damage == "altered":
        files.write(path, bytes(data[: where + 3000]) + bytes([data[where + 3000] ^ 1]) + bytes(data[where + 3001 :]))
    elif damage == "truncated":
        files.write(path, bytes(data[: where + 100]))
    else:
        files.remove(path)
    try:
        rows = opened(store, ref)
        assert same(rows.batch(0, BATCH), local.batch(0, BATCH))
        place = r"bytes \d+\.\.\d+ of .*" if damage != "missing" else ""
        with pytest.raises(CorruptArtifact, match=rf"{place}sequences/00001\.arrow .*Delete the folder"):
            for step in range(PHASE.steps):
                rows.batch(step, BATCH)
        rows.close()
    finally:
        files.write(path, data)


def test_a_lost_server_is_waited_for(store: Store, ref: ArtifactRef, local: PackedSequences, far: Proxy) -> None:
    rows = opened(store, ref)
    rows.batch(0, BATCH)
    far.cut()
    mending = threading.Timer(1.0, far.mend)
    mending.start()
    for step in range(1, PHASE.steps):
        assert same(rows.batch(step, BATCH), local.batch(step, BATCH))
    rows.close()
    mending.join()


class Silent:
    """A storage whose range reads fail as a store does that cannot be reached."""

    def __init__(self, files: Files) -> None:
        self.files, self.uri = files, files.uri

    def read(self, path: str) -> bytes:
        return self.files.read(path)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        if path.endswith(".json"):
            return self.files.read_range(path, start, length)
        raise ArtifactError(f"cannot read {path}: ConnectionRefusedError")


def test_a_server_that_stays_away_is_an_error_that_names_the_part(
    store: Store, ref: ArtifactRef, local: PackedSequences, caplog: pytest.LogCaptureFixture
) -> None:
    files, manifest = store.look_up(ref)
    blocks = StreamedBlocks(Silent(files), manifest, local.index, 10**9, 0.3, 2)  # type: ignore[arg-type]
    expected = (
        r"bytes \d+\.\.\d+ of s3://.*/sequences/00002\.arrow did not come within .*loader_wait_seconds=0\.3\. .*Refused"
    )
    with pytest.raises(ArtifactError, match=expected), caplog.at_level(logging.WARNING):
        blocks.read(20)
    assert "asking again for" in caplog.text
    blocks.close()


def test_a_full_disk_is_done_without_and_said(
    store: Store, ref: ArtifactRef, local: PackedSequences, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    rows = opened(store, ref)
    for step in range(5):
        assert same(rows.batch(step, BATCH), local.batch(step, BATCH))
    rows.close()
    assert "No space left on device" in caplog.text and "loader_cache_gb" in caplog.text
    assert cache(store) == {}
