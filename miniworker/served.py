"""The contract ``http``: the image is a server, and a call is a request to it.

There is no agent. To the loop this stands where an agent's connections stand: what it is
handed becomes a request, and what is read from it says how a call ended. The container lives
as long as its miniworker, and has as many requests at once as it is handed calls.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from collections.abc import Mapping
from typing import Final

from miniworker import agent, answers, complaints, image_options
from miniworker.asked import REFUSED, Asked
from miniworker.cgroups import Kills
from miniworker.echo import Echo
from miniworker.engine import EngineAway, EngineRefused
from miniworker.exchange import Exchange
from miniworker.image_containers import ImageContainers
from miniworker.reaching import LOOPBACK, Reach, listens
from miniworker.running import READ_BYTES
from miniworker.sandbox import NoSandbox, Plan
from miniworker.streams import Pieces, Streams
from wire.errors import ProtocolError

log = logging.getLogger(__name__)

#: A server listens within this, or there is no sandbox; the worker waits a little longer.
START_S: Final = 45.0
LOOK_S: Final = 0.02
#: How long is waited for the end of a container whose connections break.
END_S: Final = 0.25
#: What is printed goes by the engine, and comes a little later than the answer: the echo tells
#: when, or this is waited where there is none.
LOGS_S: Final = 0.005
#: So long an echo is waited for: less than what a killed call has to end.
ECHO_S: Final = 0.5
#: After so many that did not come, one after another, none is waited for any more.
MISSED_MOST: Final = 3

Said = list[tuple[agent.FromAgent, bytes]]


class ServedCalls:
    """The container of one miniworker, and what its server is asked."""

    has_more_to_send = False

    def __init__(
        self,
        plan: Plan,
        settings: Mapping[str, str],
        limits: agent.Limits,
        start_s: float = START_S,
    ) -> None:
        self._plan = plan
        self._start_s = start_s
        self._function = plan.spec.function
        self._limits = limits
        self._containers = ImageContainers(plan, settings)
        self._engine = self._containers.engine
        self._id = ""
        self._output: socket.socket | None = None
        self._kills: Kills | None = None
        self._reach: Reach | None = None
        self._echo: Echo | None = None
        self._is_echoing = False
        self._missed = 0
        self._pieces = Pieces()
        #: What was printed while no call ran: the next one's.
        self._between = self._streams()
        self._epoll = select.epoll()
        #: By descriptor those under way, and those that have ended and are not told yet.
        self._asked: dict[int, Asked] = {}
        self._ended: list[Asked] = []
        self._is_over = False
        self._was_oom = False
        #: From the container's start to the moment when its server listens.
        self.load_ms = 0.0

    def __repr__(self) -> str:
        return f"<ServedCalls of {self._containers.image!r}, {len(self._asked)} under way>"

    @property
    def channels(self) -> tuple[ServedCalls, ...]:
        """Return what is to be polled."""
        return (self,)

    @property
    def is_left(self) -> bool:
        """Return whether a container may be left that was not removed."""
        return self._containers.is_left

    @property
    def wake_at(self) -> float | None:
        """Return when there is something to tell that no descriptor will."""
        if self._is_over:
            return 0.0
        return min((one.due for one in self._ended), default=None)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def flush(self) -> None:
        """Have nothing to send: a request goes when its connection takes it."""

    def begun(self) -> int | None:
        """Return None: nobody but the server knows what it has done."""
        return None

    def last_words(self) -> Said:
        """Return nothing: answers are read as they come."""
        return []

    def out_of_memory(self) -> bool:
        """Return whether the kernel has killed in there since this was asked last."""
        was_oom, self._was_oom = self._was_oom, self._was_oom and self._is_over
        return bool(self._kills and self._kills.have_risen()) or was_oom

    # --- making it ---------------------------------------------------------------------

    def open(self) -> None:
        """Make the container and wait until its server listens.

        Raises:
            NoSandbox: it cannot be made or reached, it ended, or does not listen in time.
        """
        image = self._containers.image
        code = self._containers.code()
        try:
            self._start(code)
            began = time.monotonic()
            self._enter()
            self._await(began + self._start_s)
        except EngineRefused as error:
            raise complaints.image_refused(error.message, image, "") from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error
        self.load_ms = (time.monotonic() - began) * 1000

    def _start(self, code: image_options.Bundled | None) -> None:
        order = image_options.ImageOrder(
            spec=self._plan.spec,
            arguments=(),
            params=None,
            env={"PORT": str(self._function.port)},
            network=self._containers.network,
            labels=self._containers.labels(),
            quota=self._containers.has_quota,
            code=code,
        )
        self._id = self._containers.create(order)
        self._output = self._engine.attach(self._id)
        self._output.setblocking(False)
        self._engine.start(self._id)
        with contextlib.suppress(OSError):
            self._output.shutdown(socket.SHUT_WR)
        self._epoll.register(self._output.fileno(), select.EPOLLIN)
        self._kills = self._containers.kills(self._id)

    def _enter(self) -> None:
        pid = self._engine.state(self._id).pid
        # Before it is known whose that process is: if not the container's, both go.
        self._echo = Echo(pid)
        try:
            self._reach = Reach(pid, self._id)
        except NoSandbox:
            # One that has ended already has no network either.
            if self._has_ended():
                raise self._ended_early() from None
            raise

    def _await(self, limit: float) -> None:
        while not self._listens():
            if self._epoll.poll(LOOK_S):
                self._listen()
            if self._is_over:
                raise self._ended_early()
            if time.monotonic() > limit:
                port = self._function.port
                raise complaints.not_serving(
                    f"nothing listened on port {port} within {self._start_s:g} s",
                    self._printed(),
                )

    def _listens(self) -> bool:
        with self._socket() as connection:
            return listens(connection, self._function.port)

    def _ended_early(self) -> NoSandbox:
        state = self._engine.state(self._id)
        if self._was_oom:
            return complaints.no_room(self._function.memory, self._printed())
        how = f"it ended with status {state.exit_code} before it listened"
        return complaints.not_serving(f"{how} on port {self._function.port}", self._printed())

    def _printed(self) -> str:
        self._listen()
        out, err, _ = self._between.logs()
        return (out + err).decode(errors="replace")

    # --- calls -------------------------------------------------------------------------

    def hand(self, call: agent.Call, params: bytes) -> None:
        """Ask the server; how that ends, ``read`` and ``look`` say.

        Raises:
            NoSandbox: it was not asked.
        """
        host = f"localhost:{self._function.port}"
        exchange = Exchange(host, self._headers(call), params, self._limits.result)
        streams = self._streams()
        if not self._asked and not self._ended:
            streams, self._between = self._between, streams
        asked = Asked(call.attempt, self._socket(), exchange, streams)
        asked.connect((LOOPBACK, self._function.port))
        self._asked[asked.fileno()] = asked
        self._epoll.register(asked.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def kill(self, serial: int) -> None:
        """Break a request off; what the server still does for it goes with the container."""
        for asked in self._asked.copy().values():
            if asked.serial == serial:
                self._end(asked)

    def read(self) -> Said:
        """Take what was printed and answered; return which calls that ended.

        Raises:
            EOFError: the container has ended.
            ProtocolError: the engine sends what is no output.
        """
        # What was printed first: it belongs to the calls that end now.
        self._listen()
        for fd, _ in self._epoll.poll(0):
            if asked := self._asked.get(fd):
                self._advance(asked)
        return self.look()

    def look(self) -> Said:
        """Return which calls have ended, once what they printed had time to come.

        Raises:
            EOFError: the container has ended, and all that were answered are told.
            ProtocolError: the engine sends what is no output.
        """
        now = time.monotonic()
        due = [one for one in self._ended if self._may_be_told(one, now)]
        if due:
            self._listen()
            if self._echo is not None:
                self._heed(self._echo)
        elif self._is_over:
            raise EOFError("the container has ended")
        self._ended = [one for one in self._ended if one not in due]
        return [one.told() for one in due]

    def close(self) -> bool:
        """End and remove the container; return whether it was killed for its memory."""
        for asked in self._asked.values():
            asked.close()
        for held in (self._output, self._reach, self._echo, self._kills):
            if held is not None:
                held.close()
        if self._id:
            self._containers.remove(self._id)
        self._epoll.close()
        self._engine.close()
        return self._was_oom

    def _headers(self, call: agent.Call) -> dict[str, str]:
        trace = ((name.lower(), call.env.get(name)) for name in ("TRACEPARENT", "TRACESTATE"))
        return {
            "X-Skep-Call": str(call.call),
            "X-Skep-Function": self._function.function_name,
            "X-Skep-Revision": str(self._function.revision),
            "X-Skep-Deadline-Ms": str(call.timeout_ms),
            **{name: value for name, value in trace if value},
        }

    def _advance(self, asked: Asked) -> None:
        try:
            answer = asked.advance()
        except EOFError as error:
            if not self._has_ended():
                self._failed(asked, str(error))
        except ProtocolError as error:
            self._failed(asked, error.message)
        else:
            if answer is not None:
                self._end(asked, answers.result_of(asked.serial, answer))
            elif not asked.has_more_to_send:
                self._epoll.modify(asked.fileno(), select.EPOLLIN)

    def _failed(self, asked: Asked, why: str) -> None:
        self._end(asked, (answers.failed(asked.serial, "no_answer", why), b""))

    def _end(self, asked: Asked, how: tuple[agent.Result, bytes] | None = None) -> None:
        """Let a request go, that ended by itself (``how``) or was broken off."""
        del self._asked[asked.fileno()]
        self._epoll.unregister(asked.fileno())
        asked.close()
        if how is not None:
            asked.ended(*how)
        asked.due = time.monotonic() + self._patience()
        self._ended.append(asked)

    def _patience(self) -> float:
        """Return how long is waited at most for what a call has printed."""
        if self._function.concurrency > 1 or self._output is None or self._echo is None:
            # What several print is not told apart, so nobody waits for it.
            return 0.0
        self._is_echoing = self._echo.call()
        return ECHO_S if self._is_echoing else LOGS_S

    def _may_be_told(self, asked: Asked, now: float) -> bool:
        if self._is_over or self._echo is None or asked.due <= now:
            return True
        return self._is_echoing and not self._echo.is_awaited

    def _heed(self, echo: Echo) -> None:
        """Rely no more on an echo that did not come in time, and not the next times either."""
        if not self._is_echoing:
            return
        self._missed = self._missed + 1 if echo.is_awaited else 0
        if self._missed == MISSED_MOST:
            log.warning("the container %s does not echo", self._id[:12])
            self._hear(*echo.give_up())

    # --- the container -----------------------------------------------------------------

    def _listen(self) -> None:
        """Take what was printed, all that there is."""
        while self._output is not None:
            try:
                data = self._output.recv(READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                if self._echo is not None:
                    self._hear(*self._echo.give_up())
                self._epoll.unregister(self._output.fileno())
                self._output.close()
                self._output = None
                # If not, it closed what it prints to, and goes on.
                self._has_ended()
                return
            out, err = self._pieces.take(data)
            if self._echo is not None:
                out, err = self._echo.take(out, err)
            self._hear(out, err)

    def _hear(self, out: bytes, err: bytes) -> None:
        hearing = [one.streams for one in (*self._asked.values(), *self._ended)]
        for streams in hearing or [self._between]:
            streams.hear(out, err)

    def _has_ended(self) -> bool:
        """Return whether the container has ended, and note why."""
        if self._is_over:
            return True
        # Asked while there is a cgroup: it goes with the container.
        self._was_oom = self.out_of_memory()
        try:
            state = self._engine.ended(self._id, END_S)
        except (EngineAway, EngineRefused) as error:
            log.warning("the container %s is lost: %s", self._id[:12], error.message)
            self._is_over = True
            return True
        if state is not None:
            self._is_over = True
            self._was_oom = self._was_oom or state.oom_killed
        return self._is_over

    def _socket(self) -> socket.socket:
        if self._reach is None:
            raise NoSandbox(REFUSED)
        return self._reach.new_socket()

    def _streams(self) -> Streams:
        return Streams(0, self._limits.head, self._limits.tail)
