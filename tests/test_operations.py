"""docs/operations.md: behind each command stands what runs it. Those of `here` are run, as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^ {4,}(?P<command>\S.*?) {2,}# (?P<by>here|not run: .+|tests/\S+\.py)$")
CODE = [line for line in (ROOT / "docs" / "operations.md").read_text().splitlines() if re.match(r" {4,}\S", line)]
#: Indented lines that go on with a list's text.
COMMANDS = [line for line in CODE if re.match(r" +(k2|make|infra/|kubectl|pyflyte|sh|sha256sum) ", line)]
#: Of a command, what its test names.
SHOWN = {"make images": "build", "make package": "tasks.package", "make register": "--register", "make stack": "stack",
         "make lifecycle": "infra.stack", "k2 status": "status", "k2 check": '"check"',
         "sh infra/restore.sh": "restore.sh",
         "sha256sum": "SHA256SUMS"}  # fmt: skip


def parsed() -> list[tuple[str, str]]:
    found = [LINE.match(line) for line in COMMANDS]
    assert all(found), [line for line, one in zip(COMMANDS, found, strict=True) if not one]
    return [(one["command"], one["by"]) for one in found if one]


def test_each_command_says_what_runs_it() -> None:
    rows = parsed()
    assert len(rows) > 20
    for command, by in rows:
        if by.startswith("tests/"):
            shown = next(text for name, text in SHOWN.items() if command.startswith(name))
            assert shown in (ROOT / by).read_text(), f"{by} does not run `{command}`"
        elif by != "here":
            assert by == "not run: no cluster" and re.match(
                r"kubectl|pyflyte run .*remote-launchplan|infra/install", command
            ), by


@pytest.mark.parametrize("command", dict.fromkeys(command for command, by in parsed() if by == "here"))
def test_a_command_of_the_runbook_runs(command: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "K2_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert not (ROOT / "k2-secrets.json").exists()


def test_what_it_starts_is_what_was_registered() -> None:
    """`pyflyte run --remote` would register the workflows anew, for the laptop recipe and without a store."""
    (start,) = [command for command, _ in parsed() if command.startswith("pyflyte")]
    module, _, workflow = start.split()[-1].rpartition(".")
    assert f"def {workflow}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert "--remote" not in start.split() and "remote-launchplan" in start.split()


def test_the_alerts_it_names_are_there() -> None:
    rules = (ROOT / "infra" / "monitoring" / "rules.yaml").read_text()
    named = set(re.findall(r"`(K2[A-Z]\w+)`", (ROOT / "docs" / "operations.md").read_text()))
    assert named and named <= set(re.findall(r"alert: (\w+)", rules))
