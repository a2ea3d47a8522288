"""What the end of a ``dependencies`` command means: pure, the attempt's end in, BUILT out."""

from __future__ import annotations

from typing import Final

from miniworker.printed import Printed, last_lines
from wire import jobs
from wire.codec import Message
from wire.models import Fault, Reason, Status

#: Where a driver that shows the pipe to a sandbox says what it is called there.
PIPE_VARIABLE: Final = "SKEP_BUILD_LOG"
#: As much of the command as a sentence bears.
SHOWN_CHARS: Final = 200
_NO_SPACE: Final = "No space left on device"


def command(dependencies: str) -> str:
    """Return the line that installs: all it prints is log, for its result is the bundle.

    The log goes to the pipe that is read while it runs; where no pipe can be shown to the
    sandbox, to stderr, which is told at the end.
    """
    pipe = f'"${PIPE_VARIABLE}"'
    first = f"if [ -p {pipe} ] && [ -w {pipe} ]; then exec >>{pipe} 2>&1; else exec 1>&2; fi"
    return f"{first}; unset {PIPE_VARIABLE}; {dependencies or 'true'}"


def built(end: Message, payload: bytes, dependencies: str, printed: Printed) -> jobs.Built:
    """Return the BUILT that this end of the one attempt amounts to."""
    if isinstance(end, jobs.Done):
        # Its result is empty, since all is log; a result there would be noise.
        printed.take(payload[end.sizes[0] :])
        printed.end()
        return _ended(end, dependencies, printed)
    reason = end.reason if isinstance(end, jobs.Broken) else _HANDED_BACK
    return jobs.Built(reason=reason, fault=Fault.NODE, log=printed.tail)


def is_done(end: Message) -> bool:
    """Return whether the one attempt ended as an install does that went well."""
    return isinstance(end, jobs.Done) and end.outcome.status is Status.DONE


def _ended(done: jobs.Done, dependencies: str, printed: Printed) -> jobs.Built:
    text = printed.tail
    status, reason = done.outcome.status, done.outcome.reason
    if reason is None:
        return jobs.Built(reason=None, log=text)
    if _NO_SPACE in text:
        full = Reason(code="no_space", message="the disk is full: " + reason.message)
        return jobs.Built(reason=full, fault=Fault.NODE, log=text)
    if status in (Status.LOST, Status.CANCELLED):
        return jobs.Built(reason=reason, fault=Fault.NODE, log=text)
    message = _explained(printed.mask(dependencies), printed.mask(reason.message), text)
    failed = Reason(code="install_failed", message=message)
    return jobs.Built(reason=failed, fault=Fault.FUNCTION, log=text)


def _explained(dependencies: str, how: str, text: str) -> str:
    shown = " ".join(dependencies.split())
    if len(shown) > SHOWN_CHARS:
        shown = shown[:SHOWN_CHARS] + " …"
    lines = last_lines(text)
    told = f"its last lines:\n{lines}" if lines else "it printed nothing"
    return f"the dependencies were not installed: `{shown}`: {how}; {told}"


_HANDED_BACK: Final = Reason(code="no_sandbox", message="the sandbox died before the build")
