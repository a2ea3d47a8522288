"""The product as it is measured: ``skep up`` in a temporary folder, with functions to call."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.controls import MEGABYTE
from benchmarks.load import Load
from skep import Client

ROOT: Final = Path(__file__).parents[1]
Before = Callable[[Path], None]
RUNTIME: Final = json.loads((ROOT / "runtimes" / "python" / "runtime.json").read_text())
ECHO: Final = "def main(**params):\n    return params\n"
SCRIPT: Final = "print(1)\n"
#: Sixty bytes of JSON.
PARAMS: Final = {"text": "0123456789012345678901234567890123456789", "n": 1}


SLOW: Final = "import time\n\n\ndef main(**params):\n    time.sleep(1)\n"


@dataclass(frozen=True, slots=True)
class Product:
    """One running installation."""

    sandbox: str
    url: str
    folder: str
    client: Client
    #: Of the parent of all other processes: ``skep up``, or who started them.
    pid: int

    def invocation(
        self, name: str, *, waits: bool = True, params: dict[str, Any] | None = None
    ) -> Load:
        """Return the load of calling a function."""
        body = json.dumps({"funcName": name, "params": params or PARAMS}).encode()
        if waits:
            return Load(f"{self.url}/invokeFunction?wait=30", body)
        return Load(f"{self.url}/invokeFunction", body, expect=b"HTTP/1.1 202")

    def batch(self, name: str, calls: int) -> Load:
        """Return the load of requests that hold so many calls each, and wait for them."""
        line = json.dumps({"funcName": name, "params": PARAMS}).encode()
        return Load(
            f"{self.url}/invokeFunctions?wait=30",
            b"\n".join([line] * calls),
            content_type="application/x-ndjson",
            every=b'"status":200',
            times=calls,
        )

    def large(self, name: str) -> Load:
        """Return the load of a call with a megabyte of params, which are also its result."""
        body = json.dumps({"funcName": name, "params": {"text": MEGABYTE}}).encode()
        return Load(f"{self.url}/invokeFunction?wait=30", body)

    def register(self, name: str, code: str, **options: Any) -> None:
        """Register a function of one file, ``test.py``."""
        self.client.register_function("bench", name, package(code), **options)


def package(code: str) -> bytes:
    """Return a package with one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("test.py", code)
    return file.getvalue()


@contextmanager
def started(
    sandbox: str, *, slots: int, options: Sequence[str] = (), before: Before | None = None
) -> Iterator[Product]:
    """Start everything in a temporary folder, and stop it.

    ``before`` gets the folder before anything runs in it, such as to fill a store.
    """
    with tempfile.TemporaryDirectory(prefix="skep-bench-") as folder:
        if before is not None:
            before(Path(folder))
        read, write = os.pipe()
        command = [sys.executable, "-P", "-m", "cli", "up", "--data", folder, "--port", "0"]
        command += ["--sandbox", sandbox, "--slots", str(slots), "--ready-fd", str(write)]
        command += options
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        told = Path(folder, "up.log")
        with told.open("wb") as log:
            process = subprocess.Popen(
                command, env=env, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=log
            )
        os.close(write)
        try:
            with os.fdopen(read) as ready:
                line = ready.readline()
            if not line:
                raise RuntimeError(f"skep up does not come up: {told.read_text()[-2000:]}")
            url = json.loads(line)["url"]
            with Client(url) as client:
                yield Product(sandbox, url, folder, client, process.pid)
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def running(
    sandbox: str,
    *,
    slots: int,
    image: str = RUNTIME["image"],
    options: Sequence[str] = (),
    before: Before | None = None,
) -> Iterator[Product]:
    """Start everything, and stop it; ``echo``, ``slow`` and ``script`` are there."""
    with started(sandbox, slots=slots, options=options, before=before) as product:
        product.client.register_runtime(
            {**RUNTIME, "name": "bench", "image": image, "dependencies": ""}
        )
        product.register("echo", ECHO, entry="test.main")
        product.register("slow", SLOW, entry="test.main")
        product.register("script", SCRIPT)
        yield product
