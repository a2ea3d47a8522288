"""Ends that the api has not RECORDED: kept, cut into messages, sent again. Pure.

Ends are numbered in the order in which they are sent, anew in each session. In the session
in which its START came a result is sent bare; after a HELLO it repeats the call's record and
params, for the api may have lost its memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from wire.codec import Payload
from wire.messages import CHUNK_BYTES, INLINE_BYTES, WINDOW_BYTES, Result
from worker.actions import End, Id, SayReturned

#: A message of a result and its payload.
Part = tuple[Result, Payload]
_CHANNELS: Final = 4
#: With more than this unRECORDED, nothing new is begun.
MAX_ENDS: Final = 10_000
MAX_BYTES: Final = 256 << 20


@dataclass(slots=True)
class Held:
    """A result that waits to be RECORDED; ``number`` 0 until its end was sent."""

    end: End
    number: int = 0


class Results:
    """All ends that are held, and how far they were sent in this session."""

    def __init__(self) -> None:
        self._held: dict[Id, Held] = {}
        self._to_send: deque[Held] = deque()
        self._parts: Iterator[Part] | None = None
        self._next: Part | None = None
        self._session = 0
        self._numbers = 0
        self._sent_bytes = 0
        self._received = 0
        self._repeats = 0
        self._bytes = 0
        self._owed: dict[Id, SayReturned] = {}

    def __repr__(self) -> str:
        return f"<Results: {len(self._held)} held, {len(self._to_send)} to send>"

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, id_: Id) -> bool:
        return id_ in self._held

    @property
    def size(self) -> int:
        """Return the bytes that are held."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Return whether the api is so far behind that credits must be withdrawn."""
        return len(self._held) >= MAX_ENDS or self._bytes >= MAX_BYTES

    def ids(self) -> list[Id]:
        """Return the attempts whose ends are held."""
        return list(self._held)

    def hold(self, end: End) -> None:
        """Keep an end; the first one of an attempt is the one that counts."""
        if end.id not in self._held:
            held = self._held[end.id] = Held(end)
            self._bytes += _bytes(end)
            self._to_send.append(held)

    def owe(self, answer: SayReturned) -> None:
        """Keep a RETURNED that no session could take."""
        self._owed[answer.id] = answer

    def owed(self) -> list[SayReturned]:
        """Return the RETURNEDs to be said in a new session, once."""
        owed, self._owed = list(self._owed.values()), {}
        return owed

    def open(self, session: int) -> None:
        """Begin a session: everything held is sent again, with record and params."""
        self._session = session
        self._numbers = self._sent_bytes = self._received = 0
        self._parts = self._next = None
        self._to_send = deque(self._held.values())
        self._repeats = len(self._to_send)
        for held in self._to_send:
            held.number = 0

    def lost(self) -> None:
        """The session is over: nothing is sent until the next."""
        self._session = 0

    def received(self, count: int) -> None:
        """Note how many payload bytes the api has read in this session."""
        self._received = max(self._received, count)

    def recorded(self, upto: int) -> list[Id]:
        """Forget the ends with numbers up to this, and return their attempts."""
        # They are held in the order in which they were sent.
        sent = takewhile(lambda one: 0 < one[1].number <= upto, self._held.items())
        done = [id_ for id_, _ in sent]
        for id_ in done:
            self._bytes -= _bytes(self._held.pop(id_).end)
        return done

    def take(self) -> Iterator[Part]:
        """Give what may be sent now: a session is open and its window has room."""
        while self._session and (part := self._peek()) is not None:
            if self._sent_bytes and self._unread() + len(part[1]) > WINDOW_BYTES:
                return
            self._next = None
            self._sent_bytes += len(part[1])
            yield part

    def _unread(self) -> int:
        return self._sent_bytes - self._received

    def _peek(self) -> Part | None:
        while self._next is None:
            if self._parts is None:
                if not self._to_send:
                    return None
                self._parts = self._cut(self._to_send.popleft())
            self._next = next(self._parts, None)
            if self._next is None:
                self._parts = None
        return self._next

    def _cut(self, held: Held) -> Iterator[Part]:
        repeated = self._repeats > 0
        self._repeats -= repeated
        end = held.end
        params = end.params if repeated else b""
        data = b"".join((params, end.payload)) if params else end.payload
        pieces = list(_pieces((len(params), *end.sizes), data))
        for sizes, payload in pieces[:-1]:
            yield self._message(end.id, sizes), payload
        self._numbers += 1
        held.number = self._numbers
        sizes, payload = pieces[-1]
        last = Result(
            session=self._session,
            call=end.id[0],
            attempt=end.id[1],
            sizes=sizes,
            outcome=end.outcome,
            number=held.number,
            record=end.record if repeated else b"",
        )
        yield last, payload

    def _message(self, id_: Id, sizes: tuple[int, int, int, int]) -> Result:
        return Result(session=self._session, call=id_[0], attempt=id_[1], sizes=sizes)


def _bytes(end: End) -> int:
    return len(end.payload) + len(end.params) + len(end.record)


def _pieces(
    sizes: tuple[int, int, int, int], data: Payload
) -> Iterator[tuple[tuple[int, int, int, int], Payload]]:
    """Cut a payload of four channels into pieces that may travel, at least one."""
    if len(data) <= INLINE_BYTES:
        yield sizes, data
        return
    ends = [sum(sizes[: i + 1]) for i in range(_CHANNELS)]
    for at in range(0, len(data), CHUNK_BYTES):
        until = min(at + CHUNK_BYTES, len(data))
        a, b, c, d = (
            max(0, min(end, until) - max(end - size, at))
            for end, size in zip(ends, sizes, strict=True)
        )
        yield (a, b, c, d), data[at:until]
