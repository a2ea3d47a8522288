"""ZeroMQ on an asyncio loop: raw sockets on the loop's reader, whole messages out.

``zmq.asyncio`` costs a future and a task switch for every message; reading the socket's
file descriptor on the loop and draining it until it says EAGAIN was measured at five times
the throughput of a broker (docs/decisions.md). Its traps, each met once, are the comments.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Generic

import zmq
import zmq.backend

from wire import packs
from wire.codec import FRAMES, P, Payload
from wire.counting import Drops
from wire.errors import BadRequest, ProtocolError
from wire.liveness import LOST_S

log = logging.getLogger(__name__)

# The methods below pyzmq's conveniences: these cost several times what the messages do.
_send, _receive = zmq.backend.Socket.send, zmq.backend.Socket.recv
_get = zmq.backend.Socket.get
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
_NOW, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)

#: Against strangers only: our own senders keep far below it.
MAX_FRAME_BYTES: Final = 64 << 20
#: Messages of one peer that arrived and were not read.
MAX_UNREAD: Final = 10_000
#: How long a connection may take to be made; then its name is looked up again.
CONNECT_MS: Final = 5000
#: What is not answered for so long is dead; where we say nothing ourselves, ZeroMQ asks.
DEAD_MS: Final = round(LOST_S * 1000)
BEAT_MS: Final = 2000
#: Messages read before other work on the loop gets its turn.
BURST: Final = 256
#: sockaddr_un holds 108 bytes with the closing NUL.
IPC_PATH_BYTES: Final = 107
MAX_PORT: Final = 65_535

#: A smaller frame is copied, which is cheaper than to keep the message that it came in.
LENT_BYTES: Final = 64 << 10

OnMessage = Callable[[list[bytes]], None]


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """Return a socket with the settings that all of skep's have."""
    socket = context.socket(kind)
    configure(socket, kind)
    return socket


def configure(socket: zmq.backend.Socket, kind: int) -> None:
    """Set what all sockets of skep have set.

    None sets a routing id: a second peer of a fixed one would stay deaf for ever.
    What is sent is bounded by credits, windows and questions of which one is under way
    (docs/reliability.md), so its queue need not be; a limit there would make one peer that does
    not read hold up all others. What comes of one peer, whoever it is, is read no faster than
    it is taken: behind so many messages its connection waits, and nothing is lost.
    """
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, MAX_UNREAD)
    socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    # Where nothing answers any more, the kernel would go on for minutes: with the old address
    # of a name that leads elsewhere by now, or keeping all that it could not deliver.
    socket.set(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.set(zmq.TCP_MAXRT, DEAD_MS)
    if kind in (zmq.PUB, zmq.SUB):
        # One says nothing for hours, the other nothing ever: a dead line is told by this alone.
        socket.set(zmq.HEARTBEAT_IVL, BEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, DEAD_MS)
    if kind == zmq.ROUTER:
        socket.set(zmq.ROUTER_MANDATORY, 1)


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind and return the endpoint that others connect to (a port ``*`` becomes a number).

    Raises:
        BadRequest: the address is taken, or cannot be bound; the message names it.
    """
    path = endpoint.removeprefix("ipc://")
    if path == endpoint:
        _check_tcp(endpoint)
    else:
        _check_path(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise BadRequest(
            f"cannot listen on {endpoint}: {error}",
            hint="another process may use it: choose another port, or stop that process",
        ) from error
    return socket.get_string(zmq.LAST_ENDPOINT)


def remove_file(endpoint: str) -> None:
    """Remove the file of a bound ipc endpoint, which libzmq leaves, and its folder if empty."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint:
        return
    Path(path).unlink(missing_ok=True)
    # Others may have their sockets there; the last one to leave removes it.
    with suppress(OSError):
        Path(path).parent.rmdir()


def _check_tcp(endpoint: str) -> None:
    # ZeroMQ takes "99999" and "30x" for some port that nobody meant.
    match = re.fullmatch(r"tcp://.+:(\*|\d{1,5})", endpoint)
    if not match or (match[1] != "*" and int(match[1]) > MAX_PORT):
        raise BadRequest(
            f"{endpoint!r} is no address to listen on",
            hint="say tcp://127.0.0.1:3003 (or port * for a free one), or ipc://some/path",
        )


def _check_path(path: str) -> None:
    if len(path.encode()) > IPC_PATH_BYTES:
        raise BadRequest(
            f"the socket path {path!r} is longer than {IPC_PATH_BYTES} bytes",
            hint="name it relative to the working folder",
        )


def send(socket: zmq.backend.Socket, frames: Sequence[Payload]) -> None:
    """Send a message whole, or raise ``zmq.Again``; never blocks."""
    last = len(frames) - 1
    for frame in frames[:last]:
        # Only the first frame can be refused.
        _send(socket, frame, _MORE)
    lent = _lent(frames[last])
    if lent is None:
        _send(socket, frames[last], _NOW)
    else:
        # ZeroMQ counts who has it: nothing is copied.
        _send(socket, lent, _NOW, copy=False)


def _lent(frame: Payload) -> zmq.Frame | None:
    """Return the frame that came of which this is all; None if it is something else."""
    whole: object = frame.obj if isinstance(frame, memoryview) else None
    return whole if isinstance(whole, zmq.Frame) and len(whole) == len(frame) else None


def receive(socket: zmq.backend.Socket, frames: int) -> list[bytes] | None:
    """Return the next message, None if it had another number of frames.

    Raises:
        zmq.Again: there is none.
    """
    return _received(socket, frames, _copied)


def borrow(socket: zmq.backend.Socket, frames: int) -> list[Payload] | None:
    """Receive for who passes on what is large: it stays where it is, and is sent from there."""
    return _received(socket, frames, _borrowed)


def _received(
    socket: zmq.backend.Socket, frames: int, taken: Callable[[zmq.Frame], P]
) -> list[P] | None:
    frame = _receive(socket, _NOW, copy=False)
    message = [taken(frame)]
    while frame.more:
        # The rest of a message is always there.
        frame = _receive(socket, _NOW, copy=False)
        if len(message) <= frames:
            message.append(taken(frame))
    return message if len(message) == frames else None


def _copied(frame: zmq.Frame) -> bytes:
    return frame.bytes


def _borrowed(frame: zmq.Frame) -> Payload:
    return frame.bytes if len(frame) < LENT_BYTES else frame.buffer


def has_message(socket: zmq.backend.Socket) -> bool:
    """Return whether a message waits; if not, the descriptor will say when one does."""
    return bool(_events(socket) & _IN)


def _events(socket: zmq.backend.Socket) -> int:
    return int(_get(socket, zmq.EVENTS))


class _Line(Generic[P]):
    """One socket on the running loop; every message in has exactly ``frames`` frames.

    ``on_message`` gets each whole message; what it raises is logged and the loop goes on.
    A message of another length is drained to its end and counted in ``drops``, so that
    one hostile peer cannot shift everybody's stream. Links after one another may share theirs.

    What comes in a PACK is told one by one. A peer is sent PACKs from ``pack_for`` on; that of
    a DEALER, which is its only one, once it has sent one itself.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        frames: int,
        on_message: Callable[[list[P]], None],
        drops: Drops | None = None,
    ) -> None:
        self.drops = Drops() if drops is None else drops
        self._socket = socket
        self._frames = frames
        self._on_message: Callable[[list[P]], None] = on_message
        self._loop = asyncio.get_running_loop()
        self._fd: int = socket.FD
        self._out: deque[Sequence[Payload]] = deque()
        #: The peers that know PACKs.
        self._packing: set[packs.Route] = set()
        self._checking = False
        #: How many messages this turn has brought, and whether the last that did was crowded.
        self._sent = 0
        self._is_crowded = False
        self._closed = False
        self._loop.add_reader(self._fd, self._read)
        # Messages may wait already, and no edge will come for them.
        self._check_soon()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._out)} to send"
        return f"<{type(self).__name__} of {self._frames} frames, {state}, {self.drops!r}>"

    def _take(self) -> list[P] | None:
        """Return the next message, None if it had another number of frames."""
        raise NotImplementedError

    def send(self, frames: Sequence[Payload]) -> None:
        """Send a message, or queue it behind those that wait; never blocks.

        The first of a turn of the loop leaves at once, for somebody waits for it; what follows
        it leaves together at the end of the turn, and wakes its reader once. Where that was so
        in the last turn the first waits for the others, too.
        """
        if self._closed:
            return
        self._out.append(frames)
        self._sent += 1
        if not self._checking:
            if not self._is_crowded:
                self._flush()
            # Sending processes the mailbox too, so it may have eaten the reader's edge.
            self._check_soon()

    def pack_for(self, *route: bytes) -> None:
        """Send to this peer in PACKs from now on what leaves together."""
        self._packing.add(route)

    def forget(self, *route: bytes) -> None:
        """Know no more of a peer, which is gone."""
        self._packing.discard(route)

    def drain(self) -> None:
        """Read all that has arrived, now: whoever judges a peer's silence does it first."""
        self._read()

    def close(self, linger_ms: int = 0) -> None:
        """Stop reading and close the socket; ending its context waits for what was sent."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._socket.close(linger=linger_ms)

    def _check_soon(self) -> None:
        if not self._checking and not self._closed:
            self._checking = True
            self._loop.call_soon(self._check)

    def _check(self) -> None:
        self._checking = False
        if self._closed:
            return
        if self._sent:
            self._is_crowded, self._sent = self._sent > 1, 0
        self._flush()
        # Asking for the events empties the socket's mailbox: from 0 on a new edge will come.
        events = _events(self._socket)
        if events & _OUT and self._out:
            self._check_soon()
        if events & _IN:
            self._read()

    def _flush(self) -> None:
        if self._packing and len(self._out) > 1:
            self._out = deque(packs.packed(self._out, self._packing))
        while self._out:
            try:
                send(self._socket, self._out[0])
            except zmq.Again:
                break
            except zmq.ZMQError as error:
                # ROUTER_MANDATORY: the peer is gone, and its session will be judged lost.
                self.drops.unroutable += 1
                log.debug("message dropped: %s", error)
            self._out.popleft()

    def _read(self) -> None:
        if self._closed:
            return
        for _ in range(BURST):
            try:
                message = self._take()
            except zmq.Again:
                break
            if message is None:
                self.drops.frames += 1
                log.warning("dropped a message of a wrong number of frames")
            elif len(message) >= FRAMES and message[-FRAMES] == packs.HEAD:
                self._deliver_all(message)
            else:
                self._deliver(message)
            if self._is_empty():
                break
        else:
            # The burst is used up, and what is left will bring no new edge.
            self._check_soon()
        if self._out:
            self._check_soon()

    def _is_empty(self) -> bool:
        """Return whether there is nothing more to read; whoever was told may have closed it."""
        # Cheaper than a receive that raises because there is none.
        return self._closed or not has_message(self._socket)

    def _deliver_all(self, pack: list[P]) -> None:
        try:
            messages = packs.unpacked(pack)
        except ProtocolError as error:
            self.drops.garbage += 1
            log.warning("dropped: %s", error.message)
            return
        if len(pack) == FRAMES:
            self.pack_for()
        for message in messages:
            if not self._closed:
                self._deliver(message)

    def _deliver(self, message: list[P]) -> None:
        try:
            self._on_message(message)
        except Exception:
            # An exception here must not end the drain: the wake-up would be lost with it.
            log.exception("a message could not be handled")


class Link(_Line[bytes]):
    """A line whose messages are copied out of the socket."""

    def _take(self) -> list[bytes] | None:
        return receive(self._socket, self._frames)


class Relay(_Line[Payload]):
    """A line of who passes on what is large: that is not copied."""

    def _take(self) -> list[Payload] | None:
        return borrow(self._socket, self._frames)
