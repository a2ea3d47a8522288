"""The errors that cross a boundary: each has a code, a sentence and a hint.

The codes are part of the interface (docs/protocol.md). A room raises these; its edge
turns them into an HTTP answer, a reply of the DB node or a reason in a call's record.
"""

from __future__ import annotations

from typing import ClassVar


class SkepError(Exception):
    """Base of every error that a user may see.

    ``message`` says what is wrong, ``hint`` says what to do about it.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """Return the error in the one shape that HTTP and the DB node answer with."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class ProtocolError(SkepError):
    """A peer sent bytes that are not a message of this protocol."""

    code = "protocol_violation"


class WrongVersion(ProtocolError):
    """A peer speaks another version of the protocol."""

    code = "wrong_version"


class BadRequest(SkepError):
    """The request is malformed, has unknown fields or values out of range."""

    code = "bad_request"


class Unauthorized(SkepError):
    """A token is needed and none, or a wrong one, was given."""

    code = "unauthorized"


class Forbidden(SkepError):
    """The request comes from a place that may not make it."""

    code = "forbidden"


class UnknownRuntime(SkepError):
    """There is no runtime of that name."""

    code = "unknown_runtime"


class UnknownFunction(SkepError):
    """There is no function of that name (or not that revision of it)."""

    code = "unknown_function"


class UnknownCall(SkepError):
    """There is no call of that number."""

    code = "unknown_call"


class UnknownWorker(SkepError):
    """There is no node of that name, and was none lately."""

    code = "unknown_worker"


class Conflict(SkepError):
    """The request contradicts what is there."""

    code = "conflict"


class Stalled(SkepError):
    """A request's body did not come, or came far too slowly."""

    code = "stalled"


class TooLarge(SkepError):
    """Something is over its limit of bytes."""

    code = "too_large"


class UnsafeArchive(SkepError):
    """An uploaded archive holds something that must not be unpacked."""

    code = "unsafe_archive"


class UnsupportedArchive(SkepError):
    """An uploaded file is no archive of a known kind, or is damaged."""

    code = "unsupported_archive"


class QueueFull(SkepError):
    """More calls wait than may; try again after ``retry_after_s`` seconds."""

    code = "queue_full"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class NoWorker(SkepError):
    """No worker is connected that could run this."""

    code = "no_worker"


class InstallFailed(SkepError):
    """The dependencies of a function could not be installed, wherever that is tried."""

    code = "install_failed"


class NoSpace(SkepError):
    """The disk of a node is full."""

    code = "no_space"


class NoSandbox(SkepError):
    """A node could not make a sandbox, or what goes into it."""

    code = "no_sandbox"


class StoreUnavailable(SkepError):
    """The DB node does not answer, so nothing can be promised."""

    code = "store_unavailable"


class StaleEpoch(SkepError):
    """Another process has taken over this one's name; it must stop writing."""

    code = "stale_epoch"


#: Every error by its code, so that a reply of the DB node becomes the same error again.
BY_CODE: dict[str, type[SkepError]] = {
    cls.code: cls
    for cls in (
        ProtocolError,
        WrongVersion,
        BadRequest,
        Unauthorized,
        Forbidden,
        UnknownRuntime,
        UnknownFunction,
        UnknownCall,
        UnknownWorker,
        Conflict,
        Stalled,
        TooLarge,
        UnsafeArchive,
        UnsupportedArchive,
        QueueFull,
        NoWorker,
        InstallFailed,
        NoSpace,
        NoSandbox,
        StoreUnavailable,
        StaleEpoch,
    )
}


def from_dict(error: dict[str, str]) -> SkepError:
    """Make the error again that ``as_dict`` described; an unknown code stays internal."""
    cls = BY_CODE.get(error.get("code", ""), SkepError)
    return cls(error.get("message", "unknown error"), hint=error.get("hint", ""))
