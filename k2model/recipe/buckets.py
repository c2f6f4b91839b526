"""Buckets of duplicate counts: K2 sets web text that was found once, twice or a thousand times apart.

A document stands for as many copies as deduplication found of it; K2's lists give each range of that
count its own number of epochs. Several buckets that follow each other can be named as one (`2+` is
K2's "others"). How copies are found and counted is curation.
"""

import difflib

#: K2's buckets, ascending; the last has no upper end.
BUCKETS = ("1-1", "2-5", "6-10", "11-100", "101-1000", "1001+")
UNBOUNDED = 2**31 - 1  # the largest count that the column `duplicates` (int32) can hold


def bucket_range(bucket: str) -> tuple[int, int]:
    """The smallest and the largest count in `bucket`; "" is all of them.

    Raises ValueError, with the nearest name, for what is no run of K2's buckets.
    """
    if not bucket:
        return 1, UNBOUNDED
    low, plus, rest = bucket.partition("+")
    first, _, last = low.partition("-")
    ends = first if plus else last
    if first.isdecimal() and ends.isdecimal() and not rest and not (plus and last):
        span = int(first), UNBOUNDED if plus else int(last)
        if span[0] in _LOWS and span[1] in _HIGHS and span[0] <= span[1]:
            return span
    near = difflib.get_close_matches(bucket, BUCKETS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(
        f"'{bucket}' is no bucket of duplicate counts; {hint}K2's are {', '.join(BUCKETS)}, and those that follow each "
        "other can be taken together, as in '2+' or '2-100'"
    )


def bucket(count: int) -> str:
    """The bucket of a duplicate count of at least 1."""
    return next(name for name in BUCKETS if count <= bucket_range(name)[1])


def overlap(one: str, other: str) -> bool:
    """Whether a document can be in both buckets."""
    (low, high), (other_low, other_high) = bucket_range(one), bucket_range(other)
    return low <= other_high and other_low <= high


_LOWS = {int(name.partition("-")[0].rstrip("+")) for name in BUCKETS}
_HIGHS = {int(name.partition("-")[2]) for name in BUCKETS if "-" in name} | {UNBOUNDED}
