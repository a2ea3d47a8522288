"""Parsl's HighThroughputExecutor with two workers on this machine.

python -m benchmarks.peers.parsl_htex CALLS
"""

from __future__ import annotations

import sys
import tempfile

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.peers import window


def echo(payload: str) -> str:
    """Return it; in a worker."""
    return payload


def main() -> None:
    """Start it, measure, stop it."""
    executor = HighThroughputExecutor(
        label="htex",
        address="127.0.0.1",
        max_workers_per_node=2,
        encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1, min_blocks=1),
    )
    with tempfile.TemporaryDirectory(prefix="skep-bench-") as folder:
        config = Config(executors=[executor], run_dir=folder, usage_tracking=0)
        with parsl.load(config):
            task = parsl.python_app(echo)
            window.measure(
                lambda: task(window.PAYLOAD), lambda future: future.result(60), int(sys.argv[1])
            )


if __name__ == "__main__":
    main()
