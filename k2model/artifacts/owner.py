"""Who makes an artifact: a name for each attempt, which says on which machine it runs and in which process.

What a maker has not finished lies in places called by that name, so whoever comes later can tell what nobody needs any
more without opening it. On one machine the process decides: what is dead stays dead. Of another machine's process
nothing is known but what it renews (`k2model.artifacts.lease`).
"""

import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path

MADE = "_made"  # in an artifact's folder, and beside unfinished parts: places of makers, by their names
_NAME = re.compile(r"([0-9a-f]{12})-([0-9]{1,10})-([0-9a-z]{1,20})-[0-9a-f]{16}")


def owner_name() -> str:
    """A new name for an attempt of this process; a name of a folder on every storage."""
    pid = os.getpid()
    return f"{_machine_digits()}-{pid}-{started(pid) or 0}-{secrets.token_hex(8)}"


def is_owner(name: str) -> bool:
    """Whether `owner_name` can have given it."""
    return _NAME.fullmatch(name) is not None


def is_here(name: str) -> bool:
    """Whether the attempt ran on this machine, so that `is_dead` knows."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == _machine_digits()


def is_dead(name: str) -> bool:
    """Whether the attempt's process is known to have ended; False for what another machine runs."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == _machine_digits() and (started(int(found[2])) or "0") != found[3]


def is_own(name: str) -> bool:
    """Whether the attempt is one of this process."""
    found = _NAME.fullmatch(name)
    return found is not None and is_here(name) and not is_dead(name) and int(found[2]) == os.getpid()


def this_process() -> dict[str, str | int]:
    """Host, machine, pid and start of this process, as a lease tells them."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": machine(), "pid": pid, "started": started(pid)}


@cache
def machine() -> str:
    """Equal for two processes that can see each other's process ids, and never for others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


@cache
def _machine_digits() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:12]


def started(pid: int) -> str:
    """When a process of this machine was started (clock ticks), "" when it is dead.

    Tells a process from a later one that got the same id.
    """
    try:
        # The name, second field, is in parentheses and may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # not Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
