"""The miniworkers of this node as the shell sees them: a ROUTER, a zygote, and names.

A miniworker is known by its name: the zygote's for its life and death, the ROUTER's from its
UP on. What a stranger says on the socket is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import zmq

from wire import jobs, sockets
from wire.codec import FRAMES, Message, Payload, encode
from wire.counting import Drops
from wire.errors import ProtocolError, WrongVersion
from wire.models import Fault, Reason
from wire.process import release
from wire.releases import named, refusal, stranger
from worker import actions as act
from worker.folder import NodeFolder
from worker.sandbox import SandboxKind
from worker.zygote import Zygote

log = logging.getLogger(__name__)

OnMessage = Callable[[str, Message, Payload], None]
#: Name, why, and how many attempts had gone on to its agent (None: not known).
OnExit = Callable[[str, str, int | None], None]
OnDying = Callable[[str], None]

#: How a miniworker may end.
HOWS: Final = ("in_order", "failed", "signal", "zygote")
#: How long the last words of one that has ended may take to come out of its socket.
LAST_WORDS_S: Final = 0.1
#: How long those that were told to leave may take; then they are ended with their zygote.
LEAVE_S: Final = 3.0


class Minis:
    """All living miniworkers."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: NodeFolder,
        kind: SandboxKind,
        on_message: OnMessage,
        on_dying: OnDying,
        on_exit: OnExit,
        zygote_options: Sequence[str],
    ) -> None:
        self.drops = Drops()
        self.spawned = 0
        #: How many have ended, by how.
        self.exits: Counter[str] = Counter()
        self._folder = folder
        self._bundles = str(folder.bundles)
        self._kind = kind
        self._on_message = on_message
        self._on_dying = on_dying
        self._on_exit = on_exit
        self._to_fork: list[str] = []
        self._last_words: dict[str, asyncio.TimerHandle] = {}
        #: Set while none lives.
        self._empty = asyncio.Event()
        self._empty.set()
        #: Where each one is spoken to; None until its UP.
        self._peers: dict[str, bytes | None] = {}
        self._names: dict[bytes, str] = {}
        router = sockets.open_socket(context, zmq.ROUTER)
        sockets.bind(router, folder.endpoint)
        self._link = sockets.Relay(router, 1 + FRAMES, self._read, self.drops)
        self.zygote = Zygote(
            self._heard, self._fork_again, self._all_gone, zygote_options, kind
        )

    def __repr__(self) -> str:
        return f"<Minis: {len(self._peers)} live>"

    def __len__(self) -> int:
        return len(self._peers)

    def start(self) -> None:
        """Start the zygote."""
        self.zygote.start()

    def spawn(self, name: str) -> None:
        """Have a miniworker forked, by the next zygote if there is none now."""
        self._empty.clear()
        self._peers[name] = None
        if not self._fork(name):
            self._to_fork.append(name)

    def _fork(self, name: str) -> bool:
        order = jobs.Spawn(
            miniworker=name,
            endpoint=self._folder.endpoint,
            driver=self._kind.driver,
            folder=self._folder.miniworker(name),
            settings=self._kind.settings,
        )
        return self.zygote.send(order)

    def _fork_again(self) -> None:
        names, self._to_fork = self._to_fork, []
        for name in names:
            self.spawn(name)

    def tell(self, name: str, message: Message, payload: Payload = b"") -> None:
        """Send to a miniworker; one that has died is told nothing."""
        peer = self._peers.get(name)
        if peer is not None:
            self._link.send([peer, *encode(message, payload)])

    def order(self, order: act.ForMini) -> None:
        """Send what the broker ordered."""
        self.tell(order.sandbox, *_message(order, self._bundles))

    def kill(self, name: str) -> None:
        """End a miniworker now."""
        if name in self._to_fork:
            self._to_fork.remove(name)
            self._ended(name, "there is no zygote to fork it")
        else:
            self.zygote.send(jobs.Kill(miniworker=name))

    async def leave(self) -> None:
        """Wait a little for those that were told to leave: each removes its own sandbox."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), LEAVE_S)

    async def close(self) -> None:
        """End all of them and the zygote; close the socket."""
        await self.zygote.close()
        for timer in self._last_words.values():
            timer.cancel()
        self._link.close()

    def _read(self, frames: list[Payload]) -> None:
        peer, rest = bytes(frames[0]), frames[1:]
        try:
            message, payload = jobs.FROM_MINIWORKER.decode(rest)
        except WrongVersion:
            self._estrange(peer, rest)
            return
        except ProtocolError as error:
            self.drops.garbage += 1
            log.warning("dropped: %s", error.message)
            return
        if isinstance(message, jobs.Up):
            self._meet(peer, message)
        name = self._names.get(peer)
        if name is None:
            self.drops.garbage += 1
            log.warning("dropped a %s of a stranger", type(message).__name__)
            return
        self._on_message(name, message, payload)

    def _meet(self, peer: bytes, up: jobs.Up) -> None:
        if self._peers.get(up.miniworker, b"") is None:
            self._peers[up.miniworker] = peer
            self._names[peer] = up.miniworker
            if up.packs:
                self._link.pack_for(peer)

    def _estrange(self, peer: bytes, frames: list[Payload]) -> None:
        """Send away a miniworker of another protocol version; its attempts go elsewhere.

        It comes of a release that was put in this one's place while the worker went on.
        """
        self.drops.garbage += 1
        who = stranger(frames, jobs.Up)
        if who is None:
            return
        # Whatever this says to it, it sees whose version it is.
        self._link.send([peer, *encode(jobs.Stop())])
        if who.name in self._peers:
            error = refusal("its miniworker", who.protocol, named("this worker", "", release()))
            message = f"{error.message}: another release was installed under the worker"
            log.error("%s; start it again", message)
            reason = Reason(code=error.code, message=message)
            self._on_message(who.name, jobs.Broken(fault=Fault.NODE, reason=reason), b"")

    def _heard(self, order: jobs.Spawned | jobs.Exited) -> None:
        if isinstance(order, jobs.Spawned):
            self.spawned += 1
        else:
            self.exits[_how(order.status)] += 1
            self._ended(order.miniworker, _why(order.status), order.handed)

    def _all_gone(self) -> None:
        for name in self._peers.keys() - set(self._to_fork):
            self.exits["zygote"] += 1
            self._ended(name, "the zygote of this node died")

    def _ended(self, name: str, why: str, handed: int | None = None) -> None:
        """Give it nothing more, but hear what it said last before it counts as gone."""
        if name not in self._peers or name in self._last_words:
            return
        self._on_dying(name)
        loop = asyncio.get_running_loop()
        self._last_words[name] = loop.call_later(LAST_WORDS_S, self._gone, name, why, handed)

    def _gone(self, name: str, why: str, handed: int | None) -> None:
        self._link.drain()
        del self._last_words[name]
        peer = self._peers.pop(name)
        if peer is not None:
            self._names.pop(peer, None)
            self._link.forget(peer)
        if not self._peers:
            self._empty.set()
        self._on_exit(name, why, handed)


def _how(status: int) -> str:
    return "in_order" if status == 0 else "signal" if status < 0 else "failed"


def _why(status: int) -> str:
    if status < 0:
        return f"its miniworker was ended by signal {-status}"
    return f"its miniworker ended with status {status}"


def _message(order: act.ForMini, bundles: str) -> tuple[Message, Payload]:
    match order:
        case act.SendJob(_, (call, attempt)):
            job = jobs.Job(
                call=call,
                attempt=attempt,
                timeout_ms=order.timeout_ms,
                traceparent=order.traceparent,
                tracestate=order.tracestate,
            )
            return job, order.params
        case act.Premake(_, spec):
            return jobs.Premake(spec=spec, bundles=bundles), b""
        case act.SendCancel(_, (call, attempt), reason):
            return jobs.Cancel(call=call, attempt=attempt, reason=reason), b""
        case act.Specialise(_, spec, bundle):
            return jobs.Specialise(spec=spec, bundle=bundle), b""
        case act.Recall():
            return jobs.Recall(), b""
        case act.Stop():
            return jobs.Stop(), b""
