"""Celery with two preforked workers; Redis listens on a loopback port.

python -m benchmarks.peers.celery_redis CALLS PORT
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from celery import Celery

from benchmarks.peers import window

_URL = f"redis://127.0.0.1:{os.environ.get('BENCH_REDIS_PORT', '0')}/0"
app = Celery("bench", broker=_URL, backend=_URL)


def _echo(payload: str) -> str:
    return payload


echo = app.task(name="echo")(_echo)


def main() -> None:
    """Start its workers, measure, stop them."""
    command = [sys.executable, "-P", "-m", "celery", "-A", "benchmarks.peers.celery_redis"]
    command += ["worker", "--concurrency", "2", "--pool", "prefork", "--loglevel", "ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    workers = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not app.control.ping(timeout=0.5):
            if time.monotonic() > end:
                raise SystemExit("Celery's workers do not answer")
        window.measure(
            lambda: echo.delay(window.PAYLOAD),
            lambda task: task.get(timeout=60),
            int(sys.argv[1]),
        )
    finally:
        workers.terminate()
        workers.wait(30)


if __name__ == "__main__":
    main()
