"""What the end of a ``dependencies`` command means: pure, the attempt's end in, BUILT out."""

from __future__ import annotations

from typing import Final

from wire import jobs
from wire.codec import Message
from wire.models import Fault, Reason, Status

LOG_BYTES: Final = 16 << 10
_NO_SPACE: Final = "No space left on device"


def command(dependencies: str) -> str:
    """Return the line that installs: all it prints is log, for its result is the bundle."""
    return f"exec 1>&2; {dependencies or 'true'}"


def built(end: Message, payload: bytes) -> jobs.Built:
    """Return the BUILT that this end of the one attempt amounts to."""
    if isinstance(end, jobs.Done):
        return _ended(end, payload)
    reason = end.reason if isinstance(end, jobs.Broken) else _HANDED_BACK
    return jobs.Built(reason=reason, fault=Fault.NODE)


def _ended(done: jobs.Done, payload: bytes) -> jobs.Built:
    # Its result is empty, since all is printed to stderr; a result there would be noise.
    text = payload[done.sizes[0] :][-LOG_BYTES:].decode(errors="replace")
    status, reason = done.outcome.status, done.outcome.reason
    if reason is None:
        return jobs.Built(reason=None, log=text)
    if _NO_SPACE in text:
        full = Reason(code="no_space", message="the disk is full: " + reason.message)
        return jobs.Built(reason=full, fault=Fault.NODE, log=text)
    if status in (Status.LOST, Status.CANCELLED):
        return jobs.Built(reason=reason, fault=Fault.NODE, log=text)
    failed = Reason(code="install_failed", message=f"dependencies: {reason.message}")
    return jobs.Built(reason=failed, fault=Fault.FUNCTION, log=text)


_HANDED_BACK: Final = Reason(code="no_sandbox", message="the sandbox died before the build")
