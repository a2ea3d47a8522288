"""One build in its miniworker: what was ordered, and what is read of it while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from miniworker.building import built, command
from miniworker.sandbox import NoSandbox, Plan
from miniworker.watching import Watch
from wire import jobs
from wire.codec import Message


class Builder:
    """From BUILD to BUILT; its one attempt is the dependencies command."""

    def __init__(self, order: jobs.Build, folder: Path) -> None:
        self._dependencies = order.spec.runtime.dependencies
        self.timeout_ms = order.timeout_ms
        self.plan = Plan(
            spec=order.spec,
            bundle=Path(order.bundle),
            folder=folder,
            build=True,
            env=order.env,
        )
        try:
            self._watch = Watch(self.plan.sockets, (order.env, order.spec.runtime.env))
        except OSError as error:
            raise NoSandbox(f"its output could not be read: {error}") from error

    def __repr__(self) -> str:
        return f"<Builder of {self.plan.bundle.name}, {self._watch!r}>"

    @property
    def command(self) -> str:
        """Return the line that its sandbox runs."""
        return command(self._dependencies)

    def fileno(self) -> int:
        """Return what is readable when something was printed."""
        return self._watch.fileno()

    def read(self) -> None:
        """Take what was printed."""
        self._watch.read()

    def due(self, now: float) -> Iterator[Message]:
        """Yield what is to be told now."""
        if text := self._watch.due(now):
            yield jobs.Printed(text=text)

    def wake_at(self) -> float | None:
        """Return when ``due`` will have something; None while nothing waits."""
        return self._watch.wake_at()

    def end(
        self, message: Message, payload: bytes, failure: NoSandbox | None
    ) -> Iterator[Message]:
        """Yield what is to be told at last, now that nothing of the sandbox runs.

        ``failure`` is why what was built did not get here.
        """
        self._watch.close()
        answer = built(message, payload, self._dependencies, self._watch.printed)
        if failure is not None:
            answer = msgspec.structs.replace(answer, reason=failure.reason, fault=failure.fault)
        while text := self._watch.printed.piece():
            yield jobs.Printed(text=text)
        yield answer

    def close(self) -> None:
        """Read no more; one that ended is closed already."""
        self._watch.close()
