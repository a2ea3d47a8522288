"""Machines that are apart: network namespaces, joined by links that are slow, cut, or moved."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
#: By this name the nodes know the api.
API: Final = "skep-api"
#: What a slow link is; where the kernel has no netem, ``tests.apart.link`` does the same.
SLOW: Final = ("delay", "20ms", "5ms", "loss", "0.1%", "rate", "60mbit", "limit", "2000")
_HOSTS: Final = Path("/etc/netns")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever comes of it."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def ip(*arguments: str) -> str:
    """Run ``ip``; return what it printed."""
    ran = run("ip", *arguments)
    assert ran.returncode == 0, f"ip {' '.join(arguments)}: {ran.stderr}"
    return ran.stdout


@functools.cache
def absent() -> str:
    """Return why there are no namespaces for tests; empty if there are."""
    if os.geteuid() != 0:
        return "only root may make them"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "there is no ip or tc (apt-get install iproute2)"
    name = f"skep-try-{os.getpid()}"
    made = run("ip", "netns", "add", name)
    if made.returncode != 0:
        return made.stderr.strip()
    entered = run("ip", "netns", "exec", name, "true")
    run("ip", "netns", "del", name)
    return entered.stderr.strip()


def require() -> None:
    """Skip the test where there are none, but fail it in CI, which has to have them."""
    if why := absent():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have network namespaces: {why}")
        pytest.skip(f"needs network namespaces: {why}")


@functools.cache
def has_netem() -> bool:
    """Return whether the kernel can delay and lose packets by itself."""
    name = f"skep-try-{os.getpid()}"
    ip("netns", "add", name)
    tried = run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", *SLOW)
    run("ip", "netns", "del", name)
    return tried.returncode == 0


class Net:
    """A namespace for the api and one for each node; this process reaches the api's alone.

    The links of nodes in ``slow`` delay and lose packets, both ways.
    """

    def __init__(self, nodes: Sequence[str], slow: Sequence[str]) -> None:
        self._slow = set(slow)
        self._links: list[subprocess.Popen[str]] = []
        self._tag = f"skep{os.getpid()}"
        self._nodes = list(nodes)
        # Others may run the same tests on this machine.
        self._base = "10.{}.{}".format(*(random.randint(64, 250) for _ in range(2)))
        self._moved: set[str] = set()
        ip("netns", "add", self.name("api"))
        ip("-n", self.name("api"), "link", "set", "lo", "up")
        self._join(None, 0)
        for number, node in enumerate(nodes, 1):
            ip("netns", "add", self.name(node))
            ip("-n", self.name(node), "link", "set", "lo", "up")
            self._join(node, number)
            self._tell(node)

    def name(self, machine: str) -> str:
        """Return the name of a machine's namespace."""
        return f"{self._tag}-{machine}"

    def within(self, machine: str) -> list[str]:
        """Return the command that runs another one on a machine."""
        return ["ip", "netns", "exec", self.name(machine)]

    @property
    def host(self) -> str:
        """Return where this process reaches the api."""
        return self._address(0, 1)

    def address_of_api(self, node: str) -> str:
        """Return where a node reaches the api."""
        return self._api_of(node)

    def connections(self, node: str) -> list[str]:
        """Return the ports of the api's present address that a node is connected to."""
        found = self._established(node, "dst", self._api_of(node))
        return sorted(line.split()[3].rpartition(":")[2] for line in found)

    def connected(self, node: str) -> list[str]:
        """Return the ports of the api that it holds a connection of this node at."""
        found = self._established("api", "dst", self._address(1 + self._nodes.index(node), 2))
        return sorted(line.split()[2].rpartition(":")[2] for line in found)

    def _established(self, machine: str, *which: str) -> list[str]:
        listed = run(*self.within(machine), "ss", "-Htn", "state", "established", *which)
        return listed.stdout.splitlines()

    def cut(self, node: str) -> None:
        """Cut a node's link: what is sent vanishes, and nobody is told."""
        ip("-n", self.name("api"), "link", "set", self._device(node, "a"), "down")

    def mend(self, node: str) -> None:
        """Join a node again."""
        ip("-n", self.name("api"), "link", "set", self._device(node, "a"), "up")

    def move_api(self, node: str) -> None:
        """Give the api another address, as this node sees it, under the same name."""
        device = self._device(node, "a")
        before = self._api_of(node)
        self._moved ^= {node}
        ip("-n", self.name("api"), "addr", "del", f"{before}/28", "dev", device)
        ip("-n", self.name("api"), "addr", "add", f"{self._api_of(node)}/28", "dev", device)
        self._tell(node)

    def close(self) -> None:
        """Remove all of it; links go with their ends."""
        for link in self._links:
            link.communicate(timeout=20)
        for machine in ("api", *self._nodes):
            run("ip", "netns", "del", self.name(machine))
            shutil.rmtree(_HOSTS / self.name(machine), ignore_errors=True)

    def _join(self, node: str | None, number: int) -> None:
        near, far = self._device(node, "a"), self._device(node, "b")
        there = [] if node is None else ["-n", self.name(node)]
        if node in self._slow and not has_netem():
            self._link(f"{self.name('api')}:{near}", f"{self.name(str(node))}:{far}")
        else:
            ip("link", "add", near, "type", "veth", "peer", "name", far)
            ip("link", "set", near, "netns", self.name("api"))
            if node is not None:
                ip("link", "set", far, "netns", self.name(node))
        self._up(["-n", self.name("api")], near, self._address(number, 1))
        self._up(there, far, self._address(number, 2))
        if node in self._slow and has_netem():
            for where, device in ((["-n", self.name("api")], near), (there, far)):
                made = run("tc", *where, "qdisc", "add", "dev", device, "root", "netem", *SLOW)
                assert made.returncode == 0, made.stderr

    def _link(self, *places: str) -> None:
        command = [sys.executable, "-m", "tests.apart.link", *places]
        link = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._links.append(link)
        assert link.stdout is not None
        assert link.stdout.readline() == "ready\n"

    def _up(self, where: list[str], device: str, address: str) -> None:
        ip(*where, "addr", "add", f"{address}/28", "dev", device)
        ip(*where, "link", "set", device, "up")

    def _tell(self, node: str) -> None:
        """Write the file of hosts that the node reads; in place, for it is mounted there."""
        folder = _HOSTS / self.name(node)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{self._api_of(node)} {API}\n")

    def _api_of(self, node: str) -> str:
        number = 1 + self._nodes.index(node)
        return self._address(number, 3 if node in self._moved else 1)

    def _address(self, number: int, host: int) -> str:
        return f"{self._base}.{16 * number + host}"

    def _device(self, node: str | None, end: str) -> str:
        number = 0 if node is None else 1 + self._nodes.index(node)
        return f"s{os.getpid()}{end}{number}"
