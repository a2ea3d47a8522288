"""The worker's side of the zygote: start it, order forks and kills, notice its death."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from wire.errors import ProtocolError
from wire.jobs import Exited, Order, Spawned, decode_order, encode_order
from worker.sandbox import SandboxKind

log = logging.getLogger(__name__)

PACKET_BYTES: Final = 256 << 10
#: Between a death and the next life; it grows while lives are short.
AGAIN_S: Final = 0.05
AGAIN_MAX_S: Final = 5.0
LONG_LIFE_S: Final = 10.0
#: What one may take to end that hung up by itself: the loop stands still meanwhile.
DEAD_S: Final = 2.0
#: The same of one that is told to leave: an engine is not done with its containers at once.
LEAVE_S: Final = 8.0


class Zygote:
    """One zygote after another, until ``close``."""

    def __init__(
        self,
        on_order: Callable[[Spawned | Exited], None],
        on_start: Callable[[], None],
        on_death: Callable[[], None],
        options: Sequence[str],
        kind: SandboxKind,
    ) -> None:
        self._kind = kind
        self._on_order = on_order
        self._on_start = on_start
        self._on_death = on_death
        self._options = options
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._again_s = AGAIN_S
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.starts = 0

    def __repr__(self) -> str:
        return f"<Zygote, pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        """Return the living zygote's pid."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; from the main thread, since it dies with the thread that started it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        settings = msgspec.json.encode(self._kind.settings).decode()
        command = [sys.executable, "-P", "-m", "miniworker", *self._options]
        command += ["zygote", "--fd", str(fd), "--driver", self._kind.driver]
        self._process = subprocess.Popen([*command, "--settings", settings], pass_fds=(fd,))
        self.starts += 1
        theirs.close()
        ours.setblocking(False)
        self._socket = ours
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        loop.add_reader(ours.fileno(), self._read)
        self._on_start()

    def send(self, order: Order) -> bool:
        """Give an order; return whether there is anybody to take it."""
        if self._socket is None:
            return False
        try:
            self._socket.send(encode_order(order))
        except OSError as error:
            log.error("the zygote takes no orders: %s", error)
            self._dead()
            return False
        return True

    async def close(self) -> None:
        """End it, and with it every miniworker that is left, and what an engine has of them."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._hang_up()
        if self._process is not None:
            await asyncio.to_thread(_end, self._process, LEAVE_S)
            self._process = None

    def _read(self) -> None:
        while self._socket is not None:
            try:
                packet = self._socket.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                log.error("the zygote cannot be heard: %s", error)
                packet = b""
            if not packet:
                self._dead()
                return
            self._heard(packet)

    def _heard(self, packet: bytes) -> None:
        try:
            order = decode_order(packet)
        except ProtocolError as error:
            log.error("%s", error.message)
            return
        if isinstance(order, Spawned | Exited):
            self._on_order(order)

    def _dead(self) -> None:
        """All its miniworkers have died with it; make another."""
        if self._process is None:
            return
        self._hang_up()
        _end(self._process, DEAD_S)
        self._process = None
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._started_at > LONG_LIFE_S:
            self._again_s = AGAIN_S
        log.error("the zygote died: its miniworkers too; a new one in %.2f s", self._again_s)
        self._timer = loop.call_later(self._again_s, self.start)
        self._again_s = min(AGAIN_MAX_S, 2 * self._again_s)
        self._on_death()

    def _hang_up(self) -> None:
        """Tell it by the end of file."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _end(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait for the end of one that was told; kill it if that takes too long."""
    try:
        process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
