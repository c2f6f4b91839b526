"""The tables of a database that MLflow is given directly, made by one process at a time; a SQLite file all or nothing.

MLflow fills a fresh file in place, one migration after the other: two processes that do so at once, or one that is
killed meanwhile, leave a file which no later run can use. So the file is made beside its place, under a lock, and
gets its name when it is complete. One that is there is never written over, nor migrated behind its owner's back.
PostgreSQL takes back by itself what a killed process had half made, and has locks of its own for who is first. Other
databases are left to MLflow: let its server fill an empty one before runs write to it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from k2model.registry.gates import RegistryError
from k2model.settings import whole

MAKING_SECONDS = 300.0  # how long to wait for another process that makes the file; it takes seconds
QUIET_SECONDS = 10.0  # an incomplete file that was written to more recently may still be at work by another program
_POLL_SECONDS = 0.2
_POSTGRESQL_LOCK = int.from_bytes(b"k2mlflow")  # any number that nobody else locks in that database
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_BESIDE = ("-journal", "-wal", "-shm")  # what SQLite keeps next to a database; it would apply them to any of that name

_log = logging.getLogger(__name__)


def database_file(tracking_uri: str) -> Path | None:
    """The file behind a SQLite URI; None for anything else, and for a database in memory."""
    scheme, _, rest = whole(tracking_uri).partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    name = rest.partition("?")[0].removeprefix("/")
    if name.startswith("file:"):  # with `?uri=true`
        name = unquote(urlsplit(name).path)
    return Path(name).absolute() if name not in ("", ":memory:") else None


def prepare(file: Path) -> None:
    """Make the database unless it is there, and its folder; imports MLflow.

    Raises RegistryError when it is there and not complete, OSError, sqlite3.Error or SQLAlchemy's errors when it
    cannot be read or made.
    """
    file = Path(os.path.realpath(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, partial = (file.with_name(f".{file.name}.{end}") for end in ("lock", "partial"))
    if not _is_made(file) or lock.exists() or partial.exists():
        with _locked(lock):
            if not _is_made(file):
                _make(file, partial)
            _remove(partial)  # of a process that was killed when the file had its name
    _check(file)


def prepare_postgresql(address: str) -> None:
    """MLflow's tables in an empty PostgreSQL database, by one process at a time on whatever machine. Imports MLflow.

    Raises SQLAlchemy's errors when it cannot be reached or written.
    """
    from mlflow.store.db import utils
    from sqlalchemy import text

    engine = utils.create_sqlalchemy_engine(address)
    try:
        if utils._all_tables_exist(engine):
            return
        with engine.connect() as holder:  # the lock ends with its connection, so with a process that is killed
            holder.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _POSTGRESQL_LOCK})
            if not utils._all_tables_exist(engine):
                utils._initialize_tables(engine)
    finally:
        engine.dispose()


def _is_made(file: Path) -> bool:
    """An empty file is what opening alone leaves behind."""
    return file.exists() and file.stat().st_size > 0


def _make(file: Path, partial: Path) -> None:
    _remove(partial)  # of a process that was killed
    try:
        _fill(partial)
        if not _is_made(file):
            _remove(file)  # an empty one, and what a file that was moved away has left beside
        try:
            os.link(partial, file)  # unlike a rename, never over a file that came meanwhile
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            os.rename(partial, file)
    except FileExistsError:
        _log.info("%s was made by another program meanwhile", file)
    finally:
        _remove(partial)


def _fill(partial: Path) -> None:
    """Every table of this MLflow. Nobody reads the file yet, so it is brought to the disk once and not after each of
    many migrations, which takes three times as long."""
    from mlflow.store.db import utils
    from sqlalchemy import event

    engine = utils.create_sqlalchemy_engine(f"sqlite:///{partial}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        utils._initialize_tables(engine)
    finally:
        engine.dispose()
    with partial.open("rb") as made:
        os.fsync(made.fileno())


def _remove(file: Path) -> None:
    for suffix in ("", *_BESIDE):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """While it is open no other process holds the same lock; the system ends it with its holder.

    The lock's file is removed by its holder, so who gets a lock makes sure that its file is still the one in place.
    """
    descriptor = _acquire(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock: Path) -> int:
    deadline = time.monotonic() + MAKING_SECONDS
    told = False
    while (descriptor := try_lock(lock)) is None:
        if time.monotonic() > deadline:
            raise RegistryError(
                f"another process has held {lock} for {MAKING_SECONDS:.0f} s, longer than MLflow's database takes to "
                "be made. Wait until it has finished, or end it if it hangs, then run again"
            )
        if not told:
            _log.info("waiting for another process that makes MLflow's database (%s)", lock)
            told = True
        time.sleep(_POLL_SECONDS)
    return descriptor


def try_lock(lock: Path, mode: int = 0o666) -> int | None:
    """A descriptor that holds the lock, None while another process has it. Its holder may remove the file."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(lock), os.fstat(descriptor)):
            return descriptor
    os.close(descriptor)
    return None


def _check(file: Path) -> None:
    """Raises RegistryError when the tables are not those of this MLflow, told apart by what can be done about it."""
    from mlflow import __version__
    from mlflow.store.db.utils import _get_latest_schema_revision

    wanted = _get_latest_schema_revision()
    told, written = False, _last_written(file)
    while (found := _schema(file)) != wanted:
        if abs(time.time() - written) > QUIET_SECONDS:
            raise RegistryError(_remedy(file, found, wanted, __version__))
        if not told:
            _log.info("waiting for another program that seems to be at work on MLflow's database %s", file)
            told = True
        time.sleep(_POLL_SECONDS)
        written = _last_written(file)


def _schema(file: Path) -> str:
    """The revision that the tables are of; a description where a migration was left in the middle."""
    tables = {name for (name,) in _rows(file, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    halves = sorted(name for name in tables if name.startswith("_alembic_tmp_"))
    if halves:
        return f"none, there is a half-made table {halves[0]}"
    revisions = _rows(file, "SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
    return str(revisions[0][0]) if revisions else "none"


def _rows(file: Path, query: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def _last_written(file: Path) -> float:
    """Seconds since the epoch."""
    times = []
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            times.append(file.with_name(file.name + suffix).stat().st_mtime)
    return max(times, default=0.0)


def _remedy(file: Path, found: str, wanted: str, version: str) -> str:
    try:
        ((runs,),) = _rows(file, "SELECT count(*) FROM runs")
    except sqlite3.Error:
        runs = 0
    kept = f" To keep its {runs} runs, copy it and try: mlflow db upgrade sqlite:///{file}" if runs else ""
    return (
        f"{file} is not a complete database of MLflow {version}: its schema is {found}, expected {wanted}. A process "
        "was killed while it made the file, or two did so at once, or another version of MLflow made it. Move it away "
        f"(mv {file} {file}.old) and run again: a new one is made, and finished phases are registered in it anew from "
        f"the store; none is trained again.{kept}"
    )
