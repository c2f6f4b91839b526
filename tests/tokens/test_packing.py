"""Layouts against hand-computed examples, and the invariants any layout must keep."""

import numpy as np
import pytest

from k2model.tokens.packing import (
    MIN_FILLER,
    Layout,
    OpenRows,
    Pieces,
    best_fit,
    concatenate,
    split,
    stream,
)


def whole(lengths: list[int]) -> Pieces:
    length = np.array(lengths, dtype=np.int64)
    return Pieces(np.zeros_like(length), np.arange(len(length)), np.zeros_like(length), length)


def laid_out(placement: Layout) -> Layout:
    """All rows, complete or not, as they were opened."""
    return placement.chosen(np.arange(int(placement.row.max()) + 1))


def contents(layout: Layout) -> list[list[tuple[int, int, int]]]:
    """Per row its (document, start, length)."""
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(int(layout.row.max()) + 1)]
    pieces = layout.pieces
    for row, *piece in zip(layout.row, pieces.document, pieces.start, pieces.length, strict=True):
        rows[row].append(tuple(map(int, piece)))  # type: ignore[arg-type]
    return rows


def assert_complete(layout: Layout, lengths: list[int], capacity: int) -> None:
    """Every token of every document is somewhere exactly once and no row overflows."""
    rows = contents(layout)
    assert max(sum(length for _, _, length in row) for row in rows) <= capacity
    covered = sorted(piece for row in rows for piece in row)
    position = {document: 0 for document in range(len(lengths))}
    for document, start, length in covered:
        assert start == position[document] and length > 0
        position[document] += length
    assert list(position.values()) == lengths


def test_best_fit_by_hand() -> None:
    # Rows of 10. By falling length: 7 opens row 0 (room 3), 6 row 1 (room 4), 4 fits only row 1 (full),
    # 3 fits row 0 exactly (full), 2 opens row 2.
    layout = laid_out(best_fit(whole([4, 7, 2, 6, 3]), np.zeros(5, dtype=bool), 10))
    assert [[document for document, _, _ in row] for row in contents(layout)] == [[1, 4], [0, 3], [2]]
    # First fit would put the 2 into row 0 (room 4); best fit takes the tighter row 1 (room 3).
    layout = laid_out(best_fit(whole([6, 7, 2]), np.zeros(3, dtype=bool), 10))
    assert [[document for document, _, _ in row] for row in contents(layout)] == [[1, 2], [0]]


class OneByOne:
    """Best fit as it is defined: each piece goes to the open row with the least room that takes it."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.rooms = capacity, list[int]()

    def place(self, length: int) -> None:
        fitting = [(room, row) for row, room in enumerate(self.rooms) if room >= length]
        if not fitting:
            self.rooms.append(self.capacity)
        row = min(fitting)[1] if fitting else len(self.rooms) - 1
        self.rooms[row] -= length


@pytest.mark.parametrize("capacity", [7, 32, 129])
@pytest.mark.parametrize("highest", [0.2, 0.6, 1.0])
def test_placing_by_counts_is_best_fit_document_by_document(capacity: int, highest: float) -> None:
    """The rooms that are left are the same, over several lots of documents that meet the rows of the earlier ones."""
    random = np.random.default_rng(capacity)
    rooms, reference = OpenRows(capacity), OneByOne(capacity)
    filled = np.zeros(0)
    for _ in range(4):
        lengths = random.integers(1, int(highest * capacity) + 1, 150)
        row = rooms.place(lengths)
        for length in sorted(lengths.tolist(), reverse=True):
            reference.place(length)
        filled = np.pad(filled, (0, rooms.count - len(filled))) + np.bincount(row, lengths, rooms.count)
        assert sorted(capacity - filled) == sorted(reference.rooms)
        assert rooms.room == sum(reference.rooms)


def test_small_documents_are_poured_in_their_order_into_the_rows_there_are() -> None:
    """Into rooms of 59 and 40 of 100, but for the last 10 of each; a room of 10 is left alone, then a row is opened."""
    rooms = OpenRows(100)
    assert rooms.place(np.array([40, 60, 90])).tolist() == [1, 1, 0]
    assert rooms.place(np.array([41, 60])).tolist() == [3, 2]
    assert rooms.pour(np.array([9, 10, 10, 10, 10, 8, 9, 10, 10, 10]), 10).tolist() == [3, 3, 3, 3, 3, 2, 2, 2, 4, 4]
    assert rooms.room == 10 + 10 + 13 + 80


def test_rows_mix_lengths() -> None:
    """Sorted best fit would make rows of nothing but the smallest documents."""
    lengths = np.repeat([40, 60, 80, 100, 120], 2000)
    documents = whole(np.random.default_rng(0).permutation(lengths).tolist())
    placed = best_fit(documents, np.zeros(len(documents.length), dtype=bool), 4096)
    shortest = np.bincount(placed.row, placed.pieces.length * (placed.pieces.length == 40), placed.rows) / 4096
    assert np.median(shortest) > 0.1 * 0.5 and shortest.mean() == pytest.approx(0.1, abs=0.01)
    assert (shortest < 0.5).mean() > 0.95


def test_protected_documents_are_left_out_last() -> None:
    documents = whole([9, 8, 7, 10])
    placed = best_fit(documents, np.zeros(4, dtype=bool), 10)
    assert placed.row.tolist() == [1, 2, 3, 0]
    assert placed.fullest(2).tolist() == [0, 1]
    assert placed.fullest(2, np.array([False, False, True, False])).tolist() == [0, 3]
    assert placed.fullest(3, np.array([False, False, True, False])).tolist() == [0, 1, 3]


def test_padding_of_long_rows_is_next_to_none() -> None:
    """Lengths as in K2's SFT (98% below 8K, 1,740 on average) in rows of 65,536: its report says below 0.004%."""
    lengths = np.random.default_rng(0).lognormal(6.966, 0.995, 90_000).astype(np.int64) + 6
    documents = whole(lengths[lengths <= 65_536].tolist())
    placed = best_fit(documents, np.zeros(len(documents.length), dtype=bool), 65_536)
    kept = placed.chosen(placed.fullest(int(placed.rows * 0.99)))
    assert len(placed.pieces.length) == len(documents.length), "nothing is cut"
    assert 1 - kept.pieces.length.sum() / (kept.rows * 65_536) < 4e-5


def test_a_stream_is_cut_by_rooms_and_documents() -> None:
    pieces, room = stream(whole([4, 7, 2]), np.array([5, 5, 9]))
    assert pieces.document.tolist() == [0, 1, 1, 1, 2]
    assert pieces.start.tolist() == [0, 0, 1, 6, 0]
    assert pieces.length.tolist() == [4, 1, 5, 1, 2]
    assert room.tolist() == [0, 0, 1, 2, 2]


def test_documents_longer_than_a_row_are_split() -> None:
    pieces = split(whole([25, 10, 3]), 10)
    assert pieces.document.tolist() == [0, 0, 0, 1, 2]
    assert pieces.start.tolist() == [0, 10, 20, 0, 0]
    assert pieces.length.tolist() == [10, 10, 5, 10, 3]


@pytest.mark.parametrize("capacity", [64, 100, 256])
def test_best_fit_keeps_every_token_and_documents_whole(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    lengths = rng.integers(5, 120, 9000).tolist()
    layout = laid_out(best_fit(whole(lengths), np.zeros(len(lengths), dtype=bool), capacity))
    assert_complete(layout, lengths, capacity)
    pieces = -(-np.array(lengths) // capacity)
    assert len(layout.pieces.length) == pieces.sum(), "only documents longer than a row are in pieces"


def test_natural_text_is_cut_into_the_room_that_is_left() -> None:
    rng = np.random.default_rng(0)
    lengths = [90] * 400 + rng.integers(200, 400, 60).tolist()  # 400 rows of 128 with 38 free
    order = rng.permutation(len(lengths))
    documents = whole(lengths).take(order)
    natural = documents.length > 90
    layout = laid_out(best_fit(documents, natural, 128))
    assert_complete(layout, lengths, 128)
    filled = np.bincount(layout.row, weights=layout.pieces.length)
    assert (filled > 128 - MIN_FILLER).mean() > 0.99, "there is enough natural text for every row"
    assert min(layout.pieces.length[layout.pieces.document < 400]) == 90


def test_natural_text_stays_whole_where_there_is_no_room() -> None:
    lengths = [64] * 300 + [128] * 40
    natural = np.array([False] * 300 + [True] * 40)
    layout = laid_out(best_fit(whole(lengths), natural, 128))
    assert_complete(layout, lengths, 128)
    assert len(layout.pieces.length) == len(lengths) and layout.rows == 190


def test_room_too_small_for_a_useful_piece_stays() -> None:
    lengths = [10 - MIN_FILLER + 1] * 50 + [1]
    natural = np.array([False] * 50 + [True])
    layout = laid_out(best_fit(whole(lengths), natural, 10))
    assert_complete(layout, lengths, 10)


def test_concatenation_by_hand() -> None:
    placed = concatenate(whole([4, 7, 12, 3]), 10)
    assert contents(laid_out(placed)) == [[(0, 0, 4), (1, 0, 6)], [(1, 6, 1), (2, 0, 9)], [(2, 9, 3), (3, 0, 3)]]
    assert placed.rows == 2, "the last row is not complete"


def test_concatenation_keeps_every_token() -> None:
    lengths = np.random.default_rng(0).integers(1, 70, 500).tolist()
    placed = concatenate(whole(lengths), 32)
    assert_complete(laid_out(placed), lengths, 32)
    assert placed.rows == sum(lengths) // 32
