"""Machines of a small network, as network namespaces of one: each with a name, an address and an interface of its own.

The switch between them is a bridge in a namespace as well, so that the machine's own network is never touched, and
nothing outside can be reached from inside. All of it is gone when the block ends, processes first.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

INTERFACE = "eth0"
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
_MS_REC, _MS_PRIVATE, _MS_BIND = 0x4000, 1 << 18, 0x1000


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30).stdout


class Network:
    """`count` machines called `node-0`, `node-1`, ...; `folder` for what they share."""

    def __init__(self, count: int, folder: Path) -> None:
        self.names = [f"node-{node}" for node in range(count)]
        self._prefix = f"k2-{os.getpid()}"
        self._hosts = folder / "hosts"
        lines = [f"10.77.0.{node + 1} {name}" for node, name in enumerate(self.names)]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")

    @property
    def _switch(self) -> str:
        return f"{self._prefix}-switch"

    def namespace(self, node: int) -> str:
        return f"{self._prefix}-{node}"

    def build(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for node in range(len(self.names)):
            there, port = self.namespace(node), f"port{node}"
            _ip("netns", "add", there)
            _ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", INTERFACE, "netns", there)
            _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", there, "address", "add", f"10.77.0.{node + 1}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                _ip("-n", there, "link", "set", interface, "up")

    def remove(self) -> None:
        for node in range(len(self.names)):
            self.kill(node)
        listed = _ip("netns", "list").split()
        for namespace in (*map(self.namespace, range(len(self.names))), self._switch):
            if namespace in listed:
                _ip("netns", "delete", namespace)

    def processes(self, node: int) -> list[int]:
        """Of all that run on a machine, the ids."""
        if self.namespace(node) not in _ip("netns", "list").split():
            return []
        return [int(pid) for pid in _ip("netns", "pids", self.namespace(node)).split()]

    def kill(self, node: int) -> None:
        """SIGKILL to all processes of a machine at once."""
        deadline = time.monotonic() + 20
        while pids := self.processes(node):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            assert time.monotonic() < deadline, f"{pids} of {self.names[node]} do not end"

    def cut(self, node: int) -> None:
        """Whatever a machine sends or is sent is lost from here on, without a word."""
        _ip("-n", self._switch, "link", "set", f"port{node}", "down")

    def mend(self, node: int) -> None:
        _ip("-n", self._switch, "link", "set", f"port{node}", "up")

    def enter(self, node: int) -> None:
        """Put the calling process, which must have one thread, onto a machine."""
        libc = ctypes.CDLL(None, use_errno=True)

        def call(name: str, *arguments: object) -> None:
            if getattr(libc, name)(*arguments) != 0:
                raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

        with Path("/var/run/netns", self.namespace(node)).open() as namespace:
            call("setns", namespace.fileno(), _CLONE_NEWNET)
        call("unshare", _CLONE_NEWNS | _CLONE_NEWUTS)
        name = self.names[node].encode()
        call("sethostname", name, len(name))
        call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)  # mounts stay in this process
        call("mount", os.fsencode(self._hosts), b"/etc/hosts", None, _MS_BIND, None)


@contextlib.contextmanager
def network(count: int, folder: Path) -> Iterator[Network]:
    """Skips the test where there are no such namespaces: without root, or without iproute2."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here (iproute2)")
    built = Network(count, folder)
    try:
        try:
            _ip("netns", "add", built._switch)
            _ip("netns", "delete", built._switch)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        built.build()
        yield built
    finally:
        built.remove()
