"""Servers as processes: started apart from the terminal, found again by a mark, ended with all that they started.

A server leads a session of its own and has the stack's folder in its environment, which what it starts inherits. That
mark is how it is found, by whatever command, also after the one that started it was killed; there is no file of process
numbers that could name a stranger's.
"""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.stack.config import LOOPBACK, StackError

MARK = "K2_STACK_SERVICE"
LARGEST_LOG = 50_000_000  # bytes; a longer one is put aside when its server is started
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


def start(
    name: str, command: list[str], environment: Mapping[str, str], folder: Path, user: str | None = None
) -> subprocess.Popen[bytes]:
    """Starts a server of the stack in `folder`. Its working folder is `folder/name`, its log `folder/logs/name.log`.

    Of this process's environment it has what programs need to run at all: no credentials, no proxies.

    user: whose rights it is given, if not those of this process.
    """
    log = log_file(folder, name)
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".log.old"))
    own = folder / name
    kept = {variable: os.environ[variable] for variable in _INHERITED if variable in os.environ}
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return subprocess.Popen(
            command, cwd=own, env={**kept, "HOME": str(own), **environment, **mark(folder, name)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **as_user(user),
        )  # fmt: skip


def mark(folder: Path, name: str) -> dict[str, str]:
    """The environment by which a process is told to belong to a server."""
    return {MARK: f"{folder}:{name}"}


def as_user(user: str | None) -> dict:
    """Arguments of `subprocess` with which a program runs as a user."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "umask": 0o077}


def log_file(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


@dataclass(frozen=True)
class Running:
    """The processes of a server: the one that was started, None where it has died, and what came of it."""

    main: psutil.Process | None
    others: list[psutil.Process]

    @property
    def all(self) -> list[psutil.Process]:
        return [self.main, *self.others] if self.main else self.others


def running(folder: Path) -> dict[str, Running]:
    """What runs of the stack in a folder, by server."""
    marked: dict[str, set[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            where, _, name = process.environ().get(MARK, "").rpartition(":")
            if where == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                marked.setdefault(name, set()).add(process)
    return {name: _family(those) for name, those in marked.items()}


def _family(marked: set[psutil.Process]) -> Running:
    """With the children, too: PostgreSQL's write their titles over their environment."""
    parents = {process.pid for process in marked}
    found, main = set(marked), None
    for process in marked:
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == process.pid and process.ppid() not in parents:
                main = process
            found.update(process.children(recursive=True))
    return Running(main, sorted(found - {main}, key=lambda one: one.pid))


def stop(server: Running | None, ask: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> None:
    """Ends a server: its own process is asked, and whatever is left of it after `seconds` is killed."""
    if server is None:
        return
    for process in [server.main] if server.main else server.others:
        with suppress(psutil.NoSuchProcess):  # psutil sends nothing to a process that took over a number
            process.send_signal(ask)
    _, left = psutil.wait_procs(server.all, seconds)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 5)


def check_ports(name: str, ports: Iterable[int]) -> None:
    """Raises StackError naming the port of a server that is taken, and by what."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what was closed is free
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise StackError(
                    f"{name} cannot start: its port {port} is taken by {_owner(port)} ({error.strerror}). End that, or "
                    "let the stack choose other ports: make stack-up NEW_PORTS=1 (its data stay)"
                ) from error


def _owner(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "a process of another user"


def last_lines(log: Path, lines: int = 8) -> str:
    """The end of a log, for a message."""
    with suppress(OSError):
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - 4000))
            return "\n".join(opened.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def wait(seconds: float, done: Callable[[], bool]) -> bool:
    """Whether `done()` came true within some seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
