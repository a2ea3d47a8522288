"""What goes wrong between a client and skep, as exceptions.

All are ``SkepError``; each has a ``code`` (docs/protocol.md lists them), a sentence, and a
``hint`` that says what to do. All can be pickled, so they survive a process pool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from skep.records import Call

E = TypeVar("E", bound=BaseException)


class SkepError(Exception):
    """Base of all; itself an answer of skep for which there is no class of its own.

    ``status`` is the HTTP status, 0 where there was none; ``retry_after`` the seconds that
    skep asks to wait before another try, if it said any.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "internal",
        hint: str = "",
        status: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status
        self.retry_after = retry_after
        if hint:
            # Shown below the traceback, where it is needed.
            self.add_note(f"hint: {hint}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r}, status={self.status})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The keywords of the constructor lie in the dictionary, not in ``args``.
        return (_bare, (type(self), *self.args), self.__dict__)

    def as_dict(self) -> dict[str, Any]:
        """Return the error in the shape in which skep answers it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class NotReachable(SkepError):
    """No answer came: nothing listens there, or the connection broke, or it took too long."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="not_reachable", hint=hint)


class BadRequest(SkepError):
    """What was sent is wrong: a field, a value, a name, or an archive; nothing was changed."""


class Unauthorized(SkepError):
    """A token is needed and none, or a wrong one, was given."""


class UnknownRuntime(SkepError):
    """There is no runtime of that name."""


class UnknownFunction(SkepError):
    """There is no function of that name, or not that revision of it."""


class UnknownCall(SkepError):
    """There is no call of that number."""


class UnknownWorker(SkepError):
    """There is no node of that name, and was none lately."""


class Conflict(SkepError):
    """It contradicts what is there: a runtime in use, a key that was used for another call."""


class InstallFailed(SkepError):
    """The dependencies could not be installed; the message ends with the installer's words."""


class QueueFull(SkepError):
    """Too many calls wait already; later it may go well. Raised when all retries were used."""


class Unavailable(SkepError):
    """No worker, or no store; later it may go well. Raised when all retries were used."""


class CallFailed(SkepError):
    """A call ended, but not DONE. ``code`` is its reason's; ``record`` is all about it."""

    def __init__(self, call: Call) -> None:
        reason = call.get("reason")
        status = call["status"]
        why = f": {reason['message']}" if reason and reason["message"] else ""
        number = call["callNum"]
        super().__init__(
            f"call {number} of {call['funcName']} ended {status}{why}",
            code=reason["code"] if reason else status.lower(),
            hint=f"what it printed: skep call logs {number}",
        )
        self.record = call


class StillRunning(SkepError, TimeoutError):
    """A call has not ended in the time that was given for waiting; it goes on.

    A ``TimeoutError``, too. ``record`` is what was known of the call last.
    """

    def __init__(self, call: Call, waited: float | None) -> None:
        number = call["callNum"]
        within = "yet" if waited is None else f"within {waited:g} s"
        super().__init__(
            f"call {number} of {call['funcName']} has not ended {within}; it goes on",
            code="still_running",
            hint=f"wait again: client.handle({number}).result(), or: skep call wait {number}",
        )
        self.record = call


_BY_CODE: Final[Mapping[str, type[SkepError]]] = {
    "bad_request": BadRequest,
    "unsafe_archive": BadRequest,
    "unsupported_archive": BadRequest,
    "too_large": BadRequest,
    "unauthorized": Unauthorized,
    "unknown_runtime": UnknownRuntime,
    "unknown_function": UnknownFunction,
    "unknown_call": UnknownCall,
    "unknown_worker": UnknownWorker,
    "conflict": Conflict,
    "install_failed": InstallFailed,
    "queue_full": QueueFull,
    "no_worker": Unavailable,
    "store_unavailable": Unavailable,
}


def from_answer(status: int, body: bytes, retry_after: float | None = None) -> SkepError:
    """Make the exception for an error answer; a stranger's answer becomes one too."""
    try:
        error = json.loads(body)["error"]
        code = str(error["code"])
        return _BY_CODE.get(code, SkepError)(
            str(error["message"]),
            code=code,
            hint=str(error.get("hint", "")),
            status=status,
            retry_after=retry_after,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return SkepError(
            f"HTTP {status}, and not in the words of skep: {body[:200]!r}",
            hint="Does this address belong to skep, or to another server or a proxy?",
            status=status,
            retry_after=retry_after,
        )


def _bare(kind: type[E], *args: Any) -> E:
    error = kind.__new__(kind, *args)
    # The constructor sets them for a ``TimeoutError``, and is not called again.
    error.args = args
    return error
