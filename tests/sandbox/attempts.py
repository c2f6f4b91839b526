"""What programs try in a jail: to reach out of it, to take more than they may, to outlive it.

Each first does what an ordinary program does (it says `works`), and then what it must not be able to. `attempt` says
`held` where that is refused and `ESCAPED` where it is not, and ends a program's tries with `tried`. What an attempt can
be held against on the machine (a listener, a secret, a process to harm) is told to it by `World`.

Run as a program, in the user's place whom it is started as, it prints what became of each, as JSON.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from k2model.sandbox import Ending, Limits, run_python

LIMITS = Limits(seconds=5, memory=256 << 20, processes=16, scratch=16 << 20, files=2_000, output=100_000)
QUICK = dataclasses.replace(LIMITS, seconds=0.7)

PRELUDE = r"""
import ctypes, errno, math, os, signal, socket, struct, sys, threading, time
with open("ordinary", "w") as file:
    file.write(str(math.sqrt(49)))
print("works" if open("/tmp/ordinary").read() == "7.0" else "does not work", flush=True)
libc = ctypes.CDLL(None, use_errno=True)

def call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"

def syscall(number, *arguments):
    return call(libc.syscall, number, *arguments)

def attempt(function, *arguments, **options):
    try:
        result = function(*arguments, **options)
    except (OSError, MemoryError, ValueError, RuntimeError) as error:
        print("held", getattr(function, "__name__", function), type(error).__name__, error, flush=True)
    else:
        print("ESCAPED", getattr(function, "__name__", function), repr(arguments)[:200], repr(result)[:200], flush=True)
"""


class Attempt(NamedTuple):
    """code: the program, in which WORLD's places are filled in. ending: how a jail that holds ends it, with what `code`
    where it ends by itself. says: what it prints where it is held, beside `works`."""

    name: str
    code: str
    ending: Ending = Ending.EXIT
    exit_code: int | None = 0
    says: str = "tried"
    limits: Limits = LIMITS


class World(NamedTuple):
    """Of the machine outside, what attempts are made on."""

    port: int
    abstract: str
    path: str
    secret_file: str
    victim: int
    marker: str


_TRIED = "\nprint('tried')\n"

ATTEMPTS = (
    Attempt("network_ipv4", "attempt(socket.create_connection, ('127.0.0.1', {port}), 1)"),
    Attempt("network_ipv6", "attempt(socket.create_connection, ('::1', {port}), 1)"),
    Attempt("network_udp", "attempt(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)"),
    Attempt("network_names", "attempt(socket.getaddrinfo, 'example.com', 80)"),
    Attempt(
        "network_raw",
        "attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)\nattempt(socket.socket, socket.AF_PACKET)",
    ),
    Attempt("network_netlink", "attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    Attempt(
        "network_other_families",
        "for family in (40, 38, 16, 21):  # AF_VSOCK, AF_ALG, AF_NETLINK, AF_RDS\n    attempt(socket.socket, family)",
    ),
    Attempt(
        "unix_sockets",
        """
attempt(socket.socket, socket.AF_UNIX)
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    for address in ("{path}", "\\0{abstract}"):
        attempt(one.connect, address)
        attempt(one.bind, address + "x")
        if kind == socket.SOCK_DGRAM:
            attempt(one.sendto, b"secret", address)
""",
    ),
    Attempt(
        "environment",
        "for name, value in os.environ.items():\n"
        "    print('ESCAPED' if 'K2_' in name or 'secret' in value.lower() else 'held', name)",
    ),
    Attempt(
        "proc",
        """
for place in ("1/environ", "self/environ", "self/mem", "self/root", "1/root", "{victim}/environ", "self/fd", "kcore",
              "sys/kernel/core_pattern", "sysrq-trigger", "keys", "net/tcp", "mounts"):
    attempt(os.stat, "/proc/" + place)
""",
    ),
    Attempt(
        "files_of_the_system",
        "for place in ('/etc/shadow', '/etc/passwd', '/etc/hostname', '/run', '/var', '/home', '/boot', '/srv'):\n"
        "    attempt(os.stat, place)",
    ),
    Attempt(
        "files_of_the_project",
        f"for place in ('{{secret_file}}', {str(Path(__file__))!r}, {str(Path(__file__).parents[2])!r}):\n"
        "    attempt(os.stat, place)\n"
        "attempt(os.listdir, '/root/.ssh')\n"
        "for place in (os.path.dirname(os.__file__) + '/site-packages', '/usr/lib/python3/dist-packages'):\n"
        "    print('ESCAPED' if os.path.isdir(place) and os.listdir(place) else 'held', place)\n"
        "print('ESCAPED' if set(os.listdir('/')) & {{'work', 'home', 'proc', 'sys', 'var', 'run', 'mnt'}} else 'held')",
    ),
    Attempt(
        "write_outside",
        """
library = os.path.dirname(os.__file__)
for place in ("/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/dev", "/task", "/bin", library):
    attempt(open, place + "/mine", "w")
    attempt(os.mkdir, place + "/mine")
    attempt(os.chmod, place, 0o777)
""",
    ),
    Attempt(
        "overwrite_the_interpreter",
        """
for place in (os.__file__, sys.executable, ctypes.__file__, __file__):
    attempt(open, place, "r+b")
    attempt(os.rename, place, place + ".old")
    attempt(os.unlink, place)
    attempt(os.truncate, place, 0)
""",
    ),
    Attempt(
        "symlinks_out",
        """
places = ("/etc/shadow", "{secret_file}", "../../../../../../etc/shadow", "/proc/self/root/etc/shadow")
for number, place in enumerate(places):
    os.symlink(place, f"link{{number}}")
    attempt(open, f"link{{number}}")
os.symlink("/usr/lib", "folder")
attempt(open, "folder/mine", "w")
attempt(os.open, "/tmp/..", os.O_RDWR | os.O_TMPFILE, 0o600)
""",
    ),
    Attempt(
        "hard_links_out",
        "for place in (__file__, '/usr/bin/prlimit', os.__file__, '{secret_file}'):\n"
        "    attempt(os.link, place, '/tmp/hard')\n"
        "attempt(os.link, '/tmp/ordinary', '/task/hard')",
    ),
    Attempt(
        "inherited_files",
        """
for number in range(3, 4096):
    try:
        os.fstat(number)
    except OSError:
        continue
    print("ESCAPED", number)
attempt(os.write, 0, b"x")
attempt(os.lseek, 1, 0, 0)
""",
    ),
    Attempt(
        "fork_bomb",
        """
started = 0
try:
    while started < 200:
        if os.fork() == 0:
            time.sleep(60)
        started += 1
except OSError as error:
    print("held", error)
print("tried" if started < 16 else "ESCAPED", started)
""",
    ),
    Attempt(
        "fork_bomb_that_goes_on",
        "print('tried', flush=True)\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        Ending.TIME,
        None,
        limits=QUICK,
    ),
    Attempt(
        "thread_bomb",
        """
started = 0
try:
    while started < 200:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        started += 1
except RuntimeError as error:
    print("held", error)
print("tried" if started < 16 else "ESCAPED", started, flush=True)
os._exit(0)
""",
    ),
    Attempt(
        "memory_of_one_process", "attempt(bytearray, 1 << 30)\nattempt(lambda: [bytes(1 << 20) for _ in range(999)])"
    ),
    Attempt(
        "memory_of_many_processes",
        """
print("tried", flush=True)
for _ in range(10):
    if os.fork() == 0:
        break
taken = [bytes([1]) * (1 << 20) for _ in range(60)]
time.sleep(60)
""",
        Ending.MEMORY,
        None,
    ),
    Attempt(
        "memory_that_processes_share",
        """
import mmap
print("tried", flush=True)
for _ in range(10):
    if os.fork() == 0:
        break
taken = mmap.mmap(-1, 60 << 20)  # shared with nobody, but of that kind
for place in range(0, 60 << 20, 4096):
    taken[place] = 1
time.sleep(60)
""",
        Ending.MEMORY,
        None,
    ),
    Attempt(
        "memory_beside_the_address_space",
        """
attempt(os.memfd_create, "mine")
attempt(open, "/dev/shm/mine", "w")
attempt(call, libc.shmget, 0, 1 << 30, 0o1777)
attempt(call, libc.msgget, 0, 0o1777)
attempt(call, libc.mlockall, 3)
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 4
libc.mmap.restype = ctypes.c_ssize_t
attempt(call, libc.mmap, None, 2 << 20, 3, 0x40022, -1, 0)  # a huge page
attempt(call, libc.mq_open, b"/mine", os.O_CREAT | os.O_RDWR, 0o600, None)
""",
    ),
    Attempt(
        "fill_the_disk",
        """
written = 0
try:
    for number in range(100):
        with open(f"big{{number}}", "wb") as file:
            for _ in range(10):
                written += file.write(bytes(1 << 20))
except OSError as error:
    print("held", error)
print("tried" if written <= 16 << 20 else "ESCAPED", written)
""",
    ),
    Attempt(
        "one_huge_file",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "file = open('huge', 'wb')\nattempt(file.truncate, 1 << 40)\n"
        "attempt(os.posix_fallocate, file.fileno(), 0, 1 << 30)",
    ),
    Attempt(
        "many_files",
        "print('tried', flush=True)\nfor number in range(10**7):\n    open(f'file{{number}}', 'w').close()",
        Ending.FILES,
        None,
    ),
    Attempt(
        "many_folders",
        "print('tried', flush=True)\nfor number in range(10**7):\n    os.mkdir('deeper')\n    os.chdir('deeper')",
        Ending.FILES,
        None,
    ),
    Attempt("many_open_files", "attempt(lambda: [open('ordinary') for _ in range(100)])"),
    Attempt(
        "endless_output", "print('tried', flush=True)\nwhile True: sys.stdout.write('x' * 65536)", Ending.OUTPUT, None
    ),
    Attempt(
        "endless_errors",
        "print('tried', flush=True)\nwhile True: os.write(2, b'x' * 65536)",
        Ending.OUTPUT,
        None,
    ),
    Attempt("sleep", "print('tried', flush=True)\ntime.sleep(3600)", Ending.TIME, None, limits=QUICK),
    Attempt(
        "all_processors",
        "print('tried', flush=True)\nos.fork()\nwhile True: pass",
        Ending.TIME,
        None,
        limits=QUICK,
    ),
    Attempt(
        "ignore_signals",
        """
for number in range(1, 65):
    if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
        signal.signal(number, signal.SIG_IGN)
print("tried", flush=True)
while True:
    time.sleep(1)
""",
        Ending.TIME,
        None,
        limits=QUICK,
    ),
    Attempt(
        "stop_everything",
        "print('tried', flush=True)\nattempt(os.kill, -1, signal.SIGSTOP)\nos.kill(os.getpid(), signal.SIGSTOP)",
        Ending.TIME,
        None,
        limits=QUICK,
    ),
    Attempt(
        "survive_in_a_session_of_its_own",
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (0, 1, 2):
            os.close(number)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(3600)", "{marker}"])
    os._exit(0)
time.sleep(0.2)
""",
    ),
    Attempt(
        "trace_others",
        """
child = os.fork()
if child == 0:
    time.sleep(60)
for pid in (1, child, {victim}):
    attempt(call, libc.ptrace, 16, pid, 0, 0)
    buffer = ctypes.create_string_buffer(8)
    part = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
    attempt(call, libc.process_vm_readv, pid, part, 1, part, 1, 0)
    attempt(call, libc.process_vm_writev, pid, part, 1, part, 1, 0)
    attempt(syscall, 434, pid, 0)  # pidfd_open
attempt(call, libc.ptrace, 0, 0, 0, 0)
os.kill(child, signal.SIGKILL)
""",
    ),
    Attempt(
        "kill_others",
        """
attempt(os.kill, {victim}, signal.SIGKILL)
attempt(os.killpg, {victim}, signal.SIGKILL)
try:
    os.kill(-1, signal.SIGKILL)
except OSError as error:
    print("held", error)
os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGTERM)
""",
    ),
    Attempt(
        "mount",
        """
attempt(call, libc.mount, b"none", b"/tmp", b"tmpfs", 0, None)
attempt(call, libc.mount, b"none", b"/tmp", b"proc", 0, None)
attempt(call, libc.mount, b"/", b"/tmp", None, 4096, None)
attempt(call, libc.mount, None, b"/usr", None, 32 | 4096, None)
attempt(call, libc.umount2, b"/task", 2)
attempt(call, libc.umount2, b"/usr", 2)
attempt(call, libc.pivot_root if hasattr(libc, "pivot_root") else libc.chroot, b"/tmp", b"/tmp")
for number in (428, 430, 429, 442):  # open_tree, fsopen, move_mount, mount_setattr
    attempt(syscall, number, -100, b"/", 1, 0, 0)
""",
    ),
    Attempt(
        "nested_user_namespace",
        """
import subprocess
for flags in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x10020000):
    attempt(call, libc.unshare, flags)
attempt(syscall, 435, (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17), 64)  # clone3
attempt(syscall, 56 if os.uname().machine == "x86_64" else 220, 0x10000000 | 17, 0, 0, 0, 0)  # clone
attempt(call, libc.setns, 0, 0)
done = subprocess.run(["/usr/bin/unshare", "-U", "-r", "/usr/bin/id"], capture_output=True)
print("ESCAPED" if done.returncode == 0 else "held", done.stderr)
""",
    ),
    Attempt("chroot", "os.mkdir('root')\nattempt(os.chroot, 'root')\nattempt(os.chroot, '/')"),
    Attempt(
        "io_uring",
        "parameters = ctypes.create_string_buffer(120)\nattempt(syscall, 425, 8, parameters)\n"
        "attempt(syscall, 426, 0, 1, 1, 1, 0)\nattempt(syscall, 427, 0, 0, 0, 0)",
    ),
    Attempt(
        "keys",
        "numbers = (248, 249, 250) if os.uname().machine == 'x86_64' else (217, 218, 219)\n"
        "attempt(syscall, numbers[0], b'user', b'mine', b'x', 1, -3)\n"
        "attempt(syscall, numbers[1], b'user', b'mine', None, 0)\nattempt(syscall, numbers[2], 0, -3, 1)",
    ),
    Attempt(
        "watch_the_kernel",
        """
intel = os.uname().machine == "x86_64"
attributes = ctypes.create_string_buffer(136)
attempt(syscall, 298 if intel else 241, attributes, 0, -1, -1, 0)  # perf_event_open
attempt(syscall, 321 if intel else 280, 0, attributes, 120)  # bpf
attempt(syscall, 323 if intel else 282, 0)  # userfaultfd
attempt(syscall, 300 if intel else 262, 0, 0)  # fanotify_init
attempt(syscall, 103 if intel else 116, 3, attributes, 100)  # syslog
attempt(syscall, 304 if intel else 265, -100, attributes, 0)  # open_by_handle_at
attempt(syscall, 135 if intel else 92, 8)  # personality
""",
    ),
    Attempt(
        "become_root",
        """
import subprocess
attempt(os.setuid, 0)
attempt(os.setresuid, 0, 0, 0)
attempt(os.setgroups, [0])
attempt(os.chown, "ordinary", 0, 0)
for program in ("su", "mount", "passwd", "sudo", "newgrp"):
    path = "/usr/bin/" + program
    if os.path.exists(path):
        shown = subprocess.run([path, "--version"], capture_output=True, text=True)
        print("held", program, shown.returncode)
import shutil
shutil.copy("/usr/bin/id", "/tmp/id")
os.chmod("/tmp/id", 0o6755)
said = subprocess.run(["/tmp/id"], capture_output=True, text=True).stdout
print("ESCAPED" if "=0" in said else "held", said)
""",
    ),
    Attempt(
        "devices",
        """
import stat
for kind in (stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO):
    attempt(os.mknod, "node", kind | 0o600, os.makedev(254, 0))
for name in ("mem", "kmem", "port", "kmsg", "vda", "sda", "loop0", "fuse", "kvm", "net/tun", "ptmx", "pts/0", "shm",
             "tty", "console", "nvidia0", "uinput"):
    attempt(open, "/dev/" + name, "rb")
""",
    ),
    Attempt(
        "the_kernel_itself",
        """
intel = os.uname().machine == "x86_64"
attempt(syscall, 175 if intel else 105, b"", 0, b"")  # init_module
attempt(syscall, 313 if intel else 273, 0, b"", 0)  # finit_module
attempt(syscall, 246 if intel else 104, 0, 0, 0, 0)  # kexec_load
attempt(syscall, 169 if intel else 142, 0, 0, 0, 0)  # reboot
attempt(call, libc.sethostname, b"mine", 4)
attempt(time.clock_settime, time.CLOCK_REALTIME, 0)
attempt(call, libc.swapon, b"/tmp/ordinary", 0)
attempt(call, libc.acct, b"/tmp/ordinary")
""",
    ),
    Attempt(
        "type_into_a_terminal",
        """
import fcntl, pty, termios
for number in (0, 1, 2):
    attempt(fcntl.ioctl, number, termios.TIOCSTI, b"x")
attempt(os.open, "/dev/tty", os.O_RDWR)
attempt(pty.openpty)
attempt(fcntl.ioctl, 0, termios.TIOCSCTTY, 0)
attempt(fcntl.ioctl, 0, 0x541C, b"x")  # TIOCLINUX
""",
    ),
    Attempt("sys", "attempt(os.listdir, '/sys')\nattempt(open, '/sys/power/state', 'w')"),
    Attempt(
        "raise_the_limits",
        """
import resource
for name in ("AS", "CPU", "FSIZE", "NPROC", "NOFILE", "CORE"):
    attempt(resource.setrlimit, getattr(resource, "RLIMIT_" + name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
attempt(os.setpriority, os.PRIO_PROCESS, 0, -20)
attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
attempt(os.sched_setaffinity, 0, range(os.cpu_count() or 1))
""",
    ),
    Attempt(
        "calls_of_another_processor",
        """
import mmap
if os.uname().machine != "x86_64":
    os.kill(os.getpid(), signal.SIGSYS)
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret: getpid of i386
print("tried", flush=True)
made = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print("ESCAPED", made())
""",
        exit_code=128 + 31,  # SIGSYS
    ),
    Attempt(
        "calls_of_the_x32_form",
        "print('tried', flush=True)\nif os.uname().machine != 'x86_64':\n    os.kill(os.getpid(), signal.SIGSYS)\n"
        "print('ESCAPED', libc.syscall(0x40000000 | 41, 2, 1, 0))",
        exit_code=128 + 31,
    ),
)


def program(attempt: Attempt, world: World) -> str:
    code = attempt.code.replace("{{", "\0").replace("}}", "\1")
    for name, value in world._asdict().items():
        code = code.replace(f"{{{name}}}", str(value))
    said_last = _TRIED if attempt.ending is Ending.EXIT and "tried" not in code else ""
    return PRELUDE + code.replace("\0", "{").replace("\1", "}") + said_last


@contextmanager
def world() -> Iterator[World]:
    """A listener on every kind of address, a secret in the environment and in a file that all may read, a process to
    harm; and what became of them, in the values of `touched`."""
    marker = f"k2-survivor-{os.getpid()}-{time.monotonic_ns()}"
    victim = subprocess.Popen(["sleep", "120"])
    listeners = [socket.create_server(("127.0.0.1", 0))]
    port = listeners[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder, "k2_secret")
        secret.write_text("secret")
        path = f"{folder}/socket"
        for address in (path, f"\0{marker}"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
            listener.listen()
            listeners.append(listener)
        os.chmod(path, 0o777)
        os.environ["K2_SECRET"] = "a secret"
        called: list[str] = []
        for listener in listeners:
            threading.Thread(target=_listen, args=(listener, called), daemon=True).start()
        try:
            yield World(port, marker, path, str(secret), victim.pid, marker)
            assert victim.poll() is None, "a process outside was ended"
            assert secret.read_text() == "secret"
            assert not called, f"somebody called: {called}"
            assert not survivors(marker), "a process outlived its jail"
        finally:
            del os.environ["K2_SECRET"]
            victim.kill()
            victim.wait()
            for listener in listeners:
                listener.close()


def _listen(listener: socket.socket, called: list[str]) -> None:
    try:
        listener.accept()
    except OSError:
        return
    called.append(str(listener))


def survivors(marker: str) -> list[str]:
    """Processes of this machine that carry the marker in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in (said := path.read_text()):
                found.append(said)
        except OSError:
            continue
    return found


def outcomes() -> dict[str, dict[str, object]]:
    """Of each attempt, what a jail made of it."""
    with world() as there, ThreadPoolExecutor(4) as pool:
        made = {one.name: pool.submit(run_python, program(one, there), one.limits) for one in ATTEMPTS}
        return {name: dataclasses.asdict(result.result()) for name, result in made.items()}


if __name__ == "__main__":
    print(json.dumps({"user": os.geteuid(), "outcomes": outcomes()}))
    sys.exit(0)
