"""Looking through token shards and packed rows: parts in parallel, a bounded number of tokens at a time."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k2model.artifacts.parts import map_in_processes
from k2model.corpus.documents import source_file
from k2model.errors import K2Error
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from k2model.tokens.rows import COMPOSITION_FILE, FOLDER, INDEX_FILE, RowsIndex
from k2model.tokens.shards import SPLITS, read_counts
from k2model.tokens.validation import frames, suites
from k2model.validation import Outcome, Suite, one_part
from k2model.validation.findings import Findings
from k2model.validation.render import Page, page_of
from k2model.validation.runner import Located, Runner

VOCABULARY = ("vocab_size", "bos", "pad")  # what `counts.json` says of the tokenizer
BYTES_PER_WORKER = 200_000_000  # of Arrow files, that pay for one more process


@dataclass(frozen=True)
class TokenPart:
    """What was found in one shard; `ids` are hashes of 8 bytes, [documents]."""

    name: str
    outcomes: tuple[Outcome, ...]
    amounts: Mapping[str, int]
    ids: "np.ndarray[Any, np.dtype[np.uint64]]"
    page: Page | None


def token_findings(folder: Path, config: ValidationConfig) -> Findings:
    """Everything about the tokens artifact in `folder`. Raises K2Error when it is none."""
    counts = read_counts(folder)
    paths = [path for split in SPLITS for path in sorted((folder / split).glob("*/*.arrow"))]
    if not paths:
        raise K2Error(f"{folder} holds no <split>/<source>/<part>.arrow: this is not a tokens artifact")
    vocabulary = {name: int(counts[name]) for name in VOCABULARY}
    check = partial(validate_token_parts, folder=folder, config=config, vocabulary=vocabulary)
    groups = list(_groups(paths))
    parts = [part for found in map_in_processes(check, groups, _workers(paths, config.workers)) for part in found]
    findings = Findings()
    findings.add_parts(
        [outcome for part in parts for outcome in part.outcomes], [part.page for part in parts if part.page]
    )
    said = {f"{split}/{source_file(name)}": one for split in SPLITS for name, one in counts[split].items()}
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        held = found.setdefault(part.name, {})
        for column, amount in part.amounts.items():
            held[column] = held.get(column, 0) + amount
    findings.check(suites.token_sources_suite(config), frames.token_source_frame(said, found, _repeated(parts)))
    return findings


def validate_token_parts(
    paths: Sequence[Path], folder: Path, config: ValidationConfig, vocabulary: Mapping[str, int]
) -> list[TokenPart]:
    """The outcomes of each of some shards below `folder`, small ones looked at together."""
    runner, suite = _token_runner(config, vocabulary["vocab_size"])
    found: dict[Path, list[Outcome]] = {path: [] for path in paths}
    pages: dict[Path, Page | None] = dict.fromkeys(paths)
    parts = {path: _Part() for path in paths}

    def look(waiting: Sequence[tuple[Path, Located]]) -> None:
        for (path, place), outcomes in zip(
            waiting, runner.run_together(suite, [one for _, one in waiting]), strict=True
        ):
            pages[path] = pages[path] or _page(runner, suite, f"{place.shard}/{path.stem}", outcomes)
            found[path] += outcomes

    waiting: list[tuple[Path, Located]] = []
    for path in paths:
        for batch in frames.batches_of(path):
            frame = frames.token_frame(batch, vocabulary["bos"], vocabulary["pad"])
            waiting.append((path, Located(frame, _shard(path, folder), path.stem, parts[path].amounts["documents"])))
            parts[path].add(frame)
            if sum(len(place.frame) for _, place in waiting) >= frames.ROWS_PER_FRAME:
                look(waiting)
                waiting = []
    if waiting:
        look(waiting)
    return [
        TokenPart(
            _shard(path, folder), tuple(one_part(found[path])), parts[path].amounts, parts[path].hashes, pages[path]
        )
        for path in paths
    ]


class _Part:
    """What is summed over a part's frames."""

    def __init__(self) -> None:
        self.amounts = {"documents": 0, "tokens": 0, "targets": 0}
        self._ids: list[np.ndarray[Any, np.dtype[np.uint64]]] = []

    def add(self, frame: pd.DataFrame) -> None:
        self._ids.append(pd.util.hash_array(frame["id"].to_numpy(dtype=object, na_value=""), categorize=False))
        self.amounts["documents"] += len(frame)
        self.amounts["tokens"] += int(frame["length"].sum())
        self.amounts["targets"] += int(frame["targets"].sum())

    @property
    def hashes(self) -> "np.ndarray[Any, np.dtype[np.uint64]]":
        return np.concatenate(self._ids) if self._ids else np.empty(0, np.uint64)


def _shard(path: Path, folder: Path) -> str:
    return "/".join(path.relative_to(folder).parts[:2])


def _groups(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Shards that are worth a process, and small ones together until they are."""
    group: list[Path] = []
    for path in paths:
        group.append(path)
        if sum(one.stat().st_size for one in group) >= BYTES_PER_WORKER:
            yield group
            group = []
    if group:
        yield group


def sequence_findings(folder: Path, config: ValidationConfig, phase: PhaseConfig) -> Findings:
    """Everything about the packed rows of `phase` in `folder`. Raises K2Error when they are not there."""
    paths = sorted((folder / FOLDER).glob("*.arrow"))
    if not paths or not all((folder / name).is_file() for name in (COMPOSITION_FILE, INDEX_FILE)):
        raise K2Error(
            f"{folder} holds no rows, no {COMPOSITION_FILE} or no {INDEX_FILE}: this is no sequences artifact"
        )
    composition = json.loads((folder / COMPOSITION_FILE).read_text(encoding="utf-8"))
    index = RowsIndex.from_json((folder / INDEX_FILE).read_bytes(), str(folder))
    suite = suites.rows_suite(config, index.vocab_size)
    findings, total = Findings(), 0
    amounts = np.zeros((2, 256), dtype=np.int64)
    for path in paths:
        row, found = 0, []
        for rows in frames.rows_of(path):
            frame = frames.row_frame(rows, index.pad, len(index.sources))
            outcomes = findings.runner.run(suite, frame, phase.name, path.stem, row)
            if not findings.pages and (page := _page(findings.runner, suite, path.stem, outcomes)):
                findings.pages.append(page)
            found += outcomes
            amounts += frames.amounts_by_source(rows)
            row += len(rows.tokens)
        findings.add_parts(one_part(found), [])
        total += row
    table = frames.composition_frame(composition, index.sources, amounts)
    findings.check(suites.composition_suite(config, config.max_epochs), table)
    wanted = phase.steps * phase.global_batch
    findings.check(suites.phase_suite(config), frames.phase_frame(phase.name, composition, total, wanted))
    return findings


@cache
def _token_runner(config: ValidationConfig, vocab_size: int) -> tuple[Runner, Suite]:
    """One for all parts a process looks at."""
    return Runner(), suites.tokens_suite(config, vocab_size)


def _page(runner: Runner, suite: Suite, table: str, outcomes: Iterable[Outcome]) -> Page | None:
    return None if all(one.success for one in outcomes) else page_of(runner, suite.name, table)


def _repeated(parts: Sequence[TokenPart]) -> dict[str, int]:
    """`split/stem` -> its documents whose id another document has too. Missing ids are another rule's matter."""
    hashes = np.concatenate([part.ids for part in parts])
    owner = np.repeat(np.arange(len(parts)), [len(part.ids) for part in parts])
    _, where, copies = np.unique(hashes, return_inverse=True, return_counts=True)
    missing = pd.util.hash_array(np.array([""], dtype=object), categorize=False)[0]
    again = np.bincount(owner[(copies[where] > 1) & (hashes != missing)], minlength=len(parts))
    counts: dict[str, int] = {}
    for part, count in zip(parts, again.tolist(), strict=True):
        counts[part.name] = counts.get(part.name, 0) + count
    return counts


def _workers(paths: Sequence[Path], most: int) -> int:
    return max(1, min(most, sum(path.stat().st_size for path in paths) // BYTES_PER_WORKER))
