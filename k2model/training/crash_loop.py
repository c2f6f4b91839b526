"""Attempts at a phase that come to nothing, counted in the store: what ends a crash loop.

Nodes are lost every day, so an orchestrator's retries must be plentiful, and a job whose every attempt dies at the same
place would use them all up. What tells the two apart is progress: attempts that begin, one after the other, at the same
step have saved nothing. Beside the artifact that is being made lie, of these alone,

    attempts/00007.json              step it began at; written by rank 0 once the workers have met
    attempts/00007.failed.json       why it ended, where somebody lived to tell: of an agent, whose workers did not
    attempts/00007.stopped.json      it was told to stop (preemption, Ctrl-C): it does not count
    attempts/00007.final.json        with an error that no orchestrator retries: counting begins anew behind it

Attempts whose workers never meet are not seen here; what bounds those is the time they wait and the number of retries.
"""

import contextlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypedDict

from k2model.artifacts.files import Files, files_at
from k2model.artifacts.outside import read_typed
from k2model.errors import ArtifactError, CorruptArtifact, CrashLoop, Preempted
from k2model.recipe.schema import PhaseConfig
from k2model.training.failures import FOLDER
from k2model.training.world import World

ATTEMPTS = "attempts"
NOTE_SECONDS = 10.0  # an agent waits for the store, which it may be cut off from; its pod's grace has no more
_TEXT = 600  # characters of a reason
_NOTE = re.compile(r"\d{1,9}(?:\.(?:failed|stopped|final))?\.json")
_ADVICE = f"Delete the folder {ATTEMPTS} beside it: attempts are then counted anew"
_PLACE = "attempt.json"  # in the agent's folder of failures


class Ending(str, Enum):
    """How an attempt ended; of several notes the first in this order counts."""

    FINAL = "final"
    FAILED = "failed"
    STOPPED = "stopped"


def begin(files: Files, phase: PhaseConfig, step: int) -> int:
    """Note that an attempt starts from `step`, and return its number. For rank 0; `files`: at the artifact.

    Raises CrashLoop when `checkpoints.attempts_without_progress` attempts before it did the same, and none saved
    anything; the attempt behind that one counts from the start again.
    """
    paths = [path.rpartition("/")[2] for path in files.sizes(ATTEMPTS)]
    if stray := [path for path in paths if not _NOTE.fullmatch(path)]:
        raise CorruptArtifact(f"{files.uri}/{ATTEMPTS}/{stray[0]} is no note of an attempt. {_ADVICE}")
    numbers = sorted({int(path.split(".")[0]) for path in paths})
    alike: list[_Past] = []  # newest first
    for number in reversed(numbers):
        past = _past(files, number, paths)
        if past.step != step or past.ending == Ending.FINAL:
            break
        alike.append(past)
    fruitless = [past for past in alike if past.ending != Ending.STOPPED]
    for number in numbers[: len(numbers) - len(alike)]:
        for path in [path for path in paths if path.startswith(_name(number))]:
            files.remove(f"{ATTEMPTS}/{path}")
    number = max(numbers, default=0) + 1
    files.write(f"{ATTEMPTS}/{_name(number)}.json", json.dumps({"step": step, "began": time.time()}).encode())
    if 0 < phase.checkpoints.attempts_without_progress <= len(fruitless):
        note(files, number, Ending.FINAL, "refused")
        raise _crash_loop(phase, step, fruitless)
    return number


def note(files: Files, number: int, ending: Ending, text: str) -> None:
    """Say how an attempt ended; of several workers and agents that say the same the first is kept."""
    files.create(f"{ATTEMPTS}/{_name(number)}.{ending.value}.json", json.dumps({"text": text[:_TEXT]}).encode())


def forget(files: Files) -> None:
    """The artifact is finished."""
    files.remove(ATTEMPTS)


@contextlib.contextmanager
def noted(files: Files, number: int, world: World) -> Iterator[None]:
    """Inside an attempt is at work. Its agent notes how it ends, for which it is told where; without one (a process
    alone) this does."""
    if (folder := os.environ.get(FOLDER)) is not None:
        if world.local_rank == 0:
            Path(folder, _PLACE).write_text(json.dumps({"uri": files.uri, "number": number}))
        yield
        return
    try:
        yield
    except (Preempted, KeyboardInterrupt) as error:
        if world.first:
            note(files, number, Ending.STOPPED, str(error))
        raise
    except Exception as error:
        if world.size == 1:  # else it may only have lost another one
            with contextlib.suppress(Exception):  # the error itself says more
                note(files, number, Ending.FINAL, f"{type(error).__name__}: {error}")
        raise


def note_for_workers(folder: Path, ending: Ending, text: str) -> None:
    """What an agent says of the attempt that its workers had begun, if they had; `folder`: of failures."""
    try:
        place = read_typed(_Place, files_at(folder), _PLACE, "the place of an attempt", "")
    except (FileNotFoundError, ArtifactError):
        return

    def work() -> None:
        with contextlib.suppress(Exception):  # then it counts as one that ended without a word
            note(files_at(place["uri"]), place["number"], ending, text)

    thread = threading.Thread(target=work, name="note", daemon=True)
    thread.start()
    thread.join(NOTE_SECONDS)


class _Place(TypedDict):
    uri: str
    number: int


class _Said(TypedDict):
    text: str


@dataclass(frozen=True)
class _Began:
    step: int | None = None
    began: float = 0.0  # seconds since the epoch


@dataclass(frozen=True)
class _Past(_Began):
    """An attempt: how it ended (None: without a word), and the text of that."""

    ending: Ending | None = None
    text: str = "without a word: killed, or its node was lost"


def _past(files: Files, number: int, paths: list[str]) -> _Past:
    """Raises CorruptArtifact for a note that is none."""
    name = _name(number)
    ending = next((ending for ending in Ending if f"{name}.{ending.value}.json" in paths), None)
    began = _Began()  # of a note alone, whose attempt is gone
    with contextlib.suppress(FileNotFoundError):
        path = f"{ATTEMPTS}/{name}.json"
        began = read_typed(_Began, files, path, "a note of an attempt", _ADVICE)
        if not 0 <= began.began < 1e11:
            raise CorruptArtifact(f"{files.uri}/{path} began at no time: {began.began:g} seconds. {_ADVICE}")
    if ending is None:
        return _Past(began.step, began.began)
    path = f"{ATTEMPTS}/{name}.{ending.value}.json"
    said = read_typed(_Said, files, path, "a note of an attempt's end", _ADVICE)
    return _Past(began.step, began.began, ending, said["text"])


def _name(number: int) -> str:
    return f"{number:05d}"


def _crash_loop(phase: PhaseConfig, step: int, fruitless: list[_Past]) -> CrashLoop:
    ends = Counter(past.text for past in fruitless)
    said = "\n".join(f"  {count} x {text}" for text, count in ends.most_common())
    first = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(fruitless[-1].began))
    return CrashLoop(
        f"phase '{phase.name}': {len(fruitless)} attempts in a row since {first} began at step {step} of {phase.steps} "
        f"and ended before they had saved another one (checkpoints.save_every={phase.checkpoints.save_every}):\n"
        f"{said}\nOne more would end alike, so nothing tries again. Look at the log of one and mend what ends it; "
        "where nodes are lost sooner than a checkpoint comes, lower checkpoints.save_every. Then run the same command "
        "again: it goes on from the newest checkpoint, and counting begins anew "
        "(checkpoints.attempts_without_progress; 0 = never end for that)"
    )
