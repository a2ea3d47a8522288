"""A Docker engine of a test's own, to be killed or filled up: never the user's.

It has its own data, sockets and containerd, and images come to it by save and load. Above all
it has a network namespace of its own: an engine that is told to have no bridge removes the
one called docker0, and in the host's namespace that is the user's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests import engine
from tests.conftest import children, eventually
from tests.miniworker.rig import argv

START_S = 60


class PrivateEngine:
    """An engine in a folder; ``data`` may be a file system of its own."""

    #: What it is started by, and what it is told of networks.
    within: tuple[str, ...] = ("unshare", "--net")
    network: tuple[str, ...] = ("--bridge=none", "--iptables=false")

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            pytest.skip("an engine of its own needs root and dockerd")
        self.folder = folder
        self.address = f"unix://{folder}/s"
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        driver = engine.docker("info", "--format", "{{.Driver}}")
        (folder / "config").write_text(json.dumps({"storage-driver": driver}))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # One that was killed leaves containers; only an engine ends them.
            if self._process is None:
                self.start()
            eventually(self._is_empty, START_S, "containers removed")
        finally:
            self.end()
            self._clear()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        places = ["--config-file", "config", "--data-root", "data", "--exec-root", "exec"]
        places += ["--pidfile", "pid", "--host", self.address]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.within, "dockerd", *map(self._absolute, places), *self.network],
                stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._answers, START_S, "a private engine")

    @property
    def pid(self) -> int:
        """Return its process id: ``unshare`` and ``nsenter`` become what they start."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill it, as the kernel would."""
        assert self._process is not None
        containerd = int((self.folder / "exec/containerd/containerd.pid").read_text())
        self._process.kill()
        self._process.wait()
        self._process = None
        # It dies with its engine, and is ours then: unreaped, it would count as living.
        eventually(lambda: os.waitpid(containerd, os.WNOHANG)[0], what="containerd gone")

    def end(self) -> None:
        """Have it end in order, and its containers with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def docker(self, *arguments: str) -> str:
        """Run the docker command on it."""
        return engine.docker("--host", self.address, *arguments)

    def inside(self, *command: str) -> str:
        """Run a command in its network namespace; return what it printed."""
        assert self._process is not None
        enter = ["nsenter", f"--net=/proc/{self._process.pid}/ns/net"]
        ran = subprocess.run([*enter, *command], capture_output=True, text=True, check=True)
        return ran.stdout

    def load(self, image: str) -> None:
        """Bring an image of the user's engine here."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
            self.docker_load(save)
        assert save.returncode == 0

    def docker_load(self, save: subprocess.Popen[bytes]) -> None:
        command = ["docker", "--host", self.address, "load"]
        loaded = subprocess.run(command, stdin=save.stdout, capture_output=True, check=False)
        assert loaded.returncode == 0, loaded.stderr

    def _absolute(self, word: str) -> str:
        known = ("config", "data", "exec", "pid")
        return str(self.folder / word) if word in known else word

    def _is_empty(self) -> bool:
        """Remove what containers there are; return whether there were none."""
        left = self.docker("ps", "--all", "--quiet").split()
        # Some may be on their way already, and are not there any more when their turn comes.
        with contextlib.suppress(AssertionError):
            self.docker("rm", "--force", *left)
        return not left

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        asked = ["docker", "--host", self.address, "version"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def _clear(self) -> None:
        """Leave no process that names the folder, no cgroup and no mount, come what may."""
        pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        named = [
            pid for pid in pids - {os.getpid()}
            if any(word.startswith(str(self.folder)) for word in argv(pid))
        ]  # fmt: skip
        # What a shim has below it does not name the folder: its container, if the engine died
        # while it made it and knows nothing of it.
        for pid in named and [*named, *children(*named)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for container in (self.data / "containers").glob("*"):
            for cgroup in Path("/sys/fs/cgroup").glob(f"*/docker/{container.name}"):
                cgroup.rmdir()
        lines = Path("/proc/mounts").read_text().splitlines()
        for place in reversed([line.split()[1] for line in lines]):
            if place.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", place], check=True)
