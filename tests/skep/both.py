"""Both clients behind one face, so that a test is written once and tried with each."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from skep import AsyncCallHandle, AsyncClient, AsyncFunctionHandle, Client


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Awaited:
    """An asynchronous object whose methods are awaited for the caller."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found
        return lambda *arguments, **named: self._wait(found(*arguments, **named))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._wait(self._target(*arguments, **named))

    def __repr__(self) -> str:
        return repr(self._target)

    def _wait(self, value: Any) -> Any:
        if inspect.isasyncgen(value):
            return self._each(value)
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        if isinstance(value, AsyncCallHandle | AsyncFunctionHandle):
            return Awaited(value, self._runner)
        return value

    def _each(self, values: Any) -> Iterator[Any]:
        end = object()
        try:
            while (value := self._runner.run(_next(values, end))) is not end:
                yield value
        finally:
            self._runner.run(values.aclose())


async def _next(values: Any, end: object) -> Any:
    return await anext(values, end)


class Async(Awaited):
    """An ``AsyncClient`` as a synchronous one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(AsyncClient(*arguments, **named), asyncio.Runner(debug=True))

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._target.close())
        self._runner.__exit__(kind, error, trace)


def made(kind: str, url: str, *, clock: Clock | None = None, **options: Any) -> Any:
    """Return a client of a kind, of ``Any`` type: the tests read alike for both."""
    if kind == "async":
        sleep = clock.sleep_async if clock else asyncio.sleep
        return Async(url, clock=clock or time.monotonic, sleep=sleep, **options)
    sleep_sync = clock.sleep if clock else time.sleep
    return Client(url, clock=clock or time.monotonic, sleep=sleep_sync, **options)
