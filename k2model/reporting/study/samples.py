"""Samples in the page: columns of numbers over one table of texts, compressed as one.

What is the same is held once: a prompt that a hundred checkpoints were given, an answer that ten of them gave. The page
unpacks it in a worker (`study.js`), which searches it there, so that typing never waits.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from k2model.errors import visible
from k2model.evals.matrix import Checkpoint
from k2model.reporting.sections_scores import grade_title
from k2model.reporting.study.content import Shown, Study

LONGEST = 4_000  # characters of a text; what is longer is cut in its middle, and says so
SHOWN_COLUMNS = 12  # checkpoints of the gallery that the page shows without a script


def shortened(text: str, longest: int = LONGEST) -> str:
    """Its beginning and its end, with control characters as pictures."""
    if len(text) <= longest:
        return visible(text)
    half = longest // 2
    return visible(f"{text[:half]} […{len(text) - 2 * half:,} characters left out…] {text[-half:]}")


def packed(study: Study) -> str:
    """All samples as base64 of zlib's stream of JSON: `checkpoints` and `scores` by name, `texts`, and a column each of
    what a sample is of and what it says, as places in those."""
    scores = list(dict.fromkeys(shown.result.score for shown in study.samples))
    places = {score: place for place, score in enumerate(scores)}
    order = {checkpoint: place for place, checkpoint in enumerate(study.checkpoints)}
    texts: dict[str, int] = {}

    def place_of(text: str) -> int:
        return texts.setdefault(shortened(text), len(texts))

    columns: dict[str, list[Any]] = {
        "score": [places[shown.result.score] for shown in study.samples],
        "checkpoint": [order[shown.checkpoint] for shown in study.samples],
        "item": [place_of(shown.result.item) for shown in study.samples],
        "prompt": [place_of(shown.result.prompt) for shown in study.samples],
        "written": [place_of(shown.result.generation) for shown in study.samples],
        "wanted": [place_of(shown.result.wanted) for shown in study.samples],
        "grade": [grade_title(shown.result) for shown in study.samples],
    }
    content = {
        "checkpoints": [checkpoint.reference for checkpoint in study.checkpoints],
        "scores": scores,
        "texts": list(texts),
        **columns,
    }
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def gallery_columns(asked: Sequence[Checkpoint], most: int = SHOWN_COLUMNS) -> list[Checkpoint]:
    """Checkpoints that are shown side by side: all of them where there is room, else the ends of phases and, as far as
    there is room, others evenly between."""
    if len(asked) <= most:
        return list(asked)
    ends = [one for one in asked if one.last][-most:]
    others = [one for one in asked if not one.last]
    room = most - len(ends)
    step = -(-len(others) // room) if room else len(others) + 1
    return sorted([*ends, *others[step - 1 :: step]])


def gallery_of(study: Study) -> list[tuple[str, Shown, list[Shown]]]:
    """For each score its fixed prompt: the score, any sample of it, and the samples that are shown side by side. One
    score of a family at most for every form of its prompt."""
    found = []
    seen: set[tuple[str, str]] = set()
    by_score: dict[str, list[Shown]] = {}
    for shown in study.samples:
        if study.gallery.get(shown.result.score) == shown.result.item:
            by_score.setdefault(shown.result.score, []).append(shown)
    for score, own in by_score.items():
        key = (own[0].result.prompt, own[0].result.generation)
        if key not in seen:  # one answer that is checked in several ways
            seen.add(key)
            columns = set(gallery_columns([shown.checkpoint for shown in own]))
            found.append((score, own[0], [shown for shown in own if shown.checkpoint in columns]))
    return found


def grades_of(samples: Iterable[Shown]) -> list[str]:
    """Every grade that occurs, the commonest first."""
    counts: dict[str, int] = {}
    for shown in samples:
        title = grade_title(shown.result)
        counts[title] = counts.get(title, 0) + 1
    return sorted(counts, key=lambda grade: -counts[grade])
