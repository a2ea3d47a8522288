"""What the product is measured against, in the same run: the least that such work costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load import Load

ROOT: Final = Path(__file__).parents[1]
#: A megabyte of text that JSON leaves as it is.
MEGABYTE: Final = "0123456789abcdef" * (1 << 16)
PAYLOAD: Final = b"0123456789" * 6
WORKERS: Final = 2
IN_FLIGHT: Final = 32
FORK: Final = """
import os, time
took = []
for _ in range({rounds}):
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    took.append(time.perf_counter() - began)
print(sorted(took)[len(took) // 2])
"""


@contextmanager
def hello() -> Iterator[Load]:
    """Run an aiohttp server on uvloop that reads JSON and answers it."""
    command = [sys.executable, "-P", "-m", "benchmarks.hello"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE) as server:
        try:
            port = int(server.stdout.readline()) if server.stdout else 0
            yield Load(f"http://127.0.0.1:{port}/", b'{"n":"%s"}' % PAYLOAD)
        finally:
            server.terminate()


def echo(payload: bytes) -> bytes:
    """Return it; in a process of the pool."""
    return payload


class Pool:
    """``ProcessPoolExecutor(2)``, submit and wait."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(WORKERS)
        for _ in range(200):
            self._pool.submit(echo, PAYLOAD).result()

    def one_by_one(self, calls: int) -> list[float]:
        """Return the latencies of one client."""
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            self._pool.submit(echo, PAYLOAD).result()
            took.append(time.perf_counter() - began)
        return took

    def rate(self, calls: int, clients: int = IN_FLIGHT) -> float:
        """Return the calls a second with so many in flight."""
        began = time.perf_counter()
        under_way: set[Future[bytes]] = {
            self._pool.submit(echo, PAYLOAD) for _ in range(clients)
        }
        done = 0
        while done < calls:
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            done += len(ended)
            under_way |= {self._pool.submit(echo, PAYLOAD) for _ in ended}
        return done / (time.perf_counter() - began)

    def close(self) -> None:
        """End it."""
        self._pool.shutdown()


@contextmanager
def pool() -> Iterator[Pool]:
    """Run a pool of two processes."""
    made = Pool()
    try:
        yield made
    finally:
        made.close()


def fork_and_wait(image: str | None, rounds: int = 200) -> float:
    """Return the seconds of a bare fork and wait, in a container of ``image`` or here."""
    code = FORK.format(rounds=rounds)
    python = ["/usr/bin/python3"] if Path("/usr/bin/python3").exists() else [sys.executable]
    inside = ["docker", "run", "--rm", "--network", "none", image or "", "python3"]
    command = [*(inside if image else python), "-I", "-S", "-c", code]
    return float(subprocess.check_output(command, timeout=120))
