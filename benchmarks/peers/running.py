"""Runs each peer, in the environment of the peers, and says why one cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.gate import quantile
from benchmarks.load import Load, measure

ROOT: Final = Path(__file__).parents[2]
#: ``make peers`` makes it.
PYTHON: Final = ROOT / ".venv-peers" / "bin" / "python"
ABSENT: Final = "no .venv-peers: run make peers"
#: What a peer says on stderr at its end; the rest is not for reading.
_TAIL: Final = 300


class Absent(Exception):
    """A peer that cannot be measured here; the message says why."""


def rows(name: str, latencies: list[float], rate: float) -> dict[str, float]:
    """Return the rows of a peer, of latencies in seconds and calls a second."""
    took = sorted(1000 * one for one in latencies)
    return {
        f"{name}.p50_ms": quantile(took, 0.5),
        f"{name}.p99_ms": quantile(took, 0.99),
        f"{name}.rate": rate,
    }


def parsl(calls: int) -> dict[str, float]:
    """Measure Parsl HTEX with two workers."""
    return _task_system("parsl", "benchmarks.peers.parsl_htex", calls, {})


def celery(calls: int) -> dict[str, float]:
    """Measure Celery with two workers over a Redis of its own."""
    with _redis() as port:
        environ = {"BENCH_REDIS_PORT": str(port)}
        return _task_system("celery", "benchmarks.peers.celery_redis", calls, environ)


def functions_framework(calls: int) -> dict[str, float]:
    """Measure functions-framework behind the server that it brings."""
    port = _free_port()
    source = ROOT / "benchmarks" / "peers" / "framework_echo.py"
    program = _need().with_name("functions-framework")
    if not program.exists():
        raise Absent("functions-framework is not installed: make peers")
    command = [str(program), "--target", "echo"]
    command += ["--source", str(source), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            _until_open(port, server)
            load = Load(f"http://127.0.0.1:{port}/", b'{"n":"%s"}' % (b"0123456789" * 6))
            measure(replace(load, calls=50))
            one = measure(replace(load, calls=calls))
            crowd = measure(replace(load, clients=32, calls=2 * calls))
            return rows("functions-framework", one["latencies"], 2 * calls / crowd["seconds"])
        finally:
            server.terminate()


PEERS: Final[dict[str, Callable[[int], dict[str, float]]]] = {
    "functions-framework": functions_framework,
    "parsl": parsl,
    "celery": celery,
}


def _need() -> Path:
    if not PYTHON.exists():
        raise Absent(ABSENT)
    return PYTHON


def _task_system(
    name: str, module: str, calls: int, environ: dict[str, str]
) -> dict[str, float]:
    # Parsl starts its own programs by name.
    path = f"{_need().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, **environ, "PYTHONPATH": str(ROOT), "PATH": path}
    command = [str(PYTHON), "-P", "-m", module, str(calls)]
    with tempfile.TemporaryDirectory(prefix="skep-bench-") as folder:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, check=False, timeout=240
        )
    if done.returncode:
        raise Absent(f"it failed: {done.stderr.decode()[-_TAIL:].strip()}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return rows(name, found["latencies"], found["rate"])


@contextmanager
def _redis() -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        raise Absent("no redis-server: apt-get install redis-server")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="skep-bench-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
            try:
                _until_open(port, server)
                yield port
            finally:
                server.terminate()


def _until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise Absent("it does not come up")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
