"""The seccomp profile for nodes of a cluster (infra/nodes), in force as a container's would be."""

import json
from typing import Any

import pytest

from tests.sandbox.users import ROOT, as_ordinary_user

PROFILE = ROOT / "infra" / "nodes" / "k2-sandbox.json"
#: What a container's usual profile refuses, and a jail is made with.
MAKES_A_JAIL = ["clone", "mount", "pivot_root", "sethostname", "umount2", "unshare"]
IN_FORCE = """
import errno, json, sys, threading, pyseccomp
profile, leave_out = json.loads(sys.argv[1]), sys.argv[2:]
actions = {"SCMP_ACT_ALLOW": lambda _: pyseccomp.ALLOW, "SCMP_ACT_ERRNO": pyseccomp.ERRNO}
comparisons = {"SCMP_CMP_EQ": pyseccomp.EQ, "SCMP_CMP_NE": pyseccomp.NE}
held = pyseccomp.SyscallFilter(pyseccomp.ERRNO(profile["defaultErrnoRet"]))
for rule in profile["syscalls"]:
    action = actions[rule["action"]](rule.get("errnoRet", 1))
    arguments = [pyseccomp.Arg(one["index"], comparisons[one["op"]], one["value"]) for one in rule.get("args", ())]
    for name in rule["names"]:
        # A call that this processor or libseccomp does not know has a number below 0; a runtime leaves it out as well.
        if name not in leave_out and pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
            held.add_rule(action, name, *arguments)
if "clone" in leave_out:  # threads are still made
    held.add_rule(pyseccomp.ALLOW, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, 0x7E020000, 0))
held.load()
"""
RUNS = """
from k2model.sandbox import problem, run_python
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
print(problem())
if problem() is None:
    print(run_python("print(6 * 7)").stdout)
"""
REFUSED = """
import ctypes
kernel = ctypes.CDLL(None, use_errno=True)
for name in "add_key bpf io_uring_setup keyctl open_by_handle_at perf_event_open setns userfaultfd".split():
    ctypes.set_errno(0)
    given = kernel.syscall(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name), -1, 0, 0, 0, 0)
    print(name, given, errno.errorcode[ctypes.get_errno()])
"""


def under(profile: dict[str, Any], script: str, *leave_out: str) -> list[str]:
    """Lines that a script prints as an ordinary user whom the profile holds, without the calls of `leave_out`."""
    done = as_ordinary_user(["-c", IN_FORCE + script, json.dumps(profile), *leave_out])
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split("\n")


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PROFILE.read_text())
    return found


def test_a_pod_under_it_makes_a_jail(jails: None, profile: dict[str, Any]) -> None:
    assert under(profile, RUNS)[:2] == ["None", "42"]


@pytest.mark.parametrize("name", MAKES_A_JAIL)
def test_without_one_of_its_calls_none_is_made(jails: None, profile: dict[str, Any], name: str) -> None:
    said, *_ = under(profile, RUNS, name)
    assert said != "None" and "In a container its seccomp and AppArmor profiles must allow user namespaces" in said


def test_what_a_jail_is_not_made_with_stays_refused(profile: dict[str, Any]) -> None:
    lines = [line.split() for line in under(profile, REFUSED) if line]
    assert len(lines) == 8 and {tuple(line[1:]) for line in lines} == {("-1", "EPERM")}, lines
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["syscalls"][0] == {"names": MAKES_A_JAIL, "action": "SCMP_ACT_ALLOW"}
