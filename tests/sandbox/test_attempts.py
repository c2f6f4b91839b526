import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from k2model.sandbox import Ending, problem, run_python
from tests.sandbox.attempts import ATTEMPTS, Attempt, outcomes, program, survivors, world
from tests.sandbox.users import as_ordinary_user

USERS = ("root", "ordinary user")


@pytest.fixture(scope="module", params=USERS)
def became(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What became of every attempt, made from root and from an ordinary user; `world` has held them against what they
    were made on."""
    if found := problem():
        pytest.skip(f"no sandbox on this machine: {found}")
    if request.param == "root":
        if os.geteuid() != 0:
            pytest.skip("these tests are not run by root")
        return outcomes()
    done = as_ordinary_user(["-m", "tests.sandbox.attempts"])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["user"] != 0
    return told["outcomes"]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda one: one.name)
def test_it_is_held(became: dict[str, dict[str, Any]], attempt: Attempt) -> None:
    result = became[attempt.name]
    said = result["stdout"]
    assert said.startswith("works\n"), f"an ordinary program does not run: {result}"
    assert "ESCAPED" not in said, said
    assert attempt.says in said, f"it was not tried: {result}"
    assert (result["ending"], result["code"]) == (attempt.ending, attempt.exit_code), result
    assert result["seconds"] < attempt.limits.seconds + 2
    assert len(said) <= attempt.limits.output


def test_there_are_enough_attempts() -> None:
    assert len({one.name for one in ATTEMPTS}) == len(ATTEMPTS) >= 25


def test_the_world_notices_what_becomes_of_it() -> None:
    with pytest.raises(AssertionError, match="somebody called"):
        with world() as there, socket.create_connection(("127.0.0.1", there.port), 5):
            time.sleep(0.5)
    with pytest.raises(AssertionError, match="a process outside was ended"):
        with world() as there:
            os.kill(there.victim, signal.SIGKILL)
            os.waitid(os.P_PID, there.victim, os.WEXITED | os.WNOWAIT)
    with world() as there:
        code = "import time; print('here', flush=True); time.sleep(60)"
        survivor = subprocess.Popen([sys.executable, "-c", code, there.marker], stdout=subprocess.PIPE)
        assert survivor.stdout and survivor.stdout.readline()
        assert survivors(there.marker)
        survivor.kill()
        survivor.communicate()
        assert not survivors(there.marker)


#: Of these the filter of calls is one wall and namespaces without rights are another.
TWICE_HELD = (
    "network_ipv4",
    "network_ipv6",
    "network_names",
    "mount",
    "nested_user_namespace",
    "kill_others",
    "chroot",
)


@pytest.mark.parametrize("name", TWICE_HELD)
def test_it_is_held_without_the_filter_of_calls(name: str, jails: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyseccomp

    from k2model.sandbox import filter

    everything = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    with open(os.memfd_create("filter"), "w+b") as file:
        everything.export_bpf(file)
        file.seek(0)
        allowed = file.read()
    monkeypatch.setattr(filter, "program", lambda: allowed)
    attempt = next(one for one in ATTEMPTS if one.name == name)
    with world() as there:
        result = run_python(program(attempt, there), attempt.limits)
    assert result.ending is Ending.EXIT and "held" in result.stdout and "tried" in result.stdout, result
    assert "ESCAPED" not in result.stdout, result.stdout
