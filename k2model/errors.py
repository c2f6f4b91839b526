"""Errors that are meant for the person who runs the pipeline, and what other errors mean to that person.

A message says what was wrong, where (file, field, row), what was expected and what to do about it.
Bugs are not `K2Error`s: they keep Python's own types, and their traceback.
"""

import contextlib
import difflib
import errno
import html
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from k2model.settings import home, masked_text, store_uri, tracking_uri

LISTED = 24  # names in a message
_PICTURES = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"},
    **{code: "\ufffd" for code in range(0x7F, 0xA0)},
    # Marks of direction, separators of lines that are no line feeds, and characters that show nothing and spell nothing
    # (joiners, which do spell, stay); halves of a character, which no output can encode.
    **{
        code: f"<U+{code:04X}>"
        for code in (
            0x061C,
            0x180E,
            0x200B,
            0x200E,
            0x200F,
            0x2028,
            0x2029,
            *range(0x202A, 0x202F),
            0x2060,
            *range(0x2066, 0x206A),
            0xFEFF,
            *range(0xD800, 0xE000),
            *range(0xE0000, 0xE0080),
        )
    },
}


_PICTURES_ESCAPED = {code: html.escape(shown) for code, shown in _PICTURES.items()}


class K2Error(Exception):
    """Something a user can act on. Its texts are shown and recorded, so secrets of addresses in them are masked."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*(masked_text(part) if isinstance(part, str) else part for part in parts))


def visible(text: str) -> str:
    """`text` with its control characters as pictures, and its marks of direction and invisible characters by number, so
    that no terminal or page obeys what a document, a model or a server wrote, and nothing hides in it. Line feeds and
    tabs stay."""
    return text.translate(_PICTURES)


def visible_page(page: str) -> str:
    """The same of a page of HTML, whose text is escaped already."""
    return page.translate(_PICTURES_ESCAPED)


def showable(error: BaseException) -> BaseException | None:
    """`error` as the cause of a `K2Error`; None where it, or a cause of its own, tells a secret: a traceback shows all
    of them."""
    one: BaseException | None = error
    while one is not None:
        if masked_text(str(one)) != str(one):
            return None
        one = one.__cause__ or one.__context__
    return error


def nearest(name: str, known: Collection[str]) -> str:
    """What to offer for a `name` that is none of `known`: `did you mean 'a'? There are a, b, c`.

    A name that only lacks what stands before a last `/` is offered whole, all of them where there are several. Of more
    than `LISTED` names the first are listed.
    """
    near = [one for one in known if one.endswith(f"/{name}")] or difflib.get_close_matches(name, known, 1, cutoff=0.5)
    listed = ", ".join([*known][:LISTED]) + (", ..." if len(known) > LISTED else "")
    if not near:
        return f"there are {listed or 'none'}"
    return f"did you mean {' or '.join(repr(one) for one in near)}? There are {listed}"


class ArtifactError(K2Error):
    """The root of the store's errors; raised itself when a store cannot be read."""


class MissingArtifact(ArtifactError):
    """A reference points at something that is not in the store, or is not finished."""


class CorruptArtifact(ArtifactError):
    """What is in the store is not what its manifest or its reference says."""


class InputsChanged(ArtifactError):
    """What a step reads from outside the store is not what it was when its parts were listed."""


class StoreWriteError(ArtifactError):
    """The store does not take what is written to it: full, read-only, forbidden, not reachable."""


class LeaseHeld(ArtifactError):
    """Another live process is making the same artifact."""


class LeaseLost(ArtifactError):
    """This process was taken for dead (its heartbeat stopped) and another one took its work over."""


class CorpusError(K2Error):
    """A source or a corpus folder is not what was asked for."""


class SynthesisError(CorpusError):
    """A job asks for something that cannot be made as it is written."""


class TeacherError(SynthesisError):
    """A teacher cannot be used at all: a wrong address, a missing or refused key, an unknown model."""


class RecordError(SynthesisError):
    """The record of calls cannot be read, or another run is writing it."""


class TokensError(K2Error):
    """A tokenizer, token shard or packed sequence is not usable as asked."""


class MixtureError(TokensError):
    """A phase's mixture cannot be drawn from the tokens there are."""


class TrainingError(K2Error):
    """Root of this package's errors."""


class InvalidPhase(TrainingError, ValueError):
    """A phase that cannot be trained as laid out: found before the first step."""


class TrainingDiverged(TrainingError):
    """Spikes came back more often than the phase's policy undoes; the message holds the evidence."""


class Preempted(TrainingError):
    """The job was told to end (SIGTERM) and left a checkpoint: run it again to go on."""


class CrashLoop(TrainingError):
    """Attempts at a phase ended one after the other before any of them had saved anything."""


class CheckpointMismatch(TrainingError):
    """A checkpoint's tensors do not fit the model or optimizer that should start from them."""


class EvaluationError(K2Error):
    """An input of the evaluation lacks what a score is measured on."""


class NotFinite(EvaluationError):
    """A model whose probabilities are NaN; no score is made of them."""

    def __init__(self) -> None:
        super().__init__(
            "the model gives probabilities that are NaN: its weights, or what it computes of them, are no finite "
            "numbers, as after a training that diverged. Evaluate an earlier checkpoint"
        )


class DiskFull(K2Error):
    """Nothing more can be written where the run writes; the message names the disk and what lies on it."""


class UsedUp(K2Error):
    """The system gives this process no more of what it needs: memory, open files, room in a file."""


_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # torch's words, in a RuntimeError
_NO_THREAD = "can't start new thread"  # Python's
_LIMITS: dict[int | None, str] = {
    errno.ENOMEM: "This process got no more memory: give it more (end other programs, raise `ulimit -v` or the limit "
    "of its container)",
    errno.EMFILE: "This process may not open more files: raise the limit (`ulimit -n 4096`)",
    errno.ENFILE: "The system has no room for more open files: end other programs",
    errno.EAGAIN: "This process may start no more threads: end other programs, or raise the limits on processes and "
    "memory (`ulimit -u`, `ulimit -v`, of its container)",
    errno.EFBIG: "Files may not become that large here: raise the limit (`ulimit -f unlimited`), or choose another "
    "disk (K2_HOME, K2_STORE)",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAY_FULL = (*(os.strerror(number) for number in _FULL), "database or disk is full")
# What is said of a write that failed, without the reason: it was that one if a disk is full.
_MAY_MEAN_FULL = (
    "disk I/O error", "unable to open database file", " requested and ", "No usable temporary directory",
)  # fmt: skip
_LEFT = 1_000_000  # bytes; on a full disk some may be left that are too few for what was to be written


def for_user(error: BaseException) -> K2Error | None:
    """What an error says to the person at the terminal: the `K2Error` that it is or was made from, or that memory, a
    disk or a limit of the system is used up, in whatever words a library told it. None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, K2Error):
            return cause
        cause = cause.__cause__
    return disk_full(error) or next(filter(None, map(used_up, _causes(error))), None)


def used_up(error: BaseException) -> UsedUp | None:
    """What it says of memory or of a limit of this process, None where it is about neither."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        number = errno.EAGAIN
    elif number == errno.EAGAIN:
        return None  # also said of what is only not ready yet
    if number not in _LIMITS:
        return None
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    remedy = f"{_LIMITS[number]}, then run the same command again; what is finished is kept and not made again"
    return UsedUp(f"{said}. {remedy}")


def disk_full(error: BaseException) -> DiskFull | None:
    """The error that names the full disk, when `error` was raised since one is full or while that was handled."""
    return next((_disk_full(one) for one in _causes(error) if _says_full(one)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error)
    if any(sign in text for sign in _SAY_FULL):
        return True
    return any(sign in text for sign in _MAY_MEAN_FULL) and bool(full_disks())


def full_disks() -> dict[Path, list[str]]:
    """The disks this run writes to on which nothing is left, by mount point, each with what of the run lies there."""
    return {mount: names for mount, names in _disks().items() if _is_full(mount)}


def _disk_full(error: BaseException) -> DiskFull:
    path = error.filename if isinstance(error, OSError) else None
    # What was half written may have been removed by now, so that no disk is full any more.
    disks = {disk_of(path): [path]} if isinstance(path, str) else full_disks() or _disks()
    where = "; ".join(f"{mount} ({_left(mount)}), for {', '.join(names)}" for mount, names in disks.items())
    return DiskFull(
        f"{type(error).__name__}: {error}. Nothing more can be written on {where}. To go on: free some space there, or "
        "choose a larger disk (K2_HOME, K2_STORE, TMPDIR), then run the same command again; what is finished is kept "
        "and not made again"
    )


def _disks() -> dict[Path, list[str]]:
    places = {"K2_HOME": str(home()), "K2_STORE": store_uri().removeprefix("file://")}
    places["MLFLOW_TRACKING_URI"] = tracking_uri().removeprefix("sqlite:///")
    with contextlib.suppress(FileNotFoundError):  # where no folder takes a file
        places["TMPDIR"] = tempfile.gettempdir()
    disks: dict[Path, list[str]] = {}
    for name, place in places.items():
        if "://" not in place:
            names = disks.setdefault(disk_of(place), [])
            if not names or not Path(place).is_relative_to(home()):
                names.append(f"{name} ({place})")
    return disks


def disk_of(path: str | Path) -> Path:
    """The mount point of the file system on which a path, or where it would be made, lies."""
    above = [Path(path).absolute(), *Path(path).absolute().parents]
    return next(folder for folder in above if os.path.ismount(folder))


def _is_full(mount: Path) -> bool:
    filled = os.statvfs(mount)
    return filled.f_bavail * filled.f_frsize < _LEFT or (filled.f_files > 0 and filled.f_favail == 0)


def _left(mount: Path) -> str:
    usage, files = shutil.disk_usage(mount), os.statvfs(mount)
    if files.f_files > 0 and files.f_favail == 0:
        return f"all its {files.f_files} files (inodes) are used"
    return f"{usage.free / 1e6:.1f} of {usage.total / 1e6:,.0f} MB free"
