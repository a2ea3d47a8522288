"""Starts the real ``skep`` as a subprocess and looks at what it leaves."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skep import Call, Client, SkepError
from tests.conftest import children, eventually

ROOT = Path(__file__).resolve().parents[2]
DICE = ROOT / "runtimes" / "python" / "dice" / "python.tar.gz"
RUNTIME = json.loads((ROOT / "runtimes" / "python" / "runtime.json").read_text())
READY_S = 90.0


def environment() -> dict[str, str]:
    """Return an environment in which the modules of this tree are found.

    Of SKEP_* it has one: what is not about containers is tested without an engine.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SKEP_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "SKEP_SANDBOX": "process"}


def skep(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of skep to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env=options.pop("env", None) or environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


class Up:
    """A running ``skep up``."""

    def __init__(
        self, data: Path, *options: str, port: int = 0, program: Sequence[str] = ("cli", "up")
    ) -> None:
        self.data = data
        self.output = data.parent / f"{data.name[:40]}.up"
        read, write = os.pipe()
        command = [sys.executable, "-P", "-m", *program, "--data", str(data)]
        command += ["--port", str(port), "--ready-fd", str(write), *options]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment(), stdout=output, stderr=output, pass_fds=[write]
            )
        os.close(write)
        self._ready = read
        self.url = ""

    @property
    def pid(self) -> int:
        """Return the process id of ``skep up`` itself."""
        return self.process.pid

    def wait_ready(self) -> Up:
        """Wait until it says that it is up; show what it printed if it never does."""
        end, line = time.monotonic() + READY_S, b""
        while not line.endswith(b"\n") and time.monotonic() < end:
            if select.select([self._ready], [], [], 0.5)[0]:
                if not (data := os.read(self._ready, 4096)):
                    break
                line += data
        assert line.endswith(b"\n"), self.printed()
        self.url = json.loads(line)["url"]
        return self

    def client(self) -> Client:
        """Return a client of it."""
        return Client(self.url)

    def printed(self) -> str:
        """Return all that it wrote to the terminal."""
        return self.output.read_text(errors="replace")

    def child(self, module: str) -> int:
        """Return the pid of the child that runs a module, 0 while there is none."""
        for pid in _children_of(self.pid):
            if f"-m\0{module}\0" in _command_line(pid):
                return pid
        return 0

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return its status."""
        self.process.send_signal(number)
        return self.process.wait(40)

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._ready)


@contextmanager
def up(
    data: Path, *options: str, port: int = 0, program: Sequence[str] = ("cli", "up")
) -> Iterator[Up]:
    """Run ``skep up``, or a program that is like it, within the block."""
    running = Up(data, *options, port=port, program=program)
    try:
        yield running.wait_ready()
    finally:
        running.close()


def register_dice(client: Client) -> None:
    """Register the python runtime and dice."""
    client.register_runtime(RUNTIME)
    client.register_function("pythonruntime", "dice", DICE)


def roll(client: Client) -> Call:
    """Invoke dice; while something restarts, try again."""

    def attempt() -> Call | None:
        try:
            return client.submit_call("dice", {"roll": "4d6"}, wait=20)
        except SkepError:
            return None

    call: Call = eventually(attempt, 30, "no call was taken")
    return call


def sockets_in(data: Path) -> list[Path]:
    """Return the sockets below a folder, and what is left in its folder of sockets.

    After SIGKILL of ``skep up`` the list of its metrics stays: whoever watches sees them down.
    """
    run = data / "run"
    left = [path for path in run.glob("*") if path.name != "metrics.json"]
    return [path for path in data.rglob("*") if path.is_socket()] + left


def assert_gone(data: Path, before: set[int]) -> None:
    """Check that no process and no socket is left, soon."""
    eventually(lambda: not children() - before, 20, f"processes left: {describe(before)}")
    eventually(lambda: not sockets_in(data), 5, f"left: {sockets_in(data)}")


def describe(before: set[int]) -> Sequence[str]:
    """Return the command lines of what runs and did not run before."""
    return [_command_line(pid).replace("\0", " ") for pid in children() - before]


def _children_of(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
