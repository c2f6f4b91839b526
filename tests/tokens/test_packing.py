"""Layouts against hand-computed examples, and the invariants any layout must keep."""

import numpy as np
import pytest

from k2model.tokens.packing import (
    MIN_FILLER,
    Layout,
    Pieces,
    Rows,
    best_fit,
    concatenate,
    placing_order,
    split,
)


def whole(lengths: list[int]) -> Pieces:
    length = np.array(lengths, dtype=np.int64)
    return Pieces(np.zeros_like(length), np.arange(len(length)), np.zeros_like(length), length)


def contents(layout: Layout) -> list[list[tuple[int, int, int]]]:
    """Per row its (document, start, length), after checking that columns leave neither holes nor overlaps."""
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(int(layout.row.max()) + 1)]
    ends = [0] * len(rows)
    for index, row in enumerate(layout.row.tolist()):
        assert layout.column[index] == ends[row]
        length = int(layout.pieces.length[index])
        ends[row] += length
        rows[row].append((int(layout.pieces.document[index]), int(layout.pieces.start[index]), length))
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
    layout = best_fit(whole([4, 7, 2, 6, 3]), np.zeros(5, dtype=bool), 10)
    assert [[document for document, _, _ in row] for row in contents(layout)] == [[1, 4], [3, 0], [2]]
    # First fit would put the 2 into row 0 (room 4); best fit takes the tighter row 1 (room 3).
    layout = best_fit(whole([6, 7, 2]), np.zeros(3, dtype=bool), 10)
    assert [[document for document, _, _ in row] for row in contents(layout)] == [[1, 2], [0]]


def test_rows_choose_the_tightest_room() -> None:
    rows = Rows(10)
    assert [rows.place(length) for length in (5, 6, 7)] == [0, 1, 2]
    assert rows.largest_room() == 5
    assert rows.place(4) == 1
    assert rows.place(3) == 2
    assert rows.place(6) == 3
    assert rows.place(5) == 0
    assert rows.place(10) == 4
    assert rows.count == 5 and rows.largest_room() == 4


def test_small_documents_keep_their_order() -> None:
    # Rows of 16: what is longer than 2 is large.
    assert placing_order(np.array([1, 9, 2, 3, 2, 16, 1]), 16).tolist() == [5, 1, 3, 0, 2, 4, 6]


def test_documents_longer_than_a_row_are_split() -> None:
    pieces = split(whole([25, 10, 3]), 10)
    assert pieces.document.tolist() == [0, 0, 0, 1, 2]
    assert pieces.start.tolist() == [0, 10, 20, 0, 0]
    assert pieces.length.tolist() == [10, 10, 5, 10, 3]


@pytest.mark.parametrize("capacity", [64, 100, 256])
def test_best_fit_keeps_every_token_and_documents_whole(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    lengths = rng.integers(5, 120, 9000).tolist()
    layout = best_fit(whole(lengths), np.zeros(len(lengths), dtype=bool), capacity)
    assert_complete(layout, lengths, capacity)
    pieces = -(-np.array(lengths) // capacity)
    assert len(layout.pieces) == pieces.sum(), "only documents longer than a row are in pieces"


def test_natural_text_is_cut_into_the_room_that_is_left() -> None:
    rng = np.random.default_rng(0)
    lengths = [90] * 400 + rng.integers(200, 400, 60).tolist()  # 400 rows of 128 with 38 free
    order = rng.permutation(len(lengths))
    documents = whole(lengths).take(order)
    natural = documents.length > 90
    layout = best_fit(documents, natural, 128)
    assert_complete(layout, lengths, 128)
    filled = np.bincount(layout.row, weights=layout.pieces.length)
    assert (filled > 128 - MIN_FILLER).mean() > 0.99, "there is enough natural text for every row"
    assert min(layout.pieces.length[layout.pieces.document < 400]) == 90


def test_natural_text_stays_whole_where_there_is_no_room() -> None:
    lengths = [64] * 300 + [128] * 40
    natural = np.array([False] * 300 + [True] * 40)
    layout = best_fit(whole(lengths), natural, 128)
    assert_complete(layout, lengths, 128)
    assert len(layout.pieces) == len(lengths) and layout.rows == 190


def test_room_too_small_for_a_useful_piece_stays() -> None:
    lengths = [10 - MIN_FILLER + 1] * 50 + [1]
    natural = np.array([False] * 50 + [True])
    layout = best_fit(whole(lengths), natural, 10)
    assert_complete(layout, lengths, 10)


def test_concatenation_by_hand() -> None:
    layout = concatenate(whole([4, 7, 12, 3]), 10)
    assert contents(layout) == [[(0, 0, 4), (1, 0, 6)], [(1, 6, 1), (2, 0, 9)], [(2, 9, 3), (3, 0, 3)]]
    assert layout.rows == 2, "the last row is not complete"


def test_concatenation_keeps_every_token() -> None:
    lengths = np.random.default_rng(0).integers(1, 70, 500).tolist()
    layout = concatenate(whole(lengths), 32)
    assert_complete(layout, lengths, 32)
    assert layout.rows == sum(lengths) // 32
