"""A control plane without any node: DB node and api alone, for workers that are simulated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.product import ECHO, ROOT, RUNTIME, Product
from skep import Client

#: Relative to the folder that both run in: a path of an ipc socket has 107 bytes at most.
WORKERS: Final = "ipc://run/workers"
_ENV: Final = {"PYTHONPATH": str(ROOT)}


@contextmanager
def running(store: str = "sqlite") -> Iterator[Product]:
    """Start both in a temporary folder, with the function ``echo``, and stop them."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="skep-bench-"))
        (Path(folder) / "run").mkdir(mode=0o700)
        _start(
            stack, folder, "dbnode", ["--data", ".", "--bind", "ipc://run/db", "--store", store]
        )
        options = ["--data", ".", "--port", "0", "--db", "ipc://run/db"]
        options += ["--workers-bind", WORKERS, "--pub-bind", "ipc://run/pub"]
        found = _start(stack, folder, "api", options)
        client = stack.enter_context(Client(found["url"]))
        client.register_runtime({**RUNTIME, "name": "bench", "dependencies": ""})
        product = Product("simulated", found["url"], folder, client, os.getpid())
        product.register("echo", ECHO, entry="test.main")
        yield product


@contextmanager
def simulated(product: Product, count: int, slots: int = 4) -> Iterator[None]:
    """Run so many simulated workers beside it; the sessions of all are open."""
    command = [sys.executable, "-P", "-m", "benchmarks.simulated"]
    command += [WORKERS, str(count), str(slots)]
    with subprocess.Popen(
        command, cwd=product.folder, env={**os.environ, **_ENV},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        if process.stdout is None or process.stdout.readline() != b"open\n":
            raise RuntimeError("the simulated workers get no session")
        yield
        process.communicate()


def _start(stack: ExitStack, folder: str, room: str, options: Sequence[str]) -> dict[str, Any]:
    read, write = os.pipe()
    command = [sys.executable, "-P", "-m", room, *options, "--ready-fd", str(write)]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **_ENV}, pass_fds=[write],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    with os.fdopen(read) as ready:
        found: dict[str, Any] = json.loads(ready.readline())
        return found
