"""Cells: the scores of one model on one task, an artifact each, of kind `score`.

A cell's identity is the model (references, and how it is run) with what its `Measure` declares: so the same task on the
same weights is one cell whichever phase, matrix or command asks for it, a task added later is a cell that is missing,
and nothing else is measured again.

Files: `scores.json` (rows without a phase), `items.parquet` (what came of each item), and in `attachments/record.json`
which backend answered, with which versions.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Store, fingerprint
from k2model.errors import DiskFull, EvaluationError, K2Error, StoreWriteError, for_user
from k2model.evals.answers import Answers, Progress, Watch
from k2model.evals.backend import Backend
from k2model.evals.items import ITEMS, ItemResult, read_items, write_items
from k2model.evals.measures import Bounds, Measure
from k2model.evals.repeats import completed, guessed, with_repeats
from k2model.evals.scores import SCORES, ScoreRow, by_score, read_scores, rounded, row_of, write_scores
from k2model.recipe.repeats import repeated_of
from k2model.versions import STEP_VERSIONS

ASKED = "_asked"  # beside the artifacts: what unfinished cells have been answered
RECORD = "attachments/record.json"
SERVED = "endpoint"  # as identities name the backend of a server
PATIENCE_SECONDS = 7 * 86_400.0  # for another process at the same cell, which ends or is found to have died


@dataclass(frozen=True)
class Subject:
    """A model that can be asked.

    name: as it was referred to. inputs: the artifacts it is made of, none where it lies elsewhere. identity: literals
    that tell beside them which model it is, and how it is run. open: loads it with room for so many tokens, or connects
    to its server.
    """

    name: str
    inputs: Mapping[str, ArtifactRef]
    identity: Mapping[str, Any]
    bounds: Bounds
    open: Callable[[int], Backend]

    @property
    def served(self) -> bool:
        """Whether it is behind a server, which takes texts and chats alone."""
        return self.identity.get("backend") == SERVED

    @property
    def most(self) -> float:
        """Tokens that it can be given at most."""
        return self.bounds.positions or math.inf

    @cached_property
    def key(self) -> str:
        """The same for the same model, run in the same way."""
        return fingerprint([dict(self.identity), {name: ref.digest for name, ref in self.inputs.items()}])


@dataclass(frozen=True)
class Cell:
    subject: Subject
    measure: Measure

    @cached_property
    def identity(self) -> Identity:
        config = {"name": self.measure.name, "model": dict(self.subject.identity), **self.measure.declared}
        return Identity("score", STEP_VERSIONS["score"], config, dict(self.subject.inputs))


@dataclass
class Opened:
    """The model that this process has loaded: one at a time, as it may fill the memory. refused: what was wrong with
    those that could not be, by their keys."""

    backend: Backend | None = None
    key: str = ""
    refused: dict[str, K2Error] = field(default_factory=dict)

    def of(self, cell: Cell) -> Backend:
        """The model of a cell, loaded when it is first asked for; another one is let go first. What is wrong with its
        weights is raised again for each of its cells, and they are not read again."""
        subject, reach = cell.subject, cell.measure.reach
        if error := self.refused.get(subject.key):
            raise error
        if self.backend is None or self.key != subject.key or self.backend.max_length < min(reach, subject.most):
            self.backend = None
            try:
                self.backend, self.key = subject.open(reach), subject.key
            except K2Error as error:
                self.refused[subject.key] = error
                raise
        return self.backend


@dataclass(frozen=True)
class CellFailure:
    """Why a cell could not be measured: the model and the task by their names, the kind of error and what it says."""

    model: str
    task: str
    kind: str
    message: str


class CellsFailed(EvaluationError):
    """Some cells could not be measured; all others were, and are kept."""


def make_cell(store: Store, cell: Cell, opened: Opened, watch: Watch | None = None) -> ArtifactRef:
    """Finds a cell's scores or measures them. What the model has answered is kept until then, so that a killed
    evaluation asks no item twice.

    Another process that is at the same cell is waited for. Raises what loading and asking raise, EvaluationError where
    there are no items or no verdicts.
    """
    kept = store.files_of(f"{ASKED}/{cell.identity.name}")

    def produce(folder: Path) -> dict[str, float]:
        backend = opened.of(cell)
        with Answers(kept, watch, store) as answers:
            results = cell.measure.ask(backend, answers)
        return write_cell(folder, cell, results, backend)

    made = store.build(cell.identity, produce, PATIENCE_SECONDS)
    kept.remove("")
    return made


def make_cells(store: Store, cells: Sequence[Cell]) -> tuple[list[ArtifactRef], list[CellFailure]]:
    """Finds or measures cells one after the other, each model loaded once, with a line of progress; those that fail
    keep no other from being measured.

    Raises at once where nothing more can be kept (DiskFull, StoreWriteError), and what is no error of a user's.
    """
    opened, made, failed = Opened(), [], []
    for cell in cells:
        name, task = cell.subject.name, cell.measure.name
        try:
            made.append(make_cell(store, cell, opened, Progress(f"{name} {task}")))
        except Exception as error:
            told = for_user(error)
            if told is None or isinstance(told, DiskFull | StoreWriteError):
                raise
            failed.append(CellFailure(name, task, type(told).__name__, str(told)))
    return made, failed


def failures_told(failures: Sequence[CellFailure], of: int) -> str:
    """What to say of all of them, those of one reason in one line; "" for none. of: how many cells were asked for."""
    if not failures:
        return ""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in failures:
        reasons.setdefault((one.kind, one.message), []).append(f"{one.model} {one.task}")
    lines = (f"\n  {', '.join(names)}: {kind}: {message}" for (kind, message), names in reasons.items())
    return (
        f"{len(failures)} of {of} cells could not be measured, all others are kept. Run the same command again when "
        f"this is mended, and only these are asked:{''.join(lines)}"
    )


def check_failures(failures: Sequence[CellFailure], of: int) -> None:
    """Raises CellsFailed where there are any."""
    if told := failures_told(failures, of):
        raise CellsFailed(told)


def write_cell(folder: Path, cell: Cell, results: Sequence[ItemResult], backend: Backend) -> dict[str, float]:
    """The files of a cell; the stats are its scores by name."""
    rows, items = measured(cell.measure, results)
    write_scores(folder / SCORES, rows)
    write_items(folder / ITEMS, items)
    record = {"backend": {"name": backend.name, **backend.identity}, "model": cell.subject.name}
    (folder / RECORD).parent.mkdir()
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")
    return {row.score: row.value for row in rows}


def measured(measure: Measure, results: Sequence[ItemResult]) -> tuple[list[ScoreRow], list[ItemResult]]:
    """The rows of a measure, and its results with those of pass@k and maj@k where items were asked several times."""
    chance, repeats, vote = measure.chance(), measure.repeats, measure.vote
    answers = by_score(results)
    if repeats == 1:
        return [row_of("", *own, measure.group, measure.unit, chance) for own in answers.items()], list(results)
    items = [one for own in answers.values() for one in with_repeats(own, repeats, vote)]
    rows = []
    for score, own in by_score(items).items():
        row = row_of("", score, own, measure.group, measure.unit, guessed(chance, score))
        if named := repeated_of(score):
            row = replace(row, completed=rounded(completed(answers[named.of], score, repeats, vote)))
        rows.append(row)
    return rows, items


def rows_of(store: Store, ref: ArtifactRef, phase: str = "", variant: str = "") -> list[ScoreRow]:
    """The rows of a cell, as those of a phase; `variant` (`@new_theta`) goes behind their scores' names."""
    rows = read_scores(store.read(ref, SCORES), f"{ref.uri}/{SCORES}")
    return [replace(row, phase=phase, score=f"{row.score}{variant}") for row in rows]


def results_of(store: Store, ref: ArtifactRef, variant: str = "") -> list[ItemResult]:
    """What came of each item of a cell, or of a phase's scores."""
    results = read_items(store.read(ref, ITEMS), f"{ref.uri}/{ITEMS}")
    return [replace(one, score=f"{one.score}{variant}") for one in results] if variant else list(results)


def missing(store: Store, cells: Sequence[Cell]) -> list[Cell]:
    """Those that are not there, each once."""
    unique = {cell.identity.key: cell for cell in cells}
    return [cell for cell in unique.values() if store.find(cell.identity) is None]


def share(cells: Sequence[Cell], workers: int) -> list[list[Cell]]:
    """The cells of each worker: the costliest first, each to the least loaded so far, those of one model together."""
    shares: list[list[Cell]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for cell in sorted(cells, key=lambda cell: (-cell.measure.cost, cell.measure.name, cell.subject.key)):
        worker = loads.index(min(loads))
        shares[worker].append(cell)
        loads[worker] += cell.measure.cost
    return [sorted(own, key=lambda cell: (cell.subject.key, -cell.measure.reach)) for own in shares]
