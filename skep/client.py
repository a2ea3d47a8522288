"""The two clients: call functions, and say every verb of skep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from types import TracebackType
from typing import Any, Literal, Self, overload

from skep.errors import SkepError
from skep.handles import CallHandle, FunctionHandle
from skep.handles_async import AsyncCallHandle, AsyncFunctionHandle
from skep.raw import RawVerbs
from skep.raw_async import RawAsyncVerbs
from skep.shells import AsyncShell, Shell, Terms
from skep.values import CallOptions


class Client(RawVerbs):
    """Speaks HTTP with one skep; keeps its connections between requests.

    ``url`` is by default ``SKEP_URL``, else http://127.0.0.1:3000; ``token`` is ``SKEP_TOKEN``.

    No answer, 429 and 503 are tried again: at most ``retries`` times, after pauses that grow
    from 0.1 to 5 s (random, and no shorter than ``Retry-After``), and as long as the whole
    request, waits for a call apart, takes less than ``timeout`` seconds. Nothing is done twice
    by that: each call that is made carries an ``Idempotency-Key``.

    Threads may share a client. After a fork the child may use it, too: it gets connections
    of its own. ``clock`` and ``sleep`` are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 6,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._shell = Shell(Terms.of(url, token, timeout, retries, clock), sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @property
    def url(self) -> str:
        """Return where its skep is."""
        return self._shell.place.url

    def close(self) -> None:
        """Close the connections; calls that were made go on."""
        self._shell.close()

    def function(
        self,
        name: str,
        *,
        timeout: float | None = None,
        max_wait: float | None = None,
        revision: int | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> FunctionHandle:
        """Return a function as an object, with options for its calls. Nothing is asked yet.

        ``timeout``: seconds that a call may run. ``max_wait``: seconds in which it must have
        begun. ``revision``: an older one. ``idempotency_key``: 1 to 255 visible ASCII
        characters; the same key again, with the same params, answers the first call again.
        ``wait``: seconds after which ``invoke`` and ``map`` stop waiting (``TimeoutError``).
        """
        options = CallOptions(
            timeout=timeout,
            max_wait=max_wait,
            revision=revision,
            idempotency_key=idempotency_key,
            wait=wait,
        )
        return FunctionHandle(self._shell, name, options)

    def handle(self, number: int) -> CallHandle:
        """Return the handle of a call that was made earlier, or elsewhere.

        Raises:
            UnknownCall: there is none of that number.
        """
        return CallHandle(self._shell, self.call(number))

    def invoke(self, function: str, /, *arguments: Any, **named: Any) -> Any:
        """Call a function, wait for its end, and return its value.

        One positional argument is the params themselves, several are a list; named ones are
        an object. The value is the function's text, what it returned as JSON, or bytes.

        Raises:
            CallFailed: the call did not end DONE; it has the record, and why.
            SkepError: it was not accepted.
        """
        return self.function(function).invoke(*arguments, **named)

    def submit(self, function: str, /, *arguments: Any, **named: Any) -> CallHandle:
        """Make a call, with arguments as in ``invoke``, and return at once.

        It is stored and runs whatever happens to us; ``result`` of the handle is its value.

        Raises:
            SkepError: it was not accepted.
        """
        return self.function(function).submit(*arguments, **named)

    @overload
    def map(
        self,
        function: str,
        inputs: Iterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: Literal[False] = False,
    ) -> Iterator[Any]: ...

    @overload
    def map(
        self,
        function: str,
        inputs: Iterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool,
    ) -> Iterator[Any | SkepError]: ...

    def map(
        self,
        function: str,
        inputs: Iterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool = False,
    ) -> Iterator[Any | SkepError]:
        """Call a function with each input (its params); give the values in that order.

        At most ``concurrency`` calls are under way, and no input is taken before there is
        room: inputs may be without end. See ``FunctionHandle.map``.
        """
        return self.function(function).map(
            inputs, concurrency=concurrency, return_exceptions=return_exceptions
        )


class AsyncClient(RawAsyncVerbs):
    """Speaks HTTP with one skep as ``Client`` does, with the same verbs, to be awaited.

    It belongs to one event loop. Cancelling what is awaited leaves calls that were made alone.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 6,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._shell = AsyncShell(Terms.of(url, token, timeout, retries, clock), sleep)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    @property
    def url(self) -> str:
        """Return where its skep is."""
        return self._shell.place.url

    async def close(self) -> None:
        """Close the connections; calls that were made go on."""
        await self._shell.close()

    def function(
        self,
        name: str,
        *,
        timeout: float | None = None,
        max_wait: float | None = None,
        revision: int | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> AsyncFunctionHandle:
        """Return a function as an object, with options for its calls: see ``Client``."""
        options = CallOptions(
            timeout=timeout,
            max_wait=max_wait,
            revision=revision,
            idempotency_key=idempotency_key,
            wait=wait,
        )
        return AsyncFunctionHandle(self._shell, name, options)

    async def handle(self, number: int) -> AsyncCallHandle:
        """Return the handle of a call that was made earlier, or elsewhere."""
        return AsyncCallHandle(self._shell, await self.call(number))

    async def invoke(self, function: str, /, *arguments: Any, **named: Any) -> Any:
        """Call a function, wait for its end, and return its value: see ``Client.invoke``."""
        return await self.function(function).invoke(*arguments, **named)

    async def submit(self, function: str, /, *arguments: Any, **named: Any) -> AsyncCallHandle:
        """Make a call and return at once: see ``Client.submit``."""
        return await self.function(function).submit(*arguments, **named)

    @overload
    def map(
        self,
        function: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: Literal[False] = False,
    ) -> AsyncIterator[Any]: ...

    @overload
    def map(
        self,
        function: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool,
    ) -> AsyncIterator[Any | SkepError]: ...

    def map(
        self,
        function: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Any | SkepError]:
        """Call a function with each input; give the values in that order (``async for``)."""
        return self.function(function).map(
            inputs, concurrency=concurrency, return_exceptions=return_exceptions
        )
