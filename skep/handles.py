"""A function and a call of it, as objects; synchronous."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from typing import Any, Literal, Self, overload

from skep.ahead import in_order
from skep.dialogue import Dialogue
from skep.errors import CallFailed, SkepError
from skep.records import Call, Logs
from skep.shells import Shell
from skep.values import CallOptions, is_ended, params_of, value_of


class CallHandle:
    """A call that was made: look whether it has ended, wait for its value, cancel it.

    It looks like a future, and ``future`` gives a real one. Threads may share it.
    """

    def __init__(self, shell: Shell, call: Call) -> None:
        self._shell = shell
        self._call = call
        self._future: Future[Any] | None = None

    def __repr__(self) -> str:
        call = self._call
        return f"<CallHandle {call['callNum']} of {call['funcName']}, {call['status']}>"

    @property
    def number(self) -> int:
        """Return the callNum."""
        return self._call["callNum"]

    @property
    def record(self) -> Call:
        """Return what is known of the call, without asking."""
        return self._call

    def done(self) -> bool:
        """Return whether the call has ended, asking once if that is not known."""
        if not is_ended(self._call):
            self._call = self._shell.perform(self._shell.verbs.call(self.number))
        return is_ended(self._call)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds; return whether it has come."""
        if timeout is not None and timeout <= 0:
            return self.done()
        self._call = self._shell.perform(self._shell.verbs.wait(self._call, timeout))
        return is_ended(self._call)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the value.

        Raises:
            CallFailed: the call did not end DONE.
            TimeoutError: it has not ended within ``timeout`` seconds, and goes on; precisely
                a ``StillRunning``, which has the record.
        """
        self.wait(timeout)
        return value_of(self._call, timeout)

    def exception(self, timeout: float | None = None) -> CallFailed | None:
        """Wait for the end and return what ``result`` would raise, None if the call is DONE.

        Raises:
            TimeoutError: as ``result``.
        """
        try:
            self.result(timeout)
        except CallFailed as error:
            return error
        return None

    def cancel(self) -> bool:
        """End the call; return False if it had ended otherwise already.

        One that was running ends a moment later: ``wait`` shows how.
        """
        self._call = self._shell.perform(self._shell.verbs.cancel(self.number))
        return self._call["status"] == "CANCELLED" or not is_ended(self._call)

    def logs(self) -> Logs:
        """Return what the call printed beside its result; nothing while it runs."""
        return self._shell.perform(self._shell.verbs.logs(self.number))

    def future(self) -> Future[Any]:
        """Return a future of the value, for ``concurrent.futures.wait`` and ``as_completed``.

        One thread of the client looks after all of them. Cancelling it leaves the call alone.
        """
        if self._future is None:
            self._future = self._shell.start(self._value())
        return self._future

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Have ``callback(handle)`` called when the call has ended, on the client's thread."""
        self.future().add_done_callback(lambda _: callback(self))

    def _value(self) -> Dialogue[Any]:
        self._call = yield from self._shell.verbs.wait(self._call, None)
        return value_of(self._call)


class FunctionHandle:
    """A function, and how calls of it are made. Calling the handle calls the function."""

    def __init__(self, shell: Shell, name: str, options: CallOptions) -> None:
        self._shell = shell
        self._options = options
        self.name = name

    def __repr__(self) -> str:
        return f"<FunctionHandle {self.name}>"

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """Call the function and return its value, as ``invoke``."""
        return self.invoke(*arguments, **named)

    def invoke(self, /, *arguments: Any, **named: Any) -> Any:
        """Call the function, wait, and return its value.

        Raises:
            CallFailed: the call did not end DONE.
            TimeoutError: it has not ended within the option ``wait``, and goes on.
            SkepError: it was not accepted.
        """
        shell, options = self._shell, self._options
        params = params_of(arguments, named)
        call = shell.perform(shell.verbs.make(self.name, params, options, options.wait))
        return value_of(call, options.wait)

    def submit(self, /, *arguments: Any, **named: Any) -> CallHandle:
        """Make a call and return at once. It is stored, and runs whatever happens to us.

        Raises:
            SkepError: it was not accepted.
        """
        shell, params = self._shell, params_of(arguments, named)
        call = shell.perform(shell.verbs.make(self.name, params, self._options, 0.0))
        return CallHandle(shell, call)

    @overload
    def map(
        self,
        inputs: Iterable[Any],
        *,
        concurrency: int = 16,
        return_exceptions: Literal[False] = False,
    ) -> Generator[Any, None, None]: ...

    @overload
    def map(
        self, inputs: Iterable[Any], *, concurrency: int = 16, return_exceptions: bool
    ) -> Generator[Any | SkepError, None, None]: ...

    def map(
        self, inputs: Iterable[Any], *, concurrency: int = 16, return_exceptions: bool = False
    ) -> Generator[Any | SkepError, None, None]:
        """Call the function with each input; give the values in the order of the inputs.

        At most ``concurrency`` calls are under way, and an input is taken only when there is
        room, so there may be any number of them. A call that fails raises at its place, or,
        with ``return_exceptions``, its error stands there and the rest goes on. When the
        iterator is closed or dropped, no more calls are made; those that run, run on.
        Calls that begin about the same time share a request.

        With the option ``idempotency_key`` the calls have the keys ``KEY:0``, ``KEY:1`` …: the
        same map once more, even by another process, makes no call a second time.

        Raises:
            ValueError: ``concurrency`` is less than 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        return self._values(inputs, concurrency, return_exceptions=return_exceptions)

    def _values(
        self, inputs: Iterable[Any], concurrency: int, *, return_exceptions: bool
    ) -> Generator[Any | SkepError, None, None]:
        options = self._options
        begin = self._shell.many(self.name, options.settings(), options.wait)
        started = (begin(one, options.key(index)) for index, one in enumerate(inputs))
        with closing(in_order(started, concurrency)) as futures:
            for future in futures:
                try:
                    value = value_of(future.result(), options.wait)
                except SkepError as error:
                    if not return_exceptions:
                        raise
                    value = error
                yield value
