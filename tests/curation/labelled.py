"""The labelled set of personal data, and what a finder of spans makes of it.

`data/personal_data.jsonl` has a text a line with its spans [start, end, kind] in characters, made by hand for this
project: values are invented and have valid check digits; the texts of group `negative/...` hold nobody's data. Keys in
it are written with escapes, so that scanners of sources do not take them for real ones.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SET = Path(__file__).parent / "data" / "personal_data.jsonl"
SAME = 0.5  # characters shared, of those that either has: two spans from there on are one and the same

Span = tuple[int, int, str]


class Score(NamedTuple):
    """`precision`: of what was found, the share that is labelled; `recall`: of what is labelled, the share found."""

    precision: float
    recall: float
    found: int
    labelled: int


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SET.read_text(encoding="utf-8").splitlines()]


def shared(one: Span, other: Span) -> float:
    common = min(one[1], other[1]) - max(one[0], other[0])
    return max(0, common) / (one[1] - one[0] + other[1] - other[0] - max(0, common))


def scores(
    find: Callable[[str], Sequence[Span]], said: list[str] | None = None
) -> tuple[dict[str, Score], dict[str, int]]:
    """By kind and `all`, and how many false ones there are by group; `said` gets a line for each error."""
    right, found, labelled = Counter[str](), Counter[str](), Counter[str]()
    false = Counter[str]()
    for row in rows():
        gold, mine = [tuple(span) for span in row["spans"]], list(find(row["text"]))
        labelled.update(kind for *_, kind in gold)
        for span in mine:
            found[span[2]] += 1
            hit = next((one for one in gold if one[2] == span[2] and shared(one, span) >= SAME), None)
            if hit:
                gold.remove(hit)
                right[span[2]] += 1
                continue
            false[row["group"]] += 1
            if said is not None:
                said.append(f"false {span[2]} {row['text'][span[0] : span[1]]!r} in {row['group']}: {row['text']!r}")
        if said is not None:
            said.extend(f"missed {kind} {row['text'][a:b]!r} in {row['text']!r}" for a, b, kind in gold)
    for counts in (right, found, labelled):
        counts["all"] = counts.total()
    return {
        kind: Score(
            right[kind] / found[kind] if found[kind] else 1.0, right[kind] / labelled[kind], found[kind], labelled[kind]
        )
        for kind in (*sorted(labelled.keys() - {"all"}), "all")
    }, dict(false)
