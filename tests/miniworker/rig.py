"""A worker's side of a zygote and its miniworkers, for tests: real processes, real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pytest
import zmq

from miniworker.processes import descendants
from tests import engine
from tests.conftest import eventually
from wire import images, jobs, packs
from wire.codec import Message, encode
from wire.messages import Outcome
from wire.models import Function, Runtime, Spec

ROOT = Path(__file__).parents[2]
PATHS = (str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
LIMIT_S = 25.0
LEVELS = ("bubblewrap", "uid", "rlimits")
Driver = Literal["docker", "process", "fake"]


def start(
    *arguments: str, env: dict[str, str] | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """Start a command of the room."""
    command = [sys.executable, "-P", "-m", "miniworker", *arguments]
    return subprocess.Popen(command, env=ENV | (env or {}), **more)


def probe(folder: Path, level: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Return what the probe says; skip the test if that level is not to be had.

    ``container`` may be followed by a transport: ``container-stdio``.
    """
    wish = ["--level", level]
    if level.startswith("container"):
        engine.python_image()
        wish = ["--driver", "docker", "--identity", json.dumps(engine.identity())]
        wish += ["--transport", level.partition("-")[2] or "mounts"]
    process = start(
        *("probe", "--json", "--folder", str(folder), *wish),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    out, err = process.communicate(timeout=60)
    if process.returncode != 0:
        pytest.skip(f"level {level}: {err.decode()}")
    found: dict[str, Any] = json.loads(out)
    return found


def open_folder(folder: Path) -> Path:
    """Return the folder once every user may pass it."""
    # A sandbox without a view of its own reaches its tools by their path on the host.
    for parent in (folder, *folder.parents[:-2]):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)
    return folder


class Mini:
    """One miniworker, as its worker sees it."""

    def __init__(self, rig: Rig, name: str, pid: int) -> None:
        self.rig = rig
        self.name = name
        self.pid = pid
        self.route = b""

    def send(self, message: Message, payload: bytes = b"") -> None:
        self.rig.router.send_multipart([self.route, *encode(message, payload)])

    def recv(self) -> tuple[Any, bytes]:
        """Return the next message that is no heartbeat."""
        while True:
            message, payload = self.rig.recv(self.route)
            if not isinstance(message, jobs.Heartbeat):
                return message, payload

    def specialise(self, spec: Spec, bundle: Path | str) -> Any:
        self.send(jobs.Specialise(spec=spec, bundle=str(bundle)))
        return self.recv()[0]

    def job(self, call: int, params: bytes = b"{}", timeout_ms: int = 15_000) -> None:
        self.send(jobs.Job(call=call, attempt=1, timeout_ms=timeout_ms), params)

    def pack_of_jobs(self, *params: bytes) -> None:
        """Send calls 1, 2, 3 … in one PACK."""
        crowd = [
            (self.route, *encode(jobs.Job(call=call, attempt=1, timeout_ms=15_000), each))
            for call, each in enumerate(params, 1)
        ]
        (pack,) = packs.packed(crowd, {(self.route,)})
        self.rig.router.send_multipart(pack)

    def done(self) -> tuple[Outcome, bytes, str, str]:
        """Return outcome, result, stdout and stderr of the next call that ends."""
        message, payload = self.recv()
        assert isinstance(message, jobs.Done), message
        result, out, _ = message.sizes
        stdout, stderr = payload[result : result + out], payload[result + out :]
        return message.outcome, payload[:result], stdout.decode(), stderr.decode()

    def built(self) -> tuple[jobs.Built, str]:
        """Return how a build ended, and all that was shown of it while it ran."""
        shown = ""
        while isinstance(message := self.recv()[0], jobs.Printed):
            shown += message.text
        assert isinstance(message, jobs.Built), message
        return message, shown

    def call(
        self, params: bytes = b"{}", timeout_ms: int = 15_000
    ) -> tuple[Outcome, bytes, str, str]:
        self.job(1, params, timeout_ms)
        return self.done()

    def stop(self) -> None:
        self.send(jobs.Stop())
        assert self.rig.exit_of(self.name).status == 0


class Rig:
    """A zygote and the ROUTER that its miniworkers connect to."""

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        folder: str = "",
        driver: Driver = "process",
        env: dict[str, str] | None = None,
        place: str = "/tmp",
    ) -> None:
        self.settings = settings or {}
        self.driver: Driver = driver
        self.temporary = Path(tempfile.mkdtemp(prefix="skep-test-", dir=place))
        self.temporary.chmod(0o755)
        #: What the processes call their folder; may be relative to their cwd.
        self.folder = folder
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(LIMIT_S)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.bind(f"ipc://{self.temporary}/mini.sock")
        fd = str(theirs.fileno())
        self.cwd = self.temporary / folder if folder else self.temporary
        self.cwd.mkdir(parents=True, exist_ok=True)
        kind = ["--driver", driver, "--settings", json.dumps(self.settings)]
        self.zygote = start(
            "zygote", "--fd", fd, *kind, env=env, pass_fds=[int(fd)], cwd=self.cwd
        )
        theirs.close()
        self.count = 0
        self._living: set[str] = set()
        self._exits: dict[str, jobs.Exited] = {}
        self._early: list[tuple[bytes, Message, bytes]] = []
        #: What came in a PACK and was not looked at yet.
        self._packed: deque[list[bytes]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self.socket.close()
        try:
            assert self.zygote.wait(LIMIT_S) == 0 or kind is not None
        finally:
            self.zygote.kill()
            self.router.close()
            self.context.term()
            shutil.rmtree(self.temporary)

    @contextlib.contextmanager
    def reaching(self, engine: str) -> Iterator[None]:
        """Let miniworkers that are made meanwhile find the engine at this address."""
        settings = self.settings
        self.settings = settings | {"engine": engine}
        try:
            yield
        finally:
            self.settings = settings

    def spawn(self, driver: Driver | None = None) -> Mini:
        self.count += 1
        name = f"m{self.count}"
        endpoint = f"ipc://{self.temporary}/mini.sock"
        order = jobs.Spawn(
            miniworker=name,
            endpoint=endpoint,
            driver=driver or self.driver,
            folder=f"run/{name}",
            settings=self.settings,
        )
        self.socket.send(jobs.encode_order(order))
        mini = Mini(self, name, self._spawned(name))
        mini.route = self._route(name)
        return mini

    def inside(self, mini: Mini) -> set[int]:
        """Return the processes of its sandbox, the agent among them."""
        if self.driver == "docker":
            label = f"skep.miniworker={mini.name}"
            found = engine.containers(self.settings["installation"], label)
            return set().union(*(engine.processes(one) for one in found))
        return {pid for pid in descendants(mini.pid) if "bwrap" not in argv(pid)[0]}

    def check(self) -> None:
        """Check that the engine has nothing left of what was killed."""
        if self.driver == "docker":
            installation = self.settings["installation"]
            eventually(lambda: not engine.containers(installation), what="containers gone")

    def clear(self) -> None:
        """End the miniworkers that there are."""
        for name in self._living.copy():
            if name not in self._exits:
                self.socket.send(jobs.encode_order(jobs.Kill(miniworker=name)))
            self.exit_of(name)
        while self.router.poll(0):
            self.router.recv_multipart()
        self._early.clear()
        self._packed.clear()

    def end(self, mini: Mini) -> None:
        """Wait for the end of one that was told to leave; kill one that was not."""
        if sys.exc_info()[0] is not None:
            self.socket.send(jobs.encode_order(jobs.Kill(miniworker=mini.name)))
        self.exit_of(mini.name)

    def _spawned(self, name: str) -> int:
        self._living.add(name)
        while True:
            packet = jobs.decode_order(self.socket.recv(65536))
            if isinstance(packet, jobs.Exited):
                self._exits[packet.miniworker] = packet
            if isinstance(packet, jobs.Spawned) and packet.miniworker == name:
                return packet.pid

    def _route(self, name: str) -> bytes:
        while True:
            route, message, payload = self._next()
            if isinstance(message, jobs.Up) and message.miniworker == name:
                return route
            self._early.append((route, message, payload))

    def _next(self) -> tuple[bytes, Message, bytes]:
        if not self._packed:
            assert self.router.poll(int(LIMIT_S * 1000)), "no word from a miniworker"
            message = self.router.recv_multipart()
            self._packed += packs.unpacked(message) if message[1] == packs.HEAD else [message]
        route, *frames = self._packed.popleft()
        return route, *jobs.FROM_MINIWORKER.decode(frames)

    def recv(self, route: bytes) -> tuple[Message, bytes]:
        for entry in self._early:
            if entry[0] == route:
                self._early.remove(entry)
                return entry[1], entry[2]
        while True:
            whose, message, payload = self._next()
            if whose == route:
                return message, payload
            self._early.append((whose, message, payload))

    def has(self, route: bytes, within_ms: int) -> bool:
        """Return whether a message of this miniworker is there, or comes in time."""
        while not any(entry[0] == route for entry in self._early):
            if not self._packed and not self.router.poll(within_ms):
                return False
            self._early.append(self._next())
        return True

    def exit_of(self, name: str) -> jobs.Exited:
        while name not in self._exits:
            packet = jobs.decode_order(self.socket.recv(65536))
            if isinstance(packet, jobs.Exited):
                self._exits[packet.miniworker] = packet
        self._living.discard(name)
        return self._exits.pop(name)

    def bundle(self, files: dict[str, str]) -> Path:
        """Make a bundle as a worker leaves it: readable by everybody."""
        folder = self.cwd / f"bundle-{time.monotonic_ns()}"
        folder.mkdir(mode=0o755)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return folder

    def image(self, image: str, driver: Driver | None = None, **function: Any) -> Mini:
        """Return a miniworker that is ready to run this image."""
        mini = self.spawn(driver)
        ready = mini.specialise(image_spec(image, **function), "-")
        assert isinstance(ready, jobs.Ready), ready
        return mini

    def script(self, source: str, driver: Driver | None = None, **function: Any) -> Mini:
        """Return a miniworker that is ready to run this as test.py."""
        mini = self.spawn(driver)
        ready = mini.specialise(spec(**function), self.bundle({"test.py": source}))
        assert isinstance(ready, jobs.Ready), ready
        return mini


def spec(*, runtime: dict[str, Any] | None = None, **function: Any) -> Spec:
    given = {
        "path": "/ws",
        "run": "python3 test.py",
        "agent": "python",
        "image": engine.PYTHON_IMAGE,
    }
    return Spec(
        function=Function(function_name="f", runtime_name="r", revision=3, **function),
        runtime=Runtime(name="r", revision=1, **given | (runtime or {})),
    )


def image_spec(image: str, **function: Any) -> Spec:
    """Return a function that is an image."""
    made = Function(
        function_name="f", runtime_name=images.RUNTIME, revision=3, image=image, **function
    )
    runtime = images.runtime_of(made)
    assert runtime is not None
    return Spec(function=made, runtime=runtime)


def gone(pid: int) -> None:
    """Wait until a process has ended."""
    eventually(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), what=f"pid {pid}")


def argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return [""]


def is_zombie(pid: int) -> bool:
    return _state(pid) in ("", "Z")


def freeze(pid: int) -> None:
    """Stop a process; when this returns it does nothing more."""
    os.kill(pid, signal.SIGSTOP)
    # It may still be on its way out of the kernel, with what it has just been told there.
    eventually(lambda: _state(pid) == "T", what=f"pid {pid} stopped")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
