"""The home of a month: a store that begins as the lifecycle's, what has been done of the month, and its journal.

The lifecycle's artifacts are linked, not copied: no file of a store is ever written again in its place, so two stores
may share them. What a store keeps of its own, leases and what is unfinished, is not taken along.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from k2model.artifacts import ArtifactRef, Store, make
from k2model.artifacts.files import files_at
from k2model.artifacts.outside import read_typed
from k2model.continual.entries import Rollback
from k2model.continual.fold import fold
from k2model.continual.ledger import FOLDER, Ledger
from k2model.continual.state import Judged, State
from k2model.errors import K2Error
from k2model.lifecycle.steps import Owner, StepRow, Work, data_rows, full_name, inputs_of, phase_rows
from k2model.recipe import Recipe

TAKEN_ALONG = ("_ledger",)  # of the folders that are no artifacts; of lines what was judged before their first turn
JOURNAL = "journal"


class CannotLink(K2Error):
    """The month's home lies where files cannot be linked to those of the lifecycle's store."""


def linked(source: Path, target: Path) -> int:
    """Links every artifact of the store at `source` into the one at `target`, those that are there left as they are;
    how many files that were. Raises CannotLink for another file system."""
    count = 0
    for folder, _, names in os.walk(source):
        below = Path(folder).relative_to(source)
        if below.parts and below.parts[0].startswith("_") and below.parts[0] not in TAKEN_ALONG:
            continue
        (target / below).mkdir(parents=True, exist_ok=True)
        for name in names:
            count += _link(Path(folder, name), target / below / name)
    for ledger in sorted((source / FOLDER).glob("*/ledger")):
        first = judged_alone(Ledger.open(Store.open(source), ledger.parent.name))
        for number in range(1, first.entries + 1):
            path = Path(FOLDER, ledger.parent.name, "ledger", f"{number:08d}.json")
            (target / path.parent).mkdir(parents=True, exist_ok=True)
            count += _link(source / path, target / path)
    return count


def judged_alone(ledger: Ledger) -> State:
    """What the entries of a ledger add up to before turns go on from a lifecycle's model: what was judged, and rolled
    back."""
    state = State(ledger.line)
    for entry in takewhile(lambda entry: isinstance(entry.content, Judged | Rollback), ledger.entries()):
        state = replace(fold(state, [entry.content]), entries=entry.number, head=entry.digest)
    return state


def _link(source: Path, place: Path) -> bool:
    """Whether it was not there yet."""
    if place.exists():
        return False
    try:
        os.link(source, place)
    except OSError as error:
        raise CannotLink(
            f"{place} cannot be a link to {source} ({error}); K2_HOME and the lifecycle's store must lie on one file "
            "system that has links"
        ) from error
    return True


def copied_tracking(source: Path, target: Path) -> None:
    """A copy of MLflow's database as it stands, where there is none yet."""
    if target.exists() or not source.exists():
        return
    scratch = target.with_suffix(".part")
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(scratch)) as other:
        one.backup(other)
    scratch.replace(target)


def completed(store: Store, recipe: Recipe) -> dict[str, ArtifactRef]:
    """Makes what the lifecycle lacks for the line's recipe: the scores of its phases on the month's benchmarks. Gives
    all that it has, by full name."""
    made: dict[str, ArtifactRef] = {}
    for row, owner in _rows(recipe):
        if not row.guards:
            inputs = inputs_of(row, owner, made)
            made[full_name(row, owner)] = make(store, row.build(Work(store, recipe, owner, inputs)))
    return made


def _rows(recipe: Recipe) -> Iterator[tuple[StepRow, Owner]]:
    yield from data_rows(recipe)
    yield from ((row, phase) for phase in recipe.phases for row in phase_rows(recipe, phase))


class Journal:
    """What has been done of a month: `<day>/<what>`, a file each, written when it is done.

    A killed month goes on from there. What it did not write down it does again, which changes nothing: a delivery that
    is there is left, and a schedule that has fired finds its own turn.
    """

    def __init__(self, home: Path) -> None:
        self._files = files_at(home / JOURNAL)

    def done(self, day: int, what: str) -> dict[str, str] | None:
        """What was written down then; None where it is still to be done."""
        path = f"{day:02d}/{what}.json"
        try:
            return read_typed(dict[str, str], self._files, path, "a note of the month", "Delete it: it is done again")
        except FileNotFoundError:
            return None

    def write(self, day: int, what: str, **said: str) -> None:
        self._files.create(f"{day:02d}/{what}.json", json.dumps(said, ensure_ascii=False).encode())
