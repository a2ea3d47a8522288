"""How every process of skep begins and ends: options, logs, ready, lifeline, signals.

A process that another one started is given two file descriptors: it writes one JSON line to
``--ready-fd`` when it serves, and ends when ``--lifeline-fd`` says end of file, which the
kernel sees to even if the parent was killed with SIGKILL.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final, NoReturn, TypeVar

import uvloop

from wire import logs
from wire.allocator import keep_freed
from wire.errors import SkepError

log = logging.getLogger(__name__)

#: Objects that are made before those are looked at that are left, of which most live on.
GARBAGE_OBJECTS: Final = 10_000
#: What may stay with the process of what is freed: a batch of records, as it is written.
KEPT_BYTES: Final = 32 << 20

_background: set[asyncio.Task[Any]] = set()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Who a process is, and what its parent handed to it (None if started by hand)."""

    process: str
    node: str
    ready_fd: int | None = None
    lifeline_fd: int | None = None
    log_level: str = "info"
    log_format: logs.Format = "text"

    def announce(self, **facts: Any) -> None:
        """Tell the parent, once, that this process serves, and where."""
        if self.ready_fd is not None:
            os.write(self.ready_fd, json.dumps(facts).encode() + b"\n")
            os.close(self.ready_fd)
        # What is there now stays, and calls leave little behind that refers to itself: looking
        # for that among all there is stops them all for many milliseconds.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)


@cache
def release() -> str:
    """Return the version of the installed release; ``0+source`` from a bare source tree."""
    try:
        return metadata.version("skep")
    except metadata.PackageNotFoundError:
        return "0+source"


def run(main: Callable[[asyncio.Event], Awaitable[None]], started: Started) -> None:
    """Run a service until it returns; SIGTERM, SIGINT or a cut lifeline set its event."""
    logs.setup(
        started.log_level, started.log_format, process=started.process, node=started.node
    )
    keep_freed(KEPT_BYTES)

    async def guarded() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if started.lifeline_fd is not None:
            loop.add_reader(started.lifeline_fd, _on_lifeline, started.lifeline_fd, stop)
        await main(stop)

    uvloop.run(guarded())


def refuse(error: SkepError, started: Started) -> NoReturn:
    """Say why this process cannot serve, in the shape that its log has, and end it."""
    if started.log_format == "json":
        logs.setup("info", "json", process=started.process, node=started.node)
        log.critical("%s (%s)", error.message, error.hint)
    else:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"skep-{started.process}: {error.message}{hint}\n")
    sys.exit(1)


def _on_lifeline(fd: int, stop: asyncio.Event) -> None:
    # Nothing is ever written to a lifeline: whatever wakes us is its end.
    asyncio.get_running_loop().remove_reader(fd)
    log.warning("the process that started this one is gone: stopping")
    stop.set()


def spawn(
    work: Coroutine[Any, Any, T], name: str, about: dict[str, Any] | None = None
) -> asyncio.Task[T]:
    """Start a named task whose failure is logged (``about`` its call), never swallowed."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _background.add(task)
    task.add_done_callback(lambda ended: _ended(ended, about))
    return task


def _ended(task: asyncio.Task[Any], about: dict[str, Any] | None) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task %s failed", task.get_name(), exc_info=error, extra=about)
