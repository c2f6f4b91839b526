import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k2model.errors import EvaluationError
from k2model.sandbox import TASK, Ending, Limits, python, run, run_python, start
from tests.sandbox.attempts import survivors

pytestmark = pytest.mark.usefixtures("jails")
FEW = Limits(seconds=5, memory=256 << 20, processes=8, output=10_000)


def test_a_program_runs_and_says_what_it_did() -> None:
    result = run_python(
        "import sys; print(sum(map(int, sys.stdin))); print('so', file=sys.stderr); sys.exit(3)", FEW, b"1\n2"
    )
    assert (result.ending, result.code, result.stdout, result.stderr) == (Ending.EXIT, 3, "3\n", "so\n")
    assert not result.succeeded and 0 < result.seconds < 5


def test_what_an_ordinary_program_uses_is_there() -> None:
    code = """
import asyncio, collections, ctypes, decimal, fractions, hashlib, itertools, json, lzma, random, re, shutil, sqlite3
import statistics, subprocess, tempfile, threading
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
assert subprocess.run(["sh", "-c", "echo $((6 * 7)) | cat"], capture_output=True).stdout == b"42\\n"
assert asyncio.run(asyncio.sleep(0, 5)) == 5
threads = [threading.Thread(target=print, args=(number,)) for number in range(3)]
for one in threads: one.start()
for one in threads: one.join()
shutil.copy2(__file__, "copy.py")
assert sqlite3.connect("data").execute("select 1").fetchone() == (1,)
print("all of it")
"""
    result = run_python(code, FEW)
    assert result.succeeded and result.stdout.endswith("all of it\n"), result


def test_the_standard_library_is_all_there_is() -> None:
    assert "ModuleNotFoundError" in run_python("import numpy", FEW).stderr
    assert "ModuleNotFoundError" in run_python("import k2model", FEW).stderr


def test_runs_are_the_same_and_share_nothing() -> None:
    code = "import os; print(os.listdir('/tmp'), {'a', 'b', 'c'}, hash('x')); open('/tmp/left', 'w').close()"
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: run_python(code, FEW).stdout, range(8)))
    assert said[0].startswith("[]") and set(said) == {said[0]}


def test_files_are_read_and_standard_files_handed_on() -> None:
    files = {"one.py": b"import two; two.say(input())", "two.py": b"def say(what): print('heard', what)"}
    here, there = os.pipe()
    os.write(there, b"a pipe\n")
    os.close(there)
    words = [*python(), "-c", f"import sys; sys.path.insert(0, '{TASK}'); import one"]
    assert run(words, files, FEW, here).stdout == "heard a pipe\n"
    os.close(here)


def test_a_run_is_stopped_from_another_thread() -> None:
    jail = start([*python(), "-c", "import time; time.sleep(60)"], limits=FEW)
    threading.Timer(0.1, jail.stop).start()
    result = jail.wait()
    assert (result.ending, result.code) == (Ending.STOPPED, None) and result.seconds < 3


def test_a_signal_and_an_unknown_program_have_a_code() -> None:
    assert run_python("import os; os.abort()", FEW).code == 128 + signal.SIGABRT
    assert run(["/usr/bin/there-is-none"], limits=FEW).code == 127


def test_a_jail_that_fails_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2model.sandbox.command._links", lambda: ("--ro-bind", "/there/is/none", "/mnt"))
    with pytest.raises(EvaluationError, match=r"the sandbox could not be made \(bwrap: .*/there/is/none"):
        run_python("print(1)", FEW)


def test_much_output_is_read_whole_and_no_file_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert len(run_python("print('x' * 9000, end='')", FEW).stdout) == 9000
        more = run_python("print('x' * 10_001, end='')", FEW)
        assert more.ending is Ending.OUTPUT and len(more.stdout) == 10_000, "what is cut is said to be"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_jail_ends_with_whoever_started_it() -> None:
    marker = f"k2-orphan-{os.getpid()}"
    code = f"from k2model.sandbox import run, python\nrun([*python(), '-c', 'import time; time.sleep(60)', '{marker}'])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    starter = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        assert _until(lambda: any("prlimit" not in one and "sleep" in one for one in survivors(f"{marker}\0")))
    finally:
        starter.kill()
        starter.wait()
    assert _until(lambda: not survivors(f"{marker}\0"))


def _until(happened, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.02)
    return False


def test_every_allowed_call_is_one_that_libseccomp_knows() -> None:
    import pyseccomp

    from k2model.sandbox import filter

    names = f"{filter._FILES} {filter._WAITING} {filter._PROCESSES} {filter._SOCKET_PAIRS}".split()
    assert len(set(names)) == len(names)
    assert [one for one in names if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, one) == -1] == []
