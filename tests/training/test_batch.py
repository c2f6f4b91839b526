"""Which rows and targets each worker gets: the same multiset in the same order for every layout."""

from dataclasses import dataclass

import pytest
import torch

from k2model.artifacts import Store
from k2model.model import training_flops
from k2model.model.loss import IGNORED
from k2model.model.parallel import WHOLE, Shard
from k2model.tokens import PackedSequences
from k2model.training.batch import Batch, read_ahead, read_batch
from k2model.training.layout import Layout
from k2model.training.world import World
from tests.training.job import MODEL, phase, sequences

GLOBAL_BATCH = 4


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    store = Store.open(tmp_path_factory.mktemp("store"))
    return PackedSequences.open(store, sequences(store, phase()))


@dataclass(frozen=True)
class Place:
    data: int
    context: int = 1
    tensor: int = 1

    def layouts(self) -> list[Layout]:
        """Of all workers, without the groups that only training needs."""
        return [
            Layout(World(), Shard(d, self.data), Shard(c, self.context), Shard(t, self.tensor), WHOLE, [])
            for d in range(self.data)
            for c in range(self.context)
            for t in range(self.tensor)
        ]

    def batches(self, rows: PackedSequences, step: int) -> list[Batch]:
        return [read_batch(rows, step, GLOBAL_BATCH, layout) for layout in self.layouts()]


def ids(batches: list[Batch]) -> list[tuple[int, ...]]:
    """The rows of a step in the order of the global batch: every worker has every n-th of them."""
    columns = [[tuple(row) for row in batch.tokens_BT.tolist()] for batch in batches]
    return [row for group in zip(*columns, strict=True) for row in group]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_each_step_has_the_same_rows_for_any_world_and_any_loader(
    rows: PackedSequences, workers: int, threads: int
) -> None:
    reference = [ids(Place(1).batches(rows, step)) for step in range(phase().steps)]
    read = dict(read_ahead(lambda step: Place(workers).batches(rows, step), range(phase().steps), threads))
    assert [ids(read[step]) for step in range(phase().steps)] == reference
    assert sorted(map(len, reference)) == [GLOBAL_BATCH] * phase().steps


def test_a_resumed_run_on_another_world_goes_on_with_the_rows_that_are_left(rows: PackedSequences) -> None:
    """Steps 0..4 by one worker, 5..8 by four, the rest by two: every row once, in the one order there is."""
    world = {step: 1 if step < 5 else 4 if step < 9 else 2 for step in range(phase().steps)}
    seen = [row for step, workers in world.items() for row in ids(Place(workers).batches(rows, step))]
    assert seen == [row for step in world for row in ids(Place(1).batches(rows, step))]


@pytest.mark.parametrize("place", [Place(2, context=2), Place(1, context=4), Place(1, context=2, tensor=2)])
def test_workers_of_a_row_hold_its_pieces_and_count_it_once(rows: PackedSequences, place: Place) -> None:
    whole = Place(1).batches(rows, 3)[0]
    parts = place.batches(rows, 3)
    assert sum(part.targets for part in parts) == whole.targets == int((whole.targets_BT != IGNORED).sum())
    assert sum(part.attended for part in parts) == whole.attended
    of_first_row = parts[: place.context * place.tensor : place.tensor]
    for name in ("tokens_BT", "targets_BT", "source_BT"):
        joined = torch.cat([getattr(part, name)[0] for part in of_first_row])
        assert torch.equal(joined, getattr(whole, name)[0]), name
    assert all(torch.equal(part.document_BR[0], whole.document_BR[0]) for part in of_first_row)


def test_a_target_behind_the_border_of_a_piece_is_not_lost(rows: PackedSequences) -> None:
    whole = rows.batch(0, GLOBAL_BATCH)
    left, _ = Place(1, context=2).batches(rows, 0)
    half = whole["tokens"].shape[1] // 2
    borders = torch.where(whole["loss_mask"][:, half], whole["tokens"][:, half], IGNORED)
    assert torch.equal(left.targets_BT[:, -1], borders)


def test_attended_pairs_are_those_within_documents(rows: PackedSequences) -> None:
    """Rows of 16 tokens hold documents of 10 and 6: 4 rows x (100 + 36) pairs."""
    assert Place(1).batches(rows, 0)[0].attended == 4 * (100 + 36)


def test_training_flops_by_hand() -> None:
    """MODEL multiplies 2 x (2x16x16 + 2x16x8 + 3x16x32) + 2 x 2 x 16 + 16 gains + 64 x 16 (head) = 5,712 weights."""
    assert training_flops(MODEL, tokens=10, attended=0) == 6 * 10 * 5_712
    assert training_flops(MODEL, tokens=0, attended=7) == 12 * 2 * 2 * 8 * 7
