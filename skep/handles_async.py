"""A function and a call of it, as objects; asynchronous. ``skep.handles`` says more."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Generator,
    Iterable,
)
from contextlib import aclosing
from typing import Any, Literal, overload

from skep.ahead import in_order_async, started_async
from skep.errors import CallFailed, SkepError
from skep.records import Call, Logs
from skep.shells import AsyncShell
from skep.values import CallOptions, is_ended, params_of, value_of


class AsyncCallHandle:
    """A call that was made: await its value (``await handle``), look at it, cancel it."""

    def __init__(self, shell: AsyncShell, call: Call) -> None:
        self._shell = shell
        self._call = call

    def __repr__(self) -> str:
        call = self._call
        return f"<AsyncCallHandle {call['callNum']} of {call['funcName']}, {call['status']}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    @property
    def number(self) -> int:
        """Return the callNum."""
        return self._call["callNum"]

    @property
    def record(self) -> Call:
        """Return what is known of the call, without asking."""
        return self._call

    async def done(self) -> bool:
        """Return whether the call has ended, asking once if that is not known."""
        if not is_ended(self._call):
            self._call = await self._shell.perform(self._shell.verbs.call(self.number))
        return is_ended(self._call)

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Wait for the end, at most ``timeout`` seconds; return whether it has come."""
        if timeout is not None and timeout <= 0:
            return await self.done()
        self._call = await self._shell.perform(self._shell.verbs.wait(self._call, timeout))
        return is_ended(self._call)

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Wait for the end and return the value.

        Raises:
            CallFailed: the call did not end DONE.
            TimeoutError: it has not ended within ``timeout`` seconds, and goes on.
        """
        await self.wait(timeout)
        return value_of(self._call, timeout)

    async def exception(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> CallFailed | None:
        """Wait for the end and return what ``result`` would raise, None if the call is DONE.

        Raises:
            TimeoutError: as ``result``.
        """
        try:
            await self.result(timeout)
        except CallFailed as error:
            return error
        return None

    async def cancel(self) -> bool:
        """End the call; return False if it had ended otherwise already."""
        self._call = await self._shell.perform(self._shell.verbs.cancel(self.number))
        return self._call["status"] == "CANCELLED" or not is_ended(self._call)

    async def logs(self) -> Logs:
        """Return what the call printed beside its result; nothing while it runs."""
        return await self._shell.perform(self._shell.verbs.logs(self.number))


class AsyncFunctionHandle:
    """A function, and how calls of it are made. Calling the handle calls the function."""

    def __init__(self, shell: AsyncShell, name: str, options: CallOptions) -> None:
        self._shell = shell
        self._options = options
        self.name = name

    def __repr__(self) -> str:
        return f"<AsyncFunctionHandle {self.name}>"

    async def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """Call the function and return its value, as ``invoke``."""
        return await self.invoke(*arguments, **named)

    async def invoke(self, /, *arguments: Any, **named: Any) -> Any:
        """Call the function, wait, and return its value.

        Raises:
            CallFailed: the call did not end DONE.
            TimeoutError: it has not ended within the option ``wait``, and goes on.
            SkepError: it was not accepted.
        """
        shell, options = self._shell, self._options
        params = params_of(arguments, named)
        call = await shell.perform(shell.verbs.make(self.name, params, options, options.wait))
        return value_of(call, options.wait)

    async def submit(self, /, *arguments: Any, **named: Any) -> AsyncCallHandle:
        """Make a call and return at once. It is stored, and runs whatever happens to us.

        Raises:
            SkepError: it was not accepted.
        """
        shell, params = self._shell, params_of(arguments, named)
        call = await shell.perform(shell.verbs.make(self.name, params, self._options, 0.0))
        return AsyncCallHandle(shell, call)

    @overload
    def map(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[Any, None]: ...

    @overload
    def map(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool,
    ) -> AsyncGenerator[Any | SkepError, None]: ...

    def map(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any | SkepError, None]:
        """Call the function with each input; give the values in the order of the inputs.

        As ``FunctionHandle.map``; the inputs may come asynchronously, too. To be sure that
        nothing goes on behind a ``break``, take it within ``contextlib.aclosing``.

        Raises:
            ValueError: ``concurrency`` is less than 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        return self._values(inputs, concurrency, return_exceptions=return_exceptions)

    async def _values(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        concurrency: int,
        *,
        return_exceptions: bool,
    ) -> AsyncGenerator[Any | SkepError, None]:
        options = self._options
        make = self._shell.many(self.name, options.settings(), options.wait)
        started = started_async(
            inputs, lambda index, one: _value(make(one, options.key(index)), options.wait)
        )
        async with aclosing(in_order_async(started, concurrency)) as tasks:
            async for task in tasks:
                try:
                    value = await task
                except SkepError as error:
                    if not return_exceptions:
                        raise
                    value = error
                yield value


async def _value(call: Awaitable[Call], wait: float | None) -> Any:
    return value_of(await call, wait)
