"""How much comparing a corpus reads: as much of each document, however many there are."""

from benchmarks.peers.reads import CONFIG, COPIES, LOOK_ALIKES, compared

PARTS, DOCUMENTS = (4, 16), 2_000
SLICE_ROWS, SKETCH_ROWS = 28_000, 7_000
DUPLICATES = "duplicates"


def test_bytes_read_of_a_document_do_not_grow_with_the_corpus() -> None:
    """Of four times the documents in four times the slices; what a slice reads of all would be four times as much."""
    small, large = (compared(parts, DOCUMENTS, SLICE_ROWS, SKETCH_ROWS, f"reads-{parts}") for parts in PARTS)
    one, other = (parts * DOCUMENTS for parts in PARTS)
    assert all(large.parts[step] >= 3.5 * parts for step, parts in small.parts.items() if step != DUPLICATES)
    for step in ("signature_ranges", "signature_matches", "sketch_ranges", DUPLICATES):
        assert large.bytes[step] / other < 1.2 * small.bytes[step] / one, step  # manifests of inputs grow
    for found in (small, large):  # a sketch for each slice in which its document shares a key, at most one a key
        keys = found.stats["sketch_ranges"]["keys"]
        assert found.bytes["near_duplicate_pairs"] < 1.1 * keys * (CONFIG.minhash_permutations + 2 * 8)
    for found, documents in ((small, one), (large, other)):
        stats = found.stats[DUPLICATES]
        assert abs(stats["exact_duplicate"] / documents - COPIES) < 0.01
        assert 0.9 * LOOK_ALIKES < stats["near_duplicate"] / documents < LOOK_ALIKES
