"""Pieces, their files and what is read of them, without an engine: tensor parallelism and damage."""

import struct
from itertools import product
from pathlib import Path

import pytest
import torch

from k2model.artifacts import CorruptArtifact
from k2model.artifacts.files import LocalFiles
from k2model.model.parallel import Shard, tensor_dim
from k2model.training.checkpoint import (
    ALL,
    Columns,
    Piece,
    Placement,
    ShardImage,
    StoredTensors,
    load_model_state,
    shard,
    share,
)
from k2model.training.checkpoint import tensors as stored
from k2model.training.checkpoint.shard import read_header

WHOLE = {
    "model.embedding.weight": torch.arange(48.0).view(12, 4),
    "model.blocks.0.attention.query.weight": torch.arange(100.0, 132.0).view(8, 4),
    "model.blocks.0.mlp.down.weight": torch.arange(200.0, 240.0).view(5, 8),
    "model.norm.weight": torch.arange(300.0, 305.0),
}


def write(folder: Path, tensor: int, replicas: int, held_whole: str = "") -> StoredTensors:
    """As `tensor` x `replicas` workers write without ZeRO; of `held_whole` each worker has all."""
    files = LocalFiles(folder)
    for t, r in product(range(tensor), range(replicas)):
        cut, uncut = [], []
        for name, whole in WHOLE.items():
            if name == held_whole:
                uncut.append(Piece(name, tuple(whole.shape), ALL, 0, whole.reshape(-1)))
                continue
            dim = tensor_dim(name)
            local = whole if dim is None else Shard(t, tensor).cut(whole, dim)
            place = Placement.of(name, local.shape, Shard(t, tensor))
            piece = Piece(name, place.shape, place.columns, place.start, local.reshape(-1))
            (uncut if dim is None else cut).append(piece)
        pieces = [*share(cut, r, replicas), *share(uncut, r * tensor + t, replicas * tensor)]
        image = ShardImage(pieces)
        image.fill(pieces)
        files.write(f"rank-{r * tensor + t:05d}-of-{tensor * replicas:05d}.safetensors", image.data)
    return StoredTensors(files, (p for path, size in files.sizes().items() for p in read_header(files, path, size)))


@pytest.mark.parametrize("stored", [1, 2, 4])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("held_whole", ["", "model.embedding.weight"], ids=["all cut", "embedding whole"])
def test_any_tensor_size_reads_what_any_tensor_size_wrote(
    tmp_path: Path, stored: int, replicas: int, held_whole: str
) -> None:
    """Also what was written where each worker had a whole embedding, as the pieces themselves say."""
    tensors = write(tmp_path, stored, replicas, held_whole)
    assert set(tensors) == set(WHOLE)
    for name, whole in WHOLE.items():
        assert torch.equal(tensors[name], whole)
        for size in (1, 2, 4):
            for rank in range(size):
                shard, dim = Shard(rank, size), tensor_dim(name)
                wanted = whole if dim is None else shard.cut(whole, dim)
                assert torch.equal(tensors.local(name, name, shard), wanted), (name, size, rank)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_range_of_columns_can_be_read(tmp_path: Path, count: int) -> None:
    name = "model.blocks.0.mlp.down.weight"
    tensors = write(tmp_path, 2, 2)
    flat = Shard(count - 1, count).cut(WHOLE[name], 1).reshape(-1)
    columns = Columns(count - 1, count) if count > 1 else ALL
    for start in range(flat.numel()):
        for length in range(1, flat.numel() - start + 1):
            assert torch.equal(tensors.read(name, start, length, columns), flat[start : start + length])


def test_asking_for_a_name_reads_nothing_and_ranges_read_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = write(tmp_path, 2, 1)
    read: list[int] = []

    def read_range(self: LocalFiles, path: str, start: int, length: int) -> bytes:
        read.append(length)
        return (self.root / path).read_bytes()[start : start + length]

    monkeypatch.setattr(LocalFiles, "read_range", read_range)
    below = tensors.below("model.")
    assert "norm.weight" in below and "model.norm.weight" not in below and "model.norm.weight" in tensors
    assert set(below) == {name.removeprefix("model.") for name in WHOLE} and read == []
    for module in (shard, stored):
        monkeypatch.setattr(module, "BLOCK", 16)
    for name, whole in WHOLE.items():
        assert torch.equal(torch.cat(list(below.blocks(name.removeprefix("model.")))), whole.reshape(-1))
    # A block of columns is read by its rows, which are begun anew in the next.
    assert max(read) <= 4 * 16 and sum(read) <= 4 * (sum(whole.numel() for whole in WHOLE.values()) + 2 * 8)


def test_shares_are_equal_and_complete() -> None:
    pieces = [Piece(f"t{i}", (n,), ALL, 0, torch.arange(float(n))) for i, n in enumerate([100, 3, 1, 50])]
    shares = [list(share(pieces, index, 4)) for index in range(4)]
    assert [sum(p.tensor.numel() for p in part) for part in shares] == [38, 39, 38, 39]
    for piece in pieces:
        parts = [p for part in shares for p in part if p.name == piece.name]
        assert torch.equal(torch.cat([p.tensor for p in parts]), piece.tensor)
    assert list(share(pieces[2:3], 0, 2)) == [], "one element goes to one worker"


def test_the_same_pieces_give_the_same_bytes_and_safetensors_reads_them(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    write(tmp_path / "one", 2, 1)
    write(tmp_path / "two", 2, 1)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    values = load_file(tmp_path / "one" / "rank-00001-of-00002.safetensors")
    assert torch.equal(values["model.blocks.0.attention.query.weight"], torch.arange(116.0, 132.0))


def test_a_worker_whose_file_is_missing_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    assert torch.equal(load_model_state(tmp_path)["norm.weight"], WHOLE["model.norm.weight"])
    (tmp_path / "rank-00001-of-00002.safetensors").unlink()
    with pytest.raises(CorruptArtifact, match=r"as a whole: part 0 of 1 ends at \d+ of \d+ elements"):
        load_model_state(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 3) + b"\xff{}",
        struct.pack("<Q", 34) + b'{"__metadata__":{"format":"other"}}',
    ],
)
def test_what_is_no_checkpoint_file_is_refused_by_name(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "rank-00000-of-00001.safetensors").write_bytes(header)
    with pytest.raises(CorruptArtifact, match=r"rank-00000-of-00001\.safetensors is not a checkpoint's file"):
        load_model_state(tmp_path)


@pytest.mark.parametrize(
    ("good", "bad"), [(b'"data_offsets":[0,', b'"data_offsets":[9,'), (b'"F32"', b'"F16"'), (b"start", b"stxrt")]
)
def test_a_header_that_lies_is_refused(tmp_path: Path, good: bytes, bad: bytes) -> None:
    write(tmp_path, 1, 1)
    path = tmp_path / "rank-00000-of-00001.safetensors"
    data = path.read_bytes()
    assert good in data
    path.write_bytes(data.replace(good, bad, 1))
    with pytest.raises(CorruptArtifact, match="is not a checkpoint's file"):
        load_model_state(tmp_path)
