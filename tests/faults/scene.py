"""An installation under steady load on wires of the test's, and the hands that break it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from skep import SkepError
from tests.conftest import children, eventually
from tests.e2e.harness import RUNTIME, Up, up
from tests.faults.containers import Dock
from tests.faults.far import Far
from tests.faults.load import KINDS, Load
from tests.faults.wires import Watch, Wires
from tests.faults.witness import MODULE, Witness
from tests.packing import tar_gz
from tests.worker.test_node import is_miniworker, is_zygote, stat

WORKERS: Final = 3
#: A call that cannot begin for so long ends; what has begun has its timeout beside that.
MAX_WAIT_S: Final = 40
#: Silence beyond the liveness limit, and as much again as who was silent needs to be known.
FROZEN_S: Final = 13.0
_RUNTIME: Final = {**RUNTIME, "name": "faults", "dependencies": ""}


class Scene:
    """The installation, its load, and the hands that break it."""

    def __init__(
        self,
        hive: Up,
        wires: Wires,
        witness: Witness,
        seed: int,
        dock: Dock | None = None,
        far: Far | None = None,
    ) -> None:
        self.hive = hive
        self.wires = wires
        self.witness = witness
        #: The engine, if sandboxes are containers.
        self.dock = dock
        #: The node that is on a network of its own, if one is.
        self.far = far
        self.load = Load(hive.url, witness.places)
        self.faults: Counter[str] = Counter()
        self.dice = random.Random(seed)
        #: When an api or a worker was killed (monotonic): by these a 200 may lose its record.
        self.kills: list[tuple[str, float]] = []
        self._revisions = 0

    def register(self, *names: str, filler: int = 0) -> None:
        """Register functions, or new revisions of them, whatever is broken meanwhile.

        ``filler``: bytes that a package has beside the code, packed.
        """
        self._revisions += 1
        files = {"work.py": MODULE, "revision": str(self._revisions)}
        package = tar_gz({**files, "filler": os.urandom(filler).hex()} if filler else files)

        def register(name: str) -> bool:
            try:
                with self.hive.client() as client:
                    client.register_runtime(_RUNTIME)
                    client.register_function(
                        "faults", name, package, entry="work.main", network=True,
                        maxWait=MAX_WAIT_S, **KINDS[name],
                    )  # fmt: skip
            except SkepError:
                time.sleep(0.2)
                return False
            return True

        for name in names or KINDS:
            eventually(partial(register, name), 60, f"{name} registered")

    # --- what is broken ---

    def pids(self, what: str) -> list[int]:
        """Return the processes of a kind, or of one child of ``skep up`` by its name."""
        if what in ("api", "dbnode"):
            return [pid] if (pid := self.hive.child(what)) else []
        workers = _workers(self.hive.pid)
        if what in workers:
            return [workers[what]]
        if what == "worker":
            return list(workers.values())
        return [pid for pid in children() if _is(what, pid, set(workers.values()))]

    def one_of(self, what: str) -> int:
        """Wait for a process of a kind; return the pid of one."""
        found = eventually(lambda: sorted(self.pids(what)), 40, f"a {what}")
        return int(self.dice.choice(found))

    def strike(self, what: str, number: int) -> int:
        """Send a signal to a process of a kind; return its pid."""
        pid = self.one_of(what)
        self.hit(what, pid, number)
        return pid

    def hit(self, what: str, pid: int, number: int) -> None:
        """Send a signal to a process that may have gone."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGKILL:
            kind = "worker" if what.startswith("node") else what
            self.kills.append((kind, time.monotonic()))

    def at(
        self,
        wire: str,
        message: str,
        way: Any,
        provoke: Callable[[], None] = lambda: None,
        **acts: Any,
    ) -> None:
        """Do something at the moment when a message passes; ``provoke`` has it sent."""
        watch = self.wires.watch(wire, Watch(message, way, **acts))
        provoke()
        try:
            eventually(watch.done.is_set, 60, f"a {message} {way} on {wire}")
        finally:
            self.wires.unwatch(watch)

    def nodes_of(self, what: str) -> list[str]:
        """Return the wires of all nodes: ``node`` to the ROUTER, ``pub`` to the PUB."""
        return [f"{node}.pub" if what == "pub" else node for node in self.wires.nodes]

    def calm(self, calls: int = 20) -> None:
        """Wait until so many calls more were accepted: the load goes on."""
        wanted = len(self.load.accepted) + calls
        eventually(lambda: len(self.load.accepted) >= wanted, 90, f"{calls} more calls")

    def worker_shown(self, name: str) -> dict[str, Any]:
        """Return what GET /workers says of a node."""
        # Making a client takes longer than asking.
        with urlopen(f"{self.hive.url}/workers", timeout=10) as answer:
            return next((one for one in json.load(answer) if one["name"] == name), {})


def _is(what: str, pid: int, workers: set[int]) -> bool:
    """Return whether a process is a zygote, a miniworker, or the first of a sandbox."""
    with suppress(OSError, IndexError):
        if what == "zygote":
            return any(is_zygote(pid, worker) for worker in workers)
        if what == "miniworker":
            return any(is_miniworker(pid, worker) for worker in workers)
        if what == "sandbox":
            parent = int(stat(pid)[1])
            return any(is_miniworker(parent, worker) for worker in workers)
    return False


def _workers(hive: int) -> dict[str, int]:
    found = {}
    with suppress(OSError):
        for pid in Path(f"/proc/{hive}/task/{hive}/children").read_text().split():
            with suppress(OSError, ValueError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "worker" in words:
                    found[words[words.index("--name") + 1]] = int(pid)
    return found


@contextmanager
def scene(
    data: Path, seed: int, *options: str, dock: Dock | None = None, is_apart: bool = False
) -> Iterator[Scene]:
    """Run an installation of three workers with the functions registered.

    With ``is_apart`` the last of them is in a network namespace of its own.
    """
    far = Far(f"node{WORKERS}") if is_apart else None
    witness = _witness(dock, far)
    # Paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="skep-wires-", dir="/tmp"))
    wires = None
    try:
        if far is not None:
            far.describe(folder)
        wires = Wires(folder, data / "run", WORKERS, far.sockets if far else {})
        program = ("tests.faults.wired", str(folder))
        options = ("--workers", str(WORKERS), "--slots", "2", *options)
        with up(data, *options, program=program) as hive:
            made = Scene(hive, wires, witness, seed, dock, far)
            made.register()
            yield made
            assert hive.end() == 0
    finally:
        if wires is not None:
            wires.close()
        witness.close()
        if far is not None:
            far.close()
        shutil.rmtree(folder)


def _witness(dock: Dock | None, far: Far | None) -> Witness:
    if dock is not None:
        return dock.witness()
    near = socket.create_server(("127.0.0.1", 0), backlog=256)
    return Witness(near, *([far.witness] if far else []))
