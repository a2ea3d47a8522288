"""The first answer of a fresh container, against a bare create, start and first byte.

    python -m benchmarks.container_start [--image IMAGE] [--rounds N]

The two alternate in one run, so that both meet the same machine. ``bare`` asks the engine for a
container without any limit, network or confinement, whose Python connects to a socket; ``skep``
is a miniworker that is forked, makes a hardened container, meets its agent, and runs a call.
The target is a ratio of 1.5; the exit status is 1 above it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import zmq

from miniworker.engine import Engine
from wire import jobs
from wire.codec import encode
from wire.models import Function, Runtime, Spec

TARGET: Final = 1.5
CONNECT: Final = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/s/s'); s.send(b'x')"
)


class Node:
    """A zygote and its ROUTER: the least that a worker is."""

    def __init__(self, folder: Path, image: str) -> None:
        self._folder = folder
        self._image = image
        self._count = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(f"ipc://{folder}/router")
        found = json.loads(subprocess.check_output([*self._room("probe"), *self._probe()]))
        self.settings: dict[str, str] = found["settings"]
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = str(theirs.fileno())
        options = ["--fd", fd, "--driver", "docker", "--settings", json.dumps(self.settings)]
        self._zygote = subprocess.Popen([*self._room("zygote"), *options], pass_fds=[int(fd)])
        theirs.close()
        (folder / "bundle").mkdir()
        (folder / "bundle" / "test.py").write_text("print(1)")

    def first_answer(self) -> float:
        """Return the seconds from the order to fork until a call has answered."""
        self._count += 1
        name = f"m{self._count}"
        began = time.perf_counter()
        order = jobs.Spawn(
            miniworker=name,
            endpoint=f"ipc://{self._folder}/router",
            driver="docker",
            folder=str(self._folder / name),
            settings=self.settings,
        )
        self._socket.send(jobs.encode_order(order))
        route, _ = self._next(jobs.Up)
        spec = Spec(
            function=Function(function_name="f", runtime_name="r"),
            runtime=Runtime(name="r", image=self._image, path="/ws", run="python3 test.py"),
        )
        self._send(route, jobs.Specialise(spec=spec, bundle=str(self._folder / "bundle")))
        self._next(jobs.Ready)
        self._send(route, jobs.Job(call=1, attempt=1, timeout_ms=10_000), b"{}")
        self._next(jobs.Done)
        took = time.perf_counter() - began
        self._send(route, jobs.Stop())
        while not isinstance(jobs.decode_order(self._socket.recv(65536)), jobs.Exited):
            pass
        return took

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._zygote.wait()
        self._router.close()
        self._context.term()

    def _room(self, command: str) -> list[str]:
        return [sys.executable, "-P", "-m", "miniworker", command]

    def _probe(self) -> list[str]:
        own = {name: secrets.token_hex(8) for name in ("installation", "node", "boot")}
        options = ["--driver", "docker", "--folder", str(self._folder)]
        return [*options, "--json", "--identity", json.dumps(own)]

    def _send(self, route: bytes, message: Any, payload: bytes = b"") -> None:
        self._router.send_multipart([route, *encode(message, payload)])

    def _next(self, kind: type[Any]) -> tuple[bytes, Any]:
        while True:
            route, *frames = self._router.recv_multipart()
            message, _ = jobs.FROM_MINIWORKER.decode(frames)
            if isinstance(message, kind):
                return route, message
            if isinstance(message, jobs.Broken):
                raise SystemExit(message.reason.message)


def bare(engine: Engine, folder: Path, image: str) -> float:
    """Return the seconds of a create, a start and the first byte of a container."""
    place = folder / secrets.token_hex(4)
    place.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "s"))
        (place / "s").chmod(0o666)
        listener.listen()
        mount = {"Type": "bind", "Source": str(place), "Target": "/s", "ReadOnly": True}
        body = {
            "Image": image,
            "Cmd": ["python3", "-c", CONNECT],
            "NetworkDisabled": True,
            "HostConfig": {"Mounts": [mount]},
        }
        began = time.perf_counter()
        container = engine.create(f"skep-bare-{place.name}", body)
        engine.start(container)
        connection, _ = listener.accept()
        connection.recv(1)
        took = time.perf_counter() - began
        connection.close()
    engine.remove(container)
    return took


def main() -> None:
    """Run both, print medians and ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="pythonruntime")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    folder.chmod(0o755)
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    node, engine = Node(folder, given.image), Engine(version="auto")
    try:
        # The first of each warms caches of the kernel and the engine.
        rows = [
            (bare(engine, folder, given.image), node.first_answer())
            for _ in range(given.rounds + 1)
        ][1:]
    finally:
        node.close()
        engine.close()
        shutil.rmtree(folder)
    report(rows)


def report(rows: list[tuple[float, float]]) -> None:
    """Print what was measured; exit with 1 over the target."""
    for name, column in zip(("bare", "skep"), zip(*rows, strict=True), strict=True):
        times = sorted(seconds * 1000 for seconds in column)
        median = statistics.median(times)
        print(f"{name}  median {median:6.1f} ms  [{times[0]:.1f} to {times[-1]:.1f}]")
    ratio = statistics.median(skep for _, skep in rows) / statistics.median(b for b, _ in rows)
    print(f"ratio {ratio:.2f} (target {TARGET}), {len(rows)} rounds")
    sys.exit(ratio > TARGET)


if __name__ == "__main__":
    main()
